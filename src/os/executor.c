/* executor.c -- run_in_executor: calls on the loop's own threads.
 *
 * Only the plain case is C: a call for a default executor that we made. It is a
 * ThreadPoolExecutor (asyncfast/executor.py) whose work queue is ours; all else
 * is asyncio's own code, which finds an executor like any other in it.
 *
 * Ownership: a job owns all its fields. It is handed from the loop's thread to
 * the queue, from there to a worker, from there to the loop's ready ring.
 */
#include "os/executor.h"

#include "base/args.h"
#include "base/error.h"
#include "core/handle.h"
#include "os/workers.h"

typedef struct {
    PyObject_HEAD
    AfLoop *loop;     /* owned */
    PyObject *future; /* owned */
    PyObject *func;   /* owned; NULL from its call on */
    PyObject *args;   /* owned; a tuple, NULL likewise */
    PyObject *result; /* owned; what the call returned or raised */
    bool failed;      /* it raised */
} Job;

static int
job_settled(AfLoop *loop, int err)
{
    const char *message = "Exception in callback of run_in_executor";
    return err < 0 ? af_loop_report(loop, message, NULL, NULL) : 0;
}

/* In the loop's thread: the result as the future's. Steals `item`. */
static int
job_finish(AfLoop *loop, PyObject *item)
{
    AfState *state = loop->state;
    Job *job = (Job *)item;
    int err;
    if (!job->failed) {
        err = af_future_set_result(state, job->future, job->result);
    }
    else {
        /* Exceptions of concurrent.futures have counterparts in asyncio. */
        PyObject *exc =
            PyObject_CallOneArg(state->convert_exception, job->result);
        if (exc != NULL) {
            af_restore_exception(exc);
        }
        err = af_future_set_exception(state, job->future);
    }
    Py_DECREF(item);
    return job_settled(loop, err);
}

/* Was it given up before it began? As with a Future of concurrent.futures. */
static bool
job_is_cancelled(Job *job)
{
    PyObject *cancelled =
        PyObject_CallMethodNoArgs(job->future, job->loop->state->str_cancelled);
    int truth = cancelled == NULL ? -1 : PyObject_IsTrue(cancelled);
    Py_XDECREF(cancelled);
    if (truth < 0) {
        PyErr_WriteUnraisable(job->future);
    }
    return truth > 0;
}

static void
job_call(Job *job, PyObject *func, PyObject *args)
{
    job->result = PyObject_Call(func, args, NULL);
    if (job->result == NULL) {
        job->failed = true;
        job->result = af_take_exception();
    }
}

/* Steals `job`. A loop that was closed meanwhile wants no results. */
static AfPoll *
job_post(AfLoop *loop, Job *job)
{
    if (loop->closed) {
        Py_DECREF(job);
        return NULL;
    }
    if (af_loop_push(loop, job_finish, (PyObject *)job) < 0) {
        PyErr_WriteUnraisable((PyObject *)loop);
        return NULL;
    }
    return &loop->poll;
}

/* In a worker's thread: see AfWork. */
static AfPoll *
job_work(PyObject *item)
{
    Job *job = (Job *)item;
    PyObject *func = job->func;
    PyObject *args = job->args;
    AfLoop *loop = (AfLoop *)Py_NewRef(job->loop);
    AfPoll *poll = NULL;
    job->func = job->args = NULL;
    if (job_is_cancelled(job)) {
        Py_DECREF(item);
    }
    else {
        job_call(job, func, args);
        poll = job_post(loop, job);
    }
    Py_DECREF(func);
    Py_DECREF(args);
    /* A loop that sleeps is referred to by those who run it: this reference
     * is not its last. */
    if (poll != NULL && !af_poll_wake_begin(poll)) {
        poll = NULL;
    }
    Py_DECREF(loop);
    return poll;
}

static PyObject *
job_new(AfLoop *loop, PyObject *const *args, Py_ssize_t nargs)
{
    PyTypeObject *type = loop->state->Job_type;
    Job *job = (Job *)type->tp_alloc(type, 0);
    if (job == NULL) {
        return NULL;
    }
    job->loop = (AfLoop *)Py_NewRef(loop);
    job->func = Py_NewRef(args[0]);
    job->args = af_handle_pack(loop->state, args + 1, nargs - 1);
    job->future = af_loop_create_future(loop);
    if (job->args == NULL || job->future == NULL) {
        Py_DECREF(job);
        return NULL;
    }
    return (PyObject *)job;
}

/* Does asyncio's own code have something to say to this call? */
static bool
call_is_plain(AfLoop *loop, PyObject *const *args, Py_ssize_t nargs,
              PyObject *kwnames)
{
    bool ours = loop->workers != NULL || loop->default_executor == NULL
                || loop->default_executor == Py_None;
    return ours && kwnames == NULL && nargs >= 2 && args[0] == Py_None
           && !loop->closed && !loop->debug && !loop->executor_shut
           && !loop->custom_threadsafe;
}

/* Make the default executor unless there is one.
 * 0, also if asyncio has to make it; -1 with an exception. */
static int
loop_make_executor(AfLoop *loop)
{
    AfState *state = loop->state;
    if (loop->workers != NULL) {
        return 0;
    }
    PyObject *executor = PyObject_CallMethodNoArgs(
        (PyObject *)loop, state->str__new_default_executor);
    if (executor == NULL || executor == Py_None) {
        Py_XDECREF(executor);
        return executor == NULL ? -1 : 0;
    }
    PyObject *queue = PyObject_GetAttr(executor, state->str__work_queue);
    if (queue == NULL) {
        Py_DECREF(executor);
        return -1;
    }
    Py_XSETREF(loop->default_executor, executor);
    if (Py_IS_TYPE(queue, state->WorkQueue_type)) {
        Py_XSETREF(loop->workers, Py_NewRef(queue));
    }
    Py_DECREF(queue);
    return 0;
}

/* Steals `item`. 0, or -1 with an exception. */
static int
loop_submit(AfLoop *loop, PyObject *item)
{
    int is_short = af_workers_submit(loop->workers, loop, job_work, item);
    if (is_short <= 0) {
        return is_short;
    }
    PyObject *executor = Py_NewRef(loop->default_executor);
    PyObject *done =
        PyObject_CallMethodNoArgs(executor, loop->state->str__hire_one);
    Py_DECREF(executor);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

PyObject *
af_executor_run(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                PyObject *kwnames)
{
    AfLoop *loop = (AfLoop *)self;
    if (!call_is_plain(loop, args, nargs, kwnames)) {
        return af_args_forward(loop->state->base_run_in_executor, self, args,
                               nargs, kwnames);
    }
    if (loop_make_executor(loop) < 0) {
        return NULL;
    }
    PyObject *item = job_new(loop, args + 1, nargs - 1);
    if (item == NULL) {
        return NULL;
    }
    if (loop->workers == NULL || af_workers_closed(loop->workers)) {
        Py_DECREF(item);
        return af_args_forward(loop->state->base_run_in_executor, self, args,
                               nargs, kwnames);
    }
    PyObject *future = Py_NewRef(((Job *)item)->future);
    if (loop_submit(loop, item) < 0) {
        Py_CLEAR(future);
    }
    return future;
}

PyObject *
af_executor_get_default(PyObject *self, void *Py_UNUSED(closure))
{
    PyObject *executor = ((AfLoop *)self)->default_executor;
    return Py_NewRef(executor == NULL ? Py_None : executor);
}

int
af_executor_set_default(PyObject *self, PyObject *value,
                        void *Py_UNUSED(closure))
{
    AfLoop *loop = (AfLoop *)self;
    Py_CLEAR(loop->workers);
    Py_XSETREF(loop->default_executor, Py_XNewRef(value));
    return 0;
}

/* What an executor that is shut down asks of the work it drops. */

static int
job_give_up(AfLoop *loop, PyObject *item)
{
    PyObject *result = PyObject_CallMethodNoArgs(((Job *)item)->future,
                                                 loop->state->str_cancel);
    Py_DECREF(item);
    Py_XDECREF(result);
    return job_settled(loop, result == NULL ? -1 : 0);
}

static PyObject *
job_cancel(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    AfLoop *loop = ((Job *)self)->loop;
    if (loop != NULL && !loop->closed) {
        if (af_loop_push(loop, job_give_up, Py_NewRef(self)) < 0) {
            return NULL;
        }
        af_poll_wake(&loop->poll);
    }
    Py_RETURN_TRUE;
}

static PyObject *
job_get_future(PyObject *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(self);
}

static int
job_traverse(PyObject *self, visitproc visit, void *arg)
{
    Job *job = (Job *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(job->loop);
    Py_VISIT(job->future);
    Py_VISIT(job->func);
    Py_VISIT(job->args);
    Py_VISIT(job->result);
    return 0;
}

static int
job_clear(PyObject *self)
{
    Job *job = (Job *)self;
    Py_CLEAR(job->future);
    Py_CLEAR(job->func);
    Py_CLEAR(job->args);
    Py_CLEAR(job->result);
    Py_CLEAR(job->loop);
    return 0;
}

static void
job_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    job_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef job_methods[] = {
    {"cancel", job_cancel, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef job_getset[] = {
    {"future", job_get_future, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot job_slots[] = {
    {Py_tp_dealloc, job_dealloc}, {Py_tp_traverse, job_traverse},
    {Py_tp_clear, job_clear},     {Py_tp_methods, job_methods},
    {Py_tp_getset, job_getset},   {0, NULL},
};

static PyType_Spec job_spec = {
    .name = "asyncfast._core.Job",
    .basicsize = sizeof(Job),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = job_slots,
};

int
af_executor_init_type(PyObject *module)
{
    AfState *state = PyModule_GetState(module);
    return af_state_add_type(module, &state->Job_type, &job_spec, NULL);
}
