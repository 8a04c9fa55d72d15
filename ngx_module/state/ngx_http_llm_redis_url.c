
/*
 * Copyright (C) the ngx-llm authors
 */


#include "state/ngx_http_llm_redis_url.h"


#define NGX_HTTP_LLM_REDIS_PORT       6379
#define NGX_HTTP_LLM_REDIS_SENTINEL   26379

#define NGX_HTTP_LLM_REDIS_SENTINELS  16


static ngx_int_t ngx_http_llm_redis_url_inet(ngx_conf_t *cf, ngx_str_t *rest,
    ngx_http_llm_redis_url_t *u);
static ngx_int_t ngx_http_llm_redis_url_unix(ngx_conf_t *cf, ngx_str_t *rest,
    ngx_http_llm_redis_url_t *u);
static ngx_int_t ngx_http_llm_redis_url_user(ngx_conf_t *cf,
    ngx_str_t *authority, ngx_http_llm_redis_url_t *u);
static ngx_int_t ngx_http_llm_redis_url_decode(ngx_conf_t *cf, u_char *p,
    u_char *last, ngx_str_t *value);
static ngx_int_t ngx_http_llm_redis_url_db(ngx_conf_t *cf, u_char *p,
    u_char *last, ngx_http_llm_redis_url_t *u);
static ngx_int_t ngx_http_llm_redis_url_query(ngx_conf_t *cf, ngx_str_t *rest,
    ngx_http_llm_redis_url_t *u);
static ngx_int_t ngx_http_llm_redis_url_sentinel(ngx_conf_t *cf,
    ngx_str_t *rest, ngx_http_llm_redis_url_t *u);
static ngx_int_t ngx_http_llm_redis_url_sentinels(ngx_conf_t *cf,
    ngx_str_t *list, ngx_http_llm_redis_url_t *u);
static ngx_int_t ngx_http_llm_redis_url_master(ngx_conf_t *cf, ngx_str_t *path,
    ngx_http_llm_redis_url_t *u);
static ngx_int_t ngx_http_llm_redis_url_args(ngx_conf_t *cf, ngx_str_t *rest,
    ngx_http_llm_redis_url_t *u);
static ngx_int_t ngx_http_llm_redis_url_host(ngx_conf_t *cf, ngx_url_t *url,
    ngx_http_llm_redis_url_t *u);
static ngx_int_t ngx_http_llm_redis_url_error(ngx_conf_t *cf,
    const char *what);


ngx_int_t
ngx_http_llm_redis_url_parse(ngx_conf_t *cf, ngx_str_t *url,
    ngx_http_llm_redis_url_t *u)
{
    u_char     *p;
    size_t      len;
    ngx_str_t   rest;

    ngx_memzero(u, sizeof(ngx_http_llm_redis_url_t));

    p = url->data;
    len = url->len;

    if (ngx_strlchr(p, p + len, '\0') != NULL) {
        return ngx_http_llm_redis_url_error(cf, "a zero byte");
    }

    if (len >= 9 && ngx_strncasecmp(p, (u_char *) "rediss://", 9) == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"rediss://\" is not supported: use a unix "
                           "socket or a local stunnel, since hiredis 0.14 "
                           "has no TLS; docs/redis.md has the recipe");
        return NGX_ERROR;
    }

    if (len >= 8 && ngx_strncasecmp(p, (u_char *) "redis://", 8) == 0) {
        rest.data = p + 8;
        rest.len = len - 8;
        return ngx_http_llm_redis_url_inet(cf, &rest, u);
    }

    if (len >= 5 && ngx_strncasecmp(p, (u_char *) "unix:", 5) == 0) {
        rest.data = p + 5;
        rest.len = len - 5;
        return ngx_http_llm_redis_url_unix(cf, &rest, u);
    }

    if (len >= 17
        && ngx_strncasecmp(p, (u_char *) "redis+sentinel://", 17) == 0)
    {
        rest.data = p + 17;
        rest.len = len - 17;
        return ngx_http_llm_redis_url_sentinel(cf, &rest, u);
    }

    return ngx_http_llm_redis_url_error(cf, "an unknown scheme");
}


static ngx_int_t
ngx_http_llm_redis_url_inet(ngx_conf_t *cf, ngx_str_t *rest,
    ngx_http_llm_redis_url_t *u)
{
    u_char     *p, *last;
    ngx_str_t   authority;
    ngx_url_t   url;

    if (ngx_http_llm_redis_url_query(cf, rest, u) != NGX_OK) {
        return NGX_ERROR;
    }

    last = rest->data + rest->len;

    authority = *rest;

    p = ngx_strlchr(rest->data, last, '/');

    if (p != NULL) {
        authority.len = p - rest->data;

        if (p + 1 != last
            && ngx_http_llm_redis_url_db(cf, p + 1, last, u) != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    if (ngx_http_llm_redis_url_user(cf, &authority, u) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_memzero(&url, sizeof(ngx_url_t));

    url.url = authority;
    url.default_port = NGX_HTTP_LLM_REDIS_PORT;

    if (ngx_http_llm_redis_url_host(cf, &url, u) != NGX_OK) {
        return NGX_ERROR;
    }

    u->name.data = ngx_pnalloc(cf->pool, sizeof("redis://:65535/") - 1
                                         + url.host.len + NGX_INT_T_LEN);
    if (u->name.data == NULL) {
        return NGX_ERROR;
    }

    p = ngx_sprintf(u->name.data, "redis://%V:%d/%ui", &url.host,
                    (int) url.port, u->db);
    u->name.len = p - u->name.data;

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_redis_url_unix(ngx_conf_t *cf, ngx_str_t *rest,
    ngx_http_llm_redis_url_t *u)
{
    u_char     *p, *last;
    ngx_str_t   authority;
    ngx_url_t   url;

    if (ngx_http_llm_redis_url_query(cf, rest, u) != NGX_OK) {
        return NGX_ERROR;
    }

    last = rest->data + rest->len;

    if (rest->len >= 2 && rest->data[0] == '/' && rest->data[1] == '/') {

        authority.data = rest->data + 2;

        p = ngx_strlchr(authority.data, last, '/');
        if (p == NULL) {
            return ngx_http_llm_redis_url_error(cf, "no path");
        }

        authority.len = p - authority.data;

        if (ngx_http_llm_redis_url_user(cf, &authority, u) != NGX_OK) {
            return NGX_ERROR;
        }

        if (authority.len != 0) {
            return ngx_http_llm_redis_url_error(cf, "a host before the path");
        }

        rest->data = p;
        rest->len = last - p;
    }

    if (rest->len == 0 || rest->data[0] != '/') {
        return ngx_http_llm_redis_url_error(cf, "no absolute path");
    }

    ngx_memzero(&url, sizeof(ngx_url_t));

    url.url.len = sizeof("unix:") - 1 + rest->len;

    url.url.data = ngx_pnalloc(cf->pool,
                               url.url.len + sizeof("?db=") - 1
                               + NGX_INT_T_LEN);
    if (url.url.data == NULL) {
        return NGX_ERROR;
    }

    p = ngx_sprintf(url.url.data, "unix:%V", rest);

    u->name.data = url.url.data;

    if (u->db != 0) {
        p = ngx_sprintf(p, "?db=%ui", u->db);
    }

    u->name.len = p - u->name.data;

    return ngx_http_llm_redis_url_host(cf, &url, u);
}


static ngx_int_t
ngx_http_llm_redis_url_sentinel(ngx_conf_t *cf, ngx_str_t *rest,
    ngx_http_llm_redis_url_t *u)
{
    u_char     *p, *last;
    ngx_str_t   authority, path;

    if (ngx_http_llm_redis_url_args(cf, rest, u) != NGX_OK) {
        return NGX_ERROR;
    }

    last = rest->data + rest->len;

    p = ngx_strlchr(rest->data, last, '/');
    if (p == NULL) {
        return ngx_http_llm_redis_url_error(cf, "no name of a master");
    }

    authority.data = rest->data;
    authority.len = p - rest->data;

    path.data = p + 1;
    path.len = last - p - 1;

    if (ngx_http_llm_redis_url_master(cf, &path, u) != NGX_OK
        || ngx_http_llm_redis_url_user(cf, &authority, u) != NGX_OK
        || ngx_http_llm_redis_url_sentinels(cf, &authority, u) != NGX_OK)
    {
        return NGX_ERROR;
    }

    u->name.data = ngx_pnalloc(cf->pool, sizeof("redis+sentinel:///")
                                         + authority.len + u->master.len
                                         + NGX_INT_T_LEN);
    if (u->name.data == NULL) {
        return NGX_ERROR;
    }

    p = ngx_sprintf(u->name.data, "redis+sentinel://%V/%V/%ui", &authority,
                    &u->master, u->db);
    u->name.len = p - u->name.data;

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_redis_url_master(ngx_conf_t *cf, ngx_str_t *path,
    ngx_http_llm_redis_url_t *u)
{
    u_char  *p, *last;

    last = path->data + path->len;

    u->master = *path;

    p = ngx_strlchr(path->data, last, '/');

    if (p != NULL) {
        u->master.len = p - path->data;

        if (p + 1 != last
            && ngx_http_llm_redis_url_db(cf, p + 1, last, u) != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    if (u->master.len == 0) {
        return ngx_http_llm_redis_url_error(cf, "no name of a master");
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_redis_url_sentinels(ngx_conf_t *cf, ngx_str_t *list,
    ngx_http_llm_redis_url_t *u)
{
    u_char      *p, *next, *last;
    ngx_uint_t   known;
    ngx_url_t    url;

    u->hosts = ngx_pcalloc(cf->pool, NGX_HTTP_LLM_REDIS_SENTINELS
                                     * sizeof(ngx_http_llm_redis_host_t));
    if (u->hosts == NULL) {
        return NGX_ERROR;
    }

    known = 0;
    last = list->data + list->len;

    for (p = list->data; p <= last; p = next + 1) {

        next = ngx_strlchr(p, last, ',');
        if (next == NULL) {
            next = last;
        }

        if (u->nhosts == NGX_HTTP_LLM_REDIS_SENTINELS) {
            return ngx_http_llm_redis_url_error(cf, "too many Sentinels");
        }

        ngx_memzero(&url, sizeof(ngx_url_t));

        url.url.data = p;
        url.url.len = next - p;
        url.default_port = NGX_HTTP_LLM_REDIS_SENTINEL;

        if (ngx_parse_url(cf->pool, &url) != NGX_OK) {

            if (url.err == NULL) {
                return NGX_ERROR;
            }

            if (ngx_strncmp(url.err, "host not found", 14) != 0) {
                return ngx_http_llm_redis_url_error(cf, url.err);
            }

            /* the others may do, and with a resolver this one later, too */

            url.naddrs = 0;

            ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                               "Sentinel \"%V\" of the Redis URL not found",
                               &url.host);
        }

        known += url.naddrs;
        ngx_http_llm_redis_host_init(&u->hosts[u->nhosts++], &url);
    }

    if (known == 0) {
        return ngx_http_llm_redis_url_error(cf,
                                            "no Sentinel has an address");
    }

    return NGX_OK;
}


/* cuts "?sentinel_password=...&sentinel_user=..." off the end */

static ngx_int_t
ngx_http_llm_redis_url_args(ngx_conf_t *cf, ngx_str_t *rest,
    ngx_http_llm_redis_url_t *u)
{
    u_char     *p, *next, *value, *last;
    ngx_str_t  *to;

    last = rest->data + rest->len;

    p = ngx_strlcasestrn(rest->data, last, (u_char *) "?sentinel_",
                         sizeof("?sentinel_") - 2);
    if (p == NULL) {
        return NGX_OK;
    }

    rest->len = p - rest->data;

    for (p++; p <= last; p = next + 1) {

        next = ngx_strlchr(p, last, '&');
        if (next == NULL) {
            next = last;
        }

        if (next - p > 18 && ngx_strncmp(p, "sentinel_password=", 18) == 0) {
            to = &u->sentinel_password;
            value = p + 18;

        } else if (next - p > 14 && ngx_strncmp(p, "sentinel_user=", 14) == 0)
        {
            to = &u->sentinel_user;
            value = p + 14;

        } else {
            return ngx_http_llm_redis_url_error(cf, "an unknown argument");
        }

        if (ngx_http_llm_redis_url_decode(cf, value, next, to) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/* cuts what enters the server off the authority: "[user]:password@" */

static ngx_int_t
ngx_http_llm_redis_url_user(ngx_conf_t *cf, ngx_str_t *authority,
    ngx_http_llm_redis_url_t *u)
{
    u_char  *p, *at, *last;

    last = authority->data + authority->len;
    at = NULL;

    for (p = authority->data; p < last; p++) {
        if (*p == '@') {
            at = p;
        }
    }

    if (at == NULL) {
        return NGX_OK;
    }

    p = ngx_strlchr(authority->data, at, ':');

    if (p == NULL || p + 1 == at) {
        return ngx_http_llm_redis_url_error(cf,
                                       "no \":password\" before the \"@\"");
    }

    if (ngx_http_llm_redis_url_decode(cf, authority->data, p, &u->user)
        != NGX_OK
        || ngx_http_llm_redis_url_decode(cf, p + 1, at, &u->password)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    authority->data = at + 1;
    authority->len = last - at - 1;

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_redis_url_decode(ngx_conf_t *cf, u_char *p, u_char *last,
    ngx_str_t *value)
{
    u_char     *d;
    ngx_int_t   n;

    d = ngx_pnalloc(cf->pool, last - p + 1);
    if (d == NULL) {
        return NGX_ERROR;
    }

    value->data = d;

    while (p < last) {

        if (*p != '%') {
            *d++ = *p++;
            continue;
        }

        if (last - p < 3) {
            return ngx_http_llm_redis_url_error(cf, "a broken \"%\" escape");
        }

        n = ngx_hextoi(p + 1, 2);
        if (n == NGX_ERROR) {
            return ngx_http_llm_redis_url_error(cf, "a broken \"%\" escape");
        }

        *d++ = (u_char) n;
        p += 3;
    }

    value->len = d - value->data;

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_redis_url_db(ngx_conf_t *cf, u_char *p, u_char *last,
    ngx_http_llm_redis_url_t *u)
{
    ngx_int_t  db;

    db = ngx_atoi(p, last - p);

    if (db == NGX_ERROR) {
        return ngx_http_llm_redis_url_error(cf,
                                       "a database that is not a number");
    }

    u->db = db;

    return NGX_OK;
}


/* cuts "?db=N" off the end */

static ngx_int_t
ngx_http_llm_redis_url_query(ngx_conf_t *cf, ngx_str_t *rest,
    ngx_http_llm_redis_url_t *u)
{
    u_char  *p, *last;

    last = rest->data + rest->len;

    for (p = last; p > rest->data && p[-1] != '@'; p--) {

        if (p[-1] != '?') {
            continue;
        }

        if (last - p < 4 || ngx_strncmp(p, "db=", 3) != 0) {
            return ngx_http_llm_redis_url_error(cf, "an unknown argument");
        }

        rest->len = p - 1 - rest->data;

        return ngx_http_llm_redis_url_db(cf, p + 3, last, u);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_redis_url_host(ngx_conf_t *cf, ngx_url_t *url,
    ngx_http_llm_redis_url_t *u)
{
    if (ngx_parse_url(cf->pool, url) != NGX_OK) {

        if (url->err == NULL) {
            return NGX_ERROR;
        }

        if (ngx_strncmp(url->err, "host not found", 14) == 0) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "host \"%V\" of the Redis URL not found",
                               &url->host);
            return NGX_ERROR;
        }

        return ngx_http_llm_redis_url_error(cf, url->err);
    }

    u->hosts = ngx_pcalloc(cf->pool, sizeof(ngx_http_llm_redis_host_t));
    if (u->hosts == NULL) {
        return NGX_ERROR;
    }

    u->nhosts = 1;
    ngx_http_llm_redis_host_init(u->hosts, url);

    return NGX_OK;
}


/* the URL itself is not shown: a mistake in it may bare the password */

static ngx_int_t
ngx_http_llm_redis_url_error(ngx_conf_t *cf, const char *what)
{
    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid Redis URL: %s; expected "
                       "\"redis://[[user]:password@]host[:port][/db]\", "
                       "\"redis+sentinel://[[user]:password@]host[:port],.../"
                       "master[/db]\" or \"unix:/path[?db=N]\"", what);

    return NGX_ERROR;
}
