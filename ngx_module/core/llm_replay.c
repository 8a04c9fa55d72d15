
/*
 * Copyright (C) the ngx-llm authors
 */


#include "core/llm_replay_private.h"


static int llm_replay_body(llm_replay_t *rp, llm_str_t *body);
static size_t llm_replay_compact(unsigned char *p, size_t len);
static void llm_replay_chat(llm_replay_t *rp, llm_out_t *out);
static void llm_replay_choice(llm_replay_t *rp, llm_out_t *out,
    llm_replay_choice_t *ch);
static void llm_replay_message(llm_replay_t *rp, llm_out_t *out,
    llm_replay_choice_t *ch);
static void llm_replay_call(llm_replay_t *rp, llm_out_t *out,
    llm_replay_choice_t *ch, uint32_t i);
static void llm_replay_pieces(llm_replay_t *rp, llm_out_t *out,
    llm_replay_choice_t *ch, const char *name, const llm_str_t *value);
static void llm_replay_begin(llm_replay_t *rp, llm_out_t *out,
    llm_replay_choice_t *ch);
static void llm_replay_end(llm_replay_t *rp, llm_out_t *out,
    llm_replay_choice_t *ch, int logprobs, int finish);


int
llm_replay(llm_endpoint_e endpoint, const llm_str_t *body, int usage,
    llm_arena_t *arena, llm_str_t *events)
{
    int           i, rc;
    llm_str_t     text;
    llm_out_t     out;
    llm_replay_t  rp;

    if (endpoint == LLM_EMBEDDINGS || endpoint >= LLM_ENDPOINTS) {
        return LLM_DECLINED;
    }

    memset(&rp, 0, sizeof(llm_replay_t));

    rp.endpoint = endpoint;
    rp.arena = arena;
    rp.usage = usage;

    text = *body;
    rc = llm_replay_body(&rp, &text);

    if (rc == LLM_OK) {
        rc = endpoint == LLM_RESPONSES
             ? llm_replay_response_read(&rp, &text) : llm_replay_read(&rp);
    }

    if (rc != LLM_OK) {
        return rc;
    }

    memset(&out, 0, sizeof(llm_out_t));

    for (i = 0; i < 2; i++) {

        if (endpoint == LLM_RESPONSES) {
            llm_replay_response(&rp, &out, &text);

        } else {
            llm_replay_chat(&rp, &out);
        }

        if (i == 1) {
            break;
        }

        events->len = out.len;
        events->data = llm_arena_alloc(arena, out.len);

        if (events->data == NULL) {
            return LLM_ERROR;
        }

        out.pos = events->data;
    }

    return LLM_OK;
}


/* is it an answer?  Data is one line: line ends between tokens must go */

static int
llm_replay_body(llm_replay_t *rp, llm_str_t *body)
{
    unsigned char  *p;
    llm_answer_t    an;

    llm_answer_scan(&an, rp->endpoint, body->data, body->len);

    if (!an.valid || !an.complete || an.error) {
        return LLM_DECLINED;
    }

    if (memchr(body->data, '\n', body->len) != NULL
        || memchr(body->data, '\r', body->len) != NULL)
    {
        p = llm_arena_alloc(rp->arena, body->len);

        if (p == NULL) {
            return LLM_ERROR;
        }

        memcpy(p, body->data, body->len);

        body->data = p;
        body->len = llm_replay_compact(p, body->len);
    }

    return llm_replay_object(rp, body, &rp->top);
}


/* valid JSON without the white space between its tokens; its new length */

static size_t
llm_replay_compact(unsigned char *p, size_t len)
{
    unsigned char  *d, *s, *end, *stop;

    d = p;
    s = p;
    end = p + len;

    while (s < end) {

        if (*s == ' ' || *s == '\n' || *s == '\r' || *s == '\t') {
            s++;
            continue;
        }

        stop = s + 1;

        if (*s == '"') {
            while (*stop != '"') {
                stop += (*stop == '\\') ? 2 : 1;
            }

            stop++;
        }

        memmove(d, s, (size_t) (stop - s));
        d += stop - s;
        s = stop;
    }

    return (size_t) (d - p);
}


static void
llm_replay_chat(llm_replay_t *rp, llm_out_t *out)
{
    uint32_t            i;
    llm_replay_chat_t  *chat;

    chat = rp->data;
    chat->begun = 0;

    for (i = 0; i < chat->n; i++) {
        llm_replay_choice(rp, out, &chat->choices[i]);
    }

    if (rp->usage && chat->usage != NULL && !llm_replay_null(chat->usage)) {
        llm_out_str(out, &chat->head);
        llm_out_text(out, "],\"usage\":");
        llm_out_str(out, &chat->usage->value);
        llm_out_text(out, "}\n\n");
    }

    llm_out_text(out, "data: [DONE]\n\n");
}


static void
llm_replay_choice(llm_replay_t *rp, llm_out_t *out, llm_replay_choice_t *ch)
{
    uint32_t  i;

    ch->begun = 0;
    ch->logged = 0;

    if (rp->endpoint == LLM_CHAT) {
        llm_replay_message(rp, out, ch);

        if (ch->text != NULL) {
            llm_replay_pieces(rp, out, ch, "\"delta\":{\"content\":\"",
                              &ch->text->value);
        }

        if (ch->refusal != NULL) {
            llm_replay_pieces(rp, out, ch, "\"delta\":{\"refusal\":\"",
                              &ch->refusal->value);
        }

        for (i = 0; i < ch->ncalls; i++) {
            llm_replay_call(rp, out, ch, i);
        }

        llm_replay_begin(rp, out, ch);
        llm_out_text(out, "\"delta\":{}");

    } else {
        llm_replay_pieces(rp, out, ch, "\"text\":\"", &ch->text->value);

        llm_replay_begin(rp, out, ch);
        llm_out_text(out, "\"text\":\"\"");
    }

    llm_replay_end(rp, out, ch, 1, 1);
}


/* the first chunk: what a message has besides its text and its calls */

static void
llm_replay_message(llm_replay_t *rp, llm_out_t *out, llm_replay_choice_t *ch)
{
    llm_replay_begin(rp, out, ch);

    llm_out_text(out, "\"delta\":{");
    out->comma = 0;

    if (ch->role != NULL) {
        llm_out_name(out, "role");
        llm_out_str(out, &ch->role->value);
    }

    if (ch->text != NULL) {
        llm_out_name(out, "content");
        llm_out_text(out, "\"\"");
    }

    if (ch->refusal != NULL) {
        llm_out_name(out, "refusal");
        llm_out_text(out, "null");
    }

    llm_replay_rest(out, &ch->message);

    llm_out_text(out, "}");
    out->comma = 1;

    llm_replay_end(rp, out, ch, 0, 0);
}


static void
llm_replay_call(llm_replay_t *rp, llm_out_t *out, llm_replay_choice_t *ch,
    uint32_t i)
{
    char                prefix[96];
    llm_out_t           pre;
    llm_replay_call_t  *call;

    call = &ch->calls[i];

    llm_replay_begin(rp, out, ch);

    llm_out_text(out, "\"delta\":{\"tool_calls\":[{\"index\":");
    llm_out_number(out, i);

    out->comma = 1;
    llm_replay_rest(out, &call->call);

    if (call->called != NULL) {
        llm_out_text(out, ",");
        llm_out_str(out, &call->called->spelled);
        llm_out_text(out, ":{");

        out->comma = 0;
        llm_replay_rest(out, &call->function);

        if (call->input != NULL) {

            if (out->comma) {
                llm_out_text(out, ",");
            }

            llm_out_str(out, &call->input->spelled);
            llm_out_text(out, ":\"\"");
        }

        llm_out_text(out, "}");
    }

    llm_out_text(out, "}]}");
    out->comma = 1;

    llm_replay_end(rp, out, ch, 0, 0);

    if (call->input == NULL) {
        return;
    }

    memset(&pre, 0, sizeof(llm_out_t));
    pre.pos = (unsigned char *) prefix;

    llm_out_text(&pre, "\"delta\":{\"tool_calls\":[{\"index\":");
    llm_out_number(&pre, i);

    if (call->input->name.len == sizeof("arguments") - 1) {
        llm_out_text(&pre, ",\"function\":{\"arguments\":\"");

    } else {
        llm_out_text(&pre, ",\"custom\":{\"input\":\"");
    }

    *pre.pos = '\0';

    llm_replay_pieces(rp, out, ch, prefix, &call->input->value);
}


/*
 * A string in pieces, each behind the same words, which open what must be
 * closed again.
 */

static void
llm_replay_pieces(llm_replay_t *rp, llm_out_t *out, llm_replay_choice_t *ch,
    const char *name, const llm_str_t *value)
{
    size_t                len, i;
    const unsigned char  *p, *end, *stop;

    len = strlen(name);
    p = value->data + 1;
    end = value->data + value->len - 1;

    while (p < end) {
        stop = llm_replay_piece(p, end);

        llm_replay_begin(rp, out, ch);

        llm_out(out, name, len);
        llm_out(out, p, (size_t) (stop - p));
        llm_out_text(out, "\"");

        for (i = len; i != 0; i--) {

            if (name[i - 1] == '{') {
                llm_out_text(out, "}");

            } else if (name[i - 1] == '[') {
                llm_out_text(out, "]");
            }
        }

        llm_replay_end(rp, out, ch, 1, 0);

        p = stop;
    }
}


static void
llm_replay_begin(llm_replay_t *rp, llm_out_t *out, llm_replay_choice_t *ch)
{
    llm_replay_chat_t  *chat;

    chat = rp->data;

    llm_out_str(out, &chat->head);
    llm_out_text(out, "{\"index\":");
    llm_out_number(out, (uint64_t) ch->index);
    llm_out_text(out, ",");
}


/* "logprobs": may be told here, with the first text */

static void
llm_replay_end(llm_replay_t *rp, llm_out_t *out, llm_replay_choice_t *ch,
    int logprobs, int finish)
{
    llm_replay_chat_t  *chat;

    chat = rp->data;
    out->comma = 1;

    if (ch->logprobs != NULL) {
        llm_out_name(out, "logprobs");

        if (logprobs && !ch->logged) {
            llm_out_str(out, &ch->logprobs->value);
            ch->logged = 1;

        } else {
            llm_out_text(out, "null");
        }
    }

    llm_out_name(out, "finish_reason");

    if (finish) {
        llm_out_str(out, &ch->finish->value);

    } else {
        llm_out_text(out, "null");
    }

    if (!ch->begun) {
        llm_replay_rest(out, &ch->choice);
        ch->begun = 1;
    }

    llm_out_text(out, "}]");

    if (!chat->begun) {
        llm_replay_rest(out, &rp->top);
        chat->begun = 1;
    }

    if (rp->usage && chat->usage != NULL) {
        llm_out_text(out, ",\"usage\":null");
    }

    llm_out_text(out, "}\n\n");
}
