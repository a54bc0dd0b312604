/* address.c -- socket addresses as Python tuples and back. */
#include "io/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/un.h>

#include <string.h>

/* Every accepted connection shows addresses, and inet_ntop goes through printf,
 * which costs more than all the rest of one. Returns what follows. */
static char *
put_octet(char *out, unsigned octet)
{
    if (octet >= 100) {
        *out++ = (char)('0' + octet / 100);
    }
    if (octet >= 10) {
        *out++ = (char)('0' + octet / 10 % 10);
    }
    *out++ = (char)('0' + octet % 10);
    return out;
}

static PyObject *
inet_host(const struct sockaddr_in *address)
{
    char host[INET_ADDRSTRLEN];
    char *end = host;
    uint32_t number = ntohl(address->sin_addr.s_addr);
    for (int shift = 24; shift >= 0; shift -= 8) {
        end = put_octet(end, number >> shift & 255u);
        *end++ = '.';
    }
    return PyUnicode_FromStringAndSize(host, end - host - 1);
}

static PyObject *
inet_to_python(const struct sockaddr_in *address)
{
    PyObject *host = inet_host(address);
    PyObject *port = PyLong_FromLong(ntohs(address->sin_port));
    PyObject *pair =
        host == NULL || port == NULL ? NULL : PyTuple_Pack(2, host, port);
    Py_XDECREF(host);
    Py_XDECREF(port);
    return pair;
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

/* The port as an int that needs no conversion; -1 if it is anything else. */
static int
parse_port(PyObject *port)
{
    if (!PyLong_CheckExact(port)) {
        return -1;
    }
    int overflow;
    long value = PyLong_AsLongAndOverflow(port, &overflow);
    return overflow || value < 0 || value > 0xffff ? -1 : (int)value;
}

static bool
parse_inet(const char *host, int port, void *name, socklen_t *length)
{
    *length = sizeof(struct sockaddr_in);
    memset(name, 0, sizeof(struct sockaddr_in));
    return inet_from_python(host, port, name) == 0;
}

static bool
parse_inet6(const char *host, int port, void *name, socklen_t *length)
{
    *length = sizeof(struct sockaddr_in6);
    memset(name, 0, sizeof(struct sockaddr_in6));
    return inet6_from_python(host, port, 0, 0, name) == 0;
}

static bool
is_plain_tuple(PyObject *address)
{
    if (!PyTuple_CheckExact(address) || PyTuple_GET_SIZE(address) < 2) {
        return false;
    }
    PyObject *host = PyTuple_GET_ITEM(address, 0);
    return PyUnicode_CheckExact(host) && PyUnicode_IS_COMPACT_ASCII(host);
}

/* (host, port, 0, 0): with a scope it is the socket module's business. */
static bool
has_no_scope(PyObject *address)
{
    for (Py_ssize_t i = 2; i < PyTuple_GET_SIZE(address); i++) {
        if (parse_port(PyTuple_GET_ITEM(address, i)) != 0) {
            return false;
        }
    }
    return PyTuple_GET_SIZE(address) <= 4;
}

bool
af_address_parse(int family, PyObject *address, struct sockaddr_storage *name,
                 socklen_t *length)
{
    if (!is_plain_tuple(address)) {
        return false;
    }
    PyObject *host = PyTuple_GET_ITEM(address, 0);
    const char *text = (const char *)PyUnicode_1BYTE_DATA(host);
    int port = parse_port(PyTuple_GET_ITEM(address, 1));
    /* An embedded null would end the text early. */
    if (port < 0 || strlen(text) != (size_t)PyUnicode_GET_LENGTH(host)) {
        return false;
    }
    if (family == AF_INET && PyTuple_GET_SIZE(address) == 2) {
        return parse_inet(text, port, name, length);
    }
    return family == AF_INET6 && has_no_scope(address)
           && parse_inet6(text, port, name, length);
}

static size_t
book_slot(const struct sockaddr *address, socklen_t length)
{
    uint32_t hash = 2166136261u;
    const char *bytes = (const char *)address;
    for (socklen_t i = 0; i + sizeof(uint32_t) <= length;
         i += sizeof(uint32_t)) {
        uint32_t word;
        memcpy(&word, bytes + i, sizeof(word));
        hash = (hash ^ word) * 16777619u;
    }
    return (hash ^ hash >> 16) % AF_KNOWN_ADDRESSES;
}

static bool
address_is_short(const struct sockaddr *address, socklen_t length)
{
    return length <= sizeof(struct sockaddr_in6)
           && length >= sizeof(sa_family_t) && address->sa_family != AF_UNIX;
}

PyObject *
af_known_address_get(AfKnownAddress *known, const struct sockaddr *address,
                     socklen_t length)
{
    if (!address_is_short(address, length)) {
        return af_address_to_python(address, length);
    }
    if (known->length != length || memcmp(&known->name, address, length) != 0) {
        PyObject *tuple = af_address_to_python(address, length);
        if (tuple == NULL) {
            return NULL;
        }
        Py_XSETREF(known->tuple, tuple);
        memcpy(&known->name, address, length);
        known->length = length;
    }
    return Py_NewRef(known->tuple);
}

PyObject *
af_address_book_get(AfAddressBook *book, const struct sockaddr *address,
                    socklen_t length)
{
    if (!address_is_short(address, length)) {
        return af_address_to_python(address, length);
    }
    AfKnownAddress *known = &book->known[book_slot(address, length)];
    PyObject *tuple = af_known_address_get(known, address, length);
    if (tuple == NULL) {
        return NULL;
    }
    book->last = known;
    return tuple;
}

void
af_address_book_clear(AfAddressBook *book)
{
    book->last = NULL;
    for (int i = 0; i < AF_KNOWN_ADDRESSES; i++) {
        Py_CLEAR(book->known[i].tuple);
        book->known[i].length = 0;
    }
}
