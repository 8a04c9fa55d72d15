
/*
 * Copyright (C) the ngx-llm authors
 *
 * Any bytes as a tenants file, in slices of any size: what comes of them does
 * not depend on it, and a row that was read says the same when it is written
 * and read again.
 */


#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/llm_keyring.h"
#include "core/llm_policy_file.h"


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);


#define MUST(c)  if (!(c)) abort()
#define SIZE     (256 * 1024)


typedef struct {
    llm_keyring_t        *kr;
    uint64_t              ticket;
    uint64_t              sum;             /* of all that came */
    unsigned              rows;
} run_t;


static unsigned char  mem[2][SIZE] __attribute__((aligned(128)));
static unsigned char  scratch[LLM_POLICY_FILE_SCRATCH];
static unsigned char  text[1 << 20], again[1 << 20];


static void
add(run_t *run, const void *p, size_t len)
{
    size_t  i;

    for (i = 0; i < len; i++) {
        run->sum = (run->sum ^ ((const unsigned char *) p)[i])
                   * 1099511628211u;
    }
}


static int
defaults(void *data, const llm_terms_t *terms)
{
    run_t  *run = data;

    add(run, &terms->concurrency, sizeof(terms->concurrency));
    MUST(terms->concurrency != 0);

    return llm_keyring_load_defaults(run->kr, run->ticket, terms);
}


/* the same bytes again */

static void
write_and_read(const llm_policy_row_t *row, unsigned how)
{
    char               err[200];
    size_t             n;
    llm_arena_t        arena;
    llm_policy_row_t   other;

    n = llm_policy_row_write(row, how, (char *) text + 1, sizeof(text) - 2);

    if (n > sizeof(text) - 2) {
        return;
    }

    text[0] = '{';
    text[n + 1] = '}';

    memset(&arena, 0, sizeof(llm_arena_t));
    arena.pos = scratch + sizeof(scratch) / 2;
    arena.end = scratch + sizeof(scratch);

    llm_policy_row_clear(&other, row->kind);

    MUST(llm_policy_row_parse(&other, (char *) text, n + 2, how, NULL, &arena,
                              err, sizeof(err), NULL)
         == LLM_OK);
    MUST(llm_policy_row_write(&other, how, (char *) again, sizeof(again))
         == n);
    MUST(memcmp(again, text + 1, n) == 0);
}


static int
row_of(void *data, const llm_policy_row_t *row, char *other)
{
    run_t  *run = data;

    MUST(row->name.len >= 1 && row->name.len <= 64);
    MUST(row->terms.requests_per_minute != 0 && row->terms.concurrency != 0);
    MUST(row->expires >= 0);

    add(run, row->name.data, row->name.len);
    add(run, row->team.data, row->team.len);
    add(run, row->sha256, sizeof(row->sha256));
    add(run, &row->terms.tokens_per_minute, sizeof(int64_t));
    add(run, &row->nmodels, sizeof(row->nmodels));
    run->rows++;

    write_and_read(row, LLM_POLICY_RECORD);

    return llm_keyring_load(run->kr, run->ticket, row, other);
}


static void
look(llm_keyring_t *kr)
{
    unsigned              i, n;
    uint64_t              cursor;
    llm_arena_t           arena;
    llm_keyring_item_t    items[LLM_KEYRING_PAGE];
    llm_keyring_found_t   found;
    static llm_str_t      model = llm_string("gpt-4o-mini");

    cursor = 0;

    do {
        memset(&arena, 0, sizeof(llm_arena_t));
        arena.pos = text;
        arena.end = text + sizeof(text);

        MUST(llm_keyring_walk(kr, LLM_ROW_KEY, LLM_KEYRING_ALL, &cursor,
                              items, LLM_KEYRING_PAGE, &n, &arena)
             == LLM_OK);

        for (i = 0; i < n; i++) {
            arena.pos = again;
            arena.end = again + sizeof(again);

            MUST(llm_keyring_find(kr, items[i].row.sha256, 0, &found, &arena)
                 == LLM_OK);
            MUST(found.key.name.len == items[i].row.name.len);
            MUST(found.key.limit.name.len == found.key.name.len + 2);
            MUST(found.key.limit.hash
                 == llm_policy_hash(&found.key.limit.name));
            MUST(found.key.terms.queue_size >= 0
                 && found.key.terms.queue_size <= 65536);
            MUST(found.key.terms.priority >= -100
                 && found.key.terms.priority <= 100);
            MUST(found.key.limit.rates.rpm == 0
                 || found.key.limit.rates.burst != 0);

            (void) llm_policy_allows(&found.key, &model);
        }

    } while (cursor != 0);
}


static int
read_all(run_t *run, unsigned which, const uint8_t *data, size_t size,
    size_t bytes, char *err, size_t errlen)
{
    int                 rc;
    llm_policy_file_t   f;
    llm_policy_sink_t   sink;

    memset(run, 0, sizeof(run_t));

    run->kr = llm_keyring_create(mem[which], SIZE);
    MUST(llm_keyring_begin(run->kr, &run->ticket) == LLM_OK);

    sink.data = run;
    sink.defaults = defaults;
    sink.row = row_of;

    llm_policy_file_init(&f, (const char *) data, size, scratch, &sink);

    do {
        rc = llm_policy_file_step(&f, bytes, err, errlen);
    } while (rc == LLM_AGAIN);

    if (rc == LLM_OK) {
        MUST(llm_keyring_end(run->kr, run->ticket) == LLM_OK);
        look(run->kr);
    }

    return rc;
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int       rc;
    char      err[2][200];
    run_t     run[2];
    unsigned  i;

    memset(err, 'x', sizeof(err));
    err[0][0] = '\0';
    err[1][0] = '\0';

    rc = read_all(&run[0], 0, data, size, size + 1, err[0], sizeof(err[0]));

    MUST(read_all(&run[1], 1, data, size, size == 0 ? 1 : 1 + data[0] % 64,
                  err[1], sizeof(err[1]))
         == rc);

    MUST(rc == LLM_DECLINED || (rc == LLM_OK) == (err[0][0] == '\0'));
    MUST(memchr(err[0], '\0', sizeof(err[0])) != NULL);
    MUST(strcmp(err[0], err[1]) == 0);
    MUST(run[0].rows == run[1].rows && run[0].sum == run[1].sum);

    /* a line of a log can show it */

    for (i = 0; err[0][i] != '\0'; i++) {
        MUST(err[0][i] != '\n' && err[0][i] != '\r' && err[0][i] != '\033');
    }

    return 0;
}
