/* extra.h -- what a transport tells of its socket, and sets on it. */
#ifndef AF_IO_EXTRA_H
#define AF_IO_EXTRA_H

#include "base/state.h"

/* Enter the socket and, as far as they aren't there yet, its name and its
 * peer's name in the dictionary `extra`. 0, or -1 with an exception. */
int af_extra_fill(AfState *state, PyObject *extra, PyObject *sock);

/* Send small writes at once; sockets that aren't TCP ignore it. */
void af_extra_disable_nagle(int fd);

#endif
