
/*
 * Copyright (C) the ngx-llm authors
 *
 * The prices file: what is read, what is refused, what is found, what it
 * costs.
 */


#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <jansson.h>

#include <stdio.h>

#include "core/llm_price.h"
#include "core/llm_route.h"
#include "file_parse.h"
#include "json_starve.h"


static llm_prices_t *
parse(const char *text)
{
    size_t         len;
    char          *copy;
    llm_prices_t  *ps;

    copy = exact(text, &len);
    ps = llm_prices_parse(copy, len, err, sizeof(err));

    free(copy);

    return ps;
}


static const llm_price_t *
find(const llm_prices_t *ps, const char *name)
{
    llm_str_t  model;

    model.data = (unsigned char *) name;
    model.len = strlen(name);

    return llm_prices_find(ps, &model);
}


static void
test_read(void **state)
{
    llm_prices_t       *ps;
    const llm_price_t  *p;

    (void) state;

    ps = parse("{\"gpt-4o*\":{\"input\":2.5,\"cached_input\":1.25,"
               "\"output\":10},\"a\":{\"output\":0.000003,\"input\":1000000,"
               "\"batch_output\":0,\"batch_input\":0.1},"
               "\"e\":{\"input\":0.02,\"output\":0}}");
    assert_string_equal(err, "");
    assert_int_equal(llm_prices_count(ps), 3);

    p = find(ps, "gpt-4o-mini");
    assert_int_equal(p->input, 2500000);
    assert_int_equal(p->cached_input, 1250000);
    assert_int_equal(p->output, 10000000);
    assert_int_equal(p->batch_input, 1250000);
    assert_int_equal(p->batch_output, 5000000);

    p = find(ps, "a");
    assert_true(p->input == 1000000000000);
    assert_true(p->cached_input == 1000000000000);
    assert_int_equal(p->output, 3);
    assert_int_equal(p->batch_input, 100000);
    assert_int_equal(p->batch_output, 0);

    assert_int_equal(find(ps, "e")->batch_input, 10000);
    assert_int_equal(find(ps, "e")->output, 0);

    llm_prices_destroy(ps);
    llm_prices_destroy(NULL);

    ps = parse("{}");
    assert_non_null(ps);
    assert_int_equal(llm_prices_count(ps), 0);
    assert_null(find(ps, "a"));
    assert_null(find(ps, ""));
    llm_prices_destroy(ps);
}


static void
test_refuse(void **state)
{
    unsigned              i;
    llm_prices_t         *ps;
    static const struct {
        const char       *text;
        const char       *error;
    } cases[] = {
        { "", "line 1, column 0: '[' or '{' expected near end of file" },
        { "[]", ".: expected an object, got an empty list" },
        { "4", "line 1, column 1: '[' or '{' expected" },
        { "{\"a\":}", "line 1, column 6: unexpected token" },
        { "{\"a\":{\"input\":1,\"output\":1},\n\"a\":{}}",
          "line 2, column 3: duplicate object key" },
        { "{\"a\":4}", "a: expected an object, got 4" },
        { "{\"a\":null}", "a: expected an object, got null" },
        { "{\"a\":{}}",
          "a.input: expected a number from 0 to 1000000, got nothing" },
        { "{\"a\":{\"input\":1}}",
          "a.output: expected a number from 0 to 1000000, got nothing" },
        { "{\"gpt-4.1*\":{\"input\":1,\"output\":\"2\"}}", "gpt-4.1*.output: "
          "expected a number from 0 to 1000000, got \"2\"" },
        { "{\"a\":{\"input\":-1,\"output\":1}}",
          "a.input: expected a number from 0 to 1000000, got -1" },
        { "{\"a\":{\"input\":1000000.5,\"output\":1}}",
          "a.input: expected a number from 0 to 1000000, got 1000000.5" },
        { "{\"a\":{\"input\":1,\"output\":1e300}}",
          "a.output: expected a number from 0 to 1000000, got 1e300" },
        { "{\"a\":{\"input\":1,\"output\":1,\"cached_input\":null}}",
          "a.cached_input: expected a number from 0 to 1000000, got null" },
        { "{\"a\":{\"input\":1,\"output\":1,\"batch_input\":true}}", "a.batch"
          "_input: expected a number from 0 to 1000000, got true" },
        { "{\"a\":{\"input\":1,\"output\":1,\"batch_output\":[1]}}",
          "a.batch_output: expected a number from 0 to 1000000, got a list" },
        { "{\"a\":{\"input\":1,\"ouput\":1}}", "a.ouput: unknown member" },
        { "{\"\":{\"input\":1,\"output\":1}}", ".: expected names of 1 to 256 "
          "bytes without control characters, got \"\"" },
        { "{\"a\\n\":{\"input\":1,\"output\":1}}", ".: expected names of 1 to "
          "256 bytes without control characters, got \"a?\"" },
        { "{\"\\u007f\":{\"input\":1,\"output\":1}}", ".: expected names of 1 "
          "to 256 bytes without control characters, got \"?\"" },
    };

    (void) state;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        ps = parse(cases[i].text);
        assert_string_equal(err, cases[i].error);
        assert_null(ps);
    }

    assert_null(parse("{\"a\":{\"input\":\"sk-SECRET\",\"output\":1}}"));
    assert_null(strstr(err, "SECRET"));
    assert_null(llm_prices_parse("{", 1, NULL, 0));
}


static void
test_bounds(void **state)
{
    char          *text, name[300];
    size_t         n;
    unsigned       i, count;
    llm_prices_t  *ps;

    (void) state;

    for (n = 255; n < 259; n++) {
        memset(name, 'n', n);
        name[n] = '\0';
        text = malloc(512);
        sprintf(text, "{\"%s\":{\"input\":1,\"output\":1}}", name);

        ps = parse(text);
        assert_true((ps != NULL) == (n <= 256));

        if (ps != NULL) {
            assert_non_null(find(ps, name));
            name[n - 1] = '\0';
            assert_null(find(ps, name));
        }

        llm_prices_destroy(ps);
        free(text);
    }

    text = malloc(10001 * 40);

    for (count = 10000; count <= 10001; count++) {
        n = (size_t) sprintf(text, "{");

        for (i = 0; i < count; i++) {
            n += (size_t) sprintf(text + n, "%s\"m%u%s\":{\"input\":%u,"
                                  "\"output\":1}", i ? "," : "", i,
                                  i % 3 == 0 ? "" : i % 3 == 1 ? "-*" : "*-x",
                                  i);
        }

        sprintf(text + n, "}");
        ps = parse(text);

        if (count > 10000) {
            assert_null(ps);
            assert_string_equal(err, ".: expected at most 10000 models and "
                                "patterns, got 10001");
            break;
        }

        for (i = 0; i < count; i++) {
            sprintf(name, "m%u%s", i, i % 3 == 0 ? "" : "-x");
            assert_true(find(ps, name)->input == (int64_t) i * 1000000);
        }

        assert_null(find(ps, "m"));
        llm_prices_destroy(ps);
    }

    free(text);
}


/* each amount of micro-dollars as it was written; half of one goes up */

static void
test_amounts(void **state)
{
    char                  text[160];
    int64_t               micro;
    uint64_t              x;
    unsigned              i;
    llm_prices_t         *ps;
    static const struct {
        const char       *text;
        int64_t           micro;
    } cases[] = {
        { "0", 0 }, { "0.0", 0 }, { "-0.0", 0 }, { "1e-9", 0 },
        { "0.0000005", 1 }, { "0.00000049", 0 }, { "0.000000499", 0 },
        { "0.0000015", 2 }, { "0.0000025", 3 }, { "0.1", 100000 },
        { "0.3", 300000 }, { "1.005", 1005000 }, { "2.675", 2675000 },
        { "0.0375", 37500 }, { "1e6", 1000000000000 }, { "25e-2", 250000 },
        { "999999.999999", 999999999999 },
        { "999999.9999995", 1000000000000 },
        { "999999.9999994", 999999999999 },
        { "4.35", 4350000 }, { "0.1234565", 123457 }, { "8.5000005", 8500001 },
    };

    (void) state;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        snprintf(text, sizeof(text), "{\"a\":{\"input\":%s,\"output\":1}}",
                 cases[i].text);
        ps = parse(text);
        assert_non_null(ps);

        if (find(ps, "a")->input != cases[i].micro) {
            fail_msg("%s: %lld", cases[i].text,
                     (long long) find(ps, "a")->input);
        }

        llm_prices_destroy(ps);
    }

    x = 1;

    for (i = 0; i < 20000; i++) {
        x = x * 6364136223846793005 + 1442695040888963407;
        micro = (int64_t) ((x >> 20) % (i % 2 ? 1000000000000 : 100000));

        /* the seventh digit decides */

        snprintf(text, sizeof(text), "{\"a\":{\"input\":%lld.%06lld%u,"
                 "\"output\":1}}", (long long) micro / 1000000,
                 (long long) micro % 1000000, i % 10);
        ps = parse(text);
        assert_non_null(ps);
        assert_true(find(ps, "a")->input == micro + (i % 10 >= 5));
        llm_prices_destroy(ps);
    }
}


static int64_t
priced(const llm_prices_t *ps, const char *model)
{
    const llm_price_t  *p;

    p = find(ps, model);

    return p != NULL ? p->input / 1000000 : -1;
}


static void
test_find(void **state)
{
    llm_prices_t  *ps;

    (void) state;

    ps = parse("{\"*\":{\"input\":1,\"output\":1},"
               "\"gpt-4o*\":{\"input\":2,\"output\":1},"
               "\"gpt-4o-mini*\":{\"input\":3,\"output\":1},"
               "\"gpt-4o-mini\":{\"input\":4,\"output\":1},"
               "\"gpt-4o\":{\"input\":5,\"output\":1},"
               "\"*-preview\":{\"input\":6,\"output\":1},"
               "\"gpt*vision*\":{\"input\":7,\"output\":1},"
               "\"a**\":{\"input\":8,\"output\":1},"
               "\"x*y\":{\"input\":9,\"output\":1},"
               "\"xz*\":{\"input\":10,\"output\":1}}");
    assert_string_equal(err, "");

    /* its own name, else the longest */

    assert_int_equal(priced(ps, "gpt-4o"), 5);
    assert_int_equal(priced(ps, "gpt-4o-mini"), 4);
    assert_int_equal(priced(ps, "gpt-4o-mini-2"), 3);
    assert_int_equal(priced(ps, "gpt-4o-min"), 2);
    assert_int_equal(priced(ps, "gpt-4"), 1);
    assert_int_equal(priced(ps, ""), 1);
    assert_int_equal(priced(ps, "o1-preview"), 6);
    assert_int_equal(priced(ps, "gpt-4o-preview"), 6);
    assert_int_equal(priced(ps, "gpt-4o-mini-preview"), 3);
    assert_int_equal(priced(ps, "gpt-4o-vision"), 7);
    assert_int_equal(priced(ps, "gpt-4o*"), 2);
    assert_int_equal(priced(ps, "ab"), 8);
    assert_int_equal(priced(ps, "x1y"), 9);
    assert_int_equal(priced(ps, "xzy"), 10);

    llm_prices_destroy(ps);

    ps = parse("{\"b*\":{\"input\":1,\"output\":1}}");
    assert_int_equal(priced(ps, "b"), 1);
    assert_int_equal(priced(ps, "a"), -1);
    assert_int_equal(priced(ps, ""), -1);
    llm_prices_destroy(ps);
}


#define RANDOM(n)                                                             \
    ((unsigned) ((seed = seed * 6364136223846793005 + 1442695040888963407)    \
                 >> 40) % (n))

static uint64_t   seed;
static char       names[24][16];
static llm_str_t  name;


/* names of a few letters, each once, priced by their place; how many */

static unsigned
random_names(char *text)
{
    size_t    n;
    unsigned  j, k, count;

    n = (size_t) sprintf(text, "{");
    count = 0;

    for (j = 0; j < 24; j++) {
        for (k = 0; k < 1 + RANDOM(4); k++) {
            names[count][k] = "ab*"[RANDOM(3)];
        }

        names[count][k] = '\0';

        for (k = 0; k < count && strcmp(names[k], names[count]) != 0; k++) {
            /* void */
        }

        if (k < count) {
            continue;
        }

        n += (size_t) sprintf(text + n, "%s\"%s\":{\"input\":%u,"
                              "\"output\":1}", count ? "," : "",
                              names[count], count + 1);
        count++;
    }

    sprintf(text + n, "}");

    return count;
}


/* the longest that fits, UINT32_MAX if it is the very name; 0: none */

static unsigned
longest(unsigned count, llm_str_t *m)
{
    unsigned  k, best;

    best = 0;

    for (k = 0; k < count; k++) {
        name.data = (unsigned char *) names[k];
        name.len = strlen(names[k]);

        if (name.len == m->len && memcmp(name.data, m->data, m->len) == 0) {
            return UINT32_MAX;
        }

        if (llm_route_match(&name, m) && name.len > best) {
            best = (unsigned) name.len;
        }
    }

    return best;
}


/* against every row tried in turn; equally long ones are equally good */

static void
test_find_any(void **state)
{
    char           text[4096], model[16];
    int64_t        input;
    unsigned       i, j, k, count, best;
    llm_str_t      m;
    llm_prices_t  *ps;

    (void) state;

    seed = 3;

    for (i = 0; i < 2000; i++) {
        count = random_names(text);
        ps = parse(text);
        assert_non_null(ps);

        for (j = 0; j < 20; j++) {
            for (k = 0; k < RANDOM(5); k++) {
                model[k] = "ab"[RANDOM(2)];
            }

            model[k] = '\0';
            m.data = (unsigned char *) model;
            m.len = k;

            best = longest(count, &m);
            input = priced(ps, model);

            if (best == 0) {
                assert_int_equal(input, -1);
                continue;
            }

            assert_true(input > 0);
            name.data = (unsigned char *) names[input - 1];
            name.len = strlen(names[input - 1]);

            if (!llm_route_match(&name, &m)
                || name.len != (best == UINT32_MAX ? m.len : best)
                || (best == UINT32_MAX && !llm_route_literal(&name)))
            {
                fail_msg("%s in %s: %s", model, text, names[input - 1]);
            }
        }

        llm_prices_destroy(ps);
    }
}


static void
test_cost(void **state)
{
    unsigned     i;
    int64_t      money, tokens;
    uint64_t     x;
    llm_price_t  p = { 2500000, 1250000, 10000000, 0, 0 };

    (void) state;

    assert_int_equal(llm_price_cost(&p, 1000, 0, 500), 2500 + 5000);
    assert_int_equal(llm_price_cost(&p, 1000, 400, 500), 1500 + 500 + 5000);
    assert_int_equal(llm_price_cost(&p, 1000, 4000, 0), 1250);
    assert_int_equal(llm_price_cost(&p, -1, -1, -1), 0);
    assert_int_equal(llm_price_cost(&p, -1, 100, 1), 10);
    assert_int_equal(llm_price_cost(&p, 1000, -1, -1), 2500);

    /* to the nearest, half of one up */

    assert_int_equal(llm_price_cost(&p, 1, 0, 0), 3);
    assert_int_equal(llm_price_cost(&p, 1, 1, 0), 1);
    p.input = 499999;
    assert_int_equal(llm_price_cost(&p, 1, 0, 0), 0);
    p.input = 500000;
    assert_int_equal(llm_price_cost(&p, 1, 0, 0), 1);

    p.input = p.output = p.cached_input = 1000000000000;
    assert_true(llm_price_cost(&p, INT64_MAX, 0, INT64_MAX) == INT64_MAX);
    assert_true(llm_price_cost(&p, INT64_MAX, INT64_MAX, 0) == INT64_MAX);
    assert_true(llm_price_cost(&p, INT64_MIN, INT64_MIN, INT64_MIN) == 0);

    /* what money buys costs no more than it, and one more would not do */

    p.output = 0;
    assert_true(llm_price_tokens(&p, 0) == INT64_MAX);
    assert_true(llm_price_tokens(&p, -5) == INT64_MAX);
    p.output = 1;
    assert_true(llm_price_tokens(&p, INT64_MAX) == INT64_MAX);
    assert_int_equal(llm_price_tokens(&p, 0), 0);
    assert_int_equal(llm_price_tokens(&p, INT64_MIN), 0);

    x = 5;

    for (i = 0; i < 10000; i++) {
        x = x * 6364136223846793005 + 1442695040888963407;
        p.output = 1 + (int64_t) ((x >> 30) % 1000000000);
        money = 1 + (int64_t) ((x >> 20) % 1000000000);
        tokens = llm_price_tokens(&p, money);

        assert_true(llm_price_cost(&p, 0, 0, tokens) <= money);
        assert_true((double) (tokens + 1) * (double) p.output / 1e6
                    > (double) money);
    }
}


static void
test_memory(void **state)
{
    llm_prices_t  *ps;

    (void) state;

    json_set_alloc_funcs(counting_malloc, counting_free);

    for (failing = 1; failing < 10000; failing++) {
        allocations = 0;
        living = 0;
        ps = parse("{\"a\":{\"input\":1,\"output\":2},\"b*\":{\"input\":1,"
                   "\"output\":2}}");

        assert_true((ps == NULL) == (err[0] != '\0'));
        llm_prices_destroy(ps);
        assert_int_equal(living, 0);

        if (allocations < failing) {
            break;
        }

        assert_null(ps);
    }

    assert_true(failing > 10);
    assert_non_null(ps);

    json_set_alloc_funcs(malloc, free);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_read),
        cmocka_unit_test(test_refuse),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_amounts),
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_find_any),
        cmocka_unit_test(test_cost),
        cmocka_unit_test(test_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
