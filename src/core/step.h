/* step.h -- running tasks: one step, one wake-up, the current task. */
#ifndef AF_CORE_STEP_H
#define AF_CORE_STEP_H

#include "core/task.h"

/* The private callable by which a stock Task schedules its step. */
typedef struct {
    PyObject_HEAD
    PyObject *task; /* owned */
    PyObject *arg;  /* owned; the exception to throw; NULL for none */
} AfStepWrapper;

/* The ready entries of a Task: its next step, without and with a look at what
 * it awaited. Each runs in the task's context, as the current task. */
int af_step_run(AfLoop *loop, PyObject *item);
int af_step_wake(AfLoop *loop, PyObject *item);

/* The Task that awaits `future` and stands behind its `callback`; borrowed,
 * NULL for any other callback. */
AfTask *af_step_woken(AfLoop *loop, PyObject *callback, PyObject *future);

/* The callback as Python code may see it: the wake-up of a Task for the Task
 * itself, anything else as it is. A new reference; NULL with an exception. */
PyObject *af_step_spell_out(AfState *state, PyObject *callback);

/* True for a Task that stands for its wake-up. */
bool af_step_is_bare(const AfState *state, PyObject *callback);

/* Schedule `callback(*args)` without a handle if it is the step or wake-up of
 * a Task of this loop: 1 if so, 0 if not, -1 with an exception. */
int af_step_push(AfLoop *loop, PyObject *callback, PyObject *const *args,
                 Py_ssize_t nargs);

/* Take the loop's current task out of asyncio's dict, whoever wrote it, and keep
 * the current exception.
 *
 * The current task is written to asyncio's dict when a step begins and taken
 * out only when somebody might look: before anything but a step runs, before
 * the loop sleeps, and when it stops. */
void af_step_leave_current(AfLoop *loop);

static inline void
af_step_leave(AfLoop *loop)
{
    if (loop->current_task != NULL) {
        af_step_leave_current(loop);
    }
}

#endif
