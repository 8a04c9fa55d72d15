
/*
 * Copyright (C) the ngx-llm authors
 *
 * A model of the table of flights: it keeps every piece, searches everything
 * and counts blocks from the readers' positions alone.
 */


#ifndef _FLIGHT_MODEL_H_INCLUDED_
#define _FLIGHT_MODEL_H_INCLUDED_


#include "flight_check.h"


#define SIZE     (128 * 1024)
#define ROWS     16
#define READERS  128
#define NAMES    10
#define OWNERS   4


typedef struct {
    int                  used;
    llm_flight_id_t      id;
    unsigned             owner;
    int                  pending;
    int                  told;
} party_t;

typedef struct {
    unsigned             kind;
    unsigned             len;
    unsigned             seed;
} piece_t;

typedef struct {
    party_t              party;
    llm_flight_state_e   state;
    int                  shut;
    uint64_t             keep;
    uint64_t             order;
    int                  name[LLM_FLIGHT_NAMES];
    piece_t             *piece;
    unsigned             pieces;
    unsigned             size;
    uint64_t             end;
    unsigned             followers;
    uint64_t             whole;            /* since when; 0: is not */
} flight_t;

typedef struct {
    party_t              party;
    flight_t            *flight;           /* NULL: it has lagged */
    unsigned             piece;
    unsigned             off;
    int                  begun;            /* the piece's header is read */
    uint64_t             pos;
} reader_t;


static llm_flights_t      *fl;
static flight_t            flights[ROWS];
static reader_t            readers[READERS];
static llm_flight_stat_t   st;
static llm_owners_t        wake, want;
static uint64_t            now, order, since, seed;

enum {
    SEEN_FOLLOW = 0, SEEN_LEAD, SEEN_ALONE, SEEN_FULL, SEEN_EVICT, SEEN_LAG,
    SEEN_SHUT, SEEN_NO_ROOM, SEEN_KEPT, SEEN_LATE, SEEN_STOLEN, SEEN_TRIM,
    SEEN_WHOLE, SEEN_CUT, SEEN_CUT_SELF, SEEN_CUT_KEPT, SEEN_CUT_ENTER,
    SEEN_REFUSED, SEEN_REFUSED_KEPT, SEEN_ALL
};

static unsigned long  seen[SEEN_ALL];

static const char  *label[] = {
    "follow", "lead", "alone", "full", "evict", "lag", "shut", "no room",
    "kept", "late", "stolen", "trim", "whole", "cut", "cut self",
    "cut kept", "cut enter", "refused", "refused kept"
};


static unsigned
any(unsigned n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;

    return (unsigned) ((seed >> 11) % n);
}


static unsigned char
byte_of(unsigned s, unsigned i)
{
    return (unsigned char) ((s * 2654435761U + i * 40503U) >> 13);
}


/* the model */

static void
model_tell(party_t *p)
{
    if (!p->pending) {
        p->pending = 1;
        want.bits[p->owner / 64] |= (uint64_t) 1 << p->owner % 64;
    }
}


static unsigned
model_names(const flight_t *f)
{
    unsigned  k, n;

    for (k = 0, n = 0; k < LLM_FLIGHT_NAMES; k++) {
        n += f->name[k] >= 0;
    }

    return n;
}


/* the first of its blocks that somebody stands in */

static uint64_t
model_front(const flight_t *f)
{
    uint64_t   at, min;
    reader_t  *r;

    min = UINT64_MAX;

    for (r = readers; r < readers + READERS; r++) {
        if (r->party.used && r->flight == f) {
            at = r->pos == 0 ? 0 : (r->pos - 1) / PAYLOAD;
            min = at < min ? at : min;
        }
    }

    return min;
}


static uint64_t
model_blocks(const flight_t *f)
{
    uint64_t  min;

    if (!f->party.used || f->end == 0 || (f->shut && f->followers == 0)) {
        return 0;
    }

    min = f->shut ? model_front(f) : 0;

    seen[SEEN_TRIM] += min != 0;

    return (f->end - 1) / PAYLOAD - min + 1;
}


/* whether a cut would free something, after each change of one flight */

static void
model_whole(flight_t *f)
{
    int  cut;

    cut = f->party.used && !f->shut && f->end != 0
          && (f->followers == 0 ? f->state == LLM_FLIGHT_OPEN
                                : model_front(f) != 0);

    if (!cut) {
        f->whole = 0;

    } else if (f->whole == 0) {
        f->whole = ++since;
    }
}


static void
model_shut(flight_t *f)
{
    unsigned  k;

    f->shut = 1;
    f->keep = 0;
    f->whole = 0;

    for (k = 0; k < LLM_FLIGHT_NAMES; k++) {
        f->name[k] = -1;
    }

    if (f->followers == 0 && f->state != LLM_FLIGHT_OPEN) {
        f->party.used = 0;
    }
}


static int
model_evict(void)
{
    flight_t  *f, *first;

    first = NULL;

    for (f = flights; f < flights + ROWS; f++) {

        if (!f->party.used || f->keep == 0 || f->followers != 0) {
            continue;
        }

        if (first == NULL || f->keep < first->keep
            || (f->keep == first->keep && f->order < first->order))
        {
            first = f;
        }
    }

    if (first == NULL) {
        return 0;
    }

    seen[SEEN_EVICT]++;
    model_shut(first);

    return 1;
}


static flight_t *
model_cut(const flight_t *except)
{
    flight_t  *f, *first;

    first = NULL;

    for (f = flights; f < flights + ROWS; f++) {
        if (f->party.used && f->whole != 0 && f != except
            && (first == NULL || f->whole < first->whole))
        {
            first = f;
        }
    }

    if (first != NULL) {
        seen[SEEN_CUT]++;
        seen[SEEN_CUT_KEPT] += first->state != LLM_FLIGHT_OPEN;
        model_shut(first);
    }

    return first;
}


/* blocks that are free, or would be if all were given up that nobody reads */

static uint64_t
model_spare(const flight_t *except)
{
    uint64_t         n;
    const flight_t  *f;

    n = st.size;

    for (f = flights; f < flights + ROWS; f++) {
        if (f == except || f->state == LLM_FLIGHT_OPEN || f->followers != 0) {
            n -= model_blocks(f);
        }
    }

    return n;
}


static int
model_roomy(const flight_t *f)
{
    unsigned  n;
    uint64_t  least;

    if (f->followers != 0) {
        return 1;
    }

    least = st.size / 8 > 8 ? st.size / 8 : 8;

    for (n = 0; model_spare(f) < least; n++) {

        if (n == 8 || model_cut(f) == NULL) {
            seen[SEEN_REFUSED]++;
            seen[SEEN_REFUSED_KEPT] += f->keep != 0;
            return 0;
        }

        seen[SEEN_CUT_ENTER]++;
    }

    return 1;
}


static void
model_detach(reader_t *r)
{
    flight_t  *f;

    f = r->flight;

    if (f == NULL) {
        return;
    }

    r->flight = NULL;
    f->followers--;

    if (f->followers == 0 && f->state == LLM_FLIGHT_OPEN) {
        model_tell(&f->party);
    }

    if (f->followers == 0 && f->shut && f->state != LLM_FLIGHT_OPEN) {
        f->party.used = 0;
    }

    model_whole(f);
}


static void
model_end(flight_t *f, llm_flight_state_e state, uint64_t keep)
{
    reader_t  *r;

    f->state = state;
    f->party.pending = 0;
    st.failed += state != LLM_FLIGHT_DONE;

    for (r = readers; r < readers + READERS; r++) {
        if (r->party.used && r->flight == f) {
            model_tell(&r->party);
        }
    }

    if (state != LLM_FLIGHT_DONE || keep == 0 || f->shut) {
        model_shut(f);

    } else {
        f->keep = keep;
        f->order = order++;
        seen[SEEN_KEPT]++;
        model_whole(f);
    }
}


static uint64_t
model_expire(void)
{
    uint64_t   next;
    flight_t  *f;

    next = 0;

    for (f = flights; f < flights + ROWS; f++) {

        if (!f->party.used || f->keep == 0) {
            continue;
        }

        if (f->keep <= now) {
            model_shut(f);

        } else if (next == 0 || f->keep < next) {
            next = f->keep;
        }
    }

    return next;
}


static uint64_t
model_room(const flight_t *f)
{
    uint64_t   n;
    flight_t  *g;

    n = st.size;

    for (g = flights; g < flights + ROWS; g++) {
        n -= model_blocks(g);
    }

    n *= PAYLOAD;

    if (model_blocks(f) != 0) {
        n += PAYLOAD - 1 - (f->end - 1) % PAYLOAD;
    }

    return n;
}


static int
model_append(flight_t *f, const piece_t *pc, size_t log)
{
    uint64_t   need;
    reader_t  *r;
    flight_t  *g;

    need = pc->len + 4;

    if (!f->shut && f->end + need > log) {
        seen[SEEN_SHUT]++;
        model_shut(f);
    }

    for (r = readers; r < readers + READERS && f->shut; r++) {
        if (r->party.used && r->flight == f && f->end + need - r->pos > log) {
            seen[SEEN_LAG]++;
            st.lagged++;
            model_detach(r);
            model_tell(&r->party);
        }
    }

    if (f->shut && f->followers == 0) {
        return LLM_OK;
    }

    if (need > model_room(f)) {
        (void) model_expire();
    }

    while (need > model_room(f)) {

        if (model_evict()) {
            continue;
        }

        g = model_cut(NULL);

        if (g == NULL) {
            seen[SEEN_NO_ROOM]++;
            st.full++;
            model_end(f, LLM_FLIGHT_FAILED, 0);
            return LLM_DECLINED;
        }

        seen[SEEN_CUT_SELF] += g == f;
    }

    if (f->shut && f->followers == 0) {
        return LLM_OK;
    }

    if (f->pieces == f->size) {
        f->size = f->size * 2 + 16;
        f->piece = realloc(f->piece, f->size * sizeof(piece_t));
        assert_non_null(f->piece);
    }

    f->piece[f->pieces++] = *pc;
    f->end += need;
    model_whole(f);

    for (r = readers; r < readers + READERS; r++) {
        if (r->party.used && r->flight == f && !r->party.told) {
            model_tell(&r->party);
        }
    }

    return LLM_OK;
}


/* what a read should give, byte by byte */

static void
model_read(reader_t *r, unsigned kinds, size_t size, unsigned char *p,
    llm_flight_piece_t *pc)
{
    unsigned   what;
    flight_t  *f;
    piece_t   *x;

    memset(pc, 0, sizeof(llm_flight_piece_t));
    r->party.told = 0;

    f = r->flight;

    if (f == NULL) {
        r->party.pending = 0;
        pc->state = LLM_FLIGHT_LAGGED;
        return;
    }

    for ( /* void */ ; r->piece < f->pieces; r->piece++) {
        x = &f->piece[r->piece];

        r->pos += r->begun ? 0 : 4;
        r->begun = 1;

        if (x->kind & kinds) {
            what = kinds & LLM_FLIGHT_ONE ? x->kind
                   : x->kind == LLM_FLIGHT_HEAD ? LLM_FLIGHT_HEAD
                   : LLM_FLIGHT_DATA;

            if (pc->size == size || (pc->kind && pc->kind != what)) {
                return;
            }

            while (r->off < x->len && pc->size < size) {
                p[pc->size++] = byte_of(x->seed, r->off++);
                r->pos++;
                pc->kind = what;
            }

            pc->end = r->off == x->len;

            if (!pc->end) {
                return;
            }

            if (what == LLM_FLIGHT_HEAD) {
                size = pc->size;

            } else {
                pc->pieces++;
            }

            if (kinds & LLM_FLIGHT_ONE) {
                r->piece++;
                r->off = 0;
                r->begun = 0;
                break;
            }

        } else {
            r->pos += x->len - r->off;
        }

        r->off = 0;
        r->begun = 0;
    }

    if (r->piece < f->pieces) {
        return;
    }

    r->party.pending = 0;
    pc->state = f->state;
    seen[SEEN_WHOLE] += f->state == LLM_FLIGHT_DONE;
}


static void
model_take(flight_t *f, unsigned k, int name)
{
    unsigned   j;
    flight_t  *g;

    for (g = flights; g < flights + ROWS; g++) {

        for (j = 0; g->party.used && j < LLM_FLIGHT_NAMES; j++) {

            if (g->name[j] != name) {
                continue;
            }

            if (g == f) {
                return;
            }

            g->name[j] = -1;

            if (model_names(g) == 0) {
                seen[SEEN_STOLEN]++;
                model_shut(g);
            }
        }
    }

    f->name[k] = name;
}


/* who will be followed */

static flight_t *
model_find(int name, const llm_flight_limits_t *limits)
{
    unsigned   j;
    flight_t  *f;

    for (f = flights; f < flights + ROWS; f++) {

        for (j = 0; f->party.used && j < LLM_FLIGHT_NAMES; j++) {
            if (f->name[j] == name && f->followers < limits->followers
                && (f->keep == 0 || f->keep > now))
            {
                return f;
            }
        }
    }

    return NULL;
}


static flight_t *
free_flight(void)
{
    flight_t  *f;

    for (f = flights; f < flights + ROWS; f++) {
        if (!f->party.used) {
            return f;
        }
    }

    return NULL;
}


static reader_t *
free_reader(void)
{
    reader_t  *r;

    for (r = readers; r < readers + READERS; r++) {
        if (!r->party.used) {
            return r;
        }
    }

    return NULL;
}


#endif /* _FLIGHT_MODEL_H_INCLUDED_ */
