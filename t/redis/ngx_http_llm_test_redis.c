
/*
 * Copyright (C) the ngx-llm authors
 *
 * For tests only: a location that runs a command of its query through the
 * Redis client and answers with the reply as text.
 *
 *     ?c=GET&c=key             a command
 *     ?eval=0&keys=1&c=key     the script "0" of the configuration
 *     ?connected= ?stat=       what the client says of itself
 *     &timeout=ms &times=N &detach=
 */


#include "state/ngx_http_llm_redis.h"

#include <ngx_http.h>


#define NGX_HTTP_LLM_TEST_ARGS  64
#define NGX_HTTP_LLM_TEST_TEXT  4096


typedef struct {
    ngx_http_llm_redis_t         *redis;
    ngx_array_t                   scripts;    /* of pointers */
} ngx_http_llm_test_conf_t;


typedef struct {
    ngx_http_request_t           *request;
    ngx_http_llm_redis_op_t      *op;
    ngx_msec_t                    start;
    ngx_uint_t                    left;
    size_t                        len;
    u_char                        text[NGX_HTTP_LLM_TEST_TEXT];
} ngx_http_llm_test_ctx_t;


static void *ngx_http_llm_test_create(ngx_conf_t *cf);
static char *ngx_http_llm_test_redis(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_llm_test_script(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_llm_test_share(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static ngx_int_t ngx_http_llm_test_zone(ngx_shm_zone_t *zone, void *data);
static char *ngx_http_llm_test_run(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static ngx_int_t ngx_http_llm_test_init(ngx_cycle_t *cycle);
static void ngx_http_llm_test_exit(ngx_cycle_t *cycle);
static ngx_int_t ngx_http_llm_test_handler(ngx_http_request_t *r);
static ngx_uint_t ngx_http_llm_test_args(ngx_http_request_t *r,
    ngx_str_t *argv);
static ngx_uint_t ngx_http_llm_test_number(ngx_http_request_t *r,
    const char *name, ngx_uint_t other);
static void ngx_http_llm_test_stat(ngx_http_llm_test_conf_t *tcf,
    ngx_http_llm_test_ctx_t *ctx);
static void ngx_http_llm_test_cleanup(void *data);
static void ngx_http_llm_test_reply(void *data,
    ngx_http_llm_redis_reply_t *reply);
static u_char *ngx_http_llm_test_text(u_char *p, u_char *last,
    ngx_http_llm_redis_reply_t *reply);
static ngx_int_t ngx_http_llm_test_send(ngx_http_request_t *r,
    ngx_http_llm_test_ctx_t *ctx);


static ngx_command_t  ngx_http_llm_test_commands[] = {

    { ngx_string("llm_test_redis"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE12,
      ngx_http_llm_test_redis,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("llm_test_redis_script"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_http_llm_test_script,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("llm_test_redis_share"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_NOARGS,
      ngx_http_llm_test_share,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("llm_test_redis_run"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS,
      ngx_http_llm_test_run,
      0,
      0,
      NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_llm_test_redis_ctx = {
    NULL,                                  /* preconfiguration */
    NULL,                                  /* postconfiguration */
    ngx_http_llm_test_create,              /* create main configuration */
    NULL,                                  /* init main configuration */
    NULL,                                  /* create server configuration */
    NULL,                                  /* merge server configuration */
    NULL,                                  /* create location configuration */
    NULL                                   /* merge location configuration */
};


ngx_module_t  ngx_http_llm_test_redis_module = {
    NGX_MODULE_V1,
    &ngx_http_llm_test_redis_ctx,          /* module context */
    ngx_http_llm_test_commands,            /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    NULL,                                  /* init module */
    ngx_http_llm_test_init,                /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    ngx_http_llm_test_exit,                /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


#if !(LLM_TEST_OTHER)

/* what configure would have written */

ngx_module_t  *ngx_modules[] = { &ngx_http_llm_test_redis_module, NULL };
char  *ngx_module_names[] = { "ngx_http_llm_test_redis_module", NULL };
char  *ngx_module_order[] = { NULL };

#endif


static void *
ngx_http_llm_test_create(ngx_conf_t *cf)
{
    ngx_http_llm_test_conf_t  *tcf;

    tcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_llm_test_conf_t));

    if (tcf == NULL
        || ngx_array_init(&tcf->scripts, cf->pool, 4, sizeof(void *))
           != NGX_OK)
    {
        return NULL;
    }

    return tcf;
}


static char *
ngx_http_llm_test_redis(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_llm_test_conf_t *tcf = conf;

    ngx_str_t  *value;

    value = cf->args->elts;

    tcf->redis = ngx_http_llm_redis_create(cf, &value[1]);
    if (tcf->redis == NULL) {
        return NGX_CONF_ERROR;
    }

    if (cf->args->nelts == 3) {
        ngx_http_llm_redis_options(tcf->redis)->timeout =
                                       ngx_atoi(value[2].data, value[2].len);
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_llm_test_script(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_llm_test_conf_t *tcf = conf;

    ngx_str_t                     *value;
    ngx_http_llm_redis_script_t  **script;

    value = cf->args->elts;
    script = ngx_array_push(&tcf->scripts);

    *script = ngx_http_llm_redis_script(tcf->redis, &value[1]);

    return *script ? NGX_CONF_OK : NGX_CONF_ERROR;
}


static char *
ngx_http_llm_test_share(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_str_t        name = ngx_string("llm_test_redis");
    ngx_shm_zone_t  *zone;

    zone = ngx_shared_memory_add(cf, &name, 8 * ngx_pagesize,
                                 &ngx_http_llm_test_redis_module);
    if (zone == NULL) {
        return NGX_CONF_ERROR;
    }

    zone->init = ngx_http_llm_test_zone;
    zone->data = conf;

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_llm_test_zone(ngx_shm_zone_t *zone, void *data)
{
    ngx_slab_pool_t           *pool;
    ngx_http_llm_test_conf_t  *tcf;

    pool = (ngx_slab_pool_t *) zone->shm.addr;
    tcf = zone->data;

    if (data == NULL) {
        pool->data = ngx_slab_calloc(pool,
                                     sizeof(ngx_http_llm_redis_shared_t));
        if (pool->data == NULL) {
            return NGX_ERROR;
        }
    }

    ngx_http_llm_redis_share(tcf->redis, pool->data);

    return NGX_OK;
}


static char *
ngx_http_llm_test_run(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
    clcf->handler = ngx_http_llm_test_handler;

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_llm_test_init(ngx_cycle_t *cycle)
{
    ngx_http_llm_test_conf_t  *tcf;

    tcf = ngx_http_cycle_get_module_main_conf(cycle,
                                              ngx_http_llm_test_redis_module);

    return ngx_http_llm_redis_init_process(tcf->redis, cycle);
}


static void
ngx_http_llm_test_exit(ngx_cycle_t *cycle)
{
    ngx_http_llm_test_conf_t  *tcf;

    tcf = ngx_http_cycle_get_module_main_conf(cycle,
                                              ngx_http_llm_test_redis_module);

    ngx_http_llm_redis_exit_process(tcf->redis);
}


static ngx_int_t
ngx_http_llm_test_handler(ngx_http_request_t *r)
{
    ngx_str_t                      argv[NGX_HTTP_LLM_TEST_ARGS], value;
    ngx_uint_t                     argc, i, keys, timeout, times;
    ngx_http_cleanup_t            *cln;
    ngx_http_llm_test_ctx_t       *ctx;
    ngx_http_llm_test_conf_t      *tcf;
    ngx_http_llm_redis_script_t  **script;

    tcf = ngx_http_get_module_main_conf(r, ngx_http_llm_test_redis_module);

    ctx = ngx_pcalloc(r->pool, sizeof(ngx_http_llm_test_ctx_t));
    cln = ngx_http_cleanup_add(r, 0);

    if (ctx == NULL || cln == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ctx->request = r;
    ctx->start = ngx_current_msec;

    if (ngx_http_arg(r, (u_char *) "connected", 9, &value) == NGX_OK) {
        ctx->len = ngx_sprintf(ctx->text, "connected:%ui",
                               ngx_http_llm_redis_connected(tcf->redis))
                   - ctx->text;
        return ngx_http_llm_test_send(r, ctx);
    }

    if (ngx_http_arg(r, (u_char *) "stat", 4, &value) == NGX_OK) {
        ngx_http_llm_test_stat(tcf, ctx);
        return ngx_http_llm_test_send(r, ctx);
    }

    argc = ngx_http_llm_test_args(r, argv);
    timeout = ngx_http_llm_test_number(r, "timeout", 0);
    times = ngx_http_llm_test_number(r, "times", 1);
    keys = ngx_http_llm_test_number(r, "keys", 0);
    script = tcf->scripts.elts;

    if (ngx_http_arg(r, (u_char *) "eval", 4, &value) == NGX_OK) {
        script += ngx_http_llm_test_number(r, "eval", 0);

    } else {
        script = NULL;
    }

    for (i = 0; i < times; i++) {
        ctx->op = script != NULL
            ? ngx_http_llm_redis_eval(tcf->redis, *script, keys, argc, argv,
                                      timeout, ngx_http_llm_test_reply, ctx)
            : ngx_http_llm_redis_command(tcf->redis, argc, argv, timeout,
                                         ngx_http_llm_test_reply, ctx);
        ctx->left += (ctx->op != NULL);
    }

    if (ctx->left == 0) {
        ctx->len = ngx_sprintf(ctx->text, "refused") - ctx->text;
        return ngx_http_llm_test_send(r, ctx);
    }

    cln->handler = ngx_http_llm_test_cleanup;
    cln->data = ctx;

    r->main->count++;

    return NGX_DONE;
}


static ngx_uint_t
ngx_http_llm_test_args(ngx_http_request_t *r, ngx_str_t *argv)
{
    u_char      *p, *next, *last, *s, *d;
    ngx_uint_t   n;

    n = 0;
    last = r->args.data + r->args.len;

    for (p = r->args.data; p < last; p = next + 1) {

        next = ngx_strlchr(p, last, '&');
        if (next == NULL) {
            next = last;
        }

        if (next - p < 2 || p[0] != 'c' || p[1] != '='
            || n == NGX_HTTP_LLM_TEST_ARGS)
        {
            continue;
        }

        s = p + 2;
        d = ngx_pnalloc(r->pool, next - s + 1);
        if (d == NULL) {
            return 0;
        }

        argv[n].data = d;
        ngx_unescape_uri(&d, &s, next - s, 0);
        argv[n].len = d - argv[n].data;
        n++;
    }

    return n;
}


static ngx_uint_t
ngx_http_llm_test_number(ngx_http_request_t *r, const char *name,
    ngx_uint_t other)
{
    ngx_str_t  value;

    if (ngx_http_arg(r, (u_char *) name, ngx_strlen(name), &value) != NGX_OK) {
        return other;
    }

    return ngx_atoi(value.data, value.len);
}


static void
ngx_http_llm_test_stat(ngx_http_llm_test_conf_t *tcf,
    ngx_http_llm_test_ctx_t *ctx)
{
    u_char                     *p, *last;
    ngx_uint_t                  i;
    ngx_http_llm_redis_stat_t  *st;

    st = ngx_http_llm_redis_stat(tcf->redis);
    last = ctx->text + sizeof(ctx->text);

    p = ngx_slprintf(ctx->text, last,
                     "commands:%uL replies:%uL refused:%uL timeouts:%uL "
                     "gone:%uL reconnects:%uL resent:%uL moved:%uL",
                     st->commands, st->replies, st->refused, st->timeouts,
                     st->gone, st->reconnects, st->resent, st->moved);

    for (i = 0; i < NGX_HTTP_LLM_REDIS_ERRORS; i++) {
        p = ngx_slprintf(p, last, " %V:%uL", &ngx_http_llm_redis_errors[i],
                         st->errors[i]);
    }

    ctx->len = p - ctx->text;
}


static void
ngx_http_llm_test_cleanup(void *data)
{
    ngx_http_llm_test_ctx_t *ctx = data;

    if (ctx->left != 0 && ctx->op != NULL) {
        ngx_http_llm_redis_detach(ctx->op);
    }
}


static void
ngx_http_llm_test_reply(void *data, ngx_http_llm_redis_reply_t *reply)
{
    ngx_http_llm_test_ctx_t *ctx = data;

    ngx_connection_t    *c;
    ngx_http_request_t  *r;

    if (--ctx->left != 0) {
        return;
    }

    r = ctx->request;
    c = r->connection;

    ctx->len = ngx_http_llm_test_text(ctx->text,
                                      ctx->text + sizeof(ctx->text), reply)
               - ctx->text;

    ngx_http_finalize_request(r, ngx_http_llm_test_send(r, ctx));
    ngx_http_run_posted_requests(c);
}


static u_char *
ngx_http_llm_test_text(u_char *p, u_char *last,
    ngx_http_llm_redis_reply_t *reply)
{
    ngx_uint_t                  i;
    ngx_http_llm_redis_reply_t  element;

    switch (reply->type) {

    case NGX_HTTP_LLM_REDIS_NIL:
        return ngx_slprintf(p, last, "nil");

    case NGX_HTTP_LLM_REDIS_STATUS:
        return ngx_slprintf(p, last, "status:%V", &reply->str);

    case NGX_HTTP_LLM_REDIS_STRING:
        return ngx_slprintf(p, last, "string:%V", &reply->str);

    case NGX_HTTP_LLM_REDIS_INTEGER:
        return ngx_slprintf(p, last, "integer:%L", reply->integer);

    case NGX_HTTP_LLM_REDIS_ERROR:
        return ngx_slprintf(p, last, "error:%V:%V",
                            &ngx_http_llm_redis_errors[reply->error],
                            &reply->str);

    case NGX_HTTP_LLM_REDIS_TIMEOUT:
        return ngx_slprintf(p, last, "timeout");

    case NGX_HTTP_LLM_REDIS_GONE:
        return ngx_slprintf(p, last, "gone");

    default: /* NGX_HTTP_LLM_REDIS_ARRAY */
        break;
    }

    p = ngx_slprintf(p, last, "[");

    for (i = 0; ngx_http_llm_redis_element(reply, i, &element) == NGX_OK; i++)
    {
        p = ngx_slprintf(p, last, i ? " " : "");
        p = ngx_http_llm_test_text(p, last, &element);
    }

    return ngx_slprintf(p, last, "]");
}


static ngx_int_t
ngx_http_llm_test_send(ngx_http_request_t *r, ngx_http_llm_test_ctx_t *ctx)
{
    ngx_buf_t    *b;
    ngx_int_t     rc;
    ngx_chain_t   out;

    b = ngx_create_temp_buf(r->pool, ctx->len + 64);
    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    b->last = ngx_sprintf(b->last, "%*s\npid=%P ms=%M\n", ctx->len, ctx->text,
                          ngx_pid, ngx_current_msec - ctx->start);
    b->last_buf = 1;

    out.buf = b;
    out.next = NULL;

    r->headers_out.status = NGX_HTTP_OK;
    r->headers_out.content_length_n = b->last - b->pos;
    ngx_str_set(&r->headers_out.content_type, "text/plain");

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    return ngx_http_output_filter(r, &out);
}
