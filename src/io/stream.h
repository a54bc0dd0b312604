/* stream.h -- stream transport over a TCP or Unix socket. */
#ifndef AF_IO_STREAM_H
#define AF_IO_STREAM_H

#include "core/loop.h"
#include "io/flow.h"

typedef struct {
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
    PyObject *empty_waiter; /* owned; told when the write buffer is empty */
    AfWatch watch;
    AfFlow flow;
    int fd;        /* stays when the socket is closed, for the repr */
    int conn_lost; /* counts writes after the connection was lost */
    bool buffered; /* the protocol is a BufferedProtocol */
    bool closing;
    bool reading_paused;
    bool eof; /* write_eof was called */
} AfStream;

/* A new transport over a connected, non-blocking socket; connection_made is
 * scheduled. `waiter`, `extra`, `server` and `context` may be NULL.
 * NULL with an exception; the socket is the caller's then. */
PyObject *af_stream_new(AfLoop *loop, PyObject *sock, PyObject *protocol,
                        PyObject *waiter, PyObject *extra, PyObject *server,
                        PyObject *context);

/* Methods of the loop. */
PyObject *af_stream_make(PyObject *self, PyObject *const *args,
                         Py_ssize_t nargs, PyObject *kwnames);

int af_stream_init_type(PyObject *module);

/* For the files that make up the transport. */

/* Give the connection up because of the current exception, which the
 * exception handler gets with `message` unless it is an OSError.
 * 0, or -1 with an exception that leaves the loop. */
int af_stream_fatal(AfStream *self, const char *message);

/* Drop what is unsent and schedule connection_lost(exc), once.
 * 0, or -1 with an exception. */
int af_stream_force_close(AfStream *self, PyObject *exc);

/* Call connection_lost(exc) now, and close. 0, or -1 with an exception. */
int af_stream_lose(AfStream *self, PyObject *exc);

/* Tell the server, if there is one, that this connection is over; once.
 * 0, or -1 with an exception. */
int af_stream_detach_server(AfStream *self);

/* Add or withdraw one event. 0, or -1 with OSError. */
int af_stream_want(AfStream *self, int event, bool on);

/* stream_read.c: the socket is readable. 0, or -1 with an exception that
 * leaves the loop. */
int af_stream_read(AfStream *self);

/* stream_write.c: the socket is writable; likewise. */
int af_stream_flush(AfStream *self);

/* Call pause_writing if the buffer is above its high mark; likewise. */
int af_stream_maybe_pause(AfStream *self);

/* Methods of the transport in stream_close.c. */
void af_stream_finalize(PyObject *self);
PyObject *af_stream_close(PyObject *self, PyObject *ignored);
PyObject *af_stream_abort(PyObject *self, PyObject *ignored);
PyObject *af_stream_force_close_method(PyObject *self, PyObject *exc);
PyObject *af_stream_fatal_error(PyObject *self, PyObject *args);
PyObject *af_stream_call_connection_lost(PyObject *self, PyObject *exc);

/* Methods of the transport in stream_write.c. */
PyObject *af_stream_write(PyObject *self, PyObject *data);
PyObject *af_stream_writelines(PyObject *self, PyObject *pieces);
PyObject *af_stream_write_eof(PyObject *self, PyObject *ignored);
PyObject *af_stream_set_limits(PyObject *self, PyObject *const *args,
                               Py_ssize_t nargs, PyObject *kwnames);
PyObject *af_stream_get_limits(PyObject *self, PyObject *ignored);
PyObject *af_stream_buffer_size(PyObject *self, PyObject *ignored);
PyObject *af_stream_make_empty_waiter(PyObject *self, PyObject *ignored);
PyObject *af_stream_reset_empty_waiter(PyObject *self, PyObject *ignored);

#endif
