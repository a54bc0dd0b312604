/* handle.c -- Handle: one scheduled call.
 *
 * Ownership: a handle is an asyncio.Handle and keeps everything in that
 * class's own slots, which Python code may write; so their types are checked
 * before C relies on them.
 *
 * A running loop is alive, and so is what it is going to call: the collector would
 * look at thousands of handles for nothing. So it sees a handle only once the loop
 * has stopped, or has called it while somebody else holds it, or when it's a timer
 * that was cancelled.
 */
#include "core/handle.h"

#include "base/args.h"
#include "base/error.h"
#include "core/context.h"
#include "core/step.h"

static AfState *
handle_state(PyObject *self)
{
    return PyType_GetModuleState(Py_TYPE(self));
}

int
af_handle_traverse(PyObject *self, visitproc visit, void *arg)
{
    AfHandle *handle = (AfHandle *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(handle->args);
    Py_VISIT(handle->callback);
    Py_VISIT(handle->cancelled);
    Py_VISIT(handle->context);
    Py_VISIT(handle->loop);
    Py_VISIT(handle->repr);
    Py_VISIT(handle->source_traceback);
    return 0;
}

int
af_handle_clear(PyObject *self)
{
    AfHandle *handle = (AfHandle *)self;
    Py_CLEAR(handle->args);
    Py_CLEAR(handle->callback);
    Py_CLEAR(handle->cancelled);
    Py_CLEAR(handle->context);
    Py_CLEAR(handle->loop);
    Py_CLEAR(handle->repr);
    Py_CLEAR(handle->source_traceback);
    return 0;
}

static void
handle_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    PyObject_ClearWeakRefs(self);
    af_handle_clear(self);
    AfState *state = af_state_of_dying(self);
    af_freelist_free(state == NULL ? NULL : &state->handles, self);
}

static PyObject *
handle_source_traceback(AfState *state)
{
    PyFrameObject *frame = PyThreadState_GetFrame(PyThreadState_Get());
    PyObject *stack = PyObject_CallOneArg(
        state->extract_stack, frame == NULL ? Py_None : (PyObject *)frame);
    Py_XDECREF(frame);
    return stack;
}

int
af_handle_fill(AfLoop *loop, AfHandle *handle, PyObject *callback,
               PyObject *args, PyObject *context)
{
    handle->args = args;
    handle->callback = Py_NewRef(callback);
    handle->cancelled = Py_NewRef(Py_False);
    handle->loop = Py_NewRef((PyObject *)loop);
    handle->repr = Py_NewRef(Py_None);
    handle->context =
        context == NULL ? af_context_capture(loop->state) : Py_NewRef(context);
    handle->source_traceback =
        loop->debug ? handle_source_traceback(loop->state) : Py_NewRef(Py_None);
    return handle->context == NULL || handle->source_traceback == NULL ? -1 : 0;
}

PyObject *
af_handle_pack(AfState *state, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs == 0) {
        return Py_NewRef(state->empty_tuple);
    }
    PyObject *packed = PyTuple_New(nargs);
    if (packed == NULL) {
        return NULL;
    }
    for (Py_ssize_t i = 0; i < nargs; i++) {
        PyTuple_SET_ITEM(packed, i, Py_NewRef(args[i]));
    }
    return packed;
}

static PyObject *
handle_new_hidden(AfLoop *loop, PyObject *callback, PyObject *args,
                  PyObject *context)
{
    AfState *state = loop->state;
    PyObject *handle =
        af_freelist_alloc_hidden(&state->handles, state->Handle_type);
    if (handle == NULL) {
        Py_DECREF(args);
        return NULL;
    }
    if (af_handle_fill(loop, (AfHandle *)handle, callback, args, context) < 0) {
        Py_DECREF(handle);
        return NULL;
    }
    return handle;
}

static void
handle_reveal(PyObject *handle)
{
    if (!PyObject_GC_IsTracked(handle)) {
        PyObject_GC_Track(handle);
    }
}

void
af_handle_reveal_ready(AfLoop *loop)
{
    for (size_t i = 0; i < loop->ready.count; i++) {
        AfEntry *entry = af_ring_at(&loop->ready, i);
        if (entry->run == (void *)af_handle_run) {
            handle_reveal(entry->item);
        }
    }
}

/* The loop has called it, or won't. */
static void
handle_let_go(PyObject *handle)
{
    if (Py_REFCNT(handle) > 1) {
        handle_reveal(handle);
    }
    Py_DECREF(handle);
}

PyObject *
af_handle_new(AfLoop *loop, PyObject *callback, PyObject *args,
              PyObject *context)
{
    PyObject *handle = handle_new_hidden(loop, callback, args, context);
    if (handle != NULL) {
        PyObject_GC_Track(handle);
    }
    return handle;
}

PyObject *
af_handle_new_lasting(AfLoop *loop, PyObject *callback, PyObject *args)
{
    PyObject *context = PyContext_CopyCurrent();
    if (context == NULL) {
        Py_DECREF(args);
        return NULL;
    }
    PyObject *handle = af_handle_new(loop, callback, args, context);
    Py_DECREF(context);
    return handle;
}

PyObject *
af_handle_call_soon(AfLoop *loop, PyObject *callback, PyObject *args,
                    PyObject *context)
{
    PyObject *handle = handle_new_hidden(loop, callback, args, context);
    if (handle == NULL) {
        return NULL;
    }
    if (loop->turning == 0) {
        PyObject_GC_Track(handle);
    }
    if (af_loop_push(loop, af_handle_run, Py_NewRef(handle)) < 0) {
        Py_DECREF(handle);
        return NULL;
    }
    return handle;
}

int
af_handle_schedule(AfLoop *loop, PyObject *callback, PyObject *arg,
                   PyObject *context)
{
    PyObject *args = af_handle_pack(loop->state, &arg, 1);
    if (args == NULL) {
        return -1;
    }
    PyObject *handle = af_handle_call_soon(loop, callback, args, context);
    Py_XDECREF(handle);
    return handle == NULL ? -1 : 0;
}

/* A slow path is Python: exact texts, for exceptions and debug mode. */
static int
handle_delegate(AfLoop *loop, PyObject *method, PyObject *handle)
{
    PyObject *result =
        PyObject_CallMethodOneArg((PyObject *)loop, method, handle);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static int
handle_report_exception(AfLoop *loop, PyObject *handle, PyObject *exc)
{
    PyObject *result = PyObject_CallMethodObjArgs(
        (PyObject *)loop, loop->state->str__report_callback_error, handle, exc,
        NULL);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static int
handle_report(AfLoop *loop, PyObject *handle)
{
    if (af_error_leaves_loop()) {
        return -1;
    }
    PyObject *exc = af_take_exception();
    int err = handle_report_exception(loop, handle, exc);
    Py_DECREF(exc);
    return err;
}

int
af_handle_report_callback(AfLoop *loop, PyObject *callback, PyObject *context,
                          PyObject *exc)
{
    PyObject *args = Py_NewRef(loop->state->empty_tuple);
    PyObject *handle = af_handle_new(loop, callback, args, context);
    int err = handle == NULL ? -1 : handle_report_exception(loop, handle, exc);
    Py_XDECREF(handle);
    return err;
}

static PyObject *
handle_call(PyObject *callback, PyObject *args, PyObject *context)
{
    if (PyContext_Enter(context) < 0) {
        return NULL;
    }
    PyObject *result =
        PyObject_Vectorcall(callback, &PyTuple_GET_ITEM(args, 0),
                            (size_t)PyTuple_GET_SIZE(args), NULL);
    if (PyContext_Exit(context) < 0) {
        Py_CLEAR(result);
    }
    return result;
}

/* While the callback runs its handle has a Context, should anybody ask. */
static int
handle_enter_captured(AfLoop *loop, AfHandle *handle, PyObject **captured)
{
    if (!af_context_is_captured(loop->state, handle->context)) {
        return 0;
    }
    PyObject *context = af_context_borrow(loop, handle->context);
    if (context == NULL) {
        return -1;
    }
    *captured = handle->context;
    handle->context = context;
    return 0;
}

/* Steals `context` and `captured`. */
static void
handle_leave_captured(AfLoop *loop, AfHandle *handle, PyObject *context,
                      PyObject *captured)
{
    if (handle->context == context && af_context_is_unseen(context, captured)) {
        handle->context = captured;
        Py_DECREF(context);
        af_context_return(loop, context);
        return;
    }
    Py_DECREF(context);
    Py_DECREF(captured);
}

static int
handle_invoke(AfLoop *loop, AfHandle *handle)
{
    PyObject *captured = NULL;
    if (handle_enter_captured(loop, handle, &captured) < 0) {
        return handle_report(loop, (PyObject *)handle);
    }
    /* The callback may cancel its own handle, which drops both. */
    PyObject *callback = Py_NewRef(handle->callback);
    PyObject *args = Py_NewRef(handle->args);
    PyObject *context = Py_NewRef(handle->context);
    PyObject *result = handle_call(callback, args, context);
    int err = 0;
    if (result == NULL) {
        err = handle_report(loop, (PyObject *)handle);
    }
    else {
        Py_DECREF(result);
    }
    if (captured != NULL) {
        handle_leave_captured(loop, handle, context, captured);
    }
    else {
        Py_DECREF(context);
    }
    Py_DECREF(args);
    Py_DECREF(callback);
    return err;
}

static bool
handle_is_intact(const AfState *state, const AfHandle *handle)
{
    return handle->callback != NULL && handle->context != NULL
           && handle->args != NULL && PyTuple_CheckExact(handle->args)
           && (PyContext_CheckExact(handle->context)
               || af_context_is_captured(state, handle->context));
}

static int
handle_run_slowly(AfLoop *loop, PyObject *handle)
{
    PyObject *result = PyObject_CallMethodNoArgs(handle, loop->state->str__run);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

int
af_handle_run(AfLoop *loop, PyObject *item)
{
    AfHandle *handle = (AfHandle *)item;
    int err = 0;
    if (handle->cancelled == Py_True) {
        /* nothing to run */
    }
    else if (loop->debug) {
        err = handle_delegate(loop, loop->state->str__run_debug, item);
    }
    else if (handle_is_intact(loop->state, handle)) {
        err = handle_invoke(loop, handle);
    }
    else {
        err = handle_run_slowly(loop, item);
    }
    handle_let_go(item);
    return err;
}

/* A handle of another class: asyncio's own, or a subclass by a user. */
static int
foreign_handle_run(AfLoop *loop, PyObject *item)
{
    int err = -1;
    PyObject *cancelled = PyObject_GetAttr(item, loop->state->str__cancelled);
    if (cancelled == Py_True) {
        err = 0;
    }
    else if (cancelled != NULL && loop->debug) {
        err = handle_delegate(loop, loop->state->str__run_debug, item);
    }
    else if (cancelled != NULL) {
        err = handle_run_slowly(loop, item);
    }
    Py_XDECREF(cancelled);
    Py_DECREF(item);
    return err;
}

int
af_handle_check(AfLoop *loop, PyObject *callback, PyObject *method,
                bool any_thread)
{
    if (af_loop_check_closed(loop) < 0) {
        return -1;
    }
    if (!loop->debug) {
        return 0;
    }
    AfState *state = loop->state;
    PyObject *self = (PyObject *)loop;
    PyObject *result =
        any_thread ? Py_NewRef(Py_None)
                   : PyObject_CallMethodNoArgs(self, state->str__check_thread);
    if (result == NULL) {
        return -1;
    }
    Py_DECREF(result);
    result = PyObject_CallMethodObjArgs(self, state->str__check_callback,
                                        callback, method, NULL);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static const AfParams call_soon_params = {
    "call_soon", 1, 1, {"callback", NULL}};

/* What a Task schedules needs no handle: nobody keeps it. 1 if it was that, 0
 * if it's anything else, -1 with an exception. */
static int
call_soon_task(AfLoop *loop, PyObject *callback, PyObject *const *args,
               Py_ssize_t nargs)
{
    bool maybe = !PyFunction_Check(callback) && !PyMethod_Check(callback)
                 && nargs <= 1 && loop->state->own_tasks;
    return maybe && af_loop_is_plain(loop->state, (PyObject *)loop)
               ? af_step_push(loop, callback, args, nargs)
               : 0;
}

static inline PyObject *
call_soon_shown(AfLoop *loop, PyObject *callback, PyObject *const *args,
                Py_ssize_t nargs, PyObject *context)
{
    PyObject *method = loop->state->str_call_soon;
    if (af_handle_check(loop, callback, method, false) < 0) {
        return NULL;
    }
    PyObject *packed = af_handle_pack(loop->state, args, nargs);
    return packed == NULL
               ? NULL
               : af_handle_call_soon(loop, callback, packed, context);
}

/* By inherited methods of a future, on which a Task stands for its wake-up; it
 * may wait for something else by now. */
static PyObject *
call_soon_bare(AfLoop *loop, PyObject *task, PyObject *const *args,
               Py_ssize_t nargs, PyObject *context)
{
    PyObject *shown = af_step_spell_out(loop->state, task);
    if (shown == NULL) {
        return NULL;
    }
    PyObject *handle = call_soon_shown(loop, shown, args, nargs, context);
    Py_DECREF(shown);
    return handle;
}

PyObject *
af_handle_call_soon_method(PyObject *self, PyObject *const *args,
                           Py_ssize_t nargs, PyObject *kwnames)
{
    AfLoop *loop = (AfLoop *)self;
    PyObject *callback, *context;
    Py_ssize_t used = af_args_split(&call_soon_params, args, nargs, kwnames,
                                    &callback, &context);
    if (used < 0) {
        return NULL;
    }
    int pushed = call_soon_task(loop, callback, args + used, nargs - used);
    if (pushed != 0) {
        return pushed < 0 ? NULL : Py_NewRef(Py_None);
    }
    args += used;
    nargs -= used;
    return Py_TYPE(callback) != &PyFunction_Type
                   && af_step_is_bare(loop->state, callback)
               ? call_soon_bare(loop, callback, args, nargs, context)
               : call_soon_shown(loop, callback, args, nargs, context);
}

PyObject *
af_handle_add_callback(PyObject *self, PyObject *handle)
{
    AfLoop *loop = (AfLoop *)self;
    PyTypeObject *type = Py_TYPE(handle);
    AfState *state = loop->state;
    bool own = type == state->Handle_type || type == state->TimerHandle_type;
    AfRun run = own ? af_handle_run : foreign_handle_run;
    if (af_loop_push(loop, run, Py_NewRef(handle)) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* asyncio's cancel keeps a repr in debug mode; the loop attribute may have
 * been replaced, so ask the object. */
static bool
handle_in_debug(AfState *state, AfHandle *handle)
{
    return handle->loop != NULL && af_loop_check(state, handle->loop)
           && ((AfLoop *)handle->loop)->debug;
}

int
af_handle_cancel(AfState *state, AfHandle *handle)
{
    if (handle->cancelled == Py_True) {
        return 0;
    }
    Py_XSETREF(handle->cancelled, Py_NewRef(Py_True));
    if (handle_in_debug(state, handle)) {
        PyObject *repr = PyObject_Repr((PyObject *)handle);
        if (repr == NULL) {
            return -1;
        }
        Py_XSETREF(handle->repr, repr);
    }
    Py_XSETREF(handle->callback, Py_NewRef(Py_None));
    Py_XSETREF(handle->args, Py_NewRef(Py_None));
    return 0;
}

static PyObject *
handle_cancel(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    if (af_handle_cancel(handle_state(self), (AfHandle *)self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyObject *
af_handle_get_context(PyObject *self, void *Py_UNUSED(closure))
{
    AfHandle *handle = (AfHandle *)self;
    if (handle->context == NULL) {
        PyErr_SetString(PyExc_AttributeError, "_context");
        return NULL;
    }
    if (af_context_is_captured(handle_state(self), handle->context)) {
        PyObject *context = af_context_make(handle->context);
        if (context == NULL) {
            return NULL;
        }
        Py_SETREF(handle->context, context);
    }
    return Py_NewRef(handle->context);
}

int
af_handle_set_context(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    Py_XSETREF(((AfHandle *)self)->context, Py_XNewRef(value));
    return 0;
}

PyDoc_STRVAR(cancel_doc, "cancel($self, /)\n--\n\n"
                         "Don't run the callback; does nothing the second "
                         "time or after it ran.");

static PyMethodDef handle_methods[] = {
    {"cancel", handle_cancel, METH_NOARGS, cancel_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef handle_getset[] = {
    {"_context", af_handle_get_context, af_handle_set_context, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(handle_doc, "One scheduled call, as call_soon() returns it.");

static PyType_Slot handle_slots[] = {
    {Py_tp_doc, (void *)handle_doc},
    {Py_tp_dealloc, handle_dealloc},
    {Py_tp_traverse, af_handle_traverse},
    {Py_tp_clear, af_handle_clear},
    {Py_tp_methods, handle_methods},
    {Py_tp_getset, handle_getset},
    {0, NULL},
};

static PyType_Spec handle_spec = {
    .name = "asyncfast._core.Handle",
    .basicsize = sizeof(AfHandle),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = handle_slots,
};

static int
handle_check_layout(AfState *state)
{
    static const struct {
        const char *name;
        Py_ssize_t offset;
    } slots[] = {
        {"_args", offsetof(AfHandle, args)},
        {"_callback", offsetof(AfHandle, callback)},
        {"_cancelled", offsetof(AfHandle, cancelled)},
        {"_context", offsetof(AfHandle, context)},
        {"_loop", offsetof(AfHandle, loop)},
        {"_repr", offsetof(AfHandle, repr)},
        {"_source_traceback", offsetof(AfHandle, source_traceback)},
    };
    for (size_t i = 0; i < sizeof(slots) / sizeof(slots[0]); i++) {
        if (af_state_check_slot(state->AsyncioHandle, slots[i].name,
                                slots[i].offset)
            < 0) {
            return -1;
        }
    }
    PyObject *timer = state->AsyncioTimerHandle;
    if (af_state_check_slot(timer, "_scheduled", offsetof(AfTimer, scheduled))
            < 0
        || af_state_check_slot(timer, "_when", offsetof(AfTimer, when)) < 0) {
        return -1;
    }
    return 0;
}

int
af_handle_init_type(PyObject *module)
{
    AfState *state = PyModule_GetState(module);
    if (handle_check_layout(state) < 0) {
        return -1;
    }
    return af_state_add_type(module, &state->Handle_type, &handle_spec,
                             state->AsyncioHandle);
}
