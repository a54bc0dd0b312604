/* timers.h -- delayed calls: a heap of timers in float seconds. */
#ifndef AF_CORE_TIMERS_H
#define AF_CORE_TIMERS_H

#include "base/compat.h"

struct AfLoop;
struct AfTimer;

typedef struct {
    double when;           /* seconds of the loop's clock; -inf for NaN */
    uint64_t sequence;     /* equal deadlines fire in the order of scheduling */
    struct AfTimer *timer; /* owned */
} AfTimerSlot;

typedef struct {
    AfTimerSlot *slots; /* a 4-ary heap */
    size_t count;
    size_t capacity;
    uint64_t sequence;
    size_t hidden; /* those that the collector doesn't see */
} AfTimers;

/* Store the earliest deadline; false if there is none. */
static inline bool
af_timers_next(const AfTimers *timers, double *when)
{
    if (timers->count == 0) {
        return false;
    }
    *when = timers->slots[0].when;
    return true;
}

/* Move what is due to the ready ring. 0, or -1 with an exception. */
int af_timers_fire(struct AfLoop *loop);

/* Show the collector every timer: the loop isn't running any more. */
void af_timers_reveal(AfTimers *timers);

void af_timers_clear(AfTimers *timers);
int af_timers_traverse(AfTimers *timers, visitproc visit, void *arg);

/* A list of the scheduled TimerHandles, in no particular order. */
PyObject *af_timers_list(const AfTimers *timers);

int af_timers_init_type(PyObject *module);

PyObject *af_timers_call_later_method(PyObject *self, PyObject *const *args,
                                      Py_ssize_t nargs, PyObject *kwnames);
PyObject *af_timers_call_at(PyObject *self, PyObject *const *args,
                            Py_ssize_t nargs, PyObject *kwnames);
PyObject *af_timers_cancelled(PyObject *self, PyObject *handle);

#endif
