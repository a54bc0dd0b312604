/* threadsafe.h -- scheduling from other threads. */
#ifndef AF_CORE_THREADSAFE_H
#define AF_CORE_THREADSAFE_H

#include "core/loop.h"

PyObject *af_threadsafe_call_soon(PyObject *self, PyObject *const *args,
                                  Py_ssize_t nargs, PyObject *kwnames);
PyObject *af_threadsafe_wake(PyObject *self, PyObject *ignored);

#endif
