/* layout.c -- the check of asyncio's Future and Task structs.
 *
 * asyncfast/tasks.py makes stock objects in a known condition, with nothing
 * left at its initial value. Every field that we use is compared here with what
 * the object's own attribute says; the sizes are compared when our types are
 * made.
 */
#include "core/layout.h"

#include <string.h>

#include "base/error.h"
#include "core/step.h"

static bool
attribute_is(PyObject *object, const char *name, PyObject *field)
{
    PyObject *value = PyObject_GetAttrString(object, name);
    PyErr_Clear();
    bool same = value == (field == NULL ? Py_None : field);
    Py_XDECREF(value);
    return same;
}

static bool
attribute_holds(PyObject *object, const char *name, bool field)
{
    return attribute_is(object, name, field ? Py_True : Py_False);
}

static bool
state_is(PyObject *self, const char *text)
{
    static const char *const texts[] = {"PENDING", "CANCELLED", "FINISHED"};
    int state = ((AfFuture *)self)->state;
    return state >= AF_PENDING && state <= AF_FINISHED
           && strcmp(texts[state], text) == 0;
}

static bool
future_fits(PyObject *self)
{
    AfFuture *future = (AfFuture *)self;
    return future->loop != NULL && attribute_is(self, "_loop", future->loop)
           && attribute_is(self, "_result", future->result)
           && attribute_is(self, "_exception", future->exception)
           && attribute_is(self, "_source_traceback", future->source_tb)
           && attribute_is(self, "_cancel_message", future->cancel_msg)
           && attribute_holds(self, "_log_traceback", future->log_tb)
           && attribute_holds(self, "_asyncio_future_blocking",
                              future->blocking);
}

/* A future that is yielded and has two callbacks, and a source traceback. */
static bool
pending_fits(PyObject *self)
{
    AfFuture *future = (AfFuture *)self;
    if (!future_fits(self) || !state_is(self, "PENDING") || !future->blocking
        || future->source_tb == NULL || future->callback0 == NULL
        || future->context0 == NULL
        || !PyContext_CheckExact(future->context0)) {
        return false;
    }
    return future->callbacks != NULL && PyList_CheckExact(future->callbacks)
           && PyList_GET_SIZE(future->callbacks) == 1
           && PyCallable_Check(future->callback0);
}

static bool
failed_fits(PyObject *self)
{
    AfFuture *future = (AfFuture *)self;
    return future_fits(self) && state_is(self, "FINISHED") && future->log_tb
           && future->exception != NULL && future->exception_tb != NULL
           && PyTraceBack_Check(future->exception_tb);
}

static bool
task_fits(PyObject *self)
{
    AfTask *task = (AfTask *)self;
    return future_fits(self) && state_is(self, "PENDING") && task->coro != NULL
           && attribute_is(self, "_coro", task->coro) && task->context != NULL
           && PyContext_CheckExact(task->context)
           && attribute_is(self, "_fut_waiter", task->fut_waiter)
           && attribute_holds(self, "_must_cancel", af_task_must_cancel(task))
           && attribute_holds(self, "_log_destroy_pending",
                              af_task_log_destroy_pending(task));
}

/* A task that awaits `pending`, and is not to be reported when it's lost. */
static bool
waiting_fits(PyObject *self, PyObject *pending)
{
    AfTask *task = (AfTask *)self;
    return task_fits(self) && task->fut_waiter == pending
           && !af_task_must_cancel(task) && !af_task_log_destroy_pending(task);
}

/* A task called "probe" that was cancelled before its first step. */
static bool
cancelled_fits(PyObject *self)
{
    AfTask *task = (AfTask *)self;
    return task_fits(self) && af_task_must_cancel(task)
           && af_task_log_destroy_pending(task)
           && task->future.cancel_msg != NULL && task->name != NULL
           && PyUnicode_CheckExact(task->name)
           && PyUnicode_CompareWithASCIIString(task->name, "probe") == 0;
}

static bool
wrapper_fits(PyObject *wrapper, PyObject *task)
{
    PyTypeObject *type = Py_TYPE(wrapper);
    return type->tp_basicsize == sizeof(AfStepWrapper)
           && strcmp(af_error_type_name(wrapper), "TaskStepMethWrapper") == 0
           && attribute_is(wrapper, "__self__", task)
           && ((AfStepWrapper *)wrapper)->task == task
           && ((AfStepWrapper *)wrapper)->arg == NULL;
}

static bool
wakeup_fits(PyObject *wakeup, PyObject *task)
{
    return PyCFunction_CheckExact(wakeup)
           && PyCFunction_GET_SELF(wakeup) == task
           && strcmp(((PyCFunctionObject *)wakeup)->m_ml->ml_name,
                     "task_wakeup")
                  == 0;
}

typedef struct {
    PyObject *pending, *failed, *waiting, *cancelled, *wrapper, *wakeup;
} Samples;

static bool
samples_fit(const AfState *state, const Samples *samples)
{
    PyTypeObject *future = (PyTypeObject *)state->AsyncioFuture;
    PyTypeObject *task = (PyTypeObject *)state->AsyncioTask;
    return state->Task_type != task && Py_IS_TYPE(samples->pending, future)
           && Py_IS_TYPE(samples->failed, future)
           && Py_IS_TYPE(samples->waiting, task)
           && Py_IS_TYPE(samples->cancelled, task)
           && pending_fits(samples->pending) && failed_fits(samples->failed)
           && waiting_fits(samples->waiting, samples->pending)
           && cancelled_fits(samples->cancelled)
           && wrapper_fits(samples->wrapper, samples->cancelled)
           && wakeup_fits(samples->wakeup, samples->waiting);
}

PyObject *
af_layout_adopt(PyObject *module, PyObject *args)
{
    AfState *state = PyModule_GetState(module);
    Samples samples;
    if (!PyArg_ParseTuple(args, "OOOOOO:_adopt_tasks", &samples.pending,
                          &samples.failed, &samples.waiting, &samples.cancelled,
                          &samples.wrapper, &samples.wakeup)) {
        return NULL;
    }
    if (!samples_fit(state, &samples)) {
        Py_RETURN_FALSE;
    }
    Py_XSETREF(state->StepWrapper,
               (PyTypeObject *)Py_NewRef((PyObject *)Py_TYPE(samples.wrapper)));
    state->stock_wakeup = ((PyCFunctionObject *)samples.wakeup)->m_ml;
    state->own_tasks = true;
    Py_RETURN_TRUE;
}
