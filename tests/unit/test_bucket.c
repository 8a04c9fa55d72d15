
/*
 * Copyright (C) the ngx-llm authors
 */


#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <stdlib.h>
#include <cmocka.h>

#include "core/llm_bucket.h"
#include "unit_random.h"


static void
test_simple(void **state)
{
    llm_bucket_t  b = { 0, 0 };

    (void) state;

    /* full at the start: ten at once, then one each second */

    llm_bucket_leak(&b, 60, 5000);
    assert_int_equal(llm_bucket_remaining(&b, 10), 10);
    assert_int_equal(llm_bucket_reset(&b, 60), 0);
    assert_int_equal(llm_bucket_wait(&b, 60, 10, 10), 0);
    assert_int_equal(llm_bucket_wait(&b, 60, 10, 11), -1);

    llm_bucket_take(&b, 10);
    assert_int_equal(llm_bucket_remaining(&b, 10), 0);
    assert_int_equal(llm_bucket_reset(&b, 60), 10000);
    assert_int_equal(llm_bucket_wait(&b, 60, 10, 0), 0);
    assert_int_equal(llm_bucket_wait(&b, 60, 10, 1), 1000);
    assert_int_equal(llm_bucket_wait(&b, 60, 10, 10), 10000);

    llm_bucket_leak(&b, 60, 5999);
    assert_int_equal(llm_bucket_remaining(&b, 10), 0);
    assert_int_equal(llm_bucket_wait(&b, 60, 10, 1), 1);
    llm_bucket_leak(&b, 60, 6000);
    assert_int_equal(llm_bucket_remaining(&b, 10), 1);
    assert_int_equal(llm_bucket_wait(&b, 60, 10, 1), 0);

    assert_int_equal(llm_bucket_left(&b, 10), 1);
    assert_int_equal(llm_bucket_used(&b), 9);
    b.level++;
    assert_int_equal(llm_bucket_left(&b, 10), 0);
    assert_int_equal(llm_bucket_used(&b), 10);
    b.level--;

    /* debt is not forgotten */
    llm_bucket_take(&b, 100);
    assert_int_equal(llm_bucket_remaining(&b, 10), 0);
    assert_int_equal(llm_bucket_left(&b, 10), -99);
    assert_int_equal(llm_bucket_used(&b), 109);
    b.level++;
    assert_int_equal(llm_bucket_left(&b, 10), -100);
    b.level--;
    assert_int_equal(llm_bucket_wait(&b, 60, 10, 1), 100000);
    llm_bucket_take(&b, -99);
    assert_int_equal(llm_bucket_wait(&b, 60, 10, 1), 1000);

    /* what comes back never makes more than full */
    llm_bucket_take(&b, -1000);
    assert_int_equal(llm_bucket_remaining(&b, 10), 10);
    assert_int_equal(b.level, 0);
}


static void
test_rounding(void **state)
{
    llm_bucket_t  b = { 0, 0 };

    (void) state;

    /* seven per minute: 8571.43 ms, never told too short */

    llm_bucket_take(&b, 1);
    assert_int_equal(llm_bucket_reset(&b, 7), 8572);
    assert_int_equal(llm_bucket_wait(&b, 7, 1, 1), 8572);
    llm_bucket_leak(&b, 7, 8571);
    assert_int_equal(llm_bucket_wait(&b, 7, 1, 1), 1);
    llm_bucket_leak(&b, 7, 8572);
    assert_int_equal(llm_bucket_wait(&b, 7, 1, 1), 0);

    /* a single part too much, and a single part more than there is */

    b.level = 0;
    llm_bucket_take(&b, 1);
    llm_bucket_leak(&b, 59999, 8573);
    assert_int_equal(b.level, 1);
    assert_int_equal(llm_bucket_wait(&b, 59999, 1, 1), 1);

    b.level = 0;
    llm_bucket_take(&b, 1);
    llm_bucket_leak(&b, 60001, 8574);
    assert_int_equal(b.level, 0);
}


static void
test_clock_back(void **state)
{
    llm_bucket_t  b = { 0, 0 };

    (void) state;

    llm_bucket_leak(&b, 60, 100000);
    llm_bucket_take(&b, 10);

    /* two clocks, two milliseconds apart: time passes once */

    llm_bucket_leak(&b, 60, 99998);
    assert_int_equal(b.level, 10 * LLM_BUCKET_UNIT);
    assert_int_equal(b.time, 100000);
    llm_bucket_leak(&b, 60, 100000);
    assert_int_equal(b.level, 10 * LLM_BUCKET_UNIT);
    llm_bucket_leak(&b, 60, 0);
    llm_bucket_leak(&b, 60, 101000);
    assert_int_equal(b.level, 9 * LLM_BUCKET_UNIT);
}


static void
test_extremes(void **state)
{
    llm_bucket_t  b = { 0, 0 };

    (void) state;

    llm_bucket_take(&b, INT64_MAX);
    llm_bucket_take(&b, INT64_MAX);
    assert_true(b.level > 0);
    assert_true(llm_bucket_wait(&b, 1, UINT64_MAX, 1) >= 0);
    assert_int_equal(llm_bucket_remaining(&b, 1), 0);

    llm_bucket_leak(&b, UINT64_MAX, 2);
    assert_int_equal(b.level, 0);
    llm_bucket_take(&b, 1);
    llm_bucket_leak(&b, 1000000000000, UINT64_MAX);
    assert_int_equal(b.level, 0);

    llm_bucket_take(&b, 5);
    llm_bucket_take(&b, INT64_MIN);
    assert_int_equal(b.level, 0);

    /* a rate of nothing: what was taken stays */
    b.time = 0;
    llm_bucket_take(&b, 1);
    llm_bucket_leak(&b, 0, 1000000);
    assert_int_equal(llm_bucket_wait(&b, 0, 1, 1), -1);
    assert_true(llm_bucket_reset(&b, 0) == INT64_MAX);
    assert_int_equal(b.level, LLM_BUCKET_UNIT);

    /* the largest that a tenants file may say: exact */
    b.level = 0;
    b.time = 0;
    llm_bucket_take(&b, 1000000000000);
    assert_int_equal(llm_bucket_remaining(&b, 1000000000000), 0);
    llm_bucket_leak(&b, 1000000000000, 1);
    assert_int_equal(llm_bucket_remaining(&b, 1000000000000), 16666666);
    llm_bucket_leak(&b, 1000000000000, 60000);
    assert_int_equal(b.level, 0);
}


/*
 * Random rates, bursts, sizes and clocks that jump: the bucket against the
 * same in 128 bits, and what the contract promises of any span of time.
 */

static void
saturate(uint64_t rate, uint64_t burst, uint64_t steps, uint64_t pause)
{
    int64_t       wait;
    uint64_t      i, now, end, n, admitted, spans[64], starts[64];
    llm_bucket_t  b = { 0, 0 };
    __int128      level, time, most, least;

    now = 1 + any(1000000);
    end = 0;
    level = 0;
    time = 0;
    admitted = 0;

    for (i = 0; i < 64; i++) {
        spans[i] = UINT64_MAX;
    }

    for (i = 0; i < steps; i++) {

        now += any(pause);

        if (any(50) == 0) {
            now -= any(now < 500 ? now : 500);
        }

        end = now > end ? now : end;

        if (spans[i % 64] == UINT64_MAX || any(100) == 0) {
            spans[i % 64] = admitted;
            starts[i % 64] = end;
        }

        if ((__int128) now > time) {
            level -= ((__int128) now - time) * rate;
            level = level < 0 ? 0 : level;
            time = now;
        }

        llm_bucket_leak(&b, rate, now);
        assert_true(b.level == level);

        for ( ;; ) {
            n = 1 + any(burst < 4 ? burst : 4);
            wait = llm_bucket_wait(&b, rate, burst, n);
            least = level + ((__int128) n - burst) * 60000;

            if (least > 0) {
                assert_true(wait == (int64_t) ((least + rate - 1) / rate));
                break;
            }

            assert_int_equal(wait, 0);
            llm_bucket_take(&b, (int64_t) n);
            level += (__int128) n * 60000;
            admitted += n;
        }
    }

    /* from any moment on: never more than the burst and the rate's own */

    for (i = 0; i < 64; i++) {
        if (spans[i] != UINT64_MAX) {
            most = (__int128) burst * 60000
                   + (__int128) (end - starts[i]) * rate;
            assert_true((__int128) (admitted - spans[i]) * 60000 <= most);
        }
    }
}


static void
test_property(void **state)
{
    unsigned  i;

    (void) state;

    seed = 0x9e3779b97f4a7c15;

    for (i = 0; i < 300; i++) {
        saturate(1 + any(100000), 1 + any(200), 500, 1 + any(300));
    }

    for (i = 0; i < 20; i++) {
        saturate(1 + any(20), 1 + any(3), 2000, 1 + any(3000));
    }
}


/* who asks again when told to gets all that there is, for odd rates, too */

static void
test_saturation(void **state)
{
    unsigned                i;
    int64_t                 wait;
    uint64_t                rate, now, admitted;
    long double             right;
    llm_bucket_t            b;
    static const uint64_t   rates[] = {
        1, 7, 11, 59, 60, 61, 600, 997, 59999, 60001, 7000000
    };

    (void) state;

    for (i = 0; i < sizeof(rates) / sizeof(rates[0]); i++) {
        rate = rates[i];
        b.level = 0;
        b.time = 0;
        now = 1;
        admitted = 0;

        /* some ten minutes, or a thousand units */

        while (now < 600000 || (admitted < 1000 && now < 100000000)) {
            llm_bucket_leak(&b, rate, now);

            wait = llm_bucket_wait(&b, rate, 120, 1);

            if (wait != 0) {
                now += (uint64_t) wait;
                continue;
            }

            llm_bucket_take(&b, 1);
            admitted++;
        }

        right = 120 + (long double) (now - 1) * rate / 60000;

        assert_true(admitted <= right);
        assert_true(admitted >= 0.999 * right - 1);
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_simple),
        cmocka_unit_test(test_rounding),
        cmocka_unit_test(test_clock_back),
        cmocka_unit_test(test_extremes),
        cmocka_unit_test(test_property),
        cmocka_unit_test(test_saturation),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
