
/*
 * Copyright (C) the ngx-llm authors
 */


#include "state/ngx_http_llm_owner.h"

#include <ngx_event.h>


#define NGX_HTTP_LLM_OWNER_REAP  500       /* ms between two looks */


static void ngx_http_llm_owner_reap(void);
static void ngx_http_llm_owner_timer(ngx_event_t *ev);


static ngx_http_llm_zone_t  *ngx_http_llm_owner_zone;
static ngx_uint_t            ngx_http_llm_owner_self = LLM_LEDGER_OWNERS;
static ngx_connection_t      ngx_http_llm_owner_dummy;
static ngx_event_t           ngx_http_llm_owner_event;
static void                (*ngx_http_llm_owner_handler)(ngx_uint_t owner);


ngx_int_t
ngx_http_llm_owner_init_process(ngx_http_llm_zone_t *zone, ngx_cycle_t *cycle)
{
    ngx_uint_t    i;
    llm_owners_t  wake;

    ngx_http_llm_owner_zone = zone;

    ngx_http_llm_owner_reap();

    ngx_http_llm_zone_lock(zone, &wake);

    for (i = 0; i < LLM_LEDGER_OWNERS; i++) {
        if (zone->sh->owner[i] == 0) {
            zone->sh->owner[i] = ngx_pid;
            ngx_http_llm_owner_self = i;
            break;
        }
    }

    ngx_http_llm_zone_unlock(zone, &wake);

    if (i == LLM_LEDGER_OWNERS) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0,
                      "more than %d workers, draining ones included",
                      LLM_LEDGER_OWNERS);
        return NGX_ERROR;
    }

    ngx_http_llm_owner_dummy.fd = (ngx_socket_t) -1;

    ngx_http_llm_owner_event.handler = ngx_http_llm_owner_timer;
    ngx_http_llm_owner_event.data = &ngx_http_llm_owner_dummy;
    ngx_http_llm_owner_event.log = cycle->log;
    ngx_http_llm_owner_event.cancelable = 1;

    ngx_add_timer(&ngx_http_llm_owner_event, NGX_HTTP_LLM_OWNER_REAP);

    return NGX_OK;
}


void
ngx_http_llm_owner_exit_process(void)
{
    llm_now_t             now;
    llm_owners_t          wake;
    ngx_http_llm_zone_t  *zone;

    if (ngx_http_llm_owner_self == LLM_LEDGER_OWNERS) {
        return;
    }

    zone = ngx_http_llm_owner_zone;

    if (ngx_http_llm_owner_event.timer_set) {
        ngx_del_timer(&ngx_http_llm_owner_event);
    }

    ngx_http_llm_now(&now);
    ngx_http_llm_zone_lock(zone, &wake);

    (void) llm_ledger_reap(zone->sh->ledger, ngx_http_llm_owner_self, &now,
                           &wake);

    if (ngx_http_llm_owner_handler) {
        ngx_http_llm_owner_handler(ngx_http_llm_owner_self);
    }

    zone->sh->owner[ngx_http_llm_owner_self] = 0;

    ngx_http_llm_zone_unlock(zone, &wake);

    ngx_http_llm_owner_self = LLM_LEDGER_OWNERS;
}


void
ngx_http_llm_owner_reaped(void (*handler)(ngx_uint_t owner))
{
    ngx_http_llm_owner_handler = handler;
}


ngx_uint_t
ngx_http_llm_owner(void)
{
    return ngx_http_llm_owner_self;
}


static void
ngx_http_llm_owner_reap(void)
{
    ngx_pid_t             pid;
    llm_now_t             now;
    ngx_uint_t            i, tickets;
    llm_owners_t          wake;
    ngx_http_llm_zone_t  *zone;

    zone = ngx_http_llm_owner_zone;

    ngx_http_llm_now(&now);

    for (i = 0; i < LLM_LEDGER_OWNERS; i++) {

        pid = zone->sh->owner[i];

        if (pid == 0 || i == ngx_http_llm_owner_self
            || kill(pid, 0) != -1 || ngx_errno != NGX_ESRCH)
        {
            continue;
        }

        ngx_http_llm_zone_lock(zone, &wake);

        /* another worker may have been quicker */

        if (zone->sh->owner[i] == pid) {
            tickets = llm_ledger_reap(zone->sh->ledger, i, &now,
                                      &wake);

            if (ngx_http_llm_owner_handler) {
                ngx_http_llm_owner_handler(i);
            }

            zone->sh->owner[i] = 0;

            ngx_log_error(NGX_LOG_NOTICE, ngx_cycle->log, 0,
                          "llm: gave back %ui slots and places in line of "
                          "worker %P, which is gone", tickets, pid);
        }

        ngx_http_llm_zone_unlock(zone, &wake);
    }
}


static void
ngx_http_llm_owner_timer(ngx_event_t *ev)
{
    ngx_http_llm_owner_reap();

    ngx_add_timer(ev, NGX_HTTP_LLM_OWNER_REAP);
}
