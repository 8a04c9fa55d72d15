
/*
 * Copyright (C) the ngx-llm authors
 */


#include "ngx_http_llm_conf.h"
#include "http/ngx_http_llm_id.h"
#include "http/ngx_http_llm_loopback.h"
#include "http/ngx_http_llm_reply.h"
#include "http/ngx_http_llm_variables.h"
#include "operate/ngx_http_llm_admin.h"
#include "operate/ngx_http_llm_health.h"
#include "operate/ngx_http_llm_metrics.h"
#include "operate/ngx_http_llm_trace.h"
#include "policy/ngx_http_llm_cache.h"
#include "policy/ngx_http_llm_flight.h"
#include "policy/ngx_http_llm_identify.h"
#include "policy/ngx_http_llm_limit.h"
#include "policy/ngx_http_llm_prices.h"
#include "policy/ngx_http_llm_purge.h"
#include "policy/ngx_http_llm_quota.h"
#include "policy/ngx_http_llm_keys.h"
#include "policy/ngx_http_llm_keys_store.h"
#include "policy/ngx_http_llm_tenant.h"
#include "policy/ngx_http_llm_usage.h"
#include "tasks/ngx_http_llm_tasks.h"
#include "state/ngx_http_llm_owner.h"
#include "state/ngx_http_llm_redis.h"
#include "state/ngx_http_llm_state.h"
#include "state/ngx_http_llm_wake.h"
#include "state/ngx_http_llm_zone.h"
#include "upstream/ngx_http_llm_affinity.h"
#include "upstream/ngx_http_llm_choose.h"
#include "upstream/ngx_http_llm_models.h"
#include "upstream/ngx_http_llm_provider.h"
#include "upstream/ngx_http_llm_relay.h"
#include "upstream/ngx_http_llm_resolve.h"
#include "upstream/ngx_http_llm_route.h"
#include "upstream/ngx_http_llm_share.h"

#if (__GLIBC__)
#include <malloc.h>
#endif


/* what a worker keeps of its heap between two bursts of requests */

#define NGX_HTTP_LLM_HEAP  (16 * 1024 * 1024)


static ngx_int_t ngx_http_llm_preconfiguration(ngx_conf_t *cf);
static ngx_int_t ngx_http_llm_postconfiguration(ngx_conf_t *cf);
static ngx_int_t ngx_http_llm_init_module(ngx_cycle_t *cycle);
static ngx_int_t ngx_http_llm_init_process(ngx_cycle_t *cycle);
static void ngx_http_llm_init_heap(void);
static ngx_int_t ngx_http_llm_init_stores(ngx_http_llm_main_conf_t *mcf,
    ngx_cycle_t *cycle);
static void ngx_http_llm_reaped(ngx_uint_t owner);
static void ngx_http_llm_exit_process(ngx_cycle_t *cycle);


#define NGX_HTTP_LLM_ANY_CONF                                                \
    NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF


static ngx_command_t  ngx_http_llm_commands[] = {

    { ngx_string("llm_zone"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_2MORE,
      ngx_http_llm_zone_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("llm_redis"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_1MORE,
      ngx_http_llm_redis_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("llm_redis_cache"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE12,
      ngx_http_llm_redis_cache_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("llm_secret"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE12,
      ngx_http_llm_secret_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("llm_tenants"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_http_llm_tenants_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("llm_prices"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_http_llm_prices_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("llm_state"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_http_llm_state_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("llm_internal"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_http_llm_internal_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("llm_tasks"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_1MORE,
      ngx_http_llm_tasks_set,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("llm_trace"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_1MORE,
      ngx_http_llm_trace_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("llm_provider"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_2MORE,
      ngx_http_llm_provider,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("llm_route"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_2MORE,
      ngx_http_llm_route_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("llm_resolve"),
      NGX_HTTP_UPS_CONF|NGX_CONF_1MORE,
      ngx_http_llm_resolve_slot,
      NGX_HTTP_SRV_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("llm_gateway"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS,
      ngx_http_llm_gateway_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("llm_cache"),
      NGX_HTTP_LLM_ANY_CONF|NGX_CONF_1MORE,
      ngx_http_llm_cache_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("llm_cache_bypass"),
      NGX_HTTP_LLM_ANY_CONF|NGX_CONF_1MORE,
      ngx_http_llm_bypass_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("llm_join"),
      NGX_HTTP_LLM_ANY_CONF|NGX_CONF_1MORE,
      ngx_http_llm_join_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("llm_retry"),
      NGX_HTTP_LLM_ANY_CONF|NGX_CONF_1MORE,
      ngx_http_llm_retry_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("llm_retry_wait"),
      NGX_HTTP_LLM_ANY_CONF|NGX_CONF_2MORE,
      ngx_http_llm_retry_wait_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("llm_hedge"),
      NGX_HTTP_LLM_ANY_CONF|NGX_CONF_TAKE123,
      ngx_http_llm_hedge_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("llm_breaker"),
      NGX_HTTP_LLM_ANY_CONF|NGX_CONF_1MORE,
      ngx_http_llm_breaker_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("llm_heartbeat"),
      NGX_HTTP_LLM_ANY_CONF|NGX_CONF_TAKE12,
      ngx_http_llm_heartbeat_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("llm_timeout"),
      NGX_HTTP_LLM_ANY_CONF|NGX_CONF_1MORE,
      ngx_http_llm_timeout_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("llm_metrics"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS,
      ngx_http_llm_content_slot,
      0,
      0,
      ngx_http_llm_metrics_handler },

    { ngx_string("llm_admin"),
      NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_llm_admin_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("llm_health"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS,
      ngx_http_llm_content_slot,
      0,
      0,
      ngx_http_llm_health_handler },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_llm_module_ctx = {
    ngx_http_llm_preconfiguration,         /* preconfiguration */
    ngx_http_llm_postconfiguration,        /* postconfiguration */

    ngx_http_llm_create_main_conf,         /* create main configuration */
    NULL,                                  /* init main configuration */

    ngx_http_llm_create_srv_conf,          /* create server configuration */
    NULL,                                  /* merge server configuration */

    ngx_http_llm_create_loc_conf,          /* create location configuration */
    ngx_http_llm_merge_loc_conf            /* merge location configuration */
};


ngx_module_t  ngx_http_llm_module = {
    NGX_MODULE_V1,
    &ngx_http_llm_module_ctx,              /* module context */
    ngx_http_llm_commands,                 /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    ngx_http_llm_init_module,              /* init module */
    ngx_http_llm_init_process,             /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    ngx_http_llm_exit_process,             /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


static ngx_int_t
ngx_http_llm_preconfiguration(ngx_conf_t *cf)
{
    ngx_http_llm_loopback_reset();

    return ngx_http_llm_variables_add(cf);
}


static ngx_int_t
ngx_http_llm_postconfiguration(ngx_conf_t *cf)
{
    const char                *missing;
    ngx_http_llm_main_conf_t  *mcf;

    mcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_llm_module);

    if (mcf->gateways == 0) {
        return NGX_OK;
    }

    missing = mcf->zone == NULL ? "llm_zone"
              : mcf->tenants == NULL ? "llm_tenants"
              : mcf->providers.nelts == 0 ? "llm_provider"
              : mcf->routes.nelts == 0 ? "llm_route"
              : NULL;

    if (missing) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "\"llm_gateway\" needs \"%s\" in the http block",
                      missing);
        return NGX_ERROR;
    }

    if (ngx_http_llm_loopback_check(cf) != NGX_OK
        || ngx_http_llm_tenants_check(mcf, cf) != NGX_OK
        || (mcf->prices && ngx_http_llm_prices_check(mcf->prices, cf)
                           != NGX_OK)
        || ngx_http_llm_provider_check(cf) != NGX_OK
        || ngx_http_llm_trace_check(cf) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ngx_http_llm_keys_create(cf, mcf) != NGX_OK
        || ngx_http_llm_cache_create(cf, mcf) != NGX_OK
        || ngx_http_llm_flight_create(cf, mcf) != NGX_OK
        || ngx_http_llm_choose_create(cf, mcf) != NGX_OK
        || ngx_http_llm_share_create(cf, mcf) != NGX_OK
        || ngx_http_llm_affinity_create(cf, mcf) != NGX_OK
        || ngx_http_llm_usage_create(cf, mcf) != NGX_OK
        || ngx_http_llm_tasks_init_conf(cf, mcf) != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_http_llm_reply_init();
    ngx_http_llm_relay_init();

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_init_module(ngx_cycle_t *cycle)
{
    ngx_uint_t                  i;
    ngx_http_llm_count_t       *count;
    ngx_http_llm_provider_t   **pr;
    ngx_http_llm_main_conf_t   *mcf;

    mcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_llm_module);

    if (mcf == NULL || mcf->gateways == 0) {
        return NGX_OK;
    }

    count = &mcf->zone->sh->count;
    pr = mcf->providers.elts;

    for (i = 0; i < mcf->providers.nelts; i++) {

        pr[i]->slot = ngx_http_llm_count_provider(count, &pr[i]->name);

        if (pr[i]->slot == NGX_HTTP_LLM_PROVIDERS) {

            /* names of providers that are gone keep their counters */

            pr[i]->slot = NGX_HTTP_LLM_PROVIDERS - 1;

            ngx_log_error(NGX_LOG_WARN, cycle->log, 0,
                          "llm: no counters left for provider \"%V\", it "
                          "shares those of another", &pr[i]->name);
        }
    }

    if (ngx_http_llm_wake_init_module(cycle) != NGX_OK
        || ngx_http_llm_loopback_init_module(cycle) != NGX_OK
        || ngx_http_llm_tenants_init_module(mcf, cycle) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (mcf->redis) {
        ngx_http_llm_redis_share(mcf->redis, &mcf->zone->sh->redis);
    }

    if (mcf->redis_cache) {
        ngx_http_llm_redis_share(mcf->redis_cache,
                                 &mcf->zone->sh->redis_cache);
    }

    if (mcf->state
        && ngx_http_llm_state_init_module(mcf->state, mcf->zone,
                                          mcf->redis ? NULL : mcf->book,
                                          cycle)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ngx_http_llm_keys_store_init_module(mcf, cycle) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_llm_quota_init_module(mcf->quota, mcf->zone, cycle);
}


static ngx_int_t
ngx_http_llm_init_process(ngx_cycle_t *cycle)
{
    ngx_http_llm_main_conf_t  *mcf;

    if (ngx_process != NGX_PROCESS_WORKER && ngx_process != NGX_PROCESS_SINGLE)
    {
        return NGX_OK;
    }

    ngx_http_llm_resolve_init_process(cycle);

    mcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_llm_module);

    if (mcf == NULL || mcf->gateways == 0) {
        return NGX_OK;
    }

    ngx_http_llm_init_heap();

    ngx_http_llm_owner_reaped(ngx_http_llm_reaped);
    ngx_http_llm_loopback_init_process(cycle);

    if (ngx_http_llm_id_init_process(cycle) != NGX_OK
        || ngx_http_llm_identify_init_process(cycle) != NGX_OK
        || ngx_http_llm_cache_init_process(mcf, cycle) != NGX_OK
        || ngx_http_llm_flight_init_process(mcf, cycle) != NGX_OK
        || ngx_http_llm_limit_init_process(mcf, cycle) != NGX_OK
        || ngx_http_llm_models_init_process(cycle) != NGX_OK
        || ngx_http_llm_trace_init_process(mcf, cycle) != NGX_OK
        || ngx_http_llm_tenants_init_process(mcf, cycle,
                                             ngx_http_llm_limit_changed)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ngx_http_llm_init_stores(mcf, cycle) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_http_llm_share_init_process(mcf);

    if (ngx_http_llm_fleet_init_process(mcf, cycle) != NGX_OK
        || ngx_http_llm_purge_init_process(mcf, cycle) != NGX_OK
        || ngx_http_llm_usage_init_process(mcf, cycle) != NGX_OK
        || ngx_http_llm_keys_store_init_process(mcf, cycle) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (mcf->redis == NULL) {
        return NGX_OK;
    }

    if (ngx_http_llm_tasks_init_process(cycle, mcf) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_llm_quota_init_process(mcf->quota, mcf->zone, cycle);
}


/*
 * By default glibc gives the top of the heap back as soon as 128 KB of it are
 * free, which for a gateway is whenever some 30 requests end together, and has
 * it faulted in again for the next ones: one page fault per request was a
 * tenth of its time.
 */

static void
ngx_http_llm_init_heap(void)
{
#if (__GLIBC__)
    (void) mallopt(M_TRIM_THRESHOLD, NGX_HTTP_LLM_HEAP);
    (void) mallopt(M_MMAP_THRESHOLD, NGX_HTTP_LLM_HEAP / 4);
#endif
}


/* what the others keep their things in */

static ngx_int_t
ngx_http_llm_init_stores(ngx_http_llm_main_conf_t *mcf, ngx_cycle_t *cycle)
{
    if (mcf->prices
        && ngx_http_llm_prices_init_process(mcf->prices, cycle) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (mcf->state
        && ngx_http_llm_state_init_process(mcf->state, cycle) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (mcf->redis_cache
        && ngx_http_llm_redis_init_process(mcf->redis_cache, cycle) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (mcf->redis
        && ngx_http_llm_redis_init_process(mcf->redis, cycle) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* what a worker that is gone held beside its tickets */

static void
ngx_http_llm_reaped(ngx_uint_t owner)
{
    ngx_http_llm_main_conf_t  *mcf;

    mcf = ngx_http_cycle_get_module_main_conf(ngx_cycle, ngx_http_llm_module);

    mcf->zone->sh->count.tasks.running[owner] = 0;

    ngx_http_llm_flight_reaped(owner);
    ngx_http_llm_choose_reaped(mcf, owner);
    ngx_http_llm_usage_reaped(mcf, owner);
}


static void
ngx_http_llm_exit_process(ngx_cycle_t *cycle)
{
    ngx_http_llm_main_conf_t  *mcf;

    if (ngx_process != NGX_PROCESS_WORKER && ngx_process != NGX_PROCESS_SINGLE)
    {
        return;
    }

    mcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_llm_module);

    if (mcf == NULL || mcf->gateways == 0) {
        return;
    }

    ngx_http_llm_trace_exit_process();

    ngx_http_llm_tasks_exit_process(mcf);

    /* what the limits still have to tell goes out before Redis does */

    ngx_http_llm_quota_exit_process();
    ngx_http_llm_fleet_exit_process();
    ngx_http_llm_flight_exit_process();
    ngx_http_llm_usage_exit_process(mcf);

    if (mcf->redis) {
        ngx_http_llm_redis_exit_process(mcf->redis);
    }

    if (mcf->redis_cache) {
        ngx_http_llm_redis_exit_process(mcf->redis_cache);
    }

    ngx_http_llm_limit_exit_process();

    if (mcf->state) {
        ngx_http_llm_state_exit_process(mcf->state);
    }
}
