
/*
 * Copyright (C) the ngx-llm authors
 *
 * Without Redis keys and teams of the admin API are kept in a file under
 * llm_state: a line for each change, put on the disk before it counts.
 *
 *     CRC-32, version, field, record or "-"
 *
 * A line that a crash cut off is no line.  The master reads the file, and
 * writes it anew when most of it is old.
 */


#include "policy/ngx_http_llm_keys_store_private.h"
#include "state/ngx_http_llm_state.h"

#include <sys/file.h>


#define NGX_HTTP_LLM_KEYS_LINE   (128 * 1024)
#define NGX_HTTP_LLM_KEYS_OLD    1000          /* lines that may be old */
#define NGX_HTTP_LLM_KEYS_BYTES  1024          /* of a line and its old ones */


static ngx_int_t ngx_http_llm_keys_path(ngx_http_llm_main_conf_t *mcf,
    const char *suffix, u_char *path);
static ngx_fd_t ngx_http_llm_keys_open(u_char *path);
static ngx_int_t ngx_http_llm_keys_expected(ngx_http_llm_main_conf_t *mcf,
    ngx_http_llm_keys_change_t *change, uint64_t *version);
static ngx_int_t ngx_http_llm_keys_append(ngx_fd_t fd, u_char *path,
    ngx_str_t *line);
static u_char *ngx_http_llm_keys_line(u_char *p, uint64_t version,
    ngx_str_t *field, ngx_str_t *record);
static ngx_int_t ngx_http_llm_keys_line_parse(u_char *p, u_char *last,
    uint64_t *version, ngx_str_t *field, ngx_str_t *record);
static ngx_int_t ngx_http_llm_keys_shorten(ngx_http_llm_main_conf_t *mcf,
    u_char *path, llm_keyring_stat_t *known, ngx_cycle_t *cycle);
static ngx_uint_t ngx_http_llm_keys_read(ngx_http_llm_main_conf_t *mcf,
    FILE *file, u_char *buf, u_char *path, ngx_log_t *log);
static ngx_int_t ngx_http_llm_keys_clean(ngx_http_llm_main_conf_t *mcf,
    u_char *buf, u_char *path, ngx_cycle_t *cycle);
static ngx_int_t ngx_http_llm_keys_copy(ngx_http_llm_main_conf_t *mcf,
    u_char *buf, u_char *temp, ngx_cycle_t *cycle);
static ngx_int_t ngx_http_llm_keys_write(ngx_http_llm_main_conf_t *mcf,
    FILE *file, u_char *buf);


ngx_int_t
ngx_http_llm_keys_journal(ngx_http_llm_main_conf_t *mcf,
    ngx_http_llm_keys_change_t *change, ngx_str_t *field, ngx_str_t *record,
    uint64_t *version)
{
    u_char     *buf, path[NGX_MAX_PATH];
    ngx_fd_t    fd;
    ngx_int_t   rc;
    ngx_str_t   line;

    if (ngx_http_llm_keys_path(mcf, "", path) != NGX_OK
        || record->len + field->len + 64 > NGX_HTTP_LLM_KEYS_LINE)
    {
        return NGX_BUSY;
    }

    fd = ngx_http_llm_keys_open(path);
    if (fd == NGX_INVALID_FILE) {
        return NGX_BUSY;
    }

    /* nobody changes anything until this one is done */

    rc = ngx_http_llm_keys_expected(mcf, change, version);

    if (rc == NGX_OK) {
        buf = ngx_alloc(NGX_HTTP_LLM_KEYS_LINE, ngx_cycle->log);

        if (buf == NULL) {
            rc = NGX_ERROR;

        } else {
            line.data = buf;
            line.len = ngx_http_llm_keys_line(buf, *version, field, record)
                       - buf;

            rc = ngx_http_llm_keys_append(fd, path, &line);

            ngx_free(buf);
        }
    }

    if (rc == NGX_OK) {

        if (change->row) {
            rc = ngx_http_llm_keys_apply(mcf, field, *version, record);

        } else {
            ngx_http_llm_keys_apply_gone(mcf, field, *version);
        }
    }

    (void) ngx_close_file(fd);

    return rc;
}


static ngx_int_t
ngx_http_llm_keys_path(ngx_http_llm_main_conf_t *mcf, const char *suffix,
    u_char *path)
{
    ngx_str_t  *dir;

    dir = ngx_http_llm_state_dir(mcf->state);

    if (dir->len + sizeof("/keys.tmp") > NGX_MAX_PATH) {
        return NGX_ERROR;
    }

    (void) ngx_sprintf(path, "%V/keys%s%Z", dir, suffix);

    return NGX_OK;
}


/* locked, and still the file of this name */

static ngx_fd_t
ngx_http_llm_keys_open(u_char *path)
{
    ngx_fd_t         fd;
    ngx_uint_t       tries;
    ngx_file_info_t  fi, now;

    for (tries = 0; tries < 10; tries++) {

        fd = open((char *) path, O_RDWR|O_APPEND|O_CREAT|O_CLOEXEC, 0600);

        if (fd == NGX_INVALID_FILE) {
            ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, ngx_errno,
                          "llm_state: \"%s\" cannot be written", path);
            return NGX_INVALID_FILE;
        }

        if (flock(fd, LOCK_EX) == 0
            && ngx_fd_info(fd, &fi) != NGX_FILE_ERROR
            && ngx_file_info(path, &now) != NGX_FILE_ERROR
            && fi.st_ino == now.st_ino)
        {
            return fd;
        }

        (void) ngx_close_file(fd);
    }

    return NGX_INVALID_FILE;
}


/* the next version, if the one that there is was expected */

static ngx_int_t
ngx_http_llm_keys_expected(ngx_http_llm_main_conf_t *mcf,
    ngx_http_llm_keys_change_t *change, uint64_t *version)
{
    uint64_t            now;
    ngx_int_t           rc;
    ngx_pool_t         *pool;
    struct timeval      tv;
    llm_keyring_item_t  item;

    pool = ngx_create_pool(1024, ngx_cycle->log);
    if (pool == NULL) {
        return NGX_ERROR;
    }

    rc = ngx_http_llm_keys_get(mcf, change->kind, &change->name, 1, pool,
                               &item);

    now = rc == NGX_OK ? item.row.version : 0;

    ngx_destroy_pool(pool);

    if (rc == NGX_ERROR) {
        return NGX_ERROR;
    }

    if ((change->expect != LLM_KEYRING_ANY && change->expect != now)
        || (change->row == NULL && now == 0))
    {
        return NGX_DECLINED;
    }

    ngx_gettimeofday(&tv);

    *version = ngx_max((uint64_t) tv.tv_sec * 1000000 + tv.tv_usec, now + 1);

    return NGX_OK;
}


/* all of it is on the disk, or nothing is */

static ngx_int_t
ngx_http_llm_keys_append(ngx_fd_t fd, u_char *path, ngx_str_t *line)
{
    off_t            size;
    u_char           c;
    ssize_t          n;
    ngx_err_t        err;
    ngx_file_info_t  fi;

    if (ngx_fd_info(fd, &fi) == NGX_FILE_ERROR) {
        return NGX_BUSY;
    }

    size = ngx_file_size(&fi);

    /* what a crash cut off is to damage no other line */

    if (size && pread(fd, &c, 1, size - 1) == 1 && c != LF
        && write(fd, "\n", 1) != 1)
    {
        return NGX_BUSY;
    }

    n = write(fd, line->data, line->len);

    if (n == (ssize_t) line->len && fdatasync(fd) == 0) {
        return NGX_OK;
    }

    err = n == -1 || n == (ssize_t) line->len ? ngx_errno : NGX_ENOSPC;

    if (ftruncate(fd, size) == -1) {
        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, ngx_errno,
                      "llm_state: \"%s\" cannot be cut", path);
    }

    ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, err,
                  "llm_state: \"%s\" cannot be written, a change of keys is "
                  "refused", path);

    return NGX_BUSY;
}


static u_char *
ngx_http_llm_keys_line(u_char *p, uint64_t version, ngx_str_t *field,
    ngx_str_t *record)
{
    u_char  *text;

    text = p + 9;

    p = ngx_sprintf(text, "%uL %V ", version, field);

    if (record->len) {
        p = ngx_cpymem(p, record->data, record->len);

    } else {
        *p++ = '-';
    }

    (void) ngx_sprintf(text - 9, "%08xD", ngx_crc32_long(text, p - text));
    text[-1] = ' ';

    *p++ = LF;

    return p;
}


static ngx_int_t
ngx_http_llm_keys_line_parse(u_char *p, u_char *last, uint64_t *version,
    ngx_str_t *field, ngx_str_t *record)
{
    u_char     *end;
    ngx_str_t   number;

    if (last - p < 16
        || ngx_hextoi(p, 8) != (ngx_int_t) ngx_crc32_long(p + 9,
                                                          last - (p + 9)))
    {
        return NGX_ERROR;
    }

    number.data = p + 9;
    end = ngx_strlchr(number.data, last, ' ');

    if (end == NULL) {
        return NGX_ERROR;
    }

    number.len = end - number.data;
    *version = ngx_http_llm_keys_number(&number);

    field->data = end + 1;

    end = ngx_strlchr(field->data, last, ' ');

    if (end == NULL || *version == 0) {
        return NGX_ERROR;
    }

    field->len = end - field->data;

    record->data = end + 1;
    record->len = last - record->data;

    if (record->len == 1 && record->data[0] == '-') {
        record->len = 0;
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_keys_journal_load(ngx_http_llm_main_conf_t *mcf,
    ngx_cycle_t *cycle)
{
    FILE                *file;
    u_char              *buf, path[NGX_MAX_PATH];
    ngx_int_t            rc;
    ngx_uint_t           lines;
    llm_keyring_stat_t   stat;

    if (ngx_http_llm_keys_path(mcf, "", path) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_http_llm_keys_stat(mcf, &stat);

    if (stat.dynamic_keys || stat.dynamic_teams) {
        /* a reload: they are known */
        return ngx_http_llm_keys_shorten(mcf, path, &stat, cycle);
    }

    file = fopen((char *) path, "re");

    if (file == NULL) {

        if (ngx_errno == NGX_ENOENT) {
            return NGX_OK;
        }

        ngx_log_error(NGX_LOG_EMERG, cycle->log, ngx_errno,
                      "llm_state: \"%s\" cannot be read", path);
        return NGX_ERROR;
    }

    buf = ngx_alloc(NGX_HTTP_LLM_KEYS_LINE, cycle->log);
    if (buf == NULL) {
        (void) fclose(file);
        return NGX_ERROR;
    }

    lines = ngx_http_llm_keys_read(mcf, file, buf, path, cycle->log);

    (void) fclose(file);

    ngx_http_llm_keys_stat(mcf, &stat);

    rc = NGX_OK;

    if (lines > 2 * (stat.dynamic_keys + stat.dynamic_teams)
                + NGX_HTTP_LLM_KEYS_OLD)
    {
        rc = ngx_http_llm_keys_clean(mcf, buf, path, cycle);
    }

    ngx_free(buf);

    return rc;
}


/* the journal of an nginx that is only ever reloaded must not grow for ever */

static ngx_int_t
ngx_http_llm_keys_shorten(ngx_http_llm_main_conf_t *mcf, u_char *path,
    llm_keyring_stat_t *known, ngx_cycle_t *cycle)
{
    u_char           *buf;
    ngx_int_t         rc;
    ngx_file_info_t   fi;

    if (ngx_file_info(path, &fi) == NGX_FILE_ERROR
        || (uint64_t) ngx_file_size(&fi)
           < (known->dynamic_keys + known->dynamic_teams
              + NGX_HTTP_LLM_KEYS_OLD) * NGX_HTTP_LLM_KEYS_BYTES)
    {
        return NGX_OK;
    }

    buf = ngx_alloc(NGX_HTTP_LLM_KEYS_LINE, cycle->log);
    if (buf == NULL) {
        return NGX_ERROR;
    }

    rc = ngx_http_llm_keys_clean(mcf, buf, path, cycle);

    ngx_free(buf);

    return rc;
}


static ngx_uint_t
ngx_http_llm_keys_read(ngx_http_llm_main_conf_t *mcf, FILE *file, u_char *buf,
    u_char *path, ngx_log_t *log)
{
    size_t      len;
    uint64_t    version;
    ngx_str_t   field, record;
    ngx_uint_t  lines, bad;

    lines = 0;
    bad = 0;

    while (fgets((char *) buf, NGX_HTTP_LLM_KEYS_LINE, file)) {

        lines++;
        len = ngx_strlen(buf);

        if (len == 0 || buf[len - 1] != LF
            || ngx_http_llm_keys_line_parse(buf, buf + len - 1, &version,
                                            &field, &record)
               != NGX_OK)
        {
            bad++;
            continue;
        }

        if (record.len) {
            (void) ngx_http_llm_keys_apply(mcf, &field, version, &record);

        } else {
            ngx_http_llm_keys_apply_gone(mcf, &field, version);
        }
    }

    if (bad) {
        ngx_log_error(NGX_LOG_ERR, log, 0,
                      "llm_state: %ui of %ui lines of \"%s\" are damaged and "
                      "do not count", bad, lines, path);
    }

    return lines;
}


/* the workers that write wait meanwhile, and then write to the new file */

static ngx_int_t
ngx_http_llm_keys_clean(ngx_http_llm_main_conf_t *mcf, u_char *buf,
    u_char *path, ngx_cycle_t *cycle)
{
    u_char      temp[NGX_MAX_PATH];
    ngx_fd_t    lock;
    ngx_int_t   rc;

    if (ngx_http_llm_keys_path(mcf, ".tmp", temp) != NGX_OK) {
        return NGX_ERROR;
    }

    lock = ngx_http_llm_keys_open(path);
    if (lock == NGX_INVALID_FILE) {
        return NGX_OK;
    }

    rc = ngx_http_llm_keys_copy(mcf, buf, temp, cycle);

    /* the old one does as well */

    if (rc != NGX_OK || ngx_rename_file(temp, path) == NGX_FILE_ERROR) {
        ngx_log_error(NGX_LOG_WARN, cycle->log, ngx_errno,
                      "llm_state: \"%s\" could not be written anew", path);
        (void) ngx_delete_file(temp);
    }

    (void) ngx_close_file(lock);

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_keys_copy(ngx_http_llm_main_conf_t *mcf, u_char *buf,
    u_char *temp, ngx_cycle_t *cycle)
{
    FILE             *file;
    ngx_fd_t          fd;
    ngx_int_t         rc;
    ngx_core_conf_t  *ccf;

    (void) ngx_delete_file(temp);

    fd = open((char *) temp, O_WRONLY|O_CREAT|O_EXCL|O_CLOEXEC, 0600);
    if (fd == NGX_INVALID_FILE) {
        return NGX_DECLINED;
    }

    ccf = (ngx_core_conf_t *) ngx_get_conf(cycle->conf_ctx, ngx_core_module);

    if (geteuid() == 0 && ccf->user != (ngx_uid_t) NGX_CONF_UNSET_UINT
        && fchown(fd, ccf->user, -1) == -1)
    {
        (void) ngx_close_file(fd);
        return NGX_DECLINED;
    }

    file = fdopen(fd, "w");
    if (file == NULL) {
        (void) ngx_close_file(fd);
        return NGX_DECLINED;
    }

    rc = ngx_http_llm_keys_write(mcf, file, buf);

    if (rc == NGX_OK && (fflush(file) != 0 || fsync(fd) != 0)) {
        rc = NGX_DECLINED;
    }

    (void) fclose(file);

    return rc;
}


static ngx_int_t
ngx_http_llm_keys_write(ngx_http_llm_main_conf_t *mcf, FILE *file,
    u_char *buf)
{
    u_char              *last, name[NGX_HTTP_LLM_KEYS_FIELD];
    uint64_t             cursor;
    ngx_str_t            text, field, record;
    llm_row_e            kind;
    ngx_int_t            rc;
    ngx_uint_t           i, n;
    ngx_pool_t          *pool;
    llm_keyring_item_t   item[LLM_KEYRING_PAGE];

    kind = LLM_ROW_TEAM;
    cursor = 0;
    rc = NGX_OK;

    do {
        pool = ngx_create_pool(16384, ngx_cycle->log);
        if (pool == NULL) {
            return NGX_ERROR;
        }

        if (ngx_http_llm_keys_walk(mcf, kind, LLM_KEYRING_DYNAMIC, &cursor,
                                   item, LLM_KEYRING_PAGE, &n, pool)
            != NGX_OK)
        {
            rc = NGX_ERROR;
            n = 0;
        }

        for (i = 0; i < n && rc == NGX_OK; i++) {

            text.data = (u_char *) item[i].row.name.data;
            text.len = item[i].row.name.len;

            rc = ngx_http_llm_keys_field(kind, &text, name, &field);

            if (rc == NGX_OK) {
                rc = ngx_http_llm_keys_record(pool, &item[i].row, &record);
            }

            if (rc == NGX_OK) {
                last = ngx_http_llm_keys_line(buf, item[i].row.version,
                                              &field, &record);

                if (fwrite(buf, 1, last - buf, file)
                    != (size_t) (last - buf))
                {
                    rc = NGX_DECLINED;
                }
            }
        }

        ngx_destroy_pool(pool);

        if (cursor == 0 && kind == LLM_ROW_TEAM) {
            kind = LLM_ROW_KEY;
            n = 1;

        } else {
            n = cursor != 0;
        }

    } while (rc == NGX_OK && n);

    return rc;
}
