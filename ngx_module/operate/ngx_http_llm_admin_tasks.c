
/*
 * Copyright (C) the ngx-llm authors
 *
 * /admin/v1/tasks: the queue of all gateways that share a Redis.
 */


#include "operate/ngx_http_llm_admin_tasks.h"
#include "state/ngx_http_llm_zone.h"


#define NGX_HTTP_LLM_ADMIN_TASKS_TEAMS  50

/* ms: to look is not to clean up, the runners do that */

#define NGX_HTTP_LLM_ADMIN_TASKS_AGE    INT64_C(1000000000000000)


static void ngx_http_llm_admin_tasks_cleanup(void *data);
static ngx_int_t ngx_http_llm_admin_tasks_failed(ngx_http_llm_admin_t *ad,
    ngx_http_llm_redis_reply_t *reply);
static json_t *ngx_http_llm_admin_tasks_text(
    ngx_http_llm_redis_reply_t *reply, ngx_uint_t i);
static void ngx_http_llm_admin_tasks_swept(void *data,
    ngx_http_llm_redis_reply_t *reply);
static json_t *ngx_http_llm_admin_tasks_sums(ngx_http_llm_admin_tasks_t *at,
    ngx_http_llm_redis_reply_t *reply);
static void ngx_http_llm_admin_tasks_classes(json_t *json,
    ngx_http_llm_redis_reply_t *reply);
static int64_t ngx_http_llm_admin_tasks_find(
    ngx_http_llm_redis_reply_t *reply, const char *name);
static void ngx_http_llm_admin_tasks_shared(void *data,
    ngx_http_llm_redis_reply_t *reply);
static void ngx_http_llm_admin_tasks_buried(void *data,
    ngx_http_llm_redis_reply_t *reply);


/* GET /tasks: the totals, then the teams with most of them */

ngx_int_t
ngx_http_llm_admin_tasks(ngx_http_llm_admin_t *ad)
{
    ngx_int_t                    rc;
    ngx_http_llm_admin_tasks_t  *at;

    at = ngx_http_llm_admin_tasks_create(ad, &rc);

    if (at == NULL) {
        return rc;
    }

    if (ngx_http_llm_admin_tasks_begin(at, "sweep") != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_http_llm_queue_add_number(&at->call,
                                  NGX_HTTP_LLM_ADMIN_TASKS_AGE);
    ngx_http_llm_queue_add_number(&at->call,
                                  NGX_HTTP_LLM_ADMIN_TASKS_AGE);

    return ngx_http_llm_admin_tasks_first(at, ngx_http_llm_admin_tasks_swept);
}


ngx_http_llm_admin_tasks_t *
ngx_http_llm_admin_tasks_create(ngx_http_llm_admin_t *ad, ngx_int_t *rc)
{
    ngx_pool_cleanup_t          *cln;
    ngx_http_llm_tasks_conf_t   *tcf;
    ngx_http_llm_admin_tasks_t  *at;

    tcf = ngx_http_llm_tasks_conf(ad->mcf);

    if (!tcf->on) {
        *rc = ngx_http_llm_admin_error(ad, NGX_HTTP_NOT_FOUND, "no_tasks",
            NULL, "This gateway has no tasks: llm_tasks is off.");
        return NULL;
    }

    cln = ngx_pool_cleanup_add(ad->request->pool,
                               sizeof(ngx_http_llm_admin_tasks_t));
    if (cln == NULL) {
        *rc = NGX_HTTP_INTERNAL_SERVER_ERROR;
        return NULL;
    }

    at = cln->data;
    ngx_memzero(at, sizeof(ngx_http_llm_admin_tasks_t));

    at->ad = ad;
    at->tcf = tcf;

    cln->handler = ngx_http_llm_admin_tasks_cleanup;
    *rc = NGX_OK;

    return at;
}


static void
ngx_http_llm_admin_tasks_cleanup(void *data)
{
    ngx_http_llm_admin_tasks_t  *at = data;

    if (at->op) {
        ngx_http_llm_redis_detach(at->op);
    }

    json_decref(at->json);
}


/* a purge makes many calls: each has memory of its own until it is sent */

ngx_int_t
ngx_http_llm_admin_tasks_begin(ngx_http_llm_admin_tasks_t *at,
    const char *op)
{
    ngx_pool_t  *pool;

    pool = ngx_create_pool(1024, at->ad->request->connection->log);
    if (pool == NULL) {
        return NGX_ERROR;
    }

    ngx_http_llm_queue_begin(&at->call, pool, op);

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_admin_tasks_send(ngx_http_llm_admin_tasks_t *at,
    ngx_http_llm_redis_handler_pt handler)
{
    ngx_pool_t  *pool;

    pool = at->call.pool;

    if (at->tcf->redis) {
        at->op = ngx_http_llm_queue_send(at->tcf, &at->call, handler, at);
    }

    ngx_destroy_pool(pool);

    return at->op ? NGX_OK : NGX_DECLINED;
}


ngx_int_t
ngx_http_llm_admin_tasks_first(ngx_http_llm_admin_tasks_t *at,
    ngx_http_llm_redis_handler_pt handler)
{
    if (ngx_http_llm_admin_tasks_send(at, handler) != NGX_OK) {
        return ngx_http_llm_admin_tasks_away(at->ad);
    }

    return ngx_http_llm_admin_wait(at->ad);
}


ngx_int_t
ngx_http_llm_admin_tasks_away(ngx_http_llm_admin_t *ad)
{
    return ngx_http_llm_admin_error(ad, NGX_HTTP_SERVICE_UNAVAILABLE,
        "redis_unavailable", NULL, "Tasks lie in Redis, which is away.");
}


ngx_int_t
ngx_http_llm_admin_tasks_replied(ngx_http_llm_admin_tasks_t *at,
    ngx_http_llm_redis_reply_t *reply)
{
    ngx_int_t  rc;

    at->op = NULL;

    if (reply->type == NGX_HTTP_LLM_REDIS_ARRAY) {
        return NGX_OK;
    }

    rc = ngx_http_llm_admin_tasks_failed(at->ad, reply);
    ngx_http_llm_admin_done(at->ad, rc);

    return NGX_DECLINED;
}


static ngx_int_t
ngx_http_llm_admin_tasks_failed(ngx_http_llm_admin_t *ad,
    ngx_http_llm_redis_reply_t *reply)
{
    if (reply->type == NGX_HTTP_LLM_REDIS_ERROR) {
        ngx_log_error(NGX_LOG_ERR, ad->request->connection->log, 0,
                      "llm admin: Redis has refused a call of tasks: \"%V\"",
                      &reply->str);

        return ngx_http_llm_admin_error(ad, NGX_HTTP_SERVICE_UNAVAILABLE,
            "redis_unavailable", NULL, "Redis has refused the call; the "
            "error log says why.");
    }

    if (ad->request->method & (NGX_HTTP_GET|NGX_HTTP_HEAD)) {
        return ngx_http_llm_admin_tasks_away(ad);
    }

    return ngx_http_llm_admin_error(ad, NGX_HTTP_SERVICE_UNAVAILABLE,
        "redis_unavailable", NULL, "Redis did not answer in time, so it is "
        "not known what has been done: it may be asked for again.");
}


/* what streams and hashes hold is text, also when it is a number */

int64_t
ngx_http_llm_admin_tasks_number(ngx_http_llm_redis_reply_t *reply,
    ngx_uint_t i)
{
    ngx_int_t                   n;
    ngx_http_llm_redis_reply_t  element;

    if (ngx_http_llm_redis_element(reply, i, &element) != NGX_OK) {
        return 0;
    }

    if (element.type == NGX_HTTP_LLM_REDIS_INTEGER) {
        return element.integer;
    }

    if (element.type != NGX_HTTP_LLM_REDIS_STRING) {
        return 0;
    }

    n = ngx_atoi(element.str.data, element.str.len);

    return n == NGX_ERROR ? 0 : n;
}


static json_t *
ngx_http_llm_admin_tasks_text(ngx_http_llm_redis_reply_t *reply,
    ngx_uint_t i)
{
    ngx_http_llm_redis_reply_t  element;

    if (ngx_http_llm_redis_element(reply, i, &element) != NGX_OK
        || element.type != NGX_HTTP_LLM_REDIS_STRING)
    {
        return json_string("");
    }

    return ngx_http_llm_admin_json_text(element.str.data, element.str.len);
}


static void
ngx_http_llm_admin_tasks_swept(void *data, ngx_http_llm_redis_reply_t *reply)
{
    ngx_http_llm_admin_tasks_t *at = data;

    ngx_int_t  rc;

    if (ngx_http_llm_admin_tasks_replied(at, reply) != NGX_OK) {
        return;
    }

    at->json = ngx_http_llm_admin_tasks_sums(at, reply);

    if (at->json == NULL
        || ngx_http_llm_admin_tasks_begin(at, "teams") != NGX_OK)
    {
        ngx_http_llm_admin_done(at->ad, NGX_HTTP_INTERNAL_SERVER_ERROR);
        return;
    }

    ngx_http_llm_queue_add_number(&at->call, NGX_HTTP_LLM_ADMIN_TASKS_TEAMS);

    if (ngx_http_llm_admin_tasks_send(at, ngx_http_llm_admin_tasks_shared)
        != NGX_OK)
    {
        rc = ngx_http_llm_admin_tasks_away(at->ad);
        ngx_http_llm_admin_done(at->ad, rc);
    }
}


static json_t *
ngx_http_llm_admin_tasks_sums(ngx_http_llm_admin_tasks_t *at,
    ngx_http_llm_redis_reply_t *reply)
{
    json_t                      *json;
    int64_t                      n;
    ngx_uint_t                   i;
    ngx_http_llm_count_tasks_t  *ct;

    static const char  *names[] = {
        "queued", "processing", "delayed", "dead", "submitted", "completed",
        "error", "cancelled", "retries", "deaths"
    };

    ct = &at->ad->mcf->zone->sh->count.tasks;

    for (n = 0, i = 0; i < LLM_LEDGER_OWNERS; i++) {
        n += ct->running[i];
    }

    json = json_pack("{s:s, s:I, s:I, s:I, s:I}", "object", "tasks",
                     "oldest_ms", (json_int_t)
                     ngx_http_llm_admin_tasks_find(reply, "oldest"),
                     "running_here", (json_int_t) n,
                     "max", (json_int_t) at->tcf->max,
                     "team_max", (json_int_t) at->tcf->team_max);
    if (json == NULL) {
        return NULL;
    }

    for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        n = ngx_http_llm_admin_tasks_find(reply, names[i]);
        (void) json_object_set_new(json, names[i], json_integer(n));
    }

    ngx_http_llm_admin_tasks_classes(json, reply);

    return json;
}


static void
ngx_http_llm_admin_tasks_classes(json_t *json,
    ngx_http_llm_redis_reply_t *reply)
{
    char        length[] = "length0", pending[] = "pending0";
    json_t     *list;
    ngx_uint_t  i;

    static const char  *classes[] = { "high", "normal", "low" };

    list = json_array();

    for (i = 0; i < 3; i++) {
        length[sizeof(length) - 2] = '0' + i;
        pending[sizeof(pending) - 2] = '0' + i;

        (void) json_array_append_new(list,
            json_pack("{s:s, s:I, s:I}", "priority", classes[i],
                      "length", (json_int_t)
                      ngx_http_llm_admin_tasks_find(reply, length),
                      "taken", (json_int_t)
                      ngx_http_llm_admin_tasks_find(reply, pending)));
    }

    (void) json_object_set_new(json, "classes", list);
}


/* of [name, value, ...] */

static int64_t
ngx_http_llm_admin_tasks_find(ngx_http_llm_redis_reply_t *reply,
    const char *name)
{
    size_t                      len;
    ngx_uint_t                  i;
    ngx_http_llm_redis_reply_t  element;

    len = ngx_strlen(name);

    for (i = 0; i + 1 < reply->nelts; i += 2) {

        if (ngx_http_llm_redis_element(reply, i, &element) == NGX_OK
            && element.type == NGX_HTTP_LLM_REDIS_STRING
            && element.str.len == len
            && ngx_memcmp(element.str.data, name, len) == 0)
        {
            return ngx_http_llm_admin_tasks_number(reply, i + 1);
        }
    }

    return 0;
}


static void
ngx_http_llm_admin_tasks_shared(void *data,
    ngx_http_llm_redis_reply_t *reply)
{
    ngx_http_llm_admin_tasks_t *at = data;

    json_t                      *list, *json;
    ngx_int_t                    rc;
    ngx_uint_t                   i;
    ngx_http_llm_redis_reply_t   team;

    if (ngx_http_llm_admin_tasks_replied(at, reply) != NGX_OK) {
        return;
    }

    list = json_array();

    for (i = 0; i < reply->nelts; i++) {

        if (ngx_http_llm_redis_element(reply, i, &team) == NGX_OK
            && team.type == NGX_HTTP_LLM_REDIS_ARRAY)
        {
            (void) json_array_append_new(list,
                json_pack("{s:o, s:I}", "team",
                          ngx_http_llm_admin_tasks_text(&team, 0), "live",
                          (json_int_t)
                          ngx_http_llm_admin_tasks_number(&team, 1)));
        }
    }

    json = at->json;
    at->json = NULL;
    (void) json_object_set_new(json, "teams", list);

    rc = ngx_http_llm_admin_answer(at->ad, NGX_HTTP_OK, json);
    ngx_http_llm_admin_done(at->ad, rc);
}


/* GET /tasks/dead */

ngx_int_t
ngx_http_llm_admin_tasks_dead(ngx_http_llm_admin_t *ad)
{
    ngx_int_t                    rc, limit;
    ngx_http_llm_admin_tasks_t  *at;

    at = ngx_http_llm_admin_tasks_create(ad, &rc);
    if (at == NULL) {
        return rc;
    }

    if (ngx_http_llm_admin_limit(ad, NGX_HTTP_LLM_ADMIN_LIMIT, &limit)
        != NGX_OK)
    {
        return ngx_http_llm_admin_limit_wrong(ad);
    }

    if (ngx_http_llm_admin_tasks_begin(at, "dead") != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_http_llm_queue_add_number(&at->call, limit);

    return ngx_http_llm_admin_tasks_first(at,
                                          ngx_http_llm_admin_tasks_buried);
}


static void
ngx_http_llm_admin_tasks_buried(void *data,
    ngx_http_llm_redis_reply_t *reply)
{
    ngx_http_llm_admin_tasks_t *at = data;

    json_t                      *list;
    ngx_int_t                    rc;
    ngx_uint_t                   i;
    ngx_http_llm_redis_reply_t   row;

    if (ngx_http_llm_admin_tasks_replied(at, reply) != NGX_OK) {
        return;
    }

    list = json_array();

    for (i = 0; i < reply->nelts; i++) {

        if (ngx_http_llm_redis_element(reply, i, &row) != NGX_OK
            || row.type != NGX_HTTP_LLM_REDIS_ARRAY)
        {
            continue;
        }

        (void) json_array_append_new(list,
            json_pack("{s:s, s:o, s:o, s:o, s:I, s:I, s:o}",
                      "object", "task.dead",
                      "id", ngx_http_llm_admin_tasks_text(&row, 0),
                      "team", ngx_http_llm_admin_tasks_text(&row, 1),
                      "reason", ngx_http_llm_admin_tasks_text(&row, 2),
                      "attempts", (json_int_t)
                      ngx_http_llm_admin_tasks_number(&row, 3),
                      "deaths", (json_int_t)
                      ngx_http_llm_admin_tasks_number(&row, 4),
                      "time", ngx_http_llm_admin_json_time(
                      ngx_http_llm_admin_tasks_number(&row, 5) / 1000)));
    }

    rc = ngx_http_llm_admin_list(at->ad, list, NULL);
    ngx_http_llm_admin_done(at->ad, rc);
}
