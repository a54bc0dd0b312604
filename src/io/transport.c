/* transport.c -- a transport over a socket: life, reading on and off, water
 * marks, its type.
 *
 * Ownership: the poller holds a transport while it reads or has data to send,
 * so one that is forgotten in between is collected, with a ResourceWarning, as
 * asyncio's is. connection_lost drops protocol, socket and server.
 */
#include "io/transport.h"

#include "base/args.h"
#include "base/error.h"
#include "core/handle.h"
#include "io/extra.h"
#include "io/hold.h"

/* asyncio's LOG_THRESHOLD_FOR_CONNLOST_WRITES. */
enum { WARN_AFTER_WRITES = 5 };

const int af_transport_closed_fd = -1;

int
af_transport_traverse(PyObject *op, visitproc visit, void *arg)
{
    AfTransport *self = (AfTransport *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->extra);
    Py_VISIT(self->dict);
    Py_VISIT(self->loop);
    Py_VISIT(self->sock);
    Py_VISIT(self->protocol);
    Py_VISIT(self->server);
    Py_VISIT(self->context);
    Py_VISIT(self->waiter);
    return 0;
}

int
af_transport_clear(PyObject *op)
{
    AfTransport *self = (AfTransport *)op;
    Py_CLEAR(self->extra);
    Py_CLEAR(self->dict);
    self->live = &af_transport_closed_fd;
    Py_CLEAR(self->sock);
    Py_CLEAR(self->protocol);
    Py_CLEAR(self->server);
    Py_CLEAR(self->context);
    Py_CLEAR(self->waiter);
    if (self->loop != NULL) {
        af_poll_release(&self->loop->poll, &self->watch);
    }
    /* Methods rely on the loop, and its own clear breaks every cycle. */
    return 0;
}

void
af_transport_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    if (PyObject_CallFinalizerFromDealloc(op) < 0) {
        return;
    }
    PyObject_GC_UnTrack(op);
    PyObject_ClearWeakRefs(op);
    AfTransport *self = (AfTransport *)op;
    af_flow_clear(&self->flow);
    type->tp_clear(op);
    Py_CLEAR(self->loop);
    type->tp_free(op);
    Py_DECREF(type);
}

/* Sockets keep their descriptor right behind the object's head. */
static void
transport_own_socket(AfTransport *self, PyObject *sock)
{
    const int *inside = (const int *)((const char *)sock + sizeof(PyObject));
    bool known =
        PyObject_TypeCheck(sock, (PyTypeObject *)self->loop->state->Socket)
        && *inside == self->fd;
    self->live = known ? inside : &self->fd;
    self->sock = Py_NewRef(sock);
}

static int
transport_run_ready(AfLoop *Py_UNUSED(loop), PyObject *item)
{
    AfTransport *self = (AfTransport *)item;
    /* What ran before may have closed or paused it. */
    int events = self->pending & self->watch.wanted;
    self->pending = 0;
    int err = events == 0 ? 0 : self->ready(self, events);
    if (err < 0) {
        err = af_transport_report(self);
    }
    Py_DECREF(item);
    return err;
}

/* Behind what was scheduled before, as asyncio has it. */
static int
on_ready(AfWatch *watch, int events)
{
    AfTransport *self = (AfTransport *)watch->owner;
    if (self->pending == 0
        && af_loop_push(self->loop, transport_run_ready,
                        Py_NewRef((PyObject *)self))
               < 0) {
        PyErr_Clear(); /* it is still ready the next time */
        return 0;
    }
    self->pending |= events;
    return 0;
}

AfTransport *
af_transport_alloc(AfLoop *loop, PyTypeObject *type, AfTransportReady ready,
                   PyObject *extra, PyObject *context)
{
    AfTransport *self = (AfTransport *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->loop = (AfLoop *)Py_NewRef((PyObject *)loop);
    self->watch.owner = (PyObject *)self;
    self->watch.on_ready = on_ready;
    self->ready = ready;
    self->live = &af_transport_closed_fd;
    self->watch.private_fd = true;
    self->watch.fd = -1;
    af_flow_init(&self->flow);
    self->extra = extra == NULL ? PyDict_New() : Py_NewRef(extra);
    self->context =
        context == NULL ? PyContext_CopyCurrent() : Py_NewRef(context);
    if (self->extra == NULL || self->context == NULL) {
        Py_CLEAR(self);
    }
    return self;
}

int
af_transport_open(AfTransport *self, PyObject *sock)
{
    AfLoop *loop = self->loop;
    self->fd = PyObject_AsFileDescriptor(sock);
    if (self->fd < 0 || af_extra_fill(loop->state, self->extra, sock) < 0) {
        return -1;
    }
    return af_poll_claim(&loop->poll, &self->watch, self->fd);
}

static int
transport_tell_waiter(AfTransport *self)
{
    PyObject *waiter = self->waiter;
    if (waiter == NULL) {
        return 0;
    }
    self->waiter = NULL;
    int err = af_future_set_result(self->loop->state, waiter, Py_None);
    Py_DECREF(waiter);
    return err < 0 ? af_transport_report(self) : 0;
}

/* The ready entry that follows connection_made: read, and tell the waiter. */
static int
transport_begin(AfLoop *Py_UNUSED(loop), PyObject *item)
{
    AfTransport *self = (AfTransport *)item;
    int err = 0;
    if (af_transport_reads(self)
        && af_transport_want(self, AF_READ, true) < 0) {
        err = af_transport_fatal(self, "Fatal read error on transport");
    }
    if (err == 0) {
        err = transport_tell_waiter(self);
    }
    else {
        err = af_transport_report(self);
    }
    Py_DECREF(item);
    return err;
}

int
af_transport_start(AfTransport *self, PyObject *sock)
{
    AfLoop *loop = self->loop;
    PyObject *callback =
        PyObject_GetAttr(self->protocol, loop->state->str_connection_made);
    if (callback == NULL) {
        return -1;
    }
    int err =
        af_handle_schedule(loop, callback, (PyObject *)self, self->context);
    Py_DECREF(callback);
    if (err < 0
        || af_loop_push(loop, transport_begin, Py_NewRef((PyObject *)self))
               < 0) {
        return -1;
    }
    transport_own_socket(self, sock);
    return 0;
}

void
af_transport_abandon(AfTransport *self)
{
    PyObject *exc = af_take_exception();
    /* connection_made may be scheduled already. */
    self->closing = true;
    self->conn_lost++;
    if (af_transport_detach_server(self) < 0) {
        PyErr_WriteUnraisable((PyObject *)self);
    }
    af_poll_release(&self->loop->poll, &self->watch);
    Py_DECREF(self);
    af_restore_exception(exc);
}

int
af_transport_want(AfTransport *self, int event, bool on)
{
    int wanted = on ? self->watch.wanted | event : self->watch.wanted & ~event;
    return af_poll_want(&self->loop->poll, &self->watch, wanted);
}

ssize_t
af_transport_send_flow(AfTransport *self)
{
    ssize_t sent = af_flow_send(&self->flow, af_transport_fd(self));
    if (sent > 0) {
        af_loop_count_write(self->loop, sent);
    }
    return sent;
}

/* Water marks */

static int
transport_notify(AfTransport *self, PyObject *method, const char *message)
{
    PyObject *protocol = Py_NewRef(self->protocol);
    PyObject *result = PyObject_CallMethodNoArgs(protocol, method);
    int err = 0;
    if (result == NULL) {
        err = af_loop_report(self->loop, message, protocol, (PyObject *)self);
    }
    Py_XDECREF(result);
    Py_DECREF(protocol);
    return err;
}

int
af_transport_maybe_pause(AfTransport *self)
{
    if (self->flow.size <= self->flow.high || self->flow.paused
        || self->protocol == NULL) {
        return 0;
    }
    self->flow.paused = true;
    return transport_notify(self, self->loop->state->str_pause_writing,
                            "protocol.pause_writing() failed");
}

int
af_transport_maybe_resume(AfTransport *self)
{
    if (!self->flow.paused || self->flow.size > self->flow.low
        || self->protocol == NULL) {
        return 0;
    }
    self->flow.paused = false;
    return transport_notify(self, self->loop->state->str_resume_writing,
                            "protocol.resume_writing() failed");
}

static const AfParams set_limits_params = {
    "set_write_buffer_limits", 0, 2, {"high", "low", NULL}};

static PyObject *
transport_set_limits(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
                     PyObject *kwnames)
{
    AfTransport *self = (AfTransport *)op;
    PyObject *given[2];
    if (af_args_parse(&set_limits_params, args, nargs, kwnames, given) < 0
        || af_hold_settle(self) < 0
        || af_flow_set_limits(&self->flow, given[0], given[1]) < 0
        || af_transport_maybe_pause(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
transport_get_limits(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    const AfFlow *flow = &((AfTransport *)op)->flow;
    return Py_BuildValue("(nn)", (Py_ssize_t)flow->low, (Py_ssize_t)flow->high);
}

static PyObject *
transport_buffer_size(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    AfTransport *self = (AfTransport *)op;
    if (af_hold_settle(self) < 0) {
        return NULL;
    }
    return PyLong_FromSize_t(self->flow.size);
}

int
af_transport_write_lost(AfTransport *self)
{
    if (!self->conn_lost) {
        return 0;
    }
    if (self->conn_lost >= WARN_AFTER_WRITES) {
        PyObject *result =
            PyObject_CallMethod(self->loop->state->logger, "warning", "s",
                                "socket.send() raised exception.");
        if (result == NULL) {
            return -1;
        }
        Py_DECREF(result);
    }
    self->conn_lost++;
    return 1;
}

static PyObject *
transport_is_closing(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(((AfTransport *)op)->closing);
}

/* Reading on and off */

static PyObject *
transport_is_reading(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(af_transport_reads((AfTransport *)op));
}

static PyObject *
transport_pause_reading(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    AfTransport *self = (AfTransport *)op;
    if (af_transport_reads(self)) {
        self->reading_paused = true;
        if (af_transport_want(self, AF_READ, false) < 0) {
            return NULL;
        }
        af_loop_debug_log(self->loop, "%r pauses reading", op);
    }
    Py_RETURN_NONE;
}

int
af_transport_resume_reading(AfTransport *self)
{
    if (self->closing || !self->reading_paused) {
        return 0;
    }
    self->reading_paused = false;
    if (af_loop_check_closed(self->loop) < 0
        || af_transport_want(self, AF_READ, true) < 0) {
        return -1;
    }
    af_loop_debug_log(self->loop, "%r resumes reading", (PyObject *)self);
    return 0;
}

static PyObject *
transport_resume_reading(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    if (af_transport_resume_reading((AfTransport *)op) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* The protocol */

static PyObject *
transport_set_protocol(PyObject *op, PyObject *protocol)
{
    AfTransport *self = (AfTransport *)op;
    if (self->sock != NULL) {
        Py_XSETREF(self->protocol, Py_NewRef(protocol));
    }
    Py_RETURN_NONE;
}

static PyObject *
transport_get_protocol(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    PyObject *protocol = ((AfTransport *)op)->protocol;
    return Py_NewRef(protocol == NULL ? Py_None : protocol);
}

/* What is seen of it */

static PyObject *
transport_repr_open(AfTransport *self, const char *name, const char *state)
{
    int wanted = self->watch.wanted;
    return PyUnicode_FromFormat(
        "<%s%s fd=%d read=%s write=<%s, bufsize=%zu>>", name, state, self->fd,
        wanted & AF_READ ? "polling" : "idle",
        wanted & AF_WRITE ? "polling" : "idle", self->flow.size);
}

static PyObject *
transport_repr(PyObject *op)
{
    AfTransport *self = (AfTransport *)op;
    const char *name = af_error_type_name(op);
    if (self->sock == NULL) {
        return PyUnicode_FromFormat("<%s closed fd=%d>", name, self->fd);
    }
    if (af_hold_settle(self) < 0) {
        return NULL;
    }
    const char *state = self->closing ? " closing" : "";
    if (self->loop->closed) {
        return PyUnicode_FromFormat("<%s%s fd=%d>", name, state, self->fd);
    }
    return transport_repr_open(self, name, state);
}

/* asyncio's method, which tests of other projects replace in its class. */
static PyObject *
inherited_get_extra_info(PyObject *op)
{
    AfState *state = af_state_of(op);
    if (state == NULL) {
        return NULL;
    }
    PyObject *function =
        PyObject_GetAttr(state->FlowControlMixin, state->str_get_extra_info);
    if (function == NULL) {
        return NULL;
    }
    PyObject *method = PyMethod_New(function, op);
    Py_DECREF(function);
    return method;
}

/* Whoever has the socket can shut it down. */
static PyObject *
transport_get_extra_info(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
                         PyObject *kwnames)
{
    if (af_hold_settle((AfTransport *)op) < 0) {
        return NULL;
    }
    PyObject *method = inherited_get_extra_info(op);
    if (method == NULL) {
        return NULL;
    }
    PyObject *value = PyObject_Vectorcall(method, args, nargs, kwnames);
    Py_DECREF(method);
    return value;
}

static PyObject *
transport_get_loop(PyObject *op, void *Py_UNUSED(closure))
{
    AfTransport *self = (AfTransport *)op;
    return Py_NewRef(self->sock == NULL ? Py_None : (PyObject *)self->loop);
}

static PyObject *
transport_get_paused(PyObject *op, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(((AfTransport *)op)->flow.paused);
}

static PyObject *
transport_get_high(PyObject *op, void *Py_UNUSED(closure))
{
    return PyLong_FromSize_t(((AfTransport *)op)->flow.high);
}

static PyObject *
transport_get_low(PyObject *op, void *Py_UNUSED(closure))
{
    return PyLong_FromSize_t(((AfTransport *)op)->flow.low);
}

PyDoc_STRVAR(
    abort_doc,
    "abort($self, /)\n--\n\n"
    "Close at once: what is buffered is dropped, connection_lost(None) "
    "is called soon.");
PyDoc_STRVAR(close_doc, "close($self, /)\n--\n\n"
                        "Stop reading, send what is buffered, then call "
                        "connection_lost(None).");
PyDoc_STRVAR(is_closing_doc, "is_closing($self, /)\n--\n\n"
                             "True if the transport is closing or closed.");
PyDoc_STRVAR(is_reading_doc,
             "is_reading($self, /)\n--\n\n"
             "True if the transport passes on what it receives.");
PyDoc_STRVAR(pause_reading_doc,
             "pause_reading($self, /)\n--\n\n"
             "Pass nothing to the protocol until resume_reading().");
PyDoc_STRVAR(resume_reading_doc, "resume_reading($self, /)\n--\n\n"
                                 "Undo pause_reading().");
PyDoc_STRVAR(set_protocol_doc,
             "set_protocol($self, protocol, /)\n--\n\n"
             "Give what is received from now on to another protocol.");
PyDoc_STRVAR(get_extra_info_doc,
             "get_extra_info($self, /, name, default=None)\n--\n\n"
             "What is known by that name (a str: 'peername', 'socket', "
             "'sockname', ...),\nor default.");
PyDoc_STRVAR(get_protocol_doc,
             "get_protocol($self, /)\n--\n\n"
             "The current protocol; None once the connection is lost.");
PyDoc_STRVAR(get_write_buffer_size_doc,
             "get_write_buffer_size($self, /)\n--\n\n"
             "The number of bytes that are still to be sent.");
PyDoc_STRVAR(get_write_buffer_limits_doc,
             "get_write_buffer_limits($self, /)\n--\n\n"
             "The (low, high) water marks in bytes.");
PyDoc_STRVAR(set_write_buffer_limits_doc,
             "set_write_buffer_limits($self, /, high=None, low=None)\n--\n\n"
             "Set the water marks in bytes: pause_writing() is called when the "
             "buffer\ngrows above high, resume_writing() when it has shrunk "
             "to low.\n\nRaises ValueError unless high >= low >= 0.");

static PyMethodDef transport_methods[] = {
    {"abort", af_transport_abort, METH_NOARGS, abort_doc},
    {"close", af_transport_close, METH_NOARGS, close_doc},
    {"is_closing", transport_is_closing, METH_NOARGS, is_closing_doc},
    {"is_reading", transport_is_reading, METH_NOARGS, is_reading_doc},
    {"pause_reading", transport_pause_reading, METH_NOARGS, pause_reading_doc},
    {"resume_reading", transport_resume_reading, METH_NOARGS,
     resume_reading_doc},
    {"set_protocol", transport_set_protocol, METH_O, set_protocol_doc},
    {"get_extra_info", (PyCFunction)(void (*)(void))transport_get_extra_info,
     METH_FASTCALL | METH_KEYWORDS, get_extra_info_doc},
    {"get_protocol", transport_get_protocol, METH_NOARGS, get_protocol_doc},
    {"get_write_buffer_size", transport_buffer_size, METH_NOARGS,
     get_write_buffer_size_doc},
    {"get_write_buffer_limits", transport_get_limits, METH_NOARGS,
     get_write_buffer_limits_doc},
    {"set_write_buffer_limits",
     (PyCFunction)(void (*)(void))transport_set_limits,
     METH_FASTCALL | METH_KEYWORDS, set_write_buffer_limits_doc},
    /* What the standard library calls on its own transports. */
    {"_call_connection_lost", af_transport_call_connection_lost, METH_O, NULL},
    {"_fatal_error", af_transport_fatal_error, METH_VARARGS, NULL},
    {"_force_close", af_transport_force_close_method, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef transport_members[] = {
    {"__dictoffset__", T_PYSSIZET, offsetof(AfTransport, dict), READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(AfTransport, weakrefs),
     READONLY, NULL},
    {"_sock", T_OBJECT, offsetof(AfTransport, sock), READONLY, NULL},
    {"_sock_fd", T_INT, offsetof(AfTransport, fd), READONLY, NULL},
    {"_protocol", T_OBJECT, offsetof(AfTransport, protocol), READONLY, NULL},
    {"_server", T_OBJECT, offsetof(AfTransport, server), READONLY, NULL},
    {"_conn_lost", T_INT, offsetof(AfTransport, conn_lost), READONLY, NULL},
    {"_closing", T_BOOL, offsetof(AfTransport, closing), READONLY, NULL},
    {"_paused", T_BOOL, offsetof(AfTransport, reading_paused), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef transport_getset[] = {
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {"_loop", transport_get_loop, NULL, NULL, NULL},
    {"_protocol_paused", transport_get_paused, NULL, NULL, NULL},
    {"_high_water", transport_get_high, NULL, NULL, NULL},
    {"_low_water", transport_get_low, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(transport_doc, "What the transports over sockets have in common.");

static PyType_Slot transport_slots[] = {
    {Py_tp_doc, (void *)transport_doc},
    {Py_tp_dealloc, af_transport_dealloc},
    {Py_tp_finalize, af_transport_finalize},
    {Py_tp_traverse, af_transport_traverse},
    {Py_tp_clear, af_transport_clear},
    {Py_tp_repr, transport_repr},
    {Py_tp_methods, transport_methods},
    {Py_tp_members, transport_members},
    {Py_tp_getset, transport_getset},
    {0, NULL},
};

static PyType_Spec transport_spec = {
    .name = "asyncfast._core.Transport",
    .basicsize = sizeof(AfTransport),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = transport_slots,
};

static int
transport_check_layout(AfState *state)
{
    static const char *const slots[] = {"_high_water", "_loop", "_low_water",
                                        "_protocol_paused"};
    PyObject *base = state->FlowControlMixin;
    if (af_state_check_slot(base, "_extra", offsetof(AfTransport, extra)) < 0) {
        return -1;
    }
    for (size_t i = 0; i < sizeof(slots) / sizeof(slots[0]); i++) {
        Py_ssize_t offset = (Py_ssize_t)(offsetof(AfTransport, unused)
                                         + i * sizeof(PyObject *));
        if (af_state_check_slot(base, slots[i], offset) < 0) {
            return -1;
        }
    }
    return 0;
}

int
af_transport_init_type(PyObject *module)
{
    AfState *state = PyModule_GetState(module);
    if (transport_check_layout(state) < 0) {
        return -1;
    }
    return af_state_add_type(module, &state->Transport_type, &transport_spec,
                             state->FlowControlMixin);
}
