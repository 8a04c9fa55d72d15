
/*
 * Copyright (C) the ngx-llm authors
 *
 * The canonical bytes: what must not change them, and what must.
 */


#include "digest_check.h"

#include <jansson.h>


static const char  chat[] =
    "{\"model\":\"gpt-4o\",\"messages\":[{\"role\":\"system\",\"content\":"
    "\"You are <b>kind</b> & caf\xc3\xa9 \xf0\x9f\x98\x80\\n\\\"so\\\" \\\\"
    "\"},{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"look "
    "\xe4\xb8\xad\"},{\"type\":\"image_url\",\"image_url\":{\"url\":"
    "\"https://a/b.png\",\"detail\":\"low\"}}],\"name\":\"bob\"},{\"role\":"
    "\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"c1\",\"type\":"
    "\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"b\\\":1,"
    "\\\"a\\\":2}\"}}]},{\"role\":\"tool\",\"tool_call_id\":\"c1\","
    "\"content\":\"42\"}],\"temperature\":0.7,\"top_p\":1,\"n\":2,\"seed\":"
    "9007199254740993,\"max_tokens\":256,\"stop\":[\"a\",\"b\"],"
    "\"logit_bias\":{\"50256\":-100,\"1\":5},\"stream\":true,"
    "\"stream_options\":{\"include_usage\":true,\"x\":1},\"user\":\"u\","
    "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\","
    "\"description\":\"d\",\"parameters\":{\"type\":\"object\","
    "\"properties\":{\"b\":{\"type\":\"number\"},\"a\":{\"type\":\"string\","
    "\"enum\":[\"x\",\"y\"]}},\"required\":[\"b\"]}}}],\"tool_choice\":"
    "{\"type\":\"function\",\"function\":{\"name\":\"f\"}},"
    "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":"
    "\"r\",\"strict\":true,\"schema\":{\"type\":\"object\",\"properties\":"
    "{\"z\":{},\"k\":{}}}}},\"x_unknown\":{\"q\":[1,2.5,{}],\"p\":false}}";


static json_t *
load(const char *text)
{
    json_t  *json;

    json = json_loads(text, JSON_ALLOW_NUL, NULL);
    assert_non_null(json);

    return json;
}


/* as the serializers of the clients write */

static void
test_serializers(void **state)
{
    char    *text, *go, *p, *q;
    json_t  *json;
    size_t   i;

    static const size_t  flags[] = {
        JSON_ENSURE_ASCII,                                  /* Python */
        JSON_COMPACT,                                       /* Node */
        JSON_COMPACT|JSON_ESCAPE_SLASH,                     /* PHP */
        JSON_INDENT(4),
        JSON_INDENT(2)|JSON_ENSURE_ASCII|JSON_ESCAPE_SLASH
    };

    (void) state;

    json = load(chat);

    for (i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
        text = json_dumps(json, flags[i]|JSON_REAL_PRECISION(15));

        assert_true(strcmp(text, chat) != 0
                    || flags[i] == JSON_COMPACT);
        assert_true(same(LLM_CHAT, chat, text));

        /* Go escapes these three in all strings */

        go = malloc(strlen(text) * 6 + 1);
        q = go;

        for (p = text; *p; p++) {
            if (strchr("<>&", *p)) {
                q += sprintf(q, "\\u%04x", (unsigned) *p);

            } else {
                *q++ = *p;
            }
        }

        *q = '\0';

        assert_true(strlen(go) > strlen(text));
        assert_true(same(LLM_CHAT, chat, go));

        free(go);
        free(text);
    }

    json_decref(json);
}


/*
 * Members in another order: everywhere but in schemas and what is unknown,
 * or, with "schemas", there alone.
 */

static json_t *
shuffle(json_t *json, int kept, int schemas, uint32_t *seed)
{
    int          inside;
    size_t       i, j, n;
    json_t      *copy, *value;
    const char  *key, *keys[64], *swap;

    if (json_is_array(json)) {
        copy = json_array();

        json_array_foreach(json, i, value) {
            json_array_append_new(copy, shuffle(value, kept, schemas, seed));
        }

        return copy;
    }

    if (!json_is_object(json)) {
        return json_incref(json);
    }

    n = 0;
    copy = json_object();

    json_object_foreach(json, key, value) {
        keys[n++] = key;
    }

    if (kept == schemas) {

        for (i = n; i > 1; i--) {
            j = check_random(seed) % i;
            swap = keys[j];
            keys[j] = keys[i - 1];
            keys[i - 1] = swap;
        }
    }

    for (i = 0; i < n; i++) {
        inside = kept || strcmp(keys[i], "parameters") == 0
                 || strcmp(keys[i], "schema") == 0
                 || strcmp(keys[i], "x_unknown") == 0;

        json_object_set_new(copy, keys[i],
                            shuffle(json_object_get(json, keys[i]), inside,
                                    schemas, seed));
    }

    return copy;
}


static void
test_order(void **state)
{
    int        i, changed;
    char      *text, *before;
    json_t    *json, *copy;
    uint32_t   seed;

    (void) state;

    seed = 42;
    changed = 0;
    json = load(chat);
    before = json_dumps(json, JSON_COMPACT);

    for (i = 0; i < 300; i++) {
        copy = shuffle(json, 0, i & 1, &seed);
        text = json_dumps(copy, JSON_COMPACT);

        if (i & 1) {
            assert_int_equal(same(LLM_CHAT, before, text),
                             strcmp(before, text) == 0);
            changed += strcmp(before, text) != 0;

        } else {
            assert_true(same(LLM_CHAT, before, text));
        }

        free(text);
        json_decref(copy);
    }

    assert_true(changed > 100);

    free(before);
    json_decref(json);
}


static const char *const  dropped[] = {
    "model", "stream", "stream_options", "user", "safety_identifier",
    "metadata", "prompt_cache_key"
};


static int  changes;


/* the whole body with one thing changed must have other bytes */

static void
changed(json_t *root, const char *before)
{
    char  *text;

    text = json_dumps(root, JSON_COMPACT|JSON_REAL_PRECISION(15));

    assert_string_not_equal(text, before);

    if (same(LLM_CHAT, before, text)) {
        fail_msg("the same bytes:\n%s\n%s", before, text);
    }

    changes++;
    free(text);
}


static json_t *
other(const json_t *value)
{
    char  text[1024];

    switch (json_typeof(value)) {

    case JSON_STRING:
        snprintf(text, sizeof(text), "%s.", json_string_value(value));
        return json_string(text);

    case JSON_INTEGER:
        return json_integer(json_integer_value(value) + 1);

    case JSON_REAL:
        return json_real(json_real_value(value) + 0.125);

    case JSON_TRUE:
        return json_false();

    case JSON_FALSE:
        return json_null();

    case JSON_NULL:
        return json_string("null");

    case JSON_OBJECT:
        return json_array();

    default:
        return json_object();
    }
}


static void
change(json_t *root, json_t *json, const char *before)
{
    size_t       i, j;
    json_t      *value, *saved;
    const char  *key, *keys[64];

    if (json_is_array(json)) {

        for (i = 0; i < json_array_size(json); i++) {
            value = json_array_get(json, i);
            change(root, value, before);

            saved = json_incref(value);

            json_array_set_new(json, i, other(saved));
            changed(root, before);

            json_array_remove(json, i);
            changed(root, before);

            json_array_insert(json, i, saved);
            json_array_insert(json, i, saved);
            changed(root, before);

            json_array_remove(json, i);
            json_decref(saved);
        }

        return;
    }

    if (!json_is_object(json)) {
        return;
    }

    j = 0;

    json_object_foreach(json, key, value) {
        keys[j++] = key;
    }

    for (i = 0; i < j; i++) {
        char  name[64];

        snprintf(name, sizeof(name), "%s", keys[i]);
        value = json_object_get(json, name);

        change(root, value, before);

        saved = json_incref(value);

        json_object_set_new(json, name, other(saved));
        changed(root, before);

        json_object_set(json, name, saved);
        json_object_set_new(json, "one more", json_null());
        changed(root, before);
        json_object_del(json, "one more");

        json_decref(saved);
    }
}


static void
test_changes(void **state)
{
    char    *before;
    size_t   i;
    json_t  *json;

    (void) state;

    json = load(chat);

    for (i = 0; i < sizeof(dropped) / sizeof(dropped[0]); i++) {
        json_object_del(json, dropped[i]);
    }

    json_object_set_new(json, "model", json_string("a"));
    before = json_dumps(json, JSON_COMPACT|JSON_REAL_PRECISION(15));
    changes = 0;

    change(json, json_object_get(json, "messages"), before);
    change(json, json_object_get(json, "tools"), before);
    change(json, json_object_get(json, "response_format"), before);
    change(json, json_object_get(json, "tool_choice"), before);
    change(json, json_object_get(json, "logit_bias"), before);
    change(json, json_object_get(json, "x_unknown"), before);
    change(json, json_object_get(json, "stop"), before);

    assert_true(changes > 140);

    free(before);
    json_decref(json);
}


/* each top-level member: gone, or with another value */

static void
test_top_changes(void **state)
{
    char        *before;
    void        *next;
    json_t      *json, *value;
    unsigned     i, drop;
    const char  *key;

    (void) state;

    json = load(chat);
    before = json_dumps(json, JSON_COMPACT|JSON_REAL_PRECISION(15));
    changes = 0;

    json_object_foreach_safe(json, next, key, value) {
        char     name[64];
        char    *text;
        json_t  *copy;

        snprintf(name, sizeof(name), "%s", key);

        drop = 0;

        for (i = 0; i < sizeof(dropped) / sizeof(dropped[0]); i++) {
            drop |= strcmp(name, dropped[i]) == 0;
        }

        if (strcmp(name, "model") == 0 || strcmp(name, "messages") == 0) {
            continue;
        }

        copy = json_copy(json);
        json_object_del(copy, name);
        text = json_dumps(copy, JSON_COMPACT|JSON_REAL_PRECISION(15));
        assert_int_equal(same(LLM_CHAT, before, text), drop);
        free(text);
        json_decref(copy);

        if (json_is_array(value) || json_is_object(value)) {
            continue;
        }

        copy = json_copy(json);
        json_object_set_new(copy, name, other(value));
        text = json_dumps(copy, JSON_COMPACT|JSON_REAL_PRECISION(15));
        assert_int_equal(same(LLM_CHAT, before, text), drop);
        free(text);
        json_decref(copy);

        changes++;
    }

    assert_true(changes > 5);

    free(before);
    json_decref(json);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_serializers),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_changes),
        cmocka_unit_test(test_top_changes)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
