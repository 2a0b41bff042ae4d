// floor.c: the limit. The least that a server can do for the same readers: one epoll, one send() a reader and turn.
//
// Invariants: nothing is parsed, no patch is computed, no HTTP beyond a head: the frames are those of statestream, printed
// once, and the same bytes go to every reader. What is faster than this has left work out, or asks the kernel in
// another way, or this is wrong.
//
// What it taught (1,000 readers, a core for the server, one for the load). An earlier pair of such programs was
// beaten by Python, which cannot be: both Python and C had stopped at 6 million events a second, because the load
// needed all of its core for that, a sixth of it for memmem() in every event; and C joined whatever was due without a
// bound, so that, once late, its turns grew to 900 kB, more than a socket's buffer takes: it copied rests and waited
// for EPOLLOUT while its core idled, and fell to 4 million. With a load that looks where the stamp stood last time,
// and with bounded turns, this reaches 15 million and more, where the load's core is full as well: from 32 to 256 kB
// a turn within the noise, less beyond. With one change a turn it is the system call that costs: 4 microseconds of
// kernel a send(), 1 % of user time; write() or send(), MSG_DONTWAIT or O_NONBLOCK, chunks or none, made no
// difference that could be seen.
//
// env: PORT; ITEMS in the slice (100 bytes each); TURN changes at most in a send().
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
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
typedef struct {
    int fd, at; // at: its place in `live`
    char *rest; // what the kernel has not taken
    size_t begin, end;
} Reader;

enum { WAKES = 512, FRAME = 512, MOST_TURN = 4096, MOST_BEHIND = 64 << 20 };
static Reader **live;
static int readers, room, poll_fd, items, most_in_turn;
static i64 seq, left = -1, due;
static double rate;

static i64 clock_ns(clockid_t which)
{
    struct timespec t;
    clock_gettime(which, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

// ---- the work ----

static char *state(void)
{
    static char *text;
    static i64 of = -1;
    if (of == seq) return text;
    if (!text) text = malloc(256 * (items + 2));
    char *p = text + sprintf(text, "{\"items\":[");
    for (int i = 0; i < items; i++)
        p += sprintf(p, "%s{\"id\":\"i%d\",\"done\":false,"
                        "\"note\":\"item %d lorem ipsum dolor sit amet consectetur adipi\",\"n\":%ld}",
                     i ? "," : "", i, i, i == items - 1 ? seq : 0);
    strcpy(p, "]}");
    of = seq;
    return text;
}

static int frame(char *to, i64 was_due)
{
    i64 made = clock_ns(CLOCK_MONOTONIC);
    seq++;
    return sprintf(to,
        "event: state.update\nid: %ld.k3v9x2m\n"
        "data: {\"type\":\"state.update\",\"slice\":\"app\",\"from\":%ld,\"version\":%ld,"
        "\"patches\":[{\"op\":\"replace\",\"path\":\"/items/%d/n\",\"value\":%ld}],"
        "\"cause\":{\"type\":\"app/tick\",\"id\":\"uavJaCLbqUQg\",\"payload\":{\"seq\":%ld,\"t\":%ld,\"due\":%ld}},"
        "\"timestamp\":%ld}\n\n",
        seq, seq - 1, seq, items - 1, seq, seq, made, was_due, clock_ns(CLOCK_REALTIME) / 1000000);
}

// ---- readers ----

static void watch(Reader *r, int how, uint32_t what)
{
    struct epoll_event e = {.events = what, .data.ptr = r};
    epoll_ctl(poll_fd, how, r->fd, &e);
}

static void drop(Reader *r)
{
    if (r->at >= 0) {
        live[r->at] = live[--readers];
        live[r->at]->at = r->at;
    }
    close(r->fd);
    free(r->rest);
    free(r);
}

// Sends it, or keeps what the kernel does not take; false: the reader is gone, or too far behind.
static int push(Reader *r, const char *bytes, size_t size)
{
    if (!r->rest) {
        ssize_t sent = send(r->fd, bytes, size, MSG_NOSIGNAL);
        if (sent == (ssize_t)size) return 1;
        if (sent < 0 && errno != EAGAIN) return 0;
        if (sent > 0) bytes += sent, size -= sent;
        r->begin = r->end = 0;
        watch(r, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
    }
    if (r->end + size > MOST_BEHIND) return 0;
    r->rest = realloc(r->rest, r->end + size);
    memcpy(r->rest + r->end, bytes, size);
    r->end += size;
    return 1;
}

static int push_rest(Reader *r)
{
    while (r->begin < r->end) {
        ssize_t sent = send(r->fd, r->rest + r->begin, r->end - r->begin, MSG_NOSIGNAL);
        if (sent < 0) return errno == EAGAIN;
        r->begin += sent;
    }
    free(r->rest);
    r->rest = NULL;
    watch(r, EPOLL_CTL_MOD, EPOLLIN);
    return 1;
}

static void control(Reader *r, const char *query)
{
    char answer[256], body[64];
    const char *count = strstr(query, "count=");
    rate = atof(strstr(query, "rate=") + 5);
    left = count && atoll(count + 6) > 0 ? atoll(count + 6) : -1;
    due = clock_ns(CLOCK_MONOTONIC) + (rate > 0 ? (i64)(1e9 / rate) : 0);
    int size = sprintf(body, "{\"seq\":%ld}", seq);
    static const char head[] = "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s";
    push(r, answer, sprintf(answer, head, size, body));
}

static void join(Reader *r)
{
    static char *first;
    if (!first) first = malloc(256 * (items + 8));
    int size = sprintf(first,
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
        "event: state.initial\nid: %ld.k3v9x2m\nretry: 2000\ndata: {\"type\":\"state.initial\",\"reason\":\"start\","
        "\"slices\":{\"app\":%s},\"versions\":{\"app\":%ld},\"heartbeat\":15000,\"timestamp\":%ld}\n\n",
        seq, state(), seq, clock_ns(CLOCK_REALTIME) / 1000000);
    if (readers == room) live = realloc(live, (room = room * 2 + 1024) * sizeof *live);
    r->at = readers;
    live[readers++] = r;
    if (!push(r, first, size)) drop(r);
}

static void asked(Reader *r)
{
    char request[4096];
    ssize_t size = recv(r->fd, request, sizeof request - 1, 0);
    if (size <= 0) {
        if (size == 0 || errno != EAGAIN) drop(r);
        return;
    }
    request[size] = 0;
    if (!strncmp(request, "GET /ctl?rate=", 14)) control(r, request);
    else join(r);
}

static void take_all(int listener)
{
    int one = 1;
    for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        Reader *r = calloc(1, sizeof *r);
        r->fd = fd;
        r->at = -1;
        watch(r, EPOLL_CTL_ADD, EPOLLIN);
    }
}

// ---- a turn ----

static void turn(void)
{
    static char out[MOST_TURN * FRAME];
    i64 now = clock_ns(CLOCK_MONOTONIC);
    if (rate <= 0 || !left || now < due) return;
    size_t size = 0;
    int made = 0;
    do {
        size += frame(out + size, due);
        due += (i64)(1e9 / rate);
        if (left > 0) left--;
    } while (++made < most_in_turn && left && due <= now);
    for (int i = 0; i < readers;)
        if (push(live[i], out, size)) i++;
        else drop(live[i]);
}

static void wait_and_serve(int listener)
{
    struct epoll_event woken[WAKES];
    i64 wait = rate > 0 && left ? due - clock_ns(CLOCK_MONOTONIC) : 1000000000;
    if (wait < 0) wait = 0;
    struct timespec until = {wait / 1000000000, wait % 1000000000};
    int n = epoll_pwait2(poll_fd, woken, WAKES, &until, NULL);
    for (int i = 0; i < n; i++) {
        Reader *r = woken[i].data.ptr;
        if (!r) take_all(listener);
        else if ((woken[i].events & EPOLLOUT) && !push_rest(r)) drop(r);
        else if (woken[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) asked(r);
    }
}

static const char *setting(const char *name, const char *otherwise)
{
    const char *value = getenv(name);
    return value ? value : otherwise;
}

int main(void)
{
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    items = atoi(setting("ITEMS", "20"));
    most_in_turn = atoi(setting("TURN", "256"));
    if (most_in_turn > MOST_TURN) most_in_turn = MOST_TURN;
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(atoi(setting("PORT", "8000"))),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (void *)&at, sizeof at) || listen(listener, 4096)) {
        perror("floor");
        return 1;
    }
    poll_fd = epoll_create1(0);
    struct epoll_event e = {.events = EPOLLIN};
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, listener, &e);
    for (;;) {
        wait_and_serve(listener);
        turn();
    }
}
