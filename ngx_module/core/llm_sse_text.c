
/*
 * Copyright (C) the ngx-llm authors
 *
 * How much text a stream has brought.  An event is read as JSON when its
 * shape is new; after that it is enough that the bytes in front of the text
 * and behind it are as they were, or those next to it if others change.
 */


#include "core/llm_sse_private.h"

#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif


/* of the bytes in front of a text, the end of its member's name */

#define LLM_SSE_NAME  8

/* in front of data; the blank may be missing */

#define LLM_SSE_LEAD  "data: "

/* longer than any name that is looked for and its null */

#define LLM_SSE_OVERLAP  40

/* a text further back in its event is read anew each time */

#define LLM_SSE_OFFSET  65536


static const unsigned char *llm_sse_text_end(const unsigned char *p,
    const unsigned char *end);
static int llm_sse_text_choice(llm_sse_reader_t *rd);
static int llm_sse_text_name(llm_sse_reader_t *rd);
static int llm_sse_text_is_delta(const llm_json_t *js);
static void llm_sse_text_add(llm_sse_reader_t *rd);


int
llm_sse_text_same(llm_sse_text_t *text, const llm_str_t *data,
    const unsigned char **known)
{
    const unsigned char  *p, *q, *end;

    if (text->offset == 0 || data->len < text->offset + text->tail_len) {
        return 0;
    }

    p = data->data + text->offset;
    end = data->data + data->len;

    known[0] = data->data;

    if (text->head_len < text->offset) {

        /* no name may hide half in what is known */

        known[0] = p - text->head_len + LLM_SSE_OVERLAP;
    }

    if (memcmp(p - text->head_len, text->head, text->head_len) != 0) {

        /* a number in it may be another one */

        if (memcmp(p - LLM_SSE_NAME,
                   text->head + text->head_len - LLM_SSE_NAME, LLM_SSE_NAME)
            != 0)
        {
            return 0;
        }

        known[0] = p;
    }

    q = llm_sse_text_end(p, end);

    if ((size_t) (end - q) < text->tail_len
        || memcmp(q, text->tail, text->tail_len) != 0)
    {
        return 0;
    }

    text->bytes += (size_t) (q - p);

    known[1] = q + text->tail_len;

    return 1;
}


/* the quote that ends a string; what no string may hold; or end */

static const unsigned char *
llm_sse_text_end(const unsigned char *p, const unsigned char *end)
{
    const unsigned char  *q, *start;

    start = p;

    for ( ;; ) {

#if defined(__SSE2__)
        unsigned  mask;
        __m128i   x, quote, control;

        for (mask = 0; mask == 0 && end - p >= 16; p += 16) {
            x = _mm_loadu_si128((const __m128i *) (const void *) p);

            quote = _mm_cmpeq_epi8(x, _mm_set1_epi8('"'));
            control = _mm_cmpeq_epi8(_mm_min_epu8(x, _mm_set1_epi8(0x1f)), x);

            mask = (unsigned) _mm_movemask_epi8(_mm_or_si128(quote, control));
        }

        if (mask != 0) {
            p += __builtin_ctz(mask) - 16;
        }
#endif

        while (p < end && *p != '"' && *p > 0x1f) {
            p++;
        }

        if (p == end || *p != '"') {
            return p;
        }

        /* escaped if an odd number of backslashes is in front */

        for (q = p; q > start && q[-1] == '\\'; q--) { /* void */ }

        if (((p - q) & 1) == 0) {
            return p;
        }

        p++;
    }
}


size_t
llm_sse_same(const unsigned char *p, size_t len, llm_sse_text_t *text)
{
    const unsigned char  *q, *start;

    if (text->rest_len == 0
        || len < (size_t) text->lead_len + text->head_len + text->tail_len
                 + text->rest_len
        || memcmp(p, LLM_SSE_LEAD, text->lead_len) != 0
        || memcmp(p + text->lead_len, text->head, text->head_len) != 0)
    {
        return 0;
    }

    start = p + text->lead_len + text->head_len;
    q = llm_sse_text_end(start, p + len);

    if ((size_t) (p + len - q) < (size_t) text->tail_len + text->rest_len
        || memcmp(q, text->tail, text->tail_len) != 0)
    {
        return 0;
    }

    if (memcmp(q + text->tail_len, text->tail + text->tail_len,
               text->rest_len)
        != 0)
    {
        /* it changes from event to event: to try again would be in vain */

        text->rest_len = 0;

        return 0;
    }

    text->bytes += (size_t) (q - start);

    return (size_t) (q - p) + text->tail_len + text->rest_len;
}


void
llm_sse_text_frame(llm_sse_text_t *text, const unsigned char *event,
    size_t len, const llm_str_t *data)
{
    size_t                lead, rest;
    const unsigned char  *q, *last;

    lead = (size_t) (data->data - event);

    if (text->head_len != text->offset
        || lead < sizeof("data:") - 1 || lead > sizeof(LLM_SSE_LEAD) - 1
        || memcmp(event, LLM_SSE_LEAD, lead) != 0)
    {
        return;
    }

    /* a carriage return at the end may be half a line end */

    last = event + len - 1;

    if (last[0] != '\n'
        || (last[-1] != '\n' && !(last[-1] == '\r' && last[-2] == '\n')))
    {
        return;
    }

    q = llm_sse_text_end(data->data + text->offset, data->data + data->len)
        + text->tail_len;
    rest = (size_t) (event + len - q);

    if (rest > (size_t) LLM_SSE_TAIL - text->tail_len) {
        return;
    }

    text->lead_len = (unsigned char) lead;
    text->rest_len = (unsigned char) rest;

    memcpy(text->tail + text->tail_len, q, rest);
}


/* chat and completions: every choice of the chunk */

int
llm_sse_text_member(llm_sse_reader_t *rd)
{
    llm_json_token_e  token;

    if (!llm_sse_is(rd, "choices")) {
        return rd->telling ? llm_sse_member(rd)
                           : llm_sse_value(rd, llm_json_next(&rd->js));
    }

    token = llm_json_next(&rd->js);

    if (token != LLM_JSON_ARRAY) {
        return llm_sse_value(rd, token);
    }

    while ((token = llm_json_next(&rd->js)) == LLM_JSON_OBJECT) {
        rd->choices++;

        if (llm_sse_text_choice(rd) != LLM_OK) {
            return LLM_ERROR;
        }
    }

    if (token != LLM_JSON_ARRAY_END) {
        return LLM_ERROR;
    }

    rd->last = rd->js.pos;

    return LLM_OK;
}


/* in one: strings at any depth whose name says that they were generated */

static int
llm_sse_text_choice(llm_sse_reader_t *rd)
{
    int               named;
    int64_t           n, index;
    unsigned          depth, finished;
    llm_json_t       *js;
    llm_json_token_e  token;

    js = &rd->js;
    depth = js->depth;
    named = 0;
    index = 0;
    finished = 0;

    for ( ;; ) {
        token = llm_json_next(js);

        if (token == LLM_JSON_ERROR || token == LLM_JSON_END) {
            return LLM_ERROR;
        }

        if (js->depth < depth) {
            break;
        }

        if (token == LLM_JSON_STRING && named) {
            llm_sse_text_add(rd);
        }

        named = 0;

        if (token != LLM_JSON_NAME) {
            continue;
        }

        if (js->depth == depth && llm_sse_is(rd, "index")) {
            if (llm_json_next(js) == LLM_JSON_NUMBER
                && llm_json_integer(js, &n) == LLM_OK && n >= 0 && n < 64)
            {
                index = n;
            }

        } else if (js->depth == depth && llm_sse_is(rd, "finish_reason")) {
            if (llm_json_next(js) == LLM_JSON_STRING && js->size != 0) {
                finished = 1;
            }

        } else {
            named = llm_sse_text_name(rd);

            if (named < 0) {
                return LLM_ERROR;
            }
        }
    }

    rd->bits |= finished ? LLM_SSE_FINISH : 0;
    rd->text->begun |= (uint64_t) 1 << index;
    rd->text->finished |= (uint64_t) finished << index;

    return LLM_OK;
}


/* 1: its string is text, 0: something in it may be, -1: the JSON is broken */

static int
llm_sse_text_name(llm_sse_reader_t *rd)
{
    llm_json_t       *js;
    llm_json_token_e  token;

    js = &rd->js;

    if (llm_sse_is(rd, "content") || llm_sse_is(rd, "text")
        || llm_sse_is(rd, "arguments") || llm_sse_is(rd, "input")
        || llm_sse_is(rd, "reasoning_content") || llm_sse_is(rd, "reasoning")
        || llm_sse_is(rd, "refusal"))
    {
        return 1;
    }

    /* the same text over again, and what is none */

    if (llm_sse_is(rd, "logprobs") || llm_sse_is(rd, "reasoning_details")
        || llm_sse_is(rd, "audio"))
    {
        token = llm_json_next(js);

        if ((token == LLM_JSON_OBJECT || token == LLM_JSON_ARRAY)
            && llm_json_skip(js) == LLM_JSON_ERROR)
        {
            return -1;
        }
    }

    return 0;
}


/* responses: "delta" of an event that is a piece of text or arguments */

void
llm_sse_text_delta(llm_sse_reader_t *rd, const llm_str_t *data)
{
    int                   found, type;
    size_t                size;
    llm_json_t           *js;
    llm_json_token_e      token;
    const unsigned char  *start, *end;

    js = &rd->js;
    found = 0;
    size = 0;
    start = NULL;
    end = NULL;

    llm_json_init(js, data->data, data->len);

    if (llm_json_next(js) != LLM_JSON_OBJECT) {
        return;
    }

    while (llm_json_next(js) == LLM_JSON_NAME) {

        if (llm_sse_is(rd, "type")) {
            type = 1;

        } else if (llm_sse_is(rd, "delta")) {
            type = 2;

        } else {
            type = 0;
        }

        token = llm_json_next(js);

        if (token == LLM_JSON_STRING && type == 1) {
            found = llm_sse_text_is_delta(js);

        } else if (token == LLM_JSON_STRING && type == 2) {
            start = js->start;
            end = js->end;
            size = js->size;
        }

        if ((token == LLM_JSON_OBJECT || token == LLM_JSON_ARRAY)
            && llm_json_skip(js) == LLM_JSON_ERROR)
        {
            return;
        }
    }

    if (found && start != NULL) {
        js->start = start;
        js->end = end;
        js->size = size;

        llm_sse_text_add(rd);

        rd->last = end;
    }
}


static int
llm_sse_text_is_delta(const llm_json_t *js)
{
    size_t                len;
    const unsigned char  *p;

    p = js->start + 1;
    len = (size_t) (js->end - js->start) - 2;

    return len > sizeof("response..delta") - 1
           && memcmp(p, "response.", 9) == 0
           && memcmp(p + len - 6, ".delta", 6) == 0
           && (len != sizeof("response.audio.delta") - 1
               || memcmp(p, "response.audio", 14) != 0);
}


/* the string that is the scanner's token */

static void
llm_sse_text_add(llm_sse_reader_t *rd)
{
    llm_json_t  *js;

    js = &rd->js;

    rd->text->bytes += (size_t) (js->end - js->start) - 2;

    if (js->size != 0) {
        rd->texts++;
        rd->start = js->start + 1;
        rd->end = js->end - 1;
    }
}


int
llm_sse_text_learn(llm_sse_reader_t *rd, const llm_str_t *data)
{
    size_t           offset, head, tail;
    llm_sse_text_t  *text;

    text = rd->text;

    if (rd->texts != 1 || rd->last == NULL || text->several) {
        return 0;
    }

    offset = (size_t) (rd->start - data->data);
    tail = (size_t) (rd->last - rd->end);

    head = offset < LLM_SSE_HEAD ? offset : LLM_SSE_HEAD;

    if (offset < LLM_SSE_NAME || offset > LLM_SSE_OFFSET
        || tail > LLM_SSE_TAIL || rd->choices > 1)
    {
        return 0;
    }

    text->offset = (unsigned) offset;
    text->head_len = (unsigned short) head;
    text->tail_len = (unsigned short) tail;
    text->rest_len = 0;

    memcpy(text->head, rd->start - head, head);
    memcpy(text->tail, rd->end, tail);

    return 1;
}
