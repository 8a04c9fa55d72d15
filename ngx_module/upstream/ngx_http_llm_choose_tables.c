
/*
 * Copyright (C) the ngx-llm authors
 *
 * What the workers know together of targets, and of models.
 *
 * A target that names no model ("openai") stands for many, and one that is
 * ill must not take the others along: it is judged, paced and timed for each
 * of them ("openai:gpt-4o"), and the target itself only by whether it can be
 * reached.  A model gets its place when a provider has had an answer for it,
 * so that made-up names, which are refused, cost nothing.
 */


#include "upstream/ngx_http_llm_choose_private.h"
#include "state/ngx_http_llm_zone.h"


#define NGX_HTTP_LLM_CHOOSE_SIZE    (3 * 1024 * 1024)
#define NGX_HTTP_LLM_CHOOSE_MODELS  (1024 * 1024)


static void *ngx_http_llm_choose_area_create(void *mem, size_t size);
static void ngx_http_llm_choose_area_reset(void *data);
static uint32_t ngx_http_llm_choose_find(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_tables_t *tb, ngx_http_llm_target_t *target,
    ngx_uint_t create);


static ngx_http_llm_area_type_t  ngx_http_llm_choose_area = {
    ngx_http_llm_choose_area_create,
    ngx_http_llm_choose_area_reset,
    NULL
};


ngx_int_t
ngx_http_llm_choose_create(ngx_conf_t *cf, ngx_http_llm_main_conf_t *mcf)
{
    mcf->targets = ngx_http_llm_area_create(cf,
                                            &mcf->zone->shm_zone->shm.name,
                                            "targets",
                                            NGX_HTTP_LLM_CHOOSE_SIZE,
                                            &ngx_http_llm_choose_area,
                                            &ngx_http_llm_module);

    return mcf->targets ? NGX_OK : NGX_ERROR;
}


static void *
ngx_http_llm_choose_area_create(void *mem, size_t size)
{
    u_char                 *p;
    ngx_http_llm_tables_t  *tb;

    tb = mem;
    p = (u_char *) mem + sizeof(ngx_http_llm_tables_t);
    size -= sizeof(ngx_http_llm_tables_t);

    tb->models = llm_target_create(p, NGX_HTTP_LLM_CHOOSE_MODELS);
    tb->named = llm_target_create(p + NGX_HTTP_LLM_CHOOSE_MODELS,
                                  size - NGX_HTTP_LLM_CHOOSE_MODELS);
    tb->heard = 0;
    tb->second = 0;
    tb->posted = 0;

    return tb->models && tb->named ? tb : NULL;
}


static void
ngx_http_llm_choose_area_reset(void *data)
{
    ngx_http_llm_tables_t  *tb = data;

    llm_target_reset(tb->named);
    llm_target_reset(tb->models);
}


void
ngx_http_llm_choose_reaped(ngx_http_llm_main_conf_t *mcf, ngx_uint_t owner)
{
    ngx_http_llm_tables_t  *tb;

    tb = ngx_http_llm_area_lock(mcf->targets);
    llm_target_reap(tb->named, owner, ngx_current_msec);
    llm_target_reap(tb->models, owner, ngx_current_msec);
    ngx_http_llm_area_unlock(mcf->targets);
}


void
ngx_http_llm_choose_conf(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_target_t *target, llm_target_conf_t *tc)
{
    ngx_http_llm_loc_conf_t  *conf;
    ngx_http_llm_provider_t  *provider;

    conf = ctx->conf;
    provider = target->provider;

    tc->consecutive = (unsigned) conf->breaker_consecutive;
    tc->ratio = (unsigned) conf->breaker_ratio;
    tc->ratio_min = (unsigned) conf->breaker_min;
    tc->window = (uint32_t) conf->breaker_window;
    tc->eject = (uint32_t) conf->breaker_eject;
    tc->eject_max = (uint32_t) conf->breaker_max;
    tc->budget = (unsigned) conf->retry_budget;
    tc->budget_floor = (unsigned) conf->retry_floor;
    tc->hedge = (unsigned) conf->hedge_budget;
    tc->adaptive = provider->adaptive ? 1 : 0;
    tc->pace = provider->pace ? 1 : 0;
    tc->windowed = provider->windowed ? 1 : 0;
    tc->limitless = 0;
    tc->margin = (unsigned) provider->margin;

    /* its slots are the ledger's; here only a bound that learns needs them */

    tc->most = !provider->adaptive
               || provider->limit.concurrency == LLM_UNLIMITED
               ? 0 : provider->limit.concurrency;
}


void
ngx_http_llm_choose_general(llm_target_conf_t *tc)
{
    tc->adaptive = 0;
    tc->pace = 0;
    tc->limitless = 1;
    tc->most = 0;
}


uint32_t
ngx_http_llm_choose_place(ngx_http_llm_tables_t *tb,
    ngx_http_llm_target_t *target)
{
    llm_str_t  name;

    name.data = target->name.data;
    name.len = target->name.len;

    return llm_target_find(tb->named, &name, ngx_current_msec);
}


uint32_t
ngx_http_llm_choose_model(ngx_http_llm_ctx_t *ctx, ngx_http_llm_tables_t *tb,
    ngx_http_llm_target_t *target)
{
    return ngx_http_llm_choose_find(ctx, tb, target, 0);
}


uint32_t
ngx_http_llm_choose_model_new(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_tables_t *tb, ngx_http_llm_target_t *target)
{
    return ngx_http_llm_choose_find(ctx, tb, target, 1);
}


static uint32_t
ngx_http_llm_choose_find(ngx_http_llm_ctx_t *ctx, ngx_http_llm_tables_t *tb,
    ngx_http_llm_target_t *target, ngx_uint_t create)
{
    u_char     *p, buf[LLM_TARGET_NAME];
    llm_str_t   name;

    if (target->model.len || ctx->model.len == 0
        || target->name.len + 1 + ctx->model.len > LLM_TARGET_NAME)
    {
        return LLM_TARGET_NONE;
    }

    p = ngx_cpymem(buf, target->name.data, target->name.len);
    *p++ = ':';
    p = ngx_cpymem(p, ctx->model.data, ctx->model.len);

    name.data = buf;
    name.len = p - buf;

    return create ? llm_target_find(tb->models, &name, ngx_current_msec)
                  : llm_target_seek(tb->models, &name);
}
