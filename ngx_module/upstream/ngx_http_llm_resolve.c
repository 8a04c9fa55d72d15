
/*
 * Copyright (C) the ngx-llm authors
 *
 * The directive, and the lookups.  The upstream block learns of an
 * llm_resolve as of a server without addresses, as it wants one at least.
 * The upstreams of a cycle are found by their cleanups in its pool.
 */


#include "upstream/ngx_http_llm_resolve_private.h"
#include "http/ngx_http_llm_arg.h"
#include "http/ngx_http_llm_compat.h"


#define NGX_HTTP_LLM_RESOLVE_WAIT  10            /* s, after failures */
#define NGX_HTTP_LLM_RESOLVE_LONG  86400         /* s */


static ngx_http_llm_resolve_t *ngx_http_llm_resolve_upstream(ngx_conf_t *cf,
    ngx_http_upstream_srv_conf_t *us);
static char *ngx_http_llm_resolve_host(ngx_conf_t *cf,
    ngx_http_llm_resolve_name_t *name);
static ngx_int_t ngx_http_llm_resolve_init_upstream(ngx_conf_t *cf,
    ngx_http_upstream_srv_conf_t *us);
static ngx_int_t ngx_http_llm_resolve_resolver(ngx_conf_t *cf,
    ngx_http_upstream_srv_conf_t *us);
static ngx_int_t ngx_http_llm_resolve_tables(ngx_conf_t *cf,
    ngx_http_llm_resolve_t *rs);
static void ngx_http_llm_resolve_cleanup(void *data);
static void ngx_http_llm_resolve_start(ngx_http_llm_resolve_name_t *name);
static void ngx_http_llm_resolve_timer(ngx_event_t *ev);
static void ngx_http_llm_resolve_handler(ngx_resolver_ctx_t *ctx);
static ngx_msec_t ngx_http_llm_resolve_wait(ngx_http_llm_resolve_name_t *name,
    time_t valid);
static void ngx_http_llm_resolve_failed(ngx_http_llm_resolve_name_t *name,
    const char *why);


static ngx_http_llm_arg_t  ngx_http_llm_resolve_args[] = {

    { ngx_string("valid="), NGX_HTTP_LLM_ARG_SEC,
      offsetof(ngx_http_llm_resolve_name_t, valid), 1,
      NGX_HTTP_LLM_RESOLVE_LONG, "valid=TIME, from 1s to 1d", NULL },

    { ngx_string("ipv6="), NGX_HTTP_LLM_ARG_CHOICE,
      offsetof(ngx_http_llm_resolve_name_t, ipv6), 0, 0,
      "ipv6=on|off", ngx_http_llm_on_off },

    { ngx_string("max="), NGX_HTTP_LLM_ARG_NUMBER,
      offsetof(ngx_http_llm_resolve_name_t, max), 1, 256,
      "max=N, from 1 to 256", NULL },

    ngx_http_llm_null_arg
};


char *
ngx_http_llm_resolve_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char                          *rv;
    ngx_str_t                     *value;
    ngx_http_llm_resolve_t        *rs;
    ngx_http_upstream_server_t    *server;
    ngx_http_llm_resolve_name_t   *name, **namep;
    ngx_http_upstream_srv_conf_t  *us;

    value = cf->args->elts;
    us = ngx_http_conf_get_module_srv_conf(cf, ngx_http_upstream_module);

    rs = ngx_http_llm_resolve_upstream(cf, us);
    if (rs == NULL) {
        return NGX_CONF_ERROR;
    }

    name = ngx_pcalloc(cf->pool, sizeof(ngx_http_llm_resolve_name_t));
    namep = ngx_array_push(&rs->names);
    server = ngx_array_push(us->servers);

    if (name == NULL || namep == NULL || server == NULL) {
        return NGX_CONF_ERROR;
    }

    *namep = name;

    ngx_memzero(server, sizeof(ngx_http_upstream_server_t));
    server->name = value[1];
    server->weight = 1;

    name->resolve = rs;
    name->host = value[1];
    name->ipv6 = 1;
    name->max = 16;

    rv = ngx_http_llm_args(cf, 2, ngx_http_llm_resolve_args, name);
    if (rv != NGX_CONF_OK) {
        return rv;
    }

    return ngx_http_llm_resolve_host(cf, name);
}


static ngx_http_llm_resolve_t *
ngx_http_llm_resolve_upstream(ngx_conf_t *cf, ngx_http_upstream_srv_conf_t *us)
{
    ngx_http_llm_resolve_t  *rs;

    if (us->peer.init_upstream == ngx_http_llm_resolve_init_upstream) {
        return us->peer.data;
    }

    if (us->peer.init_upstream != NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"llm_resolve\" must stand above \"keepalive\", "
                           "and beside no other balancer");
        return NULL;
    }

    rs = ngx_pcalloc(cf->pool, sizeof(ngx_http_llm_resolve_t));

    if (rs == NULL
        || ngx_array_init(&rs->names, cf->pool, 2,
                          sizeof(ngx_http_llm_resolve_name_t *))
           != NGX_OK)
    {
        return NULL;
    }

    rs->upstream = &us->host;

    us->peer.init_upstream = ngx_http_llm_resolve_init_upstream;
    us->peer.data = rs;
    us->flags = NGX_HTTP_UPSTREAM_CREATE;

    return rs;
}


static char *
ngx_http_llm_resolve_host(ngx_conf_t *cf, ngx_http_llm_resolve_name_t *name)
{
    ngx_url_t   u;
    ngx_uint_t  i;

    ngx_memzero(&u, sizeof(ngx_url_t));

    u.url = name->host;
    u.default_port = 80;
    u.no_resolve = 1;

    if (ngx_parse_url(cf->pool, &u) != NGX_OK || u.family == AF_UNIX
        || u.wildcard)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid host \"%V\"%s%s: expected HOST[:PORT]",
                           &name->host, u.err ? ", " : "",
                           u.err ? u.err : "");
        return NGX_CONF_ERROR;
    }

    name->literal = (u.naddrs != 0);

    /* without an answer nginx starts all the same, and goes on asking */

    if (!name->literal && ngx_inet_resolve_host(cf->pool, &u) != NGX_OK) {

        if (u.err == NULL) {
            return NGX_CONF_ERROR;
        }

        ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                           "%s: \"%V\" has no address until it is found",
                           u.err, &u.host);
    }

    name->host = u.host;
    name->port = u.port;
    name->nstart = u.naddrs;

    name->start = ngx_pcalloc(cf->pool,
                              (u.naddrs + 1) * sizeof(ngx_resolver_addr_t));
    if (name->start == NULL) {
        return NGX_CONF_ERROR;
    }

    for (i = 0; i < u.naddrs; i++) {
        name->start[i].sockaddr = u.addrs[i].sockaddr;
        name->start[i].socklen = u.addrs[i].socklen;
    }

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_llm_resolve_init_upstream(ngx_conf_t *cf,
    ngx_http_upstream_srv_conf_t *us)
{
    const char              *why;
    ngx_pool_cleanup_t      *cln;
    ngx_http_llm_resolve_t  *rs;

    rs = us->peer.data;

    why = us->servers->nelts != rs->names.nelts ? "server" : NULL;

#if (NGX_HTTP_UPSTREAM_ZONE)
    why = us->shm_zone != NULL ? "zone" : why;
#endif

    if (why != NULL) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "\"%s\" cannot stand beside \"llm_resolve\" in upstream "
                      "\"%V\" in %s:%ui", why, &us->host, us->file_name,
                      us->line);
        return NGX_ERROR;
    }

    if (ngx_http_llm_resolve_resolver(cf, us) != NGX_OK
        || ngx_http_llm_resolve_tables(cf, rs) != NGX_OK)
    {
        return NGX_ERROR;
    }

    cln = ngx_pool_cleanup_add(cf->pool, 0);
    if (cln == NULL) {
        return NGX_ERROR;
    }

    cln->handler = ngx_http_llm_resolve_cleanup;
    cln->data = rs;

    us->peer.init = ngx_http_llm_resolve_peer_init;

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_resolve_resolver(ngx_conf_t *cf, ngx_http_upstream_srv_conf_t *us)
{
    ngx_uint_t                     i;
    ngx_http_llm_resolve_t        *rs;
    ngx_http_core_loc_conf_t      *clcf;
    ngx_http_llm_resolve_name_t  **name;

    rs = us->peer.data;
    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    rs->resolver = ngx_http_llm_upstream_resolver(us);
    rs->timeout = ngx_http_llm_upstream_resolver_timeout(us);

    if (rs->resolver == NULL) {
        rs->resolver = clcf->resolver;
    }

    if (rs->timeout == NGX_CONF_UNSET_MSEC) {
        rs->timeout = clcf->resolver_timeout;
    }

    if (rs->timeout == NGX_CONF_UNSET_MSEC) {
        rs->timeout = 30000;
    }

    if (rs->resolver != NULL && rs->resolver->connections.nelts != 0) {
        return NGX_OK;
    }

    name = rs->names.elts;

    for (i = 0; i < rs->names.nelts; i++) {
        if (!name[i]->literal) {
            ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                          "\"llm_resolve %V\" in upstream \"%V\" in %s:%ui "
                          "needs a \"resolver\" in the http block",
                          &name[i]->host, &us->host, us->file_name, us->line);
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/* twice as many places as addresses: those that are gone may be in use */

static ngx_int_t
ngx_http_llm_resolve_tables(ngx_conf_t *cf, ngx_http_llm_resolve_t *rs)
{
    ngx_uint_t                     i, n;
    ngx_http_llm_resolve_name_t  **name;

    n = 0;
    name = rs->names.elts;

    for (i = 0; i < rs->names.nelts; i++) {
        name[i]->addrs = ngx_pcalloc(cf->pool,
                       2 * name[i]->max * sizeof(ngx_http_llm_resolve_addr_t));
        if (name[i]->addrs == NULL) {
            return NGX_ERROR;
        }

        n += name[i]->max;
    }

    rs->live = ngx_pcalloc(cf->pool,
                           n * sizeof(ngx_http_llm_resolve_addr_t *));

    return rs->live == NULL ? NGX_ERROR : NGX_OK;
}


static void
ngx_http_llm_resolve_cleanup(void *data)
{
    ngx_http_llm_resolve_t *rs = data;

    ngx_uint_t                     i, n;
    ngx_http_llm_resolve_name_t  **name;

    name = rs->names.elts;

    for (i = 0; i < rs->names.nelts; i++) {

        if (name[i]->ctx != NULL) {
            ngx_resolve_name_done(name[i]->ctx);
            name[i]->ctx = NULL;
        }

        if (name[i]->event.timer_set) {
            ngx_del_timer(&name[i]->event);
        }

        for (n = 0; n < 2 * name[i]->max; n++) {
            ngx_http_llm_resolve_forget(&name[i]->addrs[n]);
        }
    }
}


void
ngx_http_llm_resolve_init_process(ngx_cycle_t *cycle)
{
    ngx_uint_t                     i;
    ngx_pool_cleanup_t            *cln;
    ngx_http_llm_resolve_t        *rs;
    ngx_http_llm_resolve_name_t  **name;

    for (cln = cycle->pool->cleanup; cln != NULL; cln = cln->next) {

        if (cln->handler != ngx_http_llm_resolve_cleanup) {
            continue;
        }

        rs = cln->data;
        rs->next = ngx_random();
        name = rs->names.elts;

        for (i = 0; i < rs->names.nelts; i++) {
            ngx_http_llm_resolve_start(name[i]);
        }
    }
}


/*
 * What the master found may be old, as a worker can be started at any time:
 * the resolver is asked at once.
 */

static void
ngx_http_llm_resolve_start(ngx_http_llm_resolve_name_t *name)
{
    (void) ngx_http_llm_resolve_adopt(name, name->start, name->nstart);

    if (name->literal) {
        return;
    }

    name->event.handler = ngx_http_llm_resolve_timer;
    name->event.data = name;
    name->event.log = ngx_cycle->log;

    /* a worker that quits does not wait for names */

    name->event.cancelable = 1;

    ngx_add_timer(&name->event, 1);
}


static void
ngx_http_llm_resolve_timer(ngx_event_t *ev)
{
    ngx_resolver_ctx_t           *ctx;
    ngx_http_llm_resolve_name_t  *name;

    name = ev->data;

    ctx = ngx_resolve_start(name->resolve->resolver, NULL);

    if (ctx == NULL || ctx == NGX_NO_RESOLVER) {
        ngx_http_llm_resolve_failed(name, "no memory");
        return;
    }

    ctx->name = name->host;
    ctx->handler = ngx_http_llm_resolve_handler;
    ctx->data = name;
    ctx->timeout = name->resolve->timeout;
    ctx->cancelable = 1;

    name->ctx = ctx;

    if (ngx_resolve_name(ctx) != NGX_OK) {
        name->ctx = NULL;
        ngx_http_llm_resolve_failed(name, "no memory");
    }
}


static void
ngx_http_llm_resolve_handler(ngx_resolver_ctx_t *ctx)
{
    time_t                        valid;
    ngx_int_t                     state;
    ngx_uint_t                    n;
    ngx_http_llm_resolve_name_t  *name;

    name = ctx->data;
    name->ctx = NULL;

    n = 0;
    state = ctx->state;
    valid = ctx->valid;

    if (state == NGX_OK) {
        n = ngx_http_llm_resolve_adopt(name, ctx->addrs, ctx->naddrs);
    }

    ngx_resolve_name_done(ctx);

    if (n == 0) {
        ngx_http_llm_resolve_failed(name, state == NGX_OK
                                          ? "no address that can be used"
                                          : ngx_resolver_strerror(state));
        return;
    }

    if (name->failures) {
        ngx_log_error(NGX_LOG_NOTICE, ngx_cycle->log, 0,
                      "llm: \"%V\" of upstream \"%V\" is found again, "
                      "addresses: %ui", &name->host, name->resolve->upstream,
                      n);
        name->failures = 0;
    }

    ngx_add_timer(&name->event, ngx_http_llm_resolve_wait(name, valid));
}


/*
 * The resolver keeps an answer up to and with its last second, and would give
 * it again; workers and gateways do not all ask at the same time.
 */

static ngx_msec_t
ngx_http_llm_resolve_wait(ngx_http_llm_resolve_name_t *name, time_t valid)
{
    ngx_msec_t   wait;
    ngx_time_t  *tp;

    if (name->valid) {
        wait = (ngx_msec_t) name->valid * 1000;

        return wait - ngx_random() % (wait / 10);
    }

    tp = ngx_timeofday();

    valid -= tp->sec;
    valid = ngx_max(valid, 0);
    valid = ngx_min(valid, NGX_HTTP_LLM_RESOLVE_LONG);

    wait = (ngx_msec_t) valid * 1000;

    return wait + 1000 - tp->msec + ngx_random() % (wait / 10 + 1);
}


static void
ngx_http_llm_resolve_failed(ngx_http_llm_resolve_name_t *name,
    const char *why)
{
    ngx_msec_t  wait;

    wait = ngx_min(NGX_HTTP_LLM_RESOLVE_WAIT, 1 + name->failures);
    wait = wait * 1000 - ngx_random() % 500;

    if (name->failures++ == 0) {
        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                      "llm: \"%V\" of upstream \"%V\" is not found (%s), "
                      "%s", &name->host, name->resolve->upstream, why,
                      name->resolve->nlive ? "its addresses stay"
                                           : "there is no address");
    }

    ngx_log_debug3(NGX_LOG_DEBUG_HTTP, ngx_cycle->log, 0,
                   "llm resolve \"%V\": %s, again in %M ms", &name->host, why,
                   wait);

    ngx_add_timer(&name->event, wait);
}
