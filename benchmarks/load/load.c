/* load.c -- a load client: N connections, each with D messages in flight.
 *
 * It is written in C because a client in Python would be the thing measured. After
 * a warm-up it prints {"phase": "warm"}, and then loads the server for a stretch
 * each time that it reads a line, until its input ends; at a rate, if the line names
 * one in messages per second (pace.c). Between stretches nothing is in flight, so that
 * the harness can read the server's CPU clock with no message half served. It reports
 * each stretch in a line of JSON. */
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "common.h"

enum { EVENTS = 256, SWEEP_MS = 50, LOOPBACK_SOURCES = 32 };

bool
load_may_issue(const Load *load)
{
    return load->issued < load->limit && load->now < load->deadline;
}

void
load_complete(Load *load, uint64_t sent_at)
{
    load->completed++;
    histogram_add(&load->latency, load->now - sent_at);
}

static void
watch(Load *load, Connection *connection, uint32_t events, int operation)
{
    struct epoll_event event = {.events = events, .data.ptr = connection};
    if (epoll_ctl(load->epoll_fd, operation, connection->fd, &event) < 0) {
        die("epoll_ctl");
    }
}

void
load_watch(Load *load, Connection *connection, uint32_t events)
{
    watch(load, connection, events, EPOLL_CTL_ADD);
}

void
load_rewatch(Load *load, Connection *connection, uint32_t events)
{
    watch(load, connection, events, EPOLL_CTL_MOD);
}

static int
connect_unix(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    if (fd < 0
        || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        die("connect to %s", path);
    }
    return fd;
}

/* Short connections leave their port in TIME_WAIT, and one source address has only
 * some 28,000 ports: take the source addresses of 127/8 in turn. */
static void
bind_source(int fd)
{
    static uint32_t turn;
    int one = 1;
    struct sockaddr_in source = {
        .sin_family = AF_INET,
        .sin_addr.s_addr =
            htonl(INADDR_LOOPBACK + 1 + turn++ % LOOPBACK_SOURCES),
    };
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
    if (bind(fd, (struct sockaddr *)&source, sizeof(source)) < 0) {
        die("bind");
    }
}

static int
connect_inet(const Options *options)
{
    int one = 1;
    bool datagram = options->mode == LOAD_DATAGRAM;
    int fd = socket(AF_INET, datagram ? SOCK_DGRAM : SOCK_STREAM, 0);
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)options->port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    if (fd < 0) {
        die("socket");
    }
    if (options->mode == LOAD_CONNECT) {
        bind_source(fd);
    }
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        die("connect to port %d", options->port);
    }
    if (!datagram) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    }
    return fd;
}

int
load_connect(const Load *load)
{
    const char *path = load->options.unix_path;
    return path ? connect_unix(path) : connect_inet(&load->options);
}

static void
handle_events(Load *load, const struct epoll_event *events, int count)
{
    for (int i = 0; i < count; i++) {
        /* Each its own time: a batch of large messages takes milliseconds. */
        load->now = now_ns();
        load->driver->on_event(load, events[i].data.ptr, events[i].events);
    }
}

int
load_poll(Load *load, int timeout)
{
    struct epoll_event events[EVENTS];
    int count = epoll_wait(load->epoll_fd, events, EVENTS, timeout);
    if (count < 0 && errno != EINTR) {
        die("epoll_wait");
    }
    load->now = now_ns();
    handle_events(load, events, count);
    return count;
}

static void
turn(Load *load, uint64_t *next_sweep)
{
    int timeout = load->driver->sweep ? SWEEP_MS : STALL_MS;
    int count = load_poll(load, timeout);
    if (count == 0 && timeout == STALL_MS) {
        errno = 0;
        die("no reply for %d seconds, %lu of %lu messages answered",
            STALL_MS / 1000, (unsigned long)load->completed,
            (unsigned long)load->issued);
    }
    if (load->driver->sweep && load->now >= *next_sweep) {
        load->driver->sweep(load);
        *next_sweep = load->now + SWEEP_MS * 1000000u;
    }
}

/* As much as the server takes. */
static void
flood_stretch(Load *load, uint64_t began, double seconds, uint64_t messages)
{
    uint64_t next_sweep = 0;
    load->limit = messages;
    load->deadline = began + (uint64_t)(seconds * 1e9);
    for (int i = 0; i < load->options.connections; i++) {
        load->driver->start(load, &load->connections[i]);
    }
    while (load->completed + load->lost < load->issued) {
        turn(load, &next_sweep);
    }
}

/* Load the server and let it drain; returns how many seconds that took. */
static double
run_stretch(Load *load, double seconds, uint64_t messages)
{
    uint64_t began = now_ns();
    load->issued = load->completed = load->lost = 0;
    load->now = began;
    if (load->rate > 0) {
        pace_stretch(load, began, seconds);
    }
    else {
        flood_stretch(load, began, seconds, messages);
    }
    return (double)(now_ns() - began) / 1e9;
}

static double
cpu_seconds(void)
{
    struct timespec used;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (double)used.tv_sec + (double)used.tv_nsec / 1e9;
}

static void
warm_up(Load *load)
{
    load->checking = true;
    run_stretch(load, load->options.warmup, UINT64_MAX);
    load->checking = false;
    memset(&load->latency, 0, sizeof(load->latency));
    printf("{\"phase\": \"warm\"}\n");
    fflush(stdout);
}

/* A line may name the rate of the next stretch, which then has latencies of its own:
 * what the machine does to one of them is not to show in the others. */
static bool
told_to_go_on(Load *load)
{
    char line[32];
    ssize_t length = read(STDIN_FILENO, line, sizeof(line) - 1);
    if (length <= 0) {
        return false;
    }
    line[length] = '\0';
    double rate = strtod(line, NULL);
    if (rate > 0) {
        load->rate = rate;
        memset(&load->latency, 0, sizeof(load->latency));
    }
    return true;
}

static double
microseconds(const Load *load, double share)
{
    return (double)histogram_percentile(&load->latency, share) / 1e3;
}

/* Latency is that of all stretches so far; of the last one at a given rate. */
static void
report(const Load *load, double seconds, double cpu)
{
    const Histogram *latency = &load->latency;
    double mean =
        latency->total ? (double)latency->sum / (double)latency->total : 0;
    printf("{\"messages\": %lu, \"seconds\": %.9f, \"lost\": %lu, "
           "\"client_cpu_seconds\": %.9f, \"latency_us\": {\"p50\": %.3f, "
           "\"p99\": %.3f, \"p99.9\": %.3f, \"max\": %.3f, \"mean\": %.3f}}\n",
           (unsigned long)load->completed, seconds, (unsigned long)load->lost,
           cpu, microseconds(load, 0.5), microseconds(load, 0.99),
           microseconds(load, 0.999), (double)latency->largest / 1e3,
           mean / 1e3);
    fflush(stdout);
}

static void
fill_message(Load *load)
{
    size_t size = load->options.size;
    for (size_t i = 0; i < size * load->options.depth; i++) {
        size_t position = i % size;
        load->outbox[i] = (char)(position * 131 + (position >> 8));
    }
}

/* What is said is what the files hold, or else a message that is echoed. */
static void
prepare_messages(Load *load)
{
    Options *options = &load->options;
    Text message = {0};
    if (options->hello) {
        load->hello = read_file(options->hello);
    }
    if (options->message) {
        message = read_file(options->message);
        load->reply = read_file(options->reply);
        options->size = message.size;
    }
    load->reply_size = load->reply.data ? load->reply.size : options->size;
    load->outbox = allocate(options->depth, options->size);
    fill_message(load);
    for (uint32_t i = 0; message.data && i < options->depth; i++) {
        memcpy(load->outbox + i * message.size, message.data, message.size);
    }
    free(message.data);
}

static const Driver *
driver_for(const Options *options)
{
    switch (options->mode) {
    case LOAD_DATAGRAM:
        return &DATAGRAM_DRIVER;
    case LOAD_CONNECT:
        return &CONNECT_DRIVER;
    default:
        return &STREAM_DRIVER;
    }
}

static void
load_open(Load *load)
{
    const Options *options = &load->options;
    if (options->tls && !tls_available()) {
        errno = 0;
        die("built without OpenSSL");
    }
    load->driver = driver_for(options);
    load->epoll_fd = epoll_create1(0);
    load->inbox = allocate(1, INBOX_SIZE);
    load->connections =
        allocate((uint64_t)options->connections, sizeof(Connection));
    prepare_messages(load);
    for (int i = 0; i < options->connections; i++) {
        load->driver->open(load, &load->connections[i]);
    }
}

int
main(int argc, char **argv)
{
    static Load load;
    load.options = options_parse(argc, argv);
    raise_descriptor_limit();
    load_open(&load);
    warm_up(&load);
    while (told_to_go_on(&load)) {
        double cpu = cpu_seconds();
        double seconds =
            run_stretch(&load, load.options.seconds, load.options.messages);
        report(&load, seconds, cpu_seconds() - cpu);
    }
    return 0;
}
