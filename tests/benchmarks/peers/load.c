// load.c: the readers. Opens N event streams on one epoll, reads every event of every one of them, and counts.
//
// Law: every event is parsed on every connection, chunked or not; nothing is sampled. An event carries
// "seq":n,"t":ns,"due":ns in this order, within the last TAIL bytes of its data line: its number, when the change was made, and when
// the open schedule wanted it made (so that a late server cannot hide behind late changes). The first event is the state.
// It must be faster than what it measures: where its own CPU time comes near 100 %, it is the load that was measured.
//
// load -p port -n readers [-u path] [-m frozen] [-i connecting at a time] [-s source addresses] [-w seconds to join in]
//   %d in the path is the reader's number, from 1: every reader then has a stream, and numbers, of its own.
//   The first `frozen` readers take the state and then never read again; they are left out of every figure.
// It prints a line of JSON when all have joined, or no more will, and one for each line it reads:
//   win s   what came in s seconds     stat   what came since the last line     end of input: it leaves
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

typedef int64_t i64;

static i64 clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

// ---- times: a histogram with 64 steps for each power of two, so off by less than 1.6 % ----

enum { STEPS = 6, CELLS = 64 << STEPS };
typedef struct { uint64_t cell[CELLS], count; i64 most; } Times;

static void add(Times *times, i64 ns)
{
    if (ns < 1) ns = 1;
    int power = 63 - __builtin_clzll(ns);
    uint64_t at = power <= STEPS ? (uint64_t)ns
                                 : ((uint64_t)(power - STEPS + 1) << STEPS) | ((ns >> (power - STEPS)) & ((1 << STEPS) - 1));
    times->cell[at]++;
    times->count++;
    if (ns > times->most) times->most = ns;
}

static double middle_of(uint64_t at)
{
    uint64_t power = at >> STEPS;
    if (power < 2) return at;
    return ((1ULL << STEPS | (at & ((1 << STEPS) - 1))) + 0.5) * (1ULL << (power - 1));
}

static double percentile_ms(const Times *times, double share)
{
    uint64_t wanted = ceil(share * times->count), seen = 0;
    for (uint64_t at = 0; times->count && at < CELLS; at++)
        if ((seen += times->cell[at]) >= wanted && seen) return fmin(middle_of(at), times->most) / 1e6;
    return 0;
}

static void print_times(const char *name, const Times *times)
{
    printf(",\"%s\":{\"count\":%lu,\"p50\":%.4f,\"p99\":%.4f,\"max\":%.4f}", name, times->count,
           percentile_ms(times, .5), percentile_ms(times, .99), times->most / 1e6);
}

// ---- the readers, and what is counted ----

enum { TAIL = 256, SPAN = 1 << 18, WAKES = 1024, ROUNDS = 1 << 16 };
enum stage { WAITING, CONNECTING, HEAD, BODY, GONE };
enum chunk { SIZE, EXTENSION, DATA, AFTER };

typedef struct {
    int fd;
    uint8_t stage, chunk, chunked, frozen, joined, refused;
    uint8_t has_data, overflowed, data_line;
    uint16_t kept;            // bytes in tail: the line so far, or its end
    uint32_t left, events;    // of the chunk; in the window
    i64 began, seq, made, due, last;
    char tail[TAIL];
} Reader;

static struct { i64 seq, slowest; int readers; } rounds[ROUNDS]; // who has got an event, by its number
static struct { uint64_t events, bytes, gaps, repeats, unstamped, lost, failed, complete; } count;
static Times from_made, from_due, to_last, to_join;
static Reader *readers;
static int wanted = 1, frozen, own_streams, port, sources = 1, at_a_time = 200, patience = 60, poll_fd;
static int begun, connecting, joined, joined_counted;
static const char *path = "/stream/state";
static i64 now, started, all_joined, window_began;
static double window_cpu;

static void leave(Reader *r, int failed)
{
    if (!r->joined) connecting--;
    close(r->fd);
    r->stage = GONE;
    if (failed) count.failed++;
    else count.lost++;
}

static void join(Reader *r)
{
    r->joined = 1;
    r->made = 0;
    connecting--;
    add(&to_join, now - r->began);
    if (++joined == wanted) all_joined = now;
    if (r->frozen) epoll_ctl(poll_fd, EPOLL_CTL_DEL, r->fd, NULL);
    else joined_counted++;
}

static void in_round(i64 seq, i64 took)
{
    typeof(*rounds) *round = &rounds[seq % ROUNDS];
    if (round->seq != seq) {
        round->seq = seq;
        round->readers = 0;
        round->slowest = 0;
    }
    if (took > round->slowest) round->slowest = took;
    if (++round->readers == wanted - frozen) {
        add(&to_last, round->slowest);
        count.complete++;
    }
}

static void event(Reader *r)
{
    if (!r->joined) {
        join(r);
        return;
    }
    if (!r->made) {
        count.unstamped++; // a heartbeat, or a catch-up: then numbers are missing, too
        return;
    }
    count.events++;
    r->events++;
    add(&from_made, now - r->made);
    add(&from_due, now - r->due);
    if (r->last && r->seq > r->last + 1) count.gaps += r->seq - r->last - 1;
    if (r->last && r->seq <= r->last) count.repeats++;
    if (!own_streams) in_round(r->seq, now - r->made);
    r->last = r->seq;
    r->made = 0;
}

// ---- Server-Sent Events, and HTTP's framing of them ----

static const char *number(const char *p, const char *end, i64 *value)
{
    while (p < end && (*p < '0' || *p > '9')) p++;
    for (*value = 0; p < end && *p >= '0' && *p <= '9'; p++) *value = *value * 10 + (*p - '0');
    return p;
}

static void stamp(Reader *r, const char *text, size_t size)
{
    static size_t usual; // where it stood last time, from the end: nearly always there again
    const char *end = text + size, *at = end - usual;
    if (usual < 6 || usual > size || memcmp(at, "\"seq\":", 6)) {
        size_t within = size < TAIL ? size : TAIL;
        at = memmem(end - within, within, "\"seq\":", 6);
        if (!at) return;
        usual = end - at;
    }
    at = number(at + 5, end, &r->seq);
    at = number(at + 5, end, &r->made);
    number(at + 5, end, &r->due);
}

static void head_line(Reader *r, const char *text, size_t size)
{
    static const char coding[] = "transfer-encoding: chunked";
    if (size >= 9 && !memcmp(text, "HTTP/1.1 ", 9)) r->refused = memcmp(text + 9, "200", 3) != 0;
    if (size >= sizeof coding - 1 && !strncasecmp(text, coding, sizeof coding - 1)) r->chunked = 1;
    if (size <= 1) r->stage = BODY;
}

static void line(Reader *r, const char *text, size_t size)
{
    if (r->stage == HEAD) {
        head_line(r, text, size);
    } else if (size == 0 || (size == 1 && *text == '\r')) {
        if (r->has_data) event(r);
        r->has_data = 0;
    } else if (r->overflowed ? r->data_line : size > 5 && !memcmp(text, "data:", 5)) {
        r->has_data = 1;
        stamp(r, text, size);
    }
}

static void keep(Reader *r, const char *p, size_t size)
{
    size_t room = TAIL - r->kept, first = size < room ? size : room;
    memcpy(r->tail + r->kept, p, first);
    r->kept += first;
    p += first;
    size -= first;
    if (!size) return;
    if (!r->overflowed) r->data_line = !memcmp(r->tail, "data:", 5);
    r->overflowed = 1;
    size_t last = size < TAIL ? size : TAIL;
    memmove(r->tail, r->tail + last, TAIL - last);
    memcpy(r->tail + TAIL - last, p + size - last, last);
}

// Reads lines until the span ends, or the head does; gives where.
static const char *lines(Reader *r, const char *p, const char *end)
{
    int stage = r->stage;
    while (p < end && r->stage == stage) {
        const char *stop = memchr(p, '\n', end - p);
        if (!stop) {
            keep(r, p, end - p);
            return end;
        }
        if (r->kept) {
            keep(r, p, stop - p);
            line(r, r->tail, r->kept);
            r->kept = r->overflowed = 0;
        } else {
            line(r, p, stop - p);
        }
        p = stop + 1;
    }
    return p;
}

static void size_digit(Reader *r, char c)
{
    if (c >= '0' && c <= '9') r->left = r->left * 16 + c - '0';
    else if ((c | 32) >= 'a' && (c | 32) <= 'f') r->left = r->left * 16 + (c | 32) - 'a' + 10;
    else r->chunk = c == '\n' ? DATA : EXTENSION;
}

static void chunks(Reader *r, const char *p, const char *end)
{
    while (p < end) {
        if (r->chunk == SIZE) {
            size_digit(r, *p++);
        } else if (r->chunk == DATA) {
            const char *stop = r->left < (size_t)(end - p) ? p + r->left : end;
            r->left -= stop - p;
            p = lines(r, p, stop);
            if (!r->left) r->chunk = AFTER;
        } else if (*p++ == '\n') {
            r->chunk = r->chunk == AFTER ? SIZE : DATA;
        }
    }
}

static void receive(Reader *r)
{
    static char span[SPAN];
    for (int reads = 0; reads < 8 && r->stage != GONE; reads++) {
        ssize_t size = recv(r->fd, span, SPAN, 0);
        if (size <= 0) {
            if (size == 0 || errno != EAGAIN) leave(r, size < 0);
            return;
        }
        now = clock_ns();
        count.bytes += size;
        const char *p = span, *end = span + size;
        if (r->stage == HEAD) p = lines(r, p, end);
        if (r->refused) leave(r, 1);
        else if (r->chunked) chunks(r, p, end);
        else lines(r, p, end);
        if (size < SPAN) return;
    }
}

// ---- connecting ----

static void watch(Reader *r, int how, uint32_t what)
{
    struct epoll_event e = {.events = what, .data.ptr = r};
    epoll_ctl(poll_fd, how, r->fd, &e);
}

static void begin(Reader *r, int number)
{
    int one = 1;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + number % sources)};
    r->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (r->fd < 0) {
        perror("load: socket");
        exit(1);
    }
    setsockopt(r->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(r->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    r->stage = CONNECTING;
    r->frozen = number < frozen;
    r->began = clock_ns();
    connecting++;
    if (bind(r->fd, (void *)&from, sizeof from) || (connect(r->fd, (void *)&to, sizeof to) && errno != EINPROGRESS)) leave(r, 1);
    else watch(r, EPOLL_CTL_ADD, EPOLLOUT);
}

static void connected(Reader *r)
{
    char target[512], request[1024];
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(r->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    snprintf(target, sizeof target, path, (int)(r - readers) + 1);
    int length = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept: text/event-stream\r\n\r\n",
                          target, port);
    if (error || send(r->fd, request, length, MSG_NOSIGNAL) != length) {
        leave(r, 1);
        return;
    }
    r->stage = HEAD;
    watch(r, EPOLL_CTL_MOD, EPOLLIN);
}

// ---- windows, reports, commands ----

static double cpu_seconds(void)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static void reset(void)
{
    memset(&count, 0, sizeof count);
    memset(&from_made, 0, sizeof from_made);
    memset(&from_due, 0, sizeof from_due);
    memset(&to_last, 0, sizeof to_last);
    for (int i = 0; i < wanted; i++) readers[i].events = 0;
    window_began = clock_ns();
    window_cpu = cpu_seconds();
}

static void report(void)
{
    double seconds = (clock_ns() - window_began) / 1e9;
    uint32_t most = 0;
    int silent = 0;
    for (int i = 0; i < wanted; i++) {
        if (readers[i].events > most) most = readers[i].events;
        silent += !readers[i].frozen && !readers[i].events;
    }
    printf("{\"seconds\":%.4f,\"joined\":%d,\"join_s\":%.4f,\"events\":%lu,\"rate\":%.1f,\"bytes\":%lu,\"gaps\":%lu,\"repeats\":%lu,"
           "\"unstamped\":%lu,\"lost\":%lu,\"failed\":%lu,\"complete\":%lu,\"silent\":%d,\"most\":%u,\"cpu\":%.4f",
           seconds, joined, all_joined ? (all_joined - started) / 1e9 : -1, count.events, count.events / seconds, count.bytes,
           count.gaps, count.repeats, count.unstamped, count.lost, count.failed, count.complete, silent, most,
           (cpu_seconds() - window_cpu) / seconds);
    print_times("made", &from_made);
    print_times("due", &from_due);
    print_times("last", &to_last);
    print_times("join", &to_join);
    puts("}");
    fflush(stdout);
    reset();
}

// Obeys what has come on standard input; gives when the window that was asked for ends.
static i64 obey(i64 window_ends)
{
    static char text[256];
    static size_t length;
    ssize_t size = read(0, text + length, sizeof text - 1 - length);
    if (size <= 0) exit(0);
    length += size;
    text[length] = 0;
    for (char *stop; (stop = strchr(text, '\n')); length -= stop + 1 - text, memmove(text, stop + 1, length + 1)) {
        double seconds;
        if (sscanf(text, "win %lf", &seconds) == 1) {
            reset();
            window_ends = window_began + (i64)(seconds * 1e9);
        } else {
            report();
        }
    }
    return window_ends;
}

static void options(int argc, char **argv)
{
    for (int option; (option = getopt(argc, argv, "p:n:u:m:i:s:w:")) > 0;) switch (option) {
        case 'p': port = atoi(optarg); break;
        case 'n': wanted = atoi(optarg); break;
        case 'u': path = optarg; break;
        case 'm': frozen = atoi(optarg); break;
        case 'i': at_a_time = atoi(optarg); break;
        case 's': sources = atoi(optarg); break;
        case 'w': patience = atoi(optarg); break;
        default: exit(2);
    }
    own_streams = strstr(path, "%d") != NULL;
}

static void serve_one(struct epoll_event *e)
{
    Reader *r = e->data.ptr;
    if (r->stage == CONNECTING) connected(r);
    else if (r->stage != GONE) receive(r);
}

int main(int argc, char **argv)
{
    options(argc, argv);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    readers = calloc(wanted, sizeof *readers);
    poll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event woken[WAKES], input = {.events = EPOLLIN};
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, 0, &input);
    started = clock_ns();
    reset();
    int ready = 0;
    for (i64 window_ends = 0;;) {
        while (begun < wanted && connecting < at_a_time) begin(&readers[begun], begun), begun++;
        int tried = begun == wanted && !connecting;
        if (!ready && (tried || clock_ns() - started > patience * 1000000000LL)) ready = 1, report();
        i64 left = window_ends ? window_ends - clock_ns() : 200000000;
        if (window_ends && left <= 0) {
            window_ends = 0;
            report();
            continue;
        }
        int n = epoll_wait(poll_fd, woken, WAKES, left > 200000000 ? 200 : left / 1000000 + 1);
        for (int i = 0; i < n; i++)
            if (woken[i].data.ptr) serve_one(&woken[i]);
            else window_ends = obey(window_ends);
    }
}
