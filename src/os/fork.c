/* fork.c -- what is done before a fork, and what a child process must reset.
 *
 * A child shares its parent's poll sets: a change in one would show in the
 * other. So every loop starts over with sets of its own, and what was watched
 * goes on being watched. The threads of its executor are its parent's, and so
 * is the work that was left for them. asyncio itself makes sure that no loop runs in the
 * child until one is started there.
 */
#include "os/fork.h"

#include "os/workers.h"

void
af_fork_register(AfLoop *loop)
{
    AfLoop *next = loop->state->first_loop;
    loop->next_loop = next;
    loop->previous_loop = NULL;
    if (next != NULL) {
        next->previous_loop = loop;
    }
    loop->state->first_loop = loop;
}

void
af_fork_unregister(AfLoop *loop)
{
    if (loop->previous_loop != NULL) {
        loop->previous_loop->next_loop = loop->next_loop;
    }
    else if (loop->state->first_loop == loop) {
        loop->state->first_loop = loop->next_loop;
    }
    if (loop->next_loop != NULL) {
        loop->next_loop->previous_loop = loop->previous_loop;
    }
    loop->next_loop = loop->previous_loop = NULL;
}

static int
loop_after_fork(AfLoop *loop, AfForkReset reset)
{
    if (af_poll_after_fork(&loop->poll) < 0) {
        return -1;
    }
    /* The jobs that are dropped may have been the last to hold anything. */
    PyObject *workers = Py_XNewRef(loop->workers);
    int err = workers == NULL ? 0 : af_workers_after_fork(workers);
    Py_XDECREF(workers);
    reset(loop);
    return err;
}

/* The first of these loops that isn't being destroyed; a new reference. */
static AfLoop *
loop_hold(AfLoop *loop)
{
    while (loop != NULL && Py_REFCNT(loop) == 0) {
        loop = loop->next_loop;
    }
    return (AfLoop *)Py_XNewRef((PyObject *)loop);
}

/* From one to the next; steals the first. */
static AfLoop *
loop_hold_next(AfLoop *loop)
{
    AfLoop *next = loop_hold(loop->next_loop);
    Py_DECREF(loop);
    return next;
}

int
af_fork_before(AfState *state)
{
    int err = 0;
    AfLoop *loop = loop_hold(state->first_loop);
    while (loop != NULL && err == 0) {
        err = af_loop_run_trailing(loop);
        loop = loop_hold_next(loop);
    }
    Py_XDECREF(loop);
    return err;
}

int
af_fork_after_in_child(AfState *state, AfForkReset reset)
{
    int err = 0;
    AfLoop *loop = loop_hold(state->first_loop);
    while (loop != NULL && err == 0) {
        err = loop_after_fork(loop, reset);
        loop = loop_hold_next(loop);
    }
    Py_XDECREF(loop);
    return err;
}
