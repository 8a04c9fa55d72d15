
/*
 * Copyright (C) the ngx-llm authors
 */


#include "core/llm_estimate.h"

#include <string.h>


/* ratios, tokens per byte, in parts of 2^24; an answer's P90 in 256ths */

#define LLM_ESTIMATE_ONE      ((int64_t) 1 << 24)
#define LLM_ESTIMATE_LEAST    (LLM_ESTIMATE_ONE / 20)
#define LLM_ESTIMATE_PRIOR    (LLM_ESTIMATE_ONE / 4)
#define LLM_ESTIMATE_PART     256

#define LLM_ESTIMATE_SAMPLES  20
#define LLM_ESTIMATE_WEIGHT   2            /* the prior, in samples */

#define LLM_ESTIMATE_MEDIA    765
#define LLM_ESTIMATE_FIRST    256
#define LLM_ESTIMATE_MOST     ((int64_t) 1 << 31)

#define LLM_ESTIMATE_WAYS     8


typedef struct {
    int64_t               ratio;
    uint32_t              n;               /* samples, up to SAMPLES */
} llm_estimate_ratio_t;


typedef struct {
    uint64_t              model;
    uint64_t              used;            /* when, 0: never */
    llm_estimate_ratio_t  prompt;
    llm_estimate_ratio_t  text;
    int64_t               p90;
    int64_t               top[2];          /* the largest of the first ones */
    uint32_t              n;
} llm_estimate_row_t;


/*
 * A model's row is one of a set of eight, chosen by its hash: no links, so
 * that a worker that dies in the middle of a change leaves nothing behind
 * but a number that is a little off.
 */

struct llm_estimates_s {
    uint64_t              clock;           /* counts uses */
    uint64_t              sets;
    unsigned              ways;
    llm_estimate_row_t    rows[];
};


static llm_estimate_row_t *llm_estimate_find(llm_estimates_t *es,
    uint64_t model);
static llm_estimate_row_t *llm_estimate_row(llm_estimates_t *es,
    uint64_t model);
static int64_t llm_estimate_tokens(const llm_estimate_ratio_t *r,
    size_t bytes);
static void llm_estimate_ratio(llm_estimate_ratio_t *r, int64_t tokens,
    size_t bytes);
static void llm_estimate_p90(llm_estimate_row_t *row, int64_t tokens);


llm_estimates_t *
llm_estimates_create(void *mem, size_t size)
{
    size_t            n;
    llm_estimates_t  *es;

    if (size < sizeof(llm_estimates_t) + sizeof(llm_estimate_row_t)) {
        return NULL;
    }

    memset(mem, 0, size);

    es = mem;
    n = (size - sizeof(llm_estimates_t)) / sizeof(llm_estimate_row_t);

    es->ways = n < LLM_ESTIMATE_WAYS ? (unsigned) n : LLM_ESTIMATE_WAYS;
    es->sets = n / es->ways;

    return es;
}


int64_t
llm_estimate_prompt(llm_estimates_t *es, uint64_t model, size_t bytes,
    unsigned media)
{
    int64_t              tokens;
    llm_estimate_row_t  *row;

    row = llm_estimate_find(es, model);

    tokens = llm_estimate_tokens(row != NULL ? &row->prompt : NULL, bytes)
             + (int64_t) media * LLM_ESTIMATE_MEDIA;

    /* a prompt of numbers has no bytes, but it is not free */

    return tokens > 0 ? tokens : 1;
}


int64_t
llm_estimate_text(llm_estimates_t *es, uint64_t model, size_t bytes)
{
    llm_estimate_row_t  *row;

    row = llm_estimate_find(es, model);

    return llm_estimate_tokens(row != NULL ? &row->text : NULL, bytes);
}


int64_t
llm_estimate_output(llm_estimates_t *es, uint64_t model, uint64_t limit)
{
    int64_t              tokens;
    llm_estimate_row_t  *row;

    row = llm_estimate_find(es, model);
    tokens = LLM_ESTIMATE_FIRST;

    if (row != NULL && row->n >= LLM_ESTIMATE_SAMPLES) {
        tokens = (row->p90 + LLM_ESTIMATE_PART - 1) / LLM_ESTIMATE_PART;
        tokens = tokens < LLM_ESTIMATE_MOST ? tokens : LLM_ESTIMATE_MOST;
    }

    if (limit != 0 && (uint64_t) tokens > limit / 4) {
        tokens = (int64_t) (limit / 4);
    }

    return tokens > 0 ? tokens : 1;
}


void
llm_estimate_learn(llm_estimates_t *es, uint64_t model,
    const llm_usage_t *usage, size_t prompt_bytes, unsigned media,
    size_t text_bytes)
{
    llm_estimate_row_t  *row;

    if (usage->prompt_tokens < 0 && usage->completion_tokens < 0) {
        return;
    }

    row = llm_estimate_row(es, model);

    if (usage->prompt_tokens >= 0 && prompt_bytes != 0 && media == 0) {
        llm_estimate_ratio(&row->prompt, usage->prompt_tokens, prompt_bytes);
    }

    if (usage->completion_tokens < 0) {
        return;
    }

    /* what was reasoned is paid for too, though there is no text of it */

    if (text_bytes != 0) {
        llm_estimate_ratio(&row->text, usage->completion_tokens, text_bytes);
    }

    llm_estimate_p90(row, usage->completion_tokens < LLM_ESTIMATE_MOST
                          ? usage->completion_tokens : LLM_ESTIMATE_MOST);
}


static llm_estimate_row_t *
llm_estimate_find(llm_estimates_t *es, uint64_t model)
{
    unsigned             i;
    llm_estimate_row_t  *row;

    row = &es->rows[model % es->sets * es->ways];

    for (i = 0; i < es->ways; i++) {
        if (row[i].model == model && row[i].used != 0) {
            row[i].used = ++es->clock;
            return &row[i];
        }
    }

    return NULL;
}


/* the model's row, a fresh one if need be in place of the least used */

static llm_estimate_row_t *
llm_estimate_row(llm_estimates_t *es, uint64_t model)
{
    unsigned             i;
    llm_estimate_row_t  *row, *old;

    row = llm_estimate_find(es, model);

    if (row != NULL) {
        return row;
    }

    row = &es->rows[model % es->sets * es->ways];
    old = row;

    for (i = 1; i < es->ways; i++) {
        if (row[i].used < old->used) {
            old = &row[i];
        }
    }

    memset(old, 0, sizeof(llm_estimate_row_t));

    old->prompt.ratio = LLM_ESTIMATE_PRIOR;
    old->text.ratio = LLM_ESTIMATE_PRIOR;
    old->p90 = LLM_ESTIMATE_FIRST * LLM_ESTIMATE_PART;
    old->model = model;
    old->used = ++es->clock;

    return old;
}


static int64_t
llm_estimate_tokens(const llm_estimate_ratio_t *r, size_t bytes)
{
    int64_t  ratio;

    /* more bytes than any request has */

    if (bytes > (size_t) 1 << 38) {
        bytes = (size_t) 1 << 38;
    }

    ratio = r != NULL ? r->ratio : LLM_ESTIMATE_PRIOR;

    return ((int64_t) bytes * ratio + LLM_ESTIMATE_ONE - 1) / LLM_ESTIMATE_ONE;
}


/* a mean that the prior begins, and from then on a moving one of 1/20 */

static void
llm_estimate_ratio(llm_estimate_ratio_t *r, int64_t tokens, size_t bytes)
{
    int64_t  x, part;

    x = LLM_ESTIMATE_ONE;

    if ((uint64_t) tokens < bytes) {
        x = (int64_t) ((unsigned __int128) tokens * LLM_ESTIMATE_ONE / bytes);
        x = x > LLM_ESTIMATE_LEAST ? x : LLM_ESTIMATE_LEAST;
    }

    part = LLM_ESTIMATE_SAMPLES;

    if (r->n < LLM_ESTIMATE_SAMPLES) {
        part = ++r->n + LLM_ESTIMATE_WEIGHT;
    }

    r->ratio += (x - r->ratio) / part;
}


/*
 * A step up for an answer that is longer, one down for each that is not: in
 * the long run nine times as many down as up if (1 + 39/256) (1 - 1/64)^9 is
 * 1, as it is.  Before that the second of the first twenty.
 */

static void
llm_estimate_p90(llm_estimate_row_t *row, int64_t tokens)
{
    int64_t  parts;

    parts = tokens * LLM_ESTIMATE_PART;

    if (row->n >= LLM_ESTIMATE_SAMPLES) {

        if (parts > row->p90) {
            row->p90 += row->p90 * 39 / 256;

        } else {
            row->p90 -= row->p90 / 64;
        }

    } else {
        row->n++;

        if (parts > row->top[0]) {
            row->top[1] = row->top[0];
            row->top[0] = parts;

        } else if (parts > row->top[1]) {
            row->top[1] = parts;
        }

        row->p90 = row->top[1];
    }

    if (row->p90 < LLM_ESTIMATE_PART) {
        row->p90 = LLM_ESTIMATE_PART;
    }

    if (row->p90 > LLM_ESTIMATE_MOST * LLM_ESTIMATE_PART) {
        row->p90 = LLM_ESTIMATE_MOST * LLM_ESTIMATE_PART;
    }
}
