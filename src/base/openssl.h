/* openssl.h -- the OpenSSL that the interpreter's ssl module works with. */
#ifndef AF_BASE_OPENSSL_H
#define AF_BASE_OPENSSL_H

#include "base/compat.h"

/* Functions of that very library; all NULL where they can't be had. */
typedef struct {
    int (*ssl_read)(void *ssl, void *buffer, size_t size, size_t *count);
    int (*ssl_write)(void *ssl, const void *data, size_t size, size_t *count);
    void *(*ssl_rbio)(const void *ssl);
    void *(*ssl_wbio)(const void *ssl);
    int (*bio_read)(void *bio, void *buffer, int size);
    int (*bio_write)(void *bio, const void *data, int size);
    size_t (*bio_pending)(void *bio);
} AfOpenssl;

/* A connection of the ssl module. Valid while its object lives. */
typedef struct {
    void *ssl; /* NULL: none */
    void *incoming;
    void *outgoing;
} AfSsl;

/* Find the functions; `path` is the file of the _ssl module, which is loaded.
 * True if all were found. */
bool af_openssl_load(AfOpenssl *openssl, const char *path);

/* The connection inside an _ssl._SSLSocket over two MemoryBIOs, if all of them
 * are laid out as expected; its ssl is NULL if not. 0, or -1 with an
 * exception. */
int af_openssl_look_inside(const AfOpenssl *openssl, PyObject *sock,
                           PyObject *incoming, PyObject *outgoing, AfSsl *out);

#endif
