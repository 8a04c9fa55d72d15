
/*
 * Copyright (C) the ngx-llm authors
 *
 * A row as JSON: the way back of the parser.
 */


#include "core/llm_policy_private.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>


typedef struct {
    char                 *buf;
    size_t                size;
    size_t                len;
    int                   comma;           /* before the next member */
} llm_policy_out_t;


static void llm_policy_write_terms(llm_policy_out_t *out,
    const llm_terms_t *terms);
static void llm_policy_write_queue(llm_policy_out_t *out,
    const llm_terms_t *terms);
static void llm_policy_write_cache(llm_policy_out_t *out,
    const llm_terms_t *terms);
static void llm_policy_write_stored(llm_policy_out_t *out,
    const llm_policy_row_t *row);
static void llm_policy_write_budget(llm_policy_out_t *out,
    const llm_terms_t *terms);
static void llm_policy_write_number(llm_policy_out_t *out, const char *name,
    int64_t n);
static void llm_policy_write_flag(llm_policy_out_t *out, const char *name,
    int flag);
static void llm_policy_write_name(llm_policy_out_t *out, const char *name);
static void llm_policy_write_text(llm_policy_out_t *out,
    const llm_str_t *text);
static void llm_policy_write_hex(llm_policy_out_t *out,
    const unsigned char *bytes);
static void llm_policy_write(llm_policy_out_t *out, const char *s,
    size_t len);
static void llm_policy_format(llm_policy_out_t *out, const char *fmt, ...);


const char *const  llm_policy_raise_names[LLM_RAISES] = {
    [LLM_RAISE_REQUESTS_PER_MINUTE] = "requests_per_minute",
    [LLM_RAISE_TOKENS_PER_MINUTE] = "tokens_per_minute",
    [LLM_RAISE_REQUESTS_PER_DAY] = "requests_per_day",
    [LLM_RAISE_TOKENS_PER_DAY] = "tokens_per_day",
    [LLM_RAISE_CONCURRENCY] = "concurrency",
    [LLM_RAISE_BUDGET] = "budget"
};


size_t
llm_policy_row_write(const llm_policy_row_t *row, unsigned how, char *buf,
    size_t size)
{
    char              time[LLM_POLICY_TIME];
    unsigned          i;
    llm_policy_out_t  out;

    memset(&out, 0, sizeof(llm_policy_out_t));

    out.buf = buf;
    out.size = size;

    if (row->team.len != 0) {
        llm_policy_write_name(&out, "team");
        llm_policy_write_text(&out, &row->team);
    }

    llm_policy_write_terms(&out, &row->terms);

    if (row->nmodels != 0) {
        llm_policy_write_name(&out, "models");

        for (i = 0; i < row->nmodels; i++) {
            llm_policy_write(&out, i == 0 ? "[" : ",", 1);
            llm_policy_write_text(&out, &row->models[i]);
        }

        llm_policy_write(&out, "]", 1);
    }

    if (row->expires != 0) {
        llm_policy_write_name(&out, "expires");
        llm_policy_show_stamp(time, row->expires);
        llm_policy_format(&out, "\"%s\"", time);
    }

    if (!row->enabled) {
        llm_policy_write_flag(&out, "enabled", 0);
    }

    if (row->metadata.len != 0) {
        llm_policy_write_name(&out, "metadata");
        llm_policy_write(&out, (const char *) row->metadata.data,
                         row->metadata.len);
    }

    if (how & LLM_POLICY_RECORD) {
        llm_policy_write_stored(&out, row);
    }

    return out.len;
}


static void
llm_policy_write_terms(llm_policy_out_t *out, const llm_terms_t *terms)
{
    llm_policy_write_number(out, "requests_per_minute",
                            terms->requests_per_minute);
    llm_policy_write_number(out, "requests_per_day", terms->requests_per_day);
    llm_policy_write_number(out, "tokens_per_minute",
                            terms->tokens_per_minute);
    llm_policy_write_number(out, "tokens_per_day", terms->tokens_per_day);
    llm_policy_write_number(out, "burst_requests", terms->burst_requests);
    llm_policy_write_number(out, "burst_tokens", terms->burst_tokens);
    llm_policy_write_number(out, "concurrency", terms->concurrency);

    if (terms->budget_micro_usd != -1) {
        llm_policy_write_budget(out, terms);
    }

    llm_policy_write_queue(out, terms);
    llm_policy_write_cache(out, terms);

    if (terms->priority != LLM_POLICY_UNSET) {
        llm_policy_write_name(out, "priority");
        llm_policy_format(out, "%d", terms->priority);
    }

    if (terms->cut != -1) {
        llm_policy_write_name(out, "on_exceed");
        llm_policy_format(out, "\"%s\"", terms->cut ? "cut" : "finish");
    }

    llm_policy_write_flag(out, "clamp_max_tokens", terms->clamp);
    llm_policy_write_number(out, "weight", terms->weight);
}


static void
llm_policy_write_budget(llm_policy_out_t *out, const llm_terms_t *terms)
{
    char  usd[32];
    int   n;

    n = snprintf(usd, sizeof(usd), "%lld.%06lld",
                 (long long) (terms->budget_micro_usd / 1000000),
                 (long long) (terms->budget_micro_usd % 1000000));

    while (usd[n - 1] == '0') {
        n--;
    }

    if (usd[n - 1] == '.') {
        n--;
    }

    llm_policy_write_name(out, "budget");
    llm_policy_format(out, "{\"usd\":%.*s,\"period\":\"%s\"}", n, usd,
                      terms->budget_month ? "month" : "day");
}


static void
llm_policy_write_queue(llm_policy_out_t *out, const llm_terms_t *terms)
{
    if (terms->queue_size == -1 && terms->queue_timeout == -1
        && terms->queue_rates == -1)
    {
        return;
    }

    llm_policy_write_name(out, "queue");
    llm_policy_write(out, "{", 1);

    out->comma = 0;
    llm_policy_write_number(out, "size", terms->queue_size);
    llm_policy_write_number(out, "timeout_ms", terms->queue_timeout);
    llm_policy_write_flag(out, "rates", terms->queue_rates);
    out->comma = 1;

    llm_policy_write(out, "}", 1);
}


static void
llm_policy_write_cache(llm_policy_out_t *out, const llm_terms_t *terms)
{
    static const char *const  scopes[] = {
        [LLM_SCOPE_TEAM] = "team",
        [LLM_SCOPE_KEY] = "key",
        [LLM_SCOPE_GLOBAL] = "global"
    };

    if (terms->cache_scope == -1 && terms->cache_ttl == -1
        && terms->cache_use == -1 && terms->cache_skip == -1)
    {
        return;
    }

    llm_policy_write_name(out, "cache");
    llm_policy_write(out, "{", 1);

    out->comma = 0;

    if (terms->cache_scope != -1) {
        llm_policy_write_name(out, "scope");
        llm_policy_format(out, "\"%s\"", scopes[terms->cache_scope]);
    }

    llm_policy_write_number(out, "ttl_s", terms->cache_ttl);
    llm_policy_write_flag(out, "use", terms->cache_use);
    llm_policy_write_flag(out, "skip", terms->cache_skip);
    out->comma = 1;

    llm_policy_write(out, "}", 1);
}


static void
llm_policy_write_stored(llm_policy_out_t *out, const llm_policy_row_t *row)
{
    int       n;
    unsigned  i;

    if (row->created != 0) {
        llm_policy_write_number(out, "created", row->created);
    }

    if (row->version != 0) {
        llm_policy_write_number(out, "version", (int64_t) row->version);
    }

    for (i = 0, n = 0; i < LLM_RAISES; i++) {

        if (row->raise[i].until == 0) {
            continue;
        }

        if (n++ == 0) {
            llm_policy_write_name(out, "raises");
            llm_policy_write(out, "[", 1);

        } else {
            llm_policy_write(out, ",", 1);
        }

        llm_policy_format(out, "{\"limit\":\"%s\",\"value\":%lld,"
                          "\"until\":%lld}", llm_policy_raise_names[i],
                          (long long) row->raise[i].value,
                          (long long) row->raise[i].until);
    }

    if (n != 0) {
        llm_policy_write(out, "]", 1);
    }

    if (row->kind != LLM_ROW_KEY) {
        return;
    }

    llm_policy_write_name(out, "sha256");
    llm_policy_write_hex(out, row->sha256);

    if (row->hint.len != 0) {
        llm_policy_write_name(out, "hint");
        llm_policy_write_text(out, &row->hint);
    }

    if (row->old_until != 0) {
        llm_policy_write_name(out, "rotation");
        llm_policy_write(out, "{\"sha256\":", 10);
        llm_policy_write_hex(out, row->old_sha256);
        llm_policy_format(out, ",\"until\":%lld}",
                          (long long) row->old_until);
    }
}


/* what is not given, -1, is not written */

static void
llm_policy_write_number(llm_policy_out_t *out, const char *name, int64_t n)
{
    if (n != -1) {
        llm_policy_write_name(out, name);
        llm_policy_format(out, "%lld", (long long) n);
    }
}


static void
llm_policy_write_flag(llm_policy_out_t *out, const char *name, int flag)
{
    if (flag != -1) {
        llm_policy_write_name(out, name);
        llm_policy_format(out, "%s", flag ? "true" : "false");
    }
}


static void
llm_policy_write_name(llm_policy_out_t *out, const char *name)
{
    llm_policy_format(out, "%s\"%s\":", out->comma ? "," : "", name);
    out->comma = 1;
}


static void
llm_policy_write_text(llm_policy_out_t *out, const llm_str_t *text)
{
    size_t         i;
    unsigned char  c;

    llm_policy_write(out, "\"", 1);

    for (i = 0; i < text->len; i++) {
        c = text->data[i];

        if (c < 0x20) {
            llm_policy_format(out, "\\u%04x", c);
            continue;
        }

        if (c == '"' || c == '\\') {
            llm_policy_write(out, "\\", 1);
        }

        llm_policy_write(out, (const char *) &c, 1);
    }

    llm_policy_write(out, "\"", 1);
}


static void
llm_policy_write_hex(llm_policy_out_t *out, const unsigned char *bytes)
{
    char               text[66];
    unsigned           i;
    static const char  digits[] = "0123456789abcdef";

    for (i = 0; i < 32; i++) {
        text[1 + 2 * i] = digits[bytes[i] >> 4];
        text[2 + 2 * i] = digits[bytes[i] & 15];
    }

    text[0] = '"';
    text[65] = '"';

    llm_policy_write(out, text, sizeof(text));
}


static void
llm_policy_format(llm_policy_out_t *out, const char *fmt, ...)
{
    int      n;
    char     text[128];
    va_list  args;

    va_start(args, fmt);
    n = vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);

    llm_policy_write(out, text, (size_t) n);
}


/* goes on counting where there is no room any more */

static void
llm_policy_write(llm_policy_out_t *out, const char *s, size_t len)
{
    if (out->len <= out->size && len <= out->size - out->len && len != 0) {
        memcpy(out->buf + out->len, s, len);
    }

    out->len += len;
}
