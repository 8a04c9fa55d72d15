
/*
 * Copyright (C) the ngx-llm authors
 *
 * A limiter check: what a request takes from the buckets of its key (and
 * team) and the slot it holds, and at its end what it used instead.  Does so
 * COUNT times, for whoever counts the instructions.
 *
 *     limiter COUNT KEYS key|team|all
 *
 * KEYS take turns.  key: its requests and tokens per minute and its slots
 * alone; team: those of a team, too; all: and requests and tokens per day and
 * a budget, of both.
 */


#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/llm_ledger.h"
#include "core/llm_policy.h"


#define KEYS   10000
#define LARGE  1000000000000


typedef struct {
    llm_limit_t           limit;
    char                  name[16];
} row_t;


static row_t  keys[KEYS];
static row_t  team;


static void
fill(row_t *row, char kind, int n, int all)
{
    llm_rates_t  *rates;

    row->limit.name.data = (unsigned char *) row->name;
    row->limit.name.len = (size_t) snprintf(row->name, sizeof(row->name),
                                            "%c:%d", kind, n);
    row->limit.hash = llm_policy_hash(&row->limit.name);
    row->limit.concurrency = 5000;
    row->limit.weight = 1;

    rates = &row->limit.rates;

    rates->rpm = LARGE;
    rates->burst = LARGE;
    rates->tpm = LARGE;
    rates->burst_tokens = LARGE;

    if (all) {
        rates->rpd = LARGE;
        rates->tpd = LARGE;
        rates->budget = LARGE;
        rates->month = 1;
    }
}


int
main(int argc, char **argv)
{
    int             i, all, count, nkeys;
    void           *mem;
    size_t          size;
    llm_ask_t       ask;
    llm_now_t       now;
    llm_amount_t    used;
    llm_ledger_t   *lg;
    llm_limits_t    ls;
    llm_owners_t    wake;
    llm_ticket_t    t;
    llm_reading_t   rd;

    count = argc == 4 ? atoi(argv[1]) : 0;
    nkeys = argc == 4 ? atoi(argv[2]) : 0;
    all = argc == 4 && strcmp(argv[3], "all") == 0;

    if (count < 1 || nkeys < 1 || nkeys > KEYS) {
        fprintf(stderr, "limiter COUNT KEYS key|team|all\n");
        return 2;
    }

    size = 32 * 1024 * 1024;
    mem = calloc(1, size);
    lg = mem ? llm_ledger_create(mem, size) : NULL;

    if (lg == NULL) {
        fprintf(stderr, "limiter: no memory\n");
        return 1;
    }

    fill(&team, 't', 0, all);

    for (i = 0; i < nkeys; i++) {
        fill(&keys[i], 'k', i, all);
    }

    memset(&ask, 0, sizeof(llm_ask_t));
    memset(&used, 0, sizeof(llm_amount_t));

    ls.n = strcmp(argv[3], "key") == 0 ? 1 : 2;
    ls.limit[1] = &team.limit;

    ask.limits = &ls;
    ask.need.requests = 1;
    ask.need.tokens = 500;
    ask.need.money = 30;
    ask.floor = ask.need;
    ask.queue = 100;
    ask.slot = 1;

    used.requests = 1;
    used.tokens = 300;
    used.money = 20;

    now.ms = 1000000;
    now.wall = 1800000000;

    for (i = -nkeys; i < count; i++) {
        ls.limit[0] = &keys[(i + nkeys) % nkeys].limit;

        memset(&wake, 0, sizeof(llm_owners_t));

        if (llm_ledger_enter(lg, &ask, &now, &t, &rd) != LLM_OK) {
            fprintf(stderr, "limiter: refused\n");
            return 1;
        }

        now.ms++;

        llm_ledger_close(lg, t, &used, &now, &wake);
    }

    return 0;
}
