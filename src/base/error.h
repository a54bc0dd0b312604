/* error.h -- operating system and libuv errors as Python exceptions. */
#ifndef AF_BASE_ERROR_H
#define AF_BASE_ERROR_H

#include "base/state.h"

/* Set the OSError that belongs to `code`, an errno value. Returns NULL. */
PyObject *af_error_from_errno(int code);

/* Set the exception that belongs to a libuv lookup status: socket.gaierror
 * for resolver errors, OSError for the rest. Returns NULL. */
PyObject *af_error_from_lookup(AfState *state, int status);

/* True if the set exception is KeyboardInterrupt or SystemExit, which leave
 * the loop instead of being reported. */
bool af_error_leaves_loop(void);

/* True if `exc` is an OSError instance. */
static inline bool
af_error_is_oserror(PyObject *exc)
{
    return PyObject_TypeCheck(exc, (PyTypeObject *)PyExc_OSError);
}

/* The __name__ of an object's type, for a message; borrowed. */
const char *af_error_type_name(PyObject *object);

#endif
