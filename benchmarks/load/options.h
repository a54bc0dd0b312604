/* options.h -- the command line of the load client. */
#ifndef LOAD_OPTIONS_H
#define LOAD_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum { LOAD_ECHO, LOAD_DATAGRAM, LOAD_CONNECT } Mode;

typedef struct {
    Mode mode;
    int port; /* on 127.0.0.1, unless unix_path is set */
    const char *unix_path;
    bool tls;
    /* A conversation of its own, each as the name of a file: what opens a
     * connection, to be answered by headers that end in an empty line; the
     * message; and a reply, whose length and beginning every reply has. */
    const char *hello;
    const char *message;
    const char *reply;
    int connections;
    size_t size;       /* bytes in a message */
    uint32_t depth;    /* messages in flight on one connection */
    double warmup;     /* seconds before what is measured */
    double seconds;    /* longest time of a stretch */
    uint64_t messages; /* most messages of a stretch */
} Options;

/* Die with one line of explanation when the command line makes no sense. */
Options options_parse(int argc, char **argv);

#endif
