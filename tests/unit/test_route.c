
/*
 * Copyright (C) the ngx-llm authors
 */


#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "core/llm_route.h"


static llm_str_t
str(const char *s)
{
    llm_str_t  r;

    r.data = (unsigned char *) s;
    r.len = strlen(s);

    return r;
}


static void
test_match(void **state)
{
    unsigned              i;
    llm_str_t             p, m;
    static const struct {
        const char       *pattern;
        const char       *model;
        int               match;
    } cases[] = {
        { "gpt-4o", "gpt-4o", 1 },
        { "gpt-4o", "gpt-4", 0 },
        { "gpt-4o", "gpt-4o-mini", 0 },
        { "gpt-4o", "xgpt-4o", 0 },
        { "gpt-4o", "GPT-4o", 0 },
        { "gpt-4o*", "gpt-4o", 1 },
        { "gpt-4o*", "gpt-4o-mini", 1 },
        { "gpt-4o*", "gpt-4", 0 },
        { "*", "", 1 },
        { "*", "anything", 1 },
        { "**", "x", 1 },
        { "", "", 1 },
        { "", "x", 0 },
        { "x", "", 0 },
        { "*-mini", "gpt-4o-mini", 1 },
        { "*-mini", "gpt-4o-mini-2", 0 },
        { "*-mini", "-mini", 1 },
        { "*-mini", "-mini-mini", 1 },
        { "text-embedding-3-*", "text-embedding-3-small", 1 },
        { "a*b*c", "abc", 1 },
        { "a*b*c", "aXbYbZc", 1 },
        { "a*b*c", "aXcYb", 0 },
        { "a*b*c", "abcb", 0 },
        { "*a*", "bbb", 0 },
        { "*a*", "bba", 1 },
        { "a*", "a*", 1 },
        { "a.c", "abc", 0 },
        { "a?c", "abc", 0 },
        { "[a]", "a", 0 },
        { "a*a", "a", 0 },
        { "*ab", "aab", 1 },
        { "*aab", "aaab", 1 },
        { "*aab*aab", "aaabaaab", 1 },
        { "*aab*aab", "aaabaab", 1 },
        { "*aab*aab", "aaab", 0 },
        { "\xc3\xa9*", "\xc3\xa9t\xc3\xa9", 1 },
    };

    (void) state;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        p = str(cases[i].pattern);
        m = str(cases[i].model);

        if (llm_route_match(&p, &m) != cases[i].match) {
            fail_msg("\"%s\" and \"%s\"", cases[i].pattern, cases[i].model);
        }
    }
}


static int
slow(const char *p, size_t plen, const char *m, size_t mlen)
{
    if (plen == 0) {
        return mlen == 0;
    }

    if (*p == '*') {
        return slow(p + 1, plen - 1, m, mlen)
               || (mlen != 0 && slow(p, plen, m + 1, mlen - 1));
    }

    return mlen != 0 && *p == *m && slow(p + 1, plen - 1, m + 1, mlen - 1);
}


/* all patterns of up to 5 and all names of up to 6 of three letters */

static void
test_all(void **state)
{
    char       p[5], m[6];
    size_t     plen, mlen, i, j, k, n;
    llm_str_t  ps, ms;

    (void) state;

    for (i = 0; i < 4 * 4 * 4 * 4 * 4; i++) {
        for (plen = 0, n = i; plen < 5 && n % 4 != 3; plen++, n /= 4) {
            p[plen] = "ab*"[n % 4];
        }

        for (j = 0; j < 4 * 4 * 4 * 4 * 4 * 4; j++) {
            for (mlen = 0, k = j; mlen < 6 && k % 4 != 3; mlen++, k /= 4) {
                m[mlen] = "ab*"[k % 4];
            }

            ps.data = (unsigned char *) p;
            ps.len = plen;
            ms.data = (unsigned char *) m;
            ms.len = mlen;

            assert_int_equal(llm_route_match(&ps, &ms),
                             slow(p, plen, m, mlen));
        }
    }
}


static void
test_literal(void **state)
{
    llm_str_t  s;

    (void) state;

    s = str("gpt-4o");
    assert_true(llm_route_literal(&s));
    s = str("gpt-4o*");
    assert_false(llm_route_literal(&s));
    s = str("*");
    assert_false(llm_route_literal(&s));
    s.len = 0;
    s.data = NULL;
    assert_true(llm_route_literal(&s));
    assert_true(llm_route_match(&s, &s));
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_match),
        cmocka_unit_test(test_all),
        cmocka_unit_test(test_literal),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
