
/*
 * Copyright (C) the ngx-llm authors
 *
 * Parameters "name=value" of directives, by tables.
 */


#ifndef _NGX_HTTP_LLM_ARG_H_INCLUDED_
#define _NGX_HTTP_LLM_ARG_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/* a parameter "name=value" of a directive, and where its value goes */

typedef enum {
    NGX_HTTP_LLM_ARG_MSEC = 0,
    NGX_HTTP_LLM_ARG_SEC,
    NGX_HTTP_LLM_ARG_SIZE,
    NGX_HTTP_LLM_ARG_SIZE_OR_NONE,               /* 0, or from "min" on */
    NGX_HTTP_LLM_ARG_NUMBER,
    NGX_HTTP_LLM_ARG_COUNT,                      /* … or 20k, 1m: decimal */
    NGX_HTTP_LLM_ARG_CHOICE,                     /* ngx_uint_t, ngx_flag_t */
    NGX_HTTP_LLM_ARG_NAME,                       /* up to "max" bytes */
    NGX_HTTP_LLM_ARG_TEXT                        /* "min" to "max" bytes */
} ngx_http_llm_arg_e;


typedef struct {
    ngx_str_t                   name;
    ngx_http_llm_arg_e          type;
    size_t                      offset;
    ngx_uint_t                  min;
    ngx_uint_t                  max;
    const char                 *expected;
    ngx_conf_enum_t            *choices;
} ngx_http_llm_arg_t;


#define ngx_http_llm_null_arg  { ngx_null_string, 0, 0, 0, 0, NULL, NULL }


/*
 * One parameter, by the table, which ends with a null argument; what is wrong
 * or unknown is logged with what was expected.
 */
char *ngx_http_llm_arg(ngx_conf_t *cf, ngx_str_t *value,
    ngx_http_llm_arg_t *args, void *conf);

/* all parameters of the directive from the one with number "first" on */
char *ngx_http_llm_args(ngx_conf_t *cf, ngx_uint_t first,
    ngx_http_llm_arg_t *args, void *conf);

/* NGX_OK: 1 to "max" of [A-Za-z0-9_.-] */
ngx_int_t ngx_http_llm_arg_name(ngx_str_t *s, size_t max);

/* a number, or one with "k" (thousand) or "m" (million); or NGX_ERROR */
ngx_int_t ngx_http_llm_arg_count(ngx_str_t *s);

/* choices of a switch */
extern ngx_conf_enum_t  ngx_http_llm_on_off[];

/* "on" or "off" in the first parameter, and nothing behind "off" */
char *ngx_http_llm_arg_switch(ngx_conf_t *cf, ngx_flag_t *field);


#endif /* _NGX_HTTP_LLM_ARG_H_INCLUDED_ */
