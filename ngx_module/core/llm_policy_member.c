
/*
 * Copyright (C) the ngx-llm authors
 *
 * The members of a team, a key and the defaults: what each may be.
 */


#include "core/llm_policy_parser.h"

#include <stdio.h>
#include <string.h>


#define LLM_POLICY_INTEGER      1000000000000
#define LLM_POLICY_CONCURRENCY  1000000000
#define LLM_POLICY_SECONDS      1000000000
#define LLM_POLICY_USD          1000000000
#define LLM_POLICY_PATTERN      256


static json_t *llm_policy_part(llm_policy_parser_t *ps, json_t *object,
    const char *name);
static int llm_policy_range(llm_policy_parser_t *ps, json_t *value,
    int64_t min, int64_t max, int64_t *n);

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
static int llm_policy_priority(llm_policy_parser_t *ps, json_t *value,
    size_t offset);
static int llm_policy_models(llm_policy_parser_t *ps, json_t *value,
    size_t offset);
static int llm_policy_metadata(llm_policy_parser_t *ps, json_t *value,
    size_t offset);
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
    { "metadata", LLM_POLICY_ALL, llm_policy_metadata, 0 },

    { "models", LLM_POLICY_TEAM|LLM_POLICY_KEY, llm_policy_models, 0 },

    { "team", LLM_POLICY_KEY, llm_policy_of_team, 0 },
    { "sha256", LLM_POLICY_KEY, llm_policy_sha256, 0 },
    { "expires", LLM_POLICY_KEY, llm_policy_expires, 0 },
    { "enabled", LLM_POLICY_KEY, llm_policy_enabled, 0 },

    { NULL, 0, NULL, 0 }
};


/* a member of a member, at whose path it leaves the parser */

static json_t *
llm_policy_part(llm_policy_parser_t *ps, json_t *object, const char *name)
{
    ps->path.name[ps->path.depth - 1] = name;

    return json_object_get(object, name);
}


int
llm_policy_only(llm_policy_parser_t *ps, json_t *object,
    const char *const *names)
{
    void        *iter;
    unsigned     i;
    const char  *name;

    if (!json_is_object(object)) {
        return llm_policy_refuse(ps, "an object", object);
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
            ps->path.name[ps->path.depth++] = name;
            llm_policy_error(ps->err, ps->errlen, &ps->path, "unknown member",
                             NULL);
            return LLM_ERROR;
        }
    }

    return LLM_OK;
}


static int
llm_policy_range(llm_policy_parser_t *ps, json_t *value, int64_t min,
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

    return llm_policy_refuse(ps, text, value);
}


int
llm_policy_refuse(llm_policy_parser_t *ps, const char *expected,
    json_t *got)
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

    llm_policy_error(ps->err, ps->errlen, &ps->path, expected, text);

    return LLM_ERROR;
}


static int
llm_policy_integer(llm_policy_parser_t *ps, json_t *value,
    size_t offset)
{
    return llm_policy_range(ps, value, 1, LLM_POLICY_INTEGER,
                            (int64_t *) ((char *) ps->terms + offset));
}


static int
llm_policy_concurrency(llm_policy_parser_t *ps, json_t *value,
    size_t offset)
{
    (void) offset;

    return llm_policy_range(ps, value, 1, LLM_POLICY_CONCURRENCY,
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

    if (llm_policy_only(ps, value, names) != LLM_OK) {
        return LLM_ERROR;
    }

    ps->path.depth++;

    part = llm_policy_part(ps, value, "usd");
    usd = json_number_value(part);

    if (!json_is_number(part) || usd <= 0 || usd > LLM_POLICY_USD) {
        return llm_policy_refuse(ps, "a number above 0, at most 1000000000",
                                 part);
    }

    /*
     * Up to here a double tells millionths apart, and the quotient is the
     * very double that the decimal number was read as.
     */

    micro = (int64_t) (usd * 1000000 + 0.5);

    if ((double) micro / 1000000 != usd) {
        return llm_policy_refuse(ps, "at most 6 decimals", part);
    }

    ps->terms->budget_micro_usd = micro;

    part = llm_policy_part(ps, value, "period");
    period = json_string_value(part);

    if (period == NULL
        || (strcmp(period, "day") != 0 && strcmp(period, "month") != 0))
    {
        return llm_policy_refuse(ps, "\"day\" or \"month\"", part);
    }

    ps->terms->budget_month = period[0] == 'm';
    ps->path.depth--;

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

    if (llm_policy_only(ps, value, names) != LLM_OK) {
        return LLM_ERROR;
    }

    ps->path.depth++;

    part = llm_policy_part(ps, value, "size");

    if (part != NULL) {
        if (llm_policy_range(ps, part, 0, 65536, &n) != LLM_OK) {
            return LLM_ERROR;
        }

        ps->terms->queue_size = (int) n;
    }

    part = llm_policy_part(ps, value, "timeout_ms");

    if (part != NULL
        && llm_policy_range(ps, part, 1, 3600000, &ps->terms->queue_timeout)
           != LLM_OK)
    {
        return LLM_ERROR;
    }

    part = llm_policy_part(ps, value, "rates");

    if (part != NULL) {
        if (!json_is_boolean(part)) {
            return llm_policy_refuse(ps, "true or false", part);
        }

        ps->terms->queue_rates = json_is_true(part);
    }

    ps->path.depth--;

    return LLM_OK;
}


static int
llm_policy_cache(llm_policy_parser_t *ps, json_t *value, size_t offset)
{
    int                       i;
    json_t                   *part;
    static const char *const  names[] = { "scope", "ttl_s", NULL };
    static const char *const  scopes[] = {
        [LLM_SCOPE_TEAM] = "team",
        [LLM_SCOPE_KEY] = "key",
        [LLM_SCOPE_GLOBAL] = "global"
    };

    (void) offset;

    if (llm_policy_only(ps, value, names) != LLM_OK) {
        return LLM_ERROR;
    }

    ps->path.depth++;

    part = llm_policy_part(ps, value, "scope");

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
        return llm_policy_refuse(ps, "\"key\", \"team\" or \"global\"",
                                 part);
    }

    part = llm_policy_part(ps, value, "ttl_s");

    if (part != NULL
        && llm_policy_range(ps, part, 1, LLM_POLICY_SECONDS,
                            &ps->terms->cache_ttl)
           != LLM_OK)
    {
        return LLM_ERROR;
    }

    ps->path.depth--;

    return LLM_OK;
}


static int
llm_policy_priority(llm_policy_parser_t *ps, json_t *value, size_t offset)
{
    int64_t  n;

    (void) offset;

    if (llm_policy_range(ps, value, -100, 100, &n) != LLM_OK) {
        return LLM_ERROR;
    }

    ps->terms->priority = (int) n;

    return LLM_OK;
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
        return llm_policy_refuse(ps, "a list of at least one pattern", value);
    }

    models = ps->pattern;

    for (i = 0; i < n; i++) {
        part = json_array_get(value, i);
        len = json_string_length(part);

        if (len == 0 || len > LLM_POLICY_PATTERN) {
            ps->path.index = (int) i;
            return llm_policy_refuse(ps, "a pattern of 1 to 256 bytes", part);
        }

        ps->pattern->data = ps->text;
        ps->pattern->len = len;

        memcpy(ps->text, json_string_value(part), len);

        ps->text += len;
        ps->pattern++;
    }

    if (ps->key != NULL) {
        ps->key->models = models;
        ps->key->nmodels = (unsigned) n;
        return LLM_OK;
    }

    ps->team->models = models;
    ps->team->nmodels = (unsigned) n;

    return LLM_OK;
}


/* for people and their tools: checked, not kept */

static int
llm_policy_metadata(llm_policy_parser_t *ps, json_t *value, size_t offset)
{
    void    *iter;
    json_t  *part;

    (void) offset;

    if (!json_is_object(value)) {
        return llm_policy_refuse(ps, "an object of strings", value);
    }

    for (iter = json_object_iter(value);
         iter != NULL;
         iter = json_object_iter_next(value, iter))
    {
        part = json_object_iter_value(iter);

        if (!json_is_string(part)) {
            ps->path.name[ps->path.depth++] = json_object_iter_key(iter);
            return llm_policy_refuse(ps, "a string", part);
        }
    }

    return LLM_OK;
}


static int
llm_policy_of_team(llm_policy_parser_t *ps, json_t *value, size_t offset)
{
    (void) offset;

    if (json_is_string(value)) {
        ps->key->team = llm_policy_team_find(ps->policy,
                                             json_string_value(value),
                                             json_string_length(value));
    }

    if (ps->key->team == NULL) {
        return llm_policy_refuse(ps, "the name of a team", value);
    }

    return LLM_OK;
}


static int
llm_policy_sha256(llm_policy_parser_t *ps, json_t *value, size_t offset)
{
    char  got[64];

    (void) offset;

    if (!json_is_string(value)) {
        return llm_policy_refuse(ps, "64 hexadecimal digits", value);
    }

    if (llm_policy_read_hex(json_string_value(value),
                            json_string_length(value), ps->key->sha256)
        != LLM_OK)
    {
        /* not even a part: it may be the secret itself */

        snprintf(got, sizeof(got), "a string of %zu bytes",
                 json_string_length(value));
        llm_policy_error(ps->err, ps->errlen, &ps->path,
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
        || llm_policy_read_time(json_string_value(value),
                                json_string_length(value), &ps->key->expires)
           != LLM_OK)
    {
        return llm_policy_refuse(ps, "a time like \"2027-01-01T00:00:00Z\"",
                                 value);
    }

    return LLM_OK;
}


static int
llm_policy_enabled(llm_policy_parser_t *ps, json_t *value, size_t offset)
{
    (void) offset;

    if (!json_is_boolean(value)) {
        return llm_policy_refuse(ps, "true or false", value);
    }

    ps->key->enabled = json_is_true(value);

    return LLM_OK;
}
