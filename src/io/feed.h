/* feed.h -- data for asyncio's own StreamReader, without a call of Python. */
#ifndef AF_IO_FEED_H
#define AF_IO_FEED_H

#include "base/state.h"

/* _adopt_streams(StreamReader, feed_data, _wakeup_waiter, StreamReaderProtocol,
 * data_received, _stream_reader): from now on C does what these methods do. */
PyObject *af_feed_adopt(PyObject *module, PyObject *args);

/* Whose methods were found to be unaltered. */
typedef struct {
    const PyObject *protocol; /* borrowed: compared only */
    const PyObject *reader;   /* borrowed: likewise */
} AfFed;

/* Do what the protocol's data_received would do, if it is asyncio's
 * StreamReaderProtocol with asyncio's StreamReader, both unaltered. `*seen` is the
 * caller's for each connection, zero at first. 1 if it is done, 0 if data_received
 * must be called, -1 with its exception. */
int af_feed_reader(AfState *state, PyObject *protocol, AfFed *seen,
                   const char *data, Py_ssize_t size);

#endif
