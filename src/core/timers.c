/* timers.c -- delayed calls: TimerHandle and the heap it stands in.
 *
 * Ownership: the heap owns its timers. A cancelled timer leaves the heap at
 * once, so what it held is free long before its time.
 */
#include "core/timers.h"

#include <math.h>
#include <string.h>

#include "base/args.h"
#include "core/handle.h"
#include "core/meter.h"

enum { ARITY = 4, FIRST_CAPACITY = 64 };

/* asyncio's tolerance: the resolution of the monotonic clock. */
static const double clock_resolution = 1e-9;

static bool
slot_is_before(const AfTimerSlot *a, const AfTimerSlot *b)
{
    return a->when < b->when
           || (a->when == b->when && a->sequence < b->sequence);
}

static void
heap_put(AfTimers *timers, size_t index, AfTimerSlot slot)
{
    timers->slots[index] = slot;
    slot.timer->index = (uint32_t)index;
}

static void
heap_rise(AfTimers *timers, size_t index, AfTimerSlot slot)
{
    while (index > 0) {
        size_t parent = (index - 1) / ARITY;
        if (!slot_is_before(&slot, &timers->slots[parent])) {
            break;
        }
        heap_put(timers, index, timers->slots[parent]);
        index = parent;
    }
    heap_put(timers, index, slot);
}

static size_t
heap_first_child(const AfTimers *timers, size_t index)
{
    size_t first = index * ARITY + 1;
    size_t best = first;
    size_t end = first + ARITY < timers->count ? first + ARITY : timers->count;
    for (size_t child = first + 1; child < end; child++) {
        if (slot_is_before(&timers->slots[child], &timers->slots[best])) {
            best = child;
        }
    }
    return best;
}

static void
heap_sink(AfTimers *timers, size_t index, AfTimerSlot slot)
{
    while (index * ARITY + 1 < timers->count) {
        size_t child = heap_first_child(timers, index);
        if (!slot_is_before(&timers->slots[child], &slot)) {
            break;
        }
        heap_put(timers, index, timers->slots[child]);
        index = child;
    }
    heap_put(timers, index, slot);
}

static int
heap_make_room(AfTimers *timers)
{
    if (timers->count < timers->capacity) {
        return 0;
    }
    size_t capacity = timers->capacity ? timers->capacity * 2 : FIRST_CAPACITY;
    AfTimerSlot *slots = timers->slots;
    if (capacity <= UINT32_MAX) {
        PyMem_Resize(slots, AfTimerSlot, capacity);
    }
    else {
        slots = NULL;
    }
    if (slots == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    timers->slots = slots;
    timers->capacity = capacity;
    return 0;
}

static void
timer_set_scheduled(AfTimer *timer, AfLoop *loop)
{
    timer->timer_loop = loop;
    Py_XSETREF(timer->scheduled, Py_NewRef(loop ? Py_True : Py_False));
}

static int
heap_insert(AfLoop *loop, AfTimer *timer, double when)
{
    AfTimers *timers = &loop->timers;
    if (heap_make_room(timers) < 0) {
        return -1;
    }
    AfTimerSlot slot = {
        /* asyncio compares with the clock, and nothing is later than NaN. */
        .when = isnan(when) ? -Py_HUGE_VAL : when,
        .sequence = timers->sequence++,
        .timer = (AfTimer *)Py_NewRef((PyObject *)timer),
    };
    timer_set_scheduled(timer, loop);
    timers->hidden += timer->hidden;
    heap_rise(timers, timers->count++, slot);
    return 0;
}

/* The caller takes over the heap's reference. */
static AfTimer *
heap_remove(AfTimers *timers, size_t index)
{
    AfTimer *timer = timers->slots[index].timer;
    AfTimerSlot last = timers->slots[--timers->count];
    if (index < timers->count) {
        heap_rise(timers, index, last);
        heap_sink(timers, last.timer->index, last);
    }
    timers->hidden -= timer->hidden;
    timer_set_scheduled(timer, NULL);
    return timer;
}

static void
timer_reveal(AfTimer *timer)
{
    if (timer->hidden) {
        timer->hidden = false;
        PyObject_GC_Track((PyObject *)timer);
    }
}

void
af_timers_reveal(AfTimers *timers)
{
    for (size_t i = 0; timers->hidden > 0 && i < timers->count; i++) {
        AfTimer *timer = timers->slots[i].timer;
        timers->hidden -= timer->hidden;
        timer_reveal(timer);
    }
}

int
af_timers_fire(AfLoop *loop)
{
    AfTimers *timers = &loop->timers;
    if (timers->count == 0) {
        return 0;
    }
    double now;
    if (af_loop_now(loop, &now) < 0) {
        return -1;
    }
    while (timers->count > 0
           && timers->slots[0].when < now + clock_resolution) {
        double when = timers->slots[0].when;
        PyObject *timer = Py_NewRef((PyObject *)timers->slots[0].timer);
        if (af_loop_push(loop, af_handle_run, timer) < 0) {
            return -1; /* it stays due */
        }
        Py_DECREF(heap_remove(timers, 0));
        if (loop->meter != NULL) {
            af_meter_timer_due(loop, when);
        }
    }
    return 0;
}

void
af_timers_clear(AfTimers *timers)
{
    af_timers_reveal(timers);
    while (timers->count > 0) {
        Py_DECREF(heap_remove(timers, timers->count - 1));
    }
    PyMem_Free(timers->slots);
    timers->slots = NULL;
    timers->capacity = 0;
}

int
af_timers_traverse(AfTimers *timers, visitproc visit, void *arg)
{
    for (size_t i = 0; i < timers->count; i++) {
        Py_VISIT(timers->slots[i].timer);
    }
    return 0;
}

PyObject *
af_timers_list(const AfTimers *timers)
{
    /* A new list may set off the collector, and that change the heap; growing
     * one doesn't. */
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list != NULL && i < timers->count; i++) {
        if (PyList_Append(list, (PyObject *)timers->slots[i].timer) < 0) {
            Py_CLEAR(list);
        }
    }
    return list;
}

static AfState *
timer_state(PyObject *self)
{
    return PyType_GetModuleState(Py_TYPE(self));
}

static void
timer_unschedule(AfTimer *timer)
{
    if (timer->timer_loop != NULL) {
        heap_remove(&timer->timer_loop->timers, timer->index);
        timer_reveal(timer);
        Py_DECREF(timer);
    }
}

static int
timer_traverse(PyObject *self, visitproc visit, void *arg)
{
    AfTimer *timer = (AfTimer *)self;
    Py_VISIT(timer->scheduled);
    Py_VISIT(timer->when);
    return af_handle_traverse(self, visit, arg);
}

static int
timer_clear(PyObject *self)
{
    AfTimer *timer = (AfTimer *)self;
    Py_CLEAR(timer->scheduled);
    Py_CLEAR(timer->when);
    return af_handle_clear(self);
}

static void
timer_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    PyObject_ClearWeakRefs(self);
    timer_clear(self);
    AfState *state = af_state_of_dying(self);
    af_freelist_free(state == NULL ? NULL : &state->timers, self);
}

static PyObject *
timer_cancel(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    AfTimer *timer = (AfTimer *)self;
    timer_unschedule(timer);
    if (af_handle_cancel(timer_state(self), &timer->handle) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* When a call is due: as a number of the user's, or as a float not yet made, which
 * most timers never need and which would take a sixth of their memory. */
typedef struct {
    PyObject *when; /* owned; NULL for the float `seconds` */
    double seconds;
} Deadline;

/* Steals `args` and what `due` owns. */
static PyObject *
timer_new(AfLoop *loop, Deadline due, PyObject *callback, PyObject *args,
          PyObject *context)
{
    AfState *state = loop->state;
    PyObject *self =
        af_freelist_alloc_hidden(&state->timers, state->TimerHandle_type);
    if (self == NULL) {
        Py_XDECREF(due.when);
        Py_DECREF(args);
        return NULL;
    }
    AfTimer *timer = (AfTimer *)self;
    timer->timer_loop = NULL;
    timer->scheduled = Py_NewRef(Py_False);
    timer->when = due.when;
    timer->seconds = due.seconds;
    timer->hidden = loop->turning > 0;
    if (!timer->hidden) {
        PyObject_GC_Track(self);
    }
    if (af_handle_fill(loop, &timer->handle, callback, args, context) < 0
        || heap_insert(loop, timer, due.seconds) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    return self;
}

/* Steals what `due` owns. */
static PyObject *
timers_schedule(AfLoop *loop, Deadline due, PyObject *callback,
                PyObject *const *rest, Py_ssize_t count, PyObject *context)
{
    PyObject *args = NULL;
    if (af_handle_check(loop, callback, loop->state->str_call_at, false) == 0) {
        args = af_handle_pack(loop->state, rest, count);
    }
    if (args == NULL) {
        Py_XDECREF(due.when);
        return NULL;
    }
    return timer_new(loop, due, callback, args, context);
}

/* 0, or -1 with an exception. */
static int
deadline_at(PyObject *when, Deadline *due)
{
    due->when = NULL;
    due->seconds = PyFloat_AsDouble(when);
    if (due->seconds == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (!PyFloat_CheckExact(when)) {
        due->when = Py_NewRef(when);
    }
    return 0;
}

/* asyncio's `now + delay`, with its TypeErrors. A new reference, or NULL. */
static PyObject *
timers_add(double now, PyObject *delay)
{
    PyObject *time = PyFloat_FromDouble(now);
    if (time == NULL) {
        return NULL;
    }
    PyObject *when = PyNumber_Add(time, delay);
    Py_DECREF(time);
    return when;
}

/* 0, or -1 with an exception. */
static int
deadline_after(AfLoop *loop, PyObject *delay, Deadline *due)
{
    due->when = NULL;
    if (af_loop_now(loop, &due->seconds) < 0) {
        return -1;
    }
    if (PyFloat_CheckExact(delay)) {
        due->seconds += PyFloat_AS_DOUBLE(delay);
        return 0;
    }
    if (PyLong_CheckExact(delay)) {
        double seconds = PyLong_AsDouble(delay);
        due->seconds += seconds;
        return seconds == -1 && PyErr_Occurred() ? -1 : 0;
    }
    PyObject *when = timers_add(due->seconds, delay);
    if (when == NULL) {
        return -1;
    }
    int result = deadline_at(when, due);
    Py_DECREF(when);
    return result;
}

static int
timers_check_none(PyObject *value, const char *text)
{
    if (AF_EXPLICIT_DELAY_CHECK && value == Py_None) {
        PyErr_SetString(PyExc_TypeError, text);
        return -1;
    }
    return 0;
}

static const AfParams call_later_params = {
    "call_later", 2, 2, {"delay", "callback", NULL}};

PyObject *
af_timers_call_later_method(PyObject *self, PyObject *const *args,
                            Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *given[2], *context;
    Py_ssize_t used = af_args_split(&call_later_params, args, nargs, kwnames,
                                    given, &context);
    if (used < 0 || timers_check_none(given[0], "delay must not be None") < 0) {
        return NULL;
    }
    Deadline due;
    if (deadline_after((AfLoop *)self, given[0], &due) < 0) {
        return NULL;
    }
    return timers_schedule((AfLoop *)self, due, given[1], args + used,
                           nargs - used, context);
}

static const AfParams call_at_params = {
    "call_at", 2, 2, {"when", "callback", NULL}};

PyObject *
af_timers_call_at(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                  PyObject *kwnames)
{
    PyObject *given[2], *context;
    Py_ssize_t used =
        af_args_split(&call_at_params, args, nargs, kwnames, given, &context);
    if (used < 0 || timers_check_none(given[0], "when cannot be None") < 0) {
        return NULL;
    }
    Deadline due;
    if (deadline_at(given[0], &due) < 0) {
        return NULL;
    }
    return timers_schedule((AfLoop *)self, due, given[1], args + used,
                           nargs - used, context);
}

/* asyncio.TimerHandle.cancel calls this; ours does the same directly. */
PyObject *
af_timers_cancelled(PyObject *self, PyObject *handle)
{
    if (Py_IS_TYPE(handle, ((AfLoop *)self)->state->TimerHandle_type)) {
        timer_unschedule((AfTimer *)handle);
    }
    Py_RETURN_NONE;
}

/* `_when`, which asyncio's own methods read. */
static PyObject *
timer_get_when(PyObject *self, void *Py_UNUSED(closure))
{
    AfTimer *timer = (AfTimer *)self;
    if (timer->when == NULL) {
        timer->when = PyFloat_FromDouble(timer->seconds);
    }
    return Py_XNewRef(timer->when);
}

static int
timer_set_when(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    Py_XSETREF(((AfTimer *)self)->when, Py_XNewRef(value));
    return 0;
}

PyDoc_STRVAR(cancel_doc, "cancel($self, /)\n--\n\n"
                         "Don't run the callback; does nothing the second "
                         "time or after it ran.");

static PyMethodDef timer_methods[] = {
    {"cancel", timer_cancel, METH_NOARGS, cancel_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef timer_getset[] = {
    {"_context", af_handle_get_context, af_handle_set_context, NULL, NULL},
    {"_when", timer_get_when, timer_set_when, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(timer_doc,
             "One delayed call, as call_later() and call_at() return it.");

static PyType_Slot timer_slots[] = {
    {Py_tp_doc, (void *)timer_doc},
    {Py_tp_dealloc, timer_dealloc},
    {Py_tp_traverse, timer_traverse},
    {Py_tp_clear, timer_clear},
    {Py_tp_methods, timer_methods},
    {Py_tp_getset, timer_getset},
    {0, NULL},
};

static PyType_Spec timer_spec = {
    .name = "asyncfast._core.TimerHandle",
    .basicsize = sizeof(AfTimer),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = timer_slots,
};

int
af_timers_init_type(PyObject *module)
{
    AfState *state = PyModule_GetState(module);
    return af_state_add_type(module, &state->TimerHandle_type, &timer_spec,
                             state->AsyncioTimerHandle);
}
