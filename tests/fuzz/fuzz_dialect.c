
/*
 * Copyright (C) the ngx-llm authors
 *
 * Whatever a provider says, a client gets JSON of the API's shape.  What is
 * cleaned is the same but for the member, and blanks in front change nothing.
 * The first two bytes are the status.  Built without libFuzzer (-DFUZZ_MAIN)
 * it reads files.
 */


#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "core/llm_dialect.h"
#include "core/llm_json.h"
#include "fuzz_main.h"


#define NOW  1795284000


static const char *const  members[] = { "message", "type", "param", "code" };


static void
inside(const llm_str_t *s, const unsigned char *p, size_t size)
{
    if (s->len != 0) {
        check(s->data >= p && s->len <= size
              && (size_t) (s->data - p) <= size - s->len);
    }
}


static size_t
written(const llm_dialect_error_t *e, unsigned status, unsigned char **out)
{
    size_t   n, size;
    json_t  *root, *error, *m;

    size = llm_dialect_size(e);
    check(size < 8192);

    *out = malloc(size);
    n = (size_t) (llm_dialect_write(e, status, *out) - *out);
    check(n <= size);

    root = json_loadb((char *) *out, n, JSON_REJECT_DUPLICATES, NULL);
    check(root != NULL && json_object_size(root) == 1);

    error = json_object_get(root, "error");
    check(json_object_size(error) == 4);

    for (int i = 0; i < 4; i++) {
        m = json_object_get(error, members[i]);
        check(json_is_string(m) || (i >= 2 && json_is_null(m)));
        check(i >= 2 || json_string_length(m) != 0);
    }

    json_decref(root);

    return n;
}


static void
same(const llm_dialect_error_t *e, unsigned status, const unsigned char *p,
    size_t len)
{
    size_t                n, m;
    unsigned char        *copy, *one, *two;
    llm_dialect_error_t   again;

    static const char  blanks[] = "\n \xef\xbb\xbf\r\n\t";

    n = sizeof(blanks) - 1;
    copy = malloc(n + len);
    memcpy(copy, blanks, n);
    memcpy(copy + n, p, len);

    llm_dialect_error(&again, status, copy, n + len);

    check(e->known == again.known && e->right == again.right
          && e->quota == again.quota && e->context == again.context
          && e->filtered == again.filtered && e->wait == again.wait);

    n = written(e, status, &one);
    m = written(&again, status, &two);
    check(n == m && memcmp(one, two, n) == 0);

    free(copy);
    free(one);
    free(two);
}


/* what the scanner takes for a whole object */

static int
whole(const unsigned char *p, size_t len)
{
    size_t            n;
    llm_json_t        js;
    llm_json_token_e  token;

    n = llm_dialect_blank(p, len);
    llm_json_init(&js, p + n, len - n);

    if (llm_json_next(&js) != LLM_JSON_OBJECT) {
        return 0;
    }

    do {
        token = llm_json_next(&js);
    } while (token != LLM_JSON_ERROR && token != LLM_JSON_END);

    return token == LLM_JSON_END;
}


static void
clean(const unsigned char *p, size_t len)
{
    int             object;
    size_t          n, blank;
    json_t         *before, *after;
    unsigned char  *copy;

    copy = malloc(len + 1);
    memcpy(copy, p, len);

    object = whole(p, len);
    n = llm_dialect_clean(copy, len);
    check(n <= len);

    if (!object) {
        check(n == len && memcmp(copy, p, len) == 0);
        free(copy);
        return;
    }

    check(whole(copy, n));
    check(llm_dialect_clean(copy, n) == n);

    blank = llm_dialect_blank(p, len);
    check(blank == llm_dialect_blank(copy, n));

    /* of several members of a name the parser takes the last */

    before = json_loadb((char *) p + blank, len - blank,
                        JSON_REJECT_DUPLICATES|JSON_ALLOW_NUL, NULL);
    after = json_loadb((char *) copy + blank, n - blank,
                       JSON_REJECT_DUPLICATES|JSON_ALLOW_NUL, NULL);

    if (before != NULL) {
        check(after != NULL);

        if (json_is_null(json_object_get(before, "error"))) {
            json_object_del(before, "error");
            check(n < len);
        }

        check(json_equal(before, after));
    }

    json_decref(before);
    json_decref(after);
    free(copy);
}


static void
headers(const unsigned char *p, size_t len)
{
    int        i, tokens;
    int64_t    n;
    llm_str_t  s;

    s.data = (unsigned char *) p;
    s.len = len;
    tokens = 7;

    if (llm_dialect_header(&s, &tokens) == LLM_DIALECT_NOTHING) {
        check(tokens == 7);

    } else {
        check(tokens == 0 || tokens == 1);
    }

    for (i = LLM_DIALECT_LIMIT; i <= LLM_DIALECT_NOTHING; i++) {
        n = llm_dialect_value((llm_dialect_header_e) i, &s, NOW);
        check(n >= -1);
        check(i != LLM_DIALECT_RESET || n <= 86400000);
    }
}


int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t size)
{
    unsigned              status;
    unsigned char        *copy;
    llm_dialect_error_t   e;

    if (size < 2) {
        return 0;
    }

    status = (unsigned) (p[0] << 8 | p[1]) % 650;

    p += 2;
    size -= 2;

    copy = malloc(size != 0 ? size : 1);
    memcpy(copy, p, size);

    llm_dialect_error(&e, status, copy, size);

    check(memcmp(copy, p, size) == 0);
    check(e.wait >= -1 && e.wait <= 86400000);
    check(e.known || !e.right);

    inside(&e.message, copy, size);
    inside(&e.type, copy, size);
    inside(&e.code, copy, size);
    inside(&e.param, copy, size);

    status = llm_dialect_status(&e, status);
    check(status >= 400 && status <= 599 && status != 402 && status != 529);

    same(&e, (unsigned) (p[-2] << 8 | p[-1]) % 650, copy, size);
    clean(copy, size);
    headers(copy, size);

    free(copy);

    return 0;
}
