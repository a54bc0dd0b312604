/* args.c -- argument parsing for methods called with the vectorcall protocol. */
#include "base/args.h"

static int
params_count(const AfParams *params)
{
    int count = 0;
    while (params->names[count] != NULL) {
        count++;
    }
    return count;
}

static int
params_find(const AfParams *params, PyObject *name)
{
    for (int i = 0; params->names[i] != NULL; i++) {
        if (PyUnicode_CompareWithASCIIString(name, params->names[i]) == 0) {
            return i;
        }
    }
    return -1;
}

static int
args_too_many(const AfParams *params, Py_ssize_t nargs)
{
    PyErr_Format(PyExc_TypeError,
                 "%s() takes %s%d positional argument%s (%zd given)",
                 params->function,
                 params->required < params->positional ? "at most " : "",
                 params->positional, params->positional == 1 ? "" : "s", nargs);
    return -1;
}

static int
args_unexpected(const AfParams *params, PyObject *name)
{
    PyErr_Format(PyExc_TypeError,
                 "%s() got an unexpected keyword argument '%U'",
                 params->function, name);
    return -1;
}

static int
args_keyword(const AfParams *params, PyObject *name, PyObject *value,
             PyObject **out)
{
    int index = params_find(params, name);
    if (index < 0) {
        return args_unexpected(params, name);
    }
    if (out[index] != NULL) {
        PyErr_Format(PyExc_TypeError,
                     "%s() got multiple values for argument '%U'",
                     params->function, name);
        return -1;
    }
    out[index] = value;
    return 0;
}

static int
args_check_required(const AfParams *params, PyObject *const *out)
{
    for (int i = 0; i < params->required; i++) {
        if (out[i] == NULL) {
            PyErr_Format(PyExc_TypeError,
                         "%s() missing required argument: '%s'",
                         params->function, params->names[i]);
            return -1;
        }
    }
    return 0;
}

int
af_args_parse(const AfParams *params, PyObject *const *args, Py_ssize_t nargs,
              PyObject *kwnames, PyObject **out)
{
    int count = params_count(params);
    if (nargs > params->positional) {
        return args_too_many(params, nargs);
    }
    for (int i = 0; i < count; i++) {
        out[i] = i < nargs ? args[i] : NULL;
    }
    Py_ssize_t nkw = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    for (Py_ssize_t i = 0; i < nkw; i++) {
        PyObject *name = PyTuple_GET_ITEM(kwnames, i);
        if (args_keyword(params, name, args[nargs + i], out) < 0) {
            return -1;
        }
    }
    return args_check_required(params, out);
}

static int
split_keyword(const AfParams *params, PyObject *name, PyObject *value,
              PyObject **out, PyObject **context)
{
    if (PyUnicode_CompareWithASCIIString(name, "context") == 0) {
        *context = value == Py_None ? NULL : value;
        return 0;
    }
    return args_keyword(params, name, value, out);
}

Py_ssize_t
af_args_split(const AfParams *params, PyObject *const *args, Py_ssize_t nargs,
              PyObject *kwnames, PyObject **out, PyObject **context)
{
    int required = params->required;
    *context = NULL;
    Py_ssize_t used = nargs < required ? nargs : required;
    for (int i = 0; i < required; i++) {
        out[i] = i < used ? args[i] : NULL;
    }
    Py_ssize_t nkw = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    for (Py_ssize_t i = 0; i < nkw; i++) {
        PyObject *name = PyTuple_GET_ITEM(kwnames, i);
        if (split_keyword(params, name, args[nargs + i], out, context) < 0) {
            return -1;
        }
    }
    return args_check_required(params, out) < 0 ? -1 : used;
}

PyObject *
af_args_forward(PyObject *function, PyObject *self, PyObject *const *args,
                Py_ssize_t nargs, PyObject *kwnames)
{
    Py_ssize_t count =
        nargs + (kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames));
    PyObject **all = PyMem_New(PyObject *, (size_t)count + 1);
    if (all == NULL) {
        return PyErr_NoMemory();
    }
    all[0] = self;
    for (Py_ssize_t i = 0; i < count; i++) {
        all[i + 1] = args[i];
    }
    PyObject *result =
        PyObject_Vectorcall(function, all, (size_t)nargs + 1, kwnames);
    PyMem_Free(all);
    return result;
}
