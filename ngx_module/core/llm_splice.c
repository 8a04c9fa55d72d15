
/*
 * Copyright (C) the ngx-llm authors
 */


#include "core/llm_splice.h"

#include <stdio.h>
#include <string.h>


static void llm_splice_add(llm_splice_t *sp, size_t start, size_t end,
    const char *text, size_t len);
static unsigned llm_splice_piece(llm_str_t *piece, unsigned n,
    unsigned char *p, size_t len);


#define llm_splice_text(sp, start, end, s)                                    \
    llm_splice_add(sp, start, end, s, sizeof(s) - 1)


/* in the order of llm_cap_e */

static const char *const  llm_splice_caps[LLM_CAPS] = {
    "max_tokens", "max_completion_tokens", "max_output_tokens"
};


/* which of them, as bits, an endpoint knows, and the one to be inserted */

static const struct {
    unsigned              known;
    llm_cap_e             own;
} llm_splice_knows[LLM_ENDPOINTS] = {
    { 1U << LLM_CAP_TOKENS | 1U << LLM_CAP_COMPLETION, LLM_CAP_COMPLETION },
    { 1U << LLM_CAP_TOKENS, LLM_CAP_TOKENS },
    { 0, LLM_CAPS },                                       /* embeddings */
    { 1U << LLM_CAP_OUTPUT, LLM_CAP_OUTPUT }
};


void
llm_splice_model(llm_splice_t *sp, const llm_request_t *rq,
    const llm_str_t *name)
{
    /* between the quotes */

    llm_splice_add(sp, rq->model_start + 1, rq->model_end - 1,
                   (const char *) name->data, name->len);
}


void
llm_splice_usage(llm_splice_t *sp, const llm_request_t *rq)
{
    size_t                start, end;
    const unsigned char  *p;

    start = rq->stream_options_start;
    end = rq->stream_options_end;

    if (rq->endpoint != LLM_CHAT && rq->endpoint != LLM_COMPLETIONS) {
        return;
    }

    if (end == 0) {

        /* there is a model, so another member follows */

        llm_splice_text(sp, rq->object_start, rq->object_start,
                        "\"stream_options\":{\"include_usage\":true},");
        return;
    }

    p = rq->body.data;

    if (rq->include_usage_end != 0) {

        if (p[rq->include_usage_start] != 't') {
            llm_splice_text(sp, rq->include_usage_start,
                            rq->include_usage_end, "true");
        }

        return;
    }

    if (p[start] != '{') {
        llm_splice_text(sp, start, end, "{\"include_usage\":true}");
        return;
    }

    start++;

    if (rq->stream_options_empty) {
        llm_splice_text(sp, start, start, "\"include_usage\":true");

    } else {
        llm_splice_text(sp, start, start, "\"include_usage\":true,");
    }
}


void
llm_splice_cap(llm_splice_t *sp, const llm_request_t *rq, int64_t most,
    unsigned char *buf)
{
    int          len;
    char        *text;
    unsigned     i, known, given;
    const char  *number;

    known = llm_splice_knows[rq->endpoint].known;
    given = 0;

    if (known == 0) {
        return;
    }

    text = (char *) buf;
    len = snprintf(text, LLM_SPLICE_CAP, "\"%s\":%lld,",
                   llm_splice_caps[llm_splice_knows[rq->endpoint].own],
                   (long long) most);

    /* without name and comma it is the number alone */

    number = (const char *) memchr(text, ':', (size_t) len) + 1;

    for (i = 0; i < LLM_CAPS; i++) {

        if (rq->cap[i].end == 0) {
            continue;
        }

        given |= 1U << i;

        if (rq->cap[i].n < 0 || rq->cap[i].n > most) {
            llm_splice_add(sp, rq->cap[i].start, rq->cap[i].end, number,
                           (size_t) (text + len - 1 - number));
        }
    }

    if ((given & known) == 0) {
        llm_splice_add(sp, rq->object_start, rq->object_start, text,
                       (size_t) len);
    }
}


static void
llm_splice_add(llm_splice_t *sp, size_t start, size_t end, const char *text,
    size_t len)
{
    unsigned  i;

    if (sp->n == LLM_SPLICE_EDITS) {
        return;
    }

    for (i = sp->n; i > 0 && sp->edit[i - 1].start > start; i--) {
        sp->edit[i] = sp->edit[i - 1];
    }

    sp->edit[i].start = start;
    sp->edit[i].end = end;
    sp->edit[i].text.data = (unsigned char *) text;
    sp->edit[i].text.len = len;

    sp->n++;
}


unsigned
llm_splice_pieces(const llm_splice_t *sp, const llm_request_t *rq,
    llm_str_t *piece, size_t *len)
{
    size_t             pos;
    unsigned           i, n;
    unsigned char     *body;
    const llm_edit_t  *edit;

    body = rq->body.data;
    pos = 0;
    n = 0;

    for (i = 0; i < sp->n; i++) {
        edit = &sp->edit[i];

        n = llm_splice_piece(piece, n, body + pos, edit->start - pos);
        n = llm_splice_piece(piece, n, edit->text.data, edit->text.len);

        pos = edit->end;
    }

    n = llm_splice_piece(piece, n, body + pos, rq->body.len - pos);

    for (*len = 0, i = 0; i < n; i++) {
        *len += piece[i].len;
    }

    return n;
}


static unsigned
llm_splice_piece(llm_str_t *piece, unsigned n, unsigned char *p, size_t len)
{
    if (len != 0) {
        piece[n].data = p;
        piece[n].len = len;
        n++;
    }

    return n;
}
