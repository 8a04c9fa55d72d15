
/*
 * Copyright (C) the ngx-llm authors
 */


#include <string.h>

#include "core/llm_book_private.h"
#include "core/llm_siphash.h"
#include "core/llm_sum.h"


#define LLM_BOOK_MIN       (512 * 1024)
#define LLM_BOOK_ALIGN     64
#define LLM_BOOK_SLOTS     64              /* of a journal, at least */
#define LLM_BOOK_MOST      1024            /* … at most */
#define LLM_BOOK_MODELS    4096            /* histograms, at most */


static void llm_book_share(llm_book_shape_t *sp, size_t size);
static uint32_t llm_book_rows_for(size_t size, unsigned kind);
static void llm_book_clear(llm_book_t *bk);
static uint64_t llm_book_layout(llm_book_t *bk,
    const llm_book_shape_t *shape);
static uint32_t llm_book_buckets(uint32_t rows);
static uint32_t llm_book_name_hash(const llm_book_t *bk,
    llm_book_name_e of, const llm_str_t *name);
static void llm_book_cut(const llm_str_t *name, llm_str_t *cut);


#define LLM_BOOK_HIST_WORDS  (LLM_BOOK_HISTS * (LLM_BOOK_BUCKETS + 1))


const uint32_t  llm_book_words[LLM_BOOK_POOLS] = {
    LLM_BOOK_SUMS, LLM_BOOK_SUMS, LLM_BOOK_SUMS, LLM_BOOK_SUMS,
    LLM_BOOK_SUMS,
    LLM_BOOK_SUMS + LLM_BOOK_STEPS, LLM_BOOK_SUMS + LLM_BOOK_STEPS,
    LLM_BOOK_STEPS, LLM_BOOK_STEPS,
    LLM_BOOK_HIST_WORDS
};


/* periods, the one that runs and one that has just ended included */

static const uint32_t  llm_book_keep[LLM_BOOK_POOLS] = {
    0, 1442, 2162, 63, 26, 1442, 2162, 1442, 2162, 0
};


/* what there is for late records and strange statuses */

static const uint32_t  llm_book_reserve[LLM_BOOK_POOLS] = {
    24, 8, 8, 8, 8, 0, 0, 8, 8, 1
};


/* parts in a hundred of what is left beside all requests and histograms */

static const uint32_t  llm_book_parts[LLM_BOOK_POOLS] = {
    34, 13, 17, 19, 9, 0, 0, 3, 5, 0
};


llm_book_t *
llm_book_create(void *mem, size_t size, const uint64_t seed[2])
{
    size_t            pad;
    llm_book_shape_t  shape;

    if (size < LLM_BOOK_MIN) {
        return NULL;
    }

    pad = -(uintptr_t) mem & (LLM_BOOK_ALIGN - 1);

    llm_book_share(&shape, size - pad);

    return llm_book_form((unsigned char *) mem + pad, size - pad, &shape,
                         seed);
}


static void
llm_book_share(llm_book_shape_t *sp, size_t size)
{
    size_t    left, part;
    unsigned  i;

    memset(sp, 0, sizeof(llm_book_shape_t));

    left = size - sizeof(llm_book_t) - 64 * LLM_BOOK_POOLS;

    part = size / 16;

    for (sp->slots = LLM_BOOK_SLOTS;
         sp->slots < LLM_BOOK_MOST
         && sp->slots * 2 * sizeof(llm_book_entry_t) * LLM_BOOK_OWNERS
            <= part;
         sp->slots *= 2)
    {
        /* void */
    }

    i = (unsigned) (part / (sp->slots * sizeof(llm_book_entry_t) + 128));
    sp->journals = i > LLM_BOOK_OWNERS ? LLM_BOOK_OWNERS : i;

    part = size / 8 / (sizeof(llm_book_text_t) + 4 * sizeof(uint32_t));
    part = part > 1u << 22 ? 1u << 22 : part;

    sp->names[LLM_BOOK_KEY] = (uint32_t) part / 2;
    sp->names[LLM_BOOK_MODEL] = (uint32_t) part / 4;
    sp->names[LLM_BOOK_TEAM] = (uint32_t) part * 3 / 16;
    sp->names[LLM_BOOK_PROVIDER] = (uint32_t) part / 16;

    left -= size / 16 + size / 8;

    part = left * 9 / 100;
    sp->rows[LLM_BOOK_ALL_MINUTE] = llm_book_rows_for(part,
                                                      LLM_BOOK_ALL_MINUTE);
    part = left * 13 / 100;
    sp->rows[LLM_BOOK_ALL_HOUR] = llm_book_rows_for(part, LLM_BOOK_ALL_HOUR);
    part = left * 3 / 100;
    sp->rows[LLM_BOOK_HIST] = llm_book_rows_for(part, LLM_BOOK_HIST);

    for (i = LLM_BOOK_ALL_MINUTE; i <= LLM_BOOK_ALL_HOUR; i++) {
        if (sp->rows[i] > llm_book_keep[i]) {
            sp->rows[i] = llm_book_keep[i];
        }
    }

    if (sp->rows[LLM_BOOK_HIST] > LLM_BOOK_MODELS) {
        sp->rows[LLM_BOOK_HIST] = LLM_BOOK_MODELS;
    }

    left = size - llm_book_size(sp);

    for (i = 0; i < LLM_BOOK_POOLS; i++) {
        if (llm_book_parts[i] != 0) {
            sp->rows[i] = llm_book_rows_for(left / 100 * llm_book_parts[i],
                                            i);
        }
    }
}


/* a row and its share of an index of between one and two words for each */

static uint32_t
llm_book_rows_for(size_t size, unsigned kind)
{
    size_t  n, one;

    one = LLM_BOOK_CELL + llm_book_words[kind] * sizeof(uint64_t)
          + 2 * sizeof(uint32_t);

    n = size / one;

    return n > 1u << 28 ? 1u << 28 : (uint32_t) n;
}


size_t
llm_book_size(const llm_book_shape_t *shape)
{
    llm_book_t  bk;

    memset(&bk, 0, offsetof(llm_book_t, nredo));

    return llm_book_layout(&bk, shape);
}


llm_book_t *
llm_book_form(void *mem, size_t size, const llm_book_shape_t *shape,
    const uint64_t seed[2])
{
    unsigned           i;
    llm_str_t          name;
    llm_book_t        *bk;

    static const char  *const fixed[] = { "", "other" };

    if (size < sizeof(llm_book_t) || llm_book_size(shape) > size) {
        return NULL;
    }

    bk = mem;

    memset(bk, 0, sizeof(llm_book_t));

    bk->size = size;
    bk->seed[0] = seed[0];
    bk->seed[1] = seed[1];

    bk->used = llm_book_layout(bk, shape);

    llm_book_clear(bk);

    for (i = 0; i < LLM_BOOK_NAMES * 2; i++) {
        name.data = (unsigned char *) fixed[i % 2];
        name.len = strlen(fixed[i % 2]);

        if (llm_book_name(bk, (llm_book_name_e) (i / 2), &name) != i % 2) {
            return NULL;
        }
    }

    return bk;
}


/* all but the cells, which are cleared when they are made */

static void
llm_book_clear(llm_book_t *bk)
{
    uint64_t  at;
    unsigned  i;

    at = sizeof(llm_book_t);

    for (i = 0; i < LLM_BOOK_POOLS; i++) {
        memset((unsigned char *) bk + at, 0, bk->pool[i].cells - at);
        at = bk->pool[i].index;
    }

    memset((unsigned char *) bk + at, 0, bk->used - at);
}


static uint64_t
llm_book_layout(llm_book_t *bk, const llm_book_shape_t *shape)
{
    uint64_t           at;
    unsigned           i;
    llm_book_pool_t   *pl;
    llm_book_names_t  *nm;

    at = (sizeof(llm_book_t) + LLM_BOOK_ALIGN - 1)
         & ~(uint64_t) (LLM_BOOK_ALIGN - 1);

    bk->journals = at;
    bk->njournals = shape->journals;
    bk->slots = shape->slots;

    at += shape->journals * (offsetof(llm_book_journal_t, entry)
                             + shape->slots * sizeof(llm_book_entry_t));

    for (i = 0; i < LLM_BOOK_NAMES; i++) {
        nm = &bk->names[i];

        nm->room = shape->names[i] < 2 ? 2 : shape->names[i];
        nm->mask = llm_book_buckets(nm->room) * 2 - 1;
        nm->rows = at;
        at += (uint64_t) nm->room * sizeof(llm_book_text_t);
        nm->index = at;
        at += ((uint64_t) nm->mask + 1) * sizeof(uint32_t);
    }

    for (i = 0; i < LLM_BOOK_POOLS; i++) {
        pl = &bk->pool[i];

        pl->room = shape->rows[i] <= llm_book_reserve[i]
                   ? llm_book_reserve[i] + 1 : shape->rows[i];
        pl->mask = llm_book_buckets(pl->room) - 1;
        pl->stride = LLM_BOOK_CELL + llm_book_words[i] * sizeof(uint64_t);
        pl->reserve = llm_book_reserve[i];
        pl->keep = llm_book_keep[i];

        pl->cells = at;
        at += (uint64_t) pl->room * pl->stride;
        pl->index = at;
        at += ((uint64_t) pl->mask + 1) * sizeof(uint32_t);
        at = (at + 7) & ~(uint64_t) 7;
    }

    return at;
}


/* a power of two, about as many as rows: chains are short */

static uint32_t
llm_book_buckets(uint32_t rows)
{
    uint32_t  n;

    for (n = 2; n < rows; n *= 2) { /* void */ }

    return n;
}


uint32_t
llm_book_find(const llm_book_t *bk, llm_book_name_e of,
    const llm_str_t *name)
{
    uint32_t                 i, row, hash;
    llm_str_t                cut;
    const uint32_t          *index;
    const llm_book_text_t   *text;
    const llm_book_names_t  *nm;

    if (name->len == 0) {
        return LLM_BOOK_NONE;
    }

    llm_book_cut(name, &cut);

    nm = &bk->names[of];
    hash = llm_book_name_hash(bk, of, &cut);
    index = llm_book_at(bk, nm->index);

    for (i = hash & nm->mask; /* void */ ; i = (i + 1) & nm->mask) {

        row = __atomic_load_n(&index[i], __ATOMIC_ACQUIRE);

        if (row == 0) {
            return UINT32_MAX;
        }

        text = (llm_book_text_t *) llm_book_at(bk, nm->rows) + row - 1;

        if (text->hash == hash && text->len == cut.len
            && memcmp(text->text, cut.data, cut.len) == 0)
        {
            return row - 1;
        }
    }
}


uint32_t
llm_book_name(llm_book_t *bk, llm_book_name_e of, const llm_str_t *name)
{
    uint32_t           i, id, hash, *index;
    llm_str_t          cut;
    llm_book_step_t    st;
    llm_book_text_t   *text;
    llm_book_names_t  *nm;

    nm = &bk->names[of];

    if (name->len != 0 || nm->used > LLM_BOOK_NONE) {
        id = llm_book_find(bk, of, name);

        if (id != UINT32_MAX) {
            return id;
        }
    }

    if (nm->used == nm->room) {
        return LLM_BOOK_OTHER;
    }

    llm_book_cut(name, &cut);

    hash = llm_book_name_hash(bk, of, &cut);
    index = llm_book_at(bk, nm->index);

    for (i = hash & nm->mask; index[i] != 0; i = (i + 1) & nm->mask) {
        /* void */
    }

    id = nm->used;

    text = (llm_book_text_t *) llm_book_at(bk, nm->rows) + id;

    text->hash = hash;
    text->len = (uint8_t) cut.len;

    if (cut.len != 0) {
        memcpy(text->text, cut.data, cut.len);
    }

    llm_book_begin(&st, bk);
    llm_book_put4(&st, &nm->used, id + 1);
    llm_book_put4(&st, &index[i], id + 1);
    llm_book_commit(&st);

    return id;
}


int
llm_book_names_full(const llm_book_t *bk, llm_book_name_e of)
{
    const llm_book_names_t  *nm;

    nm = &bk->names[of];

    return __atomic_load_n(&nm->used, __ATOMIC_ACQUIRE) == nm->room;
}


void
llm_book_text(const llm_book_t *bk, llm_book_name_e of, uint32_t id,
    llm_str_t *name)
{
    llm_book_text_t         *text;
    const llm_book_names_t  *nm;

    nm = &bk->names[of];

    if (id >= nm->room) {
        id = LLM_BOOK_OTHER;
    }

    text = (llm_book_text_t *) llm_book_at(bk, nm->rows) + id;

    name->data = text->text;
    name->len = text->len;
}


/* models may be named by clients: their hash cannot be foreseen */

static uint32_t
llm_book_name_hash(const llm_book_t *bk, llm_book_name_e of,
    const llm_str_t *name)
{
    uint64_t  out[2];

    if (of != LLM_BOOK_MODEL) {
        return (uint32_t) llm_sum(bk->seed[0], name->data, name->len);
    }

    llm_siphash(bk->seed, name->data, name->len, out);

    return (uint32_t) out[0];
}


/* not within a character */

static void
llm_book_cut(const llm_str_t *name, llm_str_t *cut)
{
    *cut = *name;

    if (cut->len <= LLM_BOOK_NAME) {
        return;
    }

    cut->len = LLM_BOOK_NAME;

    while (cut->len > LLM_BOOK_NAME - 4
           && (name->data[cut->len] & 0xc0) == 0x80)
    {
        cut->len--;
    }
}
