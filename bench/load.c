/* The load generator: N connections, D requests in flight on each, random keys, one thread.
 *
 * Closed loop: a connection sends D requests with one send, reads until all D answers are
 * there, checks each (status, length), and sends the next D. All requests are rendered before
 * anything is measured, drawn with replacement from the key list by a seeded generator and laid
 * out in drawing order, so that a send is one call on memory that is already right. What is left
 * on the clock is the kernel's work, the check of each answer and one clock reading a wake-up.
 *
 *     load port=P keys=FILE [protocol=http|redis] [connections=32] [depth=1] [seed=1]
 *          [cpu=N] [server=PID] [body_min=1] [body_max=65536]
 *          [path=/get] [before={"key":"] [after="}]
 *
 * Over HTTP a request is a POST to the path whose body is the key between those two texts.
 *
 * Connects, prints "ready", and then runs as many requests as each line of standard input says.
 * Every run is answered with one JSON object: requests, seconds, latency in nanoseconds from
 * just before a send to just after the receive that completed the answer (percentiles by a
 * histogram with steps of 1/32), the share of its core this process used, and the CPU
 * time the server process used for each request (its clock is read here, so that both windows
 * are the same). A wrong answer ends it with a message and status 1: figures of failed requests
 * mean nothing.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    REQUESTS_DRAWN = 1 << 17,   /* more than there are keys, so that no cache learns the order */
    CONNECTIONS_MAX = 1024,
    DEPTH_MAX = 1024,
    KEY_BYTES_MAX = 256,        /* both keep a rendered request within REQUEST_BYTES_MAX */
    REQUEST_TEXTS_BYTES_MAX = 512,
    REQUEST_BYTES_MAX = 1024,
    RECEIVE_BYTES = 256 * 1024, /* holds DEPTH_MAX answers of the size the bench asks for */
    SILENCE_MS_MAX = 10000,     /* a server that says nothing for so long has lost a request */
    STEP_BITS = 5,              /* 32 histogram steps for each power of two */
    STEPS = 64 << STEP_BITS,
};

struct settings {
    int port, connections, depth, cpu, server, redis;
    uint64_t seed;
    size_t body_min, body_max;
    const char *keys, *path, *before, *after;
};

struct connection {
    int descriptor;
    int awaited_count;     /* answers still due for the last send */
    size_t next_request;   /* where in the drawn requests the next send begins */
    uint64_t sent_ns;
    size_t bytes_held;
    char *bytes;
};

static struct settings settings = {
    .connections = 32, .depth = 1, .cpu = -1, .seed = 1, .body_min = 1, .body_max = 65536,
    .path = "/get", .before = "{\"key\":\"", .after = "\"}",
};
static struct connection connections[CONNECTIONS_MAX];
static char *requests;        /* every drawn request, one behind the other */
static size_t request_starts[REQUESTS_DRAWN + 1];
static uint64_t step_counts[STEPS];
static uint64_t answer_count; /* of this run */
static uint64_t unsent_count; /* requests of this run yet to be sent */

static void die(const char *what)
{
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void wrong_answer(const char *reason, const char *bytes, size_t bytes_held)
{
    fprintf(stderr, "load: %s: %.*s\n", reason, (int)(bytes_held < 400 ? bytes_held : 400), bytes);
    exit(1);
}

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    if (clock_gettime(clock, &now) != 0)
        die("clock_gettime");
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t own_cpu_ns(void)
{
    return clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}

/* The CPU time of the server process, all threads, kernel included; 0 where none was named. */
static uint64_t server_cpu_ns(void)
{
    clockid_t clock;
    if (settings.server == 0)
        return 0;
    if (clock_getcpuclockid(settings.server, &clock) != 0)
        die("clock_getcpuclockid");
    return clock_ns(clock);
}

/* ---- settings ---- */

static int setting(const char *text, const char *name, const char **value)
{
    size_t name_bytes = strlen(name);
    if (strncmp(text, name, name_bytes) != 0 || text[name_bytes] != '=')
        return 0;
    *value = text + name_bytes + 1;
    return 1;
}

static void read_settings(int argument_count, char **arguments)
{
    const char *value;
    for (int index = 1; index < argument_count; index++) {
        const char *text = arguments[index];
        if (setting(text, "port", &value)) settings.port = atoi(value);
        else if (setting(text, "keys", &value)) settings.keys = value;
        else if (setting(text, "path", &value)) settings.path = value;
        else if (setting(text, "before", &value)) settings.before = value;
        else if (setting(text, "after", &value)) settings.after = value;
        else if (setting(text, "protocol", &value)) settings.redis = strcmp(value, "redis") == 0;
        else if (setting(text, "connections", &value)) settings.connections = atoi(value);
        else if (setting(text, "depth", &value)) settings.depth = atoi(value);
        else if (setting(text, "seed", &value)) settings.seed = strtoull(value, NULL, 10);
        else if (setting(text, "cpu", &value)) settings.cpu = atoi(value);
        else if (setting(text, "server", &value)) settings.server = atoi(value);
        else if (setting(text, "body_min", &value)) settings.body_min = strtoul(value, NULL, 10);
        else if (setting(text, "body_max", &value)) settings.body_max = strtoul(value, NULL, 10);
        else {
            fprintf(stderr, "load: unknown setting %s\n", text);
            exit(2);
        }
    }
    if (settings.port == 0 || settings.keys == NULL || settings.connections < 1
        || settings.connections > CONNECTIONS_MAX || settings.depth < 1
        || settings.depth > DEPTH_MAX) {
        fprintf(stderr, "load: needs port= and keys=; at most %d connections and depth %d\n",
                CONNECTIONS_MAX, DEPTH_MAX);
        exit(2);
    }
}

/* ---- requests ---- */

static uint64_t draw(uint64_t *state) /* splitmix64 */
{
    uint64_t mixed = *state += 0x9e3779b97f4a7c15u;
    mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111ebu;
    return mixed ^ mixed >> 31;
}

static char **read_keys(size_t *key_count)
{
    size_t capacity = 1024, line_capacity = 0;
    char *line = NULL, **keys = malloc(capacity * sizeof *keys);
    ssize_t line_bytes;
    FILE *file = fopen(settings.keys, "r");
    if (file == NULL || keys == NULL)
        die(settings.keys);
    *key_count = 0;
    while ((line_bytes = getline(&line, &line_capacity, file)) > 0) {
        line[--line_bytes] = 0;
        if (line_bytes > KEY_BYTES_MAX) {
            fprintf(stderr, "load: a key of more than %d bytes\n", KEY_BYTES_MAX);
            exit(2);
        }
        if (*key_count == capacity && !(keys = realloc(keys, (capacity *= 2) * sizeof *keys)))
            die("realloc");
        keys[(*key_count)++] = strdup(line);
    }
    fclose(file);
    free(line);
    if (*key_count == 0) {
        fprintf(stderr, "load: no keys in %s\n", settings.keys);
        exit(2);
    }
    return keys;
}

static size_t render(char *out, const char *key)
{
    size_t key_bytes = strlen(key);
    if (settings.redis)
        return (size_t)sprintf(out, "*2\r\n$3\r\nGET\r\n$%zu\r\n%s\r\n", key_bytes, key);
    return (size_t)sprintf(out,
                           "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n"
                           "User-Agent: seafoam-load\r\nAccept: */*\r\n"
                           "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n"
                           "%s%s%s",
                           settings.path, settings.port,
                           key_bytes + strlen(settings.before) + strlen(settings.after),
                           settings.before, key, settings.after);
}

static void render_requests(void)
{
    size_t key_count;
    char **keys = read_keys(&key_count);
    uint64_t state = settings.seed;
    if (strlen(settings.path) + strlen(settings.before) + strlen(settings.after)
        > REQUEST_TEXTS_BYTES_MAX) {
        fprintf(stderr, "load: path, before and after may have %d bytes together\n",
                REQUEST_TEXTS_BYTES_MAX);
        exit(2);
    }
    requests = malloc((size_t)REQUESTS_DRAWN * REQUEST_BYTES_MAX);
    if (requests == NULL)
        die("malloc");
    for (size_t index = 0; index < REQUESTS_DRAWN; index++)
        request_starts[index + 1] =
            request_starts[index]
            + render(requests + request_starts[index], keys[draw(&state) % key_count]);
    for (size_t index = 0; index < key_count; index++)
        free(keys[index]);
    free(keys);
}

/* ---- answers: each returns the whole answer's bytes, 0 while it is not all there ---- */

static void check_body(const char *bytes, size_t bytes_held, size_t body_bytes)
{
    if (body_bytes < settings.body_min || body_bytes > settings.body_max)
        wrong_answer("a body of an unexpected length", bytes, bytes_held);
}

/* Answers look alike, so the places where the last one had its length and its end are tried
 * first; a search follows only where they are not there. The generator's own time is what
 * limits how fast a server it can measure. */
static size_t http_answer_bytes(const char *bytes, size_t bytes_held)
{
    static size_t length_start, head_bytes;
    const char *length;
    size_t body_bytes = 0;
    if (head_bytes == 0 || bytes_held < head_bytes
        || memcmp(bytes + head_bytes - 4, "\r\n\r\n", 4) != 0
        || memcmp(bytes + length_start, "Content-Length: ", 16) != 0) {
        const char *end = memmem(bytes, bytes_held, "\r\n\r\n", 4);
        if (end == NULL)
            return 0;
        head_bytes = (size_t)(end - bytes) + 4;
        length = memmem(bytes, head_bytes, "Content-Length: ", 16);
        if (length == NULL)
            wrong_answer("an answer without a length", bytes, bytes_held);
        length_start = (size_t)(length - bytes);
    }
    if (memcmp(bytes, "HTTP/1.1 200 ", 13) != 0)
        wrong_answer("an answer that is not 200", bytes, bytes_held);
    length = bytes + length_start + 16;
    for (; *length >= '0' && *length <= '9'; length++)
        body_bytes = body_bytes * 10 + (size_t)(*length - '0');
    check_body(bytes, bytes_held, body_bytes);
    return head_bytes + body_bytes <= bytes_held ? head_bytes + body_bytes : 0;
}

static size_t redis_answer_bytes(const char *bytes, size_t bytes_held)
{
    size_t position = 1, body_bytes = 0;
    if (bytes_held < 4)
        return 0;
    if (bytes[0] != '$' || bytes[1] == '-')
        wrong_answer("an answer that is no value", bytes, bytes_held);
    while (position < bytes_held && bytes[position] >= '0' && bytes[position] <= '9')
        body_bytes = body_bytes * 10 + (size_t)(bytes[position++] - '0');
    if (position == bytes_held)
        return 0;
    check_body(bytes, bytes_held, body_bytes);
    return position + body_bytes + 4 <= bytes_held ? position + body_bytes + 4 : 0;
}

/* ---- the histogram ---- */

static size_t step_of(uint64_t ns)
{
    int bits;
    if (ns < 1u << STEP_BITS)
        return ns;
    bits = 63 - __builtin_clzll(ns);
    return ((size_t)(bits - STEP_BITS + 1) << STEP_BITS)
           + (ns >> (bits - STEP_BITS) & ((1u << STEP_BITS) - 1));
}

static uint64_t step_ns(size_t step) /* the middle of a step */
{
    size_t bits = step >> STEP_BITS;
    uint64_t low;
    if (bits == 0)
        return step;
    low = ((1u << STEP_BITS) + (step & ((1u << STEP_BITS) - 1))) << (bits - 1);
    return low + ((uint64_t)1 << (bits - 1)) / 2;
}

static uint64_t percentile_ns(double share)
{
    uint64_t seen = 0, wanted = (uint64_t)((double)answer_count * share);
    for (size_t step = 0; step < STEPS; step++)
        if ((seen += step_counts[step]) > wanted)
            return step_ns(step);
    return 0;
}

/* ---- the loop ---- */

static void send_batch(struct connection *connection, uint64_t now_ns)
{
    if (unsent_count == 0)
        return;
    unsent_count -= (uint64_t)settings.depth;
    size_t first = connection->next_request, depth = (size_t)settings.depth;
    if (first + depth > REQUESTS_DRAWN)
        first = 0;
    size_t batch_bytes = request_starts[first + depth] - request_starts[first];
    connection->sent_ns = now_ns;
    connection->awaited_count = settings.depth;
    connection->next_request = first + depth;
    if (send(connection->descriptor, requests + request_starts[first], batch_bytes, MSG_NOSIGNAL)
        != (ssize_t)batch_bytes)
        die("send");
}

static void receive(struct connection *connection)
{
    size_t taken_bytes = 0, whole_bytes;
    ssize_t count = recv(connection->descriptor, connection->bytes + connection->bytes_held,
                         RECEIVE_BYTES - connection->bytes_held, 0);
    uint64_t now_ns = clock_ns(CLOCK_MONOTONIC);
    int done_count = 0;
    if (count < 0 && errno == EAGAIN)
        return;
    if (count <= 0) {
        fprintf(stderr, "load: the server closed a connection\n");
        exit(1);
    }
    connection->bytes_held += (size_t)count;
    while (taken_bytes < connection->bytes_held) {
        const char *front = connection->bytes + taken_bytes;
        size_t left_bytes = connection->bytes_held - taken_bytes;
        whole_bytes = settings.redis ? redis_answer_bytes(front, left_bytes)
                                     : http_answer_bytes(front, left_bytes);
        if (whole_bytes == 0)
            break;
        taken_bytes += whole_bytes;
        done_count++;
    }
    connection->bytes_held -= taken_bytes;
    if (connection->bytes_held != 0)
        memmove(connection->bytes, connection->bytes + taken_bytes, connection->bytes_held);
    if (done_count > connection->awaited_count)
        wrong_answer("more answers than requests", connection->bytes, connection->bytes_held);
    connection->awaited_count -= done_count;
    answer_count += (uint64_t)done_count;
    step_counts[step_of(now_ns - connection->sent_ns)] += (uint64_t)done_count;
    if (connection->awaited_count == 0)
        send_batch(connection, now_ns);
}

static double share(uint64_t part_ns, uint64_t whole_ns)
{
    return (double)part_ns / (double)whole_ns;
}

/* Sends and awaits so many requests (rounded up to whole batches) and prints the figures. */
static void run(int poller, uint64_t request_count)
{
    struct epoll_event events[CONNECTIONS_MAX];
    uint64_t depth = (uint64_t)settings.depth;
    uint64_t start_server_ns = server_cpu_ns(), start_cpu_ns = own_cpu_ns();
    uint64_t start_ns = clock_ns(CLOCK_MONOTONIC), wall_ns, cpu_ns, server_ns;
    memset(step_counts, 0, sizeof step_counts);
    answer_count = 0;
    request_count = unsent_count = (request_count + depth - 1) / depth * depth;
    for (int index = 0; index < settings.connections; index++)
        send_batch(&connections[index], clock_ns(CLOCK_MONOTONIC));
    while (answer_count < request_count) {
        int event_count = epoll_wait(poller, events, CONNECTIONS_MAX, SILENCE_MS_MAX);
        if (event_count < 0 && errno != EINTR)
            die("epoll_wait");
        if (event_count == 0)
            wrong_answer("no answer for too long", "", 0);
        for (int index = 0; index < event_count; index++)
            receive(events[index].data.ptr);
    }
    wall_ns = clock_ns(CLOCK_MONOTONIC) - start_ns;
    cpu_ns = own_cpu_ns() - start_cpu_ns;
    server_ns = server_cpu_ns() - start_server_ns;
    printf("{\"requests\":%llu,\"seconds\":%.6f,\"p50_ns\":%llu,\"p99_ns\":%llu,"
           "\"p999_ns\":%llu,\"own_share\":%.4f,\"server_share\":%.4f,"
           "\"server_ns_per_request\":%.1f}\n",
           (unsigned long long)answer_count, (double)wall_ns / 1e9,
           (unsigned long long)percentile_ns(0.5), (unsigned long long)percentile_ns(0.99),
           (unsigned long long)percentile_ns(0.999), share(cpu_ns, wall_ns),
           share(server_ns, wall_ns), share(server_ns, answer_count));
    fflush(stdout);
}

static int connect_all(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(settings.port)};
    int one = 1, poller = epoll_create1(0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (int index = 0; index < settings.connections; index++) {
        struct connection *connection = &connections[index];
        struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = connection};
        connection->descriptor = socket(AF_INET, SOCK_STREAM, 0);
        connection->bytes = malloc(RECEIVE_BYTES);
        connection->next_request =
            (size_t)REQUESTS_DRAWN / (size_t)settings.connections * (size_t)index;
        if (connection->descriptor < 0 || connection->bytes == NULL
            || connect(connection->descriptor, (struct sockaddr *)&address, sizeof address) != 0)
            die("connect");
        setsockopt(connection->descriptor, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        setsockopt(connection->descriptor, IPPROTO_TCP, TCP_CONGESTION, "reno", 4);
        if (epoll_ctl(poller, EPOLL_CTL_ADD, connection->descriptor, &event) != 0)
            die("epoll_ctl");
    }
    return poller;
}

static void pin(void)
{
    cpu_set_t cpus;
    if (settings.cpu < 0)
        return;
    CPU_ZERO(&cpus);
    CPU_SET((size_t)settings.cpu, &cpus);
    if (sched_setaffinity(0, sizeof cpus, &cpus) != 0)
        die("sched_setaffinity");
}

int main(int argument_count, char **arguments)
{
    char line[64];
    int poller;
    read_settings(argument_count, arguments);
    pin();
    render_requests();
    poller = connect_all();
    puts("ready");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin) != NULL) {
        uint64_t request_count = strtoull(line, NULL, 10);
        if (request_count == 0) {
            fprintf(stderr, "load: each line of input is a number of requests\n");
            return 2;
        }
        run(poller, request_count);
    }
    return 0;
}
