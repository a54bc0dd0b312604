/* address.h -- socket addresses as Python tuples and back. */
#ifndef AF_IO_ADDRESS_H
#define AF_IO_ADDRESS_H

#include "base/compat.h"

#include <netinet/in.h>
#include <sys/socket.h>

/* The address as the socket module shows it; NULL with an exception
 * (NotImplementedError for a family that isn't IPv4, IPv6 or Unix). */
PyObject *af_address_to_python(const struct sockaddr *address,
                               socklen_t length);

/* Parse the (host, port[, flowinfo[, scope_id]]) of getnameinfo: a literal
 * host. 0, or -1 with an exception; 1 if the host is no literal. */
int af_address_from_python(PyObject *tuple, struct sockaddr_storage *address);

/* The sockaddr of an address as socket.sendto takes it, where the family is
 * IPv4 or IPv6 and the host a literal. True if it is that simple; never sets
 * an exception. */
bool af_address_parse(int family, PyObject *address,
                      struct sockaddr_storage *name, socklen_t *length);

/* An address that was made into a tuple. */
typedef struct {
    PyObject *tuple; /* owned */
    struct sockaddr_in6 name;
    socklen_t length;
} AfKnownAddress;

/* As af_address_to_python; the same tuple for the same address of the Internet
 * as last time. */
PyObject *af_known_address_get(AfKnownAddress *known,
                               const struct sockaddr *address,
                               socklen_t length);

/* Addresses that were made into tuples lately. A server of datagrams sees the
 * same few again and again, and answers to the tuple that it was given. */
enum { AF_KNOWN_ADDRESSES = 256 };

typedef struct {
    AfKnownAddress known[AF_KNOWN_ADDRESSES];
    const AfKnownAddress *last;
} AfAddressBook;

/* As af_address_to_python. */
PyObject *af_address_book_get(AfAddressBook *book,
                              const struct sockaddr *address, socklen_t length);

void af_address_book_clear(AfAddressBook *book);

#endif
