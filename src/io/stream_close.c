/* stream_close.c -- stream transport: closing, and giving a connection up. */
#include "io/stream.h"

#include "base/error.h"
#include "core/handle.h"

/* 0, or -1 with an exception; the socket is closed in any case. */
static int
stream_close_socket(AfStream *self)
{
    PyObject *sock = self->sock;
    self->sock = NULL;
    /* Its number may be another socket's soon: write to it no more. */
    self->closing = true;
    self->conn_lost += self->conn_lost == 0;
    af_poll_release(&self->loop->poll, &self->watch);
    PyObject *result =
        PyObject_CallMethodNoArgs(sock, self->loop->state->str_close);
    Py_DECREF(sock);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

int
af_stream_detach_server(AfStream *self)
{
    PyObject *server = self->server;
    if (server == NULL) {
        return 0;
    }
    self->server = NULL;
    PyObject *name = self->loop->state->str__detach;
    PyObject *result =
        PyObject_CallMethodOneArg(server, name, (PyObject *)self);
    Py_DECREF(server);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static int
stream_warn_unclosed(PyObject *op)
{
    return PyErr_ResourceWarning(op, 1, "unclosed transport %R", op);
}

void
af_stream_finalize(PyObject *op)
{
    AfStream *self = (AfStream *)op;
    if (self->sock == NULL) {
        return;
    }
    PyObject *pending = af_take_exception();
    if (stream_warn_unclosed(op) < 0) {
        PyErr_WriteUnraisable(op);
    }
    if (stream_close_socket(self) < 0) {
        PyErr_WriteUnraisable(op);
    }
    if (af_stream_detach_server(self) < 0) {
        PyErr_WriteUnraisable(op);
    }
    af_restore_exception(pending);
}

/* Schedule connection_lost(exc). */
static int
stream_schedule_lost(AfStream *self, PyObject *exc)
{
    AfLoop *loop = self->loop;
    if (af_loop_check_closed(loop) < 0) {
        return -1;
    }
    PyObject *callback = PyObject_GetAttr(
        (PyObject *)self, loop->state->str__call_connection_lost);
    if (callback == NULL) {
        return -1;
    }
    int err = af_handle_schedule(loop, callback, exc, self->context);
    Py_DECREF(callback);
    return err;
}

int
af_stream_force_close(AfStream *self, PyObject *exc)
{
    if (self->conn_lost) {
        return 0;
    }
    af_flow_clear(&self->flow);
    self->closing = true;
    self->conn_lost++;
    if (af_poll_want(&self->loop->poll, &self->watch, 0) < 0) {
        return -1;
    }
    return stream_schedule_lost(self, exc);
}

static int
stream_report_fatal(AfStream *self, const char *message)
{
    PyObject *exc = af_take_exception();
    af_restore_exception(Py_NewRef(exc));
    int err = 0;
    if (!af_error_is_oserror(exc)) {
        err = af_loop_report(self->loop, message, self->protocol,
                             (PyObject *)self);
    }
    else {
        PyErr_Clear();
        PyObject *logged =
            PyObject_CallMethod((PyObject *)self->loop, "_log_transport_error",
                                "OsO", (PyObject *)self, message, exc);
        Py_XDECREF(logged);
        err = logged == NULL ? -1 : 0;
    }
    Py_DECREF(exc);
    return err;
}

int
af_stream_fatal(AfStream *self, const char *message)
{
    if (af_error_leaves_loop()) {
        return -1;
    }
    PyObject *exc = af_take_exception();
    af_restore_exception(Py_NewRef(exc));
    int err = stream_report_fatal(self, message);
    if (err == 0) {
        err = af_stream_force_close(self, exc);
    }
    Py_DECREF(exc);
    return err;
}

static int
stream_call_lost(AfStream *self, PyObject *exc)
{
    PyObject *protocol = self->protocol;
    self->protocol = NULL;
    if (protocol == NULL) {
        return 0;
    }
    PyObject *result = PyObject_CallMethodOneArg(
        protocol, self->loop->state->str_connection_lost, exc);
    Py_DECREF(protocol);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static int
stream_fail_empty_waiter(AfStream *self)
{
    if (self->empty_waiter == NULL) {
        return 0;
    }
    PyErr_SetString(PyExc_ConnectionError, "Connection is closed by peer");
    return af_future_set_exception(self->loop->state, self->empty_waiter);
}

/* Whatever connection_lost raises, the socket gets closed; its exception is
 * the one that is passed on. */
int
af_stream_lose(AfStream *self, PyObject *exc)
{
    if (self->sock == NULL) {
        return 0;
    }
    int err = stream_call_lost(self, exc);
    PyObject *raised = err < 0 ? af_take_exception() : NULL;
    if (self->sock != NULL
        && (stream_close_socket(self) < 0 || af_stream_detach_server(self) < 0
            || stream_fail_empty_waiter(self) < 0)) {
        if (raised == NULL) {
            return -1;
        }
        PyErr_WriteUnraisable((PyObject *)self);
    }
    if (raised != NULL) {
        af_restore_exception(raised);
    }
    return err;
}

PyObject *
af_stream_call_connection_lost(PyObject *op, PyObject *exc)
{
    return af_stream_lose((AfStream *)op, exc) < 0 ? NULL : Py_NewRef(Py_None);
}

PyObject *
af_stream_close(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    AfStream *self = (AfStream *)op;
    if (self->closing) {
        Py_RETURN_NONE;
    }
    self->closing = true;
    if (af_stream_want(self, AF_READ, false) < 0) {
        return NULL;
    }
    if (self->flow.count == 0) {
        self->conn_lost++;
        if (stream_schedule_lost(self, Py_None) < 0) {
            return NULL;
        }
    }
    Py_RETURN_NONE;
}

PyObject *
af_stream_force_close_method(PyObject *op, PyObject *exc)
{
    if (af_stream_force_close((AfStream *)op, exc) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyObject *
af_stream_abort(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return af_stream_force_close_method(op, Py_None);
}

PyObject *
af_stream_fatal_error(PyObject *op, PyObject *args)
{
    PyObject *exc;
    const char *message = "Fatal error on transport";
    if (!PyArg_ParseTuple(args, "O|s:_fatal_error", &exc, &message)) {
        return NULL;
    }
    if (!PyExceptionInstance_Check(exc)) {
        PyErr_SetString(PyExc_TypeError, "exc must be an exception");
        return NULL;
    }
    PyErr_SetObject((PyObject *)Py_TYPE(exc), exc);
    if (af_stream_fatal((AfStream *)op, message) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}
