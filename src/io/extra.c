/* extra.c -- what a transport tells of its socket, and sets on it. */
#include "io/extra.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

/* A failing getsockname or getpeername leaves None, as in asyncio. */
static int
extra_add_name(PyObject *extra, PyObject *key, PyObject *sock, PyObject *method)
{
    int known = PyDict_Contains(extra, key);
    if (known != 0) {
        return known < 0 ? -1 : 0;
    }
    PyObject *name = PyObject_CallMethodNoArgs(sock, method);
    if (name == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_OSError)) {
            return -1;
        }
        PyErr_Clear();
        name = Py_NewRef(Py_None);
    }
    int err = PyDict_SetItem(extra, key, name);
    Py_DECREF(name);
    return err;
}

int
af_extra_fill(AfState *state, PyObject *extra, PyObject *sock)
{
    PyObject *shown = PyObject_CallOneArg(state->TransportSocket, sock);
    if (shown == NULL) {
        return -1;
    }
    int err = PyDict_SetItem(extra, state->str_socket, shown);
    Py_DECREF(shown);
    if (err < 0
        || extra_add_name(extra, state->str_sockname, sock,
                          state->str_getsockname)
               < 0) {
        return -1;
    }
    return extra_add_name(extra, state->str_peername, sock,
                          state->str_getpeername);
}

/* Small writes leave at once, without waiting for the peer's ACK; other
 * sockets refuse the option. */
void
af_extra_disable_nagle(int fd)
{
    int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}
