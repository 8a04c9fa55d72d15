
/*
 * Copyright (C) the ngx-llm authors
 */


#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <cmocka.h>

#include "core/llm_http.h"


#define HEAD  512


typedef struct {
    int           rc;                       /* the last one */
    unsigned      status;
    size_t        left;                     /* bytes that are not its own */
    size_t        len;
    char          body[4096];
    char          type[64];
} answer_t;


/* in pieces of "step" bytes, each in memory of its own */

static void
feed(answer_t *an, const char *text, size_t len, size_t step, int bodiless)
{
    int                   rc;
    size_t                pos, n;
    llm_str_t             part, value;
    llm_http_t            h;
    unsigned char        *head, *piece;
    const unsigned char  *p;

    memset(an, 0, sizeof(answer_t));
    head = malloc(HEAD);

    llm_http_init(&h, head, HEAD);
    h.bodiless = bodiless;

    rc = LLM_AGAIN;

    for (pos = 0; pos < len && rc == LLM_AGAIN; pos += n) {
        n = step < len - pos ? step : len - pos;

        piece = malloc(n);
        memcpy(piece, text + pos, n);
        p = piece;

        while ((rc = llm_http_next(&h, &p, piece + n, &part)) == LLM_OK) {
            assert_true(part.len > 0);
            assert_true(part.data >= piece && part.data + part.len <= p);
            assert_true(an->len + part.len <= sizeof(an->body));

            memcpy(an->body + an->len, part.data, part.len);
            an->len += part.len;
        }

        if (rc == LLM_AGAIN) {
            assert_ptr_equal(p, piece + n);
        }

        an->left = len - pos - (size_t) (p - piece);
        free(piece);
    }

    if (rc == LLM_AGAIN) {
        rc = llm_http_eof(&h);
    }

    an->rc = rc;
    an->status = h.status;

    if (rc == LLM_HTTP_END
        && llm_http_header(&h, "content-type", 12, &value) == LLM_OK)
    {
        assert_true(value.data >= head && value.data + value.len <= head
                                                                   + HEAD);
        assert_true(value.len < sizeof(an->type));
        memcpy(an->type, value.data, value.len);
    }

    free(head);
}


static void
same(answer_t *an, const char *text, size_t len, int bodiless)
{
    size_t    step;
    answer_t  other;

    feed(an, text, len, len, bodiless);

    for (step = 1; step < 20; step++) {
        feed(&other, text, len, step, bodiless);

        assert_int_equal(other.rc, an->rc);

        if (an->rc == LLM_ERROR) {
            continue;
        }

        assert_int_equal(other.status, an->status);
        assert_int_equal(other.len, an->len);
        assert_int_equal(other.left, an->left);
        assert_memory_equal(other.body, an->body, an->len);
        assert_string_equal(other.type, an->type);
    }
}


static void
good(const char *text, unsigned status, const char *body, size_t left)
{
    answer_t  an;

    same(&an, text, strlen(text), 0);

    if (an.rc != LLM_HTTP_END) {
        fail_msg("%d for %s", an.rc, text);
    }

    assert_int_equal(an.status, status);
    assert_int_equal(an.len, strlen(body));
    assert_memory_equal(an.body, body, an.len);
    assert_int_equal(an.left, left);
}


static void
bad(const char *text)
{
    answer_t  an;

    same(&an, text, strlen(text), 0);

    if (an.rc != LLM_ERROR) {
        fail_msg("%d for %s", an.rc, text);
    }
}


#define OK   "HTTP/1.1 200 OK\r\n"
#define CH   OK "Transfer-Encoding: chunked\r\n\r\n"


static void
test_length(void **state)
{
    (void) state;

    good(OK "Content-Length: 5\r\n\r\nhello", 200, "hello", 0);
    good(OK "content-LENGTH:5 \t\r\n\r\nhellomore", 200, "hello", 4);
    good(OK "Content-Length: 0\r\n\r\n", 200, "", 0);
    good("HTTP/1.0 404 Not Found\nContent-Length: 2\n\nno", 404, "no", 0);
    good("HTTP/1.1 200\r\nContent-Length: 1\r\n\r\nx", 200, "x", 0);
    good("HTTP/1.1 204 None\r\n\r\n", 204, "", 0);
    good("HTTP/1.1 304 Same\r\nContent-Length: 7\r\n\r\n", 304, "", 0);

    bad(OK "Content-Length: 5\r\n\r\nhell");
    bad(OK "Content-Length: -5\r\n\r\nhello");
    bad(OK "Content-Length: 5x\r\n\r\nhello");
    bad(OK "Content-Length: 0x5\r\n\r\nhello");
    bad(OK "Content-Length:\r\n\r\nhello");
    bad(OK "Content-Length: 5, 5\r\n\r\nhello");
    bad(OK "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello");
    bad(OK "Content-Length: 9999999999999999999\r\n\r\nhello");
    bad(OK "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
}


static void
test_chunks(void **state)
{
    (void) state;

    good(CH "5\r\nhello\r\n0\r\n\r\n", 200, "hello", 0);
    good(CH "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\nnext", 200, "hello", 4);
    good(CH "0\r\n\r\n", 200, "", 0);
    good(CH "5\nhello\n0\n\n", 200, "hello", 0);
    good(CH "00A\r\n0123456789\r\n000\r\n\r\n", 200, "0123456789", 0);
    good(CH "a;x=\"y\"\r\n0123456789\r\n0 \r\n\r\n", 200, "0123456789", 0);
    good(CH "1\r\nx\r\n0\r\nTrailer: a\r\nB: c\r\n\r\n", 200, "x", 0);
    good(OK "transfer-encoding:  CHUNKED \r\n\r\n0\r\n\r\n", 200, "", 0);

    bad(CH "5\r\nhello\r\n0\r\n");
    bad(CH "5\r\nhello\r\n0");
    bad(CH "5\r\nhello");
    bad(CH "5\r\nhellox\r\n0\r\n\r\n");
    bad(CH "4\r\nhello\r\n0\r\n\r\n");
    bad(CH "\r\nhello\r\n0\r\n\r\n");
    bad(CH "g\r\n");
    bad(CH "-1\r\n");
    bad(CH "1x\r\nx\r\n0\r\n\r\n");
    bad(CH "5\rhello\r\n0\r\n\r\n");
    bad(CH "fffffffffffffffff\r\n");
    bad(CH "1\r\nx\r\n0\r\n\rx");
    bad(OK "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n");
    bad(OK "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"
        "0\r\n\r\n");
}


static void
test_rest(void **state)
{
    answer_t  an;

    (void) state;

    good(OK "Content-Type: a/b\r\n\r\nall of it", 200, "all of it", 0);
    good(OK "\r\n", 200, "", 0);

    same(&an, OK "Content-Length: 5\r\n\r\n", 38, 1);
    assert_int_equal(an.rc, LLM_HTTP_END);
    assert_int_equal(an.len, 0);
}


static void
test_head(void **state)
{
    answer_t  an;

    static const char  typed[] = OK "X: y\r\nContent-type: \t a/b; c=d \r\n"
                                 "CONTENT-TYPE: other\r\n\r\n";

    (void) state;

    same(&an, typed, sizeof(typed) - 1, 0);
    assert_string_equal(an.type, "a/b; c=d");

    bad("");
    bad("HTTP/1.1 200 OK\r\n");
    bad("HTTP/1.1 200 OK");
    bad("HTTP/2 200 OK\r\n\r\n");
    bad("HTTP/1.2 200 OK\r\n\r\n");
    bad("HTTP/1.1  200 OK\r\n\r\n");
    bad("HTTP/1.1 20 OK\r\n\r\n");
    bad("HTTP/1.1 2000 OK\r\n\r\n");
    bad("HTTP/1.1 099 OK\r\n\r\n");
    bad("\r\n\r\n");
    bad("hello\r\n\r\n");
    bad(OK "no colon\r\n\r\n");
    bad(OK ": empty\r\n\r\n");
    bad(OK "A: b\r\n c: folded\r\n\r\n");
    bad(OK "A : b\r\n\r\n");
    bad(OK "A: b\rc\r\n\r\n");
}


static void
test_interim(void **state)
{
    unsigned  i;
    char      text[30000], *p;

    (void) state;

    good("HTTP/1.1 100 Continue\r\n\r\n" "HTTP/1.1 103 Early Hints\r\n"
         "Link: x\r\n\r\n" OK "Content-Length: 2\r\n\r\nok", 200, "ok", 0);

    bad("HTTP/1.1 101 Switching\r\n\r\n" OK "Content-Length: 0\r\n\r\n");
    bad("HTTP/1.1 100 Continue\r\nContent-Length: 0\r\n\r\n" OK "\r\n");
    bad("HTTP/1.1 100 Continue\r\n\r\n");

    /* not for ever */

    for (p = text, i = 0; i < 800; i++) {
        p += sprintf(p, "HTTP/1.1 100 Continue\r\n\r\n");
    }

    bad(text);
}


static void
test_bounds(void **state)
{
    char      text[40000], *p;
    size_t    n;
    unsigned  i;
    answer_t  an;

    (void) state;

    /* a head that just fits, and one that does not */

    for (i = 0; i < 2; i++) {
        p = text + sprintf(text, OK "Content-Length: 1\r\nX: ");
        n = HEAD - (size_t) (p - text) - 4 + i;

        memset(p, 'x', n);
        strcpy(p + n, "\r\n\r\n!");

        if (i == 0) {
            good(text, 200, "!", 0);
        } else {
            bad(text);
        }
    }

    /* many chunks with short extensions, and one with a long one */

    p = text + sprintf(text, CH);

    for (i = 0; i < 4000; i++) {
        p += sprintf(p, "1;x\r\n.\r\n");
    }

    strcpy(p, "0\r\n\r\n");
    same(&an, text, strlen(text), 0);
    assert_int_equal(an.rc, LLM_HTTP_END);
    assert_int_equal(an.len, 4000);

    p = text + sprintf(text, CH "1;");
    memset(p, 'x', LLM_HTTP_EXTRA + 1);
    strcpy(p + LLM_HTTP_EXTRA + 1, "\r\n.\r\n0\r\n\r\n");
    bad(text);

    p = text + sprintf(text, CH "0\r\n");
    memset(p, 'x', LLM_HTTP_EXTRA + 1);
    strcpy(p + LLM_HTTP_EXTRA + 1, "\r\n\r\n");
    bad(text);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_length),
        cmocka_unit_test(test_chunks),
        cmocka_unit_test(test_rest),
        cmocka_unit_test(test_head),
        cmocka_unit_test(test_interim),
        cmocka_unit_test(test_bounds)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
