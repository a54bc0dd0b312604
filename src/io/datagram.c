/* datagram.c -- datagram transport: what it adds to a transport. */
#include "io/datagram.h"

#include "base/args.h"
#include "io/watch.h"

static int
datagram_traverse(PyObject *op, visitproc visit, void *arg)
{
    AfDatagram *self = (AfDatagram *)op;
    Py_VISIT(self->address);
    return af_transport_traverse(op, visit, arg);
}

static int
datagram_clear(PyObject *op)
{
    AfDatagram *self = (AfDatagram *)op;
    Py_CLEAR(self->address);
    af_flow_clear(&self->backlog);
    return af_transport_clear(op);
}

static int
datagram_handle(AfDatagram *self, int events)
{
    int err = events & AF_READ ? af_datagram_read(self) : 0;
    if (err == 0 && events & self->base.watch.wanted & AF_WRITE) {
        err = af_datagram_flush(self);
    }
    return err;
}

static int
datagram_ready(AfTransport *base, int events)
{
    PyObject *context = Py_NewRef(base->context);
    int err = PyContext_Enter(context);
    if (err == 0) {
        err = datagram_handle((AfDatagram *)base, events);
        err = PyContext_Exit(context) < 0 ? -1 : err;
    }
    Py_DECREF(context);
    return err;
}

static PyObject *
datagram_resume_reading(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    AfDatagram *self = (AfDatagram *)op;
    if (af_transport_resume_reading(&self->base) < 0
        || af_datagram_schedule_backlog(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* As in asyncio, a socket with a peer is one that could name it at first. */
static int
datagram_look_at_socket(AfDatagram *self, PyObject *sock)
{
    AfState *state = self->base.loop->state;
    PyObject *family = PyObject_GetAttr(sock, state->str_family);
    if (family == NULL) {
        return -1;
    }
    self->family = (int)PyLong_AsLong(family);
    Py_DECREF(family);
    if (self->family == -1 && PyErr_Occurred()) {
        return -1;
    }
    PyObject *peer =
        PyDict_GetItemWithError(self->base.extra, state->str_peername);
    int connected = peer == NULL ? 0 : PyObject_IsTrue(peer);
    self->connected = connected > 0;
    return connected < 0 || PyErr_Occurred() ? -1 : 0;
}

static AfDatagram *
datagram_alloc(AfLoop *loop, PyObject *protocol, PyObject *address,
               PyObject *waiter, PyObject *extra)
{
    AfDatagram *self = (AfDatagram *)af_transport_alloc(
        loop, loop->state->DatagramTransport_type, datagram_ready, extra, NULL);
    if (self == NULL) {
        return NULL;
    }
    self->address = Py_NewRef(address == NULL ? Py_None : address);
    af_flow_init(&self->backlog);
    self->batch = 1;
    self->patience = 1;
    self->base.protocol = Py_NewRef(protocol);
    self->base.waiter = Py_XNewRef(waiter);
    return self;
}

static const AfParams make_params = {
    "_make_datagram_transport",
    2,
    5,
    {"sock", "protocol", "address", "waiter", "extra", NULL}};

PyObject *
af_datagram_make(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
                 PyObject *kwnames)
{
    AfLoop *loop = (AfLoop *)op;
    PyObject *given[5];
    if (af_args_parse(&make_params, args, nargs, kwnames, given) < 0
        || af_loop_check_closed(loop) < 0) {
        return NULL;
    }
    int fd = af_watch_fileno(given[0]);
    if (fd < 0 || af_watch_check_free(loop, given[0], fd) < 0) {
        return NULL;
    }
    AfDatagram *self =
        datagram_alloc(loop, given[1], given[2], af_args_optional(given[3]),
                       af_args_optional(given[4]));
    if (self != NULL
        && (af_transport_open(&self->base, given[0]) < 0
            || datagram_look_at_socket(self, given[0]) < 0
            || af_transport_start(&self->base, given[0]) < 0)) {
        af_transport_abandon(&self->base);
        return NULL;
    }
    return (PyObject *)self;
}

PyDoc_STRVAR(resume_reading_doc, "resume_reading($self, /)\n--\n\n"
                                 "Undo pause_reading().");
PyDoc_STRVAR(
    sendto_doc,
    "sendto($self, /, data, addr=None)\n--\n\n"
    "Send one datagram, or buffer it if the socket doesn't take it; never "
    "blocks.\n\nWithout addr it goes to the remote address of the endpoint. "
    "What the system\nrefuses goes to the protocol's error_received().\n\n"
    "Raises TypeError if data isn't bytes, bytearray or memoryview, "
    "ValueError if\nthe endpoint has another remote address.");

static PyMethodDef datagram_methods[] = {
    {"resume_reading", datagram_resume_reading, METH_NOARGS,
     resume_reading_doc},
    {"sendto", (PyCFunction)(void (*)(void))af_datagram_sendto,
     METH_FASTCALL | METH_KEYWORDS, sendto_doc},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef datagram_members[] = {
    {"_address", T_OBJECT, offsetof(AfDatagram, address), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(datagram_doc, "Datagram transport over a UDP or Unix socket; see "
                           "asyncio.DatagramTransport.");

static PyType_Slot datagram_slots[] = {
    {Py_tp_doc, (void *)datagram_doc},
    {Py_tp_dealloc, af_transport_dealloc},
    {Py_tp_traverse, datagram_traverse},
    {Py_tp_clear, datagram_clear},
    {Py_tp_methods, datagram_methods},
    {Py_tp_members, datagram_members},
    {0, NULL},
};

static PyType_Spec datagram_spec = {
    .name = "asyncfast._core.DatagramTransport",
    .basicsize = sizeof(AfDatagram),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = datagram_slots,
};

int
af_datagram_init_type(PyObject *module)
{
    AfState *state = PyModule_GetState(module);
    PyObject *bases =
        PyTuple_Pack(2, state->Transport_type, state->AsyncioDatagram);
    if (bases == NULL) {
        return -1;
    }
    int err = af_state_add_type(module, &state->DatagramTransport_type,
                                &datagram_spec, bases);
    Py_DECREF(bases);
    return err;
}
