
/*
 * Copyright (C) the ngx-llm authors
 */


#include "ngx_http_llm_gateway.h"
#include "ngx_http_llm_line.h"
#include "http/ngx_http_llm_id.h"
#include "http/ngx_http_llm_loopback.h"
#include "http/ngx_http_llm_quiet.h"
#include "http/ngx_http_llm_reply.h"
#include "operate/ngx_http_llm_health.h"
#include "operate/ngx_http_llm_trace.h"
#include "state/ngx_http_llm_zone.h"


/* what may follow the URI of an entry: nothing, anything, or one segment and
   the entry's "end" */

#define NGX_HTTP_LLM_GATEWAY_PREFIX   1
#define NGX_HTTP_LLM_GATEWAY_SEGMENT  2

#define NGX_HTTP_LLM_GATEWAY_ANY      ((ngx_uint_t) -1)   /* method */


typedef struct {
    ngx_str_t                   uri;
    ngx_uint_t                  prefix;
    ngx_uint_t                  method;
    ngx_uint_t                  endpoint;
    ngx_int_t                 (*handler)(ngx_http_request_t *r);
    ngx_str_t                   end;
} ngx_http_llm_api_t;


static ngx_int_t ngx_http_llm_gateway_native(ngx_http_request_t *r);
static ngx_http_llm_api_t *ngx_http_llm_gateway_api(ngx_http_request_t *r);
static ngx_uint_t ngx_http_llm_gateway_match(ngx_http_request_t *r,
    ngx_http_llm_api_t *api);
static ngx_int_t ngx_http_llm_gateway_refuse(ngx_http_request_t *r,
    ngx_uint_t status);
static ngx_int_t ngx_http_llm_gateway_allow(ngx_http_request_t *r);


static ngx_http_llm_api_t  ngx_http_llm_gateway_apis[] = {

    { ngx_string("/v1/chat/completions"), 0, NGX_HTTP_POST,
      LLM_CHAT, NULL, ngx_null_string },

    { ngx_string("/v1/completions"), 0, NGX_HTTP_POST,
      LLM_COMPLETIONS, NULL, ngx_null_string },

    { ngx_string("/v1/embeddings"), 0, NGX_HTTP_POST,
      LLM_EMBEDDINGS, NULL, ngx_null_string },

    { ngx_string("/v1/responses"), 0, NGX_HTTP_POST,
      LLM_RESPONSES, NULL, ngx_null_string },

    { ngx_string("/v1/responses/"), NGX_HTTP_LLM_GATEWAY_SEGMENT,
      NGX_HTTP_GET|NGX_HTTP_DELETE,
      NGX_HTTP_LLM_STORED, NULL, ngx_null_string },

    { ngx_string("/v1/responses/"), NGX_HTTP_LLM_GATEWAY_SEGMENT,
      NGX_HTTP_POST,
      NGX_HTTP_LLM_STORED, NULL, ngx_string("/cancel") },

    { ngx_string("/v1/responses/"), NGX_HTTP_LLM_GATEWAY_SEGMENT,
      NGX_HTTP_GET,
      NGX_HTTP_LLM_STORED, NULL, ngx_string("/input_items") },

    { ngx_string("/v1/compare"), 0, NGX_HTTP_POST,
      NGX_HTTP_LLM_COMPARE, NULL, ngx_null_string },

    { ngx_string("/api/tasks"), 0, NGX_HTTP_POST|NGX_HTTP_GET,
      NGX_HTTP_LLM_TASKS, NULL, ngx_null_string },

    { ngx_string("/api/tasks/"), NGX_HTTP_LLM_GATEWAY_SEGMENT,
      NGX_HTTP_GET|NGX_HTTP_DELETE,
      NGX_HTTP_LLM_TASKS, NULL, ngx_null_string },

    { ngx_string("/api/tasks/"), NGX_HTTP_LLM_GATEWAY_SEGMENT,
      NGX_HTTP_GET,
      NGX_HTTP_LLM_TASKS, NULL, ngx_string("/events") },

    { ngx_string("/v1/files"), 0, NGX_HTTP_POST,
      NGX_HTTP_LLM_UPLOAD, NULL, ngx_null_string },

    { ngx_string("/v1/files"), 0, NGX_HTTP_GET,
      NGX_HTTP_LLM_FILES, NULL, ngx_null_string },

    { ngx_string("/v1/files/"), NGX_HTTP_LLM_GATEWAY_SEGMENT,
      NGX_HTTP_GET|NGX_HTTP_DELETE,
      NGX_HTTP_LLM_FILES, NULL, ngx_null_string },

    { ngx_string("/v1/files/"), NGX_HTTP_LLM_GATEWAY_SEGMENT,
      NGX_HTTP_GET,
      NGX_HTTP_LLM_FILES, NULL, ngx_string("/content") },

    { ngx_string("/v1/batches"), 0, NGX_HTTP_POST|NGX_HTTP_GET,
      NGX_HTTP_LLM_BATCHES, NULL, ngx_null_string },

    { ngx_string("/v1/batches/"), NGX_HTTP_LLM_GATEWAY_SEGMENT,
      NGX_HTTP_GET,
      NGX_HTTP_LLM_BATCHES, NULL, ngx_null_string },

    { ngx_string("/v1/batches/"), NGX_HTTP_LLM_GATEWAY_SEGMENT,
      NGX_HTTP_POST,
      NGX_HTTP_LLM_BATCHES, NULL, ngx_string("/cancel") },

    { ngx_string("/v1/models"), 0, NGX_HTTP_GET,
      NGX_HTTP_LLM_MODELS, NULL, ngx_null_string },

    { ngx_string("/v1/models/"), NGX_HTTP_LLM_GATEWAY_PREFIX, NGX_HTTP_GET,
      NGX_HTTP_LLM_MODELS, NULL, ngx_null_string },

    { ngx_string("/v1/streams/"), NGX_HTTP_LLM_GATEWAY_PREFIX, NGX_HTTP_GET,
      NGX_HTTP_LLM_STREAMS, NULL, ngx_null_string },

    { ngx_string("/healthz"), 0, NGX_HTTP_GET|NGX_HTTP_HEAD,
      LLM_ENDPOINTS, ngx_http_llm_health_handler, ngx_null_string },

    { ngx_string("/readyz"), 0, NGX_HTTP_GET|NGX_HTTP_HEAD,
      LLM_ENDPOINTS, ngx_http_llm_health_handler, ngx_null_string },

    /* of the internal listener: for others it does not exist */

    { ngx_string("/v1/traces"), 0, NGX_HTTP_LLM_GATEWAY_ANY,
      LLM_ENDPOINTS, ngx_http_llm_trace_handler, ngx_null_string },

    { ngx_string("/v1/native/"), NGX_HTTP_LLM_GATEWAY_PREFIX,
      NGX_HTTP_LLM_GATEWAY_ANY,
      NGX_HTTP_LLM_NATIVE, ngx_http_llm_gateway_native, ngx_null_string },

    { ngx_null_string, 0, 0, 0, NULL, ngx_null_string }
};


ngx_int_t
ngx_http_llm_gateway_handler(ngx_http_request_t *r)
{
    ngx_int_t            rc;
    ngx_http_llm_api_t  *api;

    if (r->err_status) {
        /* nginx itself refused the request, and error_page led here */
        ngx_http_llm_line_recover(r);
        return ngx_http_llm_gateway_refuse(r, r->err_status);
    }

    api = ngx_http_llm_gateway_api(r);

    if (api == NULL) {
        return ngx_http_llm_gateway_refuse(r, NGX_HTTP_NOT_FOUND);
    }

    if (!(r->method & api->method)) {

        if (ngx_http_llm_gateway_allow(r) != NGX_OK) {
            return NGX_ERROR;
        }

        return ngx_http_llm_gateway_refuse(r, NGX_HTTP_NOT_ALLOWED);
    }

    if (api->handler) {
        rc = api->handler(r);

        return rc == NGX_DECLINED
               ? ngx_http_llm_gateway_refuse(r, NGX_HTTP_NOT_FOUND) : rc;
    }

    return ngx_http_llm_line_start(r, api->endpoint);
}


/* who does not come by the internal listener is not told that it is there */

static ngx_int_t
ngx_http_llm_gateway_native(ngx_http_request_t *r)
{
    ngx_str_t  key;

    return ngx_http_llm_loopback_key(r, &key) == NGX_OK
           ? ngx_http_llm_line_start(r, NGX_HTTP_LLM_NATIVE) : NGX_DECLINED;
}


static ngx_http_llm_api_t *
ngx_http_llm_gateway_api(ngx_http_request_t *r)
{
    ngx_http_llm_api_t  *api, *found;

    found = NULL;

    for (api = ngx_http_llm_gateway_apis; api->uri.len; api++) {

        if (!ngx_http_llm_gateway_match(r, api)) {
            continue;
        }

        if (r->method & api->method) {
            return api;
        }

        /* another row may have the method */

        found = api;
    }

    return found;
}


static ngx_uint_t
ngx_http_llm_gateway_match(ngx_http_request_t *r, ngx_http_llm_api_t *api)
{
    size_t   len;
    u_char  *p, *last;

    if (api->prefix ? r->uri.len <= api->uri.len
                    : r->uri.len != api->uri.len)
    {
        return 0;
    }

    if (ngx_memcmp(r->uri.data, api->uri.data, api->uri.len) != 0) {
        return 0;
    }

    if (api->prefix != NGX_HTTP_LLM_GATEWAY_SEGMENT) {
        return 1;
    }

    last = r->uri.data + r->uri.len;

    p = ngx_strlchr(r->uri.data + api->uri.len, last, '/');
    if (p == NULL) {
        p = last;
    }

    if (p == r->uri.data + api->uri.len) {
        return 0;
    }

    len = last - p;

    return len == api->end.len
           && (len == 0 || ngx_memcmp(p, api->end.data, len) == 0);
}


/* what is no call of the API, or never became one */

static ngx_int_t
ngx_http_llm_gateway_refuse(ngx_http_request_t *r, ngx_uint_t status)
{
    const char                *type, *code, *message;
    const char                *more;
    ngx_http_llm_ctx_t        *ctx;
    ngx_http_llm_main_conf_t  *mcf;

    ctx = ngx_http_get_module_ctx(r, ngx_http_llm_module);

    if (ctx == NULL) {
        ctx = ngx_pcalloc(r->pool, sizeof(ngx_http_llm_ctx_t));
        if (ctx == NULL || ngx_http_llm_id(r, &ctx->id) != NGX_OK) {
            return NGX_ERROR;
        }

        ngx_http_set_ctx(r, ctx, ngx_http_llm_module);

        mcf = ngx_http_get_module_main_conf(r, ngx_http_llm_module);

        ngx_http_llm_count_request(&mcf->zone->sh->count, LLM_ENDPOINTS,
                                   status);
    }

    type = status < 500 ? "invalid_request_error" : "server_error";

    switch (status) {

    case NGX_HTTP_NOT_FOUND:
        code = "unknown_url";
        message = "Unknown request URL.";
        break;

    case NGX_HTTP_NOT_ALLOWED:
        code = "method_not_supported";
        message = "This URL does not support the method.";
        break;

    case NGX_HTTP_REQUEST_ENTITY_TOO_LARGE:
        code = "request_too_large";
        message = "The request body is larger than this gateway accepts.";
        break;

    default:
        code = NULL;
        message = status < 500 ? "The request could not be understood."
                               : "The gateway could not handle the request.";
    }

    more = ngx_http_llm_quiet(NGX_HTTP_LLM_QUIET_HTTP, &status,
                              sizeof(status));

    if (more) {
        ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                      "llm refused with %ui%s", status, more);
    }

    (void) ngx_http_llm_error(ctx, status, type, code, message);

    return ngx_http_llm_reply_error(r, ctx, &ctx->error);
}


/* of all rows that this URI has */

static ngx_int_t
ngx_http_llm_gateway_allow(ngx_http_request_t *r)
{
    u_char              *p, *text;
    ngx_uint_t           method;
    ngx_http_llm_api_t  *api;

    text = ngx_pnalloc(r->pool, sizeof(", GET, HEAD, POST, DELETE"));
    if (text == NULL) {
        return NGX_ERROR;
    }

    method = 0;

    for (api = ngx_http_llm_gateway_apis; api->uri.len; api++) {
        if (ngx_http_llm_gateway_match(r, api)) {
            method |= api->method;
        }
    }

    p = text;

    if (method & NGX_HTTP_GET) {
        p = ngx_cpymem(p, ", GET", 5);
    }

    if (method & NGX_HTTP_HEAD) {
        p = ngx_cpymem(p, ", HEAD", 6);
    }

    if (method & NGX_HTTP_POST) {
        p = ngx_cpymem(p, ", POST", 6);
    }

    if (method & NGX_HTTP_DELETE) {
        p = ngx_cpymem(p, ", DELETE", 8);
    }

    *p = '\0';

    return ngx_http_llm_reply_allow(r, (const char *) text + 2);
}
