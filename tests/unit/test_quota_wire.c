
/*
 * Copyright (C) the ngx-llm authors
 *
 * What goes to the store and what comes back, as text.
 */


#define _GNU_SOURCE

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "core/llm_quota_private.h"


#define NAME   "3 5 1 120000 42000000 20620 1 700 9 678 1 700 9 1"
#define REPLY  "1781524800123 77 0 3 1781524800000000 0 2 4 2 " NAME " "     \
               "0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 1 1 2 6000 1000 700 "           \
               "1 0 5 -1 20 19 2 4294967295 17"


static llm_quota_batch_t  b;
static llm_quota_reply_t  rp;
static uint64_t           seed = 88172645463325252u;


static int
setup(void **state)
{
    (void) state;

    memset(&b, 0, sizeof(llm_quota_batch_t));
    b.seq = 77;
    b.names = 2;
    b.asks = 4;

    return 0;
}


static unsigned
any(unsigned n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;

    return (unsigned) ((seed >> 11) % n);
}


/* in memory that ends where it ends, so that a sanitizer sees more */

static int
get(const char *p, size_t len)
{
    int    rc;
    char  *copy;

    copy = malloc(len ? len : 1);
    memcpy(copy, p, len);
    rc = llm_quota_read(&b, copy, len, &rp);
    free(copy);

    return rc;
}


static void
test_reply(void **state)
{
    (void) state;

    assert_int_equal(get(REPLY, strlen(REPLY)), LLM_OK);

    assert_int_equal(rp.now, 1781524800123);
    assert_int_equal(rp.gateways, 3);
    assert_int_equal(rp.name[0].share, 3);
    assert_int_equal(rp.name[0].claim, 5);
    assert_int_equal(rp.name[0].tight, 1);
    assert_int_equal(rp.name[0].tokens, 42000000);
    assert_int_equal(rp.name[0].day.period, 20620);
    assert_int_equal(rp.name[0].month.tokens, 700);
    assert_int_equal(rp.name[0].ahead, 1);
    assert_int_equal(rp.name[1].day.period, 0);
    assert_int_equal(rp.ask[0].verdict, LLM_QUOTA_ALLOWED);
    assert_int_equal(rp.ask[1].verdict, LLM_QUOTA_REFUSED);
    assert_int_equal(rp.ask[1].index, 1);
    assert_int_equal(rp.ask[1].refusal.why, LLM_WHY_TOKENS);
    assert_int_equal(rp.ask[1].refusal.wait_ms, 6000);
    assert_int_equal(rp.ask[1].refusal.limit, 1000);
    assert_int_equal(rp.ask[1].refusal.used, 700);
    assert_int_equal(rp.ask[2].refusal.wait_ms, -1);
    assert_int_equal(rp.ask[3].verdict, LLM_QUOTA_UNJUDGED);
    assert_int_equal(rp.hint[0], 4294967295);
    assert_int_equal(rp.hint[1], 17);
}


static void
test_status(void **state)
{
    size_t       i;
    const char  *good[] = { "1 77 1 1 5 0 0 0 0", "1 78 2 1 5 0 0 0 0" };
    const char  *bad[] = {
        "", " ", "1", "1 77 1 1 5 0 0 0 0 ", " 1 77 1 1 5 0 0 0 0",
        "1  77 1 1 5 0 0 0 0", "1 77 1 1 5 0 0 0 0 0", "1 77 1 1 0 0 0 0 0",
        "1 77 1 0 5 0 0 0 0", "1 77 3 1 5 0 0 0 0", "1 77 2 1 5 0 0 0 0",
        "1 77 1 1 5 0 2 4 0", "1 77 0 1 5 0 0 0 0", "1 77 1 1 5 2 0 0 0",
        "1 77 1 1 5 0 -1 0 0", "1 77 1 1 5 0 0 0 33", "1 77 1 1 4 0 0 0 0",
        "9007199254740993 77 1 1 5 0 0 0 0", "1 77 1 1 5 0 0 0 0x", "+1",
        "1 77 1 1 99999999999999999999999999 0 0 0 0", "- 77 1 1 5 0 0 0 0"
    };

    (void) state;

    b.epoch = 4;

    for (i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_int_equal(get(good[i], strlen(good[i])), LLM_OK);
    }

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {

        if (get(bad[i], strlen(bad[i])) != LLM_ERROR) {
            fail_msg("\"%s\" is taken", bad[i]);
        }
    }
}


static void
test_cut(void **state)
{
    size_t  i, len;

    (void) state;

    len = strlen(REPLY);

    /* the last number may lose digits: nobody can tell */

    for (i = 0; i < len - 1; i++) {
        assert_int_equal(get(REPLY, i), LLM_ERROR);
    }

    for (b.names = 0; b.names < 5; b.names++) {

        if (b.names != 2) {
            assert_int_equal(get(REPLY, len), LLM_ERROR);
        }
    }
}


/* whatever comes, what was read is within its bounds */

static void
test_garbage(void **state)
{
    int                i, k, taken;
    char               text[sizeof(REPLY) + 16];
    size_t             len;
    static const char  signs[] = "0123456789999 -  +.eE\n\r\t\"{}x\377";

    (void) state;

    taken = 0;

    for (i = 0; i < 200000; i++) {
        memcpy(text, REPLY, sizeof(REPLY));
        len = strlen(REPLY);

        for (k = (int) any(3) + 1; k != 0; k--) {
            text[any((unsigned) len)] = i % 3 ? signs[any(sizeof(signs) - 1)]
                                              : (char) any(256);
        }

        if (i % 5 == 0) {
            len = any((unsigned) len + 1);
        }

        if (get(text, len) != LLM_OK) {
            continue;
        }

        taken++;

        assert_true(rp.names <= LLM_QUOTA_NAMES);
        assert_true(rp.asks <= LLM_QUOTA_ASKS);
        assert_true(rp.hints <= LLM_QUOTA_HINTS);
        assert_true(rp.gateways >= 1);
        assert_true(rp.name[0].requests >= 0);
        assert_true(rp.name[0].day.money >= 0);
        assert_true(rp.ask[1].index < LLM_LEDGER_LIMITS);
        assert_true(rp.ask[1].refusal.wait_ms >= -1);
    }

    /* digits for digits are fine */

    assert_true(taken > 1000);
}


static char      words[32][2048];
static unsigned  nwords;


static void
sink(void *data, const char *p, size_t len)
{
    (void) data;

    assert_true(nwords < 32 && len < sizeof(words[0]));
    memcpy(words[nwords], p, len);
    words[nwords++][len] = '\0';
}


static void
test_write(void **state)
{
    void               *mem;
    unsigned            nkeys, nargs;
    llm_now_t           now;
    llm_limit_t         l;
    llm_ledger_t       *lg;
    llm_quota_name_t   *nm;
    llm_ledger_node_t  *n;

    (void) state;

    mem = malloc(262144);
    lg = llm_ledger_create(mem, 262144);
    lg->conf.gateways = 3;

    now.ms = 5;
    now.wall = 86400 * 31 + 3600;

    memset(&l, 0, sizeof(llm_limit_t));
    l.name.data = (unsigned char *) "k:a b\"";
    l.name.len = 6;
    l.hash = UINT32_MAX;

    b.names = 1;
    b.asks = 1;
    b.epoch = 9;
    b.wall = now.wall;

    nm = &b.name[0];
    memset(nm, 0, sizeof(llm_quota_name_t));
    nm->node = llm_ledger_node_get(lg, &l, &now, LLM_LEDGER_NONE);
    nm->day = 32;
    nm->month = 2;
    nm->bucket.requests = -4;
    nm->tally.money = INT64_MAX;
    nm->old.tokens = INT64_MIN;
    nm->repair = 1;

    n = llm_ledger_node(lg, nm->node);
    n->rates.rpm = 60;
    n->rates.tpd = UINT64_MAX;
    n->rates.month = 4;
    n->concurrency = 7;

    b.ask[0].name[0] = 0;
    b.ask[0].name[1] = LLM_LEDGER_NONE;
    b.ask[0].need.requests = 1;
    b.ask[0].need.tokens = 20;
    b.ask[0].need.money = 300;

    nwords = 0;
    llm_quota_write(lg, &b, "gw-1", sink, NULL, &nkeys, &nargs);

    assert_int_equal(nkeys, 6);
    assert_int_equal(nargs, 4);
    assert_int_equal(nwords, 10);
    assert_string_equal(words[0], "{llm}:g");
    assert_string_equal(words[1], "{llm}:epoch");
    assert_string_equal(words[2], "{llm}:b:gw-1");
    assert_string_equal(words[3], "{llm}:w");
    assert_string_equal(words[4], "{llm}:l:k:a b\"");
    assert_string_equal(words[5], "{llm}:s:k:a b\"");
    assert_string_equal(words[6], "77 9 3 32 2 82800000 2415600000 1 1");
    assert_string_equal(words[7], "gw-1");
    assert_string_equal(words[8], "60 0 0 0 0 9007199254740991 0 1 "
                        "7 0 0 4294967295 1 32 2 -4 0 0 0 9007199254740991 "
                        "0 0 0 -9007199254740991 0 0 0 0 0 0 0 0 0 0 0 0");
    assert_string_equal(words[9], "1 0 1 20 300");

    free(mem);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_reply, setup),
        cmocka_unit_test_setup(test_status, setup),
        cmocka_unit_test_setup(test_cut, setup),
        cmocka_unit_test_setup(test_garbage, setup),
        cmocka_unit_test_setup(test_write, setup)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
