/* tls.c -- the C bases of TLS protocol and transport: their attributes, and
 * when C may act for asyncio's own methods.
 *
 * Ownership: methods run Python code that may set any attribute, so what they
 * call is held for the time of the call.
 *
 * Threads: as in asyncio, the ssl module lets go of the GIL while it works.
 */
#include "io/tls.h"

#define FIELD(self, closure) \
    ((PyObject **)((char *)(self) + (Py_ssize_t)(closure)))

static PyObject *
tls_get(PyObject *op, void *closure)
{
    return Py_NewRef(*FIELD(op, closure));
}

static int
tls_set(PyObject *op, PyObject *value, void *closure)
{
    Py_SETREF(*FIELD(op, closure), Py_NewRef(value ? value : Py_None));
    return 0;
}

#define ATTRIBUTE(name, field)                                       \
    {                                                                \
        name, tls_get, tls_set, NULL, (void *)offsetof(AfTls, field) \
    }

static PyGetSetDef tls_getset[] = {
    /* asyncio's. */
    ATTRIBUTE("_state", phase),
    ATTRIBUTE("_transport", transport),
    ATTRIBUTE("_app_protocol", app_protocol),
    ATTRIBUTE("_app_protocol_is_buffer", app_is_buffer),
    ATTRIBUTE("_incoming", incoming),
    ATTRIBUTE("_outgoing", outgoing),
    ATTRIBUTE("_write_backlog", write_backlog),
    ATTRIBUTE("_write_buffer_size", write_size),
    ATTRIBUTE("_ssl_writing_paused", ssl_write_paused),
    ATTRIBUTE("_ssl_reading_paused", ssl_read_paused),
    ATTRIBUTE("_app_writing_paused", app_write_paused),
    ATTRIBUTE("_app_reading_paused", app_read_paused),
    ATTRIBUTE("_outgoing_high_water", outgoing_high),
    ATTRIBUTE("_incoming_high_water", incoming_high),
    /* Ours. */
    ATTRIBUTE("_engine", engine),
    ATTRIBUTE("_wrapped", wrapped),
    ATTRIBUTE("_again", again),
    {NULL, NULL, NULL, NULL, NULL},
};

static int
tls_traverse(PyObject *op, visitproc visit, void *arg)
{
    AfTls *self = (AfTls *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->module);
    Py_VISIT(self->engine);
    Py_VISIT(self->anchor);
    Py_VISIT(self->wrapped);
    Py_VISIT(self->again);
    Py_VISIT(self->phase);
    Py_VISIT(self->transport);
    Py_VISIT(self->app_protocol);
    Py_VISIT(self->app_is_buffer);
    Py_VISIT(self->incoming);
    Py_VISIT(self->outgoing);
    Py_VISIT(self->write_backlog);
    Py_VISIT(self->write_size);
    Py_VISIT(self->ssl_write_paused);
    Py_VISIT(self->ssl_read_paused);
    Py_VISIT(self->app_write_paused);
    Py_VISIT(self->app_read_paused);
    Py_VISIT(self->outgoing_high);
    Py_VISIT(self->incoming_high);
    return 0;
}

/* What a method of a collected object finds is None, as at the beginning. */
static int
tls_clear(PyObject *op)
{
    AfTls *self = (AfTls *)op;
    self->direct.ssl = NULL;
    Py_CLEAR(self->anchor);
    for (PyGetSetDef *attribute = tls_getset; attribute->name; attribute++) {
        Py_XSETREF(*FIELD(op, attribute->closure), Py_NewRef(Py_None));
    }
    return 0;
}

static void
tls_dealloc(PyObject *op)
{
    AfTls *self = (AfTls *)op;
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    self->direct.ssl = NULL;
    Py_CLEAR(self->anchor);
    Py_CLEAR(self->phase);
    Py_CLEAR(self->transport);
    Py_CLEAR(self->app_protocol);
    Py_CLEAR(self->app_is_buffer);
    Py_CLEAR(self->incoming);
    Py_CLEAR(self->outgoing);
    Py_CLEAR(self->write_backlog);
    Py_CLEAR(self->write_size);
    Py_CLEAR(self->ssl_write_paused);
    Py_CLEAR(self->ssl_read_paused);
    Py_CLEAR(self->app_write_paused);
    Py_CLEAR(self->app_read_paused);
    Py_CLEAR(self->outgoing_high);
    Py_CLEAR(self->incoming_high);
    Py_CLEAR(self->engine);
    Py_CLEAR(self->wrapped);
    Py_CLEAR(self->again);
    Py_CLEAR(self->module);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyObject *
tls_new(PyTypeObject *type, PyObject *Py_UNUSED(args),
        PyObject *Py_UNUSED(kwargs))
{
    PyObject *module = PyType_GetModuleByDef(type, &af_module_def);
    if (module == NULL) {
        return NULL;
    }
    PyObject *op = type->tp_alloc(type, 0);
    if (op == NULL) {
        return NULL;
    }
    AfTls *self = (AfTls *)op;
    self->module = Py_NewRef(module);
    self->state = PyModule_GetState(module);
    self->held = 1; /* not known yet */
    tls_clear(op);
    return op;
}

/* What both directions need. */

int
af_tls_call(AfTls *self, PyObject *name)
{
    PyObject *result = PyObject_CallMethodNoArgs((PyObject *)self, name);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

Py_ssize_t
af_tls_pending(AfTls *self)
{
    if (self->direct.ssl != NULL) {
        return (Py_ssize_t)self->state->openssl.bio_pending(
            self->direct.incoming);
    }
    PyObject *pending =
        PyObject_GetAttr(self->incoming, self->state->str_pending);
    if (pending == NULL) {
        return -1;
    }
    Py_ssize_t size = PyLong_AsSsize_t(pending);
    Py_DECREF(pending);
    return size;
}

bool
af_tls_is_calm(Py_ssize_t size, PyObject *high, PyObject *paused)
{
    if (paused != Py_False || !PyLong_CheckExact(high)) {
        return false;
    }
    int beyond;
    long long mark = PyLong_AsLongLongAndOverflow(high, &beyond);
    return beyond > 0 || (beyond == 0 && size < mark);
}

int
af_tls_is_open(AfTls *self)
{
    if (self->phase != self->wrapped || self->engine == Py_None) {
        return 0;
    }
    Py_ssize_t waiting = PyObject_Size(self->write_backlog);
    return waiting < 0 ? -1 : waiting == 0;
}

int
af_tls_fail(AfTls *self)
{
    if (!PyErr_ExceptionMatches(PyExc_Exception)) {
        return -1;
    }
    PyObject *exc = af_take_exception();
    PyObject *result = PyObject_CallMethodOneArg(
        (PyObject *)self, self->state->str__give_up, exc);
    Py_DECREF(exc);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Past the ssl module from now on, where its objects are what they were. */
static PyObject *
tls_go_direct(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    AfTls *self = (AfTls *)op;
    PyObject *engine = self->engine;
    AfSsl direct;
    if (af_openssl_look_inside(&self->state->openssl, engine, self->incoming,
                               self->outgoing, &direct)
        < 0) {
        return NULL;
    }
    self->direct = direct;
    Py_XSETREF(self->anchor, Py_NewRef(engine));
    return PyBool_FromLong(direct.ssl != NULL);
}

static PyMethodDef tls_methods[] = {
    {"_do_read", af_tls_do_read, METH_NOARGS, NULL},
    {"_go_direct", tls_go_direct, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(tls_doc, "What TLS does for each record; asyncio does the rest.");

static PyType_Slot tls_slots[] = {
    {Py_tp_doc, (void *)tls_doc}, {Py_tp_new, tls_new},
    {Py_tp_dealloc, tls_dealloc}, {Py_tp_traverse, tls_traverse},
    {Py_tp_clear, tls_clear},     {Py_tp_methods, tls_methods},
    {Py_tp_getset, tls_getset},   {0, NULL},
};

static PyType_Spec tls_spec = {
    .name = "asyncfast._core._TlsProtocol",
    .basicsize = sizeof(AfTls),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = tls_slots,
};

/* The transport that the application sees, whose only own state is its
 * protocol: a class of Python's, with these two methods. */

static PyObject *
front_slowly(PyObject *op, PyObject *name, PyObject *const *args,
             Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *method = PyObject_GetAttr(op, name);
    if (method == NULL) {
        return NULL;
    }
    PyObject *result =
        PyObject_Vectorcall(method, args, (size_t)nargs, kwnames);
    Py_DECREF(method);
    return result;
}

/* The protocol if C may act for it, a new reference; NULL without an exception
 * if asyncio's own method must, with one if that failed. */
static AfTls *
front_protocol(AfState *state, PyObject *op)
{
    PyObject *protocol = PyObject_GetAttr(op, state->str__ssl_protocol);
    if (protocol == NULL) {
        return NULL;
    }
    int open = PyObject_TypeCheck(protocol, state->TlsProtocol_type)
                   ? af_tls_is_open((AfTls *)protocol)
                   : 0;
    if (open <= 0) {
        Py_CLEAR(protocol);
    }
    return (AfTls *)protocol;
}

static bool
is_data(PyObject *object)
{
    return PyBytes_Check(object) || PyByteArray_Check(object)
           || PyMemoryView_Check(object);
}

static bool
are_bytes(PyObject *pieces)
{
    if (!PyList_CheckExact(pieces) && !PyTuple_CheckExact(pieces)) {
        return false;
    }
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(pieces); i++) {
        if (!PyBytes_CheckExact(PySequence_Fast_GET_ITEM(pieces, i))) {
            return false;
        }
    }
    return true;
}

typedef int (*Write)(AfTls *self, PyObject *data);

static PyObject *
front_act(PyObject *op, AfState *state, Write write, PyObject *slowly,
          PyObject *const *args)
{
    AfTls *protocol = front_protocol(state, op);
    if (protocol == NULL) {
        return PyErr_Occurred() ? NULL
                                : front_slowly(op, slowly, args, 1, NULL);
    }
    int err = write(protocol, args[0]);
    Py_DECREF((PyObject *)protocol);
    return err < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
front_write(PyObject *op, PyTypeObject *type, PyObject *const *args,
            Py_ssize_t nargs, PyObject *kwnames)
{
    AfState *state = PyType_GetModuleState(type);
    bool plain = kwnames == NULL && nargs == 1 && is_data(args[0]);
    Py_ssize_t size = plain ? PyObject_Size(args[0]) : 0;
    if (size < 0) {
        return NULL;
    }
    if (size == 0) {
        return front_slowly(op, state->str__write_slowly, args, nargs, kwnames);
    }
    return front_act(op, state, af_tls_write, state->str__write_slowly, args);
}

static PyObject *
front_writelines(PyObject *op, PyTypeObject *type, PyObject *const *args,
                 Py_ssize_t nargs, PyObject *kwnames)
{
    AfState *state = PyType_GetModuleState(type);
    PyObject *slowly = state->str__writelines_slowly;
    if (kwnames != NULL || nargs != 1 || !are_bytes(args[0])) {
        return front_slowly(op, slowly, args, nargs, kwnames);
    }
    return front_act(op, state, af_tls_write_pieces, slowly, args);
}

PyDoc_STRVAR(write_doc, "write($self, data)\n--\n\n"
                        "Encrypt and send bytes; never blocks.\n\n"
                        "Raises TypeError if data isn't bytes, bytearray or "
                        "memoryview.");
PyDoc_STRVAR(writelines_doc, "writelines($self, list_of_data)\n--\n\n"
                             "Write several bytes-like objects.");

static PyMethodDef front_methods[] = {
    {"write", (PyCFunction)(void (*)(void))front_write,
     METH_METHOD | METH_FASTCALL | METH_KEYWORDS, write_doc},
    {"writelines", (PyCFunction)(void (*)(void))front_writelines,
     METH_METHOD | METH_FASTCALL | METH_KEYWORDS, writelines_doc},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(front_doc, "The hot methods of a transport over TLS.");

static PyType_Slot front_slots[] = {
    {Py_tp_doc, (void *)front_doc},
    {Py_tp_methods, front_methods},
    {0, NULL},
};

static PyType_Spec front_spec = {
    .name = "asyncfast._core._TlsTransport",
    .basicsize = sizeof(PyObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = front_slots,
};

int
af_tls_init_type(PyObject *module)
{
    AfState *state = PyModule_GetState(module);
    if (af_state_add_type(module, &state->TlsProtocol_type, &tls_spec, NULL) < 0
        || af_state_add_type(module, &state->TlsTransport_type, &front_spec,
                             NULL)
               < 0) {
        return -1;
    }
    return PyModule_AddType(module, state->TlsProtocol_type) < 0
                   || PyModule_AddType(module, state->TlsTransport_type) < 0
               ? -1
               : 0;
}
