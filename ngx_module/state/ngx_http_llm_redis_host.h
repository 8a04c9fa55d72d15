
/*
 * Copyright (C) the ngx-llm authors
 *
 * A host that the Redis client may connect to: its name, its addresses, and
 * how these are learned anew without blocking the worker.
 */


#ifndef _NGX_HTTP_LLM_REDIS_HOST_H_INCLUDED_
#define _NGX_HTTP_LLM_REDIS_HOST_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/* more addresses of a name are left out */
#define NGX_HTTP_LLM_REDIS_ADDRS  8


typedef struct {
    ngx_sockaddr_t                  sockaddr;
    socklen_t                       socklen;
} ngx_http_llm_redis_addr_t;


typedef struct ngx_http_llm_redis_host_s  ngx_http_llm_redis_host_t;

/*
 * The end of a resolve.  NGX_OK: the addresses are other ones than before;
 * NGX_DECLINED: they are the same; NGX_ERROR: they stay, the name could not
 * be resolved
 */
typedef void (*ngx_http_llm_redis_host_pt)(ngx_http_llm_redis_host_t *host,
    ngx_int_t rc);

struct ngx_http_llm_redis_host_s {
    ngx_str_t                       name;
    in_port_t                       port;
    ngx_uint_t                      naddrs;
    ngx_http_llm_redis_addr_t       addrs[NGX_HTTP_LLM_REDIS_ADDRS];

    ngx_resolver_ctx_t             *ctx;        /* being resolved */
    ngx_http_llm_redis_host_pt      handler;
    void                           *data;

    unsigned                        by_name:1;
};


/* configuration time: takes over what ngx_parse_url() has found */
void ngx_http_llm_redis_host_init(ngx_http_llm_redis_host_t *host,
    ngx_url_t *url);

/*
 * From an answer of a server.  The text is not copied.  NGX_OK: an address;
 * NGX_DECLINED: a name, without addresses as yet
 */
ngx_int_t ngx_http_llm_redis_host_set(ngx_http_llm_redis_host_t *host,
    ngx_str_t *text, in_port_t port);

/*
 * NGX_OK: the handler is called, at once or later.  NGX_DECLINED: there is no
 * resolver.  NGX_ERROR: no memory.  A resolve under way is gone on with.
 */
ngx_int_t ngx_http_llm_redis_host_resolve(ngx_http_llm_redis_host_t *host,
    ngx_resolver_t *resolver, ngx_msec_t timeout);

/* the handler is not called any more */
void ngx_http_llm_redis_host_cancel(ngx_http_llm_redis_host_t *host);

/* 1: it is one of the host's addresses */
ngx_uint_t ngx_http_llm_redis_host_has(ngx_http_llm_redis_host_t *host,
    ngx_http_llm_redis_addr_t *addr);


#endif /* _NGX_HTTP_LLM_REDIS_HOST_H_INCLUDED_ */
