
/*
 * Copyright (C) the ngx-llm authors
 *
 * The table of flights: who leads and who follows.
 */


#include "core/llm_flight_private.h"

#include <string.h>


#define llm_flight_align(n)  (((n) + 63) & ~(size_t) 63)


static int llm_flight_joinable(const llm_flights_t *fl, uint32_t i,
    const llm_flight_limits_t *limits, uint64_t now);
static int llm_flight_follow(llm_flights_t *fl, uint32_t i,
    const llm_flight_ask_t *ask, llm_flight_id_t *id, llm_owners_t *wake);
static int llm_flight_lead(llm_flights_t *fl, const llm_flight_ask_t *ask,
    llm_flight_id_t *id);


llm_flights_t *
llm_flight_create(void *mem, size_t size)
{
    size_t          at, heads, rows;
    llm_flights_t  *fl;

    if (size < LLM_FLIGHT_LEAST) {
        return NULL;
    }

    rows = size / LLM_FLIGHT_SHARE;

    if (rows > LLM_FLIGHT_ROWS) {
        rows = LLM_FLIGHT_ROWS;
    }

    for (heads = 1; heads < rows * 2; heads *= 2) { /* void */ }

    fl = mem;

    memset(fl, 0, sizeof(llm_flights_t));

    fl->rows = (uint32_t) rows;
    fl->readers = (uint32_t) rows * LLM_FLIGHT_READERS;
    fl->mask = (uint32_t) heads - 1;

    at = sizeof(llm_flights_t) + rows * sizeof(llm_flight_row_t);

    fl->reader = at;
    at += fl->readers * sizeof(llm_flight_reader_t);

    memset(fl + 1, 0, at - sizeof(llm_flights_t));

    fl->heap = at;
    at += LLM_FLIGHT_HEAPS * rows * sizeof(uint32_t);

    fl->heads = at;
    at += heads * sizeof(uint32_t);

    fl->block = llm_flight_align(at);
    fl->stat.size = (size - fl->block) / sizeof(llm_flight_block_t);

    if (fl->stat.size > LLM_FLIGHT_NONE) {
        fl->stat.size = LLM_FLIGHT_NONE;
    }

    llm_flight_reset(fl);

    return fl;
}


/* what a row was used for last, its number, is all that is left of it */

void
llm_flight_reset(llm_flights_t *fl)
{
    uint32_t  i;

    for (i = 0; i < fl->rows + fl->readers; i++) {
        llm_flight_party(fl, i)->used = 0;
    }

    for (i = 0; i <= fl->mask; i++) {
        llm_flight_heads(fl)[i] = LLM_FLIGHT_NONE;
    }

    for (i = 0; i < LLM_LEDGER_OWNERS; i++) {
        fl->news[i].first = LLM_FLIGHT_NONE;
        fl->news[i].last = LLM_FLIGHT_NONE;
    }

    for (i = 0; i < LLM_FLIGHT_HEAPS; i++) {
        fl->kept[i] = 0;
    }

    fl->spare = 0;
    fl->whole.first = LLM_FLIGHT_NONE;
    fl->whole.last = LLM_FLIGHT_NONE;

    fl->free_row = LLM_FLIGHT_NONE;
    fl->free_reader = LLM_FLIGHT_NONE;
    fl->free_block = LLM_FLIGHT_NONE;

    fl->rows_used = 0;
    fl->readers_used = 0;
    fl->blocks_used = 0;

    fl->stat.flights = 0;
    fl->stat.kept = 0;
    fl->stat.followers = 0;
    fl->stat.blocks = 0;
}


int
llm_flight_enter(llm_flights_t *fl, const llm_flight_ask_t *ask,
    const llm_flight_limits_t *limits, uint64_t now, llm_flight_id_t *id,
    llm_owners_t *wake)
{
    int       rc;
    unsigned  k, full;
    uint32_t  i;

    *id = 0;
    full = 0;

    for (k = 0; k < LLM_FLIGHT_NAMES; k++) {

        if ((ask->follow & 1U << k) == 0) {
            continue;
        }

        i = llm_flight_name_find(fl, ask->name[k]);

        if (i == LLM_FLIGHT_NONE || !llm_flight_joinable(fl, i, limits, now)) {
            continue;
        }

        if (llm_flight_roomy(fl, i)) {
            return llm_flight_follow(fl, i, ask, id, wake);
        }

        full = 1;
    }

    rc = LLM_DECLINED;

    if (ask->lead != 0) {
        rc = llm_flight_lead(fl, ask, id);
        full |= rc != LLM_OK;
    }

    fl->stat.full += full;

    return rc;
}


unsigned
llm_flight_followers(const llm_flights_t *fl, llm_flight_id_t flight)
{
    uint32_t  i;

    i = llm_flight_find(fl, flight);

    return i == LLM_FLIGHT_NONE ? 0 : llm_flight_row(fl, i)->followers;
}


void
llm_flight_said(llm_flights_t *fl, llm_flight_id_t flight)
{
    uint32_t  i;

    i = llm_flight_find(fl, flight);

    if (i != LLM_FLIGHT_NONE) {
        llm_flight_row(fl, i)->last_piece = 1;
    }
}


void
llm_flight_note(llm_flights_t *fl, llm_flight_id_t flight,
    const int64_t *note)
{
    uint32_t  i;

    i = llm_flight_find(fl, flight);

    if (i != LLM_FLIGHT_NONE) {
        memcpy(llm_flight_row(fl, i)->note, note,
               LLM_FLIGHT_NOTES * sizeof(int64_t));
    }
}


void
llm_flight_end(llm_flights_t *fl, llm_flight_id_t flight,
    llm_flight_state_e state, uint64_t keep, llm_owners_t *wake)
{
    uint32_t           i, k;
    llm_flight_row_t  *f;

    i = llm_flight_find(fl, flight);

    if (i == LLM_FLIGHT_NONE || llm_flight_row(fl, i)->state) {
        return;
    }

    f = llm_flight_row(fl, i);

    if (state != LLM_FLIGHT_DONE) {
        state = state == LLM_FLIGHT_LEFT ? state : LLM_FLIGHT_FAILED;
        fl->stat.failed++;
    }

    f->state = state;
    fl->stat.kept++;

    llm_flight_untell(fl, i);

    for (k = f->peers;
         k != LLM_FLIGHT_NONE;
         k = llm_flight_reader(fl, k)->peer.next)
    {
        llm_flight_tell(fl, k, wake);
    }

    if (state != LLM_FLIGHT_DONE || keep == 0 || f->shut) {
        llm_flight_shut(fl, i);
        return;
    }

    f->keep = keep;
    llm_flight_keep(fl, i);
    llm_flight_whole(fl, i);
}


void
llm_flight_close(llm_flights_t *fl, llm_flight_id_t flight)
{
    uint32_t  i;

    i = llm_flight_find(fl, flight);

    if (i != LLM_FLIGHT_NONE) {
        llm_flight_shut(fl, i);
    }
}


void
llm_flight_leave(llm_flights_t *fl, llm_flight_id_t follower,
    llm_owners_t *wake)
{
    uint32_t  i;

    i = llm_flight_find_reader(fl, follower);

    if (i == LLM_FLIGHT_NONE) {
        return;
    }

    if (llm_flight_reader(fl, i)->flight != LLM_FLIGHT_NONE) {
        llm_flight_detach(fl, i, wake);
    }

    llm_flight_free_reader(fl, i);
}


void
llm_flight_reap(llm_flights_t *fl, unsigned owner, llm_owners_t *wake)
{
    uint32_t             i;
    llm_flight_party_t  *p;

    for (i = 0; i < fl->rows_used; i++) {
        p = llm_flight_party(fl, i);

        if (p->used && p->owner == owner) {
            llm_flight_end(fl, p->id, LLM_FLIGHT_LEFT, 0, wake);
        }
    }

    for (i = fl->rows; i < fl->rows + fl->readers_used; i++) {
        p = llm_flight_party(fl, i);

        if (p->used && p->owner == owner) {
            llm_flight_leave(fl, p->id, wake);
        }
    }

    /* it may have died before it woke somebody */

    for (i = 0; i < LLM_LEDGER_OWNERS; i++) {
        if (fl->news[i].first != LLM_FLIGHT_NONE) {
            wake->bits[i / 64] |= (uint64_t) 1 << i % 64;
        }
    }
}


void
llm_flight_stat(const llm_flights_t *fl, llm_flight_stat_t *stat)
{
    *stat = fl->stat;
}


void
llm_flight_detach(llm_flights_t *fl, uint32_t reader, llm_owners_t *wake)
{
    uint32_t              i, block;
    llm_flight_row_t     *f;
    llm_flight_reader_t  *r;

    r = llm_flight_reader(fl, reader);
    i = r->flight;
    f = llm_flight_row(fl, i);

    if (r->peer.prev == LLM_FLIGHT_NONE) {
        f->peers = r->peer.next;

    } else {
        llm_flight_reader(fl, r->peer.prev)->peer.next = r->peer.next;
    }

    if (r->peer.next != LLM_FLIGHT_NONE) {
        llm_flight_reader(fl, r->peer.next)->peer.prev = r->peer.prev;
    }

    block = r->block == LLM_FLIGHT_NONE ? f->first : r->block;

    if (block != LLM_FLIGHT_NONE) {
        llm_flight_block(fl, block)->readers--;
    }

    r->flight = LLM_FLIGHT_NONE;
    f->followers--;
    fl->stat.followers--;

    if (f->followers == 0 && f->state == LLM_FLIGHT_OPEN) {
        llm_flight_tell(fl, i, wake);
    }

    if (f->shut) {
        llm_flight_shut(fl, i);

        return;
    }

    if (f->followers == 0 && f->keep != 0) {
        llm_flight_rekeep(fl, i);
    }

    llm_flight_whole(fl, i);
}


void
llm_flight_shut(llm_flights_t *fl, uint32_t i)
{
    unsigned           k;
    llm_flight_row_t  *f;

    f = llm_flight_row(fl, i);
    f->shut = 1;

    llm_flight_whole(fl, i);

    for (k = 0; k < LLM_FLIGHT_NAMES; k++) {
        if (f->names & 1U << k) {
            llm_flight_name_drop(fl, i, k);
        }
    }

    if (f->keep != 0) {
        llm_flight_unkeep(fl, i);
    }

    if (f->followers != 0) {
        llm_flight_log_trim(fl, f);
        return;
    }

    llm_flight_log_free(fl, f);

    if (f->state != LLM_FLIGHT_OPEN) {
        llm_flight_free_row(fl, i);
    }
}


/* what has a name is not shut and has not failed */

static int
llm_flight_joinable(const llm_flights_t *fl, uint32_t i,
    const llm_flight_limits_t *limits, uint64_t now)
{
    llm_flight_row_t  *f;

    f = llm_flight_row(fl, i);

    return f->followers < limits->followers
           && (f->keep == 0 || f->keep > now);
}


static int
llm_flight_follow(llm_flights_t *fl, uint32_t i, const llm_flight_ask_t *ask,
    llm_flight_id_t *id, llm_owners_t *wake)
{
    uint32_t              k;
    llm_flight_row_t     *f;
    llm_flight_reader_t  *r;

    k = llm_flight_new_reader(fl);

    if (k == LLM_FLIGHT_NONE) {
        fl->stat.full++;
        return LLM_DECLINED;
    }

    f = llm_flight_row(fl, i);
    r = llm_flight_reader(fl, k);

    llm_flight_number(&r->party, k, ask);

    r->pos = 0;
    r->flight = i;
    r->block = f->first;
    r->at = 0;
    r->left = 0;

    if (f->first != LLM_FLIGHT_NONE) {
        llm_flight_block(fl, f->first)->readers++;
    }

    r->peer.prev = LLM_FLIGHT_NONE;
    r->peer.next = f->peers;

    if (f->peers != LLM_FLIGHT_NONE) {
        llm_flight_reader(fl, f->peers)->peer.prev = k;
    }

    f->peers = k;
    f->followers++;

    fl->stat.followers++;
    fl->stat.followed++;

    if (f->followers == 1) {

        if (f->state == LLM_FLIGHT_OPEN) {
            llm_flight_tell(fl, i, wake);

        } else {
            llm_flight_rekeep(fl, i);
        }
    }

    llm_flight_whole(fl, i);

    if (f->end != 0 || f->state != LLM_FLIGHT_OPEN) {
        llm_flight_tell(fl, k, wake);
    }

    *id = r->party.id;

    return LLM_AGAIN;
}


static int
llm_flight_lead(llm_flights_t *fl, const llm_flight_ask_t *ask,
    llm_flight_id_t *id)
{
    uint32_t           i, from;
    unsigned           k;
    llm_flight_row_t  *f;

    i = llm_flight_new_row(fl);

    if (i == LLM_FLIGHT_NONE && llm_flight_evict(fl) == LLM_OK) {
        i = llm_flight_new_row(fl);
    }

    if (i == LLM_FLIGHT_NONE) {
        return LLM_DECLINED;
    }

    f = llm_flight_row(fl, i);

    llm_flight_number(&f->party, i, ask);

    f->keep = 0;
    f->end = 0;
    f->state = LLM_FLIGHT_OPEN;
    f->last_piece = 0;
    memset(f->note, 0, sizeof(f->note));
    f->shut = 0;
    f->first = LLM_FLIGHT_NONE;
    f->last = LLM_FLIGHT_NONE;
    f->fill = 0;
    f->followers = 0;
    f->peers = LLM_FLIGHT_NONE;
    f->names = 0;
    f->listed = 0;

    for (k = 0; k < LLM_FLIGHT_NAMES; k++) {

        if ((ask->lead & 1U << k) != 0
            && llm_flight_name_take(fl, i, k, ask->name[k], &from))
        {
            llm_flight_shut(fl, from);
        }
    }

    fl->stat.flights++;
    fl->stat.led++;

    *id = f->party.id;

    return LLM_OK;
}
