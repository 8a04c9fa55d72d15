
/*
 * Copyright (C) the ngx-llm authors
 *
 * Where a call goes.  What is connected to are the addresses that were
 * checked here, so a name that is looked up again, with another answer,
 * changes nothing.  One address that must not be called refuses all of a
 * name's: no honest name has both kinds.
 */


#include "http/ngx_http_llm_outcall_private.h"


static void ngx_http_llm_outcall_resolved(ngx_resolver_ctx_t *ctx);
static ngx_int_t ngx_http_llm_outcall_literal(ngx_http_llm_outcall_t *oc);
static ngx_int_t ngx_http_llm_outcall_public(struct sockaddr *sa);
static ngx_int_t ngx_http_llm_outcall_add(ngx_http_llm_outcall_t *oc,
    struct sockaddr *sa, socklen_t socklen);
static ngx_int_t ngx_http_llm_outcall_no(ngx_http_llm_outcall_t *oc,
    ngx_http_llm_outcall_e result, const char *why);


ngx_int_t
ngx_http_llm_outcall_address(ngx_http_llm_outcall_t *oc)
{
    ngx_resolver_ctx_t  *ctx;

    if (oc->url.address.len) {
        return ngx_http_llm_outcall_literal(oc);
    }

    ctx = ngx_resolve_start(oc->conf->resolver, NULL);

    if (ctx == NULL || ctx == NGX_NO_RESOLVER) {
        return ngx_http_llm_outcall_no(oc, NGX_HTTP_LLM_OUTCALL_NAME,
                                       "no resolver");
    }

    ctx->name = oc->host;
    ctx->handler = ngx_http_llm_outcall_resolved;
    ctx->data = oc;
    ctx->timeout = NGX_HTTP_LLM_OUTCALL_CONNECT;

    oc->resolve = ctx;

    /* it may be there at once, and the call may be over then */

    if (ngx_resolve_name(ctx) != NGX_OK) {
        oc->resolve = NULL;
        return ngx_http_llm_outcall_no(oc, NGX_HTTP_LLM_OUTCALL_NAME,
                                       "no memory");
    }

    return NGX_AGAIN;
}


static void
ngx_http_llm_outcall_resolved(ngx_resolver_ctx_t *ctx)
{
    ngx_int_t                rc;
    ngx_uint_t               i;
    ngx_http_llm_outcall_t  *oc;

    oc = ctx->data;
    oc->resolve = NULL;

    if (ctx->state != NGX_OK || ctx->naddrs == 0) {
        rc = ngx_http_llm_outcall_no(oc, NGX_HTTP_LLM_OUTCALL_NAME,
                             ctx->state == NGX_OK ? "no address"
                             : ngx_resolver_strerror(ctx->state));
        goto done;
    }

    for (i = 0; i < ctx->naddrs; i++) {
        if (ngx_http_llm_outcall_public(ctx->addrs[i].sockaddr) != NGX_OK) {
            rc = ngx_http_llm_outcall_no(oc, NGX_HTTP_LLM_OUTCALL_REFUSED,
                                         "its address is not public");
            goto done;
        }
    }

    rc = NGX_OK;

    for (i = 0; i < ctx->naddrs && rc == NGX_OK; i++) {
        rc = ngx_http_llm_outcall_add(oc, ctx->addrs[i].sockaddr,
                                      ctx->addrs[i].socklen);
    }

done:

    ngx_log_debug3(NGX_LOG_DEBUG_HTTP, oc->pool->log, 0,
                   "llm outcall \"%V\" resolved: %i, addresses: %ui",
                   &oc->host, rc, ctx->naddrs);

    ngx_resolve_name_done(ctx);

    ngx_http_llm_outcall_addressed(oc, rc);
}


static ngx_int_t
ngx_http_llm_outcall_literal(ngx_http_llm_outcall_t *oc)
{
    llm_address_t        *a;
    struct sockaddr_in    sin;
#if (NGX_HAVE_INET6)
    struct sockaddr_in6   sin6;
#endif

    a = &oc->url.address;

    if (!oc->named && !llm_address_public(a->bytes, a->len)) {
        return ngx_http_llm_outcall_no(oc, NGX_HTTP_LLM_OUTCALL_REFUSED,
                                       "the address is not public");
    }

    if (a->len == 4) {
        ngx_memzero(&sin, sizeof(struct sockaddr_in));
        sin.sin_family = AF_INET;
        ngx_memcpy(&sin.sin_addr, a->bytes, 4);

        return ngx_http_llm_outcall_add(oc, (struct sockaddr *) &sin,
                                        sizeof(struct sockaddr_in));
    }

#if (NGX_HAVE_INET6)
    ngx_memzero(&sin6, sizeof(struct sockaddr_in6));
    sin6.sin6_family = AF_INET6;
    ngx_memcpy(&sin6.sin6_addr, a->bytes, 16);

    return ngx_http_llm_outcall_add(oc, (struct sockaddr *) &sin6,
                                    sizeof(struct sockaddr_in6));
#else
    return ngx_http_llm_outcall_no(oc, NGX_HTTP_LLM_OUTCALL_UNREACHABLE,
                                   "no IPv6");
#endif
}


static ngx_int_t
ngx_http_llm_outcall_public(struct sockaddr *sa)
{
    u_char  *bytes;
    size_t   len;

    switch (sa->sa_family) {

    case AF_INET:
        bytes = (u_char *) &((struct sockaddr_in *) sa)->sin_addr;
        len = 4;
        break;

#if (NGX_HAVE_INET6)
    case AF_INET6:
        bytes = (u_char *) &((struct sockaddr_in6 *) sa)->sin6_addr;
        len = 16;
        break;
#endif

    default:
        return NGX_DECLINED;
    }

    return llm_address_public(bytes, len) ? NGX_OK : NGX_DECLINED;
}


static ngx_int_t
ngx_http_llm_outcall_add(ngx_http_llm_outcall_t *oc, struct sockaddr *sa,
    socklen_t socklen)
{
    u_char      *text;
    ngx_addr_t  *addr;

    if (oc->naddrs == NGX_HTTP_LLM_OUTCALL_ADDRS) {
        return NGX_OK;
    }

    addr = &oc->addrs[oc->naddrs];

    addr->sockaddr = ngx_palloc(oc->pool, socklen);
    text = ngx_pnalloc(oc->pool, NGX_SOCKADDR_STRLEN);

    if (addr->sockaddr == NULL || text == NULL) {
        return ngx_http_llm_outcall_no(oc, NGX_HTTP_LLM_OUTCALL_UNREACHABLE,
                                       "no memory");
    }

    ngx_memcpy(addr->sockaddr, sa, socklen);
    addr->socklen = socklen;

    ngx_inet_set_port(addr->sockaddr, (in_port_t) oc->url.port);

    addr->name.data = text;
    addr->name.len = ngx_sock_ntop(addr->sockaddr, socklen, text,
                                   NGX_SOCKADDR_STRLEN, 1);
    oc->naddrs++;

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_outcall_no(ngx_http_llm_outcall_t *oc,
    ngx_http_llm_outcall_e result, const char *why)
{
    oc->result = result;
    oc->why = why;

    return NGX_ERROR;
}
