
/*
 * Copyright (C) the ngx-llm authors
 *
 * For tests only, beside the module: a location that sends what it gets to
 * the internal listener, as a request in the background.
 *
 *     llm_test_background;
 *
 *     ?key= name of a key  ?uri= (/v1/chat/completions)  ?plain=1 not in the
 *     background
 *
 * The answer: its status, body, and of its headers retry-after-ms,
 * cache-status and x-llm-queue-ms.
 */


#include "http/ngx_http_llm_loopback.h"


typedef struct {
    ngx_http_request_t        *request;
    ngx_http_llm_loopback_t   *lb;
    ngx_str_t                  key;
    ngx_str_t                  uri;
} ngx_http_llm_test_background_t;


static char *ngx_http_llm_test_background(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static ngx_int_t ngx_http_llm_test_background_handler(ngx_http_request_t *r);
static void ngx_http_llm_test_background_body(ngx_http_request_t *r);
static ngx_int_t ngx_http_llm_test_background_start(ngx_http_request_t *r);
static void ngx_http_llm_test_background_done(ngx_http_llm_loopback_t *lb);
static ngx_int_t ngx_http_llm_test_background_answer(ngx_http_request_t *r,
    ngx_http_llm_loopback_t *lb);
static void ngx_http_llm_test_background_cleanup(void *data);


static ngx_command_t  ngx_http_llm_test_background_commands[] = {

    { ngx_string("llm_test_background"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS,
      ngx_http_llm_test_background,
      0,
      0,
      NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_llm_test_background_ctx = {
    NULL,                                  /* preconfiguration */
    NULL,                                  /* postconfiguration */
    NULL,                                  /* create main configuration */
    NULL,                                  /* init main configuration */
    NULL,                                  /* create server configuration */
    NULL,                                  /* merge server configuration */
    NULL,                                  /* create location configuration */
    NULL                                   /* merge location configuration */
};


ngx_module_t  ngx_http_llm_test_background_module = {
    NGX_MODULE_V1,
    &ngx_http_llm_test_background_ctx,     /* module context */
    ngx_http_llm_test_background_commands, /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    NULL,                                  /* init module */
    NULL,                                  /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    NULL,                                  /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


/* what configure would have written */

ngx_module_t  *ngx_modules[] = { &ngx_http_llm_test_background_module, NULL };
char  *ngx_module_names[] = { "ngx_http_llm_test_background_module", NULL };
char  *ngx_module_order[] = { NULL };


static char *
ngx_http_llm_test_background(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
    clcf->handler = ngx_http_llm_test_background_handler;

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_llm_test_background_handler(ngx_http_request_t *r)
{
    ngx_int_t  rc;

    rc = ngx_http_read_client_request_body(r,
                                           ngx_http_llm_test_background_body);

    return rc >= NGX_HTTP_SPECIAL_RESPONSE ? rc : NGX_DONE;
}


static void
ngx_http_llm_test_background_body(ngx_http_request_t *r)
{
    if (ngx_http_llm_test_background_start(r) != NGX_OK) {
        ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR);
        return;
    }

    /* a client that leaves ends the call */

    r->read_event_handler = ngx_http_test_reading;
    r->write_event_handler = ngx_http_request_empty_handler;
}


static ngx_int_t
ngx_http_llm_test_background_start(ngx_http_request_t *r)
{
    ngx_str_t                        name, value;
    ngx_chain_t                     *cl;
    ngx_http_cleanup_t              *cln;
    ngx_http_llm_loopback_t         *lb;
    ngx_http_llm_test_background_t  *t;

    t = ngx_pcalloc(r->pool, sizeof(ngx_http_llm_test_background_t));
    cln = ngx_http_cleanup_add(r, 0);

    if (t == NULL || cln == NULL) {
        return NGX_ERROR;
    }

    lb = ngx_http_llm_loopback_create(r->connection->log);
    if (lb == NULL) {
        return NGX_ERROR;
    }

    t->request = r;
    t->lb = lb;

    cln->handler = ngx_http_llm_test_background_cleanup;
    cln->data = t;

    ngx_str_set(&t->uri, "/v1/chat/completions");

    (void) ngx_http_arg(r, (u_char *) "uri", 3, &t->uri);

    if (ngx_http_arg(r, (u_char *) "key", 3, &t->key) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_str_set(&lb->method, "POST");

    lb->uri = t->uri;
    lb->key = t->key;
    lb->max = 1024 * 1024;
    lb->timeout = 60000;
    lb->handler = ngx_http_llm_test_background_done;
    lb->data = t;
    lb->body = r->request_body->bufs;

    for (cl = lb->body; cl; cl = cl->next) {
        lb->body_len += ngx_buf_size(cl->buf);
    }

    ngx_str_set(&name, "Content-Type");
    ngx_str_set(&value, "application/json");

    if (ngx_http_llm_loopback_header(lb, &name, &value) != NGX_OK) {
        return NGX_ERROR;
    }

    if (ngx_http_arg(r, (u_char *) "plain", 5, &value) != NGX_OK) {
        ngx_str_set(&name, "X-Llm-Background");
        ngx_str_set(&value, "1");

        if (ngx_http_llm_loopback_header(lb, &name, &value) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    return ngx_http_llm_loopback_start(lb);
}


static void
ngx_http_llm_test_background_done(ngx_http_llm_loopback_t *lb)
{
    ngx_connection_t                *c;
    ngx_http_request_t              *r;
    ngx_http_llm_test_background_t  *t;

    t = lb->data;
    r = t->request;
    c = r->connection;

    ngx_http_finalize_request(r, lb->result == NGX_HTTP_LLM_LOOPBACK_OK
                                 ? ngx_http_llm_test_background_answer(r, lb)
                                 : NGX_HTTP_BAD_GATEWAY);
    ngx_http_run_posted_requests(c);
}


static ngx_int_t
ngx_http_llm_test_background_answer(ngx_http_request_t *r,
    ngx_http_llm_loopback_t *lb)
{
    ngx_int_t         rc;
    ngx_buf_t        *b;
    ngx_str_t         value;
    ngx_uint_t        i;
    ngx_chain_t       out;
    ngx_table_elt_t  *h;

    static ngx_str_t  names[] = {
        ngx_string("retry-after-ms"),
        ngx_string("cache-status"),
        ngx_string("x-llm-queue-ms")
    };

    for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {

        if (ngx_http_llm_loopback_find(lb, (const char *) names[i].data,
                                       names[i].len, &value)
            != NGX_OK)
        {
            continue;
        }

        h = ngx_list_push(&r->headers_out.headers);
        if (h == NULL) {
            return NGX_ERROR;
        }

        h->hash = 1;
        h->key = names[i];
        h->value.len = value.len;
        h->value.data = ngx_pstrdup(r->pool, &value);

        if (h->value.data == NULL) {
            return NGX_ERROR;
        }
    }

    b = ngx_create_temp_buf(r->pool, lb->answer.len + 1);
    if (b == NULL) {
        return NGX_ERROR;
    }

    b->last = ngx_cpymem(b->last, lb->answer.data, lb->answer.len);
    b->last_buf = 1;
    b->memory = lb->answer.len != 0;
    b->temporary = 0;

    out.buf = b;
    out.next = NULL;

    r->headers_out.status = lb->status;
    r->headers_out.content_length_n = (off_t) lb->answer.len;

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    return ngx_http_output_filter(r, &out);
}


static void
ngx_http_llm_test_background_cleanup(void *data)
{
    ngx_http_llm_test_background_t *t = data;

    ngx_http_llm_loopback_close(t->lb);
}
