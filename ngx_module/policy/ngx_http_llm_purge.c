
/*
 * Copyright (C) the ngx-llm authors
 */


#include "policy/ngx_http_llm_purge.h"
#include "policy/ngx_http_llm_cache_private.h"
#include "policy/ngx_http_llm_purge_private.h"


#define NGX_HTTP_LLM_PURGE_PENDING   64           /* to be told again */
#define NGX_HTTP_LLM_PURGE_DIGITS    64


typedef struct {
    ngx_queue_t                   queue;
    ngx_http_llm_main_conf_t     *mcf;
    ngx_uint_t                    class;
    ngx_http_llm_purge_handler_pt handler;
    void                         *data;
    size_t                        len;
    u_char                        name[NGX_HTTP_LLM_PURGE_NAME];
} ngx_http_llm_purge_t;


static ngx_http_llm_redis_op_t *ngx_http_llm_purge_raise(
    ngx_http_llm_purge_t *pg);
static void ngx_http_llm_purge_raised(void *data,
    ngx_http_llm_redis_reply_t *reply);
static ngx_http_llm_redis_op_t *ngx_http_llm_purge_delete(
    ngx_http_llm_purge_t *pg);
static void ngx_http_llm_purge_deleted(void *data,
    ngx_http_llm_redis_reply_t *reply);
static void ngx_http_llm_purge_end(ngx_http_llm_purge_t *pg, ngx_int_t rc,
    uint64_t gen);
static void ngx_http_llm_purge_keep(ngx_http_llm_purge_t *pg);
static void ngx_http_llm_purge_post(ngx_http_llm_purge_t *pg, uint64_t gen);
static ngx_int_t ngx_http_llm_purge_forget(ngx_str_t *digits);


ngx_http_llm_purge_hooks_t  ngx_http_llm_purge_hooks;


ngx_str_t  ngx_http_llm_purge_classes[NGX_HTTP_LLM_PURGE_CLASSES + 1] = {
    ngx_string("all"),
    ngx_string("team"),
    ngx_string("key"),
    ngx_string("model"),
    ngx_string("namespace"),
    ngx_string("digest")
};


ngx_str_t  ngx_http_llm_purge_hash = ngx_string("{llm}:gen");


/*
 * Purges are rare, so the text goes with each.  A generation is a time of
 * Redis, but always greater than all that the hash (v) or the caller
 * (ARGV[2]) knows, should the clock have gone back.
 *
 * KEYS   1 the hash
 * ARGV   1 "class:name", 2 the greatest generation known, 3 names at most
 */

static ngx_str_t  ngx_http_llm_purge_lua = ngx_string(
    "local key, field = KEYS[1], ARGV[1]\n"
    "local call = redis.call\n"
    "local t = call('TIME')\n"
    "local gen = math.max(t[1] * 1000000 + t[2], tonumber(ARGV[2]) + 1,\n"
    "    (tonumber(call('HGET', key, 'v') or 0) or 0) + 1)\n"
    "local v = string.format('%.0f', gen)\n"
    "local e = call('HGET', key, 'e') or v\n"
    "if field ~= 'all:' and call('HEXISTS', key, field) == 0\n"
    "    and call('HLEN', key) >= tonumber(ARGV[3]) + 2\n"
    "then\n"
    "    field = 'all:'\n"
    "end\n"
    "if field == 'all:' then call('DEL', key) end\n"
    "call('HSET', key, 'v', v, 'e', e, field, v)\n"
    "return {v, field, e}\n"
);


/* what Redis did not take yet; as good as new in each worker */

static ngx_queue_t  ngx_http_llm_purge_queue = {
    &ngx_http_llm_purge_queue, &ngx_http_llm_purge_queue
};

static ngx_uint_t   ngx_http_llm_purge_queued;


ngx_int_t
ngx_http_llm_purge(ngx_http_llm_main_conf_t *mcf, ngx_uint_t class,
    ngx_str_t *name, uint64_t *generation,
    ngx_http_llm_purge_handler_pt handler, void *data)
{
    ngx_str_t                 none;
    ngx_http_llm_purge_t     *pg;
    ngx_http_llm_redis_op_t  *op;

    *generation = 0;

    if (class == NGX_HTTP_LLM_PURGE_ALL) {
        ngx_str_set(&none, "");
        name = &none;
    }

    if (name->len > NGX_HTTP_LLM_PURGE_NAME
        || (class == NGX_HTTP_LLM_PURGE_DIGEST
            && ngx_http_llm_purge_forget(name) != NGX_OK))
    {
        return NGX_ERROR;
    }

    if (class != NGX_HTTP_LLM_PURGE_DIGEST) {
        *generation = ngx_http_llm_generation_raise(mcf->zone, class, name,
                                                    0);
    }

    ngx_log_error(NGX_LOG_NOTICE, ngx_cycle->log, 0,
                  "llm: the cache is purged: %V \"%V\"",
                  &ngx_http_llm_purge_classes[class], name);

    if (ngx_http_llm_purge_redis(mcf) == NULL) {
        /* an epoch that no Redis has */
        ngx_http_llm_generation_begin(mcf->zone, 1);
        return NGX_OK;
    }

    pg = ngx_alloc(sizeof(ngx_http_llm_purge_t), ngx_cycle->log);
    if (pg == NULL) {
        return NGX_ERROR;
    }

    pg->mcf = mcf;
    pg->class = class;
    pg->handler = handler;
    pg->data = data;
    pg->len = name->len;
    ngx_memcpy(pg->name, name->data, name->len);

    op = class == NGX_HTTP_LLM_PURGE_DIGEST ? ngx_http_llm_purge_delete(pg)
                                            : ngx_http_llm_purge_raise(pg);
    if (op == NULL) {
        ngx_http_llm_purge_keep(pg);
        return NGX_DECLINED;
    }

    return NGX_AGAIN;
}


static ngx_http_llm_redis_op_t *
ngx_http_llm_purge_raise(ngx_http_llm_purge_t *pg)
{
    u_char     last[NGX_INT64_LEN], max[NGX_INT64_LEN];
    u_char     field[NGX_HTTP_LLM_PURGE_NAME + 16];
    ngx_str_t  argv[7], name;

    name.data = pg->name;
    name.len = pg->len;

    ngx_str_set(&argv[0], "EVAL");
    argv[1] = ngx_http_llm_purge_lua;
    ngx_str_set(&argv[2], "1");
    argv[3] = ngx_http_llm_purge_hash;

    argv[4].data = field;
    argv[4].len = ngx_sprintf(field, "%V:%V",
                              &ngx_http_llm_purge_classes[pg->class], &name)
                  - field;

    argv[5].data = last;
    argv[5].len = ngx_sprintf(last, "%uL",
                              (uint64_t) pg->mcf->zone->sh->purged)
                  - last;

    argv[6].data = max;
    argv[6].len = ngx_sprintf(max, "%d", NGX_HTTP_LLM_GENERATIONS) - max;

    return ngx_http_llm_redis_command(ngx_http_llm_purge_redis(pg->mcf), 7,
                                      argv, 0, ngx_http_llm_purge_raised, pg);
}


static void
ngx_http_llm_purge_raised(void *data, ngx_http_llm_redis_reply_t *reply)
{
    ngx_http_llm_purge_t *pg = data;

    uint64_t                    gen;
    ngx_str_t                   name;
    ngx_http_llm_redis_reply_t  version, field, epoch;

    gen = 0;

    if (reply->type == NGX_HTTP_LLM_REDIS_ARRAY
        && ngx_http_llm_redis_element(reply, 0, &version) == NGX_OK
        && ngx_http_llm_redis_element(reply, 1, &field) == NGX_OK
        && ngx_http_llm_redis_element(reply, 2, &epoch) == NGX_OK)
    {
        gen = ngx_http_llm_purge_number(&version.str);

        ngx_http_llm_generation_begin(pg->mcf->zone,
                                   ngx_http_llm_purge_number(&epoch.str));

        if (field.str.len == sizeof("all:") - 1) {
            pg->class = NGX_HTTP_LLM_PURGE_ALL;
            pg->len = 0;
        }
    }

    if (gen) {
        name.data = pg->name;
        name.len = pg->len;

        (void) ngx_http_llm_generation_raise(pg->mcf->zone, pg->class, &name,
                                             gen);
    }

    ngx_http_llm_purge_end(pg, gen ? NGX_OK : NGX_DECLINED, gen);
}


/* one answer, from the Redis where answers lie */

static ngx_http_llm_redis_op_t *
ngx_http_llm_purge_delete(ngx_http_llm_purge_t *pg)
{
    u_char                 key[NGX_HTTP_LLM_CACHE_KEY_LEN];
    ngx_str_t              argv[2];
    ngx_http_llm_redis_t  *rd;

    rd = ngx_http_llm_cache_redis(pg->mcf);

    (void) ngx_sprintf(key, NGX_HTTP_LLM_CACHE_PREFIX "%*s", pg->len,
                       pg->name);

    ngx_str_set(&argv[0], "DEL");
    argv[1].data = key;
    argv[1].len = sizeof(key);

    return ngx_http_llm_redis_command(rd, 2, argv, 0,
                                      ngx_http_llm_purge_deleted, pg);
}


static void
ngx_http_llm_purge_deleted(void *data, ngx_http_llm_redis_reply_t *reply)
{
    ngx_http_llm_purge_t *pg = data;

    ngx_http_llm_purge_end(pg, reply->type == NGX_HTTP_LLM_REDIS_INTEGER
                               ? NGX_OK : NGX_DECLINED, 0);
}


static void
ngx_http_llm_purge_end(ngx_http_llm_purge_t *pg, ngx_int_t rc, uint64_t gen)
{
    ngx_log_debug3(NGX_LOG_DEBUG_HTTP, ngx_cycle->log, 0,
                   "llm purge %V generation:%uL rc:%i",
                   &ngx_http_llm_purge_classes[pg->class], gen, rc);

    if (rc == NGX_OK) {
        ngx_http_llm_purge_post(pg, gen);
    }

    if (pg->handler) {
        pg->handler(pg->data, rc, pg->class, gen);
    }

    if (rc == NGX_OK) {
        ngx_free(pg);

    } else {
        ngx_http_llm_purge_keep(pg);
    }
}


/* nobody waits for it any more */

static void
ngx_http_llm_purge_keep(ngx_http_llm_purge_t *pg)
{
    if (pg->handler) {
        ngx_log_error(NGX_LOG_WARN, ngx_cycle->log, 0,
                      "llm: Redis did not take a purge (%V), so far it holds "
                      "in this gateway only",
                      &ngx_http_llm_purge_classes[pg->class]);
    }

    pg->handler = NULL;

    if (ngx_http_llm_purge_queued == NGX_HTTP_LLM_PURGE_PENDING) {
        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                      "llm: too many purges wait for Redis, one is given up");
        ngx_free(pg);
        return;
    }

    ngx_http_llm_purge_queued++;
    ngx_queue_insert_tail(&ngx_http_llm_purge_queue, &pg->queue);
}


void
ngx_http_llm_purge_again(void)
{
    ngx_uint_t                n;
    ngx_queue_t              *q;
    ngx_http_llm_purge_t     *pg;
    ngx_http_llm_redis_op_t  *op;

    for (n = ngx_http_llm_purge_queued; n; n--) {

        q = ngx_queue_head(&ngx_http_llm_purge_queue);
        pg = ngx_queue_data(q, ngx_http_llm_purge_t, queue);

        op = pg->class == NGX_HTTP_LLM_PURGE_DIGEST
             ? ngx_http_llm_purge_delete(pg) : ngx_http_llm_purge_raise(pg);

        if (op == NULL) {
            return;
        }

        ngx_queue_remove(q);
        ngx_http_llm_purge_queued--;
    }
}


/* "purge:CLASS:GENERATION:NAME" */

static void
ngx_http_llm_purge_post(ngx_http_llm_purge_t *pg, uint64_t gen)
{
    u_char      text[NGX_HTTP_LLM_PURGE_NAME + 64];
    ngx_str_t   letter, name;

    if (ngx_http_llm_purge_hooks.post == NULL) {
        return;
    }

    name.data = pg->name;
    name.len = pg->len;

    letter.data = text;
    letter.len = ngx_sprintf(text, NGX_HTTP_LLM_PURGE_LETTER "%V:%uL:%V",
                             &ngx_http_llm_purge_classes[pg->class], gen,
                             &name)
                 - text;

    /* whoever does not get it asks within a second */

    (void) ngx_http_llm_purge_hooks.post(pg->mcf, &letter);
}


ngx_int_t
ngx_http_llm_purge_letter(ngx_http_llm_main_conf_t *mcf, ngx_str_t *letter)
{
    u_char     *p, *last;
    size_t      len;
    uint64_t    gen;
    ngx_int_t   class;
    ngx_str_t   s;

    len = sizeof(NGX_HTTP_LLM_PURGE_LETTER) - 1;

    if (letter->len < len
        || ngx_memcmp(letter->data, NGX_HTTP_LLM_PURGE_LETTER, len) != 0)
    {
        return NGX_DECLINED;
    }

    last = letter->data + letter->len;

    s.data = letter->data + len;
    p = ngx_strlchr(s.data, last, ':');

    if (p == NULL) {
        return NGX_OK;
    }

    s.len = p - s.data;
    class = ngx_http_llm_purge_class(&s);

    s.data = p + 1;
    p = ngx_strlchr(s.data, last, ':');

    if (p == NULL || class == NGX_ERROR) {
        return NGX_OK;
    }

    s.len = p - s.data;
    gen = ngx_http_llm_purge_number(&s);

    s.data = p + 1;
    s.len = last - s.data;

    if (class == NGX_HTTP_LLM_PURGE_DIGEST) {
        (void) ngx_http_llm_purge_forget(&s);

    } else if (gen && s.len <= NGX_HTTP_LLM_PURGE_NAME) {
        (void) ngx_http_llm_generation_raise(mcf->zone, class, &s, gen);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_purge_forget(ngx_str_t *digits)
{
    ngx_int_t   n;
    ngx_uint_t  i;
    u_char      name[NGX_HTTP_LLM_PURGE_DIGITS / 2];

    if (digits->len != NGX_HTTP_LLM_PURGE_DIGITS) {
        return NGX_ERROR;
    }

    for (i = 0; i < sizeof(name); i++) {
        n = ngx_hextoi(digits->data + 2 * i, 2);

        if (n == NGX_ERROR) {
            return NGX_ERROR;
        }

        name[i] = (u_char) n;
    }

    if (ngx_http_llm_purge_hooks.forget) {
        ngx_http_llm_purge_hooks.forget(name);
    }

    return NGX_OK;
}


/* generations must not be evicted: rather in the limits' Redis */

ngx_http_llm_redis_t *
ngx_http_llm_purge_redis(ngx_http_llm_main_conf_t *mcf)
{
    return mcf->redis ? mcf->redis : mcf->redis_cache;
}


ngx_int_t
ngx_http_llm_purge_class(ngx_str_t *name)
{
    ngx_uint_t  i;
    ngx_str_t  *class;

    class = ngx_http_llm_purge_classes;

    for (i = 0; i <= NGX_HTTP_LLM_PURGE_CLASSES; i++) {
        if (class[i].len == name->len
            && ngx_memcmp(class[i].data, name->data, name->len) == 0)
        {
            return i;
        }
    }

    return NGX_ERROR;
}


/* 0: none */

uint64_t
ngx_http_llm_purge_number(ngx_str_t *s)
{
    uint64_t    n;
    ngx_uint_t  i;

    if (s->len > sizeof("9007199254740992") - 1) {
        return 0;
    }

    for (n = 0, i = 0; i < s->len; i++) {
        if (s->data[i] < '0' || s->data[i] > '9') {
            return 0;
        }

        n = n * 10 + (s->data[i] - '0');
    }

    return n < NGX_HTTP_LLM_GENERATION_MAX ? n : 0;
}
