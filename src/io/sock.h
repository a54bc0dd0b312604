/* sock.h -- the loop's sock_* methods. */
#ifndef AF_IO_SOCK_H
#define AF_IO_SOCK_H

#include "core/loop.h"

int af_sock_init_type(PyObject *module);

/* Each returns an awaitable that does nothing until it is awaited. */
PyObject *af_sock_recv(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                       PyObject *kwnames);
PyObject *af_sock_recv_into(PyObject *self, PyObject *const *args,
                            Py_ssize_t nargs, PyObject *kwnames);
PyObject *af_sock_recvfrom(PyObject *self, PyObject *const *args,
                           Py_ssize_t nargs, PyObject *kwnames);
PyObject *af_sock_recvfrom_into(PyObject *self, PyObject *const *args,
                                Py_ssize_t nargs, PyObject *kwnames);
PyObject *af_sock_sendall(PyObject *self, PyObject *const *args,
                          Py_ssize_t nargs, PyObject *kwnames);
PyObject *af_sock_sendto(PyObject *self, PyObject *const *args,
                         Py_ssize_t nargs, PyObject *kwnames);
PyObject *af_sock_accept(PyObject *self, PyObject *const *args,
                         Py_ssize_t nargs, PyObject *kwnames);

#endif
