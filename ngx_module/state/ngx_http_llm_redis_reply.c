
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
    ngx_string("masterdown"),
    ngx_string("clusterdown"),
    ngx_string("tryagain"),
    ngx_string("moved"),
    ngx_string("cluster"),
    ngx_string("other")
};


/* what an error is, and what it does: here and nowhere else */

static struct {
    ngx_str_t                       prefix;
    ngx_http_llm_redis_error_e      error;
    ngx_http_llm_redis_action_e     action;
} ngx_http_llm_redis_rules[] = {

    { ngx_string("NOSCRIPT "), NGX_HTTP_LLM_REDIS_ERR_NOSCRIPT,
      NGX_HTTP_LLM_REDIS_RESEND },

    { ngx_string("LOADING "), NGX_HTTP_LLM_REDIS_ERR_LOADING,
      NGX_HTTP_LLM_REDIS_PAUSE },

    { ngx_string("READONLY "), NGX_HTTP_LLM_REDIS_ERR_READONLY,
      NGX_HTTP_LLM_REDIS_LEAVE },

    { ngx_string("OOM "), NGX_HTTP_LLM_REDIS_ERR_OOM,
      NGX_HTTP_LLM_REDIS_TELL },

    { ngx_string("MISCONF "), NGX_HTTP_LLM_REDIS_ERR_MISCONF,
      NGX_HTTP_LLM_REDIS_TELL },

    { ngx_string("BUSY "), NGX_HTTP_LLM_REDIS_ERR_BUSY,
      NGX_HTTP_LLM_REDIS_PAUSE },

    { ngx_string("NOAUTH "), NGX_HTTP_LLM_REDIS_ERR_NOAUTH,
      NGX_HTTP_LLM_REDIS_DENY },

    { ngx_string("WRONGPASS "), NGX_HTTP_LLM_REDIS_ERR_NOAUTH,
      NGX_HTTP_LLM_REDIS_DENY },

    { ngx_string("NOPERM "), NGX_HTTP_LLM_REDIS_ERR_NOAUTH,
      NGX_HTTP_LLM_REDIS_DENY },

    { ngx_string("MASTERDOWN "), NGX_HTTP_LLM_REDIS_ERR_MASTERDOWN,
      NGX_HTTP_LLM_REDIS_PAUSE },

    { ngx_string("CLUSTERDOWN "), NGX_HTTP_LLM_REDIS_ERR_CLUSTERDOWN,
      NGX_HTTP_LLM_REDIS_PAUSE },

    { ngx_string("TRYAGAIN "), NGX_HTTP_LLM_REDIS_ERR_TRYAGAIN,
      NGX_HTTP_LLM_REDIS_TELL },

    { ngx_string("MOVED "), NGX_HTTP_LLM_REDIS_ERR_MOVED,
      NGX_HTTP_LLM_REDIS_FOLLOW },

    { ngx_string("ASK "), NGX_HTTP_LLM_REDIS_ERR_CLUSTER,
      NGX_HTTP_LLM_REDIS_TELL },

    { ngx_string("CROSSSLOT "), NGX_HTTP_LLM_REDIS_ERR_CLUSTER,
      NGX_HTTP_LLM_REDIS_TELL },

    /* what waited in a master that is one no more */

    { ngx_string("UNBLOCKED "), NGX_HTTP_LLM_REDIS_ERR_READONLY,
      NGX_HTTP_LLM_REDIS_LEAVE },

    /* before 6.0 a wrong password had no class of its own */

    { ngx_string("ERR invalid password"), NGX_HTTP_LLM_REDIS_ERR_NOAUTH,
      NGX_HTTP_LLM_REDIS_DENY },

    { ngx_null_string, NGX_HTTP_LLM_REDIS_ERR_OTHER,
      NGX_HTTP_LLM_REDIS_TELL }
};


static ngx_uint_t ngx_http_llm_redis_rule(ngx_str_t *error);


void
ngx_http_llm_redis_view(ngx_http_llm_redis_reply_t *reply, redisReply *r)
{
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

    if (reply->type == NGX_HTTP_LLM_REDIS_ERROR) {
        reply->error =
            ngx_http_llm_redis_rules[ngx_http_llm_redis_rule(&reply->str)]
            .error;
    }
}


static ngx_uint_t
ngx_http_llm_redis_rule(ngx_str_t *error)
{
    ngx_uint_t  i;
    ngx_str_t  *prefix;

    for (i = 0; ngx_http_llm_redis_rules[i].prefix.len; i++) {
        prefix = &ngx_http_llm_redis_rules[i].prefix;

        if (error->len >= prefix->len
            && ngx_memcmp(error->data, prefix->data, prefix->len) == 0)
        {
            break;
        }
    }

    return i;
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


ngx_http_llm_redis_action_e
ngx_http_llm_redis_error(ngx_http_llm_redis_t *rd,
    ngx_http_llm_redis_reply_t *reply)
{
    rd->stat.errors[reply->error]++;

    return ngx_http_llm_redis_rules[ngx_http_llm_redis_rule(&reply->str)]
           .action;
}


void
ngx_http_llm_redis_complain(ngx_http_llm_redis_t *rd,
    ngx_http_llm_redis_reply_t *reply)
{
    ngx_uint_t  mask;

    mask = (ngx_uint_t) 1 << reply->error;

    if ((rd->logged & mask) || !ngx_http_llm_redis_may_log(rd, 6)) {
        return;
    }

    /* once of a kind while the server is up: the counters have the rest */
    rd->logged |= mask;

    ngx_log_error(NGX_LOG_ERR, rd->log, 0,
                  "redis \"%V\" answered with an error: %*s",
                  &rd->url.name, (size_t) ngx_min(reply->str.len, 160),
                  reply->str.data);
}
