
/*
 * Copyright (C) the ngx-llm authors
 *
 * A million keys: memory, and how long it takes to load and to find them.
 * Times are told, not judged; memory is judged.
 */


#define _GNU_SOURCE

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <time.h>
#include <cmocka.h>

#include "core/llm_policy_file.h"
#include "keyring_help.h"
#include "unit_random.h"


#if defined(__SANITIZE_ADDRESS__)
#define KEYS  100000
#else
#define KEYS  1000000
#endif

#define SIZE   (256u * 1024 * 1024 / 1000000 * KEYS)
#define FINDS  1000000


static llm_keyring_t  *kr;
static uint64_t        ticket;


static double
now(void)
{
    struct timespec  ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);

    return (double) ts.tv_sec + (double) ts.tv_nsec / 1e9;
}


/* digests spread over all buckets, as real ones do */

static void
spread(unsigned char *sha256, unsigned n)
{
    uint64_t  h;
    unsigned  i;

    h = n + 1;

    for (i = 0; i < 4; i++) {
        h ^= h >> 33;
        h *= 0xff51afd7ed558ccdu;
        h ^= h >> 33;
        memcpy(sha256 + 8 * i, &h, 8);
        h += n;
    }
}


static char *
file(size_t *len)
{
    char           *text;
    size_t          n;
    unsigned        i, k;
    unsigned char   sha256[32];

    text = malloc((size_t) KEYS * 200);
    assert_non_null(text);

    n = (size_t) sprintf(text, "{\"defaults\":{\"concurrency\":8},"
                         "\"teams\":{");

    for (i = 0; i < 100; i++) {
        n += (size_t) sprintf(text + n, "%s\"team%u\":{\"requests_per_minute"
                              "\":600,\"concurrency\":32}", i ? "," : "", i);
    }

    n += (size_t) sprintf(text + n, "},\"keys\":{");

    for (i = 0; i < KEYS; i++) {
        spread(sha256, i);
        n += (size_t) sprintf(text + n, "%s\"service-%07u\":{\"team\":\"team%u"
                              "\",\"sha256\":\"", i ? "," : "", i, i % 100);

        for (k = 0; k < 32; k++) {
            n += (size_t) sprintf(text + n, "%02x", sha256[k]);
        }

        n += (size_t) sprintf(text + n, "\",\"requests_per_minute\":%u,"
                              "\"concurrency\":4}", 60 + i % 7);
    }

    *len = n + (size_t) sprintf(text + n, "}}");

    return text;
}


static int
defaults(void *data, const llm_terms_t *terms)
{
    (void) data;

    return llm_keyring_load_defaults(kr, ticket, terms);
}


static int
row_of(void *data, const llm_policy_row_t *row, char *other)
{
    (void) data;

    return llm_keyring_load(kr, ticket, row, other);
}


/* the longest slice */

static double
load(const char *text, size_t len)
{
    int                        rc;
    char                       err[300];
    double                     start, slice, most, all;
    llm_policy_file_t          f;
    static unsigned char       scratch[LLM_POLICY_FILE_SCRATCH];
    static llm_policy_sink_t   sink = { NULL, defaults, row_of };

    all = now();

    while (llm_keyring_begin(kr, &ticket) == LLM_AGAIN) {
        (void) llm_keyring_sweep(kr, 8192);
    }

    llm_policy_file_init(&f, text, len, scratch, &sink);

    most = 0;

    do {
        start = now();
        rc = llm_policy_file_step(&f, 16384, err, sizeof(err));
        slice = now() - start;
        most = slice > most ? slice : most;
    } while (rc == LLM_AGAIN);

    if (rc != LLM_OK) {
        fail_msg("%s", err);
    }

    assert_int_equal(llm_keyring_end(kr, ticket), LLM_OK);

    printf("%u keys, %.0f MB: loaded in %.2f s, %.2f us each, "
           "longest slice %.2f ms\n", KEYS, (double) len / 1e6, now() - all,
           (now() - all) / KEYS * 1e6, most * 1e3);

    return most;
}


static void
find_all(const char *what, unsigned span)
{
    double                start, empty;
    unsigned              i, n;
    unsigned char         sha256[32], text[1024];
    llm_arena_t           own;
    llm_keyring_found_t   found;

    memset(&own, 0, sizeof(llm_arena_t));

    seed = 7;
    start = now();

    for (i = 0; i < FINDS; i++) {
        n = (unsigned) any(span);
        spread(sha256, n);
        text[i % sizeof(text)] = sha256[i % 32];
    }

    empty = now() - start;

    seed = 7;
    start = now();

    for (i = 0; i < FINDS; i++) {
        n = (unsigned) any(span);
        spread(sha256, n);

        own.pos = text;
        own.end = text + sizeof(text);

        if (llm_keyring_find(kr, sha256, 0, &found, &own) != LLM_OK
            || found.key.limit.rates.rpm != 60 + n % 7)
        {
            fail_msg("key %u", n);
        }
    }

    printf("%s: %.0f ns\n", what, (now() - start - empty) / FINDS * 1e9);
}


static void
test_many(void **state)
{
    void                *mem;
    char                *text, *at;
    size_t               len;
    llm_keyring_stat_t   stat;

    (void) state;

    mem = aligned_alloc(128, SIZE);
    assert_non_null(mem);
    kr = llm_keyring_create(mem, SIZE);
    text = file(&len);

    (void) load(text, len);

    llm_keyring_stat(kr, &stat);
    assert_int_equal(stat.keys, KEYS);

    printf("%.0f bytes for a key, buckets and all; %.0f %% of %u MB used\n",
           (double) stat.used / (double) stat.blocks * SIZE / KEYS,
           100.0 * (double) stat.used / (double) stat.blocks,
           (unsigned) (SIZE >> 20));

    assert_true((double) stat.used / (double) stat.blocks * SIZE / KEYS
                <= 200);

    find_all("found, any of them", KEYS);
    find_all("found, one of 500", 500);

    /* the same file with one other key: no more memory than for that */

    at = strstr(text + len / 2, "\"requests_per_minute\":6");
    assert_non_null(at);
    at[22] = at[22] == '9' ? '8' : '9';

    (void) load(text, len);
    llm_keyring_stat(kr, &stat);
    assert_int_equal(stat.used, KEYS + 100 + 1);

    assert_null(keyring_wrong(kr));

    free(text);
    free(mem);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_many),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
