/* stream.c -- stream transport: life, reading on and off, its type.
 *
 * Ownership: the poller holds a transport while it reads or has data to send,
 * so one that is forgotten in between is collected, with a ResourceWarning, as
 * asyncio's is. connection_lost drops protocol, socket and server.
 */
#include "io/stream.h"

#include <sys/socket.h>

#include "base/args.h"
#include "base/error.h"
#include "core/handle.h"
#include "io/extra.h"
#include "io/watch.h"

static int
stream_traverse(PyObject *op, visitproc visit, void *arg)
{
    AfStream *self = (AfStream *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->extra);
    Py_VISIT(self->dict);
    Py_VISIT(self->loop);
    Py_VISIT(self->sock);
    Py_VISIT(self->protocol);
    Py_VISIT(self->server);
    Py_VISIT(self->context);
    Py_VISIT(self->waiter);
    Py_VISIT(self->empty_waiter);
    return 0;
}

static int
stream_clear(PyObject *op)
{
    AfStream *self = (AfStream *)op;
    Py_CLEAR(self->extra);
    Py_CLEAR(self->dict);
    Py_CLEAR(self->sock);
    Py_CLEAR(self->protocol);
    Py_CLEAR(self->server);
    Py_CLEAR(self->context);
    Py_CLEAR(self->waiter);
    Py_CLEAR(self->empty_waiter);
    if (self->loop != NULL) {
        af_poll_release(&self->loop->poll, &self->watch);
    }
    /* Methods rely on the loop, and its own clear breaks every cycle. */
    return 0;
}

static void
stream_dealloc(PyObject *op)
{
    AfStream *self = (AfStream *)op;
    PyTypeObject *type = Py_TYPE(op);
    if (PyObject_CallFinalizerFromDealloc(op) < 0) {
        return;
    }
    PyObject_GC_UnTrack(op);
    PyObject_ClearWeakRefs(op);
    af_flow_clear(&self->flow);
    stream_clear(op);
    Py_CLEAR(self->loop);
    type->tp_free(op);
    Py_DECREF(type);
}

int
af_stream_want(AfStream *self, int event, bool on)
{
    int wanted = on ? self->watch.wanted | event : self->watch.wanted & ~event;
    return af_poll_want(&self->loop->poll, &self->watch, wanted);
}

static int
on_ready(AfWatch *watch, int events)
{
    AfStream *self = (AfStream *)Py_NewRef(watch->owner);
    int err = events & AF_READ ? af_stream_read(self) : 0;
    if (err == 0 && events & watch->wanted & AF_WRITE) {
        err = af_stream_flush(self);
    }
    Py_DECREF(self);
    return err;
}

static int
stream_set_protocol(AfStream *self, PyObject *protocol)
{
    AfState *state = self->loop->state;
    int buffered = PyObject_IsInstance(protocol, state->BufferedProtocol);
    if (buffered < 0) {
        return -1;
    }
    if (!buffered && PyObject_HasAttr(protocol, state->str_get_buffer)) {
        /* Some libraries have the methods without the base class. */
        buffered = !PyObject_HasAttr(protocol, state->str_data_received);
    }
    self->buffered = buffered;
    Py_XSETREF(self->protocol, Py_NewRef(protocol));
    return 0;
}

static PyObject *
stream_set_protocol_method(PyObject *op, PyObject *protocol)
{
    AfStream *self = (AfStream *)op;
    if (self->sock == NULL) {
        Py_RETURN_NONE;
    }
    return stream_set_protocol(self, protocol) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
stream_get_protocol(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    PyObject *protocol = ((AfStream *)op)->protocol;
    return Py_NewRef(protocol == NULL ? Py_None : protocol);
}

static PyObject *
stream_is_closing(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(((AfStream *)op)->closing);
}

static bool
stream_reads(const AfStream *self)
{
    return !self->closing && !self->reading_paused;
}

static PyObject *
stream_is_reading(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(stream_reads((AfStream *)op));
}

static PyObject *
stream_pause_reading(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    AfStream *self = (AfStream *)op;
    if (stream_reads(self)) {
        self->reading_paused = true;
        if (af_stream_want(self, AF_READ, false) < 0) {
            return NULL;
        }
        af_loop_debug_log(self->loop, "%r pauses reading", op);
    }
    Py_RETURN_NONE;
}

static PyObject *
stream_resume_reading(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    AfStream *self = (AfStream *)op;
    if (!self->closing && self->reading_paused) {
        self->reading_paused = false;
        if (af_loop_check_closed(self->loop) < 0
            || af_stream_want(self, AF_READ, true) < 0) {
            return NULL;
        }
        af_loop_debug_log(self->loop, "%r resumes reading", op);
    }
    Py_RETURN_NONE;
}

static PyObject *
stream_can_write_eof(PyObject *Py_UNUSED(op), PyObject *Py_UNUSED(ignored))
{
    Py_RETURN_TRUE;
}

/* sock_sendfile watches the same descriptor by itself meanwhile. */
static PyObject *
stream_lend_fd(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    AfStream *self = (AfStream *)op;
    af_poll_release(&self->loop->poll, &self->watch);
    Py_RETURN_NONE;
}

static PyObject *
stream_reclaim_fd(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    AfStream *self = (AfStream *)op;
    if (self->sock != NULL && self->loop->poll.backend != NULL
        && af_poll_claim(&self->loop->poll, &self->watch, self->fd) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
stream_repr_open(AfStream *self, const char *name, const char *state)
{
    int wanted = self->watch.wanted;
    return PyUnicode_FromFormat(
        "<%s%s fd=%d read=%s write=<%s, bufsize=%zu>>", name, state, self->fd,
        wanted & AF_READ ? "polling" : "idle",
        wanted & AF_WRITE ? "polling" : "idle", self->flow.size);
}

static PyObject *
stream_repr(PyObject *op)
{
    AfStream *self = (AfStream *)op;
    const char *name = af_error_type_name(op);
    if (self->sock == NULL) {
        return PyUnicode_FromFormat("<%s closed fd=%d>", name, self->fd);
    }
    const char *state = self->closing ? " closing" : "";
    if (self->loop->closed) {
        return PyUnicode_FromFormat("<%s%s fd=%d>", name, state, self->fd);
    }
    return stream_repr_open(self, name, state);
}

/* The ready entry that follows connection_made: read, and tell the waiter. */
static int
stream_start(AfLoop *loop, PyObject *item)
{
    AfStream *self = (AfStream *)item;
    int err = 0;
    if (stream_reads(self) && af_stream_want(self, AF_READ, true) < 0) {
        err = af_stream_fatal(self, "Fatal read error on socket transport");
    }
    PyObject *waiter = self->waiter;
    self->waiter = NULL;
    if (waiter != NULL && err == 0
        && af_future_set_result(loop->state, waiter, Py_None) < 0) {
        err = af_loop_report(loop, "Exception in callback of stream transport",
                             self->protocol, item);
    }
    Py_XDECREF(waiter);
    Py_DECREF(item);
    return err;
}

static int
stream_schedule_start(AfStream *self)
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
    return err < 0
               ? err
               : af_loop_push(loop, stream_start, Py_NewRef((PyObject *)self));
}

static int
stream_attach_server(AfStream *self, PyObject *server)
{
    if (server == NULL) {
        return 0;
    }
    PyObject *result = PyObject_CallMethodOneArg(
        server, self->loop->state->str__attach, (PyObject *)self);
    if (result == NULL) {
        return -1;
    }
    Py_DECREF(result);
    self->server = Py_NewRef(server);
    return 0;
}

static AfStream *
stream_alloc(AfLoop *loop, PyObject *extra, PyObject *context)
{
    PyTypeObject *type = loop->state->StreamTransport_type;
    AfStream *self = (AfStream *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->loop = (AfLoop *)Py_NewRef((PyObject *)loop);
    self->watch.owner = (PyObject *)self;
    self->watch.on_ready = on_ready;
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

static int
stream_open(AfStream *self, PyObject *sock, PyObject *protocol)
{
    AfLoop *loop = self->loop;
    self->fd = PyObject_AsFileDescriptor(sock);
    if (self->fd < 0 || af_extra_fill(loop->state, self->extra, sock) < 0
        || stream_set_protocol(self, protocol) < 0
        || af_poll_claim(&loop->poll, &self->watch, self->fd) < 0) {
        return -1;
    }
    af_extra_disable_nagle(self->fd);
    return 0;
}

/* Undo what af_stream_new did; keeps the current exception. */
static void
stream_abandon(AfStream *self)
{
    PyObject *exc = af_take_exception();
    /* connection_made may be scheduled already. */
    self->closing = true;
    self->conn_lost++;
    if (af_stream_detach_server(self) < 0) {
        PyErr_WriteUnraisable((PyObject *)self);
    }
    af_poll_release(&self->loop->poll, &self->watch);
    Py_DECREF(self);
    af_restore_exception(exc);
}

PyObject *
af_stream_new(AfLoop *loop, PyObject *sock, PyObject *protocol,
              PyObject *waiter, PyObject *extra, PyObject *server,
              PyObject *context)
{
    AfStream *self = stream_alloc(loop, extra, context);
    if (self == NULL) {
        return NULL;
    }
    self->waiter = Py_XNewRef(waiter);
    if (stream_open(self, sock, protocol) < 0
        || stream_attach_server(self, server) < 0
        || stream_schedule_start(self) < 0) {
        stream_abandon(self);
        return NULL;
    }
    self->sock = Py_NewRef(sock);
    return (PyObject *)self;
}

static const AfParams make_params = {
    "_make_socket_transport",
    2,
    3,
    {"sock", "protocol", "waiter", "extra", "server", "context", NULL}};

static PyObject *
none_to_null(PyObject *value)
{
    return value == Py_None ? NULL : value;
}

PyObject *
af_stream_make(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
               PyObject *kwnames)
{
    AfLoop *loop = (AfLoop *)op;
    PyObject *given[6];
    if (af_args_parse(&make_params, args, nargs, kwnames, given) < 0
        || af_loop_check_closed(loop) < 0) {
        return NULL;
    }
    int fd = af_watch_fileno(given[0]);
    if (fd < 0 || af_watch_check_free(loop, given[0], fd) < 0) {
        return NULL;
    }
    return af_stream_new(loop, given[0], given[1], none_to_null(given[2]),
                         none_to_null(given[3]), none_to_null(given[4]),
                         none_to_null(given[5]));
}

static PyObject *
stream_get_loop(PyObject *op, void *Py_UNUSED(closure))
{
    AfStream *self = (AfStream *)op;
    return Py_NewRef(self->sock == NULL ? Py_None : (PyObject *)self->loop);
}

static PyObject *
stream_get_paused(PyObject *op, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(((AfStream *)op)->flow.paused);
}

static PyObject *
stream_get_high(PyObject *op, void *Py_UNUSED(closure))
{
    return PyLong_FromSize_t(((AfStream *)op)->flow.high);
}

static PyObject *
stream_get_low(PyObject *op, void *Py_UNUSED(closure))
{
    return PyLong_FromSize_t(((AfStream *)op)->flow.low);
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
PyDoc_STRVAR(get_protocol_doc,
             "get_protocol($self, /)\n--\n\n"
             "The current protocol; None once the connection is lost.");
PyDoc_STRVAR(write_doc,
             "write($self, data, /)\n--\n\n"
             "Send bytes, or buffer what the socket doesn't take; never "
             "blocks.\n\nRaises TypeError if data isn't bytes, bytearray or "
             "memoryview, RuntimeError after write_eof().");
PyDoc_STRVAR(writelines_doc,
             "writelines($self, list_of_data, /)\n--\n\n"
             "Write several bytes-like objects, with one system call if the "
             "socket takes them.");
PyDoc_STRVAR(write_eof_doc,
             "write_eof($self, /)\n--\n\n"
             "Close the write side once the buffer is sent; reading goes on.");
PyDoc_STRVAR(can_write_eof_doc, "can_write_eof($self, /)\n--\n\n"
                                "True: a stream socket can be half-closed.");
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

static PyMethodDef stream_methods[] = {
    {"abort", af_stream_abort, METH_NOARGS, abort_doc},
    {"close", af_stream_close, METH_NOARGS, close_doc},
    {"is_closing", stream_is_closing, METH_NOARGS, is_closing_doc},
    {"is_reading", stream_is_reading, METH_NOARGS, is_reading_doc},
    {"pause_reading", stream_pause_reading, METH_NOARGS, pause_reading_doc},
    {"resume_reading", stream_resume_reading, METH_NOARGS, resume_reading_doc},
    {"set_protocol", stream_set_protocol_method, METH_O, set_protocol_doc},
    {"get_protocol", stream_get_protocol, METH_NOARGS, get_protocol_doc},
    {"write", af_stream_write, METH_O, write_doc},
    {"writelines", af_stream_writelines, METH_O, writelines_doc},
    {"write_eof", af_stream_write_eof, METH_NOARGS, write_eof_doc},
    {"can_write_eof", stream_can_write_eof, METH_NOARGS, can_write_eof_doc},
    {"get_write_buffer_size", af_stream_buffer_size, METH_NOARGS,
     get_write_buffer_size_doc},
    {"get_write_buffer_limits", af_stream_get_limits, METH_NOARGS,
     get_write_buffer_limits_doc},
    {"set_write_buffer_limits",
     (PyCFunction)(void (*)(void))af_stream_set_limits,
     METH_FASTCALL | METH_KEYWORDS, set_write_buffer_limits_doc},
    /* What the standard library calls on its own transports. */
    {"_call_connection_lost", af_stream_call_connection_lost, METH_O, NULL},
    {"_fatal_error", af_stream_fatal_error, METH_VARARGS, NULL},
    {"_force_close", af_stream_force_close_method, METH_O, NULL},
    {"_lend_fd", stream_lend_fd, METH_NOARGS, NULL},
    {"_make_empty_waiter", af_stream_make_empty_waiter, METH_NOARGS, NULL},
    {"_reclaim_fd", stream_reclaim_fd, METH_NOARGS, NULL},
    {"_reset_empty_waiter", af_stream_reset_empty_waiter, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef stream_members[] = {
    {"__dictoffset__", T_PYSSIZET, offsetof(AfStream, dict), READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(AfStream, weakrefs), READONLY,
     NULL},
    {"_sock", T_OBJECT, offsetof(AfStream, sock), READONLY, NULL},
    {"_sock_fd", T_INT, offsetof(AfStream, fd), READONLY, NULL},
    {"_protocol", T_OBJECT, offsetof(AfStream, protocol), READONLY, NULL},
    {"_server", T_OBJECT, offsetof(AfStream, server), READONLY, NULL},
    {"_empty_waiter", T_OBJECT, offsetof(AfStream, empty_waiter), READONLY,
     NULL},
    {"_conn_lost", T_INT, offsetof(AfStream, conn_lost), READONLY, NULL},
    {"_closing", T_BOOL, offsetof(AfStream, closing), READONLY, NULL},
    {"_paused", T_BOOL, offsetof(AfStream, reading_paused), READONLY, NULL},
    {"_eof", T_BOOL, offsetof(AfStream, eof), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef stream_getset[] = {
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {"_loop", stream_get_loop, NULL, NULL, NULL},
    {"_protocol_paused", stream_get_paused, NULL, NULL, NULL},
    {"_high_water", stream_get_high, NULL, NULL, NULL},
    {"_low_water", stream_get_low, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(stream_doc, "Stream transport over a TCP or Unix socket; see "
                         "asyncio.Transport.");

static PyType_Slot stream_slots[] = {
    {Py_tp_doc, (void *)stream_doc},      {Py_tp_dealloc, stream_dealloc},
    {Py_tp_finalize, af_stream_finalize}, {Py_tp_traverse, stream_traverse},
    {Py_tp_clear, stream_clear},          {Py_tp_repr, stream_repr},
    {Py_tp_methods, stream_methods},      {Py_tp_members, stream_members},
    {Py_tp_getset, stream_getset},        {0, NULL},
};

static PyType_Spec stream_spec = {
    .name = "asyncfast._core.StreamTransport",
    .basicsize = sizeof(AfStream),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = stream_slots,
};

/* Class attributes by which asyncio decides on start_tls and sendfile. */
static int
stream_set_abilities(AfState *state)
{
    PyObject *type = (PyObject *)state->StreamTransport_type;
    if (PyObject_SetAttrString(type, "_start_tls_compatible", Py_True) < 0) {
        return -1;
    }
    PyObject *mode = PyObject_GetAttrString(state->SendfileMode, "TRY_NATIVE");
    if (mode == NULL) {
        return -1;
    }
    int err = PyObject_SetAttrString(type, "_sendfile_compatible", mode);
    Py_DECREF(mode);
    return err;
}

static int
stream_check_layout(AfState *state)
{
    static const char *const slots[] = {"_high_water", "_loop", "_low_water",
                                        "_protocol_paused"};
    PyObject *base = state->FlowControlMixin;
    if (af_state_check_slot(base, "_extra", offsetof(AfStream, extra)) < 0) {
        return -1;
    }
    for (size_t i = 0; i < sizeof(slots) / sizeof(slots[0]); i++) {
        Py_ssize_t offset =
            (Py_ssize_t)(offsetof(AfStream, unused) + i * sizeof(PyObject *));
        if (af_state_check_slot(base, slots[i], offset) < 0) {
            return -1;
        }
    }
    return 0;
}

int
af_stream_init_type(PyObject *module)
{
    AfState *state = PyModule_GetState(module);
    if (stream_check_layout(state) < 0
        || af_state_add_type(module, &state->StreamTransport_type, &stream_spec,
                             state->FlowControlMixin)
               < 0) {
        return -1;
    }
    return stream_set_abilities(state);
}
