/* stream_write.c -- stream transport: from the protocol to the socket. */
#include "io/stream.h"

#include "base/error.h"
#include "io/hold.h"

#define WRITE_AFTER_EOF "Cannot call write() after write_eof()"
#define WRITE_IN_SENDFILE "unable to write; sendfile is in progress"

static int
stream_write_check(AfStream *self, const char *eof_text,
                   const char *sendfile_text)
{
    if (self->eof) {
        PyErr_SetString(PyExc_RuntimeError, eof_text);
        return -1;
    }
    if (self->empty_waiter != NULL) {
        PyErr_SetString(PyExc_RuntimeError, sendfile_text);
        return -1;
    }
    return 0;
}

static int
stream_write_fatal(AfStream *self)
{
    return af_transport_fatal(&self->base, AF_WRITE_FAILED);
}

static int
stream_write_failed(AfStream *self, int code)
{
    af_error_from_errno(code);
    return stream_write_fatal(self);
}

static int
stream_queue(AfStream *self, PyObject *data, Py_ssize_t skip)
{
    if (af_flow_append(&self->base.flow, data, skip) < 0) {
        /* With a part of it sent, nothing that is right can follow. */
        return AF_WRITE_KEEPS_VIEWS || skip > 0 ? stream_write_fatal(self) : -1;
    }
    if (af_transport_want(&self->base, AF_WRITE, true) < 0) {
        return -1;
    }
    return af_transport_maybe_pause(&self->base);
}

/* Nothing is buffered: what the socket takes now needs no buffer. As in
 * asyncio, what only looks like bytes (a memoryview with gaps) ends the
 * connection. */
static int
stream_send(AfStream *self, PyObject *data)
{
    Py_buffer view;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
        return stream_write_fatal(self);
    }
    af_poll_stir(&self->base.loop->poll);
    ssize_t sent = send(af_transport_fd(&self->base), view.buf,
                        (size_t)view.len, MSG_NOSIGNAL);
    int code = errno;
    Py_ssize_t size = view.len;
    PyBuffer_Release(&view);
    if (sent > 0) {
        af_loop_count_write(self->base.loop, sent);
    }
    if (sent == size) {
        return 0;
    }
    if (sent < 0 && !af_transport_would_block(code)) {
        return stream_write_failed(self, code);
    }
    return stream_queue(self, data, sent < 0 ? 0 : sent);
}

static int
stream_write_data(AfStream *self, PyObject *data)
{
    if (stream_write_check(self, WRITE_AFTER_EOF, WRITE_IN_SENDFILE) < 0) {
        return -1;
    }
    Py_ssize_t size = PyObject_Size(data);
    if (size <= 0) {
        return (int)size;
    }
    af_hold_note(&self->base);
    bool hold = af_hold_wants(&self->base, data);
    if (!hold && af_hold_settle(&self->base) < 0) {
        return -1;
    }
    int lost = af_transport_write_lost(&self->base);
    if (lost != 0) {
        return lost < 0 ? -1 : 0;
    }
    if (hold) {
        return af_hold_add(&self->base, data);
    }
    return self->base.flow.count == 0 ? stream_send(self, data)
                                      : stream_queue(self, data, 0);
}

PyObject *
af_stream_write(PyObject *op, PyObject *data)
{
    if (!PyBytes_Check(data) && !PyByteArray_Check(data)
        && !PyMemoryView_Check(data)) {
        PyErr_Format(PyExc_TypeError,
                     "data argument must be a bytes-like object, not '%s'",
                     af_error_type_name(data));
        return NULL;
    }
    if (stream_write_data((AfStream *)op, data) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static bool
pieces_are_bytes(PyObject *pieces)
{
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(pieces); i++) {
        if (!PyBytes_CheckExact(PySequence_Fast_GET_ITEM(pieces, i))) {
            return false;
        }
    }
    return true;
}

static PyObject *
pieces_join(PyObject *pieces)
{
    PyObject *empty = PyBytes_FromStringAndSize(NULL, 0);
    PyObject *joined = empty == NULL
                           ? NULL
                           : PyObject_CallMethod(empty, "join", "(O)", pieces);
    Py_XDECREF(empty);
    return joined == NULL ? NULL : Py_BuildValue("(N)", joined);
}

/* With the exceptions of memoryview(piece). */
static PyObject *
piece_copy(PyObject *piece)
{
    PyObject *view = PyMemoryView_FromObject(piece);
    if (view == NULL) {
        return NULL;
    }
    PyObject *bytes = NULL;
    Py_buffer buffer;
    if (PyObject_GetBuffer(view, &buffer, PyBUF_SIMPLE) == 0) {
        bytes = PyBytes_FromStringAndSize(buffer.buf, buffer.len);
        PyBuffer_Release(&buffer);
    }
    Py_DECREF(view);
    return bytes;
}

static PyObject *
pieces_copy(PyObject *pieces)
{
    PyObject *copies = PyList_New(0);
    for (Py_ssize_t i = 0;
         copies != NULL && i < PySequence_Fast_GET_SIZE(pieces); i++) {
        /* A piece's __buffer__ may change the list. */
        PyObject *piece = Py_NewRef(PySequence_Fast_GET_ITEM(pieces, i));
        PyObject *copy = piece_copy(piece);
        if (copy == NULL || PyList_Append(copies, copy) < 0) {
            Py_CLEAR(copies);
        }
        Py_XDECREF(copy);
        Py_DECREF(piece);
    }
    return copies;
}

/* A list or tuple of nothing but bytes: queueing those runs no Python code and
 * can't fail halfway. A new reference, or NULL with asyncio's exception. */
static PyObject *
pieces_take(PyObject *pieces)
{
    if (pieces_are_bytes(pieces)) {
        return Py_NewRef(pieces);
    }
    return AF_WRITELINES_JOINS ? pieces_join(pieces) : pieces_copy(pieces);
}

static int
stream_append_pieces(AfStream *self, PyObject *pieces)
{
    Py_ssize_t count = PySequence_Fast_GET_SIZE(pieces);
    if (af_flow_reserve(&self->base.flow, (size_t)count) < 0) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *piece = PySequence_Fast_GET_ITEM(pieces, i);
        if (af_flow_append(&self->base.flow, piece, 0) < 0) {
            return -1;
        }
    }
    return 0;
}

static int
stream_write_pieces(AfStream *self, PyObject *pieces)
{
    bool refused = self->base.flow.count > 0 && !self->base.held;
    af_hold_note(&self->base);
    if (stream_append_pieces(self, pieces) < 0) {
        return -1;
    }
    if (self->base.flow.count == 0) {
        return 0;
    }
    return refused ? af_transport_maybe_pause(&self->base)
                   : af_hold_send(&self->base);
}

static int
stream_writelines_check(AfStream *self)
{
    return AF_WRITELINES_JOINS
               ? stream_write_check(self, WRITE_AFTER_EOF, WRITE_IN_SENDFILE)
               : stream_write_check(
                   self, "Cannot call writelines() after write_eof()",
                   "unable to writelines; sendfile is in progress");
}

/* What a piece's __buffer__ or the iterable did to the transport counts, hence
 * the checks afterwards. */
static int
stream_write_taken(AfStream *self, PyObject *taken)
{
    if (AF_WRITELINES_JOINS && stream_writelines_check(self) < 0) {
        return -1;
    }
    if (PySequence_Fast_GET_SIZE(taken) == 0) {
        return 0;
    }
    int lost = af_transport_write_lost(&self->base);
    return lost == 0 ? stream_write_pieces(self, taken) : lost;
}

static int
stream_take_pieces(AfStream *self, PyObject *pieces)
{
    PyObject *taken = pieces_take(pieces);
    if (taken == NULL) {
        return AF_WRITE_KEEPS_VIEWS && PyErr_ExceptionMatches(PyExc_BufferError)
                   ? stream_write_fatal(self)
                   : -1;
    }
    int err = stream_write_taken(self, taken);
    Py_DECREF(taken);
    return err < 0 ? -1 : 0;
}

/* A list or tuple of the pieces; NULL with asyncio's TypeError. */
static PyObject *
pieces_sequence(PyObject *pieces)
{
    if (AF_WRITELINES_JOINS || PyList_CheckExact(pieces)) {
        return PySequence_Fast(pieces, "can only join an iterable");
    }
    return PySequence_List(pieces);
}

PyObject *
af_stream_writelines(PyObject *op, PyObject *pieces)
{
    AfStream *self = (AfStream *)op;
    /* Where they are joined, they are written, and that is refused, last. */
    if (!AF_WRITELINES_JOINS && stream_writelines_check(self) < 0) {
        return NULL;
    }
    PyObject *fast = pieces_sequence(pieces);
    if (fast == NULL) {
        return NULL;
    }
    int err = stream_take_pieces(self, fast);
    Py_DECREF(fast);
    return err < 0 ? NULL : Py_NewRef(Py_None);
}

static int
stream_settle_empty_waiter(AfStream *self)
{
    if (self->empty_waiter == NULL) {
        return 0;
    }
    return af_future_set_result(self->base.loop->state, self->empty_waiter,
                                Py_None);
}

static int
stream_shutdown(AfStream *self)
{
    if (shutdown(af_transport_fd(&self->base), SHUT_WR) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    return 0;
}

/* The buffer has run empty: what waited for that comes now. */
static int
stream_emptied(AfStream *self)
{
    int err = af_transport_want(&self->base, AF_WRITE, false);
    if (err == 0) {
        err = stream_settle_empty_waiter(self);
    }
    if (err == 0 && self->base.closing) {
        self->base.conn_lost++;
        err = af_transport_lose(&self->base, Py_None);
    }
    else if (err == 0 && self->eof) {
        err = stream_shutdown(self);
    }
    return err < 0 ? af_transport_report(&self->base) : 0;
}

static int
stream_flush_failed(AfStream *self, int code)
{
    af_error_from_errno(code);
    PyObject *exc = af_take_exception();
    af_restore_exception(Py_NewRef(exc));
    int err = af_transport_fatal(&self->base, AF_WRITE_FAILED);
    if (err == 0 && self->empty_waiter != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(exc), exc);
        err =
            af_future_set_exception(self->base.loop->state, self->empty_waiter);
    }
    Py_DECREF(exc);
    return err;
}

static int
stream_flush(AfStream *self)
{
    if (self->base.conn_lost || self->base.flow.count == 0) {
        return 0;
    }
    ssize_t sent = af_transport_send_flow(&self->base);
    if (sent < 0) {
        return af_transport_would_block((int)-sent)
                   ? 0
                   : stream_flush_failed(self, (int)-sent);
    }
    if (af_transport_maybe_resume(&self->base) < 0) {
        return -1;
    }
    return self->base.flow.count == 0 && !self->base.conn_lost
               ? stream_emptied(self)
               : 0;
}

int
af_stream_flush(AfStream *self)
{
    PyObject *context = Py_NewRef(self->base.context);
    int err = -1;
    if (PyContext_Enter(context) < 0) {
        err = af_transport_fatal(&self->base, AF_WRITE_FAILED);
    }
    else {
        err = stream_flush(self);
        if (PyContext_Exit(context) < 0) {
            err = -1;
        }
    }
    Py_DECREF(context);
    return err;
}

PyObject *
af_stream_write_eof(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    AfStream *self = (AfStream *)op;
    if (af_hold_settle(&self->base) < 0) {
        return NULL;
    }
    if (self->base.closing || self->eof) {
        Py_RETURN_NONE;
    }
    self->eof = true;
    if (self->base.flow.count == 0 && stream_shutdown(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyObject *
af_stream_make_empty_waiter(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    AfStream *self = (AfStream *)op;
    if (self->empty_waiter != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "Empty waiter is already set");
        return NULL;
    }
    if (af_hold_settle(&self->base) < 0) {
        return NULL;
    }
    self->empty_waiter = af_loop_create_future(self->base.loop);
    if (self->empty_waiter == NULL
        || (self->base.flow.count == 0
            && stream_settle_empty_waiter(self) < 0)) {
        return NULL;
    }
    return Py_NewRef(self->empty_waiter);
}

PyObject *
af_stream_reset_empty_waiter(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    Py_CLEAR(((AfStream *)op)->empty_waiter);
    Py_RETURN_NONE;
}
