
/*
 * Copyright (C) the ngx-llm authors
 *
 * The output of responses, laid out to be told in events.
 */


#include "core/llm_replay_private.h"


#define llm_replay_kind(type, member, part, words, index, logged)             \
    { "\"" type "\"", member, "response." part ".added",                      \
      "response." words ".delta", "response." words ".done",                  \
      "response." part ".done", index, logged }


static const llm_replay_kind_t  llm_replay_content[] = {
    llm_replay_kind("output_text", "text", "content_part", "output_text",
                    "content_index", 1),
    llm_replay_kind("refusal", "refusal", "content_part", "refusal",
                    "content_index", 0),
    llm_replay_kind("reasoning_text", "text", "content_part",
                    "reasoning_text", "content_index", 0),
    { NULL, NULL, "response.content_part.added", NULL, NULL,
      "response.content_part.done", "content_index", 0 }
};


static const llm_replay_kind_t  llm_replay_summary[] = {
    llm_replay_kind("summary_text", "text", "reasoning_summary_part",
                    "reasoning_summary_text", "summary_index", 0),
    { NULL, NULL, "response.reasoning_summary_part.added", NULL, NULL,
      "response.reasoning_summary_part.done", "summary_index", 0 }
};


static int llm_replay_deep(const llm_str_t *body);
static int llm_replay_item_read(llm_replay_t *rp, llm_replay_item_t *it);
static int llm_replay_parts_read(llm_replay_t *rp,
    const llm_replay_member_t *m, const llm_replay_kind_t *kinds,
    llm_replay_parts_t *parts);
static int llm_replay_part_read(llm_replay_t *rp, llm_replay_part_t *pt,
    const llm_replay_kind_t *kinds);
static int llm_replay_named(const llm_replay_member_t *m, const char *s);


int
llm_replay_response_read(llm_replay_t *rp, const llm_str_t *body)
{
    int                   rc;
    uint32_t              i;
    llm_replay_array_t    array;
    llm_replay_member_t  *m;
    llm_replay_output_t  *output;

    m = llm_replay_find(&rp->top, "output");

    if (m == NULL || llm_replay_deep(body)) {
        return LLM_DECLINED;
    }

    rc = llm_replay_array(rp, &m->value, &array);

    if (rc != LLM_OK) {
        return rc;
    }

    output = llm_arena_alloc(rp->arena, sizeof(llm_replay_output_t));

    if (output == NULL) {
        return LLM_ERROR;
    }

    rp->data = output;
    output->n = array.n;
    output->items = llm_arena_alloc(rp->arena,
                                    array.n * sizeof(llm_replay_item_t));
    if (output->items == NULL) {
        return LLM_ERROR;
    }

    for (i = 0; i < array.n; i++) {
        memset(&output->items[i], 0, sizeof(llm_replay_item_t));
        output->items[i].whole = array.elts[i];

        rc = llm_replay_item_read(rp, &output->items[i]);

        if (rc == LLM_ERROR) {
            return LLM_ERROR;
        }

        if (rc == LLM_DECLINED) {

            /* of a shape of its own */

            if (array.elts[i].data[0] != '{') {
                return LLM_DECLINED;
            }

            output->items[i].kind = LLM_REPLAY_OTHER;
        }
    }

    return LLM_OK;
}


/* an event is one level deeper than the answer in it */

static int
llm_replay_deep(const llm_str_t *body)
{
    llm_json_t  js;

    llm_json_init(&js, body->data, body->len);

    js.depth = 1;
    js.objects = 1;

    return llm_json_next(&js) != LLM_JSON_OBJECT
           || llm_json_skip(&js) != LLM_JSON_OBJECT_END;
}


static int
llm_replay_item_read(llm_replay_t *rp, llm_replay_item_t *it)
{
    int                   rc;
    llm_replay_member_t  *type;

    rc = llm_replay_object(rp, &it->whole, &it->item);

    if (rc != LLM_OK) {
        return rc;
    }

    type = llm_replay_find(&it->item, "type");
    it->id = llm_replay_find(&it->item, "id");

    if (!llm_replay_string(it->id) || it->id->value.len > LLM_REPLAY_ID) {
        return LLM_OK;
    }

    if (llm_replay_named(type, "\"message\"")) {
        it->kind = LLM_REPLAY_MESSAGE;

        return llm_replay_parts_read(rp,
                                     llm_replay_find(&it->item, "content"),
                                     llm_replay_content, &it->content);
    }

    if (llm_replay_named(type, "\"reasoning\"")) {
        it->kind = LLM_REPLAY_REASONING;

        rc = llm_replay_parts_read(rp, llm_replay_find(&it->item, "summary"),
                                   llm_replay_summary, &it->summary);

        if (rc != LLM_OK) {
            return rc;
        }

        return llm_replay_parts_read(rp,
                                     llm_replay_find(&it->item, "content"),
                                     llm_replay_content, &it->content);
    }

    if (llm_replay_named(type, "\"function_call\"")) {
        it->kind = LLM_REPLAY_FUNCTION;
        it->text = llm_replay_find(&it->item, "arguments");

    } else if (llm_replay_named(type, "\"custom_tool_call\"")) {
        it->kind = LLM_REPLAY_CUSTOM;
        it->text = llm_replay_find(&it->item, "input");

    } else {
        return LLM_OK;
    }

    return llm_replay_string(it->text) ? LLM_OK : LLM_DECLINED;
}


static int
llm_replay_parts_read(llm_replay_t *rp, const llm_replay_member_t *m,
    const llm_replay_kind_t *kinds, llm_replay_parts_t *parts)
{
    int                 rc;
    uint32_t            i;
    llm_replay_array_t  array;

    if (m == NULL || llm_replay_null(m)) {
        return LLM_OK;
    }

    rc = llm_replay_array(rp, &m->value, &array);

    if (rc != LLM_OK) {
        return rc;
    }

    parts->elts = llm_arena_alloc(rp->arena,
                                  array.n * sizeof(llm_replay_part_t));
    if (parts->elts == NULL) {
        return LLM_ERROR;
    }

    parts->n = array.n;

    for (i = 0; i < array.n; i++) {
        memset(&parts->elts[i], 0, sizeof(llm_replay_part_t));
        parts->elts[i].whole = array.elts[i];

        rc = llm_replay_part_read(rp, &parts->elts[i], kinds);

        if (rc != LLM_OK) {
            return rc;
        }
    }

    return LLM_OK;
}


static int
llm_replay_part_read(llm_replay_t *rp, llm_replay_part_t *pt,
    const llm_replay_kind_t *kinds)
{
    int                   rc;
    llm_replay_member_t  *type, *m;

    rc = llm_replay_object(rp, &pt->whole, &pt->part);

    if (rc != LLM_OK) {
        return rc;
    }

    type = llm_replay_find(&pt->part, "type");

    while (kinds->type != NULL && !llm_replay_named(type, kinds->type)) {
        kinds++;
    }

    pt->kind = kinds;

    if (kinds->type == NULL) {
        return LLM_OK;
    }

    pt->text = llm_replay_find(&pt->part, kinds->member);

    if (!llm_replay_string(pt->text)) {
        return LLM_DECLINED;
    }

    if (!kinds->logged) {
        return LLM_OK;
    }

    m = llm_replay_find(&pt->part, "logprobs");

    if (m != NULL && m->value.data[0] == '[') {
        pt->logprobs = m;
    }

    m = llm_replay_find(&pt->part, "annotations");

    if (m == NULL || m->value.data[0] != '[') {
        return LLM_OK;
    }

    return llm_replay_array(rp, &m->value, &pt->annotations);
}


static int
llm_replay_named(const llm_replay_member_t *m, const char *s)
{
    return m != NULL && m->value.len == strlen(s)
           && memcmp(m->value.data, s, m->value.len) == 0;
}
