
/*
 * Copyright (C) the ngx-llm authors
 *
 * Which address a connection goes to.  Round robin and nothing else: retries,
 * and who is down, are the gateway's business.
 */


#include "upstream/ngx_http_llm_resolve_private.h"


typedef struct {
    ngx_pool_t                   *pool;
    ngx_http_llm_resolve_t       *resolve;
    ngx_http_llm_resolve_addr_t  *addr;          /* NULL: none is taken */
} ngx_http_llm_resolve_peer_t;


static ngx_uint_t ngx_http_llm_resolve_offer(
    ngx_http_llm_resolve_name_t *name, ngx_resolver_addr_t *addr,
    ngx_uint_t fresh);
static ngx_http_llm_resolve_addr_t *ngx_http_llm_resolve_find(
    ngx_http_llm_resolve_name_t *name, struct sockaddr *sa, socklen_t len);
static ngx_uint_t ngx_http_llm_resolve_usable(
    ngx_http_llm_resolve_name_t *name, ngx_resolver_addr_t *addr);
static void ngx_http_llm_resolve_list(ngx_http_llm_resolve_t *rs);
static ngx_int_t ngx_http_llm_resolve_get_peer(ngx_peer_connection_t *pc,
    void *data);
static void ngx_http_llm_resolve_free_peer(ngx_peer_connection_t *pc,
    void *data, ngx_uint_t state);
#if (NGX_HTTP_SSL || NGX_COMPAT)
static ngx_int_t ngx_http_llm_resolve_set_session(ngx_peer_connection_t *pc,
    void *data);
static void ngx_http_llm_resolve_save_session(ngx_peer_connection_t *pc,
    void *data);
#endif


ngx_uint_t
ngx_http_llm_resolve_adopt(ngx_http_llm_resolve_name_t *name,
    ngx_resolver_addr_t *addrs, ngx_uint_t n)
{
    ngx_uint_t                    i, fresh, found;
    ngx_http_llm_resolve_addr_t  *a;

    a = name->addrs;

    for (i = 0; i < 2 * name->max; i++) {
        if (a[i].state == NGX_HTTP_LLM_RESOLVE_LIVE) {
            a[i].state = NGX_HTTP_LLM_RESOLVE_OLD;
        }
    }

    /* of more than "max" those that are known: they have connections */

    found = 0;

    for (fresh = 0; fresh <= 1; fresh++) {
        for (i = 0; i < n && found < name->max; i++) {
            found += ngx_http_llm_resolve_offer(name, &addrs[i], fresh);
        }
    }

    for (i = 0; i < 2 * name->max; i++) {
        if (a[i].state == NGX_HTTP_LLM_RESOLVE_OLD) {
            a[i].state = found ? NGX_HTTP_LLM_RESOLVE_GONE
                               : NGX_HTTP_LLM_RESOLVE_LIVE;
        }
    }

    ngx_http_llm_resolve_list(name->resolve);

    return found;
}


/* 1: the address is in use from now on, and was not counted before */

static ngx_uint_t
ngx_http_llm_resolve_offer(ngx_http_llm_resolve_name_t *name,
    ngx_resolver_addr_t *addr, ngx_uint_t fresh)
{
    ngx_uint_t                    i;
    ngx_sockaddr_t                sa;
    ngx_http_llm_resolve_addr_t  *a;

    if (addr->socklen > (socklen_t) sizeof(ngx_sockaddr_t)) {
        return 0;
    }

    ngx_memcpy(&sa, addr->sockaddr, addr->socklen);
    ngx_inet_set_port(&sa.sockaddr, name->port);

    a = ngx_http_llm_resolve_find(name, &sa.sockaddr, addr->socklen);

    if (a != NULL
        && (a->state == NGX_HTTP_LLM_RESOLVE_LIVE
            || (a->state == NGX_HTTP_LLM_RESOLVE_GONE && !fresh)))
    {
        return 0;
    }

    if ((a == NULL && !fresh) || !ngx_http_llm_resolve_usable(name, addr)) {
        return 0;
    }

    if (a != NULL) {
        a->state = NGX_HTTP_LLM_RESOLVE_LIVE;
        return 1;
    }

    a = name->addrs;

    for (i = 0; i < 2 * name->max; i++) {
        if (a[i].refs == 0 && (a[i].state == NGX_HTTP_LLM_RESOLVE_FREE
                               || a[i].state == NGX_HTTP_LLM_RESOLVE_GONE))
        {
            break;
        }
    }

    if (i == 2 * name->max) {

        /* streams hold all places: the next answer may have more luck */

        return 0;
    }

    a = &a[i];

    ngx_http_llm_resolve_forget(a);

    a->state = NGX_HTTP_LLM_RESOLVE_LIVE;
    a->sockaddr = sa;
    a->socklen = addr->socklen;
    a->name.data = a->text;
    a->name.len = ngx_sock_ntop(&a->sockaddr.sockaddr, a->socklen, a->text,
                                NGX_SOCKADDR_STRLEN, 1);

    ngx_log_debug2(NGX_LOG_DEBUG_HTTP, ngx_cycle->log, 0,
                   "llm resolve \"%V\": new address %V", &name->host,
                   &a->name);

    return 1;
}


static ngx_http_llm_resolve_addr_t *
ngx_http_llm_resolve_find(ngx_http_llm_resolve_name_t *name,
    struct sockaddr *sa, socklen_t len)
{
    ngx_uint_t                    i;
    ngx_http_llm_resolve_addr_t  *a;

    a = name->addrs;

    for (i = 0; i < 2 * name->max; i++) {
        if (a[i].state != NGX_HTTP_LLM_RESOLVE_FREE
            && ngx_cmp_sockaddr(&a[i].sockaddr.sockaddr, a[i].socklen, sa,
                                len, 1)
               == NGX_OK)
        {
            return &a[i];
        }
    }

    return NULL;
}


/*
 * Many machines have no way to IPv6 addresses, but are told them all the same.
 * Connecting a datagram socket asks the kernel for a route and sends nothing.
 */

static ngx_uint_t
ngx_http_llm_resolve_usable(ngx_http_llm_resolve_name_t *name,
    ngx_resolver_addr_t *addr)
{
#if (NGX_HAVE_INET6)

    int           rc;
    ngx_err_t     err;
    ngx_socket_t  s;

    if (addr->sockaddr->sa_family != AF_INET6) {
        return 1;
    }

    if (!name->ipv6) {
        return 0;
    }

    s = ngx_socket(AF_INET6, SOCK_DGRAM, 0);

    if (s == (ngx_socket_t) -1) {
        return (ngx_socket_errno != EAFNOSUPPORT);
    }

    rc = connect(s, addr->sockaddr, addr->socklen);
    err = ngx_socket_errno;

    ngx_close_socket(s);

    return !(rc == -1 && (err == NGX_ENETUNREACH || err == NGX_EHOSTUNREACH
                          || err == EADDRNOTAVAIL || err == NGX_EINVAL));

#else

    return (addr->sockaddr->sa_family == AF_INET);

#endif
}


static void
ngx_http_llm_resolve_list(ngx_http_llm_resolve_t *rs)
{
    ngx_uint_t                     i, n;
    ngx_http_llm_resolve_name_t  **name;

    rs->nlive = 0;
    name = rs->names.elts;

    for (i = 0; i < rs->names.nelts; i++) {
        for (n = 0; n < 2 * name[i]->max; n++) {
            if (name[i]->addrs[n].state == NGX_HTTP_LLM_RESOLVE_LIVE) {
                rs->live[rs->nlive++] = &name[i]->addrs[n];
            }
        }
    }

    ngx_log_debug2(NGX_LOG_DEBUG_HTTP, ngx_cycle->log, 0,
                   "llm resolve: upstream \"%V\" has %ui addresses",
                   rs->upstream, rs->nlive);
}


ngx_int_t
ngx_http_llm_resolve_peer_init(ngx_http_request_t *r,
    ngx_http_upstream_srv_conf_t *us)
{
    ngx_http_upstream_t          *u;
    ngx_http_llm_resolve_peer_t  *rp;

    u = r->upstream;

    rp = ngx_palloc(r->pool, sizeof(ngx_http_llm_resolve_peer_t));
    if (rp == NULL) {
        return NGX_ERROR;
    }

    rp->pool = r->pool;
    rp->resolve = us->peer.data;
    rp->addr = NULL;

    u->peer.data = rp;
    u->peer.get = ngx_http_llm_resolve_get_peer;
    u->peer.free = ngx_http_llm_resolve_free_peer;
    u->peer.tries = ngx_max(rp->resolve->nlive, 1);

#if (NGX_HTTP_SSL || NGX_COMPAT)
    u->peer.set_session = ngx_http_llm_resolve_set_session;
    u->peer.save_session = ngx_http_llm_resolve_save_session;
#endif

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_resolve_get_peer(ngx_peer_connection_t *pc, void *data)
{
    ngx_http_llm_resolve_peer_t *rp = data;

    ngx_str_t                    *name;
    ngx_http_llm_resolve_t       *rs;
    ngx_http_llm_resolve_addr_t  *a;

    rs = rp->resolve;

    pc->cached = 0;
    pc->connection = NULL;

    if (rs->nlive == 0) {
        pc->name = rs->upstream;
        return NGX_BUSY;
    }

    a = rs->live[rs->next++ % rs->nlive];

    /* a log line names it when it may be another's place already */

    name = ngx_palloc(rp->pool, sizeof(ngx_str_t) + a->name.len);
    if (name == NULL) {
        return NGX_ERROR;
    }

    name->data = (u_char *) (name + 1);
    name->len = a->name.len;
    ngx_memcpy(name->data, a->name.data, a->name.len);

    pc->sockaddr = &a->sockaddr.sockaddr;
    pc->socklen = a->socklen;
    pc->name = name;

    a->refs++;
    rp->addr = a;

    return NGX_OK;
}


static void
ngx_http_llm_resolve_free_peer(ngx_peer_connection_t *pc, void *data,
    ngx_uint_t state)
{
    ngx_http_llm_resolve_peer_t *rp = data;

    if (rp->addr != NULL) {
        rp->addr->refs--;
        rp->addr = NULL;
    }

    if (pc->tries) {
        pc->tries--;
    }
}


#if (NGX_HTTP_SSL)

static ngx_int_t
ngx_http_llm_resolve_set_session(ngx_peer_connection_t *pc, void *data)
{
    ngx_http_llm_resolve_peer_t *rp = data;

    return ngx_ssl_set_session(pc->connection, rp->addr->session);
}


static void
ngx_http_llm_resolve_save_session(ngx_peer_connection_t *pc, void *data)
{
    ngx_http_llm_resolve_peer_t *rp = data;

    ngx_ssl_session_t  *session;

    session = ngx_ssl_get_session(pc->connection);

    if (session == NULL) {
        return;
    }

    if (rp->addr == NULL) {
        ngx_ssl_free_session(session);
        return;
    }

    ngx_http_llm_resolve_forget(rp->addr);
    rp->addr->session = session;
}

#elif (NGX_COMPAT)

/* an nginx that was built with TLS calls these, too */

static ngx_int_t
ngx_http_llm_resolve_set_session(ngx_peer_connection_t *pc, void *data)
{
    return NGX_OK;
}


static void
ngx_http_llm_resolve_save_session(ngx_peer_connection_t *pc, void *data)
{
    /* void */
}

#endif


void
ngx_http_llm_resolve_forget(ngx_http_llm_resolve_addr_t *addr)
{
#if (NGX_HTTP_SSL)

    if (addr->session != NULL) {
        ngx_ssl_free_session(addr->session);
        addr->session = NULL;
    }

#endif
}
