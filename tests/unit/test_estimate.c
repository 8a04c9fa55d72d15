
/*
 * Copyright (C) the ngx-llm authors
 *
 * Estimates against prompts and answers of several kinds, and what the table
 * does when it is full or a provider tells nonsense.
 */


#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/llm_estimate.h"


static _Alignas(8) unsigned char  mem[32 * 1024];
static uint64_t                   seed;


static double
uniform(void)
{
    seed = seed * 6364136223846793005 + 1442695040888963407;

    return (double) (seed >> 11) / (double) (1ull << 53);
}


static double
normal(void)
{
    return sqrt(-2 * log(1 - uniform())) * cos(6.283185307179586 * uniform());
}


/* log-normal: most are short, some are very long */

static int64_t
length(double median, double spread)
{
    double  n;

    n = median * exp(spread * normal());

    return n < 1 ? 1 : n > 200000 ? 200000 : (int64_t) n;
}


static void
learn(llm_estimates_t *es, uint64_t model, int64_t prompt, size_t bytes,
    int64_t completion, size_t text)
{
    llm_usage_t  usage;

    memset(&usage, 0xff, sizeof(usage));

    usage.prompt_tokens = prompt;
    usage.completion_tokens = completion;

    llm_estimate_learn(es, model, &usage, bytes, 0, text);
}


static llm_estimates_t *
create(void)
{
    memset(mem, 0xa5, sizeof(mem));
    seed = 1;

    return llm_estimates_create(mem, sizeof(mem));
}


/* bytes per token and how much it differs from one text to the next */

static const struct {
    const char       *name;
    double            bytes;
    double            spread;
} kinds[] = {
    { "prose", 4.4, 0.06 },
    { "code", 2.9, 0.12 },
    { "JSON", 2.3, 0.10 },
    { "Chinese", 2.2, 0.08 },
    { "Hindi", 5.1, 0.08 },
    { "digits", 1.3, 0.05 },
};

#define KINDS  (sizeof(kinds) / sizeof(kinds[0]))


static int
compare(const void *a, const void *b)
{
    double  x = *(const double *) a, y = *(const double *) b;

    return (x > y) - (x < y);
}


static double
error(int64_t estimate, int64_t tokens)
{
    return fabs((double) estimate - (double) tokens) / (double) tokens;
}


static void
test_ratio(void **state)
{
    size_t            bytes;
    double            prompts[1000], texts[1000];
    int64_t           tokens;
    unsigned          k, i;
    llm_estimates_t  *es;

    (void) state;

    es = create();

    for (k = 0; k < KINDS; k++) {
        for (i = 0; i < 1050; i++) {
            tokens = length(600, 1);
            bytes = (size_t) ((double) tokens * kinds[k].bytes
                              * exp(kinds[k].spread * normal())) + 1;

            if (i >= 50) {
                prompts[i - 50] = error(llm_estimate_prompt(es, k, bytes, 0),
                                        tokens);
                texts[i - 50] = error(llm_estimate_text(es, k, bytes),
                                      tokens);
            }

            learn(es, k, tokens, bytes, tokens, bytes);
        }

        qsort(prompts, 1000, sizeof(double), compare);
        qsort(texts, 1000, sizeof(double), compare);

        if (prompts[500] >= 0.1 || texts[500] >= 0.1) {
            fail_msg("%s: P50 of the error is %.3f and %.3f", kinds[k].name,
                     prompts[500], texts[500]);
        }
    }
}


/* 50 samples are enough, and so they are after the model has changed */

static void
test_change(void **state)
{
    unsigned          k, i;
    llm_estimates_t  *es;

    (void) state;

    es = create();

    for (k = 0; k < 2 * KINDS; k++) {
        for (i = 0; i < (k == 0 ? 50 : 80); i++) {
            learn(es, 7, (int64_t) (10000 / kinds[k % KINDS].bytes), 10000,
                  -1, 0);
        }

        assert_true(error(llm_estimate_prompt(es, 7, 10000, 0),
                          (int64_t) (10000 / kinds[k % KINDS].bytes)) < 0.1);
    }

    /* the answer's ratio is another one, of which nothing was told */

    assert_int_equal(llm_estimate_text(es, 7, 1000), 250);
}


static double
coverage(llm_estimates_t *es, uint64_t model, double median, double spread,
    unsigned n)
{
    int64_t   tokens;
    unsigned  i, covered;

    covered = 0;

    for (i = 0; i < n; i++) {
        tokens = length(median, spread);
        covered += llm_estimate_output(es, model, 0) >= tokens;
        learn(es, model, 10, 40, tokens, 0);
    }

    return covered / (double) n;
}


static void
test_coverage(void **state)
{
    double            c;
    unsigned          i;
    llm_estimates_t  *es;

    static const struct { double  median, spread; } answers[] = {
        { 300, 0.5 }, { 300, 1 }, { 20, 0.8 }, { 4000, 1.2 }, { 800, 0.2 }
    };

    (void) state;

    es = create();

    for (i = 0; i < 5; i++) {
        (void) coverage(es, i, answers[i].median, answers[i].spread, 100);
        c = coverage(es, i, answers[i].median, answers[i].spread, 5000);

        if (c < 0.88 || c > 0.92) {
            fail_msg("median %.0f, spread %.1f: %.3f are covered",
                     answers[i].median, answers[i].spread, c);
        }
    }

    /* a model that becomes talkative, and one that calms down */

    for (i = 0; i < 6; i++) {
        (void) coverage(es, 9, i % 2 ? 2000 : 150, 0.7, 200);
        c = coverage(es, 9, i % 2 ? 2000 : 150, 0.7, 5000);
        assert_true(c >= 0.88 && c <= 0.92);
    }
}


/* the first twenty answers say at once what is usual */

static void
test_first(void **state)
{
    unsigned          i;
    llm_estimates_t  *es;

    (void) state;

    es = create();

    assert_int_equal(llm_estimate_output(es, 1, 0), 256);
    assert_int_equal(llm_estimate_output(es, 1, 400), 100);
    assert_int_equal(llm_estimate_output(es, 1, 3), 1);
    assert_int_equal(llm_estimate_output(es, 1, UINT64_MAX), 256);

    for (i = 1; i <= 20; i++) {
        assert_int_equal(llm_estimate_output(es, 1, 0), 256);
        learn(es, 1, -1, 0, i * 1000, 0);
    }

    assert_int_equal(llm_estimate_output(es, 1, 0), 19000);
    assert_int_equal(llm_estimate_output(es, 1, 1000), 250);

    /* the prior weighs as much as two samples */

    assert_int_equal(llm_estimate_prompt(es, 2, 1000, 0), 250);
    learn(es, 2, 550, 1000, -1, 0);
    assert_int_equal(llm_estimate_prompt(es, 2, 1000, 0), 350);
    learn(es, 2, 550, 1000, -1, 0);
    assert_int_equal(llm_estimate_prompt(es, 2, 1000, 0), 400);
    assert_int_equal(llm_estimate_output(es, 2, 0), 256);
}


static void
test_prompt(void **state)
{
    llm_usage_t       usage;
    llm_estimates_t  *es;

    (void) state;

    es = create();

    assert_int_equal(llm_estimate_prompt(es, 1, 0, 0), 1);
    assert_int_equal(llm_estimate_prompt(es, 1, 1, 0), 1);
    assert_int_equal(llm_estimate_prompt(es, 1, 5, 0), 2);
    assert_int_equal(llm_estimate_prompt(es, 1, 400, 3), 100 + 3 * 765);
    assert_int_equal(llm_estimate_text(es, 1, 0), 0);
    assert_int_equal(llm_estimate_text(es, 1, 4), 1);

    /* images teach nothing of text, and text nothing that was not told */

    memset(&usage, 0xff, sizeof(usage));
    usage.prompt_tokens = 3000;
    llm_estimate_learn(es, 1, &usage, 4000, 1, 0);
    assert_int_equal(llm_estimate_prompt(es, 1, 4000, 0), 1000);

    learn(es, 1, 3000, 0, -1, 100);
    learn(es, 1, -1, 4000, 100, 0);
    learn(es, 1, -1, 4000, -1, 4000);
    assert_int_equal(llm_estimate_prompt(es, 1, 4000, 0), 1000);
    assert_int_equal(llm_estimate_text(es, 1, 4000), 1000);

    learn(es, 1, -1, 0, 3000, 4000);
    assert_true(llm_estimate_text(es, 1, 4000) > 1000);
    assert_int_equal(llm_estimate_prompt(es, 1, 4000, 0), 1000);
}


/* a provider's numbers are any numbers */

static void
test_nonsense(void **state)
{
    unsigned          i;
    llm_estimates_t  *es;

    (void) state;

    es = create();

    for (i = 0; i < 1000; i++) {
        learn(es, 1, INT64_MAX, 1, INT64_MAX, 1);
    }

    assert_int_equal(llm_estimate_prompt(es, 1, 1000, 0), 1000);
    assert_int_equal(llm_estimate_text(es, 1, 1000), 1000);
    assert_true(llm_estimate_output(es, 1, 0) == (int64_t) 1 << 31);

    for (i = 0; i < 5000; i++) {
        learn(es, 1, 0, SIZE_MAX, 0, SIZE_MAX);
    }

    assert_int_equal(llm_estimate_prompt(es, 1, 1000, 0), 51);
    assert_int_equal(llm_estimate_output(es, 1, 0), 1);
    assert_true(llm_estimate_prompt(es, 1, SIZE_MAX, UINT32_MAX) > 0);
    assert_true(llm_estimate_text(es, 1, SIZE_MAX) > 0);

    /* what a worker that died has left may be anything */

    memset(mem + 64, 0xff, 4096);
    assert_true(llm_estimate_output(es, UINT64_MAX, 0) >= 1);
}


/* who is asked for stays, who was not seen for longest goes */

static void
test_table(void **state)
{
    size_t            size;
    uint64_t          model;
    unsigned          kept;
    llm_estimates_t  *es;

    (void) state;

    for (size = 0; llm_estimates_create(mem, size) == NULL; size++) {
        assert_true(size < 256);
    }

    /* of one row, of two and so on: nothing is written behind them */

    for ( /* void */ ; size < 2000; size += 8) {
        memset(mem, 0xa5, sizeof(mem));
        es = llm_estimates_create(mem, size);

        for (model = 0; model < 100; model++) {
            learn(es, model, 100, 100, -1, 0);
            assert_int_equal(llm_estimate_prompt(es, model, 300, 0), 150);
        }

        assert_int_equal(mem[size], 0xa5);
    }

    /* room for eight: one that is used and seven that come and go */

    for (size = 256; size < sizeof(mem); size += 8) {
        es = llm_estimates_create(mem, size);
        kept = 0;

        for (model = 0; model < 8; model++) {
            learn(es, model, 100, 100, -1, 0);
        }

        for (model = 0; model < 8; model++) {
            kept += llm_estimate_prompt(es, model, 300, 0) == 150;
        }

        if (kept == 8) {
            break;
        }
    }

    for (model = 8; model < 1000; model++) {
        assert_int_equal(llm_estimate_prompt(es, 3, 300, 0), 150);
        learn(es, model, 100, 100, -1, 0);
    }

    assert_int_equal(llm_estimate_prompt(es, 992, 300, 0), 75);

    for (model = 993; model < 1000; model++) {
        assert_int_equal(llm_estimate_prompt(es, model, 300, 0), 150);
    }

    /* to ask for a name makes no row, so that names alone push nobody out */

    for (model = 5000; model < 6000; model++) {
        assert_int_equal(llm_estimate_prompt(es, model, 300, 0), 75);
        assert_int_equal(llm_estimate_output(es, model, 0), 256);
    }

    assert_int_equal(llm_estimate_prompt(es, 3, 300, 0), 150);
    assert_int_equal(llm_estimate_prompt(es, 999, 300, 0), 150);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_ratio),
        cmocka_unit_test(test_change),
        cmocka_unit_test(test_coverage),
        cmocka_unit_test(test_first),
        cmocka_unit_test(test_prompt),
        cmocka_unit_test(test_nonsense),
        cmocka_unit_test(test_table),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
