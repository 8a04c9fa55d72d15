
/*
 * Copyright (C) the ngx-llm authors
 *
 * POST /admin/v1/cache/purge
 */


#include "operate/ngx_http_llm_admin_private.h"
#include "policy/ngx_http_llm_purge.h"


#define NGX_HTTP_LLM_ADMIN_NAME  64             /* of a name in an error */


static ngx_int_t ngx_http_llm_admin_purge_what(ngx_http_llm_admin_t *ad,
    ngx_uint_t *class, ngx_str_t *name);
static ngx_int_t ngx_http_llm_admin_purge_name(ngx_http_llm_admin_t *ad,
    ngx_uint_t class, json_t *value, ngx_str_t *name);
static void ngx_http_llm_admin_purge_done(void *data, ngx_int_t rc,
    ngx_uint_t class, uint64_t generation);
static ngx_int_t ngx_http_llm_admin_purge_reply(ngx_http_llm_admin_t *ad,
    ngx_uint_t class, ngx_str_t *name, uint64_t generation,
    ngx_uint_t fleet);
static ngx_int_t ngx_http_llm_admin_purge_failed(ngx_http_llm_admin_t *ad);


ngx_int_t
ngx_http_llm_admin_purge(ngx_http_llm_admin_t *ad)
{
    uint64_t     generation;
    ngx_int_t    rc;
    ngx_str_t   *name;
    ngx_uint_t   class;

    name = ngx_palloc(ad->request->pool, sizeof(ngx_str_t));
    if (name == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ad->data = name;
    class = NGX_HTTP_LLM_PURGE_ALL;

    rc = ngx_http_llm_admin_purge_what(ad, &class, name);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    switch (ngx_http_llm_purge(ad->mcf, class, name, &generation,
                               ngx_http_llm_admin_purge_done, ad))
    {
    case NGX_AGAIN:
        return ngx_http_llm_admin_wait(ad);

    case NGX_OK:
        return ngx_http_llm_admin_purge_reply(ad, class, name, generation, 0);

    case NGX_DECLINED:
        return ngx_http_llm_admin_purge_failed(ad);

    default:
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
}


/* NGX_DECLINED: class and name are set; else it is answered */

static ngx_int_t
ngx_http_llm_admin_purge_what(ngx_http_llm_admin_t *ad, ngx_uint_t *class,
    ngx_str_t *name)
{
    void        *iter;
    ngx_uint_t   i;
    const char  *key;

    if (json_object_size(ad->json) != 1) {
        return ngx_http_llm_admin_error(ad, NGX_HTTP_BAD_REQUEST,
            json_object_size(ad->json) == 0 ? "missing_required_parameter"
                                            : "invalid_value", NULL,
            "Expected exactly one of \"all\", \"team\", \"key\", \"model\", "
            "\"namespace\" and \"digest\".");
    }

    iter = json_object_iter(ad->json);
    key = json_object_iter_key(iter);

    for (i = 0; i <= NGX_HTTP_LLM_PURGE_CLASSES; i++) {
        if (ngx_strcmp(key, ngx_http_llm_purge_classes[i].data) == 0) {
            *class = i;
            return ngx_http_llm_admin_purge_name(ad, i,
                                                 json_object_iter_value(iter),
                                                 name);
        }
    }

    return ngx_http_llm_admin_error(ad, NGX_HTTP_BAD_REQUEST,
        "unknown_parameter", NULL, "Unknown member \"%*s\": expected one of "
        "all, team, key, model, namespace and digest.",
        ngx_http_llm_admin_short(key, NGX_HTTP_LLM_ADMIN_NAME), key);
}


static ngx_int_t
ngx_http_llm_admin_purge_name(ngx_http_llm_admin_t *ad, ngx_uint_t class,
    json_t *value, ngx_str_t *name)
{
    size_t       i;
    const char  *param;

    param = (char *) ngx_http_llm_purge_classes[class].data;
    ngx_str_null(name);

    if (class == NGX_HTTP_LLM_PURGE_ALL) {

        if (json_is_true(value)) {
            return NGX_DECLINED;
        }

        return ngx_http_llm_admin_error(ad, NGX_HTTP_BAD_REQUEST,
                                        "invalid_value", param,
                                        "all: expected true.");
    }

    if (json_is_string(value)) {
        name->len = json_string_length(value);

        name->data = ngx_pnalloc(ad->request->pool, name->len);
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

        return ngx_http_llm_admin_error(ad, NGX_HTTP_BAD_REQUEST,
            "invalid_value", param, "digest: expected 64 hex digits.");
    }

    if (name->len > 0 && name->len <= NGX_HTTP_LLM_PURGE_NAME) {
        return NGX_DECLINED;
    }

    return ngx_http_llm_admin_error(ad, NGX_HTTP_BAD_REQUEST,
        "invalid_value", param, "%s: expected a name of 1 to 256 bytes.",
        param);
}


static void
ngx_http_llm_admin_purge_done(void *data, ngx_int_t rc, ngx_uint_t class,
    uint64_t generation)
{
    ngx_http_llm_admin_t *ad = data;

    ngx_str_t  *name;

    name = ad->data;

    if (class == NGX_HTTP_LLM_PURGE_ALL) {
        name->len = 0;
    }

    rc = rc == NGX_OK
         ? ngx_http_llm_admin_purge_reply(ad, class, name, generation, 1)
         : ngx_http_llm_admin_purge_failed(ad);

    ngx_http_llm_admin_done(ad, rc);
}


static ngx_int_t
ngx_http_llm_admin_purge_reply(ngx_http_llm_admin_t *ad, ngx_uint_t class,
    ngx_str_t *name, uint64_t generation, ngx_uint_t fleet)
{
    ngx_str_t  *s;

    s = &ngx_http_llm_purge_classes[class];

    ngx_http_llm_admin_audit(ad, s);

    return ngx_http_llm_admin_answer(ad, NGX_HTTP_OK,
        json_pack("{s:{s:s, s:o}, s:I, s:b}", "purged", "class",
                  (char *) s->data, "name",
                  name->len
                  ? ngx_http_llm_admin_json_text(name->data, name->len)
                  : json_null(),
                  "generation", (json_int_t) generation, "fleet",
                  (int) fleet));
}


static ngx_int_t
ngx_http_llm_admin_purge_failed(ngx_http_llm_admin_t *ad)
{
    return ngx_http_llm_admin_error(ad, NGX_HTTP_SERVICE_UNAVAILABLE,
        "redis_unavailable", NULL, "Redis did not take the purge: so far it "
        "holds in this gateway only. Please try again.");
}
