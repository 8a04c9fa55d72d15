
/*
 * Copyright (C) the ngx-llm authors
 *
 * Members of rows as they are stored, beside those of the tenants file.
 */


#include "core/llm_policy_parser.h"

#include <stdio.h>
#include <string.h>


static int llm_policy_created(llm_policy_parser_t *ps, json_t *value,
    size_t offset);
static int llm_policy_version(llm_policy_parser_t *ps, json_t *value,
    size_t offset);
static int llm_policy_hint(llm_policy_parser_t *ps, json_t *value,
    size_t offset);
static int llm_policy_rotation(llm_policy_parser_t *ps, json_t *value,
    size_t offset);
static int llm_policy_raises(llm_policy_parser_t *ps, json_t *value,
    size_t offset);
static int llm_policy_raise_one(llm_policy_parser_t *ps, json_t *value);


#define LLM_POLICY_STORED_ALL  (LLM_POLICY_TEAM|LLM_POLICY_KEY)

const llm_policy_member_t  llm_policy_stored[] = {

    { "created", LLM_POLICY_STORED_ALL, llm_policy_created, 0 },
    { "version", LLM_POLICY_STORED_ALL, llm_policy_version, 0 },
    { "raises", LLM_POLICY_STORED_ALL, llm_policy_raises, 0 },
    { "hint", LLM_POLICY_KEY, llm_policy_hint, 0 },
    { "rotation", LLM_POLICY_KEY, llm_policy_rotation, 0 },

    { NULL, 0, NULL, 0 }
};


static int
llm_policy_created(llm_policy_parser_t *ps, json_t *value, size_t offset)
{
    (void) offset;

    return llm_policy_range(&ps->at, value, 1, INT64_MAX, &ps->row->created);
}


static int
llm_policy_version(llm_policy_parser_t *ps, json_t *value, size_t offset)
{
    int64_t  n;

    (void) offset;

    if (llm_policy_range(&ps->at, value, 1, INT64_MAX, &n) != LLM_OK) {
        return LLM_ERROR;
    }

    ps->row->version = (uint64_t) n;

    return LLM_OK;
}


static int
llm_policy_hint(llm_policy_parser_t *ps, json_t *value, size_t offset)
{
    (void) offset;

    if (!json_is_string(value)
        || json_string_length(value) > LLM_POLICY_HINT)
    {
        return llm_policy_refuse(&ps->at, "a string of at most 16 bytes",
                                 value);
    }

    return llm_policy_copy(ps, &ps->row->hint, value);
}


static int
llm_policy_rotation(llm_policy_parser_t *ps, json_t *value, size_t offset)
{
    json_t                    *part;
    static const char *const  names[] = { "sha256", "until", NULL };

    (void) offset;

    if (llm_policy_only(&ps->at, value, names) != LLM_OK) {
        return LLM_ERROR;
    }

    ps->at.path.depth++;

    part = llm_policy_part(&ps->at, value, "sha256");

    if (!json_is_string(part)
        || llm_policy_read_hex(json_string_value(part),
                               json_string_length(part),
                               ps->row->old_sha256)
           != LLM_OK)
    {
        llm_policy_error(ps->at.err, ps->at.errlen, &ps->at.path,
                         "expected 64 hexadecimal digits", NULL);
        return LLM_ERROR;
    }

    part = llm_policy_part(&ps->at, value, "until");

    if (llm_policy_range(&ps->at, part, 1, INT64_MAX, &ps->row->old_until)
        != LLM_OK)
    {
        return LLM_ERROR;
    }

    ps->at.path.depth--;

    return LLM_OK;
}


static int
llm_policy_raises(llm_policy_parser_t *ps, json_t *value, size_t offset)
{
    size_t  i;

    (void) offset;

    if (!json_is_array(value)) {
        return llm_policy_refuse(&ps->at, "a list", value);
    }

    for (i = 0; i < json_array_size(value); i++) {
        ps->at.path.index = (int) i;

        if (llm_policy_raise_one(ps, json_array_get(value, i)) != LLM_OK) {
            return LLM_ERROR;
        }
    }

    ps->at.path.index = -1;

    return LLM_OK;
}


static int
llm_policy_raise_one(llm_policy_parser_t *ps, json_t *value)
{
    int                        k;
    json_t                    *limit;
    llm_raise_t               *raise;
    static const char *const  names[] = { "limit", "value", "until", NULL };

    if (llm_policy_only(&ps->at, value, names) != LLM_OK) {
        return LLM_ERROR;
    }

    limit = json_object_get(value, "limit");

    for (k = 0; k < LLM_RAISES; k++) {
        if (json_is_string(limit)
            && strcmp(json_string_value(limit), llm_policy_raise_names[k])
               == 0)
        {
            break;
        }
    }

    if (k == LLM_RAISES) {
        return llm_policy_refuse(&ps->at, "the name of a limit", limit);
    }

    raise = &ps->row->raise[k];

    if (llm_policy_range(&ps->at, json_object_get(value, "value"), 1,
                         INT64_MAX, &raise->value)
        != LLM_OK)
    {
        return LLM_ERROR;
    }

    return llm_policy_range(&ps->at, json_object_get(value, "until"), 1,
                            INT64_MAX, &raise->until);
}
