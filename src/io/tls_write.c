/* tls_write.c -- TLS: from the protocol to records.
 *
 * What asyncio's SSLProtocol._write_appdata does, without queueing first what
 * can be encrypted at once.
 */
#include "io/tls.h"

#include <limits.h>

/* Up to here other threads needn't run meanwhile. */
enum { MAX_RECORD = 16 * 1024 };

static bool
is_short(PyObject *data)
{
    return PyBytes_CheckExact(data) && PyBytes_GET_SIZE(data) > 0
           && PyBytes_GET_SIZE(data) <= MAX_RECORD;
}

/* How many bytes were encrypted; zero if the ssl module has to be asked. */
static Py_ssize_t
tls_encrypt_direct(AfTls *self, PyObject *data)
{
    size_t count = 0;
    if (self->direct.ssl != NULL && is_short(data)
        && self->state->openssl.ssl_write(
               self->direct.ssl, PyBytes_AS_STRING(data),
               (size_t)PyBytes_GET_SIZE(data), &count)
               == 1) {
        return (Py_ssize_t)count;
    }
    return 0;
}

/* How many bytes of `data` were encrypted; -1 with an exception. */
static Py_ssize_t
tls_encrypt(AfTls *self, PyObject *data)
{
    Py_ssize_t done = tls_encrypt_direct(self, data);
    if (done > 0) {
        return done;
    }
    PyObject *engine = Py_NewRef(self->engine);
    PyObject *count =
        PyObject_CallMethodOneArg(engine, self->state->str_write, data);
    Py_DECREF(engine);
    if (count == NULL) {
        return -1;
    }
    Py_ssize_t value = PyLong_AsSsize_t(count);
    Py_DECREF(count);
    return value;
}

static int
tls_grow_backlog(AfTls *self, PyObject *data)
{
    Py_ssize_t size = PyObject_Size(data);
    PyObject *added = size < 0 ? NULL : PyLong_FromSsize_t(size);
    PyObject *total =
        added == NULL ? NULL : PyNumber_Add(self->write_size, added);
    Py_XDECREF(added);
    if (total == NULL) {
        return -1;
    }
    Py_SETREF(self->write_size, total);
    PyObject *result = PyObject_CallMethodOneArg(self->write_backlog,
                                                 self->state->str_append, data);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* `data` could not be encrypted: it waits. 1 if it was only too early for it;
 * otherwise -1 with the exception. */
static int
tls_put_off(AfTls *self, PyObject *data)
{
    PyObject *exc = af_take_exception();
    if (tls_grow_backlog(self, data) < 0) {
        Py_DECREF(exc);
        return -1;
    }
    bool later = PyErr_GivenExceptionMatches(exc, self->again);
    if (later) {
        Py_DECREF(exc);
        return 1;
    }
    af_restore_exception(exc);
    return -1;
}

/* Encrypt what follows the first `done` bytes, a record at a time.
 * 0, 1 if something waits now, -1 with an exception. */
static int
tls_write_rest(AfTls *self, PyObject *data, Py_ssize_t done)
{
    PyObject *view = PyMemoryView_FromObject(data);
    int outcome = view == NULL ? -1 : 0;
    Py_ssize_t size = outcome == 0 ? PyObject_Size(view) : -1;
    while (outcome == 0 && done < size) {
        PyObject *rest = PySequence_GetSlice(view, done, size);
        if (rest == NULL) {
            outcome = -1;
            break;
        }
        Py_ssize_t count = tls_encrypt(self, rest);
        if (count < 0) {
            outcome = tls_put_off(self, rest);
        }
        else {
            done += count;
        }
        Py_DECREF(rest);
    }
    Py_XDECREF(view);
    return outcome;
}

/* 0, 1 if something waits now, -1 with an exception. */
static int
tls_write_piece(AfTls *self, PyObject *data)
{
    Py_ssize_t size = PyObject_Size(data);
    if (size < 0) {
        return -1;
    }
    Py_ssize_t done = tls_encrypt(self, data);
    if (done < 0) {
        return tls_put_off(self, data);
    }
    return done < size ? tls_write_rest(self, data, done) : 0;
}

/* What was encrypted, perhaps nothing; NULL with an exception. */
static PyObject *
tls_take_records(AfTls *self)
{
    if (self->direct.ssl == NULL) {
        return PyObject_CallMethodNoArgs(self->outgoing, self->state->str_read);
    }
    const AfOpenssl *openssl = &self->state->openssl;
    size_t pending = openssl->bio_pending(self->direct.outgoing);
    int size = pending > INT_MAX ? INT_MAX : (int)pending;
    PyObject *data = PyBytes_FromStringAndSize(NULL, size);
    if (data != NULL && size > 0
        && openssl->bio_read(self->direct.outgoing, PyBytes_AS_STRING(data),
                             size)
               != size) {
        PyErr_SetString(PyExc_OSError, "BIO_read() failed");
        Py_CLEAR(data);
    }
    return data;
}

/* Send what was encrypted to the transport below. */
static int
tls_send(AfTls *self)
{
    PyObject *data = tls_take_records(self);
    Py_ssize_t size = data == NULL ? -1 : PyObject_Size(data);
    if (size <= 0) {
        Py_XDECREF(data);
        return (int)size;
    }
    PyObject *transport = Py_NewRef(self->transport);
    PyObject *result =
        PyObject_CallMethodOneArg(transport, self->state->str_write, data);
    Py_DECREF(transport);
    Py_DECREF(data);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* asyncio's _process_outgoing(). */
int
af_tls_flush(AfTls *self)
{
    AfState *state = self->state;
    if (self->ssl_write_paused != Py_False
        || !PyLong_CheckExact(self->write_size)) {
        return af_tls_call(self, state->str__process_outgoing);
    }
    if (tls_send(self) < 0) {
        return -1;
    }
    /* Unless the transport below paused us meanwhile, nothing is left. */
    Py_ssize_t size = PyLong_AsSsize_t(self->write_size);
    if (size == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (self->ssl_write_paused == Py_False
        && af_tls_is_calm(size, self->outgoing_high, self->app_write_paused)) {
        return 0;
    }
    return af_tls_call(self, state->str__control_app_writing);
}

int
af_tls_write(AfTls *self, PyObject *data)
{
    int err = tls_write_piece(self, data);
    if (err >= 0) {
        err = af_tls_flush(self);
    }
    return err < 0 ? af_tls_fail(self) : 0;
}

int
af_tls_write_pieces(AfTls *self, PyObject *pieces)
{
    int waits = 0;
    for (Py_ssize_t i = 0; waits >= 0 && i < PySequence_Fast_GET_SIZE(pieces);
         i++) {
        PyObject *piece = Py_NewRef(PySequence_Fast_GET_ITEM(pieces, i));
        if (waits) {
            waits = tls_grow_backlog(self, piece) < 0 ? -1 : 1;
        }
        else {
            waits = tls_write_piece(self, piece);
        }
        Py_DECREF(piece);
    }
    int err = waits < 0 ? -1 : af_tls_flush(self);
    return err < 0 ? af_tls_fail(self) : 0;
}
