/* stream_read.c -- stream transport: from the socket to the protocol. */
#include "io/stream.h"

#include "base/error.h"
#include "io/feed.h"
#include "io/io.h"
#include "io/tls.h"


/* What one connection may read in a turn before the others have theirs. */
enum { MAX_READS = 4, MAX_BYTES = 256 * 1024 };

/* Below the size from which malloc asks the system for memory each time. */
enum { LARGE_READ = 120 * 1024 };

#define RECEIVED_FAILED "Fatal error: protocol.data_received() call failed."

typedef enum { READ_FAILED = -1, READ_DONE, READ_MORE } ReadOutcome;

static void
stream_came(AfStream *self, ssize_t size)
{
    self->came += (uint32_t)size;
    af_loop_count_read(self->base.loop, size);
}

static ReadOutcome
stream_recv_failed(AfStream *self)
{
    if (af_transport_would_block(errno)) {
        return READ_DONE;
    }
    PyErr_SetFromErrno(PyExc_OSError);
    return af_transport_fatal(&self->base,
                              "Fatal read error on socket transport")
                   < 0
               ? READ_FAILED
               : READ_DONE;
}

static ReadOutcome
stream_callback_failed(AfStream *self, const char *message)
{
    return af_transport_fatal(&self->base, message) < 0 ? READ_FAILED
                                                        : READ_DONE;
}

/* The protocol may keep the write side open. */
static ReadOutcome
stream_eof(AfStream *self)
{
    AfState *state = self->base.loop->state;
    af_loop_debug_log(self->base.loop, "%r received EOF", (PyObject *)self);
    PyObject *protocol = Py_NewRef(self->base.protocol);
    PyObject *keep_open =
        PyObject_CallMethodNoArgs(protocol, state->str_eof_received);
    Py_DECREF(protocol);
    int keep = keep_open == NULL ? -1 : PyObject_IsTrue(keep_open);
    Py_XDECREF(keep_open);
    if (keep < 0) {
        return stream_callback_failed(
            self, "Fatal error: protocol.eof_received() call failed.");
    }
    if (keep) {
        return af_transport_want(&self->base, AF_READ, false) < 0 ? READ_FAILED
                                                                  : READ_DONE;
    }
    PyObject *closed =
        PyObject_CallMethodNoArgs((PyObject *)self, state->str_close);
    Py_XDECREF(closed);
    return closed == NULL ? READ_FAILED : READ_DONE;
}

/* Steals `bytes`, which may be NULL with an exception. */
static ReadOutcome
stream_deliver(AfStream *self, PyObject *bytes, bool filled)
{
    PyObject *result = NULL;
    if (bytes != NULL) {
        PyObject *protocol = Py_NewRef(self->base.protocol);
        result = PyObject_CallMethodOneArg(
            protocol, self->base.loop->state->str_data_received, bytes);
        Py_DECREF(protocol);
        Py_DECREF(bytes);
    }
    if (result == NULL) {
        return stream_callback_failed(self, RECEIVED_FAILED);
    }
    Py_DECREF(result);
    return filled ? READ_MORE : READ_DONE;
}

/* Of much data a copy would cost more than memory that is too large. */
static ReadOutcome
stream_read_large(AfStream *self)
{
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, LARGE_READ);
    if (bytes == NULL) {
        return stream_callback_failed(self,
                                      "Fatal read error on socket transport");
    }
    ssize_t size = recv(af_transport_fd(&self->base), PyBytes_AS_STRING(bytes),
                        LARGE_READ, 0);
    if (size <= 0) {
        int code = errno;
        Py_DECREF(bytes);
        errno = code;
        return size < 0 ? stream_recv_failed(self) : stream_eof(self);
    }
    stream_came(self, size);
    if (size < LARGE_READ) {
        _PyBytes_Resize(&bytes, size);
    }
    return stream_deliver(self, bytes, size == LARGE_READ);
}

static ReadOutcome
stream_decrypt(AfStream *self, char *data, ssize_t size)
{
    PyObject *protocol = Py_NewRef(self->base.protocol);
    int err = af_tls_received((AfTls *)protocol, data, size);
    Py_DECREF(protocol);
    if (err < 0) {
        return stream_callback_failed(
            self, "Fatal error: protocol.buffer_updated() call failed.");
    }
    return size == AF_SCRATCH_SIZE ? READ_MORE : READ_DONE;
}

static ReadOutcome
stream_pass_on(AfStream *self, const char *data, ssize_t size)
{
    bool filled = size == AF_SCRATCH_SIZE;
    PyObject *protocol = Py_NewRef(self->base.protocol);
    int fed = af_feed_reader(self->base.loop->state, protocol, &self->fed, data,
                             size);
    Py_DECREF(protocol);
    if (fed < 0) {
        return stream_callback_failed(self, RECEIVED_FAILED);
    }
    return fed ? (filled ? READ_MORE : READ_DONE)
               : stream_deliver(self, PyBytes_FromStringAndSize(data, size),
                                filled);
}

static ReadOutcome
stream_read_data(AfStream *self)
{
    char *scratch = af_io_scratch(self->base.loop);
    if (scratch == NULL) {
        return stream_callback_failed(self,
                                      "Fatal read error on socket transport");
    }
    ssize_t size =
        recv(af_transport_fd(&self->base), scratch, AF_SCRATCH_SIZE, 0);
    if (size < 0) {
        return stream_recv_failed(self);
    }
    if (size == 0) {
        return stream_eof(self);
    }
    stream_came(self, size);
    return self->tls ? stream_decrypt(self, scratch, size)
                     : stream_pass_on(self, scratch, size);
}

static PyObject *
stream_get_buffer(AfStream *self)
{
    PyObject *hint = PyLong_FromLong(-1);
    if (hint == NULL) {
        return NULL;
    }
    PyObject *protocol = Py_NewRef(self->base.protocol);
    PyObject *buffer = PyObject_CallMethodOneArg(
        protocol, self->base.loop->state->str_get_buffer, hint);
    Py_DECREF(protocol);
    Py_DECREF(hint);
    Py_ssize_t length = buffer == NULL ? -1 : PyObject_Size(buffer);
    if (length == 0) {
        PyErr_SetString(PyExc_RuntimeError,
                        "get_buffer() returned an empty buffer");
    }
    if (length <= 0) {
        Py_CLEAR(buffer);
    }
    return buffer;
}

static ReadOutcome
stream_updated(AfStream *self, ssize_t size, bool filled)
{
    PyObject *result = NULL;
    PyObject *count = PyLong_FromSsize_t(size);
    if (count != NULL) {
        PyObject *protocol = Py_NewRef(self->base.protocol);
        result = PyObject_CallMethodOneArg(
            protocol, self->base.loop->state->str_buffer_updated, count);
        Py_DECREF(protocol);
        Py_DECREF(count);
    }
    if (result == NULL) {
        return stream_callback_failed(
            self, "Fatal error: protocol.buffer_updated() call failed.");
    }
    Py_DECREF(result);
    return filled ? READ_MORE : READ_DONE;
}

/* The socket's own method says what is wrong with the buffer. */
static ReadOutcome
stream_refuse_buffer(AfStream *self, PyObject *buffer)
{
    PyErr_Clear();
    PyObject *count = PyObject_CallMethodOneArg(
        self->base.sock, self->base.loop->state->str_recv_into, buffer);
    if (count != NULL) {
        Py_DECREF(count);
        PyErr_SetString(PyExc_BufferError, "get_buffer() changed its mind");
    }
    return stream_callback_failed(self, "Fatal read error on socket transport");
}

static ReadOutcome
stream_read_into(AfStream *self, PyObject *buffer)
{
    Py_buffer view;
    if (PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE) < 0) {
        return stream_refuse_buffer(self, buffer);
    }
    /* The protocol may resize its buffer in buffer_updated. */
    ssize_t size =
        recv(af_transport_fd(&self->base), view.buf, (size_t)view.len, 0);
    bool filled = size == view.len;
    int code = errno;
    PyBuffer_Release(&view);
    errno = code;
    if (size < 0) {
        return stream_recv_failed(self);
    }
    if (size == 0) {
        return stream_eof(self);
    }
    af_loop_count_read(self->base.loop, size);
    return stream_updated(self, size, filled);
}

static ReadOutcome
stream_read_buffered(AfStream *self)
{
    PyObject *buffer = stream_get_buffer(self);
    if (buffer == NULL) {
        return stream_callback_failed(
            self, "Fatal error: protocol.get_buffer() call failed.");
    }
    ReadOutcome outcome =
        self->base.sock == NULL ? READ_DONE : stream_read_into(self, buffer);
    Py_DECREF(buffer);
    return outcome;
}

static ReadOutcome
stream_read_once(AfStream *self)
{
    if (self->base.conn_lost || self->base.closing
        || self->base.reading_paused) {
        return READ_DONE;
    }
    if (self->buffered) {
        return stream_read_buffered(self);
    }
    return self->large && !self->tls ? stream_read_large(self)
                                     : stream_read_data(self);
}

static int
stream_read_turn(AfStream *self)
{
    ReadOutcome outcome = READ_MORE;
    self->came = 0;
    for (int i = 0; i < MAX_READS && outcome == READ_MORE; i++) {
        outcome = self->came < MAX_BYTES ? stream_read_once(self) : READ_DONE;
    }
    self->large = self->came > AF_SCRATCH_SIZE;
    return outcome == READ_FAILED ? -1 : 0;
}

int
af_stream_read(AfStream *self)
{
    PyObject *context = self->base.context;
    if (PyContext_Enter(context) < 0) {
        return af_transport_fatal(&self->base,
                                  "Fatal read error on socket transport");
    }
    int err = stream_read_turn(self);
    if (PyContext_Exit(context) < 0) {
        return -1;
    }
    return err;
}
