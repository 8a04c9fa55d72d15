
/*
 * Copyright (C) the ngx-llm authors
 */


#include <stdio.h>
#include <string.h>

#include "core/llm_json_inline.h"
#include "core/llm_request_private.h"


static int llm_request_scan(llm_request_scan_t *sc);
static int llm_request_name(llm_request_scan_t *sc);
static void llm_request_value(llm_request_scan_t *sc, llm_json_token_e token);
static int llm_request_object_end(llm_request_scan_t *sc);
static void llm_request_end(llm_request_scan_t *sc);
static int llm_request_finish(llm_request_scan_t *sc);
static int llm_request_duplicate(llm_request_scan_t *sc, uint32_t first,
    uint32_t second);


int
llm_request_parse(llm_request_t *rq, llm_endpoint_e endpoint,
    unsigned char *body, size_t len, int digest, llm_arena_t *arena,
    llm_request_error_t *err)
{
    llm_request_scan_t  sc;

    memset(rq, 0, sizeof(llm_request_t));
    memset(&sc, 0, offsetof(llm_request_scan_t, base));

    rq->endpoint = endpoint;
    rq->body.len = len;
    rq->body.data = body;
    rq->n = 1;
    rq->max_tokens = -1;
    rq->cap[LLM_CAP_TOKENS].n = -1;
    rq->cap[LLM_CAP_COMPLETION].n = -1;
    rq->cap[LLM_CAP_OUTPUT].n = -1;

    sc.rq = rq;
    sc.err = err;

    llm_json_init(&sc.js, body, len);

    sc.members = llm_arena_alloc(arena, sizeof(llm_members_t));

    if (sc.members == NULL || len > UINT32_MAX) {
        return llm_request_complex(&sc);
    }

    memset(sc.members, 0, sizeof(llm_members_t));
    sc.members->arena = arena;

    if (llm_request_scan(&sc) != LLM_OK) {
        return LLM_ERROR;
    }

    if (digest) {
        rq->index = sc.members;
    }

    return llm_request_finish(&sc);
}


static int
llm_request_scan(llm_request_scan_t *sc)
{
    llm_json_t        *js;
    llm_json_token_e   token;

    js = &sc->js;
    token = llm_json_next(js);

    if (token != LLM_JSON_OBJECT && token != LLM_JSON_ERROR) {
        llm_request_bad(sc, "invalid_json", NULL,
                        "The request body must be a JSON object", "");
        return LLM_ERROR;
    }

    sc->rq->object_start = (size_t) (js->pos - js->text);

    for ( ;; token = llm_json_token(js)) {

        if (token == LLM_JSON_NAME) {

            if (llm_request_name(sc) != LLM_OK) {
                return LLM_ERROR;
            }

            token = llm_json_common(js, js->pos);
        }

        switch (token) {

        case LLM_JSON_OBJECT:
            sc->base[js->depth] = sc->members->n;

            /* fall through */

        case LLM_JSON_ARRAY:
            llm_request_value(sc, token);
            break;

        case LLM_JSON_OBJECT_END:
            if (llm_request_object_end(sc) != LLM_OK) {
                return LLM_ERROR;
            }

            /* fall through */

        case LLM_JSON_ARRAY_END:
            if (js->depth == 1) {
                llm_request_end(sc);
            }

            break;

        case LLM_JSON_END:
            return LLM_OK;

        case LLM_JSON_ERROR:
            sc->bad = 0;
            js->start = js->pos;

            llm_request_bad(sc, "invalid_json", NULL,
                            "The request body is not valid JSON: ",
                            js->error);
            return LLM_ERROR;

        case LLM_JSON_STRING:
            if (sc->prompt) {
                llm_request_string(sc);
            }

            /* fall through */

        default:
            if (js->depth == 1 || sc->watch) {
                llm_request_value(sc, token);
            }
        }
    }
}


static int
llm_request_name(llm_request_scan_t *sc)
{
    uint32_t       base, first;
    llm_json_t    *js;
    llm_member_t  *m;

    js = &sc->js;
    base = sc->base[js->depth];

    m = llm_members_push(sc->members, js->text, js->start, js->end,
                         js->escaped);
    if (m == NULL) {
        return llm_request_complex(sc);
    }

    if (llm_members_twice(sc->members, base, &first)) {
        return llm_request_duplicate(sc, first, m->at);
    }

    if (js->depth == 1) {
        sc->param = llm_request_param(m);
        sc->prompt = llm_request_param_prompt(sc->param);
        sc->part = LLM_PART_TEXT;
        return LLM_OK;
    }

    switch (sc->param) {

    case LLM_PARAM_STREAM_OPTIONS:
        sc->watch = (js->depth == 2
                     && llm_json_is(js, "include_usage", 13));
        break;

    case LLM_PARAM_TOOLS:
        sc->watch = (js->depth == 3 && llm_json_is(js, "type", 4));
        break;

    case LLM_PARAM_INPUT:
        sc->watch = (js->depth == 3 && llm_json_is(js, "type", 4));

        /* fall through */

    case LLM_PARAM_MESSAGES:
        sc->part = js->depth < LLM_DEPTH_PART ? LLM_PART_TEXT
                                              : llm_request_part(m, js->depth);
        break;

    default:
        break;
    }

    return LLM_OK;
}


static void
llm_request_value(llm_request_scan_t *sc, llm_json_token_e token)
{
    unsigned       level;
    llm_member_t  *m;

    level = sc->js.depth;

    if (token == LLM_JSON_OBJECT || token == LLM_JSON_ARRAY) {
        level--;
    }

    if (level == 1) {
        m = &sc->members->elts[sc->members->n - 1];

        m->start = (uint32_t) (sc->js.start - sc->js.text);
        m->end = (uint32_t) (sc->js.end - sc->js.text);

        llm_request_top(sc, token);
        return;
    }

    if (sc->watch) {
        sc->watch = 0;
        llm_request_inner(sc, token);
        return;
    }

    if (level == 2 && token == LLM_JSON_OBJECT) {
        sc->typed = 0;
    }
}


static int
llm_request_object_end(llm_request_scan_t *sc)
{
    int            rc;
    uint32_t       base, first, second;
    llm_json_t    *js;

    js = &sc->js;

    /* the object that has ended was one deeper */

    base = sc->base[js->depth + 1];

    rc = llm_members_check(sc->members, base, &first, &second);

    if (rc == LLM_DECLINED) {
        return llm_request_duplicate(sc, first, second);
    }

    if (rc != LLM_OK) {
        return llm_request_complex(sc);
    }

    if (js->depth == 1 && sc->param == LLM_PARAM_STREAM_OPTIONS) {
        sc->rq->stream_options_empty = (sc->members->n == base);
    }

    if (js->depth != 0) {
        sc->members->n = base;
    }

    sc->part = LLM_PART_TEXT;

    if (js->depth == LLM_DEPTH_PART - 1 && sc->media) {
        sc->media = 0;
        sc->rq->media++;
    }

    if (js->depth != 2) {
        return LLM_OK;
    }

    if (sc->param == LLM_PARAM_TOOLS) {

        /* a tool that the provider runs itself may answer anew each time */

        sc->rq->bypass |= sc->typed ? LLM_BYPASS_TOOLS
                                    : LLM_BYPASS_TOOLS|LLM_BYPASS_HOSTED;

    } else if (sc->param == LLM_PARAM_FUNCTIONS) {
        sc->rq->bypass |= LLM_BYPASS_TOOLS;
    }

    return LLM_OK;
}


/* an object or array that is a member of the top object has been read */

static void
llm_request_end(llm_request_scan_t *sc)
{
    size_t  end;

    end = (size_t) (sc->js.end - sc->js.text);

    sc->members->elts[sc->members->n - 1].end = (uint32_t) end;

    if (sc->param == LLM_PARAM_STREAM_OPTIONS) {
        sc->rq->stream_options_end = end;
    }

    /* it stood where no part has its place */

    if (sc->media) {
        sc->media = 0;
        sc->rq->media++;
    }
}


static int
llm_request_finish(llm_request_scan_t *sc)
{
    llm_param_e     missing;
    llm_request_t  *rq;

    if (sc->bad) {
        return LLM_ERROR;
    }

    rq = sc->rq;
    missing = LLM_PARAM_OTHER;

    if (!(sc->seen & 1u << LLM_PARAM_MODEL)) {
        missing = LLM_PARAM_MODEL;

    } else if (rq->endpoint == LLM_CHAT
               && !(sc->seen & 1u << LLM_PARAM_MESSAGES))
    {
        missing = LLM_PARAM_MESSAGES;

    } else if (rq->endpoint == LLM_EMBEDDINGS
               && !(sc->seen & 1u << LLM_PARAM_INPUT))
    {
        missing = LLM_PARAM_INPUT;
    }

    if (missing != LLM_PARAM_OTHER) {
        sc->js.start = sc->js.text;
        llm_request_bad(sc, "missing_required_parameter",
                        llm_request_param_name(missing), "", "");
        return LLM_ERROR;
    }

    /* the Responses API stores unless it is told not to */

    if (rq->endpoint == LLM_RESPONSES
        && !(sc->seen & 1u << LLM_PARAM_STORE))
    {
        rq->bypass |= LLM_BYPASS_STORE;
    }

    if (rq->endpoint != LLM_EMBEDDINGS
        && !(sc->seen & 1u << LLM_PARAM_SEED))
    {
        rq->bypass |= rq->n > 1 ? LLM_BYPASS_N : 0;
        rq->bypass |= rq->temperature_zero ? 0 : LLM_BYPASS_TEMPERATURE;
    }

    return LLM_OK;
}


/*
 * Keeps the first complaint about a value; the scan goes on, since a body
 * that is no JSON at all is told so first.
 */

void
llm_request_bad(llm_request_scan_t *sc, const char *code, const char *param,
    const char *what, const char *more)
{
    llm_request_error_t  *err;

    if (sc->bad) {
        return;
    }

    sc->bad = 1;

    err = sc->err;
    err->code = code;
    err->param = param;
    err->offset = (size_t) (sc->js.start - sc->js.text);

    if (param == NULL) {
        (void) snprintf(err->text, sizeof(err->text), "%s%s", what, more);
        return;
    }

    if (*what == '\0') {
        (void) snprintf(err->text, sizeof(err->text),
                        "Missing required parameter: '%s'.", param);
        return;
    }

    (void) snprintf(err->text, sizeof(err->text), "Invalid %s for '%s': %s%s.",
                    strcmp(code, "invalid_type") == 0 ? "type" : "value",
                    param, what, more);
}


static int
llm_request_duplicate(llm_request_scan_t *sc, uint32_t first, uint32_t second)
{
    llm_request_error_t  *err;

    err = sc->err;
    err->code = "duplicate_key";
    err->param = NULL;
    err->offset = second;

    (void) snprintf(err->text, sizeof(err->text),
                    "A member name occurs twice in one object, first at "
                    "byte %lu", (unsigned long) first);

    return LLM_ERROR;
}


int
llm_request_complex(llm_request_scan_t *sc)
{
    sc->bad = 0;
    sc->js.start = sc->js.pos;

    llm_request_bad(sc, "request_too_complex", NULL,
                    "The request body has more members than can be checked",
                    "");

    return LLM_ERROR;
}
