/* io.c -- what the descriptor room keeps for each loop. */
#include "io/io.h"

AfIo *
af_io_get(AfLoop *loop)
{
    if (loop->io == NULL) {
        loop->io = PyMem_Calloc(1, sizeof(AfIo));
        if (loop->io == NULL) {
            PyErr_NoMemory();
        }
    }
    return loop->io;
}

char *
af_io_scratch(AfLoop *loop)
{
    AfIo *io = af_io_get(loop);
    if (io == NULL) {
        return NULL;
    }
    if (io->scratch == NULL) {
        io->scratch = PyMem_Malloc(AF_SCRATCH_SIZE);
        if (io->scratch == NULL) {
            PyErr_NoMemory();
        }
    }
    return io->scratch;
}

AfIo *
af_io_for_datagrams(AfLoop *loop)
{
    AfIo *io = af_io_get(loop);
    if (io == NULL || io->senders != NULL) {
        return io;
    }
    if (io->mailbag == NULL) {
        io->mailbag = PyMem_Malloc(AF_MAILBAG_SIZE);
    }
    io->senders = PyMem_Calloc(1, sizeof(AfAddressBook));
    if (io->mailbag == NULL || io->senders == NULL) {
        PyMem_Free(io->senders);
        io->senders = NULL;
        PyErr_NoMemory();
        return NULL;
    }
    return io;
}

int
af_io_traverse(AfLoop *loop, visitproc visit, void *arg)
{
    if (loop->io != NULL) {
        Py_VISIT(loop->io->resolver);
    }
    return 0;
}

void
af_io_clear(AfLoop *loop)
{
    if (loop->io != NULL) {
        Py_CLEAR(loop->io->resolver);
    }
}

void
af_io_free(AfLoop *loop)
{
    if (loop->io != NULL) {
        if (loop->io->senders != NULL) {
            af_address_book_clear(loop->io->senders);
        }
        PyMem_Free(loop->io->senders);
        PyMem_Free(loop->io->mailbag);
        PyMem_Free(loop->io->scratch);
        PyMem_Free(loop->io);
        loop->io = NULL;
    }
}
