
/*
 * Copyright (C) the ngx-llm authors
 */


#include "policy/ngx_http_llm_file.h"

#include <grp.h>
#include <limits.h>
#include <pwd.h>


#define NGX_HTTP_LLM_FILE_POLL  250                     /* ms */
#define NGX_HTTP_LLM_FILE_MAX   (64 * 1024 * 1024)


static ngx_int_t ngx_http_llm_file_open_as(ngx_http_llm_file_t *f,
    ngx_conf_t *cf, uid_t uid, gid_t gid, const char *user);
static ngx_int_t ngx_http_llm_file_load(ngx_http_llm_file_t *f,
    ngx_uint_t level);
static char *ngx_http_llm_file_text(ngx_http_llm_file_t *f, size_t *size,
    ngx_uint_t level);
static void ngx_http_llm_file_poll(ngx_event_t *ev);


ngx_int_t
ngx_http_llm_file_read(ngx_http_llm_file_t *f, ngx_conf_t *cf,
    ngx_str_t *name)
{
    f->name = *name;
    f->log = cf->log;

    if (ngx_conf_full_name(cf->cycle, &f->name, 1) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_llm_file_load(f, NGX_LOG_EMERG);
}


ngx_int_t
ngx_http_llm_file_check(ngx_http_llm_file_t *f, ngx_conf_t *cf)
{
    struct passwd    *pwd;
    ngx_core_conf_t  *ccf;

    if (geteuid() != 0) {
        return NGX_OK;
    }

    ccf = (ngx_core_conf_t *) ngx_get_conf(cf->cycle->conf_ctx,
                                           ngx_core_module);

    if (ccf->user != (ngx_uid_t) NGX_CONF_UNSET_UINT) {
        return ngx_http_llm_file_open_as(f, cf, ccf->user, ccf->group,
                                         ccf->username);
    }

    pwd = getpwnam(NGX_USER);
    if (pwd == NULL) {
        return NGX_OK;
    }

    return ngx_http_llm_file_open_as(f, cf, pwd->pw_uid, pwd->pw_gid,
                                     NGX_USER);
}


/* directories on the way count too, so only trying tells */

static ngx_int_t
ngx_http_llm_file_open_as(ngx_http_llm_file_t *f, ngx_conf_t *cf, uid_t uid,
    gid_t gid, const char *user)
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

    if (initgroups(user, gid) == -1 || setegid(gid) == -1
        || seteuid(uid) == -1)
    {
        ngx_conf_log_error(NGX_LOG_WARN, cf, ngx_errno,
                           "could not check as user \"%s\" that %s "
                           "\"%V\" can be read", user, f->directive, &f->name);
    } else {
        fd = ngx_open_file(f->name.data, NGX_FILE_RDONLY, NGX_FILE_OPEN, 0);
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
                           "%s \"%V\" cannot be read by the "
                           "workers' user \"%s\", so they could not follow "
                           "its changes", f->directive, &f->name, user);
        return NGX_ERROR;
    }

    return NGX_OK;
}


void
ngx_http_llm_file_follow(ngx_http_llm_file_t *f, ngx_cycle_t *cycle)
{
    ngx_event_t  *ev;

    f->log = cycle->log;
    f->dummy.fd = (ngx_socket_t) -1;

    ev = &f->event;

    ev->handler = ngx_http_llm_file_poll;
    ev->data = &f->dummy;
    ev->log = cycle->log;
    ev->cancelable = 1;

    /* a worker that came back may have inherited what is old by now */

    ngx_http_llm_file_stat(&f->name, &f->seen);

    if (!ngx_http_llm_file_same(&f->seen, &f->loaded)) {
        (void) ngx_http_llm_file_load(f, NGX_LOG_ERR);
    }

    ngx_add_timer(ev, NGX_HTTP_LLM_FILE_POLL);
}


static ngx_int_t
ngx_http_llm_file_load(ngx_http_llm_file_t *f, ngx_uint_t level)
{
    char       *text, err[512];
    size_t      size;
    ngx_int_t   rc;
    ngx_uint_t  first;

    text = ngx_http_llm_file_text(f, &size, level);
    if (text == NULL) {
        return NGX_ERROR;
    }

    first = level == NGX_LOG_EMERG;

    rc = f->take(f, text, size, first, err, sizeof(err));

    ngx_free(text);

    if (rc != NGX_OK) {
        ngx_log_error(level, f->log, 0, "%s \"%V\": %s%s", f->directive,
                      &f->name, err,
                      first ? "" : ", the old ones stay in force");
    }

    return rc;
}


static char *
ngx_http_llm_file_text(ngx_http_llm_file_t *f, size_t *size, ngx_uint_t level)
{
    char      *text;
    size_t     room;
    ssize_t    n;
    ngx_fd_t   fd;

    ngx_http_llm_file_stat(&f->name, &f->loaded);

    fd = ngx_http_llm_file_open(f, &room, level);

    if (fd == NGX_INVALID_FILE) {
        return NULL;
    }

    *size = 0;

    text = ngx_alloc(room, f->log);

    while (text && *size < room) {
        n = ngx_read_fd(fd, text + *size, room - *size);

        if (n == -1) {
            ngx_log_error(level, f->log, ngx_errno, "%s: " ngx_read_fd_n
                          " \"%V\" failed", f->directive, &f->name);
            ngx_free(text);
            text = NULL;
            break;
        }

        if (n == 0) {
            break;
        }

        *size += n;
    }

    ngx_http_llm_file_close(f, fd);

    return text;
}


ngx_fd_t
ngx_http_llm_file_open(ngx_http_llm_file_t *f, size_t *size, ngx_uint_t level)
{
    size_t       max;
    ngx_fd_t     fd;
    struct stat  fi;

    max = f->max ? f->max : NGX_HTTP_LLM_FILE_MAX;

    fd = ngx_open_file(f->name.data, NGX_FILE_RDONLY, NGX_FILE_OPEN, 0);

    if (fd == NGX_INVALID_FILE) {
        ngx_log_error(level, f->log, ngx_errno, "%s: " ngx_open_file_n
                      " \"%V\" failed", f->directive, &f->name);
        return NGX_INVALID_FILE;
    }

    if (fstat(fd, &fi) == -1) {
        ngx_log_error(level, f->log, ngx_errno, "%s: " ngx_fd_info_n
                      " \"%V\" failed", f->directive, &f->name);
        ngx_http_llm_file_close(f, fd);
        return NGX_INVALID_FILE;
    }

    if (!S_ISREG(fi.st_mode) || fi.st_size > (off_t) max) {
        ngx_log_error(level, f->log, 0, "%s \"%V\": expected a regular "
                      "file of at most %uzm", f->directive, &f->name,
                      max / (1024 * 1024));
        ngx_http_llm_file_close(f, fd);
        return NGX_INVALID_FILE;
    }

    /* one more than there is, so that it is not read to the end for nothing */

    *size = fi.st_size + 1;

    return fd;
}


void
ngx_http_llm_file_close(ngx_http_llm_file_t *f, ngx_fd_t fd)
{
    if (ngx_close_file(fd) == NGX_FILE_ERROR) {
        ngx_log_error(NGX_LOG_ERR, f->log, ngx_errno, ngx_close_file_n
                      " \"%V\" failed", &f->name);
    }
}


void
ngx_http_llm_file_stat(ngx_str_t *name, ngx_http_llm_file_stat_t *st)
{
    struct stat  fi;

    ngx_memzero(st, sizeof(ngx_http_llm_file_stat_t));

    if (stat((char *) name->data, &fi) == -1) {
        st->err = ngx_errno;
        return;
    }

    st->uniq = fi.st_ino;
    st->size = fi.st_size;
    st->mtime = fi.st_mtim;
}


ngx_uint_t
ngx_http_llm_file_same(ngx_http_llm_file_stat_t *a,
    ngx_http_llm_file_stat_t *b)
{
    return a->uniq == b->uniq
           && a->size == b->size
           && a->mtime.tv_sec == b->mtime.tv_sec
           && a->mtime.tv_nsec == b->mtime.tv_nsec
           && a->err == b->err;
}


static void
ngx_http_llm_file_poll(ngx_event_t *ev)
{
    ngx_http_llm_file_t       *f;
    ngx_http_llm_file_stat_t   now;

    f = (ngx_http_llm_file_t *)
            ((u_char *) ev - offsetof(ngx_http_llm_file_t, event));

    ngx_http_llm_file_stat(&f->name, &now);

    /* a file that is still being written changes again until the next look */

    if (!ngx_http_llm_file_same(&now, &f->loaded)
        && ngx_http_llm_file_same(&now, &f->seen))
    {
        (void) ngx_http_llm_file_load(f, NGX_LOG_ERR);
    }

    f->seen = now;

    ngx_add_timer(ev, NGX_HTTP_LLM_FILE_POLL);
}
