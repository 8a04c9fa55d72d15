
/*
 * Copyright (C) the ngx-llm authors
 *
 * /admin/v1/status, slots and breakers: what is going on now.
 */


#include "operate/ngx_http_llm_admin_private.h"
#include "policy/ngx_http_llm_cache.h"
#include "policy/ngx_http_llm_keys.h"
#include "policy/ngx_http_llm_usage.h"
#include "state/ngx_http_llm_redis.h"
#include "state/ngx_http_llm_zone.h"
#include "upstream/ngx_http_llm_choose.h"


#define NGX_HTTP_LLM_ADMIN_LOOK   1024       /* rows of the ledger a visit */
#define NGX_HTTP_LLM_ADMIN_TURNS  256


typedef struct {
    json_t                     *json;
    llm_book_query_t            query;
} ngx_http_llm_admin_status_t;


static ngx_int_t ngx_http_llm_admin_status_ask(ngx_http_llm_admin_t *ad,
    llm_book_kind_e kind);
static void ngx_http_llm_admin_status_sums(void *data,
    ngx_http_llm_usage_answer_t *answer);
static void ngx_http_llm_admin_status_free(void *data);
static json_t *ngx_http_llm_admin_status_cache(ngx_http_llm_admin_t *ad);
static json_t *ngx_http_llm_admin_status_requests(ngx_http_llm_admin_t *ad);
static json_t *ngx_http_llm_admin_slot(llm_ledger_busy_t *busy);
static json_t *ngx_http_llm_admin_target(llm_str_t *name,
    llm_target_stat_t *st);
static json_t *ngx_http_llm_admin_target_limit(llm_target_limit_t *limit);
static json_t *ngx_http_llm_admin_until(uint64_t ms);


/* the names of the three sums of a status */

static const struct {
    llm_book_kind_e             kind;
    const char                 *name;
} ngx_http_llm_admin_sums[] = {
    { LLM_BOOK_DAY, "day" },
    { LLM_BOOK_MONTH, "month" },
    { LLM_BOOK_MINUTE, "minute" }
};


ngx_int_t
ngx_http_llm_admin_status(ngx_http_llm_admin_t *ad)
{
    ngx_core_conf_t              *ccf;
    ngx_atomic_uint_t             started;
    ngx_pool_cleanup_t           *cln;
    llm_keyring_stat_t            stat;
    ngx_http_llm_admin_status_t  *ss;

    cln = ngx_pool_cleanup_add(ad->request->pool,
                               sizeof(ngx_http_llm_admin_status_t));
    if (cln == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ss = cln->data;
    ngx_memzero(ss, sizeof(ngx_http_llm_admin_status_t));

    cln->handler = ngx_http_llm_admin_status_free;
    ad->data = ss;
    ad->rc = 0;

    started = ad->mcf->zone->sh->count.started;

    ccf = (ngx_core_conf_t *) ngx_get_conf(ngx_cycle->conf_ctx,
                                           ngx_core_module);
    ngx_http_llm_keys_stat(ad->mcf, &stat);

    ss->json = json_pack("{s:s, s:s, s:s, s:o, s:i, s:s, s:{s:I, s:I, s:I}, "
                         "s:o, s:o}",
        "object", "status", "version", NGX_HTTP_LLM_VERSION,
        "nginx", NGINX_VERSION,
        "started",
        ngx_http_llm_admin_json_time((time_t) started),
        "workers", (int) ccf->worker_processes,
        "redis", ad->mcf->redis == NULL ? "off"
                 : ngx_http_llm_redis_connected(ad->mcf->redis) ? "up"
                                                                : "down",
        "policy", "file_keys", (json_int_t) stat.keys,
        "admin_keys", (json_int_t) stat.dynamic_keys,
        "teams", (json_int_t) (stat.teams + stat.dynamic_teams),
        "requests", ngx_http_llm_admin_status_requests(ad),
        "cache", ngx_http_llm_admin_status_cache(ad));

    if (ss->json == NULL
        || ngx_http_llm_admin_status_ask(ad, LLM_BOOK_DAY) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_llm_admin_wait(ad);
}


static void
ngx_http_llm_admin_status_free(void *data)
{
    ngx_http_llm_admin_status_t  *ss = data;

    json_decref(ss->json);
}


/* this day and month, and the last minute that is over */

static ngx_int_t
ngx_http_llm_admin_status_ask(ngx_http_llm_admin_t *ad, llm_book_kind_e kind)
{
    uint32_t                      period;
    llm_book_query_t             *q;
    ngx_http_llm_admin_status_t  *ss;

    ss = ad->data;
    q = &ss->query;

    ngx_memzero(q, sizeof(llm_book_query_t));

    period = llm_book_period(kind, ngx_time());

    q->kind = kind;
    q->from = llm_book_start(kind, kind == LLM_BOOK_MINUTE ? period - 1
                                                           : period);
    q->to = kind == LLM_BOOK_MINUTE ? llm_book_start(kind, period)
                                    : ngx_time() + 1;

    if (ngx_http_llm_usage_query(ad->mcf, ad->request->pool, q, 0,
                                 kind == LLM_BOOK_MINUTE,
                                 ngx_http_llm_admin_status_sums, ad)
        == NULL)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


static void
ngx_http_llm_admin_status_sums(void *data, ngx_http_llm_usage_answer_t *answer)
{
    ngx_http_llm_admin_t *ad = data;

    llm_book_sums_t               sums;
    ngx_http_llm_admin_status_t  *ss;

    ss = ad->data;

    ngx_memzero(&sums, sizeof(llm_book_sums_t));

    if (answer->rc == NGX_OK) {
        llm_book_result_total(answer->rs, &sums);
    }

    (void) json_object_set_new(ss->json, ngx_http_llm_admin_sums[ad->rc].name,
                               ngx_http_llm_admin_json_sums(&sums));

    if (++ad->rc < 3) {
        if (ngx_http_llm_admin_status_ask(ad,
                                      ngx_http_llm_admin_sums[ad->rc].kind)
            != NGX_OK)
        {
            ngx_http_llm_admin_done(ad, NGX_HTTP_INTERNAL_SERVER_ERROR);
        }

        return;
    }

    ngx_http_llm_admin_done(ad, ngx_http_llm_admin_answer(ad, NGX_HTTP_OK,
                                                    json_incref(ss->json)));
}


static json_t *
ngx_http_llm_admin_status_requests(ngx_http_llm_admin_t *ad)
{
    llm_owners_t       wake;
    llm_ledger_stat_t  st;

    ngx_http_llm_zone_lock(ad->mcf->zone, &wake);
    llm_ledger_stat(ad->mcf->zone->sh->ledger, &st);
    ngx_http_llm_zone_unlock(ad->mcf->zone, &wake);

    return json_pack("{s:I, s:I}", "running", (json_int_t) st.held,
                     "waiting", (json_int_t) st.waiting);
}


static json_t *
ngx_http_llm_admin_status_cache(ngx_http_llm_admin_t *ad)
{
    int64_t                tokens, money;
    ngx_uint_t             i;
    ngx_atomic_t          *n;
    llm_store_stat_t       store;
    llm_flight_stat_t      flight;
    ngx_http_llm_team_t   *team;

    if (ngx_http_llm_cache_stat(ad->mcf, &store, &flight) != NGX_OK) {
        ngx_memzero(&store, sizeof(llm_store_stat_t));
    }

    n = ad->mcf->zone->sh->count.cache;
    tokens = 0;
    money = 0;

    for (i = 0; /* void */ ; /* void */ ) {
        team = ngx_http_llm_team_next(ad->mcf->zone, &i);
        if (team == NULL) {
            break;
        }

        tokens += team->tokens_saved;
        money += team->money_saved;
    }

    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o}",
        "entries", (json_int_t) store.entries,
        "bytes", (json_int_t) (store.blocks * LLM_STORE_BLOCK),
        "size_bytes", (json_int_t) (store.size * LLM_STORE_BLOCK),
        "hits", (json_int_t) n[NGX_HTTP_LLM_CACHE_HIT],
        "joined", (json_int_t) n[NGX_HTTP_LLM_CACHE_JOINED],
        "stale", (json_int_t) n[NGX_HTTP_LLM_CACHE_STALE],
        "misses", (json_int_t) (n[NGX_HTTP_LLM_CACHE_MISS]
                                + n[NGX_HTTP_LLM_CACHE_RELOAD]),
        "bypassed", (json_int_t) n[NGX_HTTP_LLM_CACHE_BYPASS],
        "saved_tokens", (json_int_t) tokens,
        "saved_usd", ngx_http_llm_admin_json_usd(money));
}


/* what the ledger holds or lets wait */

ngx_int_t
ngx_http_llm_admin_slots(ngx_http_llm_admin_t *ad)
{
    json_t             *list, *slot;
    uint32_t            row;
    ngx_int_t           limit;
    ngx_uint_t          i, n;
    llm_owners_t        wake;
    llm_ledger_busy_t   busy;

    if (ngx_http_llm_admin_limit(ad, NGX_HTTP_LLM_ADMIN_MOST, &limit)
        != NGX_OK)
    {
        return ngx_http_llm_admin_limit_wrong(ad);
    }

    list = json_array();
    row = 0;
    n = 0;

    for (i = 0; i < NGX_HTTP_LLM_ADMIN_TURNS; i++) {

        slot = NULL;

        ngx_http_llm_zone_lock(ad->mcf->zone, &wake);

        row = llm_ledger_busy(ad->mcf->zone->sh->ledger, row,
                              NGX_HTTP_LLM_ADMIN_LOOK, &busy);
        if (busy.name.len) {
            slot = ngx_http_llm_admin_slot(&busy);
        }

        ngx_http_llm_zone_unlock(ad->mcf->zone, &wake);

        if (slot) {
            (void) json_array_append_new(list, slot);
            i = 0;

            if (++n == (ngx_uint_t) limit) {
                break;
            }
        }

        if (row == 0) {
            break;
        }
    }

    return ngx_http_llm_admin_list(ad, list, NULL);
}


/* "k:NAME", "t:NAME", "p:NAME"; shares of a provider are not shown */

static json_t *
ngx_http_llm_admin_slot(llm_ledger_busy_t *busy)
{
    const char  *kind;

    if (busy->name.len < 2 || busy->name.data[1] != ':') {
        return NULL;
    }

    switch (busy->name.data[0]) {

    case 'k':
        kind = "key";
        break;

    case 't':
        kind = "team";
        break;

    case 'p':
        kind = "provider";
        break;

    default:
        return NULL;
    }

    return json_pack("{s:s, s:s, s:o, s:i, s:o, s:i}", "object", "slots",
        "kind", kind, "name",
        ngx_http_llm_admin_json_text((u_char *) busy->name.data + 2,
                                     busy->name.len - 2),
        "in_use", (int) busy->held,
        "concurrency", busy->concurrency == LLM_UNLIMITED
                       ? json_null() : json_integer(busy->concurrency),
        "waiting", (int) busy->waiting);
}


ngx_int_t
ngx_http_llm_admin_breakers(ngx_http_llm_admin_t *ad)
{
    json_t             *list;
    uint32_t            place;
    llm_str_t           name;
    ngx_int_t           limit;
    u_char              text[LLM_TARGET_NAME];
    llm_target_stat_t   stat;

    if (ngx_http_llm_admin_limit(ad, NGX_HTTP_LLM_ADMIN_MOST, &limit)
        != NGX_OK)
    {
        return ngx_http_llm_admin_limit_wrong(ad);
    }

    list = json_array();
    name.data = text;

    for (place = 0;
         json_array_size(list) < (size_t) limit
         && ngx_http_llm_choose_next(ad->mcf, &place, &name, &stat)
            == NGX_OK;
         /* void */ )
    {
        (void) json_array_append_new(list,
                                     ngx_http_llm_admin_target(&name, &stat));
    }

    return ngx_http_llm_admin_list(ad, list, NULL);
}


static json_t *
ngx_http_llm_admin_target(llm_str_t *name, llm_target_stat_t *st)
{
    static const char  *state[] = { "closed", "open", "half_open" };

    return json_pack("{s:s, s:o, s:s, s:o, s:o, s:i, s:o, s:o, s:o, s:o, "
                     "s:I, s:I, s:I, s:I, s:I}",
        "object", "target",
        "name", ngx_http_llm_admin_json_text((u_char *) name->data,
                                             name->len),
        "state", state[st->state],
        "until", st->state == LLM_TARGET_OPEN
                 ? ngx_http_llm_admin_until(st->until) : json_null(),
        "cooling_until", st->state != LLM_TARGET_OPEN && st->until
                         ? ngx_http_llm_admin_until(st->until) : json_null(),
        "running", (int) st->running,
        "most", st->most ? json_integer(st->most) : json_null(),
        "first_ms", st->first_ms < 0
                    ? json_null()
                    : json_pack("{s:I, s:I}", "p50",
                                (json_int_t) st->first_ms, "p95",
                                (json_int_t) st->first_p95),
        "requests", ngx_http_llm_admin_target_limit(&st->requests),
        "tokens", ngx_http_llm_admin_target_limit(&st->tokens),
        "ejections", (json_int_t) st->ejections,
        "cooled", (json_int_t) st->cooled,
        "retries", (json_int_t) st->retries,
        "denied", (json_int_t) st->denied,
        "paced", (json_int_t) st->paced);
}


static json_t *
ngx_http_llm_admin_target_limit(llm_target_limit_t *limit)
{
    if (limit->limit < 0) {
        return json_null();
    }

    return json_pack("{s:I, s:I, s:o}", "limit", (json_int_t) limit->limit,
        "remaining", (json_int_t) ngx_max(limit->remaining, 0),
        "reset_ms", limit->reset < 0 ? json_null()
                                     : json_integer(limit->reset));
}


/* from the clock of events to the wall's */

static json_t *
ngx_http_llm_admin_until(uint64_t ms)
{
    int64_t  left;

    left = (int64_t) (ms - ngx_current_msec);

    return ngx_http_llm_admin_json_time(ngx_time() + (left + 999) / 1000);
}


ngx_int_t
ngx_http_llm_admin_breakers_reset(ngx_http_llm_admin_t *ad)
{
    void         *iter;
    json_t       *value;
    llm_str_t     name;
    ngx_str_t     text;
    ngx_uint_t    n;
    const char   *member;

    iter = json_object_iter(ad->json);

    if (json_object_size(ad->json) != 1) {
        return ngx_http_llm_admin_error(ad, NGX_HTTP_BAD_REQUEST,
            iter ? "invalid_value" : "missing_required_parameter", NULL,
            "Expected exactly one of \"name\" and \"all\".");
    }

    member = json_object_iter_key(iter);
    value = json_object_iter_value(iter);

    if (ngx_strcmp(member, "all") == 0 && json_is_true(value)) {
        name.data = NULL;
        name.len = 0;
        ngx_str_set(&text, "all");

    } else if (ngx_strcmp(member, "name") == 0 && json_is_string(value)
               && json_string_length(value))
    {
        name.data = (u_char *) json_string_value(value);
        name.len = json_string_length(value);
        text.data = (u_char *) name.data;
        text.len = name.len;

    } else {
        n = ngx_strcmp(member, "all") == 0 || ngx_strcmp(member, "name") == 0;

        return ngx_http_llm_admin_error(ad, NGX_HTTP_BAD_REQUEST,
            n ? "invalid_value" : "unknown_parameter", n ? member : NULL,
            "Expected \"name\" with the name of a target, or \"all\" with "
            "true.");
    }

    n = ngx_http_llm_choose_mend(ad->mcf, name.len ? &name : NULL);

    if (n == 0 && name.len) {
        return ngx_http_llm_admin_error(ad, NGX_HTTP_NOT_FOUND,
            "target_not_found", "name", "There is no target \"%V\".", &text);
    }

    ngx_http_llm_admin_audit(ad, &text);

    return ngx_http_llm_admin_answer(ad, NGX_HTTP_OK,
        json_pack("{s:s, s:i}", "object", "breakers.reset", "reset",
                  (int) n));
}
