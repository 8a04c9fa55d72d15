
/*
 * Copyright (C) the ngx-llm authors
 *
 * "error":null is taken for an error by clients that only ask whether the
 * member is there.
 */


#include "core/llm_dialect_private.h"
#include "core/llm_json.h"

#include <string.h>


static int llm_dialect_suspect(const unsigned char *p, size_t len);
static int llm_dialect_nulls(const unsigned char *p, size_t len);
static llm_json_token_e llm_dialect_next(llm_json_t *js, int *null);


size_t
llm_dialect_clean(unsigned char *start, size_t len)
{
    int                   null, first, cut;
    size_t                n;
    llm_json_t            js;
    unsigned char        *p, *out, *last;
    const unsigned char  *from;

    if (!llm_dialect_suspect(start, len)) {
        return len;
    }

    n = llm_dialect_blank(start, len);
    p = start + n;
    last = start + len;

    if (!llm_dialect_nulls(p, len - n)) {
        return len;
    }

    /*
     * What is kept moves to the front, member by member; that is never
     * farther than the scanner came.
     */

    llm_json_init(&js, p, len - n);
    (void) llm_json_next(&js);

    out = p + (js.end - p);
    from = js.end;
    first = 1;
    cut = 0;

    while (llm_dialect_next(&js, &null) == LLM_JSON_NAME) {

        if (null) {
            cut = 1;
            from = js.end;
            continue;
        }

        if (first && cut) {

            /* the comma belonged to what was in front */

            from = memchr(from, ',', (size_t) (js.end - from));
            from++;
        }

        first = 0;

        memmove(out, from, (size_t) (js.end - from));
        out += js.end - from;
        from = js.end;
    }

    memmove(out, from, (size_t) (last - from));
    out += last - from;

    return (size_t) (out - start);
}


/* nearly all texts have no such name, neither plain nor escaped */

static int
llm_dialect_suspect(const unsigned char *p, size_t len)
{
    const unsigned char  *q, *end;

    end = len != 0 ? p + len : p;

    for (q = p; end - q >= 7; q++) {
        q = memchr(q, '"', (size_t) (end - q));

        if (q == NULL || end - q < 7) {
            break;
        }

        if (memcmp(q, "\"error\"", 7) == 0) {
            return 1;
        }
    }

    for (q = p; end - q >= 4; q++) {
        q = memchr(q, '\\', (size_t) (end - q));

        if (q == NULL || end - q < 4) {
            break;
        }

        if (memcmp(q, "\\u00", 4) == 0) {
            return 1;
        }
    }

    return 0;
}


/* a whole object with such a member? */

static int
llm_dialect_nulls(const unsigned char *p, size_t len)
{
    int               null, any;
    llm_json_t        js;
    llm_json_token_e  token;

    llm_json_init(&js, p, len);

    if (llm_json_next(&js) != LLM_JSON_OBJECT) {
        return 0;
    }

    any = 0;

    while ((token = llm_dialect_next(&js, &null)) == LLM_JSON_NAME) {
        any |= null;
    }

    return any && token == LLM_JSON_OBJECT_END
           && llm_json_next(&js) == LLM_JSON_END;
}


/* the next member with its value, up to js->end; NAME, or what else came */

static llm_json_token_e
llm_dialect_next(llm_json_t *js, int *null)
{
    llm_json_token_e  token;

    token = llm_json_next(js);

    if (token != LLM_JSON_NAME) {
        return token;
    }

    *null = llm_json_is(js, "error", 5);

    token = llm_json_next(js);

    if (token == LLM_JSON_OBJECT || token == LLM_JSON_ARRAY) {
        token = llm_json_skip(js);
    }

    *null = *null && token == LLM_JSON_NULL;

    return token != LLM_JSON_ERROR ? LLM_JSON_NAME : LLM_JSON_ERROR;
}
