/* transport_close.c -- a transport over a socket: closing, and giving it up. */
#include "io/transport.h"

#include "base/error.h"
#include "core/handle.h"
#include "io/hold.h"

/* 0, or -1 with an exception; the socket is closed in any case. */
static int
transport_close_socket(AfTransport *self)
{
    PyObject *sock = self->sock;
    self->sock = NULL;
    self->live = &af_transport_closed_fd;
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
af_transport_tell_server(AfTransport *self, PyObject *server, PyObject *method)
{
    PyObject *args[] = {server, (PyObject *)self};
    PyObject *result = PyObject_VectorcallMethod(
        method, args, AF_SERVER_KNOWS_CLIENTS ? 2 : 1, NULL);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

int
af_transport_detach_server(AfTransport *self)
{
    PyObject *server = self->server;
    if (server == NULL) {
        return 0;
    }
    self->server = NULL;
    int err =
        af_transport_tell_server(self, server, self->loop->state->str__detach);
    Py_DECREF(server);
    return err;
}

void
af_transport_finalize(PyObject *op)
{
    AfTransport *self = (AfTransport *)op;
    if (self->sock == NULL) {
        return;
    }
    PyObject *pending = af_take_exception();
    if (PyErr_ResourceWarning(op, 1, "unclosed transport %R", op) < 0) {
        PyErr_WriteUnraisable(op);
    }
    if (transport_close_socket(self) < 0) {
        PyErr_WriteUnraisable(op);
    }
    if (af_transport_detach_server(self) < 0) {
        PyErr_WriteUnraisable(op);
    }
    af_restore_exception(pending);
}

/* Schedule connection_lost(exc). */
static int
transport_schedule_lost(AfTransport *self, PyObject *exc)
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
af_transport_force_close(AfTransport *self, PyObject *exc)
{
    if (self->conn_lost) {
        return 0;
    }
    if (af_hold_settle(self) < 0) {
        return -1;
    }
    if (self->conn_lost) {
        return 0;
    }
    af_flow_clear(&self->flow);
    self->closing = true;
    self->conn_lost++;
    if (af_poll_want(&self->loop->poll, &self->watch, 0) < 0) {
        return -1;
    }
    return transport_schedule_lost(self, exc);
}

int
af_transport_report(AfTransport *self)
{
    return af_loop_report(self->loop, "Exception in callback of transport",
                          self->protocol, (PyObject *)self);
}

static int
transport_report_fatal(AfTransport *self, const char *message)
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
af_transport_fatal(AfTransport *self, const char *message)
{
    if (af_error_leaves_loop()) {
        return -1;
    }
    PyObject *exc = af_take_exception();
    af_restore_exception(Py_NewRef(exc));
    /* What came or went so far may be incomplete: even if nobody can be told,
     * nothing may follow it. */
    int err = transport_report_fatal(self, message);
    PyObject *raised = err < 0 ? af_take_exception() : NULL;
    if (af_transport_force_close(self, exc) < 0) {
        err = -1;
        if (raised != NULL) {
            PyErr_WriteUnraisable((PyObject *)self);
        }
    }
    if (raised != NULL) {
        af_restore_exception(raised);
    }
    Py_DECREF(exc);
    return err;
}

static int
transport_call_lost(AfTransport *self, PyObject *exc)
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

/* Whatever connection_lost raises, the socket gets closed; its exception is
 * the one that is passed on. */
int
af_transport_lose(AfTransport *self, PyObject *exc)
{
    if (self->sock == NULL) {
        return 0;
    }
    int err = transport_call_lost(self, exc);
    PyObject *raised = err < 0 ? af_take_exception() : NULL;
    if (self->sock != NULL
        && (transport_close_socket(self) < 0
            || af_transport_detach_server(self) < 0)) {
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
af_transport_call_connection_lost(PyObject *op, PyObject *exc)
{
    if (af_transport_lose((AfTransport *)op, exc) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyObject *
af_transport_close(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    AfTransport *self = (AfTransport *)op;
    if (af_hold_settle(self) < 0) {
        return NULL;
    }
    if (self->closing) {
        Py_RETURN_NONE;
    }
    self->closing = true;
    if (af_transport_want(self, AF_READ, false) < 0) {
        return NULL;
    }
    if (self->flow.count == 0) {
        self->conn_lost++;
        if (transport_schedule_lost(self, Py_None) < 0) {
            return NULL;
        }
    }
    Py_RETURN_NONE;
}

PyObject *
af_transport_force_close_method(PyObject *op, PyObject *exc)
{
    if (af_transport_force_close((AfTransport *)op, exc) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyObject *
af_transport_abort(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return af_transport_force_close_method(op, Py_None);
}

PyObject *
af_transport_fatal_error(PyObject *op, PyObject *args)
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
    if (af_transport_fatal((AfTransport *)op, message) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyObject *
af_transport_list_clients(PyObject *op, PyObject *server)
{
    AfLoop *loop = (AfLoop *)op;
    PyObject *list = PyList_New(0);
    for (int fd = 0; list != NULL && fd < loop->poll.capacity; fd++) {
        AfWatch *watch = af_poll_find(&loop->poll, fd);
        PyObject *owner = watch == NULL ? NULL : watch->owner;
        if (owner != NULL
            && PyObject_TypeCheck(owner, loop->state->Transport_type)
            && ((AfTransport *)owner)->server == server
            && PyList_Append(list, owner) < 0) {
            Py_CLEAR(list);
        }
    }
    return list;
}
