/* future.c -- Future: creation, result, callbacks.
 *
 * A subtype of _asyncio.Future that keeps its state in the fields of its base
 * and inherits every method that isn't hot, and with them each version's
 * semantics and texts.
 *
 * Ownership: a waiting Task may stand in callback0 as itself, which means its
 * wake-up. Nobody but C sees that: whatever shows or compares callbacks spells
 * it out first.
 */
#include "core/future.h"

#include "base/error.h"
#include "core/handle.h"
#include "core/await.h"
#include "core/step.h"
#include "core/task.h"

PyObject *
af_loop_create_future_method(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    AfLoop *loop = (AfLoop *)self;
    AfState *state = loop->state;
    if (!state->own_tasks || loop->debug) {
        PyObject *type = state->own_tasks ? (PyObject *)state->Future_type
                                          : state->AsyncioFuture;
        return PyObject_Vectorcall(type, &self, 0, state->kwnames_loop);
    }
    PyObject *future = af_freelist_alloc(&state->futures, state->Future_type);
    if (future != NULL) {
        ((AfFuture *)future)->loop = Py_NewRef(self);
    }
    return future;
}

/* One callback of a future of a loop of ours. */
static int
callback_push(AfLoop *loop, AfFuture *future, PyObject *callback,
              PyObject *context)
{
    AfTask *task = af_step_woken(loop, callback, (PyObject *)future);
    if (task != NULL) {
        return af_loop_push(loop, af_step_wake, Py_NewRef((PyObject *)task));
    }
    /* A Task may wait for something else by now. */
    PyObject *shown = af_step_spell_out(loop->state, callback);
    if (shown == NULL) {
        return -1;
    }
    /* asyncio's add_done_callback keeps an explicit None, which means the
     * context that is current now. */
    int err = af_handle_schedule(loop, shown, (PyObject *)future,
                                 context == Py_None ? NULL : context);
    Py_DECREF(shown);
    return err;
}

/* The same as a caller in Python would do it. */
static int
callback_call_soon(AfState *state, PyObject *loop, AfFuture *future,
                   PyObject *callback, PyObject *context)
{
    PyObject *shown = af_step_spell_out(state, callback);
    if (shown == NULL) {
        return -1;
    }
    PyObject *args[] = {loop, shown, (PyObject *)future, context};
    PyObject *handle = PyObject_VectorcallMethod(state->str_call_soon, args, 3,
                                                 state->kwnames_context);
    Py_DECREF(shown);
    Py_XDECREF(handle);
    return handle == NULL ? -1 : 0;
}

static int
callback_schedule(AfState *state, PyObject *loop, AfFuture *future,
                  PyObject *callback, PyObject *context)
{
    return af_loop_is_plain(state, loop)
               ? callback_push((AfLoop *)loop, future, callback, context)
               : callback_call_soon(state, loop, future, callback, context);
}

static int
callbacks_schedule(AfState *state, PyObject *loop, AfFuture *future,
                   PyObject *callbacks)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(callbacks); i++) {
        PyObject *pair = Py_NewRef(PyList_GET_ITEM(callbacks, i));
        int err =
            callback_schedule(state, loop, future, PyTuple_GET_ITEM(pair, 0),
                              PyTuple_GET_ITEM(pair, 1));
        Py_DECREF(pair);
        if (err < 0) {
            return -1;
        }
    }
    return 0;
}

static int
future_schedule_callbacks(AfState *state, AfFuture *future)
{
    PyObject *callback = future->callback0;
    PyObject *context = future->context0;
    PyObject *callbacks = future->callbacks;
    /* A `call_soon` of the user's may initialize the future anew. */
    PyObject *loop = Py_XNewRef(future->loop);
    future->callback0 = future->context0 = future->callbacks = NULL;
    int err = 0;
    if (callback != NULL) {
        err = callback_schedule(state, loop, future, callback, context);
        Py_DECREF(callback);
        Py_XDECREF(context);
    }
    if (callbacks != NULL) {
        if (err == 0) {
            err = callbacks_schedule(state, loop, future, callbacks);
        }
        Py_DECREF(callbacks);
    }
    Py_XDECREF(loop);
    return err;
}

int
af_future_finish(AfState *state, AfFuture *future, PyObject *result)
{
    future->result = Py_NewRef(result);
    future->state = AF_FINISHED;
    return future_schedule_callbacks(state, future);
}

/* As every retrieval of an exception: the report is settled, and the traceback
 * is the one it was stored with. */
static PyObject *
future_take_exception(AfFuture *future)
{
    PyObject *traceback = future->exception_tb;
    future->exception_tb = NULL;
    PyObject *exc = Py_NewRef(future->exception);
    int err = PyException_SetTraceback(exc, traceback ? traceback : Py_None);
    Py_XDECREF(traceback);
    if (err < 0) {
        Py_SETREF(exc, af_take_exception());
    }
    return exc;
}

PyObject *
af_future_outcome(AfState *state, PyObject *self)
{
    AfFuture *future = (AfFuture *)self;
    if (af_future_is_plain(state, self) && future->state == AF_FINISHED) {
        future->log_tb = 0;
        return future->exception == NULL ? NULL : future_take_exception(future);
    }
    PyObject *result = PyObject_CallMethodNoArgs(self, state->str_result);
    if (result == NULL) {
        return af_take_exception();
    }
    Py_DECREF(result);
    return NULL;
}

static PyObject *
future_set_result(PyObject *self, PyObject *result)
{
    AfState *state = af_state_of(self);
    AfFuture *future = (AfFuture *)self;
    if (future->loop == NULL || future->state != AF_PENDING) {
        return PyObject_CallFunctionObjArgs(state->base_set_result, self,
                                            result, NULL);
    }
    if (af_future_finish(state, future, result) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* Let callback0 be what it stands for. */
static int
future_spell_out(AfState *state, AfFuture *future)
{
    if (future->callback0 == NULL) {
        return 0;
    }
    PyObject *shown = af_step_spell_out(state, future->callback0);
    if (shown == NULL) {
        return -1;
    }
    Py_XSETREF(future->callback0, shown);
    return 0;
}

PyObject *
af_future_get_callbacks(PyObject *self, void *Py_UNUSED(closure))
{
    AfState *state = af_state_of(self);
    if (future_spell_out(state, (AfFuture *)self) < 0) {
        return NULL;
    }
    descrgetfunc get = Py_TYPE(state->base_callbacks)->tp_descr_get;
    return get(state->base_callbacks, self, (PyObject *)Py_TYPE(self));
}

PyObject *
af_future_remove_done_callback(PyObject *self, PyObject *callback)
{
    AfState *state = af_state_of(self);
    if (future_spell_out(state, (AfFuture *)self) < 0) {
        return NULL;
    }
    return PyObject_CallFunctionObjArgs(state->base_remove_done_callback, self,
                                        callback, NULL);
}

int
af_future_traverse(PyObject *self, visitproc visit, void *arg)
{
    AfFuture *future = (AfFuture *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(future->loop);
    Py_VISIT(future->callback0);
    Py_VISIT(future->context0);
    Py_VISIT(future->callbacks);
    Py_VISIT(future->exception);
    Py_VISIT(future->exception_tb);
    Py_VISIT(future->result);
    Py_VISIT(future->source_tb);
    Py_VISIT(future->cancel_msg);
#if AF_TASK_LAYOUT >= 11
    Py_VISIT(future->cancelled_exc);
#else
    Py_VISIT(future->cancelled_exc.exc_type);
    Py_VISIT(future->cancelled_exc.exc_value);
    Py_VISIT(future->cancelled_exc.exc_traceback);
#endif
#if AF_MANAGED_DICT
    return PyObject_VisitManagedDict(self, visit, arg);
#else
    Py_VISIT(future->dict);
    return 0;
#endif
}

int
af_future_clear(PyObject *self)
{
    AfFuture *future = (AfFuture *)self;
    Py_CLEAR(future->loop);
    Py_CLEAR(future->callback0);
    Py_CLEAR(future->context0);
    Py_CLEAR(future->callbacks);
    Py_CLEAR(future->exception);
    Py_CLEAR(future->exception_tb);
    Py_CLEAR(future->result);
    Py_CLEAR(future->source_tb);
    Py_CLEAR(future->cancel_msg);
#if AF_TASK_LAYOUT >= 11
    Py_CLEAR(future->cancelled_exc);
#else
    Py_CLEAR(future->cancelled_exc.exc_type);
    Py_CLEAR(future->cancelled_exc.exc_value);
    Py_CLEAR(future->cancelled_exc.exc_traceback);
#endif
#if AF_MANAGED_DICT
    PyObject_ClearManagedDict(self);
#else
    Py_CLEAR(future->dict);
#endif
    return 0;
}

int
af_future_finalize(PyObject *self, bool reports)
{
    return reports ? PyObject_CallFinalizerFromDealloc(self) : 0;
}

void
af_future_bury(PyObject *self)
{
    AfFuture *future = (AfFuture *)self;
    PyObject_GC_UnTrack(self);
#if AF_MANAGED_DICT
    PyObject_ClearWeakRefs(self);
#else
    if (future->weakrefs != NULL) {
        PyObject_ClearWeakRefs(self);
    }
#endif
    af_future_clear(self);
    future->state = AF_PENDING;
    future->log_tb = 0;
    future->blocking = 0;
}

static void
future_dealloc(PyObject *self)
{
    if (af_future_finalize(self, ((AfFuture *)self)->log_tb) < 0) {
        return;
    }
    af_future_bury(self);
    AfState *state = af_state_of_dying(self);
    af_freelist_free(state == NULL ? NULL : &state->futures, self);
}

PyDoc_STRVAR(set_result_doc,
             "set_result($self, result, /)\n--\n\n"
             "Finish with a result and schedule the callbacks.\n\n"
             "Raises asyncio.InvalidStateError if the future is done.");
PyDoc_STRVAR(remove_done_callback_doc,
             "remove_done_callback($self, fn, /)\n--\n\n"
             "Remove every callback that equals fn; the number removed.");

static PyMethodDef future_methods[] = {
    {"set_result", future_set_result, METH_O, set_result_doc},
    {"remove_done_callback", af_future_remove_done_callback, METH_O,
     remove_done_callback_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef future_getset[] = {
    {"_callbacks", af_future_get_callbacks, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(future_doc,
             "Future(*, loop=None)\n--\n\n"
             "An asyncio.Future, as loop.create_future() makes it.\n\n"
             "Works on any loop; see asyncio.Future for its methods.");

static PyType_Slot future_slots[] = {
    {Py_tp_doc, (void *)future_doc},
    {Py_tp_dealloc, future_dealloc},
    {Py_tp_traverse, af_future_traverse},
    {Py_tp_clear, af_future_clear},
    {Py_tp_methods, future_methods},
    {Py_tp_getset, future_getset},
    {Py_tp_iter, af_await_new},
    {Py_am_await, af_await_new},
    {0, NULL},
};

static PyType_Spec future_spec = {
    .name = "asyncfast.Future",
    .basicsize = sizeof(AfFuture),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = future_slots,
};

int
af_future_init_type(PyObject *module)
{
    AfState *state = PyModule_GetState(module);
    PyTypeObject *base = (PyTypeObject *)state->AsyncioFuture;
    if (!AF_TASK_LAYOUT_KNOWN || base->tp_basicsize != sizeof(AfFuture)) {
        state->Future_type = (PyTypeObject *)Py_NewRef((PyObject *)base);
        return 0;
    }
    return af_state_add_type(module, &state->Future_type, &future_spec,
                             (PyObject *)base);
}
