
/*
 * Copyright (C) the ngx-llm authors
 */


#include "state/ngx_http_llm_redis_connection.h"


ngx_str_t  ngx_http_llm_redis_errors[NGX_HTTP_LLM_REDIS_ERRORS] = {
    ngx_string("noscript"),
    ngx_string("loading"),
    ngx_string("readonly"),
    ngx_string("oom"),
    ngx_string("misconf"),
    ngx_string("busy"),
    ngx_string("noauth"),
    ngx_string("other")
};


static struct {
    ngx_str_t                       prefix;
    ngx_http_llm_redis_error_e      error;
} ngx_http_llm_redis_prefixes[] = {
    { ngx_string("NOSCRIPT "), NGX_HTTP_LLM_REDIS_ERR_NOSCRIPT },
    { ngx_string("LOADING "), NGX_HTTP_LLM_REDIS_ERR_LOADING },
    { ngx_string("READONLY "), NGX_HTTP_LLM_REDIS_ERR_READONLY },
    { ngx_string("OOM "), NGX_HTTP_LLM_REDIS_ERR_OOM },
    { ngx_string("MISCONF "), NGX_HTTP_LLM_REDIS_ERR_MISCONF },
    { ngx_string("BUSY "), NGX_HTTP_LLM_REDIS_ERR_BUSY },
    { ngx_string("NOAUTH "), NGX_HTTP_LLM_REDIS_ERR_NOAUTH },
    { ngx_string("WRONGPASS "), NGX_HTTP_LLM_REDIS_ERR_NOAUTH },
    { ngx_string("NOPERM "), NGX_HTTP_LLM_REDIS_ERR_NOAUTH },
    { ngx_null_string, NGX_HTTP_LLM_REDIS_ERR_OTHER }
};


void
ngx_http_llm_redis_view(ngx_http_llm_redis_reply_t *reply, redisReply *r)
{
    ngx_uint_t  i;
    ngx_str_t  *prefix;

    ngx_memzero(reply, sizeof(ngx_http_llm_redis_reply_t));

    switch (r->type) {

    case REDIS_REPLY_INTEGER:
        reply->type = NGX_HTTP_LLM_REDIS_INTEGER;
        reply->integer = r->integer;
        return;

    case REDIS_REPLY_ARRAY:
        reply->type = NGX_HTTP_LLM_REDIS_ARRAY;
        reply->nelts = r->elements;
        reply->elts = r->element;
        return;

    case REDIS_REPLY_STRING:
        reply->type = NGX_HTTP_LLM_REDIS_STRING;
        break;

    case REDIS_REPLY_STATUS:
        reply->type = NGX_HTTP_LLM_REDIS_STATUS;
        break;

    case REDIS_REPLY_ERROR:
        reply->type = NGX_HTTP_LLM_REDIS_ERROR;
        break;

    default: /* REDIS_REPLY_NIL */
        reply->type = NGX_HTTP_LLM_REDIS_NIL;
        return;
    }

    reply->str.data = (u_char *) r->str;
    reply->str.len = r->len;

    if (reply->type != NGX_HTTP_LLM_REDIS_ERROR) {
        return;
    }

    reply->error = NGX_HTTP_LLM_REDIS_ERR_OTHER;

    for (i = 0; ngx_http_llm_redis_prefixes[i].prefix.len; i++) {
        prefix = &ngx_http_llm_redis_prefixes[i].prefix;

        if (reply->str.len >= prefix->len
            && ngx_memcmp(reply->str.data, prefix->data, prefix->len) == 0)
        {
            reply->error = ngx_http_llm_redis_prefixes[i].error;
            return;
        }
    }
}


ngx_int_t
ngx_http_llm_redis_element(ngx_http_llm_redis_reply_t *reply, ngx_uint_t i,
    ngx_http_llm_redis_reply_t *element)
{
    redisReply  **elts;

    if (i >= reply->nelts) {
        return NGX_DECLINED;
    }

    elts = reply->elts;
    ngx_http_llm_redis_view(element, elts[i]);

    return NGX_OK;
}


void
ngx_http_llm_redis_error(ngx_http_llm_redis_t *rd,
    ngx_http_llm_redis_reply_t *reply)
{
    ngx_uint_t  mask;

    rd->stat.errors[reply->error]++;

    mask = (ngx_uint_t) 1 << reply->error;

    if (reply->error == NGX_HTTP_LLM_REDIS_ERR_NOSCRIPT
        || (rd->logged & mask))
    {
        return;
    }

    /* once of a kind while the server is up: the counters have the rest */
    rd->logged |= mask;

    ngx_log_error(NGX_LOG_ERR, rd->log, 0,
                  "redis \"%V\" answered with an error: %*s",
                  &rd->url.name, ngx_min(reply->str.len, 160),
                  reply->str.data);
}
