
/*
 * Copyright (C) the ngx-llm authors
 */


#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <cmocka.h>
#include <jansson.h>

#include "core/llm_span.h"


#define TRACE  "4bf92f3577b34da6a3ce929d0e0e4736"
#define SPAN   "00f067aa0ba902b7"


static int
parse(llm_trace_t *tr, const char *s)
{
    int             rc;
    size_t          len;
    unsigned char  *p;

    /* in a block of its own, so that a read behind it is seen */

    len = strlen(s);
    p = malloc(len ? len : 1);
    assert_non_null(p);
    memcpy(p, s, len);

    memset(tr, 0, sizeof(llm_trace_t));
    rc = llm_trace_parse(tr, p, len);

    free(p);

    return rc;
}


static void
test_traceparent(void **state)
{
    unsigned     i;
    llm_trace_t  tr, none;

    static const struct {
        const char  *text;
        unsigned     sampled;
        unsigned     random;
    } good[] = {
        { "00-" TRACE "-" SPAN "-00", 0, 0 },
        { "00-" TRACE "-" SPAN "-01", 1, 0 },
        { "00-" TRACE "-" SPAN "-03", 1, 1 },
        { "00-" TRACE "-" SPAN "-ff", 1, 1 },
        { "00-" TRACE "-" SPAN "-fe", 0, 1 },
        { "01-" TRACE "-" SPAN "-01", 1, 0 },
        { "cc-" TRACE "-" SPAN "-01-what-comes-later", 1, 0 },
        { "fe-" TRACE "-" SPAN "-01-", 1, 0 }
    };

    static const char  *bad[] = {
        "",
        "00",
        "00-" TRACE "-" SPAN "-0",
        "00-" TRACE "-" SPAN "-011",
        "00-" TRACE "-" SPAN "-01-",
        "00-" TRACE "-" SPAN "-01-x",
        "01-" TRACE "-" SPAN "-01x",
        "ff-" TRACE "-" SPAN "-01",
        "0g-" TRACE "-" SPAN "-01",
        "0A-" TRACE "-" SPAN "-01",
        "00-" TRACE "-" SPAN "-0x",
        "00_" TRACE "-" SPAN "-01",
        "00-" TRACE "_" SPAN "-01",
        "00-" TRACE "-" SPAN "_01",
        "00-00000000000000000000000000000000-" SPAN "-01",
        "00-" TRACE "-0000000000000000-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-" SPAN "-01",
        "00-" TRACE "-00F067AA0BA902B7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e473-" SPAN "-010",
        " 0-" TRACE "-" SPAN "-01"
    };

    (void) state;

    for (i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_int_equal(parse(&tr, good[i].text), LLM_OK);
        assert_memory_equal(tr.trace, TRACE, LLM_TRACE_ID_LEN);
        assert_memory_equal(tr.parent, SPAN, LLM_SPAN_ID_LEN);
        assert_int_equal(tr.known, 1);
        assert_int_equal(tr.sampled, good[i].sampled);
        assert_int_equal(tr.random, good[i].random);
    }

    memset(&none, 0, sizeof(none));

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(parse(&tr, bad[i]), LLM_DECLINED);
        assert_memory_equal(&tr, &none, sizeof(none));
    }
}


static void
test_ids(void **state)
{
    llm_trace_t    tr, again;
    unsigned char  text[LLM_TRACEPARENT_LEN];

    static const uint32_t  zero[4];
    static const uint32_t  word[4] = { 0x89abcdef, 1, 0, 0xf0000000 };

    (void) state;

    memset(&tr, 0, sizeof(tr));

    llm_trace_id(tr.trace, LLM_TRACE_ID_LEN, word);
    assert_memory_equal(tr.trace, "fedcba9810000000000000000000000f", 32);

    llm_trace_id(tr.span, LLM_SPAN_ID_LEN, zero);
    assert_memory_equal(tr.span, "0000000000000001", 16);

    tr.sampled = 1;

    llm_trace_write(text, &tr, tr.span);
    assert_memory_equal(text, "00-fedcba9810000000000000000000000f-"
                        "0000000000000001-01", LLM_TRACEPARENT_LEN);

    memset(&again, 0, sizeof(again));
    assert_int_equal(llm_trace_parse(&again, text, LLM_TRACEPARENT_LEN),
                     LLM_OK);
    assert_int_equal(again.sampled, 1);

    tr.sampled = 0;
    tr.random = 1;

    llm_trace_write(text, &tr, tr.span);
    assert_memory_equal(text + 52, "-02", 3);
}


static void
test_tracestate(void **state)
{
    int            i;
    unsigned char  long_one[LLM_TRACESTATE_LEN + 1];

    (void) state;

#define state_of(s)  llm_trace_state((const unsigned char *) s, sizeof(s) - 1)

    assert_int_equal(state_of("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"),
                     LLM_OK);
    assert_int_equal(state_of("a=1 , b=2\t,c@d=3"), LLM_OK);
    assert_int_equal(state_of(""), LLM_DECLINED);
    assert_int_equal(state_of("no member"), LLM_DECLINED);
    assert_int_equal(state_of("a=1\r\nX: 1"), LLM_DECLINED);
    assert_int_equal(state_of("a=\xc3\xa4"), LLM_DECLINED);

    memset(long_one, 'a', sizeof(long_one));
    long_one[1] = '=';

    assert_int_equal(llm_trace_state(long_one, LLM_TRACESTATE_LEN), LLM_OK);
    assert_int_equal(llm_trace_state(long_one, LLM_TRACESTATE_LEN + 1),
                     LLM_DECLINED);

    for (i = 2; i < 64; i += 2) {
        long_one[i] = ',';
    }

    assert_int_equal(llm_trace_state(long_one, 200), LLM_OK);
    long_one[64] = ',';
    assert_int_equal(llm_trace_state(long_one, 200), LLM_DECLINED);
}


static void
span(llm_span_t *sp)
{
    memset(sp, 0, sizeof(llm_span_t));

    sp->trace = (const unsigned char *) TRACE;
    sp->id = (const unsigned char *) SPAN;
    sp->operation = "chat";
    sp->subject.data = (unsigned char *) "gpt-4o";
    sp->subject.len = 6;
    sp->kind = LLM_SPAN_SERVER;
    sp->start = 1700000000123;
    sp->end = 1700000000456;
}


static json_t *
load(const unsigned char *p, size_t len)
{
    json_t        *json;
    json_error_t   error;

    json = json_loadb((const char *) p, len, JSON_REJECT_DUPLICATES, &error);

    if (json == NULL) {
        print_message("%s at %d of \"%.*s\"\n", error.text, error.position,
                      (int) len, (const char *) p);
    }

    assert_non_null(json);

    return json;
}


static const char *
text(json_t *json, const char *key)
{
    return json_string_value(json_object_get(json, key));
}


static json_t *
value(json_t *json, size_t i, const char *type)
{
    return json_object_get(json_object_get(json_array_get(json, i), "value"),
                           type);
}


static void
test_span(void **state)
{
    size_t         len;
    json_t        *json, *attrs;
    llm_span_t     sp;
    unsigned char  buf[4096];

    (void) state;

    span(&sp);

    sp.parent = (const unsigned char *) "b7ad6b7169203331";
    sp.failed = 1;

    llm_span_text(&sp, "error.type", "429", 3);
    llm_span_text(&sp, "left.out", "", 0);
    llm_span_number(&sp, "tokens", LLM_SPAN_INT, INT64_MIN);
    llm_span_number(&sp, "cost", LLM_SPAN_MICRO, 1000042);
    llm_span_number(&sp, "loss", LLM_SPAN_MICRO, -42);
    llm_span_number(&sp, "stream", LLM_SPAN_BOOL, 1);

    len = llm_span_write(buf, sizeof(buf), &sp);
    json = load(buf, len);

    assert_string_equal(text(json, "traceId"), TRACE);
    assert_string_equal(text(json, "spanId"), SPAN);
    assert_string_equal(text(json, "parentSpanId"), "b7ad6b7169203331");
    assert_string_equal(text(json, "name"), "chat gpt-4o");
    assert_int_equal(json_integer_value(json_object_get(json, "kind")), 2);
    assert_string_equal(text(json, "startTimeUnixNano"),
                        "1700000000123000000");
    assert_string_equal(text(json, "endTimeUnixNano"),
                        "1700000000456000000");
    assert_int_equal(json_integer_value(json_object_get(
                         json_object_get(json, "status"), "code")), 2);

    attrs = json_object_get(json, "attributes");
    assert_int_equal(json_array_size(attrs), 5);

    assert_string_equal(text(json_array_get(attrs, 0), "key"), "error.type");
    assert_string_equal(json_string_value(value(attrs, 0, "stringValue")),
                        "429");
    assert_string_equal(json_string_value(value(attrs, 1, "intValue")),
                        "-9223372036854775808");
    assert_true(json_real_value(value(attrs, 2, "doubleValue")) == 1.000042);
    assert_true(json_real_value(value(attrs, 3, "doubleValue")) == -0.000042);
    assert_true(json_is_true(value(attrs, 4, "boolValue")));

    json_decref(json);

    /* a root, and an end before the start */

    sp.parent = NULL;
    sp.failed = 0;
    sp.nattrs = 0;
    sp.end = 1;
    sp.subject.len = 0;

    len = llm_span_write(buf, sizeof(buf), &sp);
    json = load(buf, len);

    assert_null(json_object_get(json, "parentSpanId"));
    assert_null(json_object_get(json, "status"));
    assert_string_equal(text(json, "name"), "chat");
    assert_string_equal(text(json, "endTimeUnixNano"),
                        "1700000000123000000");

    json_decref(json);
}


/* any bytes come out as JSON that a collector takes, and no more of them */

static void
test_text(void **state)
{
    size_t         len, i;
    json_t        *json;
    llm_span_t     sp;
    const char    *s;
    unsigned char  buf[65536], any[1024];

    (void) state;

    span(&sp);
    sp.subject.data = (unsigned char *) "a\"b\\c\n\x01\x7f"
                      "d\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80";
    sp.subject.len = strlen((const char *) sp.subject.data);

    len = llm_span_write(buf, sizeof(buf), &sp);
    json = load(buf, len);
    assert_string_equal(text(json, "name"), "chat a\"b\\c\n\x01\x7f"
                        "d\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80");
    json_decref(json);

    /* no UTF-8: a lone byte, too long, a surrogate, too large, torn off */

    sp.subject.data = (unsigned char *) "\x80 \xc0\x80 \xed\xa0\x80 "
                                        "\xf4\x90\x80\x80 \xff \xe2\x82";
    sp.subject.len = strlen((const char *) sp.subject.data);

    len = llm_span_write(buf, sizeof(buf), &sp);
    json = load(buf, len);
    assert_string_equal(text(json, "name"), "chat ? ?? ??? ???? ? ??");
    json_decref(json);

    /* cut, and between two characters */

    for (i = 0; i < 900; i += 3) {
        memcpy(any + i, "\xe2\x82\xac", 3);
    }

    sp.subject.data = any;
    sp.subject.len = 900;

    len = llm_span_write(buf, sizeof(buf), &sp);
    json = load(buf, len);
    s = text(json, "name");
    assert_int_equal(strlen(s), 5 + LLM_SPAN_TEXT / 3 * 3);
    json_decref(json);

    srand(1);

    for (i = 0; i < 2000; i++) {

        for (len = 0; len < sizeof(any); len++) {
            any[len] = (unsigned char) (rand() >> 7);
        }

        span(&sp);
        sp.subject.data = any;
        sp.subject.len = (size_t) rand() % sizeof(any);

        while (sp.nattrs < LLM_SPAN_ATTRS) {
            llm_span_text(&sp, "k", any, 1 + (size_t) rand() % 700);
        }

        llm_span_text(&sp, "k", any, 1);
        llm_span_number(&sp, "k", LLM_SPAN_INT, 1);
        assert_int_equal(sp.nattrs, LLM_SPAN_ATTRS);

        len = llm_span_write(buf, sizeof(buf), &sp);
        assert_true(len != 0);
        json_decref(load(buf, len));
    }
}


/* with less room than it takes nothing is written behind the end */

static void
test_room(void **state)
{
    size_t          len, size;
    json_t         *json, *spans;
    llm_str_t       service, instance;
    llm_span_t      sp;
    unsigned char  *p, buf[4096];

    (void) state;

    span(&sp);
    llm_span_text(&sp, "a", "\"\"", 2);
    llm_span_number(&sp, "b", LLM_SPAN_MICRO, INT64_MIN);

    len = llm_span_write(buf, sizeof(buf), &sp);

    for (size = 0; size <= len; size++) {
        p = malloc(size ? size : 1);
        assert_non_null(p);
        assert_int_equal(llm_span_write(p, size, &sp),
                         size < len ? 0 : len);
        free(p);
    }

    service.data = (unsigned char *) "my \"service\"";
    service.len = 12;
    instance.data = (unsigned char *) "host:1";
    instance.len = 6;

    assert_int_equal(llm_span_head(buf, 40, &service, &instance, "1.2"), 0);
    assert_int_equal(llm_span_tail(buf, 3), 0);

    len = llm_span_head(buf, sizeof(buf), &service, &instance, "1.2");
    len += llm_span_write(buf + len, sizeof(buf) - len, &sp);
    buf[len++] = ',';
    len += llm_span_write(buf + len, sizeof(buf) - len, &sp);
    len += llm_span_tail(buf + len, sizeof(buf) - len);

    json = load(buf, len);
    json_t *rs = json_array_get(json_object_get(json, "resourceSpans"), 0);
    json_t *attrs = json_object_get(json_object_get(rs, "resource"),
                                    "attributes");
    assert_string_equal(json_string_value(value(attrs, 0, "stringValue")),
                        "my \"service\"");
    json_t *ss = json_array_get(json_object_get(rs, "scopeSpans"), 0);
    assert_string_equal(text(json_object_get(ss, "scope"), "name"),
                        "ngx-llm");
    spans = json_object_get(ss, "spans");
    assert_int_equal(json_array_size(spans), 2);
    json_decref(json);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_traceparent),
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_tracestate),
        cmocka_unit_test(test_span),
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_room)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
