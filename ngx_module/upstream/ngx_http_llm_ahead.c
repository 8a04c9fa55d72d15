
/*
 * Copyright (C) the ngx-llm authors
 */


#include "upstream/ngx_http_llm_ahead.h"


/* of a cache; where it is another, some lines are asked for twice or not */

#define NGX_HTTP_LLM_LINE  64


/* from a member to the end */

#define ngx_http_llm_ahead_from(s, member)                                    \
    ngx_http_llm_ahead_fetch(&(s)->member,                                    \
                             (u_char *) ((s) + 1) - (u_char *) &(s)->member)


static void ngx_http_llm_ahead_read(ngx_http_request_t *sr,
    ngx_http_upstream_t *u);
static ngx_inline void ngx_http_llm_ahead_fetch(void *start, size_t size);


void
ngx_http_llm_ahead(ngx_http_llm_attempt_t *at)
{
    ngx_http_upstream_t  *u;

    u = at->sr->upstream;

    if (u->buffering || u->read_event_handler == ngx_http_llm_ahead_read) {
        return;
    }

    at->read = u->read_event_handler;
    u->read_event_handler = ngx_http_llm_ahead_read;
}


/* nothing here waits for memory but for the pointers themselves */

static void
ngx_http_llm_ahead_read(ngx_http_request_t *sr, ngx_http_upstream_t *u)
{
    ngx_connection_t        *c;
    ngx_http_request_t      *r;
    ngx_http_llm_ctx_t      *ctx;
    ngx_http_llm_attempt_t  *at;

    at = sr->post_subrequest->data;
    r = sr->main;
    c = sr->connection;

    ngx_http_llm_ahead_from(at, text);
    ngx_http_llm_ahead_fetch(r, offsetof(ngx_http_request_t, header_in));
    ngx_http_llm_ahead_from(r, out);
    ngx_http_llm_ahead_fetch(c, sizeof(ngx_connection_t));

    ctx = at->ctx;

    ngx_http_llm_ahead_from(ctx, request);
    ngx_http_llm_ahead_fetch(c->write, sizeof(ngx_event_t));

    at->read(sr, u);
}


static ngx_inline void
ngx_http_llm_ahead_fetch(void *start, size_t size)
{
    u_char  *p;

    for (p = start; p < (u_char *) start + size; p += NGX_HTTP_LLM_LINE) {
        __builtin_prefetch(p);
    }

    __builtin_prefetch((u_char *) start + size - 1);
}
