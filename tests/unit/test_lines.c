
/*
 * Copyright (C) the ngx-llm authors
 */


#define _POSIX_C_SOURCE  200809L

#include "json_check.h"

#include <time.h>

#include "core/llm_lines.h"
#include "unit_random.h"


#define SIZE  9                             /* lines of up to eight bytes */
#define MB    (1024 * 1024)


/* "number@offset=line;" for each, "number@offset!;" for one too long */

static void
tell(char *out, const llm_lines_t *ln, int rc, const llm_str_t *line)
{
    out += strlen(out);

    if (rc == LLM_DECLINED) {
        assert_int_equal(line->len, 0);
        sprintf(out, "%lu@%lu!;", (unsigned long) ln->number,
                (unsigned long) ln->offset);
        return;
    }

    assert_int_equal(rc, LLM_OK);
    assert_true(line->len != 0);

    sprintf(out, "%lu@%lu=%.*s;", (unsigned long) ln->number,
            (unsigned long) ln->offset, (int) line->len, line->data);
}


static void
feed(char *out, const char *text, size_t len, size_t step)
{
    int                   rc;
    size_t                pos, n;
    llm_str_t             line;
    llm_lines_t           ln;
    unsigned char        *buf, *piece;
    const unsigned char  *p;

    *out = '\0';
    buf = malloc(SIZE);

    llm_lines_init(&ln, buf, SIZE);

    for (pos = 0; pos < len; pos += n) {
        n = step < len - pos ? step : len - pos;

        piece = check_copy(text + pos, n);
        p = piece;

        while ((rc = llm_lines_next(&ln, &p, piece + n, &line)) != LLM_AGAIN) {
            tell(out, &ln, rc, &line);
        }

        assert_ptr_equal(p, piece + n);
        free(piece);
    }

    rc = llm_lines_eof(&ln, &line);

    if (rc != LLM_AGAIN) {
        tell(out, &ln, rc, &line);
    }

    free(buf);
}


static void
lines(const char *text, const char *expected)
{
    char    out[1024];
    size_t  step;

    for (step = 1; step < 30; step++) {
        feed(out, text, strlen(text), step);
        assert_string_equal(out, expected);
    }
}


static void
test_lines(void **state)
{
    (void) state;

    lines("", "");
    lines("a", "1@0=a;");
    lines("a\n", "1@0=a;");
    lines("a\nb", "1@0=a;2@2=b;");
    lines("a\r\nbc\r\nd\r", "1@0=a;2@3=bc;3@7=d;");
    lines("\n\r\n \t\n  \r\na b \n\n", "5@10=a b ;");
    lines(" ", "");
    lines("\r", "");
    lines("a\rb\n", "1@0=a\rb;");
}


static void
test_long(void **state)
{
    (void) state;

    lines("12345678\n12345678\r\n12345678", "1@0=12345678;2@9=12345678;"
          "3@19=12345678;");
    lines("12345678\r", "1@0=12345678;");
    lines("123456789\n1\n", "1@0!;2@10=1;");
    lines("123456789\r\n1\n", "1@0!;2@11=1;");
    lines("1234567890123456789012345678901234567890\n\n1", "1@0!;3@42=1;");
    lines("1\n123456789", "1@0=1;2@2!;");
    lines("1\n123456789\r", "1@0=1;2@2!;");
    lines("1\n12345678\r\r\n", "1@0=1;2@2!;");
    lines("         \n1", "1@0!;2@10=1;");
}


static void
test_random(void **state)
{
    int     i;
    char    text[256], one[4096], other[4096];
    size_t  k, len;

    static const char  bytes[] = "\n\r ab,";

    (void) state;

    seed = 0x987654321;

    for (i = 0; i < 20000; i++) {
        len = any(sizeof(text));

        for (k = 0; k < len; k++) {
            text[k] = bytes[any(6)];
        }

        feed(one, text, len, len + 1);
        feed(other, text, len, 1 + any(20));

        assert_string_equal(one, other);
    }
}


static void
test_speed(void **state)
{
    int                   rc;
    size_t                i, n;
    unsigned              found;
    char                 *p;
    llm_str_t             line;
    llm_lines_t           ln;
    struct timespec       t0, t1;
    unsigned char        *buf;
    const unsigned char  *pos, *end;

    (void) state;

    p = malloc(8 * MB + 512);
    buf = malloc(65536);

    for (n = 0, i = 0; n < 8 * MB; i++) {
        n += (size_t) sprintf(p + n, "{\"custom_id\":\"%zu\",\"body\":"
                              "{\"messages\":[\"hello, how are you?\"]}}\n",
                              i);
    }

    (void) clock_gettime(CLOCK_MONOTONIC, &t0);

    llm_lines_init(&ln, buf, 65536);
    found = 0;

    for (i = 0; i < n; i += 16384) {
        pos = (unsigned char *) p + i;
        end = (unsigned char *) p + (n - i < 16384 ? n : i + 16384);

        while ((rc = llm_lines_next(&ln, &pos, end, &line)) == LLM_OK) {
            found++;
        }
    }

    assert_int_equal(llm_lines_eof(&ln, &line), LLM_AGAIN);
    assert_int_equal(ln.number, found);

    (void) clock_gettime(CLOCK_MONOTONIC, &t1);

    print_message("%u lines: %.1f us per MB\n", found,
                  ((double) (t1.tv_sec - t0.tv_sec) * 1e6
                   + (double) (t1.tv_nsec - t0.tv_nsec) / 1e3)
                  / ((double) n / MB));

    free(buf);
    free(p);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_long),
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_speed)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
