
/*
 * Copyright (C) the ngx-llm authors
 *
 * Flights of other gateways.  Who leads one that is the fleet's holds a lock
 * in Redis that names its worker's inbox.  Another gateway's worker that finds
 * it taken writes there that it wants to follow, and gets the log in letters:
 * here a carrier follows the flight and posts what it reads, there a ghost
 * leads a flight of its own and appends what comes.
 *
 *      w NAME INBOX NUMBER      wants to follow NAME; letters go to NUMBER
 *      u INBOX NUMBER           does not any more
 *      d NUMBER SEQ PIECES      more of the log: kind, end, length, bytes
 *      e NUMBER SEQ STATE       its end
 */


#include "policy/ngx_http_llm_fleet_private.h"
#include "policy/ngx_http_llm_cache.h"
#include "policy/ngx_http_llm_purge.h"


#define NGX_HTTP_LLM_FLEET_RENEW  2000         /* ms between two */


static ngx_int_t ngx_http_llm_fleet_post(ngx_http_llm_main_conf_t *mcf,
    ngx_str_t *letter);
static void ngx_http_llm_fleet_letter(ngx_str_t *letter, ngx_uint_t board,
    uint64_t id);
static void ngx_http_llm_fleet_up(void);
static void ngx_http_llm_fleet_timer(ngx_event_t *ev);


void       (*ngx_http_llm_fleet_board)(ngx_str_t *letter, uint64_t id);
ngx_int_t  (*ngx_http_llm_fleet_work)(ngx_str_t *letter);

static ngx_connection_t  ngx_http_llm_fleet_dummy;
static ngx_event_t       ngx_http_llm_fleet_event;

/* the flights of this worker that hold the fleet's lock */
static ngx_queue_t       ngx_http_llm_fleet_held;


ngx_int_t
ngx_http_llm_fleet_init_process(ngx_http_llm_main_conf_t *mcf,
    ngx_cycle_t *cycle)
{
    ngx_queue_init(&ngx_http_llm_fleet_held);
    ngx_http_llm_fleet_mail_init();

    ngx_http_llm_fleet_dummy.fd = (ngx_socket_t) -1;

    ngx_http_llm_fleet_event.handler = ngx_http_llm_fleet_timer;
    ngx_http_llm_fleet_event.data = &ngx_http_llm_fleet_dummy;
    ngx_http_llm_fleet_event.log = cycle->log;

    ngx_http_llm_purge_hooks.forget = ngx_http_llm_cache_forget;

    if (mcf->inbox == NULL) {
        return NGX_OK;
    }

    ngx_http_llm_purge_hooks.post = ngx_http_llm_fleet_post;

    return ngx_http_llm_inbox_init_process(mcf->inbox, cycle,
                                           ngx_http_llm_fleet_letter,
                                           ngx_http_llm_fleet_up);
}


void
ngx_http_llm_fleet_exit_process(void)
{
    if (ngx_http_llm_fleet_event.timer_set) {
        ngx_del_timer(&ngx_http_llm_fleet_event);
    }

    ngx_http_llm_fleet_mail_exit();

    if (ngx_http_llm_flight_conf && ngx_http_llm_flight_conf->inbox) {
        ngx_http_llm_inbox_exit_process(ngx_http_llm_flight_conf->inbox);
    }
}


static ngx_int_t
ngx_http_llm_fleet_post(ngx_http_llm_main_conf_t *mcf, ngx_str_t *letter)
{
    return ngx_http_llm_inbox_post_all(mcf->inbox, letter, 1);
}


static void
ngx_http_llm_fleet_letter(ngx_str_t *letter, ngx_uint_t board, uint64_t id)
{
    if (board) {

        if (ngx_http_llm_fleet_work && ngx_http_llm_fleet_work(letter)
                                       == NGX_OK)
        {
            return;
        }

        if (ngx_http_llm_purge_letter(ngx_http_llm_flight_conf, letter)
            == NGX_DECLINED && ngx_http_llm_fleet_board)
        {
            ngx_http_llm_fleet_board(letter, id);
        }

        return;
    }

    ngx_http_llm_fleet_mail(letter);
}


/* letters may have been missed */

static void
ngx_http_llm_fleet_up(void)
{
    ngx_http_llm_purge_sync(ngx_http_llm_flight_conf);
}


void
ngx_http_llm_fleet_hold(ngx_http_llm_flight_t *f)
{
    f->locked = 1;
    f->renewed = ngx_current_msec;

    ngx_queue_insert_tail(&ngx_http_llm_fleet_held, &f->queue);

    if (!ngx_http_llm_fleet_event.timer_set) {
        ngx_add_timer(&ngx_http_llm_fleet_event, NGX_HTTP_LLM_FLEET_RENEW);
    }
}


void
ngx_http_llm_fleet_let_go(ngx_http_llm_flight_t *f)
{
    ngx_str_t  holder;

    f->locked = 0;
    ngx_queue_remove(&f->queue);

    holder.data = f->holder;
    holder.len = f->holder_len;

    ngx_http_llm_cache_release(ngx_http_llm_flight_conf,
                               f->name[NGX_HTTP_LLM_FLIGHT_EQUAL], &holder);
}


/* the oldest go first, so that most calls are over before their turn */

static void
ngx_http_llm_fleet_timer(ngx_event_t *ev)
{
    ngx_str_t               holder;
    ngx_queue_t            *q, *next;
    ngx_http_llm_flight_t  *f;

    for (q = ngx_queue_head(&ngx_http_llm_fleet_held);
         q != ngx_queue_sentinel(&ngx_http_llm_fleet_held);
         q = next)
    {
        next = ngx_queue_next(q);
        f = ngx_queue_data(q, ngx_http_llm_flight_t, queue);

        if (ngx_current_msec - f->renewed < NGX_HTTP_LLM_FLEET_RENEW) {
            break;
        }

        f->renewed = ngx_current_msec;

        ngx_queue_remove(q);
        ngx_queue_insert_tail(&ngx_http_llm_fleet_held, q);

        holder.data = f->holder;
        holder.len = f->holder_len;

        ngx_http_llm_cache_renew(ngx_http_llm_flight_conf,
                                 f->name[NGX_HTTP_LLM_FLIGHT_EQUAL], &holder);
    }

    if (!ngx_queue_empty(&ngx_http_llm_fleet_held)) {
        ngx_add_timer(ev, NGX_HTTP_LLM_FLEET_RENEW / 2);
    }
}
