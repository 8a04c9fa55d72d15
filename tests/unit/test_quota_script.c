
/*
 * Copyright (C) the ngx-llm authors
 *
 * The script quota.lua in a real Redis, by batches written by hand.
 */


#define _GNU_SOURCE

#include "quota_hand.h"


static void
check_ttl(void)
{
    size_t       i;
    redisReply  *keys;

    keys = redisCommand(redis, "KEYS *");
    assert_true(keys->elements > 3);

    for (i = 0; i < keys->elements; i++) {

        if (strcmp(keys->element[i]->str, "{llm}:g") == 0
            || strcmp(keys->element[i]->str, "{llm}:epoch") == 0)
        {
            continue;
        }

        assert_true(quota_command(redis, "PTTL %s",
                                  keys->element[i]->str) > 0);
    }

    freeReplyObject(keys);
}


static void
test_takes(void **state)
{
    name_t  n[2];
    ask_t   a[3];

    (void) state;

    n[0] = name("k:a");
    n[0].rpm = 60;
    n[0].burst = 2;
    n[0].rpd = 100;
    n[1] = name("t:x");
    n[1].tpm = 1000;
    n[1].burst_tokens = 1000;
    n[1].budget = 5000000;
    n[1].month = 1;

    a[0] = (ask_t) { 1, 2, 1, 700, 1000 };
    a[1] = (ask_t) { 1, 2, 1, 400, 1000 };
    a[2] = (ask_t) { 1, 0, 1, 300, 0 };

    batch("a", 1, n, 2, a, 3);

    assert_int_equal(rp.v[SEQ], 1);
    assert_int_equal(rp.v[STATUS], 0);
    assert_int_equal(rp.v[ALIVE], 1);
    assert_int_equal(rp.v[NAMES], 2);
    assert_int_equal(rp.v[ASKS], 3);

    assert_int_equal(verdict(0)[0], 0);
    assert_int_equal(verdict(1)[0], 1);
    assert_int_equal(verdict(1)[1], 1);                /* the team's */
    assert_int_equal(verdict(1)[2], 2);                /* tokens */
    assert_int_equal(verdict(1)[3], 6000);             /* 100 tokens */
    assert_int_equal(verdict(1)[4], 1000);
    assert_int_equal(verdict(1)[5], 700);
    assert_int_equal(verdict(2)[0], 0);

    assert_int_equal(of(0, REQUESTS), 2 * 60000);
    assert_int_equal(of(0, D_REQUESTS), 2);
    assert_int_equal(of(0, DAYS), today);
    assert_int_equal(of(1, TOKENS), 700 * 60000);
    assert_int_equal(of(1, M_MONEY), 1000);
    assert_int_equal(of(1, MONTHS), tomonth);

    check_ttl();
}


static void
test_each_limit(void **state)
{
    int            i;
    name_t         n[2];
    ask_t          a;
    const int64_t  why[] = { 1, 2, 3, 4, 5, 5 };

    (void) state;

    for (i = 0; i < 6; i++) {
        (void) quota_command(redis, "FLUSHALL");

        n[0] = name("k:a");
        n[0].rpm = 1000000;
        n[0].burst = 1000000;
        n[0].budget = 1000000;
        n[1] = name("t:x");
        n[1].rpm = i == 0;
        n[1].burst = i == 0;
        n[1].tpm = i == 1;
        n[1].burst_tokens = i == 1 ? 10 : 0;
        n[1].rpd = i == 2;
        n[1].tpd = i == 3 ? 10 : 0;
        n[1].budget = i >= 4 ? 10 : 0;
        n[1].month = i == 5;

        a = (ask_t) { 1, 2, 1, 10, 10 };

        batch("a", 1, n, 2, &a, 1);
        assert_int_equal(verdict(0)[0], 0);
        assert_int_equal(of(0, D_MONEY), 10);

        batch("a", 2, n, 2, &a, 1);
        assert_int_equal(verdict(0)[0], 1);
        assert_int_equal(verdict(0)[1], 1);
        assert_int_equal(verdict(0)[2], why[i]);
        assert_true(verdict(0)[3] > 0);
        assert_int_equal(of(0, D_REQUESTS), 1);
        assert_int_equal(of(0, D_TOKENS), 10);
        assert_int_equal(of(0, D_MONEY), 10);
        assert_int_equal(of(1, D_MONEY), 10);

        if (i >= 2) {
            assert_int_equal(verdict(0)[3], i == 5 ? 7200000 : 3600000);
        }

        /* more than there ever is */

        a = (ask_t) { 1, 2, 2, 11, 11 };
        batch("a", 3, n, 2, &a, 1);
        assert_int_equal(verdict(0)[3], -1);

        /* nothing of what is used up */

        a = (ask_t) { 1, 2, i == 0 || i == 2 ? 0 : 1,
                      i == 1 || i == 3 ? 0 : 1, i >= 4 ? 0 : 1 };
        batch("a", 4, n, 2, &a, 1);
        assert_int_equal(verdict(0)[0], 0);
    }
}


/* 8 processes, three limits: exactly as many as the least gives */

static void
test_processes(void **state)
{
    int            i, k, status, fd[2];
    char           gateway[16];
    int64_t        sum, one;
    pid_t          pid[8];
    name_t         n[3];
    ask_t          a;
    redisContext  *c;

    (void) state;

    assert_int_equal(pipe(fd), 0);

    n[0] = name("a");
    n[1] = name("b");
    n[0].rpm = n[1].rpm = 1;
    n[0].burst = 500;
    n[1].burst = 700;
    n[0].rpd = n[1].rpd = 100000;

    for (i = 0; i < 8; i++) {
        pid[i] = fork();

        if (pid[i] != 0) {
            continue;
        }

        c = quota_connect();
        snprintf(gateway, sizeof(gateway), "g%d", i);
        a = (ask_t) { 1, 2, 1, 0, 0 };
        sum = 0;

        for (k = 1; c != NULL && k <= 150; k++) {

            if (batch_on(c, gateway, k, n, 2, &a, 1) != 0) {
                _exit(1);
            }

            sum += verdict(0)[0] == 0;
        }

        _exit(write(fd[1], &sum, sizeof(sum)) != sizeof(sum));
    }

    for (i = 0, sum = 0; i < 8; i++) {
        assert_int_equal(read(fd[0], &one, sizeof(one)), sizeof(one));
        assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
        assert_int_equal(status, 0);
        sum += one;
    }

    close(fd[0]);
    close(fd[1]);

    assert_int_equal(sum, 500);

    batch("z", 1, n, 2, NULL, 0);
    assert_int_equal(of(0, D_REQUESTS), 500);
    assert_int_equal(of(1, D_REQUESTS), 500);
    assert_int_equal(rp.v[ALIVE], 9);
}


static void
test_numbers(void **state)
{
    char    first[sizeof(raw)];
    name_t  n;
    ask_t   a;

    (void) state;

    n = name("a");
    n.rpm = 6;
    n.burst = 10;
    n.rpd = 10;
    a = (ask_t) { 1, 0, 1, 0, 0 };

    batch("g", 7, &n, 1, &a, 1);
    memcpy(first, raw, sizeof(raw));

    batch("g", 7, &n, 1, &a, 1);
    assert_string_equal(raw, first);

    batch("g", 6, &n, 1, &a, 1);
    assert_int_equal(rp.v[STATUS], 2);
    assert_int_equal(rp.v[SEQ], 7);
    assert_int_equal(rp.n, HEAD);

    batch("g", 8, &n, 1, NULL, 0);
    assert_int_equal(of(0, D_REQUESTS), 1);
}


static void
test_settles(void **state)
{
    name_t  n;

    (void) state;

    n = name("a");
    n.tpm = 1;
    n.burst_tokens = 1000;
    n.tpd = 5000;

    /* a debt goes beyond every limit */

    n.bucket[1] = 2000;
    n.tally[0] = 1;
    n.tally[1] = 2000;
    n.tally[2] = 77;
    batch("g", 1, &n, 1, NULL, 0);
    assert_true(of(0, TOKENS) > 1999 * 60000 && of(0, TOKENS)
                <= 2000 * 60000);
    assert_int_equal(of(0, D_TOKENS), 2000);
    assert_int_equal(of(0, D_MONEY), 77);

    /* what is given back stops at nothing */

    n.bucket[1] = -3000;
    n.tally[0] = 0;
    n.tally[1] = -1500;
    n.tally[2] = 0;
    batch("g", 2, &n, 1, NULL, 0);
    assert_int_equal(of(0, TOKENS), 0);
    assert_int_equal(of(0, D_TOKENS), 500);

    /* large numbers are exact */

    n.tally[1] = 9007199254740000 - 500;
    n.bucket[1] = 0;
    batch("g", 3, &n, 1, NULL, 0);
    assert_int_equal(of(0, D_TOKENS), 9007199254740000);
    n.tally[1] = -9007199254739999;
    batch("g", 4, &n, 1, NULL, 0);
    assert_int_equal(of(0, D_TOKENS), 1);
}


static void
test_midnight(void **state)
{
    name_t  n;
    ask_t   a;

    (void) state;

    n = name("a");
    n.rpd = 10;
    n.tally[0] = 10;
    n.day = today - 1;
    batch("g", 1, &n, 1, NULL, 0);
    assert_int_equal(of(0, DAYS), today - 1);
    assert_int_equal(of(0, D_REQUESTS), 10);

    /* a new day, and the old one's are settled where they were */

    n.day = today;
    n.tally[0] = 0;
    n.old_day = today - 1;
    n.old_mon = tomonth;
    n.old[0] = -4;
    a = (ask_t) { 1, 0, 1, 0, 0 };
    batch("g", 2, &n, 1, &a, 1);
    assert_int_equal(verdict(0)[0], 0);
    assert_int_equal(of(0, DAYS), today);
    assert_int_equal(of(0, D_REQUESTS), 1);
    assert_int_equal(of(0, M_REQUESTS), 7);

    n.day = today - 1;
    n.old_day = 0;
    batch("g", 3, &n, 1, NULL, 0);
    assert_int_equal(of(0, D_REQUESTS), 6);

    /* a wrong clock counts today; a little wrong is the next day */

    n.day = today + 5;
    batch("g", 4, &n, 1, &a, 1);
    assert_int_equal(of(0, DAYS), today);
    assert_int_equal(of(0, D_REQUESTS), 2);

    n.day = 1;
    batch("g", 5, &n, 1, &a, 1);
    assert_int_equal(of(0, DAYS), today);
    assert_int_equal(of(0, D_REQUESTS), 3);

    n.day = today + 1;
    batch("g", 6, &n, 1, &a, 1);
    assert_int_equal(of(0, DAYS), today + 1);
    assert_int_equal(of(0, D_REQUESTS), 1);

    n.day = today;
    batch("g", 7, &n, 1, NULL, 0);
    assert_int_equal(of(0, D_REQUESTS), 3);

    /* of a forgotten day nothing is counted */

    n.old_day = today - 5;
    n.old_mon = tomonth;
    n.old[0] = 100;
    batch("g", 8, &n, 1, NULL, 0);
    assert_int_equal(of(0, D_REQUESTS), 3);
    n.day = today + 1;
    n.old_day = 0;
    batch("g", 9, &n, 1, NULL, 0);
    assert_int_equal(of(0, D_REQUESTS), 1);
}


static void
test_ahead(void **state)
{
    name_t  n;

    (void) state;

    n = name("a");
    n.rpm = 1;
    n.burst = 100;
    n.rpd = 1000;
    n.prefetch[0] = 30;

    batch("g", 1, &n, 1, NULL, 0);
    assert_int_equal(of(0, AHEAD), 1);
    assert_int_equal(of(0, D_REQUESTS), 30);

    /* enough for one of two gateways is not enough */

    batch("h", 1, &n, 1, NULL, 0);
    assert_int_equal(of(0, AHEAD), 1);
    batch("h", 2, &n, 1, NULL, 0);
    assert_int_equal(of(0, AHEAD), 0);
    assert_int_equal(of(0, D_REQUESTS), 60);

    /* the last tenth is given out exactly */

    n.prefetch[0] = 3;
    n.bucket[0] = 29;
    batch("h", 3, &n, 1, NULL, 0);
    assert_int_equal(of(0, AHEAD), 1);
    n.bucket[0] = 0;
    batch("h", 4, &n, 1, NULL, 0);
    assert_int_equal(of(0, AHEAD), 0);
}


static void
test_shares(void **state)
{
    int     i;
    name_t  a, b, c;

    (void) state;

    a = name("t:x");
    a.slots = 10;
    b = a;
    c = a;

    /* alone one gets what it wants */

    a.want = 25;
    batch("a", 1, &a, 1, NULL, 0);
    assert_int_equal(of(0, SHARE), 10);
    assert_int_equal(of(0, TIGHT), 1);

    /* the next one waits: nothing is taken away */

    a.held = 10;
    b.want = 3;
    batch("b", 1, &b, 1, NULL, 0);
    assert_int_equal(of(0, SHARE), 0);

    /* but the first is asked to come, and keeps what it holds */

    batch("a", 2, NULL, 0, NULL, 0);
    assert_int_equal(rp.v[HINTS], 1);
    assert_int_equal(rp.v[HEAD], a.hash);

    batch("a", 3, &a, 1, NULL, 0);
    assert_int_equal(of(0, SHARE), 7);
    assert_int_equal(of(0, CLAIM), 10);

    a.held = 8;
    batch("a", 4, &a, 1, NULL, 0);
    assert_int_equal(of(0, SHARE), 7);
    assert_int_equal(of(0, CLAIM), 8);

    batch("b", 2, NULL, 0, NULL, 0);
    assert_int_equal(rp.v[HINTS], 1);
    batch("b", 3, &b, 1, NULL, 0);
    assert_int_equal(of(0, SHARE), 2);

    a.held = 7;
    batch("a", 5, &a, 1, NULL, 0);
    batch("b", 4, &b, 1, NULL, 0);
    assert_int_equal(of(0, SHARE), 3);

    /* three that want all: 3, 3 and 4, whoever comes first */

    b.want = c.want = 50;

    for (i = 0; i < 20; i++) {
        a.held = a.held > 0 ? a.held - 1 : 0;
        b.held = b.held > 0 ? b.held - 1 : 0;
        c.held = c.held > 0 ? c.held - 1 : 0;

        batch("a", 10 + i, &a, 1, NULL, 0);
        a.held = of(0, SHARE) > a.held ? of(0, SHARE) : a.held;
        batch("b", 10 + i, &b, 1, NULL, 0);
        b.held = of(0, SHARE) > b.held ? of(0, SHARE) : b.held;
        batch("c", 10 + i, &c, 1, NULL, 0);
        c.held = of(0, SHARE) > c.held ? of(0, SHARE) : c.held;

        assert_true(a.held + b.held + c.held <= 10);
    }

    assert_true(a.held >= 3 && b.held >= 3 && c.held >= 3);

    /* a limit that is lowered */

    a.slots = 5;
    batch("a", 50, &a, 1, NULL, 0);
    assert_true(of(0, SHARE) <= 2);
    assert_int_equal(of(0, CLAIM), a.held);

    check_ttl();
}


static void
test_lapse(void **state)
{
    name_t  a, b;

    (void) state;

    a = name("t:x");
    a.slots = 4;
    a.want = 4;
    a.held = 4;
    b = a;
    b.held = 0;

    batch("a", 1, &a, 1, NULL, 0);
    assert_int_equal(of(0, SHARE), 4);
    assert_int_equal(rp.v[LAPSED], 1);

    batch("b", 1, &b, 1, NULL, 0);
    assert_int_equal(of(0, SHARE), 0);
    assert_int_equal(rp.v[ALIVE], 2);

    (void) quota_command(redis, "ZADD {llm}:g 0 a");
    batch("b", 2, &b, 1, NULL, 0);
    assert_int_equal(rp.v[ALIVE], 1);
    assert_int_equal(of(0, SHARE), 4);
    b.held = 4;
    batch("b", 3, &b, 1, NULL, 0);

    /* what it holds all the same has its claim, above the limit */

    batch("a", 2, &a, 1, NULL, 0);
    assert_int_equal(rp.v[LAPSED], 1);
    assert_int_equal(of(0, SHARE), 0);
    assert_int_equal(of(0, CLAIM), 4);

    /* one that has said that it ends holds nothing */

    (void) quota_command(redis, "ZREM {llm}:g a");
    b.want = 8;
    b.slots = 8;
    batch("b", 4, &b, 1, NULL, 0);
    assert_int_equal(of(0, SHARE), 8);
}


static void
test_forgot(void **state)
{
    name_t   n;
    ask_t    a;
    int64_t  old;

    (void) state;

    n = name("a");
    n.rpd = 100;
    n.tally[0] = 50;
    batch("g", 1, &n, 1, NULL, 0);
    old = rp.v[EPOCH];

    (void) quota_command(redis, "FLUSHALL");

    n.tally[0] = 5;
    a = (ask_t) { 1, 0, 1, 0, 0 };
    epoch = old;
    batch("g", 2, &n, 1, &a, 1);
    assert_int_equal(rp.v[STATUS], 1);
    assert_int_equal(rp.n, HEAD);
    assert_true(rp.v[EPOCH] != old);

    /* the same number with what is known */

    epoch = rp.v[EPOCH];
    n.repair = 1;
    n.known[0] = today;
    n.known[1] = 50;
    n.known[4] = tomonth;
    n.known[5] = 60;
    batch("g", 2, &n, 1, &a, 1);
    assert_int_equal(rp.v[STATUS], 0);
    assert_int_equal(of(0, D_REQUESTS), 56);
    assert_int_equal(of(0, M_REQUESTS), 66);

    /* another one knows less */

    n.known[1] = 40;
    n.tally[0] = 0;
    batch("h", 1, &n, 1, NULL, 0);
    assert_int_equal(of(0, D_REQUESTS), 56);

    /* while it learns, nobody gets more than a part; what is held wins */

    n = name("s");
    n.slots = 10;
    n.want = 10;
    batch("g", 3, &n, 1, NULL, 0);
    assert_int_equal(of(0, SHARE), 5);
    n.held = 7;
    batch("h", 2, &n, 1, NULL, 0);
    assert_int_equal(of(0, SHARE), 5);
    assert_int_equal(of(0, CLAIM), 7);
}


static void
test_full(void **state)
{
    name_t  n;
    ask_t   a;

    (void) state;

    n = name("a");
    n.rpd = 100;
    n.slots = 4;
    n.want = 3;
    n.held = 3;
    a = (ask_t) { 1, 0, 1, 0, 0 };
    batch("g", 1, &n, 1, &a, 1);
    assert_int_equal(verdict(0)[0], 0);

    (void) quota_command(redis, "CONFIG SET maxmemory 1");

    n.tally[0] = 5;
    n.held = 1;
    n.want = 1;
    n.prefetch[0] = 1;
    batch("g", 2, &n, 1, &a, 1);
    assert_int_equal(verdict(0)[0], 2);
    assert_int_equal(of(0, D_REQUESTS), 6);
    assert_int_equal(of(0, CLAIM), 1);
    assert_int_equal(of(0, AHEAD), 0);

    n.prefetch[0] = 0;
    n.tally[0] = -2;
    batch("g", 3, &n, 1, NULL, 0);
    assert_int_equal(of(0, D_REQUESTS), 4);

    (void) quota_command(redis, "CONFIG SET maxmemory 0");

    n.tally[0] = 0;
    batch("g", 4, &n, 1, &a, 1);
    assert_int_equal(verdict(0)[0], 0);
    assert_int_equal(of(0, D_REQUESTS), 5);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_takes, setup),
        cmocka_unit_test_setup(test_each_limit, setup),
        cmocka_unit_test_setup(test_processes, setup),
        cmocka_unit_test_setup(test_numbers, setup),
        cmocka_unit_test_setup(test_settles, setup),
        cmocka_unit_test_setup(test_midnight, setup),
        cmocka_unit_test_setup(test_ahead, setup),
        cmocka_unit_test_setup(test_shares, setup),
        cmocka_unit_test_setup(test_lapse, setup),
        cmocka_unit_test_setup(test_forgot, setup),
        cmocka_unit_test_setup(test_full, setup)
    };

    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
