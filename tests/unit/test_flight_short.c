
/*
 * Copyright (C) the ngx-llm authors
 *
 * Flights when the memory for their logs runs short: what was let in can
 * finish, and what could not is not let in.
 */


#include <stdarg.h>
#include <setjmp.h>
#include <string.h>
#include <stdio.h>
#include <cmocka.h>

#include "flight_help.h"


#define FLIGHTS  16
#define EVENTS   40
#define EVENT    500


/* so many bytes of a log, in pieces */

static void
stuff(llm_flight_id_t id, size_t len)
{
    size_t  n;

    for ( /* void */ ; len != 0; len -= n) {
        n = len > 40000 ? 20000 : len;
        assert_int_equal(append(id, LLM_FLIGHT_DATA, data,
                                n - LLM_FLIGHT_PIECE), LLM_OK);
    }
}


/* a flight whose log leaves so many blocks free, and nothing to be cut */

static llm_flight_id_t
fill(unsigned name, size_t left)
{
    llm_flight_id_t    a;
    llm_flight_stat_t  st;

    st = stat_of();
    limits.log = 1000000;

    a = lead(name, 1, who);
    (void) follow(name, 1, who);
    stuff(a, (size_t) (st.size - st.blocks - left) * PAYLOAD);
    assert_true(stat_of().size - stat_of().blocks == left);

    return a;
}


/* far more than there is memory, but nobody is far behind */

static void
test_many(void **state)
{
    size_t           got[FLIGHTS][3];
    unsigned         i, k, n;
    llm_flight_id_t  a[FLIGHTS], f[FLIGHTS][3];

    (void) state;

    limits.log = 65536;
    assert_true(FLIGHTS * EVENTS * EVENT > 2 * stat_of().size * PAYLOAD);

    for (i = 0; i < FLIGHTS; i++) {
        a[i] = lead(i, 1, who);

        for (k = 0; k < 3; k++) {
            f[i][k] = follow(i, k, who);
            got[i][k] = 0;
        }
    }

    for (n = 0; n < EVENTS; n++) {

        for (i = 0; i < FLIGHTS; i++) {
            assert_int_equal(append(a[i], LLM_FLIGHT_DATA,
                                    data + n * EVENT + i, EVENT), LLM_OK);

            for (k = 0; k < 3; k++) {
                if (k != 0 && (n + i) % 3 != 0) {
                    continue;
                }

                get(f[i][k], LLM_FLIGHT_DATA, sizeof(buf));
                assert_memory_equal(buf, data + got[i][k] + i, pc.size);
                got[i][k] += pc.size;
            }
        }
    }

    for (i = 0; i < FLIGHTS; i++) {
        end(a[i], LLM_FLIGHT_DONE, 0);

        for (k = 0; k < 3; k++) {
            get(f[i][k], LLM_FLIGHT_DATA, sizeof(buf));
            assert_memory_equal(buf, data + got[i][k] + i, pc.size);
            assert_int_equal(got[i][k] + pc.size, EVENTS * EVENT);
            assert_int_equal(pc.state, LLM_FLIGHT_DONE);
            leave(f[i][k]);
        }
    }

    assert_true(stat_of().failed == 0 && stat_of().full == 0);
    assert_true(stat_of().lagged == 0 && stat_of().blocks == 0);
}


/* who gives up its beginning: who has one to give, the first of them first */

static void
test_cut(void **state)
{
    llm_flight_id_t  a, b, c, d, e, f[5], g;

    (void) state;

    limits.log = 1000000;

    /* c can give nothing, a and then b can, d is kept and is being read */

    c = lead(2, 1, who);
    f[2] = follow(2, 1, who);
    (void) append(c, LLM_FLIGHT_DATA, data, 4 * PAYLOAD);
    a = lead(0, 1, who);
    f[0] = follow(0, 1, who);
    (void) append(a, LLM_FLIGHT_DATA, data, 4 * PAYLOAD);
    b = lead(1, 1, who);
    f[1] = follow(1, 1, who);
    (void) append(b, LLM_FLIGHT_DATA, data, 4 * PAYLOAD);
    d = lead(3, 1, who);
    f[3] = follow(3, 1, who);
    (void) append(d, LLM_FLIGHT_DATA, data, 4 * PAYLOAD);
    end(d, LLM_FLIGHT_DONE, NOW + 1000);
    assert_true(stat_of().blocks == 20);

    get(f[2], LLM_FLIGHT_DATA, 100);
    get(f[0], LLM_FLIGHT_DATA, 2 * PAYLOAD);
    get(f[1], LLM_FLIGHT_DATA, PAYLOAD);
    get(f[3], LLM_FLIGHT_DATA, 3 * PAYLOAD);
    leave(follow(0, 2, who));              /* puts it behind the others */

    e = lead(4, 1, who);
    f[4] = follow(4, 1, who);
    stuff(e, (size_t) (stat_of().size - stat_of().blocks) * PAYLOAD);

    /* 1: the one whose reader is in its second block since longest */

    assert_int_equal(say(e, "x"), LLM_OK);
    assert_int_equal(enter(1, 1, 0, 1, who, &g), LLM_DECLINED);
    assert_true(stat_of().size == stat_of().blocks);
    leave(follow(3, 1, who));
    leave(follow(0, 1, who));

    /* 3, which gives three, then 0, which gives two */

    assert_int_equal(append(e, LLM_FLIGHT_DATA, data, 2 * PAYLOAD), LLM_OK);
    assert_int_equal(enter(3, 1, 0, 1, who, &g), LLM_DECLINED);
    leave(follow(0, 1, who));
    assert_int_equal(append(e, LLM_FLIGHT_DATA, data, 2 * PAYLOAD), LLM_OK);
    assert_int_equal(enter(0, 1, 0, 1, who, &g), LLM_DECLINED);

    /* 2 and e itself have nothing to give: it fails, and nobody else */

    assert_int_equal(append(e, LLM_FLIGHT_DATA, data, 3 * PAYLOAD),
                     LLM_DECLINED);
    assert_true(stat_of().failed == 1 && stat_of().full == 1);
    leave(follow(2, 1, who));

    get(f[0], LLM_FLIGHT_DATA, sizeof(buf));
    assert_memory_equal(buf, data + 2 * PAYLOAD, 2 * PAYLOAD);
    get(f[1], LLM_FLIGHT_DATA, sizeof(buf));
    assert_memory_equal(buf, data + PAYLOAD, 3 * PAYLOAD);
    get(f[2], LLM_FLIGHT_DATA, sizeof(buf));
    assert_memory_equal(buf, data + 100, 4 * PAYLOAD - 100);
    get(f[3], LLM_FLIGHT_DATA, sizeof(buf));
    assert_memory_equal(buf, data + 3 * PAYLOAD, PAYLOAD);
    assert_int_equal(pc.state, LLM_FLIGHT_DONE);

    leave(f[4]);
    assert_int_equal(say(a, "x"), LLM_OK);
    reads(f[0], "x", LLM_FLIGHT_OPEN);
}


/* whom nobody follows any more keeps its log only for newcomers */

static void
test_left(void **state)
{
    size_t           left;
    llm_flight_id_t  a, b, g;

    (void) state;

    limits.log = 1000000;

    a = lead(0, 1, who);
    (void) append(a, LLM_FLIGHT_DATA, data, 10000);
    b = fill(1, 1);

    assert_int_equal(append(b, LLM_FLIGHT_DATA, data, 3 * PAYLOAD), LLM_OK);
    assert_int_equal(enter(0, 1, 0, 1, who, &g), LLM_DECLINED);
    assert_int_equal(append(a, LLM_FLIGHT_DATA, data, 50000), LLM_OK);
    end(a, LLM_FLIGHT_DONE, NOW + 1000);
    assert_true(stat_of().flights == 1);

    /* it can be the one that needs room */

    a = lead(2, 1, who);
    left = (size_t) (stat_of().size - stat_of().blocks);
    (void) append(a, LLM_FLIGHT_DATA, data, left * PAYLOAD - 100);
    assert_int_equal(append(a, LLM_FLIGHT_DATA, data, 3000), LLM_OK);
    assert_true(stat_of().size - stat_of().blocks == left);
    assert_true(stat_of().failed == 0 && stat_of().full == 0);

    /* no cut would make so much room, so there is none */

    llm_flight_reap(fl, 1, &wake);
    a = lead(3, 1, who);
    (void) say(a, "some");
    b = lead(4, 1, who);
    (void) follow(4, 1, who);
    limits.log = 100000000;
    assert_int_equal(append(b, LLM_FLIGHT_DATA, data,
                            (size_t) stat_of().size * PAYLOAD),
                     LLM_DECLINED);
    (void) follow(3, 1, who);
}


/* the first follower comes only where there is some room, the others always */

static void
test_first(void **state)
{
    llm_flight_id_t  a, b, c, d, g;

    (void) state;

    a = lead(0, 1, who);
    b = lead(1, 1, who);
    (void) follow(1, 1, who);
    c = fill(2, 8);

    (void) follow(0, 1, who);
    assert_int_equal(say(a, "x"), LLM_OK);
    assert_true(stat_of().size - stat_of().blocks == 7);
    (void) follow(0, 1, who);
    (void) follow(1, 1, who);
    assert_int_equal(say(b, "x"), LLM_OK);

    d = lead(3, 1, who);
    assert_int_equal(enter(3, 1, 0, 1, who, &g), LLM_DECLINED);
    assert_true(g == 0 && stat_of().full == 1);

    /* by another name it can, if that one is followed */

    assert_int_equal(enter(0, 9, 0, 1, who, &g), LLM_AGAIN);
    assert_int_equal(llm_flight_followers(fl, a), 3);
    assert_true(stat_of().full == 1);

    /* or it leads, and has the name */

    assert_int_equal(enter(3, 1, 1, 1, who, &g), LLM_OK);
    assert_true(stat_of().full == 2);
    assert_int_equal(say(d, "x"), LLM_OK);
    assert_true(stat_of().size - stat_of().blocks == 6);

    end(c, LLM_FLIGHT_FAILED, 0);
    assert_int_equal(enter(3, 1, 0, 1, who, &c), LLM_DECLINED);
    assert_true(stat_of().full == 3);      /* c is still being read */
    llm_flight_reap(fl, 1, &wake);
    assert_true(stat_of().blocks == 0);
    (void) lead(3, 1, who);
    (void) follow(3, 1, who);
}


/* what could be given up is as good as free */

static void
test_spare(void **state)
{
    llm_flight_id_t  a, b, f, g;

    (void) state;

    limits.log = 1000000;

    a = lead(0, 1, who);
    (void) append(a, LLM_FLIGHT_DATA, data, 4 * PAYLOAD);
    end(a, LLM_FLIGHT_DONE, NOW + 1000);   /* five blocks */
    (void) lead(1, 1, who);
    b = fill(2, 3);

    /* 3 + 5; nothing is given up for it */

    f = follow(1, 1, who);
    assert_true(stat_of().kept == 1);
    leave(f);

    /* but not for the one who would read just that */

    assert_int_equal(enter(0, 1, 0, 1, who, &g), LLM_DECLINED);
    assert_true(stat_of().full == 1 && stat_of().kept == 1);
    assert_int_equal(append(b, LLM_FLIGHT_DATA, data, 10), LLM_OK);
    assert_int_equal(enter(1, 1, 0, 1, who, &g), LLM_DECLINED);
    assert_true(stat_of().full == 2 && stat_of().kept == 1);
}


/* beginnings are cut for it, no more than needed and no more than eight */

static void
test_beginnings(void **state)
{
    unsigned         i, n;
    llm_flight_id_t  a[12], f[12], g;

    (void) state;

    for (i = 0; i < 12; i++) {
        a[i] = lead(i, 1, who);
        f[i] = follow(i, 1, who);
        (void) append(a[i], LLM_FLIGHT_DATA, data, PAYLOAD);
        get(f[i], LLM_FLIGHT_DATA, PAYLOAD);
    }

    (void) lead(20, 1, who);
    (void) fill(21, 6);
    assert_int_equal(enter(20, 1, 0, 1, who, &g), LLM_AGAIN);
    assert_true(stat_of().size - stat_of().blocks == 8);

    for (i = 0, n = 0; i < 12; i++) {
        n += enter(i, 1, 0, 1, who, &g) == LLM_AGAIN;
    }

    assert_int_equal(n, 10);               /* the first two are closed */

    /* they all read what they are for, so there is nothing to cut */

    (void) lead(22, 1, who);
    (void) append(a[11], LLM_FLIGHT_DATA, data, PAYLOAD);
    assert_int_equal(enter(22, 1, 0, 1, who, &g), LLM_DECLINED);
    assert_true(stat_of().size - stat_of().blocks == 7);
    assert_int_equal(enter(11, 1, 0, 1, who, &g), LLM_AGAIN);
}


/* the one that is asked for is not cut for it */

static void
test_own(void **state)
{
    llm_flight_id_t  a, g;

    (void) state;

    limits.log = 1000000;

    a = lead(0, 1, who);
    (void) append(a, LLM_FLIGHT_DATA, data, 10 * PAYLOAD);
    (void) fill(1, 2);
    assert_int_equal(enter(0, 1, 0, 1, who, &g), LLM_DECLINED);
    assert_true(stat_of().size - stat_of().blocks == 2);
    (void) lead(2, 1, who);
    assert_int_equal(enter(2, 1, 0, 1, who, &g), LLM_AGAIN);
    assert_true(stat_of().size - stat_of().blocks == 13);
    assert_int_equal(enter(0, 1, 0, 1, who, &g), LLM_DECLINED);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test_setup_teardown(test_many, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cut, setup, teardown),
        cmocka_unit_test_setup_teardown(test_left, setup, teardown),
        cmocka_unit_test_setup_teardown(test_first, setup, teardown),
        cmocka_unit_test_setup_teardown(test_spare, setup, teardown),
        cmocka_unit_test_setup_teardown(test_beginnings, setup, teardown),
        cmocka_unit_test_setup_teardown(test_own, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
