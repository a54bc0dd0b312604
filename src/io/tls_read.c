/* tls_read.c -- TLS: from records to the protocol.
 *
 * What asyncio's SSLProtocol._do_read does, without the last read of each turn
 * which only finds out, by an exception, that there is no more.
 */
#include "io/feed.h"
#include "io/tls.h"

/* No record says more than this. */
enum { MAX_RECORD = 16 * 1024 };

/* A record's header, and the kind of record it announces. */
enum { HEADER = 5, APPLICATION_DATA = 23 };

/* Up to here a copy costs less than a view. */
enum { SMALL = 4 * 1024 };

/* Are these the header of a record of application data, and just its body? */
static bool
is_one_record(const char *data, Py_ssize_t size)
{
    const unsigned char *head = (const unsigned char *)data;
    return size > HEADER && head[0] == APPLICATION_DATA
           && size == HEADER + (head[3] << 8 | head[4]);
}

static int
tls_feed_bio(AfTls *self, const char *data, Py_ssize_t size)
{
    int count =
        self->state->openssl.bio_write(self->direct.incoming, data, (int)size);
    if (count != size) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

static int
tls_feed_object(AfTls *self, char *data, Py_ssize_t size)
{
    PyObject *chunk = size <= SMALL
                          ? PyBytes_FromStringAndSize(data, size)
                          : PyMemoryView_FromMemory(data, size, PyBUF_READ);
    if (chunk == NULL) {
        return -1;
    }
    PyObject *count = PyObject_CallMethodOneArg(self->incoming,
                                                self->state->str_write, chunk);
    Py_DECREF(chunk);
    Py_XDECREF(count);
    return count == NULL ? -1 : 0;
}

static int
tls_feed(AfTls *self, char *data, Py_ssize_t size)
{
    int err = self->direct.ssl != NULL ? tls_feed_bio(self, data, size)
                                       : tls_feed_object(self, data, size);
    if (err == 0) {
        self->single = self->held == 0 && is_one_record(data, size);
        self->held += size;
    }
    return err;
}

/* One record's data. NULL without an exception if the ssl module has to be
 * asked, which knows what to raise; with one if memory ran out. */
static PyObject *
tls_read_direct(AfTls *self, Py_ssize_t limit)
{
    if (self->direct.ssl == NULL) {
        return NULL;
    }
    PyObject *data = PyBytes_FromStringAndSize(NULL, limit);
    if (data == NULL) {
        return NULL;
    }
    size_t got = 0;
    if (self->state->openssl.ssl_read(self->direct.ssl, PyBytes_AS_STRING(data),
                                      (size_t)limit, &got)
        != 1) {
        Py_DECREF(data);
        return NULL;
    }
    _PyBytes_Resize(&data, (Py_ssize_t)got);
    return data;
}

/* One record's data, less than `limit` bytes of it if there is no more; empty
 * at the end. NULL with an exception. */
static PyObject *
tls_read_record(AfTls *self, Py_ssize_t limit)
{
    PyObject *data = tls_read_direct(self, limit);
    if (data != NULL || PyErr_Occurred()) {
        return data;
    }
    PyObject *size = PyLong_FromSsize_t(limit);
    if (size == NULL) {
        return NULL;
    }
    PyObject *engine = Py_NewRef(self->engine);
    data = PyObject_CallMethodOneArg(engine, self->state->str_read, size);
    Py_DECREF(engine);
    Py_DECREF(size);
    if (data != NULL && !PyBytes_CheckExact(data)) {
        PyErr_SetString(PyExc_TypeError, "read() must return bytes");
        Py_CLEAR(data);
    }
    return data;
}

/* Whether that was all that can be decrypted now: the record was read to its
 * end, and no byte came behind it. -1 with an exception. */
static int
tls_is_drained(AfTls *self, Py_ssize_t got, Py_ssize_t limit)
{
    if (got >= limit) {
        return 0;
    }
    if (self->single) {
        self->held = 0;
        return 1;
    }
    Py_ssize_t pending = af_tls_pending(self);
    if (pending < 0) {
        return -1;
    }
    self->held = pending;
    return pending == 0;
}

typedef struct {
    PyObject *first; /* owned; mostly there is but one */
    PyObject *all;   /* owned; from the second on a list of each */
} Pieces;

/* Steals `data`. 0, or -1 with an exception. */
static int
pieces_add(Pieces *pieces, PyObject *data)
{
    if (pieces->first == NULL) {
        pieces->first = data;
        return 0;
    }
    if (pieces->all == NULL) {
        pieces->all = PyList_New(0);
        if (pieces->all == NULL
            || PyList_Append(pieces->all, pieces->first) < 0) {
            Py_DECREF(data);
            return -1;
        }
    }
    int err = PyList_Append(pieces->all, data);
    Py_DECREF(data);
    return err;
}

static void
pieces_drop(Pieces *pieces)
{
    Py_CLEAR(pieces->first);
    Py_CLEAR(pieces->all);
}

/* All of them as one; takes them away. NULL with an exception. */
static PyObject *
pieces_join(Pieces *pieces)
{
    PyObject *joined = NULL;
    if (pieces->all == NULL) {
        joined = pieces->first;
        pieces->first = NULL;
        return joined;
    }
    PyObject *empty = PyBytes_FromStringAndSize(NULL, 0);
    if (empty != NULL) {
        joined = PyObject_CallMethod(empty, "join", "(O)", pieces->all);
        Py_DECREF(empty);
    }
    pieces_drop(pieces);
    return joined;
}

/* For what read() raised: 0 if there is only no more data yet, else -1 with
 * that exception. */
static int
tls_read_failed(AfTls *self)
{
    if (!PyErr_ExceptionMatches(self->again)) {
        return -1;
    }
    PyErr_Clear();
    return 0;
}

/* Decrypt all that can be. 1 at the end of the data, 0 if more may follow, -1
 * with an exception. */
static int
tls_collect(AfTls *self, Pieces *pieces)
{
    int drained = 0;
    while (drained == 0) {
        Py_ssize_t limit = Py_MIN(self->held, MAX_RECORD) + 1;
        PyObject *data = tls_read_record(self, limit);
        if (data == NULL) {
            return tls_read_failed(self);
        }
        Py_ssize_t got = PyBytes_GET_SIZE(data);
        if (got == 0) {
            Py_DECREF(data);
            return 1;
        }
        if (pieces_add(pieces, data) < 0) {
            return -1;
        }
        drained = tls_is_drained(self, got, limit);
    }
    return drained < 0 ? -1 : 0;
}

static int
tls_deliver(AfTls *self, Pieces *pieces)
{
    if (pieces->first == NULL) {
        return 0;
    }
    PyObject *data = pieces_join(pieces);
    if (data == NULL) {
        return -1;
    }
    PyObject *protocol = Py_NewRef(self->app_protocol);
    int fed = af_feed_reader(self->state, protocol, &self->fed,
                             PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data));
    if (fed == 0) {
        PyObject *result = PyObject_CallMethodOneArg(
            protocol, self->state->str_data_received, data);
        fed = result == NULL ? -1 : 1;
        Py_XDECREF(result);
    }
    Py_DECREF(protocol);
    Py_DECREF(data);
    return fed < 0 ? -1 : 0;
}

/* As in asyncio, what came before a broken record is lost with it. */
static int
tls_read_copied(AfTls *self)
{
    if (self->held == 0) {
        /* Unless somebody else fed it, there is nothing. */
        Py_ssize_t pending = af_tls_pending(self);
        if (pending <= 0) {
            return (int)pending;
        }
        self->held = pending;
    }
    Pieces pieces = {NULL, NULL};
    int ended = tls_collect(self, &pieces);
    int err = ended < 0 ? -1 : tls_deliver(self, &pieces);
    pieces_drop(&pieces);
    if (err == 0 && ended) {
        err = af_tls_call(self, self->state->str__call_eof_received);
        if (err == 0) {
            err = af_tls_call(self, self->state->str__start_shutdown);
        }
    }
    return err;
}

/* What a handshake or a renewed key had to answer. The answers of the protocol
 * are on their way already. */
static int
tls_send_rest(AfTls *self)
{
    /* A record that said something to the protocol calls for no such answer. */
    bool nothing = self->single && self->held == 0;
    Py_ssize_t waiting = PyObject_Size(self->write_backlog);
    if (waiting < 0) {
        return -1;
    }
    if (waiting > 0) {
        return af_tls_call(self, self->state->str__do_write);
    }
    return nothing ? 0 : af_tls_flush(self);
}

static int
tls_read_data(AfTls *self)
{
    AfState *state = self->state;
    int err = self->app_is_buffer == Py_False
                  ? tls_read_copied(self)
                  : af_tls_call(self, state->str__do_read__buffered);
    return err == 0 ? tls_send_rest(self) : err;
}

static int
tls_control_reading(AfTls *self)
{
    Py_ssize_t pending = self->held == 0 ? 0 : af_tls_pending(self);
    if (pending < 0) {
        return -1;
    }
    return af_tls_is_calm(pending, self->incoming_high, self->ssl_read_paused)
               ? 0
               : af_tls_call(self, self->state->str__control_ssl_reading);
}

static int
tls_read(AfTls *self)
{
    if (self->phase != self->wrapped || self->engine == Py_None) {
        return af_tls_call(self, self->state->str__do_read_slowly);
    }
    int err = self->app_read_paused == Py_False ? tls_read_data(self) : 0;
    if (err == 0) {
        err = tls_control_reading(self);
    }
    return err < 0 ? af_tls_fail(self) : 0;
}

/* asyncio's buffer_updated() of nothing more goes by the state. */
static int
tls_go_on(AfTls *self)
{
    PyObject *zero = PyLong_FromLong(0);
    if (zero == NULL) {
        return -1;
    }
    PyObject *result = PyObject_CallMethodOneArg(
        (PyObject *)self, self->state->str_buffer_updated, zero);
    Py_DECREF(zero);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

int
af_tls_received(AfTls *self, char *data, Py_ssize_t size)
{
    if (tls_feed(self, data, size) < 0) {
        return -1;
    }
    int err = self->phase == self->wrapped ? tls_read(self) : tls_go_on(self);
    self->single = false;
    return err;
}

PyObject *
af_tls_do_read(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return tls_read((AfTls *)op) < 0 ? NULL : Py_NewRef(Py_None);
}
