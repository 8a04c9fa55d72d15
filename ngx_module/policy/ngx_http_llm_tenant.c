
/*
 * Copyright (C) the ngx-llm authors
 */


#include "policy/ngx_http_llm_tenant_private.h"
#include "http/ngx_http_llm_arena.h"
#include "state/ngx_http_llm_zone.h"


#define NGX_HTTP_LLM_TENANTS_MAX    (512 * 1024 * 1024)
#define NGX_HTTP_LLM_TENANTS_HEAP   (1024 * 1024)
#define NGX_HTTP_LLM_TENANTS_MOST  (64 * 1024 * 1024)
#define NGX_HTTP_LLM_TENANTS_ROWS   LLM_KEYRING_PAGE
#define NGX_HTTP_LLM_TENANTS_TEXT   (64 * 1024)
#define NGX_HTTP_LLM_TENANTS_BLOCKS 8192         /* swept at a time */


static ngx_int_t ngx_http_llm_tenants_take(ngx_http_llm_file_t *f, char *text,
    size_t size, ngx_uint_t first, char *err, size_t errlen);
static ngx_int_t ngx_http_llm_tenants_move(ngx_http_llm_tenants_t *tn,
    uint64_t ticket, llm_row_e kind, ngx_log_t *log);
static ngx_int_t ngx_http_llm_tenants_move_rows(ngx_http_llm_tenants_t *tn,
    uint64_t ticket, llm_keyring_item_t *items, ngx_uint_t n);
static uint64_t ngx_http_llm_tenants_begin(ngx_http_llm_tenants_t *tn);
static void ngx_http_llm_tenants_poll(ngx_event_t *ev);
static void ngx_http_llm_tenants_look(ngx_http_llm_tenants_t *tn);
static void ngx_http_llm_tenants_forget(void *data);


ngx_http_llm_tenants_t *
ngx_http_llm_tenants_create(ngx_conf_t *cf, ngx_str_t *file)
{
    ngx_pool_cleanup_t      *cln;
    ngx_http_llm_tenants_t  *tn;

    tn = ngx_pcalloc(cf->pool, sizeof(ngx_http_llm_tenants_t));
    if (tn == NULL) {
        return NULL;
    }

    cln = ngx_pool_cleanup_add(cf->pool, 0);
    if (cln == NULL) {
        return NULL;
    }

    cln->handler = ngx_http_llm_tenants_forget;
    cln->data = tn;

    tn->file.directive = "llm_tenants";
    tn->file.data = tn;
    tn->file.max = NGX_HTTP_LLM_TENANTS_MAX;
    tn->file.take = ngx_http_llm_tenants_take;
    tn->fd = NGX_INVALID_FILE;

    if (ngx_http_llm_file_read(&tn->file, cf, file) != NGX_OK) {
        return NULL;
    }

    return tn;
}


/* into a keyring of the master's own: the shared one is not there yet */

static ngx_int_t
ngx_http_llm_tenants_take(ngx_http_llm_file_t *f, char *text, size_t size,
    ngx_uint_t first, char *err, size_t errlen)
{
    ngx_http_llm_tenants_t *tn = f->data;

    size_t     room;
    ngx_int_t  rc;

    /* three bytes for each of the text are enough for all but odd files */

    for (room = NGX_HTTP_LLM_TENANTS_HEAP + 3 * size; /* void */ ; room *= 2) {

        tn->mem = ngx_alloc(room, f->log);
        if (tn->mem == NULL) {
            (void) ngx_snprintf((u_char *) err, errlen, "out of memory%Z");
            return NGX_ERROR;
        }

        tn->heap = llm_keyring_create(tn->mem, room);

        rc = ngx_http_llm_tenants_parse(tn->heap, text, size, err, errlen,
                                        f->log);

        if (rc == NGX_OK) {
            return NGX_OK;
        }

        ngx_http_llm_tenants_forget(tn);

        if (rc == NGX_ERROR) {
            return NGX_ERROR;
        }

        if (room > NGX_HTTP_LLM_TENANTS_MOST + 16 * size) {
            (void) ngx_snprintf((u_char *) err, errlen,
                                "a key or a team of it is too large%Z");
            return NGX_ERROR;
        }
    }
}


ngx_int_t
ngx_http_llm_tenants_check(ngx_http_llm_main_conf_t *mcf, ngx_conf_t *cf)
{
    size_t                   room;
    llm_keyring_stat_t       stat;
    ngx_http_llm_tenants_t  *tn;

    tn = mcf->tenants;
    tn->mcf = mcf;

    llm_keyring_stat(tn->heap, &stat);

    /* what nginx's own tables take of the area */

    room = mcf->keys_size - mcf->keys_size / 128 - 8 * ngx_pagesize;

    if (stat.used + LLM_KEYRING_PAGE + 1 > llm_keyring_blocks(room)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"keys=%uzk\" of llm_zone is too small for the "
                           "%uL keys and %uL teams of llm_tenants \"%V\", "
                           "which need %uLk, and as much again to be changed",
                           mcf->keys_size / 1024, stat.keys, stat.teams,
                           &tn->file.name, stat.used * 145 / 1024 + 64);
        return NGX_ERROR;
    }

    return ngx_http_llm_file_check(&tn->file, cf);
}


ngx_int_t
ngx_http_llm_tenants_init_module(ngx_http_llm_main_conf_t *mcf,
    ngx_cycle_t *cycle)
{
    ngx_int_t                rc;
    uint64_t                 ticket;
    llm_terms_t              defaults;
    ngx_http_llm_keys_area_t  *sh;
    ngx_http_llm_tenants_t  *tn;

    tn = mcf->tenants;
    sh = ngx_http_llm_keys_words(mcf->keys);

    /* from here on the workers of an older configuration do not load */

    tn->epoch = ngx_atomic_fetch_add(&sh->epoch, 1) + 1;

    ticket = ngx_http_llm_tenants_begin(tn);

    llm_keyring_defaults(tn->heap, &defaults);

    sh = ngx_http_llm_area_lock(mcf->keys);
    (void) llm_keyring_load_defaults(sh->keyring, ticket, &defaults);
    ngx_http_llm_area_unlock(mcf->keys);

    rc = ngx_http_llm_tenants_move(tn, ticket, LLM_ROW_TEAM, cycle->log);

    if (rc == NGX_OK) {
        rc = ngx_http_llm_tenants_move(tn, ticket, LLM_ROW_KEY, cycle->log);
    }

    sh = ngx_http_llm_area_lock(mcf->keys);

    if (rc == NGX_OK) {
        (void) llm_keyring_end(sh->keyring, ticket);

    } else {
        llm_keyring_abandon(sh->keyring, ticket);
    }

    sh->loaded = tn->file.loaded;
    sh->seen = tn->file.loaded;
    sh->leader = 0;

    ngx_http_llm_area_unlock(mcf->keys);

    ngx_http_llm_tenants_forget(tn);

    if (rc == NGX_OK) {
        mcf->zone->sh->count.policy_loaded = ngx_time();
        return NGX_OK;
    }

    (void) ngx_atomic_fetch_add(&mcf->zone->sh->count.policy_failures, 1);

    /* a master that runs goes on, with what is in force */

    ngx_log_error(NGX_LOG_ERR, cycle->log, 0,
                  "llm_tenants \"%V\": keys= of llm_zone is too small, the "
                  "old ones stay in force", &tn->file.name);

    return NGX_OK;
}


static uint64_t
ngx_http_llm_tenants_begin(ngx_http_llm_tenants_t *tn)
{
    int                      rc;
    uint64_t                 ticket;
    ngx_http_llm_keys_area_t  *sh;

    do {
        sh = ngx_http_llm_area_lock(tn->mcf->keys);

        rc = llm_keyring_begin(sh->keyring, &ticket);

        if (rc == LLM_AGAIN) {
            (void) llm_keyring_sweep(sh->keyring,
                                     NGX_HTTP_LLM_TENANTS_BLOCKS);
        }

        ngx_http_llm_area_unlock(tn->mcf->keys);

    } while (rc == LLM_AGAIN);

    return ticket;
}


/* all rows of a kind, page by page, from the heap to the area */

static ngx_int_t
ngx_http_llm_tenants_move(ngx_http_llm_tenants_t *tn, uint64_t ticket,
    llm_row_e kind, ngx_log_t *log)
{
    u_char              *text;
    uint64_t             cursor;
    unsigned             n;
    ngx_int_t            rc;
    ngx_pool_t          *pool;
    llm_arena_t          arena;
    llm_keyring_item_t   items[NGX_HTTP_LLM_TENANTS_ROWS];

    text = ngx_alloc(NGX_HTTP_LLM_TENANTS_TEXT, log);
    if (text == NULL) {
        return NGX_ERROR;
    }

    cursor = 0;

    do {
        pool = ngx_create_pool(NGX_DEFAULT_POOL_SIZE, log);
        if (pool == NULL) {
            rc = NGX_ERROR;
            break;
        }

        arena.pos = text;
        arena.end = text + NGX_HTTP_LLM_TENANTS_TEXT;
        arena.left = NGX_MAX_SIZE_T_VALUE;
        arena.alloc = ngx_http_llm_arena_alloc;
        arena.data = pool;

        rc = llm_keyring_walk(tn->heap, kind, LLM_KEYRING_OF_FILE, &cursor,
                              items, NGX_HTTP_LLM_TENANTS_ROWS, &n, &arena);

        if (rc == NGX_OK) {
            rc = ngx_http_llm_tenants_move_rows(tn, ticket, items, n);
        }

        ngx_destroy_pool(pool);

    } while (rc == NGX_OK && cursor);

    ngx_free(text);

    return rc;
}


static ngx_int_t
ngx_http_llm_tenants_move_rows(ngx_http_llm_tenants_t *tn, uint64_t ticket,
    llm_keyring_item_t *items, ngx_uint_t n)
{
    int                      rc;
    char                     other[LLM_KEYRING_OTHER];
    ngx_uint_t               i;
    ngx_http_llm_keys_area_t  *sh;

    rc = LLM_OK;

    sh = ngx_http_llm_area_lock(tn->mcf->keys);

    for (i = 0; i < n && rc == LLM_OK; i++) {
        rc = llm_keyring_load(sh->keyring, ticket, &items[i].row, other);
    }

    ngx_http_llm_area_unlock(tn->mcf->keys);

    return rc == LLM_OK ? NGX_OK : NGX_DECLINED;
}


static void
ngx_http_llm_tenants_forget(void *data)
{
    ngx_http_llm_tenants_t  *tn = data;

    if (tn->mem) {
        ngx_free(tn->mem);
        tn->mem = NULL;
        tn->heap = NULL;
    }
}


ngx_int_t
ngx_http_llm_tenants_init_process(ngx_http_llm_main_conf_t *mcf,
    ngx_cycle_t *cycle, void (*changed)(ngx_http_llm_main_conf_t *mcf))
{
    ngx_http_llm_tenants_t  *tn;

    tn = mcf->tenants;

    tn->changed = changed;
    tn->file.log = cycle->log;
    tn->dummy.fd = (ngx_socket_t) -1;
    tn->version = ngx_http_llm_keys_version(mcf);

    tn->poll.handler = ngx_http_llm_tenants_poll;
    tn->poll.data = &tn->dummy;
    tn->poll.log = cycle->log;
    tn->poll.cancelable = 1;

    tn->work.handler = ngx_http_llm_tenants_work;
    tn->work.data = &tn->dummy;
    tn->work.log = cycle->log;
    tn->work.cancelable = 1;

    /* who comes back in the place of a leader that died goes on at once */

    if (ngx_http_llm_tenants_lead(tn)) {
        ngx_http_llm_tenants_look(tn);
    }

    ngx_add_timer(&tn->poll, NGX_HTTP_LLM_TENANTS_POLL);

    return NGX_OK;
}


static void
ngx_http_llm_tenants_poll(ngx_event_t *ev)
{
    uint64_t                 version;
    ngx_http_llm_tenants_t  *tn;

    tn = (ngx_http_llm_tenants_t *)
             ((u_char *) ev - offsetof(ngx_http_llm_tenants_t, poll));

    version = ngx_http_llm_keys_version(tn->mcf);

    if (version != tn->version) {
        tn->version = version;
        tn->changed(tn->mcf);
    }

    if (tn->state == NGX_HTTP_LLM_TENANTS_IDLE
        && ngx_http_llm_tenants_lead(tn))
    {
        ngx_http_llm_tenants_look(tn);
    }

    ngx_add_timer(ev, NGX_HTTP_LLM_TENANTS_POLL);
}


ngx_uint_t
ngx_http_llm_tenants_lead(ngx_http_llm_tenants_t *tn)
{
    ngx_uint_t               lead;
    ngx_http_llm_keys_area_t  *sh;

    sh = ngx_http_llm_keys_words(tn->mcf->keys);

    if (sh->epoch != tn->epoch) {
        return 0;
    }

    if (sh->leader == ngx_pid) {
        sh->until = ngx_current_msec + NGX_HTTP_LLM_TENANTS_LEASE;
        return 1;
    }

    if (sh->leader && (ngx_msec_int_t) (sh->until - ngx_current_msec) > 0
        && kill(sh->leader, 0) == 0)
    {
        return 0;
    }

    sh = ngx_http_llm_area_lock(tn->mcf->keys);

    lead = sh->epoch == tn->epoch
           && (sh->leader == 0
               || (ngx_msec_int_t) (sh->until - ngx_current_msec) <= 0
               || kill(sh->leader, 0) == -1);

    if (lead) {
        sh->leader = ngx_pid;
        sh->until = ngx_current_msec + NGX_HTTP_LLM_TENANTS_LEASE;
    }

    ngx_http_llm_area_unlock(tn->mcf->keys);

    if (lead) {
        ngx_log_debug0(NGX_LOG_DEBUG_HTTP, tn->file.log, 0,
                       "llm tenants: this worker follows the file");
    }

    return lead;
}


/* a file that is still being written changes again until the next look */

static void
ngx_http_llm_tenants_look(ngx_http_llm_tenants_t *tn)
{
    ngx_uint_t                 changed, dirty;
    llm_keyring_stat_t         stat;
    ngx_http_llm_keys_area_t    *sh;
    ngx_http_llm_file_stat_t   now;

    ngx_http_llm_file_stat(&tn->file.name, &now);

    sh = ngx_http_llm_area_lock(tn->mcf->keys);

    changed = !ngx_http_llm_file_same(&now, &sh->loaded)
              && ngx_http_llm_file_same(&now, &sh->seen);
    sh->seen = now;

    llm_keyring_stat(sh->keyring, &stat);

    /* what is being loaded is a dead worker's */

    dirty = stat.loading
            || llm_keyring_sweep(sh->keyring, 64) == LLM_AGAIN;

    ngx_http_llm_area_unlock(tn->mcf->keys);

    if (changed) {
        ngx_http_llm_tenants_load(tn);

    } else if (dirty) {
        ngx_http_llm_tenants_sweep(tn);
    }
}
