
/*
 * Copyright (C) the ngx-llm authors
 *
 * What the parts of "llm_resolve" share: resolve (directive, lookups) and
 * resolve_peer (which address a connection goes to).
 */


#ifndef _NGX_HTTP_LLM_RESOLVE_PRIVATE_H_INCLUDED_
#define _NGX_HTTP_LLM_RESOLVE_PRIVATE_H_INCLUDED_


#include "upstream/ngx_http_llm_resolve.h"


typedef struct ngx_http_llm_resolve_s  ngx_http_llm_resolve_t;


typedef enum {
    NGX_HTTP_LLM_RESOLVE_FREE = 0,
    NGX_HTTP_LLM_RESOLVE_LIVE,
    NGX_HTTP_LLM_RESOLVE_OLD,          /* live, not in the answer so far */
    NGX_HTTP_LLM_RESOLVE_GONE          /* connections may be left */
} ngx_http_llm_resolve_e;


typedef struct {
    ngx_http_llm_resolve_e        state;
    ngx_uint_t                    refs;          /* attempts */
    ngx_sockaddr_t                sockaddr;
    socklen_t                     socklen;
    ngx_str_t                     name;          /* in "text" */
    u_char                        text[NGX_SOCKADDR_STRLEN];
    void                         *session;       /* SSL_SESSION */
} ngx_http_llm_resolve_addr_t;


/* one llm_resolve; its addresses are each worker's own */

typedef struct {
    ngx_http_llm_resolve_t       *resolve;
    ngx_str_t                     host;
    in_port_t                     port;
    time_t                        valid;         /* 0: the answer's TTL */
    ngx_uint_t                    ipv6;
    ngx_uint_t                    max;
    ngx_uint_t                    literal;       /* unsigned  literal:1; */
    ngx_resolver_addr_t          *start;         /* what the master found */
    ngx_uint_t                    nstart;
    ngx_http_llm_resolve_addr_t  *addrs;         /* 2 * max */
    ngx_resolver_ctx_t           *ctx;           /* being looked up */
    ngx_event_t                   event;
    ngx_uint_t                    failures;      /* in a row */
} ngx_http_llm_resolve_name_t;


/* an upstream */

struct ngx_http_llm_resolve_s {
    ngx_str_t                    *upstream;
    ngx_array_t                   names;   /* of ..._resolve_name_t * */
    ngx_resolver_t               *resolver;
    ngx_msec_t                    timeout;
    ngx_http_llm_resolve_addr_t **live;
    ngx_uint_t                    nlive;
    ngx_uint_t                    next;
};


/*
 * The addresses of a name are now these, with the name's port; what they have
 * that the name had stays.  Returns how many can be used; with 0 all is left
 * as it was.
 */
ngx_uint_t ngx_http_llm_resolve_adopt(ngx_http_llm_resolve_name_t *name,
    ngx_resolver_addr_t *addrs, ngx_uint_t n);

/* peer.init of the upstream, whose peer.data is the ngx_http_llm_resolve_t */
ngx_int_t ngx_http_llm_resolve_peer_init(ngx_http_request_t *r,
    ngx_http_upstream_srv_conf_t *us);

/* forgets the TLS session that is kept for an address */
void ngx_http_llm_resolve_forget(ngx_http_llm_resolve_addr_t *addr);


#endif /* _NGX_HTTP_LLM_RESOLVE_PRIVATE_H_INCLUDED_ */
