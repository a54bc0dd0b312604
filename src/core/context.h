/* context.h -- the current context, kept without a Context object. */
#ifndef AF_CORE_CONTEXT_H
#define AF_CORE_CONTEXT_H

#include "core/loop.h"

/* What `contextvars.copy_context()` would copy: just its variables, where this
 * CPython's Context is laid out as expected, else the copy. For a callback that
 * runs once. A new reference; NULL with an exception. */
PyObject *af_context_capture(AfState *state);

/* True for captured variables, false for a Context or anything else. */
static inline bool
af_context_is_captured(const AfState *state, PyObject *object)
{
    return Py_TYPE(object) == state->vars_type;
}

/* A Context with captured variables, to run one callback in. A new reference;
 * NULL with an exception. */
PyObject *af_context_borrow(AfLoop *loop, PyObject *captured);

/* A Context with captured variables, for whoever asks for it. */
PyObject *af_context_make(PyObject *captured);

/* True if nobody but the caller and one more saw the borrowed Context, and
 * nothing in it was changed. */
bool af_context_is_unseen(PyObject *context, PyObject *captured);

/* Keep a borrowed Context for the next callback. Steals it. */
void af_context_return(AfLoop *loop, PyObject *context);

/* Find out whether the layout is as expected. 0, or -1 with an exception. */
int af_context_init(AfState *state);

#endif
