
/*
 * Copyright (C) the ngx-llm authors
 *
 * Rows and their names.  Those without calls are in a list, in the order of
 * use: its oldest is the one that has to go when room is needed.
 */


#include <string.h>

#include "core/llm_target_private.h"


#define LLM_TARGET_MIN    (64 * 1024)
#define LLM_TARGET_ALIGN  64


static uint32_t llm_target_lookup(const llm_targets_t *tg,
    const llm_str_t *name);
static uint32_t llm_target_take(llm_targets_t *tg);
static void llm_target_enter(llm_targets_t *tg, uint32_t i);
static void llm_target_forget(llm_targets_t *tg, uint32_t i);
static void llm_target_fresh(llm_target_row_t *row);


_Static_assert(sizeof(llm_targets_t) <= LLM_TARGET_HEAD, "targets header");


/* FNV-1a */

static inline uint32_t *
llm_target_bucket(const llm_targets_t *tg, const unsigned char *p, size_t len)
{
    size_t    i;
    uint32_t  hash;

    hash = 2166136261;

    for (i = 0; i < len; i++) {
        hash = (hash ^ p[i]) * 16777619;
    }

    return (uint32_t *) (void *) ((unsigned char *) tg + LLM_TARGET_HEAD)
           + ((hash ^ hash >> 16) & tg->mask);
}


llm_targets_t *
llm_target_create(void *mem, size_t size)
{
    size_t          pad, one, n, buckets;
    uint32_t        i;
    llm_targets_t  *tg;

    if (size < LLM_TARGET_MIN) {
        return NULL;
    }

    pad = -(uintptr_t) mem & (LLM_TARGET_ALIGN - 1);
    size -= pad + LLM_TARGET_HEAD;
    one = sizeof(llm_target_row_t);

    for (buckets = 2; buckets < size / one; buckets *= 2) { /* void */ }

    n = (size - buckets * sizeof(uint32_t)) / one;

    if (n > LLM_TARGET_NONE - 1) {
        return NULL;
    }

    tg = (llm_targets_t *) (void *) ((unsigned char *) mem + pad);

    memset(tg, 0, sizeof(llm_targets_t));

    tg->rows = LLM_TARGET_HEAD + buckets * sizeof(uint32_t);
    tg->size = (uint32_t) n;
    tg->mask = (uint32_t) (buckets - 1);

    for (i = 0; i < tg->size; i++) {
        llm_target_at(tg, i)->used = 0;
    }

    llm_target_reset(tg);

    return tg;
}


/*
 * The links may be half made, the names are whole: a row is marked as used
 * when its name is written.
 */

void
llm_target_reset(llm_targets_t *tg)
{
    uint32_t           i;
    llm_str_t          name;
    llm_target_row_t  *row;

    memset((unsigned char *) tg + LLM_TARGET_HEAD, 0xff,
           ((size_t) tg->mask + 1) * sizeof(uint32_t));

    tg->epoch++;
    tg->fresh = 0;
    tg->newest = LLM_TARGET_NONE;
    tg->oldest = LLM_TARGET_NONE;

    for (i = 0; i < tg->size; i++) {
        row = llm_target_at(tg, i);

        if (row->used != LLM_TARGET_USED) {
            row->used = 0;
            continue;
        }

        name.data = row->name;
        name.len = row->len;

        if (row->len == 0 || row->len > LLM_TARGET_NAME
            || llm_target_lookup(tg, &name) != LLM_TARGET_NONE)
        {
            row->used = 0;
            continue;
        }

        llm_target_fresh(row);
        llm_target_enter(tg, i);
        llm_target_idle(tg, i);
    }
}


uint32_t
llm_target_find(llm_targets_t *tg, const llm_str_t *name, uint64_t now)
{
    uint32_t           i;
    llm_target_row_t  *row;

    (void) now;

    if (name->len == 0 || name->len > LLM_TARGET_NAME) {
        return LLM_TARGET_NONE;
    }

    i = llm_target_seek(tg, name);

    if (i != LLM_TARGET_NONE) {
        return i;
    }

    i = llm_target_take(tg);

    if (i == LLM_TARGET_NONE) {
        return LLM_TARGET_NONE;
    }

    row = llm_target_at(tg, i);

    memcpy(row->name, name->data, name->len);
    row->len = (uint32_t) name->len;
    llm_target_fresh(row);
    row->used = LLM_TARGET_USED;

    llm_target_enter(tg, i);
    llm_target_idle(tg, i);

    return i;
}


uint32_t
llm_target_seek(llm_targets_t *tg, const llm_str_t *name)
{
    uint32_t  i;

    i = llm_target_lookup(tg, name);

    if (i != LLM_TARGET_NONE && llm_target_at(tg, i)->running == 0
        && tg->newest != i)
    {
        llm_target_busy(tg, i);
        llm_target_idle(tg, i);
    }

    return i;
}


llm_target_row_t *
llm_target_row(const llm_targets_t *tg, uint32_t i)
{
    llm_target_row_t  *row;

    if (i >= tg->size) {
        return NULL;
    }

    row = llm_target_at(tg, i);

    return row->used == LLM_TARGET_USED ? row : NULL;
}


void
llm_target_idle(llm_targets_t *tg, uint32_t i)
{
    llm_target_row_t  *row;

    row = llm_target_at(tg, i);

    row->newer = LLM_TARGET_NONE;
    row->older = tg->newest;

    if (tg->newest != LLM_TARGET_NONE) {
        llm_target_at(tg, tg->newest)->newer = i;

    } else {
        tg->oldest = i;
    }

    tg->newest = i;
}


void
llm_target_busy(llm_targets_t *tg, uint32_t i)
{
    llm_target_row_t  *row;

    row = llm_target_at(tg, i);

    if (row->newer != LLM_TARGET_NONE) {
        llm_target_at(tg, row->newer)->older = row->older;

    } else {
        tg->newest = row->older;
    }

    if (row->older != LLM_TARGET_NONE) {
        llm_target_at(tg, row->older)->newer = row->newer;

    } else {
        tg->oldest = row->newer;
    }
}


static uint32_t
llm_target_lookup(const llm_targets_t *tg, const llm_str_t *name)
{
    uint32_t           i;
    llm_target_row_t  *row;

    i = *llm_target_bucket(tg, name->data, name->len);

    for ( /* void */ ; i != LLM_TARGET_NONE; i = row->chain) {
        row = llm_target_at(tg, i);

        if (row->len == name->len
            && memcmp(row->name, name->data, name->len) == 0)
        {
            return i;
        }
    }

    return LLM_TARGET_NONE;
}


/* a row without name: one that never had any, or the oldest's */

static uint32_t
llm_target_take(llm_targets_t *tg)
{
    uint32_t  i;

    while (tg->fresh < tg->size) {
        i = tg->fresh++;

        if (llm_target_at(tg, i)->used == 0) {
            return i;
        }
    }

    i = tg->oldest;

    if (i != LLM_TARGET_NONE) {
        llm_target_busy(tg, i);
        llm_target_forget(tg, i);
    }

    return i;
}


static void
llm_target_enter(llm_targets_t *tg, uint32_t i)
{
    uint32_t          *bucket;
    llm_target_row_t  *row;

    row = llm_target_at(tg, i);
    bucket = llm_target_bucket(tg, row->name, row->len);

    row->chain = *bucket;
    *bucket = i;
}


static void
llm_target_forget(llm_targets_t *tg, uint32_t i)
{
    uint32_t          *at;
    llm_target_row_t  *row;

    row = llm_target_at(tg, i);
    at = llm_target_bucket(tg, row->name, row->len);

    while (*at != i) {
        at = &llm_target_at(tg, *at)->chain;
    }

    *at = row->chain;
    row->used = 0;
}


static void
llm_target_fresh(llm_target_row_t *row)
{
    row->running = 0;

    memset(&row->breaker, 0, sizeof(llm_target_row_t)
                             - offsetof(llm_target_row_t, breaker));
}
