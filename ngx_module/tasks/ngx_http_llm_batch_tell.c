
/*
 * Copyright (C) the ngx-llm authors
 *
 * What became of one line of a batch, as a line of output.
 */


#include "tasks/ngx_http_llm_batch_finish.h"

#include "core/llm_tree.h"


#define NGX_HTTP_LLM_BATCH_HEAD  256         /* of a result, at most */


static ngx_int_t ngx_http_llm_batch_answer(ngx_http_llm_batch_run_t *run,
    ngx_http_llm_batch_finish_line_t *ln, llm_batch_result_t *res);
static ngx_int_t ngx_http_llm_batch_reason(ngx_http_llm_batch_run_t *run,
    ngx_http_llm_batch_finish_line_t *ln, llm_batch_result_t *res);
static ngx_int_t ngx_http_llm_batch_member(ngx_pool_t *pool, json_t *root,
    const char *name, llm_str_t *to);
static ngx_uint_t ngx_http_llm_batch_state(
    ngx_http_llm_batch_finish_line_t *ln, const char *state);
static void ngx_http_llm_batch_set(llm_batch_result_t *res, const char *code,
    const char *message);


ngx_int_t
ngx_http_llm_batch_finish_tell(ngx_http_llm_batch_run_t *run,
    ngx_http_llm_batch_finish_line_t *ln)
{
    u_char                       *p;
    size_t                        len;
    ngx_int_t                     rc;
    llm_batch_result_t            res;
    ngx_http_llm_batch_finish_t  *fin;

    fin = run->finish;

    /* one line's memory at a time */

    if (fin->text) {
        ngx_reset_pool(fin->text);

    } else {
        fin->text = ngx_create_pool(NGX_HTTP_LLM_BATCH_FINISH_POOL,
                                    ngx_cycle->log);
        if (fin->text == NULL) {
            return NGX_ERROR;
        }
    }

    ngx_memzero(&res, sizeof(llm_batch_result_t));

    res.custom_id = ln->custom_id;
    res.id.data = ngx_pnalloc(fin->text, sizeof("batch_req_") - 1
                                         + ln->job.len);
    if (res.id.data == NULL) {
        return NGX_ERROR;
    }

    res.id.len = ngx_sprintf(res.id.data, "batch_req_%V", &ln->job)
                 - res.id.data;

    rc = ln->result.len ? ngx_http_llm_batch_answer(run, ln, &res)
                        : ngx_http_llm_batch_reason(run, ln, &res);

    if (rc != NGX_OK) {
        return rc;
    }

    len = llm_batch_write_result(NULL, 0, &res);

    p = ngx_pnalloc(fin->text, len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    (void) llm_batch_write_result(p, len, &res);

    fin->bad = llm_batch_succeeded(&res) ? 0 : 1;
    fin->pos = p;
    fin->last = p + len;

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_batch_answer(ngx_http_llm_batch_run_t *run,
    ngx_http_llm_batch_finish_line_t *ln, llm_batch_result_t *res)
{
    ngx_int_t                     rc;
    ngx_str_t                     text, id, body;
    ngx_uint_t                    status;
    llm_answer_t                  an;
    ngx_http_llm_tasks_conf_t    *tcf;
    ngx_http_llm_batch_finish_t  *fin;

    fin = run->finish;
    tcf = run->todo->tcf;

    rc = ngx_http_llm_queue_open(tcf, fin->text, &ln->job, "r", &ln->result,
                                 tcf->result_max + NGX_HTTP_LLM_BATCH_HEAD,
                                 &text);
    if (rc == NGX_ERROR) {
        return NGX_ERROR;
    }

    if (rc != NGX_OK
        || ngx_http_llm_queue_result(&text, &status, &id, &body) != NGX_OK)
    {
        ngx_http_llm_batch_set(res, "server_error", "The result of this "
                               "request can no longer be read.");
        return NGX_OK;
    }

    res->status = status;
    res->request_id.data = id.data;
    res->request_id.len = id.len;
    res->body.data = body.data;
    res->body.len = body.len;

    if (!llm_batch_succeeded(res)) {
        return NGX_OK;
    }

    llm_answer_scan(&an, run->b.ob.endpoint, body.data, body.len);

    ngx_http_llm_batch_finish_used(fin, &an);

    return NGX_OK;
}


/* no answer: why */

static ngx_int_t
ngx_http_llm_batch_reason(ngx_http_llm_batch_run_t *run,
    ngx_http_llm_batch_finish_line_t *ln, llm_batch_result_t *res)
{
    json_t      *root;
    ngx_int_t    rc;
    ngx_pool_t  *pool;

    pool = run->finish->text;

    if (ngx_http_llm_batch_state(ln, "error") && ln->error.len) {

        llm_tree_watch();

        root = llm_tree_load((char *) ln->error.data, ln->error.len, 0, NULL);

        if (llm_tree_no_memory()) {
            return NGX_ERROR;
        }

        rc = ngx_http_llm_batch_member(pool, root, "code", &res->code);

        if (rc == NGX_OK) {
            rc = ngx_http_llm_batch_member(pool, root, "message",
                                           &res->message);
        }

        json_decref(root);

        if (rc != NGX_OK) {
            return rc;
        }

        if (res->code.len != sizeof("task_expired") - 1
            || ngx_memcmp(res->code.data, "task_expired", res->code.len) != 0)
        {
            if (res->code.len == 0) {
                ngx_http_llm_batch_set(res, "server_error", NULL);
            }

            return NGX_OK;
        }

    } else if (run->b.ob.state == LLM_BATCH_CANCELLING) {
        ngx_http_llm_batch_set(res, "batch_cancelled", "This request was not "
                               "executed before the batch was cancelled.");
        return NGX_OK;

    } else if (run->b.stop.len == 0
               && ngx_http_llm_batch_state(ln, "cancelled"))
    {
        ngx_http_llm_batch_set(res, "request_cancelled",
                               "This request was cancelled.");
        return NGX_OK;

    } else if (run->b.stop.len == 0) {
        ngx_http_llm_batch_set(res, "server_error", ln->state.len
                               ? "This request ended without a result."
                               : "The result of this request was lost.");
        return NGX_OK;
    }

    ngx_http_llm_batch_set(res, "batch_expired", "This request could not be "
                           "executed before the completion window expired.");

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_batch_member(ngx_pool_t *pool, json_t *root, const char *name,
    llm_str_t *to)
{
    json_t  *value;

    value = json_object_get(root, name);

    to->len = json_string_length(value);

    if (to->len == 0) {
        return NGX_OK;
    }

    to->data = ngx_pnalloc(pool, to->len);
    if (to->data == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(to->data, json_string_value(value), to->len);

    return NGX_OK;
}


static ngx_uint_t
ngx_http_llm_batch_state(ngx_http_llm_batch_finish_line_t *ln,
    const char *state)
{
    size_t  len;

    len = ngx_strlen(state);

    return ln->state.len == len
           && ngx_memcmp(ln->state.data, state, len) == 0;
}


static void
ngx_http_llm_batch_set(llm_batch_result_t *res, const char *code,
    const char *message)
{
    res->code.data = (u_char *) code;
    res->code.len = ngx_strlen(code);

    if (message) {
        res->message.data = (u_char *) message;
        res->message.len = ngx_strlen(message);
    }
}


void
ngx_http_llm_batch_finish_used(ngx_http_llm_batch_finish_t *fin,
    llm_answer_t *an)
{
    if (an->usage.prompt_tokens < 0) {
        return;
    }

    fin->usage = 1;
    fin->tokens[0] += an->usage.prompt_tokens;
    fin->tokens[1] += ngx_max(an->usage.cached_tokens, 0);
    fin->tokens[2] += ngx_max(an->usage.completion_tokens, 0);
    fin->tokens[3] += ngx_max(an->usage.reasoning_tokens, 0);
}


ngx_int_t
ngx_http_llm_batch_finish_tokens(ngx_http_llm_batch_finish_t *fin,
    ngx_pool_t *pool, ngx_str_t *tokens)
{
    tokens->data = ngx_pnalloc(pool, 4 * (NGX_INT64_LEN + 1));
    if (tokens->data == NULL) {
        return NGX_ERROR;
    }

    tokens->len = ngx_sprintf(tokens->data, "%uL %uL %uL %uL", fin->tokens[0],
                              fin->tokens[1], fin->tokens[2], fin->tokens[3])
                  - tokens->data;

    return NGX_OK;
}
