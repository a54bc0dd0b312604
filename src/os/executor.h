/* executor.h -- run_in_executor: calls on the loop's own threads. */
#ifndef AF_OS_EXECUTOR_H
#define AF_OS_EXECUTOR_H

#include "core/loop.h"

int af_executor_init_type(PyObject *module);

PyObject *af_executor_run(PyObject *self, PyObject *const *args,
                          Py_ssize_t nargs, PyObject *kwnames);

/* The attribute `_default_executor`. */
PyObject *af_executor_get_default(PyObject *self, void *closure);
int af_executor_set_default(PyObject *self, PyObject *value, void *closure);

#endif
