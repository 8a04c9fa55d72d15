
/*
 * Copyright (C) the ngx-llm authors
 *
 * The table of flights, which all workers share: who enters and leaves it, and
 * what a worker hears of its own.
 */


#include "policy/ngx_http_llm_flight_private.h"
#include "state/ngx_http_llm_owner.h"
#include "state/ngx_http_llm_wake.h"


#define NGX_HTTP_LLM_FLIGHT_EXPIRE  1000       /* ms between two looks */


static void *ngx_http_llm_flight_area_create(void *mem, size_t size);
static void ngx_http_llm_flight_area_reset(void *data);
static void ngx_http_llm_flight_news(void);
static void ngx_http_llm_flight_expire(ngx_event_t *ev);


ngx_http_llm_main_conf_t  *ngx_http_llm_flight_conf;

static ngx_http_llm_area_type_t  ngx_http_llm_flight_area = {
    ngx_http_llm_flight_area_create,
    ngx_http_llm_flight_area_reset,
    NULL
};

static ngx_connection_t  ngx_http_llm_flight_dummy;
static ngx_event_t       ngx_http_llm_flight_timer;


ngx_int_t
ngx_http_llm_flight_create(ngx_conf_t *cf, ngx_http_llm_main_conf_t *mcf)
{
    mcf->flights = ngx_http_llm_area_create(cf,
                                            &mcf->zone->shm_zone->shm.name,
                                            "flights", mcf->flight_size,
                                            &ngx_http_llm_flight_area,
                                            &ngx_http_llm_module);

    return mcf->flights ? NGX_OK : NGX_ERROR;
}


static void *
ngx_http_llm_flight_area_create(void *mem, size_t size)
{
    return llm_flight_create(mem, size);
}


static void
ngx_http_llm_flight_area_reset(void *data)
{
    llm_flight_reset(data);
}


ngx_int_t
ngx_http_llm_flight_init_process(ngx_http_llm_main_conf_t *mcf,
    ngx_cycle_t *cycle)
{
    ngx_http_llm_flight_conf = mcf;

    ngx_http_llm_wake_also(ngx_http_llm_flight_news);

    ngx_http_llm_flight_dummy.fd = (ngx_socket_t) -1;

    ngx_http_llm_flight_timer.handler = ngx_http_llm_flight_expire;
    ngx_http_llm_flight_timer.data = &ngx_http_llm_flight_dummy;
    ngx_http_llm_flight_timer.log = cycle->log;
    ngx_http_llm_flight_timer.cancelable = 1;

    ngx_add_timer(&ngx_http_llm_flight_timer, NGX_HTTP_LLM_FLIGHT_EXPIRE);

    return NGX_OK;
}


void
ngx_http_llm_flight_exit_process(void)
{
    if (ngx_http_llm_flight_timer.timer_set) {
        ngx_del_timer(&ngx_http_llm_flight_timer);
    }
}


/* one of our flights has its first follower, or lost its last; or one that
   we follow has something to read */

static void
ngx_http_llm_flight_news(void)
{
    llm_flights_t          *fl;
    ngx_http_llm_area_t    *area;
    ngx_http_llm_flight_t  *f;

    area = ngx_http_llm_flight_conf->flights;

    for ( ;; ) {
        fl = ngx_http_llm_area_lock(area);

        f = llm_flight_news(fl, ngx_http_llm_owner());

        if (f && f->leader) {
            f->shared = llm_flight_followers(fl, f->id) != 0;
        }

        ngx_http_llm_area_unlock(area);

        if (f == NULL) {
            return;
        }

        f->news(f);
    }
}


void
ngx_http_llm_flight_reaped(ngx_uint_t owner)
{
    llm_owners_t          wake;
    llm_flights_t        *fl;
    ngx_http_llm_area_t  *area;

    area = ngx_http_llm_flight_conf->flights;

    ngx_memzero(&wake, sizeof(llm_owners_t));

    fl = ngx_http_llm_area_lock(area);
    llm_flight_reap(fl, owner, &wake);
    ngx_http_llm_area_unlock(area);

    ngx_http_llm_wake(&wake);
}


static void
ngx_http_llm_flight_expire(ngx_event_t *ev)
{
    llm_flights_t        *fl;
    ngx_http_llm_area_t  *area;

    area = ngx_http_llm_flight_conf->flights;

    fl = ngx_http_llm_area_lock(area);
    (void) llm_flight_expire(fl, ngx_current_msec);
    ngx_http_llm_area_unlock(area);

    ngx_add_timer(ev, NGX_HTTP_LLM_FLIGHT_EXPIRE);
}


ngx_int_t
ngx_http_llm_flight_enter(ngx_http_llm_flight_t *f, unsigned follow,
    unsigned lead)
{
    ngx_int_t             rc;
    ngx_uint_t            i;
    llm_owners_t          wake;
    llm_flights_t        *fl;
    llm_flight_ask_t      ask;
    ngx_http_llm_area_t  *area;

    area = ngx_http_llm_flight_conf->flights;

    ngx_memzero(&wake, sizeof(llm_owners_t));
    ngx_memzero(&ask, sizeof(llm_flight_ask_t));

    for (i = 0; i < LLM_FLIGHT_NAMES; i++) {
        ask.name[i] = f->name[i];
    }

    ask.follow = follow;
    ask.lead = lead;
    ask.owner = ngx_http_llm_owner();
    ask.data = f;

    fl = ngx_http_llm_area_lock(area);

    rc = llm_flight_enter(fl, &ask, &f->limits, ngx_current_msec, &f->id,
                          &wake);

    ngx_http_llm_area_unlock(area);

    ngx_http_llm_wake(&wake);

    f->leader = rc != NGX_AGAIN;

    ngx_log_debug2(NGX_LOG_DEBUG_HTTP, ngx_cycle->log, 0,
                   "llm flight enter: %i id:%uL", rc, f->id);

    return rc;
}


void
ngx_http_llm_flight_quit(ngx_http_llm_flight_t *f)
{
    llm_owners_t          wake;
    llm_flights_t        *fl;
    ngx_http_llm_area_t  *area;

    if (f->id == 0) {
        return;
    }

    area = ngx_http_llm_flight_conf->flights;

    ngx_memzero(&wake, sizeof(llm_owners_t));

    fl = ngx_http_llm_area_lock(area);
    llm_flight_leave(fl, f->id, &wake);
    ngx_http_llm_area_unlock(area);

    ngx_http_llm_wake(&wake);

    f->id = 0;
}
