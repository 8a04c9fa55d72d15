
/*
 * Copyright (C) the ngx-llm authors
 *
 * The members of a team, a key and the defaults: what each may be.
 */


#include "core/llm_policy_parser.h"

#include <stdio.h>
#include <string.h>


#define LLM_POLICY_INTEGER      1000000000000000
#define LLM_POLICY_CONCURRENCY  1000000000
#define LLM_POLICY_SECONDS      1000000000
#define LLM_POLICY_USD          1000000000
#define LLM_POLICY_WEIGHT       1000
#define LLM_POLICY_PATTERN      256


static int llm_policy_integer(llm_policy_parser_t *ps, json_t *value,
    size_t offset);
static int llm_policy_concurrency(llm_policy_parser_t *ps, json_t *value,
    size_t offset);
static int llm_policy_budget(llm_policy_parser_t *ps, json_t *value,
    size_t offset);
static int llm_policy_queue(llm_policy_parser_t *ps, json_t *value,
    size_t offset);
static int llm_policy_cache(llm_policy_parser_t *ps, json_t *value,
    size_t offset);
static int llm_policy_flag(llm_policy_parser_t *ps, json_t *object,
    const char *name, int *flag);
static int llm_policy_priority(llm_policy_parser_t *ps, json_t *value,
    size_t offset);
static int llm_policy_on_exceed(llm_policy_parser_t *ps, json_t *value,
    size_t offset);
static int llm_policy_clamp(llm_policy_parser_t *ps, json_t *value,
    size_t offset);
static int llm_policy_weight(llm_policy_parser_t *ps, json_t *value,
    size_t offset);
static int llm_policy_models(llm_policy_parser_t *ps, json_t *value,
    size_t offset);
static int llm_policy_metadata(llm_policy_parser_t *ps, json_t *value,
    size_t offset);
static int llm_policy_keep(llm_policy_parser_t *ps, json_t *value);
static int llm_policy_of_team(llm_policy_parser_t *ps, json_t *value,
    size_t offset);
static int llm_policy_sha256(llm_policy_parser_t *ps, json_t *value,
    size_t offset);
static int llm_policy_expires(llm_policy_parser_t *ps, json_t *value,
    size_t offset);
static int llm_policy_enabled(llm_policy_parser_t *ps, json_t *value,
    size_t offset);


#define llm_policy_term(name)                                                 \
    { #name, LLM_POLICY_ALL, llm_policy_integer, offsetof(llm_terms_t, name) }

const llm_policy_member_t  llm_policy_members[] = {

    llm_policy_term(requests_per_minute),
    llm_policy_term(requests_per_day),
    llm_policy_term(tokens_per_minute),
    llm_policy_term(tokens_per_day),
    llm_policy_term(burst_requests),
    llm_policy_term(burst_tokens),

    { "concurrency", LLM_POLICY_ALL, llm_policy_concurrency, 0 },
    { "budget", LLM_POLICY_ALL, llm_policy_budget, 0 },
    { "queue", LLM_POLICY_ALL, llm_policy_queue, 0 },
    { "cache", LLM_POLICY_ALL, llm_policy_cache, 0 },
    { "priority", LLM_POLICY_ALL, llm_policy_priority, 0 },
    { "on_exceed", LLM_POLICY_ALL, llm_policy_on_exceed, 0 },
    { "clamp_max_tokens", LLM_POLICY_ALL, llm_policy_clamp, 0 },
    { "metadata", LLM_POLICY_ALL, llm_policy_metadata, 0 },

    { "weight", LLM_POLICY_TEAM|LLM_POLICY_KEY, llm_policy_weight, 0 },
    { "models", LLM_POLICY_TEAM|LLM_POLICY_KEY, llm_policy_models, 0 },

    { "team", LLM_POLICY_KEY, llm_policy_of_team, 0 },
    { "sha256", LLM_POLICY_KEY, llm_policy_sha256, 0 },
    { "expires", LLM_POLICY_KEY, llm_policy_expires, 0 },
    { "enabled", LLM_POLICY_KEY, llm_policy_enabled, 0 },

    { NULL, 0, NULL, 0 }
};


static int
llm_policy_integer(llm_policy_parser_t *ps, json_t *value,
    size_t offset)
{
    return llm_policy_range(&ps->at, value, 1, LLM_POLICY_INTEGER,
                            (int64_t *) ((char *) ps->terms + offset));
}


static int
llm_policy_concurrency(llm_policy_parser_t *ps, json_t *value,
    size_t offset)
{
    (void) offset;

    return llm_policy_range(&ps->at, value, 1, LLM_POLICY_CONCURRENCY,
                            &ps->terms->concurrency);
}


static int
llm_policy_budget(llm_policy_parser_t *ps, json_t *value, size_t offset)
{
    double                    usd;
    int64_t                   micro;
    json_t                   *part;
    const char               *period;
    static const char *const  names[] = { "usd", "period", NULL };

    (void) offset;

    if (llm_policy_only(&ps->at, value, names) != LLM_OK) {
        return LLM_ERROR;
    }

    ps->at.path.depth++;

    part = llm_policy_part(&ps->at, value, "usd");
    usd = json_number_value(part);

    if (!json_is_number(part) || usd <= 0 || usd > LLM_POLICY_USD) {
        return llm_policy_refuse(&ps->at,
                                 "a number above 0, at most 1000000000", part);
    }

    /*
     * Up to here a double tells millionths apart, and the quotient is the
     * very double that the decimal number was read as.
     */

    micro = (int64_t) (usd * 1000000 + 0.5);

    if ((double) micro / 1000000 != usd) {
        return llm_policy_refuse(&ps->at, "at most 6 decimals", part);
    }

    ps->terms->budget_micro_usd = micro;

    part = llm_policy_part(&ps->at, value, "period");
    period = json_string_value(part);

    if (period == NULL
        || (strcmp(period, "day") != 0 && strcmp(period, "month") != 0))
    {
        return llm_policy_refuse(&ps->at, "\"day\" or \"month\"", part);
    }

    ps->terms->budget_month = period[0] == 'm';
    ps->at.path.depth--;

    return LLM_OK;
}


static int
llm_policy_queue(llm_policy_parser_t *ps, json_t *value, size_t offset)
{
    int64_t                   n;
    json_t                   *part;
    static const char *const  names[] = {
        "size", "timeout_ms", "rates", NULL
    };

    (void) offset;

    if (llm_policy_only(&ps->at, value, names) != LLM_OK) {
        return LLM_ERROR;
    }

    ps->at.path.depth++;

    part = llm_policy_part(&ps->at, value, "size");

    if (part != NULL) {
        if (llm_policy_range(&ps->at, part, 0, 65536, &n) != LLM_OK) {
            return LLM_ERROR;
        }

        ps->terms->queue_size = (int) n;
    }

    part = llm_policy_part(&ps->at, value, "timeout_ms");

    if (part != NULL
        && llm_policy_range(&ps->at, part, 1, 3600000,
                            &ps->terms->queue_timeout)
           != LLM_OK)
    {
        return LLM_ERROR;
    }

    if (llm_policy_flag(ps, value, "rates", &ps->terms->queue_rates)
        != LLM_OK)
    {
        return LLM_ERROR;
    }

    ps->at.path.depth--;

    return LLM_OK;
}


static int
llm_policy_cache(llm_policy_parser_t *ps, json_t *value, size_t offset)
{
    int                       i;
    json_t                   *part;
    static const char *const  names[] = {
        "scope", "ttl_s", "use", "skip", NULL
    };
    static const char *const  scopes[] = {
        [LLM_SCOPE_TEAM] = "team",
        [LLM_SCOPE_KEY] = "key",
        [LLM_SCOPE_GLOBAL] = "global"
    };

    (void) offset;

    if (llm_policy_only(&ps->at, value, names) != LLM_OK) {
        return LLM_ERROR;
    }

    ps->at.path.depth++;

    part = llm_policy_part(&ps->at, value, "scope");

    for (i = LLM_SCOPE_TEAM; json_is_string(part); i++) {
        if (i > LLM_SCOPE_GLOBAL) {
            break;
        }

        if (strcmp(json_string_value(part), scopes[i]) == 0) {
            ps->terms->cache_scope = i;
            break;
        }
    }

    if (part != NULL && (!json_is_string(part) || i > LLM_SCOPE_GLOBAL)) {
        return llm_policy_refuse(&ps->at, "\"key\", \"team\" or \"global\"",
                                 part);
    }

    part = llm_policy_part(&ps->at, value, "ttl_s");

    if (part != NULL
        && llm_policy_range(&ps->at, part, 1, LLM_POLICY_SECONDS,
                            &ps->terms->cache_ttl)
           != LLM_OK)
    {
        return LLM_ERROR;
    }

    if (llm_policy_flag(ps, value, "use", &ps->terms->cache_use) != LLM_OK
        || llm_policy_flag(ps, value, "skip", &ps->terms->cache_skip)
           != LLM_OK)
    {
        return LLM_ERROR;
    }

    ps->at.path.depth--;

    return LLM_OK;
}


static int
llm_policy_flag(llm_policy_parser_t *ps, json_t *object, const char *name,
    int *flag)
{
    json_t  *part;

    part = llm_policy_part(&ps->at, object, name);

    if (part == NULL) {
        return LLM_OK;
    }

    if (!json_is_boolean(part)) {
        return llm_policy_refuse(&ps->at, "true or false", part);
    }

    *flag = json_is_true(part);

    return LLM_OK;
}


static int
llm_policy_priority(llm_policy_parser_t *ps, json_t *value, size_t offset)
{
    int64_t  n;

    (void) offset;

    if (llm_policy_range(&ps->at, value, -100, 100, &n) != LLM_OK) {
        return LLM_ERROR;
    }

    ps->terms->priority = (int) n;

    return LLM_OK;
}


static int
llm_policy_on_exceed(llm_policy_parser_t *ps, json_t *value, size_t offset)
{
    const char  *s;

    (void) offset;

    s = json_string_value(value);

    if (s == NULL || (strcmp(s, "finish") != 0 && strcmp(s, "cut") != 0)) {
        return llm_policy_refuse(&ps->at, "\"finish\" or \"cut\"", value);
    }

    ps->terms->cut = s[0] == 'c';

    return LLM_OK;
}


static int
llm_policy_clamp(llm_policy_parser_t *ps, json_t *value, size_t offset)
{
    (void) offset;

    if (!json_is_boolean(value)) {
        return llm_policy_refuse(&ps->at, "true or false", value);
    }

    ps->terms->clamp = json_is_true(value);

    return LLM_OK;
}


static int
llm_policy_weight(llm_policy_parser_t *ps, json_t *value, size_t offset)
{
    (void) offset;

    return llm_policy_range(&ps->at, value, 1, LLM_POLICY_WEIGHT,
                            &ps->terms->weight);
}


static int
llm_policy_models(llm_policy_parser_t *ps, json_t *value, size_t offset)
{
    size_t      i, n, len;
    json_t     *part;
    llm_str_t  *models;

    (void) offset;

    n = json_array_size(value);

    if (n == 0 || n > INT_MAX) {
        return llm_policy_refuse(&ps->at, "a list of at least one pattern",
                                 value);
    }

    models = llm_arena_alloc(ps->arena, n * sizeof(llm_str_t));

    if (models == NULL) {
        return llm_policy_no_memory(&ps->at);
    }

    for (i = 0; i < n; i++) {
        part = json_array_get(value, i);
        len = json_string_length(part);

        if (len == 0 || len > LLM_POLICY_PATTERN) {
            ps->at.path.index = (int) i;
            return llm_policy_refuse(&ps->at, "a pattern of 1 to 256 bytes",
                                     part);
        }

        if (llm_policy_copy(ps, &models[i], part) != LLM_OK) {
            return LLM_ERROR;
        }
    }

    ps->row->models = models;
    ps->row->nmodels = (unsigned) n;

    return LLM_OK;
}


/* for people and their tools: of the file it is checked and not kept */

static int
llm_policy_metadata(llm_policy_parser_t *ps, json_t *value, size_t offset)
{
    void    *iter;
    json_t  *part;

    (void) offset;

    if (!json_is_object(value)) {
        return llm_policy_refuse(&ps->at, "an object of strings", value);
    }

    for (iter = json_object_iter(value);
         iter != NULL;
         iter = json_object_iter_next(value, iter))
    {
        part = json_object_iter_value(iter);

        if (!json_is_string(part)) {
            ps->at.path.name[ps->at.path.depth++] = json_object_iter_key(iter);
            return llm_policy_refuse(&ps->at, "a string", part);
        }
    }

    if ((ps->how & LLM_POLICY_FILE) || json_object_size(value) == 0) {
        return LLM_OK;
    }

    return llm_policy_keep(ps, value);
}


static int
llm_policy_keep(llm_policy_parser_t *ps, json_t *value)
{
    char    *p, got[64];
    size_t   len;

    len = json_dumpb(value, NULL, 0, JSON_COMPACT);

    if (len > LLM_POLICY_METADATA) {
        snprintf(got, sizeof(got), "%zu", len);
        llm_policy_error(ps->at.err, ps->at.errlen, &ps->at.path,
                         "at most 1024 bytes", got);
        return LLM_ERROR;
    }

    p = llm_arena_alloc(ps->arena, len);

    if (len == 0 || p == NULL) {
        return llm_policy_no_memory(&ps->at);
    }

    ps->row->metadata.data = (unsigned char *) p;
    ps->row->metadata.len = json_dumpb(value, p, len, JSON_COMPACT);

    return ps->row->metadata.len == len ? LLM_OK
                                        : llm_policy_no_memory(&ps->at);
}


static int
llm_policy_of_team(llm_policy_parser_t *ps, json_t *value, size_t offset)
{
    (void) offset;

    /* whether there is such a team is asked later */

    if (!json_is_string(value) || json_string_length(value) == 0
        || json_string_length(value) > LLM_POLICY_NAME_MAX)
    {
        return llm_policy_refuse(&ps->at, "the name of a team", value);
    }

    return llm_policy_copy(ps, &ps->row->team, value);
}


static int
llm_policy_sha256(llm_policy_parser_t *ps, json_t *value, size_t offset)
{
    char  got[64];

    (void) offset;

    if (!json_is_string(value)) {
        return llm_policy_refuse(&ps->at, "64 hexadecimal digits", value);
    }

    if (llm_policy_read_hex(json_string_value(value),
                            json_string_length(value), ps->row->sha256)
        != LLM_OK)
    {
        /* not even a part: it may be the secret itself */

        snprintf(got, sizeof(got), "a string of %zu bytes",
                 json_string_length(value));
        llm_policy_error(ps->at.err, ps->at.errlen, &ps->at.path,
                         "64 hexadecimal digits", got);
        return LLM_ERROR;
    }

    return LLM_OK;
}


static int
llm_policy_expires(llm_policy_parser_t *ps, json_t *value, size_t offset)
{
    (void) offset;

    if (!json_is_string(value)
        || llm_policy_read_stamp(json_string_value(value),
                                 json_string_length(value), &ps->row->expires)
           != LLM_OK)
    {
        return llm_policy_refuse(&ps->at,
                                 "a time like \"2027-01-01T00:00:00Z\"",
                                 value);
    }

    return LLM_OK;
}


static int
llm_policy_enabled(llm_policy_parser_t *ps, json_t *value, size_t offset)
{
    (void) offset;

    if (!json_is_boolean(value)) {
        return llm_policy_refuse(&ps->at, "true or false", value);
    }

    ps->row->enabled = json_is_true(value);

    return LLM_OK;
}
