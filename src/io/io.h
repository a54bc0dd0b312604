/* io.h -- what the descriptor room keeps for each loop. */
#ifndef AF_IO_IO_H
#define AF_IO_IO_H

#include "core/loop.h"
#include "io/address.h"

/* One read's worth: larger ones would make malloc map and unmap memory. */
enum { AF_SCRATCH_SIZE = 64 * 1024 };

/* One system call's worth of datagrams; only what arrives is ever touched. */
enum { AF_MAILBAG_SIZE = 1024 * 1024 };

typedef struct AfIo {
    char *scratch;          /* owned; AF_SCRATCH_SIZE bytes or NULL */
    char *mailbag;          /* owned; AF_MAILBAG_SIZE bytes or NULL */
    AfAddressBook *senders; /* owned; who datagrams came from, or NULL */
    PyObject *resolver;     /* owned; name lookups, see io/dns.h */
} AfIo;

/* The loop's descriptor state, made on first use; NULL with MemoryError. */
AfIo *af_io_get(AfLoop *loop);

/* A buffer for reads, valid until Python code runs; NULL with MemoryError. */
char *af_io_scratch(AfLoop *loop);

/* Have a mailbag and an address book. The loop's descriptor state, or NULL
 * with MemoryError. */
AfIo *af_io_for_datagrams(AfLoop *loop);

/* Count what a method of a socket has received or sent, as its result tells. */
void af_io_count(AfLoop *loop, int event, PyObject *result);

int af_io_traverse(AfLoop *loop, visitproc visit, void *arg);
void af_io_clear(AfLoop *loop);
void af_io_free(AfLoop *loop);

#endif
