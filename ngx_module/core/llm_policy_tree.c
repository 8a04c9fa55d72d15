
/*
 * Copyright (C) the ngx-llm authors
 *
 * Reading JSON files of people: what stands where, and how an error tells it.
 */


#include "core/llm_policy_parser.h"
#include "core/llm_tree.h"

#include <stdio.h>
#include <string.h>


static void llm_policy_hide(json_error_t *je);


json_t *
llm_policy_load(const char *text, size_t len, char *err, size_t errlen)
{
    json_t       *root;
    json_error_t  je;

    memset(&je, 0, sizeof(json_error_t));

    root = llm_tree_load(text, len, JSON_REJECT_DUPLICATES, &je);

    if (root != NULL) {
        return root;
    }

    llm_policy_hide(&je);

    snprintf(err, errlen, "line %d, column %d: %s", je.line, je.column,
             je.text);

    return NULL;
}


json_t *
llm_policy_load_value(const char *text, size_t len, json_error_t *je)
{
    json_t  *value;

    memset(je, 0, sizeof(json_error_t));

    value = llm_tree_load(text, len, JSON_REJECT_DUPLICATES|JSON_DECODE_ANY,
                          je);

    if (value == NULL) {
        llm_policy_hide(je);
    }

    return value;
}


/* what it is near to may be a secret */

static void
llm_policy_hide(json_error_t *je)
{
    char  *near;

    near = strstr(je->text, " near '");

    if (near != NULL) {
        *near = '\0';
    }
}


json_t *
llm_policy_part(llm_policy_at_t *at, json_t *object, const char *name)
{
    at->path.name[at->path.depth - 1] = name;

    return json_object_get(object, name);
}


int
llm_policy_only(llm_policy_at_t *at, json_t *object,
    const char *const *names)
{
    void        *iter;
    unsigned     i;
    const char  *name;

    if (!json_is_object(object)) {
        return llm_policy_refuse(at, "an object", object);
    }

    for (iter = json_object_iter(object);
         iter != NULL;
         iter = json_object_iter_next(object, iter))
    {
        name = json_object_iter_key(iter);

        for (i = 0; names[i] != NULL && strcmp(names[i], name) != 0; i++) {
            /* void */
        }

        if (names[i] == NULL) {
            at->path.name[at->path.depth++] = name;
            llm_policy_error(at->err, at->errlen, &at->path, "unknown member",
                             NULL);
            return LLM_ERROR;
        }
    }

    return LLM_OK;
}


int
llm_policy_range(llm_policy_at_t *at, json_t *value, int64_t min,
    int64_t max, int64_t *n)
{
    char  text[80];

    *n = json_integer_value(value);

    if (json_is_integer(value) && *n >= min && *n <= max) {
        return LLM_OK;
    }

    snprintf(text, sizeof(text), "an integer from %lld to %lld",
             (long long) min, (long long) max);

    if (min == 1 && !(json_is_integer(value) && *n > max)) {
        snprintf(text, sizeof(text), "a positive integer");
    }

    return llm_policy_refuse(at, text, value);
}


int
llm_policy_no_memory(llm_policy_at_t *at)
{
    snprintf(at->err, at->errlen, "out of memory");

    return LLM_ERROR;
}


int
llm_policy_refuse(llm_policy_at_t *at, const char *expected, json_t *got)
{
    char    text[LLM_POLICY_SHOW + 32];
    size_t  n;

    switch (got != NULL ? json_typeof(got) : JSON_NULL) {

    case JSON_OBJECT:
        snprintf(text, sizeof(text), "an object");
        break;

    case JSON_ARRAY:
        snprintf(text, sizeof(text),
                 json_array_size(got) != 0 ? "a list" : "an empty list");
        break;

    case JSON_STRING:
        llm_policy_show(text, sizeof(text), json_string_value(got),
                        json_string_length(got));
        break;

    case JSON_INTEGER:
    case JSON_REAL:
        n = json_dumpb(got, text, LLM_POLICY_SHOW,
                       JSON_ENCODE_ANY|JSON_REAL_PRECISION(15));

        if (n == 0 || n > LLM_POLICY_SHOW) {
            n = (size_t) snprintf(text, sizeof(text), "a number");
        }

        text[n] = '\0';
        break;

    case JSON_TRUE:
        snprintf(text, sizeof(text), "true");
        break;

    case JSON_FALSE:
        snprintf(text, sizeof(text), "false");
        break;

    case JSON_NULL:
        snprintf(text, sizeof(text), got != NULL ? "null" : "nothing");
        break;
    }

    llm_policy_error(at->err, at->errlen, &at->path, expected, text);

    return LLM_ERROR;
}
