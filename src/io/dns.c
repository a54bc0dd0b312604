/* dns.c -- name lookups on libuv's threads.
 *
 * Ownership: a request belongs to libuv from its submission to its callback,
 * and owns its future. The resolver, a small libuv loop, is made by a loop's
 * first lookup. If lookups are still running when the loop closes, libuv's
 * threads go on using that memory: the module keeps the resolver, and whoever
 * looks something up or closes a loop later sees whether they have ended.
 *
 * Threads: libuv's threads touch only their request; callbacks run in uv_run,
 * which the loop's thread calls with the GIL held when the resolver's
 * descriptor is ready.
 */
#include "io/dns.h"

#include <stdlib.h>
#include <unistd.h>
#include <uv.h>

#include <string.h>

#include "base/error.h"
#include "io/address.h"

typedef struct {
    PyObject_HEAD
    AfLoop *loop;  /* borrowed: owns this through its AfIo; NULL if closed */
    uv_loop_t *uv; /* owned */
    AfWatch watch;
    int pending;
} Resolver;

typedef struct {
    union {
        uv_req_t any;
        uv_getaddrinfo_t address;
        uv_getnameinfo_t name;
    } uv;
    Resolver *resolver; /* owned reference */
    PyObject *future;   /* owned */
} Request;

static PyObject *
addrinfo_to_python(const struct addrinfo *info)
{
    PyObject *address = af_address_to_python(info->ai_addr, info->ai_addrlen);
    if (address == NULL) {
        return NULL;
    }
    const char *name = info->ai_canonname == NULL ? "" : info->ai_canonname;
    return Py_BuildValue("(iiisN)", info->ai_family, info->ai_socktype,
                         info->ai_protocol, name, address);
}

static PyObject *
addrinfo_list(const struct addrinfo *info)
{
    PyObject *list = PyList_New(0);
    for (; list != NULL && info != NULL; info = info->ai_next) {
        PyObject *entry = addrinfo_to_python(info);
        if (entry == NULL || PyList_Append(list, entry) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(entry);
    }
    return list;
}

static void
request_free(Request *request)
{
    request->resolver->pending--;
    Py_DECREF(request->resolver);
    Py_DECREF(request->future);
    PyMem_Free(request);
}

/* Steals `result`, NULL for the current exception. */
static void
request_finish(Request *request, PyObject *result)
{
    AfLoop *loop = request->resolver->loop;
    int err = 0;
    if (loop == NULL) {
        PyErr_Clear();
    }
    else if (result == NULL) {
        err = af_future_set_exception(loop->state, request->future);
    }
    else {
        err = af_future_set_result(loop->state, request->future, result);
    }
    if (err < 0) {
        PyErr_WriteUnraisable(request->future);
    }
    Py_XDECREF(result);
    request_free(request);
}

static PyObject *
request_error(Request *request, int status)
{
    AfLoop *loop = request->resolver->loop;
    return loop == NULL ? NULL : af_error_from_lookup(loop->state, status);
}

static void
on_address(uv_getaddrinfo_t *uv, int status, struct addrinfo *info)
{
    Request *request = uv->data;
    PyObject *result =
        status < 0 ? request_error(request, status) : addrinfo_list(info);
    uv_freeaddrinfo(info);
    request_finish(request, result);
}

static void
on_name(uv_getnameinfo_t *uv, int status, const char *host, const char *service)
{
    Request *request = uv->data;
    PyObject *result = status < 0 ? request_error(request, status)
                                  : Py_BuildValue("(ss)", host, service);
    request_finish(request, result);
}

static int
on_ready(AfWatch *watch, int Py_UNUSED(events))
{
    Resolver *resolver = (Resolver *)Py_NewRef(watch->owner);
    uv_run(resolver->uv, UV_RUN_NOWAIT);
    Py_DECREF(resolver);
    return 0;
}

static void
orphans_add(AfState *state, Resolver *resolver)
{
    if (state->orphans == NULL) {
        state->orphans = PyList_New(0);
    }
    if (state->orphans == NULL
        || PyList_Append(state->orphans, (PyObject *)resolver) < 0) {
        PyErr_Clear(); /* its requests keep it, for good */
    }
}

/* Let go of those whose lookups have ended. Runs destructors. */
static void
orphans_look_after(AfState *state)
{
    PyObject *orphans = state->orphans;
    if (orphans == NULL) {
        return;
    }
    PyObject *raised = PyErr_Occurred() ? af_take_exception() : NULL;
    state->orphans = NULL;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(orphans); i++) {
        Resolver *resolver = (Resolver *)PyList_GET_ITEM(orphans, i);
        uv_run(resolver->uv, UV_RUN_NOWAIT);
        if (resolver->pending > 0) {
            orphans_add(state, resolver);
        }
    }
    Py_DECREF(orphans);
    if (raised != NULL) {
        af_restore_exception(raised);
    }
}

/* libuv calls abort() where it gets no thread, or no pipe, of those that a
 * process needs for its first lookup, and a loop of its own that can't be made
 * keeps a descriptor. So we try before whether all is there; what somebody else
 * takes in between is beyond us. */

enum { DEFAULT_THREADS = 4, MAX_THREADS = 1024, PIPES = 4 };

static void
probe_wait(void *mutex)
{
    uv_mutex_lock(mutex);
    uv_mutex_unlock(mutex);
}

/* As libuv reads it. */
static int
pool_size(void)
{
    const char *text = getenv("UV_THREADPOOL_SIZE");
    long size = text == NULL ? DEFAULT_THREADS : strtol(text, NULL, 10);
    return size < 1 ? 1 : size > MAX_THREADS ? MAX_THREADS : (int)size;
}

/* How many of so many threads can be there at a time. */
static int
probe_threads(uv_thread_t *threads, int wanted)
{
    uv_mutex_t mutex;
    if (uv_mutex_init(&mutex) != 0) {
        return 0;
    }
    int count = 0;
    uv_mutex_lock(&mutex);
    while (count < wanted
           && uv_thread_create(&threads[count], probe_wait, &mutex) == 0) {
        count++;
    }
    uv_mutex_unlock(&mutex);
    for (int i = 0; i < count; i++) {
        uv_thread_join(&threads[i]);
    }
    uv_mutex_destroy(&mutex);
    return count;
}

static int
pool_check_threads(void)
{
    int wanted = pool_size();
    uv_thread_t *threads = PyMem_New(uv_thread_t, (size_t)wanted);
    if (threads == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    int count = probe_threads(threads, wanted);
    PyMem_Free(threads);
    if (count < wanted) {
        PyErr_SetString(PyExc_RuntimeError, "can't start new thread");
        return -1;
    }
    return 0;
}

static int
pool_check_pipes(void)
{
    uv_file pipes[PIPES][2];
    int count = 0;
    int err = 0;
    while (count < PIPES && (err = uv_pipe(pipes[count], 0, 0)) == 0) {
        count++;
    }
    for (int i = 0; i < count; i++) {
        close(pipes[i][0]);
        close(pipes[i][1]);
    }
    if (err != 0) {
        af_error_from_errno(-err);
        return -1;
    }
    return 0;
}

/* The threads once for each process: a child that was forked has none. */
static int
pool_check(AfState *state)
{
    if (pool_check_pipes() < 0) {
        return -1;
    }
    if (state->lookup_pid != getpid()) {
        if (pool_check_threads() < 0) {
            return -1;
        }
        state->lookup_pid = getpid();
    }
    return 0;
}

static uv_loop_t *
resolver_make_uv(AfState *state)
{
    if (pool_check(state) < 0) {
        return NULL;
    }
    uv_loop_t *uv = PyMem_Malloc(sizeof(uv_loop_t));
    if (uv == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    int err = uv_loop_init(uv);
    if (err < 0) {
        PyMem_Free(uv);
        af_error_from_errno(-err);
        return NULL;
    }
    return uv;
}

static int
resolver_watch(Resolver *self)
{
    AfPoll *poll = &self->loop->poll;
    int fd = uv_backend_fd(self->uv);
    if (af_poll_claim(poll, &self->watch, fd) < 0) {
        return -1;
    }
    return af_poll_want(poll, &self->watch, AF_READ);
}

static Resolver *
resolver_new(AfLoop *loop)
{
    PyTypeObject *type = loop->state->Resolver_type;
    Resolver *self = (Resolver *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->loop = loop;
    self->watch.owner = (PyObject *)self;
    self->watch.on_ready = on_ready;
    self->watch.private_fd = true;
    self->watch.fd = -1;
    self->uv = resolver_make_uv(loop->state);
    if (self->uv == NULL || resolver_watch(self) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    return self;
}

/* A borrowed reference. */
static Resolver *
resolver_get(AfLoop *loop)
{
    AfIo *io = af_io_get(loop);
    if (io == NULL) {
        return NULL;
    }
    if (io->resolver == NULL) {
        io->resolver = (PyObject *)resolver_new(loop);
    }
    return (Resolver *)io->resolver;
}

static void
resolver_part(Resolver *self)
{
    if (self->loop != NULL) {
        af_poll_release(&self->loop->poll, &self->watch);
        self->loop = NULL;
    }
}

/* The loop's resolver, parted from the loop; NULL if it has none. */
static Resolver *
resolver_take(AfLoop *loop)
{
    if (loop->io == NULL || loop->io->resolver == NULL) {
        return NULL;
    }
    Resolver *self = (Resolver *)loop->io->resolver;
    loop->io->resolver = NULL;
    resolver_part(self);
    return self;
}

void
af_dns_close(AfLoop *loop)
{
    orphans_look_after(loop->state);
    Resolver *self = resolver_take(loop);
    if (self != NULL) {
        uv_run(self->uv, UV_RUN_NOWAIT);
        if (self->pending > 0) {
            orphans_add(loop->state, self);
        }
        Py_DECREF(self);
    }
}

/* Without a word to the resolver: its descriptors are the parent's too, its
 * locks may be held by threads that are gone. */
void
af_dns_after_fork(AfLoop *loop)
{
    Py_XDECREF((PyObject *)resolver_take(loop));
}

/* Their lookups never end here, and keep them. */
void
af_dns_forget_orphans(AfState *state)
{
    Py_CLEAR(state->orphans);
}

static void
resolver_dealloc(PyObject *op)
{
    Resolver *self = (Resolver *)op;
    PyTypeObject *type = Py_TYPE(op);
    resolver_part(self);
    /* Nothing is pending: each request holds a reference. */
    if (self->uv != NULL && uv_loop_close(self->uv) == 0) {
        PyMem_Free(self->uv);
    }
    type->tp_free(op);
    Py_DECREF(type);
}

static Request *
request_new(AfLoop *loop)
{
    orphans_look_after(loop->state);
    Resolver *resolver = resolver_get(loop);
    PyObject *future = resolver == NULL ? NULL : af_loop_create_future(loop);
    if (future == NULL) {
        return NULL;
    }
    Request *request = PyMem_Calloc(1, sizeof(Request));
    if (request == NULL) {
        Py_DECREF(future);
        PyErr_NoMemory();
        return NULL;
    }
    request->uv.any.data = request;
    request->future = future;
    request->resolver = (Resolver *)Py_NewRef((PyObject *)resolver);
    resolver->pending++;
    return request;
}

/* `err` is the status of the submission. */
static PyObject *
request_submitted(AfLoop *loop, Request *request, int err)
{
    if (err < 0) {
        request_free(request);
        return af_error_from_lookup(loop->state, err);
    }
    PyObject *future = Py_NewRef(request->future);
    /* libuv adds descriptors to its poll set only when it runs. */
    uv_run(request->resolver->uv, UV_RUN_NOWAIT);
    return future;
}

PyObject *
af_dns_lookup_address(PyObject *self, PyObject *args)
{
    AfLoop *loop = (AfLoop *)self;
    const char *host, *port;
    struct addrinfo hints;
    memset(&hints, 0, sizeof(hints));
    if (!PyArg_ParseTuple(args, "zziiii:_lookup_address", &host, &port,
                          &hints.ai_family, &hints.ai_socktype,
                          &hints.ai_protocol, &hints.ai_flags)
        || af_loop_check_closed(loop) < 0) {
        return NULL;
    }
    Request *request = request_new(loop);
    if (request == NULL) {
        return NULL;
    }
    int err = uv_getaddrinfo(request->resolver->uv, &request->uv.address,
                             on_address, host, port, &hints);
    return request_submitted(loop, request, err);
}

PyObject *
af_dns_lookup_name(PyObject *self, PyObject *args)
{
    AfLoop *loop = (AfLoop *)self;
    PyObject *sockaddr;
    int flags;
    struct sockaddr_storage address;
    if (!PyArg_ParseTuple(args, "O!i:_lookup_name", &PyTuple_Type, &sockaddr,
                          &flags)
        || af_loop_check_closed(loop) < 0) {
        return NULL;
    }
    int parsed = af_address_from_python(sockaddr, &address);
    if (parsed != 0) {
        return parsed < 0 ? NULL : Py_NewRef(Py_None);
    }
    Request *request = request_new(loop);
    if (request == NULL) {
        return NULL;
    }
    int err = uv_getnameinfo(request->resolver->uv, &request->uv.name, on_name,
                             (struct sockaddr *)&address, flags);
    return request_submitted(loop, request, err);
}

static PyType_Slot resolver_slots[] = {
    {Py_tp_dealloc, resolver_dealloc},
    {0, NULL},
};

static PyType_Spec resolver_spec = {
    .name = "asyncfast._core._Resolver",
    .basicsize = sizeof(Resolver),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = resolver_slots,
};

int
af_dns_init_type(PyObject *module)
{
    AfState *state = PyModule_GetState(module);
    return af_state_add_type(module, &state->Resolver_type, &resolver_spec,
                             NULL);
}
