
/*
 * Copyright (C) the ngx-llm authors
 *
 * What the files of an outcall share.
 */


#ifndef _NGX_HTTP_LLM_OUTCALL_PRIVATE_H_INCLUDED_
#define _NGX_HTTP_LLM_OUTCALL_PRIVATE_H_INCLUDED_


#include "http/ngx_http_llm_outcall.h"


struct ngx_http_llm_outcall_conf_s {
    ngx_resolver_t             *resolver;
#if (NGX_SSL)
    ngx_ssl_t                   ssl;
#endif
};


/* of this worker's configuration; NULL: none */
ngx_http_llm_outcall_conf_t *ngx_http_llm_outcall_conf(void);


/* _address.c: oc->addrs from the URL or the resolver, all of them checked */

/* NGX_OK: they are there; NGX_AGAIN: addressed() will be called; NGX_ERROR:
   none, oc->result says why */
ngx_int_t ngx_http_llm_outcall_address(ngx_http_llm_outcall_t *oc);

/* the end of a look-up: NGX_OK or NGX_ERROR; it may end the call */
void ngx_http_llm_outcall_addressed(ngx_http_llm_outcall_t *oc, ngx_int_t rc);


/* _tls.c */

/* a handshake on the new connection; trusted() will be called, maybe now */
void ngx_http_llm_outcall_tls(ngx_http_llm_outcall_t *oc);

/* NGX_OK, or NGX_ERROR: oc->why says why not; it may end the call */
void ngx_http_llm_outcall_trusted(ngx_http_llm_outcall_t *oc, ngx_int_t rc);

ngx_int_t ngx_http_llm_outcall_tls_conf(ngx_conf_t *cf,
    ngx_http_llm_outcall_conf_t *conf);


#endif /* _NGX_HTTP_LLM_OUTCALL_PRIVATE_H_INCLUDED_ */
