
/*
 * Copyright (C) the ngx-llm authors
 *
 * What chunks were merged into, as an answer without stream is spelled.
 */


#include "core/llm_gather_private.h"


static void llm_gather_top(llm_out_t *out, llm_endpoint_e endpoint,
    const llm_gather_node_t *node);
static void llm_gather_choice(llm_out_t *out, const llm_gather_node_t *node);
static void llm_gather_message(llm_out_t *out,
    const llm_gather_node_t *node);
static void llm_gather_call(llm_out_t *out, const llm_gather_node_t *node);
static void llm_gather_rest(llm_out_t *out, const llm_gather_node_t *node,
    uint64_t written);
static void llm_gather_pick(llm_out_t *out, const llm_gather_node_t *node,
    llm_gather_what_e what);
static void llm_gather_put(llm_out_t *out, const llm_gather_node_t *node);
static void llm_gather_put_object(llm_out_t *out,
    const llm_gather_node_t *node);
static void llm_gather_put_pieces(llm_out_t *out,
    const llm_gather_node_t *node);


#define llm_gather_bit(what)  ((uint64_t) 1 << (LLM_GATHER_ ## what))


void
llm_gather_write(llm_out_t *out, llm_endpoint_e endpoint,
    const llm_gather_node_t *top)
{
    out->comma = 0;

    llm_out_text(out, "{");
    llm_gather_top(out, endpoint, top);
    llm_out_text(out, "}");
}


static void
llm_gather_top(llm_out_t *out, llm_endpoint_e endpoint,
    const llm_gather_node_t *node)
{
    llm_gather_pick(out, node, LLM_GATHER_ID);

    llm_out_name(out, "object");

    if (endpoint == LLM_CHAT) {
        llm_out_text(out, "\"chat.completion\"");

    } else {
        llm_out_text(out, "\"text_completion\"");
    }

    llm_gather_pick(out, node, LLM_GATHER_CREATED);
    llm_gather_pick(out, node, LLM_GATHER_MODEL);
    llm_gather_pick(out, node, LLM_GATHER_CHOICES);
    llm_gather_pick(out, node, LLM_GATHER_USAGE);

    llm_gather_rest(out, node,
                    llm_gather_bit(ID) | llm_gather_bit(SORT)
                    | llm_gather_bit(CREATED) | llm_gather_bit(MODEL)
                    | llm_gather_bit(CHOICES) | llm_gather_bit(USAGE));
}


static void
llm_gather_choice(llm_out_t *out, const llm_gather_node_t *node)
{
    const llm_gather_node_t  *delta;

    if (node->place == LLM_GATHER_PIECE) {

        if (llm_gather_absent(llm_gather_find(node, LLM_GATHER_TEXT))) {
            llm_out_name(out, "text");
            llm_out_text(out, "\"\"");

        } else {
            llm_gather_pick(out, node, LLM_GATHER_TEXT);
        }
    }

    llm_out_name(out, "index");
    llm_out_number(out, node->u.members.index);

    if (node->place == LLM_GATHER_CHOICE) {

        delta = llm_gather_find(node, LLM_GATHER_MESSAGE);

        llm_out_name(out, "message");

        if (llm_gather_absent(delta)) {
            llm_out_text(out, "{\"role\":\"assistant\",\"content\":null}");

        } else {
            llm_gather_put(out, delta);
        }
    }

    llm_gather_pick(out, node, LLM_GATHER_LOGPROBS);
    llm_gather_pick(out, node, LLM_GATHER_FINISHED);

    llm_gather_rest(out, node,
                    llm_gather_bit(TEXT) | llm_gather_bit(MESSAGE)
                    | llm_gather_bit(LOGPROBS) | llm_gather_bit(FINISHED));
}


static void
llm_gather_message(llm_out_t *out, const llm_gather_node_t *node)
{
    if (llm_gather_absent(llm_gather_find(node, LLM_GATHER_ROLE))) {
        llm_out_name(out, "role");
        llm_out_text(out, "\"assistant\"");

    } else {
        llm_gather_pick(out, node, LLM_GATHER_ROLE);
    }

    if (llm_gather_find(node, LLM_GATHER_CONTENT) == NULL) {
        llm_out_name(out, "content");
        llm_out_text(out, "null");

    } else {
        llm_gather_pick(out, node, LLM_GATHER_CONTENT);
    }

    llm_gather_pick(out, node, LLM_GATHER_REFUSAL);

    llm_gather_rest(out, node,
                    llm_gather_bit(ROLE) | llm_gather_bit(CONTENT)
                    | llm_gather_bit(REFUSAL));
}


/* some providers leave out what an answer without stream has */

static void
llm_gather_call(llm_out_t *out, const llm_gather_node_t *node)
{
    uint64_t                  written;
    const llm_gather_node_t  *called;

    written = 0;
    called = llm_gather_find(node, LLM_GATHER_CALLED);

    if (called != NULL && called->type == LLM_GATHER_OBJECT
        && llm_gather_absent(llm_gather_find(node, LLM_GATHER_KIND)))
    {
        llm_out_name(out, "type");
        llm_out_text(out, "\"function\"");

        written = llm_gather_bit(KIND);
    }

    llm_gather_rest(out, node, written);
}


static void
llm_gather_rest(llm_out_t *out, const llm_gather_node_t *node,
    uint64_t written)
{
    const llm_gather_node_t  *member;

    for (member = node->u.members.first;
         member != NULL;
         member = member->next)
    {
        if (member->type == LLM_GATHER_NONE
            || (written & ((uint64_t) 1 << member->what)))
        {
            continue;
        }

        if (out->comma) {
            llm_out_text(out, ",");
        }

        llm_out_str(out, &member->spelled);
        llm_out_text(out, ":");
        llm_gather_put(out, member);

        out->comma = 1;
    }
}


static void
llm_gather_pick(llm_out_t *out, const llm_gather_node_t *node,
    llm_gather_what_e what)
{
    const llm_gather_node_t  *member;

    member = llm_gather_find(node, what);

    if (member == NULL) {
        return;
    }

    /* the usage may have been found elsewhere, without a name */

    if (out->comma) {
        llm_out_text(out, ",");
    }

    if (member->spelled.len != 0) {
        llm_out_str(out, &member->spelled);
        llm_out_text(out, ":");

    } else {
        llm_out_text(out, "\"usage\":");
    }

    llm_gather_put(out, member);

    out->comma = 1;
}


static void
llm_gather_put(llm_out_t *out, const llm_gather_node_t *node)
{
    uint32_t  i;

    switch (node->type) {

    case LLM_GATHER_RAW:
        llm_out_str(out, &node->u.raw);
        return;

    case LLM_GATHER_STRING:
        llm_out_text(out, "\"");
        llm_gather_put_pieces(out, node);
        llm_out_text(out, "\"");
        return;

    case LLM_GATHER_ARRAY:
        llm_out_text(out, "[");
        llm_gather_put_pieces(out, node);
        llm_out_text(out, "]");
        return;

    case LLM_GATHER_OBJECT:
        llm_gather_put_object(out, node);
        return;

    case LLM_GATHER_LIST:
        llm_out_text(out, "[");

        for (i = 0; i < node->u.list.n; i++) {

            if (i != 0) {
                llm_out_text(out, ",");
            }

            llm_gather_put_object(out, node->u.list.elts[i]);
        }

        llm_out_text(out, "]");
        return;

    default:
        llm_out_text(out, "null");
    }
}


static void
llm_gather_put_object(llm_out_t *out, const llm_gather_node_t *node)
{
    uint64_t  written;

    out->comma = 0;
    llm_out_text(out, "{");

    switch (node->place) {

    case LLM_GATHER_CHOICE:
    case LLM_GATHER_PIECE:
        llm_gather_choice(out, node);
        break;

    case LLM_GATHER_DELTA:
        llm_gather_message(out, node);
        break;

    case LLM_GATHER_CALL:
        llm_gather_call(out, node);
        break;

    case LLM_GATHER_FUNCTION:
        written = 0;

        if (node->what == LLM_GATHER_CALLED
            && llm_gather_absent(llm_gather_find(node,
                                                 LLM_GATHER_ARGUMENTS)))
        {
            written = llm_gather_bit(ARGUMENTS);
        }

        llm_gather_rest(out, node, written);

        if (written != 0) {
            llm_out_name(out, "arguments");
            llm_out_text(out, "\"\"");
        }

        break;

    default:
        llm_gather_rest(out, node, 0);
    }

    llm_out_text(out, "}");
}


static void
llm_gather_put_pieces(llm_out_t *out, const llm_gather_node_t *node)
{
    uint32_t                   i;
    const llm_gather_block_t  *block;

    for (block = node->u.pieces.first; block != NULL; block = block->next) {

        for (i = 0; i < block->n; i++) {

            if (node->type == LLM_GATHER_ARRAY
                && (block != node->u.pieces.first || i != 0))
            {
                llm_out_text(out, ",");
            }

            llm_out_str(out, &block->piece[i]);
        }
    }
}


void
llm_out_number(llm_out_t *out, uint64_t n)
{
    size_t         i;
    unsigned char  buf[20];

    i = sizeof(buf);

    do {
        buf[--i] = (unsigned char) ('0' + n % 10);
        n /= 10;
    } while (n != 0);

    llm_out(out, buf + i, sizeof(buf) - i);
}


void
llm_out_name(llm_out_t *out, const char *name)
{
    if (out->comma) {
        llm_out_text(out, ",");
    }

    llm_out_text(out, "\"");
    llm_out(out, name, strlen(name));
    llm_out_text(out, "\":");

    out->comma = 1;
}
