
/*
 * Copyright (C) the ngx-llm authors
 *
 * An upload: what its two parts share, the one that reads the body and the
 * one that knows the form in it.
 */


#ifndef _NGX_HTTP_LLM_FILES_UPLOAD_H_INCLUDED_
#define _NGX_HTTP_LLM_FILES_UPLOAD_H_INCLUDED_


#include "tasks/ngx_http_llm_files_private.h"

#include "core/llm_multipart.h"


#define NGX_HTTP_LLM_UPLOAD_HEAD   8192     /* header lines of a part */
#define NGX_HTTP_LLM_UPLOAD_FIELD  64       /* bytes of a field's value */
#define NGX_HTTP_LLM_UPLOAD_FORM   1048576  /* … of all but the file */


typedef enum {
    NGX_HTTP_LLM_UPLOAD_PURPOSE = 0,
    NGX_HTTP_LLM_UPLOAD_ANCHOR,
    NGX_HTTP_LLM_UPLOAD_SECONDS,
    NGX_HTTP_LLM_UPLOAD_FIELDS,
    NGX_HTTP_LLM_UPLOAD_FILE = NGX_HTTP_LLM_UPLOAD_FIELDS,
    NGX_HTTP_LLM_UPLOAD_OTHER
} ngx_http_llm_upload_e;


typedef struct {
    size_t                        len;
    u_char                        text[NGX_HTTP_LLM_UPLOAD_FIELD];
    unsigned                      seen:1;
} ngx_http_llm_upload_field_t;


struct ngx_http_llm_files_upload_s {
    ngx_http_llm_files_t         *fs;
    ngx_http_llm_blob_writer_t    writer;
    llm_multipart_t               form;
    u_char                        head[NGX_HTTP_LLM_UPLOAD_HEAD];

    ngx_http_llm_upload_e         part;      /* that comes in */
    ngx_http_llm_upload_field_t   field[NGX_HTTP_LLM_UPLOAD_FIELDS];

    ngx_chain_t                  *in;        /* read, and not taken yet */
    u_char                       *pos;       /* of the file, for the writer */
    u_char                       *last;
    uint64_t                      bytes;     /* of the body */
    size_t                        turn;      /* … of this turn */

    unsigned                      file:1;    /* its part has begun */
    unsigned                      blocked:1; /* by the writer */
    unsigned                      eof:1;
    unsigned                      closing:1;
};


/* NGX_OK, NGX_ERROR, or the status of an error that is set */

/* a part begins */
ngx_int_t ngx_http_llm_upload_part(ngx_http_llm_files_upload_t *up);

/* … a piece of it: kept, or up->pos and last are set … */
ngx_int_t ngx_http_llm_upload_data(ngx_http_llm_files_upload_t *up,
    llm_str_t *data);

/* … and it has ended: what is wrong is told before the file has come */
ngx_int_t ngx_http_llm_upload_field(ngx_http_llm_files_upload_t *up);

/* the fields, when all is there */
ngx_int_t ngx_http_llm_upload_purpose(ngx_http_llm_files_upload_t *up);
ngx_int_t ngx_http_llm_upload_expires(ngx_http_llm_files_upload_t *up);

/* errors: what the writer says, too many bytes, what the parser says */
ngx_int_t ngx_http_llm_upload_failed(ngx_http_llm_files_upload_t *up);
ngx_int_t ngx_http_llm_upload_large(ngx_http_llm_files_t *fs);
ngx_int_t ngx_http_llm_upload_malformed(ngx_http_llm_files_upload_t *up);


#endif /* _NGX_HTTP_LLM_FILES_UPLOAD_H_INCLUDED_ */
