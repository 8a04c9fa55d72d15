
/*
 * Copyright (C) the ngx-llm authors
 *
 * How many keys each team has: counted in slices, since there may be a
 * million of them.
 */


#include "operate/ngx_http_llm_admin_rows.h"


#define NGX_HTTP_LLM_ADMIN_SLICE  3           /* ms */


static void ngx_http_llm_admin_count_event(ngx_event_t *ev);
static void ngx_http_llm_admin_count_page(ngx_http_llm_admin_count_t *ct,
    llm_keyring_item_t *item, ngx_uint_t n);
static void ngx_http_llm_admin_count_free(void *data);


ngx_int_t
ngx_http_llm_admin_count(ngx_http_llm_admin_t *ad,
    ngx_http_llm_admin_page_t *teams, ngx_uint_t what,
    void (*done)(ngx_http_llm_admin_t *ad, ngx_int_t rc))
{
    ngx_pool_cleanup_t          *cln;
    ngx_http_llm_admin_count_t  *ct;

    cln = ngx_pool_cleanup_add(ad->request->pool,
                               sizeof(ngx_http_llm_admin_count_t));
    if (cln == NULL) {
        return NGX_ERROR;
    }

    ct = cln->data;
    ngx_memzero(ct, sizeof(ngx_http_llm_admin_count_t));

    cln->handler = ngx_http_llm_admin_count_free;

    ct->ad = ad;
    ct->teams = teams;
    ct->what = what;
    ct->done = done;

    teams->keys = ngx_pcalloc(ad->request->pool,
                              (teams->n + 1) * sizeof(ngx_uint_t));
    if (teams->keys == NULL) {
        return NGX_ERROR;
    }

    ct->event.handler = ngx_http_llm_admin_count_event;
    ct->event.data = ct;
    ct->event.log = ad->request->connection->log;

    ngx_post_event(&ct->event, &ngx_posted_next_events);

    return NGX_AGAIN;
}


static void
ngx_http_llm_admin_count_event(ngx_event_t *ev)
{
    ngx_http_llm_admin_count_t *ct = ev->data;

    ngx_int_t            rc;
    ngx_msec_t           start;
    ngx_uint_t           n;
    ngx_pool_t          *pool;
    llm_keyring_item_t   item[LLM_KEYRING_PAGE];

    ngx_time_update();
    start = ngx_current_msec;

    do {
        pool = ngx_create_pool(16384, ev->log);
        if (pool == NULL) {
            ct->done(ct->ad, NGX_ERROR);
            return;
        }

        rc = ngx_http_llm_keys_walk(ct->ad->mcf, LLM_ROW_KEY, ct->what,
                                    &ct->cursor, item, LLM_KEYRING_PAGE, &n,
                                    pool);

        if (rc == NGX_OK) {
            ngx_http_llm_admin_count_page(ct, item, n);
        }

        ngx_destroy_pool(pool);

        if (rc != NGX_OK || ct->cursor == 0) {
            ct->done(ct->ad, rc);
            return;
        }

        ngx_time_update();

    } while (ngx_current_msec - start < NGX_HTTP_LLM_ADMIN_SLICE);

    ngx_post_event(ev, &ngx_posted_next_events);
}


static void
ngx_http_llm_admin_count_page(ngx_http_llm_admin_count_t *ct,
    llm_keyring_item_t *item, ngx_uint_t n)
{
    ngx_uint_t   i, k;
    llm_str_t   *name;

    for (i = 0; i < n; i++) {

        for (k = 0; item[i].row.team.len && k < ct->teams->n; k++) {
            name = &ct->teams->items[k].row.name;

            if (name->len == item[i].row.team.len
                && ngx_memcmp(name->data, item[i].row.team.data, name->len)
                   == 0)
            {
                ct->teams->keys[k]++;
                break;
            }
        }
    }
}


static void
ngx_http_llm_admin_count_free(void *data)
{
    ngx_http_llm_admin_count_t  *ct = data;

    if (ct->event.posted) {
        ngx_delete_posted_event(&ct->event);
    }
}
