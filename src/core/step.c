/* step.c -- running tasks: one step, one wake-up, the current task.
 *
 * The same code steps our tasks and asyncio's own, whose struct ours extends;
 * it works on nothing but that struct. What is rare is left to asyncio's
 * methods, and with it each version's semantics.
 *
 * Ownership: a ready entry owns its task. A task that waits is held by the
 * future that it awaits, in callback0 or through the wake-up callable there.
 */
#include "core/step.h"

#include "base/error.h"
#include "core/await.h"
#include "core/handle.h"

/* -- The current task ---------------------------------------------------- */

void
af_step_leave_current(AfLoop *loop)
{
    PyObject *exc = af_take_exception();
    if (PyDict_DelItem(loop->state->current_tasks, (PyObject *)loop) < 0) {
        PyErr_Clear();
    }
    Py_CLEAR(loop->current_task);
    af_restore_exception(exc);
}

/* Somebody runs the loop inside of a step. They may have taken the outer task
 * out of the dict before, as tools for nested loops do. */
static int
current_check_nested(AfLoop *loop, PyObject *task)
{
    PyObject *current =
        PyDict_GetItemWithError(loop->state->current_tasks, (PyObject *)loop);
    if (current == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    PyErr_Format(PyExc_RuntimeError,
                 "Cannot enter into task %R while another task %R is being "
                 "executed.",
                 task, current);
    return -1;
}

static int
current_enter(AfLoop *loop, PyObject *task)
{
    if (loop->stepping && current_check_nested(loop, task) < 0) {
        return -1;
    }
    if (loop->current_task != task) {
        if (PyDict_SetItem(loop->state->current_tasks, (PyObject *)loop, task)
            < 0) {
            return -1;
        }
        Py_XSETREF(loop->current_task, Py_NewRef(task));
    }
    return 0;
}

/* -- The callables behind which Python sees a step ----------------------- */

static PyObject *task_step_call(PyObject *self, PyObject *args);
static PyObject *task_wakeup_call(PyObject *self, PyObject *future);

/* Their names show in reprs; these are asyncio's. */
enum { STEP, WAKEUP };
static PyMethodDef step_methods[] = {
    [STEP] = {"task_step", task_step_call, METH_VARARGS, NULL},
    [WAKEUP] = {"task_wakeup", task_wakeup_call, METH_O, NULL},
};

static bool
is_wakeup(const AfState *state, PyObject *callback)
{
    if (!PyCFunction_CheckExact(callback)) {
        return false;
    }
    PyMethodDef *def = ((PyCFunctionObject *)callback)->m_ml;
    return def == &step_methods[WAKEUP] || def == state->stock_wakeup;
}

bool
af_step_is_bare(const AfState *state, PyObject *callback)
{
    return state->own_tasks
           && (Py_IS_TYPE(callback, state->Task_type)
               || Py_IS_TYPE(callback, (PyTypeObject *)state->AsyncioTask));
}

PyObject *
af_step_spell_out(AfState *state, PyObject *callback)
{
    return af_step_is_bare(state, callback)
               ? PyCFunction_New(&step_methods[WAKEUP], callback)
               : Py_NewRef(callback);
}

/* A Task with a context of the usual kind that belongs to `loop`. */
static bool
task_is_of(AfLoop *loop, PyObject *object)
{
    AfTask *task = (AfTask *)object;
    return PyObject_TypeCheck(object, (PyTypeObject *)loop->state->AsyncioTask)
           && task->future.loop == (PyObject *)loop && task->context != NULL
           && PyContext_CheckExact(task->context);
}

AfTask *
af_step_woken(AfLoop *loop, PyObject *callback, PyObject *future)
{
    AfState *state = loop->state;
    PyObject *task = callback;
    if (is_wakeup(state, callback)) {
        task = PyCFunction_GET_SELF(callback);
    }
    else if (!af_step_is_bare(state, callback)) {
        return NULL;
    }
    return task_is_of(loop, task) && ((AfTask *)task)->fut_waiter == future
               ? (AfTask *)task
               : NULL;
}

int
af_step_push(AfLoop *loop, PyObject *callback, PyObject *const *args,
             Py_ssize_t nargs)
{
    AfState *state = loop->state;
    if (nargs == 1) {
        AfTask *task = af_step_woken(loop, callback, args[0]);
        return task == NULL ? 0
               : af_loop_push(loop, af_step_wake, Py_NewRef((PyObject *)task))
                       < 0
                   ? -1
                   : 1;
    }
    if (nargs != 0 || !Py_IS_TYPE(callback, state->StepWrapper)) {
        return 0;
    }
    AfStepWrapper *wrapper = (AfStepWrapper *)callback;
    if (wrapper->arg != NULL || wrapper->task == NULL
        || !task_is_of(loop, wrapper->task)) {
        return 0;
    }
    return af_loop_push(loop, af_step_run, Py_NewRef(wrapper->task)) < 0 ? -1
                                                                         : 1;
}

/* -- After the coroutine gave something ---------------------------------- */

static int
step_again(AfLoop *loop, AfTask *task, PyObject *exc)
{
    if (exc == NULL && af_loop_is_plain(loop->state, (PyObject *)loop)) {
        return af_loop_push(loop, af_step_run, Py_NewRef((PyObject *)task));
    }
    PyObject *step = PyCFunction_New(&step_methods[STEP], (PyObject *)task);
    if (step == NULL) {
        return -1;
    }
    PyObject *args[4] = {(PyObject *)loop, step};
    size_t count = 2;
    if (exc != NULL) {
        args[count++] = exc;
    }
    args[count] = task->context;
    PyObject *handle = PyObject_VectorcallMethod(
        loop->state->str_call_soon, args, count, loop->state->kwnames_context);
    Py_DECREF(step);
    Py_XDECREF(handle);
    return handle == NULL ? -1 : 0;
}

/* The task learns of a misuse by an exception in its next step. */
static int
step_refuse(AfLoop *loop, AfTask *task, PyObject *message)
{
    if (message == NULL) {
        return -1;
    }
    PyObject *exc = PyObject_CallOneArg(PyExc_RuntimeError, message);
    Py_DECREF(message);
    if (exc == NULL) {
        return -1;
    }
    int err = step_again(loop, task, exc);
    Py_DECREF(exc);
    return err;
}

static int
refuse_itself(AfLoop *loop, AfTask *task)
{
    return step_refuse(
        loop, task,
        PyUnicode_FromFormat("Task cannot await on itself: %R", task));
}

static int
refuse_other_loop(AfLoop *loop, AfTask *task, PyObject *awaited)
{
    return step_refuse(loop, task,
                       PyUnicode_FromFormat("Task %R got Future %R attached to "
                                            "a different loop",
                                            task, awaited));
}

static int
refuse_yield(AfLoop *loop, AfTask *task, PyObject *awaited)
{
    return step_refuse(
        loop, task,
        PyUnicode_FromFormat("yield was used instead of yield from in task %R "
                             "with %R",
                             task, awaited));
}

static int
refuse_object(AfLoop *loop, AfTask *task, PyObject *awaited)
{
    int generator = PyObject_IsInstance(awaited, (PyObject *)&PyGen_Type);
    if (generator < 0) {
        return -1;
    }
    return step_refuse(
        loop, task,
        generator
            ? PyUnicode_FromFormat("yield was used instead of yield from for "
                                   "generator in task %R with %R",
                                   task, awaited)
            : PyUnicode_FromFormat("Task got bad yield: %R", awaited));
}

/* Somebody asked for cancellation before there was anything to cancel. */
static int
await_cancel(AfState *state, AfTask *task, PyObject *awaited)
{
    PyObject *given = task->future.cancel_msg;
    PyObject *message = Py_NewRef(given == NULL ? Py_None : given);
    PyObject *result =
        PyObject_CallMethodOneArg(awaited, state->str_cancel, message);
    Py_DECREF(message);
    if (result == NULL) {
        return -1;
    }
    int cancelled = PyObject_IsTrue(result);
    Py_DECREF(result);
    if (cancelled > 0) {
        af_task_set_must_cancel(task, false);
    }
    return cancelled < 0 ? -1 : 0;
}

static int
await_begun(AfState *state, AfTask *task, PyObject *awaited)
{
    Py_XSETREF(task->fut_waiter, Py_NewRef(awaited));
    return af_task_must_cancel(task) ? await_cancel(state, task, awaited) : 0;
}

static int
await_add_callback(AfState *state, AfTask *task, PyObject *awaited)
{
    PyObject *wakeup = PyCFunction_New(&step_methods[WAKEUP], (PyObject *)task);
    if (wakeup == NULL) {
        return -1;
    }
    PyObject *args[] = {awaited, wakeup, task->context};
    PyObject *result = PyObject_VectorcallMethod(
        state->str_add_done_callback, args, 2, state->kwnames_context);
    Py_DECREF(wakeup);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static bool
await_is_first(const AfFuture *future)
{
    return future->state == AF_PENDING && future->callback0 == NULL
           && future->callbacks == NULL;
}

/* The first callback of a future is kept in two fields of its own. */
static int
await_take_first_place(AfState *state, AfTask *task, AfFuture *future)
{
    PyObject *self = (PyObject *)task;
    bool bare = af_future_is_own(state, (PyObject *)future)
                && af_step_is_bare(state, self)
                && af_loop_is_plain(state, future->loop);
    PyObject *callback =
        bare ? Py_NewRef(self) : PyCFunction_New(&step_methods[WAKEUP], self);
    if (callback == NULL) {
        return -1;
    }
    /* To make one may have set off the collector, and with it anything. */
    if (!await_is_first(future)) {
        Py_DECREF(callback);
        return await_add_callback(state, task, (PyObject *)future);
    }
    future->callback0 = callback;
    Py_XSETREF(future->context0, Py_NewRef(task->context));
    return 0;
}

static int
await_plain(AfLoop *loop, AfTask *task, PyObject *awaited)
{
    AfState *state = loop->state;
    AfFuture *future = (AfFuture *)awaited;
    if (future->loop != (PyObject *)loop) {
        return refuse_other_loop(loop, task, awaited);
    }
    if (!future->blocking) {
        return refuse_yield(loop, task, awaited);
    }
    future->blocking = 0;
    int err = await_is_first(future)
                  ? await_take_first_place(state, task, future)
                  : await_add_callback(state, task, awaited);
    return err < 0 ? -1 : await_begun(state, task, awaited);
}

/* The loop of a future of any make; NULL with an exception. */
static PyObject *
awaited_loop(AfState *state, PyObject *awaited)
{
    PyObject *method = PyObject_GetAttr(awaited, state->str_get_loop);
    if (method != NULL) {
        PyObject *loop = PyObject_CallNoArgs(method);
        Py_DECREF(method);
        return loop;
    }
    if (!PyErr_ExceptionMatches(PyExc_AttributeError)) {
        return NULL;
    }
    PyErr_Clear();
    return PyObject_GetAttr(awaited, state->str__loop);
}

/* What a future of any make says of itself: 1 if it's awaited as it should be,
 * 0 if merely yielded, -1 with an exception or if it is no future. */
static int
awaited_blocking(AfState *state, PyObject *awaited)
{
    PyObject *blocking =
        PyObject_GetAttr(awaited, state->str__asyncio_future_blocking);
    if (blocking == NULL) {
        if (PyErr_ExceptionMatches(PyExc_AttributeError)) {
            PyErr_Clear();
        }
        return -1;
    }
    int truth = blocking == Py_None ? -1 : PyObject_IsTrue(blocking);
    Py_DECREF(blocking);
    return truth;
}

static int
await_any(AfLoop *loop, AfTask *task, PyObject *awaited)
{
    AfState *state = loop->state;
    int blocking = awaited_blocking(state, awaited);
    if (blocking < 0) {
        return PyErr_Occurred() ? -1 : refuse_object(loop, task, awaited);
    }
    PyObject *other = awaited_loop(state, awaited);
    if (other == NULL) {
        return -1;
    }
    Py_DECREF(other);
    if (other != (PyObject *)loop) {
        return refuse_other_loop(loop, task, awaited);
    }
    if (!blocking) {
        return refuse_yield(loop, task, awaited);
    }
    if (PyObject_SetAttr(awaited, state->str__asyncio_future_blocking, Py_False)
            < 0
        || await_add_callback(state, task, awaited) < 0) {
        return -1;
    }
    return await_begun(state, task, awaited);
}

static int
step_yielded(AfLoop *loop, AfTask *task, PyObject *awaited)
{
    if (awaited == Py_None) {
        return step_again(loop, task, NULL);
    }
    if (awaited == (PyObject *)task) {
        return refuse_itself(loop, task);
    }
    return af_future_is_plain(loop->state, awaited)
               ? await_plain(loop, task, awaited)
               : await_any(loop, task, awaited);
}

/* -- After the coroutine ended ------------------------------------------- */

/* As Future's method of this name does it, whatever the Task's own does. */
static int
step_as_future(PyObject *method, AfTask *task, PyObject *arg)
{
    PyObject *result =
        PyObject_CallFunctionObjArgs(method, (PyObject *)task, arg, NULL);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static int
step_returned(AfLoop *loop, AfTask *task, PyObject *result)
{
    AfState *state = loop->state;
    if (af_task_must_cancel(task)) {
        af_task_set_must_cancel(task, false);
        return step_as_future(state->base_cancel, task,
                              task->future.cancel_msg);
    }
    if (task->future.state != AF_PENDING) {
        return step_as_future(state->base_set_result, task, result);
    }
    return af_future_finish(state, &task->future, result);
}

/* The error that ended the task is the one that its waiter gets. */
static void
step_keep_cancelled_error(AfTask *task, PyObject *exc)
{
#if AF_TASK_LAYOUT >= 11
    Py_XSETREF(task->future.cancelled_exc, exc);
#else
    _PyErr_StackItem *kept = &task->future.cancelled_exc;
    Py_XSETREF(kept->exc_type, Py_NewRef((PyObject *)Py_TYPE(exc)));
    Py_XSETREF(kept->exc_traceback, PyException_GetTraceback(exc));
    Py_XSETREF(kept->exc_value, exc);
#endif
}

static int
step_raised(AfState *state, AfTask *task)
{
    bool cancelled = PyErr_ExceptionMatches(state->CancelledError);
    bool leaves = af_error_leaves_loop();
    PyObject *exc = af_take_exception();
    if (cancelled) {
        step_keep_cancelled_error(task, exc);
        return step_as_future(state->base_cancel, task, NULL);
    }
    int err = step_as_future(state->base_set_exception, task, exc);
    if (err == 0 && leaves) {
        af_restore_exception(exc);
        return -1;
    }
    Py_DECREF(exc);
    return err;
}

/* -- One step ------------------------------------------------------------ */

/* What `generator.throw(exc)` gives, in the terms of PyIter_Send. */
static PySendResult
coro_throw(AfState *state, PyObject *coro, PyObject *exc, PyObject **result)
{
    *result = PyObject_CallMethodOneArg(coro, state->str_throw, exc);
    if (*result != NULL) {
        return PYGEN_NEXT;
    }
    if (!PyErr_ExceptionMatches(PyExc_StopIteration)) {
        return PYGEN_ERROR;
    }
    PyObject *stop = af_take_exception();
    /* What was thrown as a class becomes an instance only now, and the class
     * may make one of another. */
    if (!PyObject_TypeCheck(stop, (PyTypeObject *)PyExc_StopIteration)) {
        af_restore_exception(stop);
        return PYGEN_ERROR;
    }
    *result = Py_NewRef(((PyStopIterationObject *)stop)->value);
    Py_DECREF(stop);
    return PYGEN_RETURN;
}

static PySendResult
coro_resume(AfState *state, AfTask *task, PyObject *exc, PyObject **result)
{
    PyObject *coro = Py_NewRef(task->coro);
    PySendResult status = exc == NULL ? PyIter_Send(coro, Py_None, result)
                                      : coro_throw(state, coro, exc, result);
    Py_DECREF(coro);
    return status;
}

static int
step_resume(AfLoop *loop, AfTask *task, PyObject *exc)
{
    PyObject *result = NULL;
    PySendResult status = coro_resume(loop->state, task, exc, &result);
    if (status == PYGEN_ERROR) {
        return step_raised(loop->state, task);
    }
    int err = status == PYGEN_NEXT ? step_yielded(loop, task, result)
                                   : step_returned(loop, task, result);
    Py_DECREF(result);
    return err;
}

static int
step_refuse_done(AfState *state, AfTask *task, PyObject *exc)
{
    PyErr_Format(state->InvalidStateError, "_step(): already done: %R %R", task,
                 exc == NULL ? Py_None : exc);
    return -1;
}

/* `exc` is borrowed. */
static int
step_advance(AfLoop *loop, AfTask *task, PyObject *exc)
{
    AfState *state = loop->state;
    if (task->future.state != AF_PENDING) {
        return step_refuse_done(state, task, exc);
    }
    PyObject *cancelled = NULL;
    if (af_task_must_cancel(task)) {
        if (exc == NULL
            || !PyErr_GivenExceptionMatches(exc, state->CancelledError)) {
            cancelled = PyObject_CallMethodNoArgs(
                (PyObject *)task, state->str__make_cancelled_error);
            if (cancelled == NULL) {
                return -1;
            }
            exc = cancelled;
        }
        af_task_set_must_cancel(task, false);
    }
    Py_CLEAR(task->fut_waiter);
    int err = -1;
    if (task->coro == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "uninitialized Task object");
    }
    else {
        err = step_resume(loop, task, exc);
    }
    Py_XDECREF(cancelled);
    return err;
}

/* As the current task. After a step inside of another, and after one that had
 * others inside, nothing is left to the next. */
static int
step_enter(AfLoop *loop, AfTask *task, PyObject *exc)
{
    if (current_enter(loop, (PyObject *)task) < 0) {
        return -1;
    }
    bool outer = loop->stepping;
    loop->stepping = true;
    int err = step_advance(loop, task, exc);
    loop->stepping = outer;
    af_await_release_value(loop->state);
    if (outer || loop->current_task != (PyObject *)task) {
        af_step_leave_current(loop);
    }
    if (task->future.state != AF_PENDING) {
        af_task_unlink(loop->state, task);
    }
    return err;
}

/* As the callback of a handle would be reported. */
static int
step_report(AfLoop *loop, AfTask *task, PyObject *context)
{
    if (af_error_leaves_loop()) {
        return -1;
    }
    PyObject *exc = af_take_exception();
    PyObject *step = PyCFunction_New(&step_methods[STEP], (PyObject *)task);
    int err =
        step == NULL ? -1 : af_handle_report_callback(loop, step, context, exc);
    Py_XDECREF(step);
    Py_DECREF(exc);
    return err;
}

/* Steals `task`, borrows `exc`. */
static int
step_run(AfLoop *loop, AfTask *task, PyObject *exc)
{
    PyObject *context = Py_NewRef(task->context);
    int err = PyContext_Enter(context);
    if (err == 0) {
        err = step_enter(loop, task, exc);
        if (PyContext_Exit(context) < 0) {
            err = -1;
        }
    }
    if (err < 0) {
        af_step_leave(loop);
        err = step_report(loop, task, context);
    }
    Py_DECREF(context);
    Py_DECREF(task);
    return err;
}

int
af_step_run(AfLoop *loop, PyObject *item)
{
    return step_run(loop, (AfTask *)item, NULL);
}

int
af_step_wake(AfLoop *loop, PyObject *item)
{
    AfTask *task = (AfTask *)item;
    PyObject *exc = NULL;
    PyObject *future = task->fut_waiter;
    if (future != NULL) {
        Py_INCREF(future);
        exc = af_future_outcome(loop->state, future);
        Py_DECREF(future);
    }
    int err = step_run(loop, task, exc);
    Py_XDECREF(exc);
    return err;
}

/* The loop of a task whose step is called by name, a new reference; NULL with
 * an exception if the task was initialized anew on a loop that isn't ours. */
static AfLoop *
called_loop(PyObject *task)
{
    PyObject *loop = ((AfTask *)task)->future.loop;
    PyObject *module =
        loop == NULL ? NULL
                     : PyType_GetModuleByDef(Py_TYPE(loop), &af_module_def);
    if (module != NULL) {
        AfState *state = PyModule_GetState(module);
        if (af_loop_check(state, loop)) {
            return (AfLoop *)Py_NewRef(loop);
        }
    }
    PyErr_SetString(PyExc_RuntimeError, "the task changed its loop");
    return NULL;
}

/* In a handle, which entered the task's context. Steals `loop`, which the task
 * may leave in its step. */
static PyObject *
called_step(AfLoop *loop, AfTask *task, PyObject *exc)
{
    int err = step_enter(loop, task, exc);
    if (!loop->stepping) {
        af_step_leave(loop);
    }
    Py_DECREF(loop);
    return err < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
task_step_call(PyObject *self, PyObject *args)
{
    PyObject *exc = NULL;
    if (!PyArg_ParseTuple(args, "|O:task_step", &exc)) {
        return NULL;
    }
    AfLoop *loop = called_loop(self);
    return loop == NULL ? NULL : called_step(loop, (AfTask *)self, exc);
}

static PyObject *
task_wakeup_call(PyObject *self, PyObject *future)
{
    AfLoop *loop = called_loop(self);
    if (loop == NULL) {
        return NULL;
    }
    PyObject *exc = af_future_outcome(loop->state, future);
    PyObject *result = called_step(loop, (AfTask *)self, exc);
    Py_XDECREF(exc);
    return result;
}
