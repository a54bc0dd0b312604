/* args.h -- argument parsing for methods called with the vectorcall protocol.
 *
 * A method declares its parameters once, in a table; parsing fills an array of
 * borrowed references in the same order, NULL where an optional one is absent.
 */
#ifndef AF_BASE_ARGS_H
#define AF_BASE_ARGS_H

#include "base/compat.h"

typedef struct {
    const char *function;
    int required;          /* this many must be given */
    int positional;        /* this many may be given by position */
    const char *names[10]; /* NULL-terminated */
} AfParams;

/* Fill `out`, as long as the table. 0, or -1 with TypeError. */
int af_args_parse(const AfParams *params, PyObject *const *args,
                  Py_ssize_t nargs, PyObject *kwnames, PyObject **out);

/* For `f(first, ..., *rest, context=None)`, where the first `required`
 * parameters may also be given by keyword: fill `out` with them and `context`
 * with the keyword (NULL if absent or None), and return how many of `args`
 * they used; -1 with TypeError. */
Py_ssize_t af_args_split(const AfParams *params, PyObject *const *args,
                         Py_ssize_t nargs, PyObject *kwnames, PyObject **out,
                         PyObject **context);

/* Call a method of a base class: `function(self, *args, **kwargs)`, as vectorcall
 * passed the arguments. A new reference, or NULL with an exception. */
PyObject *af_args_forward(PyObject *function, PyObject *self,
                          PyObject *const *args, Py_ssize_t nargs,
                          PyObject *kwnames);

/* NULL for None, which stands for an argument that wasn't given. */
static inline PyObject *
af_args_optional(PyObject *argument)
{
    return argument == Py_None ? NULL : argument;
}

#endif
