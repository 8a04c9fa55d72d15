
/*
 * Copyright (C) the ngx-llm authors
 *
 * What keys and teams have in common on their way in.
 */


#include "operate/ngx_http_llm_admin_rows.h"
#include "http/ngx_http_llm_arena.h"
#include "http/ngx_http_llm_json.h"
#include "policy/ngx_http_llm_keys_store.h"


#define NGX_HTTP_LLM_ADMIN_ARENA  65536
#define NGX_HTTP_LLM_ADMIN_SHOWN  64


static void ngx_http_llm_admin_row_done(void *data, ngx_int_t rc,
    uint64_t version);
static ngx_int_t ngx_http_llm_admin_row_reply(ngx_http_llm_admin_t *ad,
    ngx_http_llm_admin_row_t *row);
static ngx_int_t ngx_http_llm_admin_row_refused(ngx_http_llm_admin_t *ad,
    ngx_http_llm_admin_row_t *row);


ngx_http_llm_admin_row_t *
ngx_http_llm_admin_row(ngx_http_llm_admin_t *ad, llm_row_e kind)
{
    ngx_http_llm_admin_row_t  *row;

    row = ngx_pcalloc(ad->request->pool, sizeof(ngx_http_llm_admin_row_t));
    if (row == NULL) {
        return NULL;
    }

    llm_policy_row_clear(&row->row, kind);

    row->status = NGX_HTTP_OK;
    ad->data = row;

    return row;
}


ngx_int_t
ngx_http_llm_admin_row_parse(ngx_http_llm_admin_t *ad,
    ngx_http_llm_admin_row_t *row, const char *const *others,
    ngx_uint_t patch)
{
    int           rc;
    char         *text, *param, err[512];
    size_t        path;
    llm_arena_t   arena;

    text = ngx_http_llm_json_dump(ad->json,
                                  JSON_COMPACT|JSON_REAL_PRECISION(17));
    if (text == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_memzero(&arena, sizeof(llm_arena_t));

    arena.left = NGX_HTTP_LLM_ADMIN_ARENA;
    arena.alloc = ngx_http_llm_arena_alloc;
    arena.data = ad->request->pool;

    path = 0;

    rc = llm_policy_row_parse(&row->row, text, ngx_strlen(text),
                              patch ? LLM_POLICY_PATCH : 0, others, &arena,
                              err, sizeof(err), &path);
    free(text);

    if (rc == LLM_OK) {
        return NGX_DECLINED;
    }

    if (arena.failed || llm_tree_no_memory()) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    param = NULL;

    if (path) {
        param = ngx_pnalloc(ad->request->pool, path + 1);
        if (param == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        (void) ngx_cpystrn((u_char *) param, (u_char *) err, path + 1);
    }

    return ngx_http_llm_admin_error(ad, NGX_HTTP_BAD_REQUEST,
        ngx_strstr(err, "unknown") ? "unknown_parameter" : "invalid_value",
        param, "%s", err);
}


ngx_int_t
ngx_http_llm_admin_unknown(ngx_http_llm_admin_t *ad, const char *member)
{
    return ngx_http_llm_admin_error(ad, NGX_HTTP_BAD_REQUEST,
        "unknown_parameter", NULL, "Unknown member \"%*s\".",
        ngx_http_llm_admin_short(member, NGX_HTTP_LLM_ADMIN_SHOWN), member);
}


ngx_int_t
ngx_http_llm_admin_key_unknown(ngx_http_llm_admin_t *ad)
{
    return ngx_http_llm_admin_error(ad, NGX_HTTP_NOT_FOUND, "key_not_found",
                                    NULL, "There is no such key.");
}


ngx_int_t
ngx_http_llm_admin_exists(ngx_http_llm_admin_t *ad)
{
    return ngx_http_llm_admin_error(ad, NGX_HTTP_CONFLICT, "key_exists",
        "name", "A key of the name \"%V\" exists.", &ad->name);
}


ngx_int_t
ngx_http_llm_admin_team_unknown(ngx_http_llm_admin_t *ad)
{
    return ngx_http_llm_admin_error(ad, NGX_HTTP_NOT_FOUND, "team_not_found",
                                    NULL, "There is no such team.");
}


ngx_int_t
ngx_http_llm_admin_row_store(ngx_http_llm_admin_t *ad,
    ngx_http_llm_admin_row_t *row)
{
    uint64_t                    version;
    ngx_int_t                   rc;
    ngx_http_llm_keys_change_t  change;

    row->row.name.data = ad->name.data;
    row->row.name.len = ad->name.len;

    change.kind = row->row.kind;
    change.name = ad->name;
    change.row = row->gone ? NULL : &row->row;
    change.expect = row->expect;
    change.cut = row->cut;
    change.handler = ngx_http_llm_admin_row_done;
    change.data = ad;

    rc = ngx_http_llm_keys_store(ad->mcf, &change, &version);

    if (rc == NGX_AGAIN) {
        return ngx_http_llm_admin_wait(ad);
    }

    /* told by the same words, whether it took time or not */

    ad->rc = rc;

    return ngx_http_llm_admin_row_reply(ad, row);
}


static void
ngx_http_llm_admin_row_done(void *data, ngx_int_t rc, uint64_t version)
{
    ngx_http_llm_admin_t *ad = data;

    ad->rc = rc;

    ngx_http_llm_admin_done(ad, ngx_http_llm_admin_row_reply(ad, ad->data));
}


static ngx_int_t
ngx_http_llm_admin_row_reply(ngx_http_llm_admin_t *ad,
    ngx_http_llm_admin_row_t *row)
{
    json_t              *json;
    ngx_int_t            rc;
    const char          *object;
    llm_keyring_item_t   item;

    if (ad->rc != NGX_OK) {
        return ngx_http_llm_admin_row_refused(ad, row);
    }

    ngx_http_llm_admin_audit(ad, &ad->name);

    if (row->gone) {
        object = row->row.kind == LLM_ROW_KEY ? "key.deleted"
                                              : "team.deleted";

        return ngx_http_llm_admin_answer(ad, NGX_HTTP_OK,
            json_pack("{s:s, s:o, s:b}", "object", object, "name",
                      ngx_http_llm_admin_json_text(ad->name.data,
                                                   ad->name.len),
                      "deleted", 1));
    }

    ad->status = row->status;

    if (row->row.kind == LLM_ROW_TEAM) {
        return ngx_http_llm_admin_team(ad);
    }

    rc = ngx_http_llm_keys_get(ad->mcf, LLM_ROW_KEY, &ad->name, 1,
                               ad->request->pool, &item);

    if (rc == NGX_DECLINED) {
        /* it is stored, and somebody has deleted it already */
        return ngx_http_llm_admin_key_unknown(ad);
    }

    if (rc != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    json = ngx_http_llm_admin_key_json(ad, &item);

    if (json && row->secret.len) {
        (void) json_object_set_new(json, "secret",
            ngx_http_llm_admin_json_text(row->secret.data, row->secret.len));
    }

    return ngx_http_llm_admin_answer(ad, ad->status, json);
}


static ngx_int_t
ngx_http_llm_admin_row_refused(ngx_http_llm_admin_t *ad,
    ngx_http_llm_admin_row_t *row)
{
    switch (ad->rc) {

    case NGX_DECLINED:

        if (row->expect == 0) {
            return ngx_http_llm_admin_exists(ad);
        }

        return ngx_http_llm_admin_error(ad, NGX_HTTP_CONFLICT, "conflict",
            NULL, "\"%V\" was changed by somebody else meanwhile: look at it "
            "and ask again.", &ad->name);

    case NGX_HTTP_LLM_KEYS_SECRET:
        return ngx_http_llm_admin_error(ad, NGX_HTTP_CONFLICT,
            "secret_exists", "sha256", "Another key has this secret.");

    case NGX_ABORT:
        return ngx_http_llm_admin_error(ad, NGX_HTTP_CONFLICT, "no_store",
            NULL, "Keys and teams can be kept with llm_redis or llm_state "
            "only, and this gateway has neither.");

    case NGX_BUSY:
        return ngx_http_llm_admin_error(ad, NGX_HTTP_SERVICE_UNAVAILABLE,
            ad->mcf->redis ? "redis_unavailable" : "state_unavailable", NULL,
            ad->mcf->redis ? "Redis did not take the change: nothing has "
                             "changed. Please try again."
                           : "The change could not be written to llm_state: "
                             "nothing has changed. The error log says why.");

    case NGX_HTTP_LLM_KEYS_TIMEOUT:
        return ngx_http_llm_admin_error(ad, NGX_HTTP_SERVICE_UNAVAILABLE,
            "redis_unavailable", NULL, "Redis did not answer in time, so it "
            "is not known whether the change is made: look before you try "
            "again.");

    default:
        return ngx_http_llm_admin_error(ad, NGX_HTTP_INSUFFICIENT_STORAGE,
            "policy_full", NULL, "There is no room for it: keys= of llm_zone "
            "is too small, or memory is short.");
    }
}
