
/*
 * Copyright (C) the ngx-llm authors
 *
 * The internal listener: a unix socket of the workers' user alone, and a
 * secret for who may name a key there.
 */


#include "http/ngx_http_llm_loopback.h"
#include "http/ngx_http_llm_id.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>


typedef struct {
    struct sockaddr_un          addr;
    u_char                     *file;       /* where it was configured */
    ngx_uint_t                  line;
} ngx_http_llm_loopback_conf_t;


static ngx_http_conf_addr_t *ngx_http_llm_loopback_listen(ngx_conf_t *cf);
static ngx_uint_t ngx_http_llm_loopback_same(struct sockaddr *sa,
    struct sockaddr_un *addr);
static ngx_int_t ngx_http_llm_loopback_stale(ngx_conf_t *cf);
static ngx_int_t ngx_http_llm_loopback_refuse(ngx_conf_t *cf,
    const char *need);


/*
 * "next" is what is being read, "now" what is in force: a configuration that
 * is refused leaves the latter alone.
 */

static ngx_http_llm_loopback_conf_t  *ngx_http_llm_loopback_next;
static ngx_http_llm_loopback_conf_t  *ngx_http_llm_loopback_now;


/* made once by the master, so that draining and new workers agree */

static u_char     ngx_http_llm_loopback_hex[NGX_HTTP_LLM_LOOPBACK_SECRET];
static ngx_str_t  ngx_http_llm_loopback_word;


void
ngx_http_llm_loopback_reset(void)
{
    ngx_http_llm_loopback_next = NULL;
}


char *
ngx_http_llm_loopback_conf(ngx_conf_t *cf, ngx_str_t *url)
{
    size_t                         len;
    u_char                        *path;
    ngx_http_llm_loopback_conf_t  *lc;

    if (ngx_http_llm_loopback_next) {
        return "is duplicate";
    }

    lc = ngx_pcalloc(cf->pool, sizeof(ngx_http_llm_loopback_conf_t));
    if (lc == NULL) {
        return NGX_CONF_ERROR;
    }

    path = url->data + sizeof("unix:") - 1;
    len = url->len - (sizeof("unix:") - 1);

    if (url->len <= sizeof("unix:/") - 1
        || ngx_strncmp(url->data, "unix:/", sizeof("unix:/") - 1) != 0
        || len >= sizeof(lc->addr.sun_path))
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid value \"%V\" of llm_internal: expected "
                           "unix: and an absolute path of at most %uz bytes",
                           url, sizeof(lc->addr.sun_path) - 1);
        return NGX_CONF_ERROR;
    }

    lc->addr.sun_family = AF_UNIX;
    ngx_memcpy(lc->addr.sun_path, path, len);

    lc->file = cf->conf_file->file.name.data;
    lc->line = cf->conf_file->line;

    ngx_http_llm_loopback_next = lc;

    return NGX_CONF_OK;
}


ngx_int_t
ngx_http_llm_loopback_check(ngx_conf_t *cf)
{
    ngx_uint_t                   i;
    ngx_http_conf_addr_t        *addr;
    ngx_http_llm_srv_conf_t     *lscf;
    ngx_http_core_srv_conf_t   **cscf;

    if (ngx_http_llm_loopback_next == NULL) {
        return NGX_OK;
    }

    addr = ngx_http_llm_loopback_listen(cf);

    if (addr == NULL) {
        return ngx_http_llm_loopback_refuse(cf, "a server with a gateway that "
                                            "listens on it");
    }

    if (addr->opt.ssl || addr->opt.proxy_protocol) {
        return ngx_http_llm_loopback_refuse(cf, "a listener without \"ssl\" "
                                            "and \"proxy_protocol\"");
    }

    cscf = addr->servers.elts;

    for (i = 0; i < addr->servers.nelts; i++) {

        lscf = cscf[i]->ctx->srv_conf[ngx_http_llm_module.ctx_index];

        if (!lscf->gateway) {
            return ngx_http_llm_loopback_refuse(cf, "an \"llm_gateway\" in "
                                                "each server that listens on "
                                                "it");
        }
    }

    return ngx_test_config ? NGX_OK : ngx_http_llm_loopback_stale(cf);
}


ngx_uint_t
ngx_http_llm_loopback_configured(void)
{
    return ngx_http_llm_loopback_next != NULL;
}


static ngx_http_conf_addr_t *
ngx_http_llm_loopback_listen(ngx_conf_t *cf)
{
    ngx_uint_t                  i, k;
    ngx_http_conf_port_t       *port;
    ngx_http_conf_addr_t       *addr;
    ngx_http_core_main_conf_t  *cmcf;

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    if (cmcf->ports == NULL) {
        return NULL;
    }

    port = cmcf->ports->elts;

    for (i = 0; i < cmcf->ports->nelts; i++) {

        if (port[i].family != AF_UNIX) {
            continue;
        }

        addr = port[i].addrs.elts;

        for (k = 0; k < port[i].addrs.nelts; k++) {

            if (ngx_http_llm_loopback_same(addr[k].opt.sockaddr,
                                     &ngx_http_llm_loopback_next->addr))
            {
                return &addr[k];
            }
        }
    }

    return NULL;
}


static ngx_uint_t
ngx_http_llm_loopback_same(struct sockaddr *sa, struct sockaddr_un *addr)
{
    return sa && sa->sa_family == AF_UNIX
           && ngx_strcmp(((struct sockaddr_un *) sa)->sun_path,
                         addr->sun_path)
              == 0;
}


/*
 * nginx removes its sockets when it ends, but not when it is killed, and
 * cannot bind to one that is there.  One that nobody answers on is removed.
 */

static ngx_int_t
ngx_http_llm_loopback_stale(ngx_conf_t *cf)
{
    char                *path;
    ngx_err_t            err;
    ngx_uint_t           i;
    struct stat          sb;
    ngx_socket_t         s;
    ngx_listening_t     *ls;
    struct sockaddr_un  *addr;

    addr = &ngx_http_llm_loopback_next->addr;
    path = addr->sun_path;

    ls = cf->cycle->old_cycle->listening.elts;

    for (i = 0; i < cf->cycle->old_cycle->listening.nelts; i++) {

        if (ngx_http_llm_loopback_same(ls[i].sockaddr, addr)) {
            /* a reload, or an upgrade: it is ours */
            return NGX_OK;
        }
    }

    if (lstat(path, &sb) == -1) {
        return NGX_OK;
    }

    if (!S_ISSOCK(sb.st_mode)) {
        return ngx_http_llm_loopback_refuse(cf, "a path where nothing is, or "
                                            "a socket");
    }

    s = ngx_socket(AF_UNIX, SOCK_STREAM, 0);

    if (s == (ngx_socket_t) -1) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, ngx_socket_errno,
                      ngx_socket_n " failed");
        return NGX_ERROR;
    }

    /* not to wait for one that is alive and busy */
    (void) ngx_nonblocking(s);

    err = connect(s, (struct sockaddr *) addr, sizeof(struct sockaddr_un))
          == -1 ? ngx_socket_errno : 0;

    (void) ngx_close_socket(s);

    if (err != NGX_ECONNREFUSED) {
        /* bind() will tell */
        return NGX_OK;
    }

    ngx_log_error(NGX_LOG_NOTICE, cf->log, 0,
                  "llm_internal: removing the stale socket \"%s\"", path);

    if (ngx_delete_file(path) == NGX_FILE_ERROR) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, ngx_errno,
                      ngx_delete_file_n " \"%s\" failed", path);
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_loopback_refuse(ngx_conf_t *cf, const char *need)
{
    ngx_http_llm_loopback_conf_t  *lc;

    lc = ngx_http_llm_loopback_next;

    ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                  "llm_internal \"unix:%s\" in %s:%ui needs %s",
                  lc->addr.sun_path, lc->file, lc->line, need);

    return NGX_ERROR;
}


ngx_int_t
ngx_http_llm_loopback_init_module(ngx_cycle_t *cycle)
{
    char             *path;
    u_char            random[NGX_HTTP_LLM_LOOPBACK_SECRET / 2];
    ngx_core_conf_t  *ccf;

    ngx_http_llm_loopback_now = ngx_http_llm_loopback_next;

    if (ngx_http_llm_loopback_now == NULL || ngx_test_config) {
        return NGX_OK;
    }

    if (ngx_http_llm_loopback_word.len == 0) {

        if (RAND_bytes(random, sizeof(random)) != 1) {
            ngx_log_error(NGX_LOG_EMERG, cycle->log, 0,
                          "RAND_bytes() failed");
            return NGX_ERROR;
        }

        ngx_hex_dump(ngx_http_llm_loopback_hex, random, sizeof(random));

        ngx_http_llm_loopback_word.data = ngx_http_llm_loopback_hex;
        ngx_http_llm_loopback_word.len = NGX_HTTP_LLM_LOOPBACK_SECRET;
    }

    /* nginx makes its sockets for everybody */

    path = ngx_http_llm_loopback_now->addr.sun_path;
    ccf = (ngx_core_conf_t *) ngx_get_conf(cycle->conf_ctx, ngx_core_module);

    if (chmod(path, S_IRUSR|S_IWUSR) == -1) {
        ngx_log_error(NGX_LOG_CRIT, cycle->log, ngx_errno,
                      "chmod() \"%s\" failed", path);
    }

    if (geteuid() == 0 && chown(path, ccf->user, ccf->group) == -1) {
        ngx_log_error(NGX_LOG_CRIT, cycle->log, ngx_errno,
                      "chown(\"%s\", %d) failed", path, ccf->user);
    }

    return NGX_OK;
}


struct sockaddr_un *
ngx_http_llm_loopback_address(void)
{
    return ngx_http_llm_loopback_now ? &ngx_http_llm_loopback_now->addr
                                     : NULL;
}


ngx_str_t *
ngx_http_llm_loopback_secret(void)
{
    return &ngx_http_llm_loopback_word;
}


ngx_int_t
ngx_http_llm_loopback_key(ngx_http_request_t *r, ngx_str_t *name)
{
    ngx_table_elt_t  *h;

    if (ngx_http_llm_loopback_now == NULL
        || !ngx_http_llm_loopback_same(r->connection->local_sockaddr,
                                       &ngx_http_llm_loopback_now->addr))
    {
        return NGX_DECLINED;
    }

    h = ngx_http_llm_header_in(r, "x-llm-internal",
                               sizeof("x-llm-internal") - 1);

    if (h == NULL || h->value.len != NGX_HTTP_LLM_LOOPBACK_SECRET
        || ngx_http_llm_loopback_word.len != NGX_HTTP_LLM_LOOPBACK_SECRET
        || CRYPTO_memcmp(h->value.data, ngx_http_llm_loopback_word.data,
                         NGX_HTTP_LLM_LOOPBACK_SECRET) != 0)
    {
        return NGX_ERROR;
    }

    h = ngx_http_llm_header_in(r, "x-llm-key", sizeof("x-llm-key") - 1);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *name = h->value;

    return NGX_OK;
}


ngx_uint_t
ngx_http_llm_loopback_background(ngx_http_request_t *r)
{
    ngx_table_elt_t  *h;

    h = ngx_http_llm_header_in(r, "x-llm-background",
                               sizeof("x-llm-background") - 1);

    return h && h->value.len == 1 && h->value.data[0] == '1';
}
