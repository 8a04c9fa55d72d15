
/*
 * Copyright (C) the ngx-llm authors
 */


#define _POSIX_C_SOURCE  200809L

#include "json_check.h"

#include <time.h>

#include "core/llm_multipart.h"
#include "unit_random.h"


#define HEAD  512
#define MB    (1024 * 1024)


/* what was found, as text: a line for each event, data joined */

typedef struct {
    char      text[16384];
    size_t    len;
    int       data;                         /* of a part was the last one */
    int       rc;
    uint64_t  offset;
} told_t;


static void
tell(told_t *t, const char *s, const llm_str_t *str)
{
    size_t  n;

    n = strlen(s);
    assert_true(t->len + n + str->len + 1 < sizeof(t->text));

    memcpy(t->text + t->len, s, n);
    memcpy(t->text + t->len + n, str->data, str->len);
    t->len += n + str->len;
    t->text[t->len] = '\0';
}


static void
event(told_t *t, const llm_multipart_t *mp, int rc, const llm_str_t *data)
{
    static const llm_str_t  none = llm_string("");

    switch (rc) {

    case LLM_MULTIPART_PART:
        tell(t, "[", &mp->name);

        if (mp->file) {
            tell(t, "|", &mp->filename);
        }

        if (mp->type.len != 0) {
            tell(t, "|", &mp->type);
        }

        tell(t, ":", &none);
        break;

    case LLM_MULTIPART_DATA:
        assert_true(data->len != 0);
        tell(t, "", data);
        break;

    case LLM_MULTIPART_PART_END:
        tell(t, "]", &none);
        break;

    case LLM_MULTIPART_END:
        tell(t, ".", &none);
        break;

    default:
        fail_msg("event %d", rc);
    }
}


static void
feed(told_t *t, const char *type, const char *form, size_t len, size_t step)
{
    int                   rc;
    size_t                pos, n;
    llm_str_t             ct, data;
    unsigned char        *head, *piece, *copy;
    llm_multipart_t       mp;
    const unsigned char  *p;

    memset(t, 0, sizeof(told_t));

    head = malloc(HEAD);
    copy = check_copy(type, strlen(type));

    ct.data = copy;
    ct.len = strlen(type);

    rc = llm_multipart_init(&mp, &ct, head, HEAD);
    free(copy);

    assert_int_equal(rc, LLM_OK);

    for (pos = 0; pos < len && rc != LLM_ERROR; pos += n) {
        n = step < len - pos ? step : len - pos;

        piece = check_copy(form + pos, n);
        p = piece;

        for ( ;; ) {
            rc = llm_multipart_next(&mp, &p, piece + n, &data);

            if (rc == LLM_AGAIN || rc == LLM_ERROR) {
                break;
            }

            if (rc == LLM_MULTIPART_END) {
                assert_ptr_equal(p, piece + n);
                break;
            }

            event(t, &mp, rc, &data);
        }

        assert_true(rc == LLM_ERROR || p == piece + n);
        free(piece);
    }

    t->rc = rc;

    if (rc == LLM_MULTIPART_END) {
        event(t, &mp, rc, &data);
        assert_int_equal(llm_multipart_eof(&mp), LLM_OK);

    } else {
        assert_int_equal(llm_multipart_eof(&mp), LLM_ERROR);
        assert_non_null(mp.error);
        t->rc = LLM_ERROR;
        t->offset = mp.offset;

        p = (unsigned char *) form;
        assert_int_equal(llm_multipart_next(&mp, &p, p + len, &data),
                         LLM_ERROR);
        assert_ptr_equal(p, form);
    }

    free(head);
}


static void
same(told_t *t, const char *type, const char *form, size_t len)
{
    size_t  step;
    told_t  other;

    feed(t, type, form, len, len);

    for (step = 1; step < 40 && step < len; step++) {
        feed(&other, type, form, len, step);

        assert_string_equal(other.text, t->text);
        assert_int_equal(other.rc, t->rc);
        assert_int_equal(other.offset, t->offset);
    }
}


#define TYPE  "multipart/form-data; boundary=b"
#define CD    "Content-Disposition: form-data; "


static void
good(const char *form, const char *expected)
{
    told_t  t;

    same(&t, TYPE, form, strlen(form));

    if (t.rc != LLM_MULTIPART_END) {
        fail_msg("%s: refused at %lu", form, (unsigned long) t.offset);
    }

    assert_string_equal(t.text, expected);
}


static void
bad(const char *form, uint64_t offset)
{
    told_t  t;

    same(&t, TYPE, form, strlen(form));

    if (t.rc != LLM_ERROR || t.offset != offset) {
        fail_msg("%s: %d at %lu", form, t.rc, (unsigned long) t.offset);
    }
}


static void
test_forms(void **state)
{
    (void) state;

    good("--b\r\n" CD "name=\"purpose\"\r\n\r\nbatch\r\n--b--\r\n",
         "[purpose:batch].");
    good("--b\r\n" CD "name=a\r\n\r\n1\r\n--b \t\r\n" CD "name=b\r\n\r\n"
         "2\r\n--b--", "[a:1][b:2].");
    good("--b\r\n" CD "name=\"file\"; filename=\"x.jsonl\"\r\n"
         "Content-Type: application/octet-stream\r\n\r\n{}\r\n{}\n\r\n--b\r\n"
         CD "name=\"expires_after[anchor]\"\r\n\r\ncreated_at\r\n--b--\r\n",
         "[file|x.jsonl|application/octet-stream:{}\r\n{}\n]"
         "[expires_after[anchor]:created_at].");

    /* before the first and behind the last one */

    good("hello\r\n\r--b\r\n-\r\n--b\r\n" CD "name=a\r\n\r\n1\r\n--b--\r\n"
         "--b\r\nbye", "[a:1].");
    good("--b--", ".");
    good("\r\n--b--\r\n", ".");

    /* nothing inside, with and without the line end of its own */

    good("--b\r\n" CD "name=a\r\n\r\n\r\n--b--", "[a:].");
    good("--b\r\n" CD "name=a\r\n\r\n--b--", "[a:].");
    good("--b\r\n" CD "name=a\r\n\r\n\r\n\r\n--b--", "[a:\r\n].");

    /* what looks like a boundary */

    good("--b\r\n" CD "name=a\r\n\r\n-\r\n-\r\n--\r\n\r\r\n--B\r\n--\r\n"
         "\r\n--b--", "[a:-\r\n-\r\n--\r\n\r\r\n--B\r\n--\r\n].");
    good("--b\r\n" CD "name=a\r\n\r\n--c\n--b\r--b --b\r\n-b\r\n--b--",
         "[a:--c\n--b\r--b --b\r\n-b].");
}


static void
test_names(void **state)
{
    (void) state;

    good("--b\r\ncontent-disposition:FORM-DATA;NAME=a;x=y;;\r\n"
         "X-Other: 1\r\nContent-Transfer-Encoding: Binary\r\n\r\n1\r\n--b--",
         "[a:1].");
    good("--b\r\n" CD "name=\"a\\\"b\\\\c\\d\"\r\n\r\n1\r\n--b--",
         "[a\"b\\c\\d:1].");
    good("--b\r\n" CD "filename=\"%22;%20 =\" ; name=\"a\"\r\n\r\n1\r\n"
         "--b--", "[a|\";%20 =:1].");
    good("--b\r\n" CD "name=f; filename=\"\"\r\n\r\n1\r\n--b--", "[f|:1].");
    good("--b\r\n" CD "name=f; filename*=UTF-8''%e2%82%AC.txt; "
         "filename=plain\r\n\r\n1\r\n--b--", "[f|\xe2\x82\xac.txt:1].");
    good("--b\r\n" CD "name=f; filename=plain; filename*=utf-8'de'x%20y\r\n"
         "\r\n1\r\n--b--", "[f|x y:1].");
    good("--b\r\n" CD "name=\"\xc3\xa9\"\r\n\r\n1\r\n--b--", "[\xc3\xa9:1].");

    bad("--b\r\n\r\n1\r\n--b--", 5);
    bad("--b\r\nX: y\r\n\r\n1\r\n--b--", 5);
    bad("--b\r\n" CD "\r\n\r\n1\r\n--b--", 5);
    bad("--b\r\n" CD "name=\"\"\r\n\r\n1\r\n--b--", 5);
    bad("--b\r\n" CD "name\r\n\r\n1\r\n--b--", 5 + 32 + 4);
    bad("--b\r\n" CD "name=\"a\r\n\r\n1\r\n--b--", 5 + 32 + 7);
    bad("--b\r\n" CD "name=a; name=b\r\n\r\n1\r\n--b--", 5 + 32 + 8);
    bad("--b\r\n" CD "name=a b\r\n\r\n1\r\n--b--", 5 + 32 + 7);
    bad("--b\r\n" CD "name=\"\xc3(\"\r\n\r\n1\r\n--b--", 5 + 32);
    bad("--b\r\n" CD "name=f; filename*=utf-8''%4\r\n\r\n1\r\n--b--",
        5 + 32 + 8);
    bad("--b\r\n" CD "name=f; filename*=latin1''x\r\n\r\n1\r\n--b--",
        5 + 32 + 8);
    bad("--b\r\n" CD "name=f; filename*=utf-8''%00\r\n\r\n1\r\n--b--",
        5 + 32 + 8);
    bad("--b\r\nContent-Disposition: attachment; name=a\r\n\r\n1\r\n--b--",
        5 + 21);
    bad("--b\r\n" CD "name=a\r\n" CD "name=a\r\n\r\n1\r\n--b--",
        5 + 32 + 8);
    bad("--b\r\n" CD "name=a\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        "MQ\r\n--b--", 5 + 32 + 8);
    bad("--b\r\nContent-Type: a\r\nContent-Type: a\r\n" CD
        "name=a\r\n\r\n1\r\n--b--", 5 + 17);
    bad("--b\r\n" CD "name=\"\x7f\"\r\n\r\n1\r\n--b--", 5 + 32 + 6);
    bad("--b\r\n" CD "name=a;\r\n x=y\r\n\r\n1\r\n--b--", 5 + 32 + 9);
    bad("--b\r\n" CD "name=a\nX: y\r\n\r\n1\r\n--b--", 5 + 32 + 6);
    bad("--b\r\n" CD "name=a\r\nX y\r\n\r\n1\r\n--b--", 5 + 32 + 9);
}


static void
test_broken(void **state)
{
    int     i, n;
    char   *p;
    told_t  t;

    (void) state;

    bad("", 0);
    bad("--b", 3);
    bad("--b-", 4);
    bad("--b-x", 4);
    bad("--bx\r\n", 3);
    bad("--b\n", 3);
    bad("--b\r\r", 4);
    bad("--b x\r\n", 4);
    bad("--c--", 5);
    bad("--b\r\n" CD "name=a\r\n\r\n1", 5 + 32 + 11);
    bad("--b\r\n" CD "name=a\r\n\r\n1\r\n--b", 5 + 32 + 11 + 5);
    bad("--b\r\n" CD "name=a\r\n\r\n1\r\n--bc\r\n--b--", 5 + 32 + 11 + 5);
    bad("--b\r\n" CD "name=a\r\n\r\n1\n--b--", 5 + 32 + 11 + 6);

    /* a header that does not fit, and too many parts */

    p = malloc(64 * 1024);

    i = sprintf(p, "--b\r\n%sname=a\r\nX: ", CD);
    memset(p + i, 'x', HEAD);
    strcpy(p + i + HEAD, "\r\n\r\n1\r\n--b--");
    bad(p, 5 + HEAD);

    memset(p + i, 'x', HEAD);
    strcpy(p + 5 + HEAD - 4, "\r\n\r\n1\r\n--b--");
    good(p, "[a:1].");

    for (i = 0, n = 0; i < LLM_MULTIPART_PARTS + 1; i++) {
        n += sprintf(p + n, "\r\n--b\r\n%sname=a\r\n\r\n.", CD);
    }

    feed(&t, TYPE, p, strlen(p), 4096);
    assert_int_equal(t.rc, LLM_ERROR);
    assert_int_equal(t.offset, n - n / i + 7);

    free(p);
}


static void
boundary(const char *type, int expected, const char *what)
{
    int              rc;
    llm_str_t        s;
    unsigned char   *copy;
    llm_multipart_t  mp;

    s.len = strlen(type);
    s.data = copy = check_copy(type, s.len);

    rc = llm_multipart_init(&mp, &s, NULL, 0);

    if (rc != expected) {
        fail_msg("%s: %d", type, rc);
    }

    if (rc == LLM_OK) {
        assert_int_equal(mp.delimiter_len, strlen(what) + 4);
        assert_memory_equal(mp.delimiter + 4, what, strlen(what));
    }

    free(copy);
}


static void
test_boundary(void **state)
{
    llm_str_t        none = { 0, NULL };
    llm_multipart_t  mp;

    (void) state;

    assert_int_equal(llm_multipart_init(&mp, &none, NULL, 0), LLM_DECLINED);

    boundary("multipart/form-data; boundary=----formdata-undici-012", LLM_OK,
             "----formdata-undici-012");
    boundary("Multipart/Form-Data ;charset=x; Boundary = \"a b/c=d\" ;",
             LLM_OK, "a b/c=d");
    boundary("multipart/form-data;boundary=a/b=c:d?e", LLM_OK, "a/b=c:d?e");
    boundary("multipart/form-data; boundary=1234567890123456789012345678901234"
             "567890123456789012345678901234567890", LLM_OK,
             "1234567890123456789012345678901234567890123456789012345678901234"
             "567890");

    boundary("multipart/form-data; boundary=1234567890123456789012345678901234"
             "5678901234567890123456789012345678901", LLM_ERROR, NULL);
    boundary("multipart/form-data", LLM_ERROR, NULL);
    boundary("multipart/form-data; boundary=", LLM_ERROR, NULL);
    boundary("multipart/form-data; boundary=\"a \"", LLM_ERROR, NULL);
    boundary("multipart/form-data; boundary=\"a", LLM_ERROR, NULL);
    boundary("multipart/form-data; boundary=a b", LLM_ERROR, NULL);
    boundary("multipart/form-data; boundary=a; boundary=a", LLM_ERROR, NULL);
    boundary("multipart/form-data; boundary=a\xc3\xa9", LLM_ERROR, NULL);
    boundary("multipart/form-data; boundary=\"a\\\"\"", LLM_ERROR, NULL);
    boundary("multipart/form-data; boundary", LLM_ERROR, NULL);
    boundary("multipart/form-data; =a", LLM_ERROR, NULL);

    boundary("", LLM_DECLINED, NULL);
    boundary("multipart/mixed; boundary=a", LLM_DECLINED, NULL);
    boundary("multipart/form-dat", LLM_DECLINED, NULL);
    boundary("application/json", LLM_DECLINED, NULL);
}


/* data of bytes that boundaries are made of, cut anywhere */

static void
test_random(void **state)
{
    int       i, n;
    char      form[512], *p;
    size_t    k, len;
    told_t    t, other;

    static const char  bytes[] = "\r\n--bx";

    (void) state;

    seed = 0x1234567;

    for (i = 0; i < 20000; i++) {
        p = form + sprintf(form, "--b\r\n%sname=a\r\n\r\n", CD);
        len = any(60);

        for (k = 0; k < len; k++) {
            *p++ = bytes[any(6)];
        }

        p += sprintf(p, "\r\n--b--");
        n = (int) (p - form);

        feed(&t, TYPE, form, (size_t) n, (size_t) n);
        feed(&other, TYPE, form, (size_t) n, 1 + any(9));

        assert_string_equal(t.text, other.text);
        assert_int_equal(t.rc, other.rc);
        assert_int_equal(t.offset, other.offset);
    }
}


static void
test_speed(void **state)
{
    int                   rc, round;
    size_t                i, n, bytes;
    char                 *p;
    llm_str_t             type = llm_string(TYPE "oundary0123456789");
    llm_str_t             data;
    struct timespec       t0, t1;
    unsigned char         head[HEAD];
    llm_multipart_t       mp;
    const unsigned char  *pos, *end;

    static const char  *ends[] = { "\n", "\r\n" };

    (void) state;

    p = malloc(8 * MB + 512);

    for (round = 0; round < 2; round++) {
        n = (size_t) sprintf(p, "--boundary0123456789\r\n%sname=file\r\n\r\n",
                             CD);

        while (n < 8 * MB) {
            n += (size_t) sprintf(p + n, "{\"custom_id\":\"1\",\"body\":"
                                  "{\"messages\":[\"hello, how are you?\"]}}"
                                  "%s", ends[round]);
        }

        n += (size_t) sprintf(p + n, "\r\n--boundary0123456789--");

        (void) clock_gettime(CLOCK_MONOTONIC, &t0);

        assert_int_equal(llm_multipart_init(&mp, &type, head, HEAD), LLM_OK);
        bytes = 0;

        for (i = 0; i < n; i += 16384) {
            pos = (unsigned char *) p + i;
            end = (unsigned char *) p + (n - i < 16384 ? n : i + 16384);

            while ((rc = llm_multipart_next(&mp, &pos, end, &data)) > 0) {
                bytes += data.len;

                if (rc == LLM_MULTIPART_END) {
                    break;
                }
            }
        }

        assert_int_equal(llm_multipart_eof(&mp), LLM_OK);
        assert_true(bytes > 8 * MB - 512);

        (void) clock_gettime(CLOCK_MONOTONIC, &t1);

        print_message("lines that end by %s: %.1f us per MB\n",
                      round ? "CR LF" : "LF",
                      ((double) (t1.tv_sec - t0.tv_sec) * 1e6
                       + (double) (t1.tv_nsec - t0.tv_nsec) / 1e3)
                      / ((double) n / MB));
    }

    free(p);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_broken),
        cmocka_unit_test(test_boundary),
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_speed)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
