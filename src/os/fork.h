/* fork.h -- what a child process must reset. */
#ifndef AF_OS_FORK_H
#define AF_OS_FORK_H

#include "core/loop.h"

/* Module function: give every loop of this process poll sets of its own. */
PyObject *af_fork_after_in_child(PyObject *module, PyObject *ignored);

/* Enter a new loop in the list of loops, take a dying one out. */
void af_fork_register(AfLoop *loop);
void af_fork_unregister(AfLoop *loop);

#endif
