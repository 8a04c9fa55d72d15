
/*
 * Copyright (C) the ngx-llm authors
 *
 * Following the keys in Redis: four times a second one worker asks for the
 * version, and if it is another one, for what has changed since; or compares
 * all (keys_compare), when too much has happened or when Redis is not the one
 * that it was.
 */


#include "policy/ngx_http_llm_keys_store_private.h"
#include "policy/ngx_http_llm_revoke.h"


/*
 * A round that has begun is one worker's: the others wait until it has said
 * nothing for so long.  Its pages may be late: a request does not wait for
 * them, and what is given up has to be asked for again.
 */
#define NGX_HTTP_LLM_KEYS_LEASE  3000      /* ms */
#define NGX_HTTP_LLM_KEYS_LATE   2000


static void ngx_http_llm_keys_meta(void *data,
    ngx_http_llm_redis_reply_t *reply);
static void ngx_http_llm_keys_resume(void);
static uint64_t ngx_http_llm_keys_meta_number(
    ngx_http_llm_redis_reply_t *reply, ngx_uint_t i);
static ngx_int_t ngx_http_llm_keys_range(const char *set,
    ngx_http_llm_redis_handler_pt handler);
static void ngx_http_llm_keys_pair(ngx_http_llm_redis_reply_t *reply,
    ngx_uint_t i, ngx_str_t *field);
static void ngx_http_llm_keys_dead(void *data,
    ngx_http_llm_redis_reply_t *reply);
static void ngx_http_llm_keys_log(void *data,
    ngx_http_llm_redis_reply_t *reply);
static void ngx_http_llm_keys_records(void *data,
    ngx_http_llm_redis_reply_t *reply);
static void ngx_http_llm_keys_cuts(void *data,
    ngx_http_llm_redis_reply_t *reply);
static void ngx_http_llm_keys_finish(void);


ngx_http_llm_keys_sync_t  ngx_http_llm_keys_sync;


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


ngx_int_t
ngx_http_llm_keys_send(ngx_uint_t argc, ngx_str_t *argv,
    ngx_http_llm_redis_handler_pt handler)
{
    ngx_http_llm_keys_sync_t  *ks;

    ks = &ngx_http_llm_keys_sync;

    if (handler != ngx_http_llm_keys_meta) {
        ngx_http_llm_keys_seen(ks->mcf)->turn = ngx_current_msec
                                                + NGX_HTTP_LLM_KEYS_LEASE;
        ks->round = 1;
    }

    if (ngx_http_llm_redis_command(ks->mcf->redis, argc, argv,
                                   ks->round ? NGX_HTTP_LLM_KEYS_LATE : 0,
                                   handler, ks)
        == NULL)
    {
        ngx_http_llm_keys_stop();
        return NGX_DECLINED;
    }

    ks->busy = 1;

    return NGX_OK;
}


void
ngx_http_llm_keys_stop(void)
{
    ngx_http_llm_keys_sync_t  *ks;

    ks = &ngx_http_llm_keys_sync;

    ks->busy = 0;

    if (ks->round) {
        ks->round = 0;
        ngx_http_llm_keys_seen(ks->mcf)->turn = ngx_current_msec;
    }

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
    ngx_http_llm_keys_seen_t  *sh;

    sh = ngx_http_llm_keys_seen(ks->mcf);
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
    ks->gave = 0;
    ks->cursor = ks->all ? 0 : seen;
    ks->place = 0;

    ngx_log_debug5(NGX_LOG_DEBUG_HTTP, ngx_cycle->log, 0,
                   "llm keys version:%uL seen:%uL epoch:%uL all:%ui lost:%ui",
                   ks->version, seen, ks->epoch, ks->all, ks->lost);

    if (ks->lost && ngx_atomic_cmp_set(&sh->told, 0, 1)) {
        ngx_log_error(NGX_LOG_WARN, ngx_cycle->log, 0,
                      "llm: Redis does not know of all keys that were made, "
                      "it is told again of those that this gateway knows");
    }

    if (ks->all && !ks->lost && sh->stage
        && sh->stage_epoch == ks->epoch && sh->stage_version <= ks->version)
    {
        ngx_http_llm_keys_resume();
        return;
    }

    sh->stage = 0;

    /* what is gone comes first: it may not be given back */

    (void) ngx_http_llm_keys_range(NGX_HTTP_LLM_KEYS_DEAD,
                                   ngx_http_llm_keys_dead);
}


/* from the last page that came; what changed since is of the next round */

static void
ngx_http_llm_keys_resume(void)
{
    ngx_http_llm_keys_seen_t  *sh;
    ngx_http_llm_keys_sync_t  *ks;

    ks = &ngx_http_llm_keys_sync;
    sh = ngx_http_llm_keys_seen(ks->mcf);

    ks->version = sh->stage_version;

    if (sh->stage == NGX_HTTP_LLM_KEYS_COMPARES) {
        ks->place = sh->stage_place;
        (void) ngx_http_llm_keys_compare();
        return;
    }

    ks->cursor = sh->stage_place;
    (void) ngx_http_llm_keys_scan();
}


void
ngx_http_llm_keys_stage(ngx_uint_t stage, uint64_t place)
{
    ngx_http_llm_keys_seen_t  *sh;
    ngx_http_llm_keys_sync_t  *ks;

    ks = &ngx_http_llm_keys_sync;
    sh = ngx_http_llm_keys_seen(ks->mcf);

    if (sh->stage == 0) {
        sh->stage_version = ks->version;
        sh->stage_epoch = ks->epoch;

    } else if (sh->stage_version != ks->version) {
        return;
    }

    sh->stage_place = place;
    ngx_memory_barrier();
    sh->stage = stage;
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


/* the i-th element of such a page, and its version: as far as it goes */

static void
ngx_http_llm_keys_pair(ngx_http_llm_redis_reply_t *reply, ngx_uint_t i,
    ngx_str_t *field)
{
    ngx_http_llm_redis_reply_t  element;

    (void) ngx_http_llm_redis_element(reply, i, &element);
    *field = element.str;

    ngx_http_llm_keys_sync.cursor = ngx_http_llm_keys_meta_number(reply,
                                                                  i + 1);
}


static void
ngx_http_llm_keys_dead(void *data, ngx_http_llm_redis_reply_t *reply)
{
    ngx_http_llm_keys_sync_t *ks = data;

    ngx_str_t           field;
    ngx_uint_t          i;
    llm_keyring_stat_t  stat;

    if (reply->type != NGX_HTTP_LLM_REDIS_ARRAY) {
        ngx_http_llm_keys_stop();
        return;
    }

    for (i = 0; i + 1 < reply->nelts; i += 2) {
        ngx_http_llm_keys_pair(reply, i, &field);
        ngx_http_llm_keys_apply_gone(ks->mcf, &field, ks->cursor);
    }

    if (reply->nelts == 2 * NGX_HTTP_LLM_KEYS_PAGE) {
        (void) ngx_http_llm_keys_range(NGX_HTTP_LLM_KEYS_DEAD,
                                       ngx_http_llm_keys_dead);
        return;
    }

    if (ks->all) {
        ks->cursor = 0;
        ngx_http_llm_keys_stat(ks->mcf, &stat);
        ngx_http_llm_keys_stage(stat.dynamic_keys || stat.dynamic_teams
                                ? NGX_HTTP_LLM_KEYS_SCANS
                                : NGX_HTTP_LLM_KEYS_FILLS, 0);
        (void) ngx_http_llm_keys_scan();
        return;
    }

    ks->cursor = ngx_http_llm_keys_seen(ks->mcf)->seen;

    (void) ngx_http_llm_keys_range(NGX_HTTP_LLM_KEYS_LOG,
                                   ngx_http_llm_keys_log);
}


static void
ngx_http_llm_keys_log(void *data, ngx_http_llm_redis_reply_t *reply)
{
    ngx_http_llm_keys_sync_t *ks = data;

    ngx_str_t   field;
    ngx_uint_t  i;

    if (reply->type != NGX_HTTP_LLM_REDIS_ARRAY
        || ngx_http_llm_keys_names(reply->nelts / 2) != NGX_OK)
    {
        ngx_http_llm_keys_stop();
        return;
    }

    for (i = 0; i + 1 < reply->nelts; i += 2) {
        ngx_http_llm_keys_pair(reply, i, &field);

        if (ngx_http_llm_keys_name(&field) != NGX_OK) {
            ngx_http_llm_keys_stop();
            return;
        }
    }

    if (ks->nnames) {
        (void) ngx_http_llm_keys_fetch(ngx_http_llm_keys_records);
        return;
    }

    ngx_http_llm_keys_last();
}


/* all rows are known: whose streams are to end? */

void
ngx_http_llm_keys_last(void)
{
    ngx_http_llm_keys_seen_t  *sh;
    ngx_http_llm_keys_sync_t  *ks;

    ks = &ngx_http_llm_keys_sync;
    sh = ngx_http_llm_keys_seen(ks->mcf);

    if (ks->gave) {
        /* the next round sees what became of it */
        ngx_http_llm_keys_stop();
        return;
    }

    /* before a gateway's first round nothing ran */

    if (ks->cut > sh->cut && sh->seen) {
        ks->cursor = sh->cut;
        (void) ngx_http_llm_keys_range(NGX_HTTP_LLM_KEYS_CUT,
                                       ngx_http_llm_keys_cuts);
        return;
    }

    ngx_http_llm_keys_finish();
}


/* the records of the page's names */

ngx_int_t
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

    ngx_str_t   field, name;
    llm_row_e   kind;
    ngx_uint_t  i;

    if (reply->type != NGX_HTTP_LLM_REDIS_ARRAY) {
        ngx_http_llm_keys_stop();
        return;
    }

    for (i = 0; i + 1 < reply->nelts; i += 2) {
        ngx_http_llm_keys_pair(reply, i, &field);

        if (ngx_http_llm_keys_field_parse(&field, &kind, &name)
            == NGX_OK)
        {
            ngx_http_llm_revoke(ks->mcf, &name, ks->cursor);
        }
    }

    if (reply->nelts == 2 * NGX_HTTP_LLM_KEYS_PAGE) {
        (void) ngx_http_llm_keys_range(NGX_HTTP_LLM_KEYS_CUT,
                                       ngx_http_llm_keys_cuts);
        return;
    }

    ngx_http_llm_keys_finish();
}


ngx_int_t
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


ngx_int_t
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
    ngx_http_llm_keys_seen_t  *sh;
    ngx_http_llm_keys_sync_t  *ks;

    ks = &ngx_http_llm_keys_sync;
    sh = ngx_http_llm_keys_seen(ks->mcf);

    ngx_http_llm_keys_stop();

    sh->stage = 0;
    sh->told = 0;
    sh->epoch = ks->epoch;
    sh->cut = ks->cut;

    ngx_memory_barrier();

    /* what was given back to Redis makes it a new one */

    sh->seen = ks->version;
    sh->synced = 1;
}
