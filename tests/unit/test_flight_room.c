
/*
 * Copyright (C) the ngx-llm authors
 *
 * Flights: limits, slow readers, little memory, and what is kept.
 */


#include <stdarg.h>
#include <setjmp.h>
#include <string.h>
#include <stdio.h>
#include <cmocka.h>

#include "flight_help.h"


static void
test_limit(void **state)
{
    llm_flight_id_t  a, f, g, h;

    (void) state;

    /* up to its limit, to the byte, a flight can be followed and read */

    a = lead(0, 1, &who[1]);
    f = follow(0, 2, &who[2]);
    g = follow(0, 3, &who[3]);
    assert_int_equal(append(a, LLM_FLIGHT_DATA, data, 3000), LLM_OK);
    assert_int_equal(append(a, LLM_FLIGHT_DATA, data, LOG - 3008), LLM_OK);
    h = follow(0, 4, &who[4]);
    leave(h);

    get(g, LLM_FLIGHT_DATA, 3000);
    get(g, LLM_FLIGHT_DATA, 1);            /* pos: 3000 + 2 * 4 + 1 */
    news(2, &who[2]);
    woken(1 << 1 | 1 << 2 | 1 << 3 | 1 << 4);
    assert_true(stat_of().blocks == 5);

    /* beyond it nobody comes, and who holds more is left behind and told */

    assert_int_equal(say(a, "x"), LLM_OK);
    assert_int_equal(enter(0, 1, 0, 4, who, &h), LLM_DECLINED);
    assert_int_equal(llm_flight_followers(fl, a), 1);
    assert_true(stat_of().lagged == 1);
    assert_true(stat_of().blocks == 4);    /* g has passed the first */
    woken(1 << 2);                         /* 3 has not looked yet */
    news(2, &who[2]);
    reads(f, "", LLM_FLIGHT_LAGGED);
    reads(f, "", LLM_FLIGHT_LAGGED);
    leave(f);

    /* g holds LOG - 3008 - 1 + 5: 3004 - 4 more, and one too many */

    assert_int_equal(append(a, LLM_FLIGHT_DATA, data, 3000), LLM_OK);
    assert_int_equal(llm_flight_followers(fl, a), 1);
    news(1, &who[1]);
    assert_int_equal(say(a, "x"), LLM_OK);
    assert_int_equal(llm_flight_followers(fl, a), 0);
    news(1, &who[1]);
    news(3, &who[3]);
    assert_true(stat_of().lagged == 2 && stat_of().blocks == 0);

    /* nobody will ever read it */

    assert_int_equal(append(a, LLM_FLIGHT_DATA, data, 9000), LLM_OK);
    assert_true(stat_of().blocks == 0);
    end(a, LLM_FLIGHT_DONE, NOW + 1000);
    assert_true(stat_of().flights == 0);
    reads(g, "", LLM_FLIGHT_LAGGED);
    leave(g);

    /* one piece that is longer than a flight may be */

    a = lead(0, 1, &who[1]);
    f = follow(0, 2, &who[2]);
    assert_int_equal(append(a, LLM_FLIGHT_DATA, data, LOG), LLM_OK);
    reads(f, "", LLM_FLIGHT_LAGGED);
    assert_true(stat_of().lagged == 3);
}


static void
test_pace(void **state)
{
    size_t           n;
    llm_flight_id_t  a, f, g;

    (void) state;

    /* any length goes through a limited log while its readers keep up */

    a = lead(0, 1, who);
    f = follow(0, 1, who);
    g = follow(0, 1, who);

    for (n = 0; n < 60000; n += 1000) {
        assert_int_equal(append(a, LLM_FLIGHT_DATA, data + n, 1000), LLM_OK);
        get(f, LLM_FLIGHT_DATA, 5000);
        assert_int_equal(pc.size, 1000);
        assert_memory_equal(buf, data + n, 1000);

        if (n % 5000 == 4000) {
            get(g, LLM_FLIGHT_DATA, 8000);
            assert_int_equal(pc.size, 5000);
            assert_memory_equal(buf, data + n - 4000, 5000);
        }

        assert_true(n < 20000 || stat_of().blocks <= 5);
    }

    assert_true(stat_of().lagged == 0);

    /* a leader's own wish */

    end(a, LLM_FLIGHT_DONE, 0);
    leave(f);
    leave(g);

    a = lead(0, 1, who);
    f = follow(0, 1, who);
    (void) append(a, LLM_FLIGHT_DATA, data, 3000);
    llm_flight_close(fl, a);
    check();
    assert_int_equal(enter(0, 1, 0, 1, who, &g), LLM_DECLINED);
    get(f, LLM_FLIGHT_DATA, 2500);
    assert_true(stat_of().blocks == 1);
    (void) say(a, "end");
    end(a, LLM_FLIGHT_DONE, NOW + 1000);   /* it is not kept */
    get(f, LLM_FLIGHT_DATA, 2500);
    assert_int_equal(pc.size, 503);
    assert_int_equal(pc.state, LLM_FLIGHT_DONE);
    leave(f);
    assert_true(stat_of().flights == 0);

    a = lead(0, 1, who);
    end(a, LLM_FLIGHT_DONE, NOW + 1000);
    llm_flight_close(fl, a);
    assert_true(stat_of().flights == 0);
}


static void
test_room(void **state)
{
    unsigned         i;
    size_t           most;
    llm_flight_id_t  a, b, f, g;

    (void) state;

    most = stat_of().size * PAYLOAD;
    limits.log = 1000000;

    /* three are kept, one of them is read; in no order */

    for (i = 0; i < 3; i++) {
        a = lead(i, 1, who);
        (void) append(a, LLM_FLIGHT_DATA, data, most / 4);
        end(a, LLM_FLIGHT_DONE, NOW + 100 + (i + 2) % 3);
    }

    f = follow(1, 1, who);                 /* the first to expire */
    a = lead(3, 1, who);
    g = follow(3, 1, who);
    assert_int_equal(append(a, LLM_FLIGHT_DATA, data, most / 4 + 5000),
                     LLM_OK);
    assert_true(stat_of().flights == 3 && stat_of().full == 0);
    assert_int_equal(enter(2, 1, 0, 1, who, &b), LLM_DECLINED);

    /* when that is not enough, those who could come */

    (void) append(a, LLM_FLIGHT_DATA, data, most / 4);
    assert_true(stat_of().flights == 2);
    get(g, LLM_FLIGHT_DATA, most / 4);
    assert_int_equal(append(a, LLM_FLIGHT_DATA, data, most / 4), LLM_OK);
    assert_int_equal(enter(3, 1, 0, 1, who, &b), LLM_DECLINED);
    assert_true(stat_of().full == 0);

    /* then it has failed; nothing of a piece comes without the rest */

    assert_int_equal(append(a, LLM_FLIGHT_DATA, data, most / 2),
                     LLM_DECLINED);
    assert_true(stat_of().full == 1 && stat_of().failed == 1);
    get(g, LLM_FLIGHT_DATA, sizeof(buf));
    assert_int_equal(pc.pieces, 3);
    get(g, LLM_FLIGHT_DATA, sizeof(buf));
    assert_true(pc.state == LLM_FLIGHT_FAILED);
    assert_int_equal(say(a, "x"), LLM_DECLINED);
    get(f, LLM_FLIGHT_DATA, most / 4);
    assert_int_equal(pc.state, LLM_FLIGHT_DONE);
    assert_memory_equal(buf, data, most / 4);
    leave(f);
    leave(g);

    a = lead(3, 1, who);
    assert_int_equal(append(a, LLM_FLIGHT_DATA, data, most + 1),
                     LLM_DECLINED);
    assert_int_equal(append(a, LLM_FLIGHT_DATA, data, 1), LLM_DECLINED);
}


static void
test_rows(void **state)
{
    unsigned         i;
    llm_flight_id_t  a, id[LLM_FLIGHT_LEAST / LLM_FLIGHT_SHARE];

    (void) state;

    for (i = 0; i < fl->rows; i++) {
        id[i] = lead(i, 1, who);
    }

    assert_int_equal(enter(400, 1, 1, 1, who, &a), LLM_DECLINED);
    assert_true(stat_of().full == 1);

    end(id[5], LLM_FLIGHT_DONE, NOW + 20);
    end(id[7], LLM_FLIGHT_DONE, NOW + 10);
    (void) lead(400, 1, who);
    assert_int_equal(enter(7, 1, 0, 1, who, &a), LLM_DECLINED);
    (void) follow(5, 1, who);
    assert_int_equal(enter(401, 1, 1, 1, who, &a), LLM_DECLINED);
    assert_true(stat_of().full == 2);

    limits.followers = 1000;

    while (enter(5, 1, 1, 1, who, &a) == LLM_AGAIN) { /* void */ }

    assert_true(stat_of().followers == fl->readers);
    assert_true(stat_of().full == 3 && a == 0);
    assert_true(stat_of().followed == fl->readers);
}


static void
test_expire(void **state)
{
    void              *more;
    size_t             size;
    unsigned           i, n, x;
    uint64_t           t, next, keep[256];
    llm_flight_id_t    id[256];
    llm_flight_ask_t   ask;

    (void) state;

    size = 256 * LLM_FLIGHT_SHARE;
    more = malloc(size);
    fl = llm_flight_create(more, size);
    assert_int_equal(fl->rows, 256);

    memset(&ask, 0, sizeof(llm_flight_ask_t));
    ask.lead = 1;
    ask.data = who;
    x = 1;

    for (i = 0; i < 256; i++) {
        ask.name[0] = names[i];
        assert_int_equal(llm_flight_enter(fl, &ask, &limits, NOW, &id[i],
                                          &wake), LLM_OK);
        x = x * 1103515245 + 12345;
        keep[i] = NOW + 1 + x / 65536 % 500;
        llm_flight_end(fl, id[i], LLM_FLIGHT_DONE, keep[i], &wake);
    }

    check();

    /* some go out of their turn, from anywhere */

    for (i = 0; i < 256; i += 3) {
        llm_flight_close(fl, id[i]);
        keep[i] = 0;
        check();
    }

    for (t = NOW; t < NOW + 510; t += 3) {
        next = 0;
        n = 0;

        for (i = 0; i < 256; i++) {
            if (keep[i] > t) {
                next = next == 0 || keep[i] < next ? keep[i] : next;
                n++;
            }
        }

        assert_true(llm_flight_expire(fl, t) == next);
        assert_true(stat_of().kept == n && stat_of().flights == n);
        check();
    }

    free(more);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test_setup_teardown(test_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pace, setup, teardown),
        cmocka_unit_test_setup_teardown(test_room, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rows, setup, teardown),
        cmocka_unit_test_setup_teardown(test_expire, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
