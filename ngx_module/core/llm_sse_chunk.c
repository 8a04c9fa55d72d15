
/*
 * Copyright (C) the ngx-llm authors
 */


#include "core/llm_sse_private.h"

#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif


typedef int (*llm_sse_member_pt)(llm_sse_reader_t *rd);


static unsigned llm_sse_telling(const unsigned char *p,
    const unsigned char *end);
static int llm_sse_some(const unsigned char *p, const unsigned char *end,
    int value);
static int llm_sse_members(llm_sse_reader_t *rd, llm_sse_member_pt member);
static int llm_sse_choices(llm_sse_reader_t *rd);
static int llm_sse_choice(llm_sse_reader_t *rd);
static void llm_sse_usage(llm_sse_reader_t *rd, const llm_str_t *data,
    llm_usage_t *usage);


/* the shortest that could be: "usage" or "error" */

#define LLM_SSE_TELLING  7


#define llm_sse_starts(p, len, s)                                             \
    (len >= sizeof(s) - 1 && *p == s[0] && memcmp(p, s, sizeof(s) - 1) == 0)


/*
 * Is there anything that could make the event more than a piece of text?
 * Names inside generated text do not look like names, since their quotes are
 * escaped; what is left of false alarms is for the reader to tell.
 */

unsigned
llm_sse_suspect(const unsigned char *p, const unsigned char *end)
{
    unsigned  look;

#if defined(__SSE2__)
    unsigned  mask;
    __m128i   x, y, eu, fr;
#endif

    look = 0;

#if defined(__SSE2__)

    while (end - p > 16) {

        x = _mm_loadu_si128((const __m128i *) (const void *) p);
        y = _mm_loadu_si128((const __m128i *) (const void *) (p + 1));

        /* '"' and "e" or "u" (one bit apart) or "f" or "r" (two bits) */

        eu = _mm_cmpeq_epi8(_mm_or_si128(y, _mm_set1_epi8(0x10)),
                            _mm_set1_epi8('u'));
        fr = _mm_cmpeq_epi8(_mm_or_si128(y, _mm_set1_epi8(0x14)),
                            _mm_set1_epi8('f' | 'r'));
        x = _mm_cmpeq_epi8(x, _mm_set1_epi8('"'));

        mask = (unsigned) _mm_movemask_epi8(
                              _mm_and_si128(x, _mm_or_si128(eu, fr)));

        for ( ; mask != 0; mask &= mask - 1) {
            look |= llm_sse_telling(p + __builtin_ctz(mask), end);
        }

        p += 16;

        /* what is left is looked at with some of what has been */

        if (end - p <= 16 && end - p >= LLM_SSE_TELLING) {
            p = end - 17;
        }
    }
#endif

    if (end - p < LLM_SSE_TELLING) {
        return look;
    }

    while (p < end) {
        p = memchr(p, '"', (size_t) (end - p));

        if (p == NULL) {
            break;
        }

        look |= llm_sse_telling(p, end);

        p++;
    }

    return look;
}


/*
 * At '"': a name whose value is not null, or one of the types; or an error
 * that is none.
 */

static unsigned
llm_sse_telling(const unsigned char *p, const unsigned char *end)
{
    size_t  len;

    p++;
    len = (size_t) (end - p);

    /* the first letter alone rules nearly all others out */

    if (llm_sse_starts(p, len, "finish_reason\"")) {
        return llm_sse_some(p + 14, end, 0) ? LLM_SSE_SUSPECT : 0;
    }

    if (llm_sse_starts(p, len, "usage\"")) {
        return llm_sse_some(p + 6, end, 0) ? LLM_SSE_SUSPECT : 0;
    }

    if (llm_sse_starts(p, len, "error\"")) {
        return llm_sse_some(p + 6, end, 1) ? LLM_SSE_SUSPECT : LLM_SSE_NULLED;
    }

    return llm_sse_starts(p, len, "response.completed\"")
           || llm_sse_starts(p, len, "response.incomplete\"")
           || llm_sse_starts(p, len, "response.failed\"")
           ? LLM_SSE_SUSPECT : 0;
}


/* behind a name: is there some value? "value": it may be one itself */

static int
llm_sse_some(const unsigned char *p, const unsigned char *end, int value)
{
    while (p < end && (*p == ' ' || *p == '\t')) {
        p++;
    }

    if (p < end && *p != ':') {
        return value;
    }

    while (p < end && (*p == ':' || *p == ' ' || *p == '\t')) {
        p++;
    }

    /* where the line ends here, the value is on the next one */

    return end - p < 4 || memcmp(p, "null", 4) != 0;
}


unsigned
llm_sse_read(llm_sse_reader_t *rd, const llm_str_t *data, llm_usage_t *usage)
{
    int                array;
    llm_json_t        *js;
    llm_json_token_e   token;
    llm_sse_member_pt  member;

    js = &rd->js;

    llm_json_init(js, data->data, data->len);

    token = llm_json_next(js);

    /* some put an error into an array, and nothing else */

    array = (token == LLM_JSON_ARRAY);

    if (array) {
        token = llm_json_next(js);
    }

    member = rd->text != NULL && !array ? llm_sse_text_member : llm_sse_member;

    /* the end of an answer must be whole, an error need not be */

    if (token != LLM_JSON_OBJECT || llm_sse_members(rd, member) != LLM_OK
        || array || llm_json_next(js) != LLM_JSON_END)
    {
        return rd->bits & LLM_SSE_ERROR;
    }

    if (rd->usage) {
        llm_sse_usage(rd, data, usage);
    }

    return rd->bits;
}


/* the rest of an object: "member" stands behind a name and reads its value */

static int
llm_sse_members(llm_sse_reader_t *rd, llm_sse_member_pt member)
{
    llm_json_token_e  token;

    while ((token = llm_json_next(&rd->js)) == LLM_JSON_NAME) {
        if (member(rd) != LLM_OK) {
            return LLM_ERROR;
        }
    }

    return token == LLM_JSON_OBJECT_END ? LLM_OK : LLM_ERROR;
}


int
llm_sse_member(llm_sse_reader_t *rd)
{
    int                usage;
    llm_json_t        *js;
    llm_json_token_e   token;

    js = &rd->js;

    if (llm_sse_is(rd, "choices")) {
        return llm_sse_choices(rd);
    }

    if (llm_sse_is(rd, "error")) {
        token = llm_json_next(js);

        if (token != LLM_JSON_NULL) {
            rd->bits |= LLM_SSE_ERROR;
        }

        return llm_sse_value(rd, token);
    }

    if (llm_sse_is(rd, "type")) {
        token = llm_json_next(js);

        if (token == LLM_JSON_STRING) {
            rd->bits |= llm_sse_type(js->start + 1,
                                     (size_t) (js->end - js->start) - 2);
        }

        return llm_sse_value(rd, token);
    }

    if (llm_sse_is(rd, "object")) {
        token = llm_json_next(js);

        if (token == LLM_JSON_STRING && llm_json_is(js, "error", 5)) {
            rd->bits |= LLM_SSE_ERROR;
        }

        return llm_sse_value(rd, token);
    }

    usage = llm_sse_is(rd, "usage") || llm_sse_is(rd, "response")
            || llm_sse_is(rd, "x_groq");

    token = llm_json_next(js);

    if (usage && token == LLM_JSON_OBJECT) {
        rd->usage = 1;
    }

    return llm_sse_value(rd, token);
}


static int
llm_sse_choices(llm_sse_reader_t *rd)
{
    llm_json_token_e  token;

    token = llm_json_next(&rd->js);

    if (token != LLM_JSON_ARRAY) {
        return llm_sse_value(rd, token);
    }

    while ((token = llm_json_next(&rd->js)) == LLM_JSON_OBJECT) {
        rd->choices++;

        if (llm_sse_members(rd, llm_sse_choice) != LLM_OK) {
            return LLM_ERROR;
        }
    }

    return token == LLM_JSON_ARRAY_END ? LLM_OK : LLM_ERROR;
}


static int
llm_sse_choice(llm_sse_reader_t *rd)
{
    llm_json_token_e  token;

    if (!llm_sse_is(rd, "finish_reason")) {
        return llm_sse_value(rd, llm_json_next(&rd->js));
    }

    token = llm_json_next(&rd->js);

    /* some give an empty one until there is a reason */

    if (token == LLM_JSON_STRING && rd->js.size != 0) {
        rd->bits |= LLM_SSE_FINISH;
    }

    return llm_sse_value(rd, token);
}


int
llm_sse_value(llm_sse_reader_t *rd, llm_json_token_e token)
{
    if (token == LLM_JSON_OBJECT || token == LLM_JSON_ARRAY) {
        token = llm_json_skip(&rd->js);
    }

    return token != LLM_JSON_ERROR ? LLM_OK : LLM_ERROR;
}


static void
llm_sse_usage(llm_sse_reader_t *rd, const llm_str_t *data,
    llm_usage_t *usage)
{
    llm_answer_t  an;

    llm_answer_scan(&an, rd->endpoint, data->data, data->len);

    if (an.usage.prompt_tokens == -1 && an.usage.completion_tokens == -1
        && an.usage.total_tokens == -1)
    {
        return;
    }

    rd->bits |= LLM_SSE_USAGE;

    if (usage != NULL) {
        *usage = an.usage;
    }

    if (rd->endpoint != LLM_RESPONSES && rd->choices == 0
        && (rd->bits & LLM_SSE_ERROR) == 0)
    {
        rd->bits |= LLM_SSE_USAGE_ONLY;
    }
}
