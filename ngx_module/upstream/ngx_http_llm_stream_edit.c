
/*
 * Copyright (C) the ngx-llm authors
 *
 * What is changed in a stream's events, in the reader's own buffer.
 */


#include "upstream/ngx_http_llm_stream_private.h"

#include "core/llm_sse.h"


/*
 * "error":null is taken for an error by some clients; a response has it by
 * right.  Blanks take its place, so that nothing moves.
 */

void
ngx_http_llm_stream_clean(ngx_http_llm_attempt_t *at,
    ngx_http_llm_window_t *w, size_t start, size_t len, unsigned bits)
{
    size_t   n;
    u_char  *p;

    p = w->pos + start;

    if (at->ctx->endpoint == LLM_RESPONSES
        || !(bits & LLM_SSE_NULLED)
        || llm_sse_clean(p, len) != LLM_OK
        || w->begun == 0)
    {
        return;
    }

    /* sent from the buffer, as far as it came there */

    n = ngx_max(start, w->begun);

    ngx_memcpy(w->buf->pos + (n - w->begun), w->pos + n, start + len - n);
}


/*
 * The chunk of usage that the client did not ask for, with the comments in
 * front of it.  Line ends there may belong to the event before, and stay; one
 * that has yet to come belongs to this one.
 */

void
ngx_http_llm_stream_remove(ngx_http_llm_attempt_t *at,
    ngx_http_llm_window_t *w, size_t start, size_t len)
{
    size_t  end;

    end = start + len;

    while (start < end && (w->pos[start] == LF || w->pos[start] == CR)) {
        start++;
        ngx_http_llm_stream_move(w, start - 1, 1);
    }

    at->skip_lf = end == w->len && w->pos[end - 1] == CR;

    if (start < w->begun) {
        w->front = start;
        start = w->begun;
    }

    w->out += end - start;

    ngx_log_debug1(NGX_LOG_DEBUG_HTTP, at->sr->connection->log, 0,
                   "llm stream: usage taken out, %uz bytes", len);
}


/* closes the gap in the reader's buffer; it is at the end of a stream */

void
ngx_http_llm_stream_move(ngx_http_llm_window_t *w, size_t start, size_t len)
{
    size_t   end;
    u_char  *p;

    end = start + len;
    start = ngx_max(start, w->begun);

    if (w->out == 0 || start >= end) {
        return;
    }

    p = w->buf->pos + (start - w->begun);

    ngx_memmove(p - w->out, p, end - start);
}
