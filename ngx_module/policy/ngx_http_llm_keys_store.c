
/*
 * Copyright (C) the ngx-llm authors
 *
 * A change on its way into the store, and from there into shared memory.
 */


#include "policy/ngx_http_llm_keys_store_private.h"
#include "policy/ngx_http_llm_revoke.h"
#include "http/ngx_http_llm_arena.h"
#include "http/ngx_http_llm_json.h"
#include "http/ngx_http_llm_quiet.h"


#define NGX_HTTP_LLM_KEYS_ARENA    65536
#define NGX_HTTP_LLM_KEYS_BLOCKS   2048         /* of one row, at most */
#define NGX_HTTP_LLM_KEYS_TIMER    250          /* ms */


typedef struct {
    ngx_http_llm_main_conf_t     *mcf;
    ngx_pool_t                   *pool;
    ngx_str_t                     field;
    ngx_str_t                     name;
    ngx_str_t                     record;       /* empty: it goes */
    ngx_uint_t                    cut;
    ngx_http_llm_keys_handler_pt  handler;
    void                         *data;
    u_char                        buf[NGX_HTTP_LLM_KEYS_FIELD];
} ngx_http_llm_keys_sent_t;


static ngx_uint_t ngx_http_llm_keys_room(ngx_http_llm_main_conf_t *mcf);
static ngx_http_llm_keys_sent_t *ngx_http_llm_keys_sent(
    ngx_http_llm_main_conf_t *mcf, ngx_http_llm_keys_change_t *change);
static void ngx_http_llm_keys_stored(void *data,
    ngx_http_llm_redis_reply_t *reply);
static ngx_int_t ngx_http_llm_keys_read(ngx_str_t *field, ngx_str_t *record,
    ngx_pool_t *pool, llm_policy_row_t *row);
static ngx_int_t ngx_http_llm_keys_taken(ngx_str_t *field, int rc);
static void ngx_http_llm_keys_timer(ngx_event_t *ev);


static ngx_event_t       ngx_http_llm_keys_event;
static ngx_connection_t  ngx_http_llm_keys_dummy;


/*
 * Versions are times of Redis, so that they grow even if it loses its data.
 * Of what is gone only the last ten thousand are remembered; who was away for
 * longer compares all.
 */

ngx_str_t  ngx_http_llm_keys_lua = ngx_string(
    "local hash, log, dead, cuts, meta = unpack(KEYS)\n"
    "local field, expect, record = ARGV[1], ARGV[2], ARGV[3]\n"
    "local known = tonumber(ARGV[5])\n"
    "local call = redis.call\n"
    "local now = call('HGET', hash, field)\n"
    "local was = now and string.match(now, '^%d+') or '0'\n"
    "if (expect ~= '*' and expect ~= was) or (record == '' and not now) then\n"
    "    return {}\n"
    "end\n"
    "if known > 0 and call('ZSCORE', dead, field) then\n"
    "    return {}\n"
    "end\n"
    "local t = call('TIME')\n"
    "local v = math.max(t[1] * 1000000 + t[2], known + 1,\n"
    "    tonumber(call('HGET', meta, 'v') or 0) + 1)\n"
    "v = string.format('%.0f', v)\n"
    "call('HSET', meta, 'v', v)\n"
    "call('HSETNX', meta, 'e', v)\n"
    "if record ~= '' then\n"
    "    call('HSET', hash, field, v .. ' ' .. record)\n"
    "    call('ZADD', log, v, field)\n"
    "    call('ZREM', dead, field)\n"
    "else\n"
    "    call('HDEL', hash, field)\n"
    "    call('ZREM', log, field)\n"
    "    call('ZADD', dead, v, field)\n"
    "    if call('ZCARD', dead) > 10000 then\n"
    "        local last = call('ZRANGE', dead, 999, 999, 'WITHSCORES')\n"
    "        call('HSET', meta, 'floor', string.format('%.0f', last[2]))\n"
    "        call('ZREMRANGEBYRANK', dead, 0, 999)\n"
    "    end\n"
    "end\n"
    "if ARGV[4] == '1' then\n"
    "    call('ZADD', cuts, v, field)\n"
    "    call('ZREMRANGEBYRANK', cuts, 0, -1001)\n"
    "    call('HSET', meta, 'cut', v)\n"
    "end\n"
    "return {v}\n"
);


ngx_uint_t
ngx_http_llm_keys_store_there(ngx_http_llm_main_conf_t *mcf)
{
    return mcf->redis != NULL || mcf->state != NULL;
}


ngx_uint_t
ngx_http_llm_keys_synced(ngx_http_llm_main_conf_t *mcf)
{
    return mcf->redis == NULL || ngx_http_llm_keys_seen(mcf)->synced;
}


ngx_int_t
ngx_http_llm_keys_store(ngx_http_llm_main_conf_t *mcf,
    ngx_http_llm_keys_change_t *change, uint64_t *version)
{
    ngx_int_t                  rc;
    ngx_http_llm_keys_sent_t  *sent;

    *version = 0;

    if (!ngx_http_llm_keys_store_there(mcf)) {
        return NGX_ABORT;
    }

    if (change->row) {

        if (ngx_http_llm_keys_check(mcf, change->row) != LLM_OK) {
            return NGX_HTTP_LLM_KEYS_SECRET;
        }

        if (!ngx_http_llm_keys_room(mcf)) {
            return NGX_ERROR;
        }
    }

    sent = ngx_http_llm_keys_sent(mcf, change);
    if (sent == NULL) {
        return NGX_ERROR;
    }

    if (mcf->redis == NULL) {
        rc = ngx_http_llm_keys_journal(mcf, change, &sent->field,
                                       &sent->record, version);

        if (rc == NGX_OK && change->cut) {
            ngx_http_llm_revoke(mcf, &sent->name, *version);
        }

        ngx_destroy_pool(sent->pool);
        return rc;
    }

    if (ngx_http_llm_keys_eval(mcf->redis, &sent->field, change->expect,
                               &sent->record, change->cut, 0,
                               ngx_http_llm_keys_stored, sent)
        == NULL)
    {
        ngx_destroy_pool(sent->pool);
        return NGX_BUSY;
    }

    return NGX_AGAIN;
}


/* known before it is stored, so that no store has what is not in force */

static ngx_uint_t
ngx_http_llm_keys_room(ngx_http_llm_main_conf_t *mcf)
{
    llm_keyring_stat_t  stat;

    ngx_http_llm_keys_stat(mcf, &stat);

    return stat.blocks - stat.used > ngx_min(NGX_HTTP_LLM_KEYS_BLOCKS,
                                             stat.blocks / 16);
}


/* the change as a store takes it, in a pool of its own */

static ngx_http_llm_keys_sent_t *
ngx_http_llm_keys_sent(ngx_http_llm_main_conf_t *mcf,
    ngx_http_llm_keys_change_t *change)
{
    ngx_pool_t                *pool;
    ngx_http_llm_keys_sent_t  *sent;

    pool = ngx_create_pool(4096, ngx_cycle->log);
    if (pool == NULL) {
        return NULL;
    }

    sent = ngx_pcalloc(pool, sizeof(ngx_http_llm_keys_sent_t));

    if (sent == NULL
        || ngx_http_llm_keys_field(change->kind, &change->name, sent->buf,
                                   &sent->field)
           != NGX_OK
        || (change->row && ngx_http_llm_keys_record(pool, change->row,
                                                    &sent->record)
                           != NGX_OK))
    {
        ngx_destroy_pool(pool);
        return NULL;
    }

    sent->name.data = sent->field.data + 2;
    sent->name.len = sent->field.len - 2;

    sent->mcf = mcf;
    sent->pool = pool;
    sent->cut = change->cut;
    sent->handler = change->handler;
    sent->data = change->data;

    return sent;
}


ngx_http_llm_redis_op_t *
ngx_http_llm_keys_eval(ngx_http_llm_redis_t *rd, ngx_str_t *field,
    uint64_t expect, ngx_str_t *record, ngx_uint_t cut, uint64_t known,
    ngx_http_llm_redis_handler_pt handler, void *data)
{
    u_char     digits[NGX_INT64_LEN], version[NGX_INT64_LEN];
    ngx_str_t  argv[13];

    ngx_str_set(&argv[0], "EVAL");
    argv[1] = ngx_http_llm_keys_lua;
    ngx_str_set(&argv[2], "5");
    ngx_str_set(&argv[3], NGX_HTTP_LLM_KEYS_HASH);
    ngx_str_set(&argv[4], NGX_HTTP_LLM_KEYS_LOG);
    ngx_str_set(&argv[5], NGX_HTTP_LLM_KEYS_DEAD);
    ngx_str_set(&argv[6], NGX_HTTP_LLM_KEYS_CUT);
    ngx_str_set(&argv[7], NGX_HTTP_LLM_KEYS_META);

    argv[8] = *field;
    argv[9].data = digits;
    argv[9].len = (expect == LLM_KEYRING_ANY
                   ? ngx_sprintf(digits, "*")
                   : ngx_sprintf(digits, "%uL", expect))
                  - digits;
    argv[10] = *record;
    argv[11].data = (u_char *) (cut ? "1" : "0");
    argv[11].len = 1;

    argv[12].data = version;
    argv[12].len = ngx_sprintf(version, "%uL", known) - version;

    return ngx_http_llm_redis_command(rd, 13, argv, 0, handler, data);
}


static void
ngx_http_llm_keys_stored(void *data, ngx_http_llm_redis_reply_t *reply)
{
    ngx_http_llm_keys_sent_t *sent = data;

    uint64_t                       version;
    ngx_int_t                      rc;
    ngx_pool_t                    *pool;
    ngx_http_llm_redis_reply_t     element;

    version = 0;
    pool = sent->pool;

    switch (reply->type) {

    case NGX_HTTP_LLM_REDIS_ARRAY:
        rc = NGX_DECLINED;

        if (ngx_http_llm_redis_element(reply, 0, &element) == NGX_OK) {
            version = ngx_http_llm_keys_number(&element.str);
            rc = version ? NGX_OK : NGX_BUSY;
        }

        break;

    case NGX_HTTP_LLM_REDIS_TIMEOUT:
    case NGX_HTTP_LLM_REDIS_GONE:
        rc = NGX_HTTP_LLM_KEYS_TIMEOUT;
        break;

    default:
        rc = NGX_BUSY;
    }

    if (rc == NGX_OK) {

        if (sent->record.len) {
            rc = ngx_http_llm_keys_apply(sent->mcf, &sent->field, version,
                                         &sent->record);
        } else {
            ngx_http_llm_keys_apply_gone(sent->mcf, &sent->field, version);
        }

        if (sent->cut) {
            ngx_http_llm_revoke(sent->mcf, &sent->name, version);
        }
    }

    ngx_log_debug3(NGX_LOG_DEBUG_HTTP, ngx_cycle->log, 0,
                   "llm keys stored \"%V\" version:%uL rc:%i", &sent->field,
                   version, rc);

    sent->handler(sent->data, rc, version);

    ngx_destroy_pool(pool);
}


ngx_int_t
ngx_http_llm_keys_record(ngx_pool_t *pool, llm_policy_row_t *row,
    ngx_str_t *record)
{
    size_t  len;

    len = llm_policy_row_write(row, LLM_POLICY_RECORD, NULL, 0);

    record->data = ngx_pnalloc(pool, len + 2);
    if (record->data == NULL) {
        return NGX_ERROR;
    }

    record->data[0] = '{';
    (void) llm_policy_row_write(row, LLM_POLICY_RECORD,
                                (char *) record->data + 1, len);
    record->data[len + 1] = '}';
    record->len = len + 2;

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_keys_field(llm_row_e kind, ngx_str_t *name, u_char *buf,
    ngx_str_t *field)
{
    if (name->len == 0 || name->len + 2 > NGX_HTTP_LLM_KEYS_FIELD) {
        return NGX_DECLINED;
    }

    field->data = buf;
    field->len = name->len + 2;

    buf[0] = kind == LLM_ROW_KEY ? 'k' : 't';
    buf[1] = ':';
    ngx_memcpy(buf + 2, name->data, name->len);

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_keys_field_parse(ngx_str_t *field, llm_row_e *kind,
    ngx_str_t *name)
{
    if (field->len < 3 || field->len > NGX_HTTP_LLM_KEYS_FIELD
        || field->data[1] != ':'
        || (field->data[0] != 'k' && field->data[0] != 't'))
    {
        return NGX_DECLINED;
    }

    *kind = field->data[0] == 'k' ? LLM_ROW_KEY : LLM_ROW_TEAM;

    name->data = field->data + 2;
    name->len = field->len - 2;

    return NGX_OK;
}


uint64_t
ngx_http_llm_keys_number(ngx_str_t *s)
{
    off_t  n;

    n = ngx_atoof(s->data, s->len);

    return n == NGX_ERROR ? 0 : (uint64_t) n;
}


ngx_int_t
ngx_http_llm_keys_apply(ngx_http_llm_main_conf_t *mcf, ngx_str_t *field,
    uint64_t version, ngx_str_t *record)
{
    int                put;
    ngx_int_t          rc;
    ngx_str_t          name;
    llm_row_e          kind;
    ngx_pool_t        *pool;
    llm_policy_row_t   row;

    if (version == 0
        || ngx_http_llm_keys_field_parse(field, &kind, &name) != NGX_OK)
    {
        return NGX_DECLINED;
    }

    pool = ngx_create_pool(4096, ngx_cycle->log);
    if (pool == NULL) {
        return NGX_ERROR;
    }

    llm_policy_row_clear(&row, kind);

    rc = ngx_http_llm_keys_read(field, record, pool, &row);

    if (rc != NGX_OK) {
        ngx_destroy_pool(pool);
        return rc;
    }

    row.name.data = name.data;
    row.name.len = name.len;
    row.version = version;

    put = ngx_http_llm_keys_put(mcf, &row, LLM_KEYRING_ANY);

    ngx_destroy_pool(pool);

    return ngx_http_llm_keys_taken(field, put);
}


/* NGX_DECLINED: it is wrong */

static ngx_int_t
ngx_http_llm_keys_read(ngx_str_t *field, ngx_str_t *record, ngx_pool_t *pool,
    llm_policy_row_t *row)
{
    char         err[256];
    llm_arena_t  arena;

    ngx_memzero(&arena, sizeof(llm_arena_t));

    arena.left = NGX_HTTP_LLM_KEYS_ARENA;
    arena.alloc = ngx_http_llm_arena_alloc;
    arena.data = pool;

    llm_tree_watch();

    if (llm_policy_row_parse(row, (char *) record->data, record->len,
                             LLM_POLICY_RECORD, NULL, &arena, err,
                             sizeof(err), NULL)
        != LLM_OK)
    {
        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                      "llm: what is kept of \"%V\" cannot be read: %s", field,
                      err);

        /* without memory it need not be wrong */

        return arena.failed || llm_tree_no_memory() ? NGX_ERROR : NGX_DECLINED;
    }

    return NGX_OK;
}


/* what the keyring said to the row */

static ngx_int_t
ngx_http_llm_keys_taken(ngx_str_t *field, int rc)
{
    const char  *more;

    if (rc == LLM_DECLINED) {
        more = ngx_http_llm_quiet(NGX_HTTP_LLM_QUIET_ROOM, "", 0);

        if (more) {
            ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                          "llm: there is no room for \"%V\": keys= of "
                          "llm_zone is too small%s", field, more);
        }

        return NGX_ERROR;
    }

    if (rc == LLM_KEYRING_SECRET) {
        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                      "llm: \"%V\" is not taken into the policy: another key "
                      "has its secret", field);
        return NGX_HTTP_LLM_KEYS_SECRET;
    }

    if (rc != LLM_OK && rc != LLM_KEYRING_STALE) {
        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                      "llm: \"%V\" is not taken into the policy (%d)", field,
                      rc);
        return NGX_DECLINED;
    }

    return NGX_OK;
}


void
ngx_http_llm_keys_apply_gone(ngx_http_llm_main_conf_t *mcf, ngx_str_t *field,
    uint64_t version)
{
    ngx_str_t           name;
    llm_row_e           kind;
    ngx_pool_t         *pool;
    llm_keyring_item_t  item;

    if (ngx_http_llm_keys_field_parse(field, &kind, &name) != NGX_OK) {
        return;
    }

    pool = ngx_create_pool(1024, ngx_cycle->log);
    if (pool == NULL) {
        return;
    }

    /* one of this name that was made since stays */

    if (ngx_http_llm_keys_get(mcf, kind, &name, 1, pool, &item) == NGX_OK
        && item.row.version <= version)
    {
        (void) ngx_http_llm_keys_remove(mcf, kind, &name, item.row.version);
    }

    ngx_destroy_pool(pool);
}


ngx_int_t
ngx_http_llm_keys_store_init_module(ngx_http_llm_main_conf_t *mcf,
    ngx_cycle_t *cycle)
{
    if (mcf->redis || mcf->state == NULL || ngx_test_config) {
        return NGX_OK;
    }

    return ngx_http_llm_keys_journal_load(mcf, cycle);
}


ngx_int_t
ngx_http_llm_keys_store_init_process(ngx_http_llm_main_conf_t *mcf,
    ngx_cycle_t *cycle)
{
    ngx_event_t  *ev;

    ngx_http_llm_keys_dummy.fd = (ngx_socket_t) -1;

    ev = &ngx_http_llm_keys_event;

    ev->handler = ngx_http_llm_keys_timer;
    ev->data = &ngx_http_llm_keys_dummy;
    ev->log = cycle->log;
    ev->cancelable = 1;

    ngx_add_timer(ev, 10);

    return NGX_OK;
}


static void
ngx_http_llm_keys_timer(ngx_event_t *ev)
{
    ngx_msec_t                 wait;
    ngx_atomic_uint_t          turn;
    ngx_http_llm_main_conf_t  *mcf;
    ngx_http_llm_keys_seen_t  *sh;

    mcf = ngx_http_cycle_get_module_main_conf(ngx_cycle, ngx_http_llm_module);
    sh = ngx_http_llm_keys_seen(mcf);

    ngx_http_llm_revoke_check(mcf);

    wait = ngx_http_llm_keys_synced(mcf) ? NGX_HTTP_LLM_KEYS_TIMER : 25;

    if (mcf->redis) {
        turn = sh->turn;

        if ((ngx_msec_int_t) (ngx_current_msec - turn) >= (ngx_msec_int_t) 0
            && ngx_atomic_cmp_set(&sh->turn, turn, ngx_current_msec + wait))
        {
            ngx_http_llm_keys_follow(mcf);
        }
    }

    ngx_add_timer(ev, wait);
}
