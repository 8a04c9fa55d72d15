
/*
 * Copyright (C) the ngx-llm authors
 *
 * The directory as it is configured: may it be taken, and what its files are
 * called.
 */


#include "state/ngx_http_llm_state_save.h"


static ngx_int_t ngx_http_llm_state_check(ngx_conf_t *cf, ngx_str_t *dir);
static ngx_int_t ngx_http_llm_state_check_own(ngx_conf_t *cf,
    ngx_str_t *dir);
static ngx_int_t ngx_http_llm_state_names(ngx_http_llm_state_t *state,
    ngx_pool_t *pool);


ngx_http_llm_state_t *
ngx_http_llm_state_create(ngx_conf_t *cf, ngx_str_t *dir)
{
    ngx_path_t            *path;
    ngx_http_llm_state_t  *state;

    state = ngx_pcalloc(cf->pool, sizeof(ngx_http_llm_state_t));
    if (state == NULL) {
        return NULL;
    }

    path = ngx_pcalloc(cf->pool, sizeof(ngx_path_t));
    if (path == NULL) {
        return NULL;
    }

    state->dir = *dir;

    if (ngx_conf_full_name(cf->cycle, &state->dir, 0) != NGX_OK) {
        return NULL;
    }

    while (state->dir.len > 1 && state->dir.data[state->dir.len - 1] == '/') {
        state->dir.data[--state->dir.len] = '\0';
    }

    if (ngx_http_llm_state_check(cf, &state->dir) != NGX_OK
        || ngx_http_llm_state_names(state, cf->pool) != NGX_OK)
    {
        return NULL;
    }

    /* nginx makes it and gives it to the user of the workers */

    path->name = state->dir;
    path->data = state;
    path->conf_file = cf->conf_file->file.name.data;
    path->line = cf->conf_file->line;

    if (ngx_add_path(cf, &path) != NGX_OK) {
        return NULL;
    }

    return state;
}


static ngx_int_t
ngx_http_llm_state_check(ngx_conf_t *cf, ngx_str_t *dir)
{
    ngx_err_t        err;
    ngx_file_info_t  fi;

    if (ngx_file_info(dir->data, &fi) == NGX_FILE_ERROR) {
        err = ngx_errno;

        if (err == NGX_ENOENT) {
            return NGX_OK;
        }

        ngx_conf_log_error(NGX_LOG_EMERG, cf, err,
                           "llm_state \"%V\" cannot be looked at", dir);
        return NGX_ERROR;
    }

    if (!ngx_is_dir(&fi)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "llm_state \"%V\": expected a directory", dir);
        return NGX_ERROR;
    }

    if (access((const char *) dir->data, R_OK|W_OK|X_OK) == -1) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           "llm_state \"%V\": expected a directory that can "
                           "be written to", dir);
        return NGX_ERROR;
    }

    return ngx_http_llm_state_check_own(cf, dir);
}


/*
 * nginx gives the directory to the user of the workers, which would be a pity
 * for /etc: one that has files has ours among them.
 */

static ngx_int_t
ngx_http_llm_state_check_own(ngx_conf_t *cf, ngx_str_t *dir)
{
    DIR            *d;
    u_char          name[NAME_MAX + 1];
    ngx_uint_t      found;
    struct dirent  *entry;

    d = opendir((const char *) dir->data);
    if (d == NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           "llm_state: opendir() \"%V\" failed", dir);
        return NGX_ERROR;
    }

    found = 0;

    while ((entry = readdir(d)) != NULL) {

        if (ngx_strncmp(entry->d_name, "tallies", 7) == 0
            || ngx_strncmp(entry->d_name, "keys", 4) == 0
            || ngx_strncmp(entry->d_name, "usage", 5) == 0)
        {
            found = 0;
            break;
        }

        /* a file system of its own has a "lost+found" */

        if (entry->d_name[0] != '.'
            && ngx_strcmp(entry->d_name, "lost+found") != 0)
        {
            found = 1;
            (void) ngx_cpystrn(name, (u_char *) entry->d_name, sizeof(name));
        }
    }

    (void) closedir(d);

    if (!found) {
        return NGX_OK;
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "llm_state \"%V\": expected a directory that is empty "
                       "or its own, found \"%s\" in it", dir, name);
    return NGX_ERROR;
}


static ngx_int_t
ngx_http_llm_state_names(ngx_http_llm_state_t *state, ngx_pool_t *pool)
{
    u_char                     *p;
    ngx_str_t                  *name;
    ngx_uint_t                  i, k;
    ngx_http_llm_state_file_t  *file;

    static const char  *const base[] = { "tallies", "usage" };
    static const char  *const end[] = { "", ".tmp", ".bad" };

    for (i = 0; i < NGX_HTTP_LLM_STATE_FILES; i++) {
        file = &state->files[i];
        file->what = i == NGX_HTTP_LLM_STATE_USAGE ? "accounts" : "tallies";

        for (k = 0; k < 3; k++) {
            name = k == 0 ? &file->file : k == 1 ? &file->temp : &file->aside;

            p = ngx_pnalloc(pool, state->dir.len + sizeof("/tallies.tmp"));
            if (p == NULL) {
                return NGX_ERROR;
            }

            name->data = p;
            p = ngx_sprintf(p, "%V/%s%s%Z", &state->dir, base[i], end[k]);
            name->len = p - name->data - 1;
        }
    }

    return NGX_OK;
}


ngx_str_t *
ngx_http_llm_state_dir(ngx_http_llm_state_t *state)
{
    return &state->dir;
}
