
/*
 * Copyright (C) the ngx-llm authors
 *
 * The end of an answer, as a client may take it for one.
 */


#include "upstream/ngx_http_llm_stream_private.h"
#include "upstream/ngx_http_llm_stream.h"
#include "upstream/ngx_http_llm_cut.h"
#include "upstream/ngx_http_llm_relay.h"
#include "policy/ngx_http_llm_flight.h"

#include "core/llm_json.h"
#include "core/llm_sse.h"


static ngx_int_t ngx_http_llm_stream_rest(ngx_http_llm_attempt_t *at);
static ngx_uint_t ngx_http_llm_stream_torn(ngx_http_llm_attempt_t *at);


ngx_uint_t
ngx_http_llm_stream_complete(ngx_http_llm_attempt_t *at)
{
    if (at->cut) {
        return 1;
    }

    if (!at->stream) {
        return at->last;
    }

    if (at->overflow) {
        return 0;
    }

    /* some providers give a finish_reason, but no [DONE] */

    return at->terminal || (at->last && at->finish);
}


ngx_int_t
ngx_http_llm_stream_finish(ngx_http_llm_ctx_t *ctx)
{
    ngx_int_t                rc;
    ngx_chain_t             *out, **ll;
    ngx_http_request_t      *r;
    ngx_http_llm_attempt_t  *at;

    r = ctx->request;
    at = ctx->attempt;

    if (at->held && at->last && ngx_http_llm_stream_rest(at) != NGX_OK) {
        return NGX_ERROR;
    }

    if (ctx->detached) {
        return NGX_OK;
    }

    if (!ngx_http_llm_stream_complete(at) && !at->error_event) {
        return ngx_http_llm_cut_break(ctx);
    }

    if (at->held && at->last) {

        out = NULL;
        ll = &out;

        if (ngx_http_llm_relay_copy(at, at->hold, at->held, &ll) != NGX_OK) {
            return NGX_ERROR;
        }

        rc = ngx_http_output_filter(r, out);

        if (rc == NGX_ERROR || rc > NGX_OK) {
            return rc;
        }
    }

    return ngx_http_send_special(r, NGX_HTTP_LAST);
}


/* the end of the stream ends its last event, too */

static ngx_int_t
ngx_http_llm_stream_rest(ngx_http_llm_attempt_t *at)
{
    unsigned               bits;
    ngx_http_llm_ctx_t    *ctx;
    ngx_http_llm_window_t  w;

    ctx = at->ctx;

    bits = llm_sse_classify(ctx->endpoint, at->hold, at->held, &at->usage,
                            &at->text);

    if ((bits & (LLM_SSE_DATA|LLM_SSE_DONE|LLM_SSE_ERROR)) == LLM_SSE_DATA
        && ngx_http_llm_stream_torn(at))
    {
        /* no good end, whatever came before it */

        at->held = 0;
        at->finish = 0;

        return NGX_OK;
    }

    w.pos = at->hold;
    w.begun = 0;

    ngx_http_llm_stream_mark(at, bits);
    ngx_http_llm_stream_clean(at, &w, 0, at->held, bits);

    if (ngx_http_llm_flight_event(ctx, at->hold, at->held, bits) != NGX_OK) {
        return NGX_ERROR;
    }

    at->text_bytes = at->text.bytes;

    if ((bits & LLM_SSE_USAGE_ONLY) && !ctx->rq.include_usage) {
        at->held = 0;
    }

    return NGX_OK;
}


static ngx_uint_t
ngx_http_llm_stream_torn(ngx_http_llm_attempt_t *at)
{
    llm_str_t    data;
    llm_json_t   js;
    llm_arena_t  none;

    ngx_memzero(&none, sizeof(llm_arena_t));

    if (llm_sse_data(at->hold, at->held, &none, &data) != LLM_OK) {
        return 0;
    }

    llm_json_init(&js, data.data, data.len);

    return llm_json_next(&js) != LLM_JSON_OBJECT
           || llm_json_skip(&js) != LLM_JSON_OBJECT_END
           || llm_json_next(&js) != LLM_JSON_END;
}
