
/*
 * Copyright (C) the ngx-llm authors
 */


#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <cmocka.h>

#include "core/llm_prometheus.h"


static unsigned char     page[4096];
static llm_prometheus_t  pm;


static int
setup(void **state)
{
    (void) state;

    memset(page, 0xa5, sizeof(page));

    pm.pos = page;
    pm.last = page + sizeof(page);
    pm.overflow = 0;

    return 0;
}


static void
assert_page(const char *text)
{
    assert_int_equal(pm.pos - page, strlen(text));
    assert_memory_equal(page, text, strlen(text));
    assert_false(pm.overflow);
}


static void
sample(const char *value, size_t len)
{
    llm_prometheus_label_t  label;

    /* in a block of its own length: nothing behind it may be read */

    label.name = "key";
    label.value.len = len;
    label.value.data = len == 0 ? NULL : malloc(len);

    if (len != 0) {
        memcpy(label.value.data, value, len);
    }

    llm_prometheus_sample(&pm, "llm_x", &label, 1, 1);

    free(label.value.data);
}


static void
test_family(void **state)
{
    (void) state;

    llm_prometheus_family(&pm, "llm_requests_total", "counter",
                          "Requests, \"all\" of them.\nBack\\slash.");

    assert_page("# HELP llm_requests_total Requests, \"all\" of them."
                "\\nBack\\\\slash.\n"
                "# TYPE llm_requests_total counter\n");
}


static void
test_sample(void **state)
{
    llm_prometheus_label_t  labels[2] = {
        { "tenant", llm_string("search") },
        { "le", llm_string("+Inf") }
    };

    (void) state;

    llm_prometheus_sample(&pm, "llm_up", NULL, 0, 0);
    llm_prometheus_sample(&pm, "llm_a_total", labels, 1, 42);
    llm_prometheus_sample(&pm, "llm_b_bucket", labels, 2, UINT64_MAX);

    assert_page("llm_up 0\n"
                "llm_a_total{tenant=\"search\"} 42\n"
                "llm_b_bucket{tenant=\"search\",le=\"+Inf\"} "
                "18446744073709551615\n");
}


static void
test_escape(void **state)
{
    (void) state;

    sample("a\\b\"c\nd\te{},=", 13);

    assert_page("llm_x{key=\"a\\\\b\\\"c\\nd\te{},=\"} 1\n");
}


static void
test_empty(void **state)
{
    (void) state;

    sample(NULL, 0);

    assert_page("llm_x{key=\"\"} 1\n");
}


static void
test_utf8(void **state)
{
    unsigned  i;
    char      text[64];

    static const struct {
        const char  *in;
        const char  *out;
    } table[] = {
        { "\xc3\xa9", "\xc3\xa9" },
        { "\xe2\x82\xac", "\xe2\x82\xac" },
        { "\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80" },
        { "\xf4\x8f\xbf\xbf", "\xf4\x8f\xbf\xbf" },

        /* cut short, alone, overlong, a surrogate, too large */

        { "x\xc3", "x?" },
        { "\xe2\x82", "??" },
        { "\x80", "?" },
        { "\xc0\xaf", "??" },
        { "\xc1\xbf", "??" },
        { "\xe0\x80\x80", "???" },
        { "\xf0\x80\x80\x80", "????" },
        { "\xed\xa0\x80", "???" },
        { "\xf4\x90\x80\x80", "????" },
        { "\xf5\x80\x80\x80", "????" },
        { "\xff", "?" },
        { "\xc3\"", "?\\\"" },
        { "\xe2\x82\n", "??\\n" }
    };

    for (i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        setup(state);
        sample(table[i].in, strlen(table[i].in));

        snprintf(text, sizeof(text), "llm_x{key=\"%s\"} 1\n", table[i].out);
        assert_page(text);
    }
}


/* at every size of the page: whole calls from the front, and the flag */

static void
test_overflow(void **state)
{
    size_t                  size, whole, first, second;
    unsigned char          *mem;
    llm_prometheus_label_t  label = { "k", llm_string("a\"b") };

    static const char  text[] =
        "# HELP x y\n# TYPE x gauge\n" "x{k=\"a\\\"b\"} 12\n" "z 1\n";

    (void) state;

    whole = sizeof(text) - 1;
    first = strlen("# HELP x y\n# TYPE x gauge\n");
    second = whole - strlen("z 1\n");

    for (size = 0; size <= whole; size++) {

        mem = malloc(size + 1);
        pm.pos = mem;
        pm.last = mem + size;
        pm.overflow = 0;

        llm_prometheus_family(&pm, "x", "gauge", "y");
        llm_prometheus_sample(&pm, "x", &label, 1, 12);
        llm_prometheus_sample(&pm, "z", NULL, 0, 1);

        assert_int_equal(pm.overflow, size < whole);
        assert_int_equal(pm.pos - mem,
                         size < first ? 0 : size < second ? first
                         : size < whole ? second : whole);
        assert_memory_equal(mem, text, pm.pos - mem);

        free(mem);
    }
}


static void
test_micro(void **state)
{
    unsigned  i;
    char      text[64];

    static const struct {
        int64_t      value;
        const char  *text;
    } table[] = {
        { 0, "0.000000" },
        { 1, "0.000001" },
        { 999999, "0.999999" },
        { 1000000, "1.000000" },
        { 12345678, "12.345678" },
        { -1, "-0.000001" },
        { -2500000, "-2.500000" },
        { INT64_MAX, "9223372036854.775807" },
        { INT64_MIN, "-9223372036854.775808" }
    };

    for (i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        setup(state);
        llm_prometheus_micro(&pm, "llm_x_usd", NULL, 0, table[i].value);

        snprintf(text, sizeof(text), "llm_x_usd %s\n", table[i].text);
        assert_page(text);
    }
}


static const uint64_t  bounds[] = { 1000, 2500000, 600000000 };
static const uint64_t  counts[] = { 2, 0, 3, 1 };

static const llm_prometheus_histogram_t  histogram = {
    bounds, counts, 3, 1234567
};

static const char  histogram_text[] =
    "llm_s_bucket{m=\"a\\\"\",le=\"0.001\"} 2\n"
    "llm_s_bucket{m=\"a\\\"\",le=\"2.5\"} 2\n"
    "llm_s_bucket{m=\"a\\\"\",le=\"600\"} 5\n"
    "llm_s_bucket{m=\"a\\\"\",le=\"+Inf\"} 6\n"
    "llm_s_sum{m=\"a\\\"\"} 1.234567\n"
    "llm_s_count{m=\"a\\\"\"} 6\n";


/* at every size of the page: all of it or nothing */

static void
test_histogram(void **state)
{
    size_t                  size, whole;
    unsigned char          *mem;
    llm_prometheus_label_t  label = { "m", llm_string("a\"") };

    llm_prometheus_histogram(&pm, "llm_s", &label, 1, &histogram);
    assert_page(histogram_text);

    setup(state);
    llm_prometheus_histogram(&pm, "llm_s", NULL, 0, &histogram);
    assert_non_null(strstr((char *) page, "llm_s_bucket{le=\"2.5\"} 2\n"));
    assert_non_null(strstr((char *) page, "llm_s_count 6\n"));

    whole = sizeof(histogram_text) - 1;

    for (size = 0; size <= whole; size++) {

        mem = malloc(size + 1);
        pm.pos = mem;
        pm.last = mem + size;
        pm.overflow = 0;

        llm_prometheus_histogram(&pm, "llm_s", &label, 1, &histogram);

        assert_int_equal(pm.overflow, size < whole);
        assert_int_equal(pm.pos - mem, size < whole ? 0 : whole);

        free(mem);
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test_setup(test_family, setup),
        cmocka_unit_test_setup(test_sample, setup),
        cmocka_unit_test_setup(test_escape, setup),
        cmocka_unit_test_setup(test_empty, setup),
        cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_overflow),
        cmocka_unit_test(test_micro),
        cmocka_unit_test_setup(test_histogram, setup)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
