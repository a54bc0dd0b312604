/* stream.c -- stream transport: what it adds to a transport. */
#include "io/stream.h"


#include "base/args.h"
#include "io/extra.h"
#include "io/hold.h"
#include "io/watch.h"

static int
stream_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(((AfStream *)op)->empty_waiter);
    return af_transport_traverse(op, visit, arg);
}

static int
stream_clear(PyObject *op)
{
    Py_CLEAR(((AfStream *)op)->empty_waiter);
    return af_transport_clear(op);
}

static int
stream_ready(AfTransport *base, int events)
{
    AfStream *self = (AfStream *)base;
    int err = events & AF_READ ? af_stream_read(self) : 0;
    if (err == 0 && events & base->watch.wanted & AF_WRITE) {
        err = af_stream_flush(self);
    }
    return err;
}

static int
stream_fail_empty_waiter(AfStream *self)
{
    if (self->empty_waiter == NULL) {
        return 0;
    }
    PyErr_SetString(PyExc_ConnectionError, "Connection is closed by peer");
    return af_future_set_exception(self->base.loop->state, self->empty_waiter);
}

static PyObject *
stream_call_connection_lost(PyObject *op, PyObject *exc)
{
    AfStream *self = (AfStream *)op;
    if (af_transport_lose(&self->base, exc) < 0
        || stream_fail_empty_waiter(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static int
stream_set_protocol(AfStream *self, PyObject *protocol)
{
    AfState *state = self->base.loop->state;
    int buffered = PyObject_IsInstance(protocol, state->BufferedProtocol);
    if (buffered < 0) {
        return -1;
    }
    if (!buffered && PyObject_HasAttr(protocol, state->str_get_buffer)) {
        /* Some libraries have the methods without the base class. */
        buffered = !PyObject_HasAttr(protocol, state->str_data_received);
    }
    self->tls = PyObject_TypeCheck(protocol, state->TlsProtocol_type);
    self->buffered = buffered && !self->tls;
    Py_XSETREF(self->base.protocol, Py_NewRef(protocol));
    return 0;
}

static PyObject *
stream_set_protocol_method(PyObject *op, PyObject *protocol)
{
    AfStream *self = (AfStream *)op;
    if (self->base.sock == NULL) {
        Py_RETURN_NONE;
    }
    return stream_set_protocol(self, protocol) < 0 ? NULL : Py_NewRef(Py_None);
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
    if (af_hold_settle(&self->base) < 0) {
        return NULL;
    }
    af_poll_release(&self->base.loop->poll, &self->base.watch);
    Py_RETURN_NONE;
}

static PyObject *
stream_reclaim_fd(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    AfStream *self = (AfStream *)op;
    if (self->base.sock != NULL && self->base.loop->poll.backend != NULL
        && af_poll_claim(&self->base.loop->poll, &self->base.watch,
                         self->base.fd)
               < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static int
stream_attach_server(AfStream *self, PyObject *server)
{
    if (server == NULL) {
        return 0;
    }
    AfState *state = self->base.loop->state;
    if (af_transport_tell_server(&self->base, server, state->str__attach) < 0) {
        return -1;
    }
    self->base.server = Py_NewRef(server);
    return 0;
}

PyObject *
af_stream_new(AfLoop *loop, PyObject *sock, PyObject *protocol,
              PyObject *waiter, PyObject *extra, PyObject *server,
              PyObject *context)
{
    AfStream *self = (AfStream *)af_transport_alloc(
        loop, loop->state->StreamTransport_type, stream_ready, extra, context);
    if (self == NULL) {
        return NULL;
    }
    self->base.waiter = Py_XNewRef(waiter);
    if (stream_set_protocol(self, protocol) < 0
        || af_transport_open(&self->base, sock) < 0
        || stream_attach_server(self, server) < 0
        || af_transport_start(&self->base, sock) < 0) {
        af_transport_abandon(&self->base);
        return NULL;
    }
    af_extra_disable_nagle(self->base.fd);
    return (PyObject *)self;
}

static const AfParams make_params = {
    "_make_socket_transport",
    2,
    3,
    {"sock", "protocol", "waiter", "extra", "server", "context", NULL}};

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
    return af_stream_new(loop, given[0], given[1], af_args_optional(given[2]),
                         af_args_optional(given[3]), af_args_optional(given[4]),
                         af_args_optional(given[5]));
}

PyDoc_STRVAR(set_protocol_doc,
             "set_protocol($self, protocol, /)\n--\n\n"
             "Give what is received from now on to another protocol.");
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

static PyMethodDef stream_methods[] = {
    {"set_protocol", stream_set_protocol_method, METH_O, set_protocol_doc},
    {"write", af_stream_write, METH_O, write_doc},
    {"writelines", af_stream_writelines, METH_O, writelines_doc},
    {"write_eof", af_stream_write_eof, METH_NOARGS, write_eof_doc},
    {"can_write_eof", stream_can_write_eof, METH_NOARGS, can_write_eof_doc},
    /* What the standard library calls on its own transports. */
    {"_call_connection_lost", stream_call_connection_lost, METH_O, NULL},
    {"_lend_fd", stream_lend_fd, METH_NOARGS, NULL},
    {"_make_empty_waiter", af_stream_make_empty_waiter, METH_NOARGS, NULL},
    {"_reclaim_fd", stream_reclaim_fd, METH_NOARGS, NULL},
    {"_reset_empty_waiter", af_stream_reset_empty_waiter, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef stream_members[] = {
    {"_empty_waiter", T_OBJECT, offsetof(AfStream, empty_waiter), READONLY,
     NULL},
    {"_eof", T_BOOL, offsetof(AfStream, eof), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(stream_doc, "Stream transport over a TCP or Unix socket; see "
                         "asyncio.Transport.");

static PyType_Slot stream_slots[] = {
    {Py_tp_doc, (void *)stream_doc},
    {Py_tp_dealloc, af_transport_dealloc},
    {Py_tp_traverse, stream_traverse},
    {Py_tp_clear, stream_clear},
    {Py_tp_methods, stream_methods},
    {Py_tp_members, stream_members},
    {0, NULL},
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

int
af_stream_init_type(PyObject *module)
{
    AfState *state = PyModule_GetState(module);
    if (af_state_add_type(module, &state->StreamTransport_type, &stream_spec,
                          (PyObject *)state->Transport_type)
        < 0) {
        return -1;
    }
    return stream_set_abilities(state);
}
