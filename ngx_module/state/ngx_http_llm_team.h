
/*
 * Copyright (C) the ngx-llm authors
 *
 * What the cache did for each team: counters in shared memory, bounded,
 * bumped without a lock.
 */


#ifndef _NGX_HTTP_LLM_TEAM_H_INCLUDED_
#define _NGX_HTTP_LLM_TEAM_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


#define NGX_HTTP_LLM_TEAMS      1024       /* in a zone of 4 MB or more */
#define NGX_HTTP_LLM_TEAM_NAME  64


typedef struct ngx_http_llm_zone_s   ngx_http_llm_zone_t;
typedef struct ngx_http_llm_teams_s  ngx_http_llm_teams_t;


typedef struct {
    u_char                      name[NGX_HTTP_LLM_TEAM_NAME];
    size_t                      len;
    ngx_atomic_t                hits;            /* requests, each */
    ngx_atomic_t                joined;
    ngx_atomic_t                stale;
    ngx_atomic_t                misses;
    ngx_atomic_t                bypassed;
    ngx_atomic_t                tokens_saved;
    ngx_atomic_t                money_saved;     /* micro-dollars */
} ngx_http_llm_team_t;


/*
 * Where the zone is created: room for a team per 4 KB of "size", the zone's.
 * NULL: no memory.
 */
ngx_http_llm_teams_t *ngx_http_llm_team_create(ngx_slab_pool_t *shpool,
    size_t size);

/*
 * The counters of a team, never NULL: those of "other" when there is no room
 * for one more; an empty name (keys without a team) has its own.  The pointer
 * is good as long as the zone is.
 */
ngx_http_llm_team_t *ngx_http_llm_team_find(ngx_http_llm_zone_t *zone,
    ngx_str_t *name);

/* all of them in turn, from 0; NULL: that was the last one */
ngx_http_llm_team_t *ngx_http_llm_team_next(ngx_http_llm_zone_t *zone,
    ngx_uint_t *i);


#endif /* _NGX_HTTP_LLM_TEAM_H_INCLUDED_ */
