/* loop_type.c -- the type of the loop: life, attributes, one table of methods.
 *
 * Every row of the table points at a function of the room that owns the
 * mechanism. asyncfast/loop.py derives the class that users see from this type
 * and from asyncio.BaseEventLoop.
 */
#include "api/loop_type.h"

#include "core/handle.h"
#include "core/meter.h"
#include "core/task.h"
#include "core/threadsafe.h"
#include "io/datagram.h"
#include "io/dns.h"
#include "io/io.h"
#include "io/server.h"
#include "io/sock.h"
#include "io/stream.h"
#include "io/watch.h"
#include "os/executor.h"
#include "os/fork.h"

static int
ring_traverse(AfRing *ring, visitproc visit, void *arg)
{
    for (size_t i = 0; i < ring->count; i++) {
        Py_VISIT(af_ring_at(ring, i)->item);
    }
    return 0;
}

static int
loop_traverse(PyObject *self, visitproc visit, void *arg)
{
    AfLoop *loop = (AfLoop *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(loop->module);
    Py_VISIT(loop->default_executor);
    Py_VISIT(loop->workers);
    Py_VISIT(loop->sleep_item);
    Py_VISIT(loop->current_handle);
    Py_VISIT(loop->thread_id);
    Py_VISIT(loop->spare_context);
    Py_VISIT(loop->task_factory);
    Py_VISIT(loop->current_task);
    int err = ring_traverse(&loop->ready, visit, arg);
    if (err == 0) {
        err = ring_traverse(&loop->trailing, visit, arg);
    }
    if (err == 0) {
        err = af_timers_traverse(&loop->timers, visit, arg);
    }
    if (err == 0) {
        err = af_poll_traverse(&loop->poll, visit, arg);
    }
    return err == 0 ? af_io_traverse(loop, visit, arg) : err;
}

static void
loop_shut(AfLoop *loop)
{
    af_dns_close(loop);
    af_loop_shut(loop);
}

static int
loop_clear(PyObject *self)
{
    AfLoop *loop = (AfLoop *)self;
    loop_shut(loop);
    af_io_clear(loop);
    af_meter_clear(loop);
    Py_CLEAR(loop->sleep_item);
    Py_CLEAR(loop->workers);
    Py_CLEAR(loop->default_executor);
    Py_CLEAR(loop->current_handle);
    Py_CLEAR(loop->spare_context);
    Py_CLEAR(loop->task_factory);
    Py_CLEAR(loop->current_task);
    return 0;
}

static void
loop_dealloc(PyObject *self)
{
    AfLoop *loop = (AfLoop *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    af_fork_unregister(loop);
    loop_clear(self);
    af_io_free(loop);
    Py_CLEAR(loop->thread_id);
    /* Last, because all of this needs the state. */
    Py_CLEAR(loop->module);
    type->tp_free(self);
    Py_DECREF(type);
}

/* Does the class of a loop override `name`? -1 with an exception. */
static int
type_overrides(AfState *state, PyTypeObject *type, PyObject *name)
{
    PyObject *own = PyObject_GetAttr((PyObject *)state->Loop_type, name);
    PyObject *found = PyObject_GetAttr((PyObject *)type, name);
    int differs = own == NULL || found == NULL ? -1 : own != found;
    Py_XDECREF(own);
    Py_XDECREF(found);
    return differs;
}

/* The methods that C looks up only where somebody replaced them. */
static bool *
loop_custom(AfLoop *loop, int index, PyObject **name)
{
    AfState *state = loop->state;
    PyObject *names[] = {state->str_time, state->str_create_future,
                         state->str_call_soon};
    bool *flags[] = {&loop->custom_time, &loop->custom_future,
                     &loop->custom_call_soon};
    *name = names[index];
    return flags[index];
}

enum { CUSTOM_COUNT = 3 };

static int
loop_note_overrides(AfLoop *loop, PyTypeObject *type)
{
    for (int i = 0; i < CUSTOM_COUNT; i++) {
        PyObject *name;
        bool *custom = loop_custom(loop, i, &name);
        int overrides = type_overrides(loop->state, type, name);
        if (overrides < 0) {
            return -1;
        }
        *custom = overrides;
    }
    return 0;
}

static PyObject *
loop_new(PyTypeObject *type, PyObject *Py_UNUSED(args),
         PyObject *Py_UNUSED(kwargs))
{
    PyObject *module = PyType_GetModuleByDef(type, &af_module_def);
    if (module == NULL) {
        return NULL;
    }
    AfLoop *loop = (AfLoop *)type->tp_alloc(type, 0);
    if (loop == NULL) {
        return NULL;
    }
    loop->module = Py_NewRef(module);
    loop->state = PyModule_GetState(module);
    loop->thread_id = Py_NewRef(Py_None);
    af_fork_register(loop);
    Py_XSETREF(loop->state->loop_class,
               (PyTypeObject *)Py_NewRef((PyObject *)type));
    if (af_poll_init(&loop->poll) < 0 || loop_note_overrides(loop, type) < 0) {
        Py_DECREF(loop);
        return NULL;
    }
    return (PyObject *)loop;
}

/* Some programs replace methods of one loop: C must see the few that it would
 * otherwise not look up. */
static int
loop_setattro(PyObject *self, PyObject *name, PyObject *value)
{
    AfLoop *loop = (AfLoop *)self;
    if (PyObject_GenericSetAttr(self, name, value) < 0) {
        return -1;
    }
    if (PyUnicode_Compare(name, loop->state->str_call_soon_threadsafe) == 0) {
        /* Of a class it is asked when the executor is made. */
        loop->custom_threadsafe = value != NULL;
        return 0;
    }
    for (int i = 0; i < CUSTOM_COUNT; i++) {
        PyObject *replaced;
        bool *custom = loop_custom(loop, i, &replaced);
        if (PyUnicode_Compare(name, replaced) == 0) {
            *custom = true;
            return value == NULL ? loop_note_overrides(loop, Py_TYPE(self))
                                 : af_task_spell_out_waits(loop);
        }
    }
    return 0;
}

static PyObject *
loop_shut_method(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    loop_shut((AfLoop *)self);
    Py_RETURN_NONE;
}

static PyObject *
loop_get_ready(PyObject *self, void *Py_UNUSED(closure))
{
    AfRing *ring = &((AfLoop *)self)->ready;
    /* Not of its final size at once: a new list may set off the collector, and
     * that whatever schedules more. */
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list != NULL && i < ring->count; i++) {
        if (PyList_Append(list, af_ring_at(ring, i)->item) < 0) {
            Py_CLEAR(list);
        }
    }
    return list;
}

static PyObject *
loop_get_scheduled(PyObject *self, void *Py_UNUSED(closure))
{
    return af_timers_list(&((AfLoop *)self)->timers);
}

/* BaseEventLoop's constructor sets its queues; ours are not replaceable. */
static int
loop_set_queue(PyObject *Py_UNUSED(self), PyObject *value,
               void *Py_UNUSED(closure))
{
    Py_ssize_t size = value == NULL ? -1 : PyObject_Size(value);
    if (size != 0) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_AttributeError,
                            "the loop's queues can't be replaced");
        }
        return -1;
    }
    return 0;
}

static int
set_bool(bool *field, PyObject *value)
{
    int truth = value == NULL ? 0 : PyObject_IsTrue(value);
    if (truth < 0) {
        return -1;
    }
    *field = truth;
    return 0;
}

static PyObject *
loop_get_debug_attr(PyObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(((AfLoop *)self)->debug);
}

static int
loop_set_debug_attr(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    AfLoop *loop = (AfLoop *)self;
    bool before = loop->debug;
    if (set_bool(&loop->debug, value) < 0) {
        return -1;
    }
    return loop->debug && !before ? af_task_spell_out_waits(loop) : 0;
}

static PyObject *
loop_get_stopping(PyObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(((AfLoop *)self)->stopping);
}

static int
loop_set_stopping(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    return set_bool(&((AfLoop *)self)->stopping, value);
}

static PyObject *
loop_get_closed(PyObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(((AfLoop *)self)->closed);
}

static int
loop_set_closed(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    return set_bool(&((AfLoop *)self)->closed, value);
}

static PyObject *
loop_get_executor_shut(PyObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(((AfLoop *)self)->executor_shut);
}

static int
loop_set_executor_shut(PyObject *self, PyObject *value,
                       void *Py_UNUSED(closure))
{
    return set_bool(&((AfLoop *)self)->executor_shut, value);
}

static PyGetSetDef loop_getset[] = {
    {"_ready", loop_get_ready, loop_set_queue, NULL, NULL},
    {"_scheduled", loop_get_scheduled, loop_set_queue, NULL, NULL},
    {"_debug", loop_get_debug_attr, loop_set_debug_attr, NULL, NULL},
    {"_stopping", loop_get_stopping, loop_set_stopping, NULL, NULL},
    {"_closed", loop_get_closed, loop_set_closed, NULL, NULL},
    {"_default_executor", af_executor_get_default, af_executor_set_default,
     NULL, NULL},
    {"_executor_shutdown_called", loop_get_executor_shut,
     loop_set_executor_shut, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef loop_members[] = {
    {"_current_handle", T_OBJECT, offsetof(AfLoop, current_handle), 0, NULL},
    {"_task_factory", T_OBJECT, offsetof(AfLoop, task_factory), 0, NULL},
    {"_thread_id", T_OBJECT, offsetof(AfLoop, thread_id), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(call_soon_doc,
             "call_soon($self, callback, /, *args, context=None)\n--\n\n"
             "Call callback(*args) in the loop's next turn, in the order of "
             "scheduling.\n\ncontext is the contextvars.Context to run it in, "
             "by default a copy of the\ncurrent one. Returns an "
             "asyncio.Handle. Raises RuntimeError if the loop is\nclosed.");
PyDoc_STRVAR(call_soon_threadsafe_doc,
             "call_soon_threadsafe($self, callback, /, *args, context=None)\n"
             "--\n\n"
             "Like call_soon(), from any thread or a signal handler.");
PyDoc_STRVAR(call_later_doc,
             "call_later($self, delay, callback, /, *args, context=None)\n"
             "--\n\n"
             "Call callback(*args) after delay seconds, an int or float.\n\n"
             "Returns an asyncio.TimerHandle.");
PyDoc_STRVAR(call_at_doc,
             "call_at($self, when, callback, /, *args, context=None)\n--\n\n"
             "Call callback(*args) when time() reaches when, in seconds.\n\n"
             "Returns an asyncio.TimerHandle.");
PyDoc_STRVAR(time_doc, "time($self, /)\n--\n\n"
                       "The loop's clock in float seconds: "
                       "time.monotonic().");
PyDoc_STRVAR(stop_doc, "stop($self, /)\n--\n\n"
                       "Let run_forever() return after the current batch of "
                       "callbacks.");
PyDoc_STRVAR(is_running_doc, "is_running($self, /)\n--\n\n"
                             "True while the loop runs.");
PyDoc_STRVAR(is_closed_doc, "is_closed($self, /)\n--\n\n"
                            "True once close() was called.");
PyDoc_STRVAR(get_debug_doc, "get_debug($self, /)\n--\n\n"
                            "True in debug mode.");
PyDoc_STRVAR(create_future_doc, "create_future($self, /)\n--\n\n"
                                "A new asyncio.Future attached to this loop: "
                                "an asyncfast.Future.");
PyDoc_STRVAR(
    create_task_doc,
    "create_task($self, coro, " AF_CREATE_TASK_KEYWORDS ")\n--\n\n"
    "Schedule a coroutine and return its task: an asyncio.Task, in "
    "fact an\nasyncfast.Task, or what the task factory makes where one "
    "is set.\n\nKeywords are those of this Python's asyncio. Raises "
    "RuntimeError if the loop is\nclosed.");
PyDoc_STRVAR(add_reader_doc,
             "add_reader($self, fd, callback, /, *args)\n--\n\n"
             "Call callback(*args) whenever fd, an int or an object with "
             "fileno(), is\nreadable. Raises OSError if it can't be watched, "
             "RuntimeError if a transport\nuses it.");
PyDoc_STRVAR(remove_reader_doc,
             "remove_reader($self, fd, /)\n--\n\n"
             "Stop watching fd for reading; True if it was watched.");
PyDoc_STRVAR(add_writer_doc,
             "add_writer($self, fd, callback, /, *args)\n--\n\n"
             "Call callback(*args) whenever fd, an int or an object with "
             "fileno(), is\nwritable. Raises as add_reader().");
PyDoc_STRVAR(remove_writer_doc,
             "remove_writer($self, fd, /)\n--\n\n"
             "Stop watching fd for writing; True if it was watched.");
PyDoc_STRVAR(run_in_executor_doc,
             "run_in_executor($self, executor, func, *args)\n--\n\n"
             "Call func(*args) in another thread, or wherever executor, a\n"
             "concurrent.futures.Executor, calls it; None stands for the "
             "loop's own threads.\n\nReturns an asyncio.Future of the "
             "result.");
PyDoc_STRVAR(sock_recv_doc,
             "sock_recv($self, sock, n)\n--\n\n"
             "Receive up to n bytes from a non-blocking socket; b'' at its "
             "end.");
PyDoc_STRVAR(sock_recv_into_doc,
             "sock_recv_into($self, sock, buf)\n--\n\n"
             "Receive into a writable buffer; the number of bytes.");
PyDoc_STRVAR(sock_recvfrom_doc,
             "sock_recvfrom($self, sock, bufsize)\n--\n\n"
             "Receive a datagram of up to bufsize bytes: (data, address).");
PyDoc_STRVAR(sock_recvfrom_into_doc,
             "sock_recvfrom_into($self, sock, buf, nbytes=0)\n--\n\n"
             "Receive a datagram of up to nbytes bytes (0: the buffer's size) "
             "into a\nwritable buffer: (number of bytes, address).");
PyDoc_STRVAR(sock_sendall_doc,
             "sock_sendall($self, sock, data)\n--\n\n"
             "Send all of data, a bytes-like object, on a non-blocking "
             "socket.");
PyDoc_STRVAR(sock_sendto_doc,
             "sock_sendto($self, sock, data, address)\n--\n\n"
             "Send a datagram to address; the number of bytes.");
PyDoc_STRVAR(sock_accept_doc,
             "sock_accept($self, sock)\n--\n\n"
             "Accept a connection on a listening, non-blocking socket:\n"
             "(connection, address), the connection non-blocking too.");

#define FAST(function) (PyCFunction)(void (*)(void))(function)
#define KEYWORDS METH_FASTCALL | METH_KEYWORDS

static PyMethodDef loop_methods[] = {
    {"call_soon", FAST(af_handle_call_soon_method), KEYWORDS, call_soon_doc},
    {"call_soon_threadsafe", FAST(af_threadsafe_call_soon), KEYWORDS,
     call_soon_threadsafe_doc},
    {"call_later", FAST(af_timers_call_later_method), KEYWORDS, call_later_doc},
    {"call_at", FAST(af_timers_call_at), KEYWORDS, call_at_doc},
    {"time", af_loop_time, METH_NOARGS, time_doc},
    {"stop", af_loop_stop, METH_NOARGS, stop_doc},
    {"is_running", af_loop_is_running, METH_NOARGS, is_running_doc},
    {"is_closed", af_loop_is_closed, METH_NOARGS, is_closed_doc},
    {"get_debug", af_loop_get_debug, METH_NOARGS, get_debug_doc},
    {"create_future", af_loop_create_future_method, METH_NOARGS,
     create_future_doc},
    {"create_task", FAST(af_task_create_method), KEYWORDS, create_task_doc},
    {"run_in_executor", FAST(af_executor_run), KEYWORDS, run_in_executor_doc},
    {"add_reader", FAST(af_watch_add_reader), METH_FASTCALL, add_reader_doc},
    {"remove_reader", af_watch_remove_reader, METH_O, remove_reader_doc},
    {"add_writer", FAST(af_watch_add_writer), METH_FASTCALL, add_writer_doc},
    {"remove_writer", af_watch_remove_writer, METH_O, remove_writer_doc},
    {"sock_recv", FAST(af_sock_recv), KEYWORDS, sock_recv_doc},
    {"sock_recv_into", FAST(af_sock_recv_into), KEYWORDS, sock_recv_into_doc},
    {"sock_recvfrom", FAST(af_sock_recvfrom), KEYWORDS, sock_recvfrom_doc},
    {"sock_recvfrom_into", FAST(af_sock_recvfrom_into), KEYWORDS,
     sock_recvfrom_into_doc},
    {"sock_sendall", FAST(af_sock_sendall), KEYWORDS, sock_sendall_doc},
    {"sock_sendto", FAST(af_sock_sendto), KEYWORDS, sock_sendto_doc},
    {"sock_accept", FAST(af_sock_accept), KEYWORDS, sock_accept_doc},
    /* The names by which asyncio's own code calls its loops. */
    {"_add_callback", af_handle_add_callback, METH_O, NULL},
    {"_add_reader", FAST(af_watch_add_reader_unchecked), METH_FASTCALL, NULL},
    {"_add_writer", FAST(af_watch_add_writer_unchecked), METH_FASTCALL, NULL},
    {"_clients_of", af_transport_list_clients, METH_O, NULL},
    {"_check_closed", af_loop_check_closed_method, METH_NOARGS, NULL},
    {"_ensure_fd_no_transport", af_watch_ensure_free, METH_O, NULL},
    {"_make_datagram_transport", FAST(af_datagram_make), KEYWORDS, NULL},
    {"_make_socket_transport", FAST(af_stream_make), KEYWORDS, NULL},
    {"_remove_reader", af_watch_remove_reader_unchecked, METH_O, NULL},
    {"_remove_writer", af_watch_remove_writer_unchecked, METH_O, NULL},
    {"_run_once", af_loop_run_once, METH_NOARGS, NULL},
    {"_start_serving", FAST(af_server_start), KEYWORDS, NULL},
    {"_timer_handle_cancelled", af_timers_cancelled, METH_O, NULL},
    {"_write_to_self", af_threadsafe_wake, METH_NOARGS, NULL},
    /* What asyncfast/telemetry builds on. */
    {"_counts", af_meter_counts, METH_NOARGS, NULL},
    {"_heartbeat", af_meter_heartbeat, METH_NOARGS, NULL},
    {"_observe", af_meter_observe, METH_VARARGS, NULL},
    {"_tally", af_meter_tally, METH_NOARGS, NULL},
    {"_time_waits", af_meter_time_waits, METH_O, NULL},
    /* What asyncfast/loop.py builds on. */
    {"_lookup_address", af_dns_lookup_address, METH_VARARGS, NULL},
    {"_lookup_name", af_dns_lookup_name, METH_VARARGS, NULL},
    {"_watched_events", af_watch_events, METH_O, NULL},
    {"_run", af_loop_run, METH_NOARGS, NULL},
    {"_shut", loop_shut_method, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(loop_doc, "The core of asyncfast.Loop.");

static PyType_Slot loop_slots[] = {
    {Py_tp_doc, (void *)loop_doc}, {Py_tp_new, loop_new},
    {Py_tp_dealloc, loop_dealloc}, {Py_tp_traverse, loop_traverse},
    {Py_tp_clear, loop_clear},     {Py_tp_setattro, loop_setattro},
    {Py_tp_methods, loop_methods}, {Py_tp_members, loop_members},
    {Py_tp_getset, loop_getset},   {0, NULL},
};

static PyType_Spec loop_spec = {
    .name = "asyncfast._core.Loop",
    .basicsize = sizeof(AfLoop),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = loop_slots,
};

int
af_loop_init_type(PyObject *module)
{
    AfState *state = PyModule_GetState(module);
    if (af_state_add_type(module, &state->Loop_type, &loop_spec, NULL) < 0) {
        return -1;
    }
    return PyModule_AddObjectRef(module, "Loop", (PyObject *)state->Loop_type);
}
