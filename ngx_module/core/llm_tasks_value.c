
/*
 * Copyright (C) the ngx-llm authors
 *
 * What stands beside the list of tasks, and what follows from it.
 */


#include <string.h>

#include "core/llm_batch_text.h"
#include "core/llm_tasks_private.h"


static int llm_tasks_wrong(llm_tasks_t *ts, const char *member,
    const char *text);
static int llm_tasks_priority(llm_tasks_t *ts, llm_json_token_e token);
static int llm_tasks_webhook(llm_tasks_t *ts, llm_json_token_e token);
static int llm_tasks_crash(llm_tasks_t *ts, llm_json_token_e token);
static int llm_tasks_param(llm_tasks_t *ts, llm_json_token_e token);
static int llm_tasks_default(llm_tasks_t *ts);
static int llm_tasks_front(llm_tasks_t *ts);
static void llm_tasks_put_front(llm_tasks_t *ts, llm_batch_text_t *t);


int
llm_tasks_value(llm_tasks_t *ts, llm_json_token_e token)
{
    switch (ts->member) {

    case LLM_TASKS_PROMPTS:
        ts->prompts = 1;

        if (token != LLM_JSON_ARRAY) {
            return llm_tasks_wrong(ts, "prompts",
                                   "'prompts' must be a list of strings");
        }

        return LLM_OK;

    case LLM_TASKS_REQUESTS:

        if (token != LLM_JSON_ARRAY) {
            return llm_tasks_wrong(ts, "requests",
                                   "'requests' must be a list of objects");
        }

        return LLM_OK;

    case LLM_TASKS_PRIORITY:
        return llm_tasks_priority(ts, token);

    case LLM_TASKS_URL:
        return llm_tasks_webhook(ts, token);

    case LLM_TASKS_CRASH:
        return llm_tasks_crash(ts, token);

    case LLM_TASKS_META:

        if (token != LLM_JSON_OBJECT && token != LLM_JSON_NULL) {
            return llm_tasks_wrong(ts, "metadata",
                                   "'metadata' must be an object");
        }

        return LLM_OK;

    default:
        return llm_tasks_param(ts, token);
    }
}


int
llm_tasks_value_end(llm_tasks_t *ts)
{
    size_t  end;

    end = (size_t) (ts->js.end - ts->js.text);

    if (ts->member != LLM_TASKS_META) {
        ts->param[ts->nparams - 1].whole.end = (uint32_t) end;
        return LLM_OK;
    }

    ts->metadata.data = ts->body.data + ts->start;
    ts->metadata.len = end - ts->start;

    if (ts->metadata.len > LLM_TASKS_METADATA) {
        return llm_tasks_wrong(ts, "metadata", "'metadata' is too large");
    }

    return LLM_OK;
}


static int
llm_tasks_wrong(llm_tasks_t *ts, const char *member, const char *text)
{
    return llm_tasks_fail(ts, "invalid_value", member, -1, NULL, ts->start,
                          text);
}


static int
llm_tasks_priority(llm_tasks_t *ts, llm_json_token_e token)
{
    if (token == LLM_JSON_NULL) {
        return LLM_OK;
    }

    if (token == LLM_JSON_STRING) {

        if (llm_json_is(&ts->js, "high", 4)) {
            ts->priority = LLM_TASKS_HIGH;
            return LLM_OK;
        }

        if (llm_json_is(&ts->js, "normal", 6)) {
            return LLM_OK;
        }

        if (llm_json_is(&ts->js, "low", 3)) {
            ts->priority = LLM_TASKS_LOW;
            return LLM_OK;
        }
    }

    return llm_tasks_wrong(ts, "priority", "'priority' must be \"high\", "
                                           "\"normal\" or \"low\"");
}


static int
llm_tasks_webhook(llm_tasks_t *ts, llm_json_token_e token)
{
    size_t      i;
    llm_str_t  *url;

    url = &ts->webhook;

    if (token == LLM_JSON_NULL) {
        return LLM_OK;
    }

    if (token == LLM_JSON_STRING && ts->js.size <= LLM_TASKS_WEBHOOK) {

        if (llm_json_text(&ts->js, ts->arena, url) != LLM_OK) {
            return llm_tasks_complex(ts);
        }

        for (i = 0; i < url->len; i++) {
            if (url->data[i] <= 0x20 || url->data[i] >= 0x7f) {
                break;
            }
        }

        if (i == url->len
            && ((i > 8 && memcmp(url->data, "https://", 8) == 0)
                || (i > 7 && memcmp(url->data, "http://", 7) == 0)))
        {
            return LLM_OK;
        }
    }

    return llm_tasks_wrong(ts, "webhook", "'webhook' must be a URL that "
                           "begins with https:// or http://");
}


static int
llm_tasks_crash(llm_tasks_t *ts, llm_json_token_e token)
{
    if (token == LLM_JSON_NULL) {
        return LLM_OK;
    }

    if (token == LLM_JSON_STRING) {

        if (llm_json_is(&ts->js, "retry", 5)) {
            return LLM_OK;
        }

        if (llm_json_is(&ts->js, "fail", 4)) {
            ts->fail_on_crash = 1;
            return LLM_OK;
        }
    }

    return llm_tasks_wrong(ts, "on_crash",
                           "'on_crash' must be \"retry\" or \"fail\"");
}


/* a chat parameter: it is taken as it is, but for those that matter here */

static int
llm_tasks_param(llm_tasks_t *ts, llm_json_token_e token)
{
    if (ts->member == LLM_TASKS_STREAM && token == LLM_JSON_TRUE) {
        return llm_tasks_fail(ts, "unsupported_parameter", "stream", -1, NULL,
                              ts->start, "A task cannot be streamed");
    }

    if (ts->member == LLM_TASKS_MODEL) {

        if (token == LLM_JSON_NULL) {           /* as if it were not there */
            ts->seen &= ~llm_tasks_bit(LLM_TASKS_MODEL);
            ts->nparams--;
            return LLM_OK;
        }

        if (token != LLM_JSON_STRING || ts->js.size == 0) {
            return llm_tasks_wrong(ts, "model", "A model must be a string");
        }
    }

    ts->param[ts->nparams - 1].whole.end =
                                      (uint32_t) (ts->js.end - ts->js.text);
    return LLM_OK;
}


int
llm_tasks_finish(llm_tasks_t *ts)
{
    size_t  end;

    end = (size_t) (ts->js.pos - ts->js.text);

    if (ts->n == 0) {
        return llm_tasks_fail(ts, "missing_required_parameter", "prompts", -1,
                              NULL, end,
                              "Missing required parameter: 'prompts' or "
                              "'requests'");
    }

    if (ts->prompts && (ts->seen & llm_tasks_bit(LLM_TASKS_MESSAGES))) {
        return llm_tasks_fail(ts, "unsupported_parameter", "messages", -1,
                              NULL, end,
                              "'messages' cannot stand beside 'prompts', only "
                              "inside of 'requests'");
    }

    if (!(ts->seen & llm_tasks_bit(LLM_TASKS_MODEL))) {

        if (ts->model.len != 0) {

            if (llm_tasks_default(ts) != LLM_OK) {
                return LLM_ERROR;
            }

        } else if (ts->prompts) {
            return llm_tasks_fail(ts, "missing_required_parameter", "model",
                                  -1, NULL, end,
                                  "Missing required parameter: 'model'");

        } else if (ts->bare) {
            return llm_tasks_fail(ts, "missing_required_parameter",
                                  "requests", (int) ts->bare_index, "model",
                                  ts->bare_offset,
                                  "Missing required parameter: 'model'");
        }
    }

    ts->block = ts->first;

    return ts->prompts ? llm_tasks_front(ts) : LLM_OK;
}


static int
llm_tasks_default(llm_tasks_t *ts)
{
    llm_str_t         *s;
    llm_batch_text_t   t;

    s = &ts->default_model;

    s->len = sizeof("\"model\":\"\"") - 1 + 6 * ts->model.len;
    s->data = llm_arena_alloc(ts->arena, s->len);

    if (s->data == NULL) {
        return llm_tasks_complex(ts);
    }

    llm_batch_text_init(&t, s->data, s->len);
    llm_batch_put_name(&t, "model");
    llm_batch_put_string(&t, &ts->model);

    s->len = t.len;

    return LLM_OK;
}


/* what the body of each prompt begins with; counted, then written */

static int
llm_tasks_front(llm_tasks_t *ts)
{
    llm_batch_text_t  t;

    llm_batch_text_init(&t, NULL, 0);
    llm_tasks_put_front(ts, &t);

    ts->front.len = t.len;
    ts->front.data = llm_arena_alloc(ts->arena, t.len);

    if (ts->front.data == NULL) {
        return llm_tasks_complex(ts);
    }

    llm_batch_text_init(&t, ts->front.data, ts->front.len);
    llm_tasks_put_front(ts, &t);

    return LLM_OK;
}


static void
llm_tasks_put_front(llm_tasks_t *ts, llm_batch_text_t *t)
{
    unsigned           i;
    llm_tasks_span_t  *s;

    llm_batch_put_text(t, "{");

    if (ts->default_model.len != 0) {
        llm_batch_put(t, ts->default_model.data, ts->default_model.len);
        llm_batch_put_text(t, ",");
    }

    for (i = 0; i < ts->nparams; i++) {
        s = &ts->param[i].whole;

        llm_batch_put(t, ts->body.data + s->start, s->end - s->start);
        llm_batch_put_text(t, ",");
    }

    llm_batch_put_text(t, "\"messages\":[{\"role\":\"user\",\"content\":");
}
