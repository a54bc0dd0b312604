/* task.h -- Task: asyncio's own struct, our creation and registration. */
#ifndef AF_CORE_TASK_H
#define AF_CORE_TASK_H

#include "core/future.h"

/* _asyncio.Task's struct, checked at import. */
typedef struct {
    AfFuture future;
#if AF_TASK_LAYOUT >= 13
    int num_cancels_requested;
#endif
    PyObject *fut_waiter; /* owned; what it awaits */
    PyObject *coro;       /* owned */
    PyObject *name;       /* owned; an int until the name is asked for */
    PyObject *context;    /* owned */
#if AF_TASK_LAYOUT < 13
    int must_cancel;
    int log_destroy_pending;
#endif
#if AF_TASK_LAYOUT == 11
    int num_cancels_requested;
#endif
} AfTask;

/* A task of ours: registered by hanging in the state's list. */
typedef struct AfOwnTask {
    AfTask task;
    struct AfOwnTask *next;  /* borrowed: a task unlinks itself */
    struct AfOwnTask **link; /* borrowed: likewise; NULL when not in the list */
} AfOwnTask;

static inline bool
af_task_must_cancel(const AfTask *task)
{
#if AF_TASK_LAYOUT >= 13
    return task->future.must_cancel;
#else
    return task->must_cancel != 0;
#endif
}

static inline void
af_task_set_must_cancel(AfTask *task, bool must_cancel)
{
#if AF_TASK_LAYOUT >= 13
    task->future.must_cancel = must_cancel;
#else
    task->must_cancel = must_cancel;
#endif
}

static inline bool
af_task_log_destroy_pending(const AfTask *task)
{
#if AF_TASK_LAYOUT >= 13
    return task->future.log_destroy_pending;
#else
    return task->log_destroy_pending != 0;
#endif
}

/* Take a finished task out of the list; harmless for any other. */
void af_task_unlink(AfState *state, AfTask *task);

/* Detach every task from a state that is going. */
void af_task_forget_all(AfState *state);

/* Scheduling a callback is about to be seen by Python code: let no task of the
 * loop stand for its wake-up. 0, or -1 with an exception. */
int af_task_spell_out_waits(AfLoop *loop);

int af_task_init_type(PyObject *module);

/* Methods, for the tables in api/. */
PyObject *af_task_create_method(PyObject *self, PyObject *const *args,
                                Py_ssize_t nargs, PyObject *kwnames);
PyObject *af_task_list(PyObject *module, PyObject *ignored);
PyObject *af_task_forget(PyObject *module, PyObject *task);

#endif
