
/*
 * Copyright (C) the ngx-llm authors
 */


#include "operate/ngx_http_llm_health.h"
#include "http/ngx_http_llm_reply.h"
#include "policy/ngx_http_llm_keys.h"
#include "policy/ngx_http_llm_purge.h"
#include "state/ngx_http_llm_redis.h"
#include "state/ngx_http_llm_zone.h"


static ngx_int_t ngx_http_llm_health_ready(ngx_http_request_t *r);


ngx_int_t
ngx_http_llm_health_handler(ngx_http_request_t *r)
{
    ngx_int_t         rc;
    static ngx_str_t  ok = ngx_string("{\"status\":\"ok\"}\n");

    rc = ngx_http_discard_request_body(r);
    if (rc != NGX_OK) {
        return rc;
    }

    if (r->uri.len >= 7
        && ngx_memcmp(r->uri.data + r->uri.len - 7, "/readyz", 7) == 0)
    {
        return ngx_http_llm_health_ready(r);
    }

    return ngx_http_llm_reply_body(r, NGX_HTTP_OK, NULL, &ok);
}


/* Redis is reported but does not decide: requests are served without it */

static ngx_int_t
ngx_http_llm_health_ready(ngx_http_request_t *r)
{
    u_char                    *p;
    ngx_str_t                  body;
    ngx_uint_t                 ready;
    const char                *redis;
    llm_keyring_stat_t         stat;
    ngx_http_llm_main_conf_t  *mcf;

    mcf = ngx_http_get_module_main_conf(r, ngx_http_llm_module);

    ngx_memzero(&stat, sizeof(llm_keyring_stat_t));

    if (mcf->keys) {
        ngx_http_llm_keys_stat(mcf, &stat);
    }

    ready = stat.loaded && mcf->zone && mcf->zone->sh;

    /* its answers are taken once it is known what was purged */

    redis = mcf->redis == NULL ? "off"
            : ngx_http_llm_redis_connected(mcf->redis)
              && (!mcf->caches || ngx_http_llm_purge_known(mcf)) ? "up"
                                                                  : "down";

    p = ngx_pnalloc(r->pool, 256);
    if (p == NULL) {
        return NGX_ERROR;
    }

    body.data = p;

    p = ngx_sprintf(p, "{\"status\":\"%s\",\"policy\":{\"keys\":%uL,"
                    "\"teams\":%uL,\"admin_keys\":%uL,"
                    "\"admin_teams\":%uL},\"redis\":\"%s\"}\n",
                    ready ? "ready" : "not ready", stat.keys, stat.teams,
                    stat.dynamic_keys, stat.dynamic_teams, redis);

    body.len = p - body.data;

    return ngx_http_llm_reply_body(r, ready ? NGX_HTTP_OK
                                            : NGX_HTTP_SERVICE_UNAVAILABLE,
                                   NULL, &body);
}
