
/*
 * Copyright (C) the ngx-llm authors
 *
 * The events of responses: for each item of the output those that a provider
 * tells while it makes it.
 */


#include "core/llm_replay_private.h"


typedef struct {
    const char           *name;
    const char           *value;
} llm_replay_instead_t;


/* what is not there yet when a thing is told of first */

static const llm_replay_instead_t  llm_replay_response_first[] = {
    { "status", "\"in_progress\"" },
    { "output", "[]" },
    { "output_text", "\"\"" },
    { "usage", "null" },
    { "completed_at", "null" },
    { NULL, NULL }
};


static const llm_replay_instead_t  llm_replay_item_first[] = {
    { "status", "\"in_progress\"" },
    { "content", "[]" },
    { "summary", "[]" },
    { "arguments", "\"\"" },
    { "input", "\"\"" },
    { NULL, NULL }
};


static const llm_replay_instead_t  llm_replay_part_first[] = {
    { "text", "\"\"" },
    { "refusal", "\"\"" },
    { "annotations", "[]" },
    { "logprobs", "[]" },
    { NULL, NULL }
};


static void llm_replay_item(llm_replay_t *rp, llm_out_t *out,
    llm_replay_item_t *it, uint32_t n);
static void llm_replay_call(llm_replay_t *rp, llm_out_t *out,
    llm_replay_item_t *it, uint32_t n);
static void llm_replay_part(llm_replay_t *rp, llm_out_t *out,
    llm_replay_item_t *it, uint32_t n, llm_replay_part_t *pt, uint32_t i);
static void llm_replay_text(llm_replay_t *rp, llm_out_t *out,
    llm_replay_item_t *it, uint32_t n, llm_replay_part_t *pt, uint32_t i);
static void llm_replay_whole(llm_replay_t *rp, llm_out_t *out,
    const char *type, uint32_t n, llm_replay_item_t *it, int first);
static void llm_replay_event(llm_replay_t *rp, llm_out_t *out,
    const char *type);
static void llm_replay_event_of(llm_replay_t *rp, llm_out_t *out,
    const char *type, llm_replay_item_t *it, uint32_t n, const char *index,
    uint32_t i);
static void llm_replay_event_end(llm_out_t *out);
static void llm_replay_instead(llm_out_t *out,
    const llm_replay_object_t *obj, const llm_replay_instead_t *instead);


void
llm_replay_response(llm_replay_t *rp, llm_out_t *out, const llm_str_t *body)
{
    uint32_t              i;
    llm_replay_output_t  *output;

    output = rp->data;
    rp->sequence = 0;

    llm_replay_event(rp, out, "response.created");
    llm_out_name(out, "response");
    llm_replay_instead(out, &rp->top, llm_replay_response_first);
    llm_replay_event_end(out);

    llm_replay_event(rp, out, "response.in_progress");
    llm_out_name(out, "response");
    llm_replay_instead(out, &rp->top, llm_replay_response_first);
    llm_replay_event_end(out);

    for (i = 0; i < output->n; i++) {
        llm_replay_item(rp, out, &output->items[i], i);
    }

    llm_replay_event(rp, out, "response.completed");
    llm_out_name(out, "response");
    llm_out_str(out, body);
    llm_replay_event_end(out);
}


static void
llm_replay_item(llm_replay_t *rp, llm_out_t *out, llm_replay_item_t *it,
    uint32_t n)
{
    uint32_t  i;

    llm_replay_whole(rp, out, "response.output_item.added", n, it,
                     it->kind != LLM_REPLAY_OTHER);

    if (it->kind == LLM_REPLAY_FUNCTION || it->kind == LLM_REPLAY_CUSTOM) {
        llm_replay_call(rp, out, it, n);

    } else if (it->kind != LLM_REPLAY_OTHER) {

        for (i = 0; i < it->summary.n; i++) {
            llm_replay_part(rp, out, it, n, &it->summary.elts[i], i);
        }

        for (i = 0; i < it->content.n; i++) {
            llm_replay_part(rp, out, it, n, &it->content.elts[i], i);
        }
    }

    llm_replay_whole(rp, out, "response.output_item.done", n, it, 0);
}


static void
llm_replay_call(llm_replay_t *rp, llm_out_t *out, llm_replay_item_t *it,
    uint32_t n)
{
    int                   custom;
    const unsigned char  *p, *end, *stop;

    custom = it->kind == LLM_REPLAY_CUSTOM;

    p = it->text->value.data + 1;
    end = it->text->value.data + it->text->value.len - 1;

    for ( /* void */ ; p < end; p = stop) {
        stop = llm_replay_piece(p, end);

        llm_replay_event_of(rp, out,
                            custom ? "response.custom_tool_call_input.delta"
                                   : "response.function_call_arguments.delta",
                            it, n, NULL, 0);

        llm_out_name(out, "delta");
        llm_out_text(out, "\"");
        llm_out(out, p, (size_t) (stop - p));
        llm_out_text(out, "\"");

        llm_replay_event_end(out);
    }

    llm_replay_event_of(rp, out,
                        custom ? "response.custom_tool_call_input.done"
                               : "response.function_call_arguments.done",
                        it, n, NULL, 0);

    llm_out_name(out, custom ? "input" : "arguments");
    llm_out_str(out, &it->text->value);

    llm_replay_event_end(out);
}


static void
llm_replay_part(llm_replay_t *rp, llm_out_t *out, llm_replay_item_t *it,
    uint32_t n, llm_replay_part_t *pt, uint32_t i)
{
    llm_replay_event_of(rp, out, pt->kind->added, it, n, pt->kind->index, i);
    llm_out_name(out, "part");

    if (pt->text == NULL) {
        llm_out_str(out, &pt->whole);

    } else {
        llm_replay_instead(out, &pt->part, llm_replay_part_first);
    }

    llm_replay_event_end(out);

    if (pt->text != NULL) {
        llm_replay_text(rp, out, it, n, pt, i);
    }

    llm_replay_event_of(rp, out, pt->kind->done, it, n, pt->kind->index, i);
    llm_out_name(out, "part");
    llm_out_str(out, &pt->whole);
    llm_replay_event_end(out);
}


static void
llm_replay_text(llm_replay_t *rp, llm_out_t *out, llm_replay_item_t *it,
    uint32_t n, llm_replay_part_t *pt, uint32_t i)
{
    int                       logged;
    uint32_t                  k;
    const unsigned char      *p, *end, *stop;
    const llm_replay_kind_t  *kind;

    kind = pt->kind;
    logged = kind->logged;

    p = pt->text->value.data + 1;
    end = pt->text->value.data + pt->text->value.len - 1;

    for ( /* void */ ; p < end; p = stop) {
        stop = llm_replay_piece(p, end);

        llm_replay_event_of(rp, out, kind->delta, it, n, kind->index, i);

        llm_out_name(out, "delta");
        llm_out_text(out, "\"");
        llm_out(out, p, (size_t) (stop - p));
        llm_out_text(out, "\"");

        if (logged) {
            llm_out_name(out, "logprobs");

            if (pt->logprobs != NULL && p == pt->text->value.data + 1) {
                llm_out_str(out, &pt->logprobs->value);

            } else {
                llm_out_text(out, "[]");
            }
        }

        llm_replay_event_end(out);
    }

    for (k = 0; k < pt->annotations.n; k++) {
        llm_replay_event_of(rp, out, "response.output_text.annotation.added",
                            it, n, kind->index, i);

        llm_out_name(out, "annotation_index");
        llm_out_number(out, k);
        llm_out_name(out, "annotation");
        llm_out_str(out, &pt->annotations.elts[k]);

        llm_replay_event_end(out);
    }

    llm_replay_event_of(rp, out, kind->finished, it, n, kind->index, i);

    llm_out_name(out, kind->member);
    llm_out_str(out, &pt->text->value);

    if (logged) {
        llm_out_name(out, "logprobs");

        if (pt->logprobs != NULL) {
            llm_out_str(out, &pt->logprobs->value);

        } else {
            llm_out_text(out, "[]");
        }
    }

    llm_replay_event_end(out);
}


static void
llm_replay_whole(llm_replay_t *rp, llm_out_t *out, const char *type,
    uint32_t n, llm_replay_item_t *it, int first)
{
    llm_replay_event(rp, out, type);

    llm_out_name(out, "output_index");
    llm_out_number(out, n);
    llm_out_name(out, "item");

    if (first) {
        llm_replay_instead(out, &it->item, llm_replay_item_first);

    } else {
        llm_out_str(out, &it->whole);
    }

    llm_replay_event_end(out);
}


static void
llm_replay_event(llm_replay_t *rp, llm_out_t *out, const char *type)
{
    size_t  len;

    len = strlen(type);

    llm_out_text(out, "event: ");
    llm_out(out, type, len);
    llm_out_text(out, "\ndata: {\"type\":\"");
    llm_out(out, type, len);
    llm_out_text(out, "\",\"sequence_number\":");
    llm_out_number(out, rp->sequence++);

    out->comma = 1;
}


/* "index" (may be NULL) is the name of a part's number */

static void
llm_replay_event_of(llm_replay_t *rp, llm_out_t *out, const char *type,
    llm_replay_item_t *it, uint32_t n, const char *index, uint32_t i)
{
    llm_replay_event(rp, out, type);

    llm_out_name(out, "item_id");
    llm_out_str(out, &it->id->value);
    llm_out_name(out, "output_index");
    llm_out_number(out, n);

    if (index != NULL) {
        llm_out_name(out, index);
        llm_out_number(out, i);
    }
}


static void
llm_replay_event_end(llm_out_t *out)
{
    llm_out_text(out, "}\n\n");
}


/* an object with other values for some of its members */

static void
llm_replay_instead(llm_out_t *out, const llm_replay_object_t *obj,
    const llm_replay_instead_t *instead)
{
    uint32_t                     i;
    llm_str_t                    value;
    llm_replay_member_t         *m;
    const llm_replay_instead_t  *in;

    llm_out_text(out, "{");

    for (i = 0; i < obj->n; i++) {
        m = &obj->elts[i];
        value = m->value;

        for (in = instead; in->name != NULL; in++) {

            if (strlen(in->name) == m->name.len
                && memcmp(in->name, m->name.data, m->name.len) == 0)
            {
                value.data = (unsigned char *) in->value;
                value.len = strlen(in->value);
                break;
            }
        }

        if (i != 0) {
            llm_out_text(out, ",");
        }

        llm_out_str(out, &m->spelled);
        llm_out_text(out, ":");
        llm_out_str(out, &value);
    }

    llm_out_text(out, "}");

    out->comma = 1;
}
