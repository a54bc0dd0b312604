/* sock.c -- the loop's sock_* methods.
 *
 * Each method returns an operation, which is a coroutine to whoever looks:
 * asyncio's are, so that they can be given to create_task. Awaited, it tries
 * its system call at once and, if that would block, waits on a future until
 * the descriptor is ready and tries again. The call happens in the awaiting
 * task's own step, so a task that is cancelled loses no data.
 *
 * Ownership: a waiting operation is held by the descriptor's watch as well as
 * by whoever awaits it, and withdraws itself when it is resumed or closed.
 */
#include "io/sock.h"

#include <errno.h>
#include <sys/socket.h>

#include "base/args.h"
#include "base/error.h"
#include "io/io.h"
#include "io/watch.h"

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0
#endif

typedef enum { CREATED, WAITING, FINISHED } Stage;

typedef struct Operation Operation;

/* One attempt: 1 with `*result` set (owned), 0 if it would block, -1 with an
 * exception. */
typedef int (*Attempt)(Operation *self, PyObject **result);

typedef struct {
    AfParams params;
    const char *qualname;
    const char *socket_method;
    int event;
    Attempt attempt;
} Kind;

struct Operation {
    PyObject_HEAD
    AfLoop *loop;     /* owned */
    PyObject *sock;   /* owned */
    PyObject *first;  /* owned; the method's arguments after the socket */
    PyObject *second; /* owned; NULL if not given */
    PyObject *future; /* owned; NULL unless waiting */
    PyObject *waiter; /* owned; the future's iterator */
    const Kind *kind;
    Py_ssize_t sent;
    int fd;
    Stage stage;
};

static int
operation_traverse(PyObject *op, visitproc visit, void *arg)
{
    Operation *self = (Operation *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->loop);
    Py_VISIT(self->sock);
    Py_VISIT(self->first);
    Py_VISIT(self->second);
    Py_VISIT(self->future);
    Py_VISIT(self->waiter);
    return 0;
}

static int
operation_clear(PyObject *op)
{
    Operation *self = (Operation *)op;
    Py_CLEAR(self->loop);
    Py_CLEAR(self->sock);
    Py_CLEAR(self->first);
    Py_CLEAR(self->second);
    Py_CLEAR(self->future);
    Py_CLEAR(self->waiter);
    return 0;
}

static void
operation_withdraw(Operation *self)
{
    if (self->stage == WAITING && self->loop != NULL) {
        (void)af_watch_unset(self->loop, self->fd, self->kind->event,
                             (PyObject *)self);
    }
}

static void
operation_finalize(PyObject *op)
{
    Operation *self = (Operation *)op;
    if (self->stage != CREATED || self->kind == NULL) {
        return;
    }
    PyObject *pending = af_take_exception();
    if (PyErr_WarnFormat(PyExc_RuntimeWarning, 1,
                         "coroutine '%s' was never awaited",
                         self->kind->qualname)
        < 0) {
        PyErr_WriteUnraisable(op);
    }
    af_restore_exception(pending);
}

static void
operation_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    if (PyObject_CallFinalizerFromDealloc(op) < 0) {
        return;
    }
    PyObject_GC_UnTrack(op);
    operation_clear(op);
    type->tp_free(op);
    Py_DECREF(type);
}

/* The descriptor is ready: let the awaiting task try again. */
static int
operation_fire(AfLoop *loop, PyObject *op)
{
    Operation *self = (Operation *)op;
    operation_withdraw(self);
    if (self->future == NULL) {
        return 0;
    }
    PyObject *future = Py_NewRef(self->future);
    int err = af_future_set_result(loop->state, future, Py_None);
    Py_DECREF(future);
    return err < 0 ? af_loop_report(loop, "Exception in callback of a socket",
                                    NULL, NULL)
                   : 0;
}

static PyObject *
future_iterator(PyObject *future)
{
    PyAsyncMethods *async = Py_TYPE(future)->tp_as_async;
    if (async == NULL || async->am_await == NULL) {
        PyErr_SetString(PyExc_TypeError,
                        "create_future() returned no awaitable");
        return NULL;
    }
    return async->am_await(future);
}

/* Wait on a fresh future; its first yield is stored. */
static PySendResult
operation_wait(Operation *self, PyObject **result)
{
    AfLoop *loop = self->loop;
    if (af_loop_check_closed(loop) < 0
        || af_watch_check_free(loop, self->sock, self->fd) < 0) {
        return PYGEN_ERROR;
    }
    Py_XSETREF(self->future, af_loop_create_future(loop));
    if (self->future == NULL) {
        return PYGEN_ERROR;
    }
    Py_XSETREF(self->waiter, future_iterator(self->future));
    if (self->waiter == NULL
        || af_watch_set(loop, self->fd, self->kind->event, operation_fire,
                        (PyObject *)self, self->sock)
               < 0) {
        return PYGEN_ERROR;
    }
    self->stage = WAITING;
    PyObject *waiter = Py_NewRef(self->waiter);
    PySendResult outcome = PyIter_Send(waiter, Py_None, result);
    Py_DECREF(waiter);
    return outcome;
}

static PySendResult
operation_finish(Operation *self, PySendResult outcome)
{
    if (outcome != PYGEN_NEXT) {
        operation_withdraw(self);
        self->stage = FINISHED;
        Py_CLEAR(self->waiter);
        Py_CLEAR(self->future);
    }
    return outcome;
}

static PySendResult
operation_try(Operation *self, PyObject **result)
{
    int done = self->kind->attempt(self, result);
    if (done > 0) {
        af_io_count(self->loop, self->kind->event, *result);
    }
    if (done != 0) {
        return done < 0 ? PYGEN_ERROR : PYGEN_RETURN;
    }
    return operation_wait(self, result);
}

static int
operation_check_blocking(Operation *self)
{
    PyObject *timeout = PyObject_CallMethodNoArgs(
        self->sock, self->loop->state->str_gettimeout);
    if (timeout == NULL) {
        return -1;
    }
    int blocking = PyObject_IsTrue(timeout) || timeout == Py_None;
    Py_DECREF(timeout);
    if (blocking) {
        PyErr_SetString(PyExc_ValueError, "the socket must be non-blocking");
        return -1;
    }
    return 0;
}

static int
operation_find_fd(Operation *self)
{
    self->fd = PyObject_AsFileDescriptor(self->sock);
    if (self->fd < 0 && PyErr_ExceptionMatches(PyExc_ValueError)) {
        /* A closed socket: the system call will say so. */
        PyErr_Clear();
    }
    return PyErr_Occurred() ? -1 : 0;
}

static int
operation_start(Operation *self)
{
    af_poll_stir(&self->loop->poll);
    PyObject *checked =
        PyObject_CallOneArg(self->loop->state->check_ssl_socket, self->sock);
    if (checked == NULL) {
        return -1;
    }
    Py_DECREF(checked);
    if (self->loop->debug && operation_check_blocking(self) < 0) {
        return -1;
    }
    /* What has no such method fails as it would in asyncio. */
    PyObject *method =
        PyObject_GetAttrString(self->sock, self->kind->socket_method);
    if (method == NULL) {
        return -1;
    }
    Py_DECREF(method);
    return operation_find_fd(self);
}

static PySendResult
operation_resume(Operation *self, PyObject *value, PyObject **result)
{
    PyObject *waiter = Py_NewRef(self->waiter);
    PySendResult outcome = PyIter_Send(waiter, value, result);
    Py_DECREF(waiter);
    if (outcome == PYGEN_NEXT) {
        return outcome;
    }
    operation_withdraw(self);
    self->stage = FINISHED;
    if (outcome == PYGEN_ERROR) {
        return outcome;
    }
    Py_CLEAR(*result);
    /* Closed meanwhile, its number may be another socket's by now. */
    return operation_find_fd(self) < 0 ? PYGEN_ERROR
                                       : operation_try(self, result);
}

static PySendResult
operation_send(PyObject *op, PyObject *value, PyObject **result)
{
    Operation *self = (Operation *)op;
    *result = NULL;
    PySendResult outcome = PYGEN_ERROR;
    if (self->loop == NULL) {
        self->stage = FINISHED; /* cleared by the collector */
    }
    switch (self->stage) {
    case CREATED:
        self->stage = FINISHED;
        if (operation_start(self) == 0) {
            outcome = operation_try(self, result);
        }
        break;
    case WAITING:
        outcome = operation_resume(self, value, result);
        break;
    case FINISHED:
        PyErr_SetString(PyExc_RuntimeError,
                        "cannot reuse already awaited coroutine");
        break;
    }
    return operation_finish(self, outcome);
}

/* As a coroutine's result is passed on: by StopIteration. */
static PyObject *
send_to_method(PySendResult outcome, PyObject *result)
{
    if (outcome != PYGEN_RETURN) {
        return result;
    }
    PyObject *stop = PyObject_CallOneArg(PyExc_StopIteration, result);
    Py_DECREF(result);
    if (stop != NULL) {
        PyErr_SetObject(PyExc_StopIteration, stop);
        Py_DECREF(stop);
    }
    return NULL;
}

static PyObject *
operation_iternext(PyObject *op)
{
    PyObject *result;
    PySendResult outcome = operation_send(op, Py_None, &result);
    return send_to_method(outcome, result);
}

static PyObject *
operation_send_method(PyObject *op, PyObject *value)
{
    PyObject *result;
    PySendResult outcome = operation_send(op, value, &result);
    return send_to_method(outcome, result);
}

/* Raise what throw() was given: an instance, or a class and a value. */
static void
throw_raise(PyObject *type, PyObject *value, PyObject *traceback)
{
    if (PyExceptionInstance_Check(type)) {
        PyErr_SetObject((PyObject *)Py_TYPE(type), type);
    }
    else if (PyExceptionClass_Check(type)) {
        PyErr_Restore(Py_NewRef(type), Py_XNewRef(value),
                      Py_XNewRef(traceback));
    }
    else {
        PyErr_Format(PyExc_TypeError,
                     "exceptions must be classes or instances deriving from "
                     "BaseException, not %s",
                     Py_TYPE(type)->tp_name);
    }
}

static PyObject *
operation_throw(PyObject *op, PyObject *args)
{
    Operation *self = (Operation *)op;
    PyObject *type, *value = NULL, *traceback = NULL;
    if (!PyArg_ParseTuple(args, "O|OO:throw", &type, &value, &traceback)) {
        return NULL;
    }
    if (self->stage != WAITING) {
        throw_raise(type, value, traceback);
        operation_finish(self, PYGEN_ERROR);
        return NULL;
    }
    operation_withdraw(self);
    PyObject *method =
        PyObject_GetAttr(self->waiter, self->loop->state->str_throw);
    PyObject *result =
        method == NULL ? NULL : PyObject_CallObject(method, args);
    Py_XDECREF(method);
    operation_finish(self, result == NULL ? PYGEN_ERROR : PYGEN_NEXT);
    return result;
}

static PyObject *
operation_close(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    Operation *self = (Operation *)op;
    operation_withdraw(self);
    operation_finish(self, PYGEN_ERROR);
    Py_RETURN_NONE;
}

static PyObject *
operation_name(PyObject *op, void *Py_UNUSED(closure))
{
    return PyUnicode_FromString(((Operation *)op)->kind->params.function);
}

static PyObject *
operation_qualname(PyObject *op, void *Py_UNUSED(closure))
{
    return PyUnicode_FromString(((Operation *)op)->kind->qualname);
}

static int
would_block(int code)
{
    return code == EAGAIN || code == EWOULDBLOCK || code == EINTR;
}

/* Of a system call that failed: 0 if it would block, -1 with OSError. */
static int
attempt_failed(void)
{
    int code = errno;
    if (would_block(code)) {
        return 0;
    }
    af_error_from_errno(code);
    return -1;
}

/* The other calls are the socket's own, for every address family it knows:
 * 1 with its result, 0 if it would block, -1 with an exception. */
static int
attempt_method(Operation *self, PyObject *name, PyObject **result)
{
    *result = PyObject_CallMethodObjArgs(self->sock, name, self->first,
                                         self->second, NULL);
    if (*result != NULL) {
        return 1;
    }
    if (PyErr_ExceptionMatches(PyExc_BlockingIOError)
        || PyErr_ExceptionMatches(PyExc_InterruptedError)) {
        PyErr_Clear();
        return 0;
    }
    return -1;
}

static int
recv_small(Operation *self, Py_ssize_t size, PyObject **result)
{
    char *scratch = af_io_scratch(self->loop);
    if (scratch == NULL) {
        return -1;
    }
    ssize_t count = recv(self->fd, scratch, (size_t)size, 0);
    if (count < 0) {
        return attempt_failed();
    }
    *result = PyBytes_FromStringAndSize(scratch, count);
    return *result == NULL ? -1 : 1;
}

static int
recv_large(Operation *self, Py_ssize_t size, PyObject **result)
{
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, size);
    if (bytes == NULL) {
        return -1;
    }
    ssize_t count = recv(self->fd, PyBytes_AS_STRING(bytes), (size_t)size, 0);
    if (count < 0) {
        int failed = attempt_failed();
        Py_DECREF(bytes);
        return failed;
    }
    if (_PyBytes_Resize(&bytes, count) < 0) {
        return -1;
    }
    *result = bytes;
    return 1;
}

static int
attempt_recv(Operation *self, PyObject **result)
{
    PyObject *number = PyNumber_Index(self->first);
    if (number == NULL) {
        return -1;
    }
    Py_ssize_t size = PyLong_AsSsize_t(number);
    Py_DECREF(number);
    if (size == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (size < 0) {
        PyErr_SetString(PyExc_ValueError, "negative buffersize in recv");
        return -1;
    }
    if (size == 0) {
        /* As the socket module: nothing asked for, nothing done. */
        *result = PyBytes_FromStringAndSize(NULL, 0);
        return *result == NULL ? -1 : 1;
    }
    return size <= AF_SCRATCH_SIZE ? recv_small(self, size, result)
                                   : recv_large(self, size, result);
}

static int
attempt_recv_into(Operation *self, PyObject **result)
{
    Py_buffer view;
    if (PyObject_GetBuffer(self->first, &view, PyBUF_WRITABLE) < 0) {
        PyErr_Clear();
        /* The socket's own method says what is wrong with the buffer. */
        return attempt_method(self, self->loop->state->str_recv_into, result);
    }
    ssize_t count =
        view.len == 0 ? 0 : recv(self->fd, view.buf, (size_t)view.len, 0);
    int outcome = count < 0 ? attempt_failed() : 1;
    PyBuffer_Release(&view);
    if (outcome == 1) {
        *result = PyLong_FromSsize_t(count);
        return *result == NULL ? -1 : 1;
    }
    return outcome;
}

/* 1 when all is sent, 0 if the rest would block, -1 with OSError. */
static int
send_rest(Operation *self, const Py_buffer *view)
{
    if (self->sent > view->len) {
        PyErr_SetString(PyExc_BufferError, "the data has shrunk");
        return -1;
    }
    do {
        const char *data = (const char *)view->buf + self->sent;
        ssize_t count = send(self->fd, data, (size_t)(view->len - self->sent),
                             MSG_NOSIGNAL);
        if (count < 0) {
            return attempt_failed();
        }
        af_loop_count_write(self->loop, count);
        self->sent += count;
    } while (self->sent < view->len);
    return 1;
}

/* While there is more to send, nobody may resize the data. */
static int
sendall_hold(Operation *self)
{
    if (PyBytes_CheckExact(self->first) || PyMemoryView_Check(self->first)) {
        return 0;
    }
    PyObject *held = PyMemoryView_FromObject(self->first);
    if (held == NULL) {
        return -1;
    }
    Py_SETREF(self->first, held);
    return 0;
}

static int
attempt_sendall(Operation *self, PyObject **result)
{
    Py_buffer view;
    if (PyObject_GetBuffer(self->first, &view, PyBUF_SIMPLE) < 0) {
        return -1;
    }
    int outcome = send_rest(self, &view);
    if (outcome == 0 && sendall_hold(self) < 0) {
        outcome = -1;
    }
    PyBuffer_Release(&view);
    if (outcome == 1) {
        *result = Py_NewRef(Py_None);
    }
    return outcome;
}

static int
attempt_recvfrom(Operation *self, PyObject **result)
{
    return attempt_method(self, self->loop->state->str_recvfrom, result);
}

/* Whatever is false stands for the length of the buffer, as asyncio has it. */
static int
recvfrom_into_count(Operation *self)
{
    int given = self->second == NULL ? 0 : PyObject_IsTrue(self->second);
    if (given != 0) {
        return given < 0 ? -1 : 0;
    }
    Py_ssize_t length = PyObject_Size(self->first);
    PyObject *count = length < 0 ? NULL : PyLong_FromSsize_t(length);
    if (count == NULL) {
        return -1;
    }
    Py_XSETREF(self->second, count);
    return 0;
}

static int
attempt_recvfrom_into(Operation *self, PyObject **result)
{
    if (recvfrom_into_count(self) < 0) {
        return -1;
    }
    return attempt_method(self, self->loop->state->str_recvfrom_into, result);
}

static int
attempt_sendto(Operation *self, PyObject **result)
{
    return attempt_method(self, self->loop->state->str_sendto, result);
}

static int
attempt_accept(Operation *self, PyObject **result)
{
    AfState *state = self->loop->state;
    int outcome = attempt_method(self, state->str_accept, result);
    if (outcome != 1) {
        return outcome;
    }
    PyObject *connection = PySequence_GetItem(*result, 0);
    PyObject *none = connection == NULL
                         ? NULL
                         : PyObject_CallMethodOneArg(
                             connection, state->str_setblocking, Py_False);
    Py_XDECREF(connection);
    if (none == NULL) {
        Py_CLEAR(*result);
        return -1;
    }
    Py_DECREF(none);
    return 1;
}

static const Kind recv_kind = {
    {"sock_recv", 2, 2, {"sock", "n", NULL}},
    "Loop.sock_recv",
    "recv",
    AF_READ,
    attempt_recv,
};
static const Kind recv_into_kind = {
    {"sock_recv_into", 2, 2, {"sock", "buf", NULL}},
    "Loop.sock_recv_into",
    "recv_into",
    AF_READ,
    attempt_recv_into,
};
static const Kind recvfrom_kind = {
    {"sock_recvfrom", 2, 2, {"sock", "bufsize", NULL}},
    "Loop.sock_recvfrom",
    "recvfrom",
    AF_READ,
    attempt_recvfrom,
};
static const Kind recvfrom_into_kind = {
    {"sock_recvfrom_into", 2, 3, {"sock", "buf", "nbytes", NULL}},
    "Loop.sock_recvfrom_into",
    "recvfrom_into",
    AF_READ,
    attempt_recvfrom_into,
};
static const Kind sendall_kind = {
    {"sock_sendall", 2, 2, {"sock", "data", NULL}},
    "Loop.sock_sendall",
    "send",
    AF_WRITE,
    attempt_sendall,
};
static const Kind sendto_kind = {
    {"sock_sendto", 3, 3, {"sock", "data", "address", NULL}},
    "Loop.sock_sendto",
    "sendto",
    AF_WRITE,
    attempt_sendto,
};
static const Kind accept_kind = {
    {"sock_accept", 1, 1, {"sock", NULL}},
    "Loop.sock_accept",
    "fileno",
    AF_READ,
    attempt_accept,
};

static PyObject *
operation_new(const Kind *kind, PyObject *loop, PyObject *const *args,
              Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *given[3] = {NULL, NULL, NULL};
    if (af_args_parse(&kind->params, args, nargs, kwnames, given) < 0) {
        return NULL;
    }
    PyTypeObject *type = ((AfLoop *)loop)->state->SockOperation_type;
    Operation *self = (Operation *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->loop = (AfLoop *)Py_NewRef(loop);
    self->sock = Py_NewRef(given[0]);
    self->first = Py_XNewRef(given[1]);
    self->second = Py_XNewRef(given[2]);
    self->kind = kind;
    self->fd = -1;
    return (PyObject *)self;
}

PyObject *
af_sock_recv(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
             PyObject *kwnames)
{
    return operation_new(&recv_kind, self, args, nargs, kwnames);
}

PyObject *
af_sock_recv_into(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                  PyObject *kwnames)
{
    return operation_new(&recv_into_kind, self, args, nargs, kwnames);
}

PyObject *
af_sock_recvfrom(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                 PyObject *kwnames)
{
    return operation_new(&recvfrom_kind, self, args, nargs, kwnames);
}

PyObject *
af_sock_recvfrom_into(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                      PyObject *kwnames)
{
    return operation_new(&recvfrom_into_kind, self, args, nargs, kwnames);
}

PyObject *
af_sock_sendall(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                PyObject *kwnames)
{
    return operation_new(&sendall_kind, self, args, nargs, kwnames);
}

PyObject *
af_sock_sendto(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
               PyObject *kwnames)
{
    return operation_new(&sendto_kind, self, args, nargs, kwnames);
}

PyObject *
af_sock_accept(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
               PyObject *kwnames)
{
    return operation_new(&accept_kind, self, args, nargs, kwnames);
}

PyDoc_STRVAR(send_doc, "send($self, value, /)\n--\n\n"
                       "Resume the operation, as coroutine.send().");
PyDoc_STRVAR(throw_doc, "throw($self, type, value=None, traceback=None, /)\n"
                        "--\n\n"
                        "Raise an exception in the operation, as "
                        "coroutine.throw().");
PyDoc_STRVAR(close_doc, "close($self, /)\n--\n\n"
                        "Give the operation up, as coroutine.close().");

static PyMethodDef operation_methods[] = {
    {"send", operation_send_method, METH_O, send_doc},
    {"throw", operation_throw, METH_VARARGS, throw_doc},
    {"close", operation_close, METH_NOARGS, close_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef operation_getset[] = {
    {"__name__", operation_name, NULL, NULL, NULL},
    {"__qualname__", operation_qualname, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(operation_doc, "An awaitable socket operation, as the loop's "
                            "sock_* methods return it.");

static PyType_Slot operation_slots[] = {
    {Py_tp_doc, (void *)operation_doc},   {Py_tp_dealloc, operation_dealloc},
    {Py_tp_finalize, operation_finalize}, {Py_tp_traverse, operation_traverse},
    {Py_tp_clear, operation_clear},       {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, operation_iternext}, {Py_am_await, PyObject_SelfIter},
    {Py_am_send, operation_send},         {Py_tp_methods, operation_methods},
    {Py_tp_getset, operation_getset},     {0, NULL},
};

static PyType_Spec operation_spec = {
    .name = "asyncfast._core.SockOperation",
    .basicsize = sizeof(Operation),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = operation_slots,
};

int
af_sock_init_type(PyObject *module)
{
    AfState *state = PyModule_GetState(module);
    return af_state_add_type(module, &state->SockOperation_type,
                             &operation_spec, NULL);
}
