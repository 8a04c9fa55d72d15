
/*
 * Copyright (C) the ngx-llm authors
 *
 * GET /api/tasks?wait=SECONDS: looks from time to time, at states alone and
 * only at those that were not over yet; what is then told is read anew.
 */


#include "tasks/ngx_http_llm_tasks_api_private.h"
#include "http/ngx_http_llm_reply.h"


static ngx_int_t ngx_http_llm_tasks_look(ngx_http_llm_tasks_api_t *api);
static ngx_int_t ngx_http_llm_tasks_look_reply(ngx_http_llm_tasks_api_t *api,
    ngx_http_llm_redis_reply_t *reply);
static ngx_int_t ngx_http_llm_tasks_waited(ngx_http_llm_tasks_api_t *api);


static const char  *ngx_http_llm_tasks_state_field[] = { "s", NULL };


ngx_int_t
ngx_http_llm_tasks_wait(ngx_http_llm_tasks_api_t *api, ngx_str_t *value)
{
    ngx_int_t   s;
    ngx_msec_t  left, ms;

    s = ngx_atoi(value->data, value->len);

    if (s == NGX_ERROR || s > NGX_HTTP_LLM_TASKS_WAIT_MAX) {
        return ngx_http_llm_tasks_refuse(api, NGX_HTTP_BAD_REQUEST,
                                         "invalid_value", "wait",
                                         "'wait' must be a whole number of "
                                         "seconds from 0 to %d.",
                                         NGX_HTTP_LLM_TASKS_WAIT_MAX);
    }

    if (s == 0) {
        return ngx_http_llm_tasks_states(api);
    }

    left = ngx_http_llm_tasks_left(api);
    left = left > 2 * NGX_HTTP_LLM_TASKS_MARGIN
           ? left - NGX_HTTP_LLM_TASKS_MARGIN : left / 2;
    ms = ngx_min((ngx_msec_t) s * 1000, left);

    api->until = ngx_current_msec + ms;
    api->pause = NGX_HTTP_LLM_TASKS_PAUSE;
    api->step = ngx_http_llm_tasks_look;

    return ngx_http_llm_tasks_look(api);
}


static ngx_int_t
ngx_http_llm_tasks_look(ngx_http_llm_tasks_api_t *api)
{
    ngx_int_t       rc;
    ngx_uint_t      i, open;
    ngx_msec_t      ms;
    ngx_msec_int_t  left;

    if (api->rc == NGX_ABORT) {
        return ngx_http_llm_tasks_unavailable(api->ctx);
    }

    if (api->ctx->revoked) {
        /* the words are those of a key that is cut */
        return ngx_http_llm_error(api->ctx, NGX_HTTP_FORBIDDEN, NULL, NULL,
                                  "");
    }

    api->asked = 0;

    while (api->at < api->n && api->asked < NGX_HTTP_LLM_QUEUE_JOBS) {

        if (!api->item[api->at].over) {
            api->ask[api->asked++] = api->at;
        }

        api->at++;
    }

    if (api->asked) {
        rc = ngx_http_llm_tasks_ask(api, ngx_http_llm_tasks_state_field,
                                    ngx_http_llm_tasks_look_reply);

        return rc == NGX_ABORT ? ngx_http_llm_tasks_unavailable(api->ctx)
                               : rc;
    }

    api->at = 0;
    open = 0;

    for (i = 0; i < api->n; i++) {
        open += !api->item[i].over;
    }

    left = (ngx_msec_int_t) (api->until - ngx_current_msec);

    if (open == 0 || left <= 0 || ngx_http_llm_tasks_leaving()) {
        return ngx_http_llm_tasks_waited(api);
    }

    ms = ngx_min(api->pause, (ngx_msec_t) left);
    api->pause = ngx_min(2 * api->pause, NGX_HTTP_LLM_TASKS_PAUSE_MAX);

    return ngx_http_llm_tasks_sleep(api, ms);
}


static ngx_int_t
ngx_http_llm_tasks_look_reply(ngx_http_llm_tasks_api_t *api,
    ngx_http_llm_redis_reply_t *reply)
{
    ngx_uint_t                   i;
    llm_tasks_state_e            state;
    ngx_http_llm_redis_reply_t   values, el;

    for (i = 0; i < api->asked; i++) {
        state = LLM_TASKS_NOT_FOUND;

        if (ngx_http_llm_redis_element(reply, i, &values) == NGX_OK
            && values.type == NGX_HTTP_LLM_REDIS_ARRAY
            && ngx_http_llm_redis_element(&values, 0, &el) == NGX_OK
            && el.type == NGX_HTTP_LLM_REDIS_STRING)
        {
            state = ngx_http_llm_tasks_state(&el.str);
        }

        api->item[api->ask[i]].over = ngx_http_llm_tasks_terminal(state);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_tasks_waited(ngx_http_llm_tasks_api_t *api)
{
    ngx_log_debug1(NGX_LOG_DEBUG_HTTP, api->slice.log, 0,
                   "llm tasks: waited for %ui", api->n);

    return ngx_http_llm_tasks_states(api);
}
