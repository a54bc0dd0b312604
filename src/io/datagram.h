/* datagram.h -- datagram transport over a UDP or Unix socket. */
#ifndef AF_IO_DATAGRAM_H
#define AF_IO_DATAGRAM_H

#include "io/io.h"
#include "io/transport.h"

/* A datagram transport sends and receives this many in one system call. */
enum { AF_DATAGRAM_BATCH = 16 };

typedef struct {
    AfTransport base;
    PyObject *address; /* owned; the only one that sendto takes, or None */
    AfFlow backlog;    /* what came while the protocol couldn't take it */
    int family;
    bool connected; /* the socket has a peer */
    bool backlog_scheduled;
    int batch;    /* ask for this many datagrams */
    int streak;   /* so many times in a row there were that many */
    int patience; /* ask for more after so many times */
} AfDatagram;

/* Methods of the loop. */
PyObject *af_datagram_make(PyObject *self, PyObject *const *args,
                           Py_ssize_t nargs, PyObject *kwnames);

int af_datagram_init_type(PyObject *module);

/* For the files that make up the transport. */

/* datagram_read.c: there are datagrams. 0, or -1 with an exception that leaves
 * the loop. */
int af_datagram_read(AfDatagram *self);

/* Deliver the backlog soon. 0, or -1 with MemoryError. */
int af_datagram_schedule_backlog(AfDatagram *self);

/* datagram_write.c: there is room for datagrams; likewise. */
int af_datagram_flush(AfDatagram *self);

/* Tell the protocol of the OSError of `code`, an errno value.
 * 0, or -1 with what error_received raised. */
int af_datagram_failed(AfDatagram *self, int code);

/* Same with the exception that is set; one that isn't an OSError closes the
 * transport, and is reported with `message`. */
int af_datagram_raised(AfDatagram *self, const char *message);

/* Methods of the transport in datagram_write.c. */
PyObject *af_datagram_sendto(PyObject *self, PyObject *const *args,
                             Py_ssize_t nargs, PyObject *kwnames);

#endif
