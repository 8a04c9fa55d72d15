
/*
 * Copyright (C) the ngx-llm authors
 *
 * The door of the admin API: the secret, the table of what there is, and the
 * reading of path, query and body.
 */


#include "operate/ngx_http_llm_admin.h"
#include "operate/ngx_http_llm_admin_private.h"
#include "http/ngx_http_llm_body.h"
#include "http/ngx_http_llm_json.h"
#include "http/ngx_http_llm_reply.h"
#include "state/ngx_http_llm_source.h"
#include "state/ngx_http_llm_zone.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>


#define NGX_HTTP_LLM_ADMIN_BODY  (64 * 1024)


static ngx_int_t ngx_http_llm_admin_allowed(ngx_http_request_t *r);
static ngx_int_t ngx_http_llm_admin_find(ngx_http_llm_admin_t *ad);
static ngx_int_t ngx_http_llm_admin_allow(ngx_http_llm_admin_t *ad,
    ngx_uint_t methods);
static ngx_int_t ngx_http_llm_admin_path(ngx_http_llm_admin_t *ad,
    const char *path);
static void ngx_http_llm_admin_body(ngx_http_request_t *r);
static ngx_int_t ngx_http_llm_admin_json(ngx_http_llm_admin_t *ad,
    ngx_str_t *body);
static void ngx_http_llm_admin_cleanup(void *data);


static ngx_str_t  ngx_http_llm_admin_base = ngx_string("/admin/v1");


static ngx_http_llm_admin_api_t  ngx_http_llm_admin_apis[] = {

    { NGX_HTTP_GET, "/keys", NULL, "team source limit after", 0,
      ngx_http_llm_admin_keys },

    { NGX_HTTP_POST, "/keys", "create key", "", 1,
      ngx_http_llm_admin_key_create },

    { NGX_HTTP_GET, "/keys/{name}", NULL, "", 0,
      ngx_http_llm_admin_key },

    { NGX_HTTP_PATCH, "/keys/{name}", "change key", "streams", 1,
      ngx_http_llm_admin_key_change },

    { NGX_HTTP_DELETE, "/keys/{name}", "delete key", "streams", 0,
      ngx_http_llm_admin_key_delete },

    { NGX_HTTP_POST, "/keys/{name}/rotate", "rotate key", "", 2,
      ngx_http_llm_admin_key_rotate },

    { NGX_HTTP_POST, "/keys/{name}/raise", "raise key", "", 1,
      ngx_http_llm_admin_key_raise },

    { NGX_HTTP_DELETE, "/keys/{name}/raise", "lower key", "", 0,
      ngx_http_llm_admin_key_lower },

    { NGX_HTTP_GET, "/teams", NULL, "limit after", 0,
      ngx_http_llm_admin_teams },

    { NGX_HTTP_GET, "/teams/{name}", NULL, "", 0,
      ngx_http_llm_admin_team },

    { NGX_HTTP_PUT, "/teams/{name}", "put team", "", 1,
      ngx_http_llm_admin_team_put },

    { NGX_HTTP_DELETE, "/teams/{name}", "delete team", "", 0,
      ngx_http_llm_admin_team_delete },

    { NGX_HTTP_GET, "/usage", NULL,
      "period from to group_by team key model provider buckets", 0,
      ngx_http_llm_admin_usage },

    { NGX_HTTP_GET, "/latency", NULL, "period from to model", 0,
      ngx_http_llm_admin_latency },

    { NGX_HTTP_GET, "/status", NULL, "", 0,
      ngx_http_llm_admin_status },

    { NGX_HTTP_GET, "/slots", NULL, "limit after", 0,
      ngx_http_llm_admin_slots },

    { NGX_HTTP_GET, "/breakers", NULL, "limit after", 0,
      ngx_http_llm_admin_breakers },

    { NGX_HTTP_POST, "/breakers/reset", "reset breaker", "", 1,
      ngx_http_llm_admin_breakers_reset },

    { NGX_HTTP_POST, "/cache/purge", "purge", "", 1,
      ngx_http_llm_admin_purge },

    { NGX_HTTP_GET, "/tasks", NULL, "", 0,
      ngx_http_llm_admin_tasks },

    { NGX_HTTP_GET, "/tasks/dead", NULL, "limit", 0,
      ngx_http_llm_admin_tasks_dead },

    { NGX_HTTP_POST, "/tasks/purge", "purge tasks", "", 1,
      ngx_http_llm_admin_tasks_purge },

    { NGX_HTTP_DELETE, "/tasks/{name}", "cancel task", "", 0,
      ngx_http_llm_admin_task_cancel },

    { 0, NULL, NULL, NULL, 0, NULL }
};


char *
ngx_http_llm_admin_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_llm_loc_conf_t *llcf = conf;

    char                      *rv;
    size_t                     i;
    ngx_str_t                 *value, secret;
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (clcf->handler || llcf->admin) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_http_llm_source_read(cf, &value[1], "admin secret of location",
                                 &clcf->name, &secret)
        != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    rv = NGX_CONF_OK;

    for (i = 0; i < secret.len; i++) {
        if (secret.data[i] <= 0x20 || secret.data[i] >= 0x7f) {
            rv = "expects a secret of printable ASCII without spaces";
            break;
        }
    }

    if (secret.len == 0) {
        rv = "expects a secret that is not empty";

    } else if (secret.len < 16) {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                           "the admin secret is short: fewer than 16 "
                           "characters can be guessed");
    }

    llcf->admin = ngx_palloc(cf->pool, SHA256_DIGEST_LENGTH);

    if (llcf->admin == NULL
        || SHA256(secret.data, secret.len, llcf->admin) == NULL)
    {
        rv = NGX_CONF_ERROR;
    }

    if (value[1].data[0] == 'f') {
        /* a copy of ours */
        ngx_explicit_memzero(secret.data, secret.len);
    }

    clcf->handler = ngx_http_llm_admin_handler;

    return rv;
}


ngx_int_t
ngx_http_llm_admin_handler(ngx_http_request_t *r)
{
    ngx_int_t              rc;
    ngx_pool_cleanup_t    *cln;
    ngx_http_llm_admin_t  *ad;

    ad = ngx_pcalloc(r->pool, sizeof(ngx_http_llm_admin_t));
    if (ad == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ad->request = r;
    ad->status = NGX_HTTP_OK;
    ad->mcf = ngx_http_get_module_main_conf(r, ngx_http_llm_module);

    rc = ngx_http_llm_admin_allowed(r);

    if (rc == NGX_ERROR) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (rc != NGX_OK) {
        ngx_log_error(NGX_LOG_WARN, r->connection->log, 0,
                      "llm: a request without the admin secret is refused");

        return ngx_http_llm_admin_error(ad, NGX_HTTP_UNAUTHORIZED,
            "invalid_api_key", NULL, "Give the admin secret as "
            "\"Authorization: Bearer SECRET\".");
    }

    rc = ngx_http_llm_admin_find(ad);
    if (rc != NGX_DECLINED) {
        return rc;
    }

    rc = ngx_http_llm_admin_query(ad);
    if (rc != NGX_DECLINED) {
        return rc;
    }

    if (ad->mcf->zone == NULL || ad->mcf->zone->sh == NULL) {
        return NGX_HTTP_SERVICE_UNAVAILABLE;
    }

    if (r->headers_in.content_length_n > NGX_HTTP_LLM_ADMIN_BODY) {
        return ngx_http_llm_admin_error(ad, NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
            "request_too_large", NULL, "The request body is larger than "
            "64 KB.");
    }

    cln = ngx_pool_cleanup_add(r->pool, 0);
    if (cln == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    cln->handler = ngx_http_llm_admin_cleanup;
    cln->data = ad;

    rc = ngx_http_read_client_request_body(r, ngx_http_llm_admin_body);

    return rc >= NGX_HTTP_SPECIAL_RESPONSE ? rc : NGX_DONE;
}


/* by SHA-256, so that neither bytes nor length can be found out by time */

static ngx_int_t
ngx_http_llm_admin_allowed(ngx_http_request_t *r)
{
    u_char                    sha256[SHA256_DIGEST_LENGTH];
    ngx_str_t                 value;
    ngx_http_llm_loc_conf_t  *llcf;

    llcf = ngx_http_get_module_loc_conf(r, ngx_http_llm_module);

    if (llcf->admin == NULL || r->headers_in.authorization == NULL) {
        return NGX_DECLINED;
    }

    value = r->headers_in.authorization->value;

    if (value.len < 7
        || ngx_strncasecmp(value.data, (u_char *) "Bearer ", 7) != 0)
    {
        return NGX_DECLINED;
    }

    value.data += 7;
    value.len -= 7;

    while (value.len && value.data[0] == ' ') {
        value.data++;
        value.len--;
    }

    if (SHA256(value.data, value.len, sha256) == NULL) {
        return NGX_ERROR;
    }

    return CRYPTO_memcmp(sha256, llcf->admin, SHA256_DIGEST_LENGTH) == 0
           ? NGX_OK : NGX_DECLINED;
}


/*
 * The row of path and method: NGX_DECLINED, or answered.  The path is taken
 * as it came, so that a "/" inside a name is no separator; what is a path of
 * its own is no name.
 */

static ngx_int_t
ngx_http_llm_admin_find(ngx_http_llm_admin_t *ad)
{
    ngx_int_t                  rc;
    ngx_uint_t                 methods, named, own;
    ngx_http_request_t        *r;
    ngx_http_llm_admin_api_t  *api;

    r = ad->request;
    methods = 0;

    own = 0;

    for (api = ngx_http_llm_admin_apis; api->path; api++) {

        named = ngx_strchr(api->path, '{') != NULL;

        if (own && named) {
            continue;
        }

        rc = ngx_http_llm_admin_path(ad, api->path);

        if (rc == NGX_DECLINED) {
            continue;
        }

        if (rc == NGX_ERROR) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        if (r->method == api->method
            || (r->method == NGX_HTTP_HEAD && api->method == NGX_HTTP_GET))
        {
            ad->api = api;
            return NGX_DECLINED;
        }

        methods |= api->method;
        own |= !named;
    }

    if (methods == 0) {
        return ngx_http_llm_admin_error(ad, NGX_HTTP_NOT_FOUND,
            "unknown_url", NULL, "Unknown request URL.");
    }

    if (ngx_http_llm_admin_allow(ad, methods) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_llm_admin_error(ad, NGX_HTTP_NOT_ALLOWED,
        "method_not_supported", NULL, "This URL does not support the "
        "method.");
}


static ngx_int_t
ngx_http_llm_admin_allow(ngx_http_llm_admin_t *ad, ngx_uint_t methods)
{
    u_char      *p, *text;
    ngx_uint_t   i;

    static const struct {
        ngx_uint_t   method;
        const char  *name;
    } method[] = {
        { NGX_HTTP_GET, ", GET, HEAD" },
        { NGX_HTTP_POST, ", POST" },
        { NGX_HTTP_PUT, ", PUT" },
        { NGX_HTTP_PATCH, ", PATCH" },
        { NGX_HTTP_DELETE, ", DELETE" }
    };

    text = ngx_pnalloc(ad->request->pool, 64);
    if (text == NULL) {
        return NGX_ERROR;
    }

    p = text;

    for (i = 0; i < sizeof(method) / sizeof(method[0]); i++) {
        if (methods & method[i].method) {
            p = ngx_sprintf(p, "%s", method[i].name);
        }
    }

    *p = '\0';

    return ngx_http_llm_reply_allow(ad->request, (char *) text + 2);
}


static ngx_int_t
ngx_http_llm_admin_path(ngx_http_llm_admin_t *ad, const char *path)
{
    u_char     *p, *last;
    ngx_str_t   raw;

    p = ad->request->unparsed_uri.data;
    last = p + ad->request->unparsed_uri.len;

    raw.data = ngx_strlchr(p, last, '?');

    if (raw.data) {
        last = raw.data;
    }

    if ((size_t) (last - p) < ngx_http_llm_admin_base.len
        || ngx_memcmp(p, ngx_http_llm_admin_base.data,
                      ngx_http_llm_admin_base.len)
           != 0)
    {
        return NGX_DECLINED;
    }

    p += ngx_http_llm_admin_base.len;
    ngx_str_null(&raw);

    while (*path) {

        if (*path == '{') {
            path += sizeof("{name}") - 1;
            raw.data = p;

            while (p < last && *p != '/') {
                p++;
            }

            raw.len = p - raw.data;

            if (raw.len == 0) {
                return NGX_DECLINED;
            }

            continue;
        }

        if (p == last || *p != (u_char) *path) {
            return NGX_DECLINED;
        }

        p++;
        path++;
    }

    if (p != last) {
        return NGX_DECLINED;
    }

    if (raw.len == 0) {
        return NGX_OK;
    }

    return ngx_http_llm_admin_decode(ad->request->pool, &raw, 0, &ad->name);
}


static void
ngx_http_llm_admin_body(ngx_http_request_t *r)
{
    ngx_int_t              rc;
    ngx_str_t              body;
    ngx_pool_cleanup_t    *cln;
    ngx_http_llm_admin_t  *ad;

    for (cln = r->pool->cleanup; cln; cln = cln->next) {
        if (cln->handler == ngx_http_llm_admin_cleanup) {
            break;
        }
    }

    if (cln == NULL || ngx_http_llm_body(r, &body) != NGX_OK) {
        ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR);
        return;
    }

    ad = cln->data;

    if (body.len > NGX_HTTP_LLM_ADMIN_BODY) {
        rc = ngx_http_llm_admin_error(ad, NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
            "request_too_large", NULL, "The request body is larger than "
            "64 KB.");

    } else {
        rc = ad->api->body ? ngx_http_llm_admin_json(ad, &body)
                           : NGX_DECLINED;
    }

    if (rc == NGX_DECLINED) {
        rc = ad->api->handler(ad);
    }

    ngx_http_finalize_request(r, rc);
}


/* NGX_DECLINED: it is an object; no body may be an empty one */

static ngx_int_t
ngx_http_llm_admin_json(ngx_http_llm_admin_t *ad, ngx_str_t *body)
{
    ngx_int_t     rc;
    json_error_t  error;

    if (body->len == 0 && ad->api->body == 1) {
        return ngx_http_llm_admin_error(ad, NGX_HTTP_BAD_REQUEST,
            "invalid_json", NULL, "The request has no body: a JSON object is "
            "expected.");
    }

    if (body->len == 0) {
        ad->json = json_object();
        rc = ad->json ? NGX_OK : NGX_ERROR;

    } else {
        rc = ngx_http_llm_json_load(body, &ad->json, &error);
    }

    if (rc == NGX_ERROR) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (rc == NGX_OK) {

        if (json_is_object(ad->json)) {
            return NGX_DECLINED;
        }

        return ngx_http_llm_admin_error(ad, NGX_HTTP_BAD_REQUEST,
            "invalid_json", NULL, "The request body must be a JSON object.");
    }

    return ngx_http_llm_admin_error(ad, NGX_HTTP_BAD_REQUEST,
        json_error_code(&error) == json_error_duplicate_key
        ? "duplicate_key" : "invalid_json", NULL,
        "The request body is not valid JSON: %s, at byte %d.", error.text,
        error.position);
}


static void
ngx_http_llm_admin_cleanup(void *data)
{
    ngx_http_llm_admin_t  *ad = data;

    json_decref(ad->json);
}
