/* context.c -- the current context, kept without a Context object.
 *
 * Every callback runs in a copy of the context that it was scheduled in. The
 * variables of a Context are an immutable mapping, so a copy is a reference to
 * that and an object round it, which costs more than all the rest of a handle.
 * Only the reference is kept; each loop lends one Context to callback after
 * callback. Whoever could tell, by a token or any other reference to that
 * Context or by a variable that he set, gets to keep it.
 */
#include "core/context.h"

#include <string.h>

/* contextvars.Context's struct, checked at import. */
typedef struct {
    PyObject_HEAD
    PyObject *previous; /* owned */
    PyObject *vars;     /* owned */
    PyObject *weakrefs; /* borrowed: managed by weakref */
    int entered;
} Context;

PyObject *
af_context_capture(AfState *state)
{
    PyObject *current =
        state->vars_type == NULL ? NULL : PyThreadState_Get()->context;
    return current == NULL ? PyContext_CopyCurrent()
                           : Py_NewRef(((Context *)current)->vars);
}

static void
context_set_vars(PyObject *context, PyObject *vars)
{
    Context *self = (Context *)context;
    Py_XSETREF(self->vars, Py_NewRef(vars));
}

PyObject *
af_context_make(PyObject *captured)
{
    PyObject *context = PyContext_New();
    if (context != NULL) {
        context_set_vars(context, captured);
    }
    return context;
}

PyObject *
af_context_borrow(AfLoop *loop, PyObject *captured)
{
    PyObject *context = loop->spare_context;
    loop->spare_context = NULL;
    if (context == NULL) {
        return af_context_make(captured);
    }
    context_set_vars(context, captured);
    return context;
}

bool
af_context_is_unseen(PyObject *context, PyObject *captured)
{
    Context *self = (Context *)context;
    return Py_REFCNT(context) == 2 && self->vars == captured
           && self->weakrefs == NULL && !self->entered;
}

void
af_context_return(AfLoop *loop, PyObject *context)
{
    context_set_vars(context, loop->state->no_vars);
    Py_XSETREF(loop->spare_context, context);
}

/* `context` is entered and has a variable; `copy` was made of it meanwhile. */
static bool
layout_fits(PyObject *context, PyObject *copy)
{
    if (PyContext_Type.tp_basicsize != sizeof(Context)
        || PyThreadState_Get()->context != context) {
        return false;
    }
    Context *inner = (Context *)context, *other = (Context *)copy;
    return inner->vars == other->vars && inner->vars != NULL
           && strcmp(Py_TYPE(inner->vars)->tp_name, "hamt") == 0
           && inner->entered == 1 && other->entered == 0
           && inner->weakrefs == NULL && other->previous == NULL;
}

static int
probe_entered(AfState *state, PyObject *context, PyObject *empty)
{
    PyObject *variable = PyContextVar_New("asyncfast", NULL);
    PyObject *token =
        variable == NULL ? NULL : PyContextVar_Set(variable, Py_None);
    PyObject *copy = token == NULL ? NULL : PyContext_CopyCurrent();
    if (copy != NULL && layout_fits(context, copy)) {
        state->vars_type = Py_TYPE(((Context *)copy)->vars);
        state->no_vars = Py_NewRef(((Context *)empty)->vars);
    }
    int err = copy == NULL ? -1 : 0;
    Py_XDECREF(copy);
    Py_XDECREF(token);
    Py_XDECREF(variable);
    return err;
}

int
af_context_init(AfState *state)
{
    if (!AF_CONTEXT_LAYOUT_KNOWN) {
        return 0;
    }
    PyObject *empty = PyContext_New();
    PyObject *context = empty == NULL ? NULL : PyContext_New();
    int err = context == NULL ? -1 : PyContext_Enter(context);
    if (err == 0) {
        err = probe_entered(state, context, empty);
        if (PyContext_Exit(context) < 0) {
            err = -1;
        }
    }
    Py_XDECREF(context);
    Py_XDECREF(empty);
    return err;
}
