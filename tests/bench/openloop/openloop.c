/* An open-loop client: requests start when they are due, whether or not earlier ones have been answered.
 *
 * Arrivals are random (exponential gaps, a fixed seed). A request that finds all connections busy waits in line, and its
 * latency counts from when it was due: a server that stalls cannot hide the requests that it kept from being sent
 * (coordinated omission). It spins, so it wants a CPU of its own.
 *
 *   openloop PORT PATH CONNECTIONS RATE_PER_S SECONDS BODY_FILE CONTENT_TYPE AUTHORIZATION
 *
 * One line of JSON: how many, at which rate, percentiles in µs, errors. The first half second is not counted.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS_MAX = 1024, EVENTS_MAX = 256, ANSWER_BYTES_MAX = 1 << 21, LINE_MAX_COUNT = 1 << 20 };
static const uint64_t WARM_UP_NS = 500000000ull, DRAIN_NS = 3000000000ull;

struct connection {
    int fd, busy;
    size_t sent, received;
    long expected; /* bytes of the whole answer, once the head is there; -1 before */
    uint64_t due_ns;
    char *answer;
};

static struct connection connections[CONNECTIONS_MAX];
static int idle[CONNECTIONS_MAX], idle_count, connections_count, epoll_fd, port;
static char *request;
static size_t request_bytes;
static uint64_t line[LINE_MAX_COUNT], line_head, line_tail; /* due times of requests that wait for a connection */
static uint32_t *samples_us;
static size_t samples_count, samples_max;
static uint64_t count_from_ns, errors_status, errors_connection, overflow, answered;

static void die(const char *what) { perror(what); exit(1); }

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static void open_connection(struct connection *c) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || connect(c->fd, (void *)&address, sizeof address)) die("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &event)) die("epoll_ctl");
    c->busy = 0;
}

static void reopen(struct connection *c) {
    errors_connection++;
    close(c->fd);
    open_connection(c);
    idle[idle_count++] = (int)(c - connections);
}

static void write_more(struct connection *c) {
    while (c->sent < request_bytes) {
        ssize_t n = send(c->fd, request + c->sent, request_bytes - c->sent, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno != EAGAIN) reopen(c);
            return;
        }
        c->sent += (size_t)n;
    }
}

static void start_request(uint64_t due_ns) {
    struct connection *c = &connections[idle[--idle_count]];
    c->busy = 1;
    c->sent = c->received = 0;
    c->expected = -1;
    c->due_ns = due_ns;
    write_more(c);
}

static void finished(struct connection *c) {
    uint64_t end_ns = now_ns();
    if (memcmp(c->answer, "HTTP/1.1 200", 12)) errors_status++;
    if (c->due_ns >= count_from_ns) {
        answered++;
        if (samples_count < samples_max) samples_us[samples_count++] = (uint32_t)((end_ns - c->due_ns) / 1000);
    }
    c->busy = 0;
    idle[idle_count++] = (int)(c - connections);
}

static void read_more(struct connection *c) {
    while (c->busy) {
        ssize_t n = recv(c->fd, c->answer + c->received, ANSWER_BYTES_MAX - c->received, 0);
        if (n < 0 && errno == EAGAIN) return;
        if (n <= 0) return reopen(c);
        c->received += (size_t)n;
        if (c->expected < 0) {
            char *end = memmem(c->answer, c->received, "\r\n\r\n", 4);
            if (!end) continue;
            *end = 0;
            char *length = strcasestr(c->answer, "\r\ncontent-length:");
            *end = '\r';
            if (!length) { fprintf(stderr, "an answer without Content-Length\n"); exit(1); }
            c->expected = (end + 4 - c->answer) + atol(length + 17);
        }
        if ((long)c->received >= c->expected) finished(c);
    }
}

static int by_size(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static uint32_t percentile(double p) {
    if (!samples_count) return 0;
    size_t at = (size_t)ceil(p / 100 * (double)samples_count);
    return samples_us[at ? at - 1 : 0];
}

static double exponential(void) {
    static uint64_t state = 0x9e3779b97f4a7c15ull;
    state ^= state << 13; state ^= state >> 7; state ^= state << 17;
    return -log(((double)(state >> 11) + 1) / 9007199254740993.0);
}

static char *file_content(const char *path, size_t *bytes) {
    FILE *file = fopen(path, "rb");
    if (!file) die(path);
    fseek(file, 0, SEEK_END);
    *bytes = (size_t)ftell(file);
    rewind(file);
    char *content = malloc(*bytes + 1);
    if (fread(content, 1, *bytes, file) != *bytes) die("read");
    fclose(file);
    return content;
}

int main(int count, char **arguments) {
    if (count != 9) {
        fprintf(stderr, "usage: openloop PORT PATH CONNECTIONS RATE_PER_S SECONDS BODY_FILE CONTENT_TYPE AUTHORIZATION\n");
        return 2;
    }
    size_t body_bytes;
    char *body = file_content(arguments[6], &body_bytes);
    double rate = atof(arguments[4]), seconds = atof(arguments[5]);
    port = atoi(arguments[1]);
    connections_count = atoi(arguments[3]);
    if (connections_count < 1 || connections_count > CONNECTIONS_MAX || rate <= 0) return 2;
    request = malloc(body_bytes + 4096);
    int head = snprintf(request, 4096,
        "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: %s\r\nAuthorization: %s\r\nContent-Length: %zu\r\n\r\n",
        arguments[2], port, arguments[7], arguments[8], body_bytes);
    if (head >= 4096) return 2;
    memcpy(request + head, body, body_bytes);
    request_bytes = (size_t)head + body_bytes;
    samples_max = (size_t)(rate * seconds * 1.2) + 100000;
    samples_us = malloc(samples_max * sizeof *samples_us);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < connections_count; i++) {
        connections[i].answer = malloc(ANSWER_BYTES_MAX + 1);
        open_connection(&connections[i]);
        idle[idle_count++] = i;
    }
    uint64_t start_ns = now_ns(), end_ns = start_ns + (uint64_t)(seconds * 1e9) + WARM_UP_NS;
    count_from_ns = start_ns + WARM_UP_NS;
    double next_ns = (double)start_ns;
    uint64_t due = 0;
    for (;;) {
        uint64_t now = now_ns();
        while (next_ns < (double)end_ns && (uint64_t)next_ns <= now) {
            if ((uint64_t)next_ns >= count_from_ns) due++;
            if (line_tail - line_head < LINE_MAX_COUNT) line[line_tail++ % LINE_MAX_COUNT] = (uint64_t)next_ns;
            else overflow++;
            next_ns += exponential() / rate * 1e9;
        }
        while (idle_count && line_head != line_tail) start_request(line[line_head++ % LINE_MAX_COUNT]);
        if (now >= end_ns && ((idle_count == connections_count && line_head == line_tail) || now >= end_ns + DRAIN_NS)) break;
        struct epoll_event events[EVENTS_MAX];
        int ready = epoll_wait(epoll_fd, events, EVENTS_MAX, 0);
        for (int i = 0; i < ready; i++) {
            struct connection *c = events[i].data.ptr;
            if (c->busy && c->sent < request_bytes && events[i].events & EPOLLOUT) write_more(c);
            if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) read_more(c);
        }
    }
    qsort(samples_us, samples_count, sizeof *samples_us, by_size);
    printf("{\"due\":%llu,\"answered\":%llu,\"rate_per_s\":%.1f,\"p50_us\":%u,\"p90_us\":%u,\"p99_us\":%u,\"p999_us\":%u,"
           "\"max_us\":%u,\"errors_status\":%llu,\"errors_connection\":%llu,\"unanswered\":%llu}\n",
           (unsigned long long)due, (unsigned long long)answered, (double)answered / seconds, percentile(50), percentile(90),
           percentile(99), percentile(99.9), samples_count ? samples_us[samples_count - 1] : 0,
           (unsigned long long)errors_status, (unsigned long long)errors_connection,
           (unsigned long long)(due - answered + overflow));
    return 0;
}
