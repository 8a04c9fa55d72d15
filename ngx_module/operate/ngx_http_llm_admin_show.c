
/*
 * Copyright (C) the ngx-llm authors
 *
 * Keys and teams as the admin API shows them.
 */


#include "operate/ngx_http_llm_admin_rows.h"

#include "core/llm_tree.h"


#define NGX_HTTP_LLM_ADMIN_PAGES   64         /* looked at for one answer */


static ngx_uint_t ngx_http_llm_admin_key_kept(ngx_http_llm_admin_t *ad,
    llm_keyring_item_t *item);
static json_t *ngx_http_llm_admin_key_raised(llm_policy_row_t *row);
static json_t *ngx_http_llm_admin_key_effective(ngx_http_llm_admin_t *ad,
    llm_keyring_item_t *item);
static json_t *ngx_http_llm_admin_given(int64_t n);
static ngx_int_t ngx_http_llm_admin_page_fill(ngx_http_llm_admin_t *ad,
    ngx_http_llm_admin_page_t *page, ngx_uint_t limit,
    llm_keyring_item_t *item, ngx_uint_t n,
    ngx_uint_t (*keep)(ngx_http_llm_admin_t *ad, llm_keyring_item_t *item),
    llm_keyring_item_t *mark);
static ngx_int_t ngx_http_llm_admin_next(ngx_http_llm_admin_t *ad,
    llm_keyring_item_t *mark, ngx_http_llm_admin_page_t *page);
static ngx_int_t ngx_http_llm_admin_after(ngx_http_llm_admin_t *ad,
    llm_keyring_item_t *mark);
static void ngx_http_llm_admin_sort(ngx_http_llm_admin_page_t *page);
static int ngx_libc_cdecl ngx_http_llm_admin_by_place(const void *one,
    const void *two);
static int ngx_libc_cdecl ngx_http_llm_admin_by_name(const void *one,
    const void *two);


const char  *ngx_http_llm_admin_raises[LLM_RAISES] = {
    "requests_per_minute", "tokens_per_minute", "requests_per_day",
    "tokens_per_day", "concurrency", "budget"
};


ngx_int_t
ngx_http_llm_admin_keys(ngx_http_llm_admin_t *ad)
{
    json_t                     *list;
    ngx_int_t                   rc;
    ngx_str_t                   source;
    ngx_uint_t                  i, what;
    ngx_http_llm_admin_page_t   page;

    what = LLM_KEYRING_ALL;

    if (ngx_http_llm_admin_arg(ad, "source", &source) == NGX_OK) {

        if (source.len == 5 && ngx_memcmp(source.data, "admin", 5) == 0) {
            what = LLM_KEYRING_DYNAMIC;

        } else if (source.len == 4 && ngx_memcmp(source.data, "file", 4) == 0)
        {
            what = LLM_KEYRING_OF_FILE;

        } else {
            return ngx_http_llm_admin_error(ad, NGX_HTTP_BAD_REQUEST,
                "invalid_value", "source", "source: expected admin or file.");
        }
    }

    rc = ngx_http_llm_admin_page(ad, LLM_ROW_KEY, what,
                                 ngx_http_llm_admin_key_kept, &page);
    if (rc != NGX_DECLINED) {
        return rc;
    }

    list = json_array();

    for (i = 0; i < page.n; i++) {
        (void) json_array_append_new(list,
            ngx_http_llm_admin_key_json(ad, &page.items[i]));
    }

    return ngx_http_llm_admin_list(ad, list, page.next.len ? &page.next
                                                           : NULL);
}


static ngx_uint_t
ngx_http_llm_admin_key_kept(ngx_http_llm_admin_t *ad,
    llm_keyring_item_t *item)
{
    ngx_str_t  team;

    if (ngx_http_llm_admin_arg(ad, "team", &team) != NGX_OK) {
        return 1;
    }

    return item->row.team.len == team.len
           && ngx_memcmp(item->row.team.data, team.data, team.len) == 0;
}


ngx_int_t
ngx_http_llm_admin_key(ngx_http_llm_admin_t *ad)
{
    ngx_int_t           rc;
    llm_keyring_item_t  item;

    rc = ngx_http_llm_keys_get(ad->mcf, LLM_ROW_KEY, &ad->name, -1,
                               ad->request->pool, &item);

    if (rc == NGX_DECLINED) {
        return ngx_http_llm_admin_key_unknown(ad);
    }

    if (rc != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_llm_admin_answer(ad, NGX_HTTP_OK,
                                     ngx_http_llm_admin_key_json(ad, &item));
}


json_t *
ngx_http_llm_admin_row_json(ngx_http_llm_admin_t *ad,
    llm_keyring_item_t *item)
{
    char    *text;
    size_t   len;
    json_t  *json;

    len = llm_policy_row_write(&item->row, 0, NULL, 0);

    text = ngx_pnalloc(ad->request->pool, len + 2);
    if (text == NULL) {
        return NULL;
    }

    text[0] = '{';
    (void) llm_policy_row_write(&item->row, 0, text + 1, len);
    text[len + 1] = '}';

    json = llm_tree_load(text, len + 2, 0, NULL);
    if (json == NULL) {
        return NULL;
    }

    (void) json_object_del(json, "sha256");
    (void) json_object_set_new(json, "name",
        ngx_http_llm_admin_json_text((u_char *) item->row.name.data,
                                     item->row.name.len));
    (void) json_object_set_new(json, "source",
        json_string(item->dynamic ? "admin" : "file"));
    (void) json_object_set_new(json, "shadowed",
        json_boolean(item->shadowed));

    return json;
}


json_t *
ngx_http_llm_admin_key_json(ngx_http_llm_admin_t *ad,
    llm_keyring_item_t *item)
{
    json_t            *json;
    llm_policy_row_t  *row;

    row = &item->row;

    json = ngx_http_llm_admin_row_json(ad, item);
    if (json == NULL) {
        return NULL;
    }

    (void) json_object_set_new(json, "object", json_string("key"));
    (void) json_object_set_new(json, "team",
        row->team.len
        ? ngx_http_llm_admin_json_text((u_char *) row->team.data,
                                       row->team.len)
        : json_null());
    (void) json_object_set_new(json, "enabled",
        json_boolean(row->enabled && !item->orphan));
    (void) json_object_set_new(json, "expires",
        ngx_http_llm_admin_json_time((time_t) row->expires));
    (void) json_object_set_new(json, "created",
        ngx_http_llm_admin_json_time((time_t) row->created));
    (void) json_object_set_new(json, "hint",
        row->hint.len
        ? ngx_http_llm_admin_json_text((u_char *) row->hint.data,
                                       row->hint.len)
        : json_null());
    (void) json_object_set_new(json, "rotation",
        row->old_until > ngx_time()
        ? json_pack("{s:o}", "until",
                    ngx_http_llm_admin_json_time((time_t) row->old_until))
        : json_null());
    (void) json_object_set_new(json, "raises",
                               ngx_http_llm_admin_key_raised(row));
    (void) json_object_set_new(json, "effective",
                               ngx_http_llm_admin_key_effective(ad, item));

    return json;
}


/* those that have not ended */

static json_t *
ngx_http_llm_admin_key_raised(llm_policy_row_t *row)
{
    json_t      *list;
    ngx_uint_t   i;

    list = json_array();

    for (i = 0; i < LLM_RAISES; i++) {

        if (row->raise[i].until <= ngx_time()) {
            continue;
        }

        (void) json_array_append_new(list,
            json_pack("{s:s, s:o, s:o}", "limit",
                ngx_http_llm_admin_raises[i], "value",
                i == LLM_RAISE_BUDGET
                ? ngx_http_llm_admin_json_usd(row->raise[i].value)
                : json_integer(row->raise[i].value),
                "until",
                ngx_http_llm_admin_json_time((time_t) row->raise[i].until)));
    }

    return list;
}


/* what counts for it now; null for one that is hidden */

static json_t *
ngx_http_llm_admin_key_effective(ngx_http_llm_admin_t *ad,
    llm_keyring_item_t *item)
{
    json_t               *budget;
    ngx_str_t             name;
    llm_terms_t          *t;
    llm_keyring_found_t  *found;

    name.data = (u_char *) item->row.name.data;
    name.len = item->row.name.len;

    if (item->shadowed
        || ngx_http_llm_keys_find_name(ad->mcf, &name, ad->request->pool,
                                       &found)
           != NGX_OK)
    {
        return json_null();
    }

    t = &found->key.terms;

    budget = t->budget_micro_usd < 0
             ? json_null()
             : json_pack("{s:o, s:s}", "usd",
                         ngx_http_llm_admin_json_usd(t->budget_micro_usd),
                         "period", t->budget_month ? "month" : "day");

    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, "
                     "s:{s:i, s:I, s:b}, s:i}",
        "requests_per_minute",
        ngx_http_llm_admin_given(t->requests_per_minute),
        "tokens_per_minute", ngx_http_llm_admin_given(t->tokens_per_minute),
        "requests_per_day", ngx_http_llm_admin_given(t->requests_per_day),
        "tokens_per_day", ngx_http_llm_admin_given(t->tokens_per_day),
        "burst_requests", ngx_http_llm_admin_given(t->burst_requests),
        "burst_tokens", ngx_http_llm_admin_given(t->burst_tokens),
        "concurrency", ngx_http_llm_admin_given(t->concurrency),
        "budget", budget,
        "queue", "size", t->queue_size, "timeout_ms",
        (json_int_t) t->queue_timeout, "rates", t->queue_rates > 0,
        "priority", t->priority);
}


static json_t *
ngx_http_llm_admin_given(int64_t n)
{
    return n < 0 ? json_null() : json_integer(n);
}


/*
 * The keyring gives pages in an order of its own, and so do we: by place, in
 * a place by name, and of one name the file's first.  What is in one answer
 * is sorted by name at last.  A mark is the last one that was shown.
 */

ngx_int_t
ngx_http_llm_admin_page(ngx_http_llm_admin_t *ad, llm_row_e kind,
    ngx_uint_t what, ngx_uint_t (*keep)(ngx_http_llm_admin_t *ad,
    llm_keyring_item_t *item), ngx_http_llm_admin_page_t *page)
{
    uint64_t             cursor;
    ngx_int_t            limit;
    ngx_uint_t           n, pages;
    llm_keyring_item_t  *item, mark;

    if (ngx_http_llm_admin_limit(ad, NGX_HTTP_LLM_ADMIN_LIMIT, &limit)
        != NGX_OK)
    {
        return ngx_http_llm_admin_limit_wrong(ad);
    }

    if (ngx_http_llm_admin_after(ad, &mark) != NGX_OK) {
        return ngx_http_llm_admin_error(ad, NGX_HTTP_BAD_REQUEST,
            "invalid_value", "after", "after: expected what \"next\" said.");
    }

    page->n = 0;
    ngx_str_null(&page->next);

    page->items = ngx_palloc(ad->request->pool,
                             limit * sizeof(llm_keyring_item_t));
    item = ngx_palloc(ad->request->pool,
                      LLM_KEYRING_PAGE * sizeof(llm_keyring_item_t));

    if (page->items == NULL || item == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    cursor = mark.place;

    for (pages = 0; pages < NGX_HTTP_LLM_ADMIN_PAGES; pages++) {

        if (ngx_http_llm_keys_walk(ad->mcf, kind, what, &cursor, item,
                                   LLM_KEYRING_PAGE, &n, ad->request->pool)
            != NGX_OK)
        {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        ngx_qsort(item, n, sizeof(llm_keyring_item_t),
                  ngx_http_llm_admin_by_place);

        if (ngx_http_llm_admin_page_fill(ad, page, limit, item, n, keep,
                                         &mark)
            != NGX_OK)
        {
            /* one too many: the next page begins behind the last one */
            return ngx_http_llm_admin_next(ad, &mark, page);
        }

        if (cursor == 0) {
            ngx_http_llm_admin_sort(page);
            return NGX_DECLINED;
        }
    }

    mark.place = cursor;
    mark.row.name.len = 0;

    return ngx_http_llm_admin_next(ad, &mark, page);
}


/* NGX_DONE: the page is full; "mark" is the last one that is in it */

static ngx_int_t
ngx_http_llm_admin_page_fill(ngx_http_llm_admin_t *ad,
    ngx_http_llm_admin_page_t *page, ngx_uint_t limit,
    llm_keyring_item_t *item, ngx_uint_t n,
    ngx_uint_t (*keep)(ngx_http_llm_admin_t *ad, llm_keyring_item_t *item),
    llm_keyring_item_t *mark)
{
    ngx_uint_t  i;

    for (i = 0; i < n; i++) {

        if ((mark->row.name.len
             && ngx_http_llm_admin_by_place(&item[i], mark) <= 0)
            || (keep && !keep(ad, &item[i])))
        {
            continue;
        }

        if (page->n == limit) {
            return NGX_DONE;
        }

        page->items[page->n++] = item[i];
        *mark = item[i];
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_admin_next(ngx_http_llm_admin_t *ad, llm_keyring_item_t *mark,
    ngx_http_llm_admin_page_t *page)
{
    page->next.data = ngx_pnalloc(ad->request->pool,
                                  NGX_INT64_LEN + 3 + mark->row.name.len);
    if (page->next.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    page->next.len = ngx_sprintf(page->next.data, "%uL:%ui:%*s", mark->place,
                                 (ngx_uint_t) mark->dynamic,
                                 mark->row.name.len, mark->row.name.data)
                     - page->next.data;

    ngx_http_llm_admin_sort(page);

    return NGX_DECLINED;
}


static ngx_int_t
ngx_http_llm_admin_after(ngx_http_llm_admin_t *ad, llm_keyring_item_t *mark)
{
    u_char     *p, *last;
    ngx_str_t   text;

    ngx_memzero(mark, sizeof(llm_keyring_item_t));

    if (ngx_http_llm_admin_arg(ad, "after", &text) != NGX_OK) {
        return NGX_OK;
    }

    last = text.data + text.len;

    for (p = text.data; p < last && *p >= '0' && *p <= '9'; p++) {
        mark->place = mark->place * 10 + (*p - '0');
    }

    if (p == text.data || last - p < 3 || p[0] != ':' || p[2] != ':'
        || (p[1] != '0' && p[1] != '1'))
    {
        return NGX_ERROR;
    }

    mark->dynamic = p[1] - '0';
    mark->row.name.data = p + 3;
    mark->row.name.len = last - mark->row.name.data;

    return NGX_OK;
}


static void
ngx_http_llm_admin_sort(ngx_http_llm_admin_page_t *page)
{
    ngx_qsort(page->items, page->n, sizeof(llm_keyring_item_t),
              ngx_http_llm_admin_by_name);
}


static int ngx_libc_cdecl
ngx_http_llm_admin_by_place(const void *one, const void *two)
{
    const llm_keyring_item_t  *a, *b;

    a = one;
    b = two;

    if (a->place != b->place) {
        return a->place < b->place ? -1 : 1;
    }

    return ngx_http_llm_admin_by_name(one, two);
}


static int ngx_libc_cdecl
ngx_http_llm_admin_by_name(const void *one, const void *two)
{
    ngx_int_t                  rc;
    const llm_keyring_item_t  *a, *b;

    a = one;
    b = two;

    rc = ngx_memn2cmp((u_char *) a->row.name.data,
                      (u_char *) b->row.name.data,
                      a->row.name.len, b->row.name.len);

    /* a key that the file hides comes behind it */

    return rc ? (int) rc : (int) a->dynamic - (int) b->dynamic;
}
