
/*
 * Copyright (C) the ngx-llm authors
 */


#include "state/ngx_http_llm_redis_host.h"


static void ngx_http_llm_redis_host_resolved(ngx_resolver_ctx_t *ctx);


void
ngx_http_llm_redis_host_init(ngx_http_llm_redis_host_t *host, ngx_url_t *url)
{
    ngx_uint_t  i;

    host->name = url->host;
    host->port = url->port;

    host->by_name = (url->family != AF_UNIX
                     && url->host.len != 0
                     && url->host.data[0] != '['
                     && ngx_inet_addr(url->host.data, url->host.len)
                        == INADDR_NONE);

    host->naddrs = ngx_min(url->naddrs, NGX_HTTP_LLM_REDIS_ADDRS);

    for (i = 0; i < host->naddrs; i++) {
        ngx_memcpy(&host->addrs[i].sockaddr, url->addrs[i].sockaddr,
                   url->addrs[i].socklen);
        host->addrs[i].socklen = url->addrs[i].socklen;
    }
}


ngx_int_t
ngx_http_llm_redis_host_set(ngx_http_llm_redis_host_t *host, ngx_str_t *text,
    in_port_t port)
{
    in_addr_t             addr;
    struct sockaddr_in   *sin;
#if (NGX_HAVE_INET6)
    struct sockaddr_in6  *sin6;
#endif

    host->name = *text;
    host->port = port;
    host->naddrs = 1;
    host->by_name = 0;

    ngx_memzero(&host->addrs[0], sizeof(ngx_http_llm_redis_addr_t));

    addr = ngx_inet_addr(text->data, text->len);

    if (addr != INADDR_NONE) {
        sin = &host->addrs[0].sockaddr.sockaddr_in;
        sin->sin_family = AF_INET;
        sin->sin_addr.s_addr = addr;
        sin->sin_port = htons(port);
        host->addrs[0].socklen = sizeof(struct sockaddr_in);
        return NGX_OK;
    }

#if (NGX_HAVE_INET6)

    sin6 = &host->addrs[0].sockaddr.sockaddr_in6;

    if (ngx_inet6_addr(text->data, text->len, sin6->sin6_addr.s6_addr)
        == NGX_OK)
    {
        sin6->sin6_family = AF_INET6;
        sin6->sin6_port = htons(port);
        host->addrs[0].socklen = sizeof(struct sockaddr_in6);
        return NGX_OK;
    }

#endif

    host->naddrs = 0;
    host->by_name = 1;

    return NGX_DECLINED;
}


ngx_int_t
ngx_http_llm_redis_host_resolve(ngx_http_llm_redis_host_t *host,
    ngx_resolver_t *resolver, ngx_msec_t timeout)
{
    ngx_resolver_ctx_t  *ctx;

    if (host->ctx != NULL) {
        return NGX_OK;
    }

    if (resolver == NULL) {
        return NGX_DECLINED;
    }

    ctx = ngx_resolve_start(resolver, NULL);

    if (ctx == NULL) {
        return NGX_ERROR;
    }

    if (ctx == NGX_NO_RESOLVER) {
        return NGX_DECLINED;
    }

    ctx->name = host->name;
    ctx->handler = ngx_http_llm_redis_host_resolved;
    ctx->data = host;
    ctx->timeout = timeout;

    /* a worker that quits does not wait for a name */
    ctx->cancelable = 1;

    host->ctx = ctx;

    if (ngx_resolve_name(ctx) != NGX_OK) {
        host->ctx = NULL;
        return NGX_ERROR;
    }

    return NGX_OK;
}


static void
ngx_http_llm_redis_host_resolved(ngx_resolver_ctx_t *ctx)
{
    ngx_int_t                    rc;
    ngx_uint_t                   i, n;
    ngx_http_llm_redis_addr_t    addrs[NGX_HTTP_LLM_REDIS_ADDRS];
    ngx_http_llm_redis_host_t   *host;

    host = ctx->data;
    host->ctx = NULL;

    if (ctx->state != NGX_OK || ctx->naddrs == 0) {
        ngx_resolve_name_done(ctx);
        host->handler(host, NGX_ERROR);
        return;
    }

    n = ngx_min(ctx->naddrs, NGX_HTTP_LLM_REDIS_ADDRS);
    rc = (n == host->naddrs) ? NGX_DECLINED : NGX_OK;

    ngx_memzero(addrs, sizeof(addrs));

    for (i = 0; i < n; i++) {
        ngx_memcpy(&addrs[i].sockaddr, ctx->addrs[i].sockaddr,
                   ctx->addrs[i].socklen);
        addrs[i].socklen = ctx->addrs[i].socklen;

        ngx_inet_set_port(&addrs[i].sockaddr.sockaddr, host->port);

        if (!ngx_http_llm_redis_host_has(host, &addrs[i])) {
            rc = NGX_OK;
        }
    }

    ngx_resolve_name_done(ctx);

    /* the resolver turns the list: what is the same keeps its order */

    if (rc == NGX_OK) {
        ngx_memcpy(host->addrs, addrs, sizeof(addrs));
        host->naddrs = n;
    }

    host->handler(host, rc);
}


void
ngx_http_llm_redis_host_cancel(ngx_http_llm_redis_host_t *host)
{
    if (host->ctx != NULL) {
        ngx_resolve_name_done(host->ctx);
        host->ctx = NULL;
    }
}


ngx_uint_t
ngx_http_llm_redis_host_has(ngx_http_llm_redis_host_t *host,
    ngx_http_llm_redis_addr_t *addr)
{
    ngx_uint_t                  i;
    ngx_http_llm_redis_addr_t  *own;

    for (i = 0; i < host->naddrs; i++) {
        own = &host->addrs[i];

        if (ngx_cmp_sockaddr(&own->sockaddr.sockaddr, own->socklen,
                             &addr->sockaddr.sockaddr, addr->socklen, 1)
            == NGX_OK)
        {
            return 1;
        }
    }

    return 0;
}
