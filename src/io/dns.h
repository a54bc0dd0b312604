/* dns.h -- name lookups on libuv's threads. */
#ifndef AF_IO_DNS_H
#define AF_IO_DNS_H

#include "io/io.h"

/* _lookup_address(host, port, family, type, proto, flags) -> Future */
PyObject *af_dns_lookup_address(PyObject *self, PyObject *args);

/* _lookup_name(sockaddr, flags) -> Future, or None if it isn't a literal */
PyObject *af_dns_lookup_name(PyObject *self, PyObject *args);

/* Give up what is under way; the results are dropped when they come. */
void af_dns_close(AfLoop *loop);

/* In a forked child: leave the resolver to the parent; lookups under way never
 * end here, and the next one makes another resolver. */
void af_dns_after_fork(AfLoop *loop);

/* In a forked child: the same for the resolvers of loops that are closed. */
void af_dns_forget_orphans(AfState *state);

int af_dns_init_type(PyObject *module);

#endif
