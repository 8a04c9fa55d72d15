
/*
 * Copyright (C) the ngx-llm authors
 */


#include "state/ngx_http_llm_book.h"

#include <ngx_event.h>

#include <openssl/rand.h>


#define NGX_HTTP_LLM_BOOK_HEAD   128      /* for what goes with the book */
#define NGX_HTTP_LLM_BOOK_SLICE  128      /* records under one lock: 50 us */
#define NGX_HTTP_LLM_BOOK_ALL    64       /* slices, before a reader reads */


_Static_assert(sizeof(ngx_http_llm_book_sh_t) <= NGX_HTTP_LLM_BOOK_HEAD,
               "the book's head");


static void *ngx_http_llm_book_area_create(void *mem, size_t size);
static void ngx_http_llm_book_area_reset(void *data);


static ngx_http_llm_area_type_t  ngx_http_llm_book_area = {
    ngx_http_llm_book_area_create,
    ngx_http_llm_book_area_reset,
    NULL
};


ngx_http_llm_area_t *
ngx_http_llm_book_create(ngx_conf_t *cf, ngx_str_t *name, size_t size,
    void *tag)
{
    return ngx_http_llm_area_create(cf, name, "usage", size,
                                    &ngx_http_llm_book_area, tag);
}


static void *
ngx_http_llm_book_area_create(void *mem, size_t size)
{
    uint64_t                 seed[2];
    ngx_http_llm_book_sh_t  *sh;

    if (size < NGX_HTTP_LLM_BOOK_HEAD
        || RAND_bytes((u_char *) seed, sizeof(seed)) != 1)
    {
        return NULL;
    }

    sh = mem;

    ngx_memzero(sh, sizeof(ngx_http_llm_book_sh_t));

    sh->book = llm_book_create((u_char *) mem + NGX_HTTP_LLM_BOOK_HEAD,
                               size - NGX_HTTP_LLM_BOOK_HEAD, seed);

    return sh->book ? sh : NULL;
}


static void
ngx_http_llm_book_area_reset(void *data)
{
    ngx_http_llm_book_sh_t  *sh = data;

    llm_book_recover(sh->book);
}


ngx_http_llm_book_sh_t *
ngx_http_llm_book_sh(ngx_http_llm_area_t *area)
{
    return area->sh->data;
}


uint64_t
ngx_http_llm_book_epoch(ngx_http_llm_area_t *area)
{
    return area->sh->seed[0];
}


/* as the area's own lock, which would say that all is forgotten */

llm_book_t *
ngx_http_llm_book_lock(ngx_http_llm_area_t *area)
{
    ngx_http_llm_book_sh_t  *sh;

    sh = area->sh->data;

    ngx_shmtx_lock(&area->shpool->mutex);

    if (area->sh->dirty) {
        ngx_log_error(NGX_LOG_WARN, ngx_cycle->log, 0,
                      "shared memory \"%V\": a worker died while it changed "
                      "it, its change is brought to an end",
                      &area->shm_zone->shm.name);

        llm_book_recover(sh->book);
    }

    area->sh->dirty = 1;
    ngx_memory_barrier();

    return sh->book;
}


llm_book_t *
ngx_http_llm_book_read(ngx_http_llm_area_t *area)
{
    llm_book_t  *bk;
    ngx_uint_t   i;

    bk = ngx_http_llm_book_lock(area);

    /*
     * What comes in meanwhile may wait: what was there before is posted.  The
     * journals of eight busy workers are not more than this; of what is, each
     * worker posts its own soon.
     */

    for (i = 0; i < NGX_HTTP_LLM_BOOK_ALL; i++) {

        if (llm_book_drain(bk, LLM_BOOK_OWNERS, NGX_HTTP_LLM_BOOK_SLICE)
            == LLM_OK)
        {
            break;
        }

        ngx_http_llm_book_unlock(area);
        bk = ngx_http_llm_book_lock(area);
    }

    return bk;
}


void
ngx_http_llm_book_unlock(ngx_http_llm_area_t *area)
{
    ngx_memory_barrier();

    area->sh->dirty = 0;

    ngx_shmtx_unlock(&area->shpool->mutex);
}


ngx_uint_t
ngx_http_llm_book_turn(ngx_http_llm_area_t *area, ngx_msec_t interval)
{
    ngx_atomic_uint_t        next;
    ngx_http_llm_book_sh_t  *sh;

    sh = area->sh->data;
    next = sh->turn;

    if ((ngx_msec_int_t) (ngx_current_msec - next) < 0
        && (ngx_msec_int_t) (next - ngx_current_msec)
           <= (ngx_msec_int_t) ngx_max(interval, NGX_HTTP_LLM_BOOK_HELD))
    {
        return 0;
    }

    return ngx_atomic_cmp_set(&sh->turn, next, ngx_current_msec + interval);
}


ngx_msec_t
ngx_http_llm_book_due(ngx_http_llm_area_t *area, ngx_msec_t interval)
{
    ngx_msec_int_t           due;
    ngx_http_llm_book_sh_t  *sh;

    sh = area->sh->data;
    due = (ngx_msec_int_t) (sh->turn - ngx_current_msec);

    return due <= 0 ? interval : ngx_min((ngx_msec_t) due, interval);
}


void
ngx_http_llm_book_hold(ngx_http_llm_area_t *area, ngx_msec_t time)
{
    ngx_http_llm_book_sh_t  *sh;

    sh = area->sh->data;
    sh->turn = ngx_current_msec + time;
}
