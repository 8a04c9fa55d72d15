
/*
 * Copyright (C) the ngx-llm authors
 *
 * The backstop of letters: once a second one worker asks for the version of
 * the fleet's generations, and for all of them if it is another one.  If
 * Redis knows less than before (it was emptied, or is an older copy), nobody
 * can say any more what was purged: then all is.
 */


#include "policy/ngx_http_llm_purge.h"
#include "policy/ngx_http_llm_purge_private.h"


#define NGX_HTTP_LLM_PURGE_INTERVAL  1000         /* ms */
#define NGX_HTTP_LLM_PURGE_SOON      50           /* … until it is known */


static void ngx_http_llm_purge_version(void *data,
    ngx_http_llm_redis_reply_t *reply);
static void ngx_http_llm_purge_fields(void *data,
    ngx_http_llm_redis_reply_t *reply);
static void ngx_http_llm_purge_field(ngx_http_llm_main_conf_t *mcf,
    ngx_str_t *field, ngx_str_t *value);
static void ngx_http_llm_purge_forgotten(ngx_http_llm_main_conf_t *mcf);
static void ngx_http_llm_purge_timer(ngx_event_t *ev);


static ngx_event_t       ngx_http_llm_purge_event;
static ngx_connection_t  ngx_http_llm_purge_dummy;
static ngx_uint_t        ngx_http_llm_purge_asking;


ngx_int_t
ngx_http_llm_purge_init_process(ngx_http_llm_main_conf_t *mcf,
    ngx_cycle_t *cycle)
{
    ngx_event_t  *ev;

    if (ngx_http_llm_purge_redis(mcf) == NULL) {
        return NGX_OK;
    }

    ngx_http_llm_purge_dummy.fd = (ngx_socket_t) -1;

    ev = &ngx_http_llm_purge_event;

    ev->handler = ngx_http_llm_purge_timer;
    ev->data = &ngx_http_llm_purge_dummy;
    ev->log = cycle->log;
    ev->cancelable = 1;

    ngx_add_timer(ev, NGX_HTTP_LLM_PURGE_SOON);

    return NGX_OK;
}


ngx_uint_t
ngx_http_llm_purge_known(ngx_http_llm_main_conf_t *mcf)
{
    uint64_t  version, epoch;

    return ngx_http_llm_purge_redis(mcf) == NULL
           || ngx_http_llm_generation_seen(mcf->zone, &version, &epoch)
              == NGX_OK;
}


void
ngx_http_llm_purge_sync(ngx_http_llm_main_conf_t *mcf)
{
    ngx_str_t              argv[4];
    ngx_http_llm_redis_t  *rd;

    rd = ngx_http_llm_purge_redis(mcf);

    if (rd == NULL || ngx_http_llm_purge_asking) {
        return;
    }

    ngx_str_set(&argv[0], "HMGET");
    argv[1] = ngx_http_llm_purge_hash;
    ngx_str_set(&argv[2], "v");
    ngx_str_set(&argv[3], "e");

    if (ngx_http_llm_redis_command(rd, 4, argv, 0,
                                   ngx_http_llm_purge_version, mcf))
    {
        ngx_http_llm_purge_asking = 1;
    }
}


static void
ngx_http_llm_purge_version(void *data, ngx_http_llm_redis_reply_t *reply)
{
    ngx_http_llm_main_conf_t *mcf = data;

    uint64_t                    version, epoch;
    ngx_str_t                   argv[2];
    ngx_int_t                   known;
    ngx_http_llm_redis_reply_t  v, e;

    ngx_http_llm_purge_asking = 0;

    if (reply->type != NGX_HTTP_LLM_REDIS_ARRAY
        || ngx_http_llm_redis_element(reply, 0, &v) != NGX_OK
        || ngx_http_llm_redis_element(reply, 1, &e) != NGX_OK)
    {
        return;
    }

    known = ngx_http_llm_generation_seen(mcf->zone, &version, &epoch);

    if (known == NGX_OK
        && version == (v.type == NGX_HTTP_LLM_REDIS_STRING
                       ? ngx_http_llm_purge_number(&v.str) : 0)
        && epoch == (e.type == NGX_HTTP_LLM_REDIS_STRING
                     ? ngx_http_llm_purge_number(&e.str) : 0))
    {
        return;
    }

    ngx_str_set(&argv[0], "HGETALL");
    argv[1] = ngx_http_llm_purge_hash;

    if (ngx_http_llm_redis_command(ngx_http_llm_purge_redis(mcf), 2, argv, 0,
                                   ngx_http_llm_purge_fields, mcf))
    {
        ngx_http_llm_purge_asking = 1;
    }
}


static void
ngx_http_llm_purge_fields(void *data, ngx_http_llm_redis_reply_t *reply)
{
    ngx_http_llm_main_conf_t *mcf = data;

    uint64_t                    version, epoch, all, last, seen, since;
    ngx_uint_t                  i, lost;
    ngx_http_llm_redis_reply_t  field, value;

    ngx_http_llm_purge_asking = 0;

    if (reply->type != NGX_HTTP_LLM_REDIS_ARRAY) {
        return;
    }

    version = 0;
    epoch = 0;
    all = 0;
    last = mcf->zone->sh->purged;

    for (i = 0; i + 1 < reply->nelts; i += 2) {

        if (ngx_http_llm_redis_element(reply, i, &field) != NGX_OK
            || ngx_http_llm_redis_element(reply, i + 1, &value) != NGX_OK)
        {
            return;
        }

        if (field.str.len == 1 && field.str.data[0] == 'v') {
            version = ngx_http_llm_purge_number(&value.str);

        } else if (field.str.len == 1 && field.str.data[0] == 'e') {
            epoch = ngx_http_llm_purge_number(&value.str);

        } else {
            if (field.str.len == 4
                && ngx_memcmp(field.str.data, "all:", 4) == 0)
            {
                all = ngx_http_llm_purge_number(&value.str);
            }

            ngx_http_llm_purge_field(mcf, &field.str, &value.str);
        }
    }

    (void) ngx_http_llm_generation_seen(mcf->zone, &seen, &since);

    lost = version < seen || (since != 0 && since != epoch);

    ngx_log_debug5(NGX_LOG_DEBUG_HTTP, ngx_cycle->log, 0,
                   "llm purge version:%uL of %uL fields:%ui seen:%uL lost:%ui",
                   version, epoch, reply->nelts / 2, seen, lost);

    /* not before all of them are in force */

    ngx_http_llm_generation_see(mcf->zone, version, epoch);

    /* unless somebody did it already */

    if (lost && all < last) {
        ngx_http_llm_purge_forgotten(mcf);
    }
}


static void
ngx_http_llm_purge_forgotten(ngx_http_llm_main_conf_t *mcf)
{
    uint64_t  generation;

    ngx_log_error(NGX_LOG_WARN, ngx_cycle->log, 0,
                  "llm: Redis does not know of all that was purged, so all "
                  "of the cache is purged");

    (void) ngx_http_llm_purge(mcf, NGX_HTTP_LLM_PURGE_ALL, NULL, &generation,
                              NULL, NULL);
}


static void
ngx_http_llm_purge_field(ngx_http_llm_main_conf_t *mcf, ngx_str_t *field,
    ngx_str_t *value)
{
    u_char     *p, *last;
    uint64_t    gen;
    ngx_int_t   class;
    ngx_str_t   s;

    last = field->data + field->len;
    p = ngx_strlchr(field->data, last, ':');

    if (p == NULL) {
        return;
    }

    s.data = field->data;
    s.len = p - s.data;

    class = ngx_http_llm_purge_class(&s);
    gen = ngx_http_llm_purge_number(value);

    if (gen == 0 || class == NGX_ERROR || class == NGX_HTTP_LLM_PURGE_DIGEST) {
        return;
    }

    s.data = p + 1;
    s.len = last - s.data;

    (void) ngx_http_llm_generation_raise(mcf->zone, class, &s, gen);
}


/* all workers have it, one of them asks */

static void
ngx_http_llm_purge_timer(ngx_event_t *ev)
{
    ngx_msec_t                 interval;
    ngx_http_llm_main_conf_t  *mcf;

    mcf = ngx_http_cycle_get_module_main_conf(ngx_cycle, ngx_http_llm_module);

    interval = ngx_http_llm_purge_known(mcf) ? NGX_HTTP_LLM_PURGE_INTERVAL
                                             : NGX_HTTP_LLM_PURGE_SOON;

    ngx_http_llm_purge_again();

    if (ngx_http_llm_generation_turn(mcf->zone, interval)) {
        ngx_http_llm_purge_sync(mcf);
    }

    ngx_add_timer(ev, interval);
}
