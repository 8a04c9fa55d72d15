
/*
 * Copyright (C) the ngx-llm authors
 *
 * A letter is a text,
 *
 *      share:GATEWAY:TABLE:AGE:COOL:LIMIT:REMAINING:RESET:SINCE:…:NAME
 *
 * with four numbers of requests and four of tokens, and a target's name last.
 * All workers read it and the first one applies it: the others find its
 * number, which grows on the board, in the shared memory.
 *
 * How long a letter took is not told by clocks of different machines.  Its
 * number has the time of Redis; of the differences to the time here the least
 * of late is that of a letter which took no time.
 */


#include "upstream/ngx_http_llm_share.h"
#include "policy/ngx_http_llm_flight.h"
#include "state/ngx_http_llm_inbox.h"

#include "core/llm_siphash.h"


#define NGX_HTTP_LLM_SHARE_LETTER   "share:"
#define NGX_HTTP_LLM_SHARE_GATEWAY  16         /* hex digits */
#define NGX_HTTP_LLM_SHARE_NUMBERS  10
#define NGX_HTTP_LLM_SHARE_SIZE     (sizeof(NGX_HTTP_LLM_SHARE_LETTER)        \
                                     + NGX_HTTP_LLM_SHARE_GATEWAY + 4         \
                                     + NGX_HTTP_LLM_SHARE_NUMBERS             \
                                       * (NGX_INT64_LEN + 1)                  \
                                     + LLM_TARGET_NAME)

/* letters of a gateway in a second */
#define NGX_HTTP_LLM_SHARE_MOST     200

/* ms that the least difference holds: clocks drift and are set */
#define NGX_HTTP_LLM_SHARE_LATELY   60000

/* a number that is less by so much is of another board */
#define NGX_HTTP_LLM_SHARE_BEHIND   ((uint64_t) 60000 << 20)


typedef struct {
    u_char                     *gateway;
    u_char                      table;
    llm_target_news_t           news;
    llm_str_t                   name;
} ngx_http_llm_share_t;


static ngx_uint_t ngx_http_llm_share_may(ngx_http_llm_main_conf_t *mcf,
    ngx_http_llm_tables_t *tb);
static void ngx_http_llm_share_write(ngx_http_llm_main_conf_t *mcf,
    ngx_http_llm_tables_t *tb, llm_targets_t *tg, uint32_t place,
    llm_target_news_t *news);
static u_char *ngx_http_llm_share_gateway(ngx_http_llm_main_conf_t *mcf);
static void ngx_http_llm_share_letter(ngx_str_t *letter, uint64_t id);
static ngx_int_t ngx_http_llm_share_read(ngx_str_t *letter,
    ngx_http_llm_share_t *sh);
static u_char *ngx_http_llm_share_number(u_char *p, u_char *last, int64_t *n);
static ngx_http_llm_provider_t *ngx_http_llm_share_provider(
    ngx_http_llm_main_conf_t *mcf, ngx_http_llm_share_t *sh);
static void ngx_http_llm_share_apply(ngx_http_llm_share_t *sh,
    ngx_http_llm_provider_t *provider, uint64_t id, uint64_t late);
static uint64_t ngx_http_llm_share_late(uint64_t id);


/* this worker's */

static ngx_http_llm_main_conf_t  *ngx_http_llm_share_conf;
static u_char                     ngx_http_llm_share_text[
                                                    NGX_HTTP_LLM_SHARE_SIZE];
static size_t                     ngx_http_llm_share_len;


ngx_int_t
ngx_http_llm_share_create(ngx_conf_t *cf, ngx_http_llm_main_conf_t *mcf)
{
    if (mcf->inbox || (mcf->redis == NULL && mcf->redis_cache == NULL)) {
        return NGX_OK;
    }

    mcf->inbox = mcf->redis_cache
                 ? ngx_http_llm_inbox_create(cf, &mcf->redis_cache_url,
                                             mcf->redis_cache)
                 : ngx_http_llm_inbox_create(cf, &mcf->redis_url, mcf->redis);

    return mcf->inbox ? NGX_OK : NGX_ERROR;
}


void
ngx_http_llm_share_init_process(ngx_http_llm_main_conf_t *mcf)
{
    ngx_http_llm_share_conf = mcf;
    ngx_http_llm_fleet_board = ngx_http_llm_share_letter;
}


void
ngx_http_llm_share_told(ngx_http_llm_main_conf_t *mcf,
    ngx_http_llm_tables_t *tb, llm_targets_t *tg, uint32_t place,
    llm_target_call_t *call, ngx_http_llm_attempt_t *at)
{
    llm_target_news_t  news;

    if (at->target->provider->pace
        && ngx_http_llm_share_may(mcf, tb)
        && llm_target_tell(tg, place, call, &at->told_requests,
                           &at->told_tokens, ngx_current_msec, &news))
    {
        ngx_http_llm_share_write(mcf, tb, tg, place, &news);
    }
}


void
ngx_http_llm_share_cool(ngx_http_llm_main_conf_t *mcf,
    ngx_http_llm_tables_t *tb, llm_targets_t *tg, uint32_t place)
{
    llm_target_news_t  news;

    if (ngx_http_llm_share_may(mcf, tb)
        && llm_target_tell_cool(tg, place, ngx_current_msec, &news))
    {
        ngx_http_llm_share_write(mcf, tb, tg, place, &news);
    }
}


static ngx_uint_t
ngx_http_llm_share_may(ngx_http_llm_main_conf_t *mcf,
    ngx_http_llm_tables_t *tb)
{
    uint64_t  second;

    if (mcf->inbox == NULL || !ngx_http_llm_inbox_ready(mcf->inbox)) {
        return 0;
    }

    second = ngx_current_msec / 1000;

    if (tb->second != second) {
        tb->second = second;
        tb->posted = 0;
    }

    return tb->posted < NGX_HTTP_LLM_SHARE_MOST;
}


static void
ngx_http_llm_share_write(ngx_http_llm_main_conf_t *mcf,
    ngx_http_llm_tables_t *tb, llm_targets_t *tg, uint32_t place,
    llm_target_news_t *news)
{
    u_char     *p;
    llm_str_t   name;

    if (llm_target_next(tg, place, &name) != place) {
        return;
    }

    tb->posted++;

    p = ngx_sprintf(ngx_http_llm_share_text,
                    NGX_HTTP_LLM_SHARE_LETTER "%*s:%c:%uL:%L",
                    (size_t) NGX_HTTP_LLM_SHARE_GATEWAY,
                    ngx_http_llm_share_gateway(mcf),
                    tg == tb->models ? 'm' : 'n', news->age, news->cool);

    p = ngx_sprintf(p, ":%L:%L:%L:%L:%L:%L:%L:%L:",
                    news->requests.limit, news->requests.remaining,
                    news->requests.reset, news->requests_since,
                    news->tokens.limit, news->tokens.remaining,
                    news->tokens.reset, news->tokens_since);

    p = ngx_cpymem(p, name.data, name.len);

    ngx_http_llm_share_len = p - ngx_http_llm_share_text;
}


void
ngx_http_llm_share_post(ngx_http_llm_main_conf_t *mcf)
{
    ngx_str_t  letter;

    if (ngx_http_llm_share_len == 0) {
        return;
    }

    letter.data = ngx_http_llm_share_text;
    letter.len = ngx_http_llm_share_len;

    ngx_http_llm_share_len = 0;

    ngx_log_debug1(NGX_LOG_DEBUG_HTTP, ngx_cycle->log, 0,
                   "llm share \"%V\"", &letter);

    /* what cannot be sent now is old when it could be */

    (void) ngx_http_llm_inbox_post_all(mcf->inbox, &letter, 1);
}


/* random, of this memory: all workers of this gateway have it, no others */

static u_char *
ngx_http_llm_share_gateway(ngx_http_llm_main_conf_t *mcf)
{
    uint64_t  sum[2];

    static u_char  name[NGX_HTTP_LLM_SHARE_GATEWAY];

    llm_siphash(mcf->targets->sh->seed, (u_char *) "share", 5, sum);

    (void) ngx_hex_dump(name, (u_char *) sum, sizeof(name) / 2);

    return name;
}


static void
ngx_http_llm_share_letter(ngx_str_t *letter, uint64_t id)
{
    uint64_t                  late;
    ngx_http_llm_share_t      sh;
    ngx_http_llm_provider_t  *provider;

    late = ngx_http_llm_share_late(id);

    if (ngx_http_llm_share_read(letter, &sh) != NGX_OK
        || ngx_memcmp(sh.gateway,
                      ngx_http_llm_share_gateway(ngx_http_llm_share_conf),
                      NGX_HTTP_LLM_SHARE_GATEWAY)
           == 0)
    {
        return;
    }

    provider = ngx_http_llm_share_provider(ngx_http_llm_share_conf, &sh);

    if (provider) {
        ngx_http_llm_share_apply(&sh, provider, id, late);
    }
}


static ngx_int_t
ngx_http_llm_share_read(ngx_str_t *letter, ngx_http_llm_share_t *sh)
{
    u_char      *p, *last;
    size_t       len;
    int64_t      n[NGX_HTTP_LLM_SHARE_NUMBERS];
    ngx_uint_t   i;

    len = sizeof(NGX_HTTP_LLM_SHARE_LETTER) - 1;

    if (letter->len < len + NGX_HTTP_LLM_SHARE_GATEWAY + 3
        || letter->len > NGX_HTTP_LLM_SHARE_SIZE
        || ngx_memcmp(letter->data, NGX_HTTP_LLM_SHARE_LETTER, len) != 0)
    {
        return NGX_DECLINED;
    }

    last = letter->data + letter->len;

    sh->gateway = letter->data + len;
    p = sh->gateway + NGX_HTTP_LLM_SHARE_GATEWAY;

    if (p[0] != ':' || p[2] != ':') {
        return NGX_DECLINED;
    }

    sh->table = p[1];
    p += 3;

    for (i = 0; i < NGX_HTTP_LLM_SHARE_NUMBERS; i++) {
        p = ngx_http_llm_share_number(p, last, &n[i]);

        if (p == NULL) {
            return NGX_DECLINED;
        }
    }

    if (n[0] < 0 || p == last || last - p > LLM_TARGET_NAME) {
        return NGX_DECLINED;
    }

    sh->news.age = (uint64_t) n[0];
    sh->news.cool = n[1];
    sh->news.requests.limit = n[2];
    sh->news.requests.remaining = n[3];
    sh->news.requests.reset = n[4];
    sh->news.requests_since = n[5];
    sh->news.tokens.limit = n[6];
    sh->news.tokens.remaining = n[7];
    sh->news.tokens.reset = n[8];
    sh->news.tokens_since = n[9];

    sh->name.data = p;
    sh->name.len = last - p;

    return NGX_OK;
}


/* up to a colon, which is passed; NULL: it is none */

static u_char *
ngx_http_llm_share_number(u_char *p, u_char *last, int64_t *n)
{
    u_char      *end;
    ngx_uint_t   minus;

    minus = p < last && *p == '-';
    p += minus;

    end = ngx_strlchr(p, last, ':');

    if (end == NULL || end == p || end - p > 18) {
        return NULL;
    }

    for (*n = 0; p < end; p++) {

        if (*p < '0' || *p > '9') {
            return NULL;
        }

        *n = *n * 10 + (*p - '0');
    }

    if (minus) {
        *n = -*n;
    }

    return end + 1;
}


/* of names that are configured here, and models at those */

static ngx_http_llm_provider_t *
ngx_http_llm_share_provider(ngx_http_llm_main_conf_t *mcf,
    ngx_http_llm_share_t *sh)
{
    ngx_uint_t              i, j;
    ngx_http_llm_route_t   *route;
    ngx_http_llm_target_t  *t;

    route = mcf->routes.elts;

    for (i = 0; i < mcf->routes.nelts; i++) {
        t = route[i].targets.elts;

        for (j = 0; j < route[i].targets.nelts; j++) {

            if ((t[j].model.len == 0) != (sh->table == 'm')
                || t[j].name.len > sh->name.len
                || ngx_memcmp(t[j].name.data, sh->name.data, t[j].name.len)
                   != 0)
            {
                continue;
            }

            if (sh->table == 'm'
                ? sh->name.len > t[j].name.len + 1
                  && sh->name.data[t[j].name.len] == ':'
                : sh->name.len == t[j].name.len)
            {
                return t[j].provider;
            }
        }
    }

    return NULL;
}


static void
ngx_http_llm_share_apply(ngx_http_llm_share_t *sh,
    ngx_http_llm_provider_t *provider, uint64_t id, uint64_t late)
{
    uint32_t                place;
    ngx_uint_t              known;
    llm_targets_t          *tg;
    llm_target_conf_t       tc;
    ngx_http_llm_area_t    *area;
    ngx_http_llm_tables_t  *tb;

    ngx_memzero(&tc, sizeof(llm_target_conf_t));

    tc.pace = provider->pace ? 1 : 0;
    tc.windowed = provider->windowed ? 1 : 0;

    area = ngx_http_llm_share_conf->targets;

    tb = ngx_http_llm_area_lock(area);

    known = id <= tb->heard && tb->heard - id < NGX_HTTP_LLM_SHARE_BEHIND;

    if (!known) {
        tb->heard = id;

        tg = sh->table == 'm' ? tb->models : tb->named;
        place = llm_target_find(tg, &sh->name, ngx_current_msec);

        llm_target_heard(tg, place, &tc, &sh->news, late, ngx_current_msec);
    }

    ngx_http_llm_area_unlock(area);

    ngx_log_debug4(NGX_LOG_DEBUG_HTTP, ngx_cycle->log, 0,
                   "llm share heard of \"%*s\" known:%ui late:%uL",
                   sh->name.len, sh->name.data, known, late);
}


static uint64_t
ngx_http_llm_share_late(uint64_t id)
{
    int64_t  took;

    static int64_t     least[2];
    static ngx_msec_t  since;
    static ngx_uint_t  begun;

    took = (int64_t) ngx_current_msec - (int64_t) (id >> 20);

    if (!begun) {
        begun = 1;
        least[0] = took;
        least[1] = took;
        since = ngx_current_msec;
    }

    if (ngx_current_msec - since >= NGX_HTTP_LLM_SHARE_LATELY) {
        least[1] = least[0];
        least[0] = took;
        since = ngx_current_msec;
    }

    least[0] = ngx_min(least[0], took);

    return (uint64_t) (took - ngx_min(least[0], least[1]));
}
