/* common.h -- what the load client and the C echo servers share. */
#ifndef LOAD_COMMON_H
#define LOAD_COMMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    char *data;
    size_t size;
} Text;

/* Print the message, and errno's text where errno is set; exit with 1. */
void die(const char *format, ...)
    __attribute__((noreturn, format(printf, 1, 2)));

/* Monotonic time in nanoseconds. */
uint64_t now_ns(void);

/* Raise the soft limit on descriptors to the hard one: a thousand connections
 * do not fit into the 1024 that many systems start with. */
void raise_descriptor_limit(void);

/* Allocate zeroed memory or die. */
void *allocate(uint64_t count, uint64_t size);

/* The contents of a file. */
Text read_file(const char *path);

void set_nonblocking(int fd);

/* A bound socket, listening unless it is for datagrams. `kind` is "tcp", "udp"
 * or "unix"; `path` matters for "unix" only. */
int bound_socket(const char *kind, const char *path);

/* Tell the harness, in one line of JSON, that the server is up. */
void announce(int listener);

/* Answer one line from the harness with what this process has used so far.
 * Returns false when the harness has closed its end. */
bool control_answer(void);

#endif
