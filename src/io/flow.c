/* flow.c -- a transport's write buffer and its water marks. */
#include "io/flow.h"

#include <errno.h>
#include <limits.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <string.h>

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0
#endif

enum { FIRST_CAPACITY = 8, DEFAULT_HIGH = 64 * 1024 };

void
af_flow_init(AfFlow *flow)
{
    memset(flow, 0, sizeof(*flow));
    flow->high = DEFAULT_HIGH;
    flow->low = DEFAULT_HIGH / 4;
}

static AfPiece *
flow_at(const AfFlow *flow, size_t index)
{
    return &flow->pieces[(flow->head + index) & (flow->capacity - 1)];
}

static void
flow_drop_first(AfFlow *flow)
{
    AfPiece piece = *flow_at(flow, 0);
    flow->head = (flow->head + 1) & (flow->capacity - 1);
    flow->count--;
    Py_DECREF(piece.bytes);
    Py_XDECREF(piece.address);
}

void
af_flow_clear(AfFlow *flow)
{
    while (flow->count > 0) {
        flow_drop_first(flow);
    }
    PyMem_Free(flow->pieces);
    flow->pieces = NULL;
    flow->capacity = flow->head = flow->size = 0;
}

static int
flow_grow(AfFlow *flow)
{
    size_t capacity = flow->capacity ? flow->capacity * 2 : FIRST_CAPACITY;
    AfPiece *pieces = PyMem_New(AfPiece, capacity);
    if (pieces == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < flow->count; i++) {
        pieces[i] = *flow_at(flow, i);
    }
    PyMem_Free(flow->pieces);
    flow->pieces = pieces;
    flow->capacity = capacity;
    flow->head = 0;
    return 0;
}

int
af_flow_reserve(AfFlow *flow, size_t count)
{
    while (flow->capacity - flow->count < count) {
        if (flow_grow(flow) < 0) {
            return -1;
        }
    }
    return 0;
}

/* A caller may change a bytearray or what a memoryview shows after write():
 * what was written then is what is sent. */
static int
flow_snapshot(PyObject *data, Py_ssize_t skip, AfPiece *piece)
{
    piece->address = NULL;
    if (PyBytes_CheckExact(data)) {
        piece->bytes = Py_NewRef(data);
        piece->offset = skip;
        return 0;
    }
    Py_buffer view;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
        return -1;
    }
    piece->bytes = PyBytes_FromStringAndSize((const char *)view.buf + skip,
                                             view.len - skip);
    piece->offset = 0;
    PyBuffer_Release(&view);
    return piece->bytes == NULL ? -1 : 0;
}

/* Steals what the piece holds, also on failure. */
static int
flow_push(AfFlow *flow, const AfPiece *piece, size_t weight)
{
    if (flow->count == flow->capacity && flow_grow(flow) < 0) {
        Py_DECREF(piece->bytes);
        Py_XDECREF(piece->address);
        return -1;
    }
    *flow_at(flow, flow->count++) = *piece;
    flow->size += weight;
    return 0;
}

int
af_flow_append(AfFlow *flow, PyObject *data, Py_ssize_t skip)
{
    AfPiece piece;
    if (flow_snapshot(data, skip, &piece) < 0) {
        return -1;
    }
    Py_ssize_t size = PyBytes_GET_SIZE(piece.bytes) - piece.offset;
    if (size == 0) {
        Py_DECREF(piece.bytes);
        return 0;
    }
    return flow_push(flow, &piece, (size_t)size);
}

int
af_flow_append_datagram(AfFlow *flow, PyObject *data, PyObject *address,
                        size_t weight)
{
    AfPiece piece;
    if (flow_snapshot(data, 0, &piece) < 0) {
        return -1;
    }
    piece.address = Py_NewRef(address);
    return flow_push(flow, &piece, weight);
}

const AfPiece *
af_flow_peek(const AfFlow *flow, size_t index)
{
    return flow_at(flow, index);
}

void
af_flow_pop(AfFlow *flow, size_t weight)
{
    flow->size -= weight;
    flow_drop_first(flow);
}

static size_t
flow_fill_vector(const AfFlow *flow, struct iovec *vector)
{
    size_t count = flow->count < AF_FLOW_PIECES_A_CALL ? flow->count
                                                       : AF_FLOW_PIECES_A_CALL;
    for (size_t i = 0; i < count; i++) {
        const AfPiece *piece = flow_at(flow, i);
        vector[i].iov_base = PyBytes_AS_STRING(piece->bytes) + piece->offset;
        vector[i].iov_len =
            (size_t)(PyBytes_GET_SIZE(piece->bytes) - piece->offset);
    }
    return count;
}

static void
flow_consume(AfFlow *flow, size_t sent)
{
    flow->size -= sent;
    while (sent > 0) {
        AfPiece *piece = flow_at(flow, 0);
        size_t left = (size_t)(PyBytes_GET_SIZE(piece->bytes) - piece->offset);
        if (sent < left) {
            piece->offset += (Py_ssize_t)sent;
            return;
        }
        sent -= left;
        flow_drop_first(flow);
    }
}

ssize_t
af_flow_send(AfFlow *flow, int fd)
{
    struct iovec vector[AF_FLOW_PIECES_A_CALL];
    struct msghdr message;
    memset(&message, 0, sizeof(message));
    message.msg_iov = vector;
    message.msg_iovlen = flow_fill_vector(flow, vector);
    ssize_t sent = sendmsg(fd, &message, MSG_NOSIGNAL);
    if (sent < 0) {
        return -errno;
    }
    flow_consume(flow, (size_t)sent);
    return sent;
}

/* asyncio takes any number; beyond the address space is out of reach anyway,
 * infinity, too. -1 with TypeError. */
static Py_ssize_t
limit_value(PyObject *number)
{
    PyObject *integer = PyNumber_Long(number);
    if (integer == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_OverflowError)) {
            return -1;
        }
        PyErr_Clear();
        return PY_SSIZE_T_MAX;
    }
    Py_ssize_t value = PyNumber_AsSsize_t(integer, NULL);
    Py_DECREF(integer);
    return value < 0 ? 0 : value;
}

static PyObject *
limit_default_high(PyObject *low)
{
    if (low == Py_None) {
        return PyLong_FromLong(DEFAULT_HIGH);
    }
    PyObject *four = PyLong_FromLong(4);
    PyObject *high = four == NULL ? NULL : PyNumber_Multiply(four, low);
    Py_XDECREF(four);
    return high;
}

static PyObject *
limit_default_low(PyObject *high)
{
    PyObject *four = PyLong_FromLong(4);
    PyObject *low = four == NULL ? NULL : PyNumber_FloorDivide(high, four);
    Py_XDECREF(four);
    return low;
}

/* high >= low >= 0, compared as Python does, for its exceptions. */
static int
limits_are_ordered(PyObject *high, PyObject *low)
{
    int above = PyObject_RichCompareBool(high, low, Py_GE);
    if (above <= 0) {
        return above;
    }
    PyObject *zero = PyLong_FromLong(0);
    int positive =
        zero == NULL ? -1 : PyObject_RichCompareBool(low, zero, Py_GE);
    Py_XDECREF(zero);
    return positive;
}

static int
flow_store_limits(AfFlow *flow, PyObject *high, PyObject *low)
{
    int ordered = limits_are_ordered(high, low);
    if (ordered == 0) {
        PyErr_Format(PyExc_ValueError,
                     "high (%R) must be >= low (%R) must be >= 0", high, low);
    }
    if (ordered <= 0) {
        return -1;
    }
    Py_ssize_t high_value = limit_value(high);
    Py_ssize_t low_value = high_value < 0 ? -1 : limit_value(low);
    if (low_value < 0) {
        return -1;
    }
    flow->high = (size_t)high_value;
    flow->low = (size_t)low_value;
    return 0;
}

int
af_flow_set_limits(AfFlow *flow, PyObject *high, PyObject *low)
{
    int err = -1;
    high = high == NULL ? Py_None : high;
    low = low == NULL ? Py_None : low;
    high = high == Py_None ? limit_default_high(low) : Py_NewRef(high);
    if (high == NULL) {
        return -1;
    }
    low = low == Py_None ? limit_default_low(high) : Py_NewRef(low);
    if (low != NULL) {
        err = flow_store_limits(flow, high, low);
        Py_DECREF(low);
    }
    Py_DECREF(high);
    return err;
}
