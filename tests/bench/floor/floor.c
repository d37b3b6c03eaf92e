/* The floor: the least that still parses HTTP/1.1, runs the function in another process and answers.
 *
 * One epoll loop and one Python worker behind a seqpacket pair, all on one CPU. No timeouts, no limits, no checks: it
 * is not a server, it is the number that the data plane's speed is measured against. The loop stays runnable (it
 * yields) while the worker is busy, so that a packet that arrives does not interrupt the worker.
 *
 *   floor PORT PYTHON WORKER_SCRIPT      serves 127.0.0.1:PORT until it is killed
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CONNECTIONS_MAX = 1024, REQUEST_BYTES_MAX = 16384, ANSWER_BYTES_MAX = 16384, EVENTS_MAX = 128 };

struct connection {
    int open, waiting, bytes;
    char input[REQUEST_BYTES_MAX + 1];
};

static struct connection connections[CONNECTIONS_MAX]; /* by descriptor */
static int line[CONNECTIONS_MAX * 2], line_head, line_tail; /* descriptors whose request waits for the worker */
static int epoll_fd, listen_fd, worker_fd, served_fd = -1;  /* served_fd: whose request the worker has */

static void die(const char *what) { perror(what); exit(1); }

static void watch(int fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event)) die("epoll_ctl");
}

/* Finds the body of a complete request; 0 while bytes are missing. */
static int request_body(const struct connection *c, const char **body, int *body_bytes) {
    const char *end = memmem(c->input, c->bytes, "\r\n\r\n", 4);
    if (!end) return 0;
    const char *length = strcasestr(c->input, "\r\ncontent-length:");
    *body = end + 4;
    *body_bytes = length && length < end ? atoi(length + 17) : 0;
    return c->input + c->bytes - *body >= *body_bytes;
}

/* Hands the next waiting request to the worker if it is free. */
static void dispatch(void) {
    while (served_fd < 0 && line_head != line_tail) {
        int fd = line[line_head++ % (CONNECTIONS_MAX * 2)];
        struct connection *c = &connections[fd];
        const char *body;
        int body_bytes;
        if (!c->open || !c->waiting || !request_body(c, &body, &body_bytes)) continue;
        if (send(worker_fd, body, body_bytes, 0) != body_bytes) die("send to the worker");
        served_fd = fd;
        c->waiting = c->bytes = 0;
    }
}

static void on_accept(void) {
    int fd, on = 1;
    while ((fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        if (fd >= CONNECTIONS_MAX) { close(fd); continue; }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        connections[fd].open = 1;
        connections[fd].waiting = connections[fd].bytes = 0;
        watch(fd);
    }
}

static void on_request(int fd) {
    struct connection *c = &connections[fd];
    ssize_t got = recv(fd, c->input + c->bytes, REQUEST_BYTES_MAX - c->bytes, 0);
    if (got <= 0) {
        c->open = 0;
        if (served_fd == fd) served_fd = -2; /* the worker's answer has no taker */
        close(fd);
        return;
    }
    c->bytes += got;
    c->input[c->bytes] = 0;
    const char *body;
    int body_bytes;
    if (c->waiting || !request_body(c, &body, &body_bytes)) return;
    c->waiting = 1;
    line[line_tail++ % (CONNECTIONS_MAX * 2)] = fd;
}

static void on_answer(void) {
    static char answer[ANSWER_BYTES_MAX], output[ANSWER_BYTES_MAX + 128];
    ssize_t bytes = recv(worker_fd, answer, sizeof answer, 0);
    if (bytes <= 0) die("the worker ended");
    int head = sprintf(output, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zd\r\n\r\n", bytes);
    memcpy(output + head, answer, bytes);
    if (served_fd >= 0) send(served_fd, output, head + bytes, MSG_NOSIGNAL);
    served_fd = -1;
}

static void start_worker(char *python, char *script) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair)) die("socketpair");
    fcntl(pair[0], F_SETFD, FD_CLOEXEC);
    if (fork() == 0) {
        char fd[16];
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        sprintf(fd, "%d", pair[1]);
        execlp(python, python, script, fd, NULL);
        _exit(127);
    }
    close(pair[1]);
    worker_fd = pair[0];
    watch(worker_fd);
}

int main(int count, char **arguments) {
    if (count != 4) { fprintf(stderr, "usage: floor PORT PYTHON WORKER_SCRIPT\n"); return 2; }
    int on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(arguments[1])),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(listen_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listen_fd, (void *)&address, sizeof address) || listen(listen_fd, 1024)) die("listen");
    watch(listen_fd);
    start_worker(arguments[2], arguments[3]);
    for (;;) {
        struct epoll_event events[EVENTS_MAX];
        int busy = served_fd != -1;
        int ready = epoll_wait(epoll_fd, events, EVENTS_MAX, busy ? 0 : -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == listen_fd) on_accept();
            else if (fd == worker_fd) on_answer();
            else on_request(fd);
        }
        dispatch();
        if (ready <= 0) sched_yield();
    }
}
