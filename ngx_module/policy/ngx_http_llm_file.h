
/*
 * Copyright (C) the ngx-llm authors
 *
 * A file of people that the master reads and workers follow: each of them
 * (follow()), or whoever does it for all with the functions at the end.
 */


#ifndef _NGX_HTTP_LLM_FILE_H_INCLUDED_
#define _NGX_HTTP_LLM_FILE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>


typedef struct ngx_http_llm_file_s  ngx_http_llm_file_t;


typedef struct {
    ngx_file_uniq_t             uniq;
    off_t                       size;
    struct timespec             mtime;
    ngx_err_t                   err;
} ngx_http_llm_file_stat_t;


/* part of whatever follows a file; zeroed */

struct ngx_http_llm_file_s {
    char                       *directive;
    ngx_str_t                   name;
    void                       *data;

    /*
     * Puts the text's meaning in the place of the old: NGX_OK, or NGX_ERROR
     * with "err" filled and nothing changed.  "first": at configuration time.
     */
    ngx_int_t                 (*take)(ngx_http_llm_file_t *f, char *text,
                                      size_t size, ngx_uint_t first,
                                      char *err, size_t errlen);

    size_t                      max;       /* bytes, 0: 64m */
    ngx_log_t                  *log;
    ngx_http_llm_file_stat_t    loaded;    /* or refused: said once */
    ngx_http_llm_file_stat_t    seen;
    ngx_event_t                 event;
    ngx_connection_t            dummy;
};


/*
 * Reads the file at configuration time, in one go; an error is logged.  "take"
 * gets it in memory that is freed behind it.
 */
ngx_int_t ngx_http_llm_file_read(ngx_http_llm_file_t *f, ngx_conf_t *cf,
    ngx_str_t *name);

/* can the workers' user read the file? an error is logged */
ngx_int_t ngx_http_llm_file_check(ngx_http_llm_file_t *f, ngx_conf_t *cf);

/* follows the file: a change counts when it held for two polls */
void ngx_http_llm_file_follow(ngx_http_llm_file_t *f, ngx_cycle_t *cycle);

/* what there is now, or the error in its place */
void ngx_http_llm_file_stat(ngx_str_t *name, ngx_http_llm_file_stat_t *st);
ngx_uint_t ngx_http_llm_file_same(ngx_http_llm_file_stat_t *a,
    ngx_http_llm_file_stat_t *b);

/* a regular file that is not too large; NGX_INVALID_FILE: logged at "level" */
ngx_fd_t ngx_http_llm_file_open(ngx_http_llm_file_t *f, size_t *size,
    ngx_uint_t level);
void ngx_http_llm_file_close(ngx_http_llm_file_t *f, ngx_fd_t fd);


#endif /* _NGX_HTTP_LLM_FILE_H_INCLUDED_ */
