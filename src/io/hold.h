/* hold.h -- pieces written one by one leave together.
 *
 * A transport that is written to several times between two polls makes one
 * system call of it: from the second piece on, and after that from the first,
 * pieces are held until the batch ends or sixteen callbacks have run. Whatever
 * could see that they are still here sends them first.
 */
#ifndef AF_IO_HOLD_H
#define AF_IO_HOLD_H

#include "io/transport.h"

#define AF_WRITE_FAILED "Fatal write error on socket transport"

/* Count one write. */
void af_hold_note(AfTransport *self);

/* Whether `data`, which isn't empty, should be held: there is nothing that the
 * socket refused before, and nobody can change it. */
bool af_hold_wants(const AfTransport *self, PyObject *data);

/* Hold it, or send all at once when that is as much as may be held.
 * 0, or -1 with an exception. */
int af_hold_add(AfTransport *self, PyObject *bytes);

/* Send what is in the buffer; what the socket doesn't take stays there, and the
 * protocol may be paused. 0, or -1 with an exception. */
int af_hold_send(AfTransport *self);

/* Send what is held, if anything. Whoever calls it finds the transport in the
 * state in which asyncio's would be. 0, or -1 with an exception. */
static inline int
af_hold_settle(AfTransport *self)
{
    return self->held ? af_hold_send(self) : 0;
}

#endif
