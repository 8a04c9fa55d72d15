
/*
 * Copyright (C) the ngx-llm authors
 *
 * Queries: first the gateway's own rows, in slices, then those of the others
 * from Redis.  If Redis fails, the own ones alone are the answer.
 */


#include "policy/ngx_http_llm_usage.h"
#include "policy/ngx_http_llm_usage_private.h"
#include "http/ngx_http_llm_arena.h"


#define NGX_HTTP_LLM_USAGE_ROWS    400         /* under one lock: 100 us */
#define NGX_HTTP_LLM_USAGE_MEMORY  ((size_t) 256 * 1024 * 1024)


static void ngx_http_llm_usage_own(ngx_event_t *ev);
static void ngx_http_llm_usage_span(ngx_http_llm_usage_query_t *q);
static void ngx_http_llm_usage_answer(ngx_http_llm_usage_query_t *q,
    ngx_uint_t fleet);
static void ngx_http_llm_usage_gone(void *data);
static void ngx_http_llm_usage_free(ngx_http_llm_usage_query_t *q);


/* periods that are asked for, by kind */

static const uint32_t  ngx_http_llm_usage_keep[LLM_BOOK_KINDS] = {
    0, 0, 92 * 24, 64, 26
};


ngx_http_llm_usage_query_t *
ngx_http_llm_usage_query(ngx_http_llm_main_conf_t *mcf, ngx_pool_t *pool,
    const llm_book_query_t *query, ngx_uint_t max, ngx_uint_t own,
    ngx_http_llm_usage_handler_pt handler, void *data)
{
    ngx_pool_t                  *p;
    ngx_pool_cleanup_t          *cln;
    ngx_http_llm_usage_query_t  *q;

    cln = ngx_pool_cleanup_add(pool, 0);
    if (cln == NULL) {
        return NULL;
    }

    p = ngx_create_pool(NGX_DEFAULT_POOL_SIZE, ngx_cycle->log);
    if (p == NULL) {
        return NULL;
    }

    q = ngx_pcalloc(p, sizeof(ngx_http_llm_usage_query_t));
    if (q == NULL) {
        goto failed;
    }

    q->pool = p;
    q->mcf = mcf;
    q->query = *query;
    q->handler = handler;
    q->data = data;

    q->arena.left = NGX_HTTP_LLM_USAGE_MEMORY;
    q->arena.alloc = ngx_http_llm_arena_alloc;
    q->arena.data = p;

    q->rs = llm_book_result_create(&q->query, max ? (unsigned) max
                                                  : LLM_BOOK_GROUPS,
                                   &q->arena);
    if (q->rs == NULL) {
        goto failed;
    }

    ngx_queue_init(&q->shards);

    q->fleet = !own && mcf->redis && query->kind >= LLM_BOOK_HOUR
               && ngx_http_llm_redis_connected(mcf->redis);

    q->event.handler = ngx_http_llm_usage_own;
    q->event.data = q;
    q->event.log = ngx_cycle->log;

    q->cleanup = cln;
    cln->handler = ngx_http_llm_usage_gone;
    cln->data = q;

    ngx_post_event(&q->event, &ngx_posted_next_events);

    return q;

failed:

    ngx_destroy_pool(p);

    return NULL;
}


/*
 * Of a period of which rows had to go, Redis knows more than the memory does:
 * then it is asked for all of it.
 */

static void
ngx_http_llm_usage_own(ngx_event_t *ev)
{
    llm_book_t                  *bk;
    ngx_http_llm_usage_query_t  *q;

    q = ev->data;

    bk = q->cursor == 0 ? ngx_http_llm_book_read(q->mcf->book)
                        : ngx_http_llm_book_lock(q->mcf->book);

    if (q->cursor == 0 && q->fleet) {
        q->after = llm_book_lost(bk, q->query.kind);
    }

    q->rc = llm_book_result_rows(bk, q->rs, q->after, &q->cursor,
                                 NGX_HTTP_LLM_USAGE_ROWS);

    ngx_http_llm_book_unlock(q->mcf->book);

    if (q->rc == LLM_AGAIN) {
        ngx_post_event(ev, &ngx_posted_next_events);
        return;
    }

    if (q->rc != LLM_OK || !q->fleet) {
        ngx_http_llm_usage_answer(q, 0);
        return;
    }

    ngx_http_llm_usage_span(q);

    q->asking = 1;

    ngx_http_llm_usage_ask(q);
}


/* the periods of which Redis may know anything */

static void
ngx_http_llm_usage_span(ngx_http_llm_usage_query_t *q)
{
    uint32_t            now;
    llm_book_query_t   *query;

    query = &q->query;

    q->period = llm_book_period(query->kind, query->from);
    q->last = query->to > 0 ? llm_book_period(query->kind, query->to - 1) : 0;

    now = llm_book_period(query->kind, ngx_time()) + 1;

    q->last = ngx_min(q->last, now);

    if (now > ngx_http_llm_usage_keep[query->kind]) {
        q->period = ngx_max(q->period,
                            now - ngx_http_llm_usage_keep[query->kind]);
    }
}


void
ngx_http_llm_usage_told(ngx_http_llm_usage_query_t *q)
{
    q->asking = 0;

    if (q->cancelled) {
        ngx_http_llm_usage_free(q);
        return;
    }

    if (!q->failed || q->rc != LLM_OK) {
        ngx_http_llm_usage_answer(q, 1);
        return;
    }

    ngx_log_debug0(NGX_LOG_DEBUG_HTTP, ngx_cycle->log, 0,
                   "llm usage: Redis failed, own rows only");

    q->fleet = 0;
    q->after = 0;
    q->cursor = 0;

    llm_book_result_clear(q->rs);

    ngx_post_event(&q->event, &ngx_posted_next_events);
}


static void
ngx_http_llm_usage_answer(ngx_http_llm_usage_query_t *q, ngx_uint_t fleet)
{
    ngx_http_llm_usage_answer_t  answer;

    answer.rc = q->rc;
    answer.rs = q->rs;
    answer.fleet = fleet;

    q->cleanup->handler = NULL;

    q->handler(q->data, &answer);

    ngx_http_llm_usage_free(q);
}


static void
ngx_http_llm_usage_gone(void *data)
{
    ngx_http_llm_usage_query_t  *q = data;

    if (q->busy || q->asking) {
        q->cancelled = 1;
        return;
    }

    ngx_http_llm_usage_free(q);
}


static void
ngx_http_llm_usage_free(ngx_http_llm_usage_query_t *q)
{
    if (q->event.posted) {
        ngx_delete_posted_event(&q->event);
    }

    ngx_destroy_pool(q->pool);
}
