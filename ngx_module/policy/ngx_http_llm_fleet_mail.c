
/*
 * Copyright (C) the ngx-llm authors
 *
 * Carriers: they follow a flight for a worker of another gateway.
 */


#include "policy/ngx_http_llm_fleet_private.h"
#include "state/ngx_http_llm_secret.h"


static void ngx_http_llm_fleet_wanted(u_char *p, size_t len);
static void ngx_http_llm_fleet_unwanted(u_char *p, size_t len);
static void ngx_http_llm_fleet_carry(ngx_http_llm_flight_t *f);
static void ngx_http_llm_fleet_end(ngx_http_llm_mail_t *m, ngx_uint_t state,
    int64_t *note);
static size_t ngx_http_llm_fleet_pack(ngx_http_llm_mail_t *m, u_char *p,
    llm_flight_piece_t *pc);
static ngx_int_t ngx_http_llm_fleet_send(u_char *inbox, u_char type,
    uint64_t number, uint64_t seq, u_char *p, size_t len);


static ngx_queue_t  ngx_http_llm_fleet_carriers;

/* a letter that is being written */
static u_char       ngx_http_llm_fleet_text[NGX_HTTP_LLM_FLEET_LETTER];


void
ngx_http_llm_fleet_mail_init(void)
{
    ngx_queue_init(&ngx_http_llm_fleet_carriers);
    ngx_http_llm_fleet_ghost_init();
}


void
ngx_http_llm_fleet_mail_exit(void)
{
    ngx_queue_t          *q;
    ngx_http_llm_mail_t  *m;

    while (!ngx_queue_empty(&ngx_http_llm_fleet_carriers)) {
        q = ngx_queue_head(&ngx_http_llm_fleet_carriers);
        m = ngx_queue_data(q, ngx_http_llm_mail_t, queue);

        ngx_http_llm_flight_quit(&m->part);
        ngx_http_llm_fleet_free(m);
    }

    ngx_http_llm_fleet_ghost_exit();
}


void
ngx_http_llm_fleet_mail(ngx_str_t *letter)
{
    u_char  *p;
    size_t   len;

    if (letter->len == 0) {
        return;
    }

    p = letter->data + 1;
    len = letter->len - 1;

    switch (letter->data[0]) {

    case 'w':
        ngx_http_llm_fleet_wanted(p, len);
        break;

    case 'u':
        ngx_http_llm_fleet_unwanted(p, len);
        break;

    case 'd':
    case 'e':
        ngx_http_llm_fleet_heard(letter->data[0], p, len);
        break;

    default:
        break;
    }
}


ngx_http_llm_mail_t *
ngx_http_llm_fleet_party(ngx_http_llm_flight_t *like)
{
    ngx_pool_t           *pool;
    ngx_http_llm_mail_t  *m;

    pool = ngx_create_pool(1024, ngx_cycle->log);
    if (pool == NULL) {
        return NULL;
    }

    m = ngx_pcalloc(pool, sizeof(ngx_http_llm_mail_t));
    if (m == NULL) {
        ngx_destroy_pool(pool);
        return NULL;
    }

    m->pool = pool;

    if (like) {
        m->part.limits = like->limits;
        ngx_memcpy(m->part.name, like->name, sizeof(like->name));

    } else {
        m->part.limits.log = (size_t) -1;
        m->part.limits.followers = (unsigned) -1;
    }

    return m;
}


ngx_http_llm_mail_t *
ngx_http_llm_fleet_find(ngx_queue_t *queue, u_char *inbox, uint64_t number)
{
    ngx_queue_t          *q;
    ngx_http_llm_mail_t  *m;

    for (q = ngx_queue_head(queue); q != ngx_queue_sentinel(queue);
         q = ngx_queue_next(q))
    {
        m = ngx_queue_data(q, ngx_http_llm_mail_t, queue);

        if (inbox == NULL ? m->part.id == number
            : m->number == number
              && ngx_memcmp(m->inbox, inbox, NGX_HTTP_LLM_INBOX_NAME) == 0)
        {
            return m;
        }
    }

    return NULL;
}


void
ngx_http_llm_fleet_free(ngx_http_llm_mail_t *m)
{
    if (m->op) {
        ngx_http_llm_redis_detach(m->op);
    }

    if (m->timer.timer_set) {
        ngx_del_timer(&m->timer);
    }

    if (m->piece) {
        ngx_free(m->piece);
    }

    ngx_queue_remove(&m->queue);
    ngx_destroy_pool(m->pool);
}


/* another gateway wants to follow what is led here */

static void
ngx_http_llm_fleet_wanted(u_char *p, size_t len)
{
    u_char               *inbox;
    uint64_t              number;
    ngx_http_llm_mail_t  *m;

    static int64_t  note[LLM_FLIGHT_NOTES];

    if (len != LLM_FLIGHT_NAME + NGX_HTTP_LLM_INBOX_NAME + 8) {
        return;
    }

    inbox = p + LLM_FLIGHT_NAME;
    ngx_memcpy(&number, inbox + NGX_HTTP_LLM_INBOX_NAME, 8);

    if (ngx_http_llm_fleet_find(&ngx_http_llm_fleet_carriers, inbox, number)) {
        /* it asked once more, since it has not heard anything yet */
        return;
    }

    m = ngx_http_llm_fleet_party(NULL);
    if (m == NULL) {
        return;
    }

    ngx_queue_insert_tail(&ngx_http_llm_fleet_carriers, &m->queue);

    m->part.news = ngx_http_llm_fleet_carry;
    m->number = number;

    ngx_memcpy(m->inbox, inbox, NGX_HTTP_LLM_INBOX_NAME);
    ngx_memcpy(m->part.name[NGX_HTTP_LLM_FLIGHT_EQUAL], p, LLM_FLIGHT_NAME);

    if (ngx_http_llm_flight_enter(&m->part,
                                  1u << NGX_HTTP_LLM_FLIGHT_EQUAL, 0)
        != NGX_AGAIN)
    {
        /* it has just ended: what came of it is in the cache, or nowhere */

        ngx_http_llm_fleet_end(m, LLM_FLIGHT_LEFT, note);
        ngx_http_llm_fleet_free(m);
        return;
    }

    ngx_http_llm_fleet_carry(&m->part);
}


static void
ngx_http_llm_fleet_unwanted(u_char *p, size_t len)
{
    uint64_t              number;
    ngx_http_llm_mail_t  *m;

    if (len != NGX_HTTP_LLM_INBOX_NAME + 8) {
        return;
    }

    ngx_memcpy(&number, p + NGX_HTTP_LLM_INBOX_NAME, 8);

    m = ngx_http_llm_fleet_find(&ngx_http_llm_fleet_carriers, p, number);

    if (m) {
        ngx_http_llm_flight_quit(&m->part);
        ngx_http_llm_fleet_free(m);
    }
}


/* all that there is to read, in as few letters as may be */

static void
ngx_http_llm_fleet_carry(ngx_http_llm_flight_t *f)
{
    size_t                len;
    ngx_int_t             rc;
    llm_flight_piece_t    pc;
    ngx_http_llm_mail_t  *m;

    m = (ngx_http_llm_mail_t *) f;

    for ( ;; ) {
        len = ngx_http_llm_fleet_pack(m, ngx_http_llm_fleet_text, &pc);

        if (len == 0) {
            break;
        }

        rc = ngx_http_llm_fleet_send(m->inbox, 'd', m->number, m->seq++,
                                     ngx_http_llm_fleet_text, len);

        if (rc != NGX_OK) {
            /* the other end will miss a number */
            pc.state = LLM_FLIGHT_FAILED;
            break;
        }
    }

    if (pc.state == LLM_FLIGHT_OPEN) {
        return;
    }

    ngx_http_llm_fleet_end(m, pc.state, pc.note);

    ngx_http_llm_flight_quit(f);
    ngx_http_llm_fleet_free(m);
}


static void
ngx_http_llm_fleet_end(ngx_http_llm_mail_t *m, ngx_uint_t state,
    int64_t *note)
{
    u_char  text[NGX_HTTP_LLM_FLEET_END];

    text[0] = (u_char) state;
    ngx_memcpy(text + 1, note, NGX_HTTP_LLM_FLEET_END - 1);

    (void) ngx_http_llm_fleet_send(m->inbox, 'e', m->number, m->seq, text,
                                   sizeof(text));
}


static size_t
ngx_http_llm_fleet_pack(ngx_http_llm_mail_t *m, u_char *p,
    llm_flight_piece_t *pc)
{
    size_t                room;
    u_char               *start, *last;
    uint32_t              len;
    llm_flights_t        *fl;
    ngx_http_llm_area_t  *area;

    area = ngx_http_llm_flight_conf->flights;

    start = p;
    last = p + NGX_HTTP_LLM_FLEET_LETTER;

    fl = ngx_http_llm_area_lock(area);

    do {
        room = last - p - NGX_HTTP_LLM_FLEET_PIECE;

        llm_flight_read(fl, m->part.id,
                        LLM_FLIGHT_HEAD|LLM_FLIGHT_DATA|LLM_FLIGHT_USAGE
                        |LLM_FLIGHT_ONE,
                        p + NGX_HTTP_LLM_FLEET_PIECE, room, pc);

        if (pc->size == 0) {
            break;
        }

        len = (uint32_t) pc->size;

        p[0] = (u_char) pc->kind;
        p[1] = (u_char) pc->end;
        ngx_memcpy(p + 2, &len, 4);

        p += NGX_HTTP_LLM_FLEET_PIECE + len;

    } while (last - p > 1024);

    ngx_http_llm_area_unlock(area);

    return p - start;
}


static ngx_int_t
ngx_http_llm_fleet_send(u_char *inbox, u_char type, uint64_t number,
    uint64_t seq, u_char *p, size_t len)
{
    u_char                  about[NGX_HTTP_LLM_FLEET_ABOUT];
    ngx_str_t               to, bound, piece[2];
    ngx_http_llm_secret_t  *secret;

    static u_char  sealed[NGX_HTTP_LLM_FLEET_LETTER + NGX_HTTP_LLM_SEAL_LEN];

    about[0] = type;
    ngx_memcpy(about + 1, &number, 8);
    ngx_memcpy(about + 9, &seq, 8);
    ngx_memcpy(about + NGX_HTTP_LLM_FLEET_HEAD, inbox,
               NGX_HTTP_LLM_INBOX_NAME);

    piece[0].data = about;
    piece[0].len = NGX_HTTP_LLM_FLEET_HEAD;
    piece[1].data = p;
    piece[1].len = len;

    secret = ngx_http_llm_flight_conf->secret;

    if (secret) {

        /* what lies in Redis is for this reader alone, and in this order */

        bound.data = about;
        bound.len = sizeof(about);
        to.data = sealed;

        if (ngx_http_llm_seal(secret, &piece[1], &bound, &to) != NGX_OK) {
            return NGX_ERROR;
        }

        piece[1] = to;
    }

    to.data = inbox;
    to.len = NGX_HTTP_LLM_INBOX_NAME;

    return ngx_http_llm_inbox_send(ngx_http_llm_flight_conf->inbox, &to,
                                   piece, 2);
}
