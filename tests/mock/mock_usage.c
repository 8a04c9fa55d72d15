
/*
 * Copyright (C) the ngx-llm authors
 *
 * What a provider would ask money for: the tokens of all answers, of streams
 * as far as they went, whether or not the answer told its usage.
 */


#include "mock.h"


static int64_t usage_pieces(const request_t *r, const answer_t *a,
    int64_t *all);


void
usage_count(stats_t *stats, const conn_t *c)
{
    int64_t           prompt, cached, completion, pieces, all;
    const action_t   *act;
    const answer_t   *a;
    const request_t  *r;

    a = &c->answer;
    act = &a->act;
    r = &c->request;

    /* nothing was sent, or not an answer of a model */

    if (a->sent == 0 || a->status < 200 || a->status > 299
        || r->endpoint >= EP_MODELS || act->body.data != NULL
        || act->garbage >= 0 || act->error_event == 0)
    {
        return;
    }

    prompt = act->prompt_tokens >= 0 ? act->prompt_tokens : 10;
    cached = act->cached_tokens >= 0 ? act->cached_tokens : 0;
    completion = act->completion_tokens >= 0 ? act->completion_tokens : 20;

    if (r->endpoint == EP_EMBEDDINGS) {
        completion = 0;
        cached = 0;
    }

    if (a->sse) {
        pieces = usage_pieces(r, a, &all);
        completion = all != 0 ? completion * pieces / all : completion;
        stats->streamed_pieces += pieces;
    }

    stats->prompt_tokens += prompt;
    stats->cached_tokens += cached;
    stats->completion_tokens += completion;
}


/* content events that went out, of how many */

static int64_t
usage_pieces(const request_t *r, const answer_t *a, int64_t *all)
{
    int64_t  n, events, before;

    events = a->event;

    if (a->act.error_event >= 0 && events > a->act.error_event) {
        events = a->act.error_event;
    }

    if (r->endpoint == EP_RESPONSES) {
        n = 1;
        before = a->act.tool_name.data != NULL ? 3 : 4;

    } else {
        n = r->n;
        before = r->endpoint == EP_CHAT ? n : 0;
    }

    *all = a->pieces * n;
    events -= before;

    return events < 0 ? 0 : events < *all ? events : *all;
}
