/* task.c -- Task: creation, name, registration.
 *
 * A subtype of _asyncio.Task and of our Future. A loop of ours makes its tasks
 * here, without the constructor, and step.c runs them. A task made by calling
 * the class, in debug mode or on another loop is initialized by asyncio's own
 * constructor, and differs from a stock one in nothing but its class.
 *
 * Ownership: the tasks hang in a list of the module's state, which owns none of
 * them; asyncfast/tasks.py shows that list to asyncio.all_tasks().
 */
#include "core/task.h"

#include "base/args.h"
#include "core/await.h"
#include "core/step.h"

/* -- Registration -------------------------------------------------------- */

static void
task_link(AfState *state, AfOwnTask *task)
{
    task->next = state->first_task;
    task->link = &state->first_task;
    if (task->next != NULL) {
        task->next->link = &task->next;
    }
    state->first_task = task;
}

static void
task_unlink(AfOwnTask *task)
{
    if (task->link == NULL) {
        return;
    }
    *task->link = task->next;
    if (task->next != NULL) {
        task->next->link = task->link;
    }
    task->next = NULL;
    task->link = NULL;
}

static bool
task_is_own(const AfState *state, PyObject *object)
{
    return Py_IS_TYPE(object, state->Task_type);
}

void
af_task_unlink(AfState *state, AfTask *task)
{
    if (task_is_own(state, (PyObject *)task)) {
        task_unlink((AfOwnTask *)task);
    }
}

void
af_task_forget_all(AfState *state)
{
    while (state->first_task != NULL) {
        task_unlink(state->first_task);
    }
}

PyObject *
af_task_list(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    AfState *state = PyModule_GetState(module);
    PyObject *list = PyList_New(0);
    if (list == NULL) {
        return NULL;
    }
    /* Growing a list runs no Python code, so nobody unlinks meanwhile. What the
     * collector has finalized it may be about to clear: as to a weak reference,
     * that is gone. */
    for (AfOwnTask *task = state->first_task; task; task = task->next) {
        if (!PyObject_GC_IsFinalized((PyObject *)task)
            && PyList_Append(list, (PyObject *)task) < 0) {
            Py_DECREF(list);
            return NULL;
        }
    }
    return list;
}

PyObject *
af_task_forget(PyObject *module, PyObject *task)
{
    AfState *state = PyModule_GetState(module);
    if (state->own_tasks) {
        af_task_unlink(state, (AfTask *)task);
    }
    Py_RETURN_NONE;
}

static int
task_spell_out_wait(AfState *state, PyObject *self)
{
    if (!PyObject_TypeCheck(self, (PyTypeObject *)state->AsyncioTask)) {
        return 0;
    }
    PyObject *future = ((AfTask *)self)->fut_waiter;
    if (future == NULL || !af_future_is_own(state, future)) {
        return 0;
    }
    PyObject *shown = af_future_get_callbacks(future, NULL);
    Py_XDECREF(shown);
    return shown == NULL ? -1 : 0;
}

int
af_task_spell_out_waits(AfLoop *loop)
{
    AfState *state = loop->state;
    if (!state->own_tasks) {
        return 0;
    }
    PyObject *all = PyObject_CallOneArg(state->all_tasks, (PyObject *)loop);
    PyObject *tasks = all == NULL ? NULL : PySequence_List(all);
    Py_XDECREF(all);
    int err = tasks == NULL ? -1 : 0;
    for (Py_ssize_t i = 0; err == 0 && i < PyList_GET_SIZE(tasks); i++) {
        err = task_spell_out_wait(state, PyList_GET_ITEM(tasks, i));
    }
    Py_XDECREF(tasks);
    return err;
}

/* -- Creation ------------------------------------------------------------ */

static PyObject *
task_name(AfState *state, PyObject *name)
{
    if (name == NULL) {
        return PyLong_FromUnsignedLongLong(++state->task_count);
    }
    return PyUnicode_CheckExact(name) ? Py_NewRef(name) : PyObject_Str(name);
}

static void
task_set_log_destroy_pending(AfTask *task)
{
#if AF_TASK_LAYOUT >= 13
    task->future.log_destroy_pending = 1;
#else
    task->log_destroy_pending = 1;
#endif
}

static PyObject *
task_new(AfLoop *loop, PyObject *coro, PyObject *name, PyObject *context)
{
    AfState *state = loop->state;
    PyObject *self = af_freelist_alloc(&state->tasks, state->Task_type);
    if (self == NULL) {
        return NULL;
    }
    AfTask *task = (AfTask *)self;
    task->future.loop = Py_NewRef((PyObject *)loop);
    task->name = task_name(state, name);
    task->context =
        context == NULL ? PyContext_CopyCurrent() : Py_NewRef(context);
    if (task->name == NULL || task->context == NULL
        || af_loop_push(loop, af_step_run, Py_NewRef(self)) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    task->coro = Py_NewRef(coro);
    task_set_log_destroy_pending(task);
    task_link(state, (AfOwnTask *)task);
    return self;
}

/* By asyncio's constructor, which schedules the first step and registers. */
static PyObject *
task_construct(AfLoop *loop, PyObject *coro, PyObject *name, PyObject *context)
{
    AfState *state = loop->state;
    PyObject *kwargs = Py_BuildValue("{sO}", "loop", (PyObject *)loop);
    PyObject *args = PyTuple_Pack(1, coro);
    PyObject *task = NULL;
    if (kwargs != NULL && args != NULL
        && (name == NULL || PyDict_SetItem(kwargs, state->str_name, name) == 0)
        && (context == NULL
            || PyDict_SetItem(kwargs, state->str_context, context) == 0)) {
        task = PyObject_Call((PyObject *)state->Task_type, args, kwargs);
    }
    Py_XDECREF(args);
    Py_XDECREF(kwargs);
    return task;
}

static PyObject *
task_create(AfLoop *loop, PyObject *coro, PyObject *name, PyObject *context)
{
    bool plain = af_loop_is_plain(loop->state, (PyObject *)loop)
                 && PyCoro_CheckExact(coro)
                 && (context == NULL || PyContext_CheckExact(context));
    return plain ? task_new(loop, coro, name, context)
                 : task_construct(loop, coro, name, context);
}

/* Fills `name` and `context`; false if the call is asyncio's business: for its
 * errors, and for what only some versions know. */
static bool
create_parse(AfState *state, PyObject *const *args, Py_ssize_t nargs,
             PyObject *kwnames, PyObject **name, PyObject **context)
{
    Py_ssize_t count = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    *name = *context = NULL;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *key = PyTuple_GET_ITEM(kwnames, i);
        PyObject *value = args[nargs + i];
        if (key == state->str_name) {
            *name = value == Py_None ? NULL : value;
        }
        else if (AF_TASK_CONTEXT && key == state->str_context) {
            *context = value == Py_None ? NULL : value;
        }
        else {
            return false;
        }
    }
    return nargs == 1;
}

PyObject *
af_task_create_method(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                      PyObject *kwnames)
{
    AfLoop *loop = (AfLoop *)self;
    bool factory = loop->task_factory != NULL && loop->task_factory != Py_None;
    PyObject *name, *context;
    if (!loop->state->own_tasks || factory || loop->closed
        || !create_parse(loop->state, args, nargs, kwnames, &name, &context)) {
        return af_args_forward(loop->state->base_create_task, self, args, nargs,
                               kwnames);
    }
    return task_create(loop, args[0], name, context);
}

/* -- The type ------------------------------------------------------------ */

static PyObject *
task_get_name(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    AfTask *task = (AfTask *)self;
    if (task->name == NULL) {
        Py_RETURN_NONE;
    }
    if (PyLong_CheckExact(task->name)) {
        PyObject *name = PyUnicode_FromFormat("Task-%S", task->name);
        if (name == NULL) {
            return NULL;
        }
        Py_SETREF(task->name, name);
    }
    return Py_NewRef(task->name);
}

static int
task_traverse(PyObject *self, visitproc visit, void *arg)
{
    AfTask *task = (AfTask *)self;
    Py_VISIT(task->fut_waiter);
    Py_VISIT(task->coro);
    Py_VISIT(task->name);
    Py_VISIT(task->context);
    return af_future_traverse(self, visit, arg);
}

static int
task_clear(PyObject *self)
{
    AfTask *task = (AfTask *)self;
    task_unlink((AfOwnTask *)self);
    Py_CLEAR(task->fut_waiter);
    Py_CLEAR(task->coro);
    Py_CLEAR(task->name);
    Py_CLEAR(task->context);
    return af_future_clear(self);
}

/* What the finalizer would report: a lost task, or a lost exception. */
static bool
task_reports(const AfTask *task)
{
    return task->future.log_tb
           || (task->future.state == AF_PENDING && task->future.loop != NULL);
}

static void
task_dealloc(PyObject *self)
{
    AfTask *task = (AfTask *)self;
    if (af_future_finalize(self, task_reports(task)) < 0) {
        return;
    }
    /* First, because weak references tell of the end, and whoever is told may
     * ask for all tasks. */
    task_unlink((AfOwnTask *)self);
    af_future_bury(self);
    Py_CLEAR(task->fut_waiter);
    Py_CLEAR(task->coro);
    Py_CLEAR(task->name);
    Py_CLEAR(task->context);
    af_task_set_must_cancel(task, false);
#if AF_TASK_LAYOUT >= 11
    task->num_cancels_requested = 0;
#endif
    AfState *state = af_state_of_dying(self);
    af_freelist_free(state == NULL ? NULL : &state->tasks, self);
}

PyDoc_STRVAR(get_name_doc, "get_name($self, /)\n--\n\n"
                           "The name of the task, a str.");
PyDoc_STRVAR(remove_done_callback_doc,
             "remove_done_callback($self, fn, /)\n--\n\n"
             "Remove every callback that equals fn; the number removed.");

/* asyncio's Task has its own of what Future has: ours come again, too. */
static PyMethodDef task_methods[] = {
    {"get_name", task_get_name, METH_NOARGS, get_name_doc},
    {"remove_done_callback", af_future_remove_done_callback, METH_O,
     remove_done_callback_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef task_getset[] = {
    {"_callbacks", af_future_get_callbacks, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(task_doc,
             "Task(coro, *, loop=None, name=None, context=None, "
             "eager_start=False)\n--\n\n"
             "An asyncio.Task, as loop.create_task() makes it.\n\n"
             "Works on any loop; see asyncio.Task for its methods and for the\n"
             "parameters that this Python knows.");

static PyType_Slot task_slots[] = {
    {Py_tp_doc, (void *)task_doc},
    {Py_tp_dealloc, task_dealloc},
    {Py_tp_traverse, task_traverse},
    {Py_tp_clear, task_clear},
    {Py_tp_methods, task_methods},
    {Py_tp_getset, task_getset},
    {Py_tp_iter, af_await_new},
    {Py_am_await, af_await_new},
    {0, NULL},
};

static PyType_Spec task_spec = {
    .name = "asyncfast.Task",
    .basicsize = sizeof(AfOwnTask),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = task_slots,
};

int
af_task_init_type(PyObject *module)
{
    AfState *state = PyModule_GetState(module);
    PyTypeObject *base = (PyTypeObject *)state->AsyncioTask;
    if (state->Future_type == (PyTypeObject *)state->AsyncioFuture
        || base->tp_basicsize != sizeof(AfTask)) {
        state->Task_type = (PyTypeObject *)Py_NewRef((PyObject *)base);
        return 0;
    }
    PyObject *bases = PyTuple_Pack(2, base, state->Future_type);
    if (bases == NULL) {
        return -1;
    }
    int err = af_state_add_type(module, &state->Task_type, &task_spec, bases);
    Py_DECREF(bases);
    return err;
}
