
/*
 * Copyright (C) the ngx-llm authors
 *
 * The single chat requests, and what is told of one task.
 */


#include <string.h>

#include "core/llm_batch_text.h"
#include "core/llm_tasks_private.h"


#define LLM_TASKS_REAR  "}]}"


static void llm_tasks_lacks(const llm_tasks_t *ts, llm_tasks_item_t *item);
static uint64_t llm_tasks_find(const llm_tasks_t *ts, const llm_json_t *js);
static unsigned char *llm_tasks_copy(unsigned char *buf, const void *p,
    size_t len);
static void llm_tasks_put_stamp(llm_batch_text_t *t, const char *name,
    int64_t ms);


static const char  *llm_tasks_states[LLM_TASKS_STATES] = {
    "queued", "processing", "completed", "error", "cancelled", "not_found"
};


int
llm_tasks_next(llm_tasks_t *ts, llm_tasks_item_t *item)
{
    unsigned  i;

    if (ts->block != NULL && ts->at == ts->block->n) {
        ts->block = ts->block->next;
        ts->at = 0;
    }

    if (ts->block == NULL) {
        return LLM_DECLINED;
    }

    memset(item, 0, sizeof(llm_tasks_item_t));

    item->index = ts->index++;
    item->span = ts->block->span[ts->at++];
    item->len = item->span.end - item->span.start;

    if (ts->prompts) {
        item->len += ts->front.len + sizeof(LLM_TASKS_REAR) - 1;
        return LLM_OK;
    }

    if (ts->nparams == 0 && ts->default_model.len == 0) {
        return LLM_OK;
    }

    llm_tasks_lacks(ts, item);

    if (item->add_model) {
        item->len += ts->default_model.len + 1;
    }

    for (i = 0; i < ts->nparams; i++) {

        if (item->add >> i & 1) {
            item->len += ts->param[i].whole.end - ts->param[i].whole.start
                         + 1;
        }
    }

    if (item->empty && (item->add_model || item->add != 0)) {
        item->len--;                            /* no last comma */
    }

    return LLM_OK;
}


/* which of the parameters the request does not have; it has been checked */

static void
llm_tasks_lacks(const llm_tasks_t *ts, llm_tasks_item_t *item)
{
    uint64_t           found;
    llm_json_t         js;
    llm_json_token_e   token;

    llm_json_init(&js, ts->body.data + item->span.start,
                  item->span.end - item->span.start);

    (void) llm_json_next(&js);

    item->empty = 1;
    item->add_model = (ts->default_model.len != 0);
    found = 0;

    while (llm_json_next(&js) == LLM_JSON_NAME) {
        item->empty = 0;

        if (llm_json_is(&js, "model", 5)) {
            item->add_model = 0;
        }

        found |= llm_tasks_find(ts, &js);
        token = llm_json_next(&js);

        if (token == LLM_JSON_OBJECT || token == LLM_JSON_ARRAY) {
            (void) llm_json_skip(&js);
        }
    }

    item->add = ~found;

    if (ts->nparams < 64) {
        item->add &= ((uint64_t) 1 << ts->nparams) - 1;
    }
}


static uint64_t
llm_tasks_find(const llm_tasks_t *ts, const llm_json_t *js)
{
    unsigned                  i;
    unsigned char             buf[LLM_TASKS_NAME];
    const unsigned char      *name;
    const llm_tasks_param_t  *p;

    if (js->size > LLM_TASKS_NAME) {
        return 0;
    }

    name = js->start + 1;

    if (js->escaped) {
        (void) llm_json_decode(name, js->end - 1, buf);
        name = buf;
    }

    for (i = 0; i < ts->nparams; i++) {
        p = &ts->param[i];

        if (p->len == js->size && memcmp(p->name, name, p->len) == 0) {
            return (uint64_t) 1 << i;
        }
    }

    return 0;
}


void
llm_tasks_write(const llm_tasks_t *ts, const llm_tasks_item_t *item,
    unsigned char *buf)
{
    size_t                len;
    unsigned              i;
    unsigned char        *p;
    const unsigned char  *body;

    body = ts->body.data + item->span.start;
    len = item->span.end - item->span.start;

    if (ts->prompts) {
        p = llm_tasks_copy(buf, ts->front.data, ts->front.len);
        p = llm_tasks_copy(p, body, len);
        (void) llm_tasks_copy(p, LLM_TASKS_REAR, sizeof(LLM_TASKS_REAR) - 1);
        return;
    }

    if (!item->add_model && item->add == 0) {
        (void) llm_tasks_copy(buf, body, len);
        return;
    }

    p = buf;
    *p++ = '{';

    if (item->add_model) {
        p = llm_tasks_copy(p, ts->default_model.data, ts->default_model.len);
        *p++ = ',';
    }

    for (i = 0; i < ts->nparams; i++) {

        if (item->add >> i & 1) {
            p = llm_tasks_copy(p, ts->body.data + ts->param[i].whole.start,
                               ts->param[i].whole.end
                               - ts->param[i].whole.start);
            *p++ = ',';
        }
    }

    if (item->empty) {
        p--;
    }

    (void) llm_tasks_copy(p, body + 1, len - 1);
}


static unsigned char *
llm_tasks_copy(unsigned char *buf, const void *p, size_t len)
{
    memcpy(buf, p, len);

    return buf + len;
}


const char *
llm_tasks_state_name(llm_tasks_state_e state)
{
    return llm_tasks_states[state];
}


size_t
llm_tasks_write_task(unsigned char *buf, size_t size,
    const llm_tasks_task_t *task)
{
    const char        *state;
    llm_batch_text_t   t;

    state = llm_tasks_states[task->state];

    llm_batch_text_init(&t, buf, size);

    llm_batch_put_text(&t, "{\"status\":\"");
    llm_batch_put(&t, state, strlen(state));
    llm_batch_put_text(&t, "\"");

    if (task->state == LLM_TASKS_NOT_FOUND) {
        llm_batch_put_text(&t, "}");
        return t.len;
    }

    t.comma = 1;

    llm_batch_put_name(&t, "progress");
    llm_batch_put_number(&t, task->progress);
    llm_batch_put_name(&t, "attempts");
    llm_batch_put_number(&t, task->attempts);

    llm_tasks_put_stamp(&t, "created_at", task->created);
    llm_tasks_put_stamp(&t, "started_at", task->started);
    llm_tasks_put_stamp(&t, "finished_at", task->finished);

    llm_batch_put_name(&t, "result");
    llm_batch_put_json(&t, &task->result);
    llm_batch_put_name(&t, "error");
    llm_batch_put_json(&t, &task->error);

    if (task->usage.len != 0) {
        llm_batch_put_name(&t, "usage");
        llm_batch_put_json(&t, &task->usage);
    }

    if (task->metadata.len != 0) {
        llm_batch_put_name(&t, "metadata");
        llm_batch_put_json(&t, &task->metadata);
    }

    llm_batch_put_text(&t, "}");

    return t.len;
}


static void
llm_tasks_put_stamp(llm_batch_text_t *t, const char *name, int64_t ms)
{
    unsigned char  buf[4];

    llm_batch_put_name(t, name);

    if (ms <= 0) {
        llm_batch_put_text(t, "null");
        return;
    }

    buf[0] = '.';
    buf[1] = (unsigned char) ('0' + ms / 100 % 10);
    buf[2] = (unsigned char) ('0' + ms / 10 % 10);
    buf[3] = (unsigned char) ('0' + ms % 10);

    llm_batch_put_number(t, ms / 1000);
    llm_batch_put(t, buf, sizeof(buf));
}
