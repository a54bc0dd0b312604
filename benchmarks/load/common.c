/* common.c -- what the load client and the C echo servers share. */
#include "common.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { BACKLOG = 1024, DATAGRAM_BUFFER = 4 << 20 };

void
die(const char *format, ...)
{
    int error = errno;
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    if (error != 0) {
        fprintf(stderr, ": %s", strerror(error));
    }
    fputc('\n', stderr);
    exit(1);
}

uint64_t
now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void
raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

void *
allocate(uint64_t count, uint64_t size)
{
    void *memory = calloc(count, size);
    if (memory == NULL) {
        die("out of memory");
    }
    return memory;
}

Text
read_file(const char *path)
{
    enum { LARGEST = 1 << 26 };
    FILE *file = fopen(path, "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) < 0) {
        die("%s", path);
    }
    long size = ftell(file);
    if (size <= 0 || size > LARGEST) {
        errno = 0;
        die("%s: empty or too large", path);
    }
    Text text = {allocate(1, (uint64_t)size), (size_t)size};
    rewind(file);
    if (fread(text.data, 1, text.size, file) != text.size) {
        die("%s", path);
    }
    fclose(file);
    return text;
}

void
set_nonblocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
        die("fcntl");
    }
}

static void
bind_unix(int fd, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(address.sun_path)) {
        errno = 0;
        die("path too long: %s", path);
    }
    strcpy(address.sun_path, path);
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        die("bind %s", path);
    }
}

static void
bind_loopback(int fd)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        die("bind");
    }
}

int
bound_socket(const char *kind, const char *path)
{
    bool datagram = strcmp(kind, "udp") == 0;
    bool local = strcmp(kind, "unix") == 0;
    int type = datagram ? SOCK_DGRAM : SOCK_STREAM;
    int fd = socket(local ? AF_UNIX : AF_INET, type, 0);
    if (fd < 0) {
        die("socket");
    }
    if (local) {
        bind_unix(fd, path);
    }
    else {
        bind_loopback(fd);
    }
    if (datagram) {
        int room = DATAGRAM_BUFFER;
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
    }
    else if (listen(fd, BACKLOG) < 0) {
        die("listen");
    }
    set_nonblocking(fd);
    return fd;
}

void
announce(int listener)
{
    struct sockaddr_in address = {.sin_family = AF_UNSPEC};
    socklen_t length = sizeof(address);
    getsockname(listener, (struct sockaddr *)&address, &length);
    int port = address.sin_family == AF_INET ? ntohs(address.sin_port) : 0;
    printf("{\"port\": %d}\n", port);
    fflush(stdout);
}

static double
seconds(struct timeval value)
{
    return (double)value.tv_sec + (double)value.tv_usec / 1e6;
}

bool
control_answer(void)
{
    char line[16];
    if (read(STDIN_FILENO, line, sizeof(line)) <= 0) {
        return false;
    }
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    printf("{\"user\": %.6f, \"system\": %.6f, \"wall\": %.9f, "
           "\"minor_faults\": %ld, \"voluntary\": %ld, \"involuntary\": %ld, "
           "\"max_rss_kib\": %ld}\n",
           seconds(used.ru_utime), seconds(used.ru_stime),
           (double)now_ns() / 1e9, used.ru_minflt, used.ru_nvcsw,
           used.ru_nivcsw, used.ru_maxrss);
    fflush(stdout);
    return true;
}
