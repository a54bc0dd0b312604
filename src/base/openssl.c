/* openssl.c -- the OpenSSL that the interpreter's ssl module works with.
 *
 * It isn't linked with: another copy would not know the other's objects. What
 * the ssl module loaded is looked up by the name of its file, and where that
 * finds nothing, as where the library is part of the interpreter, the ssl
 * module's own methods have to do.
 */
#include "base/openssl.h"

#include <dlfcn.h>
#include <string.h>

/* The beginning of CPython's PySSLSocket and of its PySSLMemoryBIO. */

typedef struct {
    PyObject_HEAD
    PyObject *socket; /* borrowed: the object's own; NULL over MemoryBIOs */
    void *ssl;
    PyObject *context; /* borrowed: the object's own */
} SslSocket;

typedef struct {
    PyObject_HEAD
    void *bio;
} MemoryBio;

/* ISO C knows no pointers to data that are pointers to functions. */
static bool
find(void *library, const char *name, void *function)
{
    void *found = dlsym(library, name);
    /* A preloaded library would be the one that the ssl module calls. */
    void *global = dlsym(RTLD_DEFAULT, name);
    if (found == NULL || (global != NULL && global != found)) {
        return false;
    }
    memcpy(function, &found, sizeof(found));
    return true;
}

bool
af_openssl_load(AfOpenssl *openssl, const char *path)
{
    AfOpenssl found;
    void *library = dlopen(path, RTLD_LAZY | RTLD_NOLOAD);
    if (library == NULL) {
        return false;
    }
    bool complete = find(library, "SSL_read_ex", &found.ssl_read)
                    && find(library, "SSL_write_ex", &found.ssl_write)
                    && find(library, "SSL_get_rbio", &found.ssl_rbio)
                    && find(library, "SSL_get_wbio", &found.ssl_wbio)
                    && find(library, "BIO_read", &found.bio_read)
                    && find(library, "BIO_write", &found.bio_write)
                    && find(library, "BIO_ctrl_pending", &found.bio_pending);
    /* CPython never unloads an extension module. */
    dlclose(library);
    if (complete) {
        *openssl = found;
    }
    return complete;
}

static bool
is_named(PyObject *object, const char *name, size_t size)
{
    return strcmp(Py_TYPE(object)->tp_name, name) == 0
           && Py_TYPE(object)->tp_basicsize >= (Py_ssize_t)size;
}

/* Compares pointers before it follows any: the context tells that the field
 * in front of it is the connection, and that has to know both buffers. */
int
af_openssl_look_inside(const AfOpenssl *openssl, PyObject *sock,
                       PyObject *incoming, PyObject *outgoing, AfSsl *out)
{
    memset(out, 0, sizeof(*out));
    if (openssl->ssl_read == NULL
        || !is_named(sock, "_ssl._SSLSocket", sizeof(SslSocket))
        || !is_named(incoming, "_ssl.MemoryBIO", sizeof(MemoryBio))
        || !is_named(outgoing, "_ssl.MemoryBIO", sizeof(MemoryBio))) {
        return 0;
    }
    PyObject *context = PyObject_GetAttrString(sock, "context");
    if (context == NULL) {
        return -1;
    }
    Py_DECREF(context); /* the socket's, if it is what we think */
    const SslSocket *inside = (const SslSocket *)sock;
    void *in = ((const MemoryBio *)incoming)->bio;
    void *to = ((const MemoryBio *)outgoing)->bio;
    if (inside->socket == NULL && inside->context == context
        && inside->ssl != NULL && openssl->ssl_rbio(inside->ssl) == in
        && openssl->ssl_wbio(inside->ssl) == to) {
        *out = (AfSsl){inside->ssl, in, to};
    }
    return 0;
}
