
/*
 * Copyright (C) the ngx-llm authors
 */


#include "upstream/ngx_http_llm_models.h"
#include "upstream/ngx_http_llm_attempt.h"
#include "upstream/ngx_http_llm_forward.h"
#include "upstream/ngx_http_llm_route.h"
#include "http/ngx_http_llm_reply.h"

#include "core/llm_tree.h"


#define NGX_HTTP_LLM_MODELS_FRESH    60           /* s */
#define NGX_HTTP_LLM_MODELS_AGAIN    5            /* s, after a failure */
#define NGX_HTTP_LLM_MODELS_TIMEOUT  10000        /* ms */
#define NGX_HTTP_LLM_MODELS_PREFIX   (sizeof("/v1/models/") - 1)


static ngx_int_t ngx_http_llm_models_wait(ngx_http_llm_ctx_t *ctx);
static void ngx_http_llm_models_fetched(ngx_http_llm_ctx_t *ctx);
static ngx_int_t ngx_http_llm_models_answer(ngx_http_llm_ctx_t *ctx);
static json_t *ngx_http_llm_models_list(ngx_http_llm_ctx_t *ctx);
static ngx_int_t ngx_http_llm_models_add_routes(ngx_http_llm_ctx_t *ctx,
    json_t *list);
static ngx_int_t ngx_http_llm_models_add_provider(ngx_http_llm_ctx_t *ctx,
    json_t *list, ngx_uint_t i);
static ngx_uint_t ngx_http_llm_models_served(ngx_http_llm_ctx_t *ctx,
    ngx_str_t *id, ngx_http_llm_provider_t *pr);
static ngx_int_t ngx_http_llm_models_one(ngx_http_llm_ctx_t *ctx,
    json_t *list, json_t **one);
static ngx_int_t ngx_http_llm_models_send(ngx_http_llm_ctx_t *ctx,
    json_t *json);


/* what a provider told last; of this worker */

typedef struct {
    json_t                     *data;        /* array of objects, or NULL */
    time_t                      until;
} ngx_http_llm_models_list_t;


/* one target for each provider behind a pattern */

static ngx_http_llm_route_t         ngx_http_llm_models_route;
static ngx_http_llm_models_list_t  *ngx_http_llm_models_lists;


ngx_int_t
ngx_http_llm_models_init_process(ngx_cycle_t *cycle)
{
    ngx_uint_t                 i, k, n;
    ngx_http_llm_route_t      *route;
    ngx_http_llm_target_t     *target, *known;
    ngx_http_llm_main_conf_t  *mcf;

    mcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_llm_module);

    if (ngx_array_init(&ngx_http_llm_models_route.targets, cycle->pool,
                       mcf->providers.nelts, sizeof(ngx_http_llm_target_t))
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    route = mcf->routes.elts;

    for (i = 0; i < mcf->routes.nelts; i++) {

        if (route[i].literal) {
            continue;
        }

        target = route[i].targets.elts;

        for (k = 0; k < route[i].targets.nelts; k++) {

            known = ngx_http_llm_models_route.targets.elts;

            for (n = 0; n < ngx_http_llm_models_route.targets.nelts; n++) {
                if (known[n].provider == target[k].provider) {
                    break;
                }
            }

            /* a target with a model of its own says nothing of others */

            if (n < ngx_http_llm_models_route.targets.nelts
                || target[k].model.len)
            {
                continue;
            }

            known = ngx_array_push(&ngx_http_llm_models_route.targets);
            if (known == NULL) {
                return NGX_ERROR;
            }

            known->provider = target[k].provider;
            ngx_str_null(&known->model);
        }
    }

    ngx_http_llm_models_lists = ngx_pcalloc(cycle->pool,
                                    (mcf->providers.nelts + 1)
                                    * sizeof(ngx_http_llm_models_list_t));

    return ngx_http_llm_models_lists ? NGX_OK : NGX_ERROR;
}


ngx_int_t
ngx_http_llm_models(ngx_http_llm_ctx_t *ctx)
{
    ngx_int_t                rc;
    ngx_http_llm_attempt_t  *at;

    if (!ctx->body_read) {

        rc = ngx_http_discard_request_body(ctx->request);
        if (rc != NGX_OK) {
            return NGX_ERROR;
        }

        ctx->body_read = 1;
        ctx->route = &ngx_http_llm_models_route;
    }

    at = ctx->attempt;

    if (at && at->running) {

        if (!at->done) {
            return ngx_http_llm_models_wait(ctx);
        }

        ngx_http_llm_models_fetched(ctx);

        ctx->target++;
    }

    for ( /* void */ ;
         ctx->target < ngx_http_llm_models_route.targets.nelts;
         ctx->target++)
    {
        if (ngx_http_llm_models_lists[ctx->target].until > ngx_time()) {
            continue;
        }

        if (ngx_http_llm_attempt_start(ctx) != NGX_OK) {
            return NGX_ERROR;
        }

        ngx_add_timer(&ctx->timer, NGX_HTTP_LLM_MODELS_TIMEOUT);

        return NGX_AGAIN;
    }

    /* no provider of its own stands behind this answer */

    ctx->target = 0;
    ctx->route = NULL;

    return ngx_http_llm_models_answer(ctx);
}


static ngx_int_t
ngx_http_llm_models_wait(ngx_http_llm_ctx_t *ctx)
{
    if (!ctx->timer.timer_set) {
        ctx->attempt->timedout = 1;
        ngx_http_llm_attempt_cancel(ctx);
    }

    return NGX_AGAIN;
}


/* a list that cannot be had leaves the old one in force */

static void
ngx_http_llm_models_fetched(ngx_http_llm_ctx_t *ctx)
{
    json_t                      *json, *data;
    ngx_http_llm_attempt_t      *at;
    ngx_http_llm_models_list_t  *list;

    at = ctx->attempt;
    at->running = 0;

    if (ctx->timer.timer_set) {
        ngx_del_timer(&ctx->timer);
    }

    json = NULL;
    data = NULL;
    list = &ngx_http_llm_models_lists[ctx->target];

    if (at->status == NGX_HTTP_OK && at->last && !at->overflow) {
        json = llm_tree_load((char *) at->hold, at->held, 0, NULL);
        data = json_object_get(json, "data");
    }

    if (!json_is_array(data)) {

        ngx_log_error(NGX_LOG_WARN, ctx->request->connection->log, 0,
                      "llm: no list of models from provider \"%V\", status "
                      "%ui", &at->target->provider->name, at->status);

        ngx_http_llm_forward_count(ctx, NGX_HTTP_LLM_ATTEMPT_BROKEN);

        json_decref(json);
        list->until = ngx_time() + NGX_HTTP_LLM_MODELS_AGAIN;
        return;
    }

    ngx_http_llm_forward_count(ctx, NGX_HTTP_LLM_ATTEMPT_OK);

    json_decref(list->data);

    list->data = json_incref(data);
    list->until = ngx_time() + NGX_HTTP_LLM_MODELS_FRESH;

    json_decref(json);
}


static ngx_int_t
ngx_http_llm_models_answer(ngx_http_llm_ctx_t *ctx)
{
    json_t     *list, *one, *page;
    ngx_int_t   rc;

    list = ngx_http_llm_models_list(ctx);
    if (list == NULL) {
        return NGX_ERROR;
    }

    if (ctx->request->uri.len > NGX_HTTP_LLM_MODELS_PREFIX) {

        rc = ngx_http_llm_models_one(ctx, list, &one);

        if (rc == NGX_OK) {
            rc = ngx_http_llm_models_send(ctx, one);
        }

        json_decref(list);
        return rc;
    }

    page = json_pack("{s:s,s:o}", "object", "list", "data", list);
    if (page == NULL) {
        return NGX_ERROR;
    }

    rc = ngx_http_llm_models_send(ctx, page);

    json_decref(page);

    return rc;
}


static json_t *
ngx_http_llm_models_list(ngx_http_llm_ctx_t *ctx)
{
    json_t      *list;
    ngx_uint_t   i;

    list = json_array();
    if (list == NULL) {
        return NULL;
    }

    if (ngx_http_llm_models_add_routes(ctx, list) != NGX_OK) {
        goto failed;
    }

    for (i = 0; i < ngx_http_llm_models_route.targets.nelts; i++) {
        if (ngx_http_llm_models_add_provider(ctx, list, i) != NGX_OK) {
            goto failed;
        }
    }

    return list;

failed:

    json_decref(list);

    return NULL;
}


static ngx_int_t
ngx_http_llm_models_add_routes(ngx_http_llm_ctx_t *ctx, json_t *list)
{
    json_t                 *model;
    llm_str_t               name;
    ngx_uint_t              i;
    ngx_http_llm_route_t   *route;
    ngx_http_llm_target_t  *target;

    route = ctx->mcf->routes.elts;

    for (i = 0; i < ctx->mcf->routes.nelts; i++) {

        name.data = route[i].pattern.data;
        name.len = route[i].pattern.len;

        if (!route[i].literal || !llm_policy_allows(ctx->key, &name)) {
            continue;
        }

        target = route[i].targets.elts;

        model = json_pack("{s:s%,s:s,s:i,s:s%}",
                          "id", name.data, name.len, "object", "model",
                          "created", 0, "owned_by",
                          target->provider->name.data,
                          target->provider->name.len);

        if (json_array_append_new(list, model) != 0) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_models_add_provider(ngx_http_llm_ctx_t *ctx, json_t *list,
    ngx_uint_t i)
{
    json_t                 *model, *id;
    size_t                  k;
    llm_str_t               name;
    ngx_str_t               s;
    ngx_http_llm_target_t  *target;

    target = ngx_http_llm_models_route.targets.elts;

    json_array_foreach(ngx_http_llm_models_lists[i].data, k, model) {

        id = json_object_get(model, "id");

        if (!json_is_string(id)) {
            continue;
        }

        name.data = (u_char *) json_string_value(id);
        name.len = json_string_length(id);

        s.data = name.data;
        s.len = name.len;

        if (!ngx_http_llm_models_served(ctx, &s, target[i].provider)
            || !llm_policy_allows(ctx->key, &name))
        {
            continue;
        }

        if (json_array_append(list, model) != 0) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/* is this the provider that a call of the model would go to first? */

static ngx_uint_t
ngx_http_llm_models_served(ngx_http_llm_ctx_t *ctx, ngx_str_t *id,
    ngx_http_llm_provider_t *pr)
{
    ngx_http_llm_route_t   *route;
    ngx_http_llm_target_t  *target;

    route = ngx_http_llm_route(ctx->mcf, id);

    if (route == NULL || route->literal) {
        return 0;
    }

    target = route->targets.elts;

    return target->provider == pr;
}


static ngx_int_t
ngx_http_llm_models_one(ngx_http_llm_ctx_t *ctx, json_t *list, json_t **one)
{
    json_t       *id;
    size_t        k;
    ngx_str_t     name;

    name.data = ctx->request->uri.data + NGX_HTTP_LLM_MODELS_PREFIX;
    name.len = ctx->request->uri.len - NGX_HTTP_LLM_MODELS_PREFIX;

    json_array_foreach(list, k, *one) {

        id = json_object_get(*one, "id");

        if (json_string_length(id) == name.len
            && ngx_memcmp(json_string_value(id), name.data, name.len) == 0)
        {
            return NGX_OK;
        }
    }

    (void) ngx_http_llm_error(ctx, NGX_HTTP_NOT_FOUND,
                              "invalid_request_error", "model_not_found",
                              "The model does not exist or you do not have "
                              "access to it.");
    ctx->error.param = "model";

    return NGX_HTTP_NOT_FOUND;
}


static ngx_int_t
ngx_http_llm_models_send(ngx_http_llm_ctx_t *ctx, json_t *json)
{
    size_t  len;

    len = json_dumpb(json, NULL, 0, JSON_COMPACT);

    ctx->answer.body.data = ngx_pnalloc(ctx->request->pool, len);

    if (len == 0 || ctx->answer.body.data == NULL) {
        return NGX_ERROR;
    }

    ctx->answer.body.len = json_dumpb(json, (char *) ctx->answer.body.data,
                                      len, JSON_COMPACT);

    if (ctx->answer.body.len != len) {
        return NGX_ERROR;
    }

    ctx->answer.status = NGX_HTTP_OK;
    ctx->answer.from = NULL;

    ngx_str_set(&ctx->answer.content_type, "application/json");

    ctx->answered = 1;

    return NGX_OK;
}
