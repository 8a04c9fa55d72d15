
/*
 * Copyright (C) the ngx-llm authors
 *
 * /admin/v1/keys: changes.
 */


#include "operate/ngx_http_llm_admin_private.h"
#include "operate/ngx_http_llm_admin_rows.h"
#include "policy/ngx_http_llm_keys_store.h"

#include <math.h>
#include <openssl/rand.h>
#include <openssl/sha.h>


#define NGX_HTTP_LLM_ADMIN_SECRET  (sizeof("sk-llm-") - 1 + 40)
#define NGX_HTTP_LLM_ADMIN_GRACE   (30 * 24 * 3600)


static ngx_int_t ngx_http_llm_admin_key_own(ngx_http_llm_admin_t *ad,
    ngx_http_llm_admin_row_t **change);
static ngx_int_t ngx_http_llm_admin_key_parse(ngx_http_llm_admin_t *ad,
    ngx_http_llm_admin_row_t *row, const char *const *others,
    ngx_uint_t patch);
static ngx_int_t ngx_http_llm_admin_key_team(ngx_http_llm_admin_t *ad,
    llm_policy_row_t *row);
static ngx_int_t ngx_http_llm_admin_key_streams(ngx_http_llm_admin_t *ad,
    ngx_uint_t *cut);
static ngx_int_t ngx_http_llm_admin_key_secret(ngx_http_llm_admin_t *ad,
    ngx_http_llm_admin_row_t *row);
static ngx_int_t ngx_http_llm_admin_key_limit(ngx_http_llm_admin_t *ad,
    const char *name, json_t *value, llm_raise_t *raise);


ngx_int_t
ngx_http_llm_admin_key_create(ngx_http_llm_admin_t *ad)
{
    json_t                    *name;
    ngx_int_t                  rc;
    ngx_uint_t                 i;
    llm_keyring_item_t         item;
    ngx_http_llm_admin_row_t  *row;

    static const char *const   others[] = { "name", NULL };
    static const u_char        none[32];

    row = ngx_http_llm_admin_row(ad, LLM_ROW_KEY);
    if (row == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    name = json_object_get(ad->json, "name");

    if (name == NULL) {
        return ngx_http_llm_admin_error(ad, NGX_HTTP_BAD_REQUEST,
            "missing_required_parameter", "name", "name: expected the key's "
            "name.");
    }

    if (json_is_string(name)) {
        ad->name.data = (u_char *) json_string_value(name);
        ad->name.len = json_string_length(name);
    }

    if (!json_is_string(name) || !ngx_http_llm_admin_name(&ad->name)) {
        return ngx_http_llm_admin_error(ad, NGX_HTTP_BAD_REQUEST,
            "invalid_value", "name", NGX_HTTP_LLM_ADMIN_NAMES);
    }

    rc = ngx_http_llm_keys_get(ad->mcf, LLM_ROW_KEY, &ad->name, -1,
                               ad->request->pool, &item);

    if (rc == NGX_ERROR) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (rc == NGX_OK) {
        return ngx_http_llm_admin_exists(ad);
    }

    rc = ngx_http_llm_admin_key_parse(ad, row, others, 0);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    row->row.created = ngx_time();
    row->expect = 0;
    row->status = NGX_HTTP_CREATED;

    for (i = 0; i < sizeof(none); i++) {
        if (row->row.sha256[i]) {
            return ngx_http_llm_admin_row_store(ad, row);
        }
    }

    rc = ngx_http_llm_admin_key_secret(ad, row);

    return rc == NGX_DECLINED ? ngx_http_llm_admin_row_store(ad, row) : rc;
}


ngx_int_t
ngx_http_llm_admin_key_change(ngx_http_llm_admin_t *ad)
{
    ngx_int_t                  rc;
    ngx_http_llm_admin_row_t  *row;

    if ((rc = ngx_http_llm_admin_key_own(ad, &row)) != NGX_DECLINED
        || (rc = ngx_http_llm_admin_key_streams(ad, &row->cut))
           != NGX_DECLINED
        || (rc = ngx_http_llm_admin_key_parse(ad, row, NULL, 1))
           != NGX_DECLINED)
    {
        return rc;
    }

    /* streams of a key that is not taken away go on */

    row->cut = row->cut && !row->row.enabled;

    return ngx_http_llm_admin_row_store(ad, row);
}


ngx_int_t
ngx_http_llm_admin_key_delete(ngx_http_llm_admin_t *ad)
{
    ngx_int_t                  rc;
    ngx_http_llm_admin_row_t  *row;

    if ((rc = ngx_http_llm_admin_key_own(ad, &row)) != NGX_DECLINED
        || (rc = ngx_http_llm_admin_key_streams(ad, &row->cut))
           != NGX_DECLINED)
    {
        return rc;
    }

    row->gone = 1;

    return ngx_http_llm_admin_row_store(ad, row);
}


ngx_int_t
ngx_http_llm_admin_key_rotate(ngx_http_llm_admin_t *ad)
{
    json_t                    *grace;
    ngx_int_t                  rc;
    json_int_t                 seconds;
    const char                *member;
    ngx_http_llm_admin_row_t  *row;

    rc = ngx_http_llm_admin_key_own(ad, &row);
    if (rc != NGX_DECLINED) {
        return rc;
    }

    seconds = 0;

    json_object_foreach(ad->json, member, grace) {

        if (ngx_strcmp(member, "grace_s") != 0) {
            return ngx_http_llm_admin_unknown(ad, member);
        }

        seconds = json_is_integer(grace) ? json_integer_value(grace) : -1;

        if (seconds < 0 || seconds > NGX_HTTP_LLM_ADMIN_GRACE) {
            return ngx_http_llm_admin_error(ad, NGX_HTTP_BAD_REQUEST,
                "invalid_value", "grace_s", "grace_s: expected seconds, from "
                "0 to %d.", NGX_HTTP_LLM_ADMIN_GRACE);
        }
    }

    row->row.old_until = 0;
    ngx_memzero(row->row.old_sha256, SHA256_DIGEST_LENGTH);

    if (seconds) {
        row->row.old_until = ngx_time() + seconds;
        ngx_memcpy(row->row.old_sha256, row->row.sha256,
                   SHA256_DIGEST_LENGTH);
    }


    rc = ngx_http_llm_admin_key_secret(ad, row);

    return rc == NGX_DECLINED ? ngx_http_llm_admin_row_store(ad, row) : rc;
}


ngx_int_t
ngx_http_llm_admin_key_raise(ngx_http_llm_admin_t *ad)
{
    time_t                     until;
    json_t                    *value;
    ngx_int_t                  rc;
    ngx_uint_t                 i, n;
    const char                *member;
    ngx_http_llm_admin_row_t  *row;

    rc = ngx_http_llm_admin_key_own(ad, &row);
    if (rc != NGX_DECLINED) {
        return rc;
    }

    value = json_object_get(ad->json, "until");

    if (value == NULL) {
        return ngx_http_llm_admin_error(ad, NGX_HTTP_BAD_REQUEST,
            "missing_required_parameter", "until", "until: expected when the "
            "raise ends.");
    }

    until = ngx_http_llm_admin_time_json(value);

    if (until <= ngx_time()) {
        return ngx_http_llm_admin_error(ad, NGX_HTTP_BAD_REQUEST,
            "invalid_value", "until", "until: expected a time to come, like "
            "2026-12-01T00:00:00Z.");
    }

    n = 0;

    json_object_foreach(ad->json, member, value) {

        if (ngx_strcmp(member, "until") == 0) {
            continue;
        }

        for (i = 0; i < LLM_RAISES; i++) {
            if (ngx_strcmp(member, ngx_http_llm_admin_raises[i]) == 0) {
                break;
            }
        }

        if (i == LLM_RAISES) {
            return ngx_http_llm_admin_unknown(ad, member);
        }

        rc = ngx_http_llm_admin_key_limit(ad, ngx_http_llm_admin_raises[i],
                                          value, &row->row.raise[i]);
        if (rc != NGX_DECLINED) {
            return rc;
        }

        row->row.raise[i].until = until;
        n++;
    }

    if (n == 0) {
        return ngx_http_llm_admin_error(ad, NGX_HTTP_BAD_REQUEST,
            "missing_required_parameter", NULL, "Expected a limit to raise, "
            "such as \"requests_per_minute\".");
    }


    return ngx_http_llm_admin_row_store(ad, row);
}


/* dollars for a budget, else a number of things; as far as in the file */

static ngx_int_t
ngx_http_llm_admin_key_limit(ngx_http_llm_admin_t *ad, const char *name,
    json_t *value, llm_raise_t *raise)
{
    double      micro;
    json_int_t  most;

    if (ngx_strcmp(name, "budget") == 0) {

        if (json_is_object(value)) {
            value = json_object_get(value, "usd");
        }

        micro = json_is_number(value) ? json_number_value(value) * 1000000
                                      : 0;

        if (micro >= 1 && micro <= 1e15
            && fabs(micro - nearbyint(micro)) < 0.001)
        {
            raise->value = (int64_t) nearbyint(micro);
            return NGX_DECLINED;
        }

        return ngx_http_llm_admin_error(ad, NGX_HTTP_BAD_REQUEST,
            "invalid_value", name, "budget: expected dollars, with up to six "
            "decimals.");
    }

    most = ngx_strcmp(name, "concurrency") == 0 ? 1000000000
                                                : 1000000000000000;

    if (json_is_integer(value) && json_integer_value(value) > 0
        && json_integer_value(value) <= most)
    {
        raise->value = json_integer_value(value);
        return NGX_DECLINED;
    }

    return ngx_http_llm_admin_error(ad, NGX_HTTP_BAD_REQUEST,
        "invalid_value", name, "%s: expected an integer from 1 to %L.", name,
        (int64_t) most);
}


ngx_int_t
ngx_http_llm_admin_key_lower(ngx_http_llm_admin_t *ad)
{
    ngx_int_t                  rc;
    ngx_http_llm_admin_row_t  *row;

    rc = ngx_http_llm_admin_key_own(ad, &row);
    if (rc != NGX_DECLINED) {
        return rc;
    }

    ngx_memzero(row->row.raise, sizeof(row->row.raise));

    return ngx_http_llm_admin_row_store(ad, row);
}


/* NGX_DECLINED: it is there and may be changed; else it is answered */

static ngx_int_t
ngx_http_llm_admin_key_own(ngx_http_llm_admin_t *ad,
    ngx_http_llm_admin_row_t **change)
{
    ngx_int_t                  rc;
    llm_keyring_item_t         item;
    ngx_http_llm_admin_row_t  *row;

    row = ngx_http_llm_admin_row(ad, LLM_ROW_KEY);
    if (row == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    *change = row;

    rc = ngx_http_llm_keys_get(ad->mcf, LLM_ROW_KEY, &ad->name, 1,
                               ad->request->pool, &item);

    if (rc == NGX_OK) {
        row->row = item.row;
        row->expect = item.row.version;
        return NGX_DECLINED;
    }

    if (rc == NGX_ERROR) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rc = ngx_http_llm_keys_get(ad->mcf, LLM_ROW_KEY, &ad->name, 0,
                               ad->request->pool, &item);

    if (rc == NGX_OK) {
        return ngx_http_llm_admin_error(ad, NGX_HTTP_CONFLICT, "key_in_file",
            NULL, "The key \"%V\" stands in the tenants file: change it "
            "there.", &ad->name);
    }

    return ngx_http_llm_admin_key_unknown(ad);
}


static ngx_int_t
ngx_http_llm_admin_key_parse(ngx_http_llm_admin_t *ad,
    ngx_http_llm_admin_row_t *row, const char *const *others,
    ngx_uint_t patch)
{
    ngx_int_t  rc;

    rc = ngx_http_llm_admin_row_parse(ad, row, others, patch);

    return rc == NGX_DECLINED ? ngx_http_llm_admin_key_team(ad, &row->row)
                              : rc;
}


static ngx_int_t
ngx_http_llm_admin_key_team(ngx_http_llm_admin_t *ad, llm_policy_row_t *row)
{
    ngx_int_t   rc;
    ngx_str_t   name;
    llm_team_t  *team;

    if (row->team.len == 0) {
        return NGX_DECLINED;
    }

    name.data = (u_char *) row->team.data;
    name.len = row->team.len;

    rc = ngx_http_llm_keys_find_team(ad->mcf, &name, ad->request->pool,
                                     &team);
    if (rc == NGX_OK) {
        return NGX_DECLINED;
    }

    if (rc == NGX_ERROR) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_llm_admin_error(ad, NGX_HTTP_BAD_REQUEST, "unknown_team",
        "team", "team: there is no team \"%V\".", &name);
}


static ngx_int_t
ngx_http_llm_admin_key_streams(ngx_http_llm_admin_t *ad, ngx_uint_t *cut)
{
    ngx_str_t  text;

    *cut = 0;

    if (ngx_http_llm_admin_arg(ad, "streams", &text) != NGX_OK) {
        return NGX_DECLINED;
    }

    if (text.len == 3 && ngx_memcmp(text.data, "cut", 3) == 0) {
        *cut = 1;
        return NGX_DECLINED;
    }

    if (text.len == 6 && ngx_memcmp(text.data, "finish", 6) == 0) {
        return NGX_DECLINED;
    }

    return ngx_http_llm_admin_error(ad, NGX_HTTP_BAD_REQUEST,
        "invalid_value", "streams", "streams: expected finish or cut.");
}


/* "sk-llm-" and 40 characters of base 62, each as likely as the others */

static ngx_int_t
ngx_http_llm_admin_key_secret(ngx_http_llm_admin_t *ad,
    ngx_http_llm_admin_row_t *row)
{
    u_char      *p, *last, random[64];
    ngx_uint_t   i;

    static const u_char  base62[] =
        "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

    p = ngx_pnalloc(ad->request->pool, NGX_HTTP_LLM_ADMIN_SECRET
                                       + LLM_POLICY_HINT);
    if (p == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    row->secret.data = p;
    row->secret.len = NGX_HTTP_LLM_ADMIN_SECRET;

    last = p + NGX_HTTP_LLM_ADMIN_SECRET;
    p = ngx_cpymem(p, "sk-llm-", 7);

    while (p < last) {

        if (RAND_bytes(random, sizeof(random)) != 1) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        for (i = 0; i < sizeof(random) && p < last; i++) {
            if (random[i] < 4 * 62) {
                *p++ = base62[random[i] % 62];
            }
        }
    }

    ngx_explicit_memzero(random, sizeof(random));

    row->row.hint.data = last;
    row->row.hint.len = ngx_sprintf(last, "sk-llm-\xe2\x80\xa6%*s",
                                    (size_t) 4, last - 4)
                        - last;

    if (SHA256(row->secret.data, row->secret.len, row->row.sha256) == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return NGX_DECLINED;
}
