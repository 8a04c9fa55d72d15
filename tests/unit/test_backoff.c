
/*
 * Copyright (C) the ngx-llm authors
 */


#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <time.h>
#include <cmocka.h>

#include "core/llm_backoff.h"


#define DAY  86400000
#define NOW  784111777          /* Sun, 06 Nov 1994 08:49:37 GMT */


/* in a block of its own length: nothing behind it may be read */

static llm_str_t *
text(const char *s)
{
    static llm_str_t  str;

    free(str.data);

    str.len = strlen(s);
    str.data = malloc(str.len == 0 ? 1 : str.len);
    memcpy(str.data, s, str.len);

    return &str;
}


static void
test_retryable(void **state)
{
    unsigned  status, expected;

    (void) state;

    for (status = 0; status < 1000; status++) {
        expected = status == 408 || status == 409 || status == 429
                   || status / 100 == 5;

        assert_int_equal(llm_backoff_retryable(status) != 0, expected);
    }
}


static void
test_delay_bounds(void **state)
{
    unsigned  i, retry;
    uint64_t  max;

    static const struct {
        uint64_t  base;
        uint64_t  cap;
    } table[] = {
        { 250, 8000 }, { 1, 1 }, { 1, UINT64_MAX }, { 3, 1000000007 },
        { 500, 100 }, { UINT64_MAX, UINT64_MAX }, { UINT64_MAX, 5 },
        { (uint64_t) 1 << 63, UINT64_MAX }, { (uint64_t) 1 << 32, 1 << 30 },
        { 0xffffffff, UINT64_MAX }, { 5, 0 }
    };

    (void) state;

    for (i = 0; i < sizeof(table) / sizeof(table[0]); i++) {

        max = table[i].base;

        for (retry = 0; retry < 70; retry++) {

            if (max > table[i].cap) {
                max = table[i].cap;
            }

            assert_int_equal(llm_backoff_delay(table[i].base, table[i].cap,
                                               retry, 0), 0);

            /* the largest number gives the largest time, within 1 / 2^32 */

            assert_true(llm_backoff_delay(table[i].base, table[i].cap, retry,
                                          UINT32_MAX) <= max);
            assert_true(llm_backoff_delay(table[i].base, table[i].cap, retry,
                                          UINT32_MAX) >= max - (max >> 31));

            max = max > UINT64_MAX / 2 ? UINT64_MAX : max * 2;
        }
    }

    assert_int_equal(llm_backoff_delay(250, 8000, UINT32_MAX, UINT32_MAX),
                     8000);
    assert_int_equal(llm_backoff_delay(0, 8000, 3, UINT32_MAX), 0);
    assert_int_equal(llm_backoff_delay(250, 0, 3, UINT32_MAX), 0);
}


/* every time from 0 to base * 2^retry is as likely as any other */

static void
test_delay_spread(void **state)
{
    uint32_t  i, n[9];
    uint64_t  ms;

    (void) state;

    memset(n, 0, sizeof(n));

    for (i = 0; i < 9 * 4096; i++) {
        ms = llm_backoff_delay(2, 100, 2, (uint32_t)
                               (((uint64_t) i << 32) / (9 * 4096)));
        assert_true(ms <= 8);
        n[ms]++;
    }

    for (i = 0; i < 9; i++) {
        assert_in_range(n[i], 4095, 4097);
    }
}


static void
test_ms(void **state)
{
    unsigned  i;

    static const struct {
        const char  *text;
        int64_t      ms;
    } table[] = {
        { "0", 0 }, { "1", 1 }, { "1500", 1500 }, { "1500.0", 1500 },
        { "1500.5", 1501 }, { "0.001", 1 }, { "0.000", 0 }, { "007", 7 },
        { " 12\t", 12 }, { "86400000", DAY }, { "86400001", DAY },
        { "86399999.5", DAY },
        { "99999999999999999999999999999999", DAY },
        { "0.00000000000000000000000000000001", 1 },

        { "", -1 }, { " ", -1 }, { "-1", -1 }, { "+1", -1 }, { ".5", -1 },
        { "5.", -1 }, { "1.5.2", -1 }, { "1,5", -1 }, { "1e3", -1 },
        { "0x10", -1 }, { "nan", -1 }, { "inf", -1 }, { "1 2", -1 },
        { "12ms", -1 }, { "1s", -1 }, { ".", -1 }, { "\0" "1", -1 },
        { "9999999999999999999x", -1 },

        /* not of this header */

        { "Sun, 06 Nov 1994 08:49:47 GMT", -1 }
    };

    (void) state;

    for (i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        assert_int_equal(llm_backoff_asked(text(table[i].text), NULL, NOW),
                         table[i].ms);
    }
}


static void
test_seconds(void **state)
{
    unsigned  i;

    static const struct {
        const char  *text;
        int64_t      ms;
    } table[] = {
        { "0", 0 }, { "1", 1000 }, { "60", 60000 }, { "20.0", 20000 },
        { "1.5", 1500 }, { "0.25", 250 }, { "0.125", 125 },
        { "33.0231", 33024 }, { "33.0230", 33023 }, { "0.0001", 1 },
        { "0.00011", 1 }, { "0.0019999", 2 },
        { "0.0010001", 2 }, { "0.9999", 1000 },
        { "86399", 86399000 }, { "86400", DAY }, { "86401", DAY },
        { "18446744073709551616", DAY },

        { "-1", -1 }, { "", -1 }, { "1.", -1 }, { "soon", -1 }, { "1m", -1 }
    };

    (void) state;

    for (i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        assert_int_equal(llm_backoff_asked(NULL, text(table[i].text), NOW),
                         table[i].ms);
    }
}


static void
test_dates(void **state)
{
    unsigned  i;

    static const struct {
        const char  *text;
        int64_t      ms;
    } table[] = {
        { "Sun, 06 Nov 1994 08:49:47 GMT", 10000 },
        { "Sunday, 06-Nov-94 08:49:47 GMT", 10000 },
        { "Sun Nov  6 08:49:47 1994", 10000 },
        { "  Sun, 06 Nov 1994 08:49:47 GMT ", 10000 },
        { "Mon, 07 Nov 1994 00:00:00 GMT", 54623000 },
        { "Sun Nov 06 08:49:47 1994", 10000 },

        { "Sun, 06 Nov 1994 08:49:37 GMT", 0 },
        { "Sun, 06 Nov 1994 08:49:36 GMT", 0 },
        { "Sun, 06 Nov 0001 08:49:36 GMT", 0 },
        { "Sunday, 06-Nov-93 08:49:37 GMT", 0 },
        { "Saturday, 05-Nov-44 08:49:36 GMT", DAY },   /* 2044 */
        { "Tuesday, 07-Nov-44 08:49:38 GMT", 0 },      /* 1944 */
        { "Mon, 07 Nov 1994 08:49:36 GMT", DAY - 1000 },
        { "Mon, 07 Nov 1994 08:49:37 GMT", DAY },
        { "Tue, 08 Nov 1994 08:49:37 GMT", DAY },
        { "Thu, 29 Feb 1996 00:00:00 GMT", DAY },
        { "Thursday, 29-Feb-96 00:00:00 GMT", DAY },
        { "Sun, 31 Dec 1995 23:59:60 GMT", DAY },
        { "Fri, 31 Dec 9999 23:59:59 GMT", DAY },

        { "Sun, 6 Nov 1994 08:49:47 GMT", -1 },
        { "Sun, 06 Nov 94 08:49:47 GMT", -1 },
        { "Sun, 06-Nov-94 08:49:47 GMT", -1 },
        { "Sunday, 06 Nov 1994 08:49:47 GMT", -1 },
        { "Sun, 06 Nov 1994 08:49:47", -1 },
        { "Sun, 06 Nov 1994 08:49:47 UTC", -1 },
        { "Sun, 06 Nov 1994 08:49:47 GMTx", -1 },
        { "Sun, 06 Nov 1994 8:49:47 GMT", -1 },
        { "Sun, 06 Nov 1994 24:00:00 GMT", -1 },
        { "Sun, 06 Nov 1994 23:60:00 GMT", -1 },
        { "Sun, 06 Nov 1994 23:59:61 GMT", -1 },
        { "Sun, 00 Nov 1994 08:49:47 GMT", -1 },
        { "Sun, 31 Nov 1994 08:49:47 GMT", -1 },
        { "Sun, 32 Dec 1994 08:49:47 GMT", -1 },
        { "Wed, 29 Feb 1995 08:49:47 GMT", -1 },
        { "Wed, 29 Feb 2100 08:49:47 GMT", -1 },
        { "Sun, 06 Nou 1994 08:49:47 GMT", -1 },
        { "Son, 06 Nov 1994 08:49:47 GMT", -1 },
        { "sun, 06 nov 1994 08:49:47 gmt", -1 },
        { "Sun Nov 6 08:49:47 1994", -1 },
        { "Sun Nov  6 08:49:47 1994 GMT", -1 },
        { "Sun Nov  66 08:49:47 1994", -1 },
        { "06 Nov 1994 08:49:47 GMT", -1 },
        { "1994-11-06T08:49:47Z", -1 }
    };

    (void) state;

    for (i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        assert_int_equal(llm_backoff_asked(NULL, text(table[i].text), NOW),
                         table[i].ms);
    }

    /* two digits at the turn of a century */

    assert_int_equal(llm_backoff_asked(NULL,
                         text("Friday, 01-Jan-00 00:00:01 GMT"),
                         4102444799), 2000);
    assert_int_equal(llm_backoff_asked(NULL,
                         text("Thursday, 31-Dec-99 23:59:59 GMT"),
                         4102444800), 0);
    assert_int_equal(llm_backoff_asked(NULL,
                         text("Saturday, 29-Feb-00 00:00:00 GMT"),
                         951782399), 1000);

    assert_int_equal(llm_backoff_asked(NULL,
                         text("Saturday, 29-Feb-00 00:00:00 GMT"),
                         INT64_MIN), DAY);
    assert_int_equal(llm_backoff_asked(NULL,
                         text("Saturday, 29-Feb-96 00:00:00 GMT"),
                         INT64_MAX), 0);
}


/* each end is one too early for a date of any form */

static void
test_dates_cut(void **state)
{
    char      s[40];
    size_t    len, i, k;

    static const char *const  dates[] = {
        "Sun, 06 Nov 1994 08:49:47 GMT",
        "Sunday, 06-Nov-94 08:49:47 GMT",
        "Sun Nov  6 08:49:47 1994"
    };

    (void) state;

    for (k = 0; k < 3; k++) {
        len = strlen(dates[k]);

        for (i = 0; i < len; i++) {
            memcpy(s, dates[k], i);
            s[i] = '\0';
            assert_int_equal(llm_backoff_asked(NULL, text(s), NOW), -1);
        }
    }
}


/* against the C library, one date every eleven days and some seconds */

static void
test_calendar(void **state)
{
    char       s[3][64];
    time_t     t;
    unsigned   i;
    struct tm  tm;

    (void) state;

    for (t = 10; t < (time_t) 8000000000; t += 11 * 86400 + 3607) {
        tm = *gmtime(&t);

        strftime(s[0], sizeof(s[0]), "%a, %d %b %Y %H:%M:%S GMT", &tm);
        strftime(s[1], sizeof(s[1]), "%A, %d-%b-%y %H:%M:%S GMT", &tm);
        strftime(s[2], sizeof(s[2]), "%a %b %e %H:%M:%S %Y", &tm);

        for (i = 0; i < 3; i++) {
            assert_int_equal(llm_backoff_asked(NULL, text(s[i]), t - 7),
                             7000);
            assert_int_equal(llm_backoff_asked(NULL, text(s[i]), t), 0);
        }
    }
}


static void
test_order(void **state)
{
    llm_str_t  ms = llm_string("1500"), bad = llm_string("-1");
    llm_str_t  none = { 0, NULL };
    llm_str_t  s = llm_string("7"), date = llm_string(
                                        "Sun, 06 Nov 1994 08:49:47 GMT");

    (void) state;

    assert_int_equal(llm_backoff_asked(&ms, &s, NOW), 1500);
    assert_int_equal(llm_backoff_asked(&bad, &s, NOW), 7000);
    assert_int_equal(llm_backoff_asked(&bad, &date, NOW), 10000);
    assert_int_equal(llm_backoff_asked(&ms, &bad, NOW), 1500);
    assert_int_equal(llm_backoff_asked(&bad, &bad, NOW), -1);
    assert_int_equal(llm_backoff_asked(NULL, &s, NOW), 7000);
    assert_int_equal(llm_backoff_asked(NULL, NULL, NOW), -1);
    assert_int_equal(llm_backoff_asked(&bad, NULL, NOW), -1);
    assert_int_equal(llm_backoff_asked(&none, &none, NOW), -1);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_retryable),
        cmocka_unit_test(test_delay_bounds),
        cmocka_unit_test(test_delay_spread),
        cmocka_unit_test(test_ms),
        cmocka_unit_test(test_seconds),
        cmocka_unit_test(test_dates),
        cmocka_unit_test(test_dates_cut),
        cmocka_unit_test(test_calendar),
        cmocka_unit_test(test_order)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
