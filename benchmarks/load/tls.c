/* tls.c -- TLS for the load client, on OpenSSL where its headers were found. */
#include "load.h"

#include <errno.h>

#include "common.h"

#ifdef LOAD_TLS

#include <openssl/err.h>
#include <openssl/ssl.h>

bool
tls_available(void)
{
    return true;
}

static void
tls_die(const char *what)
{
    ERR_print_errors_fp(stderr);
    errno = 0;
    die("%s", what);
}

/* One context for the whole run. The certificate is the harness's own and new each
 * time: verifying it would measure nothing. */
static SSL_CTX *
tls_context(void)
{
    static SSL_CTX *context;
    if (context == NULL) {
        context = SSL_CTX_new(TLS_client_method());
        if (context == NULL) {
            tls_die("SSL_CTX_new");
        }
        SSL_CTX_set_verify(context, SSL_VERIFY_NONE, NULL);
        SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE
                                      | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    }
    return context;
}

void *
tls_open(int fd)
{
    SSL *tls = SSL_new(tls_context());
    if (tls == NULL || SSL_set_fd(tls, fd) != 1 || SSL_connect(tls) != 1) {
        tls_die("TLS handshake");
    }
    return tls;
}

static ssize_t
tls_result(SSL *tls, int result)
{
    if (result > 0) {
        return result;
    }
    switch (SSL_get_error(tls, result)) {
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        errno = EAGAIN;
        return -1;
    default:
        tls_die("TLS");
        return -1;
    }
}

ssize_t
tls_read(void *tls, void *buffer, size_t size)
{
    return tls_result(tls, SSL_read(tls, buffer, (int)size));
}

ssize_t
tls_write(void *tls, const void *buffer, size_t size)
{
    return tls_result(tls, SSL_write(tls, buffer, (int)size));
}

#else

bool
tls_available(void)
{
    return false;
}

void *
tls_open(int fd)
{
    (void)fd;
    return NULL;
}

ssize_t
tls_read(void *tls, void *buffer, size_t size)
{
    (void)tls, (void)buffer, (void)size;
    errno = ENOTSUP;
    return -1;
}

ssize_t
tls_write(void *tls, const void *buffer, size_t size)
{
    (void)tls, (void)buffer, (void)size;
    errno = ENOTSUP;
    return -1;
}

#endif
