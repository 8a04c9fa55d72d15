
/*
 * Copyright (C) the ngx-llm authors
 */


#include "http/ngx_http_llm_arg.h"


#define NGX_HTTP_LLM_ARG_LIST  256


static ngx_int_t ngx_http_llm_arg_number(ngx_http_llm_arg_t *arg,
    ngx_str_t *s, void *field);
static ngx_int_t ngx_http_llm_arg_choice(ngx_http_llm_arg_t *arg,
    ngx_str_t *s, ngx_uint_t *field);
static char *ngx_http_llm_arg_unknown(ngx_conf_t *cf, ngx_str_t *value,
    ngx_http_llm_arg_t *args);


ngx_conf_enum_t  ngx_http_llm_on_off[] = {
    { ngx_string("on"), 1 },
    { ngx_string("off"), 0 },
    { ngx_null_string, 0 }
};


char *
ngx_http_llm_args(ngx_conf_t *cf, ngx_uint_t first, ngx_http_llm_arg_t *args,
    void *conf)
{
    char        *rv;
    ngx_str_t   *value;
    ngx_uint_t   i;

    value = cf->args->elts;

    for (i = first; i < cf->args->nelts; i++) {
        rv = ngx_http_llm_arg(cf, &value[i], args, conf);
        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    return NGX_CONF_OK;
}


char *
ngx_http_llm_arg(ngx_conf_t *cf, ngx_str_t *value, ngx_http_llm_arg_t *args,
    void *conf)
{
    void                *field;
    ngx_int_t            rc;
    ngx_str_t            s;
    ngx_http_llm_arg_t  *arg;

    for (arg = args; arg->name.len; arg++) {

        if (value->len < arg->name.len
            || ngx_strncmp(value->data, arg->name.data, arg->name.len) != 0)
        {
            continue;
        }

        s.data = value->data + arg->name.len;
        s.len = value->len - arg->name.len;
        field = (u_char *) conf + arg->offset;

        switch (arg->type) {

        case NGX_HTTP_LLM_ARG_CHOICE:
            rc = ngx_http_llm_arg_choice(arg, &s, field);
            break;

        case NGX_HTTP_LLM_ARG_NAME:
            rc = ngx_http_llm_arg_name(&s, arg->max);
            *(ngx_str_t *) field = s;
            break;

        case NGX_HTTP_LLM_ARG_TEXT:
            rc = s.len < arg->min || s.len > arg->max ? NGX_ERROR : NGX_OK;
            *(ngx_str_t *) field = s;
            break;

        default:
            rc = ngx_http_llm_arg_number(arg, &s, field);
        }

        if (rc != NGX_OK) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid parameter \"%V\": expected %s", value,
                               arg->expected);
            return NGX_CONF_ERROR;
        }

        return NGX_CONF_OK;
    }

    return ngx_http_llm_arg_unknown(cf, value, args);
}


static ngx_int_t
ngx_http_llm_arg_number(ngx_http_llm_arg_t *arg, ngx_str_t *s, void *field)
{
    ssize_t  n;

    n = s->len == 0 ? NGX_ERROR
        : arg->type == NGX_HTTP_LLM_ARG_MSEC ? ngx_parse_time(s, 0)
        : arg->type == NGX_HTTP_LLM_ARG_SEC ? ngx_parse_time(s, 1)
        : arg->type == NGX_HTTP_LLM_ARG_NUMBER ? ngx_atoi(s->data, s->len)
        : arg->type == NGX_HTTP_LLM_ARG_COUNT ? ngx_http_llm_arg_count(s)
        : ngx_parse_size(s);

    if (n > (ssize_t) arg->max) {
        return NGX_ERROR;
    }

    if (n < (ssize_t) arg->min
        && (n != 0 || arg->type != NGX_HTTP_LLM_ARG_SIZE_OR_NONE))
    {
        return NGX_ERROR;
    }

    switch (arg->type) {

    case NGX_HTTP_LLM_ARG_SEC:
        *(time_t *) field = n;
        break;

    case NGX_HTTP_LLM_ARG_SIZE:
    case NGX_HTTP_LLM_ARG_SIZE_OR_NONE:
        *(size_t *) field = n;
        break;

    default:
        /* ngx_msec_t is an ngx_uint_t */
        *(ngx_uint_t *) field = n;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_arg_choice(ngx_http_llm_arg_t *arg, ngx_str_t *s,
    ngx_uint_t *field)
{
    ngx_conf_enum_t  *choice;

    for (choice = arg->choices; choice->name.len; choice++) {

        if (choice->name.len == s->len
            && ngx_strncmp(choice->name.data, s->data, s->len) == 0)
        {
            *field = choice->value;
            return NGX_OK;
        }
    }

    return NGX_ERROR;
}


ngx_int_t
ngx_http_llm_arg_count(ngx_str_t *s)
{
    size_t     len;
    ngx_int_t  n, unit;

    if (s->len == 0) {
        return NGX_ERROR;
    }

    len = s->len - 1;

    switch (s->data[len] | 0x20) {

    case 'k':
        unit = 1000;
        break;

    case 'm':
        unit = 1000000;
        break;

    default:
        unit = 1;
        len = s->len;
    }

    n = ngx_atoi(s->data, len);

    return n == NGX_ERROR || n > NGX_MAX_INT_T_VALUE / unit ? NGX_ERROR
                                                            : n * unit;
}


ngx_int_t
ngx_http_llm_arg_name(ngx_str_t *s, size_t max)
{
    u_char      c;
    ngx_uint_t  i;

    if (s->len == 0 || s->len > max) {
        return NGX_ERROR;
    }

    for (i = 0; i < s->len; i++) {
        c = s->data[i];

        if (!(((c | 0x20) >= 'a' && (c | 0x20) <= 'z')
              || (c >= '0' && c <= '9')
              || c == '_' || c == '.' || c == '-'))
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


char *
ngx_http_llm_arg_switch(ngx_conf_t *cf, ngx_flag_t *field)
{
    ngx_str_t  *value;

    if (*field != NGX_CONF_UNSET) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "off") == 0) {
        *field = 0;
        return cf->args->nelts == 2 ? NGX_CONF_OK
                                    : "takes no parameter behind \"off\"";
    }

    if (ngx_strcmp(value[1].data, "on") != 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid parameter \"%V\": expected on or off",
                           &value[1]);
        return NGX_CONF_ERROR;
    }

    *field = 1;

    return NGX_CONF_OK;
}


static char *
ngx_http_llm_arg_unknown(ngx_conf_t *cf, ngx_str_t *value,
    ngx_http_llm_arg_t *args)
{
    u_char              *p, *last;
    u_char               list[NGX_HTTP_LLM_ARG_LIST];
    ngx_http_llm_arg_t  *arg;

    p = list;
    last = list + sizeof(list);

    for (arg = args; arg->name.len; arg++) {
        p = ngx_slprintf(p, last, "%s%V",
                         arg == args ? "" : arg[1].name.len ? ", " : " or ",
                         &arg->name);
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid parameter \"%V\": expected %*s", value,
                       (size_t) (p - list), list);

    return NGX_CONF_ERROR;
}
