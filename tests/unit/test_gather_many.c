
/*
 * Copyright (C) the ngx-llm authors
 *
 * Streams with very much of one thing.
 */


#include "gather_help.h"


#define WORD  "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":"      \
              "\" w\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n"
#define LAST  "data: {\"choices\":[{\"index\":0,\"delta\":{},"                \
              "\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n"

#define ROOM   (8 << 20)
#define WORDS  50000


static void
test_members(void **state)
{
    int        rc;
    char      *stream, *p, *text;
    unsigned   i, n;

    (void) state;

    stream = malloc(ROOM);

    for (n = 100; n <= 200; n += 100) {
        p = copy(stream, "data: {\"choices\":[{\"index\":0,"
                         "\"finish_reason\":\"stop\",\"delta\":{\"x\":0");

        for (i = 0; i < n; i++) {
            p += sprintf(p, ",\"n%u\":0", i);
        }

        copy(p, "}}]}\n\n");

        text = gather(LLM_CHAT, stream, NULL, BLOCKS, &rc);

        assert_int_equal(rc, n == 100 ? LLM_OK : LLM_DECLINED);
        free(text);
    }

    free(stream);
}


static void
test_choices(void **state)
{
    int        rc;
    char      *stream, *p, *text;
    unsigned   i, n;

    (void) state;

    stream = malloc(ROOM);

    for (n = 1000; n <= 1100; n += 100) {
        p = stream;

        for (i = n; i != 0; i--) {
            p += sprintf(p, "data: {\"choices\":[{\"index\":%u,"
                            "\"finish_reason\":\"stop\"}]}\n\n", i);
        }

        text = gather(LLM_CHAT, stream, NULL, BLOCKS, &rc);

        assert_int_equal(rc, n == 1000 ? LLM_OK : LLM_DECLINED);
        free(text);
    }

    free(stream);
}


/* the memory for many words is a small part of their stream */

static void
test_words(void **state)
{
    int           i, rc;
    char         *stream, *p;
    pool_t        pool;
    size_t        len;
    llm_str_t     body;
    llm_usage_t   usage;

    (void) state;

    stream = malloc(ROOM);
    p = stream;

    for (i = 0; i < WORDS; i++) {
        p = copy(p, WORD);
    }

    p = copy(p, LAST);
    len = (size_t) (p - stream);

    pool_init(&pool, BLOCKS);

    rc = llm_gather(LLM_CHAT, (unsigned char *) stream, len, &pool.arena,
                    &body, &usage);

    assert_int_equal(rc, LLM_OK);
    assert_true(body.len > 2 * WORDS && body.len < 2 * WORDS + 256);
    assert_true(POOL_LIMIT - pool.arena.left < len / 3);

    pool_free(&pool);
    free(stream);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_members),
        cmocka_unit_test(test_choices),
        cmocka_unit_test(test_words)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
