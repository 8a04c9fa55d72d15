
/*
 * Copyright (C) the ngx-llm authors
 */


#include <string.h>

#include "core/llm_book_private.h"
#include "core/llm_meter.h"


/* of which names a kind's rows are */

#define LLM_BOOK_OF_TEAM   (1u << LLM_BOOK_TEAM)
#define LLM_BOOK_OF_KEY    (1u << LLM_BOOK_KEY)
#define LLM_BOOK_OF_MODEL  (1u << LLM_BOOK_MODEL)
#define LLM_BOOK_OF_ALL    15u

static const unsigned  llm_book_of[LLM_BOOK_KINDS] = {
    LLM_BOOK_OF_ALL & ~LLM_BOOK_OF_KEY,
    LLM_BOOK_OF_TEAM | LLM_BOOK_OF_MODEL,
    LLM_BOOK_OF_TEAM | LLM_BOOK_OF_MODEL,
    LLM_BOOK_OF_ALL,
    LLM_BOOK_OF_ALL
};


static llm_book_cell_t *llm_book_row_for(llm_book_t *bk,
    llm_book_kind_e kind, const llm_book_record_t *rec, int *folded);
static unsigned llm_book_marks(const llm_book_record_t *rec);
static void llm_book_rows_make(llm_book_t *bk, const llm_book_record_t *rec,
    llm_book_rows_t *rows);
static llm_book_cell_t *llm_book_hist_for(llm_book_t *bk, uint32_t model,
    uint32_t provider);


#define LLM_BOOK_LONG                                                         \
    { 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 20000, 30000,    \
      60000, 120000, 300000, 600000, 0 }

#define LLM_BOOK_LONG_LE                                                      \
    { "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5",     \
      "5", "10", "20", "30", "60", "120", "300", "600", "+Inf" }


const uint32_t  llm_book_bound[LLM_BOOK_HISTS][LLM_BOOK_BUCKETS] = {
    LLM_BOOK_LONG,
    LLM_BOOK_LONG,
    LLM_BOOK_LONG,
    { 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 30000, 0,
      0, 0, 0 }
};

const char  *llm_book_le[LLM_BOOK_HISTS][LLM_BOOK_BUCKETS] = {
    LLM_BOOK_LONG_LE,
    LLM_BOOK_LONG_LE,
    LLM_BOOK_LONG_LE,
    { "0.001", "0.002", "0.005", "0.01", "0.02", "0.05", "0.1", "0.2", "0.5",
      "1", "2", "5", "10", "30", "+Inf", NULL, NULL, NULL }
};


/* from 10 on, each a fifth above the one before */

const uint32_t  llm_book_steps[LLM_BOOK_STEPS] = {
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 19, 22, 26, 31, 37, 44, 52,
    62, 74, 88, 105, 126, 151, 181, 217, 260, 312, 374, 448, 537, 644, 772,
    926, 1111, 1333, 1599, 1918, 2301, 2761, 3313, 3975, 4770, 5724, 6868,
    8241, 9889, 11866, 14239, 17086, 20503, 24603, 29523, 35427, 42512,
    51014, 61216, 73459, 88150, 105780, 126936, 152323, 182787, 219344,
    263212, 315854, 379024, 454828, 545793, 654951, 785941, 943129, 1131754,
    1358104, 1629724, 1955668, 2346801
};


unsigned
llm_book_step(uint32_t ms)
{
    unsigned  low, high, i;

    low = 0;
    high = LLM_BOOK_STEPS - 1;

    while (low < high) {
        i = (low + high + 1) / 2;

        if (llm_book_steps[i] <= ms) {
            low = i;

        } else {
            high = i - 1;
        }
    }

    return low;
}


unsigned
llm_book_bucket(llm_book_hist_e of, uint32_t ms)
{
    unsigned         i;
    const uint32_t  *bound;

    bound = llm_book_bound[of];

    for (i = 0; bound[i] != 0 && ms > bound[i]; i++) { /* void */ }

    return i;
}


void
llm_book_between(llm_book_between_t *bt, uint32_t ms)
{
    bt->n[llm_book_bucket(LLM_BOOK_BETWEEN, ms)]++;
    bt->sum += ms;
}


/* numbers since the epoch, from 1 */

uint32_t
llm_book_period(llm_book_kind_e kind, int64_t wall)
{
    if (wall < 0) {
        wall = 0;
    }

    switch (kind) {

    case LLM_BOOK_MINUTE:
        return (uint32_t) (wall / 60) + 1;

    case LLM_BOOK_HOUR:
        return (uint32_t) (wall / 3600) + 1;

    case LLM_BOOK_DAY:
        return llm_meter_day(wall);

    case LLM_BOOK_MONTH:
        return llm_meter_month(wall);

    default:
        return 0;
    }
}


int64_t
llm_book_start(llm_book_kind_e kind, uint32_t period)
{
    int64_t   y, days;
    uint32_t  m;

    if (period == 0) {
        return 0;
    }

    period--;

    switch (kind) {

    case LLM_BOOK_MINUTE:
        return (int64_t) period * 60;

    case LLM_BOOK_HOUR:
        return (int64_t) period * 3600;

    case LLM_BOOK_DAY:
        return (int64_t) period * 86400;

    case LLM_BOOK_MONTH:

        /* of years that begin in March: 153 days in five months */

        y = 1970 + period / 12;
        m = period % 12;

        if (m < 2) {
            y--;
            m += 12;
        }

        m -= 2;
        days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5
               - 719468;

        return days * 86400;

    default:
        return 0;
    }
}


void
llm_book_post(llm_book_t *bk, const llm_book_record_t *rec)
{
    llm_book_rows_t  rows;

    memset(&rows, 0, sizeof(llm_book_rows_t));
    llm_book_rows_find(bk, rec, &rows);
    llm_book_apply(bk, &rows, &rec, 1, NULL);
}


void
llm_book_post_between(llm_book_t *bk, uint32_t model, uint32_t provider,
    const llm_book_between_t *bt)
{
    llm_book_apply_between(bk, model, provider, bt, NULL);
}


/*
 * Rows are made first, each in a step of its own, empty; llm_book_apply()
 * then changes all their sums in one.
 */

void
llm_book_rows_find(llm_book_t *bk, const llm_book_record_t *rec,
    llm_book_rows_t *rows)
{
    if (!llm_book_rows_same(rows, rec)) {
        llm_book_rows_make(bk, rec, rows);
    }
}


/* of the record before it: most of a busy client's are of the same rows */

int
llm_book_rows_same(const llm_book_rows_t *rows, const llm_book_record_t *rec)
{
    return rows->there
           && rec->wall >= rows->from && rec->wall < rows->from + 60
           && memcmp(rows->name, rec->name, sizeof(rows->name)) == 0
           && rows->status == rec->status
           && rows->marks == llm_book_marks(rec);
}


static unsigned
llm_book_marks(const llm_book_record_t *rec)
{
    return (rec->flags & LLM_BOOK_FOLDED)
           | (rec->latency != LLM_BOOK_UNKNOWN
              || rec->first != LLM_BOOK_UNKNOWN ? LLM_BOOK_ASKED : 0)
           | (rec->queued != LLM_BOOK_UNKNOWN ? LLM_BOOK_STOOD : 0);
}


static void
llm_book_rows_make(llm_book_t *bk, const llm_book_record_t *rec,
    llm_book_rows_t *rows)
{
    unsigned        i;
    llm_book_key_t  key;

    rows->there = 1;
    rows->from = llm_book_start(LLM_BOOK_MINUTE,
                                llm_book_period(LLM_BOOK_MINUTE, rec->wall));
    rows->status = rec->status;
    rows->marks = llm_book_marks(rec);
    rows->folded = (rec->flags & LLM_BOOK_FOLDED) != 0;
    rows->hist = NULL;

    memcpy(rows->name, rec->name, sizeof(rows->name));

    for (i = 0; i < LLM_BOOK_KINDS; i++) {
        rows->kind[i] = llm_book_row_for(bk, (llm_book_kind_e) i, rec,
                                         &rows->folded);
    }

    for (i = 0; i < 2; i++) {
        memset(&key, 0, sizeof(llm_book_key_t));
        key.period = llm_book_period((llm_book_kind_e) (LLM_BOOK_MINUTE + i),
                                     rec->wall);

        rows->all[i] = llm_book_make(bk, &bk->pool[LLM_BOOK_ALL_MINUTE + i],
                                     &key, 1);
        rows->model[i] = NULL;

        if (rows->marks & LLM_BOOK_ASKED) {
            key.name[LLM_BOOK_MODEL] = rec->name[LLM_BOOK_MODEL];
            rows->model[i] = llm_book_make(bk,
                                           &bk->pool[LLM_BOOK_MODEL_MINUTE
                                                     + i],
                                           &key, 0);
        }
    }

    if (rows->marks & (LLM_BOOK_ASKED | LLM_BOOK_STOOD)) {
        rows->hist = llm_book_hist_for(bk, rec->name[LLM_BOOK_MODEL],
                                       rec->name[LLM_BOOK_PROVIDER]);
    }
}


unsigned
llm_book_given(const llm_book_sums_t *sums, uint8_t *given)
{
    unsigned        i, n;
    const int64_t  *v;

    n = 0;
    v = (const int64_t *) sums;

    for (i = 0; i < LLM_BOOK_SUMS; i++) {
        given[n] = (uint8_t) i;
        n += v[i] != 0;
    }

    return n;
}


void
llm_book_apply_between(llm_book_t *bk, uint32_t model, uint32_t provider,
    const llm_book_between_t *bt, uint64_t *head)
{
    unsigned          i;
    uint64_t         *v;
    llm_book_cell_t  *c;
    llm_book_step_t   st;

    c = llm_book_hist_for(bk, model, provider);

    llm_book_begin(&st, bk);

    if (c != NULL) {
        v = c->v + LLM_BOOK_BETWEEN * (LLM_BOOK_BUCKETS + 1);

        for (i = 0; i < LLM_BOOK_BUCKETS; i++) {
            if (bt->n[i] != 0) {
                llm_book_put8(&st, &v[i], v[i] + bt->n[i]);
            }
        }

        llm_book_put8(&st, &v[i], v[i] + bt->sum);
    }

    if (head != NULL) {
        llm_book_put8(&st, head, *head + 1);
    }

    llm_book_commit(&st);
}


/* the row of these names, or "other"; a status that there is no room for is
   told as 0; NULL: none of all this */

static llm_book_cell_t *
llm_book_row_for(llm_book_t *bk, llm_book_kind_e kind,
    const llm_book_record_t *rec, int *folded)
{
    unsigned          i;
    llm_book_key_t    key;
    llm_book_cell_t  *c;
    llm_book_pool_t  *pl;

    pl = &bk->pool[kind];

    key.period = llm_book_period(kind, rec->wall);
    key.status = kind == LLM_BOOK_TOTAL ? rec->status : 0;

    for (i = 0; i < LLM_BOOK_NAMES; i++) {
        key.name[i] = llm_book_of[kind] & 1u << i ? rec->name[i]
                                                  : LLM_BOOK_NONE;
    }

    c = llm_book_make(bk, pl, &key, 0);

    if (c != NULL) {
        return c;
    }

    *folded = 1;

    for (i = 0; i < LLM_BOOK_NAMES; i++) {
        if (llm_book_of[kind] & 1u << i) {
            key.name[i] = LLM_BOOK_OTHER;
        }
    }

    /* the last row of all is kept for that of any status */

    if (kind != LLM_BOOK_TOTAL || pl->tail - pl->head + 1 < pl->room) {
        c = llm_book_make(bk, pl, &key, 1);

    } else {
        c = llm_book_lookup(bk, pl, &key);
    }

    if (c == NULL && kind == LLM_BOOK_TOTAL) {
        key.status = 0;
        c = llm_book_make(bk, pl, &key, 1);
    }

    return c;
}


void
llm_book_put_cell(llm_book_step_t *st, llm_book_cell_t *c,
    const llm_book_sums_t *sums, const uint8_t *given, unsigned n)
{
    unsigned        i;
    const int64_t  *v;

    v = (const int64_t *) sums;

    for (i = 0; i < n; i++) {
        llm_book_put8(st, &c->v[given[i]],
                      c->v[given[i]] + (uint64_t) v[given[i]]);
    }

    llm_book_put8(st, &c->changed, st->book->change + 1);
}


static llm_book_cell_t *
llm_book_hist_for(llm_book_t *bk, uint32_t model, uint32_t provider)
{
    llm_book_key_t    key;
    llm_book_cell_t  *c;

    memset(&key, 0, sizeof(llm_book_key_t));
    key.name[LLM_BOOK_MODEL] = model;
    key.name[LLM_BOOK_PROVIDER] = provider;

    c = llm_book_make(bk, &bk->pool[LLM_BOOK_HIST], &key, 0);

    if (c == NULL) {
        key.name[LLM_BOOK_MODEL] = LLM_BOOK_OTHER;
        key.name[LLM_BOOK_PROVIDER] = LLM_BOOK_OTHER;
        c = llm_book_make(bk, &bk->pool[LLM_BOOK_HIST], &key, 1);
    }

    return c;
}


/* of a time of the past, oldest first */

int
llm_book_restore(llm_book_t *bk, const llm_book_row_t *row, int64_t wall)
{
    int                folded;
    uint8_t            given[LLM_BOOK_SUMS] = { 0 };
    unsigned           i, n;
    llm_book_key_t     key;
    llm_book_cell_t   *c, *all;
    llm_book_pool_t   *pl;
    llm_book_step_t    st;
    llm_book_record_t  rec;

    if (row->kind <= LLM_BOOK_MINUTE || row->kind >= LLM_BOOK_KINDS
        || row->period == 0)
    {
        return LLM_DECLINED;
    }

    pl = &bk->pool[row->kind];

    if ((uint64_t) row->period + pl->keep
        <= llm_book_period(row->kind, wall))
    {
        return LLM_DECLINED;
    }

    memset(&rec, 0, sizeof(llm_book_record_t));
    rec.wall = llm_book_start(row->kind, row->period);

    for (i = 0; i < LLM_BOOK_NAMES; i++) {
        rec.name[i] = llm_book_name(bk, (llm_book_name_e) i, &row->name[i]);
    }

    folded = 0;
    all = NULL;
    c = llm_book_row_for(bk, row->kind, &rec, &folded);

    if (row->kind == LLM_BOOK_HOUR) {
        memset(&key, 0, sizeof(llm_book_key_t));
        key.period = row->period;
        all = llm_book_make(bk, &bk->pool[LLM_BOOK_ALL_HOUR], &key, 1);
    }

    n = llm_book_given(&row->sums, given);

    llm_book_begin(&st, bk);

    if (c != NULL) {
        llm_book_put_cell(&st, c, &row->sums, given, n);
    }

    if (all != NULL) {
        llm_book_put_cell(&st, all, &row->sums, given, n);
    }

    llm_book_put8(&st, &bk->change, bk->change + 1);

    llm_book_commit(&st);

    return c != NULL ? LLM_OK : LLM_DECLINED;
}
