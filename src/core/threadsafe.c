/* threadsafe.c -- scheduling from other threads.
 *
 * Threads: the caller holds the GIL, which guards the ready ring. The loop is
 * woken only if it sleeps, and once: a busy loop sees the entry anyway.
 */
#include "core/threadsafe.h"

#include "base/args.h"
#include "core/handle.h"

static const AfParams call_soon_threadsafe_params = {
    "call_soon_threadsafe", 1, 1, {"callback", NULL}};

PyObject *
af_threadsafe_call_soon(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                        PyObject *kwnames)
{
    AfLoop *loop = (AfLoop *)self;
    PyObject *callback, *context;
    Py_ssize_t used = af_args_split(&call_soon_threadsafe_params, args, nargs,
                                    kwnames, &callback, &context);
    if (used < 0
        || af_handle_check(loop, callback,
                           loop->state->str_call_soon_threadsafe, true)
               < 0) {
        return NULL;
    }
    PyObject *packed = af_handle_pack(loop->state, args + used, nargs - used);
    if (packed == NULL) {
        return NULL;
    }
    PyObject *handle = af_handle_call_soon(loop, callback, packed, context);
    if (handle != NULL) {
        af_poll_wake(&loop->poll);
    }
    return handle;
}

PyObject *
af_threadsafe_wake(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    af_poll_wake(&((AfLoop *)self)->poll);
    Py_RETURN_NONE;
}
