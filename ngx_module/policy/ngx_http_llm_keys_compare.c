
/*
 * Copyright (C) the ngx-llm authors
 *
 * Comparing all keys with those in Redis, page by page.  What was deleted
 * there while this gateway was away is deleted here; what Redis has lost it
 * gets back.
 */


#include "policy/ngx_http_llm_keys_store_private.h"


static void ngx_http_llm_keys_scanned(void *data,
    ngx_http_llm_redis_reply_t *reply);
static ngx_int_t ngx_http_llm_keys_page(ngx_http_llm_keys_sync_t *ks,
    llm_row_e kind, uint64_t *place);
static void ngx_http_llm_keys_compared(void *data,
    ngx_http_llm_redis_reply_t *reply);
static void ngx_http_llm_keys_missing(ngx_str_t *field);
static ngx_int_t ngx_http_llm_keys_give(ngx_str_t *field, uint64_t version);


/* all that Redis has */

ngx_int_t
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
    ngx_http_llm_keys_seen_t   *sh;
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

    sh = ngx_http_llm_keys_seen(ks->mcf);

    if (ks->cursor) {
        ngx_http_llm_keys_stage(sh->stage, ks->cursor);
        (void) ngx_http_llm_keys_scan();
        return;
    }

    if (sh->stage == NGX_HTTP_LLM_KEYS_FILLS) {
        ngx_http_llm_keys_last();
        return;
    }

    ngx_http_llm_keys_stage(NGX_HTTP_LLM_KEYS_COMPARES, 0);

    (void) ngx_http_llm_keys_compare();
}


/* "version record" */

void
ngx_http_llm_keys_take(ngx_str_t *field, ngx_str_t *value)
{
    u_char                    *p;
    uint64_t                   version;
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

    version = ngx_http_llm_keys_number(&number);

    if (!ks->lost || ngx_http_llm_keys_give(field, version) == NGX_DECLINED) {
        (void) ngx_http_llm_keys_apply(ks->mcf, field, version, &record);
    }
}


/* a page of what is known here: has Redis got it? */

ngx_int_t
ngx_http_llm_keys_compare(void)
{
    uint64_t                   place;
    llm_row_e                  kind;
    ngx_http_llm_keys_sync_t  *ks;

    ks = &ngx_http_llm_keys_sync;

    /* teams, then keys: the last bit of the place says which */

    do {
        kind = (ks->place & 1) ? LLM_ROW_KEY : LLM_ROW_TEAM;
        place = ks->place >> 1;

        if (ngx_http_llm_keys_page(ks, kind, &place) != NGX_OK) {
            ngx_http_llm_keys_stop();
            return NGX_ERROR;
        }

        if (place) {
            ks->place = place << 1 | (kind == LLM_ROW_KEY);

        } else {
            ks->place = kind == LLM_ROW_TEAM ? 1 : 0;
        }

        if (ks->nnames) {
            return ngx_http_llm_keys_fetch(ngx_http_llm_keys_compared);
        }

    } while (ks->place);

    ngx_http_llm_keys_last();

    return NGX_OK;
}


/* the names of a page, from "place" on, to be asked for */

static ngx_int_t
ngx_http_llm_keys_page(ngx_http_llm_keys_sync_t *ks, llm_row_e kind,
    uint64_t *place)
{
    u_char               buf[NGX_HTTP_LLM_KEYS_FIELD];
    ngx_str_t            field, name;
    ngx_uint_t           i, n;
    ngx_pool_t          *pool;
    llm_keyring_item_t   item[LLM_KEYRING_PAGE];

    pool = ngx_create_pool(16384, ngx_cycle->log);
    if (pool == NULL) {
        return NGX_ERROR;
    }

    if (ngx_http_llm_keys_names(LLM_KEYRING_PAGE) != NGX_OK
        || ngx_http_llm_keys_walk(ks->mcf, kind, LLM_KEYRING_DYNAMIC, place,
                                  item, LLM_KEYRING_PAGE, &n, pool)
           != NGX_OK)
    {
        goto failed;
    }

    for (i = 0; i < n; i++) {

        /* what was made meanwhile is known to be there */

        if (!ks->lost && item[i].row.version > ks->version) {
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

    return NGX_OK;

failed:

    ngx_destroy_pool(pool);

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
        ngx_http_llm_keys_last();
        return;
    }

    ngx_http_llm_keys_stage(NGX_HTTP_LLM_KEYS_COMPARES, ks->place);

    (void) ngx_http_llm_keys_compare();
}


/* deleted while this gateway was away; or lost, then Redis gets it back */

static void
ngx_http_llm_keys_missing(ngx_str_t *field)
{
    if (ngx_http_llm_keys_sync.lost) {
        (void) ngx_http_llm_keys_give(field, 0);

    } else {
        ngx_http_llm_keys_apply_gone(ngx_http_llm_keys_sync.mcf, field,
                                     ngx_http_llm_keys_sync.version);
    }
}


/*
 * Redis has a row of this version, or none (0), and lost the one that is known
 * here: NGX_OK, it is told.  NGX_DECLINED: it knows as much.
 */

static ngx_int_t
ngx_http_llm_keys_give(ngx_str_t *field, uint64_t version)
{
    ngx_str_t                  name, record;
    llm_row_e                  kind;
    ngx_int_t                  rc;
    ngx_pool_t                *pool;
    llm_keyring_item_t         item;
    ngx_http_llm_keys_sync_t  *ks;

    ks = &ngx_http_llm_keys_sync;

    pool = ngx_create_pool(4096, ngx_cycle->log);
    if (pool == NULL) {
        return NGX_ERROR;
    }

    rc = NGX_DECLINED;

    if (ngx_http_llm_keys_field_parse(field, &kind, &name) == NGX_OK
        && ngx_http_llm_keys_get(ks->mcf, kind, &name, 1, pool, &item)
           == NGX_OK
        && item.row.version > version
        && ngx_http_llm_keys_record(pool, &item.row, &record) == NGX_OK)
    {
        /* the reply is of no interest: the next round sees it */

        (void) ngx_http_llm_keys_eval(ks->mcf->redis, field, version, &record,
                                      0, item.row.version, NULL, NULL);
        ks->gave = 1;
        rc = NGX_OK;
    }

    ngx_destroy_pool(pool);

    return rc;
}
