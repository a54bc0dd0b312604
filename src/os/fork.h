/* fork.h -- what is done before a fork, and what a child process must reset. */
#ifndef AF_OS_FORK_H
#define AF_OS_FORK_H

#include "core/loop.h"

/* What another room resets in a loop that has its own poll set already. */
typedef void (*AfForkReset)(AfLoop *loop);

/* Send what is held back by any loop of this process, lest parent and child both
 * do. 0, or -1 with an exception. */
int af_fork_before(AfState *state);

/* Give every loop of this process poll sets of its own, and reset it.
 * 0, or -1 with an exception. */
int af_fork_after_in_child(AfState *state, AfForkReset reset);

/* Enter a new loop in the list of loops, take a dying one out. */
void af_fork_register(AfLoop *loop);
void af_fork_unregister(AfLoop *loop);

#endif
