
/*
 * Copyright (C) the ngx-llm authors
 *
 * For tests only: a location that names, packs and unpacks the body of a
 * request, and some trials that are too many for a request each.
 *
 *     /mac     name in hex digits
 *     /pack    the parcel
 *     /unpack  "why=N", a line end, what was in it
 *     /spoil   unpacks the parcel with each bit changed, and cut everywhere
 *     /forge   a parcel of these contents, flags "flags", length "n"
 *     /rounds  packs and unpacks 0 to "max" bytes
 *     /bench   the time of "n" times
 *
 *     ?secret= (one of the configuration's, or none) &about= &pieces=
 *     &max= &sealed= &n= &flags=
 */


#include "ngx_http_llm_test_secret.h"

#include "core/llm_sum.h"


typedef struct {
    ngx_str_t                     name;
    ngx_http_llm_secret_t        *secret;
} ngx_http_llm_test_secret_t;


typedef struct {
    ngx_array_t                   secrets;
} ngx_http_llm_test_conf_t;


typedef struct {
    ngx_str_t                     uri;
    ngx_int_t                   (*run)(ngx_http_request_t *r,
                                       ngx_http_llm_test_ctx_t *ctx);
} ngx_http_llm_test_op_t;


static void *ngx_http_llm_test_create(ngx_conf_t *cf);
static char *ngx_http_llm_test_secret(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_llm_test_run(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static ngx_int_t ngx_http_llm_test_init(ngx_cycle_t *cycle);
static ngx_int_t ngx_http_llm_test_handler(ngx_http_request_t *r);
static void ngx_http_llm_test_body(ngx_http_request_t *r);
static ngx_int_t ngx_http_llm_test_args(ngx_http_request_t *r,
    ngx_http_llm_test_ctx_t *ctx);
static ngx_uint_t ngx_http_llm_test_number(ngx_http_request_t *r,
    const char *name, ngx_uint_t other);
static ngx_int_t ngx_http_llm_test_mac(ngx_http_request_t *r,
    ngx_http_llm_test_ctx_t *ctx);
static ngx_int_t ngx_http_llm_test_pack(ngx_http_request_t *r,
    ngx_http_llm_test_ctx_t *ctx);
static ngx_int_t ngx_http_llm_test_unpack(ngx_http_request_t *r,
    ngx_http_llm_test_ctx_t *ctx);
static ngx_int_t ngx_http_llm_test_forge(ngx_http_request_t *r,
    ngx_http_llm_test_ctx_t *ctx);
static ngx_int_t ngx_http_llm_test_send(ngx_http_request_t *r,
    ngx_http_llm_test_ctx_t *ctx);


static ngx_http_llm_test_op_t  ngx_http_llm_test_ops[] = {
    { ngx_string("/mac"), ngx_http_llm_test_mac },
    { ngx_string("/pack"), ngx_http_llm_test_pack },
    { ngx_string("/unpack"), ngx_http_llm_test_unpack },
    { ngx_string("/spoil"), ngx_http_llm_test_spoil },
    { ngx_string("/forge"), ngx_http_llm_test_forge },
    { ngx_string("/rounds"), ngx_http_llm_test_rounds },
    { ngx_string("/bench"), ngx_http_llm_test_bench },
    { ngx_null_string, NULL }
};


static ngx_command_t  ngx_http_llm_test_commands[] = {

    { ngx_string("llm_test_secret"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_2MORE,
      ngx_http_llm_test_secret,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("llm_test_secret_run"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS,
      ngx_http_llm_test_run,
      0,
      0,
      NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_llm_test_secret_ctx = {
    NULL,                                  /* preconfiguration */
    NULL,                                  /* postconfiguration */
    ngx_http_llm_test_create,              /* create main configuration */
    NULL,                                  /* init main configuration */
    NULL,                                  /* create server configuration */
    NULL,                                  /* merge server configuration */
    NULL,                                  /* create location configuration */
    NULL                                   /* merge location configuration */
};


ngx_module_t  ngx_http_llm_test_secret_module = {
    NGX_MODULE_V1,
    &ngx_http_llm_test_secret_ctx,         /* module context */
    ngx_http_llm_test_commands,            /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    NULL,                                  /* init module */
    ngx_http_llm_test_init,                /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    NULL,                                  /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


/* what configure would have written */

ngx_module_t  *ngx_modules[] = { &ngx_http_llm_test_secret_module, NULL };
char  *ngx_module_names[] = { "ngx_http_llm_test_secret_module", NULL };
char  *ngx_module_order[] = { NULL };


static void *
ngx_http_llm_test_create(ngx_conf_t *cf)
{
    ngx_http_llm_test_conf_t  *tcf;

    tcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_llm_test_conf_t));

    if (tcf == NULL
        || ngx_array_init(&tcf->secrets, cf->pool, 4,
                          sizeof(ngx_http_llm_test_secret_t))
           != NGX_OK)
    {
        return NULL;
    }

    return tcf;
}


/* llm_test_secret NAME SOURCE ID [OLD-SOURCE ID] ... */

static char *
ngx_http_llm_test_secret(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_llm_test_conf_t *tcf = conf;

    ngx_str_t                   *value;
    ngx_uint_t                   i;
    ngx_http_llm_test_secret_t  *ts;

    value = cf->args->elts;

    ts = ngx_array_push(&tcf->secrets);
    if (ts == NULL) {
        return NGX_CONF_ERROR;
    }

    ts->name = value[1];
    ts->secret = ngx_http_llm_secret_create(cf, &value[2], &value[3]);

    if (ts->secret == NULL) {
        return NGX_CONF_ERROR;
    }

    for (i = 4; i + 1 < cf->args->nelts; i += 2) {
        if (ngx_http_llm_secret_old(cf, ts->secret, &value[i], &value[i + 1])
            != NGX_OK)
        {
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
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
    ngx_uint_t                   i;
    ngx_http_llm_test_conf_t    *tcf;
    ngx_http_llm_test_secret_t  *ts;

    tcf = ngx_http_cycle_get_module_main_conf(cycle,
                                              ngx_http_llm_test_secret_module);
    ts = tcf->secrets.elts;

    for (i = 0; i < tcf->secrets.nelts; i++) {
        if (ngx_http_llm_secret_init_process(ts[i].secret, cycle) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    if (ngx_http_llm_secret_init_process(NULL, cycle) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_llm_parcel_init_process(cycle);
}


static ngx_int_t
ngx_http_llm_test_handler(ngx_http_request_t *r)
{
    ngx_int_t  rc;

    rc = ngx_http_read_client_request_body(r, ngx_http_llm_test_body);

    return rc >= NGX_HTTP_SPECIAL_RESPONSE ? rc : NGX_DONE;
}


static void
ngx_http_llm_test_body(ngx_http_request_t *r)
{
    size_t                    len;
    u_char                   *p;
    ngx_int_t                 rc;
    ngx_chain_t              *cl;
    ngx_http_llm_test_op_t   *op;
    ngx_http_llm_test_ctx_t   ctx;

    ngx_memzero(&ctx, sizeof(ngx_http_llm_test_ctx_t));

    len = 0;

    for (cl = r->request_body->bufs; cl; cl = cl->next) {
        len += ngx_buf_size(cl->buf);
    }

    p = ngx_pnalloc(r->pool, len + 1);
    if (p == NULL) {
        ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR);
        return;
    }

    ctx.body.data = p;
    ctx.body.len = len;

    for (cl = r->request_body->bufs; cl && len; cl = cl->next) {
        p = ngx_cpymem(p, cl->buf->pos, ngx_buf_size(cl->buf));
    }

    rc = ngx_http_llm_test_args(r, &ctx) == NGX_OK ? NGX_HTTP_NOT_FOUND
                                                   : NGX_HTTP_BAD_REQUEST;

    for (op = ngx_http_llm_test_ops;
         op->run != NULL && rc == NGX_HTTP_NOT_FOUND;
         op++)
    {
        if (op->uri.len == r->uri.len
            && ngx_strncmp(op->uri.data, r->uri.data, r->uri.len) == 0)
        {
            rc = op->run(r, &ctx) == NGX_OK ? ngx_http_llm_test_send(r, &ctx)
                                            : NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }

    ngx_http_finalize_request(r, rc);
}


static ngx_int_t
ngx_http_llm_test_args(ngx_http_request_t *r, ngx_http_llm_test_ctx_t *ctx)
{
    ngx_str_t                    name;
    ngx_uint_t                   i;
    ngx_http_llm_test_conf_t    *tcf;
    ngx_http_llm_test_secret_t  *ts;

    tcf = ngx_http_get_module_main_conf(r, ngx_http_llm_test_secret_module);
    ts = tcf->secrets.elts;

    (void) ngx_http_arg(r, (u_char *) "about", 5, &ctx->about);

    ctx->pieces = ngx_http_llm_test_number(r, "pieces", 1);
    ctx->sealed = ngx_http_llm_test_number(r, "sealed", 0);
    ctx->max = ngx_http_llm_test_number(r, "max", 4 * 1024 * 1024);
    ctx->n = ngx_http_llm_test_number(r, "n", 1);
    ctx->flags = ngx_http_llm_test_number(r, "flags", 0);

    if (ctx->pieces > NGX_HTTP_LLM_TEST_PIECES
        || ngx_http_arg(r, (u_char *) "secret", 6, &name) != NGX_OK)
    {
        return NGX_ERROR;
    }

    for (i = 0; i < tcf->secrets.nelts; i++) {
        if (ts[i].name.len == name.len
            && ngx_strncmp(ts[i].name.data, name.data, name.len) == 0)
        {
            ctx->secret = ts[i].secret;
            return NGX_OK;
        }
    }

    return name.len == 4 && ngx_strncmp(name.data, "none", 4) == 0
           ? NGX_OK : NGX_ERROR;
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


static ngx_int_t
ngx_http_llm_test_mac(ngx_http_request_t *r, ngx_http_llm_test_ctx_t *ctx)
{
    u_char  name[NGX_HTTP_LLM_MAC_LEN];
    size_t  half;

    half = ctx->body.len / 2;

    if (ngx_http_llm_mac_begin(ctx->secret) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_http_llm_mac_update(ctx->body.data, half);
    ngx_http_llm_mac_update(ctx->body.data + half, ctx->body.len - half);

    ctx->out.data = ngx_pnalloc(r->pool, 2 * NGX_HTTP_LLM_MAC_LEN);

    if (ctx->out.data == NULL || ngx_http_llm_mac_end(name) != NGX_OK) {
        return NGX_ERROR;
    }

    ctx->out.len = ngx_hex_dump(ctx->out.data, name, NGX_HTTP_LLM_MAC_LEN)
                   - ctx->out.data;

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_test_pack(ngx_http_request_t *r, ngx_http_llm_test_ctx_t *ctx)
{
    return ngx_http_llm_test_pieces(r->pool, ctx, &ctx->body, &ctx->out);
}


static ngx_int_t
ngx_http_llm_test_unpack(ngx_http_request_t *r, ngx_http_llm_test_ctx_t *ctx)
{
    u_char                 *p;
    ngx_int_t               rc;
    ngx_str_t               out;
    ngx_http_llm_parcel_e   why;

    rc = ngx_http_llm_parcel_unpack(r->pool, ctx->secret, ctx->sealed,
                                    &ctx->about, &ctx->body, ctx->max, &out,
                                    &why);

    if (rc == NGX_ERROR || (rc == NGX_OK) != (why == NGX_HTTP_LLM_PARCEL_OK)) {
        return NGX_ERROR;
    }

    if (rc != NGX_OK) {
        ngx_str_set(&out, "");
    }

    p = ngx_pnalloc(r->pool, out.len + 16);
    if (p == NULL) {
        return NGX_ERROR;
    }

    ctx->out.data = p;
    p = ngx_sprintf(p, "why=%d\n", why);
    p = ngx_cpymem(p, out.data, out.len);
    ctx->out.len = p - ctx->out.data;

    return NGX_OK;
}


/* who can make a checksum, or has the secret, but not good intentions */

static ngx_int_t
ngx_http_llm_test_forge(ngx_http_request_t *r, ngx_http_llm_test_ctx_t *ctx)
{
    u_char      *p;
    uint64_t     sum;
    ngx_str_t    both, out;
    ngx_uint_t   i;

    p = ngx_pnalloc(r->pool, ctx->body.len + 8 + NGX_HTTP_LLM_SEAL_LEN);
    both.len = 8 + ctx->about.len;
    both.data = ngx_pnalloc(r->pool, both.len);

    if (p == NULL || both.data == NULL) {
        return NGX_ERROR;
    }

    ctx->out.data = p;

    *p++ = 'L';
    *p++ = 'P';
    *p++ = 2;
    *p++ = (u_char) ctx->flags;

    for (i = 0; i < 4; i++) {
        *p++ = (u_char) (ctx->n >> 8 * i);
    }

    ngx_memcpy(both.data, p - 8, 8);
    ngx_memcpy(both.data + 8, ctx->about.data, ctx->about.len);

    if (ctx->secret != NULL) {
        out.data = p;

        if (ngx_http_llm_seal(ctx->secret, &ctx->body, &both, &out)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        p += out.len;

    } else {
        sum = llm_sum(0, p - 8, 8);
        sum = llm_sum(sum, ctx->about.data, ctx->about.len);
        sum = llm_sum(sum, ctx->body.data, ctx->body.len);

        for (i = 0; i < 8; i++) {
            *p++ = (u_char) (sum >> 8 * i);
        }

        p = ngx_cpymem(p, ctx->body.data, ctx->body.len);
    }

    ctx->out.len = p - ctx->out.data;

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_test_send(ngx_http_request_t *r, ngx_http_llm_test_ctx_t *ctx)
{
    ngx_buf_t    *b;
    ngx_int_t     rc;
    ngx_chain_t   out;

    b = ngx_calloc_buf(r->pool);
    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    b->pos = ctx->out.data;
    b->last = b->pos + ctx->out.len;
    b->memory = (ctx->out.len != 0);
    b->last_buf = 1;

    out.buf = b;
    out.next = NULL;

    r->headers_out.status = NGX_HTTP_OK;
    r->headers_out.content_length_n = ctx->out.len;
    ngx_str_set(&r->headers_out.content_type, "application/octet-stream");

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    return ngx_http_output_filter(r, &out);
}
