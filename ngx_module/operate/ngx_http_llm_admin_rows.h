
/*
 * Copyright (C) the ngx-llm authors
 *
 * Keys and teams of the admin API: how they are read, stored and shown.
 */


#ifndef _NGX_HTTP_LLM_ADMIN_ROWS_H_INCLUDED_
#define _NGX_HTTP_LLM_ADMIN_ROWS_H_INCLUDED_


#include "operate/ngx_http_llm_admin_private.h"
#include "policy/ngx_http_llm_keys.h"


#define NGX_HTTP_LLM_ADMIN_NAMES                                             \
    "name: expected 1 to 64 letters, digits and . _ @ -, the first one a "   \
    "letter or a digit."


/* a change on its way, in the request's pool */

typedef struct {
    llm_policy_row_t            row;
    uint64_t                    expect;       /* version */
    ngx_uint_t                  status;       /* of the answer: 200 */
    ngx_str_t                   secret;       /* to be shown, once */
    ngx_uint_t                  cut;          /* what runs for it ends */
    ngx_uint_t                  gone;         /* it is deleted */
} ngx_http_llm_admin_row_t;


/* "requests_per_minute", …: what can be raised, by llm_raise_e */
extern const char  *ngx_http_llm_admin_raises[LLM_RAISES];


/* a change of ad->name; NULL: no memory */
ngx_http_llm_admin_row_t *ngx_http_llm_admin_row(ngx_http_llm_admin_t *ad,
    llm_row_e kind);

/* the body into the row: NGX_DECLINED, or it is answered */
ngx_int_t ngx_http_llm_admin_row_parse(ngx_http_llm_admin_t *ad,
    ngx_http_llm_admin_row_t *row, const char *const *others,
    ngx_uint_t patch);

/* into the store, and answers */
ngx_int_t ngx_http_llm_admin_row_store(ngx_http_llm_admin_t *ad,
    ngx_http_llm_admin_row_t *row);

ngx_int_t ngx_http_llm_admin_unknown(ngx_http_llm_admin_t *ad,
    const char *member);
ngx_int_t ngx_http_llm_admin_exists(ngx_http_llm_admin_t *ad);
ngx_int_t ngx_http_llm_admin_key_unknown(ngx_http_llm_admin_t *ad);
ngx_int_t ngx_http_llm_admin_team_unknown(ngx_http_llm_admin_t *ad);

/* as the API shows them; NULL: no memory */
json_t *ngx_http_llm_admin_key_json(ngx_http_llm_admin_t *ad,
    llm_keyring_item_t *item);

/* the members that stand on it */
json_t *ngx_http_llm_admin_row_json(ngx_http_llm_admin_t *ad,
    llm_keyring_item_t *item);


/*
 * A page of keys or teams.  "keep", which may be NULL, is asked for each.
 * NGX_OK: items[n] by name, "next" is where the next page begins (empty: this
 * was the last one); else it is answered.
 */

typedef struct {
    llm_keyring_item_t         *items;
    ngx_uint_t                  n;
    ngx_str_t                   next;
    ngx_uint_t                 *keys;         /* of each team, NULL: not
                                                 counted */
} ngx_http_llm_admin_page_t;

ngx_int_t ngx_http_llm_admin_page(ngx_http_llm_admin_t *ad, llm_row_e kind,
    ngx_uint_t what, ngx_uint_t (*keep)(ngx_http_llm_admin_t *ad,
    llm_keyring_item_t *item), ngx_http_llm_admin_page_t *page);


/*
 * Counts the keys ("what" of a walk) of the teams of a page into its keys.
 * NGX_AGAIN: done() is called later, once; NGX_ERROR: no memory.
 */

typedef struct {
    ngx_http_llm_admin_t       *ad;
    ngx_http_llm_admin_page_t  *teams;
    ngx_uint_t                  what;
    uint64_t                    cursor;
    ngx_event_t                 event;
    void                      (*done)(ngx_http_llm_admin_t *ad,
                                      ngx_int_t rc);
} ngx_http_llm_admin_count_t;

ngx_int_t ngx_http_llm_admin_count(ngx_http_llm_admin_t *ad,
    ngx_http_llm_admin_page_t *teams, ngx_uint_t what,
    void (*done)(ngx_http_llm_admin_t *ad, ngx_int_t rc));


#endif /* _NGX_HTTP_LLM_ADMIN_ROWS_H_INCLUDED_ */
