/* await.c -- the iterator behind `await future`.
 *
 * It yields the pending future once and then returns its result. From CPython
 * 3.12 on the interpreter asks it by tp_iternext, where a result is the value of
 * a StopIteration: one exception is kept for that and used again and again, as
 * long as nobody else holds it.
 */
#include "core/await.h"

#include "base/args.h"

typedef struct {
    PyObject_HEAD
    PyObject *future; /* owned; NULL when exhausted */
} AwaitIter;

PyObject *
af_await_new(PyObject *future)
{
    AfState *state = af_state_of(future);
    if (((AfFuture *)future)->loop == NULL) {
        PyErr_SetString(PyExc_RuntimeError,
                        "Future object is not initialized.");
        return NULL;
    }
    PyObject *self = af_freelist_alloc(&state->awaits, state->FutureIter_type);
    if (self != NULL) {
        ((AwaitIter *)self)->future = Py_NewRef(future);
    }
    return self;
}

static PySendResult
iter_begin(AfFuture *future, PyObject **result)
{
    if (future->blocking) {
        PyErr_SetString(PyExc_RuntimeError, "await wasn't used with future");
        return PYGEN_ERROR;
    }
    future->blocking = 1;
    *result = Py_NewRef((PyObject *)future);
    return PYGEN_NEXT;
}

/* Steals the future. */
static PySendResult
iter_end(AfState *state, PyObject *self, PyObject **result)
{
    AfFuture *future = (AfFuture *)self;
    if (future->state == AF_FINISHED && future->exception == NULL) {
        future->log_tb = 0;
        *result = Py_NewRef(future->result);
    }
    else {
        *result = PyObject_CallOneArg(state->base_result, self);
    }
    Py_DECREF(self);
    return *result == NULL ? PYGEN_ERROR : PYGEN_RETURN;
}

static PySendResult
iter_am_send(PyObject *self, PyObject *Py_UNUSED(value), PyObject **result)
{
    AwaitIter *iter = (AwaitIter *)self;
    PyObject *future = iter->future;
    if (future == NULL) {
        *result = Py_NewRef(Py_None);
        return PYGEN_RETURN;
    }
    *result = NULL;
    if (((AfFuture *)future)->state == AF_PENDING) {
        return iter_begin((AfFuture *)future, result);
    }
    iter->future = NULL;
    return iter_end(PyType_GetModuleState(Py_TYPE(self)), future, result);
}

static bool
is_untouched(PyObject *exc)
{
    PyBaseExceptionObject *base = (PyBaseExceptionObject *)exc;
    return Py_REFCNT(exc) == 1 && base->traceback == NULL
           && base->context == NULL && base->cause == NULL
           && base->dict == NULL;
}

/* Steals `value`; NULL for none. */
static void
stop_set_value(PyObject *exc, PyObject *value, PyObject *args)
{
    PyStopIterationObject *stop = (PyStopIterationObject *)exc;
    Py_XSETREF(stop->value, value);
    Py_SETREF(((PyBaseExceptionObject *)exc)->args, args);
}

/* Raise StopIteration(value). */
static void
iter_stop(AfState *state, PyObject *value)
{
    /* Whoever dies with the last value may await something himself. */
    PyObject *exc = state->stop_iteration;
    state->stop_iteration = NULL;
    if (exc == NULL || !is_untouched(exc)) {
        Py_XDECREF(exc);
        exc = PyObject_CallOneArg(PyExc_StopIteration, value);
    }
    else {
        PyObject *args = PyTuple_Pack(1, value);
        if (args == NULL) {
            Py_CLEAR(exc);
        }
        else {
            stop_set_value(exc, Py_NewRef(value), args);
        }
    }
    if (exc != NULL) {
        Py_XSETREF(state->stop_iteration, Py_NewRef(exc));
        af_restore_exception(exc);
    }
}

void
af_await_release_value(AfState *state)
{
    PyObject *exc = state->stop_iteration;
    if (exc == NULL || ((PyStopIterationObject *)exc)->value == Py_None) {
        return;
    }
    if (is_untouched(exc)) {
        stop_set_value(exc, Py_NewRef(Py_None), Py_NewRef(state->empty_tuple));
    }
    else {
        Py_CLEAR(state->stop_iteration);
    }
}

static PyObject *
iter_next(PyObject *self)
{
    PyObject *result;
    PySendResult status = iter_am_send(self, Py_None, &result);
    if (status != PYGEN_RETURN) {
        return result;
    }
    if (result != Py_None) {
        iter_stop(PyType_GetModuleState(Py_TYPE(self)), result);
    }
    Py_DECREF(result);
    return NULL;
}

static PyObject *
iter_send(PyObject *self, PyObject *Py_UNUSED(value))
{
    PyObject *result = iter_next(self);
    if (result == NULL && !PyErr_Occurred()) {
        PyErr_SetNone(PyExc_StopIteration);
    }
    return result;
}

/* Set the exception that throw(type, value, traceback) means. Borrows all; the
 * traceback may be NULL. */
static void
throw_set(PyObject *type, PyObject *value, PyObject *traceback)
{
    if (PyExceptionInstance_Check(type)) {
        if (value != NULL) {
            PyErr_SetString(PyExc_TypeError,
                            "instance exception may not have a separate value");
            return;
        }
        PyObject *own =
            traceback == NULL ? PyException_GetTraceback(type) : NULL;
        PyErr_Restore(Py_NewRef((PyObject *)Py_TYPE(type)), Py_NewRef(type),
                      traceback == NULL ? own : Py_NewRef(traceback));
        return;
    }
    if (!PyExceptionClass_Check(type)) {
        PyErr_SetString(PyExc_TypeError,
                        "exceptions must be classes deriving BaseException or "
                        "instances of such a class");
        return;
    }
    PyErr_Restore(Py_NewRef(type), Py_XNewRef(value), Py_XNewRef(traceback));
}

static int
throw_warn(Py_ssize_t nargs)
{
    if (!AF_THROW_WARNS || nargs == 1) {
        return 0;
    }
    return PyErr_WarnEx(PyExc_DeprecationWarning,
                        "the (type, exc, tb) signature of throw() is "
                        "deprecated, use the single-arg signature instead.",
                        1);
}

static PyObject *
iter_throw(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs < 1 || nargs > 3) {
        PyErr_Format(PyExc_TypeError,
                     "throw expected 1 to 3 arguments, got %zd", nargs);
        return NULL;
    }
    PyObject *value = nargs > 1 ? af_args_optional(args[1]) : NULL;
    PyObject *traceback = nargs > 2 ? af_args_optional(args[2]) : NULL;
    if (throw_warn(nargs) < 0) {
        return NULL;
    }
    if (traceback != NULL && !PyTraceBack_Check(traceback)) {
        PyErr_SetString(PyExc_TypeError,
                        "throw() third argument must be a traceback");
        return NULL;
    }
    Py_CLEAR(((AwaitIter *)self)->future);
    throw_set(args[0], value, traceback);
    return NULL;
}

static PyObject *
iter_close(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    Py_CLEAR(((AwaitIter *)self)->future);
    Py_RETURN_NONE;
}

static int
iter_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((AwaitIter *)self)->future);
    return 0;
}

static int
iter_clear(PyObject *self)
{
    Py_CLEAR(((AwaitIter *)self)->future);
    return 0;
}

static void
iter_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    iter_clear(self);
    AfState *state = af_state_of_dying(self);
    af_freelist_free(state == NULL ? NULL : &state->awaits, self);
}

static PyMethodDef iter_methods[] = {
    {"send", iter_send, METH_O, NULL},
    {"throw", (PyCFunction)(void (*)(void))iter_throw, METH_FASTCALL, NULL},
    {"close", iter_close, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot iter_slots[] = {
    {Py_tp_dealloc, iter_dealloc}, {Py_tp_traverse, iter_traverse},
    {Py_tp_clear, iter_clear},     {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, iter_next},   {Py_am_send, iter_am_send},
    {Py_tp_methods, iter_methods}, {0, NULL},
};

static PyType_Spec iter_spec = {
    .name = "asyncfast._core.FutureIter",
    .basicsize = sizeof(AwaitIter),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = iter_slots,
};

int
af_await_init_type(PyObject *module)
{
    AfState *state = PyModule_GetState(module);
    return af_state_add_type(module, &state->FutureIter_type, &iter_spec, NULL);
}
