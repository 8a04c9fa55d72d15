
/*
 * Copyright (C) the ngx-llm authors
 */


#include <stdio.h>
#include <string.h>

#include "core/llm_json_inline.h"
#include "core/llm_tasks_private.h"


/* what the next token is part of */

enum {
    LLM_TASKS_BEGIN = 0,
    LLM_TASKS_TOP,
    LLM_TASKS_VALUE,
    LLM_TASKS_INSIDE,                       /* a value of the top object */
    LLM_TASKS_LIST,
    LLM_TASKS_REQUEST,
    LLM_TASKS_BEHIND,
    LLM_TASKS_DONE,
    LLM_TASKS_FAILED
};


static int llm_tasks_token(llm_tasks_t *ts, llm_json_token_e token);
static int llm_tasks_name(llm_tasks_t *ts);
static llm_tasks_member_e llm_tasks_known(const llm_json_t *js);
static int llm_tasks_new_param(llm_tasks_t *ts);
static int llm_tasks_element(llm_tasks_t *ts, llm_json_token_e token);
static int llm_tasks_request(llm_tasks_t *ts, llm_json_token_e token);
static int llm_tasks_request_member(llm_tasks_t *ts, llm_json_token_e token);
static int llm_tasks_push(llm_tasks_t *ts, size_t start, size_t end);


static const char  *llm_tasks_names[LLM_TASKS_MEMBERS] = {
    NULL, "prompts", "requests", "priority", "webhook", "on_crash",
    "metadata", "model", "stream", "messages"
};


void
llm_tasks_init(llm_tasks_t *ts, const llm_str_t *body,
    const llm_str_t *model, unsigned most, llm_arena_t *arena,
    llm_tasks_error_t *err)
{
    memset(ts, 0, sizeof(llm_tasks_t));

    ts->body = *body;
    ts->model = *model;
    ts->most = most;
    ts->arena = arena;
    ts->err = err;
    ts->priority = LLM_TASKS_NORMAL;

    llm_json_init(&ts->js, body->data, body->len);
}


int
llm_tasks_scan(llm_tasks_t *ts, size_t bytes)
{
    int                   rc;
    llm_json_t           *js;
    const unsigned char  *start;

    js = &ts->js;
    start = js->pos;

    if (ts->body.len > UINT32_MAX) {
        return llm_tasks_complex(ts);
    }

    do {
        if (ts->state == LLM_TASKS_DONE) {
            return LLM_OK;
        }

        if (ts->state == LLM_TASKS_FAILED) {
            return LLM_ERROR;
        }

        rc = llm_tasks_token(ts, llm_json_token(js));

        if (rc != LLM_OK) {
            ts->state = LLM_TASKS_FAILED;
            return LLM_ERROR;
        }

    } while ((size_t) (js->pos - start) < bytes);

    return ts->state == LLM_TASKS_DONE ? LLM_OK : LLM_AGAIN;
}


static int
llm_tasks_token(llm_tasks_t *ts, llm_json_token_e token)
{
    llm_json_t  *js;

    js = &ts->js;

    if (token == LLM_JSON_ERROR) {
        (void) llm_tasks_fail(ts, "invalid_json", NULL, -1, NULL,
                              (size_t) (js->pos - js->text), "");

        (void) snprintf(ts->err->text, sizeof(ts->err->text),
                        "The request body is not valid JSON: %s (byte %zu)",
                        js->error, ts->err->offset);
        return LLM_ERROR;
    }

    switch (ts->state) {

    case LLM_TASKS_BEGIN:
        ts->state = LLM_TASKS_TOP;

        if (token == LLM_JSON_OBJECT) {
            return LLM_OK;
        }

        return llm_tasks_fail(ts, "invalid_json", NULL, -1, NULL,
                              (size_t) (js->start - js->text),
                              "The request body must be a JSON object");

    case LLM_TASKS_TOP:

        if (token == LLM_JSON_NAME) {
            ts->state = LLM_TASKS_VALUE;
            return llm_tasks_name(ts);
        }

        ts->state = LLM_TASKS_BEHIND;           /* the object has ended */
        return LLM_OK;

    case LLM_TASKS_VALUE:
        ts->start = (size_t) (js->start - js->text);

        ts->state = js->depth == 1 ? LLM_TASKS_TOP
                    : (ts->member == LLM_TASKS_PROMPTS
                       || ts->member == LLM_TASKS_REQUESTS)
                    ? LLM_TASKS_LIST : LLM_TASKS_INSIDE;

        return llm_tasks_value(ts, token);

    case LLM_TASKS_INSIDE:

        if (js->depth != 1) {
            return LLM_OK;
        }

        ts->state = LLM_TASKS_TOP;
        return llm_tasks_value_end(ts);

    case LLM_TASKS_LIST:
        return llm_tasks_element(ts, token);

    case LLM_TASKS_REQUEST:
        return llm_tasks_request(ts, token);

    default:                                    /* LLM_TASKS_BEHIND */
        ts->state = LLM_TASKS_DONE;
        return llm_tasks_finish(ts);
    }
}


/* of a member of the top object */

static int
llm_tasks_name(llm_tasks_t *ts)
{
    unsigned             other;
    llm_json_t          *js;
    llm_tasks_member_e   member;

    js = &ts->js;

    member = llm_tasks_known(js);

    ts->member = member;
    ts->name_start = (size_t) (js->start - js->text);

    if (member != LLM_TASKS_PARAM) {

        if (ts->seen & llm_tasks_bit(member)) {
            return llm_tasks_fail(ts, "duplicate_key",
                                  llm_tasks_names[member], -1, NULL,
                                  ts->name_start,
                                  "A member of the body stands twice");
        }

        ts->seen |= llm_tasks_bit(member);

        other = llm_tasks_bit(LLM_TASKS_PROMPTS)
                | llm_tasks_bit(LLM_TASKS_REQUESTS);

        if ((ts->seen & other) == other) {
            return llm_tasks_fail(ts, "invalid_value",
                                  llm_tasks_names[member], -1, NULL,
                                  ts->name_start,
                                  "Either 'prompts' or 'requests' may be "
                                  "given, not both");
        }

        if (member < LLM_TASKS_MODEL) {
            return LLM_OK;
        }
    }

    return llm_tasks_new_param(ts);
}


static llm_tasks_member_e
llm_tasks_known(const llm_json_t *js)
{
    unsigned  i;

    for (i = LLM_TASKS_PROMPTS; i < LLM_TASKS_MEMBERS; i++) {

        if (llm_json_is(js, llm_tasks_names[i], strlen(llm_tasks_names[i]))) {
            return (llm_tasks_member_e) i;
        }
    }

    return LLM_TASKS_PARAM;
}


/* its name; the value is not known yet */

static int
llm_tasks_new_param(llm_tasks_t *ts)
{
    unsigned            i;
    llm_json_t         *js;
    llm_tasks_param_t  *p;

    js = &ts->js;

    if (ts->param == NULL) {
        ts->param = llm_arena_alloc(ts->arena, LLM_TASKS_PARAMS
                                               * sizeof(llm_tasks_param_t));
        if (ts->param == NULL) {
            return llm_tasks_complex(ts);
        }
    }

    if (ts->nparams == LLM_TASKS_PARAMS || js->size > LLM_TASKS_NAME) {
        return llm_tasks_fail(ts, "invalid_value", NULL, -1, NULL,
                              ts->name_start,
                              "The body has too many parameters, or one whose "
                              "name is too long");
    }

    p = &ts->param[ts->nparams];

    p->whole.start = (uint32_t) ts->name_start;
    p->len = (uint32_t) js->size;

    (void) llm_json_decode(js->start + 1, js->end - 1, p->name);

    for (i = 0; i < ts->nparams; i++) {

        if (ts->param[i].len == p->len
            && memcmp(ts->param[i].name, p->name, p->len) == 0)
        {
            return llm_tasks_fail(ts, "duplicate_key", NULL, -1, NULL,
                                  ts->name_start,
                                  "A member of the body stands twice");
        }
    }

    ts->nparams++;

    return LLM_OK;
}


/* of the list of prompts or requests, or its end */

static int
llm_tasks_element(llm_tasks_t *ts, llm_json_token_e token)
{
    size_t       start;
    const char  *list;
    llm_json_t  *js;

    js = &ts->js;
    list = llm_tasks_names[ts->member];
    start = (size_t) (js->start - js->text);

    if (token == LLM_JSON_ARRAY_END && js->depth == 1) {
        ts->state = LLM_TASKS_TOP;

        if (ts->n != 0) {
            return LLM_OK;
        }

        return llm_tasks_fail(ts, "invalid_value", list, -1, NULL, ts->start,
                              "The list of tasks is empty");
    }

    if (ts->n == ts->most) {
        (void) llm_tasks_fail(ts, "too_many_tasks", list, (int) ts->n, NULL,
                              start, "");

        (void) snprintf(ts->err->text, sizeof(ts->err->text),
                        "The list has more than %u tasks", ts->most);
        return LLM_ERROR;
    }

    if (ts->member == LLM_TASKS_PROMPTS) {

        if (token != LLM_JSON_STRING) {
            return llm_tasks_fail(ts, "invalid_value", list, (int) ts->n,
                                  NULL, start, "A prompt must be a string");
        }

        return llm_tasks_push(ts, start, (size_t) (js->end - js->text));
    }

    if (token != LLM_JSON_OBJECT) {
        return llm_tasks_fail(ts, "invalid_value", list, (int) ts->n, NULL,
                              start, "A request must be an object");
    }

    ts->state = LLM_TASKS_REQUEST;
    ts->start = start;
    ts->own = 0;

    return LLM_OK;
}


/* inside of a request */

static int
llm_tasks_request(llm_tasks_t *ts, llm_json_token_e token)
{
    llm_json_t  *js;

    js = &ts->js;

    if (js->depth == 2) {
        ts->state = LLM_TASKS_LIST;
        ts->member = LLM_TASKS_REQUESTS;

        if (!ts->own && !ts->bare) {
            ts->bare = 1;
            ts->bare_index = ts->n;
            ts->bare_offset = ts->start;
        }

        return llm_tasks_push(ts, ts->start, (size_t) (js->end - js->text));
    }

    if (js->depth == 3 && token == LLM_JSON_NAME) {
        ts->member = llm_json_same(js, "model", 5) ? LLM_TASKS_MODEL
                     : llm_json_same(js, "stream", 6) ? LLM_TASKS_STREAM
                     : LLM_TASKS_PARAM;
        return LLM_OK;
    }

    if (ts->member != LLM_TASKS_MODEL && ts->member != LLM_TASKS_STREAM) {
        return LLM_OK;
    }

    return llm_tasks_request_member(ts, token);
}


static int
llm_tasks_request_member(llm_tasks_t *ts, llm_json_token_e token)
{
    size_t       start;
    llm_json_t  *js;

    js = &ts->js;
    start = (size_t) (js->start - js->text);

    if (ts->member == LLM_TASKS_STREAM) {
        ts->member = LLM_TASKS_PARAM;

        if (token != LLM_JSON_TRUE) {
            return LLM_OK;
        }

        return llm_tasks_fail(ts, "unsupported_parameter", "requests",
                              (int) ts->n, "stream", start,
                              "A task cannot be streamed");
    }

    ts->member = LLM_TASKS_PARAM;
    ts->own = 1;

    if (token == LLM_JSON_STRING && js->size != 0) {
        return LLM_OK;
    }

    return llm_tasks_fail(ts, "invalid_value", "requests", (int) ts->n,
                          "model", start, "A model must be a string");
}


static int
llm_tasks_push(llm_tasks_t *ts, size_t start, size_t end)
{
    llm_tasks_block_t  *b;

    b = ts->last;

    if (b == NULL || b->n == LLM_TASKS_BLOCK) {
        b = llm_arena_alloc(ts->arena, sizeof(llm_tasks_block_t));

        if (b == NULL) {
            return llm_tasks_complex(ts);
        }

        b->next = NULL;
        b->n = 0;

        if (ts->last != NULL) {
            ts->last->next = b;

        } else {
            ts->first = b;
        }

        ts->last = b;
    }

    b->span[b->n].start = (uint32_t) start;
    b->span[b->n].end = (uint32_t) end;
    b->n++;
    ts->n++;

    return LLM_OK;
}


int
llm_tasks_fail(llm_tasks_t *ts, const char *code, const char *member,
    int index, const char *inner, size_t offset, const char *text)
{
    llm_tasks_error_t  *err;

    err = ts->err;

    err->code = code;
    err->offset = offset;

    if (index < 0) {
        (void) snprintf(err->param, sizeof(err->param), "%s",
                        member != NULL ? member : "");

    } else {
        (void) snprintf(err->param, sizeof(err->param), "%s[%d]%s%s", member,
                        index, inner != NULL ? "." : "",
                        inner != NULL ? inner : "");
    }

    (void) snprintf(err->text, sizeof(err->text), "%s", text);

    return LLM_ERROR;
}


int
llm_tasks_complex(llm_tasks_t *ts)
{
    return llm_tasks_fail(ts, "request_too_complex", NULL, -1, NULL,
                          (size_t) (ts->js.pos - ts->js.text),
                          "The request body is too complex");
}
