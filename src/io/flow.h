/* flow.h -- a transport's write buffer and its water marks. */
#ifndef AF_IO_FLOW_H
#define AF_IO_FLOW_H

#include "base/compat.h"

#include <sys/types.h>

/* How many pieces af_flow_send sends at most: what every supported system takes
 * in one call. */
enum { AF_FLOW_PIECES_A_CALL = 1024 };

typedef struct {
    PyObject *bytes;   /* owned; nobody changes it any more */
    PyObject *address; /* owned; where a datagram goes, NULL in a stream */
    Py_ssize_t offset; /* sent already */
} AfPiece;

typedef struct {
    AfPiece *pieces; /* a ring */
    size_t capacity; /* zero or a power of two */
    size_t head;
    size_t count;
    size_t size; /* bytes to send */
    size_t high; /* pause above */
    size_t low;  /* resume at or below */
    bool paused; /* pause_writing was called */
} AfFlow;

void af_flow_init(AfFlow *flow);
void af_flow_clear(AfFlow *flow);

/* Make room for `count` more pieces. 0, or -1 with MemoryError. */
int af_flow_reserve(AfFlow *flow, size_t count);

/* Queue `data` without its first `skip` bytes. bytes are kept by reference,
 * anything else is copied. 0, or -1 with an exception. */
int af_flow_append(AfFlow *flow, PyObject *data, Py_ssize_t skip);

/* Send what one system call takes. The number of bytes, or a negative errno
 * value. */
ssize_t af_flow_send(AfFlow *flow, int fd);

/* Queue one datagram, which may be empty and counts `weight` bytes.
 * 0, or -1 with an exception. */
int af_flow_append_datagram(AfFlow *flow, PyObject *data, PyObject *address,
                            size_t weight);

/* The piece at `index`, which is less than flow->count. */
const AfPiece *af_flow_peek(const AfFlow *flow, size_t index);

/* Drop the first piece, which counted `weight` bytes. */
void af_flow_pop(AfFlow *flow, size_t weight);

/* transport.set_write_buffer_limits(high, low), None or NULL for defaults.
 * 0, or -1 with ValueError or TypeError. */
int af_flow_set_limits(AfFlow *flow, PyObject *high, PyObject *low);

#endif
