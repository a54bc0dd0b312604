/* server.c -- listening sockets: from accept to transport.
 *
 * Ownership: a listener is held by its descriptor's watch, until
 * _stop_serving or remove_reader withdraws it.
 */
#include "io/server.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/args.h"
#include "base/error.h"
#include "core/handle.h"
#include "io/address.h"
#include "io/stream.h"
#include "io/watch.h"

#define ACCEPT_FAILED "Exception in callback of accept"

typedef struct {
    PyObject_HEAD
    PyObject *factory;   /* owned */
    PyObject *sock;      /* owned */
    PyObject *ssl;       /* owned; None for plain connections */
    PyObject *server;    /* owned */
    PyObject *rest;      /* owned; the arguments as given, to serve again */
    PyObject *family;    /* owned */
    PyObject *type;      /* owned */
    PyObject *proto;     /* owned */
    PyObject *context;   /* owned; NULL before CPython 3.15 */
    AfKnownAddress name; /* of the last connection's own end */
    int fd;
    int backlog;
    int lately; /* how many connections came at a time */
    int full;   /* how often at least so many, in a row */
} Listener;

static int
listener_traverse(PyObject *op, visitproc visit, void *arg)
{
    Listener *self = (Listener *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->factory);
    Py_VISIT(self->sock);
    Py_VISIT(self->ssl);
    Py_VISIT(self->server);
    Py_VISIT(self->rest);
    Py_VISIT(self->family);
    Py_VISIT(self->type);
    Py_VISIT(self->proto);
    Py_VISIT(self->context);
    Py_VISIT(self->name.tuple);
    return 0;
}

static int
listener_clear(PyObject *op)
{
    Listener *self = (Listener *)op;
    Py_CLEAR(self->factory);
    Py_CLEAR(self->sock);
    Py_CLEAR(self->ssl);
    Py_CLEAR(self->server);
    Py_CLEAR(self->rest);
    Py_CLEAR(self->family);
    Py_CLEAR(self->type);
    Py_CLEAR(self->proto);
    Py_CLEAR(self->context);
    Py_CLEAR(self->name.tuple);
    self->name.length = 0;
    return 0;
}

static void
listener_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    listener_clear(op);
    type->tp_free(op);
    Py_DECREF(type);
}

/* A non-blocking, non-inheritable descriptor, or a negative errno value. */
static int
accept_fd(int fd, struct sockaddr_storage *address, socklen_t *length)
{
#ifdef __linux__
    int conn = accept4(fd, (struct sockaddr *)address, length,
                       SOCK_NONBLOCK | SOCK_CLOEXEC);
    return conn < 0 ? -errno : conn;
#else
    int conn = accept(fd, (struct sockaddr *)address, length);
    if (conn < 0) {
        return -errno;
    }
    if (fcntl(conn, F_SETFD, FD_CLOEXEC) < 0
        || fcntl(conn, F_SETFL, O_NONBLOCK) < 0) {
        int code = errno;
        close(conn);
        return -code;
    }
    return conn;
#endif
}

/* socket.socket(family, type, proto, fileno=fd); the descriptor is closed if
 * that fails. */
static PyObject *
listener_make_socket(AfState *state, Listener *self, int fd)
{
    PyObject *number = PyLong_FromLong(fd);
    if (number == NULL) {
        close(fd);
        return NULL;
    }
    PyObject *args[] = {self->family, self->type, self->proto, number};
    PyObject *conn =
        PyObject_Vectorcall(state->Socket, args, 3, state->kwnames_fileno);
    Py_DECREF(number);
    if (conn == NULL) {
        close(fd);
    }
    return conn;
}

/* Steals `name`; NULL with NotImplementedError leaves it to the socket's own
 * method. */
static int
extra_add(PyObject *extra, PyObject *key, PyObject *name)
{
    if (name == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_NotImplementedError)) {
            return -1;
        }
        PyErr_Clear();
        return 0;
    }
    int err = PyDict_SetItem(extra, key, name);
    Py_DECREF(name);
    return err;
}

static int
extra_add_own_name(Listener *self, PyObject *extra, PyObject *key, int fd)
{
    struct sockaddr_storage name;
    socklen_t length = sizeof(name);
    if (getsockname(fd, (struct sockaddr *)&name, &length) < 0) {
        return 0;
    }
    return extra_add(
        extra, key,
        af_known_address_get(&self->name, (struct sockaddr *)&name, length));
}

/* A new {'peername': address, 'sockname': address}. */
static PyObject *
listener_extra(AfState *state, Listener *self, int fd,
               const struct sockaddr_storage *address, socklen_t length)
{
    PyObject *extra = PyDict_New();
    if (extra == NULL) {
        return NULL;
    }
    PyObject *peername =
        af_address_to_python((const struct sockaddr *)address, length);
    if (extra_add(extra, state->str_peername, peername) < 0
        || extra_add_own_name(self, extra, state->str_sockname, fd) < 0) {
        Py_CLEAR(extra);
    }
    return extra;
}

/* Keeps the current exception. */
static void
listener_close(AfLoop *loop, PyObject *conn)
{
    PyObject *exc = af_take_exception();
    PyObject *closed = PyObject_CallMethodNoArgs(conn, loop->state->str_close);
    if (closed == NULL) {
        PyErr_WriteUnraisable(conn);
    }
    Py_XDECREF(closed);
    af_restore_exception(exc);
}

/* TLS is set up once for each connection, by asyncio's own coroutine. */
static int
listener_connect_tls(AfLoop *loop, Listener *self, PyObject *conn,
                     PyObject *extra)
{
    PyObject *coroutine = PyObject_CallMethodObjArgs(
        (PyObject *)loop, loop->state->str__accept_tls, self->rest, conn, extra,
        NULL);
    PyObject *task =
        coroutine == NULL
            ? NULL
            : PyObject_CallMethodOneArg(
                (PyObject *)loop, loop->state->str_create_task, coroutine);
    Py_XDECREF(coroutine);
    if (task == NULL) {
        listener_close(loop, conn);
        return -1;
    }
    Py_DECREF(task);
    return 0;
}

/* As in asyncio, a connection that can't be set up is only told of in debug
 * mode. Steals nothing. */
static int
listener_report(AfLoop *loop, PyObject *protocol, PyObject *conn)
{
    if (af_error_leaves_loop()) {
        return -1;
    }
    listener_close(loop, conn);
    if (!loop->debug) {
        PyErr_Clear();
        return 0;
    }
    return af_loop_report(loop,
                          "Error on transport creation for incoming connection",
                          protocol, NULL);
}

static int
listener_connect_plain(AfLoop *loop, Listener *self, PyObject *conn,
                       PyObject *extra)
{
    PyObject *protocol = PyObject_CallNoArgs(self->factory);
    PyObject *context = self->context == NULL || protocol == NULL
                            ? NULL
                            : PyContext_Copy(self->context);
    PyObject *transport = NULL;
    if (protocol != NULL && !PyErr_Occurred()) {
        transport = af_stream_new(loop, conn, protocol, NULL, extra,
                                  self->server, context);
    }
    int err = transport == NULL ? listener_report(loop, protocol, conn) : 0;
    Py_XDECREF(transport);
    Py_XDECREF(context);
    Py_XDECREF(protocol);
    return err;
}

static void
listener_log(AfLoop *loop, Listener *self, PyObject *conn, PyObject *extra)
{
    PyObject *peername =
        PyDict_GetItemWithError(extra, loop->state->str_peername);
    PyObject *result = PyObject_CallMethod(
        loop->state->logger, "debug", "sOOO",
        "%r got a new connection from %r: %r", self->server, peername, conn);
    if (result == NULL) {
        PyErr_WriteUnraisable((PyObject *)self);
    }
    Py_XDECREF(result);
}

static int
listener_connect(AfLoop *loop, Listener *self, int fd,
                 const struct sockaddr_storage *address, socklen_t length)
{
    AfState *state = loop->state;
    PyObject *conn = listener_make_socket(state, self, fd);
    PyObject *extra =
        conn == NULL ? NULL : listener_extra(state, self, fd, address, length);
    int err;
    if (extra == NULL) {
        err = af_loop_report(loop, ACCEPT_FAILED, NULL, NULL);
    }
    else {
        if (loop->debug) {
            listener_log(loop, self, conn, extra);
        }
        err = self->ssl == Py_None
                  ? listener_connect_plain(loop, self, conn, extra)
                  : listener_connect_tls(loop, self, conn, extra);
    }
    Py_XDECREF(extra);
    Py_XDECREF(conn);
    return err;
}

/* Out of descriptors or memory: asyncio's answer is a report and a pause. Any
 * other error is reported only. */
static int
listener_accept_failed(AfLoop *loop, Listener *self, int code)
{
    af_error_from_errno(code);
    PyObject *exc = af_take_exception();
    PyObject *result = PyObject_CallMethod((PyObject *)loop, "_accept_failed",
                                           "OOO", exc, self->sock, self->rest);
    Py_DECREF(exc);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static bool
accept_may_go_on(int code)
{
    return code == EAGAIN || code == EWOULDBLOCK || code == EINTR
           || code == ECONNABORTED;
}

enum { FULL_ROUNDS = 8 };

/* As many as lately came: whoever is left over makes the socket readable again,
 * and a look that finds nobody is a system call. */
static int
accept_count(const Listener *self)
{
    int most = self->lately < 1 ? 1 : self->lately;
    return most < self->backlog ? most : self->backlog;
}

static void
accept_learn(Listener *self, int count, bool more)
{
    self->lately = count;
    self->full = more ? self->full + 1 : 0;
    if (self->full == FULL_ROUNDS) {
        self->lately = count * 2;
        self->full = 0;
    }
}

static int
listener_accept(AfLoop *loop, PyObject *op)
{
    Listener *self = (Listener *)op;
    int most = accept_count(self);
    for (int i = 0; i < most; i++) {
        if (!af_watch_is_set(loop, self->fd, AF_READ, op)) {
            return 0; /* what ran before has stopped the server */
        }
        struct sockaddr_storage address;
        socklen_t length = sizeof(address);
        int fd = accept_fd(self->fd, &address, &length);
        if (fd < 0) {
            accept_learn(self, i, false);
            return accept_may_go_on(-fd)
                       ? 0
                       : listener_accept_failed(loop, self, -fd);
        }
        if (listener_connect(loop, self, fd, &address, length) < 0) {
            return -1;
        }
    }
    accept_learn(self, most, true);
    return 0;
}

static int
listener_run(AfLoop *loop, PyObject *op)
{
    int err = listener_accept(loop, op);
    if (err < 0) {
        err = af_loop_report(loop, ACCEPT_FAILED, NULL, NULL);
    }
    Py_DECREF(op);
    return err;
}

static int
listener_fire(AfLoop *loop, PyObject *op)
{
    if (af_loop_push(loop, listener_run, Py_NewRef(op)) < 0) {
        PyErr_Clear(); /* it is still ready the next time */
    }
    return 0;
}

static const AfParams start_params = {
    "_start_serving",
    2,
    8,
    {"protocol_factory", "sock", "sslcontext", "server", "backlog",
     "ssl_handshake_timeout", "ssl_shutdown_timeout", "context", NULL}};

enum { FACTORY, SOCK, SSL, SERVER, BACKLOG, HANDSHAKE, SHUTDOWN, CONTEXT };

static PyObject *
or_none(PyObject *value)
{
    return value == NULL ? Py_None : value;
}

static int
listener_copy(PyObject **field, PyObject *sock, PyObject *name)
{
    *field = PyObject_GetAttr(sock, name);
    return *field == NULL ? -1 : 0;
}

static int
listener_fill(AfLoop *loop, Listener *self, PyObject **given)
{
    AfState *state = loop->state;
    self->factory = Py_NewRef(given[FACTORY]);
    self->sock = Py_NewRef(given[SOCK]);
    self->ssl = Py_NewRef(or_none(given[SSL]));
    self->server = Py_NewRef(or_none(given[SERVER]));
    if (given[CONTEXT] != NULL && given[CONTEXT] != Py_None) {
        self->context = Py_NewRef(given[CONTEXT]);
    }
    self->backlog =
        given[BACKLOG] == NULL ? 100 : (int)PyLong_AsLong(given[BACKLOG]);
    if (self->backlog == -1 && PyErr_Occurred()) {
        return -1;
    }
    self->fd = af_watch_fileno(given[SOCK]);
    if (self->fd < 0
        || listener_copy(&self->family, self->sock, state->str_family) < 0
        || listener_copy(&self->type, self->sock, state->str_type) < 0
        || listener_copy(&self->proto, self->sock, state->str_proto) < 0) {
        return -1;
    }
    self->rest =
        PyTuple_Pack(8, self->factory, self->sock, self->ssl, self->server,
                     or_none(given[BACKLOG]), or_none(given[HANDSHAKE]),
                     or_none(given[SHUTDOWN]), or_none(given[CONTEXT]));
    return self->rest == NULL ? -1 : 0;
}

PyObject *
af_server_start(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
                PyObject *kwnames)
{
    AfLoop *loop = (AfLoop *)op;
    PyObject *given[8];
    if (af_args_parse(&start_params, args, nargs, kwnames, given) < 0
        || af_loop_check_closed(loop) < 0) {
        return NULL;
    }
    PyTypeObject *type = loop->state->Listener_type;
    Listener *self = (Listener *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    int err = listener_fill(loop, self, given);
    if (err == 0) {
        err = af_watch_set(loop, self->fd, AF_READ, listener_fire,
                           (PyObject *)self, self->sock);
    }
    Py_DECREF(self);
    return err < 0 ? NULL : Py_NewRef(Py_None);
}

static PyType_Slot listener_slots[] = {
    {Py_tp_dealloc, listener_dealloc},
    {Py_tp_traverse, listener_traverse},
    {Py_tp_clear, listener_clear},
    {0, NULL},
};

static PyType_Spec listener_spec = {
    .name = "asyncfast._core._Listener",
    .basicsize = sizeof(Listener),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = listener_slots,
};

int
af_server_init_type(PyObject *module)
{
    AfState *state = PyModule_GetState(module);
    return af_state_add_type(module, &state->Listener_type, &listener_spec,
                             NULL);
}
