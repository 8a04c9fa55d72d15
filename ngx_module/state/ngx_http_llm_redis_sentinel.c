
/*
 * Copyright (C) the ngx-llm authors
 *
 * Sentinel: who is the master.  It is asked whenever the master is not known
 * or has been lost; a connection to one that is not the master is not used.
 */


#include "state/ngx_http_llm_redis_connection.h"


static void ngx_http_llm_redis_sentinel_auth(redisAsyncContext *ac,
    void *reply, void *data);
static void ngx_http_llm_redis_sentinel_answer(redisAsyncContext *ac,
    void *reply, void *data);


void
ngx_http_llm_redis_sentinel(ngx_http_llm_redis_t *rd)
{
    ngx_uint_t  n;
    ngx_str_t   argv[3];

    if (rd->url.sentinel_password.len != 0) {
        ngx_str_set(&argv[0], "AUTH");
        n = 1;

        if (rd->url.sentinel_user.len != 0) {
            argv[n++] = rd->url.sentinel_user;
        }

        argv[n++] = rd->url.sentinel_password;

        ngx_http_llm_redis_say(rd, ngx_http_llm_redis_sentinel_auth, "AUTH",
                               n, argv);
    }

    ngx_str_set(&argv[0], "SENTINEL");
    ngx_str_set(&argv[1], "GET-MASTER-ADDR-BY-NAME");
    argv[2] = rd->url.master;

    ngx_http_llm_redis_say(rd, ngx_http_llm_redis_sentinel_answer, "SENTINEL",
                           3, argv);
}


static void
ngx_http_llm_redis_sentinel_auth(redisAsyncContext *ac, void *reply,
    void *data)
{
    ngx_http_llm_redis_t        *rd;
    ngx_http_llm_redis_event_t  *event;
    ngx_http_llm_redis_reply_t   view;

    event = ac->data;
    rd = event->data;

    if (reply == NULL || rd->state != NGX_HTTP_LLM_REDIS_OPENING) {
        return;
    }

    ngx_http_llm_redis_view(&view, reply);

    if (view.type == NGX_HTTP_LLM_REDIS_ERROR) {
        rd->stat.errors[view.error]++;
        ngx_http_llm_redis_down(rd, NGX_HTTP_LLM_REDIS_DOWN, "Sentinel: AUTH",
                                ((redisReply *) reply)->str);
    }
}


static void
ngx_http_llm_redis_sentinel_answer(redisAsyncContext *ac, void *reply,
    void *data)
{
    ngx_http_llm_redis_t        *rd;
    ngx_http_llm_redis_event_t  *event;
    ngx_http_llm_redis_reply_t   view, name, port;

    event = ac->data;
    rd = event->data;

    if (reply == NULL || rd->state != NGX_HTTP_LLM_REDIS_OPENING) {
        return;
    }

    ngx_http_llm_redis_view(&view, reply);

    if (view.type == NGX_HTTP_LLM_REDIS_ERROR) {
        rd->stat.errors[view.error]++;
        ngx_http_llm_redis_down(rd, NGX_HTTP_LLM_REDIS_DOWN, "Sentinel",
                                ((redisReply *) reply)->str);
        return;
    }

    if (ngx_http_llm_redis_element(&view, 0, &name) != NGX_OK
        || ngx_http_llm_redis_element(&view, 1, &port) != NGX_OK
        || name.type != NGX_HTTP_LLM_REDIS_STRING
        || port.type != NGX_HTTP_LLM_REDIS_STRING)
    {
        ngx_http_llm_redis_down(rd, NGX_HTTP_LLM_REDIS_DOWN, "Sentinel",
                                "knows no master of this name");
        return;
    }

    ngx_log_debug2(NGX_LOG_DEBUG_EVENT, rd->log, 0,
                   "llm redis master: %V:%V", &name.str, &port.str);

    if (ngx_http_llm_redis_names_node(rd, &name.str, &port.str) == NGX_ERROR) {
        ngx_http_llm_redis_down(rd, NGX_HTTP_LLM_REDIS_DOWN, "Sentinel",
                                "named a server without an address");
        return;
    }

    ngx_http_llm_redis_again(rd);
}


ngx_uint_t
ngx_http_llm_redis_is_master(ngx_http_llm_redis_reply_t *role)
{
    ngx_http_llm_redis_reply_t  name;

    return ngx_http_llm_redis_element(role, 0, &name) == NGX_OK
           && name.type == NGX_HTTP_LLM_REDIS_STRING
           && name.str.len == 6
           && ngx_strncmp(name.str.data, "master", 6) == 0;
}
