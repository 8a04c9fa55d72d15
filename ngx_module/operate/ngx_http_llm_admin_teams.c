
/*
 * Copyright (C) the ngx-llm authors
 *
 * /admin/v1/teams: what they may do, what they used, and when a budget ends.
 */


#include "operate/ngx_http_llm_admin_rows.h"
#include "policy/ngx_http_llm_keys_store.h"
#include "policy/ngx_http_llm_usage.h"


#define NGX_HTTP_LLM_ADMIN_DAY   (24 * 3600)
#define NGX_HTTP_LLM_ADMIN_WEEK  7

/* as many are counted for every list */
#define NGX_HTTP_LLM_ADMIN_MANY  100000


/* of the teams that are shown */

typedef struct {
    llm_book_sums_t             day;
    llm_book_sums_t             month;
    int64_t                     week;         /* money of the days before */
    int64_t                     first;        /* s: the first of these with
                                                 money, 0: none */
} ngx_http_llm_admin_spent_t;


typedef struct {
    ngx_http_llm_admin_page_t   page;
    ngx_http_llm_admin_spent_t *spent;
    llm_book_query_t            query;
    ngx_uint_t                  one;          /* not a list */
    int64_t                     today;        /* s, its start */
    ngx_http_llm_admin_row_t   *row;          /* to be deleted */
} ngx_http_llm_admin_teams_t;


static ngx_int_t ngx_http_llm_admin_teams_begin(ngx_http_llm_admin_t *ad);
static void ngx_http_llm_admin_teams_counted(ngx_http_llm_admin_t *ad,
    ngx_int_t rc);
static ngx_int_t ngx_http_llm_admin_teams_ask(ngx_http_llm_admin_t *ad,
    llm_book_kind_e kind);
static void ngx_http_llm_admin_teams_days(void *data,
    ngx_http_llm_usage_answer_t *answer);
static void ngx_http_llm_admin_teams_months(void *data,
    ngx_http_llm_usage_answer_t *answer);
static void ngx_http_llm_admin_teams_gather(ngx_http_llm_admin_teams_t *tm,
    ngx_http_llm_usage_answer_t *answer, ngx_uint_t months);
static ngx_int_t ngx_http_llm_admin_teams_reply(ngx_http_llm_admin_t *ad);
static void ngx_http_llm_admin_team_counted(ngx_http_llm_admin_t *ad,
    ngx_int_t rc);
static json_t *ngx_http_llm_admin_spend(ngx_http_llm_admin_teams_t *tm,
    llm_terms_t *terms, ngx_http_llm_admin_spent_t *sp);
static int64_t ngx_http_llm_admin_pace(ngx_http_llm_admin_teams_t *tm,
    ngx_http_llm_admin_spent_t *sp);


ngx_int_t
ngx_http_llm_admin_teams(ngx_http_llm_admin_t *ad)
{
    ngx_int_t                    rc;
    ngx_http_llm_admin_teams_t  *tm;

    tm = ngx_pcalloc(ad->request->pool, sizeof(ngx_http_llm_admin_teams_t));
    if (tm == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ad->data = tm;

    rc = ngx_http_llm_admin_page(ad, LLM_ROW_TEAM, LLM_KEYRING_ALL, NULL,
                                 &tm->page);

    return rc == NGX_DECLINED ? ngx_http_llm_admin_teams_begin(ad) : rc;
}


ngx_int_t
ngx_http_llm_admin_team(ngx_http_llm_admin_t *ad)
{
    ngx_int_t                    rc;
    ngx_http_llm_admin_teams_t  *tm;

    tm = ngx_pcalloc(ad->request->pool, sizeof(ngx_http_llm_admin_teams_t));
    if (tm == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ad->data = tm;

    tm->one = 1;
    tm->page.n = 1;

    tm->page.items = ngx_palloc(ad->request->pool,
                                sizeof(llm_keyring_item_t));
    if (tm->page.items == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rc = ngx_http_llm_keys_get(ad->mcf, LLM_ROW_TEAM, &ad->name, -1,
                               ad->request->pool, tm->page.items);

    if (rc == NGX_DECLINED) {
        return ngx_http_llm_admin_team_unknown(ad);
    }

    if (rc != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_llm_admin_teams_begin(ad);
}


static ngx_int_t
ngx_http_llm_admin_teams_begin(ngx_http_llm_admin_t *ad)
{
    llm_keyring_stat_t           stat;
    ngx_http_llm_admin_teams_t  *tm;

    tm = ad->data;

    ngx_http_llm_keys_stat(ad->mcf, &stat);

    if (stat.keys + stat.dynamic_keys > NGX_HTTP_LLM_ADMIN_MANY) {
        return ngx_http_llm_admin_teams_ask(ad, LLM_BOOK_DAY);
    }

    if (ngx_http_llm_admin_count(ad, &tm->page, LLM_KEYRING_ALL,
                                 ngx_http_llm_admin_teams_counted)
        != NGX_AGAIN)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_llm_admin_wait(ad);
}


static void
ngx_http_llm_admin_teams_counted(ngx_http_llm_admin_t *ad, ngx_int_t rc)
{
    ngx_http_llm_admin_done(ad,
                            rc == NGX_OK
                            ? ngx_http_llm_admin_teams_ask(ad, LLM_BOOK_DAY)
                            : NGX_HTTP_INTERNAL_SERVER_ERROR);
}


/* what all teams used this day, in the week before, and this month */

static ngx_int_t
ngx_http_llm_admin_teams_ask(ngx_http_llm_admin_t *ad, llm_book_kind_e kind)
{
    llm_book_query_t            *q;
    ngx_http_llm_admin_teams_t  *tm;

    tm = ad->data;
    q = &tm->query;

    if (tm->spent == NULL) {
        tm->spent = ngx_pcalloc(ad->request->pool,
                                (tm->page.n + 1)
                                * sizeof(ngx_http_llm_admin_spent_t));
        if (tm->spent == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        tm->today = llm_book_start(LLM_BOOK_DAY,
                                   llm_book_period(LLM_BOOK_DAY, ngx_time()));
    }

    ngx_memzero(q, sizeof(llm_book_query_t));

    q->kind = kind;
    q->from = kind == LLM_BOOK_DAY
              ? tm->today - NGX_HTTP_LLM_ADMIN_WEEK * NGX_HTTP_LLM_ADMIN_DAY
              : tm->today;
    q->to = ngx_time() + 1;
    q->group = LLM_BOOK_BY(LLM_BOOK_TEAM) | LLM_BOOK_BY_PERIOD;

    if (tm->one) {
        q->filters = LLM_BOOK_BY(LLM_BOOK_TEAM);
        q->filter[LLM_BOOK_TEAM] = tm->page.items[0].row.name;
    }

    if (ngx_http_llm_usage_query(ad->mcf, ad->request->pool, q, 0, 0,
                                 kind == LLM_BOOK_DAY
                                 ? ngx_http_llm_admin_teams_days
                                 : ngx_http_llm_admin_teams_months, ad)
        == NULL)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return kind == LLM_BOOK_DAY ? ngx_http_llm_admin_wait(ad) : NGX_DONE;
}


static void
ngx_http_llm_admin_teams_days(void *data, ngx_http_llm_usage_answer_t *answer)
{
    ngx_http_llm_admin_t *ad = data;

    ngx_http_llm_admin_teams_gather(ad->data, answer, 0);

    if (ngx_http_llm_admin_teams_ask(ad, LLM_BOOK_MONTH) != NGX_DONE) {
        ngx_http_llm_admin_done(ad, NGX_HTTP_INTERNAL_SERVER_ERROR);
    }
}


static void
ngx_http_llm_admin_teams_months(void *data,
    ngx_http_llm_usage_answer_t *answer)
{
    ngx_http_llm_admin_t *ad = data;

    ngx_http_llm_admin_teams_gather(ad->data, answer, 1);

    ngx_http_llm_admin_done(ad, ngx_http_llm_admin_teams_reply(ad));
}


/* what could not be had counts as nothing */

static void
ngx_http_llm_admin_teams_gather(ngx_http_llm_admin_teams_t *tm,
    ngx_http_llm_usage_answer_t *answer, ngx_uint_t months)
{
    unsigned                     i, n;
    ngx_uint_t                   k;
    llm_str_t                   *name;
    llm_book_group_t           **group;
    ngx_http_llm_admin_spent_t  *sp;

    if (answer->rc != NGX_OK) {
        return;
    }

    group = llm_book_result_sort(answer->rs, &n);
    if (group == NULL) {
        return;
    }

    for (i = 0; i < n; i++) {

        for (k = 0; k < tm->page.n; k++) {
            name = &tm->page.items[k].row.name;

            if (name->len == group[i]->name[LLM_BOOK_TEAM].len
                && ngx_memcmp(name->data, group[i]->name[LLM_BOOK_TEAM].data,
                              name->len)
                   == 0)
            {
                break;
            }
        }

        if (k == tm->page.n) {
            continue;
        }

        sp = &tm->spent[k];

        if (months) {
            sp->month = group[i]->sums;

        } else if (group[i]->start >= tm->today) {
            sp->day = group[i]->sums;

        } else {
            sp->week += group[i]->sums.money;

            if (sp->first == 0) {
                sp->first = group[i]->start;
            }
        }
    }
}


static ngx_int_t
ngx_http_llm_admin_teams_reply(ngx_http_llm_admin_t *ad)
{
    json_t                      *list, *json;
    ngx_uint_t                   i;
    llm_keyring_item_t          *item;
    ngx_http_llm_admin_teams_t  *tm;

    tm = ad->data;
    list = json_array();

    for (i = 0; i < tm->page.n; i++) {
        item = &tm->page.items[i];

        json = ngx_http_llm_admin_row_json(ad, item);
        if (json == NULL) {
            json_decref(list);
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        (void) json_object_set_new(json, "object", json_string("team"));
        (void) json_object_set_new(json, "keys",
            tm->page.keys ? json_integer(tm->page.keys[i]) : json_null());

        (void) json_object_set_new(json, "day",
            ngx_http_llm_admin_json_sums(&tm->spent[i].day));
        (void) json_object_set_new(json, "month",
            ngx_http_llm_admin_json_sums(&tm->spent[i].month));
        (void) json_object_set_new(json, "spend",
            ngx_http_llm_admin_spend(tm, &item->row.terms, &tm->spent[i]));

        if (tm->one) {
            json_decref(list);
            return ngx_http_llm_admin_answer(ad, ad->status, json);
        }

        (void) json_array_append_new(list, json);
    }

    return ngx_http_llm_admin_list(ad, list, tm->page.next.len
                                             ? &tm->page.next : NULL);
}


/*
 * What will have been spent at the end of the period, and when all of it, if
 * it goes on as in the last days.
 */

static json_t *
ngx_http_llm_admin_spend(ngx_http_llm_admin_teams_t *tm, llm_terms_t *terms,
    ngx_http_llm_admin_spent_t *sp)
{
    time_t    resets, gone;
    double    left;
    int64_t   spent, pace, forecast;
    uint32_t  month;

    if (terms->budget_micro_usd < 0) {
        return json_null();
    }

    if (terms->budget_month) {
        spent = sp->month.money;
        month = llm_book_period(LLM_BOOK_MONTH, ngx_time());
        resets = (time_t) llm_book_start(LLM_BOOK_MONTH, month + 1);

    } else {
        spent = sp->day.money;
        resets = (time_t) tm->today + NGX_HTTP_LLM_ADMIN_DAY;
    }

    pace = ngx_http_llm_admin_pace(tm, sp);
    left = (double) (resets - ngx_time()) / NGX_HTTP_LLM_ADMIN_DAY;

    forecast = spent + (int64_t) (left * pace);
    gone = 0;

    if (spent >= terms->budget_micro_usd) {
        gone = ngx_time();

    } else if (forecast >= terms->budget_micro_usd) {
        gone = ngx_time()
               + (time_t) ((double) (terms->budget_micro_usd - spent)
                           / pace * NGX_HTTP_LLM_ADMIN_DAY);
    }

    return json_pack("{s:s, s:o, s:o, s:f, s:o, s:o, s:o}",
        "period", terms->budget_month ? "month" : "day",
        "budget_usd", ngx_http_llm_admin_json_usd(terms->budget_micro_usd),
        "usd", ngx_http_llm_admin_json_usd(spent),
        "ratio", terms->budget_micro_usd
                 ? (double) spent / terms->budget_micro_usd : 1.0,
        "resets", ngx_http_llm_admin_json_time(resets),
        "forecast_usd", ngx_http_llm_admin_json_usd(forecast),
        "exhausted", ngx_http_llm_admin_json_time(gone));
}


/* money a day: of the week before, from its first day on, else of today */

static int64_t
ngx_http_llm_admin_pace(ngx_http_llm_admin_teams_t *tm,
    ngx_http_llm_admin_spent_t *sp)
{
    int64_t  days, passed;

    if (sp->first) {
        days = (tm->today - sp->first) / NGX_HTTP_LLM_ADMIN_DAY;
        return sp->week / ngx_max(days, 1);
    }

    passed = ngx_time() - tm->today;

    /* the first minutes of a day say little */

    return (int64_t) ((double) sp->day.money * NGX_HTTP_LLM_ADMIN_DAY
                      / ngx_max(passed, 3600));
}


ngx_int_t
ngx_http_llm_admin_team_put(ngx_http_llm_admin_t *ad)
{
    ngx_int_t                  rc;
    llm_keyring_item_t         item;
    ngx_http_llm_admin_row_t  *row;

    row = ngx_http_llm_admin_row(ad, LLM_ROW_TEAM);
    if (row == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (!ngx_http_llm_admin_name(&ad->name)) {
        return ngx_http_llm_admin_error(ad, NGX_HTTP_BAD_REQUEST,
            "invalid_value", "name", NGX_HTTP_LLM_ADMIN_NAMES);
    }

    rc = ngx_http_llm_keys_get(ad->mcf, LLM_ROW_TEAM, &ad->name, 0,
                               ad->request->pool, &item);

    if (rc == NGX_OK) {
        return ngx_http_llm_admin_error(ad, NGX_HTTP_CONFLICT,
            "team_in_file", NULL, "The team \"%V\" stands in the tenants "
            "file: change it there.", &ad->name);
    }

    if (rc == NGX_ERROR) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rc = ngx_http_llm_admin_row_parse(ad, row, NULL, 0);
    if (rc != NGX_DECLINED) {
        return rc;
    }

    rc = ngx_http_llm_keys_get(ad->mcf, LLM_ROW_TEAM, &ad->name, 1,
                               ad->request->pool, &item);

    row->expect = rc == NGX_OK ? item.row.version : 0;
    row->row.created = rc == NGX_OK ? item.row.created : ngx_time();
    row->status = rc == NGX_OK ? NGX_HTTP_OK : NGX_HTTP_CREATED;

    return ngx_http_llm_admin_row_store(ad, row);
}


ngx_int_t
ngx_http_llm_admin_team_delete(ngx_http_llm_admin_t *ad)
{
    ngx_int_t                    rc;
    llm_keyring_item_t           item;
    ngx_http_llm_admin_row_t    *row;
    ngx_http_llm_admin_teams_t  *tm;

    row = ngx_http_llm_admin_row(ad, LLM_ROW_TEAM);
    if (row == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rc = ngx_http_llm_keys_get(ad->mcf, LLM_ROW_TEAM, &ad->name, 1,
                               ad->request->pool, &item);

    if (rc == NGX_ERROR) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (rc == NGX_DECLINED) {

        rc = ngx_http_llm_keys_get(ad->mcf, LLM_ROW_TEAM, &ad->name, 0,
                                   ad->request->pool, &item);

        return rc == NGX_OK
               ? ngx_http_llm_admin_error(ad, NGX_HTTP_CONFLICT,
                     "team_in_file", NULL, "The team \"%V\" stands in the "
                     "tenants file: change it there.", &ad->name)
               : ngx_http_llm_admin_team_unknown(ad);
    }

    tm = ngx_pcalloc(ad->request->pool, sizeof(ngx_http_llm_admin_teams_t));
    if (tm == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    row->expect = item.row.version;
    row->gone = 1;

    tm->row = row;
    tm->page.n = 1;

    tm->page.items = ngx_palloc(ad->request->pool,
                                sizeof(llm_keyring_item_t));
    if (tm->page.items == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    tm->page.items[0] = item;
    ad->data = tm;

    if (ngx_http_llm_admin_count(ad, &tm->page, LLM_KEYRING_DYNAMIC,
                                 ngx_http_llm_admin_team_counted)
        != NGX_AGAIN)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_llm_admin_wait(ad);
}


/* a key that is given this team just now is refused as one without a team */

static void
ngx_http_llm_admin_team_counted(ngx_http_llm_admin_t *ad, ngx_int_t rc)
{
    ngx_http_llm_admin_teams_t  *tm;

    tm = ad->data;

    if (rc != NGX_OK) {
        rc = NGX_HTTP_INTERNAL_SERVER_ERROR;

    } else if (tm->page.keys[0]) {
        rc = ngx_http_llm_admin_error(ad, NGX_HTTP_CONFLICT, "team_in_use",
            NULL, "%ui keys are of the team \"%V\": delete them, or give "
            "them another team, first.", tm->page.keys[0], &ad->name);

    } else {
        ad->data = tm->row;
        rc = ngx_http_llm_admin_row_store(ad, tm->row);
    }

    ngx_http_llm_admin_done(ad, rc);
}
