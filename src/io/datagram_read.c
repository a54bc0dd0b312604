/* datagram_read.c -- datagram transport: from the socket to the protocol. */
#include "io/datagram.h"


#include "base/error.h"

#define READ_FAILED "Fatal read error on datagram transport"
#define CALLBACK_FAILED "Exception in callback DatagramTransport._read_ready()"

enum {
    /* No UDP datagram is larger. */
    SLOT_SIZE = AF_MAILBAG_SIZE / AF_DATAGRAM_BATCH,
    /* asyncio's max_size; datagrams of other families may need it. */
    LARGE_SLOT_SIZE = 256 * 1024,
    MAX_PATIENCE = 64
};

typedef struct {
    PyObject *data; /* owned */
    struct sockaddr_storage name;
    socklen_t length;
    ssize_t size;
} Arrival;

static size_t
slot_size(const AfDatagram *self)
{
    return self->family == AF_UNIX ? LARGE_SLOT_SIZE : SLOT_SIZE;
}

static int
batch_limit(const AfDatagram *self)
{
    return AF_HAVE_MMSG ? (int)(AF_MAILBAG_SIZE / slot_size(self)) : 1;
}

/* Asking for more than there is costs a failing look into the queue: ask for
 * more only of a socket that had enough, ever less often if it was in vain. */
static void
batch_adapt(AfDatagram *self, int count)
{
    if (count < self->batch) {
        if (self->batch > 1 && count <= 1 && self->patience < MAX_PATIENCE) {
            self->patience *= 2;
        }
        self->batch = count > 1 ? count : 1;
        self->streak = 0;
    }
    else if (++self->streak >= self->patience) {
        int limit = batch_limit(self);
        self->batch = self->batch * 2 < limit ? self->batch * 2 : limit;
        self->patience = self->batch > 2 ? 1 : self->patience;
        self->streak = 0;
    }
}

/* 1, or a negative errno value. */
static int
receive_one(const AfDatagram *self, char *mailbag, Arrival *arrival)
{
    arrival->length = sizeof(arrival->name);
    arrival->size =
        recvfrom(af_transport_fd(&self->base), mailbag, slot_size(self), 0,
                 (struct sockaddr *)&arrival->name, &arrival->length);
    return arrival->size < 0 ? -errno : 1;
}

#if AF_HAVE_MMSG
/* How many, or a negative errno value. */
static int
receive_many(const AfDatagram *self, char *mailbag, Arrival *arrivals)
{
    struct mmsghdr messages[AF_DATAGRAM_BATCH];
    struct iovec vectors[AF_DATAGRAM_BATCH];
    size_t slot = slot_size(self);
    for (int i = 0; i < self->batch; i++) {
        vectors[i] = (struct iovec){mailbag + (size_t)i * slot, slot};
        messages[i].msg_hdr = (struct msghdr){
            .msg_name = &arrivals[i].name,
            .msg_namelen = sizeof(arrivals[i].name),
            .msg_iov = &vectors[i],
            .msg_iovlen = 1,
        };
    }
    int count = recvmmsg(af_transport_fd(&self->base), messages,
                         (unsigned)self->batch, MSG_DONTWAIT, NULL);
    if (count < 0) {
        return -errno;
    }
    for (int i = 0; i < count; i++) {
        arrivals[i].length = messages[i].msg_hdr.msg_namelen;
        arrivals[i].size = (ssize_t)messages[i].msg_len;
    }
    return count;
}
#endif

static int
receive(const AfDatagram *self, char *mailbag, Arrival *arrivals)
{
#if AF_HAVE_MMSG
    if (self->batch > 1) {
        return receive_many(self, mailbag, arrivals);
    }
#endif
    return receive_one(self, mailbag, arrivals);
}

/* The mailbag is another's as soon as Python code runs.
 * 0, or -1 with MemoryError. */
static int
arrivals_unpack(const AfDatagram *self, const char *mailbag, Arrival *arrivals,
                int count)
{
    for (int i = 0; i < count; i++) {
        arrivals[i].data = PyBytes_FromStringAndSize(
            mailbag + (size_t)i * slot_size(self), arrivals[i].size);
        if (arrivals[i].data == NULL) {
            while (i > 0) {
                Py_DECREF(arrivals[--i].data);
            }
            return -1;
        }
    }
    return 0;
}

/* None for a sender without a name, as socket.recvfrom has it. */
static PyObject *
arrival_address(const AfDatagram *self, const Arrival *arrival)
{
    if (arrival->length == 0) {
        Py_RETURN_NONE;
    }
    return af_address_book_get(self->base.loop->io->senders,
                               (const struct sockaddr *)&arrival->name,
                               arrival->length);
}

static int
deliver(AfDatagram *self, PyObject *data, PyObject *address)
{
    PyObject *args[] = {Py_NewRef(self->base.protocol), data, address};
    PyObject *result = PyObject_VectorcallMethod(
        self->base.loop->state->str_datagram_received, args, 3, NULL);
    int err = 0;
    if (result == NULL) {
        err = af_loop_report(self->base.loop, CALLBACK_FAILED, args[0],
                             (PyObject *)self);
    }
    Py_XDECREF(result);
    Py_DECREF(args[0]);
    return err;
}

/* What comes after a protocol closed the transport is dropped, as the system
 * drops what asyncio hasn't read; what comes after it paused waits. */
static int
arrival_handle(AfDatagram *self, const Arrival *arrival, int err)
{
    if (self->base.conn_lost || self->base.closing) {
        return err;
    }
    bool now = err == 0 && !self->base.reading_paused;
    PyObject *raised = err < 0 ? af_take_exception() : NULL;
    PyObject *address = arrival_address(self, arrival);
    int failed = -1;
    if (address != NULL) {
        failed = now ? deliver(self, arrival->data, address)
                     : af_flow_append_datagram(&self->backlog, arrival->data,
                                               address, 0);
        Py_DECREF(address);
    }
    if (address == NULL || (failed < 0 && !now)) {
        failed = af_transport_fatal(&self->base, READ_FAILED);
    }
    if (raised != NULL) {
        af_restore_exception(raised);
        return -1;
    }
    return failed;
}

static int
arrivals_handle(AfDatagram *self, Arrival *arrivals, int count)
{
    int err = 0;
    for (int i = 0; i < count; i++) {
        err = arrival_handle(self, &arrivals[i], err);
        Py_DECREF(arrivals[i].data);
    }
    if (err < 0) {
        PyObject *raised = af_take_exception();
        if (af_datagram_schedule_backlog(self) < 0) {
            PyErr_WriteUnraisable((PyObject *)self);
        }
        af_restore_exception(raised);
    }
    return err;
}

static void
datagram_count(const AfDatagram *self, const Arrival *arrivals, int count)
{
    ssize_t size = 0;
    for (int i = 0; i < count; i++) {
        size += arrivals[i].size;
    }
    af_loop_count_read(self->base.loop, size);
}

static int
datagram_receive(AfDatagram *self)
{
    Arrival arrivals[AF_DATAGRAM_BATCH];
    AfIo *io = af_io_for_datagrams(self->base.loop);
    if (io == NULL) {
        return af_transport_fatal(&self->base, READ_FAILED);
    }
    int count = receive(self, io->mailbag, arrivals);
    if (count < 0) {
        if (af_transport_would_block(-count)) {
            batch_adapt(self, 0);
            return 0;
        }
        return af_datagram_failed(self, -count) < 0
                   ? af_loop_report(self->base.loop, CALLBACK_FAILED,
                                    self->base.protocol, (PyObject *)self)
                   : 0;
    }
    batch_adapt(self, count);
    datagram_count(self, arrivals, count);
    if (arrivals_unpack(self, io->mailbag, arrivals, count) < 0) {
        return af_transport_fatal(&self->base, READ_FAILED);
    }
    return arrivals_handle(self, arrivals, count);
}

/* A family whose addresses only the socket module knows. */
static int
datagram_receive_generic(AfDatagram *self)
{
    PyObject *pair = PyObject_CallMethod(self->base.sock, "recvfrom", "i",
                                         (int)LARGE_SLOT_SIZE);
    if (pair != NULL) {
        int err =
            deliver(self, PyTuple_GET_ITEM(pair, 0), PyTuple_GET_ITEM(pair, 1));
        Py_DECREF(pair);
        return err;
    }
    if (PyErr_ExceptionMatches(PyExc_BlockingIOError)
        || PyErr_ExceptionMatches(PyExc_InterruptedError)) {
        PyErr_Clear();
        return 0;
    }
    return af_datagram_raised(self, READ_FAILED) < 0
               ? af_loop_report(self->base.loop, CALLBACK_FAILED,
                                self->base.protocol, (PyObject *)self)
               : 0;
}

/* Deliver what waits until nothing does or the protocol can't take it.
 * 0, or -1 with an exception that leaves the loop. */
static int
backlog_deliver(AfDatagram *self)
{
    int err = 0;
    while (err == 0 && self->backlog.count > 0
           && af_transport_reads(&self->base) && !self->base.conn_lost) {
        const AfPiece *piece = af_flow_peek(&self->backlog, 0);
        PyObject *data = Py_NewRef(piece->bytes);
        PyObject *address = Py_NewRef(piece->address);
        af_flow_pop(&self->backlog, 0);
        err = deliver(self, data, address);
        Py_DECREF(address);
        Py_DECREF(data);
    }
    return err;
}

/* The ready entry of a backlog. */
static int
backlog_run(AfLoop *Py_UNUSED(loop), PyObject *item)
{
    AfDatagram *self = (AfDatagram *)item;
    PyObject *context = Py_NewRef(self->base.context);
    self->backlog_scheduled = false;
    int err = PyContext_Enter(context);
    if (err == 0) {
        err = backlog_deliver(self);
        err = PyContext_Exit(context) < 0 ? -1 : err;
    }
    Py_DECREF(context);
    Py_DECREF(item);
    return err;
}

int
af_datagram_schedule_backlog(AfDatagram *self)
{
    if (self->backlog.count == 0 || self->backlog_scheduled) {
        return 0;
    }
    self->backlog_scheduled = true;
    return af_loop_push(self->base.loop, backlog_run,
                        Py_NewRef((PyObject *)self));
}

int
af_datagram_read(AfDatagram *self)
{
    if (backlog_deliver(self) < 0) {
        return -1;
    }
    if (self->base.conn_lost || !af_transport_reads(&self->base)) {
        return 0;
    }
    switch (self->family) {
    case AF_INET:
    case AF_INET6:
    case AF_UNIX:
        return datagram_receive(self);
    default:
        return datagram_receive_generic(self);
    }
}
