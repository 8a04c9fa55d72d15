
/*
 * Copyright (C) the ngx-llm authors
 *
 * Between the files of the fleet: locks, carriers, ghosts.
 */


#ifndef _NGX_HTTP_LLM_FLEET_PRIVATE_H_INCLUDED_
#define _NGX_HTTP_LLM_FLEET_PRIVATE_H_INCLUDED_


#include "policy/ngx_http_llm_flight_private.h"


#define NGX_HTTP_LLM_FLEET_LETTER  (48 * 1024)
#define NGX_HTTP_LLM_FLEET_PIECE   6       /* kind, end, length of a piece */
#define NGX_HTTP_LLM_FLEET_HEAD    17      /* type, number, seq */
#define NGX_HTTP_LLM_FLEET_END     (1 + LLM_FLIGHT_NOTES * sizeof(int64_t))


/* what a sealed letter is bound to: its head, and the inbox it is for */

#define NGX_HTTP_LLM_FLEET_ABOUT   (NGX_HTTP_LLM_FLEET_HEAD                  \
                                    + NGX_HTTP_LLM_INBOX_NAME)


/* one end of a flight that goes from gateway to gateway */

typedef struct {
    ngx_http_llm_flight_t       part;
    ngx_queue_t                 queue;
    ngx_pool_t                 *pool;
    u_char                      inbox[NGX_HTTP_LLM_INBOX_NAME];
    uint64_t                    number;      /* the flight of the other end */
    uint64_t                    seq;

    /* a ghost's */
    ngx_event_t                 timer;
    ngx_http_llm_redis_op_t    *op;
    ngx_str_t                   holder;
    ngx_msec_t                  heard;
    ngx_msec_t                  keep;
    ngx_uint_t                  missed;
    u_char                     *piece;       /* what came of one so far */
    size_t                      len;
    size_t                      size;
    unsigned                    begun:1;     /* something was appended */
} ngx_http_llm_mail_t;


ngx_http_llm_mail_t *ngx_http_llm_fleet_party(ngx_http_llm_flight_t *like);
void ngx_http_llm_fleet_free(ngx_http_llm_mail_t *m);

/* by the other end's inbox and number; or, inbox NULL, by its own number */
ngx_http_llm_mail_t *ngx_http_llm_fleet_find(ngx_queue_t *queue,
    u_char *inbox, uint64_t number);

void ngx_http_llm_fleet_ghost_init(void);
void ngx_http_llm_fleet_ghost_exit(void);

/* a letter, without its type, to one of this worker's ghosts */
void ngx_http_llm_fleet_heard(u_char type, u_char *p, size_t len);

void ngx_http_llm_fleet_mail_init(void);
void ngx_http_llm_fleet_mail_exit(void);

/* a letter to this worker */
void ngx_http_llm_fleet_mail(ngx_str_t *letter);


#endif /* _NGX_HTTP_LLM_FLEET_PRIVATE_H_INCLUDED_ */
