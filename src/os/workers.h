/* workers.h -- the work queue of the default executor, and its threads. */
#ifndef AF_OS_WORKERS_H
#define AF_OS_WORKERS_H

#include "core/loop.h"

/* What a worker does with an item, which it steals; no exception may escape.
 * Returns a poller for which a wake-up was begun, or NULL. */
typedef AfPoll *(*AfWork)(PyObject *item);

/* Have a worker do `work(item)`; `queue` is a WorkQueue, `item` is stolen, also
 * on failure. The worker is told when `loop` goes to sleep, if one can be
 * trusted to look for itself should that take too long; otherwise at once.
 * 1 if there ought to be one more worker, 0 if not, -1 with MemoryError. */
int af_workers_submit(PyObject *queue, AfLoop *loop, AfWork work,
                      PyObject *item);

/* No more work is taken: the executor was shut down or is gone. */
bool af_workers_closed(PyObject *queue);

/* In a forked child, where no workers are: forget them and their work.
 * 0, or -1 with MemoryError. */
int af_workers_after_fork(PyObject *queue);

int af_workers_init_type(PyObject *module);

#endif
