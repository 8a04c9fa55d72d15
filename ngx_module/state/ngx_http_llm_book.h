
/*
 * Copyright (C) the ngx-llm authors
 *
 * The shared memory of the accounts: an area with core/llm_book in it.  What
 * a worker that dies inside the lock had begun is ended by the next one, so
 * that nothing is forgotten.
 */


#ifndef _NGX_HTTP_LLM_BOOK_H_INCLUDED_
#define _NGX_HTTP_LLM_BOOK_H_INCLUDED_


#include "state/ngx_http_llm_area.h"

#include "core/llm_book.h"


/* where a gateway has written last, to see whether the store forgets */

typedef struct {
    int64_t                     start;       /* of the period; 0: nowhere */
    uint64_t                    shard;
} ngx_http_llm_book_past_t;


typedef struct {
    ngx_atomic_t                turn;        /* of one worker, not before */
    ngx_atomic_t                written;     /* the fleet's store has all
                                                changes up to this one */
    ngx_http_llm_book_past_t    past[LLM_BOOK_KINDS];
    llm_book_t                 *book;
} ngx_http_llm_book_sh_t;


/* adds the area "NAME:usage" to the cycle; NULL: an error, logged */
ngx_http_llm_area_t *ngx_http_llm_book_create(ngx_conf_t *cf,
    ngx_str_t *name, size_t size, void *tag);

/* what goes with the book */
ngx_http_llm_book_sh_t *ngx_http_llm_book_sh(ngx_http_llm_area_t *area);

/* a number of this memory, at random */
uint64_t ngx_http_llm_book_epoch(ngx_http_llm_area_t *area);

/*
 * The book under its lock; nothing inside takes another one.  read(): all
 * that was recorded before is posted; of more than 8192 records, the others
 * are by their own workers, within 100 ms.
 */
llm_book_t *ngx_http_llm_book_lock(ngx_http_llm_area_t *area);
llm_book_t *ngx_http_llm_book_read(ngx_http_llm_area_t *area);
void ngx_http_llm_book_unlock(ngx_http_llm_area_t *area);

/*
 * 1: for one of the workers that call it within "interval" ms.  hold(): none
 * of them gets it for so long, at most NGX_HTTP_LLM_BOOK_HELD.  due(): in how
 * many ms to ask again, at most "interval".
 */
#define NGX_HTTP_LLM_BOOK_HELD  3000              /* ms */

ngx_uint_t ngx_http_llm_book_turn(ngx_http_llm_area_t *area,
    ngx_msec_t interval);
ngx_msec_t ngx_http_llm_book_due(ngx_http_llm_area_t *area,
    ngx_msec_t interval);
void ngx_http_llm_book_hold(ngx_http_llm_area_t *area, ngx_msec_t time);


#endif /* _NGX_HTTP_LLM_BOOK_H_INCLUDED_ */
