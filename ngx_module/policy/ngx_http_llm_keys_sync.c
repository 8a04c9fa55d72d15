
/*
 * Copyright (C) the ngx-llm authors
 *
 * Following the keys in Redis: four times a second one worker asks for the
 * version, and if it is another one, for what has changed since; or compares
 * all, when too much has happened or when Redis is not the one that it was.
 * What Redis has lost it gets back from the gateways.
 */


#include "policy/ngx_http_llm_keys_store_private.h"
#include "policy/ngx_http_llm_revoke.h"


#define NGX_HTTP_LLM_KEYS_PAGE   200


/* one at a time, of this worker */

typedef struct {
    ngx_http_llm_main_conf_t   *mcf;
    ngx_pool_t                 *pool;         /* of one page's names */
    ngx_str_t                  *names;
    ngx_uint_t                  nnames;
    ngx_uint_t                  busy;
    ngx_uint_t                  all;          /* compares */
    ngx_uint_t                  lost;         /* Redis lost what it had */
    uint64_t                    version;      /* of this round */
    uint64_t                    epoch;
    uint64_t                    cut;
    uint64_t                    cursor;       /* after this one */
    uint64_t                    place;        /* of the walk here */
} ngx_http_llm_keys_sync_t;


static ngx_int_t ngx_http_llm_keys_send(ngx_uint_t argc, ngx_str_t *argv,
    ngx_http_llm_redis_handler_pt handler);
static void ngx_http_llm_keys_meta(void *data,
    ngx_http_llm_redis_reply_t *reply);
static uint64_t ngx_http_llm_keys_meta_number(
    ngx_http_llm_redis_reply_t *reply, ngx_uint_t i);
static ngx_int_t ngx_http_llm_keys_range(const char *set,
    ngx_http_llm_redis_handler_pt handler);
static void ngx_http_llm_keys_dead(void *data,
    ngx_http_llm_redis_reply_t *reply);
static void ngx_http_llm_keys_log(void *data,
    ngx_http_llm_redis_reply_t *reply);
static ngx_int_t ngx_http_llm_keys_fetch(
    ngx_http_llm_redis_handler_pt handler);
static void ngx_http_llm_keys_records(void *data,
    ngx_http_llm_redis_reply_t *reply);
static void ngx_http_llm_keys_cuts(void *data,
    ngx_http_llm_redis_reply_t *reply);
static ngx_int_t ngx_http_llm_keys_scan(void);
static void ngx_http_llm_keys_scanned(void *data,
    ngx_http_llm_redis_reply_t *reply);
static ngx_int_t ngx_http_llm_keys_compare(void);
static void ngx_http_llm_keys_compared(void *data,
    ngx_http_llm_redis_reply_t *reply);
static void ngx_http_llm_keys_missing(ngx_str_t *field);
static void ngx_http_llm_keys_take(ngx_str_t *field, ngx_str_t *value);
static ngx_int_t ngx_http_llm_keys_names(ngx_uint_t n);
static ngx_int_t ngx_http_llm_keys_name(ngx_str_t *field);
static void ngx_http_llm_keys_finish(void);
static void ngx_http_llm_keys_stop(void);


static ngx_http_llm_keys_sync_t  ngx_http_llm_keys_sync;


void
ngx_http_llm_keys_follow(ngx_http_llm_main_conf_t *mcf)
{
    ngx_str_t                  argv[6];
    ngx_http_llm_keys_sync_t  *ks;

    ks = &ngx_http_llm_keys_sync;

    if (ks->busy) {
        return;
    }

    ks->mcf = mcf;

    ngx_str_set(&argv[0], "HMGET");
    ngx_str_set(&argv[1], NGX_HTTP_LLM_KEYS_META);
    ngx_str_set(&argv[2], "v");
    ngx_str_set(&argv[3], "e");
    ngx_str_set(&argv[4], "floor");
    ngx_str_set(&argv[5], "cut");

    (void) ngx_http_llm_keys_send(6, argv, ngx_http_llm_keys_meta);
}


static ngx_int_t
ngx_http_llm_keys_send(ngx_uint_t argc, ngx_str_t *argv,
    ngx_http_llm_redis_handler_pt handler)
{
    ngx_http_llm_keys_sync_t  *ks;

    ks = &ngx_http_llm_keys_sync;

    if (ngx_http_llm_redis_command(ks->mcf->redis, argc, argv, 0, handler, ks)
        == NULL)
    {
        ngx_http_llm_keys_stop();
        return NGX_DECLINED;
    }

    ks->busy = 1;

    return NGX_OK;
}


static void
ngx_http_llm_keys_stop(void)
{
    ngx_http_llm_keys_sync_t  *ks;

    ks = &ngx_http_llm_keys_sync;

    ks->busy = 0;

    if (ks->pool) {
        ngx_destroy_pool(ks->pool);
        ks->pool = NULL;
    }
}


static void
ngx_http_llm_keys_meta(void *data, ngx_http_llm_redis_reply_t *reply)
{
    ngx_http_llm_keys_sync_t *ks = data;

    uint64_t                 seen, floor;
    ngx_http_llm_keys_sh_t  *sh;

    sh = &ks->mcf->zone->sh->keys;
    ks->busy = 0;

    if (reply->type != NGX_HTTP_LLM_REDIS_ARRAY || reply->nelts != 4) {
        return;
    }

    ks->version = ngx_http_llm_keys_meta_number(reply, 0);
    ks->epoch = ngx_http_llm_keys_meta_number(reply, 1);
    floor = ngx_http_llm_keys_meta_number(reply, 2);
    ks->cut = ngx_http_llm_keys_meta_number(reply, 3);

    seen = sh->seen;

    if (sh->synced && ks->version == seen && ks->epoch == sh->epoch) {
        return;
    }

    ks->lost = seen && (ks->version < seen || ks->epoch != sh->epoch);
    ks->all = seen == 0 || seen < floor || ks->lost;
    ks->cursor = seen;
    ks->place = 0;

    ngx_log_debug5(NGX_LOG_DEBUG_HTTP, ngx_cycle->log, 0,
                   "llm keys version:%uL seen:%uL epoch:%uL all:%ui lost:%ui",
                   ks->version, seen, ks->epoch, ks->all, ks->lost);

    if (ks->lost) {
        ngx_log_error(NGX_LOG_WARN, ngx_cycle->log, 0,
                      "llm: Redis does not know of all keys that were made, "
                      "it is told again of those that this gateway knows");
    }

    if (ks->all) {
        ks->cursor = 0;
        (void) ngx_http_llm_keys_scan();

    } else {
        (void) ngx_http_llm_keys_range(NGX_HTTP_LLM_KEYS_DEAD,
                                       ngx_http_llm_keys_dead);
    }
}


static uint64_t
ngx_http_llm_keys_meta_number(ngx_http_llm_redis_reply_t *reply, ngx_uint_t i)
{
    ngx_http_llm_redis_reply_t  element;

    if (ngx_http_llm_redis_element(reply, i, &element) != NGX_OK
        || element.type != NGX_HTTP_LLM_REDIS_STRING)
    {
        return 0;
    }

    return ngx_http_llm_keys_number(&element.str);
}


/* a page of the fields that changed after the cursor */

static ngx_int_t
ngx_http_llm_keys_range(const char *set,
    ngx_http_llm_redis_handler_pt handler)
{
    u_char     from[NGX_INT64_LEN + 1], page[NGX_INT_T_LEN];
    ngx_str_t  argv[8];

    ngx_str_set(&argv[0], "ZRANGEBYSCORE");
    argv[1].data = (u_char *) set;
    argv[1].len = ngx_strlen(set);
    argv[2].data = from;
    argv[2].len = ngx_sprintf(from, "(%uL", ngx_http_llm_keys_sync.cursor)
                  - from;
    ngx_str_set(&argv[3], "+inf");
    ngx_str_set(&argv[4], "WITHSCORES");
    ngx_str_set(&argv[5], "LIMIT");
    ngx_str_set(&argv[6], "0");
    argv[7].data = page;
    argv[7].len = ngx_sprintf(page, "%d", NGX_HTTP_LLM_KEYS_PAGE) - page;

    return ngx_http_llm_keys_send(8, argv, handler);
}


static void
ngx_http_llm_keys_dead(void *data, ngx_http_llm_redis_reply_t *reply)
{
    ngx_http_llm_keys_sync_t *ks = data;

    uint64_t                    version;
    ngx_uint_t                  i;
    ngx_http_llm_redis_reply_t  field, score;

    if (reply->type != NGX_HTTP_LLM_REDIS_ARRAY) {
        ngx_http_llm_keys_stop();
        return;
    }

    for (i = 0; i + 1 < reply->nelts; i += 2) {
        (void) ngx_http_llm_redis_element(reply, i, &field);
        (void) ngx_http_llm_redis_element(reply, i + 1, &score);

        version = ngx_http_llm_keys_number(&score.str);
        ks->cursor = version;

        ngx_http_llm_keys_apply_gone(ks->mcf, &field.str, version);
    }

    if (reply->nelts == 2 * NGX_HTTP_LLM_KEYS_PAGE) {
        (void) ngx_http_llm_keys_range(NGX_HTTP_LLM_KEYS_DEAD,
                                       ngx_http_llm_keys_dead);
        return;
    }

    ks->cursor = ks->mcf->zone->sh->keys.seen;

    (void) ngx_http_llm_keys_range(NGX_HTTP_LLM_KEYS_LOG,
                                   ngx_http_llm_keys_log);
}


static void
ngx_http_llm_keys_log(void *data, ngx_http_llm_redis_reply_t *reply)
{
    ngx_http_llm_keys_sync_t *ks = data;

    ngx_uint_t                  i;
    ngx_http_llm_redis_reply_t  field, score;

    if (reply->type != NGX_HTTP_LLM_REDIS_ARRAY
        || ngx_http_llm_keys_names(reply->nelts / 2) != NGX_OK)
    {
        ngx_http_llm_keys_stop();
        return;
    }

    for (i = 0; i + 1 < reply->nelts; i += 2) {
        (void) ngx_http_llm_redis_element(reply, i, &field);
        (void) ngx_http_llm_redis_element(reply, i + 1, &score);

        ks->cursor = ngx_http_llm_keys_number(&score.str);

        if (ngx_http_llm_keys_name(&field.str) != NGX_OK) {
            ngx_http_llm_keys_stop();
            return;
        }
    }

    if (ks->nnames) {
        (void) ngx_http_llm_keys_fetch(ngx_http_llm_keys_records);
        return;
    }

    if (ks->cut > ks->mcf->zone->sh->keys.cut) {
        ks->cursor = ks->mcf->zone->sh->keys.cut;
        (void) ngx_http_llm_keys_range(NGX_HTTP_LLM_KEYS_CUT,
                                       ngx_http_llm_keys_cuts);
        return;
    }

    ngx_http_llm_keys_finish();
}


/* the records of the page's names */

static ngx_int_t
ngx_http_llm_keys_fetch(ngx_http_llm_redis_handler_pt handler)
{
    ngx_str_t                 *argv;
    ngx_uint_t                 i;
    ngx_http_llm_keys_sync_t  *ks;

    ks = &ngx_http_llm_keys_sync;

    argv = ngx_palloc(ks->pool, (ks->nnames + 2) * sizeof(ngx_str_t));
    if (argv == NULL) {
        ngx_http_llm_keys_stop();
        return NGX_ERROR;
    }

    ngx_str_set(&argv[0], "HMGET");
    ngx_str_set(&argv[1], NGX_HTTP_LLM_KEYS_HASH);

    for (i = 0; i < ks->nnames; i++) {
        argv[i + 2] = ks->names[i];
    }

    return ngx_http_llm_keys_send(ks->nnames + 2, argv, handler);
}


static void
ngx_http_llm_keys_records(void *data, ngx_http_llm_redis_reply_t *reply)
{
    ngx_http_llm_keys_sync_t *ks = data;

    ngx_uint_t                  i;
    ngx_http_llm_redis_reply_t  value;

    if (reply->type != NGX_HTTP_LLM_REDIS_ARRAY
        || reply->nelts != ks->nnames)
    {
        ngx_http_llm_keys_stop();
        return;
    }

    for (i = 0; i < ks->nnames; i++) {
        if (ngx_http_llm_redis_element(reply, i, &value) == NGX_OK
            && value.type == NGX_HTTP_LLM_REDIS_STRING)
        {
            ngx_http_llm_keys_take(&ks->names[i], &value.str);
        }
    }

    (void) ngx_http_llm_keys_range(NGX_HTTP_LLM_KEYS_LOG,
                                   ngx_http_llm_keys_log);
}


static void
ngx_http_llm_keys_cuts(void *data, ngx_http_llm_redis_reply_t *reply)
{
    ngx_http_llm_keys_sync_t *ks = data;

    ngx_str_t                   name;
    llm_row_e                   kind;
    ngx_uint_t                  i;
    ngx_http_llm_redis_reply_t  field, score;

    if (reply->type != NGX_HTTP_LLM_REDIS_ARRAY) {
        ngx_http_llm_keys_stop();
        return;
    }

    for (i = 0; i + 1 < reply->nelts; i += 2) {
        (void) ngx_http_llm_redis_element(reply, i, &field);
        (void) ngx_http_llm_redis_element(reply, i + 1, &score);

        if (ngx_http_llm_keys_field_parse(&field.str, &kind, &name)
            == NGX_OK)
        {
            ngx_http_llm_revoke(ks->mcf, &name);
        }
    }

    ngx_http_llm_keys_finish();
}


/* all that Redis has */

static ngx_int_t
ngx_http_llm_keys_scan(void)
{
    u_char     cursor[NGX_INT64_LEN], page[NGX_INT_T_LEN];
    ngx_str_t  argv[5];

    ngx_str_set(&argv[0], "HSCAN");
    ngx_str_set(&argv[1], NGX_HTTP_LLM_KEYS_HASH);
    argv[2].data = cursor;
    argv[2].len = ngx_sprintf(cursor, "%uL", ngx_http_llm_keys_sync.cursor)
                  - cursor;
    ngx_str_set(&argv[3], "COUNT");
    argv[4].data = page;
    argv[4].len = ngx_sprintf(page, "%d", NGX_HTTP_LLM_KEYS_PAGE) - page;

    return ngx_http_llm_keys_send(5, argv, ngx_http_llm_keys_scanned);
}


static void
ngx_http_llm_keys_scanned(void *data, ngx_http_llm_redis_reply_t *reply)
{
    ngx_http_llm_keys_sync_t *ks = data;

    ngx_uint_t                  i;
    ngx_http_llm_redis_reply_t  cursor, list, field, value;

    if (reply->type != NGX_HTTP_LLM_REDIS_ARRAY
        || ngx_http_llm_redis_element(reply, 0, &cursor) != NGX_OK
        || ngx_http_llm_redis_element(reply, 1, &list) != NGX_OK)
    {
        ngx_http_llm_keys_stop();
        return;
    }

    for (i = 0; i + 1 < list.nelts; i += 2) {
        if (ngx_http_llm_redis_element(&list, i, &field) == NGX_OK
            && ngx_http_llm_redis_element(&list, i + 1, &value) == NGX_OK)
        {
            ngx_http_llm_keys_take(&field.str, &value.str);
        }
    }

    /* 64 bits: not what ngx_http_llm_keys_number() reads */

    ks->cursor = strtoull((char *) cursor.str.data, NULL, 10);

    if (ks->cursor) {
        (void) ngx_http_llm_keys_scan();
        return;
    }

    (void) ngx_http_llm_keys_compare();
}


/* a page of what is known here: has Redis got it? */

static ngx_int_t
ngx_http_llm_keys_compare(void)
{
    u_char                     buf[NGX_HTTP_LLM_KEYS_FIELD];
    uint64_t                   place;
    ngx_str_t                  field, name;
    llm_row_e                  kind;
    ngx_uint_t                 i, n;
    ngx_pool_t                *pool;
    llm_keyring_item_t         item[LLM_KEYRING_PAGE];
    ngx_http_llm_keys_sync_t  *ks;

    ks = &ngx_http_llm_keys_sync;

    /* teams, then keys: the last bit of the place says which */

    do {
        kind = (ks->place & 1) ? LLM_ROW_KEY : LLM_ROW_TEAM;
        place = ks->place >> 1;

        pool = ngx_create_pool(16384, ngx_cycle->log);

        if (pool == NULL
            || ngx_http_llm_keys_names(LLM_KEYRING_PAGE) != NGX_OK)
        {
            goto failed;
        }

        if (ngx_http_llm_keys_walk(ks->mcf, kind, LLM_KEYRING_DYNAMIC, &place,
                                   item, LLM_KEYRING_PAGE, &n, pool)
            != NGX_OK)
        {
            goto failed;
        }

        for (i = 0; i < n; i++) {

            /* what was made meanwhile is known to be there */

            if (item[i].row.version > ks->version) {
                continue;
            }

            name.data = (u_char *) item[i].row.name.data;
            name.len = item[i].row.name.len;

            if (ngx_http_llm_keys_field(kind, &name, buf, &field) != NGX_OK
                || ngx_http_llm_keys_name(&field) != NGX_OK)
            {
                goto failed;
            }
        }

        ngx_destroy_pool(pool);

        if (place) {
            ks->place = place << 1 | (kind == LLM_ROW_KEY);

        } else {
            ks->place = kind == LLM_ROW_TEAM ? 1 : 0;
        }

        if (ks->nnames) {
            return ngx_http_llm_keys_fetch(ngx_http_llm_keys_compared);
        }

    } while (ks->place);

    ngx_http_llm_keys_finish();

    return NGX_OK;

failed:

    if (pool) {
        ngx_destroy_pool(pool);
    }

    ngx_http_llm_keys_stop();

    return NGX_ERROR;
}


static void
ngx_http_llm_keys_compared(void *data, ngx_http_llm_redis_reply_t *reply)
{
    ngx_http_llm_keys_sync_t *ks = data;

    ngx_uint_t                  i;
    ngx_http_llm_redis_reply_t  value;

    if (reply->type != NGX_HTTP_LLM_REDIS_ARRAY
        || reply->nelts != ks->nnames)
    {
        ngx_http_llm_keys_stop();
        return;
    }

    for (i = 0; i < ks->nnames; i++) {
        if (ngx_http_llm_redis_element(reply, i, &value) == NGX_OK
            && value.type == NGX_HTTP_LLM_REDIS_NIL)
        {
            ngx_http_llm_keys_missing(&ks->names[i]);
        }
    }

    if (ks->place == 0) {
        ngx_http_llm_keys_finish();
        return;
    }

    (void) ngx_http_llm_keys_compare();
}


/* deleted while this gateway was away; or lost, then Redis gets it back */

static void
ngx_http_llm_keys_missing(ngx_str_t *field)
{
    ngx_str_t                  name, record;
    llm_row_e                  kind;
    llm_keyring_item_t         item;
    ngx_http_llm_keys_sync_t  *ks;

    ks = &ngx_http_llm_keys_sync;

    if (!ks->lost) {
        ngx_http_llm_keys_apply_gone(ks->mcf, field, ks->version);
        return;
    }

    if (ngx_http_llm_keys_field_parse(field, &kind, &name) != NGX_OK
        || ngx_http_llm_keys_get(ks->mcf, kind, &name, 1, ks->pool, &item)
           != NGX_OK
        || ngx_http_llm_keys_record(ks->pool, &item.row, &record) != NGX_OK)
    {
        return;
    }

    /* the reply is of no interest: the next round sees it */

    (void) ngx_http_llm_keys_eval(ks->mcf->redis, field, 0, &record, 0, NULL,
                                  NULL);
}


/* "version record" */

static void
ngx_http_llm_keys_take(ngx_str_t *field, ngx_str_t *value)
{
    u_char                    *p;
    ngx_str_t                  number, record;
    ngx_http_llm_keys_sync_t  *ks;

    ks = &ngx_http_llm_keys_sync;

    p = ngx_strlchr(value->data, value->data + value->len, ' ');
    if (p == NULL) {
        return;
    }

    number.data = value->data;
    number.len = p - value->data;

    record.data = p + 1;
    record.len = value->data + value->len - record.data;

    (void) ngx_http_llm_keys_apply(ks->mcf, field,
                                   ngx_http_llm_keys_number(&number),
                                   &record);
}


static ngx_int_t
ngx_http_llm_keys_names(ngx_uint_t n)
{
    ngx_http_llm_keys_sync_t  *ks;

    ks = &ngx_http_llm_keys_sync;

    if (ks->pool) {
        ngx_destroy_pool(ks->pool);
    }

    ks->nnames = 0;

    ks->pool = ngx_create_pool(16384, ngx_cycle->log);
    if (ks->pool == NULL) {
        return NGX_ERROR;
    }

    ks->names = ngx_palloc(ks->pool, n * sizeof(ngx_str_t) + 1);

    return ks->names ? NGX_OK : NGX_ERROR;
}


static ngx_int_t
ngx_http_llm_keys_name(ngx_str_t *field)
{
    ngx_str_t                 *name;
    ngx_http_llm_keys_sync_t  *ks;

    ks = &ngx_http_llm_keys_sync;
    name = &ks->names[ks->nnames];

    name->len = field->len;
    name->data = ngx_pstrdup(ks->pool, field);

    if (name->data == NULL) {
        return NGX_ERROR;
    }

    ks->nnames++;

    return NGX_OK;
}


static void
ngx_http_llm_keys_finish(void)
{
    ngx_http_llm_keys_sh_t    *sh;
    ngx_http_llm_keys_sync_t  *ks;

    ks = &ngx_http_llm_keys_sync;
    sh = &ks->mcf->zone->sh->keys;

    ngx_http_llm_keys_stop();

    sh->epoch = ks->epoch;
    sh->cut = ks->cut;

    ngx_memory_barrier();

    /* what was given back to Redis makes it a new one */

    sh->seen = ks->version;
    sh->synced = 1;
}
