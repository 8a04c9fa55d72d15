
/*
 * Copyright (C) the ngx-llm authors
 *
 * The log of a flight: what its leader appends and its readers copy.
 */


#include "core/llm_flight_private.h"

#include <string.h>


static void llm_flight_lag(llm_flights_t *fl, llm_flight_row_t *f,
    size_t most, size_t need, llm_owners_t *wake);
static int llm_flight_log_room(llm_flights_t *fl, uint32_t i, size_t need,
    uint64_t now);
static uint64_t llm_flight_log_free_size(const llm_flights_t *fl,
    const llm_flight_row_t *f);
static void llm_flight_log_put(llm_flights_t *fl, llm_flight_row_t *f,
    const unsigned char *p, size_t len);
static uint32_t llm_flight_log_block(llm_flights_t *fl, llm_flight_row_t *f);
static void llm_flight_log_copy(llm_flights_t *fl, llm_flight_row_t *f,
    llm_flight_reader_t *r, unsigned kinds, unsigned char *p, size_t size,
    llm_flight_piece_t *pc);
static void llm_flight_log_get(llm_flights_t *fl, llm_flight_row_t *f,
    llm_flight_reader_t *r, unsigned char *p, size_t len);


int
llm_flight_append(llm_flights_t *fl, llm_flight_id_t flight, unsigned kind,
    const unsigned char *p, size_t len, const llm_flight_limits_t *limits,
    uint64_t now, llm_owners_t *wake)
{
    size_t             need;
    uint32_t           i, k, word;
    llm_flight_row_t  *f;

    i = llm_flight_find(fl, flight);

    if (i == LLM_FLIGHT_NONE || llm_flight_row(fl, i)->state) {
        return LLM_DECLINED;
    }

    if (len == 0) {
        return LLM_OK;
    }

    f = llm_flight_row(fl, i);
    need = LLM_FLIGHT_PIECE + len;

    if (!f->shut && (need > limits->log || f->end > limits->log - need)) {
        llm_flight_shut(fl, i);
    }

    if (f->shut) {
        llm_flight_lag(fl, f, limits->log, need, wake);

        if (f->followers == 0) {
            return LLM_OK;                 /* nobody will ever read it */
        }
    }

    if (len > LLM_FLIGHT_LONGEST
        || llm_flight_log_room(fl, i, need, now) != LLM_OK)
    {
        fl->stat.full++;
        llm_flight_end(fl, flight, LLM_FLIGHT_FAILED, 0, wake);
        return LLM_DECLINED;
    }

    if (f->shut && f->followers == 0) {
        return LLM_OK;                     /* it was itself cut */
    }

    word = (uint32_t) len << LLM_FLIGHT_KIND_BITS
           | (kind & LLM_FLIGHT_KIND_MASK);

    llm_flight_log_put(fl, f, (unsigned char *) &word, sizeof(uint32_t));
    llm_flight_log_put(fl, f, p, len);

    llm_flight_whole(fl, i);

    for (k = f->peers;
         k != LLM_FLIGHT_NONE;
         k = llm_flight_reader(fl, k)->peer.next)
    {
        if (!llm_flight_reader(fl, k)->party.told) {
            llm_flight_tell(fl, k, wake);
        }
    }

    return LLM_OK;
}


void
llm_flight_read(llm_flights_t *fl, llm_flight_id_t follower, unsigned kinds,
    unsigned char *p, size_t size, llm_flight_piece_t *pc)
{
    uint32_t              i;
    llm_flight_row_t     *f;
    llm_flight_reader_t  *r;

    memset(pc, 0, sizeof(llm_flight_piece_t));

    i = llm_flight_find_reader(fl, follower);

    if (i == LLM_FLIGHT_NONE) {
        pc->state = LLM_FLIGHT_FAILED;
        return;
    }

    r = llm_flight_reader(fl, i);
    r->party.told = 0;

    if (r->flight == LLM_FLIGHT_NONE) {
        llm_flight_untell(fl, i);
        pc->state = LLM_FLIGHT_LAGGED;
        return;
    }

    f = llm_flight_row(fl, r->flight);

    llm_flight_log_copy(fl, f, r, kinds, p, size, pc);

    if (r->pos == f->end) {
        llm_flight_untell(fl, i);
        pc->state = f->state;
        pc->whole = f->last_piece;
        memcpy(pc->note, f->note, sizeof(pc->note));
    }

    if (f->shut) {
        llm_flight_log_trim(fl, f);

    } else {
        llm_flight_whole(fl, r->flight);
    }
}


uint64_t
llm_flight_log_blocks(const llm_flight_row_t *f)
{
    return f->end / LLM_FLIGHT_PAYLOAD + (f->end % LLM_FLIGHT_PAYLOAD != 0);
}


/* the front that nobody reads any more; the last block is being filled */

void
llm_flight_log_trim(llm_flights_t *fl, llm_flight_row_t *f)
{
    uint32_t             i;
    llm_flight_block_t  *b;

    while (f->first != f->last) {
        i = f->first;
        b = llm_flight_block(fl, i);

        if (b->readers != 0) {
            return;
        }

        f->first = b->next;

        b->next = fl->free_block;
        fl->free_block = i;
        fl->stat.blocks--;
    }
}


/* nobody reads */

void
llm_flight_log_free(llm_flights_t *fl, llm_flight_row_t *f)
{
    llm_flight_log_trim(fl, f);

    if (f->first == LLM_FLIGHT_NONE) {
        return;
    }

    llm_flight_block(fl, f->first)->next = fl->free_block;
    fl->free_block = f->first;
    fl->stat.blocks--;

    f->first = LLM_FLIGHT_NONE;
    f->last = LLM_FLIGHT_NONE;
}


/* who would hold more than it may with "need" bytes more is left behind */

static void
llm_flight_lag(llm_flights_t *fl, llm_flight_row_t *f, size_t most,
    size_t need, llm_owners_t *wake)
{
    uint32_t              i, next;
    llm_flight_reader_t  *r;

    for (i = f->peers; i != LLM_FLIGHT_NONE; i = next) {
        r = llm_flight_reader(fl, i);
        next = r->peer.next;

        if (need <= most && f->end - r->pos <= most - need) {
            continue;
        }

        fl->stat.lagged++;

        llm_flight_detach(fl, i, wake);
        llm_flight_tell(fl, i, wake);
    }
}


/*
 * First what is kept for nobody goes, then those who could still come to any
 * flight and what they would have read; each of these frees a block.
 */

static int
llm_flight_log_room(llm_flights_t *fl, uint32_t i, size_t need, uint64_t now)
{
    llm_flight_row_t  *f;

    f = llm_flight_row(fl, i);

    if (need <= llm_flight_log_free_size(fl, f)) {
        return LLM_OK;
    }

    if (need > fl->stat.size * LLM_FLIGHT_PAYLOAD) {
        return LLM_DECLINED;
    }

    (void) llm_flight_expire(fl, now);

    while (need > llm_flight_log_free_size(fl, f)) {

        if (llm_flight_evict(fl) != LLM_OK
            && llm_flight_cut(fl, LLM_FLIGHT_NONE) != LLM_OK)
        {
            return LLM_DECLINED;
        }
    }

    return LLM_OK;
}


static uint64_t
llm_flight_log_free_size(const llm_flights_t *fl, const llm_flight_row_t *f)
{
    uint64_t  size;

    size = (fl->stat.size - fl->stat.blocks) * LLM_FLIGHT_PAYLOAD;

    return f->last == LLM_FLIGHT_NONE ? size
                                      : size + LLM_FLIGHT_PAYLOAD - f->fill;
}


static void
llm_flight_log_put(llm_flights_t *fl, llm_flight_row_t *f,
    const unsigned char *p, size_t len)
{
    size_t               n;
    uint32_t             i;
    llm_flight_block_t  *b;

    while (len != 0) {
        i = f->last;

        if (i == LLM_FLIGHT_NONE || f->fill == LLM_FLIGHT_PAYLOAD) {
            i = llm_flight_log_block(fl, f);
        }

        b = llm_flight_block(fl, i);

        n = LLM_FLIGHT_PAYLOAD - f->fill;
        n = n < len ? n : len;

        memcpy(b->data + f->fill, p, n);

        f->fill += (uint32_t) n;
        f->end += n;
        p += n;
        len -= n;
    }
}


/* appends a block, the caller has seen that there is one */

static uint32_t
llm_flight_log_block(llm_flights_t *fl, llm_flight_row_t *f)
{
    uint32_t             i;
    llm_flight_block_t  *b;

    i = fl->free_block;

    if (i == LLM_FLIGHT_NONE) {
        i = fl->blocks_used++;

    } else {
        fl->free_block = llm_flight_block(fl, i)->next;
    }

    fl->stat.blocks++;

    b = llm_flight_block(fl, i);

    b->next = LLM_FLIGHT_NONE;
    b->readers = 0;

    if (f->last == LLM_FLIGHT_NONE) {
        b->readers = f->followers;         /* none of them has begun */
        f->first = i;

    } else {
        llm_flight_block(fl, f->last)->next = i;
    }

    f->last = i;
    f->fill = 0;

    return i;
}


static void
llm_flight_log_copy(llm_flights_t *fl, llm_flight_row_t *f,
    llm_flight_reader_t *r, unsigned kinds, unsigned char *p, size_t size,
    llm_flight_piece_t *pc)
{
    size_t    n;
    uint32_t  word;
    unsigned  kind;

    for ( ;; ) {

        if (r->left == 0) {

            if (r->pos == f->end) {
                return;
            }

            llm_flight_log_get(fl, f, r, (unsigned char *) &word,
                               sizeof(uint32_t));

            r->left = word >> LLM_FLIGHT_KIND_BITS;
            r->kind = word & LLM_FLIGHT_KIND_MASK;
        }

        if ((r->kind & kinds) == 0) {
            llm_flight_log_get(fl, f, r, NULL, r->left);
            r->left = 0;
            continue;
        }

        kind = kinds & LLM_FLIGHT_ONE ? r->kind
               : r->kind & LLM_FLIGHT_HEAD ? LLM_FLIGHT_HEAD
               : LLM_FLIGHT_DATA;

        n = size - pc->size;
        n = n < r->left ? n : r->left;

        if (n == 0 || (pc->kind != 0 && pc->kind != kind)) {
            return;
        }

        llm_flight_log_get(fl, f, r, p + pc->size, n);

        pc->kind = kind;
        pc->size += n;
        r->left -= (uint32_t) n;

        pc->end = r->left == 0;

        if (!pc->end) {
            return;
        }

        pc->pieces += kind != LLM_FLIGHT_HEAD;

        if (kinds & LLM_FLIGHT_ONE) {
            return;
        }

        if (kind == LLM_FLIGHT_HEAD) {
            size = pc->size;               /* no other comes behind it */
        }
    }
}


/* the next bytes of a reader, which are there; p == NULL: passes over them */

static void
llm_flight_log_get(llm_flights_t *fl, llm_flight_row_t *f,
    llm_flight_reader_t *r, unsigned char *p, size_t len)
{
    size_t               n;
    llm_flight_block_t  *b;

    if (r->block == LLM_FLIGHT_NONE) {
        r->block = f->first;
    }

    while (len != 0) {
        b = llm_flight_block(fl, r->block);

        if (r->at == LLM_FLIGHT_PAYLOAD) {
            b->readers--;
            r->block = b->next;
            r->at = 0;

            b = llm_flight_block(fl, r->block);
            b->readers++;
        }

        n = LLM_FLIGHT_PAYLOAD - r->at;
        n = n < len ? n : len;

        if (p != NULL) {
            memcpy(p, b->data + r->at, n);
            p += n;
        }

        r->at += (uint32_t) n;
        r->pos += n;
        len -= n;
    }
}
