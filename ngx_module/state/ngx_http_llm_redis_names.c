
/*
 * Copyright (C) the ngx-llm authors
 *
 * Names of servers, by nginx's resolver: nothing here asks the C library,
 * which would block the worker.
 */


#include "state/ngx_http_llm_redis_connection.h"

#include <ngx_http.h>


#define NGX_HTTP_LLM_REDIS_REFRESH      30000
#define NGX_HTTP_LLM_REDIS_REFRESH_MIN  1000
#define NGX_HTTP_LLM_REDIS_RESOLVE      5000

/* said once, like a class of errors */
#define NGX_HTTP_LLM_REDIS_NAMELESS                                           \
    ((ngx_uint_t) 1 << NGX_HTTP_LLM_REDIS_ERRORS)


static void ngx_http_llm_redis_names_timer(ngx_event_t *ev);
static void ngx_http_llm_redis_names_host(ngx_http_llm_redis_host_t *host,
    ngx_int_t rc);
static void ngx_http_llm_redis_names_found(ngx_http_llm_redis_host_t *host,
    ngx_int_t rc);


void
ngx_http_llm_redis_names_init(ngx_http_llm_redis_t *rd)
{
    ngx_uint_t                  i, names;
    ngx_http_core_loc_conf_t   *clcf;
    ngx_http_llm_redis_host_t  *host;

    clcf = rd->http;

    /* without a "resolver" there is one that has no servers */

    if (clcf != NULL && clcf->resolver != NULL
        && clcf->resolver->connections.nelts != 0)
    {
        rd->resolver = clcf->resolver;
    }

    rd->resolver_timeout = NGX_HTTP_LLM_REDIS_RESOLVE;

    if (clcf != NULL && clcf->resolver_timeout != NGX_CONF_UNSET_MSEC) {
        rd->resolver_timeout = clcf->resolver_timeout;
    }

    rd->node.handler = ngx_http_llm_redis_names_found;
    rd->node.data = rd;

    names = 0;

    for (i = 0; i < rd->url.nhosts; i++) {
        host = &rd->url.hosts[i];

        host->handler = ngx_http_llm_redis_names_host;
        host->data = rd;
        names += host->by_name;
    }

    rd->refresh.handler = ngx_http_llm_redis_names_timer;
    rd->refresh.log = rd->log;
    rd->refresh.data = rd;
    rd->refresh.cancelable = 1;

    if (rd->resolver == NULL || names == 0) {
        return;
    }

    /* not all workers at a time */
    ngx_add_timer(&rd->refresh, NGX_HTTP_LLM_REDIS_REFRESH / 2
                  + (ngx_msec_t) ngx_random()
                    % (NGX_HTTP_LLM_REDIS_REFRESH / 2));
}


void
ngx_http_llm_redis_names_exit(ngx_http_llm_redis_t *rd)
{
    ngx_uint_t  i;

    for (i = 0; i < rd->url.nhosts; i++) {
        ngx_http_llm_redis_host_cancel(&rd->url.hosts[i]);
    }

    ngx_http_llm_redis_host_cancel(&rd->node);

    if (rd->refresh.timer_set) {
        ngx_del_timer(&rd->refresh);
    }
}


static void
ngx_http_llm_redis_names_timer(ngx_event_t *ev)
{
    ngx_add_timer(ev, NGX_HTTP_LLM_REDIS_REFRESH);

    ngx_http_llm_redis_names_refresh(ev->data);
}


void
ngx_http_llm_redis_names_refresh(ngx_http_llm_redis_t *rd)
{
    ngx_uint_t  i;

    if (rd->resolver == NULL
        || (rd->refreshed != 0
            && ngx_current_msec - rd->refreshed
               < NGX_HTTP_LLM_REDIS_REFRESH_MIN))
    {
        return;
    }

    rd->refreshed = ngx_current_msec;

    for (i = 0; i < rd->url.nhosts; i++) {

        if (rd->url.hosts[i].by_name) {
            (void) ngx_http_llm_redis_host_resolve(&rd->url.hosts[i],
                                                   rd->resolver,
                                                   rd->resolver_timeout);
        }
    }
}


static void
ngx_http_llm_redis_names_host(ngx_http_llm_redis_host_t *host, ngx_int_t rc)
{
    ngx_http_llm_redis_t  *rd;

    rd = host->data;

    ngx_log_debug2(NGX_LOG_DEBUG_EVENT, rd->log, 0,
                   "llm redis resolved \"%V\": %i", &host->name, rc);

    if (rc != NGX_OK) {
        return;
    }

    if (ngx_http_llm_redis_may_log(rd, 6)) {
        ngx_log_error(NGX_LOG_NOTICE, rd->log, 0,
                      "redis \"%V\": \"%V\" has other addresses",
                      &rd->url.name, &host->name);
    }

    rd->addr = 0;
    rd->tried = 0;

    if (rd->state == NGX_HTTP_LLM_REDIS_UP
        && rd->target == NGX_HTTP_LLM_REDIS_TO_HOST
        && !ngx_http_llm_redis_host_has(host, &rd->current))
    {
        ngx_http_llm_redis_leave(rd);
    }
}


ngx_int_t
ngx_http_llm_redis_names_node(ngx_http_llm_redis_t *rd, ngx_str_t *name,
    ngx_str_t *port)
{
    ngx_int_t   n;
    ngx_str_t   text;

    n = ngx_atoi(port->data, port->len);

    if (n < 1 || n > 65535 || name->len == 0 || name->len > sizeof(rd->text)) {
        goto failed;
    }

    ngx_http_llm_redis_host_cancel(&rd->node);

    ngx_memcpy(rd->text, name->data, name->len);

    text.data = rd->text;
    text.len = name->len;

    rd->named = 0;

    if (ngx_http_llm_redis_host_set(&rd->node, &text, n) == NGX_OK) {
        rd->named = 1;
        return NGX_OK;
    }

    switch (ngx_http_llm_redis_host_resolve(&rd->node, rd->resolver,
                                            rd->resolver_timeout))
    {

    case NGX_OK:

        if (rd->named) {
            return NGX_OK;
        }

        return rd->node.ctx != NULL ? NGX_AGAIN : NGX_ERROR;

    case NGX_DECLINED:

        if (!(rd->logged & NGX_HTTP_LLM_REDIS_NAMELESS)
            && ngx_http_llm_redis_may_log(rd, 6))
        {
            rd->logged |= NGX_HTTP_LLM_REDIS_NAMELESS;

            ngx_log_error(NGX_LOG_ERR, rd->log, 0,
                          "redis \"%V\" named the server \"%V\", which needs "
                          "a \"resolver\" in http{}", &rd->url.name, &text);
        }

        return NGX_ERROR;

    default: /* NGX_ERROR */
        return NGX_ERROR;
    }

failed:

    if (ngx_http_llm_redis_may_log(rd, 6)) {
        ngx_log_error(NGX_LOG_ERR, rd->log, 0,
                      "redis \"%V\" named an impossible server",
                      &rd->url.name);
    }

    return NGX_ERROR;
}


static void
ngx_http_llm_redis_names_found(ngx_http_llm_redis_host_t *host, ngx_int_t rc)
{
    ngx_http_llm_redis_t  *rd;

    rd = host->data;

    rd->named = (host->naddrs != 0);

    if (!rd->named && ngx_http_llm_redis_may_log(rd, 6)) {
        ngx_log_error(NGX_LOG_ERR, rd->log, 0,
                      "redis \"%V\" named the server \"%V\", which could not "
                      "be resolved", &rd->url.name, &host->name);
    }

    /* who waits for a name has no timer; else this was found at once */

    if (rd->state == NGX_HTTP_LLM_REDIS_CLOSED && !rd->connect.timer_set) {

        if (rd->named) {
            ngx_add_timer(&rd->connect, 1);
            return;
        }

        ngx_http_llm_redis_down(rd, NGX_HTTP_LLM_REDIS_DOWN, NULL,
                                "a server's name could not be resolved");
    }
}
