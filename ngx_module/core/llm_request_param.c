
/*
 * Copyright (C) the ngx-llm authors
 *
 * What the members of a request mean to the gateway.
 */


#include <string.h>

#include "core/llm_request_private.h"


#define LLM_REQUEST_MODEL    256            /* longest name of a model */
#define LLM_REQUEST_CHOICES  128            /* most choices */
#define LLM_REQUEST_BEST_OF  20
#define LLM_REQUEST_CAP      ((int64_t) 1 << 31)


#define llm_type(token)  (1u << (token))

#define LLM_TYPE_BOOLEAN  (llm_type(LLM_JSON_TRUE) | llm_type(LLM_JSON_FALSE) \
                           | llm_type(LLM_JSON_NULL))
#define LLM_TYPE_NUMBER   (llm_type(LLM_JSON_NUMBER) | llm_type(LLM_JSON_NULL))
#define LLM_TYPE_STRING   llm_type(LLM_JSON_STRING)
#define LLM_TYPE_ARRAY    llm_type(LLM_JSON_ARRAY)
#define LLM_TYPE_OBJECT   llm_type(LLM_JSON_OBJECT)
#define LLM_TYPE_NULL     llm_type(LLM_JSON_NULL)

#define LLM_ON(endpoint)  (1u << (endpoint))
#define LLM_ON_ANY        0xf


typedef struct {
    const char           *name;
    unsigned              types;
    const char           *expected;
    unsigned              endpoints;        /* where the type is checked */
    unsigned              prompt;
} llm_request_param_t;


/* in the order of llm_param_e */

static const llm_request_param_t  llm_request_params[] = {
    { NULL, 0, NULL, 0, 0 },

    { "model", LLM_TYPE_STRING, "a string", LLM_ON_ANY, 0 },

    { "messages", LLM_TYPE_ARRAY, "an array", LLM_ON(LLM_CHAT), 1 },

    { "prompt", LLM_TYPE_STRING|LLM_TYPE_ARRAY|LLM_TYPE_NULL,
      "a string or an array", LLM_ON(LLM_COMPLETIONS), 1 },

    { "input", LLM_TYPE_STRING|LLM_TYPE_ARRAY|LLM_TYPE_NULL,
      "a string or an array", LLM_ON(LLM_EMBEDDINGS)|LLM_ON(LLM_RESPONSES),
      1 },

    { "instructions", LLM_TYPE_STRING|LLM_TYPE_NULL, "a string",
      LLM_ON(LLM_RESPONSES), 1 },

    { "tools", LLM_TYPE_ARRAY|LLM_TYPE_NULL, "an array",
      LLM_ON(LLM_CHAT)|LLM_ON(LLM_RESPONSES), 1 },

    { "stream", LLM_TYPE_BOOLEAN, "a boolean", LLM_ON_ANY, 0 },

    { "stream_options", LLM_TYPE_OBJECT|LLM_TYPE_NULL, "an object",
      LLM_ON_ANY, 0 },

    { "n", LLM_TYPE_NUMBER, "an integer", LLM_ON_ANY, 0 },

    { "max_tokens", LLM_TYPE_NUMBER, "an integer", LLM_ON_ANY, 0 },

    { "max_completion_tokens", LLM_TYPE_NUMBER, "an integer", LLM_ON_ANY, 0 },

    { "max_output_tokens", LLM_TYPE_NUMBER, "an integer", LLM_ON_ANY, 0 },

    { "temperature", LLM_TYPE_NUMBER, "a number", LLM_ON_ANY, 0 },

    { "store", LLM_TYPE_BOOLEAN, "a boolean", LLM_ON_ANY, 0 },

    { "background", LLM_TYPE_BOOLEAN, "a boolean", LLM_ON_ANY, 0 },

    { "previous_response_id", LLM_TYPE_STRING|LLM_TYPE_NULL, "a string",
      LLM_ON_ANY, 0 },

    { "conversation", LLM_TYPE_STRING|LLM_TYPE_OBJECT|LLM_TYPE_NULL,
      "a string or an object", LLM_ON_ANY, 0 },

    { "web_search_options", LLM_TYPE_OBJECT|LLM_TYPE_NULL, "an object",
      LLM_ON_ANY, 0 },

    { "best_of", LLM_TYPE_NUMBER, "an integer", LLM_ON(LLM_COMPLETIONS), 0 },

    { "seed", LLM_TYPE_NUMBER, "an integer", 0, 0 },

    { "functions", LLM_TYPE_ARRAY|LLM_TYPE_NULL, "an array", 0, 0 }
};


static void llm_request_meaning(llm_request_scan_t *sc,
    llm_json_token_e token);
static void llm_request_model(llm_request_scan_t *sc);
static void llm_request_previous(llm_request_scan_t *sc,
    llm_json_token_e token);
static void llm_request_place(llm_request_scan_t *sc);
static void llm_request_number(llm_request_scan_t *sc, const char *name);
static void llm_request_temperature(llm_request_scan_t *sc);
static void llm_request_bypass(llm_request_scan_t *sc,
    llm_json_token_e token);


llm_param_e
llm_request_param(const llm_member_t *m)
{
    unsigned  i;

    /* by length first: most members of a body are told apart by it alone */

    static const unsigned char  candidates[22][4] = {
        [1]  = { LLM_PARAM_N },
        [4]  = { LLM_PARAM_SEED },
        [5]  = { LLM_PARAM_MODEL, LLM_PARAM_TOOLS, LLM_PARAM_INPUT,
                 LLM_PARAM_STORE },
        [6]  = { LLM_PARAM_STREAM, LLM_PARAM_PROMPT },
        [7]  = { LLM_PARAM_BEST_OF },
        [8]  = { LLM_PARAM_MESSAGES },
        [9]  = { LLM_PARAM_FUNCTIONS },
        [10] = { LLM_PARAM_MAX_TOKENS, LLM_PARAM_BACKGROUND },
        [11] = { LLM_PARAM_TEMPERATURE },
        [12] = { LLM_PARAM_INSTRUCTIONS, LLM_PARAM_CONVERSATION },
        [14] = { LLM_PARAM_STREAM_OPTIONS },
        [17] = { LLM_PARAM_MAX_OUTPUT_TOKENS },
        [18] = { LLM_PARAM_SEARCH },
        [20] = { LLM_PARAM_PREVIOUS },
        [21] = { LLM_PARAM_MAX_COMPLETION_TOKENS }
    };

    if (m->len >= 22) {
        return LLM_PARAM_OTHER;
    }

    for (i = 0; i < 4; i++) {

        if (candidates[m->len][i] == LLM_PARAM_OTHER) {
            break;
        }

        if (memcmp(m->name, llm_request_params[candidates[m->len][i]].name,
                   m->len)
            == 0)
        {
            return (llm_param_e) candidates[m->len][i];
        }
    }

    return LLM_PARAM_OTHER;
}


const char *
llm_request_param_name(llm_param_e param)
{
    return llm_request_params[param].name;
}


int
llm_request_param_prompt(llm_param_e param)
{
    return llm_request_params[param].prompt;
}


void
llm_request_top(llm_request_scan_t *sc, llm_json_token_e token)
{
    const llm_request_param_t  *p;

    p = &llm_request_params[sc->param];

    if ((p->endpoints & LLM_ON(sc->rq->endpoint))
        && !(p->types & llm_type(token)))
    {
        llm_request_bad(sc, "invalid_type", p->name, "expected ", p->expected);
        return;
    }

    llm_request_place(sc);

    if (token == LLM_JSON_NULL) {
        return;
    }

    sc->seen |= 1u << sc->param;

    llm_request_meaning(sc, token);
}


/* of the type that is expected where this matters, and not null */

static void
llm_request_meaning(llm_request_scan_t *sc, llm_json_token_e token)
{
    const char     *name;
    llm_request_t  *rq;

    rq = sc->rq;
    name = llm_request_params[sc->param].name;

    switch (sc->param) {

    case LLM_PARAM_MODEL:
        llm_request_model(sc);
        break;

    case LLM_PARAM_STREAM:
        rq->stream = (token == LLM_JSON_TRUE
                      && rq->endpoint != LLM_EMBEDDINGS);
        break;

    case LLM_PARAM_N:
    case LLM_PARAM_MAX_TOKENS:
    case LLM_PARAM_MAX_COMPLETION_TOKENS:
    case LLM_PARAM_MAX_OUTPUT_TOKENS:
        llm_request_number(sc, name);
        break;

    case LLM_PARAM_BEST_OF:
        if (rq->endpoint == LLM_COMPLETIONS) {
            llm_request_number(sc, name);
        }

        break;

    case LLM_PARAM_TEMPERATURE:
        llm_request_temperature(sc);
        break;

    case LLM_PARAM_PREVIOUS:
        llm_request_previous(sc, token);
        llm_request_bypass(sc, token);
        break;

    case LLM_PARAM_SEED:

        /* anything else is no promise of the same answer */

        if (token != LLM_JSON_NUMBER) {
            sc->seen &= ~(1u << LLM_PARAM_SEED);
        }

        break;

    default:
        llm_request_bypass(sc, token);
    }
}


static void
llm_request_model(llm_request_scan_t *sc)
{
    size_t         i;
    llm_str_t     *model;
    llm_json_t    *js;

    js = &sc->js;
    model = &sc->rq->model;

    sc->rq->model_start = (size_t) (js->start - js->text);
    sc->rq->model_end = (size_t) (js->end - js->text);

    if (js->size == 0) {
        llm_request_bad(sc, "invalid_value", "model",
                        "it must not be empty", "");
        return;
    }

    if (js->size > LLM_REQUEST_MODEL) {
        llm_request_bad(sc, "invalid_value", "model",
                        "it must not be longer than 256 bytes", "");
        return;
    }

    if (llm_json_text(js, sc->members->arena, model) != LLM_OK) {
        (void) llm_request_complex(sc);
        return;
    }

    /* only an escape can have put one of the others there */

    if (!js->escaped && memchr(model->data, 0x7f, model->len) == NULL) {
        return;
    }

    for (i = 0; i < model->len; i++) {

        if (model->data[i] < 0x20 || model->data[i] == 0x7f) {
            llm_request_bad(sc, "invalid_value", "model",
                            "it must not contain control characters", "");
            return;
        }
    }
}


/* elsewhere it is no member of the API, and says nothing */

static void
llm_request_previous(llm_request_scan_t *sc, llm_json_token_e token)
{
    if (sc->rq->endpoint == LLM_RESPONSES && token == LLM_JSON_STRING
        && llm_json_text(&sc->js, sc->members->arena, &sc->rq->previous)
           != LLM_OK)
    {
        (void) llm_request_complex(sc);
    }
}


/* where a value is that may have to be exchanged, also one of null */

static void
llm_request_place(llm_request_scan_t *sc)
{
    size_t          start, end;
    llm_request_t  *rq;

    rq = sc->rq;
    start = (size_t) (sc->js.start - sc->js.text);
    end = (size_t) (sc->js.end - sc->js.text);

    switch (sc->param) {

    case LLM_PARAM_STREAM_OPTIONS:
        rq->stream_options_start = start;
        rq->stream_options_end = end;         /* of an object: later */
        break;

    case LLM_PARAM_MAX_TOKENS:
    case LLM_PARAM_MAX_COMPLETION_TOKENS:
    case LLM_PARAM_MAX_OUTPUT_TOKENS:
        rq->cap[sc->param - LLM_PARAM_MAX_TOKENS].start = start;
        rq->cap[sc->param - LLM_PARAM_MAX_TOKENS].end = end;
        break;

    default:
        break;
    }
}


static void
llm_request_number(llm_request_scan_t *sc, const char *name)
{
    int64_t         n, min, max;
    const char     *expected;
    llm_request_t  *rq;

    rq = sc->rq;
    min = 1;

    switch (sc->param) {

    case LLM_PARAM_N:
        max = LLM_REQUEST_CHOICES;
        expected = "expected an integer from 1 to 128";
        break;

    case LLM_PARAM_BEST_OF:
        max = LLM_REQUEST_BEST_OF;
        expected = "expected an integer from 1 to 20";
        break;

    default:
        max = LLM_REQUEST_CAP;
        expected = "expected an integer from 1 to 2147483648";

        /* nothing but the echo of its prompt may be asked for */

        if (rq->endpoint == LLM_COMPLETIONS) {
            min = 0;
            expected = "expected an integer from 0 to 2147483648";
        }
    }

    if (!sc->js.integer) {
        llm_request_bad(sc, "invalid_type", name, "expected an integer", "");
        return;
    }

    if (llm_json_integer(&sc->js, &n) != LLM_OK || n < min || n > max) {
        llm_request_bad(sc, "invalid_value", name, expected, "");
        return;
    }

    if (sc->param == LLM_PARAM_N || sc->param == LLM_PARAM_BEST_OF) {
        rq->n = n > rq->n ? n : rq->n;
        return;
    }

    rq->cap[sc->param - LLM_PARAM_MAX_TOKENS].n = n;
    rq->max_tokens = n > rq->max_tokens ? n : rq->max_tokens;
}


/* zero in any spelling: no digit but 0 in front of the exponent */

static void
llm_request_temperature(llm_request_scan_t *sc)
{
    const unsigned char  *p;

    for (p = sc->js.start; p < sc->js.end && (*p | 0x20) != 'e'; p++) {
        if (*p >= '1' && *p <= '9') {
            return;
        }
    }

    sc->rq->temperature_zero = 1;
}


/* what goes by the cache, and why */

static void
llm_request_bypass(llm_request_scan_t *sc, llm_json_token_e token)
{
    llm_request_t  *rq;

    rq = sc->rq;

    switch (sc->param) {

    case LLM_PARAM_STORE:
        rq->bypass |= token == LLM_JSON_TRUE ? LLM_BYPASS_STORE : 0;
        break;

    case LLM_PARAM_BACKGROUND:
        rq->bypass |= token == LLM_JSON_TRUE ? LLM_BYPASS_BACKGROUND : 0;
        break;

    case LLM_PARAM_PROMPT:
        rq->bypass |= token == LLM_JSON_OBJECT ? LLM_BYPASS_PREVIOUS : 0;
        break;

    case LLM_PARAM_PREVIOUS:
    case LLM_PARAM_CONVERSATION:
        rq->bypass |= LLM_BYPASS_PREVIOUS;
        break;

    case LLM_PARAM_SEARCH:
        rq->bypass |= LLM_BYPASS_HOSTED;
        break;

    default:
        break;
    }
}


/* stream_options.include_usage, tools[].type or input[].type */

void
llm_request_inner(llm_request_scan_t *sc, llm_json_token_e token)
{
    if (sc->param == LLM_PARAM_STREAM_OPTIONS) {

        if (!(LLM_TYPE_BOOLEAN & llm_type(token))) {
            llm_request_bad(sc, "invalid_type", "stream_options.include_usage",
                            "expected a boolean", "");
        }

        sc->rq->include_usage = (token == LLM_JSON_TRUE);
        sc->rq->include_usage_start = (size_t) (sc->js.start - sc->js.text);
        sc->rq->include_usage_end = (size_t) (sc->js.end - sc->js.text);
        return;
    }

    if (sc->param == LLM_PARAM_TOOLS) {
        sc->typed = (token == LLM_JSON_STRING
                     && (llm_json_is(&sc->js, "function", 8)
                         || llm_json_is(&sc->js, "custom", 6)));
        return;
    }

    if (token == LLM_JSON_STRING
        && llm_json_is(&sc->js, "item_reference", 14))
    {
        sc->rq->bypass |= LLM_BYPASS_PREVIOUS;
    }
}
