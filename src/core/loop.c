/* loop.c -- one turn of the loop: poll, timers, batch.
 *
 * Ownership: entries of the ready ring own their item; a loop owns nothing
 * that it isn't seen to own by loop_traverse in api/loop_type.c.
 *
 * Threads: everything here needs the GIL, and the GIL is the only lock: other
 * threads push to the same ready ring, which the loop's thread never touches
 * while it waits without the GIL.
 */
#include "core/loop.h"

#include <math.h>

#include "base/error.h"
#include "core/handle.h"
#include "core/meter.h"
#include "core/step.h"

/* Callbacks between two looks at what trails them. */
enum { PART = 16 };

int
af_loop_check_closed(AfLoop *loop)
{
    if (loop->closed) {
        PyErr_SetString(PyExc_RuntimeError, "Event loop is closed");
        return -1;
    }
    return 0;
}

void
af_loop_on_sleep(AfLoop *loop, AfAsleep asleep, PyObject *item)
{
    loop->on_sleep = asleep;
    if (loop->sleep_item != item) {
        Py_XSETREF(loop->sleep_item, Py_NewRef(item));
    }
}

int
af_loop_now(AfLoop *loop, double *now)
{
    if (!loop->custom_time) {
        *now = af_monotonic();
        return 0;
    }
    PyObject *time =
        PyObject_CallMethodNoArgs((PyObject *)loop, loop->state->str_time);
    if (time == NULL) {
        return -1;
    }
    *now = PyFloat_AsDouble(time);
    Py_DECREF(time);
    return *now == -1 && PyErr_Occurred() ? -1 : 0;
}

PyObject *
af_loop_create_future(AfLoop *loop)
{
    if (loop->custom_future) {
        return PyObject_CallMethodNoArgs((PyObject *)loop,
                                         loop->state->str_create_future);
    }
    return af_loop_create_future_method((PyObject *)loop, NULL);
}

/* 1 if the future is done, 0 if not, -1 with an exception. */
static int
future_is_done(AfState *state, PyObject *future)
{
    PyObject *done = PyObject_CallMethodNoArgs(future, state->str_done);
    if (done == NULL) {
        return -1;
    }
    int truth = PyObject_IsTrue(done);
    Py_DECREF(done);
    return truth;
}

bool
af_future_is_ours(const AfState *state, PyObject *future)
{
    return state->own_tasks && Py_IS_TYPE(future, state->Future_type)
           && ((AfFuture *)future)->state == AF_PENDING
           && ((AfFuture *)future)->loop != NULL;
}

static int
future_settle(AfState *state, PyObject *future, PyObject *method,
              PyObject *value)
{
    int done = future_is_done(state, future);
    if (done != 0) {
        return done < 0 ? -1 : 0;
    }
    PyObject *result = PyObject_CallMethodOneArg(future, method, value);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

int
af_future_set_result(AfState *state, PyObject *future, PyObject *result)
{
    return af_future_is_ours(state, future)
               ? af_future_finish(state, (AfFuture *)future, result)
               : future_settle(state, future, state->str_set_result, result);
}

int
af_future_set_exception(AfState *state, PyObject *future)
{
    PyObject *exc = af_take_exception();
    int err = future_settle(state, future, state->str_set_exception, exc);
    Py_DECREF(exc);
    return err;
}

static PyObject *
report_context(AfState *state, const char *message, PyObject *exc,
               PyObject *protocol, PyObject *transport)
{
    PyObject *context =
        Py_BuildValue("{sssO}", "message", message, "exception", exc);
    if (context == NULL) {
        return NULL;
    }
    if ((transport != NULL
         && PyDict_SetItem(context, state->str_transport, transport) < 0)
        || (protocol != NULL
            && PyDict_SetItem(context, state->str_protocol, protocol) < 0)) {
        Py_DECREF(context);
        return NULL;
    }
    return context;
}

int
af_loop_report(AfLoop *loop, const char *message, PyObject *protocol,
               PyObject *transport)
{
    if (af_error_leaves_loop()) {
        return -1;
    }
    PyObject *exc = af_take_exception();
    PyObject *context =
        report_context(loop->state, message, exc, protocol, transport);
    Py_DECREF(exc);
    if (context == NULL) {
        return -1;
    }
    PyObject *result = PyObject_CallMethodOneArg(
        (PyObject *)loop, loop->state->str_call_exception_handler, context);
    Py_DECREF(context);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

void
af_loop_debug_log(AfLoop *loop, const char *format, PyObject *object)
{
    if (!loop->debug) {
        return;
    }
    PyObject *result =
        PyObject_CallMethod(loop->state->logger, "debug", "sO", format, object);
    if (result == NULL) {
        PyErr_WriteUnraisable(object);
    }
    Py_XDECREF(result);
}

/* Seconds the loop may sleep; negative for ever. */
static int
loop_timeout(AfLoop *loop, double *timeout)
{
    double when;
    if (loop->ready.count > 0 || loop->stopping) {
        *timeout = 0;
        return 0;
    }
    if (!af_timers_next(&loop->timers, &when)) {
        *timeout = -1;
        return 0;
    }
    double now;
    if (af_loop_now(loop, &now) < 0) {
        return -1;
    }
    /* An overridden `time` may have scheduled something, or stopped the loop. */
    bool asleep = when > now && loop->ready.count == 0 && !loop->stopping;
    *timeout = asleep ? when - now : 0;
    return 0;
}

static int
loop_poll(AfLoop *loop)
{
    double timeout;
    for (;;) {
        /* First, because it runs destructors, and those may schedule. */
        af_poll_flush(&loop->poll);
        if (loop_timeout(loop, &timeout) < 0) {
            return -1;
        }
        if (timeout == 0 || loop->current_task == NULL) {
            break;
        }
        /* Nobody else may hold the task and its result: destructors again. */
        af_step_leave(loop);
    }
    if (timeout == 0 && !loop->stopping && af_poll_skip(&loop->poll)) {
        return 0;
    }
    loop->counts.polls++;
    PyObject *item = loop->sleep_item;
    loop->sleep_item = NULL;
    int err = af_poll_wait(&loop->poll, timeout,
                           item == NULL ? NULL : loop->on_sleep, item);
    Py_XDECREF(item);
    return err;
}

int
af_loop_run_trailing(AfLoop *loop)
{
    PyObject *raised = PyErr_Occurred() ? af_take_exception() : NULL;
    while (loop->trailing.count > 0) {
        AfEntry entry = af_ring_pop(&loop->trailing);
        if (((AfRun)entry.run)(loop, entry.item) == 0) {
            continue;
        }
        if (raised == NULL) {
            raised = af_take_exception();
        }
        else {
            PyErr_WriteUnraisable((PyObject *)loop);
        }
    }
    if (raised == NULL) {
        return 0;
    }
    af_restore_exception(raised);
    return -1;
}

static int
loop_end_part(AfLoop *loop)
{
    af_step_leave(loop);
    return af_loop_run_trailing(loop);
}

static int
loop_run_entries(AfLoop *loop, size_t count)
{
    size_t left = count;
    int err = 0;
    for (; err == 0 && left > 0 && loop->ready.count > 0; left--) {
        AfEntry entry = af_ring_pop(&loop->ready);
        if (entry.run != (void *)af_step_run
            && entry.run != (void *)af_step_wake) {
            af_step_leave(loop);
        }
        err = ((AfRun)entry.run)(loop, entry.item);
    }
    loop->counts.callbacks += count - left;
    return err;
}

static int
loop_run_part(AfLoop *loop, size_t count)
{
    loop->parts++;
    loop->in_part = true;
    int err = loop->meter == NULL ? loop_run_entries(loop, count)
                                  : af_meter_run_entries(loop, count);
    loop->in_part = false;
    return loop->trailing.count == 0 ? err : loop_end_part(loop);
}

/* Only what was ready when the batch began: what it schedules waits for the
 * next poll. */
static int
loop_run_batch(AfLoop *loop)
{
    int err = 0;
    for (size_t left = loop->ready.count; left > 0 && err == 0;) {
        size_t count = left < PART ? left : PART;
        err = loop_run_part(loop, count);
        left -= count;
    }
    return err;
}

int
af_loop_turn(AfLoop *loop)
{
    loop->counts.turns++;
    if (loop->custom_time) {
        af_step_leave(loop);
    }
    /* Of the callback that runs this turn inside of an outer one: what follows
     * isn't part of that one's batch, and the poll may sleep. */
    loop->in_part = false;
    if (loop->trailing.count > 0 && af_loop_run_trailing(loop) < 0) {
        return -1;
    }
    if (PyErr_CheckSignals() < 0 || loop_poll(loop) < 0
        || af_timers_fire(loop) < 0) {
        return -1;
    }
    return loop_run_batch(loop);
}

void
af_loop_shut(AfLoop *loop)
{
    loop->closed = true;
    af_poll_close(&loop->poll);
    af_timers_clear(&loop->timers);
    af_handle_reveal_ready(loop);
    af_ring_clear(&loop->ready);
    af_ring_clear(&loop->trailing);
}

static void
loop_begin(AfLoop *loop)
{
    if (loop->turning++ == 0 && loop->poll.waits.on) {
        loop->counts.run_began = af_monotonic_ns();
    }
    af_poll_stir(&loop->poll);
}

static PyObject *
loop_end(AfLoop *loop, int err)
{
    if (--loop->turning == 0) {
        af_timers_reveal(&loop->timers);
        af_handle_reveal_ready(loop);
        af_meter_end_run(loop);
    }
    return err < 0 ? NULL : Py_NewRef(Py_None);
}

PyObject *
af_loop_run(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    AfLoop *loop = (AfLoop *)self;
    int err;
    loop_begin(loop);
    do {
        err = af_loop_check_closed(loop) < 0 ? -1 : af_loop_turn(loop);
    } while (err == 0 && !loop->stopping);
    af_step_leave(loop);
    return loop_end(loop, err);
}

PyObject *
af_loop_run_once(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    AfLoop *loop = (AfLoop *)self;
    loop_begin(loop);
    int err = af_loop_check_closed(loop) < 0 ? -1 : af_loop_turn(loop);
    if (!loop->stepping) {
        af_step_leave(loop);
    }
    return loop_end(loop, err);
}

PyObject *
af_loop_stop(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    ((AfLoop *)self)->stopping = true;
    Py_RETURN_NONE;
}

PyObject *
af_loop_time(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(ignored))
{
    return PyFloat_FromDouble(af_monotonic());
}

PyObject *
af_loop_is_running(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(((AfLoop *)self)->thread_id != Py_None);
}

PyObject *
af_loop_is_closed(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(((AfLoop *)self)->closed);
}

PyObject *
af_loop_get_debug(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(((AfLoop *)self)->debug);
}

PyObject *
af_loop_check_closed_method(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    if (af_loop_check_closed((AfLoop *)self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}
