
/*
 * Copyright (C) the ngx-llm authors
 *
 * An answer of chat or completions, laid out to be told in chunks.
 */


#include "core/llm_replay_private.h"
#include "core/llm_sse_private.h"


static int llm_replay_fault(const llm_replay_member_t *m);
static int llm_replay_head(llm_replay_t *rp, llm_replay_chat_t *chat);
static int llm_replay_choice_read(llm_replay_t *rp, const llm_str_t *text,
    llm_replay_choice_t *ch, uint32_t position);
static int llm_replay_message_read(llm_replay_t *rp,
    llm_replay_choice_t *ch);
static int llm_replay_call_read(llm_replay_t *rp, const llm_str_t *text,
    llm_replay_call_t *call);
static int llm_replay_sort(llm_replay_chat_t *chat);


int
llm_replay_read(llm_replay_t *rp)
{
    int                   rc;
    uint32_t              i;
    llm_replay_array_t    array;
    llm_replay_chat_t    *chat;
    llm_replay_member_t  *m;

    chat = llm_arena_alloc(rp->arena, sizeof(llm_replay_chat_t));

    if (chat == NULL) {
        return LLM_ERROR;
    }

    memset(chat, 0, sizeof(llm_replay_chat_t));
    rp->data = chat;

    rc = llm_replay_head(rp, chat);

    if (rc != LLM_OK) {
        return rc;
    }

    if (llm_replay_fault(llm_replay_find(&rp->top, "type"))
        || llm_replay_fault(llm_replay_find(&rp->top, "object")))
    {
        return LLM_DECLINED;
    }

    chat->usage = llm_replay_take(&rp->top, "usage");

    (void) llm_replay_take(&rp->top, "error");
    (void) llm_replay_take(&rp->top, "obfuscation");

    m = llm_replay_take(&rp->top, "choices");

    if (m == NULL) {
        return LLM_DECLINED;
    }

    rc = llm_replay_array(rp, &m->value, &array);

    if (rc != LLM_OK) {
        return rc;
    }

    chat->n = array.n;
    chat->choices = llm_arena_alloc(rp->arena,
                                    array.n * sizeof(llm_replay_choice_t));
    if (chat->choices == NULL) {
        return LLM_ERROR;
    }

    for (i = 0; i < array.n; i++) {
        rc = llm_replay_choice_read(rp, &array.elts[i], &chat->choices[i], i);

        if (rc != LLM_OK) {
            return rc;
        }
    }

    return llm_replay_sort(chat);
}


/* does it say that this is an error? */

static int
llm_replay_fault(const llm_replay_member_t *m)
{
    return llm_replay_string(m)
           && (llm_sse_type(m->value.data + 1, m->value.len - 2)
               & LLM_SSE_ERROR);
}


/* what each chunk begins with */

static int
llm_replay_head(llm_replay_t *rp, llm_replay_chat_t *chat)
{
    unsigned              i;
    llm_out_t             out;
    llm_replay_member_t  *m;

    static const char *const  names[] = {
        "id", "object", "created", "model", "service_tier",
        "system_fingerprint"
    };

    memset(&out, 0, sizeof(llm_out_t));

    out.pos = llm_arena_alloc(rp->arena, LLM_REPLAY_HEAD);

    if (out.pos == NULL) {
        return LLM_ERROR;
    }

    chat->head.data = out.pos;

    llm_out_text(&out, "data: {");

    for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        m = llm_replay_take(&rp->top, names[i]);

        if (i == 1) {
            llm_out_name(&out, "object");

            if (rp->endpoint == LLM_CHAT) {
                llm_out_text(&out, "\"chat.completion.chunk\"");

            } else {
                llm_out_text(&out, "\"text_completion\"");
            }

            continue;
        }

        if (m == NULL) {
            continue;
        }

        if (out.len + m->value.len > LLM_REPLAY_HEAD - 128) {
            return LLM_DECLINED;
        }

        llm_out_name(&out, names[i]);
        llm_out_str(&out, &m->value);
    }

    llm_out_name(&out, "choices");
    llm_out_text(&out, "[");

    chat->head.len = out.len;

    return LLM_OK;
}


static int
llm_replay_choice_read(llm_replay_t *rp, const llm_str_t *text,
    llm_replay_choice_t *ch, uint32_t position)
{
    int                   rc;
    llm_json_t            js;
    llm_replay_member_t  *m;

    memset(ch, 0, sizeof(llm_replay_choice_t));

    rc = llm_replay_object(rp, text, &ch->choice);

    if (rc != LLM_OK) {
        return rc;
    }

    ch->index = position;
    ch->logprobs = llm_replay_take(&ch->choice, "logprobs");
    ch->finish = llm_replay_take(&ch->choice, "finish_reason");

    if (llm_replay_fault(ch->finish)) {
        return LLM_DECLINED;
    }

    m = llm_replay_take(&ch->choice, "index");

    if (m != NULL) {
        llm_json_init(&js, m->value.data, m->value.len);

        if (llm_json_next(&js) != LLM_JSON_NUMBER || !js.integer
            || llm_json_integer(&js, &ch->index) != LLM_OK
            || ch->index < 0 || ch->index > INT32_MAX)
        {
            return LLM_DECLINED;
        }
    }

    if (rp->endpoint == LLM_CHAT) {
        return llm_replay_message_read(rp, ch);
    }

    ch->text = llm_replay_take(&ch->choice, "text");

    return llm_replay_string(ch->text) ? LLM_OK : LLM_DECLINED;
}


static int
llm_replay_message_read(llm_replay_t *rp, llm_replay_choice_t *ch)
{
    int                   rc;
    uint32_t              i;
    llm_replay_array_t    array;
    llm_replay_member_t  *m;

    m = llm_replay_take(&ch->choice, "message");

    if (m == NULL || llm_replay_find(&ch->choice, "delta") != NULL) {
        return LLM_DECLINED;
    }

    rc = llm_replay_object(rp, &m->value, &ch->message);

    if (rc != LLM_OK) {
        return rc;
    }

    /* only text is told in pieces, and what it begins with told first */

    ch->role = llm_replay_take(&ch->message, "role");
    ch->text = llm_replay_find(&ch->message, "content");
    ch->refusal = llm_replay_find(&ch->message, "refusal");

    if (llm_replay_string(ch->text)) {
        ch->text->told = 1;

    } else {
        ch->text = NULL;
    }

    if (llm_replay_string(ch->refusal) && ch->refusal->value.len > 2) {
        ch->refusal->told = 1;

    } else {
        ch->refusal = NULL;
    }

    m = llm_replay_find(&ch->message, "tool_calls");

    if (m == NULL || llm_replay_null(m)) {
        return LLM_OK;
    }

    rc = llm_replay_array(rp, &m->value, &array);

    if (rc != LLM_OK || array.n == 0) {
        return rc;
    }

    m->told = 1;
    ch->ncalls = array.n;
    ch->calls = llm_arena_alloc(rp->arena,
                                array.n * sizeof(llm_replay_call_t));
    if (ch->calls == NULL) {
        return LLM_ERROR;
    }

    for (i = 0; i < array.n; i++) {
        rc = llm_replay_call_read(rp, &array.elts[i], &ch->calls[i]);

        if (rc != LLM_OK) {
            return rc;
        }
    }

    return LLM_OK;
}


static int
llm_replay_call_read(llm_replay_t *rp, const llm_str_t *text,
    llm_replay_call_t *call)
{
    int                   rc;
    const char           *name;
    llm_replay_member_t  *custom;

    memset(call, 0, sizeof(llm_replay_call_t));

    rc = llm_replay_object(rp, text, &call->call);

    if (rc != LLM_OK) {
        return rc;
    }

    (void) llm_replay_take(&call->call, "index");

    name = "arguments";
    call->called = llm_replay_find(&call->call, "function");
    custom = llm_replay_find(&call->call, "custom");

    if (call->called == NULL || llm_replay_null(call->called)) {
        name = "input";
        call->called = custom;

    } else if (custom != NULL && !llm_replay_null(custom)) {
        return LLM_DECLINED;
    }

    if (call->called == NULL || llm_replay_null(call->called)) {
        call->called = NULL;
        return LLM_OK;
    }

    rc = llm_replay_object(rp, &call->called->value, &call->function);

    if (rc != LLM_OK) {
        return rc;
    }

    call->called->told = 1;
    call->input = llm_replay_find(&call->function, name);

    if (llm_replay_string(call->input)) {
        call->input->told = 1;

    } else {
        call->input = NULL;
    }

    return LLM_OK;
}


/* clients count choices as they come */

static int
llm_replay_sort(llm_replay_chat_t *chat)
{
    uint32_t              i, k;
    llm_replay_choice_t  *ch, last;

    ch = chat->choices;

    for (i = 1; i < chat->n; i++) {
        last = ch[i];

        for (k = i; k != 0 && ch[k - 1].index > last.index; k--) {
            ch[k] = ch[k - 1];
        }

        ch[k] = last;

        if (k != 0 && ch[k - 1].index == last.index) {
            return LLM_DECLINED;
        }
    }

    return LLM_OK;
}
