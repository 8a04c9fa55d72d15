
/*
 * Copyright (C) the ngx-llm authors
 *
 * What the legs of a comparison said, in one JSON answer.
 */


#include "upstream/ngx_http_llm_compare_private.h"
#include "http/ngx_http_llm_reply.h"

#include "core/llm_json.h"


static void ngx_http_llm_compare_failed(ngx_http_llm_loopback_t *lb,
    ngx_http_llm_error_t *e);
static u_char *ngx_http_llm_compare_row(u_char *p,
    ngx_http_llm_compare_leg_t *leg);


ngx_int_t
ngx_http_llm_compare_told(ngx_http_llm_compare_t *cp,
    ngx_http_llm_compare_leg_t *leg)
{
    ngx_http_llm_error_t      e;
    ngx_http_llm_loopback_t  *lb;

    lb = leg->call;

    if (!lb->done) {
        lb->result = NGX_HTTP_LLM_LOOPBACK_TIMEOUT;
        lb->took = ngx_current_msec - lb->since;
    }

    leg->took = lb->took;

    (void) ngx_http_llm_loopback_find(lb, "x-llm-provider",
                                      sizeof("x-llm-provider") - 1,
                                      &leg->provider);

    if (lb->result == NGX_HTTP_LLM_LOOPBACK_OK
        && llm_json_valid(lb->answer.data, lb->answer.len))
    {
        leg->status = lb->status;
        leg->body = lb->answer;

        return NGX_OK;
    }

    ngx_memzero(&e, sizeof(ngx_http_llm_error_t));

    ngx_http_llm_compare_failed(lb, &e);

    leg->status = e.status;

    return ngx_http_llm_reply_error_body(cp->ctx->request, &e, &leg->body);
}


static void
ngx_http_llm_compare_failed(ngx_http_llm_loopback_t *lb,
    ngx_http_llm_error_t *e)
{
    e->type = "server_error";

    switch (lb->result) {

    case NGX_HTTP_LLM_LOOPBACK_TIMEOUT:
        e->status = NGX_HTTP_GATEWAY_TIME_OUT;
        e->type = "timeout";
        e->code = "upstream_timeout";
        ngx_str_set(&e->message, "The model did not answer in time.");
        return;

    case NGX_HTTP_LLM_LOOPBACK_CONNECT:
        e->status = NGX_HTTP_SERVICE_UNAVAILABLE;
        e->code = "upstream_unavailable";
        ngx_str_set(&e->message, "The gateway could not ask the model.");
        return;

    case NGX_HTTP_LLM_LOOPBACK_LARGE:
        e->status = NGX_HTTP_BAD_GATEWAY;
        e->code = "upstream_error";
        ngx_str_set(&e->message, "The model's answer is larger than 1 MB, too "
                    "large for a comparison.");
        return;

    case NGX_HTTP_LLM_LOOPBACK_BROKEN:
        e->status = NGX_HTTP_BAD_GATEWAY;
        e->code = "upstream_error";
        ngx_str_set(&e->message, "The model's answer broke off.");
        return;

    default: /* NGX_HTTP_LLM_LOOPBACK_OK */

        /* an error keeps its status, whatever its body was */

        e->status = lb->status >= 400 ? lb->status : NGX_HTTP_BAD_GATEWAY;
        e->code = "upstream_error";
        ngx_str_set(&e->message, "The model's answer is not valid JSON.");
    }
}


ngx_int_t
ngx_http_llm_compare_answer(ngx_http_llm_compare_t *cp)
{
    size_t                       len;
    u_char                      *p;
    ngx_uint_t                   i;
    ngx_http_llm_ctx_t          *ctx;
    ngx_http_llm_compare_leg_t  *leg;

    ctx = cp->ctx;
    len = sizeof("{\"object\":\"list\",\"data\":[]}") - 1;

    for (i = 0; i < cp->n; i++) {
        leg = &cp->leg[i];

        len += sizeof("{\"model\":,\"provider\":null,\"status\":,"
                      "\"latency_ms\":,\"body\":},") + 2 * NGX_INT_T_LEN
               + leg->model.len + leg->body.len + leg->provider.len
               + ngx_escape_json(NULL, leg->provider.data,
                                 leg->provider.len);
    }

    p = ngx_pnalloc(ctx->request->pool, len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    ctx->answer.body.data = p;

    p = ngx_cpymem(p, "{\"object\":\"list\",\"data\":[",
                   sizeof("{\"object\":\"list\",\"data\":[") - 1);

    for (i = 0; i < cp->n; i++) {
        leg = &cp->leg[i];

        if (i) {
            *p++ = ',';
        }

        p = ngx_http_llm_compare_row(p, leg);

        /* and its megabyte goes */

        ngx_http_llm_loopback_close(leg->call);
        leg->call = NULL;
    }

    p = ngx_cpymem(p, "]}", 2);

    ctx->answer.body.len = p - ctx->answer.body.data;
    ctx->answer.status = NGX_HTTP_OK;
    ctx->answer.from = NULL;

    ngx_str_set(&ctx->answer.content_type, "application/json");

    ctx->answered = 1;

    return NGX_OK;
}


static u_char *
ngx_http_llm_compare_row(u_char *p, ngx_http_llm_compare_leg_t *leg)
{
    p = ngx_sprintf(p, "{\"model\":%V,\"provider\":", &leg->model);

    if (leg->provider.len) {
        *p++ = '"';
        p = (u_char *) ngx_escape_json(p, leg->provider.data,
                                       leg->provider.len);
        *p++ = '"';

    } else {
        p = ngx_cpymem(p, "null", 4);
    }

    return ngx_sprintf(p, ",\"status\":%ui,\"latency_ms\":%M,\"body\":%V}",
                       leg->status, leg->took, &leg->body);
}
