
/*
 * Copyright (C) the ngx-llm authors
 *
 * TLS, for the connections of the provider's port.
 */


#include <errno.h>
#include <limits.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "mock.h"


static SSL_CTX  *tls_context;


static ssize_t tls_result(SSL *ssl, int n);


void
tls_init(const char *cert, const char *key)
{
    tls_context = SSL_CTX_new(TLS_server_method());

    if (tls_context == NULL
        || SSL_CTX_use_certificate_chain_file(tls_context, cert) != 1
        || SSL_CTX_use_PrivateKey_file(tls_context, key, SSL_FILETYPE_PEM)
           != 1)
    {
        die("%s, %s: %s", cert, key,
            ERR_error_string(ERR_peek_last_error(), NULL));
    }

    SSL_CTX_set_mode(tls_context, SSL_MODE_ENABLE_PARTIAL_WRITE
                                  |SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER
                                  |SSL_MODE_RELEASE_BUFFERS);
}


/* NULL: there is no TLS here */

void *
tls_new(int fd)
{
    SSL  *ssl;

    if (tls_context == NULL) {
        return NULL;
    }

    ssl = SSL_new(tls_context);

    if (ssl == NULL || SSL_set_fd(ssl, fd) != 1) {
        die("out of memory");
    }

    SSL_set_accept_state(ssl);

    return ssl;
}


ssize_t
tls_read(void *tls, void *data, size_t len)
{
    ERR_clear_error();

    return tls_result(tls, SSL_read(tls, data,
                                    len < INT_MAX ? (int) len : INT_MAX));
}


ssize_t
tls_write(void *tls, const void *data, size_t len)
{
    ssize_t  n;

    ERR_clear_error();

    n = tls_result(tls, SSL_write(tls, data,
                                  len < INT_MAX ? (int) len : INT_MAX));

    /* nothing written is no end */

    if (n == 0) {
        errno = EPIPE;
        return -1;
    }

    return n;
}


/* -1 with EAGAIN: later; any failure is the end */

static ssize_t
tls_result(SSL *ssl, int n)
{
    int  error;

    if (n > 0) {
        return n;
    }

    error = SSL_get_error(ssl, n);

    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) {
        errno = EAGAIN;
        return -1;
    }

    return 0;
}


const char *
tls_server_name(void *tls)
{
    const char  *name;

    name = SSL_get_servername(tls, TLSEXT_NAMETYPE_host_name);

    return name == NULL ? "" : name;
}


void
tls_finish(void *tls)
{
    ERR_clear_error();
    (void) SSL_shutdown(tls);
}


int
tls_free(void *tls)
{
    int  done;

    done = SSL_is_init_finished(tls);
    SSL_free(tls);

    return done;
}
