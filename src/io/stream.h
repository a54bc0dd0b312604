/* stream.h -- stream transport over a TCP or Unix socket. */
#ifndef AF_IO_STREAM_H
#define AF_IO_STREAM_H

#include "io/feed.h"
#include "io/transport.h"

typedef struct {
    AfTransport base;
    PyObject *empty_waiter; /* owned; told when the write buffer is empty */
    bool buffered;          /* the protocol is a BufferedProtocol */
    bool tls;               /* the protocol is an AfTls */
    bool eof;               /* write_eof was called */
    bool large;             /* in the last turn more came than fits scratch */
    uint32_t came;          /* bytes that came in this turn */
    AfFed fed;
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

/* stream_read.c: the socket is readable. 0, or -1 with an exception that
 * leaves the loop. */
int af_stream_read(AfStream *self);

/* stream_write.c: the socket is writable; likewise. */
int af_stream_flush(AfStream *self);

/* Methods of the transport in stream_write.c. */
PyObject *af_stream_write(PyObject *self, PyObject *data);
PyObject *af_stream_writelines(PyObject *self, PyObject *pieces);
PyObject *af_stream_write_eof(PyObject *self, PyObject *ignored);
PyObject *af_stream_make_empty_waiter(PyObject *self, PyObject *ignored);
PyObject *af_stream_reset_empty_waiter(PyObject *self, PyObject *ignored);

#endif
