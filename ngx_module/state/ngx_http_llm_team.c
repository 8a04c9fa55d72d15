
/*
 * Copyright (C) the ngx-llm authors
 *
 * An index of row numbers by the hash of the name, and the rows in the order
 * in which they came.  A row is whole before the index names it, so looking
 * takes no lock; rows never go.
 */


#include "state/ngx_http_llm_team.h"
#include "state/ngx_http_llm_zone.h"

#include "core/llm_policy.h"


#define NGX_HTTP_LLM_TEAM_SIZE  4096             /* of the zone, per row */


struct ngx_http_llm_teams_s {
    ngx_uint_t                  max;
    ngx_atomic_t                used;
    ngx_uint_t                  nindex;
    volatile uint16_t          *index;           /* row + 1; 0: free */
    ngx_http_llm_team_t         none;
    ngx_http_llm_team_t         other;
    ngx_http_llm_team_t         row[1];
};


static ngx_str_t  ngx_http_llm_team_other = ngx_string("other");


static ngx_http_llm_team_t *ngx_http_llm_team_row(ngx_http_llm_teams_t *ts,
    ngx_str_t *name, ngx_uint_t *place);


ngx_http_llm_teams_t *
ngx_http_llm_team_create(ngx_slab_pool_t *shpool, size_t size)
{
    ngx_uint_t             max;
    ngx_http_llm_teams_t  *ts;

    max = ngx_min(size / NGX_HTTP_LLM_TEAM_SIZE, NGX_HTTP_LLM_TEAMS);

    ts = ngx_slab_calloc(shpool, sizeof(ngx_http_llm_teams_t)
                                 + max * sizeof(ngx_http_llm_team_t));
    if (ts == NULL) {
        return NULL;
    }

    ts->index = ngx_slab_calloc(shpool, 2 * max * sizeof(uint16_t));
    if (ts->index == NULL) {
        return NULL;
    }

    ts->max = max;
    ts->nindex = 2 * max;
    ts->other.len = ngx_http_llm_team_other.len;
    ngx_memcpy(ts->other.name, ngx_http_llm_team_other.data, ts->other.len);

    return ts;
}


ngx_http_llm_team_t *
ngx_http_llm_team_find(ngx_http_llm_zone_t *zone, ngx_str_t *name)
{
    ngx_uint_t             place;
    ngx_http_llm_team_t   *tm;
    ngx_http_llm_teams_t  *ts;

    ts = zone->sh->teams;

    if (name->len == 0) {
        return &ts->none;
    }

    /* a team of this very name shares them: no series may be there twice */

    if (name->len > NGX_HTTP_LLM_TEAM_NAME
        || (name->len == ngx_http_llm_team_other.len
            && ngx_memcmp(name->data, ngx_http_llm_team_other.data, name->len)
               == 0))
    {
        return &ts->other;
    }

    tm = ngx_http_llm_team_row(ts, name, &place);

    if (tm) {
        return tm;
    }

    if (ts->used >= ts->max) {
        return &ts->other;
    }

    ngx_shmtx_lock(&zone->shpool->mutex);

    tm = ngx_http_llm_team_row(ts, name, &place);

    if (tm == NULL) {

        if (ts->used < ts->max) {

            /*
             * Should a worker die in here, the next team gets this row, and
             * its place in the index leads to a name that is not asked for.
             */

            tm = &ts->row[ts->used];
            tm->len = name->len;
            ngx_memcpy(tm->name, name->data, name->len);

            ngx_memory_barrier();

            ts->index[place] = (uint16_t) (ts->used + 1);

            ngx_memory_barrier();

            ts->used++;

        } else {
            tm = &ts->other;
        }
    }

    ngx_shmtx_unlock(&zone->shpool->mutex);

    return tm;
}


/* NULL: there is none, "place" is where the index has room for it */

static ngx_http_llm_team_t *
ngx_http_llm_team_row(ngx_http_llm_teams_t *ts, ngx_str_t *name,
    ngx_uint_t *place)
{
    uint16_t              n;
    llm_str_t             s;
    ngx_uint_t            i;
    ngx_http_llm_team_t  *tm;

    s.data = name->data;
    s.len = name->len;

    for (i = llm_policy_hash(&s) % ts->nindex; /* void */ ;
         i = (i + 1) % ts->nindex)
    {
        n = ts->index[i];

        if (n == 0) {
            *place = i;
            return NULL;
        }

        ngx_memory_barrier();

        tm = &ts->row[n - 1];

        if (tm->len == name->len
            && ngx_memcmp(tm->name, name->data, name->len) == 0)
        {
            return tm;
        }
    }
}


ngx_http_llm_team_t *
ngx_http_llm_team_next(ngx_http_llm_zone_t *zone, ngx_uint_t *i)
{
    ngx_uint_t             n;
    ngx_http_llm_teams_t  *ts;

    ts = zone->sh->teams;
    n = (*i)++;

    if (n == 0) {
        return &ts->none;
    }

    if (n == 1) {
        return &ts->other;
    }

    return n - 2 < ts->used ? &ts->row[n - 2] : NULL;
}
