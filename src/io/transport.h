/* transport.h -- what every transport over a socket is made of. */
#ifndef AF_IO_TRANSPORT_H
#define AF_IO_TRANSPORT_H

#include "core/loop.h"
#include "io/flow.h"

#include <errno.h>
#include <sys/socket.h>

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0
#endif

typedef struct AfTransport AfTransport;

/* The events of a transport's descriptor, in their turn among the callbacks.
 * 0, or -1 with an exception that leaves the loop. */
typedef int (*AfTransportReady)(AfTransport *self, int events);

struct AfTransport {
    PyObject_HEAD
    PyObject *extra;     /* owned; asyncio.BaseTransport's only slot */
    PyObject *unused[4]; /* borrowed: the slots of asyncio's _FlowControlMixin,
                            the class that loop.sendfile asks for; never set */
    PyObject *dict;      /* owned */
    PyObject *weakrefs;  /* borrowed: managed by weakref */
    AfLoop *loop;        /* owned */
    PyObject *sock;      /* owned; NULL once closed */
    PyObject *protocol;  /* owned; NULL once the connection is lost */
    PyObject *server;    /* owned; NULL for a client's connection */
    PyObject *context;   /* owned; every callback of the protocol runs in it */
    PyObject *waiter;    /* owned; told when the connection was made */
    AfTransportReady ready;
    AfWatch watch;
    AfFlow flow;
    int pending;     /* events that wait for their turn */
    const int *live; /* borrowed: inside the socket, see af_transport_fd */
    int fd;          /* stays when the socket is closed, for the repr */
    int conn_lost;   /* counts writes after the connection was lost */
    bool closing;
    bool reading_paused;
    bool held;         /* the buffer waits for the batch's end: see io/hold.h */
    bool gathers;      /* it was written to more than once when last written */
    uint32_t wrote_in; /* the part of a batch in which it was last written */
    uint32_t writes;   /* how often, in that part */
};

/* A blank transport of `type`, whose struct begins with an AfTransport.
 * `extra` and `context` may be NULL. NULL with an exception. */
AfTransport *af_transport_alloc(AfLoop *loop, PyTypeObject *type,
                                AfTransportReady ready, PyObject *extra,
                                PyObject *context);

/* Take charge of the socket's descriptor; the socket stays the caller's until
 * af_transport_start. 0, or -1 with an exception. */
int af_transport_open(AfTransport *self, PyObject *sock);

/* Schedule connection_made, then reading, then the waiter's result; the socket
 * is the transport's from now on. 0, or -1 with an exception. */
int af_transport_start(AfTransport *self, PyObject *sock);

/* Drop a transport that could not be made; keeps the current exception. */
void af_transport_abandon(AfTransport *self);

/* For the types derived from this one. */
int af_transport_traverse(PyObject *op, visitproc visit, void *arg);
int af_transport_clear(PyObject *op);
void af_transport_dealloc(PyObject *op);

/* What `live` shows of a transport without a socket. */
extern const int af_transport_closed_fd;

/* Undo pause_reading. 0, or -1 with an exception. */
int af_transport_resume_reading(AfTransport *self);

/* Add or withdraw one event. 0, or -1 with OSError. */
int af_transport_want(AfTransport *self, int event, bool on);

/* Send what the socket takes of the buffer; what af_flow_send returns. */
ssize_t af_transport_send_flow(AfTransport *self);

/* Call pause_writing if the buffer is above its high mark, resume_writing if
 * it is at its low mark again. 0, or -1 with an exception that leaves the
 * loop. */
int af_transport_maybe_pause(AfTransport *self);
int af_transport_maybe_resume(AfTransport *self);

/* 1 if the connection is lost: the write is counted, and logged if there were
 * many. 0, or -1 with an exception. */
int af_transport_write_lost(AfTransport *self);

/* Give the transport up because of the current exception, which the exception
 * handler gets with `message` unless it is an OSError.
 * 0, or -1 with an exception that leaves the loop. */
int af_transport_fatal(AfTransport *self, const char *message);

/* Report the current exception as that of a callback without a caller;
 * likewise. */
int af_transport_report(AfTransport *self);

/* Drop what is unsent and schedule connection_lost(exc), once.
 * 0, or -1 with an exception. */
int af_transport_force_close(AfTransport *self, PyObject *exc);

/* Call connection_lost(exc) now, and close. 0, or -1 with an exception. */
int af_transport_lose(AfTransport *self, PyObject *exc);

/* Call _attach or _detach of a server. 0, or -1 with an exception. */
int af_transport_tell_server(AfTransport *self, PyObject *server,
                             PyObject *method);

/* loop._clients_of(server): a new list of its open transports. */
PyObject *af_transport_list_clients(PyObject *op, PyObject *server);

/* Tell the server, if there is one, that this connection is over; once.
 * 0, or -1 with an exception. */
int af_transport_detach_server(AfTransport *self);

int af_transport_init_type(PyObject *module);

/* Methods of the transport in transport_close.c. */
void af_transport_finalize(PyObject *self);
PyObject *af_transport_close(PyObject *self, PyObject *ignored);
PyObject *af_transport_abort(PyObject *self, PyObject *ignored);
PyObject *af_transport_force_close_method(PyObject *self, PyObject *exc);
PyObject *af_transport_fatal_error(PyObject *self, PyObject *args);
PyObject *af_transport_call_connection_lost(PyObject *self, PyObject *exc);

static inline bool
af_transport_reads(const AfTransport *self)
{
    return !self->closing && !self->reading_paused;
}

/* The descriptor to send and receive on. It is what the socket object itself
 * has, -1 from the moment that anybody closes it: its number may be another
 * connection's by then. */
static inline int
af_transport_fd(const AfTransport *self)
{
    return *self->live;
}

/* For an errno value: nothing happened yet, try again when ready. */
static inline bool
af_transport_would_block(int code)
{
    return code == EAGAIN || code == EWOULDBLOCK || code == EINTR;
}

#endif
