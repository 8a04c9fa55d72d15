
/*
 * Copyright (C) the ngx-llm authors
 *
 * The tokens taken in place (core/llm_json_inline.h) against the scanner's
 * own functions: both must say the same of every text, right or wrong.
 */


#include "core/llm_json_inline.h"

#include "json_check.h"
#include "json_cases.h"


#define PAD  64                             /* room to the very end */


static const char  answer[] =
    "{\"id\":\"chatcmpl-0000000000000001\",\"created\":1795238559,"
    "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\","
    "\"content\":\"It is \\\"seventeen\\\" and some more to be longer.\\n"
    "\\u00e9 \xc3\xa9\",\"refusal\":null,\"annotations\":[]},"
    "\"accepted_prediction_tokens_longer\":[1,22,-3,0.5,1e3,true,[],{}],"
    "\"finish_reason\":\"stop\"}],\n  \"usage\": {\n    \"a\": 10,\n"
    "    \"b\" : 0\n  } , \"c\":false}";


/* token by token; the fault's offset, or OK */

static long
compare(const unsigned char *text, size_t len)
{
    llm_json_t        a, b;
    llm_json_token_e  token;

    llm_json_init(&a, text, len);
    llm_json_init(&b, text, len);

    do {
        token = llm_json_next(&a);

        assert_int_equal(token, llm_json_any(&b));
        assert_ptr_equal(a.pos, b.pos);
        assert_int_equal(a.state, b.state);
        assert_int_equal(a.depth, b.depth);
        assert_true(a.objects == b.objects);

        if (token == LLM_JSON_ERROR) {
            assert_string_equal(a.error, b.error);
            return a.pos - text;
        }

        if (token == LLM_JSON_END) {
            return OK;
        }

        assert_ptr_equal(a.start, b.start);
        assert_ptr_equal(a.end, b.end);

        if (token == LLM_JSON_NAME || token == LLM_JSON_STRING) {
            assert_int_equal(a.size, b.size);
            assert_int_equal(a.escaped, b.escaped);
        }

        if (token == LLM_JSON_NUMBER) {
            assert_int_equal(a.integer, b.integer);
        }

    } while (1);
}


/* the same with a value skipped: the walk is at the same place behind it */

static void
skipped(const unsigned char *text, size_t len)
{
    llm_json_t        a, b;
    llm_json_token_e  token, end;

    llm_json_init(&a, text, len);

    do {
        token = llm_json_next(&a);

        if (token == LLM_JSON_OBJECT || token == LLM_JSON_ARRAY) {
            b = a;
            end = llm_json_skip(&b);

            if (end != LLM_JSON_ERROR) {
                assert_int_equal(end, token == LLM_JSON_OBJECT
                                      ? LLM_JSON_OBJECT_END
                                      : LLM_JSON_ARRAY_END);
                assert_int_equal(b.depth, a.depth - 1);
                assert_int_equal(compare(a.start,
                                         (size_t) (b.end - a.start)), OK);
            }
        }

    } while (token != LLM_JSON_END && token != LLM_JSON_ERROR);
}


static void
test_cases(void **state)
{
    long            offset;
    size_t          i, len;
    unsigned char  *p;

    (void) state;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        len = cases[i].len + PAD;

        p = malloc(len);
        memset(p, ' ', len);
        memcpy(p, cases[i].text, cases[i].len);

        offset = compare(p, len);
        skipped(p, len);
        free(p);

        if (cases[i].offset == OK) {
            assert_int_equal(offset, OK);

        } else if (cases[i].offset < (long) cases[i].len) {
            assert_int_equal(offset, cases[i].offset);

        } else {
            assert_int_not_equal(offset, OK);
        }
    }
}


/* each as a member's value, so that it comes behind a name */

static void
test_members(void **state)
{
    size_t          i, len;
    unsigned char  *p;

    (void) state;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        len = cases[i].len + 6 + PAD;

        p = malloc(len);
        memset(p, ' ', len);
        memcpy(p, "{\"a\":", 5);
        memcpy(p + 5, cases[i].text, cases[i].len);
        p[5 + cases[i].len] = '}';

        (void) compare(p, len);
        skipped(p, len);
        free(p);
    }
}


/* every byte of a whole answer replaced, left out, and every beginning */

static void
test_answer(void **state)
{
    size_t          i, n, len;
    unsigned char  *p;

    static const char  bytes[] = "\"\\{}[],: \n\t0159-+.eEntfu/x\x01\x7f\x80"
                                 "\xc3\xef";

    (void) state;

    len = sizeof(answer) - 1;
    p = check_copy(answer, len);

    assert_int_equal(compare(p, len), OK);
    skipped(p, len);

    for (i = 0; i < len; i++) {

        for (n = 0; n < sizeof(bytes); n++) {
            p[i] = (unsigned char) bytes[n];
            (void) compare(p, len);
        }

        p[i] = (unsigned char) answer[i];
    }

    free(p);

    for (i = 0; i < len; i++) {
        p = check_copy(answer, len - 1);
        memcpy(p + i, answer + i + 1, len - 1 - i);
        (void) compare(p, len - 1);
        free(p);

        p = check_copy(answer, i);
        assert_int_not_equal(compare(p, i), OK);
        free(p);
    }
}


/* one level more than is allowed, far from the end */

static void
test_depth(void **state)
{
    size_t         i, n;
    unsigned char  text[LLM_JSON_DEPTH * 12 + PAD];

    (void) state;

    for (n = LLM_JSON_DEPTH; n <= LLM_JSON_DEPTH + 1; n++) {
        memset(text, ' ', sizeof(text));

        for (i = 0; i < n; i++) {
            memcpy(text + 5 * i, "{\"a\":", 5);
            text[5 * n + 1 + i] = '}';
        }

        text[5 * n] = '1';

        assert_int_equal(compare(text, sizeof(text)),
                         n == LLM_JSON_DEPTH ? OK : 5 * LLM_JSON_DEPTH);
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_cases),
        cmocka_unit_test(test_members),
        cmocka_unit_test(test_answer),
        cmocka_unit_test(test_depth)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
