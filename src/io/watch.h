/* watch.h -- add_reader and add_writer: one watched descriptor of the user. */
#ifndef AF_IO_WATCH_H
#define AF_IO_WATCH_H

#include "core/loop.h"

/* What happens when a descriptor is ready: `run(loop, item)`, at once. */
typedef int (*AfFire)(AfLoop *loop, PyObject *item);

/* The descriptor of an int or an object with fileno(); -1 with the exception
 * that the selectors module raises. */
int af_watch_fileno(PyObject *file);

/* 0, or -1 with RuntimeError if an open transport uses the descriptor. */
int af_watch_check_free(AfLoop *loop, PyObject *file, int fd);

/* Let `item` stand by for `event` (AF_READ or AF_WRITE) on `fd`, in place of
 * whatever did. Steals nothing; `file` is kept alive meanwhile.
 * 0, or -1 with an exception. */
int af_watch_set(AfLoop *loop, int fd, int event, AfFire fire, PyObject *item,
                 PyObject *file);

/* Withdraw what stands by for `event`; if `item` is not NULL, only if it is
 * that. True if something was withdrawn; it is cancelled if it is a handle. */
bool af_watch_unset(AfLoop *loop, int fd, int event, PyObject *item);

/* Does `item` still stand by for `event`? */
bool af_watch_is_set(AfLoop *loop, int fd, int event, PyObject *item);

int af_watch_init_type(PyObject *module);

PyObject *af_watch_add_reader(PyObject *self, PyObject *const *args,
                              Py_ssize_t nargs);
PyObject *af_watch_add_writer(PyObject *self, PyObject *const *args,
                              Py_ssize_t nargs);
PyObject *af_watch_remove_reader(PyObject *self, PyObject *file);
PyObject *af_watch_remove_writer(PyObject *self, PyObject *file);
PyObject *af_watch_add_reader_unchecked(PyObject *self, PyObject *const *args,
                                        Py_ssize_t nargs);
PyObject *af_watch_add_writer_unchecked(PyObject *self, PyObject *const *args,
                                        Py_ssize_t nargs);
PyObject *af_watch_remove_reader_unchecked(PyObject *self, PyObject *file);
PyObject *af_watch_remove_writer_unchecked(PyObject *self, PyObject *file);
PyObject *af_watch_events(PyObject *self, PyObject *file);
PyObject *af_watch_ensure_free(PyObject *self, PyObject *file);

#endif
