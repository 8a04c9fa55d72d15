
/*
 * Copyright (C) the ngx-llm authors
 *
 * /admin/v1/tasks: changes.
 */


#include "operate/ngx_http_llm_admin_tasks.h"


#define NGX_HTTP_LLM_ADMIN_TASKS_NAME   256
#define NGX_HTTP_LLM_ADMIN_TASKS_ID     128
#define NGX_HTTP_LLM_ADMIN_TASKS_SHOWN  64


static ngx_uint_t ngx_http_llm_admin_task_id(ngx_str_t *id);
static void ngx_http_llm_admin_task_cancelled(void *data,
    ngx_http_llm_redis_reply_t *reply);
static ngx_int_t ngx_http_llm_admin_task_unknown(ngx_http_llm_admin_t *ad);
static ngx_int_t ngx_http_llm_admin_tasks_team(
    ngx_http_llm_admin_tasks_t *at);
static ngx_int_t ngx_http_llm_admin_tasks_purge_next(
    ngx_http_llm_admin_tasks_t *at);
static void ngx_http_llm_admin_tasks_purged(void *data,
    ngx_http_llm_redis_reply_t *reply);
static void ngx_http_llm_admin_tasks_audit(ngx_http_llm_admin_tasks_t *at);


/* DELETE /tasks/{name} */

ngx_int_t
ngx_http_llm_admin_task_cancel(ngx_http_llm_admin_t *ad)
{
    ngx_int_t                    rc;
    ngx_http_llm_admin_tasks_t  *at;

    at = ngx_http_llm_admin_tasks_create(ad, &rc);
    if (at == NULL) {
        return rc;
    }

    if (!ngx_http_llm_admin_task_id(&ad->name)) {
        return ngx_http_llm_admin_task_unknown(ad);
    }

    if (ngx_http_llm_admin_tasks_begin(at, "cancel") != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_http_llm_queue_add_text(&at->call, "*");
    ngx_http_llm_queue_add_number(&at->call, (int64_t) at->tcf->keep * 1000);
    ngx_http_llm_queue_add(&at->call, &ad->name);

    return ngx_http_llm_admin_tasks_first(at,
                                          ngx_http_llm_admin_task_cancelled);
}


/* those of batches have no prefix: what cannot be any is not asked for */

static ngx_uint_t
ngx_http_llm_admin_task_id(ngx_str_t *id)
{
    size_t  i;
    u_char  c, lower;

    if (id->len == 0 || id->len > NGX_HTTP_LLM_ADMIN_TASKS_ID) {
        return 0;
    }

    for (i = 0; i < id->len; i++) {
        c = id->data[i];
        lower = c | 0x20;

        if (!((lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9')
              || c == '-' || c == '_'))
        {
            return 0;
        }
    }

    return 1;
}


static void
ngx_http_llm_admin_task_cancelled(void *data,
    ngx_http_llm_redis_reply_t *reply)
{
    ngx_http_llm_admin_tasks_t *at = data;

    ngx_int_t                    rc;
    const char                  *status;
    ngx_http_llm_admin_t        *ad;
    ngx_http_llm_redis_reply_t   said;

    ad = at->ad;

    if (ngx_http_llm_admin_tasks_replied(at, reply) != NGX_OK) {
        return;
    }

    if (ngx_http_llm_redis_element(reply, 0, &said) != NGX_OK) {
        ngx_http_llm_admin_done(ad, NGX_HTTP_INTERNAL_SERVER_ERROR);
        return;
    }

#define ngx_http_llm_admin_tasks_is(text)                                    \
    (said.str.len == sizeof(text) - 1                                        \
     && ngx_memcmp(said.str.data, text, sizeof(text) - 1) == 0)

    status = ngx_http_llm_admin_tasks_is("flagged") ? "cancelling"
             : ngx_http_llm_admin_tasks_is("cancelled")
               || ngx_http_llm_admin_tasks_is("was cancelled") ? "cancelled"
             : NULL;

    if (status) {
        ngx_http_llm_admin_audit(ad, &ad->name);

        rc = ngx_http_llm_admin_answer(ad, NGX_HTTP_OK,
            json_pack("{s:s, s:o, s:s}", "object", "task.cancelled", "id",
                      ngx_http_llm_admin_json_text(ad->name.data,
                                                   ad->name.len),
                      "status", status));

    } else if (said.str.len > 4
               && ngx_strncmp(said.str.data, "was ", 4) == 0)
    {
        said.str.data += 4;
        said.str.len -= 4;

        rc = ngx_http_llm_admin_error(ad, NGX_HTTP_CONFLICT, "task_ended",
            NULL, "The task has ended before: its status is \"%V\".",
            &said.str);

    } else {
        rc = ngx_http_llm_admin_task_unknown(ad);
    }

    ngx_http_llm_admin_done(ad, rc);
}


static ngx_int_t
ngx_http_llm_admin_task_unknown(ngx_http_llm_admin_t *ad)
{
    return ngx_http_llm_admin_error(ad, NGX_HTTP_NOT_FOUND, "task_not_found",
                                    NULL, "There is no such task.");
}


/* POST /tasks/purge */

ngx_int_t
ngx_http_llm_admin_tasks_purge(ngx_http_llm_admin_t *ad)
{
    ngx_int_t                    rc;
    ngx_http_llm_admin_tasks_t  *at;

    at = ngx_http_llm_admin_tasks_create(ad, &rc);

    if (at == NULL
        || (rc = ngx_http_llm_admin_tasks_team(at)) != NGX_DECLINED)
    {
        return rc;
    }

    if (ngx_http_llm_admin_tasks_purge_next(at) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_llm_admin_tasks_first(at,
                                          ngx_http_llm_admin_tasks_purged);
}


/* NGX_DECLINED: it is set; else it is answered */

static ngx_int_t
ngx_http_llm_admin_tasks_team(ngx_http_llm_admin_tasks_t *at)
{
    json_t                *value;
    const char            *member;
    ngx_http_llm_admin_t  *ad;

    ad = at->ad;

    json_object_foreach(ad->json, member, value) {

        if (ngx_strcmp(member, "team") != 0) {
            return ngx_http_llm_admin_error(ad, NGX_HTTP_BAD_REQUEST,
                "unknown_parameter", NULL, "Unknown member \"%*s\".",
                ngx_http_llm_admin_short(member,
                                         NGX_HTTP_LLM_ADMIN_TASKS_SHOWN),
                member);
        }

        if (json_is_string(value)) {
            at->team.data = (u_char *) json_string_value(value);
            at->team.len = json_string_length(value);
        }

        if (at->team.len == 0
            || at->team.len > NGX_HTTP_LLM_ADMIN_TASKS_NAME)
        {
            return ngx_http_llm_admin_error(ad, NGX_HTTP_BAD_REQUEST,
                "invalid_value", "team", "team: expected a name of 1 to %d "
                "bytes.", NGX_HTTP_LLM_ADMIN_TASKS_NAME);
        }
    }

    if (at->team.len == 0) {
        return ngx_http_llm_admin_error(ad, NGX_HTTP_BAD_REQUEST,
            "missing_required_parameter", "team", "team: expected whose "
            "tasks are to be removed.");
    }

    return NGX_DECLINED;
}


/* what is flagged runs, and stays at the head of what is looked through */

static ngx_int_t
ngx_http_llm_admin_tasks_purge_next(ngx_http_llm_admin_tasks_t *at)
{
    if (ngx_http_llm_admin_tasks_begin(at, "purge") != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_http_llm_queue_add(&at->call, &at->team);
    ngx_http_llm_queue_add_number(&at->call, at->flagged);
    ngx_http_llm_queue_add_number(&at->call, NGX_HTTP_LLM_QUEUE_JOBS);

    return NGX_OK;
}


static void
ngx_http_llm_admin_tasks_purged(void *data,
    ngx_http_llm_redis_reply_t *reply)
{
    ngx_http_llm_admin_tasks_t *at = data;

    int64_t    removed, flagged;
    ngx_int_t  rc;

    if (ngx_http_llm_admin_tasks_replied(at, reply) != NGX_OK) {
        return;
    }

    removed = ngx_http_llm_admin_tasks_number(reply, 0);
    flagged = ngx_http_llm_admin_tasks_number(reply, 1);

    at->removed += removed;
    at->flagged += flagged;

    if (removed + flagged == 0) {
        ngx_http_llm_admin_tasks_audit(at);

        rc = ngx_http_llm_admin_answer(at->ad, NGX_HTTP_OK,
            json_pack("{s:s, s:o, s:I, s:I}", "object", "tasks.purged",
                      "team", ngx_http_llm_admin_json_text(at->team.data,
                                                           at->team.len),
                      "removed", (json_int_t) at->removed,
                      "cancelling", (json_int_t) at->flagged));

    } else if (ngx_http_llm_admin_tasks_purge_next(at) != NGX_OK) {
        rc = NGX_HTTP_INTERNAL_SERVER_ERROR;

    } else if (ngx_http_llm_admin_tasks_send(at,
                                             ngx_http_llm_admin_tasks_purged)
               == NGX_OK)
    {
        return;

    } else {
        rc = ngx_http_llm_admin_tasks_away(at->ad);
    }

    ngx_http_llm_admin_done(at->ad, rc);
}


/* a name of the tenants file may hold anything, a line of the log may not */

static void
ngx_http_llm_admin_tasks_audit(ngx_http_llm_admin_tasks_t *at)
{
    size_t     i;
    u_char    *p;
    ngx_str_t  name;

    name.len = ngx_min(at->team.len, NGX_HTTP_LLM_ADMIN_TASKS_SHOWN);
    name.data = ngx_pnalloc(at->ad->request->pool, name.len);

    if (name.data == NULL) {
        return;
    }

    p = name.data;

    for (i = 0; i < name.len; i++) {
        *p++ = at->team.data[i] < 0x20 || at->team.data[i] >= 0x7f
               ? '?' : at->team.data[i];
    }

    ngx_http_llm_admin_audit(at->ad, &name);
}
