/* future.h -- Future: asyncio's own struct, and what we do faster with it. */
#ifndef AF_CORE_FUTURE_H
#define AF_CORE_FUTURE_H

#include "core/loop.h"

enum { AF_PENDING, AF_CANCELLED, AF_FINISHED };

/* _asyncio.Future's struct, checked at import: our Future is a subtype of it
 * and keeps everything in its fields, so that whatever CPython does with one
 * works on ours. */
typedef struct {
    PyObject_HEAD
    PyObject *loop;         /* owned; NULL until initialized */
    PyObject *callback0;    /* owned; the first callback, or the waiting Task */
    PyObject *context0;     /* owned */
    PyObject *callbacks;    /* owned; list of (callback, context), or NULL */
    PyObject *exception;    /* owned */
    PyObject *exception_tb; /* owned */
    PyObject *result;       /* owned */
    PyObject *source_tb;    /* owned */
    PyObject *cancel_msg;   /* owned */
#if AF_TASK_LAYOUT >= 13
    PyObject *cancelled_exc; /* owned */
    int state;
    unsigned log_tb : 1;
    unsigned blocking : 1;
    unsigned must_cancel : 1;         /* a Task's */
    unsigned log_destroy_pending : 1; /* a Task's */
#else
    int state;
    int log_tb;
    int blocking;
    PyObject *dict;          /* owned */
    PyObject *weakrefs;      /* borrowed: managed by weakref */
#if AF_TASK_LAYOUT >= 11
    PyObject *cancelled_exc; /* owned */
#else
    _PyErr_StackItem cancelled_exc; /* owned fields */
#endif
#endif
} AfFuture;

/* True for the four types whose every method C may stand in for: a Future or a
 * Task, ours or asyncio's, and not of a subclass. */
static inline bool
af_future_is_plain(const AfState *state, PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    return type == state->Future_type || type == state->Task_type
           || type == (PyTypeObject *)state->AsyncioFuture
           || type == (PyTypeObject *)state->AsyncioTask;
}

/* True for a Future or Task of ours, and not of a subclass. */
static inline bool
af_future_is_own(const AfState *state, PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    return type == state->Future_type || type == state->Task_type;
}

/* Finish a pending future: set its result and schedule its callbacks.
 * 0, or -1 with an exception. */
int af_future_finish(AfState *state, AfFuture *future, PyObject *result);

/* What a waiter gets: the exception to throw into it, a new reference, or NULL
 * for a result. Never sets an exception: one in asking is the outcome. */
PyObject *af_future_outcome(AfState *state, PyObject *future);

/* For subtypes. */
int af_future_traverse(PyObject *self, visitproc visit, void *arg);
int af_future_clear(PyObject *self);
/* Run the finalizer if there is something to report. -1 if that brought the
 * object back to life. */
int af_future_finalize(PyObject *self, bool reports);
/* Everything before the memory is freed, but for the fields of a subtype. */
void af_future_bury(PyObject *self);

PyObject *af_future_get_callbacks(PyObject *self, void *closure);
PyObject *af_future_remove_done_callback(PyObject *self, PyObject *callback);

/* 0, or -1 with an exception. Without a known layout our types are asyncio's
 * and state->own_tasks stays false. */
int af_future_init_type(PyObject *module);

#endif
