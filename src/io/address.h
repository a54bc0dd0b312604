/* address.h -- socket addresses as Python tuples and back. */
#ifndef AF_IO_ADDRESS_H
#define AF_IO_ADDRESS_H

#include "base/compat.h"

#include <sys/socket.h>

/* The address as the socket module shows it; NULL with an exception
 * (NotImplementedError for a family that isn't IPv4, IPv6 or Unix). */
PyObject *af_address_to_python(const struct sockaddr *address,
                               socklen_t length);

/* Parse the (host, port[, flowinfo[, scope_id]]) of getnameinfo: a literal
 * host. 0, or -1 with an exception; 1 if the host is no literal. */
int af_address_from_python(PyObject *tuple, struct sockaddr_storage *address);

#endif
