
/*
 * Copyright (C) the ngx-llm authors
 *
 * GET /api/tasks: first the states of all that are asked for, then the
 * results of those that have one, few at a time: they may be large.
 */


#include "tasks/ngx_http_llm_tasks_api_private.h"

#include "core/llm_siphash.h"


#define NGX_HTTP_LLM_TASKS_ID     64           /* bytes of an id, at most */
#define NGX_HTTP_LLM_TASKS_SLOTS  2048         /* above 2 * …_IDS, 2^n */

/* results that the first call asks for */

#define NGX_HTTP_LLM_TASKS_FEW    2

/* bytes of the answer that are written in one turn */

#define NGX_HTTP_LLM_TASKS_TURN   (256 * 1024)


static ngx_int_t ngx_http_llm_tasks_list(ngx_http_llm_tasks_api_t *api,
    ngx_str_t *ids);
static ngx_int_t ngx_http_llm_tasks_start(ngx_http_llm_tasks_api_t *api);
static ngx_uint_t ngx_http_llm_tasks_is_id(ngx_str_t *id);
static ngx_uint_t ngx_http_llm_tasks_slot(ngx_http_llm_tasks_api_t *api,
    uint16_t *slots, ngx_str_t *id);
static ngx_int_t ngx_http_llm_tasks_answer(ngx_http_llm_tasks_api_t *api);
static ngx_int_t ngx_http_llm_tasks_put_known(ngx_http_llm_tasks_api_t *api);
static ngx_int_t ngx_http_llm_tasks_whole(ngx_http_llm_tasks_api_t *api);


ngx_int_t
ngx_http_llm_tasks_get(ngx_http_llm_tasks_api_t *api)
{
    u_char              *p, *src;
    ngx_int_t            rc;
    ngx_str_t            arg, ids;
    ngx_http_request_t  *r;

    r = api->ctx->request;

    if (ngx_http_arg(r, (u_char *) "task_ids", 8, &arg) != NGX_OK
        || arg.len == 0)
    {
        return ngx_http_llm_tasks_refuse(api, NGX_HTTP_BAD_REQUEST,
                                         "missing_required_parameter",
                                         "task_ids",
                                         "Missing required parameter: "
                                         "'task_ids', ids with commas "
                                         "between them.");
    }

    p = ngx_pnalloc(r->pool, arg.len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    ids.data = p;
    src = arg.data;

    ngx_unescape_uri(&p, &src, arg.len, 0);

    ids.len = p - ids.data;

    rc = ngx_http_llm_tasks_list(api, &ids);

    return rc == NGX_OK ? ngx_http_llm_tasks_start(api) : rc;
}


ngx_int_t
ngx_http_llm_tasks_get_one(ngx_http_llm_tasks_api_t *api, ngx_str_t *id)
{
    if (ngx_http_llm_tasks_one(api, id) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_llm_tasks_start(api);
}


static ngx_int_t
ngx_http_llm_tasks_start(ngx_http_llm_tasks_api_t *api)
{
    ngx_str_t            arg;
    ngx_http_request_t  *r;

    r = api->ctx->request;

    api->bare = ngx_http_arg(r, (u_char *) "result", 6, &arg) == NGX_OK
                && arg.len == 1 && arg.data[0] == '0';
    api->few = NGX_HTTP_LLM_TASKS_FEW;

    if (ngx_http_arg(r, (u_char *) "wait", 4, &arg) == NGX_OK) {
        return ngx_http_llm_tasks_wait(api, &arg);
    }

    return ngx_http_llm_tasks_states(api);
}


ngx_int_t
ngx_http_llm_tasks_one(ngx_http_llm_tasks_api_t *api, ngx_str_t *id)
{
    api->item = ngx_pcalloc(api->ctx->request->pool,
                            sizeof(ngx_http_llm_tasks_item_t));
    if (api->item == NULL) {
        return NGX_ERROR;
    }

    api->n = 1;
    api->item->id = *id;
    api->item->valid = ngx_http_llm_tasks_is_id(id);
    api->item->over = !api->item->valid;
    api->item->task.state = LLM_TASKS_NOT_FOUND;

    return NGX_OK;
}


/* each once: the answer is an object, in which a name stands once */

static ngx_int_t
ngx_http_llm_tasks_list(ngx_http_llm_tasks_api_t *api, ngx_str_t *ids)
{
    u_char                     *p, *last, *comma;
    uint16_t                   *slots;
    ngx_str_t                   id;
    ngx_uint_t                  n, slot;
    ngx_pool_t                 *pool;
    ngx_http_llm_tasks_item_t  *item;

    pool = api->ctx->request->pool;
    last = ids->data + ids->len;
    n = 1;

    for (p = ids->data; p < last; p++) {
        n += *p == ',';
    }

    if (n > NGX_HTTP_LLM_TASKS_IDS) {
        return ngx_http_llm_tasks_refuse(api, NGX_HTTP_BAD_REQUEST,
                                         "too_many_tasks", "task_ids",
                                         "%ui ids are too many: ask for at "
                                         "most %d.", n,
                                         NGX_HTTP_LLM_TASKS_IDS);
    }

    api->item = ngx_pcalloc(pool, n * sizeof(ngx_http_llm_tasks_item_t));
    slots = ngx_pcalloc(pool, NGX_HTTP_LLM_TASKS_SLOTS * sizeof(uint16_t));

    if (api->item == NULL || slots == NULL) {
        return NGX_ERROR;
    }

    for (p = ids->data; p <= last; p = comma + 1) {
        comma = ngx_strlchr(p, last, ',');
        if (comma == NULL) {
            comma = last;
        }

        id.data = p;
        id.len = comma - p;

        if (id.len == 0) {
            continue;
        }

        slot = ngx_http_llm_tasks_slot(api, slots, &id);

        if (slots[slot]) {
            continue;
        }

        item = &api->item[api->n++];
        slots[slot] = (uint16_t) api->n;

        item->id = id;
        item->valid = ngx_http_llm_tasks_is_id(&id);
        item->over = !item->valid;
        item->task.state = LLM_TASKS_NOT_FOUND;
    }

    (void) ngx_pfree(pool, slots);

    return NGX_OK;
}


/* where the id is, or would be */

static ngx_uint_t
ngx_http_llm_tasks_slot(ngx_http_llm_tasks_api_t *api, uint16_t *slots,
    ngx_str_t *id)
{
    uint64_t    hash[2], key[2];
    ngx_str_t  *other;
    ngx_uint_t  i;

    key[0] = (uintptr_t) api;
    key[1] = (uintptr_t) slots;

    llm_siphash(key, id->data, id->len, hash);

    i = hash[0] & (NGX_HTTP_LLM_TASKS_SLOTS - 1);

    while (slots[i]) {
        other = &api->item[slots[i] - 1].id;

        if (other->len == id->len
            && ngx_memcmp(other->data, id->data, id->len) == 0)
        {
            break;
        }

        i = (i + 1) & (NGX_HTTP_LLM_TASKS_SLOTS - 1);
    }

    return i;
}


/* a task's id, also one that a batch made; all else need not be asked for */

static ngx_uint_t
ngx_http_llm_tasks_is_id(ngx_str_t *id)
{
    u_char      c;
    ngx_uint_t  i;

    if (id->len == 0 || id->len > NGX_HTTP_LLM_TASKS_ID) {
        return 0;
    }

    for (i = 0; i < id->len; i++) {
        c = id->data[i];

        if (!((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z')
              || (c >= 'a' && c <= 'z') || c == '-' || c == '_'))
        {
            return 0;
        }
    }

    return 1;
}


ngx_int_t
ngx_http_llm_tasks_states(ngx_http_llm_tasks_api_t *api)
{
    ngx_int_t  rc;

    if (api->rc == NGX_ABORT) {
        return ngx_http_llm_tasks_unavailable(api->ctx);
    }

    if (api->rc == NGX_ERROR) {
        return NGX_ERROR;
    }

    if (api->rc == NGX_DECLINED) {
        return ngx_http_llm_tasks_whole(api);
    }

    api->step = ngx_http_llm_tasks_states;
    api->asked = 0;

    while (api->at < api->n && api->asked < NGX_HTTP_LLM_QUEUE_JOBS) {

        if (api->item[api->at].valid) {
            api->ask[api->asked++] = api->at;
        }

        api->at++;
    }

    if (api->asked) {
        rc = ngx_http_llm_tasks_ask_states(api);

        return rc == NGX_ABORT ? ngx_http_llm_tasks_unavailable(api->ctx)
                               : rc;
    }

    api->at = 0;
    api->step = ngx_http_llm_tasks_answer;

    return ngx_http_llm_tasks_put_text(api, "{", 1) == NGX_OK
           ? ngx_http_llm_tasks_answer(api) : NGX_ERROR;
}


static ngx_int_t
ngx_http_llm_tasks_answer(ngx_http_llm_tasks_api_t *api)
{
    ngx_int_t   rc;
    ngx_uint_t  i;

    if (api->rc == NGX_ABORT) {
        return ngx_http_llm_tasks_unavailable(api->ctx);
    }

    if (api->rc == NGX_ERROR) {
        return NGX_ERROR;
    }

    rc = ngx_http_llm_tasks_put_known(api);

    if (rc != NGX_OK) {
        return rc == NGX_DECLINED ? ngx_http_llm_tasks_whole(api) : rc;
    }

    api->asked = 0;

    for (i = api->at; i < api->n && api->asked < api->few; i++) {
        if (api->item[i].task.state == LLM_TASKS_COMPLETED) {
            api->ask[api->asked++] = i;
        }
    }

    if (api->asked) {
        rc = ngx_http_llm_tasks_ask_results(api);

        return rc == NGX_ABORT ? ngx_http_llm_tasks_unavailable(api->ctx)
                               : rc;
    }

    if (ngx_http_llm_tasks_put_text(api, "}", 1) != NGX_OK) {
        return NGX_ERROR;
    }

    api->ctx->answer.status = NGX_HTTP_OK;
    api->ctx->answer.body = api->out;
    ngx_str_set(&api->ctx->answer.content_type, "application/json");
    api->ctx->answered = 1;

    return NGX_OK;
}


/*
 * Writes one after the other until there is one whose result is missing.
 * NGX_AGAIN: the turn is over; NGX_DECLINED: there is no room for it.
 */

static ngx_int_t
ngx_http_llm_tasks_put_known(ngx_http_llm_tasks_api_t *api)
{
    size_t                      begun;
    ngx_int_t                   rc;
    ngx_http_llm_tasks_item_t  *item;

    begun = api->out.len;

    for ( /* void */ ; api->at < api->n; api->at++) {
        item = &api->item[api->at];

        if (item->task.state == LLM_TASKS_COMPLETED && !item->fetched
            && !api->bare)
        {
            break;
        }

        if (api->out.len - begun > NGX_HTTP_LLM_TASKS_TURN) {
            return ngx_http_llm_tasks_next_turn(api);
        }

        rc = api->out.len > 1 ? ngx_http_llm_tasks_put_text(api, ",", 1)
                              : NGX_OK;

        if (rc == NGX_OK) {
            rc = ngx_http_llm_tasks_put_name(api, &item->id);
        }

        if (rc == NGX_OK) {
            rc = ngx_http_llm_tasks_put(api, api->at);
        }

        if (rc != NGX_OK) {
            return rc;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_tasks_whole(ngx_http_llm_tasks_api_t *api)
{
    return ngx_http_llm_tasks_refuse(api, NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
                                     "answer_too_large", "task_ids",
                                     "The results are too large for one "
                                     "answer: ask for fewer tasks at a "
                                     "time.");
}
