/* datagram_write.c -- datagram transport: from the protocol to the socket. */
#include "io/datagram.h"


#include "base/args.h"
#include "base/error.h"

#define WRITE_FAILED "Fatal write error on datagram transport"

/* What became of a datagram; if it failed, an exception is set. */
typedef enum { SEND_FAILED = -1, SEND_LATER, SEND_DONE } Sent;

typedef struct {
    struct sockaddr_storage name;
    socklen_t length; /* zero: the socket's peer */
} Target;

static int
datagram_tell_error(AfDatagram *self, PyObject *exc)
{
    PyObject *protocol = Py_NewRef(self->base.protocol);
    PyObject *result = PyObject_CallMethodOneArg(
        protocol, self->base.loop->state->str_error_received, exc);
    Py_DECREF(protocol);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

int
af_datagram_failed(AfDatagram *self, int code)
{
    af_error_from_errno(code);
    PyObject *exc = af_take_exception();
    int err = datagram_tell_error(self, exc);
    Py_DECREF(exc);
    return err;
}

int
af_datagram_raised(AfDatagram *self, const char *message)
{
    PyObject *exc = af_take_exception();
    int err;
    if (af_error_is_oserror(exc)) {
        err = datagram_tell_error(self, exc);
    }
    else {
        af_restore_exception(Py_NewRef(exc));
        err = af_transport_fatal(&self->base, message);
    }
    Py_DECREF(exc);
    return err;
}

static size_t
datagram_weight(PyObject *bytes)
{
    return (size_t)PyBytes_GET_SIZE(bytes) + AF_DATAGRAM_OVERHEAD;
}

/* False if only the socket module can tell what the address means. */
static bool
target_find(const AfDatagram *self, PyObject *address, Target *target)
{
    if (self->connected) {
        target->length = 0;
        return true;
    }
    const AfIo *io = self->base.loop->io;
    const AfKnownAddress *known =
        io != NULL && io->senders != NULL ? io->senders->last : NULL;
    if (known != NULL && known->tuple == address
        && known->name.sin6_family == self->family) {
        memcpy(&target->name, &known->name, known->length);
        target->length = known->length;
        return true;
    }
    return af_address_parse(self->family, address, &target->name,
                            &target->length);
}

static Sent
send_failed(int code)
{
    if (af_transport_would_block(code)) {
        return SEND_LATER;
    }
    af_error_from_errno(code);
    return SEND_FAILED;
}

static Sent
send_by_socket(AfDatagram *self, PyObject *data, PyObject *address)
{
    PyObject *result = PyObject_CallMethodObjArgs(
        self->base.sock, self->base.loop->state->str_sendto, data, address,
        NULL);
    if (result != NULL) {
        Py_DECREF(result);
        return SEND_DONE;
    }
    if (PyErr_ExceptionMatches(PyExc_BlockingIOError)
        || PyErr_ExceptionMatches(PyExc_InterruptedError)) {
        PyErr_Clear();
        return SEND_LATER;
    }
    return SEND_FAILED;
}

static Sent
send_to_target(AfDatagram *self, PyObject *data, const Target *target)
{
    Py_buffer view;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
        return SEND_FAILED;
    }
    af_poll_stir(&self->base.loop->poll);
    ssize_t size = sendto(
        af_transport_fd(&self->base), view.buf, (size_t)view.len, MSG_NOSIGNAL,
        target->length == 0 ? NULL : (const struct sockaddr *)&target->name,
        target->length);
    int code = errno;
    PyBuffer_Release(&view);
    if (size < 0) {
        return send_failed(code);
    }
    af_loop_count_write(self->base.loop, size);
    return SEND_DONE;
}

static Sent
send_one(AfDatagram *self, PyObject *data, PyObject *address)
{
    Target target;
    if (!target_find(self, address, &target)) {
        return send_by_socket(self, data, address);
    }
    return send_to_target(self, data, &target);
}

/* sendto */

static int
sendto_check(PyObject *data)
{
    if (PyBytes_Check(data) || PyByteArray_Check(data)
        || PyMemoryView_Check(data)) {
        return 0;
    }
    PyErr_Format(PyExc_TypeError,
                 "data argument must be a bytes-like object, not '%s'",
                 af_error_type_name(data));
    return -1;
}

/* The address to use (borrowed); NULL with ValueError. */
static PyObject *
sendto_address(const AfDatagram *self, PyObject *address)
{
    int fixed = PyObject_IsTrue(self->address);
    if (fixed <= 0) {
        return fixed < 0 ? NULL : address;
    }
    if (address != Py_None) {
        int same = PyObject_RichCompareBool(address, self->address, Py_EQ);
        if (same <= 0) {
            if (same == 0) {
                PyErr_Format(PyExc_ValueError,
                             "Invalid address: must be None or %S",
                             self->address);
            }
            return NULL;
        }
    }
    return self->address;
}

static int
sendto_queue(AfDatagram *self, PyObject *data, PyObject *address)
{
    Py_buffer view;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
        return -1;
    }
    size_t weight = (size_t)view.len + AF_DATAGRAM_OVERHEAD;
    PyBuffer_Release(&view);
    if (af_flow_append_datagram(&self->base.flow, data, address, weight) < 0
        || af_transport_want(&self->base, AF_WRITE, true) < 0) {
        return -1;
    }
    return af_transport_maybe_pause(&self->base);
}

static int
datagram_sendto(AfDatagram *self, PyObject *data, PyObject *address)
{
    if (!AF_SENDS_EMPTY_DATAGRAMS) {
        int full = PyObject_IsTrue(data);
        if (full <= 0) {
            return full;
        }
    }
    address = sendto_address(self, address);
    if (address == NULL) {
        return -1;
    }
    if (self->base.sock == NULL || self->address != Py_None) {
        int lost = af_transport_write_lost(&self->base);
        if (lost != 0) {
            return lost < 0 ? -1 : 0;
        }
    }
    /* The socket module's own event, for whoever audits the program. */
    if (!self->connected
        && PySys_Audit("socket.sendto", "OO", self->base.sock, address) < 0) {
        return af_datagram_raised(self, WRITE_FAILED);
    }
    if (self->base.flow.count == 0) {
        Sent sent = send_one(self, data, address);
        if (sent == SEND_FAILED) {
            return af_datagram_raised(self, WRITE_FAILED);
        }
        if (sent == SEND_DONE) {
            return 0;
        }
    }
    return sendto_queue(self, data, address);
}

static const AfParams sendto_params = {"sendto", 1, 2, {"data", "addr", NULL}};

PyObject *
af_datagram_sendto(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
                   PyObject *kwnames)
{
    PyObject *given[2];
    if (af_args_parse(&sendto_params, args, nargs, kwnames, given) < 0
        || sendto_check(given[0]) < 0
        || datagram_sendto((AfDatagram *)op, given[0],
                           given[1] == NULL ? Py_None : given[1])
               < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* Sending what was buffered */

static void
flush_drop_first(AfDatagram *self)
{
    AfFlow *flow = &self->base.flow;
    af_flow_pop(flow, datagram_weight(af_flow_peek(flow, 0)->bytes));
}

static Sent
flush_one(AfDatagram *self)
{
    const AfPiece *piece = af_flow_peek(&self->base.flow, 0);
    PyObject *bytes = Py_NewRef(piece->bytes);
    PyObject *address = Py_NewRef(piece->address);
    Sent sent = send_one(self, bytes, address);
    Py_DECREF(address);
    Py_DECREF(bytes);
    if (sent != SEND_LATER && self->base.flow.count > 0) {
        flush_drop_first(self);
    }
    return sent;
}

#if AF_HAVE_MMSG
/* How many of the first datagrams can go in one call. */
static unsigned
flush_gather(const AfDatagram *self, struct mmsghdr *messages,
             struct iovec *vectors, Target *targets)
{
    const AfFlow *flow = &self->base.flow;
    unsigned count = 0;
    while (count < AF_DATAGRAM_BATCH && count < flow->count) {
        const AfPiece *piece = af_flow_peek(flow, count);
        Target *target = &targets[count];
        if (!target_find(self, piece->address, target)) {
            break;
        }
        vectors[count].iov_base = PyBytes_AS_STRING(piece->bytes);
        vectors[count].iov_len = (size_t)PyBytes_GET_SIZE(piece->bytes);
        messages[count].msg_hdr = (struct msghdr){
            .msg_name = target->length == 0 ? NULL : &target->name,
            .msg_namelen = target->length,
            .msg_iov = &vectors[count],
            .msg_iovlen = 1,
        };
        count++;
    }
    return count;
}

static Sent
flush_batch(AfDatagram *self)
{
    struct mmsghdr messages[AF_DATAGRAM_BATCH];
    struct iovec vectors[AF_DATAGRAM_BATCH];
    Target targets[AF_DATAGRAM_BATCH];
    unsigned count = flush_gather(self, messages, vectors, targets);
    if (count < 2) {
        return flush_one(self);
    }
    int sent =
        sendmmsg(af_transport_fd(&self->base), messages, count, MSG_NOSIGNAL);
    if (sent < 0) {
        int code = errno;
        if (!af_transport_would_block(code)) {
            flush_drop_first(self);
        }
        return send_failed(code);
    }
    size_t size = 0;
    for (int i = 0; i < sent; i++) {
        size += vectors[i].iov_len;
        flush_drop_first(self);
    }
    af_loop_count_write(self->base.loop, (ssize_t)size);
    return SEND_DONE;
}
#else
static Sent
flush_batch(AfDatagram *self)
{
    return flush_one(self);
}
#endif

/* Nothing waits any more. */
static int
datagram_emptied(AfDatagram *self)
{
    int err = af_transport_want(&self->base, AF_WRITE, false);
    if (err == 0 && self->base.closing) {
        self->base.conn_lost++;
        err = af_transport_lose(&self->base, Py_None);
    }
    return err < 0 ? af_transport_report(&self->base) : 0;
}

/* After a failure the others go in the next turn, as in asyncio. */
int
af_datagram_flush(AfDatagram *self)
{
    while (self->base.flow.count > 0) {
        Sent sent = flush_batch(self);
        if (sent == SEND_FAILED) {
            return af_datagram_raised(self, WRITE_FAILED) < 0
                       ? af_transport_report(&self->base)
                       : 0;
        }
        if (sent == SEND_LATER) {
            break;
        }
    }
    if (self->base.conn_lost) {
        return 0;
    }
    if (af_transport_maybe_resume(&self->base) < 0) {
        return -1;
    }
    return self->base.flow.count == 0 && !self->base.conn_lost
               ? datagram_emptied(self)
               : 0;
}
