/* meter.c -- measuring a loop: what each callback takes, and how long it waits.
 *
 * One callback begins when the one before it has ended, so the clock is read
 * once for each, and once when it is scheduled (base/ring.h).
 *
 * Any callback may switch measuring off or on, or run the loop inside of itself.
 */
#include "core/meter.h"

#include <string.h>

#include "core/handle.h"
#include "core/step.h"
#include "core/tally.h"

typedef struct AfMeter {
    uint64_t slow; /* nanoseconds from which a callback is reported */
    bool tallies;
    uint64_t turn;        /* whose batch was measured last */
    uint64_t batch_began; /* that batch */
    AfTally tally;
} AfMeter;

/* -- What a callback is counted as --------------------------------------- */

/* A class by its name: as a key it would stay alive, and what its methods
 * refer to. */
static PyObject *
key_of_class(PyTypeObject *type)
{
    if (!PyType_HasFeature(type, Py_TPFLAGS_HEAPTYPE)) {
        return Py_NewRef((PyObject *)type);
    }
    PyObject *name = Py_NewRef(((PyHeapTypeObject *)type)->ht_qualname);
    PyUnicode_InternInPlace(&name);
    return name;
}

/* For lack of anything that tells more, its name, or its class. */
static PyObject *
key_of_object(const AfState *state, PyObject *object)
{
    PyObject *name = PyObject_GetAttr(object, state->str___qualname__);
    if (name != NULL && PyUnicode_CheckExact(name)) {
        PyUnicode_InternInPlace(&name);
        return name;
    }
    PyErr_Clear();
    Py_XDECREF(name);
    return key_of_class(Py_TYPE(object));
}

static PyObject *
key_of_coroutine(const AfState *state, PyObject *coro)
{
    PyObject *name = PyCoro_CheckExact(coro)  ? state->str_cr_code
                     : PyGen_CheckExact(coro) ? state->str_gi_code
                                              : NULL;
    PyObject *code = name == NULL ? NULL : af_attribute_get(coro, name);
    if (code == NULL) {
        return key_of_object(state, coro);
    }
    return code;
}

static PyObject *
key_of_task(const AfState *state, PyObject *task)
{
    PyObject *coro = PyObject_CallMethodNoArgs(task, state->str_get_coro);
    PyObject *key = NULL;
    if (coro != NULL && coro != Py_None) {
        key = key_of_coroutine(state, coro);
    }
    PyErr_Clear();
    Py_XDECREF(coro);
    return key == NULL ? key_of_class(Py_TYPE(task)) : key;
}

/* `callback` without the wrappings that say nothing about it: a new reference. */
static PyObject *
callback_unwrap(const AfState *state, PyObject *callback)
{
    PyObject *bare = Py_NewRef(callback);
    while (PyObject_TypeCheck(bare, (PyTypeObject *)state->partial)) {
        PyObject *inner = af_attribute_get(bare, state->str_func);
        if (inner == NULL) {
            break;
        }
        Py_SETREF(bare, inner);
    }
    if (PyMethod_Check(bare)) {
        Py_SETREF(bare, Py_NewRef(PyMethod_GET_FUNCTION(bare)));
    }
    return bare;
}

static PyObject *
key_of_callback(const AfState *state, PyObject *callback)
{
    PyObject *bare = callback_unwrap(state, callback);
    if (PyFunction_Check(bare)) {
        PyObject *code = Py_NewRef(PyFunction_GET_CODE(bare));
        Py_DECREF(bare);
        return code;
    }
    /* Steps of tasks are asyncio's private callables. */
    PyObject *owner = af_attribute_get(bare, state->str___self__);
    bool of_task =
        owner != NULL
        && PyObject_TypeCheck(owner, (PyTypeObject *)state->AsyncioTask);
    PyObject *key =
        of_task ? key_of_task(state, owner) : key_of_object(state, bare);
    Py_XDECREF(owner);
    Py_DECREF(bare);
    return key;
}

/* A transport's callbacks are its protocol's. */
static PyObject *
key_of_transport(const AfState *state, PyObject *transport)
{
    PyObject *protocol =
        PyObject_CallMethodNoArgs(transport, state->str_get_protocol);
    if (protocol == NULL || protocol == Py_None) {
        PyErr_Clear();
        Py_XDECREF(protocol);
        return key_of_class(Py_TYPE(transport));
    }
    PyObject *key = key_of_class(Py_TYPE(protocol));
    Py_DECREF(protocol);
    return key;
}

/* A new reference; NULL, without an exception, for what was cancelled. */
static PyObject *
key_of_handle(const AfState *state, PyObject *handle)
{
    PyObject *callback = af_attribute_get(handle, state->str__callback);
    PyObject *key = callback == NULL || callback == Py_None
                        ? NULL
                        : key_of_callback(state, callback);
    Py_XDECREF(callback);
    return key;
}

static PyObject *
key_of_entry(const AfState *state, const AfEntry *entry)
{
    PyObject *item = entry->item;
    if (PyObject_TypeCheck(item, (PyTypeObject *)state->AsyncioTask)) {
        PyObject *coro = ((AfTask *)item)->coro;
        return key_of_coroutine(state, coro == NULL ? item : coro);
    }
    if (PyObject_TypeCheck(item, (PyTypeObject *)state->AsyncioHandle)) {
        return key_of_handle(state, item);
    }
    if (PyObject_TypeCheck(item, state->Transport_type)) {
        return key_of_transport(state, item);
    }
    return key_of_class(Py_TYPE(item));
}

/* -- One callback -------------------------------------------------------- */

typedef struct {
    PyObject *item;     /* borrowed: meter_run_first holds it */
    PyObject *callback; /* borrowed: likewise; of a handle of ours, or None */
    PyObject *key;      /* borrowed: likewise; NULL: not counted */
    uint64_t wait;
    uint64_t duration;
} Call;

static int
call_report(AfLoop *loop, const Call *call)
{
    PyObject *result = PyObject_CallMethod(
        (PyObject *)loop, "_report_slow", "OOdd", call->item, call->callback,
        (double)call->duration / 1e9, (double)call->wait / 1e9);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Sets `*now` again where it takes time itself. */
static int
call_note(AfLoop *loop, const Call *call, uint64_t *now)
{
    AfMeter *meter = loop->meter;
    if (meter == NULL) {
        return 0;
    }
    if (call->key != NULL && meter->tallies
        && af_tally_add(&meter->tally, call->key, call->duration, call->wait)
               < 0) {
        PyErr_Clear(); /* one call less in the statistics */
    }
    if (call->duration < meter->slow) {
        return 0;
    }
    af_step_leave(loop);
    int err = call_report(loop, call);
    *now = af_monotonic_ns();
    return err;
}

static int
call_run(AfLoop *loop, AfRun run, Call *call, uint64_t *now)
{
    uint64_t began = *now;
    if (run != af_step_run && run != af_step_wake) {
        af_step_leave(loop);
    }
    int err = run(loop, Py_NewRef(call->item));
    *now = af_monotonic_ns();
    call->duration = *now - began;
    return err < 0 ? -1 : call_note(loop, call, now);
}

/* A handle that cancels itself forgets what it has called. A new reference. */
static PyObject *
handle_callback(const AfState *state, PyObject *item)
{
    bool own = Py_IS_TYPE(item, state->Handle_type)
               || Py_IS_TYPE(item, state->TimerHandle_type);
    PyObject *callback = own ? ((AfHandle *)item)->callback : NULL;
    return Py_NewRef(callback == NULL ? Py_None : callback);
}

static int
meter_run_first(AfLoop *loop, uint64_t *now)
{
    uint64_t came = af_ring_stamp(&loop->ready, *now);
    AfEntry entry = af_ring_pop(&loop->ready);
    bool tallied = loop->meter != NULL && loop->meter->tallies;
    Call call = {
        .item = entry.item,
        .callback = handle_callback(loop->state, entry.item),
        .key = tallied ? key_of_entry(loop->state, &entry) : NULL,
        .wait = *now > came ? *now - came : 0,
    };
    int err = call_run(loop, (AfRun)entry.run, &call, now);
    Py_XDECREF(call.key);
    Py_DECREF(call.callback);
    Py_DECREF(entry.item);
    return err;
}

/* The first part of a turn's batch tells when the batch began. */
static uint64_t
meter_begin_part(AfLoop *loop)
{
    AfMeter *meter = loop->meter;
    uint64_t now = af_monotonic_ns();
    if (meter->turn != loop->counts.turns) {
        meter->turn = loop->counts.turns;
        meter->batch_began = now;
    }
    return now;
}

int
af_meter_run_entries(AfLoop *loop, size_t count)
{
    uint64_t now = meter_begin_part(loop);
    for (; count > 0 && loop->ready.count > 0; count--) {
        loop->counts.callbacks++;
        if (meter_run_first(loop, &now) < 0) {
            return -1;
        }
    }
    return 0;
}

/* What was due before the last batch would have been called in it. A timer that
 * was overdue when it was made is one that this batch has made. */
void
af_meter_timer_due(AfLoop *loop, double when)
{
    if (loop->custom_time) {
        return;
    }
    double earliest = (double)loop->meter->batch_began;
    double due = when * 1e9;
    af_ring_restamp(&loop->ready, (uint64_t)(due > earliest ? due : earliest));
}

/* -- Switching it on and off --------------------------------------------- */

void
af_meter_clear(AfLoop *loop)
{
    AfMeter *meter = loop->meter;
    if (meter != NULL) {
        loop->meter = NULL;
        af_ring_end_stamps(&loop->ready);
        af_tally_clear(&meter->tally);
        PyMem_Free(meter);
    }
}

static int
meter_begin(AfLoop *loop)
{
    if (loop->meter != NULL) {
        return 0;
    }
    AfMeter *meter = PyMem_Calloc(1, sizeof(AfMeter));
    if (meter == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    if (af_ring_begin_stamps(&loop->ready) < 0) {
        PyMem_Free(meter);
        return -1;
    }
    meter->batch_began = af_monotonic_ns();
    loop->meter = meter;
    return 0;
}

/* _observe(slow: float, tallies: bool): report callbacks that take `slow`
 * seconds, infinite for none, and tally all of them or forget the tally. */
PyObject *
af_meter_observe(PyObject *self, PyObject *args)
{
    AfLoop *loop = (AfLoop *)self;
    double slow;
    int tallies;
    if (!PyArg_ParseTuple(args, "dp:_observe", &slow, &tallies)) {
        return NULL;
    }
    bool reports = slow * 1e9 < (double)INT64_MAX;
    if (!reports && !tallies) {
        af_meter_clear(loop);
        Py_RETURN_NONE;
    }
    if (meter_begin(loop) < 0) {
        return NULL;
    }
    loop->meter->slow = reports ? (uint64_t)(slow * 1e9) : UINT64_MAX;
    loop->meter->tallies = tallies;
    if (!tallies) {
        af_tally_clear(&loop->meter->tally);
    }
    Py_RETURN_NONE;
}

PyObject *
af_meter_tally(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    const AfLoop *loop = (AfLoop *)self;
    return loop->meter == NULL ? PyList_New(0)
                               : af_tally_list(&loop->meter->tally);
}

/* -- The loop as a whole ------------------------------------------------- */

void
af_meter_end_run(AfLoop *loop)
{
    AfCounts *counts = &loop->counts;
    if (counts->run_began != 0) {
        counts->ran += af_monotonic_ns() - counts->run_began;
        counts->run_began = 0;
    }
}

/* _time_waits(on: bool): time from now on how long the loop runs and waits. */
PyObject *
af_meter_time_waits(PyObject *self, PyObject *on)
{
    AfLoop *loop = (AfLoop *)self;
    int truth = PyObject_IsTrue(on);
    if (truth < 0) {
        return NULL;
    }
    if (loop->poll.waits.on != truth) {
        loop->poll.waits.on = truth;
        af_meter_end_run(loop);
        if (truth && loop->turning > 0) {
            loop->counts.run_began = af_monotonic_ns();
        }
        /* A wait that is under way would not be counted as idle. */
        af_poll_wake(&loop->poll);
    }
    Py_RETURN_NONE;
}

/* _counts(): all numbers, those of what is going on up to now, and when that is. */
PyObject *
af_meter_counts(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    const AfLoop *loop = (AfLoop *)self;
    const AfCounts *counts = &loop->counts;
    const AfWaits *waits = &loop->poll.waits;
    uint64_t now = af_monotonic_ns();
    uint64_t ran = counts->ran;
    uint64_t idle = waits->idle;
    if (counts->run_began != 0) {
        ran += now - counts->run_began;
    }
    if (loop->poll.waiting && waits->began != 0) {
        idle += now - waits->began;
    }
    return Py_BuildValue(
        "(KKKKKKKKKKKnnnK)", counts->turns, counts->callbacks, counts->polls,
        loop->poll.wakes, counts->reads, counts->writes, counts->bytes_read,
        counts->bytes_written, ran, idle, waits->gil,
        (Py_ssize_t)loop->ready.count, (Py_ssize_t)loop->timers.count,
        (Py_ssize_t)loop->poll.claimed, now);
}

/* _heartbeat(): the number of the turn that is under way; None while the loop
 * waits, or doesn't run. */
PyObject *
af_meter_heartbeat(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    const AfLoop *loop = (AfLoop *)self;
    if (loop->turning == 0 || loop->poll.waiting) {
        Py_RETURN_NONE;
    }
    return PyLong_FromUnsignedLongLong(loop->counts.turns);
}
