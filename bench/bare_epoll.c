/* The bare epoll loop: what one core can answer over HTTP when the server does next to nothing.
 *
 * One thread, level-triggered epoll, one recv and one send per wake-up of a connection. Of a
 * request it looks for the end of the head and for Content-Length, because without these two
 * it could not tell where the next request begins; everything else goes unread. Each request
 * is answered with the same bytes, read from a file at the start: the bench puts a captured
 * answer of the real server there, so both send equally much.
 *
 *     bare_epoll ANSWER_FILE        picks a port on 127.0.0.1, prints it, serves until killed
 *
 * It is a yardstick and no server: it trusts its one client, and stops at the first surprise.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    EVENTS_MAX = 256,
    DESCRIPTORS_MAX = 4096,
    RECEIVE_BYTES = 64 * 1024,  /* many times the deepest pipeline the bench sends */
    REQUESTS_MAX = 1024,        /* answered with one send; bounds the prepared run of answers */
};

struct connection {
    char *bytes;
    size_t bytes_held;
};

static struct connection connections[DESCRIPTORS_MAX];
static char *answers; /* REQUESTS_MAX copies of the answer, so that k answers are one send */
static size_t answer_bytes;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void read_answer(const char *path)
{
    static char answer[RECEIVE_BYTES];
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        die(path);
    answer_bytes = fread(answer, 1, sizeof answer, file);
    fclose(file);
    if (answer_bytes == 0 || answer_bytes == sizeof answer) {
        fprintf(stderr, "%s: an answer has 1 to %zu bytes\n", path, sizeof answer - 1);
        exit(1);
    }
    answers = malloc(answer_bytes * REQUESTS_MAX);
    if (answers == NULL)
        die("malloc");
    for (size_t index = 0; index < REQUESTS_MAX; index++)
        memcpy(answers + index * answer_bytes, answer, answer_bytes);
}

static int listen_anywhere(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t address_bytes = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) != 0
        || listen(listener, 1024) != 0
        || getsockname(listener, (struct sockaddr *)&address, &address_bytes) != 0)
        die("listen");
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return listener;
}

static void watch(int poller, int descriptor)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = descriptor};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, descriptor, &event) != 0)
        die("epoll_ctl");
}

static void accept_all(int poller, int listener)
{
    int descriptor, one = 1;
    while ((descriptor = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        if (descriptor >= DESCRIPTORS_MAX) {
            close(descriptor);
            continue;
        }
        setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        connections[descriptor].bytes = malloc(RECEIVE_BYTES + 1);
        connections[descriptor].bytes_held = 0;
        if (connections[descriptor].bytes == NULL)
            die("malloc");
        watch(poller, descriptor);
    }
}

static void drop(int descriptor)
{
    free(connections[descriptor].bytes);
    connections[descriptor].bytes = NULL;
    close(descriptor);
}

/* Bytes of the whole request at the front, 0 while it is not all there. */
static size_t request_bytes(const char *bytes, size_t bytes_held)
{
    const char *length, *end = memmem(bytes, bytes_held, "\r\n\r\n", 4);
    size_t head_bytes, whole_bytes;
    if (end == NULL)
        return 0;
    head_bytes = (size_t)(end - bytes) + 4;
    length = memmem(bytes, head_bytes, "Content-Length: ", 16);
    if (length == NULL) {
        fprintf(stderr, "a request without Content-Length\n");
        exit(1);
    }
    whole_bytes = head_bytes + strtoul(length + 16, NULL, 10);
    return whole_bytes <= bytes_held ? whole_bytes : 0;
}

static void answer(int descriptor)
{
    struct connection *connection = &connections[descriptor];
    size_t taken_bytes = 0, whole_bytes;
    unsigned request_count = 0;
    ssize_t count = recv(descriptor, connection->bytes + connection->bytes_held,
                         RECEIVE_BYTES - connection->bytes_held, 0);
    if (count <= 0) {
        if (count == 0 || errno != EAGAIN)
            drop(descriptor);
        return;
    }
    connection->bytes_held += (size_t)count;
    connection->bytes[connection->bytes_held] = 0; /* strtoul stops here at the latest */
    while (request_count < REQUESTS_MAX
           && (whole_bytes = request_bytes(connection->bytes + taken_bytes,
                                           connection->bytes_held - taken_bytes)) != 0) {
        taken_bytes += whole_bytes;
        request_count++;
    }
    connection->bytes_held -= taken_bytes;
    if (connection->bytes_held != 0)
        memmove(connection->bytes, connection->bytes + taken_bytes, connection->bytes_held);
    if (request_count != 0
        && send(descriptor, answers, request_count * answer_bytes, MSG_NOSIGNAL)
               != (ssize_t)(request_count * answer_bytes))
        drop(descriptor); /* the load generator reads faster than this; its own check speaks up */
}

int main(int argument_count, char **arguments)
{
    struct epoll_event events[EVENTS_MAX];
    int listener, poller = epoll_create1(0);
    if (argument_count != 2) {
        fprintf(stderr, "usage: bare_epoll ANSWER_FILE\n");
        return 2;
    }
    read_answer(arguments[1]);
    listener = listen_anywhere();
    if (poller < 0)
        die("epoll_create1");
    watch(poller, listener);
    for (;;) {
        int event_count = epoll_wait(poller, events, EVENTS_MAX, -1);
        if (event_count < 0 && errno != EINTR)
            die("epoll_wait");
        for (int index = 0; index < event_count; index++) {
            if (events[index].data.fd == listener)
                accept_all(poller, listener);
            else
                answer(events[index].data.fd);
        }
    }
}
