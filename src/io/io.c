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

/* Data or their number, with or without an address. */
static Py_ssize_t
result_size(PyObject *result)
{
    if (PyTuple_Check(result) && PyTuple_GET_SIZE(result) > 0) {
        result = PyTuple_GET_ITEM(result, 0);
    }
    if (PyBytes_Check(result)) {
        return PyBytes_GET_SIZE(result);
    }
    Py_ssize_t size = PyLong_Check(result) ? PyLong_AsSsize_t(result) : 0;
    PyErr_Clear(); /* a number that no socket would return */
    return size;
}

void
af_io_count(AfLoop *loop, int event, PyObject *result)
{
    Py_ssize_t size = result_size(result);
    if (size > 0 && event == AF_READ) {
        af_loop_count_read(loop, size);
    }
    else if (size > 0) {
        af_loop_count_write(loop, size);
    }
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
