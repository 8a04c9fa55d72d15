
/*
 * Copyright (C) the ngx-llm authors
 */


#include "json_check.h"
#include "json_cases.h"

#include <jansson.h>

#include "core/llm_json.h"


/* to the end of a text: the fault's offset, or OK */

static long
scan(const unsigned char *text, size_t len)
{
    llm_json_t        js;
    llm_json_token_e  token;

    llm_json_init(&js, text, len);

    do {
        token = llm_json_next(&js);
    } while (token != LLM_JSON_END && token != LLM_JSON_ERROR);

    assert_int_equal(llm_json_valid(text, len), token == LLM_JSON_END);

    if (token == LLM_JSON_END) {
        assert_int_equal(js.depth, 0);
        return OK;
    }

    assert_non_null(js.error);
    assert_true(js.pos >= text && js.pos <= text + len);

    /* it stays at its fault */

    assert_int_equal(llm_json_next(&js), LLM_JSON_ERROR);

    return js.pos - text;
}


static void
test_cases(void **state)
{
    long            offset;
    size_t          i;
    unsigned char  *p;

    (void) state;

    assert_true(sizeof(cases) / sizeof(cases[0]) > 250);

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        p = check_copy(cases[i].text, cases[i].len);
        offset = scan(p, cases[i].len);
        free(p);

        if (offset != cases[i].offset) {
            fail_msg("case %zu \"%s\": %ld, expected %ld", i, cases[i].text,
                     offset, cases[i].offset);
        }
    }
}


/* the same cases deep inside a text, and behind runs of every length */

static void
test_inside(void **state)
{
    long            offset;
    size_t          i, pad, len;
    unsigned char  *p;

    (void) state;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {

        for (pad = 0; pad < 40; pad++) {
            len = pad + cases[i].len + 6;
            p = malloc(len);

            memcpy(p, "[\"", 2);
            memset(p + 2, 'x', pad);
            memcpy(p + 2 + pad, "\",", 2);
            memcpy(p + pad + 4, cases[i].text, cases[i].len);
            memcpy(p + len - 2, " ]", 2);

            offset = scan(p, len);

            if (cases[i].offset == OK) {
                assert_int_equal(offset, OK);

            } else if (cases[i].offset < (long) cases[i].len
                       && strchr("],[", cases[i].text[cases[i].offset])
                          == NULL)
            {
                assert_int_equal(offset, cases[i].offset + (long) pad + 4);
            }

            free(p);
        }
    }
}


/* each byte value at each place of strings of many lengths */

static void
test_bytes(void **state)
{
    int             b;
    long            offset, expected;
    size_t          len, at;
    unsigned char  *p;

    (void) state;

    for (len = 1; len < 72; len++) {

        p = malloc(len + 2);
        memset(p, 'a', len + 2);
        p[0] = '"';
        p[len + 1] = '"';

        for (at = 1; at <= len; at++) {

            for (b = 0; b < 256; b++) {
                p[at] = (unsigned char) b;
                offset = scan(p, len + 2);

                expected = b < 0x20 || b >= 0x80 ? (long) at : OK;

                if (b == '"') {
                    expected = (long) at + 1;

                } else if (b == '\\') {
                    expected = (long) at + (at == len ? 2 : 1);
                }

                assert_int_equal(offset, expected);
            }

            p[at] = 'a';
        }

        free(p);
    }
}


static int
valid_utf8(const unsigned char *p, size_t len)
{
    unsigned  code, i, n;

    while (len > 0) {
        n = *p < 0x80 ? 1 : *p < 0xc0 ? 0 : *p < 0xe0 ? 2 : *p < 0xf0 ? 3
            : *p < 0xf8 ? 4 : 0;

        if (n == 0 || n > len) {
            return 0;
        }

        code = n == 1 ? *p : *p & (0x7fu >> n);

        for (i = 1; i < n; i++) {
            if ((p[i] & 0xc0) != 0x80) {
                return 0;
            }

            code = code << 6 | (p[i] & 0x3f);
        }

        if ((n == 2 && code < 0x80) || (n == 3 && code < 0x800)
            || (n == 4 && code < 0x10000) || code > 0x10ffff
            || (code >= 0xd800 && code < 0xe000))
        {
            return 0;
        }

        p += n;
        len -= n;
    }

    return 1;
}


static void
test_utf8(void **state)
{
    int             right;
    size_t          i;
    unsigned        a, b, d;
    unsigned char  *p;

    static const unsigned char  edges[] = {
        0x21, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc2, 0xe2, 0xff
    };

    (void) state;

    p = check_copy("\"zzzz\"", 6);

    for (a = 0x80; a < 0x100; a++) {
        for (b = 0x23; b < 0x100; b++) {
            for (d = 0; d < sizeof(edges) * sizeof(edges); d++) {

                if (b == '\\') {
                    continue;
                }

                p[1] = (unsigned char) a;
                p[2] = (unsigned char) b;
                p[3] = edges[d / sizeof(edges)];
                p[4] = edges[d % sizeof(edges)];

                right = valid_utf8(p + 1, 4);

                if ((scan(p, 6) == OK) != right) {
                    fail_msg("%02x %02x %02x %02x", p[1], p[2], p[3], p[4]);
                }
            }
        }
    }

    free(p);

    /* sequences that the end of the text cuts */

    for (i = 1; i < 4; i++) {
        p = check_copy("\"\xf0\x9f\x98\x80", 1 + i);
        assert_int_equal(scan(p, 1 + i), 1);
        free(p);
    }
}


/* every code unit as an escape; pairs of all kinds */

static void
test_escapes(void **state)
{
    char            text[32];
    unsigned        code, low;
    llm_str_t       s;
    llm_json_t      js;
    unsigned char   buf[64];
    llm_arena_t     arena;
    check_memory_t  m;

    (void) state;

    for (code = 0; code < 0x10000; code++) {
        snprintf(text, sizeof(text),
                 code & 1 ? "\"\\u%04x!\"" : "\"\\u%04X!\"", code);

        memset(&arena, 0, sizeof(llm_arena_t));
        arena.pos = buf;
        arena.end = buf + sizeof(buf);

        llm_json_init(&js, (unsigned char *) text, strlen(text));

        if (code >= 0xd800 && code < 0xe000) {
            assert_int_equal(llm_json_next(&js), LLM_JSON_ERROR);
            assert_int_equal(js.pos - js.text, 1);
            continue;
        }

        assert_int_equal(llm_json_next(&js), LLM_JSON_STRING);
        assert_int_equal(llm_json_text(&js, &arena, &s), LLM_OK);
        assert_int_equal(s.len, code < 0x80 ? 2 : code < 0x800 ? 3 : 4);
        assert_true(valid_utf8(s.data, s.len));
        assert_int_equal(s.data[s.len - 1], '!');

        if (code >= 0x800) {
            assert_int_equal((unsigned) (s.data[0] & 0xf) << 12
                             | (unsigned) (s.data[1] & 0x3f) << 6
                             | (s.data[2] & 0x3f), code);
        }
    }

    for (code = 0xd800; code < 0xdc00; code += 17) {
        for (low = 0xd7f0; low < 0xe010; low += 3) {
            snprintf(text, sizeof(text), "\"\\u%04x\\u%04x\"", code, low);

            check_memory(&m, 1000, -1);
            llm_json_init(&js, (unsigned char *) text, strlen(text));

            if (low < 0xdc00 || low >= 0xe000) {
                assert_int_equal(llm_json_next(&js), LLM_JSON_ERROR);
                assert_int_equal(js.pos - js.text, 1);
                continue;
            }

            assert_int_equal(llm_json_next(&js), LLM_JSON_STRING);
            assert_int_equal(js.size, 4);
            assert_int_equal(llm_json_text(&js, &m.arena, &s), LLM_OK);
            assert_int_equal((unsigned) (s.data[0] & 7) << 18
                             | (unsigned) (s.data[1] & 0x3f) << 12
                             | (unsigned) (s.data[2] & 0x3f) << 6
                             | (s.data[3] & 0x3f),
                             0x10000 + ((code - 0xd800) << 10)
                             + (low - 0xdc00));
            check_memory_free(&m);
        }
    }
}


static void
test_decode(void **state)
{
    llm_str_t       s;
    llm_json_t      js;
    check_memory_t  m;

    static const char  text[] =
                          "\"a\\n\\t\\r\\b\\f\\/\\\\\\\"\\u0041\\u00e9 b\"";
    static const char  plain[] = "a\n\t\r\b\f/\\\"A\xc3\xa9 b";

    (void) state;

    check_memory(&m, 1000, -1);

    llm_json_init(&js, (const unsigned char *) text, sizeof(text) - 1);
    assert_int_equal(llm_json_next(&js), LLM_JSON_STRING);
    assert_int_equal(js.escaped, 1);
    assert_int_equal(js.size, sizeof(plain) - 1);
    assert_int_equal(llm_json_text(&js, &m.arena, &s), LLM_OK);
    assert_int_equal(s.len, sizeof(plain) - 1);
    assert_memory_equal(s.data, plain, s.len);
    assert_true(llm_json_is(&js, plain, sizeof(plain) - 1));
    assert_false(llm_json_is(&js, plain, sizeof(plain) - 2));
    assert_false(llm_json_is(&js, "a\n\t\r\b\f/\\\"A\xc3\xa9 c",
                             sizeof(plain) - 1));

    check_memory_free(&m);
    check_memory(&m, 0, -1);

    assert_int_equal(llm_json_text(&js, &m.arena, &s), LLM_ERROR);

    /* nothing to decode: it lies in the text */

    llm_json_init(&js, (const unsigned char *) "\"model\"", 7);
    assert_int_equal(llm_json_next(&js), LLM_JSON_STRING);
    assert_int_equal(llm_json_text(&js, &m.arena, &s), LLM_OK);
    assert_ptr_equal(s.data, js.text + 1);
    assert_true(llm_json_is(&js, "model", 5));
    assert_false(llm_json_is(&js, "modem", 5));
}


/* people look for what is wrong: some faults are told apart */

static void
test_sentences(void **state)
{
    size_t      i;
    llm_json_t  js;

    static const char *const  told[][2] = {
        { "", "empty" },
        { " ", "complete" },
        { "01", "begin with 0" },
        { "-", "digit" },
        { "\xef\xbb\xbf{}", "byte order mark" },
        { "\"\\ud800\"", "surrogate" },
        { "\"\\q\"", "escape" },
        { "\"\\u00x0\"", "hexadecimal" },
        { "\"\n\"", "control" },
        { "\"\xff\"", "UTF-8" },
        { "nul!", "null" },
        { "?", "expected a value" }
    };

    (void) state;

    for (i = 0; i < sizeof(told) / sizeof(told[0]); i++) {
        llm_json_init(&js, (const unsigned char *) told[i][0],
                      strlen(told[i][0]));

        assert_int_equal(llm_json_next(&js), LLM_JSON_ERROR);
        assert_non_null(strstr(js.error, told[i][1]));
    }
}


static void
nest(unsigned n, const char *open, const char *close, long expected)
{
    char      text[1024];
    unsigned  i;

    text[0] = '\0';

    for (i = 0; i < n; i++) {
        strcat(text, open);
    }

    strcat(text, "1");

    for (i = 0; i < n; i++) {
        strcat(text, close);
    }

    assert_int_equal(scan((unsigned char *) text, strlen(text)), expected);
}


static void
test_depth(void **state)
{
    char    text[4096];
    size_t  i;

    (void) state;

    nest(64, "[", "]", OK);
    nest(65, "[", "]", 64);
    nest(64, "{\"a\":", "}", OK);
    nest(65, "{\"a\":", "}", 64 * 5);
    nest(32, "[{\"a\":", "}]", OK);
    nest(33, "[{\"a\":", "}]", 32 * 6);

    /* many in a row are not deep */

    text[0] = '[';

    for (i = 1; i < 4000; i += 3) {
        memcpy(text + i, "[],", 3);
    }

    memcpy(text + i - 1, "]", 1);
    assert_int_equal(scan((unsigned char *) text, i), OK);
}


static void
number(const char *text, int integer, int rc, int64_t value)
{
    int64_t     n;
    llm_json_t  js;

    llm_json_init(&js, (const unsigned char *) text, strlen(text));

    assert_int_equal(llm_json_next(&js), LLM_JSON_NUMBER);
    assert_int_equal(js.integer, integer);
    assert_int_equal(js.end - js.start, strlen(text));

    if (integer) {
        n = 4711;
        assert_int_equal(llm_json_integer(&js, &n), rc);

        if (rc == LLM_OK) {
            assert_true(n == value);
        }
    }
}


static void
test_numbers(void **state)
{
    (void) state;

    number("0", 1, LLM_OK, 0);
    number("-0", 1, LLM_OK, 0);
    number("7", 1, LLM_OK, 7);
    number("-12", 1, LLM_OK, -12);
    number("9223372036854775807", 1, LLM_OK, INT64_MAX);
    number("-9223372036854775808", 1, LLM_OK, INT64_MIN);
    number("9223372036854775808", 1, LLM_ERROR, 0);
    number("-9223372036854775809", 1, LLM_ERROR, 0);
    number("99999999999999999999999", 1, LLM_ERROR, 0);
    number("1.0", 0, 0, 0);
    number("1e0", 0, 0, 0);
    number("0.5", 0, 0, 0);
}


static const char  body[] =
    "{\"model\": \"gpt-4o\", \"messages\": [{\"role\": \"user\", \"content\":"
    " [{\"type\": \"text\", \"text\": \"caf\xc3\xa9 \\u00e9\\n\\ud83d\\ude00"
    " \xe4\xb8\xad\xe6\x96\x87 \\\"q\\\" \\\\\"}]}], \"temperature\": 0.70,"
    " \"n\": 1, \"stop\": [\"a\", null, true, false, -1.5e-3], \"x\": {}}";


/* no prefix of an object is whole; none is read beyond its end */

static void
test_prefixes(void **state)
{
    long            offset;
    size_t          len;
    unsigned char  *p;

    (void) state;

    assert_int_equal(scan((const unsigned char *) body, sizeof(body) - 1), OK);

    for (len = 0; len < sizeof(body) - 1; len++) {
        p = check_copy(body, len);
        offset = scan(p, len);

        if (offset == OK || (offset != (long) len && p[offset] < 0x80)) {
            fail_msg("prefix of %zu bytes: %ld", len, offset);
        }

        free(p);
    }
}


/* what another parser says of the same text */

static void
compare(const unsigned char *text, size_t len)
{
    long          offset;
    json_t       *json;
    json_error_t  error;

    offset = scan(text, len);

    json = json_loadb((const char *) text, len,
                      JSON_DECODE_ANY|JSON_ALLOW_NUL, &error);

    if (json == NULL && offset == OK
        && json_error_code(&error) != json_error_numeric_overflow
        && json_error_code(&error) != json_error_null_byte_in_key)
    {
        fail_msg("\"%.*s\": valid here only: %s", (int) len, text,
                 error.text);
    }

    if (json != NULL && offset != OK) {
        fail_msg("\"%.*s\": refused at %ld", (int) len, text, offset);
    }

    json_decref(json);
}


static void
test_mutations(void **state)
{
    int             i, j, n;
    size_t          len, at;
    uint32_t        seed;
    unsigned char  *p;

    static const char  bytes[] =
                             "{}[]\",:\\untfalse0123456789-+.eE \n\xc3\xa9";

    (void) state;

    seed = 20251121;

    for (i = 0; i < 200000; i++) {
        len = sizeof(body) - 1;
        p = check_copy(body, len);
        n = 1 + (int) (check_random(&seed) % 3);

        for (j = 0; j < n; j++) {
            at = check_random(&seed) % len;

            switch (check_random(&seed) % 4) {

            case 0:
                p[at] = (unsigned char) check_random(&seed);
                break;

            case 1:
                len = at + 1;
                break;

            case 2:
                memmove(p + at, p + at + 1, len - at - 1);
                len -= len > 1;
                break;

            default:
                p[at] = (unsigned char)
                        bytes[check_random(&seed) % (sizeof(bytes) - 1)];
            }
        }

        p = realloc(p, len);
        compare(p, len);
        free(p);
    }

    for (i = 0; i < (int) (sizeof(cases) / sizeof(cases[0])); i++) {
        compare((const unsigned char *) cases[i].text, cases[i].len);
    }
}


static void
test_tokens(void **state)
{
    size_t            i;
    llm_json_t        js;
    llm_json_token_e  token;

    static const char  text[] = " {\"a\" : [1, \"x\\n\", null], \"bc\":true} ";

    static const struct {
        llm_json_token_e  token;
        const char       *text;
        unsigned          depth;
    } expected[] = {
        { LLM_JSON_OBJECT, "{", 1 },
        { LLM_JSON_NAME, "\"a\"", 1 },
        { LLM_JSON_ARRAY, "[", 2 },
        { LLM_JSON_NUMBER, "1", 2 },
        { LLM_JSON_STRING, "\"x\\n\"", 2 },
        { LLM_JSON_NULL, "null", 2 },
        { LLM_JSON_ARRAY_END, "]", 1 },
        { LLM_JSON_NAME, "\"bc\"", 1 },
        { LLM_JSON_TRUE, "true", 1 },
        { LLM_JSON_OBJECT_END, "}", 0 }
    };

    (void) state;

    llm_json_init(&js, (const unsigned char *) text, sizeof(text) - 1);

    for (i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        token = llm_json_next(&js);

        assert_int_equal(token, expected[i].token);
        assert_int_equal(js.depth, expected[i].depth);
        assert_int_equal(js.end - js.start, strlen(expected[i].text));
        assert_memory_equal(js.start, expected[i].text,
                            strlen(expected[i].text));
    }

    assert_int_equal(llm_json_next(&js), LLM_JSON_END);
    assert_int_equal(llm_json_next(&js), LLM_JSON_END);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_cases),
        cmocka_unit_test(test_inside),
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_escapes),
        cmocka_unit_test(test_decode),
        cmocka_unit_test(test_sentences),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_prefixes),
        cmocka_unit_test(test_mutations),
        cmocka_unit_test(test_tokens)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
