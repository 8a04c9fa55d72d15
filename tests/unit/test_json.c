
/*
 * Copyright (C) the ngx-llm authors
 */


#include "json_check.h"

#include <jansson.h>

#include "core/llm_json.h"


#define OK  -1


typedef struct {
    const char           *text;
    size_t                len;
    long                  offset;           /* of the fault, or OK */
} json_case_t;


#define c(text, offset)  { text, sizeof(text) - 1, offset }


static const json_case_t  cases[] = {

    /* the values */

    c("{}", OK), c("[]", OK), c("null", OK), c("true", OK), c("false", OK),
    c("0", OK), c("\"\"", OK), c("\"a\"", OK), c("[[]]", OK), c("[{}]", OK),
    c("{\"a\":{}}", OK), c("{\"a\":[]}", OK), c("{\"\":0}", OK),
    c("[1,2]", OK), c("{\"a\":1,\"b\":2}", OK), c("[null,true,false]", OK),
    c("{\"a\":null,\"b\":[{}],\"c\":\"x\"}", OK), c("[\"a\",\"b\"]", OK),
    c("[[],[]]", OK), c("[{},{}]", OK), c("[{\"a\":1},{\"a\":1}]", OK),

    /* white space: these four bytes and no other */

    c(" 1 ", OK), c("\t[\n]\r", OK), c(" { \"a\" : 1 , \"b\" : 2 } ", OK),
    c("[ 1 , 2 ]", OK), c("\n\n\"a\"\n", OK), c("\r\n{}\r\n", OK),
    c("\f1", 0), c("\v1", 0), c("\xa0[]", 0), c("1\f", 1), c("[1\v]", 2),
    c("[\x01]", 1), c("\xc2\xa0[]", 0), c("[]\0", 2), c("[ \x1f]", 2),
    c("{\x1c\"a\":1}", 1), c("{\"a\"\x08:1}", 4), c("\xe2\x80\xa8""1", 0),

    /* nothing, or not enough */

    c("", 0), c(" ", 1), c("\n\t \r", 4), c("[", 1), c("{", 1), c("\"", 1),
    c("[1", 2), c("[1,", 3), c("[\"a\"", 4), c("{\"a\"", 4), c("{\"a\":", 5),
    c("{\"a\":1", 6), c("{\"a\":1,", 7), c("{\"", 2), c("{\"a", 3),
    c("[[]", 3), c("{\"a\":{}", 7), c("t", 1), c("tru", 3), c("fals", 4),
    c("nul", 3), c("-", 1), c("[1 ", 3), c("{ ", 2), c("\"\\", 2),
    c("\"\\u", 3), c("\"\\u1", 4), c("\"\\u123", 6), c("\"\\u1234", 7),
    c("\"\\ud83d", 7), c("\"\\ud83d\\", 8), c("\"\\ud83d\\u", 9),
    c("\"\\ud83d\\ude0", 12), c("\"\\ud83d\\ude00", 13),

    /* too much */

    c("{}{}", 2), c("[]]", 2), c("{}}", 2), c("1 2", 2), c("null,", 4),
    c("\"a\"b", 3), c("{} x", 3), c("[],", 2), c("1a", 1), c("truee", 4),
    c("[1]#", 3), c("{}/**/", 2), c("\"\"\"\"", 2), c("{}\xef\xbb\xbf", 2),
    c("[][]", 2), c("]", 0), c("}", 0), c(",", 0), c(":", 0),

    /* commas and colons */

    c("[,]", 1), c("[1,]", 3), c("[,1]", 1), c("[1,,2]", 3), c("[1 2]", 3),
    c("[1:2]", 2), c("{,}", 1), c("{\"a\":1,}", 7), c("{,\"a\":1}", 1),
    c("{\"a\":1,,\"b\":2}", 7), c("{\"a\" 1}", 5), c("{\"a\",1}", 4),
    c("{\"a\"::1}", 5), c("{\"a\":}", 5), c("{:1}", 1), c("{\"a\"}", 4),
    c("{\"a\":1 \"b\":2}", 7), c("{\"a\":1:2}", 6), c("[\"a\":1]", 4),
    c("{\"a\":1;\"b\":2}", 6), c("[\"a\" \"b\"]", 5),

    /* ends that do not match */

    c("[}", 1), c("{]", 1), c("[1}", 2), c("{\"a\":1]", 6), c("[{]}", 2),
    c("{\"a\":[}", 6), c("[[}]", 2),

    /* names */

    c("{1:1}", 1), c("{a:1}", 1), c("{null:1}", 1), c("{'a':1}", 1),
    c("{[]:1}", 1), c("{\"a\":1,b:2}", 7), c("{\"a\":1,2:2}", 7),
    c("{{}:1}", 1), c("{\"a\\q\":1}", 4), c("{\"\xff\":1}", 2),
    c("{\"\\u0061\":1}", OK), c("{\"a\nb\":1}", 3),

    /* literals */

    c("True", 0), c("TRUE", 0), c("trUe", 2), c("nULL", 1), c("nan", 1),
    c("NaN", 0), c("Infinity", 0), c("-Infinity", 1), c("-NaN", 1),
    c("undefined", 0), c("[fAlse]", 2), c("[truth]", 4), c("[nil]", 2),
    c("'a'", 0), c("{\"a\":tru}", 8), c("[f]", 2), c("/**/1", 0),
    c("//\n1", 0), c("#1", 0),

    /* numbers */

    c("-0", OK), c("1", OK), c("-1", OK), c("10", OK), c("1.5", OK),
    c("-0.0", OK), c("0.1", OK), c("1e5", OK), c("1E5", OK), c("1e+5", OK),
    c("1e-5", OK), c("1.5e5", OK), c("0e0", OK), c("0e00", OK),
    c("1e0005", OK), c("123456789012345678901234567890", OK),
    c("1e400", OK), c("0.00000000000000000000000000001", OK), c("-1.0E-1", OK),
    c("[0,0]", OK), c("[-1]", OK), c("[1.0e1]", OK), c("{\"a\":-0.5}", OK),
    c("01", 1), c("-01", 2), c("00", 1), c("+1", 0), c(".5", 0), c("-.5", 1),
    c("1.", 2), c("1.e5", 2), c("1e", 2), c("1e+", 3), c("1e-", 3),
    c("1e5.5", 3), c("1.5.5", 3), c("--1", 1), c("-a", 1), c("1e1e1", 3),
    c("0x10", 1), c("1_000", 1), c("1,000", 1), c("[1.]", 3), c("[1e]", 3),
    c("[-]", 2), c("[0 1]", 3), c("[1.5e+]", 6), c("\xef\xbc\x91", 0),
    c("-e1", 1), c("[01]", 2), c("2.e+3", 2), c("0.e1", 2), c("1ea", 2),

    /* escapes */

    c("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", OK), c("\"\\u0000\"", OK),
    c("\"\\u00e9\\u00E9\"", OK), c("\"\\uFFFF\\ufffe\"", OK),
    c("\"\\ud83d\\ude00\"", OK), c("\"\\uD834\\uDd1e\"", OK),
    c("\"\\udbff\\udfff\"", OK), c("\"\\ud800\\udc00\"", OK),
    c("\"\\ud7ff\\ue000\"", OK),
    c("\"\\a\"", 2), c("\"\\x41\"", 2), c("\"\\'\"", 2), c("\"\\0\"", 2),
    c("\"\\U0041\"", 2), c("\"\\ \"", 2), c("\"\\\n\"", 2), c("\"\\v\"", 2),
    c("\"\\\xff\"", 2), c("\"\\\0\"", 2), c("\"\\N\"", 2),
    c("\"\\u\"", 3), c("\"\\u00\"", 5), c("\"\\u00g0\"", 5),
    c("\"\\u 041\"", 3), c("\"\\u+041\"", 3), c("\"\\u004\"", 6),
    c("\"\\u-041\"", 3), c("\"\\u0x41\"", 4), c("\"\\u{41}\"", 3),
    c("\"\\u00`0\"", 5), c("\"\\u00@0\"", 5), c("\"\\u00/0\"", 5),
    c("\"\\u00:0\"", 5), c("\"\\u00\xe1""0\"", 5),
    c("\"\\ud800\"", 1), c("\"\\udc00\"", 1), c("\"\\ud83dx\"", 1),
    c("\"\\ud83d\\n\"", 1), c("\"\\ud83d\\u0041\"", 1),
    c("\"\\ud83d\\ud83d\"", 1), c("\"\\ude00\\ud83d\"", 1),
    c("\"\\udfff\"", 1), c("\"\\uDBFF\"", 1), c("\"\\ud83d\\udbff\"", 1),
    c("\"\\ud83d\\ue000\"", 1), c("\"\\ud83d\\u12\"", 11),
    c("\"ab\\ud83d\"", 3), c("\"\\ud83d\\ude00\\ude00\"", 13),
    c("\"\\ud83d \\ude00\"", 1),

    /* control characters, but DEL is none to JSON */

    c("\"\n\"", 1), c("\"a\tb\"", 2), c("\"\0\"", 1), c("\"\x1f\"", 1),
    c("\"\x7f\"", OK), c("\"0123456789abcdef\x01\"", 17),
    c("\"\r\"", 1), c("[\"a\x08\"]", 3),

    /* UTF-8 */

    c("\"\xc3\xa9\"", OK), c("\"\xe2\x82\xac\"", OK),
    c("\"\xf0\x9f\x98\x80\"", OK), c("\"\xc2\x80\"", OK),
    c("\"\xdf\xbf\"", OK), c("\"\xe0\xa0\x80\"", OK),
    c("\"\xed\x9f\xbf\"", OK), c("\"\xee\x80\x80\"", OK),
    c("\"\xef\xbf\xbf\"", OK), c("\"\xf0\x90\x80\x80\"", OK),
    c("\"\xf4\x8f\xbf\xbf\"", OK), c("\"\xef\xbb\xbf\"", OK),
    c("\"\xe2\x80\xa8\"", OK), c("\"\xc2\x80x\xdf\xbfy\"", OK),
    c("\"\x80\"", 1), c("\"\xbf\"", 1), c("\"\xc0\x80\"", 1),
    c("\"\xc1\xbf\"", 1), c("\"\xc3\"", 1), c("\"\xc3(\"", 1),
    c("\"\xe0\x80\x80\"", 1), c("\"\xe0\x9f\xbf\"", 1),
    c("\"\xed\xa0\x80\"", 1), c("\"\xed\xbf\xbf\"", 1),
    c("\"\xe2\x82\"", 1), c("\"\xe2(\xac\"", 1), c("\"\xe2\x82(\"", 1),
    c("\"\xf0\x80\x80\x80\"", 1), c("\"\xf0\x8f\xbf\xbf\"", 1),
    c("\"\xf4\x90\x80\x80\"", 1), c("\"\xf5\x80\x80\x80\"", 1),
    c("\"\xf8\x88\x80\x80\x80\"", 1), c("\"\xfe\"", 1), c("\"\xff\"", 1),
    c("\"\xf0\x9f\x98\"", 1), c("\"\xf0\x9f(\x80\"", 1),
    c("\"a\xc3\xa9\xc3\"", 4), c("\"\xc3\xa9\xa9\"", 3),
    c("\"\xe9\"", 1), c("\"0123456789abcdef\xff\"", 17),
    c("\xff", 0), c("[\xc3\xa9]", 1),

    /* byte order marks */

    c("\xef\xbb\xbf{}", 0), c("\xff\xfe{\0}\0", 0), c(" \xef\xbb\xbf{}", 1),
    c("\0{", 0)
};


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
        snprintf(text, sizeof(text), code & 1 ? "\"\\u%04x!\"" : "\"\\u%04X!\"",
                 code);

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

    static const char  text[] = "\"a\\n\\t\\r\\b\\f\\/\\\\\\\"\\u0041\\u00e9 b\"";
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

    static const char  bytes[] = "{}[]\",:\\untfalse0123456789-+.eE \n\xc3\xa9";

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
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_prefixes),
        cmocka_unit_test(test_mutations),
        cmocka_unit_test(test_tokens)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
