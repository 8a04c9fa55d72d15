
/*
 * Copyright (C) the ngx-llm authors
 */


#include "policy/ngx_http_llm_tenant.h"

#include <ngx_event.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>


#define NGX_HTTP_LLM_TENANTS_POLL  250                  /* ms */
#define NGX_HTTP_LLM_TENANTS_MAX   (64 * 1024 * 1024)


typedef struct {
    ngx_file_uniq_t             uniq;
    off_t                       size;
    struct timespec             mtime;
    ngx_err_t                   err;
} ngx_http_llm_tenants_stat_t;


struct ngx_http_llm_tenants_s {
    ngx_str_t                   file;
    ngx_http_llm_policy_t      *policy;
    ngx_http_llm_tenants_stat_t loaded;    /* or refused: said once */
    ngx_http_llm_tenants_stat_t seen;
    ngx_event_t                 event;
    ngx_connection_t            dummy;
    void                      (*changed)(ngx_http_llm_policy_t *policy);
};


static ngx_int_t ngx_http_llm_tenants_open_as(ngx_conf_t *cf, ngx_str_t *file,
    uid_t uid, gid_t gid, const char *name);
static ngx_http_llm_policy_t *ngx_http_llm_tenants_read(ngx_str_t *file,
    ngx_http_llm_tenants_stat_t *st, ngx_log_t *log, ngx_uint_t level);
static char *ngx_http_llm_tenants_text(ngx_str_t *file,
    ngx_http_llm_tenants_stat_t *st, size_t *size, ngx_log_t *log,
    ngx_uint_t level);
static void ngx_http_llm_tenants_stat(ngx_str_t *file,
    ngx_http_llm_tenants_stat_t *st);
static ngx_uint_t ngx_http_llm_tenants_same(ngx_http_llm_tenants_stat_t *a,
    ngx_http_llm_tenants_stat_t *b);
static void ngx_http_llm_tenants_poll(ngx_event_t *ev);
static void ngx_http_llm_tenants_reload(ngx_http_llm_tenants_t *tn);
static void ngx_http_llm_tenants_destroy(void *data);


ngx_http_llm_tenants_t *
ngx_http_llm_tenants_create(ngx_conf_t *cf, ngx_str_t *file)
{
    ngx_pool_cleanup_t      *cln;
    ngx_http_llm_tenants_t  *tn;

    tn = ngx_pcalloc(cf->pool, sizeof(ngx_http_llm_tenants_t));
    if (tn == NULL) {
        return NULL;
    }

    tn->file = *file;

    if (ngx_conf_full_name(cf->cycle, &tn->file, 1) != NGX_OK) {
        return NULL;
    }

    cln = ngx_pool_cleanup_add(cf->pool, 0);
    if (cln == NULL) {
        return NULL;
    }

    tn->policy = ngx_http_llm_tenants_read(&tn->file, &tn->loaded, cf->log,
                                           NGX_LOG_EMERG);
    if (tn->policy == NULL) {
        return NULL;
    }

    cln->handler = ngx_http_llm_tenants_destroy;
    cln->data = tn;

    return tn;
}


ngx_int_t
ngx_http_llm_tenants_check(ngx_http_llm_tenants_t *tn, ngx_conf_t *cf)
{
    struct passwd    *pwd;
    ngx_core_conf_t  *ccf;

    if (geteuid() != 0) {
        return NGX_OK;
    }

    ccf = (ngx_core_conf_t *) ngx_get_conf(cf->cycle->conf_ctx,
                                           ngx_core_module);

    if (ccf->user != (ngx_uid_t) NGX_CONF_UNSET_UINT) {
        return ngx_http_llm_tenants_open_as(cf, &tn->file, ccf->user,
                                            ccf->group, ccf->username);
    }

    pwd = getpwnam(NGX_USER);
    if (pwd == NULL) {
        return NGX_OK;
    }

    return ngx_http_llm_tenants_open_as(cf, &tn->file, pwd->pw_uid,
                                        pwd->pw_gid, NGX_USER);
}


/* directories on the way count too, so only trying tells */

static ngx_int_t
ngx_http_llm_tenants_open_as(ngx_conf_t *cf, ngx_str_t *file, uid_t uid,
    gid_t gid, const char *name)
{
    int          n;
    gid_t        egid, groups[NGROUPS_MAX];
    ngx_fd_t     fd;
    ngx_err_t    err;

    egid = getegid();

    n = getgroups(NGROUPS_MAX, groups);
    if (n == -1) {
        return NGX_OK;
    }

    err = 0;
    fd = NGX_INVALID_FILE;

    if (initgroups(name, gid) == -1 || setegid(gid) == -1
        || seteuid(uid) == -1)
    {
        ngx_conf_log_error(NGX_LOG_WARN, cf, ngx_errno,
                           "could not check as user \"%s\" that llm_tenants "
                           "\"%V\" can be read", name, file);
    } else {
        fd = ngx_open_file(file->data, NGX_FILE_RDONLY, NGX_FILE_OPEN, 0);
        err = fd == NGX_INVALID_FILE ? ngx_errno : 0;
    }

    if (seteuid(0) == -1 || setegid(egid) == -1 || setgroups(n, groups) == -1)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           "could not become root again");
        return NGX_ERROR;
    }

    if (fd != NGX_INVALID_FILE) {
        (void) ngx_close_file(fd);
    }

    if (err) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, err,
                           "llm_tenants \"%V\" cannot be read by the "
                           "workers' user \"%s\", so they could not follow "
                           "its changes", file, name);
        return NGX_ERROR;
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_tenants_init_process(ngx_http_llm_tenants_t *tn,
    ngx_cycle_t *cycle, void (*changed)(ngx_http_llm_policy_t *policy))
{
    ngx_event_t  *ev;

    tn->changed = changed;
    tn->seen = tn->loaded;
    tn->dummy.fd = (ngx_socket_t) -1;

    ev = &tn->event;

    ev->handler = ngx_http_llm_tenants_poll;
    ev->data = &tn->dummy;
    ev->log = cycle->log;
    ev->cancelable = 1;

    /* a worker that came back may have inherited what is old by now */

    ngx_http_llm_tenants_stat(&tn->file, &tn->seen);

    if (!ngx_http_llm_tenants_same(&tn->seen, &tn->loaded)) {
        ngx_http_llm_tenants_reload(tn);
    }

    ngx_add_timer(ev, NGX_HTTP_LLM_TENANTS_POLL);

    return NGX_OK;
}


ngx_http_llm_policy_t *
ngx_http_llm_tenants(ngx_http_llm_tenants_t *tn)
{
    return tn->policy;
}


static ngx_http_llm_policy_t *
ngx_http_llm_tenants_read(ngx_str_t *file, ngx_http_llm_tenants_stat_t *st,
    ngx_log_t *log, ngx_uint_t level)
{
    char                   *text, err[512];
    size_t                  size;
    llm_policy_t           *p;
    ngx_http_llm_policy_t  *policy;

    text = ngx_http_llm_tenants_text(file, st, &size, log, level);
    if (text == NULL) {
        return NULL;
    }

    p = llm_policy_parse(text, size, err, sizeof(err));

    ngx_free(text);

    if (p == NULL) {
        ngx_log_error(level, log, 0, "llm_tenants \"%V\": %s%s", file, err,
                      level == NGX_LOG_EMERG ? ""
                                             : ", the old ones stay in force");
        return NULL;
    }

    policy = ngx_alloc(sizeof(ngx_http_llm_policy_t), log);
    if (policy == NULL) {
        llm_policy_destroy(p);
        return NULL;
    }

    policy->policy = p;
    policy->refs = 1;

    return policy;
}


static char *
ngx_http_llm_tenants_text(ngx_str_t *file, ngx_http_llm_tenants_stat_t *st,
    size_t *size, ngx_log_t *log, ngx_uint_t level)
{
    char             *text;
    ssize_t           n;
    ngx_fd_t          fd;
    struct stat       fi;

    text = NULL;

    ngx_http_llm_tenants_stat(file, st);

    fd = ngx_open_file(file->data, NGX_FILE_RDONLY, NGX_FILE_OPEN, 0);

    if (fd == NGX_INVALID_FILE) {
        ngx_log_error(level, log, ngx_errno, "llm_tenants: " ngx_open_file_n
                      " \"%V\" failed", file);
        return NULL;
    }

    if (fstat(fd, &fi) == -1) {
        ngx_log_error(level, log, ngx_errno, "llm_tenants: " ngx_fd_info_n
                      " \"%V\" failed", file);
        goto done;
    }

    if (!S_ISREG(fi.st_mode) || fi.st_size > NGX_HTTP_LLM_TENANTS_MAX) {
        ngx_log_error(level, log, 0, "llm_tenants \"%V\": expected a regular "
                      "file of at most 64m", file);
        goto done;
    }

    text = ngx_alloc(fi.st_size + 1, log);
    if (text == NULL) {
        goto done;
    }

    n = ngx_read_fd(fd, text, fi.st_size + 1);

    if (n == -1) {
        ngx_log_error(level, log, ngx_errno, "llm_tenants: " ngx_read_fd_n
                      " \"%V\" failed", file);
        ngx_free(text);
        text = NULL;
        goto done;
    }

    *size = n;

done:

    if (ngx_close_file(fd) == NGX_FILE_ERROR) {
        ngx_log_error(NGX_LOG_ERR, log, ngx_errno, ngx_close_file_n
                      " \"%V\" failed", file);
    }

    return text;
}


static void
ngx_http_llm_tenants_stat(ngx_str_t *file, ngx_http_llm_tenants_stat_t *st)
{
    struct stat  fi;

    ngx_memzero(st, sizeof(ngx_http_llm_tenants_stat_t));

    if (stat((char *) file->data, &fi) == -1) {
        st->err = ngx_errno;
        return;
    }

    st->uniq = fi.st_ino;
    st->size = fi.st_size;
    st->mtime = fi.st_mtim;
}


static ngx_uint_t
ngx_http_llm_tenants_same(ngx_http_llm_tenants_stat_t *a,
    ngx_http_llm_tenants_stat_t *b)
{
    return a->uniq == b->uniq
           && a->size == b->size
           && a->mtime.tv_sec == b->mtime.tv_sec
           && a->mtime.tv_nsec == b->mtime.tv_nsec
           && a->err == b->err;
}


static void
ngx_http_llm_tenants_poll(ngx_event_t *ev)
{
    ngx_http_llm_tenants_t       *tn;
    ngx_http_llm_tenants_stat_t   now;

    tn = (ngx_http_llm_tenants_t *)
             ((u_char *) ev - offsetof(ngx_http_llm_tenants_t, event));

    ngx_http_llm_tenants_stat(&tn->file, &now);

    /* a file that is still being written changes again until the next look */

    if (!ngx_http_llm_tenants_same(&now, &tn->loaded)
        && ngx_http_llm_tenants_same(&now, &tn->seen))
    {
        ngx_http_llm_tenants_reload(tn);
    }

    tn->seen = now;

    ngx_add_timer(ev, NGX_HTTP_LLM_TENANTS_POLL);
}


static void
ngx_http_llm_tenants_reload(ngx_http_llm_tenants_t *tn)
{
    ngx_http_llm_policy_t  *old, *policy;

    policy = ngx_http_llm_tenants_read(&tn->file, &tn->loaded, tn->event.log,
                                       NGX_LOG_ERR);
    if (policy == NULL) {
        return;
    }

    ngx_log_error(NGX_LOG_NOTICE, tn->event.log, 0,
                  "llm_tenants \"%V\": %uD keys, %uD teams", &tn->file,
                  (uint32_t) llm_policy_keys(policy->policy),
                  (uint32_t) llm_policy_teams(policy->policy));

    old = tn->policy;
    tn->policy = policy;

    if (tn->changed) {
        tn->changed(policy);
    }

    ngx_http_llm_policy_release(old);
}


static void
ngx_http_llm_tenants_destroy(void *data)
{
    ngx_http_llm_tenants_t  *tn = data;

    ngx_http_llm_policy_release(tn->policy);
}


void
ngx_http_llm_policy_release(void *data)
{
    ngx_http_llm_policy_t  *policy = data;

    if (--policy->refs) {
        return;
    }

    llm_policy_destroy(policy->policy);
    ngx_free(policy);
}
