
/*
 * Copyright (C) the ngx-llm authors
 *
 * TLS of a call: by nginx's own functions, as a client that sends the host's
 * name and then nothing before the certificate is known to be the host's.
 */


#include "http/ngx_http_llm_outcall_private.h"


#if (NGX_SSL)

#include <openssl/x509v3.h>


static void ngx_http_llm_outcall_shaken(ngx_connection_t *c);
static ngx_int_t ngx_http_llm_outcall_verify(ngx_http_llm_outcall_t *oc);
static ngx_int_t ngx_http_llm_outcall_verify_ip(ngx_http_llm_outcall_t *oc);


ngx_int_t
ngx_http_llm_outcall_tls_conf(ngx_conf_t *cf,
    ngx_http_llm_outcall_conf_t *conf)
{
    ngx_pool_cleanup_t  *cln;

    conf->ssl.log = cf->log;

    if (ngx_ssl_create(&conf->ssl, NGX_SSL_TLSv1_2|NGX_SSL_TLSv1_3, NULL)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    cln = ngx_pool_cleanup_add(cf->pool, 0);
    if (cln == NULL) {
        ngx_ssl_cleanup_ctx(&conf->ssl);
        return NGX_ERROR;
    }

    cln->handler = ngx_ssl_cleanup_ctx;
    cln->data = &conf->ssl;

    if (SSL_CTX_set_default_verify_paths(conf->ssl.ctx) == 0) {
        ngx_ssl_error(NGX_LOG_EMERG, cf->log, 0,
                      "SSL_CTX_set_default_verify_paths() failed");
        return NGX_ERROR;
    }

    /* it may leave errors in the queue while it returns success */

    ERR_clear_error();

    return NGX_OK;
}


void
ngx_http_llm_outcall_tls(ngx_http_llm_outcall_t *oc)
{
    ngx_int_t          rc;
    ngx_connection_t  *c;

    c = oc->peer.connection;

    if (ngx_ssl_create_connection(&oc->conf->ssl, c, NGX_SSL_CLIENT)
        != NGX_OK)
    {
        oc->why = "no memory";
        ngx_http_llm_outcall_trusted(oc, NGX_ERROR);
        return;
    }

    /* an address is no name to be sent */

    if (oc->url.address.len == 0
        && SSL_set_tlsext_host_name(c->ssl->connection,
                                    (char *) oc->host.data)
           == 0)
    {
        ERR_clear_error();
        oc->why = "no memory";
        ngx_http_llm_outcall_trusted(oc, NGX_ERROR);
        return;
    }

    rc = ngx_ssl_handshake(c);

    if (rc == NGX_AGAIN) {
        c->ssl->handler = ngx_http_llm_outcall_shaken;
        return;
    }

    ngx_http_llm_outcall_shaken(c);
}


static void
ngx_http_llm_outcall_shaken(ngx_connection_t *c)
{
    ngx_int_t                rc;
    ngx_http_llm_outcall_t  *oc;

    oc = c->data;

    if (c->ssl->handshaked) {
        rc = ngx_http_llm_outcall_verify(oc);

    } else {
        oc->why = "the handshake failed";
        rc = NGX_ERROR;
    }

    ngx_log_debug3(NGX_LOG_DEBUG_HTTP, oc->pool->log, 0,
                   "llm outcall \"%V\" TLS: %i %s", &oc->host, rc,
                   oc->why ? oc->why : "");

    ngx_http_llm_outcall_trusted(oc, rc);
}


static ngx_int_t
ngx_http_llm_outcall_verify(ngx_http_llm_outcall_t *oc)
{
    long               rc;
    ngx_int_t          host;
    ngx_connection_t  *c;

    c = oc->peer.connection;

    rc = SSL_get_verify_result(c->ssl->connection);

    if (rc != X509_V_OK) {
        oc->why = X509_verify_cert_error_string(rc);
        return NGX_ERROR;
    }

    host = oc->url.address.len ? ngx_http_llm_outcall_verify_ip(oc)
                               : ngx_ssl_check_host(c, &oc->host);

    if (host != NGX_OK) {
        oc->why = "the certificate is for another host";
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_outcall_verify_ip(ngx_http_llm_outcall_t *oc)
{
    int    rc;
    X509  *cert;

    cert = SSL_get_peer_certificate(oc->peer.connection->ssl->connection);
    if (cert == NULL) {
        return NGX_ERROR;
    }

    rc = X509_check_ip(cert, oc->url.address.bytes, oc->url.address.len, 0);

    X509_free(cert);

    return rc == 1 ? NGX_OK : NGX_ERROR;
}

#else

/* an nginx without TLS makes no calls by https */

ngx_int_t
ngx_http_llm_outcall_tls_conf(ngx_conf_t *cf,
    ngx_http_llm_outcall_conf_t *conf)
{
    return NGX_OK;
}


void
ngx_http_llm_outcall_tls(ngx_http_llm_outcall_t *oc)
{
    oc->why = "this nginx has no TLS";
    ngx_http_llm_outcall_trusted(oc, NGX_ERROR);
}

#endif
