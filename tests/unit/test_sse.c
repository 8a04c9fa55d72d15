
/*
 * Copyright (C) the ngx-llm authors
 */


#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <cmocka.h>

#include "core/llm_sse.h"


/* what came of a stream: data and bits of the events that have any */

typedef struct {
    unsigned char        *text;
    size_t                len;
    size_t                size;
    size_t                consumed;
    unsigned              events;
} log_t;


static void
log_put(log_t *log, const void *p, size_t len)
{
    if (log->size - log->len < len) {
        log->size = (log->size + len) * 2;
        log->text = realloc(log->text, log->size);
    }

    memcpy(log->text + log->len, p, len);
    log->len += len;
}


/* exactly the memory an event has, as a checker of memory wants it */

static unsigned char *
own(const unsigned char *p, size_t len)
{
    unsigned char  *copy;

    copy = malloc(len == 0 ? 1 : len);
    memcpy(copy, p, len);

    return copy;
}


static void *
get(void *data, size_t size)
{
    void  **block = data;

    assert_null(*block);
    *block = malloc(size);

    return *block;
}


static void
log_event(log_t *log, llm_endpoint_e endpoint, const unsigned char *p,
    size_t len)
{
    int             rc;
    char            head[64];
    void           *block;
    unsigned        bits;
    llm_str_t       data;
    llm_usage_t     usage;
    llm_arena_t     arena;
    unsigned char  *event, *same;

    event = own(p, len);
    same = own(p, len);
    block = NULL;

    arena.pos = NULL;
    arena.end = NULL;
    arena.left = 16 * 1024 * 1024;
    arena.alloc = get;
    arena.data = &block;

    memset(&usage, 0, sizeof(llm_usage_t));
    bits = llm_sse_classify(endpoint, event, len, &usage, NULL);
    rc = llm_sse_data(event, len, &arena, &data);

    assert_int_equal(rc, bits & LLM_SSE_DATA ? LLM_OK : LLM_DECLINED);
    assert_memory_equal(event, same, len);

    if (bits != 0) {
        snprintf(head, sizeof(head), "<%x %d>", bits,
                 (int) usage.total_tokens);
        log_put(log, head, strlen(head));
    }

    if (rc == LLM_OK) {
        log_put(log, data.data, data.len);
        log_put(log, "\n", 1);
    }

    log->events++;

    free(block);
    free(same);
    free(event);
}


/* feeds "text" as it comes, each piece "step" bytes, the first "first" */

static void
feed(log_t *log, llm_endpoint_e endpoint, const unsigned char *text,
    size_t len, size_t first, size_t step)
{
    size_t          have, scan, n, start;
    unsigned char  *window;

    memset(log, 0, sizeof(log_t));

    scan = 0;
    start = 0;
    have = 0;

    while (have < len) {
        n = have == 0 ? first : step;
        have += n < len - have ? n : len - have;

        /* the same bytes at another place */

        window = own(text + start, have - start);
        n = 0;

        for ( ;; ) {
            size_t  size;

            size = llm_sse_next(window + n, have - start - n, &scan);

            if (size == 0) {
                assert_int_equal(scan, have - start - n);
                break;
            }

            assert_true(size <= have - start - n);

            log_event(log, endpoint, window + n, size);

            n += size;
            scan = 0;
        }

        start += n;
        free(window);
    }

    log->consumed = start;
    log_put(log, "", 1);
}


/* the same events at every split in two, byte by byte, and in small pieces */

static void
assert_stream(const char *text, size_t len, const char *expected)
{
    size_t                i;
    log_t                 log;
    const unsigned char  *p;

    p = (const unsigned char *) text;

    for (i = 1; i <= len; i++) {
        feed(&log, LLM_CHAT, p, len, i, len);
        assert_string_equal((char *) log.text, expected);
        free(log.text);

        feed(&log, LLM_CHAT, p, len, i, i);
        assert_string_equal((char *) log.text, expected);
        free(log.text);
    }
}


#define assert_events(s, expected)  assert_stream(s, sizeof(s) - 1, expected)


static void
test_line_ends(void **state)
{
    (void) state;

    assert_events("data: a\n\ndata: b\n\n", "<1 0>a\n<1 0>b\n");
    assert_events("data: a\r\n\r\ndata: b\r\n\r\n", "<1 0>a\n<1 0>b\n");
    assert_events("data: a\r\rdata: b\r\r", "<1 0>a\n<1 0>b\n");

    assert_events("data: a\n\r\ndata: b\r\n\ndata: c\r\r\ndata: d\r\n\r"
                  "data: e\n\rdata: f\r\n\r\n",
                  "<1 0>a\n<1 0>b\n<1 0>c\n<1 0>d\n<1 0>e\n<1 0>f\n");

    assert_events("\n\n\r\r\n\ndata: a\n\n\n\r\n\n\rdata: b\n\n",
                  "<1 0>a\n<1 0>b\n");
}


/* lengths, blank lines included, and what is remembered between calls */

static void
test_next(void **state)
{
    unsigned  i;
    size_t    scan;

    static const struct {
        const char  *text;
        size_t       len;
    } table[] = {
        { "", 0 }, { "\n", 0 }, { "\n\n\n\n", 0 }, { "\r\n\r\n", 0 },
        { "data: a", 0 }, { "data: a\n", 0 }, { "data: a\r", 0 },
        { "data: a\r\n", 0 },
        { "data: a\n\n", 9 }, { "data: a\n\nd", 9 }, { "data: a\n\n\n", 9 },
        { "data: a\r\n\r\n", 11 }, { "data: a\r\n\r", 10 },
        { "data: a\r\n\rd", 10 }, { "data: a\r\r", 9 },
        { "data: a\r\r\n", 10 }, { "data: a\r\r\r", 9 },
        { "data: a\n\r", 9 }, { "data: a\n\r\n", 10 },
        { "\n\ndata: a\n\n", 11 }, { "\r\n\r\ndata: a\n\n", 13 },
        { ": x\n\n", 5 }, { ": x\ndata: a\n\n", 13 }, { ":\n\n", 3 },
        { "x\n\n", 3 }, { "\xef\xbb\xbf" "data: a\n\n", 12 }
    };

    (void) state;

    for (i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        scan = 0;
        assert_int_equal(llm_sse_next((const unsigned char *) table[i].text,
                                      strlen(table[i].text), &scan),
                         table[i].len);

        if (table[i].len == 0) {
            assert_int_equal(scan, strlen(table[i].text));
        }
    }

    /* what has been looked at is not looked at again */

    scan = 10;
    assert_int_equal(llm_sse_next((const unsigned char *)
                                  "aaaa\n\naaaaaaaa\n\n", 16, &scan), 16);
}


static void
test_fields(void **state)
{
    (void) state;

    assert_events("data:a\n\n", "<1 0>a\n");
    assert_events("data:  a \n\n", "<1 0> a \n");
    assert_events("data\n\n", "<1 0>\n");
    assert_events("data:\n\n", "<1 0>\n");
    assert_events("data: a\ndata: b\ndata\ndata:c\n\n",
                  "<1 0>a\nb\n\nc\n");
    assert_events("data: a\r\ndata: b\rdata: c\r\n\r\n", "<1 0>a\nb\nc\n");
    assert_events("id: 7\nevent: x\nretry: 10\ndata: a\nid: 8\n\n",
                  "<1 0>a\n");
    assert_events(": data: a\n\n:\n\n: ping\ndata: b\n: c\n\n", "<1 0>b\n");
    assert_events("event: ping\n\nretry: 1\n\nid: 1\n\n", "");
    assert_events("Data: a\nDATA: b\ndatax: c\n data: d\ndat: e\n\n", "");
    assert_events("\xef\xbb\xbf" "data: a\n\ndata: b\n\n",
                  "<1 0>a\n<1 0>b\n");
    assert_events("\xef\xbb\xbf" ": x\n\n", "");
    assert_events("data: a\r\n\r\n\xef\xbb\xbf" "data: b\n\n",
                  "<1 0>a\n<1 0>b\n");
}


static void
test_bytes(void **state)
{
    size_t  i;
    log_t   log;

    static const char  text[] = "data: a\0b\n\0\ndata: \xff\xc3\0\xe2\x82\n\n";
    static const char  want[] = "<1 0>a\0b\n\xff\xc3\0\xe2\x82\n";

    (void) state;

    for (i = 1; i < sizeof(text); i++) {
        feed(&log, LLM_CHAT, (const unsigned char *) text, sizeof(text) - 1,
             i, i);

        assert_int_equal(log.events, 1);
        assert_int_equal(log.len, sizeof(want));
        assert_memory_equal(log.text, want, sizeof(want));
        free(log.text);
    }
}


static void
test_large(void **state)
{
    log_t           log;
    size_t          len, i, scan;
    unsigned        crlf;
    unsigned char  *p;

    (void) state;

    for (crlf = 0; crlf < 2; crlf++) {

        len = 1024 * 1024;
        p = malloc(len + 4);
        memset(p, 'x', len);
        memcpy(p, "data: ", 6);
        memcpy(p + len, crlf ? "\r\n\r\n" : "\n\n", crlf ? 4 : 2);
        len += crlf ? 4 : 2;

        scan = 0;

        for (i = 0; i < len - 1; i++) {
            if (llm_sse_next(p, i, &scan) != 0) {
                break;
            }
        }

        assert_int_equal(i, len - 1);
        assert_int_equal(llm_sse_next(p, len, &scan), len);

        feed(&log, LLM_CHAT, p, len, 65536, 65536);
        assert_int_equal(log.events, 1);
        assert_int_equal(log.len, 5 + len - 6 - (crlf ? 4 : 2) + 2);
        free(log.text);
        free(p);
    }
}


static void
test_stream(void **state)
{
    (void) state;

    assert_events(
        ": hello\n\n"
        "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"},"
        "\"finish_reason\":null}],\"usage\":null}\n\n"
        "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}],"
        "\"usage\":null}\r\n\r\n"
        ": keepalive\n"
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,"
        "\"completion_tokens\":2,\"total_tokens\":3}}\n\n"
        "data: [DONE]\n\n",

        "<1 0>{\"choices\":[{\"delta\":{\"content\":\"Hi\"},"
        "\"finish_reason\":null}],\"usage\":null}\n"
        "<9 0>{\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}],"
        "\"usage\":null}\n"
        "<31 3>{\"choices\":[],\"usage\":{\"prompt_tokens\":1,"
        "\"completion_tokens\":2,\"total_tokens\":3}}\n"
        "<5 0>[DONE]\n");

    assert_events("data: {\"a\":1,\ndata: \"error\":\ndata: {\"x\":1}}\n\n"
                  "event: error\rdata: {}\r\r",
                  "<3 0>{\"a\":1,\n\"error\":\n{\"x\":1}}\n<3 0>{}\n");
}


static void
test_data_memory(void **state)
{
    void           *block;
    llm_str_t       data;
    llm_arena_t     arena;
    unsigned char   one[] = "id: 1\ndata: abc\n\n";
    unsigned char   two[] = "data: abc\ndata\ndata:de\n\n";
    unsigned char   buf[16] __attribute__((aligned(8)));

    (void) state;

    memset(&arena, 0, sizeof(llm_arena_t));

    assert_int_equal(llm_sse_data(one, sizeof(one) - 1, &arena, &data),
                     LLM_OK);
    assert_ptr_equal(data.data, one + 12);
    assert_int_equal(data.len, 3);

    /* there is no memory, too little, just enough, and some to be had */

    assert_int_equal(llm_sse_data(two, sizeof(two) - 1, &arena, &data),
                     LLM_ERROR);

    arena.pos = buf;
    arena.end = buf + 7;
    assert_int_equal(llm_sse_data(two, sizeof(two) - 1, &arena, &data),
                     LLM_ERROR);

    arena.end = buf + 8;
    assert_int_equal(llm_sse_data(two, sizeof(two) - 1, &arena, &data),
                     LLM_OK);
    assert_int_equal(data.len, 7);
    assert_memory_equal(data.data, "abc\n\nde", 7);

    block = NULL;
    arena.alloc = get;
    arena.data = &block;
    arena.left = 4096;
    assert_int_equal(llm_sse_data(two, sizeof(two) - 1, &arena, &data),
                     LLM_OK);
    assert_ptr_equal(data.data, block);
    assert_memory_equal(data.data, "abc\n\nde", 7);
    free(block);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_line_ends),
        cmocka_unit_test(test_next),
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_large),
        cmocka_unit_test(test_stream),
        cmocka_unit_test(test_data_memory)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
