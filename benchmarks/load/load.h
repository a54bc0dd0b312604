/* load.h -- one run of the load client, and the drivers that know what a message is. */
#ifndef LOAD_LOAD_H
#define LOAD_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common.h"
#include "histogram.h"
#include "options.h"

enum { INBOX_SIZE = 1 << 18, STALL_MS = 10000 };

typedef struct {
    int fd;
    void *tls;           /* OpenSSL's side of it, or NULL */
    bool waits_to_write; /* epoll watches for room to write */
    uint32_t in_flight;
    uint32_t oldest;   /* stream: where in sent_at the next reply's time is */
    uint64_t *sent_at; /* stream: a ring of `depth` times */
    /* datagram: the last send or reply; connect: the start */
    uint64_t active_at;
    /* datagram: what was sent before then counts as lost */
    uint64_t given_up_at;
    size_t unsent;   /* stream: bytes issued and not yet written */
    size_t write_at; /* stream: position in the message of the next byte out */
    size_t read_at;  /* stream: position in the message of the next byte in */
} Connection;

typedef struct Load Load;

typedef struct {
    void (*open)(Load *load, Connection *connection);
    /* Issue the first messages of a stretch. */
    void (*start)(Load *load, Connection *connection);
    void (*on_event)(Load *load, Connection *connection, uint32_t events);
    /* Called now and then; NULL where nothing can get lost. */
    void (*sweep)(Load *load);
} Driver;

struct Load {
    Options options;
    const Driver *driver;
    int epoll_fd;
    Connection *connections;
    char *outbox; /* `depth` copies of the message, to leave in one write */
    Text hello;   /* what opens a connection, or nothing */
    Text reply;   /* what a reply looks like, or nothing for an echo */
    size_t reply_size;
    char *inbox; /* INBOX_SIZE bytes */
    uint64_t now;
    uint64_t deadline; /* of the stretch */
    uint64_t limit;    /* messages of the stretch */
    uint64_t issued;
    uint64_t completed;
    uint64_t lost;
    double rate; /* messages per second; 0 for as many as the server answers */
    int turn;    /* paced: the connection that is asked next */
    bool checking; /* compare what comes back with what was sent */
    Histogram latency;
};

extern const Driver STREAM_DRIVER;
extern const Driver DATAGRAM_DRIVER;
extern const Driver CONNECT_DRIVER;

/* May another message be issued in this stretch? */
bool load_may_issue(const Load *load);

/* Record a reply to a message sent at `sent_at`. */
void load_complete(Load *load, uint64_t sent_at);

/* Wait for events, for so many milliseconds at most, and handle them. The number
 * of events. */
int load_poll(Load *load, int timeout);

/* Load the server at load->rate for a stretch, and wait for all replies. */
void pace_stretch(Load *load, uint64_t began, double seconds);

/* A connected socket, still blocking. */
int load_connect(const Load *load);

/* Add the connection to the epoll set, or change what is watched. */
void load_watch(Load *load, Connection *connection, uint32_t events);
void load_rewatch(Load *load, Connection *connection, uint32_t events);

/* TLS over a connected blocking socket. read and write return what recv and send
 * would: -1 with EAGAIN when the socket must be waited for. */
bool tls_available(void);
void *tls_open(int fd);
ssize_t tls_read(void *tls, void *buffer, size_t size);
ssize_t tls_write(void *tls, const void *buffer, size_t size);

#endif
