
/*
 * Copyright (C) the ngx-llm authors
 */


#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <cmocka.h>

#include "core/llm_duration.h"


static const char *
format(uint64_t ms)
{
    size_t                len;
    static unsigned char  buf[LLM_DURATION_LEN + 2];

    memset(buf, 0xa5, sizeof(buf));

    len = llm_duration_format(buf, ms);

    assert_true(len <= LLM_DURATION_LEN);
    assert_int_equal(buf[len], 0xa5);
    buf[len] = '\0';

    return (const char *) buf;
}


static void
test_table(void **state)
{
    unsigned  i;

    static const struct {
        uint64_t     ms;
        const char  *text;
    } table[] = {
        { 0, "0s" },
        { 1, "1ms" },
        { 8, "8ms" },
        { 17, "17ms" },
        { 120, "120ms" },
        { 850, "850ms" },
        { 999, "999ms" },
        { 1000, "1s" },
        { 1001, "2s" },
        { 1999, "2s" },
        { 2000, "2s" },
        { 33023, "34s" },
        { 59000, "59s" },
        { 59001, "1m0s" },
        { 60000, "1m0s" },
        { 61000, "1m1s" },
        { 360000, "6m0s" },
        { 3599000, "59m59s" },
        { 3599001, "1h0m0s" },
        { 3600000, "1h0m0s" },
        { 3723000, "1h2m3s" },
        { 5011000, "1h23m31s" },
        { 86400000, "24h0m0s" },
        { 359999999, "100h0m0s" },
        { UINT64_MAX, "5124095576030h25m52s" }
    };

    (void) state;

    for (i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        assert_string_equal(format(table[i].ms), table[i].text);
    }
}


/* read as Go reads it: never less than it was, nor a second more */

static void
test_rounds_up(void **state)
{
    char          *end;
    uint64_t       ms, sum, n;
    const char    *p;

    (void) state;

    for (ms = 0; ms < 4000000; ms += 997) {

        sum = 0;

        for (p = format(ms); *p != '\0'; p = end) {
            n = strtoull(p, &end, 10);

            if (end[0] == 'm' && end[1] == 's') {
                sum += n;
                end += 2;
                continue;
            }

            sum += n * (*end == 'h' ? 3600000 : *end == 'm' ? 60000 : 1000);
            end++;
        }

        assert_true(sum >= ms);
        assert_true(sum - ms < 1000);
        assert_true(ms >= 1000 || sum == ms);
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_rounds_up)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
