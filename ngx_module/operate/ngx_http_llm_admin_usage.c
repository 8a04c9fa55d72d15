
/*
 * Copyright (C) the ngx-llm authors
 *
 * GET /admin/v1/usage and /admin/v1/latency: what the book says.
 */


#include "operate/ngx_http_llm_admin_private.h"
#include "policy/ngx_http_llm_usage.h"


#define NGX_HTTP_LLM_ADMIN_POINTS  3000       /* of a history */


typedef struct {
    llm_book_query_t            query;
    ngx_uint_t                  buckets;
} ngx_http_llm_admin_usage_t;


static ngx_int_t ngx_http_llm_admin_period(ngx_http_llm_admin_t *ad,
    ngx_uint_t history, llm_book_kind_e *kind);
static ngx_int_t ngx_http_llm_admin_span(ngx_http_llm_admin_t *ad,
    llm_book_kind_e kind, int64_t *from, int64_t *to);
static ngx_int_t ngx_http_llm_admin_group(ngx_http_llm_admin_t *ad,
    llm_book_query_t *q);
static ngx_int_t ngx_http_llm_admin_filter(ngx_http_llm_admin_t *ad,
    llm_book_query_t *q);
static ngx_int_t ngx_http_llm_admin_coarse(ngx_http_llm_admin_t *ad,
    llm_book_query_t *q);
static void ngx_http_llm_admin_usage_done(void *data,
    ngx_http_llm_usage_answer_t *answer);
static json_t *ngx_http_llm_admin_usage_rows(llm_book_query_t *q,
    llm_book_result_t *rs);
static json_t *ngx_http_llm_admin_usage_groups(llm_book_query_t *q);
static json_t *ngx_http_llm_admin_percentiles(llm_book_latency_t *lt,
    ngx_uint_t which);


static ngx_str_t  ngx_http_llm_admin_names[LLM_BOOK_NAMES] = {
    ngx_string("team"),
    ngx_string("key"),
    ngx_string("model"),
    ngx_string("provider")
};


/* how far back a period goes unless "from" says so: s */

static const struct {
    const char                 *name;
    int64_t                     back;
} ngx_http_llm_admin_periods[LLM_BOOK_KINDS] = {
    { "total", 0 },
    { "minute", 24 * 3600 },
    { "hour", 7 * 24 * 3600 },
    { "day", 31 * 24 * 3600 },
    { "month", 366 * 24 * 3600 }
};


ngx_int_t
ngx_http_llm_admin_usage(ngx_http_llm_admin_t *ad)
{
    ngx_int_t                    rc;
    ngx_str_t                    text;
    llm_book_query_t            *q;
    ngx_http_llm_admin_usage_t  *us;

    us = ngx_pcalloc(ad->request->pool, sizeof(ngx_http_llm_admin_usage_t));
    if (us == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ad->data = us;
    q = &us->query;

    if ((rc = ngx_http_llm_admin_period(ad, 0, &q->kind)) != NGX_OK
        || (rc = ngx_http_llm_admin_span(ad, q->kind, &q->from, &q->to))
           != NGX_OK
        || (rc = ngx_http_llm_admin_group(ad, q)) != NGX_OK
        || (rc = ngx_http_llm_admin_filter(ad, q)) != NGX_OK
        || (rc = ngx_http_llm_admin_coarse(ad, q)) != NGX_OK)
    {
        return rc == NGX_DONE ? NGX_OK : rc;
    }

    us->buckets = 1;

    if (ngx_http_llm_admin_arg(ad, "buckets", &text) == NGX_OK) {

        if (text.len == 5 && ngx_memcmp(text.data, "false", 5) == 0) {
            us->buckets = 0;

        } else if (text.len != 4 || ngx_memcmp(text.data, "true", 4) != 0) {
            return ngx_http_llm_admin_error(ad, NGX_HTTP_BAD_REQUEST,
                "invalid_value", "buckets", "buckets: expected true or "
                "false.");
        }
    }

    if (us->buckets) {
        q->group |= LLM_BOOK_BY_PERIOD;
    }

    if (ngx_http_llm_usage_query(ad->mcf, ad->request->pool, q, 0, 0,
                                 ngx_http_llm_admin_usage_done, ad)
        == NULL)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_llm_admin_wait(ad);
}


/* NGX_DONE: it is answered with an error, NGX_ERROR: that failed */

#define ngx_http_llm_admin_refused(rc)                                       \
    ((rc) == NGX_OK || (rc) == NGX_AGAIN ? NGX_DONE : (rc))


static ngx_int_t
ngx_http_llm_admin_period(ngx_http_llm_admin_t *ad, ngx_uint_t history,
    llm_book_kind_e *kind)
{
    size_t      len;
    ngx_int_t   rc;
    ngx_str_t   text;
    ngx_uint_t  k, last;

    if (ngx_http_llm_admin_arg(ad, "period", &text) != NGX_OK) {
        *kind = history ? LLM_BOOK_MINUTE : LLM_BOOK_DAY;
        return NGX_OK;
    }

    last = history ? LLM_BOOK_HOUR : LLM_BOOK_MONTH;

    for (k = LLM_BOOK_MINUTE; k <= last; k++) {
        len = ngx_strlen(ngx_http_llm_admin_periods[k].name);

        if (text.len == len
            && ngx_memcmp(text.data, ngx_http_llm_admin_periods[k].name, len)
               == 0)
        {
            *kind = k;
            return NGX_OK;
        }
    }

    rc = ngx_http_llm_admin_error(ad, NGX_HTTP_BAD_REQUEST, "invalid_value",
             "period", history ? "period: expected minute or hour."
                               : "period: expected minute, hour, day or "
                                 "month.");

    return ngx_http_llm_admin_refused(rc);
}


static ngx_int_t
ngx_http_llm_admin_span(ngx_http_llm_admin_t *ad, llm_book_kind_e kind,
    int64_t *from, int64_t *to)
{
    ngx_int_t    rc;
    ngx_str_t    text;
    const char  *wrong;

    wrong = NULL;
    *to = ngx_time() + 1;

    if (ngx_http_llm_admin_arg(ad, "to", &text) == NGX_OK) {
        *to = ngx_http_llm_admin_time(&text);
        wrong = *to < 0 ? "to" : NULL;
    }

    *from = *to - ngx_http_llm_admin_periods[kind].back;

    if (ngx_http_llm_admin_arg(ad, "from", &text) == NGX_OK) {
        *from = ngx_http_llm_admin_time(&text);
        wrong = *from < 0 ? "from" : wrong;
    }

    if (wrong) {
        rc = ngx_http_llm_admin_error(ad, NGX_HTTP_BAD_REQUEST,
            "invalid_value", wrong, "%s: expected a time like "
            "2026-11-21T20:00:00Z, a day or seconds since 1970.", wrong);

        return ngx_http_llm_admin_refused(rc);
    }

    if (*from >= *to) {
        rc = ngx_http_llm_admin_error(ad, NGX_HTTP_BAD_REQUEST,
            "invalid_value", "from", "from: expected a time before the end.");

        return ngx_http_llm_admin_refused(rc);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_admin_group(ngx_http_llm_admin_t *ad, llm_book_query_t *q)
{
    u_char     *p, *last, *next;
    ngx_int_t   rc;
    ngx_str_t   text, *name;
    ngx_uint_t  i;

    if (ngx_http_llm_admin_arg(ad, "group_by", &text) != NGX_OK) {
        return NGX_OK;
    }

    last = text.data + text.len;
    name = ngx_http_llm_admin_names;

    for (p = text.data; p < last; p = next + 1) {

        next = ngx_strlchr(p, last, ',');

        if (next == NULL) {
            next = last;
        }

        for (i = 0; i < LLM_BOOK_NAMES; i++) {
            if (name[i].len == (size_t) (next - p)
                && ngx_memcmp(name[i].data, p, name[i].len) == 0)
            {
                break;
            }
        }

        if (i == LLM_BOOK_NAMES) {
            rc = ngx_http_llm_admin_error(ad, NGX_HTTP_BAD_REQUEST,
                "invalid_value", "group_by", "group_by: expected a list of "
                "team, key, model and provider.");

            return ngx_http_llm_admin_refused(rc);
        }

        q->group |= LLM_BOOK_BY(i);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_admin_filter(ngx_http_llm_admin_t *ad, llm_book_query_t *q)
{
    ngx_str_t   text;
    ngx_uint_t  i;

    for (i = 0; i < LLM_BOOK_NAMES; i++) {

        if (ngx_http_llm_admin_arg(ad,
                                   (char *) ngx_http_llm_admin_names[i].data,
                                   &text)
            == NGX_OK)
        {
            q->filters |= LLM_BOOK_BY(i);
            q->filter[i].data = text.data;
            q->filter[i].len = text.len;
        }
    }

    return NGX_OK;
}


/* minutes and hours are not told apart by key and provider */

static ngx_int_t
ngx_http_llm_admin_coarse(ngx_http_llm_admin_t *ad, llm_book_query_t *q)
{
    unsigned   fine;
    ngx_int_t  rc;

    fine = LLM_BOOK_BY(LLM_BOOK_KEY) | LLM_BOOK_BY(LLM_BOOK_PROVIDER);

    if ((q->kind == LLM_BOOK_MINUTE || q->kind == LLM_BOOK_HOUR)
        && ((q->group | q->filters) & fine))
    {
        rc = ngx_http_llm_admin_error(ad, NGX_HTTP_BAD_REQUEST,
            "invalid_value", "period", "period: minutes and hours are known "
            "by team and model only, ask for day or month.");

        return ngx_http_llm_admin_refused(rc);
    }

    return NGX_OK;
}


static void
ngx_http_llm_admin_usage_done(void *data, ngx_http_llm_usage_answer_t *answer)
{
    ngx_http_llm_admin_t *ad = data;

    ngx_int_t                    rc;
    llm_book_sums_t              total;
    llm_book_query_t            *q;
    ngx_http_llm_admin_usage_t  *us;

    us = ad->data;
    q = &us->query;

    if (answer->rc == NGX_DECLINED) {
        rc = ngx_http_llm_admin_error(ad, NGX_HTTP_BAD_REQUEST,
            "too_many_rows", NULL, "The answer would have more than %d rows: "
            "ask for a shorter time, fewer groups or a filter.",
            LLM_BOOK_GROUPS);

    } else if (answer->rc != NGX_OK) {
        rc = NGX_HTTP_INTERNAL_SERVER_ERROR;

    } else {
        llm_book_result_total(answer->rs, &total);

        rc = ngx_http_llm_admin_answer(ad, NGX_HTTP_OK,
            json_pack("{s:s, s:s, s:o, s:o, s:o, s:b, s:b, s:o, s:o}",
                "object", "usage",
                "period", ngx_http_llm_admin_periods[q->kind].name,
                "from", ngx_http_llm_admin_json_time(q->from),
                "to", ngx_http_llm_admin_json_time(q->to),
                "group_by", ngx_http_llm_admin_usage_groups(q),
                "fleet", (int) answer->fleet, "truncated", 0,
                "data", ngx_http_llm_admin_usage_rows(q, answer->rs),
                "total", ngx_http_llm_admin_json_sums(&total)));
    }

    ngx_http_llm_admin_done(ad, rc);
}


static json_t *
ngx_http_llm_admin_usage_groups(llm_book_query_t *q)
{
    json_t      *list;
    ngx_uint_t   i;

    list = json_array();

    for (i = 0; i < LLM_BOOK_NAMES; i++) {
        if (q->group & LLM_BOOK_BY(i)) {
            (void) json_array_append_new(list,
                json_string((char *) ngx_http_llm_admin_names[i].data));
        }
    }

    return list;
}


static json_t *
ngx_http_llm_admin_usage_rows(llm_book_query_t *q, llm_book_result_t *rs)
{
    json_t            *list, *row;
    unsigned           i, k, n;
    llm_str_t         *s;
    llm_book_group_t  **group;

    group = llm_book_result_sort(rs, &n);
    if (group == NULL) {
        return NULL;
    }

    list = json_array();

    for (i = 0; i < n; i++) {

        row = ngx_http_llm_admin_json_sums(&group[i]->sums);

        for (k = 0; k < LLM_BOOK_NAMES; k++) {

            if (!(q->group & LLM_BOOK_BY(k))) {
                continue;
            }

            s = &group[i]->name[k];

            (void) json_object_set_new(row,
                (char *) ngx_http_llm_admin_names[k].data,
                s->len ? ngx_http_llm_admin_json_text((u_char *) s->data,
                                                      s->len)
                       : json_null());
        }

        if (q->group & LLM_BOOK_BY_PERIOD) {
            (void) json_object_set_new(row, "start",
                ngx_http_llm_admin_json_time(group[i]->start));
        }

        if (json_array_append_new(list, row) != 0) {
            json_decref(list);
            return NULL;
        }
    }

    return list;
}


json_t *
ngx_http_llm_admin_json_sums(const llm_book_sums_t *s)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:I, s:o, "
                     "s:I}",
        "requests", (json_int_t) s->requests,
        "errors", (json_int_t) s->errors,
        "cache_hits", (json_int_t) (s->hits + s->joined + s->stale),
        "prompt_tokens", (json_int_t) s->prompt,
        "cached_tokens", (json_int_t) s->cached,
        "completion_tokens", (json_int_t) s->completion,
        "reasoning_tokens", (json_int_t) s->reasoning,
        "usd", ngx_http_llm_admin_json_usd(s->money),
        "saved_tokens", (json_int_t) s->saved_tokens,
        "saved_usd", ngx_http_llm_admin_json_usd(s->saved_money),
        "unpriced", (json_int_t) s->unpriced);
}


ngx_int_t
ngx_http_llm_admin_latency(ngx_http_llm_admin_t *ad)
{
    int64_t              from, to;
    uint32_t             p, last;
    json_t              *list;
    ngx_int_t            rc;
    ngx_str_t            text;
    llm_str_t            model, *of;
    llm_book_t          *bk;
    llm_book_kind_e      kind;
    llm_book_latency_t   lt;

    if ((rc = ngx_http_llm_admin_period(ad, 1, &kind)) != NGX_OK
        || (rc = ngx_http_llm_admin_span(ad, kind, &from, &to)) != NGX_OK)
    {
        return rc == NGX_DONE ? NGX_OK : rc;
    }

    of = NULL;

    if (ngx_http_llm_admin_arg(ad, "model", &text) == NGX_OK) {
        model.data = text.data;
        model.len = text.len;
        of = &model;
    }

    p = llm_book_period(kind, from);
    last = llm_book_period(kind, to - 1);

    if (last - p >= NGX_HTTP_LLM_ADMIN_POINTS) {
        return ngx_http_llm_admin_error(ad, NGX_HTTP_BAD_REQUEST,
            "too_many_rows", NULL, "The answer would have more than %d rows: "
            "ask for a shorter time.", NGX_HTTP_LLM_ADMIN_POINTS);
    }

    list = json_array();

    for (bk = ngx_http_llm_usage_lock(ad->mcf); p <= last; p++) {

        if (llm_book_latency(bk, kind, p, of, &lt) != LLM_OK) {
            continue;
        }

        (void) json_array_append_new(list,
            json_pack("{s:o, s:I, s:o, s:o}",
                "start", ngx_http_llm_admin_json_time(llm_book_start(kind,
                                                                     p)),
                "requests", (json_int_t) lt.n[0],
                "latency_ms", ngx_http_llm_admin_percentiles(&lt, 0),
                "ttft_ms", ngx_http_llm_admin_percentiles(&lt, 1)));
    }

    ngx_http_llm_usage_unlock(ad->mcf);

    return ngx_http_llm_admin_answer(ad, NGX_HTTP_OK,
        json_pack("{s:s, s:s, s:o, s:o, s:o}", "object", "latency",
            "period", ngx_http_llm_admin_periods[kind].name,
            "from", ngx_http_llm_admin_json_time(from),
            "to", ngx_http_llm_admin_json_time(to), "data", list));
}


static json_t *
ngx_http_llm_admin_percentiles(llm_book_latency_t *lt, ngx_uint_t which)
{
    if (lt->n[which] == 0) {
        return json_null();
    }

    return json_pack("{s:i, s:i, s:i}", "p50", (int) lt->p50[which],
                     "p95", (int) lt->p95[which],
                     "p99", (int) lt->p99[which]);
}
