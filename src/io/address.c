/* address.c -- socket addresses as Python tuples and back. */
#include "io/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/un.h>

#include <string.h>

static PyObject *
inet_to_python(const struct sockaddr_in *address)
{
    char host[INET_ADDRSTRLEN];
    if (inet_ntop(AF_INET, &address->sin_addr, host, sizeof(host)) == NULL) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return Py_BuildValue("(si)", host, (int)ntohs(address->sin_port));
}

static PyObject *
inet6_to_python(const struct sockaddr_in6 *address)
{
    char host[INET6_ADDRSTRLEN];
    if (inet_ntop(AF_INET6, &address->sin6_addr, host, sizeof(host)) == NULL) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return Py_BuildValue("(siII)", host, (int)ntohs(address->sin6_port),
                         (unsigned)ntohl(address->sin6_flowinfo),
                         (unsigned)address->sin6_scope_id);
}

static PyObject *
unix_to_python(const struct sockaddr_un *address, socklen_t length)
{
    size_t offset = offsetof(struct sockaddr_un, sun_path);
    if (length <= offset) {
        return PyUnicode_FromString("");
    }
    size_t size = length - offset;
#ifdef __linux__
    if (address->sun_path[0] == '\0') {
        /* An abstract name is bytes, all of them. */
        return PyBytes_FromStringAndSize(address->sun_path, (Py_ssize_t)size);
    }
#endif
    return PyUnicode_DecodeFSDefaultAndSize(
        address->sun_path, (Py_ssize_t)strnlen(address->sun_path, size));
}

PyObject *
af_address_to_python(const struct sockaddr *address, socklen_t length)
{
    /* The pointers come from sockaddr_storage or the resolver, which align
     * them for every family. */
    const void *aligned = address;
    if (length < sizeof(sa_family_t)) {
        return PyUnicode_FromString("");
    }
    switch (address->sa_family) {
    case AF_INET:
        return inet_to_python(aligned);
    case AF_INET6:
        return inet6_to_python(aligned);
    case AF_UNIX:
        return unix_to_python(aligned, length);
    default:
        PyErr_Format(PyExc_NotImplementedError, "address family %d",
                     (int)address->sa_family);
        return NULL;
    }
}

static int
inet_from_python(const char *host, int port, struct sockaddr_in *address)
{
    if (inet_pton(AF_INET, host, &address->sin_addr) != 1) {
        return 1;
    }
    address->sin_family = AF_INET;
    address->sin_port = htons((uint16_t)port);
    return 0;
}

static int
inet6_from_python(const char *host, int port, unsigned flowinfo,
                  unsigned scope_id, struct sockaddr_in6 *address)
{
    if (inet_pton(AF_INET6, host, &address->sin6_addr) != 1) {
        return 1;
    }
    address->sin6_family = AF_INET6;
    address->sin6_port = htons((uint16_t)port);
    address->sin6_flowinfo = htonl(flowinfo);
    address->sin6_scope_id = scope_id;
    return 0;
}

int
af_address_from_python(PyObject *tuple, struct sockaddr_storage *address)
{
    const char *host;
    int port;
    unsigned flowinfo = 0;
    unsigned scope_id = 0;
    if (!PyArg_ParseTuple(tuple, "si|II", &host, &port, &flowinfo, &scope_id)) {
        return -1;
    }
    if (port < 0 || port > 0xffff || flowinfo > 0xfffff) {
        PyErr_SetString(PyExc_OverflowError, "address out of range");
        return -1;
    }
    void *aligned = memset(address, 0, sizeof(*address));
    if (PyTuple_GET_SIZE(tuple) == 2
        && inet_from_python(host, port, aligned) == 0) {
        return 0;
    }
    return inet6_from_python(host, port, flowinfo, scope_id, aligned);
}
