
/*
 * Copyright (C) the ngx-llm authors
 */


#include <string.h>

#include "core/llm_answer.h"
#include "core/llm_dialect.h"
#include "core/llm_json_inline.h"


/* where a value stands; the first ones are objects or arrays to look into */

typedef enum {
    LLM_AT_OTHER = 0,
    LLM_AT_TOP,
    LLM_AT_RESPONSE,                        /* of a Responses event */
    LLM_AT_VENDOR,                          /* may hold the usage, too */
    LLM_AT_USAGE,
    LLM_AT_INPUT_DETAILS,
    LLM_AT_OUTPUT_DETAILS,
    LLM_AT_ERROR,
    LLM_AT_CHOICES,
    LLM_AT_CHOICE,
    LLM_AT_DATA,

    LLM_AT_PROMPT_TOKENS,
    LLM_AT_COMPLETION_TOKENS,
    LLM_AT_TOTAL_TOKENS,
    LLM_AT_CACHED_TOKENS,
    LLM_AT_REASONING_TOKENS,
    LLM_AT_MESSAGE,
    LLM_AT_TYPE,
    LLM_AT_PARAM,
    LLM_AT_CODE,
    LLM_AT_FINISH_REASON,
    LLM_AT_STATUS,
    LLM_AT_OBJECT
} llm_at_e;


#define LLM_SHAPE_MESSAGE  1
#define LLM_SHAPE_TYPE     2
#define LLM_SHAPE_PARAM    4
#define LLM_SHAPE_CODE     8
#define LLM_SHAPE_ALL      15

#define LLM_SHAPE_ELSEWHERE  16


typedef struct {
    llm_json_t            js;
    llm_answer_t         *an;

    unsigned              shape;            /* of the error object */
    unsigned              choices:1;        /* there is one */
    unsigned              finished:1;       /* the choice being read is */
    unsigned              unfinished:1;     /* some choice is not */
    unsigned              data:1;           /* there is an element */
    unsigned              completed:1;
    unsigned              bare:1;           /* {"object":"error"} */

    unsigned char         at[LLM_JSON_DEPTH + 1];
} llm_answer_scan_t;


/* a name that means something, and the next one that it may be instead */

static const struct {
    const char           *name;
    unsigned char         at;
    unsigned char         next;

} llm_answer_names[] = {
    { NULL, LLM_AT_OTHER, 0 },

    { "usage", LLM_AT_USAGE, 2 },                                    /* 1 */
    { "error", LLM_AT_ERROR, 0 },                                    /* 2 */
    { "status", LLM_AT_STATUS, 4 },                                  /* 3 */
    { "x_groq", LLM_AT_VENDOR, 0 },                                  /* 4 */
    { "data", LLM_AT_DATA, 0 },                                      /* 5 */
    { "choices", LLM_AT_CHOICES, 0 },                                /* 6 */
    { "response", LLM_AT_RESPONSE, 0 },                              /* 7 */

    { "usage", LLM_AT_USAGE, 9 },                                    /* 8 */
    { "error", LLM_AT_ERROR, 0 },                                    /* 9 */
    { "status", LLM_AT_STATUS, 0 },                                  /* 10 */

    { "usage", LLM_AT_USAGE, 0 },                                    /* 11 */

    { "input_tokens", LLM_AT_PROMPT_TOKENS, 13 },                    /* 12 */
    { "total_tokens", LLM_AT_TOTAL_TOKENS, 0 },                      /* 13 */
    { "prompt_tokens", LLM_AT_PROMPT_TOKENS, 15 },                   /* 14 */
    { "output_tokens", LLM_AT_COMPLETION_TOKENS, 0 },                /* 15 */
    { "completion_tokens", LLM_AT_COMPLETION_TOKENS, 0 },            /* 16 */
    { "input_tokens_details", LLM_AT_INPUT_DETAILS, 0 },             /* 17 */
    { "prompt_tokens_details", LLM_AT_INPUT_DETAILS, 19 },           /* 18 */
    { "output_tokens_details", LLM_AT_OUTPUT_DETAILS, 0 },           /* 19 */
    { "completion_tokens_details", LLM_AT_OUTPUT_DETAILS, 0 },       /* 20 */

    { "cached_tokens", LLM_AT_CACHED_TOKENS, 0 },                    /* 21 */

    { "reasoning_tokens", LLM_AT_REASONING_TOKENS, 0 },              /* 22 */

    { "type", LLM_AT_TYPE, 24 },                                     /* 23 */
    { "code", LLM_AT_CODE, 0 },                                      /* 24 */
    { "param", LLM_AT_PARAM, 0 },                                    /* 25 */
    { "message", LLM_AT_MESSAGE, 0 },                                /* 26 */

    { "finish_reason", LLM_AT_FINISH_REASON, 0 },                    /* 27 */

    { "object", LLM_AT_OBJECT, 3 }                                   /* 28 */
};


#define LLM_ANSWER_NAME  32                 /* all of them are shorter */

/* by the place and the length of a name: the first that it may be */

static const unsigned char
    llm_answer_first[LLM_AT_DATA + 1][LLM_ANSWER_NAME] =
{
    [LLM_AT_TOP] = { [4] = 5, [5] = 1, [6] = 28, [7] = 6, [8] = 7 },
    [LLM_AT_RESPONSE] = { [5] = 8, [6] = 10 },
    [LLM_AT_VENDOR] = { [5] = 11 },
    [LLM_AT_USAGE] = { [12] = 12, [13] = 14, [17] = 16, [20] = 17, [21] = 18,
                       [25] = 20 },
    [LLM_AT_INPUT_DETAILS] = { [13] = 21 },
    [LLM_AT_OUTPUT_DETAILS] = { [16] = 22 },
    [LLM_AT_ERROR] = { [4] = 23, [5] = 25, [7] = 26 },
    [LLM_AT_CHOICE] = { [13] = 27 }
};


static void llm_answer_reset(llm_answer_t *an);
static llm_at_e llm_answer_open(llm_answer_scan_t *sc, llm_at_e at,
    llm_json_token_e token);
static void llm_answer_value(llm_answer_scan_t *sc, llm_at_e at,
    llm_json_token_e token);
static void llm_answer_count(llm_answer_scan_t *sc, int64_t *count,
    llm_json_token_e token);
static void llm_answer_error(llm_answer_scan_t *sc, llm_at_e at,
    llm_json_token_e token);
static int llm_answer_complete(llm_answer_scan_t *sc, llm_endpoint_e endpoint);


static inline llm_at_e
llm_answer_find(llm_answer_scan_t *sc)
{
    unsigned  i, in;

    in = sc->at[sc->js.depth];

    if (sc->js.size >= LLM_ANSWER_NAME) {
        return LLM_AT_OTHER;
    }

    i = llm_answer_first[in][sc->js.size];

    for ( /* void */ ; i != 0; i = llm_answer_names[i].next) {

        if (llm_json_same(&sc->js, llm_answer_names[i].name, sc->js.size)) {
            return llm_answer_names[i].at;
        }
    }

    return LLM_AT_OTHER;
}


void
llm_answer_scan(llm_answer_t *an, llm_endpoint_e endpoint,
    unsigned char *body, size_t len)
{
    size_t             blank;
    unsigned           open;
    llm_at_e           at, in;
    llm_json_t        *js;
    llm_json_token_e   token;
    llm_answer_scan_t  sc;

    memset(&sc, 0, offsetof(llm_answer_scan_t, at));

    sc.an = an;
    js = &sc.js;

    llm_answer_reset(an);

    blank = llm_dialect_blank(body, len);
    llm_json_init(js, blank != 0 ? body + blank : body, len - blank);

    if (llm_json_next(js) != LLM_JSON_OBJECT) {
        return;
    }

    sc.at[0] = LLM_AT_OTHER;
    sc.at[1] = LLM_AT_TOP;

    for ( ;; ) {
        token = llm_json_token(js);
        at = LLM_AT_OTHER;

        if (token == LLM_JSON_NAME) {
            at = llm_answer_find(&sc);
            token = llm_json_common(js, js->pos);

            if (at == LLM_AT_OTHER && token >= LLM_JSON_STRING) {
                continue;
            }
        }

        switch (token) {

        case LLM_JSON_OBJECT_END:

            if (sc.at[js->depth + 1] == LLM_AT_CHOICE && !sc.finished) {
                sc.unfinished = 1;
            }

            /* fall through */

        case LLM_JSON_ARRAY_END:
            continue;

        case LLM_JSON_END:
            an->valid = 1;
            an->complete = llm_answer_complete(&sc, endpoint);
            an->error_shape = (sc.shape == LLM_SHAPE_ALL);
            an->error |= sc.bare;
            return;

        case LLM_JSON_ERROR:
            llm_answer_reset(an);
            return;

        default:
            break;
        }

        open = (token == LLM_JSON_OBJECT || token == LLM_JSON_ARRAY);
        in = sc.at[js->depth - open];

        if (in == LLM_AT_CHOICES) {
            at = LLM_AT_CHOICE;

        } else if (in == LLM_AT_DATA) {
            sc.data = 1;
        }

        llm_answer_value(&sc, at, token);

        if (open && llm_answer_open(&sc, at, token) == LLM_AT_OTHER
            && llm_json_skip(js) == LLM_JSON_ERROR)
        {
            llm_answer_reset(an);
            return;
        }
    }
}


static void
llm_answer_reset(llm_answer_t *an)
{
    memset(an, 0, sizeof(llm_answer_t));

    an->usage.prompt_tokens = -1;
    an->usage.cached_tokens = -1;
    an->usage.completion_tokens = -1;
    an->usage.reasoning_tokens = -1;
    an->usage.total_tokens = -1;
}


/* what the names inside mean */

static llm_at_e
llm_answer_open(llm_answer_scan_t *sc, llm_at_e at, llm_json_token_e token)
{
    int  array;

    array = (at == LLM_AT_CHOICES || at == LLM_AT_DATA);

    if (at > LLM_AT_DATA || array != (token == LLM_JSON_ARRAY)) {
        at = LLM_AT_OTHER;
    }

    sc->at[sc->js.depth] = (unsigned char) at;

    return at;
}


/* a name that stands again wins, as it does for the clients */

static void
llm_answer_value(llm_answer_scan_t *sc, llm_at_e at, llm_json_token_e token)
{
    llm_usage_t  *usage;

    usage = &sc->an->usage;

    switch (at) {

    case LLM_AT_OTHER:
        return;

    case LLM_AT_USAGE:
        if (token == LLM_JSON_OBJECT) {
            memset(usage, 0xff, sizeof(llm_usage_t));           /* all -1 */
        }

        return;

    case LLM_AT_CHOICES:
        sc->choices = 0;
        sc->unfinished = 0;
        return;

    case LLM_AT_CHOICE:
        sc->choices = 1;
        sc->finished = 0;
        sc->unfinished |= (token != LLM_JSON_OBJECT);
        return;

    case LLM_AT_DATA:
        sc->data = 0;
        return;

    case LLM_AT_FINISH_REASON:
        sc->finished = (token == LLM_JSON_STRING && sc->js.size != 0);
        return;

    case LLM_AT_STATUS:
        sc->completed = (token == LLM_JSON_STRING
                         && llm_json_is(&sc->js, "completed", 9));
        return;

    case LLM_AT_OBJECT:
        sc->bare = (token == LLM_JSON_STRING
                    && llm_json_is(&sc->js, "error", 5));
        return;

    case LLM_AT_PROMPT_TOKENS:
        llm_answer_count(sc, &usage->prompt_tokens, token);
        return;

    case LLM_AT_COMPLETION_TOKENS:
        llm_answer_count(sc, &usage->completion_tokens, token);
        return;

    case LLM_AT_TOTAL_TOKENS:
        llm_answer_count(sc, &usage->total_tokens, token);
        return;

    case LLM_AT_CACHED_TOKENS:
        llm_answer_count(sc, &usage->cached_tokens, token);
        return;

    case LLM_AT_REASONING_TOKENS:
        llm_answer_count(sc, &usage->reasoning_tokens, token);
        return;

    default:
        llm_answer_error(sc, at, token);
    }
}


static void
llm_answer_count(llm_answer_scan_t *sc, int64_t *count,
    llm_json_token_e token)
{
    int64_t  n;

    *count = -1;

    if (token == LLM_JSON_NUMBER && sc->js.integer
        && llm_json_integer(&sc->js, &n) == LLM_OK && n >= 0)
    {
        *count = n;
    }
}


static inline void
llm_answer_shape(llm_answer_scan_t *sc, unsigned bit, int right)
{
    sc->shape = right ? sc->shape | bit : sc->shape & ~bit;
}


static void
llm_answer_error(llm_answer_scan_t *sc, llm_at_e at, llm_json_token_e token)
{
    int            string, null;
    llm_str_t      text;
    llm_answer_t  *an;

    an = sc->an;
    string = (token == LLM_JSON_STRING);
    null = (token == LLM_JSON_NULL);

    text.data = (unsigned char *) sc->js.start + string;
    text.len = null ? 0 : (size_t) (sc->js.end - sc->js.start)
                          - 2 * (size_t) string;

    switch (at) {

    case LLM_AT_ERROR:

        /* it may be a string alone */

        an->error = !null;
        an->error_null |= null && sc->js.depth == 1;
        an->error_message = text;
        an->error_message.len = string ? text.len : 0;
        an->error_type.len = 0;
        an->error_code.len = 0;

        /* only one in the top object can have the shape: it opens level 2 */

        sc->shape = sc->js.depth == 2 ? 0 : LLM_SHAPE_ELSEWHERE;
        return;

    case LLM_AT_MESSAGE:
        an->error_message = text;
        an->error_message.len = string ? text.len : 0;
        llm_answer_shape(sc, LLM_SHAPE_MESSAGE, string);
        return;

    case LLM_AT_TYPE:
        an->error_type = text;
        an->error_type.len = string ? text.len : 0;
        llm_answer_shape(sc, LLM_SHAPE_TYPE, string || null);
        return;

    case LLM_AT_PARAM:
        llm_answer_shape(sc, LLM_SHAPE_PARAM, string || null);
        return;

    case LLM_AT_CODE:
        an->error_code.data = (unsigned char *) sc->js.start;
        an->error_code.len = null ? 0
                                  : (size_t) (sc->js.end - sc->js.start);
        llm_answer_shape(sc, LLM_SHAPE_CODE, string || null);
        return;

    default:
        return;
    }
}


static int
llm_answer_complete(llm_answer_scan_t *sc, llm_endpoint_e endpoint)
{
    int  choices;

    choices = sc->choices && !sc->unfinished;

    switch (endpoint) {

    case LLM_CHAT:
    case LLM_COMPLETIONS:
        return choices;

    case LLM_EMBEDDINGS:
        return sc->data;

    case LLM_RESPONSES:
        return sc->completed;

    default:
        return choices || sc->data || sc->completed;
    }
}
