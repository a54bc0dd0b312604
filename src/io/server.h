/* server.h -- listening sockets: from accept to transport. */
#ifndef AF_IO_SERVER_H
#define AF_IO_SERVER_H

#include "core/loop.h"

/* _start_serving, as BaseEventLoop's Server calls it. */
PyObject *af_server_start(PyObject *self, PyObject *const *args,
                          Py_ssize_t nargs, PyObject *kwnames);

int af_server_init_type(PyObject *module);

#endif
