/* tls.h -- the hot path of asyncio's TLS: records in, records out. */
#ifndef AF_IO_TLS_H
#define AF_IO_TLS_H

#include "io/feed.h"

/* The base of asyncfast.tls.SSLProtocol. Its fields are the attributes of that
 * name (with an underscore), which asyncio's own methods read and write, so
 * both work on one state. None of them is ever NULL in a living object. */
typedef struct {
    PyObject_HEAD
    AfState *state;
    PyObject *module;           /* owned: methods need its state */
    PyObject *engine;           /* owned; has read() and write(), or is None */
    PyObject *anchor;           /* owned; `direct` is inside it, or NULL */
    PyObject *wrapped;          /* owned; `phase` while data may flow */
    PyObject *again;            /* owned; a tuple of exceptions: try later */
    PyObject *phase;            /* owned; _state */
    PyObject *transport;        /* owned */
    PyObject *app_protocol;     /* owned */
    PyObject *app_is_buffer;    /* owned; _app_protocol_is_buffer */
    PyObject *incoming;         /* owned */
    PyObject *outgoing;         /* owned */
    PyObject *write_backlog;    /* owned */
    PyObject *write_size;       /* owned; _write_buffer_size */
    PyObject *ssl_write_paused; /* owned; _ssl_writing_paused */
    PyObject *ssl_read_paused;  /* owned; _ssl_reading_paused */
    PyObject *app_write_paused; /* owned; _app_writing_paused */
    PyObject *app_read_paused;  /* owned; _app_reading_paused */
    PyObject *outgoing_high;    /* owned; _outgoing_high_water */
    PyObject *incoming_high;    /* owned; _incoming_high_water */
    AfSsl direct;
    Py_ssize_t held; /* no more bytes than this wait to be decrypted */
    bool single;     /* and they are one whole record */
    AfFed fed;
} AfTls;

/* asyncio's buffer_updated(), with the data at hand. Runs Python code.
 * 0, or -1 with an exception. */
int af_tls_received(AfTls *self, char *data, Py_ssize_t size);

int af_tls_init_type(PyObject *module);

/* For the files that make up the protocol. */

/* transport.write(data) of what isn't empty, where af_tls_is_open().
 * 0, or -1 with an exception. */
int af_tls_write(AfTls *self, PyObject *data);

/* transport.writelines() of a list or tuple of nothing but bytes; likewise. */
int af_tls_write_pieces(AfTls *self, PyObject *pieces);

/* 1 if the handshake is over, nothing has ended yet and nothing waits to be
 * encrypted: what the C code is for. 0, or -1 with an exception. */
int af_tls_is_open(AfTls *self);

/* Send what was encrypted. 0, or -1 with an exception. */
int af_tls_flush(AfTls *self);

/* The bytes that came and that nobody read yet; -1 with an exception. */
Py_ssize_t af_tls_pending(AfTls *self);

/* True if a size is below a water mark and the other side isn't paused: nothing
 * is to be done. */
bool af_tls_is_calm(Py_ssize_t size, PyObject *high, PyObject *paused);

/* Call a method of the protocol that takes nothing and returns nothing.
 * 0, or -1 with an exception. */
int af_tls_call(AfTls *self, PyObject *name);

/* Give the connection up because of the current exception, unless that leaves
 * the callback. 0, or -1 with an exception. */
int af_tls_fail(AfTls *self);

/* Methods in tls_read.c. */
PyObject *af_tls_do_read(PyObject *self, PyObject *ignored);

#endif
