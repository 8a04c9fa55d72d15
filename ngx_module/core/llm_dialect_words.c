
/*
 * Copyright (C) the ngx-llm authors
 *
 * What errors mean, by their codes and by their words: providers have no
 * common codes, and some have none.
 */


#include "core/llm_dialect_private.h"

#include <string.h>


static int llm_dialect_code(const llm_dialect_error_t *e,
    const char *const *codes);
static int llm_dialect_says(const llm_str_t *text, const char *const *words);
static const unsigned char *llm_dialect_find(const unsigned char *p,
    const unsigned char *end, const char *word);
static size_t llm_dialect_unit(const unsigned char *p,
    const unsigned char *end, int64_t *unit);


static const char *const  llm_dialect_quota_codes[] = {
    "insufficient_quota", "insufficient_credits", "insufficient_balance",
    "billing_hard_limit_reached", "billing_not_active", "billing_error", NULL
};

/* all words in small letters */

static const char *const  llm_dialect_quota_words[] = {
    "insufficient_quota", "insufficient quota", "insufficient credit",
    "insufficient balance", "exceeded your current quota",
    "billing hard limit", "credit balance", "requires more credits",
    "monthly included credits", "available credits", "out of credits", NULL
};

/* with a 400, where a message may hold what a prompt says */

static const char *const  llm_dialect_broke_words[] = {
    "credit balance is too low", NULL
};

static const char *const  llm_dialect_context_codes[] = {
    "context_length_exceeded", "exceed_context_size_error", NULL
};

static const char *const  llm_dialect_context_words[] = {
    "context_length_exceeded",
    "maximum context length",               /* OpenAI, vLLM, Mistral */
    "exceeds the context window",
    "exceed the context window",
    "input tokens exceed the configured limit",
    "context length is only",               /* vLLM */
    "maximum model length",
    "too long to fit into the model",
    "maximum prompt length",                /* xAI */
    "exceeds the maximum number of tokens", /* Gemini */
    "prompt is too long",                   /* Anthropic */
    "exceed context limit",
    "available context size",               /* llama.cpp */
    "exceeds the context length",           /* Ollama */
    "longer than the model's context length",  /* SGLang */
    NULL
};

static const char *const  llm_dialect_filter_codes[] = {
    "content_filter", "content_policy_violation", "content_filter_error",
    NULL
};

static const char *const  llm_dialect_hints[] = {
    "try again in ", "retry after ", "retry in ", "try again after ", NULL
};


/* the longer ones first where one begins another */

static const struct {
    const char           *name;
    int64_t               ms;

} llm_dialect_units[] = {
    { "milliseconds", 1 },
    { "millisecond", 1 },
    { "minutes", 60000 },
    { "minute", 60000 },
    { "mins", 60000 },
    { "min", 60000 },
    { "ms", 1 },
    { "m", 60000 },
    { "seconds", 1000 },
    { "second", 1000 },
    { "secs", 1000 },
    { "sec", 1000 },
    { "s", 1000 },
    { "hours", 3600000 },
    { "hour", 3600000 },
    { "h", 3600000 },
    { "days", 86400000 },
    { "day", 86400000 },
    { "d", 86400000 }
};


void
llm_dialect_words(llm_dialect_error_t *e, unsigned status,
    const llm_str_t *text, int passing)
{
    llm_str_t  part;

    status = llm_dialect_meant(e, status);

    part = *text;

    if (part.len > LLM_DIALECT_TEXT) {
        part.len = LLM_DIALECT_TEXT;
    }

    /*
     * Gemini has the words of a spent quota for each of its rates: who says
     * how long to wait does not ask for money.
     */

    if (status == 402 || llm_dialect_code(e, llm_dialect_quota_codes)
        || (!passing && (status == 403 || status == 429)
            && llm_dialect_says(&part, llm_dialect_quota_words))
        || (status == 400
            && llm_dialect_says(&part, llm_dialect_broke_words)))
    {
        e->quota = 1;
    }

    /* a rate's words can be much the same */

    if (llm_dialect_code(e, llm_dialect_context_codes)
        || (status != 401 && status != 402 && status != 429
            && llm_dialect_says(&part, llm_dialect_context_words)))
    {
        e->context = 1;
    }

    if (llm_dialect_code(e, llm_dialect_filter_codes)) {
        e->filtered = 1;
    }
}


int64_t
llm_dialect_hint(const llm_str_t *text)
{
    int64_t               ms;
    const char *const    *hint;
    const unsigned char  *p, *end;

    if (text->len == 0) {
        return -1;
    }

    end = text->data + (text->len < LLM_DIALECT_TEXT ? text->len
                                                     : LLM_DIALECT_TEXT);

    for (hint = llm_dialect_hints; *hint != NULL; hint++) {
        p = text->data;

        while ((p = llm_dialect_find(p, end, *hint)) != NULL) {
            p += strlen(*hint);
            ms = llm_dialect_span(&p, end, 1000);

            /* a number may be the start of a date */

            if (ms != -1 && (p == end
                             || (*p != '-' && *p != ':' && *p != '/')))
            {
                return ms;
            }
        }
    }

    return -1;
}


int64_t
llm_dialect_span(const unsigned char **pos, const unsigned char *end,
    int64_t bare)
{
    int                   any;
    size_t                n;
    int64_t               ms, whole, fraction, scale, unit;
    const unsigned char  *p;

    p = *pos;
    ms = -1;

    for (any = 0; /* void */ ; any = 1) {

        if (p == end || *p < '0' || *p > '9') {
            return ms;
        }

        whole = 0;
        fraction = 0;
        scale = 1;

        for ( ; p < end && *p >= '0' && *p <= '9'; p++) {
            if (whole < LLM_DIALECT_DAY) {
                whole = whole * 10 + (*p - '0');
            }
        }

        if (end - p >= 2 && *p == '.' && p[1] >= '0' && p[1] <= '9') {
            for (p++; p < end && *p >= '0' && *p <= '9'; p++) {
                if (scale < 1000000000) {
                    fraction = fraction * 10 + (*p - '0');
                    scale *= 10;
                }
            }
        }

        n = llm_dialect_unit(p, end, &unit);

        if (n == 0) {

            /* "1m30" is no time, and the number is none of it */

            if (any || bare == 0) {
                return ms;
            }

            unit = bare;
        }

        p += n;

        whole = whole * unit + (fraction * unit + scale - 1) / scale;
        ms = (any ? ms : 0) + whole;

        if (ms > LLM_DIALECT_DAY) {
            ms = LLM_DIALECT_DAY;
        }

        *pos = p;

        if (n == 0) {
            return ms;
        }

        /* "1 minute 30 seconds" */

        while (p < end && *p == ' ') {
            p++;
        }
    }
}


/* how long it is, what may stand in front of it included; 0: none */

static size_t
llm_dialect_unit(const unsigned char *p, const unsigned char *end,
    int64_t *unit)
{
    size_t                i, n;
    const unsigned char  *q, *start;

    start = p;

    while (p < end && *p == ' ') {
        p++;
    }

    for (i = 0; i < sizeof(llm_dialect_units) / sizeof(llm_dialect_units[0]);
         i++)
    {
        n = strlen(llm_dialect_units[i].name);
        q = p + n;

        if ((size_t) (end - p) >= n
            && memcmp(p, llm_dialect_units[i].name, n) == 0
            && (q == end || (*q | 0x20) < 'a' || (*q | 0x20) > 'z'))
        {
            *unit = llm_dialect_units[i].ms;
            return (size_t) (q - start);
        }
    }

    return 0;
}


unsigned
llm_dialect_meant(const llm_dialect_error_t *e, unsigned status)
{
    unsigned  n;

    if (status >= 400 && status <= 599) {
        return status;
    }

    if (e->code.len == 3 && llm_dialect_numeric(&e->code)) {
        n = (unsigned) ((e->code.data[0] - '0') * 100
                        + (e->code.data[1] - '0') * 10
                        + (e->code.data[2] - '0'));

        if (n >= 400 && n <= 599) {
            return n;
        }
    }

    return 502;
}


int
llm_dialect_numeric(const llm_str_t *code)
{
    size_t  i;

    for (i = 0; i < code->len; i++) {
        if (code->data[i] < '0' || code->data[i] > '9') {
            return 0;
        }
    }

    return 1;
}


/* is the code or the type one of these? */

static int
llm_dialect_code(const llm_dialect_error_t *e, const char *const *codes)
{
    size_t  n;

    for ( /* void */ ; *codes != NULL; codes++) {
        n = strlen(*codes);

        if ((e->code.len == n && memcmp(e->code.data, *codes, n) == 0)
            || (e->type.len == n && memcmp(e->type.data, *codes, n) == 0))
        {
            return 1;
        }
    }

    return 0;
}


static int
llm_dialect_says(const llm_str_t *text, const char *const *words)
{
    if (text->len == 0) {
        return 0;
    }

    for ( /* void */ ; *words != NULL; words++) {

        if (llm_dialect_find(text->data, text->data + text->len, *words)
            != NULL)
        {
            return 1;
        }
    }

    return 0;
}


/* in capital or small letters */

static const unsigned char *
llm_dialect_find(const unsigned char *p, const unsigned char *end,
    const char *word)
{
    size_t         i, n;
    unsigned char  c;

    n = strlen(word);

    for ( /* void */ ; (size_t) (end - p) >= n; p++) {

        for (i = 0; i < n; i++) {
            c = p[i];

            if (c >= 'A' && c <= 'Z') {
                c |= 0x20;
            }

            if (c != (unsigned char) word[i]) {
                break;
            }
        }

        if (i == n) {
            return p;
        }
    }

    return NULL;
}
