
/*
 * Copyright (C) the ngx-llm authors
 */


#include "state/ngx_http_llm_source.h"


static ngx_int_t ngx_http_llm_source_file(ngx_conf_t *cf, ngx_str_t *file,
    ngx_str_t *value);


ngx_int_t
ngx_http_llm_source_read(ngx_conf_t *cf, ngx_str_t *source, const char *what,
    ngx_str_t *name, ngx_str_t *value)
{
    ngx_str_t  file;

    if (source->len > 4 && ngx_strncmp(source->data, "env:", 4) == 0) {

        value->data = (u_char *) getenv((char *) source->data + 4);

        if (value->data == NULL) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "%s \"%V\": there is no environment variable "
                               "\"%s\"", what, name, source->data + 4);
            return NGX_ERROR;
        }

        value->len = ngx_strlen(value->data);

    } else if (source->len > 5 && ngx_strncmp(source->data, "file:", 5) == 0) {

        file.data = source->data + 5;
        file.len = source->len - 5;

        if (ngx_conf_full_name(cf->cycle, &file, 1) != NGX_OK
            || ngx_http_llm_source_file(cf, &file, value) != NGX_OK)
        {
            return NGX_ERROR;
        }

    } else {
        /* what was given instead may be the secret itself: not logged */

        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "%s \"%V\": expected env:VARIABLE or file:PATH",
                           what, name);
        return NGX_ERROR;
    }

    while (value->len && (value->data[value->len - 1] == LF
                          || value->data[value->len - 1] == CR))
    {
        value->len--;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_source_file(ngx_conf_t *cf, ngx_str_t *file, ngx_str_t *value)
{
    ssize_t   n;
    ngx_fd_t  fd;

    fd = ngx_open_file(file->data, NGX_FILE_RDONLY, NGX_FILE_OPEN, 0);

    if (fd == NGX_INVALID_FILE) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           ngx_open_file_n " \"%V\" failed", file);
        return NGX_ERROR;
    }

    value->data = ngx_pnalloc(cf->pool, NGX_HTTP_LLM_SOURCE_MAX);
    if (value->data == NULL) {
        (void) ngx_close_file(fd);
        return NGX_ERROR;
    }

    n = ngx_read_fd(fd, value->data, NGX_HTTP_LLM_SOURCE_MAX);

    if (n == -1 || n == NGX_HTTP_LLM_SOURCE_MAX) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, n == -1 ? ngx_errno : 0,
                           "\"%V\": expected a file with one key", file);
        (void) ngx_close_file(fd);
        return NGX_ERROR;
    }

    (void) ngx_close_file(fd);

    value->len = n;

    return NGX_OK;
}
