/* await.h -- the iterator behind `await future`. */
#ifndef AF_CORE_AWAIT_H
#define AF_CORE_AWAIT_H

#include "core/future.h"

/* A new iterator over a Future or Task of ours: tp_iter and am_await. */
PyObject *af_await_new(PyObject *future);

/* Drop the value that the last `await` handed over. */
void af_await_release_value(AfState *state);

int af_await_init_type(PyObject *module);

#endif
