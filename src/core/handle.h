/* handle.h -- Handle: one scheduled call. */
#ifndef AF_CORE_HANDLE_H
#define AF_CORE_HANDLE_H

#include "core/loop.h"

/* The slots of asyncio.Handle in their order in memory, checked at import:
 * our handles are real asyncio.Handle objects and use its own fields. */
typedef struct {
    PyObject_HEAD
    PyObject *args;             /* owned; NULL only before initialization */
    PyObject *callback;         /* owned */
    PyObject *cancelled;        /* owned */
    PyObject *context;          /* owned */
    PyObject *loop;             /* owned */
    PyObject *repr;             /* owned */
    PyObject *source_traceback; /* owned */
#if AF_INLINE_WEAKREFS
    PyObject *weakrefs; /* borrowed: managed by weakref */
#endif
} AfHandle;

/* asyncio.TimerHandle's slots, then ours. */
typedef struct AfTimer {
    AfHandle handle;
    PyObject *scheduled; /* owned */
    PyObject *when;      /* owned; NULL for a float that nobody has asked for */
    double seconds;      /* that float */
    AfLoop *timer_loop;  /* borrowed: has this timer in its heap; else NULL */
    uint32_t index;      /* in that heap */
    bool hidden;         /* it's in a heap, and the collector doesn't see it */
} AfTimer;

/* Fill a fresh handle. `callback` is borrowed, `args` (a tuple) is stolen,
 * `context` is borrowed, NULL for a copy of the current one.
 * 0, or -1 with an exception. */
int af_handle_fill(AfLoop *loop, AfHandle *handle, PyObject *callback,
                   PyObject *args, PyObject *context);

int af_handle_traverse(PyObject *self, visitproc visit, void *arg);
int af_handle_clear(PyObject *self);

/* Mark as cancelled and drop callback and arguments.
 * 0, or -1 with an exception (from a callback's repr, in debug mode). */
int af_handle_cancel(AfState *state, AfHandle *handle);

/* A new handle that is not scheduled, for the callback of a descriptor. */
PyObject *af_handle_new(AfLoop *loop, PyObject *callback, PyObject *args,
                        PyObject *context);

/* The same for one that may run more than once, in one context, a copy of the
 * current one. */
PyObject *af_handle_new_lasting(AfLoop *loop, PyObject *callback,
                                PyObject *args);

/* `_context`, which asyncio's own methods read. */
PyObject *af_handle_get_context(PyObject *self, void *closure);
int af_handle_set_context(PyObject *self, PyObject *value, void *closure);

/* Schedule `callback(*args)`; `args` is stolen, `context` may be NULL.
 * A new handle, or NULL with an exception. */
PyObject *af_handle_call_soon(AfLoop *loop, PyObject *callback, PyObject *args,
                              PyObject *context);

/* Same with one argument, for a caller that needs no handle. 0 or -1. */
int af_handle_schedule(AfLoop *loop, PyObject *callback, PyObject *arg,
                       PyObject *context);

/* Hand `exc` to the exception handler as the failure of `callback`, for what
 * ran without a handle. 0, or -1 with an exception that leaves the loop. */
int af_handle_report_callback(AfLoop *loop, PyObject *callback,
                              PyObject *context, PyObject *exc);

/* The ready entry of a Handle. */
int af_handle_run(AfLoop *loop, PyObject *item);

/* Show the collector what the loop was about to call: it isn't running any more. */
void af_handle_reveal_ready(AfLoop *loop);

/* A new tuple of `nargs` arguments. */
PyObject *af_handle_pack(AfState *state, PyObject *const *args,
                         Py_ssize_t nargs);

/* Refuse a closed loop and, in debug mode, another thread (unless
 * `any_thread`) and what is no callback; `method` is named in the message.
 * 0, or -1 with an exception. */
int af_handle_check(AfLoop *loop, PyObject *callback, PyObject *method,
                    bool any_thread);

int af_handle_init_type(PyObject *module);

PyObject *af_handle_call_soon_method(PyObject *self, PyObject *const *args,
                                     Py_ssize_t nargs, PyObject *kwnames);
PyObject *af_handle_add_callback(PyObject *self, PyObject *handle);

#endif
