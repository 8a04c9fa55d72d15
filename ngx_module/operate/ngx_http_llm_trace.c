
/*
 * Copyright (C) the ngx-llm authors
 *
 * The spans of a request.  Never in one: prompts, answers and secrets.
 */


#include "operate/ngx_http_llm_trace_private.h"
#include "http/ngx_http_llm_id.h"
#include "upstream/ngx_http_llm_attempt.h"


/* attempts of one request that get a span */

#define NGX_HTTP_LLM_TRACE_CALLS  32

/* a span's JSON; what is larger is dropped */

#define NGX_HTTP_LLM_TRACE_SPAN   (16 * 1024)


static void ngx_http_llm_trace_id(u_char *p, size_t len);
static void ngx_http_llm_trace_span(ngx_http_llm_ctx_t *ctx, llm_span_t *sp,
    const u_char *id, llm_span_kind_e kind, ngx_msec_t start, ngx_msec_t end);
static void ngx_http_llm_trace_put(llm_span_t *sp);
static void ngx_http_llm_trace_server(ngx_http_llm_ctx_t *ctx,
    ngx_uint_t status);
static void ngx_http_llm_trace_error(ngx_http_llm_ctx_t *ctx,
    llm_span_t *sp, ngx_uint_t status, u_char *buf);
static void ngx_http_llm_trace_source(ngx_http_llm_ctx_t *ctx,
    llm_span_t *sp);
static void ngx_http_llm_trace_usage(llm_span_t *sp,
    const llm_usage_t *usage);
static void ngx_http_llm_trace_waits(ngx_http_llm_ctx_t *ctx);
static void ngx_http_llm_trace_client(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_span_call_t *call);
static void ngx_http_llm_trace_peer(llm_span_t *sp, ngx_str_t *peer);


#define ngx_http_llm_trace_name(sp, key, s)                                   \
    llm_span_text(sp, key, (s)->data, (s)->len)
#define ngx_http_llm_trace_word(sp, key, s)                                   \
    llm_span_text(sp, key, s, ngx_strlen(s))


/* by ctx->api; the first four are the conventions' names of operations */

static const char  *ngx_http_llm_trace_operations[] = {
    "chat", "text_completion", "embeddings", "chat", "models", "resume",
    "compare", "response"
};


/* ngx_http_llm_attempt_e: NULL: no error */

static const char  *ngx_http_llm_trace_results[] = {
    NULL, NULL, NULL, NULL, "connect", "connect_timeout", "timeout",
    "silent", "broken", "cancelled"
};


/* ngx_http_llm_cache_e */

static const char  *ngx_http_llm_trace_caches[] = {
    "off", "bypass", "miss", "hit", "reload", "stale", "joined"
};


void
ngx_http_llm_trace_begin(ngx_http_llm_ctx_t *ctx)
{
    llm_trace_t                *tr;
    ngx_table_elt_t            *h;
    ngx_http_llm_trace_conf_t  *tc;

    tc = ctx->mcf->trace;

    if (tc == NULL) {
        return;
    }

    tr = &ctx->trace;

    h = ngx_http_llm_header_in(ctx->request, "traceparent",
                               sizeof("traceparent") - 1);

    /* two of them are as none */

    if (h == NULL
        || ngx_http_llm_header_next(ctx->request, "traceparent",
                                    sizeof("traceparent") - 1, h)
           != NULL
        || llm_trace_parse(tr, h->value.data, h->value.len) != LLM_OK)
    {
        ngx_http_llm_trace_id(tr->trace, LLM_TRACE_ID_LEN);

        tr->sampled = tc->sample
                      && ngx_http_llm_random() % 1000000 < tc->sample;
    }

    ngx_http_llm_trace_id(tr->span, LLM_SPAN_ID_LEN);
    tr->made = 1;

    if (tr->sampled) {
        ctx->spans = ngx_pcalloc(ctx->request->pool,
                                 sizeof(ngx_http_llm_spans_t));

        if (ctx->spans) {
            ctx->spans->last = &ctx->spans->first;
        }
    }

    ngx_log_debug4(NGX_LOG_DEBUG_HTTP, ctx->request->connection->log, 0,
                   "llm trace %*s known:%d sampled:%d",
                   (size_t) LLM_TRACE_ID_LEN, tr->trace, tr->known,
                   tr->sampled);
}


static void
ngx_http_llm_trace_id(u_char *p, size_t len)
{
    size_t    i;
    uint32_t  word[LLM_TRACE_ID_LEN / 8];

    for (i = 0; i < len / 8; i++) {
        word[i] = ngx_http_llm_random();
    }

    llm_trace_id(p, len, word);
}


ngx_uint_t
ngx_http_llm_trace_hidden(ngx_http_llm_ctx_t *ctx, ngx_table_elt_t *h)
{
    if (!ctx->trace.made) {
        return 0;
    }

    if (h->key.len == sizeof("traceparent") - 1
        && ngx_memcmp(h->lowcase_key, "traceparent", h->key.len) == 0)
    {
        return 1;
    }

    if (h->key.len == sizeof("tracestate") - 1
        && ngx_memcmp(h->lowcase_key, "tracestate", h->key.len) == 0)
    {
        return !ctx->trace.known
               || llm_trace_state(h->value.data, h->value.len) != LLM_OK;
    }

    return 0;
}


ngx_int_t
ngx_http_llm_trace_parent(ngx_http_llm_ctx_t *ctx, const u_char *id,
    ngx_str_t *value)
{
    if (!ctx->trace.made) {
        return NGX_DECLINED;
    }

    value->len = LLM_TRACEPARENT_LEN;
    value->data = ngx_pnalloc(ctx->request->pool, value->len);

    if (value->data == NULL) {
        return NGX_ERROR;
    }

    llm_trace_write(value->data, &ctx->trace, id ? id : ctx->trace.span);

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_trace_call(ngx_http_llm_attempt_t *at)
{
    u_char                     id[LLM_SPAN_ID_LEN];
    ngx_http_llm_ctx_t        *ctx;
    ngx_http_llm_span_call_t  *call;

    ctx = at->ctx;
    at->span = NULL;

    if (ctx->attempts == 1) {
        ctx->ask_since = at->start;
    }

    if (at->traceparent == NULL) {
        return NGX_OK;
    }

    ngx_http_llm_trace_id(id, LLM_SPAN_ID_LEN);

    if (ngx_http_llm_trace_parent(ctx, id, &at->traceparent->value)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ctx->spans == NULL || ctx->spans->n == NGX_HTTP_LLM_TRACE_CALLS) {
        return NGX_OK;
    }

    call = ngx_pcalloc(ctx->request->pool, sizeof(ngx_http_llm_span_call_t));
    if (call == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(call->id, id, LLM_SPAN_ID_LEN);

    call->target = at->target;
    call->start = at->start;
    call->number = ctx->attempts;

    *ctx->spans->last = call;
    ctx->spans->last = &call->next;
    ctx->spans->n++;

    at->span = call;

    return NGX_OK;
}


void
ngx_http_llm_trace_called(ngx_http_llm_attempt_t *at,
    ngx_http_llm_attempt_e result)
{
    ngx_http_llm_ctx_t        *ctx;
    ngx_http_llm_span_call_t  *call;

    ctx = at->ctx;
    call = at->span;

    ctx->ask_ms = ngx_current_msec - ctx->ask_since;

    if (call == NULL || call->ended) {
        return;
    }

    call->end = ngx_current_msec;
    call->first_ms = at->first_ms;
    call->status = at->status;
    call->result = result;
    call->usage = at->usage;
    call->stream = at->stream;
    call->ended = 1;

    if (at->sr && at->sr->upstream && at->sr->upstream->state
        && at->sr->upstream->state->peer)
    {
        call->peer = *at->sr->upstream->state->peer;
    }
}


void
ngx_http_llm_trace_end(ngx_http_llm_ctx_t *ctx, ngx_uint_t status)
{
    ngx_http_llm_span_call_t  *call;

    if (ctx->spans == NULL) {
        return;
    }

    ngx_http_llm_trace_server(ctx, status);
    ngx_http_llm_trace_waits(ctx);

    for (call = ctx->spans->first; call; call = call->next) {
        ngx_http_llm_trace_client(ctx, call);
    }

    ctx->spans = NULL;
}


/* a span of this request, whose child it is unless it is the request's own */

static void
ngx_http_llm_trace_span(ngx_http_llm_ctx_t *ctx, llm_span_t *sp,
    const u_char *id, llm_span_kind_e kind, ngx_msec_t start, ngx_msec_t end)
{
    uint64_t     now;
    ngx_time_t  *tp;

    tp = ngx_timeofday();
    now = (uint64_t) tp->sec * 1000 + tp->msec;

    ngx_memzero(sp, sizeof(llm_span_t));

    sp->trace = ctx->trace.trace;
    sp->id = id;
    sp->kind = kind;
    sp->start = now - (ngx_current_msec - start);
    sp->end = now - (ngx_current_msec - end);

    sp->parent = id != ctx->trace.span ? ctx->trace.span
                 : ctx->trace.known ? ctx->trace.parent : NULL;
}


static void
ngx_http_llm_trace_put(llm_span_t *sp)
{
    size_t  len;

    static u_char  text[NGX_HTTP_LLM_TRACE_SPAN];

    len = llm_span_write(text, sizeof(text), sp);

    if (len) {
        ngx_http_llm_trace_push(text, len);

    } else {
        ngx_http_llm_trace_drop(1);
    }
}


static void
ngx_http_llm_trace_server(ngx_http_llm_ctx_t *ctx, ngx_uint_t status)
{
    u_char               buf[NGX_INT_T_LEN];
    llm_span_t           sp;
    ngx_http_request_t  *r;

    r = ctx->request;

    ngx_http_llm_trace_span(ctx, &sp, ctx->trace.span, LLM_SPAN_SERVER,
                            ctx->start, ngx_current_msec);

    sp.operation = ngx_http_llm_trace_operations[ctx->api];
    sp.subject.data = ctx->model.data;
    sp.subject.len = ctx->model.len;

    if (ctx->api < LLM_ENDPOINTS) {
        ngx_http_llm_trace_word(&sp, "gen_ai.operation.name", sp.operation);
    }

    ngx_http_llm_trace_name(&sp, "gen_ai.request.model", &ctx->model);
    ngx_http_llm_trace_source(ctx, &sp);

    ngx_http_llm_trace_name(&sp, "http.request.method", &r->method_name);
    llm_span_number(&sp, "http.response.status_code", LLM_SPAN_INT, status);
    ngx_http_llm_trace_name(&sp, "llm.request_id", &ctx->id);

    if (ctx->key) {
        ngx_http_llm_trace_name(&sp, "llm.key", &ctx->key->name);

        if (ctx->key->team) {
            ngx_http_llm_trace_name(&sp, "llm.team", &ctx->key->team->name);
        }
    }

    if (ctx->api < LLM_ENDPOINTS) {
        llm_span_number(&sp, "gen_ai.request.stream", LLM_SPAN_BOOL,
                        ctx->rq.stream);
        ngx_http_llm_trace_word(&sp, "llm.cache",
                                ngx_http_llm_trace_caches[ctx->cache]);
        llm_span_number(&sp, "llm.attempts", LLM_SPAN_INT, ctx->attempts);
    }

    if (ctx->charged) {
        ngx_http_llm_trace_usage(&sp, &ctx->usage);
        llm_span_number(&sp, "llm.cost_usd", LLM_SPAN_MICRO, ctx->cost);
    }

    if (ctx->headed) {
        llm_span_number(&sp, "gen_ai.response.time_to_first_chunk",
                        LLM_SPAN_MICRO, (int64_t) ctx->ttft * 1000);
    }

    ngx_http_llm_trace_error(ctx, &sp, status, buf);

    ngx_http_llm_trace_put(&sp);
}


/* who is to blame for a 4xx is the client, so the span is no failed one */

static void
ngx_http_llm_trace_error(ngx_http_llm_ctx_t *ctx, llm_span_t *sp,
    ngx_uint_t status, u_char *buf)
{
    if (ctx->gone && !ctx->failed) {
        ngx_http_llm_trace_word(sp, "error.type", "client_closed");
        return;
    }

    if (!ctx->failed && status < 400) {
        return;
    }

    sp->failed = status >= 500 || status < 400;

    if (ctx->failed && ctx->error.code) {
        ngx_http_llm_trace_word(sp, "error.type", ctx->error.code);
        return;
    }

    llm_span_text(sp, "error.type", buf,
                  ngx_sprintf(buf, "%ui", status) - buf);
}


/* the provider that answered, and what the model is called there */

static void
ngx_http_llm_trace_source(ngx_http_llm_ctx_t *ctx, llm_span_t *sp)
{
    ngx_http_llm_target_t  *target;

    if (ctx->cache == NGX_HTTP_LLM_CACHE_HIT
        || ctx->cache == NGX_HTTP_LLM_CACHE_STALE
        || ctx->cache == NGX_HTTP_LLM_CACHE_JOINED)
    {
        ngx_http_llm_trace_name(sp, "gen_ai.provider.name",
                                &ctx->entry.provider);
        ngx_http_llm_trace_name(sp, "gen_ai.response.model",
                                &ctx->entry.model);
        return;
    }

    if (ctx->route == NULL || ctx->attempts == 0) {
        return;
    }

    target = (ngx_http_llm_target_t *) ctx->route->targets.elts + ctx->target;

    ngx_http_llm_trace_name(sp, "gen_ai.provider.name",
                            &target->provider->name);
    ngx_http_llm_trace_name(sp, "gen_ai.response.model",
                            target->model.len ? &target->model : &ctx->model);
}


static void
ngx_http_llm_trace_usage(llm_span_t *sp, const llm_usage_t *usage)
{
    if (usage->prompt_tokens >= 0) {
        llm_span_number(sp, "gen_ai.usage.input_tokens", LLM_SPAN_INT,
                        usage->prompt_tokens);
    }

    if (usage->completion_tokens >= 0) {
        llm_span_number(sp, "gen_ai.usage.output_tokens", LLM_SPAN_INT,
                        usage->completion_tokens);
    }

    if (usage->cached_tokens > 0) {
        llm_span_number(sp, "gen_ai.usage.cache_read.input_tokens",
                        LLM_SPAN_INT, usage->cached_tokens);
    }

    if (usage->reasoning_tokens > 0) {
        llm_span_number(sp, "gen_ai.usage.reasoning.output_tokens",
                        LLM_SPAN_INT, usage->reasoning_tokens);
    }
}


/* for a slot, and for an answer that was stored or that another asked for */

static void
ngx_http_llm_trace_waits(ngx_http_llm_ctx_t *ctx)
{
    u_char      id[LLM_SPAN_ID_LEN];
    ngx_msec_t  end;
    llm_span_t  sp;

    if (ctx->looking) {
        end = ctx->looked ? ctx->look_since + ctx->look_ms
                          : ngx_current_msec;

        ngx_http_llm_trace_id(id, LLM_SPAN_ID_LEN);
        ngx_http_llm_trace_span(ctx, &sp, id, LLM_SPAN_INTERNAL,
                                ctx->look_since, end);

        sp.operation = "cache";
        ngx_http_llm_trace_word(&sp, "llm.cache",
                                ngx_http_llm_trace_caches[ctx->cache]);

        ngx_http_llm_trace_put(&sp);
    }

    if (ctx->queued) {
        end = ctx->attempts ? ctx->ask_since : ngx_current_msec;

        ngx_http_llm_trace_id(id, LLM_SPAN_ID_LEN);
        ngx_http_llm_trace_span(ctx, &sp, id, LLM_SPAN_INTERNAL,
                                end - ctx->queued, end);

        sp.operation = "queue";

        ngx_http_llm_trace_put(&sp);
    }
}


static void
ngx_http_llm_trace_client(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_span_call_t *call)
{
    u_char       buf[NGX_INT_T_LEN];
    ngx_str_t   *model;
    llm_span_t   sp;
    const char  *error;

    model = call->target->model.len ? &call->target->model : &ctx->model;

    ngx_http_llm_trace_span(ctx, &sp, call->id, LLM_SPAN_CLIENT, call->start,
                            call->ended ? call->end : ngx_current_msec);

    sp.operation = ngx_http_llm_trace_operations[ctx->api];
    sp.subject.data = model->data;
    sp.subject.len = model->len;

    if (ctx->api < LLM_ENDPOINTS) {
        ngx_http_llm_trace_word(&sp, "gen_ai.operation.name", sp.operation);
    }

    ngx_http_llm_trace_name(&sp, "gen_ai.provider.name",
                            &call->target->provider->name);
    ngx_http_llm_trace_name(&sp, "gen_ai.request.model", model);
    ngx_http_llm_trace_peer(&sp, &call->peer);

    if (call->number > 1) {
        llm_span_number(&sp, "http.request.resend_count", LLM_SPAN_INT,
                        (int64_t) call->number - 1);
    }

    if (call->status) {
        llm_span_number(&sp, "http.response.status_code", LLM_SPAN_INT,
                        call->status);
    }

    if (call->ended && call->first_ms >= 0) {
        llm_span_number(&sp, "gen_ai.response.time_to_first_chunk",
                        LLM_SPAN_MICRO, (int64_t) call->first_ms * 1000);
    }

    if (call->ended && call->result == NGX_HTTP_LLM_ATTEMPT_OK) {

        /* a whole answer's is known to the request that it went to */

        ngx_http_llm_trace_usage(&sp, call->stream || !ctx->charged
                                      ? &call->usage : &ctx->usage);
    }

    error = call->ended ? ngx_http_llm_trace_results[call->result]
                        : "cancelled";

    if (error) {
        ngx_http_llm_trace_word(&sp, "error.type", error);
        sp.failed = 1;

    } else if (call->status >= 400) {
        llm_span_text(&sp, "error.type", buf,
                      ngx_sprintf(buf, "%ui", call->status) - buf);
        sp.failed = 1;
    }

    ngx_http_llm_trace_put(&sp);
}


/* "address:port", "[address]:port" or "unix:path" */

static void
ngx_http_llm_trace_peer(llm_span_t *sp, ngx_str_t *peer)
{
    u_char     *p, *last, *host;
    ngx_int_t   port;

    host = peer->data;
    last = host + peer->len;

    for (p = last; p > host && p[-1] != ':'; p--) { /* void */ }

    port = p > host ? ngx_atoi(p, last - p) : NGX_ERROR;

    if (port == NGX_ERROR) {
        ngx_http_llm_trace_name(sp, "server.address", peer);
        return;
    }

    last = p - 1;

    if (last - host > 2 && *host == '[' && last[-1] == ']') {
        host++;
        last--;
    }

    llm_span_text(sp, "server.address", host, last - host);
    llm_span_number(sp, "server.port", LLM_SPAN_INT, port);
}
