
/*
 * Copyright (C) the ngx-llm authors
 *
 * What other gateways wrote: for each period the set of who did, then each of
 * their hashes; some commands at a time.
 */


#include "policy/ngx_http_llm_usage.h"
#include "policy/ngx_http_llm_usage_private.h"


#define NGX_HTTP_LLM_USAGE_BUSY  16            /* commands on their way */


/* a period whose set is asked for, or one hash of it */

typedef struct {
    ngx_http_llm_usage_query_t  *q;
    ngx_queue_t                  queue;
    uint32_t                     period;
    ngx_str_t                    member;       /* empty: the set */
} ngx_http_llm_usage_shard_t;


static ngx_int_t ngx_http_llm_usage_send(ngx_http_llm_usage_query_t *q,
    ngx_http_llm_usage_shard_t *sd);
static ngx_http_llm_usage_shard_t *ngx_http_llm_usage_next(
    ngx_http_llm_usage_query_t *q);
static void ngx_http_llm_usage_set(void *data,
    ngx_http_llm_redis_reply_t *reply);
static ngx_int_t ngx_http_llm_usage_member(ngx_http_llm_usage_query_t *q,
    uint32_t period, ngx_str_t *member);
static void ngx_http_llm_usage_hash(void *data,
    ngx_http_llm_redis_reply_t *reply);
static ngx_int_t ngx_http_llm_usage_field(ngx_http_llm_usage_query_t *q,
    uint32_t period, ngx_str_t *field, ngx_str_t *value);


const u_char  ngx_http_llm_usage_letter[LLM_BOOK_KINDS] = {
    0, 0, 'h', 'd', 'm'
};


void
ngx_http_llm_usage_index_key(llm_book_kind_e kind, int64_t start,
    ngx_str_t *key, u_char *p)
{
    key->data = p;
    key->len = ngx_snprintf(p, NGX_HTTP_LLM_USAGE_KEY, "{llm}:u:%c:%L",
                            ngx_http_llm_usage_letter[kind], start)
               - p;
}


/* "member" is EPOCH:SHARD */

void
ngx_http_llm_usage_hash_key(llm_book_kind_e kind, int64_t start,
    ngx_str_t *member, ngx_str_t *key, u_char *p)
{
    key->data = p;
    key->len = ngx_snprintf(p, NGX_HTTP_LLM_USAGE_KEY,
                            "{llm}:u:%*s:%c:%L%*s",
                            (size_t) NGX_HTTP_LLM_USAGE_EPOCH, member->data,
                            ngx_http_llm_usage_letter[kind], start,
                            member->len - NGX_HTTP_LLM_USAGE_EPOCH,
                            member->data + NGX_HTTP_LLM_USAGE_EPOCH)
               - p;
}


void
ngx_http_llm_usage_ask(ngx_http_llm_usage_query_t *q)
{
    ngx_http_llm_usage_shard_t  *sd;

    while (!q->cancelled && !q->failed && q->rc == LLM_OK
           && q->busy < NGX_HTTP_LLM_USAGE_BUSY)
    {
        sd = ngx_http_llm_usage_next(q);
        if (sd == NULL) {
            break;
        }

        if (ngx_http_llm_usage_send(q, sd) != NGX_OK) {
            q->failed = 1;
        }
    }

    if (q->busy == 0) {
        ngx_http_llm_usage_told(q);
    }
}


/* hashes first, so that few wait */

static ngx_http_llm_usage_shard_t *
ngx_http_llm_usage_next(ngx_http_llm_usage_query_t *q)
{
    ngx_queue_t                 *link;
    ngx_http_llm_usage_shard_t  *sd;

    if (!ngx_queue_empty(&q->shards)) {
        link = ngx_queue_head(&q->shards);
        ngx_queue_remove(link);

        return ngx_queue_data(link, ngx_http_llm_usage_shard_t, queue);
    }

    if (q->period > q->last) {
        return NULL;
    }

    sd = ngx_pcalloc(q->pool, sizeof(ngx_http_llm_usage_shard_t));

    if (sd == NULL) {
        q->rc = LLM_ERROR;
        return NULL;
    }

    sd->q = q;
    sd->period = q->period++;

    return sd;
}


static ngx_int_t
ngx_http_llm_usage_send(ngx_http_llm_usage_query_t *q,
    ngx_http_llm_usage_shard_t *sd)
{
    u_char     key[NGX_HTTP_LLM_USAGE_KEY];
    int64_t    start;
    ngx_str_t  argv[2];

    start = llm_book_start(q->query.kind, sd->period);

    if (sd->member.len) {
        ngx_str_set(&argv[0], "HGETALL");
        ngx_http_llm_usage_hash_key(q->query.kind, start, &sd->member,
                                    &argv[1], key);
    } else {
        ngx_str_set(&argv[0], "SMEMBERS");
        ngx_http_llm_usage_index_key(q->query.kind, start, &argv[1], key);
    }

    if (ngx_http_llm_redis_command(q->mcf->redis, 2, argv, 0,
                                   sd->member.len ? ngx_http_llm_usage_hash
                                                  : ngx_http_llm_usage_set,
                                   sd)
        == NULL)
    {
        return NGX_DECLINED;
    }

    q->busy++;

    return NGX_OK;
}


static void
ngx_http_llm_usage_set(void *data, ngx_http_llm_redis_reply_t *reply)
{
    ngx_http_llm_usage_shard_t *sd = data;

    ngx_uint_t                   i;
    ngx_http_llm_redis_reply_t   member;
    ngx_http_llm_usage_query_t  *q;

    q = sd->q;
    q->busy--;

    if (reply->type != NGX_HTTP_LLM_REDIS_ARRAY) {
        q->failed = 1;
    }

    for (i = 0; !q->failed && i < reply->nelts; i++) {

        if (ngx_http_llm_redis_element(reply, i, &member) != NGX_OK
            || member.type != NGX_HTTP_LLM_REDIS_STRING)
        {
            q->failed = 1;

        } else if (ngx_http_llm_usage_member(q, sd->period, &member.str)
                   != NGX_OK)
        {
            q->rc = LLM_ERROR;
        }
    }

    ngx_http_llm_usage_ask(q);
}


/* what this gateway wrote it knows itself, unless it has forgotten */

static ngx_int_t
ngx_http_llm_usage_member(ngx_http_llm_usage_query_t *q, uint32_t period,
    ngx_str_t *member)
{
    u_char                       epoch[NGX_HTTP_LLM_USAGE_EPOCH + 1];
    ngx_http_llm_usage_shard_t  *sd;

    (void) ngx_sprintf(epoch, "%016xL",
                       ngx_http_llm_book_epoch(q->mcf->book));

    if (member->len <= NGX_HTTP_LLM_USAGE_EPOCH
        || member->len > NGX_HTTP_LLM_USAGE_EPOCH + 16)
    {
        return NGX_OK;
    }

    if (period > q->after
        && ngx_memcmp(member->data, epoch, NGX_HTTP_LLM_USAGE_EPOCH) == 0)
    {
        return NGX_OK;
    }

    sd = ngx_pcalloc(q->pool, sizeof(ngx_http_llm_usage_shard_t));
    if (sd == NULL) {
        return NGX_ERROR;
    }

    sd->q = q;
    sd->period = period;
    sd->member.len = member->len;
    sd->member.data = ngx_pstrdup(q->pool, member);

    if (sd->member.data == NULL) {
        return NGX_ERROR;
    }

    ngx_queue_insert_tail(&q->shards, &sd->queue);

    return NGX_OK;
}


static void
ngx_http_llm_usage_hash(void *data, ngx_http_llm_redis_reply_t *reply)
{
    ngx_http_llm_usage_shard_t *sd = data;

    ngx_uint_t                   i;
    ngx_http_llm_redis_reply_t   field, value;
    ngx_http_llm_usage_query_t  *q;

    q = sd->q;
    q->busy--;

    if (reply->type != NGX_HTTP_LLM_REDIS_ARRAY) {
        q->failed = 1;
    }

    for (i = 0;
         !q->failed && !q->cancelled && q->rc == LLM_OK
         && i + 1 < reply->nelts;
         i += 2)
    {
        if (ngx_http_llm_redis_element(reply, i, &field) != NGX_OK
            || ngx_http_llm_redis_element(reply, i + 1, &value) != NGX_OK
            || ngx_http_llm_usage_field(q, sd->period, &field.str, &value.str)
               != NGX_OK)
        {
            q->failed = 1;
        }
    }

    ngx_http_llm_usage_ask(q);
}


static ngx_int_t
ngx_http_llm_usage_field(ngx_http_llm_usage_query_t *q, uint32_t period,
    ngx_str_t *field, ngx_str_t *value)
{
    u_char           *p;
    llm_str_t         names, sums, name[LLM_BOOK_NAMES];
    llm_book_sums_t   s;

    /* the number of the row is there to tell it from others */

    p = ngx_strlchr(field->data, field->data + field->len, ';');

    if (p == NULL) {
        return NGX_DECLINED;
    }

    names.data = p + 1;
    names.len = field->data + field->len - names.data;
    sums.data = value->data;
    sums.len = value->len;

    if (llm_book_get_names(&names, name) != LLM_OK
        || llm_book_get_sums(&sums, &s) != LLM_OK)
    {
        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                      "llm usage: \"%V\" in Redis is no row of accounts",
                      field);
        return NGX_DECLINED;
    }

    q->rc = llm_book_result_add(q->rs,
                                llm_book_start(q->query.kind, period), name,
                                &s);

    return NGX_OK;
}
