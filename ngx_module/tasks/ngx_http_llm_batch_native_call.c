
/*
 * Copyright (C) the ngx-llm authors
 *
 * A batch at its provider: the calls.
 */


#include "tasks/ngx_http_llm_batch_native.h"

#include "core/llm_tree.h"


#define NGX_HTTP_LLM_NATIVE_ANSWER   (4 * 1024 * 1024)
#define NGX_HTTP_LLM_NATIVE_RENEW    5000    /* ms, of the lease */
#define NGX_HTTP_LLM_NATIVE_ID       256     /* bytes */


static void ngx_http_llm_native_answered(ngx_http_llm_loopback_t *lb);
static void ngx_http_llm_native_timer(ngx_event_t *ev);


ngx_http_llm_loopback_t *
ngx_http_llm_native_call(ngx_http_llm_batch_run_t *run, const char *method,
    ngx_str_t *path)
{
    u_char                   *p;
    ngx_http_llm_batch_t     *b;
    ngx_http_llm_loopback_t  *lb;

    b = &run->b;

    ngx_http_llm_native_done(run);

    lb = ngx_http_llm_loopback_create(ngx_cycle->log);
    if (lb == NULL) {
        ngx_http_llm_batch_end(run, NGX_HTTP_LLM_BATCH_FULL);
        return NULL;
    }

    run->native->lb = lb;

    p = ngx_pnalloc(lb->pool, b->native.len + path->len
                              + sizeof("/v1/native//"));
    if (p == NULL) {
        ngx_http_llm_batch_end(run, NGX_HTTP_LLM_BATCH_FULL);
        return NULL;
    }

    lb->method.data = (u_char *) method;
    lb->method.len = ngx_strlen(method);
    lb->uri.data = p;
    lb->uri.len = ngx_sprintf(p, "/v1/native/%V/%V", &b->native, path) - p;
    lb->key = b->owner;
    lb->max = NGX_HTTP_LLM_NATIVE_ANSWER;
    lb->timeout = run->todo->tcf->timeout;
    lb->handler = ngx_http_llm_native_answered;
    lb->data = run;

    if (ngx_http_llm_native_header(run, "X-Request-Id", &b->id) != NGX_OK
        || ngx_http_llm_native_header(run, "X-Llm-Model", &b->model)
           != NGX_OK)
    {
        return NULL;
    }

    return lb;
}


ngx_int_t
ngx_http_llm_native_header(ngx_http_llm_batch_run_t *run, const char *name,
    ngx_str_t *value)
{
    ngx_int_t  rc;
    ngx_str_t  s;

    s.data = (u_char *) name;
    s.len = ngx_strlen(name);

    rc = ngx_http_llm_loopback_header(run->native->lb, &s, value);

    if (rc == NGX_DECLINED) {
        ngx_http_llm_batch_fail(run, "invalid_value",
                                "The model's name cannot be told to its "
                                "provider");

    } else if (rc != NGX_OK) {
        ngx_http_llm_batch_end(run, NGX_HTTP_LLM_BATCH_FULL);
    }

    return rc;
}


void
ngx_http_llm_native_start(ngx_http_llm_batch_run_t *run, u_char *body,
    size_t len, ngx_http_llm_batch_pt next)
{
    ngx_buf_t                    *b;
    ngx_chain_t                  *cl;
    ngx_http_llm_loopback_t      *lb;
    ngx_http_llm_batch_native_t  *nt;

    nt = run->native;
    lb = nt->lb;

    if (body) {
        b = ngx_calloc_buf(lb->pool);
        cl = ngx_alloc_chain_link(lb->pool);

        if (b == NULL || cl == NULL) {
            ngx_http_llm_batch_end(run, NGX_HTTP_LLM_BATCH_FULL);
            return;
        }

        b->pos = body;
        b->last = body + len;
        b->memory = 1;

        cl->buf = b;
        cl->next = NULL;

        lb->body = cl;
        lb->body_len = len;
    }

    run->step = next;

    if (ngx_http_llm_loopback_start(lb) != NGX_OK) {
        ngx_http_llm_batch_end(run, NGX_HTTP_LLM_BATCH_FULL);
        return;
    }

    nt->timer.handler = ngx_http_llm_native_timer;
    nt->timer.data = run;
    nt->timer.log = ngx_cycle->log;

    ngx_add_timer(&nt->timer, NGX_HTTP_LLM_NATIVE_RENEW);
}


static void
ngx_http_llm_native_answered(ngx_http_llm_loopback_t *lb)
{
    ngx_http_llm_batch_run_t  *run = lb->data;

    run->native->answered = 1;

    ngx_http_llm_batch_wake(run);
}


static void
ngx_http_llm_native_timer(ngx_event_t *ev)
{
    ngx_http_llm_batch_run_t  *run = ev->data;

    if (ngx_exiting || ngx_terminate || ngx_quit) {
        ngx_http_llm_batch_end(run, 0);
        return;
    }

    run->kept = ngx_current_msec;
    ngx_http_llm_todo_keep(run->todo);

    ngx_add_timer(ev, NGX_HTTP_LLM_NATIVE_RENEW);
}


void
ngx_http_llm_native_done(ngx_http_llm_batch_run_t *run)
{
    ngx_http_llm_batch_native_t  *nt;

    nt = run->native;

    if (nt->timer.timer_set) {
        ngx_del_timer(&nt->timer);
    }

    if (nt->lb) {
        ngx_http_llm_loopback_close(nt->lb);
        nt->lb = NULL;
    }

    nt->answered = 0;
}


void
ngx_http_llm_batch_native_close(ngx_http_llm_batch_run_t *run)
{
    if (run->native) {
        ngx_http_llm_native_done(run);
        run->native = NULL;
    }
}


void
ngx_http_llm_native_later(ngx_http_llm_batch_run_t *run)
{
    ngx_http_llm_loopback_t  *lb;

    lb = run->native->lb;

    ngx_log_error(NGX_LOG_WARN, ngx_cycle->log, 0,
                  "llm: the batch \"%V\" waits for provider \"%V\": %V %V "
                  "ended with %d, status %ui", &run->b.id, &run->b.native,
                  &lb->method, &lb->uri, lb->result, lb->status);

    ngx_http_llm_batch_end(run, run->todo->tcf->poll);
}


/* what another try could not heal ends the batch: NGX_OK */

ngx_int_t
ngx_http_llm_native_refused(ngx_http_llm_batch_run_t *run)
{
    json_t                   *root, *error;
    ngx_uint_t                status;
    const char               *code, *text;
    ngx_http_llm_loopback_t  *lb;

    lb = run->native->lb;
    status = lb->status;

    if (lb->result != NGX_HTTP_LLM_LOOPBACK_OK || status < 400
        || status > 499)
    {
        return NGX_DECLINED;
    }

    root = llm_tree_load((char *) lb->answer.data, lb->answer.len, 0, NULL);
    error = json_object_get(root, "error");

    code = json_string_value(json_object_get(error, "code"));
    text = json_string_value(json_object_get(error, "message"));

    if (status == NGX_HTTP_REQUEST_TIME_OUT || status == NGX_HTTP_CONFLICT
        || status == 425
        || (status == NGX_HTTP_TOO_MANY_REQUESTS
            && (code == NULL || ngx_strcmp(code, "insufficient_quota") != 0)))
    {
        json_decref(root);
        return NGX_DECLINED;
    }

    ngx_http_llm_batch_fail(run, code ? code : "provider_refused",
                            text ? text
                                 : "The provider refused the batch");
    json_decref(root);

    return NGX_OK;
}


/* it becomes part of paths and bodies: nothing that means more there */

ngx_int_t
ngx_http_llm_native_id(ngx_http_llm_batch_run_t *run, const char *text,
    ngx_str_t *id)
{
    u_char      c;
    ngx_str_t   s;
    ngx_uint_t  i;

    s.data = (u_char *) text;
    s.len = text ? ngx_strlen(text) : 0;

    if (s.len == 0 || s.len > NGX_HTTP_LLM_NATIVE_ID || s.data[0] == '.') {
        return NGX_DECLINED;
    }

    for (i = 0; i < s.len; i++) {
        c = s.data[i];

        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')
              || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.'))
        {
            return NGX_DECLINED;
        }
    }

    id->len = s.len;
    id->data = ngx_pstrdup(run->pool, &s);

    return id->data ? NGX_OK : NGX_DECLINED;
}
