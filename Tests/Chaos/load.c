/* load: a mixed load on a memory gateway, from many connections and hardly any processor, so that it does not disturb what it
 * measures. Each connection asks, waits for the whole answer, and asks again; one that is refused waits as long as
 * Retry-After says. Prints one line of JSON.
 *
 *   cc -O2 -o load load.c && ./load PORT CONNECTIONS SECONDS TAG
 *
 * Client 1 is only read (its recalls stay cached), clients 2 to 9 are written.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CACHED, COLD, REMEMBER, BATCH, SESSION, KINDS };
static const char *NAMES[KINDS] = {"cached", "cold", "remember", "batch", "session"};
static const int WEIGHTS[KINDS] = {50, 15, 15, 5, 15};
enum { BUFFER = 1 << 17, MAX_SAMPLES = 1 << 22 };

typedef struct {
    int fd, kind, connecting;
    size_t sent, length, got;
    double started, wakes; /* when the request began; when a refused one may ask again, or 0 */
    char out[8192], *in;
} Connection;

static double samples[MAX_SAMPLES];
static size_t count;
static long answers[KINDS], good[KINDS], degraded, partial, overloaded, other, broken;
static double slowest, slowest_refusal, slowest_by[KINDS];
static char first_problem[400];
static struct sockaddr_in address;
static unsigned long number;
static const char *tag;
static int poller;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void post(Connection *c, const char *path, const char *body) {
    c->length = snprintf(c->out, sizeof c->out,
        "POST /api/v1/memory%s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
        path, strlen(body), body);
}

static void compose(Connection *c) {
    char body[6000], path[80];
    unsigned long n = ++number;
    int turn = (int)(n * 37 % 100), kind = 0; /* 37 and 100 have no common divisor: every share is met exactly */
    while (turn >= WEIGHTS[kind]) turn -= WEIGHTS[kind++];
    c->kind = kind;
    int client = 2 + (int)(n % 8);
    switch (kind) {
    case CACHED:
    case COLD: {
        char query[60];
        if (kind == CACHED) snprintf(query, sizeof query, "topic+%lu", n % 50);
        else snprintf(query, sizeof query, "news+%s+%lu", tag, n);
        c->length = snprintf(c->out, sizeof c->out,
            "GET /api/v1/memory/recall?client_id=1&k=5&query=%s HTTP/1.1\r\nHost: localhost\r\n\r\n", query);
        return;
    }
    case REMEMBER:
        snprintf(body, sizeof body, "{\"client_id\": %d, \"content\": \"memory %s %lu of a user who prefers morning deep work\"}",
            client, tag, n);
        return post(c, "/remember", body);
    case BATCH: {
        size_t end = snprintf(body, sizeof body, "{\"memories\": [");
        for (int i = 0; i < 16; i++)
            end += snprintf(body + end, sizeof body - end, "%s{\"client_id\": %d, \"content\": \"item %s %lu %d of a long list of things\"}",
                i ? "," : "", client, tag, n, i);
        snprintf(body + end, sizeof body - end, "]}");
        return post(c, "/remember/batch", body);
    }
    default:
        snprintf(path, sizeof path, "/sessions/%s-%lu/messages", tag, n % 500);
        snprintf(body, sizeof body, "{\"client_id\": %d, \"messages\": [{\"role\": \"user\", \"content\": \"hello %lu\"}]}",
            2 + (int)(n % 500 % 8), n);
        post(c, path, body);
    }
}

static void want(Connection *c, uint32_t events) {
    struct epoll_event e = {.events = events, .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &e);
}

static void dial(Connection *c) {
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0) { perror("socket"); exit(2); }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->connecting = connect(c->fd, (struct sockaddr *)&address, sizeof address) < 0 && errno == EINPROGRESS;
    struct epoll_event e = {.events = EPOLLOUT, .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &e);
}

static void ask(Connection *c) {
    compose(c);
    c->sent = c->got = 0;
    c->wakes = 0;
    c->started = now();
    want(c, EPOLLOUT);
}

static void again(Connection *c) { /* the connection broke */
    broken++;
    close(c->fd);
    dial(c);
    ask(c);
}

static void writes(Connection *c) {
    while (c->sent < c->length) {
        ssize_t n = send(c->fd, c->out + c->sent, c->length - c->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) return;
        if (n < 0) return again(c);
        c->sent += n;
    }
    want(c, EPOLLIN);
}

/* Counts a whole answer: `body` is ended by a NUL. */
static void judge(Connection *c, int status, const char *body, int retry, int counts) {
    double took = now() - c->started;
    c->wakes = 0;
    if (counts) {
        answers[c->kind]++;
        if (status / 100 == 2) {
            good[c->kind]++;
            if (count < MAX_SAMPLES) samples[count++] = took;
            if (took > slowest) slowest = took;
            if (took > slowest_by[c->kind]) slowest_by[c->kind] = took;
            if (strstr(body, "\"degraded\":true")) degraded++;
            if (status == 207) partial++;
        } else {
            if (took > slowest_refusal) slowest_refusal = took;
            if (status == 503 && strstr(body, "\"code\":\"overloaded\"")) overloaded++;
            else {
                other++;
                if (!first_problem[0]) snprintf(first_problem, sizeof first_problem, "%s %d %.300s", NAMES[c->kind], status, body);
            }
        }
    }
    if (status == 503 || status == 429) {
        c->wakes = now() + (retry > 0 ? retry : 1);
        want(c, 0);
    } else ask(c);
}

static void reads(Connection *c, int counts) {
    ssize_t n = recv(c->fd, c->in + c->got, BUFFER - 1 - c->got, 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) return again(c);
    c->got += n;
    c->in[c->got] = 0;
    char *end = strstr(c->in, "\r\n\r\n"), *field;
    if (!end) return;
    if (!(field = strcasestr(c->in, "content-length:")) || field > end) { fprintf(stderr, "an answer without a length\n"); exit(2); }
    size_t whole = (size_t)(end + 4 - c->in) + strtoul(field + 15, NULL, 10);
    if (whole >= BUFFER) { fprintf(stderr, "an answer of %zu bytes\n", whole); exit(2); }
    if (c->got < whole) return;
    field = strcasestr(c->in, "retry-after:");
    judge(c, atoi(c->in + 9), end + 4, field && field < end ? atoi(field + 12) : 0, counts);
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

int main(int argc, char **argv) {
    if (argc != 5) { fprintf(stderr, "usage: %s PORT CONNECTIONS SECONDS TAG\n", argv[0]); return 2; }
    int connections = atoi(argv[2]);
    double seconds = atof(argv[3]);
    tag = argv[4];
    address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    poller = epoll_create1(0);
    Connection *all = calloc(connections, sizeof *all);
    for (int i = 0; i < connections; i++) {
        all[i].in = malloc(BUFFER);
        dial(&all[i]);
        ask(&all[i]);
    }
    double start = now(), end = start + seconds, looked = start;
    struct epoll_event events[256];
    long outstanding = 0;
    double last = end + 10; /* what is under way at the end is waited for: it counts too, or slow answers would be left out */
    while (now() < last) {
        int n = epoll_wait(poller, events, 256, 20);
        double t = now();
        for (int i = 0; i < n; i++) {
            Connection *c = events[i].data.ptr;
            if (c->wakes) { if (events[i].events & (EPOLLHUP | EPOLLERR)) { close(c->fd); dial(c); ask(c); } continue; }
            if (events[i].events & EPOLLOUT) writes(c);
            else reads(c, c->started < end);
        }
        if (t - looked < 0.02) continue;
        looked = t;
        outstanding = 0;
        for (int i = 0; i < connections; i++) {
            if (all[i].wakes && t >= all[i].wakes && t < end) ask(&all[i]);
            outstanding += !all[i].wakes && all[i].started < end;
        }
        if (t >= end && !outstanding) break;
    }
    long total = 0, fine = 0;
    for (int k = 0; k < KINDS; k++) { total += answers[k]; fine += good[k]; }
    qsort(samples, count, sizeof *samples, compare);
    for (char *p = first_problem; *p; p++) if (*p == '"' || *p == '\\' || *p < 32) *p = '\'';
    printf("{\"answers\": %ld, \"good\": %ld, \"rate\": %.1f, \"degraded\": %ld, \"partial\": %ld, \"overloaded\": %ld, \"other\": %ld, "
           "\"broken\": %ld, \"unanswered\": %ld, \"p50\": %.1f, \"p95\": %.1f, \"p99\": %.1f, \"slowest\": %.1f, \"slowest_refusal\": %.1f, "
           "\"problem\": \"%s\"",
        total, fine, fine / seconds, degraded, partial, overloaded, other, broken, outstanding,
        count ? samples[count / 2] * 1e3 : 0, count ? samples[count * 95 / 100] * 1e3 : 0, count ? samples[count * 99 / 100] * 1e3 : 0,
        slowest * 1e3, slowest_refusal * 1e3, first_problem);
    for (int k = 0; k < KINDS; k++) printf(", \"%s\": [%ld, %ld, %.1f]", NAMES[k], answers[k], good[k], slowest_by[k] * 1e3);
    printf("}\n");
    return 0;
}
