
/*
 * Copyright (C) the ngx-llm authors
 *
 * Records on their way into the rows.  Those of a busy client go into the
 * same rows, one after the other: some of them are added up first, and then
 * each word that they change is written once.
 */


#include <string.h>

#include "core/llm_book_private.h"


/* which words of an array are counted up, and by how much */

typedef struct {
    unsigned              n;
    uint32_t              at[LLM_BOOK_RUN];
    uint32_t              by[LLM_BOOK_RUN];
} llm_book_few_t;


typedef struct {
    llm_book_sums_t       sums;
    llm_book_few_t        step[2];         /* whole times, first tokens */
    llm_book_few_t        bucket[LLM_BOOK_BETWEEN];
    uint64_t              ms[LLM_BOOK_BETWEEN];
} llm_book_run_t;


static void llm_book_run_sums(llm_book_sums_t *sums,
    const llm_book_record_t *rec);
static void llm_book_run_times(llm_book_run_t *run,
    const llm_book_record_t *rec);
static void llm_book_few_add(llm_book_few_t *few, uint32_t at);
static void llm_book_put_steps(llm_book_step_t *st, uint64_t *v,
    const llm_book_run_t *run);
static void llm_book_put_hists(llm_book_step_t *st, llm_book_cell_t *c,
    const llm_book_run_t *run);


/*
 * All sums change in one step, together with the journal's word that says
 * that these records were posted.  The words of that step, at most: sums and
 * the change of 7 rows, 2 * RUN steps of 4 rows, RUN buckets and the sum of 3
 * histograms, and 4 of the book and the journal.
 */

_Static_assert(7 * (LLM_BOOK_SUMS + 1) + 4 * 2 * LLM_BOOK_RUN
               + LLM_BOOK_BETWEEN * (LLM_BOOK_RUN + 1) + 4 <= LLM_BOOK_REDO,
               "the redo log");


void
llm_book_apply(llm_book_t *bk, const llm_book_rows_t *rows,
    const llm_book_record_t *const *rec, unsigned n, uint64_t *head)
{
    unsigned         i, k;
    uint8_t          given[LLM_BOOK_SUMS] = { 0 };
    llm_book_run_t   run;
    llm_book_step_t  st;

    memset(&run.sums, 0, sizeof(llm_book_sums_t));
    memset(run.ms, 0, sizeof(run.ms));

    run.step[0].n = 0;
    run.step[1].n = 0;

    for (i = 0; i < LLM_BOOK_BETWEEN; i++) {
        run.bucket[i].n = 0;
    }

    for (i = 0; i < n; i++) {
        llm_book_run_sums(&run.sums, rec[i]);
        llm_book_run_times(&run, rec[i]);
    }

    k = llm_book_given(&run.sums, given);

    llm_book_begin(&st, bk);

    for (i = 0; i < LLM_BOOK_KINDS; i++) {
        if (rows->kind[i] != NULL) {
            llm_book_put_cell(&st, rows->kind[i], &run.sums, given, k);
        }
    }

    for (i = 0; i < 2; i++) {

        if (rows->all[i] != NULL) {
            llm_book_put_cell(&st, rows->all[i], &run.sums, given, k);
            llm_book_put_steps(&st, rows->all[i]->v + LLM_BOOK_SUMS, &run);
        }

        if (rows->model[i] != NULL) {
            llm_book_put_steps(&st, rows->model[i]->v, &run);
        }
    }

    if (rows->hist != NULL) {
        llm_book_put_hists(&st, rows->hist, &run);
    }

    llm_book_put8(&st, &bk->change, bk->change + 1);
    llm_book_put8(&st, &bk->posted, bk->posted + n);

    if (rows->folded) {
        llm_book_put8(&st, &bk->folded, bk->folded + n);
    }

    if (head != NULL) {
        llm_book_put8(&st, head, *head + n);
    }

    llm_book_commit(&st);
}


static void
llm_book_run_sums(llm_book_sums_t *sums, const llm_book_record_t *rec)
{
    sums->requests++;
    sums->errors += rec->status >= 400;
    sums->hits += (rec->flags & LLM_BOOK_HIT) != 0;
    sums->joined += (rec->flags & LLM_BOOK_JOINED) != 0;
    sums->stale += (rec->flags & LLM_BOOK_STALE) != 0;
    sums->prompt += rec->prompt;
    sums->cached += rec->cached;
    sums->completion += rec->completion;
    sums->reasoning += rec->reasoning;
    sums->money += rec->money;
    sums->saved_tokens += rec->saved_tokens;
    sums->saved_money += rec->saved_money;
    sums->unpriced += (rec->flags & LLM_BOOK_UNPRICED) != 0;
}


static void
llm_book_run_times(llm_book_run_t *run, const llm_book_record_t *rec)
{
    unsigned  i;
    uint32_t  ms[LLM_BOOK_BETWEEN];

    ms[LLM_BOOK_LATENCY] = rec->latency;
    ms[LLM_BOOK_FIRST] = rec->first;
    ms[LLM_BOOK_QUEUED] = rec->queued;

    for (i = 0; i < LLM_BOOK_BETWEEN; i++) {

        if (ms[i] == LLM_BOOK_UNKNOWN) {
            continue;
        }

        if (i < LLM_BOOK_QUEUED) {
            llm_book_few_add(&run->step[i], llm_book_step(ms[i]));
        }

        llm_book_few_add(&run->bucket[i],
                         llm_book_bucket((llm_book_hist_e) i, ms[i]));
        run->ms[i] += ms[i];
    }
}


static void
llm_book_few_add(llm_book_few_t *few, uint32_t at)
{
    unsigned  i;

    for (i = 0; i < few->n; i++) {
        if (few->at[i] == at) {
            few->by[i]++;
            return;
        }
    }

    few->at[i] = at;
    few->by[i] = 1;
    few->n++;
}


/* counts of 4 bytes: whole times, then those to the first token */

static void
llm_book_put_steps(llm_book_step_t *st, uint64_t *v,
    const llm_book_run_t *run)
{
    unsigned               i, k;
    uint32_t              *n, *p;
    const llm_book_few_t  *few;

    n = (uint32_t *) (void *) v;

    for (k = 0; k < 2; k++) {
        few = &run->step[k];

        for (i = 0; i < few->n; i++) {
            p = n + k * LLM_BOOK_STEPS + few->at[i];
            llm_book_put4(st, p, *p + few->by[i]);
        }
    }
}


static void
llm_book_put_hists(llm_book_step_t *st, llm_book_cell_t *c,
    const llm_book_run_t *run)
{
    unsigned               i, k;
    uint64_t              *v;
    const llm_book_few_t  *few;

    for (k = 0; k < LLM_BOOK_BETWEEN; k++) {
        few = &run->bucket[k];
        v = c->v + k * (LLM_BOOK_BUCKETS + 1);

        for (i = 0; i < few->n; i++) {
            llm_book_put8(st, &v[few->at[i]], v[few->at[i]] + few->by[i]);
        }

        if (run->ms[k] != 0) {
            llm_book_put8(st, &v[LLM_BOOK_BUCKETS],
                          v[LLM_BOOK_BUCKETS] + run->ms[k]);
        }
    }
}
