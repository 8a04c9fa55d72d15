
/*
 * Copyright (C) the ngx-llm authors
 *
 * What the admin API answers: JSON, errors, times, the log of changes.
 */


#include "operate/ngx_http_llm_admin_private.h"
#include "http/ngx_http_llm_compat.h"
#include "http/ngx_http_llm_json.h"
#include "http/ngx_http_llm_reply.h"


#define NGX_HTTP_LLM_ADMIN_MESSAGE  1024


static ngx_int_t ngx_http_llm_admin_private_answer(ngx_http_request_t *r);
static void ngx_http_llm_admin_refused(ngx_http_llm_admin_t *ad,
    ngx_uint_t status, const char *code);


ngx_int_t
ngx_http_llm_admin_answer(ngx_http_llm_admin_t *ad, ngx_uint_t status,
    json_t *json)
{
    char                *text;
    ngx_str_t            body;
    ngx_http_request_t  *r;

    r = ad->request;

    if (json == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    /* money has at most so many digits */

    text = ngx_http_llm_json_dump(json, JSON_COMPACT|JSON_REAL_PRECISION(15));

    json_decref(json);

    if (text == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    body.len = ngx_strlen(text) + 1;
    body.data = ngx_pnalloc(r->pool, body.len);

    if (body.data) {
        ngx_memcpy(body.data, text, body.len - 1);
        body.data[body.len - 1] = LF;
    }

    free(text);

    if (body.data == NULL || ngx_http_llm_admin_private_answer(r) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_llm_reply_body(r, status, NULL, &body);
}


/* it may show a new secret: nobody is to keep it */

static ngx_int_t
ngx_http_llm_admin_private_answer(ngx_http_request_t *r)
{
    ngx_table_elt_t  *h;

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    h->hash = 1;
    ngx_str_set(&h->key, "Cache-Control");
    ngx_str_set(&h->value, "no-store");
    ngx_http_llm_header_unlink(h);

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_admin_list(ngx_http_llm_admin_t *ad, json_t *data,
    ngx_str_t *next)
{
    return ngx_http_llm_admin_answer(ad, NGX_HTTP_OK,
        json_pack("{s:s, s:o, s:b, s:o}", "object", "list", "data", data,
                  "has_more", next != NULL, "next",
                  next ? ngx_http_llm_admin_json_text(next->data, next->len)
                       : json_null()));
}


ngx_int_t
ngx_http_llm_admin_error(ngx_http_llm_admin_t *ad, ngx_uint_t status,
    const char *code, const char *param, const char *fmt, ...)
{
    va_list               args;
    ngx_http_llm_error_t  e;

    ngx_memzero(&e, sizeof(ngx_http_llm_error_t));

    e.message.data = ngx_pnalloc(ad->request->pool,
                                 NGX_HTTP_LLM_ADMIN_MESSAGE);
    if (e.message.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    va_start(args, fmt);

    e.message.len = ngx_vslprintf(e.message.data,
                                  e.message.data + NGX_HTTP_LLM_ADMIN_MESSAGE,
                                  fmt, args)
                    - e.message.data;

    va_end(args);

    e.status = status;
    e.type = status < 500 ? "invalid_request_error" : "server_error";
    e.code = code;
    e.param = param;
    e.wait = status == NGX_HTTP_SERVICE_UNAVAILABLE ? 1000 : -1;

    ngx_http_llm_admin_refused(ad, status, code);

    return ngx_http_llm_reply_error(ad->request, NULL, &e);
}


size_t
ngx_http_llm_admin_short(const char *text, size_t max)
{
    size_t  len;

    len = ngx_strlen(text);

    if (len <= max) {
        return len;
    }

    while (max && ((u_char) text[max] & 0xc0) == 0x80) {
        max--;
    }

    return max;
}


ngx_int_t
ngx_http_llm_admin_wait(ngx_http_llm_admin_t *ad)
{
    ad->request->main->count++;

    return NGX_DONE;
}


void
ngx_http_llm_admin_done(ngx_http_llm_admin_t *ad, ngx_int_t rc)
{
    ngx_connection_t    *c;
    ngx_http_request_t  *r;

    r = ad->request;
    c = r->connection;

    ngx_http_set_log_request(c->log, r);

    ngx_http_finalize_request(r, rc);
    ngx_http_run_posted_requests(c);
}


void
ngx_http_llm_admin_audit(ngx_http_llm_admin_t *ad, ngx_str_t *name)
{
    ngx_log_error(NGX_LOG_NOTICE, ad->request->connection->log, 0,
                  "llm admin: %s \"%V\" by %V: done", ad->api->what, name,
                  &ad->request->connection->addr_text);
}


/* who tried to change what; names that could not be given are not shown */

static void
ngx_http_llm_admin_refused(ngx_http_llm_admin_t *ad, ngx_uint_t status,
    const char *code)
{
    ngx_str_t   name;
    ngx_uint_t  named;

    if ((ad->request->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))
        || status == NGX_HTTP_UNAUTHORIZED)
    {
        /* a missing secret has a line of its own */
        return;
    }

    named = ngx_http_llm_admin_name(&ad->name);
    name = ad->name;

    if (!named) {
        ngx_str_set(&name, "");
    }

    ngx_log_error(NGX_LOG_NOTICE, ad->request->connection->log, 0,
                  "llm admin: %s%s%V%s by %V: %ui %s",
                  ad->api && ad->api->what ? ad->api->what : "a request",
                  named ? " \"" : "", &name, named ? "\"" : "",
                  &ad->request->connection->addr_text, status, code);
}


json_t *
ngx_http_llm_admin_json_time(time_t time)
{
    char       text[sizeof("2026-11-21T20:00:00Z")];
    struct tm  tm;

    if (time <= 0 || gmtime_r(&time, &tm) == NULL || tm.tm_year > 8099) {
        return json_null();
    }

    (void) strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm);

    return json_string(text);
}


/* what is not UTF-8 is shown, too: an empty text would be worse */

json_t *
ngx_http_llm_admin_json_text(u_char *data, size_t len)
{
    size_t   i;
    json_t  *json;
    u_char  *text;

    json = json_stringn((char *) data, len);

    if (json) {
        return json;
    }

    text = ngx_alloc(len + 1, ngx_cycle->log);
    if (text == NULL) {
        return NULL;
    }

    for (i = 0; i < len; i++) {
        text[i] = data[i] < 0x80 ? data[i] : '?';
    }

    json = json_stringn((char *) text, len);

    ngx_free(text);

    return json;
}


json_t *
ngx_http_llm_admin_json_usd(int64_t micro)
{
    return json_real((double) micro / 1000000);
}
