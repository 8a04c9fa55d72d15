
/*
 * Copyright (C) the ngx-llm authors
 *
 * Ghosts: they lead here what is led by a worker of another gateway.
 */


#include "policy/ngx_http_llm_fleet_private.h"
#include "policy/ngx_http_llm_cache.h"
#include "state/ngx_http_llm_secret.h"
#include "state/ngx_http_llm_wake.h"


#define NGX_HTTP_LLM_FLEET_POLL    1000    /* ms without a letter */
#define NGX_HTTP_LLM_FLEET_MISSED  2       /* looks in vain until it is over */


static void ngx_http_llm_fleet_want(ngx_http_llm_mail_t *m, u_char type);
static ngx_int_t ngx_http_llm_fleet_open(u_char type, uint64_t number,
    uint64_t seq, u_char **p, size_t *len);
static ngx_int_t ngx_http_llm_fleet_pieces(ngx_http_llm_mail_t *m, u_char *p,
    size_t len);
static ngx_int_t ngx_http_llm_fleet_piece(ngx_http_llm_mail_t *m,
    ngx_uint_t kind, ngx_uint_t end, u_char *p, size_t len);
static void ngx_http_llm_fleet_over(ngx_http_llm_mail_t *m,
    ngx_uint_t state);
static void ngx_http_llm_fleet_ghost_news(ngx_http_llm_flight_t *f);
static void ngx_http_llm_fleet_ghost_timer(ngx_event_t *ev);
static void ngx_http_llm_fleet_ghost_reply(void *data,
    ngx_http_llm_redis_reply_t *reply);


static ngx_queue_t  ngx_http_llm_fleet_ghosts;


void
ngx_http_llm_fleet_ghost_init(void)
{
    ngx_queue_init(&ngx_http_llm_fleet_ghosts);
}


void
ngx_http_llm_fleet_ghost_exit(void)
{
    ngx_queue_t          *q;
    ngx_http_llm_mail_t  *m;

    while (!ngx_queue_empty(&ngx_http_llm_fleet_ghosts)) {
        q = ngx_queue_head(&ngx_http_llm_fleet_ghosts);
        m = ngx_queue_data(q, ngx_http_llm_mail_t, queue);

        ngx_http_llm_fleet_over(m, LLM_FLIGHT_LEFT);
    }
}


/* the request becomes a follower of the ghost that it calls up */

ngx_int_t
ngx_http_llm_fleet_follow(ngx_http_llm_ctx_t *ctx)
{
    unsigned                lead;
    ngx_http_llm_mail_t    *m;
    ngx_http_llm_flight_t  *f;

    f = ctx->flight;

    if (f->elsewhere.len <= NGX_HTTP_LLM_INBOX_NAME) {
        f->elsewhere.len = 0;
        return NGX_OK;
    }

    m = ngx_http_llm_fleet_party(f);
    if (m == NULL) {
        f->elsewhere.len = 0;
        return NGX_OK;
    }

    ngx_queue_insert_tail(&ngx_http_llm_fleet_ghosts, &m->queue);

    m->holder.len = f->elsewhere.len;
    m->holder.data = ngx_pstrdup(m->pool, &f->elsewhere);

    f->elsewhere.len = 0;

    m->part.news = ngx_http_llm_fleet_ghost_news;
    m->heard = ngx_current_msec;

    if (f->resumable) {
        m->keep = ctx->conf->join_resume;
    }

    m->timer.handler = ngx_http_llm_fleet_ghost_timer;
    m->timer.data = m;
    m->timer.log = ngx_cycle->log;

    lead = f->lead | 1u << NGX_HTTP_LLM_FLIGHT_EQUAL;

    if (m->holder.data == NULL
        || ngx_http_llm_flight_enter(&m->part, 0, lead) != NGX_OK)
    {
        ngx_http_llm_fleet_free(m);
        return NGX_OK;
    }

    ngx_memcpy(m->inbox, m->holder.data, NGX_HTTP_LLM_INBOX_NAME);

    /* those who followed the request will follow the ghost */

    ngx_http_llm_flight_end(f, LLM_FLIGHT_LEFT, 0);

    if (ngx_http_llm_flight_enter(f, 1u << NGX_HTTP_LLM_FLIGHT_EQUAL, 0)
        != NGX_AGAIN)
    {
        ngx_http_llm_fleet_over(m, LLM_FLIGHT_LEFT);
        return NGX_OK;
    }

    ngx_add_timer(&m->timer, NGX_HTTP_LLM_FLEET_POLL);

    ngx_http_llm_fleet_want(m, 'w');

    return NGX_AGAIN;
}


static void
ngx_http_llm_fleet_want(ngx_http_llm_mail_t *m, u_char type)
{
    u_char                *p, text[1 + LLM_FLIGHT_NAME + 8
                                   + NGX_HTTP_LLM_INBOX_NAME];
    ngx_str_t              to, letter;
    ngx_http_llm_inbox_t  *ib;

    ib = ngx_http_llm_flight_conf->inbox;

    p = text;
    *p++ = type;

    if (type == 'w') {
        p = ngx_cpymem(p, m->part.name[NGX_HTTP_LLM_FLIGHT_EQUAL],
                       LLM_FLIGHT_NAME);
    }

    p = ngx_cpymem(p, ngx_http_llm_inbox_name(ib)->data,
                   NGX_HTTP_LLM_INBOX_NAME);
    p = ngx_cpymem(p, &m->part.id, 8);

    letter.data = text;
    letter.len = p - text;
    to.data = m->inbox;
    to.len = NGX_HTTP_LLM_INBOX_NAME;

    (void) ngx_http_llm_inbox_send(ib, &to, &letter, 1);
}


/* more of a flight that is led elsewhere */

void
ngx_http_llm_fleet_heard(u_char type, u_char *p, size_t len)
{
    int64_t               note[LLM_FLIGHT_NOTES];
    uint64_t              number, seq;
    ngx_int_t             rc;
    llm_flights_t        *fl;
    ngx_http_llm_mail_t  *m;

    if (len < NGX_HTTP_LLM_FLEET_HEAD - 1) {
        return;
    }

    ngx_memcpy(&number, p, 8);
    ngx_memcpy(&seq, p + 8, 8);

    p += 16;
    len -= 16;

    m = ngx_http_llm_fleet_find(&ngx_http_llm_fleet_ghosts, NULL, number);
    if (m == NULL) {
        return;
    }

    m->heard = ngx_current_msec;
    m->missed = 0;

    if (seq != m->seq) {
        ngx_log_error(NGX_LOG_WARN, ngx_cycle->log, 0,
                      "llm: a letter of a call that another gateway makes "
                      "was lost");

        ngx_http_llm_fleet_over(m, m->begun ? LLM_FLIGHT_FAILED
                                            : LLM_FLIGHT_LEFT);
        return;
    }

    m->seq++;

    rc = ngx_http_llm_fleet_open(type, number, seq, &p, &len);

    if (rc == NGX_OK && type == 'e' && len == NGX_HTTP_LLM_FLEET_END) {

        ngx_memcpy(note, p + 1, sizeof(note));

        fl = ngx_http_llm_area_lock(ngx_http_llm_flight_conf->flights);
        llm_flight_note(fl, m->part.id, note);
        ngx_http_llm_area_unlock(ngx_http_llm_flight_conf->flights);

        ngx_http_llm_fleet_over(m, *p <= LLM_FLIGHT_LEFT
                                   ? *p : LLM_FLIGHT_FAILED);
        return;
    }

    if (rc != NGX_OK || ngx_http_llm_fleet_pieces(m, p, len) != NGX_OK) {
        ngx_http_llm_fleet_want(m, 'u');
        ngx_http_llm_fleet_over(m, m->begun ? LLM_FLIGHT_FAILED
                                            : LLM_FLIGHT_LEFT);
    }
}


/* with a secret only what was sealed for this inbox is taken */

static ngx_int_t
ngx_http_llm_fleet_open(u_char type, uint64_t number, uint64_t seq,
    u_char **p, size_t *len)
{
    u_char                  about[NGX_HTTP_LLM_FLEET_ABOUT];
    ngx_str_t               in, out, bound;
    ngx_http_llm_secret_t  *secret;

    static u_char  opened[NGX_HTTP_LLM_FLEET_LETTER + NGX_HTTP_LLM_SEAL_LEN];

    secret = ngx_http_llm_flight_conf->secret;

    if (secret == NULL) {
        return NGX_OK;
    }

    if (*len > sizeof(opened)) {
        return NGX_ERROR;
    }

    about[0] = type;
    ngx_memcpy(about + 1, &number, 8);
    ngx_memcpy(about + 9, &seq, 8);
    ngx_memcpy(about + NGX_HTTP_LLM_FLEET_HEAD,
               ngx_http_llm_inbox_name(ngx_http_llm_flight_conf->inbox)->data,
               NGX_HTTP_LLM_INBOX_NAME);

    bound.data = about;
    bound.len = sizeof(about);
    in.data = *p;
    in.len = *len;
    out.data = opened;

    if (ngx_http_llm_open(secret, &in, &bound, &out) != NGX_OK) {
        return NGX_ERROR;
    }

    *p = out.data;
    *len = out.len;

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_fleet_pieces(ngx_http_llm_mail_t *m, u_char *p, size_t len)
{
    size_t    n;
    u_char   *last;
    uint32_t  size;

    last = p + len;

    while (last - p >= NGX_HTTP_LLM_FLEET_PIECE) {

        ngx_memcpy(&size, p + 2, 4);
        n = size;

        if ((size_t) (last - p) - NGX_HTTP_LLM_FLEET_PIECE < n) {
            break;
        }

        if (ngx_http_llm_fleet_piece(m, p[0], p[1],
                                     p + NGX_HTTP_LLM_FLEET_PIECE, n)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        p += NGX_HTTP_LLM_FLEET_PIECE + n;
    }

    return p == last ? NGX_OK : NGX_ERROR;
}


static ngx_int_t
ngx_http_llm_fleet_piece(ngx_http_llm_mail_t *m, ngx_uint_t kind,
    ngx_uint_t end, u_char *p, size_t len)
{
    u_char               *piece;
    size_t                size;
    ngx_int_t             rc;
    llm_owners_t          wake;
    llm_flights_t        *fl;
    ngx_http_llm_area_t  *area;

    if (!end || m->len) {

        if (m->len + len > m->size) {
            size = ngx_max(2 * m->size, m->len + len);

            if (size > m->part.limits.log + NGX_HTTP_LLM_FLEET_LETTER) {
                return NGX_ERROR;
            }

            piece = ngx_alloc(size, ngx_cycle->log);
            if (piece == NULL) {
                return NGX_ERROR;
            }

            if (m->piece) {
                ngx_memcpy(piece, m->piece, m->len);
                ngx_free(m->piece);
            }

            m->piece = piece;
            m->size = size;
        }

        ngx_memcpy(m->piece + m->len, p, len);
        m->len += len;

        if (!end) {
            return NGX_OK;
        }

        p = m->piece;
        len = m->len;
        m->len = 0;
    }

    area = ngx_http_llm_flight_conf->flights;

    ngx_memzero(&wake, sizeof(llm_owners_t));

    fl = ngx_http_llm_area_lock(area);

    rc = llm_flight_append(fl, m->part.id, kind, p, len, &m->part.limits,
                           ngx_current_msec, &wake);

    ngx_http_llm_area_unlock(area);

    ngx_http_llm_wake(&wake);

    m->begun = 1;

    return rc;
}


static void
ngx_http_llm_fleet_over(ngx_http_llm_mail_t *m, ngx_uint_t state)
{
    ngx_http_llm_flight_end(&m->part, state,
                            state == LLM_FLIGHT_DONE && m->keep
                            ? ngx_current_msec + m->keep : 0);
    ngx_http_llm_fleet_free(m);
}


/* nobody follows any more */

static void
ngx_http_llm_fleet_ghost_news(ngx_http_llm_flight_t *f)
{
    ngx_http_llm_mail_t  *m;

    m = (ngx_http_llm_mail_t *) f;

    if (!f->shared && m->keep == 0) {
        ngx_http_llm_fleet_want(m, 'u');
        ngx_http_llm_fleet_over(m, LLM_FLIGHT_LEFT);
    }
}


/* no letters for a while: is it still made there? */

static void
ngx_http_llm_fleet_ghost_timer(ngx_event_t *ev)
{
    ngx_http_llm_mail_t  *m;

    m = ev->data;

    ngx_add_timer(ev, NGX_HTTP_LLM_FLEET_POLL);

    if (m->op || ngx_current_msec - m->heard < NGX_HTTP_LLM_FLEET_POLL) {
        return;
    }

    m->op = ngx_http_llm_cache_holder(ngx_http_llm_flight_conf,
                                   m->part.name[NGX_HTTP_LLM_FLIGHT_EQUAL],
                                   ngx_http_llm_fleet_ghost_reply, m);

    if (m->op == NULL && m->missed++ >= NGX_HTTP_LLM_FLEET_MISSED) {
        ngx_http_llm_fleet_over(m, m->begun ? LLM_FLIGHT_FAILED
                                            : LLM_FLIGHT_LEFT);
    }
}


static void
ngx_http_llm_fleet_ghost_reply(void *data, ngx_http_llm_redis_reply_t *reply)
{
    ngx_http_llm_mail_t  *m = data;

    m->op = NULL;

    if (reply->type == NGX_HTTP_LLM_REDIS_STRING
        && reply->str.len == m->holder.len
        && ngx_memcmp(reply->str.data, m->holder.data, m->holder.len) == 0)
    {
        m->missed = 0;

        if (m->seq == 0) {
            /* the first letter may be lost */
            ngx_http_llm_fleet_want(m, 'w');
        }

        return;
    }

    /* the last letters may be on their way: they come by another connection */

    if (m->missed++ >= NGX_HTTP_LLM_FLEET_MISSED - 1) {
        ngx_http_llm_fleet_over(m, m->begun ? LLM_FLIGHT_FAILED
                                            : LLM_FLIGHT_LEFT);
    }
}
