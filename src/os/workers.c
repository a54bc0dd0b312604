/* workers.c -- the work queue of the default executor, and its threads.
 *
 * What costs time is not the queue but who holds the GIL when. So a worker is
 * told of work when the loop's thread has given up the GIL, and tells the loop
 * of a result after it has given up the GIL itself; one that finds more work
 * keeps it. Of idle workers one is told, and tells the next before it starts,
 * so that work that blocks goes on side by side, and work that doesn't wakes
 * few.
 *
 * The loop's thread may not sleep for long. Therefore a worker without work is
 * watchful at first: it looks by itself after a while. Only while there is such
 * a one is the telling put off.
 *
 * Ownership: the queue owns what waits in it. A worker is a struct on the stack
 * of its thread, which the executor made; it holds the queue, but neither the
 * executor nor the loop: both may be forgotten while it waits.
 *
 * Threads: the GIL guards the work, the mutex who is idle, because workers come
 * and go without the GIL. Nobody waits for the GIL with the mutex held.
 */
#include "os/workers.h"

#include <pythread.h>

/* For as long Python lets a thread wait for a busy GIL, so the loop's thread may
 * have kept it waiting anyway. Less than a tick of the kernel's clock would
 * make each wait set the timer of a core, which costs a fifth of a job. */
static const PY_TIMEOUT_T watchful_microseconds = 5000;

/* Python code gives up the GIL to a thread that has waited for as long; work
 * that is C doesn't, so we do between two pieces of work. */
static const double greedy_seconds = 0.005;

enum { LOOK_AT_CLOCK_EVERY = 16 };

typedef struct Worker {
    PyThread_type_lock bell; /* held; released to wake the worker */
    struct Worker *next;     /* in the stack of the idle */
    bool watchful;
    bool idle;
} Worker;

typedef struct {
    PyObject_HEAD
    PyObject *run_item; /* owned; what to do with an item that isn't ours */
    AfRing work;        /* owned items */
    bool closed;
    bool full; /* there will be no more workers */
    PyThread_type_lock mutex;
    /* Guarded by the mutex: */
    Worker *idle; /* the last to come is the first to go: its caches are warm */
    int idle_count;
    int watchful;
    int coming;  /* told, or started, and not at work yet */
    int workers; /* threads that were ever started */
    bool owed;   /* somebody is to be told when the loop sleeps */
} WorkQueue;

static inline void
queue_lock(WorkQueue *self)
{
    PyThread_acquire_lock(self->mutex, WAIT_LOCK);
}

static inline void
queue_unlock(WorkQueue *self)
{
    PyThread_release_lock(self->mutex);
}

/* The functions called locked_ need the mutex. */

static void
locked_take_out(WorkQueue *self, Worker *worker)
{
    Worker **link = &self->idle;
    while (*link != worker) {
        link = &(*link)->next;
    }
    *link = worker->next;
    worker->idle = false;
    self->idle_count--;
    self->watchful -= worker->watchful;
    worker->watchful = false;
    self->coming++;
    /* It tells others itself if there is work for them. */
    self->owed = false;
}

static void
locked_tell_one(WorkQueue *self)
{
    Worker *worker = self->idle;
    locked_take_out(self, worker);
    PyThread_release_lock(worker->bell);
}

static void
locked_tell_one_if_none_comes(WorkQueue *self)
{
    if (self->idle != NULL && self->coming == 0) {
        locked_tell_one(self);
    }
}

static bool
locked_is_short(WorkQueue *self)
{
    int free = self->idle_count + self->coming;
    return !self->full && self->work.count > (size_t)free;
}

/* Needs the GIL or not. */
static void
on_sleep(PyObject *queue)
{
    WorkQueue *self = (WorkQueue *)queue;
    queue_lock(self);
    if (self->owed) {
        locked_tell_one_if_none_comes(self);
    }
    queue_unlock(self);
}

int
af_workers_submit(PyObject *queue, AfLoop *loop, AfWork work, PyObject *item)
{
    WorkQueue *self = (WorkQueue *)queue;
    if (af_ring_push(&self->work, (void *)work, item) < 0) {
        return -1;
    }
    queue_lock(self);
    if (self->watchful > 0 && self->coming == 0) {
        self->owed = true;
    }
    else {
        locked_tell_one_if_none_comes(self);
    }
    bool owed = self->owed;
    bool is_short = locked_is_short(self);
    queue_unlock(self);
    if (owed) {
        af_loop_on_sleep(loop, on_sleep, queue);
    }
    return is_short;
}

bool
af_workers_closed(PyObject *queue)
{
    return ((WorkQueue *)queue)->closed;
}

/* One piece of work, and help for what is left. */
static bool
queue_take(WorkQueue *self, AfEntry *entry)
{
    if (self->work.count == 0) {
        return false;
    }
    *entry = af_ring_pop(&self->work);
    if (self->work.count > 0) {
        queue_lock(self);
        locked_tell_one_if_none_comes(self);
        queue_unlock(self);
    }
    return true;
}

/* Until somebody rings, or nobody has for the work that is there. */
static void
worker_wait(WorkQueue *self, Worker *worker)
{
    if (PyThread_acquire_lock_timed(worker->bell, watchful_microseconds, 0)
        == PY_LOCK_ACQUIRED) {
        return;
    }
    queue_lock(self);
    bool was_told = !worker->idle;
    bool must_go = !was_told && self->owed;
    if (must_go) {
        locked_take_out(self, worker);
    }
    else if (!was_told) {
        worker->watchful = false;
        self->watchful--;
    }
    queue_unlock(self);
    if (!must_go) {
        PyThread_acquire_lock(worker->bell, WAIT_LOCK);
    }
}

static void
worker_lie_down(WorkQueue *self, Worker *worker)
{
    queue_lock(self);
    worker->next = self->idle;
    worker->idle = worker->watchful = true;
    self->idle = worker;
    self->idle_count++;
    self->watchful++;
    queue_unlock(self);
}

static void
queue_note_arrival(WorkQueue *self)
{
    queue_lock(self);
    self->coming--;
    queue_unlock(self);
}

static void
worker_rest(WorkQueue *self, Worker *worker, AfPoll *sleeper)
{
    /* Before the GIL is given up, so that whoever has it knows. */
    worker_lie_down(self, worker);
    Py_BEGIN_ALLOW_THREADS
    if (sleeper != NULL) {
        af_poll_wake_end(sleeper);
    }
    worker_wait(self, worker);
    Py_END_ALLOW_THREADS
    queue_note_arrival(self);
}

static void
give_way(AfPoll *sleeper)
{
    Py_BEGIN_ALLOW_THREADS
    if (sleeper != NULL) {
        af_poll_wake_end(sleeper);
    }
    Py_END_ALLOW_THREADS
}

/* Work until there is no more. A sleeping loop is told of the last result by
 * whoever calls this, of others before what follows them. */
static AfPoll *
queue_work_off(WorkQueue *self)
{
    AfPoll *sleeper = NULL;
    AfEntry entry;
    double since = af_monotonic();
    for (unsigned done = 1; queue_take(self, &entry); done++) {
        if (sleeper != NULL) {
            af_poll_wake_end(sleeper);
        }
        sleeper = ((AfWork)entry.run)(entry.item);
        if (done % LOOK_AT_CLOCK_EVERY == 0
            && af_monotonic() - since > greedy_seconds) {
            give_way(sleeper);
            sleeper = NULL;
            since = af_monotonic();
        }
    }
    return sleeper;
}

static void
worker_run(WorkQueue *self, Worker *worker)
{
    queue_note_arrival(self);
    AfPoll *sleeper = queue_work_off(self);
    while (!self->closed) {
        worker_rest(self, worker, sleeper);
        sleeper = queue_work_off(self);
    }
    give_way(sleeper);
}

static PyThread_type_lock
new_bell(void)
{
    PyThread_type_lock bell = PyThread_allocate_lock();
    if (bell == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    PyThread_acquire_lock(bell, WAIT_LOCK);
    return bell;
}

/* May one more worker be started? If so, it is counted as on its way. */
static PyObject *
queue_hire(PyObject *queue, PyObject *most)
{
    WorkQueue *self = (WorkQueue *)queue;
    long max_workers = PyLong_AsLong(most);
    if (max_workers == -1 && PyErr_Occurred()) {
        return NULL;
    }
    queue_lock(self);
    self->full = self->workers >= max_workers;
    bool hire = locked_is_short(self);
    self->workers += hire;
    self->coming += hire;
    queue_unlock(self);
    return PyBool_FromLong(hire);
}

/* A worker that was hired couldn't be started. */
static PyObject *
queue_dismiss(PyObject *queue, PyObject *Py_UNUSED(ignored))
{
    WorkQueue *self = (WorkQueue *)queue;
    queue_lock(self);
    self->workers--;
    self->coming--;
    if (self->work.count > 0) {
        locked_tell_one_if_none_comes(self);
    }
    queue_unlock(self);
    Py_RETURN_NONE;
}

/* What each of the executor's threads does. */
static PyObject *
queue_work(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    Worker worker = {.bell = new_bell()};
    if (worker.bell == NULL) {
        queue_dismiss(self, NULL);
        return NULL;
    }
    worker_run((WorkQueue *)self, &worker);
    PyThread_free_lock(worker.bell);
    Py_RETURN_NONE;
}

/* No more work comes: what is there is done, then the workers leave. */
static void
queue_close(WorkQueue *self)
{
    self->closed = true;
    queue_lock(self);
    while (self->idle != NULL) {
        locked_tell_one(self);
    }
    queue_unlock(self);
}

static AfPoll *
item_work(PyObject *pair)
{
    PyObject *result = PyObject_CallOneArg(PyTuple_GET_ITEM(pair, 0),
                                           PyTuple_GET_ITEM(pair, 1));
    if (result == NULL) {
        PyErr_WriteUnraisable(PyTuple_GET_ITEM(pair, 1));
    }
    Py_XDECREF(result);
    Py_DECREF(pair);
    return NULL;
}

/* From here on, what a ThreadPoolExecutor calls. */

static PyObject *
queue_put(PyObject *queue, PyObject *item)
{
    WorkQueue *self = (WorkQueue *)queue;
    if (item == Py_None) {
        queue_close(self);
        Py_RETURN_NONE;
    }
    PyObject *pair = PyTuple_Pack(2, self->run_item, item);
    if (pair == NULL
        || af_ring_push(&self->work, (void *)item_work, pair) < 0) {
        return NULL;
    }
    queue_lock(self);
    locked_tell_one_if_none_comes(self);
    queue_unlock(self);
    Py_RETURN_NONE;
}

static PyObject *
queue_get_nowait(PyObject *queue, PyObject *Py_UNUSED(ignored))
{
    WorkQueue *self = (WorkQueue *)queue;
    if (self->work.count == 0) {
        AfState *state = PyType_GetModuleState(Py_TYPE(queue));
        PyErr_SetNone(state->QueueEmpty);
        return NULL;
    }
    AfEntry entry = af_ring_pop(&self->work);
    if (entry.run != (void *)item_work) {
        return entry.item;
    }
    PyObject *item = Py_NewRef(PyTuple_GET_ITEM(entry.item, 1));
    Py_DECREF(entry.item);
    return item;
}

static PyObject *
queue_qsize(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromSize_t(((WorkQueue *)self)->work.count);
}

static PyObject *
queue_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    PyObject *run_item;
    if (!PyArg_ParseTuple(args, "O:WorkQueue", &run_item)) {
        return NULL;
    }
    WorkQueue *self = (WorkQueue *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->run_item = Py_NewRef(run_item);
    self->mutex = PyThread_allocate_lock();
    if (self->mutex == NULL) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    return (PyObject *)self;
}

static int
queue_traverse(PyObject *queue, visitproc visit, void *arg)
{
    WorkQueue *self = (WorkQueue *)queue;
    Py_VISIT(Py_TYPE(queue));
    Py_VISIT(self->run_item);
    for (size_t i = 0; i < self->work.count; i++) {
        Py_VISIT(af_ring_at(&self->work, i)->item);
    }
    return 0;
}

static int
queue_clear(PyObject *queue)
{
    af_ring_clear(&((WorkQueue *)queue)->work);
    return 0;
}

static void
queue_dealloc(PyObject *queue)
{
    WorkQueue *self = (WorkQueue *)queue;
    PyTypeObject *type = Py_TYPE(queue);
    PyObject_GC_UnTrack(queue);
    queue_clear(queue);
    Py_CLEAR(self->run_item); /* only here: it is called without a check */
    if (self->mutex != NULL) {
        PyThread_free_lock(self->mutex);
    }
    type->tp_free(queue);
    Py_DECREF(type);
}

int
af_workers_after_fork(PyObject *queue)
{
    WorkQueue *self = (WorkQueue *)queue;
    /* Somebody may have held the old one, and nobody will release it. */
    self->mutex = PyThread_allocate_lock();
    if (self->mutex == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    self->idle = NULL;
    self->idle_count = self->watchful = self->coming = self->workers = 0;
    self->owed = self->full = false;
    af_ring_clear(&self->work);
    return 0;
}

PyDoc_STRVAR(put_doc, "put($self, item, /)\n--\n\n"
                      "Leave a work item to the workers; None: there will be "
                      "no more.");
PyDoc_STRVAR(get_nowait_doc,
             "get_nowait($self, /)\n--\n\n"
             "Take the oldest work item back. Raises queue.Empty.");
PyDoc_STRVAR(qsize_doc, "qsize($self, /)\n--\n\n"
                        "The number of work items that wait.");

static PyMethodDef queue_methods[] = {
    {"put", queue_put, METH_O, put_doc},
    {"get_nowait", queue_get_nowait, METH_NOARGS, get_nowait_doc},
    {"qsize", queue_qsize, METH_NOARGS, qsize_doc},
    {"_hire", queue_hire, METH_O, NULL},
    {"_dismiss", queue_dismiss, METH_NOARGS, NULL},
    {"_work", queue_work, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(queue_doc,
             "What a loop's default executor has in place of a SimpleQueue.");

static PyType_Slot queue_slots[] = {
    {Py_tp_doc, (void *)queue_doc},
    {Py_tp_new, queue_new},
    {Py_tp_dealloc, queue_dealloc},
    {Py_tp_traverse, queue_traverse},
    {Py_tp_clear, queue_clear},
    {Py_tp_methods, queue_methods},
    {0, NULL},
};

static PyType_Spec queue_spec = {
    .name = "asyncfast._core.WorkQueue",
    .basicsize = sizeof(WorkQueue),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = queue_slots,
};

int
af_workers_init_type(PyObject *module)
{
    AfState *state = PyModule_GetState(module);
    if (af_state_add_type(module, &state->WorkQueue_type, &queue_spec, NULL)
        < 0) {
        return -1;
    }
    return PyModule_AddObjectRef(module, "WorkQueue",
                                 (PyObject *)state->WorkQueue_type);
}
