
/*
 * Copyright (C) the ngx-llm authors
 *
 * What must hold for any request: however a client writes it, the canonical
 * bytes are the same; with any part of it changed, they are others, but for
 * the few parts that do not change the answer.
 */


#include "digest_build.h"


#define ROUNDS  40


typedef struct {
    unsigned              kept:1;           /* in here order has a meaning */
    unsigned              dropped:1;        /* none of this counts */
    unsigned              top:1;
} place_t;


typedef struct {
    llm_endpoint_e        endpoint;
    json_t               *root;
    bytes_t               base;
    unsigned              same;
    unsigned              other;
    unsigned              refused;
} walk_t;


static unsigned char  memory[2][SIZE];


/* the canonical bytes, or LLM_ERROR when it is no request */

static int
try(bytes_t *b, llm_endpoint_e endpoint, const char *text, size_t len,
    unsigned char *out)
{
    int                   rc;
    llm_request_t         rq;
    check_memory_t        m;
    unsigned char        *copy;
    llm_request_error_t   err;

    copy = check_copy(text, len);
    check_memory(&m, SIZE, -1);

    rc = llm_request_parse(&rq, endpoint, copy, len, 1, &m.arena, &err);

    if (rc == LLM_OK) {
        b->data = out;
        b->len = 0;
        b->calls = 0;

        assert_int_equal(llm_request_digest(&rq, &m.arena, sink, b), LLM_OK);
    }

    free(copy);
    check_memory_free(&m);

    return rc;
}


static text_t
text_of(const json_t *json, style_e style)
{
    text_t  t = { NULL, 0, 0 };

    text_value(&t, json, style, 0);

    return t;
}


static void
differ(const bytes_t *a, const bytes_t *b)
{
    size_t  i;

    for (i = 0; i < a->len && i < b->len && a->data[i] == b->data[i]; i++) {
        /* void */
    }

    i -= i < 40 ? i : 40;

    print_error("%.*s\n%.*s\n", a->len - i < 80 ? (int) (a->len - i) : 80,
                a->data + i, b->len - i < 80 ? (int) (b->len - i) : 80,
                b->data + i);
}


/* as the tree is now: the same bytes as at first, or others */

static void
expect(walk_t *w, int same, const char *what, const char *where)
{
    int      equal;
    text_t   t;
    bytes_t  b;

    t = text_of(w->root, draw(STYLES));

    if (try(&b, w->endpoint, t.data, t.len, memory[1]) != LLM_OK) {
        w->refused++;
        free(t.data);
        return;
    }

    equal = b.len == w->base.len && memcmp(b.data, w->base.data, b.len) == 0;

    if (equal != same) {
        print_error("%s\n", t.data);
        differ(&w->base, &b);
        fail_msg("%s of \"%s\": %s", what, where,
                 equal ? "the same" : "not the same");
    }

    w->same += same != 0;
    w->other += same == 0;

    free(t.data);
}


static int
listed(const char *name, const char *const *list)
{
    for ( /* void */ ; *list != NULL; list++) {
        if (strcmp(*list, name) == 0) {
            return 1;
        }
    }

    return 0;
}


static place_t
inside(place_t at, const char *name)
{
    static const char *const  dropped[] = {
        "model", "stream", "stream_options", "user", "safety_identifier",
        "metadata", "prompt_cache_key", "prompt_cache_options",
        "prompt_cache_retention", NULL
    };

    static const char *const  kept[] = {
        "parameters", "schema", "x_unknown", "x_part", "x_message",
        "chat_template_kwargs", "guided_json", NULL
    };

    if (at.top && listed(name, dropped)) {
        at.dropped = 1;
    }

    if (!at.kept && strcmp(name, "prompt_cache_breakpoint") == 0) {
        at.dropped = 1;
    }

    if (listed(name, kept)) {
        at.kept = 1;
    }

    at.top = 0;

    return at;
}


/* is null what is not there? */

static int
nullable(place_t at, const char *name)
{
    static const char *const  names[] = {
        "n", "seed", "stop", "store", "top_p", "temperature", "logit_bias",
        "max_tokens", "max_completion_tokens", "max_output_tokens",
        "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs",
        "reasoning_effort", "verbosity", "modalities", "audio", "prediction",
        "service_tier", "instructions", "include", "max_tool_calls",
        "truncation", "reasoning", "best_of", "echo", "suffix",
        "parallel_tool_calls", "prompt", "input", NULL
    };

    return at.top && listed(name, names);
}


static json_t *
other(const json_t *value)
{
    switch (json_typeof(value)) {

    case JSON_STRING:
        return json_sprintf("%s.", json_string_value(value));

    case JSON_INTEGER:
        return json_integer(json_integer_value(value) + 1);

    case JSON_REAL:
        return json_real(json_real_value(value) == 0.375 ? 0.5 : 0.375);

    case JSON_TRUE:
        return json_false();

    case JSON_FALSE:
        return json_true();

    case JSON_NULL:
        return json_string("null");

    case JSON_OBJECT:
        return json_array();

    default:
        return json_object();
    }
}


/* the members of "from", of which the one at "i" becomes "key" and "value" */

static void
members(json_t *to, json_t *from, size_t i, const char *key, json_t *value)
{
    size_t       k;
    json_t      *v;
    const char  *name;

    json_object_clear(to);
    k = 0;

    json_object_foreach(from, name, v) {

        if (k++ != i) {
            json_object_set(to, name, v);

        } else if (key != NULL) {
            json_object_set(to, key, value);
        }
    }

    if (value != NULL) {
        json_decref(value);
    }
}


static void
swap(json_t *to, json_t *from, size_t i)
{
    size_t       k;
    json_t      *v, *held;
    const char  *name, *first;

    json_object_clear(to);
    held = NULL;
    first = NULL;
    k = 0;

    json_object_foreach(from, name, v) {

        if (k++ == i) {
            first = name;
            held = v;
            continue;
        }

        json_object_set(to, name, v);

        if (held != NULL) {
            json_object_set(to, first, held);
            held = NULL;
        }
    }
}


static void walk(walk_t *w, json_t *json, place_t at);


static void
walk_member(walk_t *w, json_t *json, json_t *from, size_t i, const char *name,
    json_t *value, place_t at)
{
    char     key[64];
    int      gone, null;
    place_t  in;

    in = inside(at, name);
    null = json_is_null(value);
    gone = in.dropped || (null && nullable(at, name));

    snprintf(key, sizeof(key), "%s_", name);

    members(json, from, i, name, other(value));
    expect(w, in.dropped, "another value", name);

    if (!null) {
        members(json, from, i, name, json_null());
        expect(w, in.dropped, "null instead", name);
    }

    members(json, from, i, NULL, NULL);
    expect(w, gone, "removal", name);

    members(json, from, i, key, json_incref(value));
    expect(w, at.dropped, "another name", name);

    if (i + 1 < json_object_size(from)) {
        swap(json, from, i);
        expect(w, at.dropped || !at.kept, "another place", name);
    }

    members(json, from, SIZE_MAX, NULL, NULL);

    walk(w, value, in);
}


static void
walk(walk_t *w, json_t *json, place_t at)
{
    size_t       i;
    json_t      *value, *from, *next;
    const char  *name;

    if (json_is_array(json)) {

        for (i = 0; i < json_array_size(json); i++) {
            value = json_incref(json_array_get(json, i));

            json_array_set_new(json, i, other(value));
            expect(w, at.dropped, "another value", "[]");

            json_array_remove(json, i);
            expect(w, at.dropped, "removal", "[]");

            json_array_insert(json, i, value);
            json_array_insert(json, i, value);
            expect(w, at.dropped, "doubling", "[]");
            json_array_remove(json, i);

            next = json_array_get(json, i + 1);

            if (next != NULL && !json_equal(value, next)) {
                json_array_remove(json, i);
                json_array_insert(json, i + 1, value);
                expect(w, at.dropped, "another place", "[]");
                json_array_remove(json, i + 1);
                json_array_insert(json, i, value);
            }

            walk(w, value, at);
            json_decref(value);
        }

        json_array_append_new(json, json_null());
        expect(w, at.dropped, "one more", "[]");
        json_array_remove(json, json_array_size(json) - 1);

        return;
    }

    if (!json_is_object(json)) {
        return;
    }

    from = json_copy(json);
    i = 0;

    json_object_foreach(from, name, value) {
        walk_member(w, json, from, i++, name, value, at);
    }

    json_object_set_new(json, "one more", json_null());
    expect(w, at.dropped, "one more", "{}");
    json_object_del(json, "one more");

    json_decref(from);
}


static void
begin(walk_t *w, llm_endpoint_e endpoint)
{
    text_t  t;

    memset(w, 0, sizeof(walk_t));
    w->endpoint = endpoint;
    w->root = build(endpoint);

    t = text_of(w->root, STYLE_SDK);

    if (try(&w->base, endpoint, t.data, t.len, memory[0]) != LLM_OK) {
        fail_msg("refused: %s", t.data);
    }

    free(t.data);
}


static void
test_styles(void **state)
{
    int      i, e;
    walk_t   w;
    style_e  s;

    (void) state;

    for (e = 0; e < LLM_ENDPOINTS; e++) {
        for (i = 0; i < 400; i++) {
            begin(&w, (llm_endpoint_e) e);

            for (s = 0; s < STYLES; s++) {
                text_t   t;
                bytes_t  b;

                t = text_of(w.root, s);

                assert_int_equal(try(&b, w.endpoint, t.data, t.len,
                                     memory[1]), LLM_OK);

                if (b.len != w.base.len
                    || memcmp(b.data, w.base.data, b.len) != 0)
                {
                    print_error("%s\n", t.data);
                    differ(&w.base, &b);
                    fail_msg("in style %d not the same", (int) s);
                }

                free(t.data);
            }

            json_decref(w.root);
        }
    }
}


static void
test_parts(void **state)
{
    int       i, e;
    walk_t    w;
    place_t   at = { 0, 0, 1 };
    unsigned  same, other, refused;

    (void) state;

    for (e = 0; e < LLM_ENDPOINTS; e++) {
        same = 0;
        other = 0;
        refused = 0;

        for (i = 0; i < ROUNDS; i++) {
            begin(&w, (llm_endpoint_e) e);
            walk(&w, w.root, at);

            /* and all is again as it was */

            expect(&w, 1, "nothing", "");

            same += w.same;
            other += w.other;
            refused += w.refused;

            json_decref(w.root);
        }

        /* what is no request any more proves nothing */

        assert_true(same > ROUNDS && other > 10 * ROUNDS && refused < other);
    }
}


/* null and absence, of what a request has and of what it might have */

static void
test_null(void **state)
{
    int          i, e, same;
    walk_t       w;
    size_t       k;
    place_t      at = { 0, 0, 1 };
    unsigned     refused;

    static const char *const  names[] = {
        "n", "seed", "stop", "store", "top_p", "temperature", "logit_bias",
        "max_tokens", "max_completion_tokens", "max_output_tokens",
        "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs",
        "reasoning_effort", "verbosity", "modalities", "audio", "prediction",
        "service_tier", "instructions", "include", "max_tool_calls",
        "truncation", "reasoning", "best_of", "echo", "suffix",
        "parallel_tool_calls", "user", "metadata", "stream",
        "stream_options", "safety_identifier", "prompt_cache_key", "tools",
        "functions", "tool_choice", "response_format", "guided_json", "text",
        "top_k", "dimensions", "encoding_format", "x", "User", "n ", ""
    };

    (void) state;

    refused = 0;

    for (e = 0; e < LLM_ENDPOINTS; e++) {
        for (i = 0; i < 20; i++) {
            begin(&w, (llm_endpoint_e) e);

            for (k = 0; k < sizeof(names) / sizeof(names[0]); k++) {

                if (json_object_get(w.root, names[k])) {
                    continue;
                }

                same = nullable(at, names[k]) || inside(at, names[k]).dropped;

                json_object_set_new(w.root, names[k], json_null());
                expect(&w, same, "null", names[k]);
                json_object_del(w.root, names[k]);
            }

            refused += w.refused;
            json_decref(w.root);
        }
    }

    assert_int_equal(refused, 0);
}


static int
spelled(llm_endpoint_e endpoint, const char *format, const char *a,
    const char *b)
{
    char     x[256], y[256];
    bytes_t  p, q;

    snprintf(x, sizeof(x), format, a);
    snprintf(y, sizeof(y), format, b);

    if (try(&p, endpoint, x, strlen(x), memory[0]) != LLM_OK
        || try(&q, endpoint, y, strlen(y), memory[1]) != LLM_OK)
    {
        return 0;
    }

    return p.len == q.len && memcmp(p.data, q.data, p.len) == 0;
}


/* 1, 1.0 and 1e0: one number where any number may be, and nowhere else */

static void
test_numbers(void **state)
{
    size_t    i, k;
    char      format[128];
    unsigned  real;

    static const char *const  names[] = {
        "temperature", "top_p", "presence_penalty", "frequency_penalty",
        "n", "seed", "max_tokens", "max_completion_tokens", "top_logprobs",
        "best_of", "top_k", "repetition_penalty", "min_p", "x", "verbosity"
    };

    static const char *const  deep[] = {
        "\"messages\":[{\"content\":[{\"x\":%s}]}]",
        "\"messages\":[{\"temperature\":%s}]",
        "\"messages\":[],\"stop\":[%s]",
        "\"messages\":[],\"x\":{\"temperature\":%s}",
        "\"messages\":[],\"tools\":[{\"function\":{\"parameters\":"
            "{\"minimum\":%s}}}]",
        "\"messages\":[],\"response_format\":{\"json_schema\":{\"schema\":"
            "{\"top_p\":%s}}}"
    };

    static const char *const  ones[] = { "1.0", "1e0", "10e-1", "0.1E+1" };

    (void) state;

    for (k = 0; k < sizeof(ones) / sizeof(ones[0]); k++) {

        for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
            real = i < 4;

            snprintf(format, sizeof(format), "{\"model\":\"a\","
                     "\"messages\":[],\"%s\":%%s}", names[i]);
            assert_int_equal(spelled(LLM_CHAT, format, "1", ones[k]), real);
            assert_int_equal(spelled(LLM_CHAT, format, "1", "2"), 0);

            snprintf(format, sizeof(format), "{\"model\":\"a\","
                     "\"input\":[],\"%s\":%%s}", names[i]);
            assert_int_equal(spelled(LLM_RESPONSES, format, ones[k], "1"),
                             real);
        }

        for (i = 0; i < sizeof(deep) / sizeof(deep[0]); i++) {
            snprintf(format, sizeof(format), "{\"model\":\"a\",%s}",
                     deep[i]);
            assert_int_equal(spelled(LLM_CHAT, format, "1", ones[k]), 0);
            assert_int_equal(spelled(LLM_CHAT, format, "1", "1"), 1);
        }

        assert_int_equal(spelled(LLM_CHAT, CHAT(",\"logit_bias\":"
                                                "{\"7\":%s}"),
                                 "1", ones[k]), 1);
    }

    /* beyond what a double can tell apart */

    assert_int_equal(spelled(LLM_CHAT, CHAT(",\"seed\":%s"),
                             "9007199254740992", "9007199254740993"), 0);
    assert_int_equal(spelled(LLM_CHAT, CHAT(",\"top_p\":%s"),
                             "0.10000000000000000000", "0.1"), 1);
    assert_int_equal(spelled(LLM_CHAT, CHAT(",\"top_p\":%s"),
                             "0.10000000000000000001", "0.1"), 0);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_styles),
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_null),
        cmocka_unit_test(test_numbers)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
