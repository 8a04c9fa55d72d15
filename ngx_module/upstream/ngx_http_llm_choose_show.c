
/*
 * Copyright (C) the ngx-llm authors
 *
 * The targets for those who watch and mend them.
 */


#include "upstream/ngx_http_llm_choose_private.h"


static void ngx_http_llm_choose_both(ngx_http_llm_tables_t *tb,
    uint32_t place, llm_str_t *name, llm_target_stat_t *stat);
static uint32_t ngx_http_llm_choose_each(ngx_http_llm_tables_t *tb,
    uint32_t place, llm_targets_t **tg, llm_str_t *name);


/*
 * One that a route names may be met as a model of a pattern's target, too, and
 * has two states then.  They are told as one: the sums, and the worse state.
 */

static void
ngx_http_llm_choose_both(ngx_http_llm_tables_t *tb, uint32_t place,
    llm_str_t *name, llm_target_stat_t *stat)
{
    uint32_t           i;
    llm_target_stat_t  met;

    llm_target_stat(tb->named, place, ngx_current_msec, stat);

    i = llm_target_seek(tb->models, name);

    if (i == LLM_TARGET_NONE) {
        return;
    }

    llm_target_stat(tb->models, i, ngx_current_msec, &met);

    if (stat->state == LLM_TARGET_CLOSED || met.state == LLM_TARGET_OPEN) {
        stat->state = met.state;
    }

    stat->until = ngx_max(stat->until, met.until);
    stat->running += met.running;
    stat->ejections += met.ejections;
    stat->cooled += met.cooled;
    stat->retries += met.retries;
    stat->denied += met.denied;
    stat->paced += met.paced;
}


ngx_int_t
ngx_http_llm_choose_stat(ngx_http_llm_main_conf_t *mcf,
    ngx_http_llm_target_t *target, llm_target_stat_t *stat)
{
    uint32_t                place;
    llm_str_t               name;
    ngx_http_llm_tables_t  *tb;

    name.data = target->name.data;
    name.len = target->name.len;

    tb = ngx_http_llm_area_lock(mcf->targets);

    place = ngx_http_llm_choose_place(tb, target);

    if (place != LLM_TARGET_NONE) {
        ngx_http_llm_choose_both(tb, place, &name, stat);
    }

    ngx_http_llm_area_unlock(mcf->targets);

    return place == LLM_TARGET_NONE ? NGX_DECLINED : NGX_OK;
}


/* the configured ones first, then the models that were met */

static uint32_t
ngx_http_llm_choose_each(ngx_http_llm_tables_t *tb, uint32_t place,
    llm_targets_t **tg, llm_str_t *name)
{
    uint32_t  i;

    if (place < NGX_HTTP_LLM_CHOOSE_MET) {
        *tg = tb->named;
        i = llm_target_next(tb->named, place, name);

        if (i != LLM_TARGET_NONE) {
            return i;
        }

        place = NGX_HTTP_LLM_CHOOSE_MET;
    }

    *tg = tb->models;
    i = llm_target_next(tb->models, place - NGX_HTTP_LLM_CHOOSE_MET, name);

    return i == LLM_TARGET_NONE ? i : i + NGX_HTTP_LLM_CHOOSE_MET;
}


ngx_int_t
ngx_http_llm_choose_next(ngx_http_llm_main_conf_t *mcf, uint32_t *place,
    llm_str_t *name, llm_target_stat_t *stat)
{
    uint32_t                i;
    llm_str_t               found;
    llm_targets_t          *tg;
    ngx_http_llm_tables_t  *tb;

    tb = ngx_http_llm_area_lock(mcf->targets);

    i = ngx_http_llm_choose_each(tb, *place, &tg, &found);

    while (i != LLM_TARGET_NONE && tg == tb->models
           && llm_target_seek(tb->named, &found) != LLM_TARGET_NONE)
    {
        i = ngx_http_llm_choose_each(tb, i + 1, &tg, &found);
    }

    if (i != LLM_TARGET_NONE) {
        ngx_memcpy((u_char *) name->data, found.data, found.len);
        name->len = found.len;

        if (tg == tb->named) {
            ngx_http_llm_choose_both(tb, i, &found, stat);

        } else {
            llm_target_stat(tg, i % NGX_HTTP_LLM_CHOOSE_MET,
                            ngx_current_msec, stat);
        }

        *place = i + 1;
    }

    ngx_http_llm_area_unlock(mcf->targets);

    return i == LLM_TARGET_NONE ? NGX_DECLINED : NGX_OK;
}


ngx_uint_t
ngx_http_llm_choose_mend(ngx_http_llm_main_conf_t *mcf, llm_str_t *name)
{
    uint32_t                i;
    llm_str_t               found;
    ngx_uint_t              n;
    llm_targets_t          *tg;
    ngx_http_llm_tables_t  *tb;

    n = 0;

    tb = ngx_http_llm_area_lock(mcf->targets);

    for (i = 0;
         (i = ngx_http_llm_choose_each(tb, i, &tg, &found))
         != LLM_TARGET_NONE;
         i++)
    {
        if (name == NULL
            || (name->len == found.len
                && ngx_memcmp(name->data, found.data, found.len) == 0))
        {
            llm_target_mend(tg, i % NGX_HTTP_LLM_CHOOSE_MET,
                            ngx_current_msec);
            n++;
        }
    }

    ngx_http_llm_area_unlock(mcf->targets);

    return n;
}
