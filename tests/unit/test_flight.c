
/*
 * Copyright (C) the ngx-llm authors
 *
 * Flights: who leads and follows, what they read and what they are told.
 */


#include <stdarg.h>
#include <setjmp.h>
#include <string.h>
#include <stdio.h>
#include <cmocka.h>

#include "flight_help.h"


static void
test_create(void **state)
{
    llm_flight_id_t  id;

    (void) state;

    assert_null(llm_flight_create(mem, LLM_FLIGHT_LEAST - 1));
    fl = llm_flight_create(mem, LLM_FLIGHT_LEAST);
    assert_non_null(fl);

    /* most of the memory is for logs */

    assert_true(stat_of().size * LLM_FLIGHT_BLOCK > LLM_FLIGHT_LEAST * 3 / 4);
    assert_true(stat_of().blocks == 0);

    assert_true(llm_flight_find(fl, 0) == NONE);
    assert_int_equal(enter(0, 15, 0, 0, who, &id), LLM_DECLINED);
    assert_true(id == 0);
    assert_int_equal(llm_flight_followers(fl, 12345), 0);
    get(12345, 7, 10);
    assert_int_equal(pc.state, LLM_FLIGHT_FAILED);
    assert_true(stat_of().full == 0);
}


static void
test_enter(void **state)
{
    llm_flight_id_t  a, b, c, d;

    (void) state;

    assert_int_equal(enter(0, 3, 6, 1, who, &a), LLM_OK);     /* has 1, 2 */
    assert_int_equal(enter(2, 2, 2, 1, who, &b), LLM_OK);     /* has 3 */
    woken(0);

    /* only names of "follow" are looked for, the first of them first */

    assert_int_equal(enter(0, 9, 0, 2, who, &c), LLM_AGAIN);
    assert_int_equal(llm_flight_followers(fl, b), 1);
    assert_int_equal(enter(0, 14, 1, 2, who, &c), LLM_AGAIN);
    assert_int_equal(llm_flight_followers(fl, a), 1);
    assert_int_equal(enter(0, 1, 0, 2, who, &c), LLM_DECLINED);
    assert_true(c == 0);

    /* a name goes to the new one, the others stay; the last ends it */

    assert_int_equal(enter(0, 0, 2, 3, who, &c), LLM_OK);     /* 1 */
    (void) follow(1, 0, who);
    assert_int_equal(llm_flight_followers(fl, c), 1);
    (void) follow(2, 0, who);
    assert_int_equal(llm_flight_followers(fl, a), 2);
    assert_int_equal(enter(2, 0, 1, 3, who, &d), LLM_OK);     /* 2 */
    (void) follow(2, 0, who);
    assert_int_equal(llm_flight_followers(fl, a), 2);
    assert_int_equal(llm_flight_followers(fl, d), 1);
    assert_int_equal(say(a, "on"), LLM_OK);

    /* who may have no more is passed over, then led anew */

    limits.followers = 2;
    (void) follow(2, 0, who);
    assert_int_equal(enter(2, 1, 0, 0, who, &c), LLM_DECLINED);
    assert_int_equal(enter(1, 6, 0, 0, who, &c), LLM_AGAIN);  /* 3 of b */
    assert_int_equal(llm_flight_followers(fl, b), 2);
    assert_int_equal(enter(2, 1, 1, 0, who, &c), LLM_OK);
    (void) follow(2, 0, who);
    assert_int_equal(llm_flight_followers(fl, c), 1);

    assert_true(stat_of().led == 5 && stat_of().flights == 5);
    assert_true(stat_of().full == 0);

    /* one name twice */

    memcpy(names[101], names[100], LLM_FLIGHT_NAME);
    assert_int_equal(enter(100, 3, 3, 0, who, &c), LLM_OK);
    (void) follow(101, 0, who);
    assert_int_equal(llm_flight_followers(fl, c), 1);
    end(c, LLM_FLIGHT_DONE, 0);
    assert_int_equal(enter(101, 1, 0, 0, who, &c), LLM_DECLINED);
}


static void
test_news(void **state)
{
    unsigned         i;
    llm_flight_id_t  a, f, g;

    (void) state;

    a = lead(0, 1, &who[1]);
    news(1, NULL);

    /* the first comes, not the second; the last goes, not the one before */

    f = follow(0, 2, &who[2]);
    woken(1 << 1);
    g = follow(0, 2, &who[3]);
    woken(0);
    news(1, &who[1]);
    news(1, NULL);
    news(2, NULL);
    leave(f);
    woken(0);
    leave(g);
    woken(1 << 1);
    news(2, NULL);
    news(1, &who[1]);
    news(1, NULL);

    /* in and out before the leader looks */

    for (i = 0; i < 3; i++) {
        leave(follow(0, 2, &who[2]));
    }

    woken(1 << 1);
    news(1, &who[1]);
    news(1, NULL);

    /* what is new is told once, also what was there before one came */

    f = follow(0, 2, &who[2]);
    news(1, &who[1]);
    woken(1 << 1);
    (void) say(a, "one");
    (void) say(a, "two");
    woken(1 << 2);
    news(2, &who[2]);
    news(2, NULL);

    (void) say(a, "three");                /* it will read that anyway */
    woken(0);
    news(2, NULL);
    reads(f, "onetwothree", LLM_FLIGHT_OPEN);
    reads(f, "", LLM_FLIGHT_OPEN);

    (void) say(a, "four");
    woken(1 << 2);
    reads(f, "four", LLM_FLIGHT_OPEN);
    news(2, NULL);                         /* it has read it already */

    g = follow(0, 3, &who[3]);
    woken(1 << 3);
    news(3, &who[3]);
    news(3, NULL);

    /* the end is told to all, its leader knows it */

    leave(f);
    f = follow(0, 2, &who[2]);
    woken(1 << 2);
    news(2, &who[2]);
    end(a, LLM_FLIGHT_DONE, NOW + 1);
    woken(1 << 2 | 1 << 3);
    news(2, &who[2]);
    news(3, &who[3]);
    news(1, NULL);
    leave(f);
    leave(g);
    woken(0);
    news(2, NULL);

    /* of a flight that is kept, even if there is nothing in it */

    end(lead(1, 1, &who[1]), LLM_FLIGHT_DONE, NOW + 1);
    f = follow(1, 2, &who[2]);
    woken(1 << 2);
    news(2, &who[2]);
    reads(f, "", LLM_FLIGHT_DONE);
}


static void
test_read(void **state)
{
    size_t           n;
    unsigned         all;
    llm_flight_id_t  a, f, g;

    (void) state;

    all = LLM_FLIGHT_HEAD | LLM_FLIGHT_DATA | LLM_FLIGHT_USAGE;

    a = lead(0, 1, who);
    f = follow(0, 1, who);
    g = follow(0, 1, who);

    assert_int_equal(append(a, LLM_FLIGHT_DATA, NULL, 0), LLM_OK);
    get(f, all, 100);
    assert_int_equal(pc.size, 0);
    assert_int_equal(pc.pieces, 0);

    (void) append(a, LLM_FLIGHT_HEAD, "head", 4);
    (void) append(a, LLM_FLIGHT_HEAD, "HEAD", 4);
    (void) say(a, "one ");
    (void) say(a, "two ");
    (void) append(a, LLM_FLIGHT_USAGE, "usage ", 6);
    (void) say(a, "done");
    (void) append(a, LLM_FLIGHT_USAGE, "tail", 4);

    /* one head a call, a piece in parts */

    get(f, all, 3);
    assert_string_equal((char *) buf, "hea");
    assert_int_equal(pc.kind, LLM_FLIGHT_HEAD);
    assert_int_equal(pc.end, 0);
    get(f, all, 100);
    assert_string_equal((char *) buf, "d");
    assert_int_equal(pc.end, 1);
    get(f, all, 100);
    assert_string_equal((char *) buf, "HEAD");
    assert_int_equal(pc.kind, LLM_FLIGHT_HEAD);
    assert_int_equal(pc.pieces, 0);
    get(f, all, 0);
    assert_int_equal(pc.kind, 0);
    assert_int_equal(pc.state, LLM_FLIGHT_OPEN);
    get(f, all, 6);
    assert_string_equal((char *) buf, "one tw");
    assert_int_equal(pc.kind, LLM_FLIGHT_DATA);
    assert_int_equal(pc.pieces, 1);
    end(a, LLM_FLIGHT_DONE, 0);
    get(f, all, 2);
    assert_string_equal((char *) buf, "o ");
    assert_int_equal(pc.pieces, 1);
    assert_int_equal(pc.state, LLM_FLIGHT_OPEN);
    get(f, all, 100);
    assert_string_equal((char *) buf, "usage donetail");
    assert_int_equal(pc.pieces, 3);
    assert_int_equal(pc.state, LLM_FLIGHT_DONE);
    get(f, all, 100);
    assert_int_equal(pc.size, 0);
    assert_int_equal(pc.state, LLM_FLIGHT_DONE);

    /* what is not wished for is passed over, also at the end */

    get(g, LLM_FLIGHT_DATA, 12);
    assert_string_equal((char *) buf, "one two done");
    assert_int_equal(pc.pieces, 3);
    assert_int_equal(pc.state, LLM_FLIGHT_DONE);
    leave(f);
    leave(f);
    assert_true(stat_of().flights == 1);
    leave(g);
    assert_true(stat_of().flights == 0 && stat_of().blocks == 0);

    /* over blocks, in parts of any size */

    limits.log = 30000;
    a = lead(0, 1, who);
    (void) append(a, LLM_FLIGHT_DATA, data, 20000);
    f = follow(0, 1, who);

    for (n = 0; n < 20000; n += pc.size) {
        get(f, all, 1 + n % 3001);
        assert_memory_equal(buf, data + n, pc.size);
        assert_int_equal(pc.pieces, n + pc.size == 20000);
        assert_true(pc.size == 1 + n % 3001 || n + pc.size == 20000);
    }

    get(f, all, 10);
    assert_int_equal(pc.size, 0);
    leave(f);
    end(a, LLM_FLIGHT_FAILED, 0);
    assert_true(stat_of().flights == 0 && stat_of().blocks == 0);
}


static void
test_one(void **state)
{
    unsigned         all;
    llm_flight_id_t  a, f, g;

    (void) state;

    all = LLM_FLIGHT_HEAD | LLM_FLIGHT_DATA | LLM_FLIGHT_USAGE;

    a = lead(0, 1, who);
    f = follow(0, 1, who);
    g = follow(0, 1, who);

    (void) append(a, LLM_FLIGHT_HEAD, "head", 4);
    (void) say(a, "one");
    (void) say(a, "two");
    (void) append(a, LLM_FLIGHT_USAGE, "usage", 5);

    /* the head alone, and nothing behind it is lost */

    get(f, LLM_FLIGHT_HEAD | LLM_FLIGHT_ONE, 100);
    assert_string_equal((char *) buf, "head");
    assert_true(pc.kind == LLM_FLIGHT_HEAD && pc.end && pc.pieces == 0);
    get(f, all | LLM_FLIGHT_ONE, 2);
    assert_string_equal((char *) buf, "on");
    assert_true(pc.kind == LLM_FLIGHT_DATA && !pc.end && pc.pieces == 0);
    get(f, all | LLM_FLIGHT_ONE, 2);
    assert_string_equal((char *) buf, "e");
    assert_true(pc.kind == LLM_FLIGHT_DATA && pc.end && pc.pieces == 1);
    get(f, LLM_FLIGHT_USAGE | LLM_FLIGHT_ONE, 100);
    assert_string_equal((char *) buf, "usage");
    assert_true(pc.kind == LLM_FLIGHT_USAGE && pc.end && pc.pieces == 1);
    get(f, LLM_FLIGHT_ONE, 100);
    assert_true(pc.kind == 0 && pc.size == 0 && !pc.end);

    /* who must go says so */

    end(a, LLM_FLIGHT_LEFT, NOW + 1000);
    assert_int_equal(enter(0, 1, 0, 1, who, &a), LLM_DECLINED);
    get(f, all, 100);
    assert_int_equal(pc.state, LLM_FLIGHT_LEFT);
    reads(g, "onetwo", LLM_FLIGHT_LEFT);
    assert_true(stat_of().failed == 1);

    a = lead(0, 1, who);
    f = follow(0, 1, who);
    end(a, LLM_FLIGHT_LAGGED, 0);          /* there is no such end */
    reads(f, "", LLM_FLIGHT_FAILED);
}


static void
test_end(void **state)
{
    llm_flight_id_t  a, f, g, h;

    (void) state;

    /* kept, also for those who come late; no longer than said */

    a = lead(0, 1, who);
    (void) say(a, "all");                  /* although nobody follows */
    end(a, LLM_FLIGHT_DONE, NOW + 10);
    assert_int_equal(say(a, "x"), LLM_DECLINED);
    end(a, LLM_FLIGHT_FAILED, 0);
    assert_true(stat_of().kept == 1 && stat_of().failed == 0);
    f = follow(0, 2, who);
    assert_int_equal(llm_flight_expire(fl, NOW + 9), NOW + 10);
    g = follow(0, 2, who);
    assert_true(llm_flight_expire(fl, NOW + 10) == 0);
    assert_int_equal(enter(0, 1, 0, 2, who, &h), LLM_DECLINED);
    reads(f, "all", LLM_FLIGHT_DONE);
    leave(f);
    reads(g, "all", LLM_FLIGHT_DONE);
    assert_true(stat_of().flights == 1);
    leave(g);
    assert_true(stat_of().flights == 0 && stat_of().blocks == 0);

    /* nobody new although it was not given up yet */

    end(lead(0, 1, who), LLM_FLIGHT_DONE, NOW);
    assert_int_equal(enter(0, 1, 0, 2, who, &h), LLM_DECLINED);
    a = lead(0, 1, who);
    assert_true(stat_of().flights == 1);
    end(a, LLM_FLIGHT_DONE, 0);
    assert_true(stat_of().flights == 0);

    /* failed: what came can be read by those who are there */

    a = lead(0, 1, who);
    f = follow(0, 2, who);
    (void) say(a, "part");
    end(a, LLM_FLIGHT_FAILED, NOW + 1000);
    assert_int_equal(enter(0, 1, 0, 2, who, &h), LLM_DECLINED);
    assert_true(stat_of().failed == 1);
    reads(f, "part", LLM_FLIGHT_FAILED);
    leave(f);
    assert_true(stat_of().flights == 0);
    assert_int_equal(llm_flight_followers(fl, a), 0);
    assert_int_equal(say(a, "x"), LLM_DECLINED);
}


static void
test_reap(void **state)
{
    llm_flight_id_t  a, b, c, f, g, h;

    (void) state;

    a = lead(0, 1, &who[1]);
    b = lead(1, 2, &who[2]);
    c = lead(2, 1, &who[3]);
    (void) say(c, "kept");
    end(c, LLM_FLIGHT_DONE, NOW + 100);

    f = follow(0, 2, &who[4]);
    g = follow(1, 1, &who[5]);
    h = follow(0, 1, &who[6]);
    (void) say(a, "some");
    news(2, &who[2]);

    memset(&wake, 0, sizeof(llm_owners_t));   /* nobody was woken for it */
    llm_flight_reap(fl, 1, &wake);
    check();
    woken(1 << 2);

    reads(f, "some", LLM_FLIGHT_LEFT);
    get(g, 7, 10);
    assert_int_equal(pc.state, LLM_FLIGHT_FAILED);
    get(h, 7, 10);
    assert_int_equal(pc.state, LLM_FLIGHT_FAILED);
    assert_int_equal(say(a, "x"), LLM_DECLINED);
    assert_int_equal(llm_flight_followers(fl, b), 0);
    assert_int_equal(say(b, "x"), LLM_OK);
    news(1, NULL);
    news(2, &who[2]);                      /* its last one left */
    news(2, NULL);
    assert_true(stat_of().failed == 1);

    g = follow(2, 3, who);
    reads(g, "kept", LLM_FLIGHT_DONE);
}


static void
test_reset(void **state)
{
    unsigned         i;
    llm_flight_id_t  a, b, f, old[64];

    (void) state;

    memset(&old, 0, sizeof(old));

    for (i = 0; i < 64; i++) {
        a = lead(0, 1, who);
        f = follow(0, 2, who);
        (void) say(a, "x");

        /* what a death in the middle might leave */

        memset(&llm_flight_row(fl, 0)->keep, 0x5a,
               sizeof(llm_flight_row_t) - sizeof(llm_flight_party_t));
        fl->free_block = 77;
        fl->free_row = 1;

        llm_flight_reset(fl);
        check();

        assert_int_equal(say(a, "x"), LLM_DECLINED);
        end(a, LLM_FLIGHT_DONE, NOW + 100);
        leave(f);
        get(f, 7, 10);
        assert_int_equal(pc.state, LLM_FLIGHT_FAILED);
        news(1, NULL);
        news(2, NULL);
        assert_true(stat_of().flights == 0 && stat_of().blocks == 0);
        assert_true(stat_of().followers == 0 && stat_of().led == i + 1);
        assert_int_equal(enter(0, 1, 0, 1, who, &b), LLM_DECLINED);

        for (b = 0; b < i; b++) {
            assert_true(old[b] != a && old[b] != f && a != f);
        }

        old[i] = i % 2 ? a : f;
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test_setup_teardown(test_create, setup, teardown),
        cmocka_unit_test_setup_teardown(test_enter, setup, teardown),
        cmocka_unit_test_setup_teardown(test_news, setup, teardown),
        cmocka_unit_test_setup_teardown(test_read, setup, teardown),
        cmocka_unit_test_setup_teardown(test_one, setup, teardown),
        cmocka_unit_test_setup_teardown(test_end, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reap, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reset, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
