
/*
 * Copyright (C) the ngx-llm authors
 */


#include "operate/ngx_http_llm_admin.h"
#include "http/ngx_http_llm_body.h"
#include "http/ngx_http_llm_reply.h"
#include "policy/ngx_http_llm_purge.h"
#include "state/ngx_http_llm_source.h"

#include <jansson.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>


#define NGX_HTTP_LLM_ADMIN_BODY  (64 * 1024)
#define NGX_HTTP_LLM_ADMIN_NAME  64             /* of a name in an error */


typedef struct {
    ngx_str_t                   uri;
    ngx_uint_t                  method;

    /*
     * The body is read.  Returns what goes to ngx_http_finalize_request():
     * NGX_DONE, with r->main->count raised, if it waits.
     */
    ngx_int_t                 (*handler)(ngx_http_request_t *r,
                                         ngx_str_t *body);
} ngx_http_llm_admin_api_t;


static ngx_uint_t ngx_http_llm_admin_allowed(ngx_http_request_t *r);
static ngx_http_llm_admin_api_t *ngx_http_llm_admin_api(
    ngx_http_request_t *r);
static void ngx_http_llm_admin_body(ngx_http_request_t *r);
static ngx_int_t ngx_http_llm_admin_error(ngx_http_request_t *r,
    ngx_uint_t status, const char *code, const char *param,
    const char *message);
static ngx_int_t ngx_http_llm_admin_allow(ngx_http_request_t *r,
    ngx_http_llm_admin_api_t *api);
static json_t *ngx_http_llm_admin_json(ngx_http_request_t *r,
    ngx_str_t *body, ngx_int_t *rc);
static ngx_int_t ngx_http_llm_admin_purge(ngx_http_request_t *r,
    ngx_str_t *body);
static ngx_int_t ngx_http_llm_admin_purge_what(ngx_http_request_t *r,
    json_t *json, ngx_uint_t *class, ngx_str_t *name);
static ngx_int_t ngx_http_llm_admin_purge_name(ngx_http_request_t *r,
    ngx_uint_t class, json_t *value, ngx_str_t *name);
static void ngx_http_llm_admin_purge_done(void *data, ngx_int_t rc,
    ngx_uint_t class, uint64_t generation);
static ngx_int_t ngx_http_llm_admin_purge_reply(ngx_http_request_t *r,
    ngx_uint_t class, ngx_str_t *name, uint64_t generation,
    ngx_uint_t fleet);
static ngx_int_t ngx_http_llm_admin_purge_failed(ngx_http_request_t *r);


static ngx_http_llm_admin_api_t  ngx_http_llm_admin_apis[] = {

    { ngx_string("/admin/v1/cache/purge"), NGX_HTTP_POST,
      ngx_http_llm_admin_purge },

    { ngx_null_string, 0, NULL }
};


/* of a request that waits for Redis */

typedef struct {
    ngx_http_request_t         *request;
    ngx_str_t                   name;
} ngx_http_llm_admin_purge_t;


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
    ngx_int_t                  rc;
    ngx_http_llm_admin_api_t  *api;

    if (!ngx_http_llm_admin_allowed(r)) {
        ngx_log_error(NGX_LOG_WARN, r->connection->log, 0,
                      "llm: a request without the admin secret is refused");

        return ngx_http_llm_admin_error(r, NGX_HTTP_UNAUTHORIZED,
            "invalid_api_key", NULL, "Give the admin secret as "
            "\"Authorization: Bearer SECRET\".");
    }

    api = ngx_http_llm_admin_api(r);

    if (api == NULL) {
        return ngx_http_llm_admin_error(r, NGX_HTTP_NOT_FOUND, "unknown_url",
                                        NULL, "Unknown request URL.");
    }

    if (!(r->method & api->method)) {

        if (ngx_http_llm_admin_allow(r, api) != NGX_OK) {
            return NGX_ERROR;
        }

        return ngx_http_llm_admin_error(r, NGX_HTTP_NOT_ALLOWED,
            "method_not_supported", NULL, "This URL does not support the "
            "method.");
    }

    if (r->headers_in.content_length_n > NGX_HTTP_LLM_ADMIN_BODY) {
        return ngx_http_llm_admin_error(r, NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
            "request_too_large", NULL, "The request body is larger than "
            "64 KB.");
    }

    rc = ngx_http_read_client_request_body(r, ngx_http_llm_admin_body);

    return rc >= NGX_HTTP_SPECIAL_RESPONSE ? rc : NGX_DONE;
}


/* by SHA-256, so that neither bytes nor length can be found out by time */

static ngx_uint_t
ngx_http_llm_admin_allowed(ngx_http_request_t *r)
{
    u_char                    sha256[SHA256_DIGEST_LENGTH];
    ngx_str_t                 value;
    ngx_http_llm_loc_conf_t  *llcf;

    llcf = ngx_http_get_module_loc_conf(r, ngx_http_llm_module);

    if (llcf->admin == NULL || r->headers_in.authorization == NULL) {
        return 0;
    }

    value = r->headers_in.authorization->value;

    if (value.len < 7
        || ngx_strncasecmp(value.data, (u_char *) "Bearer ", 7) != 0)
    {
        return 0;
    }

    value.data += 7;
    value.len -= 7;

    while (value.len && value.data[0] == ' ') {
        value.data++;
        value.len--;
    }

    if (SHA256(value.data, value.len, sha256) == NULL) {
        return 0;
    }

    return CRYPTO_memcmp(sha256, llcf->admin, SHA256_DIGEST_LENGTH) == 0;
}


static ngx_http_llm_admin_api_t *
ngx_http_llm_admin_api(ngx_http_request_t *r)
{
    ngx_http_llm_admin_api_t  *api;

    for (api = ngx_http_llm_admin_apis; api->uri.len; api++) {
        if (api->uri.len == r->uri.len
            && ngx_memcmp(api->uri.data, r->uri.data, r->uri.len) == 0)
        {
            return api;
        }
    }

    return NULL;
}


static void
ngx_http_llm_admin_body(ngx_http_request_t *r)
{
    ngx_int_t                  rc;
    ngx_str_t                  body;
    ngx_http_llm_admin_api_t  *api;

    if (ngx_http_llm_body(r, &body) != NGX_OK) {
        ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR);
        return;
    }

    if (body.len > NGX_HTTP_LLM_ADMIN_BODY) {
        rc = ngx_http_llm_admin_error(r, NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
            "request_too_large", NULL, "The request body is larger than "
            "64 KB.");

    } else {
        api = ngx_http_llm_admin_api(r);
        rc = api->handler(r, &body);
    }

    ngx_http_finalize_request(r, rc);
}


static ngx_int_t
ngx_http_llm_admin_error(ngx_http_request_t *r, ngx_uint_t status,
    const char *code, const char *param, const char *message)
{
    ngx_http_llm_error_t  e;

    ngx_memzero(&e, sizeof(ngx_http_llm_error_t));

    e.status = status;
    e.type = status < 500 ? "invalid_request_error" : "server_error";
    e.code = code;
    e.param = param;
    e.message.data = (u_char *) message;
    e.message.len = ngx_strlen(message);
    e.wait = -1;

    return ngx_http_llm_reply_error(r, NULL, &e);
}


static ngx_int_t
ngx_http_llm_admin_allow(ngx_http_request_t *r, ngx_http_llm_admin_api_t *api)
{
    return ngx_http_llm_reply_allow(r, api->method & NGX_HTTP_POST ? "POST"
                                                                   : "GET");
}


/* an object; NULL: answered, "rc" is what is to be returned */

static json_t *
ngx_http_llm_admin_json(ngx_http_request_t *r, ngx_str_t *body, ngx_int_t *rc)
{
    json_t        *json;
    u_char        *text;
    json_error_t   error;

    json = json_loadb((char *) body->data, body->len, JSON_REJECT_DUPLICATES,
                      &error);

    if (json && json_is_object(json)) {
        return json;
    }

    if (json) {
        json_decref(json);

        *rc = ngx_http_llm_admin_error(r, NGX_HTTP_BAD_REQUEST,
            "invalid_json", NULL, "The request body must be a JSON object.");
        return NULL;
    }

    text = ngx_pnalloc(r->pool, JSON_ERROR_TEXT_LENGTH + 128);
    if (text == NULL) {
        *rc = NGX_HTTP_INTERNAL_SERVER_ERROR;
        return NULL;
    }

    ngx_sprintf(text, "The request body is not valid JSON: %s, at byte %d.%Z",
                error.text, error.position);

    *rc = ngx_http_llm_admin_error(r, NGX_HTTP_BAD_REQUEST,
        json_error_code(&error) == json_error_duplicate_key
        ? "duplicate_key" : "invalid_json", NULL, (char *) text);

    return NULL;
}


static ngx_int_t
ngx_http_llm_admin_purge(ngx_http_request_t *r, ngx_str_t *body)
{
    json_t                      *json;
    uint64_t                     generation;
    ngx_int_t                    rc;
    ngx_uint_t                   class;
    ngx_http_llm_main_conf_t    *mcf;
    ngx_http_llm_admin_purge_t  *wait;

    mcf = ngx_http_get_module_main_conf(r, ngx_http_llm_module);

    if (mcf->zone == NULL || mcf->zone->sh == NULL) {
        return NGX_HTTP_SERVICE_UNAVAILABLE;
    }

    wait = ngx_palloc(r->pool, sizeof(ngx_http_llm_admin_purge_t));
    if (wait == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    json = ngx_http_llm_admin_json(r, body, &rc);
    if (json == NULL) {
        return rc;
    }

    class = NGX_HTTP_LLM_PURGE_ALL;
    rc = ngx_http_llm_admin_purge_what(r, json, &class, &wait->name);

    json_decref(json);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    wait->request = r;

    switch (ngx_http_llm_purge(mcf, class, &wait->name, &generation,
                               ngx_http_llm_admin_purge_done, wait))
    {
    case NGX_AGAIN:
        r->main->count++;
        return NGX_DONE;

    case NGX_OK:
        return ngx_http_llm_admin_purge_reply(r, class, &wait->name,
                                              generation, 0);

    case NGX_DECLINED:
        return ngx_http_llm_admin_purge_failed(r);

    default:
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
}


/* NGX_DECLINED: class and name are set; else it is answered */

static ngx_int_t
ngx_http_llm_admin_purge_what(ngx_http_request_t *r, json_t *json,
    ngx_uint_t *class, ngx_str_t *name)
{
    void        *iter;
    u_char      *text;
    size_t       len;
    ngx_uint_t   i;
    const char  *key;

    if (json_object_size(json) != 1) {
        return ngx_http_llm_admin_error(r, NGX_HTTP_BAD_REQUEST,
            json_object_size(json) == 0 ? "missing_required_parameter"
                                        : "invalid_value", NULL,
            "Expected exactly one of \"all\", \"team\", \"key\", \"model\", "
            "\"namespace\" and \"digest\".");
    }

    iter = json_object_iter(json);
    key = json_object_iter_key(iter);

    for (i = 0; i <= NGX_HTTP_LLM_PURGE_CLASSES; i++) {
        if (ngx_strcmp(key, ngx_http_llm_purge_classes[i].data) == 0) {
            *class = i;
            return ngx_http_llm_admin_purge_name(r, i,
                                                 json_object_iter_value(iter),
                                                 name);
        }
    }

    len = ngx_strlen(key);

    if (len > NGX_HTTP_LLM_ADMIN_NAME) {
        len = NGX_HTTP_LLM_ADMIN_NAME;

        /* not in the middle of a character */

        while (((u_char) key[len] & 0xc0) == 0x80) {
            len--;
        }
    }

    text = ngx_pnalloc(r->pool, len + 128);
    if (text == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_sprintf(text, "Unknown member \"%*s\": expected one of all, team, "
                "key, model, namespace and digest.%Z", len, key);

    return ngx_http_llm_admin_error(r, NGX_HTTP_BAD_REQUEST,
                                    "unknown_parameter", NULL, (char *) text);
}


static ngx_int_t
ngx_http_llm_admin_purge_name(ngx_http_request_t *r, ngx_uint_t class,
    json_t *value, ngx_str_t *name)
{
    size_t       i;
    const char  *expected;

    ngx_str_null(name);

    if (class == NGX_HTTP_LLM_PURGE_ALL) {

        if (json_is_true(value)) {
            return NGX_DECLINED;
        }

        return ngx_http_llm_admin_error(r, NGX_HTTP_BAD_REQUEST,
                                        "invalid_value", "all",
                                        "all: expected true.");
    }

    if (json_is_string(value)) {
        name->len = json_string_length(value);

        name->data = ngx_pnalloc(r->pool, name->len);
        if (name->data == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        ngx_memcpy(name->data, json_string_value(value), name->len);
    }

    if (class == NGX_HTTP_LLM_PURGE_DIGEST) {

        for (i = 0; i < name->len; i++) {
            name->data[i] = ngx_tolower(name->data[i]);

            if (!((name->data[i] >= '0' && name->data[i] <= '9')
                  || (name->data[i] >= 'a' && name->data[i] <= 'f')))
            {
                break;
            }
        }

        if (i == 2 * NGX_HTTP_LLM_DIGEST_LEN && i == name->len) {
            return NGX_DECLINED;
        }

        expected = "digest: expected 64 hex digits.";

    } else {

        if (name->len > 0 && name->len <= NGX_HTTP_LLM_PURGE_NAME) {
            return NGX_DECLINED;
        }

        expected = class == NGX_HTTP_LLM_PURGE_TEAM
                   ? "team: expected a name of 1 to 256 bytes."
                   : class == NGX_HTTP_LLM_PURGE_KEY
                   ? "key: expected a name of 1 to 256 bytes."
                   : class == NGX_HTTP_LLM_PURGE_MODEL
                   ? "model: expected a name of 1 to 256 bytes."
                   : "namespace: expected a name of 1 to 256 bytes.";
    }

    return ngx_http_llm_admin_error(r, NGX_HTTP_BAD_REQUEST, "invalid_value",
        (char *) ngx_http_llm_purge_classes[class].data, expected);
}


static void
ngx_http_llm_admin_purge_done(void *data, ngx_int_t rc, ngx_uint_t class,
    uint64_t generation)
{
    ngx_http_llm_admin_purge_t *wait = data;

    ngx_connection_t    *c;
    ngx_http_request_t  *r;

    r = wait->request;
    c = r->connection;

    ngx_http_set_log_request(c->log, r);

    if (class == NGX_HTTP_LLM_PURGE_ALL) {
        wait->name.len = 0;
    }

    rc = rc == NGX_OK
         ? ngx_http_llm_admin_purge_reply(r, class, &wait->name, generation, 1)
         : ngx_http_llm_admin_purge_failed(r);

    ngx_http_finalize_request(r, rc);
    ngx_http_run_posted_requests(c);
}


static ngx_int_t
ngx_http_llm_admin_purge_reply(ngx_http_request_t *r, ngx_uint_t class,
    ngx_str_t *name, uint64_t generation, ngx_uint_t fleet)
{
    u_char     *p;
    size_t      len;
    ngx_str_t   body;

    len = sizeof("{\"purged\":{\"class\":\"namespace\",\"name\":\"\"},"
                 "\"generation\":,\"fleet\":false}\n") - 1
          + name->len + ngx_escape_json(NULL, name->data, name->len)
          + NGX_INT64_LEN;

    p = ngx_pnalloc(r->pool, len);
    if (p == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    body.data = p;

    p = ngx_sprintf(p, "{\"purged\":{\"class\":\"%V\",\"name\":",
                    &ngx_http_llm_purge_classes[class]);

    if (name->len) {
        *p++ = '"';
        p = (u_char *) ngx_escape_json(p, name->data, name->len);
        *p++ = '"';

    } else {
        p = ngx_cpymem(p, "null", 4);
    }

    p = ngx_sprintf(p, "},\"generation\":%uL,\"fleet\":%s}\n", generation,
                    fleet ? "true" : "false");

    body.len = p - body.data;

    return ngx_http_llm_reply_body(r, NGX_HTTP_OK, NULL, &body);
}


static ngx_int_t
ngx_http_llm_admin_purge_failed(ngx_http_request_t *r)
{
    ngx_http_llm_error_t  e;

    ngx_memzero(&e, sizeof(ngx_http_llm_error_t));

    e.status = NGX_HTTP_SERVICE_UNAVAILABLE;
    e.type = "server_error";
    e.code = "redis_unavailable";
    ngx_str_set(&e.message, "Redis did not take the purge: so far it holds "
                "in this gateway only. Please try again.");
    e.wait = 1000;

    return ngx_http_llm_reply_error(r, NULL, &e);
}
