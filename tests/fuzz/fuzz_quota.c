
/*
 * Copyright (C) the ngx-llm authors
 *
 * Whatever Redis replies to a batch of limits: one that makes no sense
 * changes nothing, and behind any the ledger is in order and goes on.  The
 * first byte says what is asked for; if it is odd, the reply is made of the
 * rest, a number for each byte, so that it has the right form more often.
 */


#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../unit/ledger_check.h"
#include "core/llm_quota.h"
#include "fuzz_main.h"


#define SIZE  (64 * 1024)


static llm_limit_t
limit(const char *name, uint32_t hash)
{
    llm_limit_t  l;

    memset(&l, 0, sizeof(llm_limit_t));
    l.name.data = (unsigned char *) name;
    l.name.len = strlen(name);
    l.hash = hash;
    l.weight = 1;
    l.concurrency = 2;
    l.rates.rpm = 60;
    l.rates.burst = 10;
    l.rates.tpm = 1000;
    l.rates.burst_tokens = 1000;
    l.rates.rpd = 100;
    l.rates.tpd = 10000;
    l.rates.budget = 1000000;

    return l;
}


static void
enter(llm_ledger_t *lg, unsigned which, const llm_now_t *now)
{
    unsigned       i, n;
    llm_ask_t      ask;
    llm_limit_t    l[3];
    llm_limits_t   ls;
    llm_ticket_t   t;
    llm_reading_t  rd;

    l[0] = limit("k:a", 1);
    l[1] = limit("k:b", 2);
    l[2] = limit("t:c", 3);

    n = 1 + (which & 3);

    for (i = 0; i < n; i++) {
        memset(&ask, 0, sizeof(ask));

        ls.limit[0] = &l[i & 1];
        ls.limit[1] = &l[2];
        ls.n = 1 + (which >> 2 & 1);

        ask.limits = &ls;
        ask.need.requests = 1;
        ask.need.tokens = which & 8 ? 100 : 0;
        ask.need.money = which & 16 ? 1000 : 0;
        ask.data = lg;
        ask.queue = 16;
        ask.slot = 1;

        (void) llm_ledger_enter(lg, &ask, now, &t, &rd);
    }
}


/* head and numbers as they should be, but for what the input says */

static char *
made(const llm_quota_batch_t *b, const uint8_t *p, size_t size, size_t *len)
{
    char    *text, *out;
    size_t   i;

    static const long long  numbers[16] = {
        0, 1, 2, 3, 10, 60, 1000, 20000, 1795284000, 4294967295,
        4294967296, 9007199254740991, -1, -1000, 7, 5
    };

    text = malloc(256 + size * 24);
    out = text;

    out += sprintf(out, "%lld %llu %d %d %lld %d %u %u %d",
                   size > 0 && p[0] & 0x80 ? numbers[p[0] & 15]
                                           : 1795284000000LL,
                   (unsigned long long) b->seq, size > 1 ? p[1] & 3 : 0, 1,
                   7LL, 0, (unsigned) b->names, (unsigned) b->asks,
                   size > 2 ? p[2] & 1 : 0);

    for (i = 3; i < size; i++) {
        out += sprintf(out, " %lld", p[i] & 0x10 ? (long long) (p[i] >> 5)
                                                 : numbers[p[i] & 15]);
    }

    *len = (size_t) (out - text);

    return realloc(text, *len);
}


int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t size)
{
    int                       rc;
    char                     *text;
    void                     *mem, *before;
    size_t                    len;
    unsigned                  which;
    llm_now_t                 now;
    llm_owners_t              wake;
    llm_ledger_t             *lg;
    llm_quota_conf_t          conf;
    const llm_quota_batch_t  *b;

    if (size < 1) {
        return 0;
    }

    which = p[0] >> 1;

    mem = malloc(SIZE);
    memset(mem, 0, SIZE);
    before = malloc(SIZE);
    lg = llm_ledger_create(mem, SIZE);

    memset(&wake, 0, sizeof(wake));
    memset(&conf, 0, sizeof(conf));
    now.ms = 1000000;
    now.wall = 1795284000;

    conf.mode = which & 32 ? LLM_QUOTA_LEASED : LLM_QUOTA_EXACT;
    conf.gateways = 2;
    conf.ahead = 1000;
    conf.idle = 3000;
    conf.epoch = 7;

    llm_ledger_mode(lg, &conf, &now, &wake);
    enter(lg, which, &now);

    b = llm_ledger_collect(lg, 1, &now);
    check(b != NULL && b->seq != 0);

    if (p[0] & 1) {
        text = made(b, p + 1, size - 1, &len);

    } else {
        len = size - 1;
        text = malloc(len != 0 ? len : 1);
        memcpy(text, p + 1, len);
    }

    memcpy(before, mem, SIZE);

    rc = llm_ledger_apply(lg, b->seq, text, len, &now, &wake);
    check(rc == LLM_OK || rc == LLM_ERROR);
    check(rc == LLM_OK || memcmp(before, mem, SIZE) == 0);
    check(ledger_check(lg, 0) == NULL);

    /* it goes on, with Redis and without */

    now.ms += 1000;
    now.wall++;
    (void) llm_ledger_collect(lg, 1, &now);
    check(ledger_check(lg, 0) == NULL);

    conf.mode = LLM_QUOTA_ALONE;
    llm_ledger_mode(lg, &conf, &now, &wake);
    check(ledger_check(lg, 0) == NULL);

    enter(lg, which, &now);
    check(ledger_check(lg, 0) == NULL);

    free(text);
    free(before);
    free(mem);

    return 0;
}
