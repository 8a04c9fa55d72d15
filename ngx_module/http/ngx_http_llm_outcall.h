
/*
 * Copyright (C) the ngx-llm authors
 *
 * Calls to hosts that clients have named (webhooks): one POST on a connection
 * of its own.  The host is looked up once, each of its addresses must be of
 * the public internet, and the connection goes to an address that was looked
 * at; nothing that the answer says leads anywhere else.
 */


#ifndef _NGX_HTTP_LLM_OUTCALL_H_INCLUDED_
#define _NGX_HTTP_LLM_OUTCALL_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "core/llm_http.h"
#include "core/llm_url.h"


#define NGX_HTTP_LLM_OUTCALL_HEAD      16384    /* of an answer */
#define NGX_HTTP_LLM_OUTCALL_BODY      65536    /* read, and dropped */
#define NGX_HTTP_LLM_OUTCALL_ADDRS     8        /* tried, at most */
#define NGX_HTTP_LLM_OUTCALL_TIMEOUT   10000    /* ms, of all */
#define NGX_HTTP_LLM_OUTCALL_CONNECT   4000     /* … of one address, and of
                                                   the name server */


typedef struct ngx_http_llm_outcall_s       ngx_http_llm_outcall_t;
typedef struct ngx_http_llm_outcall_conf_s  ngx_http_llm_outcall_conf_t;


typedef enum {
    NGX_HTTP_LLM_OUTCALL_OK = 0,            /* an answer; see the status */
    NGX_HTTP_LLM_OUTCALL_NAME,              /* the host is not found */
    NGX_HTTP_LLM_OUTCALL_REFUSED,           /* it has an address that is not
                                               to be called */
    NGX_HTTP_LLM_OUTCALL_UNREACHABLE,       /* no connection */
    NGX_HTTP_LLM_OUTCALL_TLS,               /* … that is to be trusted */
    NGX_HTTP_LLM_OUTCALL_LATE,
    NGX_HTTP_LLM_OUTCALL_BROKEN             /* the answer is none */
} ngx_http_llm_outcall_e;


struct ngx_http_llm_outcall_s {

    /* set by the caller, behind create(); bytes must live until the end */

    ngx_str_t                   body;
    ngx_uint_t                  named;      /* the configuration names this
                                               very address and port, which
                                               may then be a private one */

    /*
     * Called once, when there is an answer or there will be none, never from
     * within start(), and not if the call is closed before.  It may close
     * the call.
     */
    void                      (*handler)(ngx_http_llm_outcall_t *oc);
    void                       *data;

    /* for the handler */

    ngx_http_llm_outcall_e      result;
    ngx_uint_t                  status;
    const char                 *why;        /* of a failure, for the log */
    llm_url_t                   url;

    /* its own */

    ngx_pool_t                 *pool;
    ngx_array_t                 headers;    /* of ngx_keyval_t */
    ngx_http_llm_outcall_conf_t  *conf;
    ngx_str_t                   host;       /* with a zero behind it */
    ngx_resolver_ctx_t         *resolve;
    ngx_addr_t                  addrs[NGX_HTTP_LLM_OUTCALL_ADDRS];
    ngx_uint_t                  naddrs;
    ngx_uint_t                  next;
    ngx_peer_connection_t       peer;
    ngx_buf_t                  *request;
    ngx_chain_t                *out;
    ngx_event_t                 event;      /* the time of all; its start */
    size_t                      dropped;    /* of the answer's body */
    llm_http_t                  http;
    unsigned                    started:1;
    unsigned                    connected:1;
    unsigned                    done:1;
};


/*
 * At the end of http{}, for a configuration that makes such calls: NGX_OK, or
 * NGX_ERROR, which is logged, if it has no resolver.  Certificates are checked
 * by the system's authorities, or by those of SSL_CERT_FILE, SSL_CERT_DIR.
 */
ngx_int_t ngx_http_llm_outcall_check(ngx_conf_t *cf);

/* a call that is to be made; the URL is copied; NULL: no memory */
ngx_http_llm_outcall_t *ngx_http_llm_outcall_create(ngx_str_t *url,
    ngx_log_t *log);

/* one more header; name and value must be fit for one */
ngx_int_t ngx_http_llm_outcall_header(ngx_http_llm_outcall_t *oc,
    const char *name, ngx_str_t *value);

/*
 * NGX_OK: the handler will be called.  It will not: NGX_DECLINED: that is no
 * URL, or the configuration makes no calls; NGX_ERROR: no memory.
 */
ngx_int_t ngx_http_llm_outcall_start(ngx_http_llm_outcall_t *oc);

/* the end of a call, also of one under way, with all its memory */
void ngx_http_llm_outcall_close(ngx_http_llm_outcall_t *oc);


#endif /* _NGX_HTTP_LLM_OUTCALL_H_INCLUDED_ */
