
/*
 * Copyright (C) the ngx-llm authors
 *
 * Calls that this nginx makes to itself: a listener on a unix socket
 * (llm_internal) where a request is of the key that it names, and a small
 * client for it.  Such a call is a request as any other: it is admitted,
 * cached, tried again and counted as one.
 */


#ifndef _NGX_HTTP_LLM_LOOPBACK_H_INCLUDED_
#define _NGX_HTTP_LLM_LOOPBACK_H_INCLUDED_


#include "http/ngx_http_llm.h"

#include "core/llm_http.h"

#include <sys/un.h>


#define NGX_HTTP_LLM_LOOPBACK_SECRET  64    /* hex digits */
#define NGX_HTTP_LLM_LOOPBACK_HEAD    16384
#define NGX_HTTP_LLM_LOOPBACK_READ    32768


typedef struct ngx_http_llm_loopback_s  ngx_http_llm_loopback_t;


typedef enum {
    NGX_HTTP_LLM_LOOPBACK_OK = 0,
    NGX_HTTP_LLM_LOOPBACK_CONNECT,          /* nobody listens */
    NGX_HTTP_LLM_LOOPBACK_TIMEOUT,
    NGX_HTTP_LLM_LOOPBACK_BROKEN,           /* no whole answer came */
    NGX_HTTP_LLM_LOOPBACK_LARGE             /* … it is larger than "max" */
} ngx_http_llm_loopback_e;


struct ngx_http_llm_loopback_s {

    /* set by the caller, behind create() */

    ngx_str_t                   method;
    ngx_str_t                   uri;
    ngx_str_t                   key;        /* name of a key */
    ngx_chain_t                *body;       /* buffers in memory */
    size_t                      body_len;
    size_t                      max;        /* of the answer's body */
    ngx_msec_t                  timeout;    /* ms, of all */
    ngx_uint_t                  inside;     /* this worker answers itself */

    /*
     * Called once, when the answer is whole or when there will be none, and
     * not if the call is closed before; never from within start().  It may
     * close the call.
     */
    void                      (*handler)(ngx_http_llm_loopback_t *lb);

    /*
     * NULL: the body is collected.  Else called for each piece of it, which
     * is only lent, when the head is there; other than NGX_OK ends the call
     * as a broken one.  It must not close the call.
     */
    ngx_int_t                 (*part)(ngx_http_llm_loopback_t *lb,
                                      u_char *p, size_t len);

    void                       *data;

    /* for the handler */

    ngx_http_llm_loopback_e     result;
    ngx_uint_t                  status;     /* 0: no head */
    ngx_str_t                   answer;     /* collected; until close() */
    ngx_msec_t                  took;       /* ms since start() */

    /* its own */

    ngx_pool_t                 *pool;
    ngx_array_t                 headers;    /* of ngx_keyval_t */
    ngx_peer_connection_t       peer;
    ngx_chain_t                *out;
    ngx_event_t                 event;      /* timer, and a posted failure */
    ngx_msec_t                  since;
    size_t                      size;       /* of the answer's memory */
    llm_http_t                  http;
    unsigned                    sent:1;
    unsigned                    done:1;
    unsigned                    held:1;
};


/* a call that is to be made; NULL: no memory */
ngx_http_llm_loopback_t *ngx_http_llm_loopback_create(ngx_log_t *log);

/*
 * One more header for the request; the bytes must live until it is sent.
 * Values that are no header's are refused: NGX_DECLINED.
 */
ngx_int_t ngx_http_llm_loopback_header(ngx_http_llm_loopback_t *lb,
    ngx_str_t *name, ngx_str_t *value);

/* NGX_OK: the handler will be called; NGX_ERROR: no memory, it will not */
ngx_int_t ngx_http_llm_loopback_start(ngx_http_llm_loopback_t *lb);

/*
 * From part(): behind the pieces of this read (32 KB in all) nothing more is
 * read until go().  The time runs on.
 */
void ngx_http_llm_loopback_hold(ngx_http_llm_loopback_t *lb);
void ngx_http_llm_loopback_go(ngx_http_llm_loopback_t *lb);

/* a header of the answer by its lower-case name: NGX_OK or NGX_DECLINED */
ngx_int_t ngx_http_llm_loopback_find(ngx_http_llm_loopback_t *lb,
    const char *name, size_t len, ngx_str_t *value);

/* the end of a call, also of one under way, with all its memory */
void ngx_http_llm_loopback_close(ngx_http_llm_loopback_t *lb);


/* before the http block is read */
void ngx_http_llm_loopback_reset(void);

/* llm_internal unix:PATH */
char *ngx_http_llm_loopback_conf(ngx_conf_t *cf, ngx_str_t *url);

/*
 * Is there a gateway on the socket?  Else, or if the path is taken by
 * something that is no socket, an error that is logged.  What a dead nginx
 * left there is removed.
 */
ngx_int_t ngx_http_llm_loopback_check(ngx_conf_t *cf);

/* the listener is there: who may use it, and by what secret */
ngx_int_t ngx_http_llm_loopback_init_module(ngx_cycle_t *cycle);

/* while a configuration is read: does it have llm_internal? */
ngx_uint_t ngx_http_llm_loopback_configured(void);

/* in a worker, while its listeners are open: where inside() leads */
void ngx_http_llm_loopback_init_process(ngx_cycle_t *cycle);

/* a connection to the listener within this worker, without it being open */
ngx_int_t ngx_http_llm_loopback_inside(ngx_peer_connection_t *pc);

/* where the listener is, NULL: nowhere; and what opens it */
struct sockaddr_un *ngx_http_llm_loopback_address(void);
ngx_str_t *ngx_http_llm_loopback_secret(void);

/*
 * NGX_DECLINED: the request did not come in by the internal listener.
 * NGX_OK: it did, with the secret, and is of the key with that name.
 * NGX_ERROR: it did without.
 */
ngx_int_t ngx_http_llm_loopback_key(ngx_http_request_t *r, ngx_str_t *name);

/* of such a request (NGX_OK): is it in the background of others? */
ngx_uint_t ngx_http_llm_loopback_background(ngx_http_request_t *r);


#endif /* _NGX_HTTP_LLM_LOOPBACK_H_INCLUDED_ */
