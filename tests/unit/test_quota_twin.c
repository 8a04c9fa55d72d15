
/*
 * Copyright (C) the ngx-llm authors
 *
 * The store of the simulation against a real Redis.
 */


#define _GNU_SOURCE

#include "quota_hand.h"
#include "../sim/store.c"
#include "../sim/store_command.c"


static int64_t
some(int64_t n)
{
    static uint64_t  seed = 88172645463325252u;

    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;

    return (int64_t) ((seed >> 11) % (uint64_t) n);
}


/* the store of the simulation says the same, word for word */

static void
test_twin(void **state)
{
    int          i, k, n, words, nnames, nasks;
    char        *arg[QUOTA_ARGS];
    size_t       len;
    name_t       names[4];
    ask_t        asks[4];
    store_t     *st;
    const char  *reply, *set[3];

    (void) state;

    st = store_create(QUOTA_SCRIPT);
    assert_non_null(st);

    set[0] = "SET";
    set[1] = "{llm}:epoch";
    set[2] = "17 1000 1000 0 1000 0";
    (void) store_command(st, 3, set);
    (void) quota_command(redis, "SET %s %b", set[1], set[2], strlen(set[2]));

    for (i = 1; i <= 1500; i++) {
        nnames = (int) some(5);
        nasks = nnames ? (int) some(5) : 0;

        for (k = 0; k < nnames; k++) {
            names[k] = name((const char *[]) { "a", "b", "c", "d" }[k]);
            names[k].rpm = k != 1 ? 600 : 0;
            names[k].burst = k != 1 ? 20 : 0;
            names[k].tpm = k != 2 ? 6000 : 0;
            names[k].burst_tokens = k != 2 ? 3000 : 0;
            names[k].rpd = k == 3 ? 300 : 0;
            names[k].budget = k == 2 ? 90000 : 0;
            names[k].month = some(2);
            names[k].slots = k != 3 ? 5 : 0;
            names[k].held = some(3);
            names[k].want = names[k].held + some(4);
            names[k].day += some(3) - 1;
            names[k].bucket[1] = some(200) - 100;
            names[k].tally[1] = names[k].bucket[1];
            names[k].old_day = some(2) ? today - 1 : 0;
            names[k].old_mon = tomonth;
            names[k].old[2] = some(50) - 20;
            names[k].prefetch[0] = some(3);
            names[k].repair = some(20) == 0;
            names[k].known[0] = today;
            names[k].known[2] = some(1000);
        }

        for (k = 0; k < nasks; k++) {
            asks[k] = (ask_t) { some(nnames + 1), some(nnames + 1), some(3),
                                some(400), some(400) };
        }

        assert_int_equal(batch_on(redis, i % 2 ? "g" : "h", i, names, nnames,
                                  asks, nasks), 0);

        store_clock(st, (uint64_t) rp.v[NOW] * 1000);

        words = command(arg, i % 2 ? "g" : "h", i, names, nnames, asks,
                        nasks);
        reply = store_run(st, 4 + 2 * (unsigned) nnames,
                          (unsigned) words - 3,
                          (const char *const *) arg + 3, &len);
        assert_non_null(reply);

        for (n = 0; n < words; n++) {
            free(arg[n]);
        }

        assert_string_equal(reply, raw);
    }

    store_destroy(st);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_twin, setup)
    };

    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
