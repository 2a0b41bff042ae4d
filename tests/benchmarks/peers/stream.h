// stream.h: Server-Sent Events over HTTP/1.1, chunked or not, from bytes that come in any pieces.
//
// Invariants: every line is looked at; `event`, which the includer has, is called at the end of each event that has data. Of
// a line that comes in pieces the last TAIL bytes are kept, which is where the stamp stands.
#include <stdint.h>
#include <string.h>
#include <strings.h>

enum { TAIL = 256 };
enum chunk { SIZE, EXTENSION, DATA, AFTER };

typedef struct {
    uint8_t in_head, refused, chunked, chunk; // HTTP
    uint8_t has_data, overflowed, data_line;  // the event, and the line, so far
    uint16_t kept;                            // bytes in tail
    uint32_t left;                            // of the chunk
    i64 seq, made, due;                       // the stamp of the event; made is 0 where it has none
    char tail[TAIL];
} Stream;

static void event(Stream *s);

static const char *number(const char *p, const char *end, i64 *value)
{
    while (p < end && (*p < '0' || *p > '9')) p++;
    for (*value = 0; p < end && *p >= '0' && *p <= '9'; p++) *value = *value * 10 + (*p - '0');
    return p;
}

static void stamp(Stream *s, const char *text, size_t size)
{
    static size_t usual; // where it stood last time, from the end: nearly always there again
    const char *end = text + size, *at = end - usual;
    if (usual < 6 || usual > size || memcmp(at, "\"seq\":", 6)) {
        size_t within = size < TAIL ? size : TAIL;
        at = memmem(end - within, within, "\"seq\":", 6);
        if (!at) return;
        usual = end - at;
    }
    at = number(at + 5, end, &s->seq);
    at = number(at + 5, end, &s->made);
    number(at + 5, end, &s->due);
}

static void head_line(Stream *s, const char *text, size_t size)
{
    static const char coding[] = "transfer-encoding: chunked";
    if (size >= 9 && !memcmp(text, "HTTP/1.1 ", 9)) s->refused = memcmp(text + 9, "200", 3) != 0;
    if (size >= sizeof coding - 1 && !strncasecmp(text, coding, sizeof coding - 1)) s->chunked = 1;
    if (size <= 1) s->in_head = 0;
}

static void line(Stream *s, const char *text, size_t size)
{
    if (s->in_head) {
        head_line(s, text, size);
    } else if (size == 0 || (size == 1 && *text == '\r')) {
        if (s->has_data) event(s);
        s->has_data = 0;
    } else if (s->overflowed ? s->data_line : size > 5 && !memcmp(text, "data:", 5)) {
        s->has_data = 1;
        stamp(s, text, size);
    }
}

static void keep(Stream *s, const char *p, size_t size)
{
    size_t room = TAIL - s->kept, first = size < room ? size : room;
    memcpy(s->tail + s->kept, p, first);
    s->kept += first;
    p += first;
    size -= first;
    if (!size) return;
    if (!s->overflowed) s->data_line = !memcmp(s->tail, "data:", 5);
    s->overflowed = 1;
    size_t last = size < TAIL ? size : TAIL;
    memmove(s->tail, s->tail + last, TAIL - last);
    memcpy(s->tail + TAIL - last, p + size - last, last);
}

// Reads lines until the span ends, or the head does; gives where.
static const char *lines(Stream *s, const char *p, const char *end)
{
    int in_head = s->in_head;
    while (p < end && s->in_head == in_head) {
        const char *stop = memchr(p, '\n', end - p);
        if (!stop) {
            keep(s, p, end - p);
            return end;
        }
        if (s->kept) {
            keep(s, p, stop - p);
            line(s, s->tail, s->kept);
            s->kept = s->overflowed = 0;
        } else {
            line(s, p, stop - p);
        }
        p = stop + 1;
    }
    return p;
}

static void size_digit(Stream *s, char c)
{
    if (c >= '0' && c <= '9') s->left = s->left * 16 + c - '0';
    else if ((c | 32) >= 'a' && (c | 32) <= 'f') s->left = s->left * 16 + (c | 32) - 'a' + 10;
    else s->chunk = c == '\n' ? DATA : EXTENSION;
}

static void chunks(Stream *s, const char *p, const char *end)
{
    while (p < end) {
        if (s->chunk == SIZE) {
            size_digit(s, *p++);
        } else if (s->chunk == DATA) {
            const char *stop = s->left < (size_t)(end - p) ? p + s->left : end;
            s->left -= stop - p;
            p = lines(s, p, stop);
            if (!s->left) s->chunk = AFTER;
        } else if (*p++ == '\n') {
            s->chunk = s->chunk == AFTER ? SIZE : DATA;
        }
    }
}

// Reads what has come on the connection; false: it was refused.
static int feed(Stream *s, const char *p, size_t size)
{
    const char *end = p + size;
    if (s->in_head) p = lines(s, p, end);
    if (s->refused) return 0;
    if (s->chunked) chunks(s, p, end);
    else lines(s, p, end);
    return 1;
}
