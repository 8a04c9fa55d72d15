
/*
 * Copyright (C) the ngx-llm authors
 */


#include "upstream/ngx_http_llm_judge.h"
#include "upstream/ngx_http_llm_choose.h"

#include "core/llm_backoff.h"


static void ngx_http_llm_judge_local(ngx_http_llm_attempt_t *at,
    ngx_http_llm_outcome_t *oc);
static void ngx_http_llm_judge_error(ngx_http_llm_attempt_t *at,
    ngx_http_llm_outcome_t *oc);
static void ngx_http_llm_judge_body(ngx_http_llm_attempt_t *at,
    llm_answer_t *an);
static void ngx_http_llm_judge_told(ngx_http_llm_attempt_t *at,
    ngx_http_llm_outcome_t *oc);
static void ngx_http_llm_judge_own(ngx_http_llm_outcome_t *oc,
    ngx_uint_t status, const char *code, const char *message);


void
ngx_http_llm_judge(ngx_http_llm_ctx_t *ctx, llm_answer_t *an,
    ngx_http_llm_outcome_t *oc)
{
    size_t                   n;
    ngx_http_llm_attempt_t  *at;

    at = ctx->attempt;

    ngx_memzero(an, sizeof(llm_answer_t));
    ngx_memzero(oc, sizeof(ngx_http_llm_outcome_t));

    if (at->status == 0 || at->timedout) {
        ngx_http_llm_judge_local(at, oc);
        return;
    }

    n = ctx->native ? 0 : llm_dialect_blank(at->hold, at->held);

    if (n) {
        at->held -= n;
        ngx_memmove(at->hold, at->hold + n, at->held);
    }

    if (at->status != NGX_HTTP_OK) {
        ngx_http_llm_judge_error(at, oc);
        return;
    }

    if (ctx->native) {

        /* lines of a file, or an object that only its reader understands */

        an->valid = 1;

    } else {
        ngx_http_llm_judge_body(at, an);
    }

    /* a stored response tells by right how it failed */

    if (at->error_event
        || (!at->stream && at->last && an->error && !ctx->stored))
    {

        /* the first event of a stream, or all of an answer, is an error */

        ngx_http_llm_judge_told(at, oc);
        return;
    }

    if (at->stream || !at->last || !an->valid) {

        oc->result = NGX_HTTP_LLM_ATTEMPT_BROKEN;
        oc->retry = 1;

        ngx_http_llm_judge_own(oc, NGX_HTTP_BAD_GATEWAY, "upstream_error",
                               !at->last ? "The provider broke off its "
                                           "answer."
                               : at->stream ? "The provider's stream ended "
                                              "before it began."
                               : "The provider's answer is no JSON object.");
        return;
    }

    oc->result = NGX_HTTP_LLM_ATTEMPT_OK;
    oc->good = 1;
}


/* a whole body of a 200: without what some clients stumble over */

static void
ngx_http_llm_judge_body(ngx_http_llm_attempt_t *at, llm_answer_t *an)
{
    llm_answer_scan(an, at->ctx->endpoint, at->hold, at->held);

    /* a response has that member by right */

    if (an->valid && an->error_null && !an->error
        && at->ctx->endpoint != LLM_RESPONSES)
    {
        at->held = llm_dialect_clean(at->hold, at->held);
    }
}


/* an error under the status 200: its code says more than that */

static void
ngx_http_llm_judge_told(ngx_http_llm_attempt_t *at,
    ngx_http_llm_outcome_t *oc)
{
    llm_dialect_error_t  *e;

    e = &oc->error;

    llm_dialect_error(e, (unsigned) at->status, at->hold, at->held);

    oc->result = NGX_HTTP_LLM_ATTEMPT_BROKEN;
    oc->retry = !e->quota;

    ngx_http_llm_judge_own(oc, llm_dialect_status(e, (unsigned) at->status),
                           "upstream_error",
                           "The provider answered with an error.");

    if (oc->status < 400) {
        oc->status = NGX_HTTP_BAD_GATEWAY;
    }

    if (at->asked < 0) {
        at->asked = e->wait;
    }

    oc->own = !e->known;
    oc->wrote = e->known && !e->right;
}


/* the provider did not answer at all */

static void
ngx_http_llm_judge_local(ngx_http_llm_attempt_t *at,
    ngx_http_llm_outcome_t *oc)
{
    oc->retry = 1;

    if ((at->timedout || at->rc == NGX_HTTP_GATEWAY_TIME_OUT)
        && !at->connected)
    {
        oc->result = NGX_HTTP_LLM_ATTEMPT_CONNECT_TIMEOUT;
        oc->elsewhere = 1;

        ngx_http_llm_judge_own(oc, NGX_HTTP_GATEWAY_TIME_OUT,
                                 "upstream_timeout",
                                 "The provider could not be reached in "
                                 "time.");
        return;
    }

    if (at->timedout || at->rc == NGX_HTTP_GATEWAY_TIME_OUT) {
        oc->result = NGX_HTTP_LLM_ATTEMPT_TIMEOUT;

        ngx_http_llm_judge_own(oc, NGX_HTTP_GATEWAY_TIME_OUT,
                                 "upstream_timeout",
                                 "The provider did not answer in time.");
        return;
    }

    if (at->connected) {
        oc->result = NGX_HTTP_LLM_ATTEMPT_BROKEN;

        ngx_http_llm_judge_own(oc, NGX_HTTP_BAD_GATEWAY, "upstream_error",
                                 "The provider closed the connection or "
                                 "answered with what is no HTTP.");
        return;
    }

    /* nobody is there: another target is better than another try */

    oc->result = NGX_HTTP_LLM_ATTEMPT_CONNECT;
    oc->elsewhere = 1;

    ngx_http_llm_judge_own(oc, NGX_HTTP_SERVICE_UNAVAILABLE,
                             "upstream_unavailable",
                             "The provider could not be reached.");
}


static void
ngx_http_llm_judge_error(ngx_http_llm_attempt_t *at,
    ngx_http_llm_outcome_t *oc)
{
    llm_dialect_error_t  *e;

    e = &oc->error;

    llm_dialect_error(e, (unsigned) at->status, at->hold, at->held);

    oc->status = llm_dialect_status(e, (unsigned) at->status);
    oc->retry = llm_backoff_retryable(at->status) ? 1 : 0;

    if (at->asked < 0) {
        at->asked = e->wait;
    }

    if (at->status == NGX_HTTP_TOO_MANY_REQUESTS || at->status == 529) {
        oc->result = NGX_HTTP_LLM_ATTEMPT_429;

    } else if (at->status >= 500) {
        oc->result = NGX_HTTP_LLM_ATTEMPT_5XX;

    } else {
        oc->result = NGX_HTTP_LLM_ATTEMPT_4XX;
    }

    /* spent money does not come back by waiting */

    if (e->quota) {
        oc->retry = 0;
    }

    if (e->context && ngx_http_llm_choose_larger(at->ctx) == NGX_OK) {
        oc->retry = 1;
        oc->elsewhere = 1;
        oc->barred = 1;
    }

    if (oc->status < 400) {
        oc->status = NGX_HTTP_BAD_GATEWAY;
    }

    if (e->right && at->last && !at->overflow) {
        return;
    }

    if (e->known) {
        oc->wrote = 1;
        return;
    }

    /* a shape that nobody can read gets ours, with the same status */

    ngx_http_llm_judge_own(oc, oc->status, "upstream_error",
                             "The provider answered with an error that is "
                             "not in the API's shape.");
}


static void
ngx_http_llm_judge_own(ngx_http_llm_outcome_t *oc, ngx_uint_t status,
    const char *code, const char *message)
{
    oc->own = 1;
    oc->status = status;
    oc->code = code;
    oc->message = message;
}


llm_target_end_e
ngx_http_llm_judge_health(ngx_http_llm_attempt_e result)
{
    switch (result) {

    case NGX_HTTP_LLM_ATTEMPT_OK:
    case NGX_HTTP_LLM_ATTEMPT_4XX:
        return LLM_TARGET_GOOD;

    case NGX_HTTP_LLM_ATTEMPT_429:
        return LLM_TARGET_LIMITED;

    case NGX_HTTP_LLM_ATTEMPT_CONNECT_TIMEOUT:
    case NGX_HTTP_LLM_ATTEMPT_TIMEOUT:
    case NGX_HTTP_LLM_ATTEMPT_SILENT:
        return LLM_TARGET_SILENT;

    case NGX_HTTP_LLM_ATTEMPT_CANCELLED:
        return LLM_TARGET_NEUTRAL;

    default:
        return LLM_TARGET_BAD;
    }
}


int64_t
ngx_http_llm_judge_used(const llm_usage_t *usage)
{
    if (usage->prompt_tokens >= 0 && usage->completion_tokens >= 0) {
        return usage->prompt_tokens + usage->completion_tokens;
    }

    return usage->total_tokens >= 0 ? usage->total_tokens
                                    : LLM_TARGET_UNKNOWN;
}
