
/*
 * Copyright (C) the ngx-llm authors
 *
 * What a request to the admin API brings in path and query.
 */


#include "operate/ngx_http_llm_admin_private.h"


#define NGX_HTTP_LLM_ADMIN_NAME  64             /* of a name in an error */


static ngx_int_t ngx_http_llm_admin_keyval(ngx_http_llm_admin_t *ad,
    ngx_str_t *pair);
static ngx_uint_t ngx_http_llm_admin_listed(const char *list,
    ngx_str_t *name);


ngx_int_t
ngx_http_llm_admin_decode(ngx_pool_t *pool, ngx_str_t *raw, ngx_uint_t plus,
    ngx_str_t *text)
{
    size_t   i;
    u_char  *dst, *src;

    text->data = ngx_pnalloc(pool, raw->len);
    if (text->data == NULL) {
        return NGX_ERROR;
    }

    dst = text->data;
    src = raw->data;

    ngx_unescape_uri(&dst, &src, raw->len, 0);

    text->len = dst - text->data;

    for (i = 0; plus && i < raw->len && i < text->len; i++) {
        if (text->data[i] == '+' && raw->data[i] == '+') {
            text->data[i] = ' ';
        }
    }

    return NGX_OK;
}


/* NGX_DECLINED: only what is known to the row; else it is answered */

ngx_int_t
ngx_http_llm_admin_query(ngx_http_llm_admin_t *ad)
{
    u_char     *p, *last, *next;
    ngx_int_t   rc;
    ngx_str_t   pair;

    p = ad->request->args.data;
    last = p + ad->request->args.len;

    for ( /* void */ ; p < last; p = next + 1) {

        next = ngx_strlchr(p, last, '&');

        if (next == NULL) {
            next = last;
        }

        if (next == p) {
            continue;
        }

        pair.data = p;
        pair.len = next - p;

        rc = ngx_http_llm_admin_keyval(ad, &pair);

        if (rc != NGX_DECLINED) {
            return rc;
        }
    }

    return NGX_DECLINED;
}


static ngx_int_t
ngx_http_llm_admin_keyval(ngx_http_llm_admin_t *ad, ngx_str_t *pair)
{
    u_char        *p;
    ngx_str_t      raw, given;
    ngx_pool_t    *pool;
    ngx_keyval_t  *kv;

    pool = ad->request->pool;
    kv = &ad->arg[ad->nargs];

    raw = *pair;
    p = ngx_strlchr(raw.data, raw.data + raw.len, '=');
    raw.len = p ? (size_t) (p - raw.data) : raw.len;

    if (ngx_http_llm_admin_decode(pool, &raw, 0, &kv->key) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (!ngx_http_llm_admin_listed(ad->api->args, &kv->key)) {
        return ngx_http_llm_admin_error(ad, NGX_HTTP_BAD_REQUEST,
            "unknown_parameter", NULL, "Unknown query parameter \"%*s\".",
            ngx_min(kv->key.len, NGX_HTTP_LLM_ADMIN_NAME), kv->key.data);
    }

    /* what is listed fits, as long as it comes once */

    given = kv->key;

    if (ngx_http_llm_admin_arg(ad, NULL, &given) == NGX_OK) {
        return ngx_http_llm_admin_error(ad, NGX_HTTP_BAD_REQUEST,
            "invalid_value", NULL, "The query parameter \"%V\" is there "
            "twice.", &kv->key);
    }

    raw.data = p ? p + 1 : raw.data + raw.len;
    raw.len = pair->data + pair->len - raw.data;

    if (ngx_http_llm_admin_decode(pool, &raw, 1, &kv->value) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ad->nargs++;

    return NGX_DECLINED;
}


/* is it a word of the list? */

static ngx_uint_t
ngx_http_llm_admin_listed(const char *list, ngx_str_t *name)
{
    size_t  len;

    for ( /* void */ ; *list; list += len + (list[len] == ' ')) {

        len = strcspn(list, " ");

        if (len == name->len && ngx_memcmp(list, name->data, len) == 0) {
            return 1;
        }
    }

    return 0;
}


/* "name" NULL: is the one of this name, in "value", there? */

ngx_int_t
ngx_http_llm_admin_arg(ngx_http_llm_admin_t *ad, const char *name,
    ngx_str_t *value)
{
    size_t      len;
    ngx_uint_t  i;

    if (name == NULL) {
        name = (char *) value->data;
        len = value->len;

    } else {
        len = ngx_strlen(name);
    }

    for (i = 0; i < ad->nargs; i++) {
        if (ad->arg[i].key.len == len
            && ngx_memcmp(ad->arg[i].key.data, name, len) == 0)
        {
            *value = ad->arg[i].value;
            return NGX_OK;
        }
    }

    return NGX_DECLINED;
}


ngx_uint_t
ngx_http_llm_admin_name(ngx_str_t *name)
{
    size_t  i;
    u_char  c, lower;

    if (name->len == 0 || name->len > 64) {
        return 0;
    }

    for (i = 0; i < name->len; i++) {
        c = name->data[i];
        lower = c | 0x20;

        if ((lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9')) {
            continue;
        }

        if (i == 0 || (c != '.' && c != '_' && c != '@' && c != '-')) {
            return 0;
        }
    }

    return 1;
}


ngx_int_t
ngx_http_llm_admin_limit(ngx_http_llm_admin_t *ad, ngx_int_t other,
    ngx_int_t *limit)
{
    ngx_int_t  n;
    ngx_str_t  text;

    *limit = other;

    if (ngx_http_llm_admin_arg(ad, "limit", &text) != NGX_OK) {
        return NGX_OK;
    }

    n = ngx_atoi(text.data, text.len);

    if (n < 1 || n > NGX_HTTP_LLM_ADMIN_MOST) {
        return NGX_ERROR;
    }

    *limit = n;

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_admin_limit_wrong(ngx_http_llm_admin_t *ad)
{
    return ngx_http_llm_admin_error(ad, NGX_HTTP_BAD_REQUEST, "invalid_value",
        "limit", "limit: expected a number from 1 to %d.",
        NGX_HTTP_LLM_ADMIN_MOST);
}


/* a day alone is its beginning */

time_t
ngx_http_llm_admin_time(ngx_str_t *text)
{
    size_t      i;
    time_t      seconds;
    struct tm   tm, same;

    static const char  form[] = "dddd-dd-ddTdd:dd:ddZ";

    seconds = ngx_atotm(text->data, text->len);

    if (seconds != NGX_ERROR) {
        return seconds;
    }

    if (text->len != sizeof(form) - 1 && text->len != sizeof("dddd-dd-dd") - 1)
    {
        return -1;
    }

    for (i = 0; i < text->len; i++) {
        if (form[i] == 'd' ? text->data[i] < '0' || text->data[i] > '9'
                           : text->data[i] != (u_char) form[i])
        {
            return -1;
        }
    }

    ngx_memzero(&tm, sizeof(struct tm));

    tm.tm_year = ngx_atoi(text->data, 4) - 1900;
    tm.tm_mon = ngx_atoi(text->data + 5, 2) - 1;
    tm.tm_mday = ngx_atoi(text->data + 8, 2);

    if (text->len == sizeof(form) - 1) {
        tm.tm_hour = ngx_atoi(text->data + 11, 2);
        tm.tm_min = ngx_atoi(text->data + 14, 2);
        tm.tm_sec = ngx_atoi(text->data + 17, 2);
    }

    /* what is no date becomes another one */

    same = tm;
    seconds = timegm(&same);

    return same.tm_mon == tm.tm_mon && same.tm_mday == tm.tm_mday
           && same.tm_hour == tm.tm_hour && same.tm_min == tm.tm_min
           && same.tm_sec == tm.tm_sec && seconds >= 0
           ? seconds : -1;
}


time_t
ngx_http_llm_admin_time_json(json_t *value)
{
    ngx_str_t  text;

    if (json_is_integer(value)) {
        return json_integer_value(value) >= 0 ? json_integer_value(value)
                                              : -1;
    }

    if (!json_is_string(value)) {
        return -1;
    }

    text.data = (u_char *) json_string_value(value);
    text.len = json_string_length(value);

    return ngx_http_llm_admin_time(&text);
}
