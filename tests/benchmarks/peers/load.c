// load.c: the readers. Opens N event streams on one epoll, reads every event of every one of them, and counts.
//
// Invariants: every event is parsed on every connection, chunked or not; nothing is sampled. An event carries
// "seq":n,"t":ns,"due":ns in this order, within the last TAIL bytes of its data line: its number, when the change was
// made, and when the open schedule wanted it made (so that a late server cannot hide behind late changes). The first
// event is the state. It must be faster than what it measures: where its own CPU time comes near 100 %, it is the
// load that was measured.
//
// load -p port -n readers [-u path] [-m frozen] [-i connecting at a time] [-s source addresses]
// [-w seconds to join in]
//   %d in the path is the reader's number, from 1: every reader then has a stream, and numbers, of its own.
//   The first `frozen` readers take the state and then never read again; they are left out of every figure.
// It prints a line of JSON when all have joined, or no more will, and one for each line it reads:
//   win s   what came in s seconds     stat   what came since the last line     end of input: it leaves
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "times.h"
#include "stream.h"

static i64 clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

// ---- the readers, and what is counted ----

enum { SPAN = 1 << 18, WAKES = 1024, ROUNDS = 1 << 16 };
enum stage { WAITING, CONNECTING, OPEN, GONE };

typedef struct {
    Stream stream; // first, so that its address is the reader's
    int fd;
    uint8_t stage, frozen, joined;
    uint32_t events; // in the window
    i64 began, last; // when it began to connect; the number of its last event
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

static void event(Stream *s)
{
    Reader *r = (Reader *)s;
    i64 made = s->made;
    s->made = 0;
    if (!r->joined) {
        join(r);
        return;
    }
    if (!made) {
        count.unstamped++; // a heartbeat, or a catch-up: then numbers are missing, too
        return;
    }
    count.events++;
    r->events++;
    add(&from_made, now - made);
    add(&from_due, now - s->due);
    if (r->last && s->seq > r->last + 1) count.gaps += s->seq - r->last - 1;
    if (r->last && s->seq <= r->last) count.repeats++;
    if (!own_streams) in_round(s->seq, now - made);
    r->last = s->seq;
}

// ---- reading and connecting ----

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
        if (!feed(&r->stream, span, size)) leave(r, 1);
        if (size < SPAN) return;
    }
}

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
    int failed = bind(r->fd, (void *)&from, sizeof from) ||
                 (connect(r->fd, (void *)&to, sizeof to) && errno != EINPROGRESS);
    if (failed) leave(r, 1);
    else watch(r, EPOLL_CTL_ADD, EPOLLOUT);
}

static void connected(Reader *r)
{
    char target[512], request[1024];
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(r->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    snprintf(target, sizeof target, path, (int)(r - readers) + 1);
    static const char text[] = "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept: text/event-stream\r\n\r\n";
    int length = snprintf(request, sizeof request, text, target, port);
    if (error || send(r->fd, request, length, MSG_NOSIGNAL) != length) {
        leave(r, 1);
        return;
    }
    r->stage = OPEN;
    r->stream.in_head = 1;
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
    printf("{\"seconds\":%.4f,\"joined\":%d,\"join_s\":%.4f,\"events\":%lu,\"rate\":%.1f,\"bytes\":%lu,"
           "\"gaps\":%lu,\"repeats\":%lu,\"unstamped\":%lu,"
           "\"lost\":%lu,\"failed\":%lu,\"complete\":%lu,\"silent\":%d,\"most\":%u,\"cpu\":%.4f",
           seconds, joined, all_joined ? (all_joined - started) / 1e9 : -1, count.events, count.events / seconds,
           count.bytes, count.gaps, count.repeats, count.unstamped, count.lost, count.failed, count.complete,
           silent, most,
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
