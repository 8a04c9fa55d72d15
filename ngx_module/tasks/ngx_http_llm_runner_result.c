
/*
 * Copyright (C) the ngx-llm authors
 *
 * What a task keeps of its answer, and what an answer says beside its body.
 */


#include "tasks/ngx_http_llm_runner_private.h"

#include "core/llm_backoff.h"
#include "core/llm_json.h"


static ngx_int_t ngx_http_llm_runner_object(ngx_str_t *answer,
    ngx_str_t *error);


/* "STATUS REQUEST_ID\n" and the answer */

ngx_int_t
ngx_http_llm_runner_result(ngx_http_llm_runner_task_t *task)
{
    u_char                     head[NGX_INT_T_LEN + NGX_HTTP_LLM_ID_LEN + 2];
    ngx_str_t                  id, piece[2];
    ngx_http_llm_loopback_t   *lb;

    lb = task->call;

    if (ngx_http_llm_loopback_find(lb, "x-request-id",
                                   sizeof("x-request-id") - 1, &id)
        != NGX_OK
        || id.len > NGX_HTTP_LLM_ID_LEN)
    {
        ngx_str_set(&id, "-");
    }

    piece[0].data = head;
    piece[0].len = ngx_sprintf(head, "%ui %V\n", lb->status, &id) - head;
    piece[1] = lb->answer;

    return ngx_http_llm_queue_pack(ngx_http_llm_runner.tcf, task->pool,
                                   &task->id, "r", piece,
                                   lb->answer.len ? 2 : 1, &task->result);
}


ngx_int_t
ngx_http_llm_runner_usage(ngx_http_llm_runner_task_t *task, llm_answer_t *an)
{
    u_char     *p;
    size_t      i;
    ngx_str_t   cost;

    if (an->usage.prompt_tokens < 0) {
        return NGX_OK;
    }

    p = ngx_pnalloc(task->pool, 256);
    if (p == NULL) {
        return NGX_ERROR;
    }

    task->usage.data = p;

    p = ngx_sprintf(p, "{\"prompt_tokens\":%L,\"completion_tokens\":%L",
                    an->usage.prompt_tokens,
                    ngx_max(an->usage.completion_tokens, 0));

    if (an->usage.cached_tokens >= 0) {
        p = ngx_sprintf(p, ",\"cached_tokens\":%L",
                        an->usage.cached_tokens);
    }

    if (ngx_http_llm_loopback_find(task->call, "x-llm-cost-usd",
                                   sizeof("x-llm-cost-usd") - 1, &cost)
        == NGX_OK
        && cost.len && cost.len <= NGX_INT64_LEN)
    {
        for (i = 0; i < cost.len; i++) {
            if ((cost.data[i] < '0' || cost.data[i] > '9')
                && (cost.data[i] != '.' || i == 0 || i == cost.len - 1))
            {
                break;
            }
        }

        if (i == cost.len) {
            p = ngx_sprintf(p, ",\"cost_usd\":%V", &cost);
        }
    }

    *p++ = '}';

    task->usage.len = p - task->usage.data;

    return NGX_OK;
}


/* the error object of the answer as it is, or one of our own */

ngx_int_t
ngx_http_llm_runner_told(ngx_http_llm_runner_task_t *task)
{
    u_char                    text[128];
    ngx_str_t                 error;
    ngx_http_llm_loopback_t  *lb;

    lb = task->call;

    if (lb->result == NGX_HTTP_LLM_LOOPBACK_OK) {

        if (ngx_http_llm_runner_object(&lb->answer, &error) == NGX_OK) {

            task->error.data = ngx_pstrdup(task->pool, &error);
            if (task->error.data == NULL) {
                return NGX_ERROR;
            }

            task->error.len = error.len;

            return NGX_OK;
        }

        *ngx_sprintf(text, "The gateway answered with the status %ui.",
                     lb->status) = '\0';

        return ngx_http_llm_runner_error(task->pool, &task->error,
                                         "upstream_error", (char *) text);
    }

    if (lb->result == NGX_HTTP_LLM_LOOPBACK_TIMEOUT) {
        return ngx_http_llm_runner_error(task->pool, &task->error, "timeout",
                                         "The answer did not come in time.");
    }

    return ngx_http_llm_runner_error(task->pool, &task->error,
                                     "upstream_error",
                                     "The answer did not come whole.");
}


/* the member "error" of an answer, if it is an object and not long */

static ngx_int_t
ngx_http_llm_runner_object(ngx_str_t *answer, ngx_str_t *error)
{
    llm_json_t        js;
    ngx_uint_t        found;
    const u_char     *start;
    llm_json_token_e  token;

    llm_json_init(&js, answer->data, answer->len);

    if (llm_json_next(&js) != LLM_JSON_OBJECT) {
        return NGX_DECLINED;
    }

    while (llm_json_next(&js) == LLM_JSON_NAME) {

        found = llm_json_is(&js, "error", sizeof("error") - 1);
        token = llm_json_next(&js);
        start = js.start;

        if (token != LLM_JSON_OBJECT && token != LLM_JSON_ARRAY) {
            continue;
        }

        if (llm_json_skip(&js) == LLM_JSON_ERROR) {
            break;
        }

        if (found && token == LLM_JSON_OBJECT) {
            error->data = (u_char *) start;
            error->len = js.end - start;

            return error->len <= NGX_HTTP_LLM_RUNNER_ERROR ? NGX_OK
                                                           : NGX_DECLINED;
        }
    }

    return NGX_DECLINED;
}


/* the token as spelled, so with quotes */

ngx_uint_t
ngx_http_llm_runner_code(llm_answer_t *an, const char *code)
{
    size_t     len;
    llm_str_t  s;

    len = ngx_strlen(code);
    s = an->error_code;

    if (s.len == len + 2 && s.data[0] == '"') {
        s.data++;
        s.len -= 2;
    }

    return s.len == len && ngx_memcmp(s.data, code, len) == 0;
}


/* does that header of the answer begin with these words? */

ngx_uint_t
ngx_http_llm_runner_is(ngx_http_llm_loopback_t *lb, const char *name,
    const char *value)
{
    size_t     len;
    ngx_str_t  s;

    len = ngx_strlen(value);

    return ngx_http_llm_loopback_find(lb, name, ngx_strlen(name), &s)
           == NGX_OK
           && s.len >= len
           && ngx_strncasecmp(s.data, (u_char *) value, len) == 0;
}


/* ms, -1: nothing */

int64_t
ngx_http_llm_runner_asked(ngx_http_llm_loopback_t *lb)
{
    ngx_str_t  ms, after;
    llm_str_t  a, b;

    ngx_str_null(&ms);
    ngx_str_null(&after);

    (void) ngx_http_llm_loopback_find(lb, "retry-after-ms",
                                      sizeof("retry-after-ms") - 1, &ms);
    (void) ngx_http_llm_loopback_find(lb, "retry-after",
                                      sizeof("retry-after") - 1, &after);

    a.data = ms.data;
    a.len = ms.len;
    b.data = after.data;
    b.len = after.len;

    return llm_backoff_asked(ms.len ? &a : NULL, after.len ? &b : NULL,
                             ngx_time());
}
