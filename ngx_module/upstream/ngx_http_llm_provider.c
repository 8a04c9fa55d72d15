
/*
 * Copyright (C) the ngx-llm authors
 */


#include "upstream/ngx_http_llm_provider.h"
#include "http/ngx_http_llm_arg.h"
#include "state/ngx_http_llm_count.h"
#include "state/ngx_http_llm_source.h"


#define NGX_HTTP_LLM_CONCURRENCY  1000000
#define NGX_HTTP_LLM_RATE         1000000000     /* a minute */
#define NGX_HTTP_LLM_TEXT         4096


/* the parameters as they are written */

typedef struct {
    ngx_str_t                   uri;
    ngx_str_t                   key;
    ngx_str_t                   args;
    ngx_str_t                   rate;
    ngx_uint_t                  tokens;
    ngx_uint_t                  concurrency;
    ngx_uint_t                  include_usage;
    ngx_uint_t                  drain;
    ngx_uint_t                  adaptive;
    ngx_uint_t                  pace;
    ngx_uint_t                  windowed;
    ngx_uint_t                  margin;
} ngx_http_llm_provider_args_t;


static char *ngx_http_llm_provider_new(ngx_conf_t *cf,
    ngx_http_llm_main_conf_t *mcf, ngx_http_llm_provider_t **provider);
static char *ngx_http_llm_provider_uri(ngx_conf_t *cf,
    ngx_http_llm_provider_t *pr, ngx_str_t *uri);
static ngx_uint_t ngx_http_llm_provider_model(ngx_http_llm_provider_t *pr);
static char *ngx_http_llm_provider_args(ngx_conf_t *cf, ngx_str_t *args);
static char *ngx_http_llm_provider_key(ngx_conf_t *cf,
    ngx_http_llm_provider_t *pr, ngx_str_t *source);
static char *ngx_http_llm_provider_limit(ngx_conf_t *cf,
    ngx_http_llm_provider_t *pr, ngx_http_llm_provider_args_t *pa);
static uint64_t ngx_http_llm_provider_rate(ngx_str_t *rate);


#define ngx_http_llm_offset(field)                                            \
    offsetof(ngx_http_llm_provider_args_t, field)


static ngx_conf_enum_t  ngx_http_llm_provider_leave[] = {
    { ngx_string("cancel"), 0 },
    { ngx_string("drain"), 1 },
    { ngx_null_string, 0 }
};


static ngx_http_llm_arg_t  ngx_http_llm_provider_table[] = {
    { ngx_string("uri="), NGX_HTTP_LLM_ARG_TEXT,
      ngx_http_llm_offset(uri), 1, NGX_HTTP_LLM_TEXT,
      "the prefix of an internal location, with a slash at both ends", NULL },
    { ngx_string("args="), NGX_HTTP_LLM_ARG_TEXT,
      ngx_http_llm_offset(args), 1, NGX_HTTP_LLM_TEXT,
      "a query without its question mark", NULL },
    { ngx_string("key="), NGX_HTTP_LLM_ARG_TEXT,
      ngx_http_llm_offset(key), 1, NGX_HTTP_LLM_TEXT,
      "env:VARIABLE or file:PATH", NULL },
    { ngx_string("concurrency="), NGX_HTTP_LLM_ARG_NUMBER,
      ngx_http_llm_offset(concurrency), 1, NGX_HTTP_LLM_CONCURRENCY,
      "a number from 1 to 1000000", NULL },
    { ngx_string("rate="), NGX_HTTP_LLM_ARG_TEXT,
      ngx_http_llm_offset(rate), 1, NGX_HTTP_LLM_TEXT,
      "a rate like 600r/m or 10r/s", NULL },
    { ngx_string("tokens="), NGX_HTTP_LLM_ARG_COUNT,
      ngx_http_llm_offset(tokens), 1, NGX_HTTP_LLM_RATE,
      "a number of tokens a minute, like 90000, 90k or 2m", NULL },
    { ngx_string("adaptive="), NGX_HTTP_LLM_ARG_CHOICE,
      ngx_http_llm_offset(adaptive), 0, 0,
      "on or off", ngx_http_llm_on_off },
    { ngx_string("pace="), NGX_HTTP_LLM_ARG_CHOICE,
      ngx_http_llm_offset(pace), 0, 0,
      "on or off", ngx_http_llm_on_off },
    { ngx_string("window="), NGX_HTTP_LLM_ARG_CHOICE,
      ngx_http_llm_offset(windowed), 0, 0,
      "on or off", ngx_http_llm_on_off },
    { ngx_string("margin="), NGX_HTTP_LLM_ARG_NUMBER,
      ngx_http_llm_offset(margin), 0, 1000,
      "a number from 0 to 1000", NULL },
    { ngx_string("on_leave="), NGX_HTTP_LLM_ARG_CHOICE,
      ngx_http_llm_offset(drain), 0, 0,
      "cancel or drain", ngx_http_llm_provider_leave },
    { ngx_string("include_usage="), NGX_HTTP_LLM_ARG_CHOICE,
      ngx_http_llm_offset(include_usage), 0, 0,
      "on or off", ngx_http_llm_on_off },
    ngx_http_llm_null_arg
};


char *
ngx_http_llm_provider(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_llm_main_conf_t *mcf = conf;

    ngx_http_llm_provider_t       *pr;
    ngx_http_llm_provider_args_t   pa;

    if (ngx_http_llm_provider_new(cf, mcf, &pr) != NGX_CONF_OK) {
        return NGX_CONF_ERROR;
    }

    ngx_memzero(&pa, sizeof(ngx_http_llm_provider_args_t));

    pa.include_usage = 1;
    pa.margin = 1;

    if (ngx_http_llm_args(cf, 2, ngx_http_llm_provider_table, &pa)
        != NGX_CONF_OK)
    {
        return NGX_CONF_ERROR;
    }

    pr->args = pa.args;
    pr->no_usage = !pa.include_usage;
    pr->drain = pa.drain;
    pr->adaptive = pa.adaptive;
    pr->pace = pa.pace;
    pr->windowed = pa.windowed;
    pr->margin = pa.margin;

    if (ngx_http_llm_provider_uri(cf, pr, &pa.uri) != NGX_CONF_OK
        || ngx_http_llm_provider_args(cf, &pr->args) != NGX_CONF_OK
        || ngx_http_llm_provider_key(cf, pr, &pa.key) != NGX_CONF_OK)
    {
        return NGX_CONF_ERROR;
    }

    return ngx_http_llm_provider_limit(cf, pr, &pa);
}


static char *
ngx_http_llm_provider_new(ngx_conf_t *cf, ngx_http_llm_main_conf_t *mcf,
    ngx_http_llm_provider_t **provider)
{
    ngx_str_t                 *value;
    ngx_http_llm_provider_t   *pr, **ppr;

    value = cf->args->elts;

    if (ngx_http_llm_arg_name(&value[1], NGX_HTTP_LLM_PROVIDER_NAME)
        != NGX_OK)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "provider name \"%V\": expected 1 to %d of "
                           "[A-Za-z0-9._-]", &value[1],
                           NGX_HTTP_LLM_PROVIDER_NAME);
        return NGX_CONF_ERROR;
    }

    if (ngx_http_llm_provider_find(mcf, &value[1])) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "provider \"%V\" is defined already", &value[1]);
        return NGX_CONF_ERROR;
    }

    if (mcf->providers.nelts == NGX_HTTP_LLM_PROVIDERS) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "more than %d providers", NGX_HTTP_LLM_PROVIDERS);
        return NGX_CONF_ERROR;
    }

    pr = ngx_pcalloc(cf->pool, sizeof(ngx_http_llm_provider_t));
    ppr = ngx_array_push(&mcf->providers);

    if (pr == NULL || ppr == NULL) {
        return NGX_CONF_ERROR;
    }

    *ppr = pr;
    *provider = pr;

    pr->name = value[1];
    pr->file = cf->conf_file->file.name.data;
    pr->line = cf->conf_file->line;

    return NGX_CONF_OK;
}


static char *
ngx_http_llm_provider_uri(ngx_conf_t *cf, ngx_http_llm_provider_t *pr,
    ngx_str_t *uri)
{
    if (uri->len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "provider \"%V\" has no uri=", &pr->name);
        return NGX_CONF_ERROR;
    }

    pr->uri = *uri;

    if (uri->len < 2 || uri->data[0] != '/'
        || uri->data[uri->len - 1] != '/')
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"uri=%V\": expected the prefix of an internal "
                           "location, with a slash at both ends", uri);
        return NGX_CONF_ERROR;
    }

    if (!ngx_http_llm_provider_model(pr)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"uri=%V\": expected braces at most once, as a "
                           "segment \"/{model}/\" behind the location's "
                           "prefix", uri);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


/*
 * Cuts the uri in two where the model's name stands.  It is a whole segment,
 * so that what it is has no say in which location is found.
 */

static ngx_uint_t
ngx_http_llm_provider_model(ngx_http_llm_provider_t *pr)
{
    u_char     *p, *last;
    ngx_str_t  *uri;

    uri = &pr->uri;
    last = uri->data + uri->len;

    p = ngx_strnstr(uri->data, "/{model}/", uri->len);

    if (p) {
        pr->templated = 1;
        pr->uri_rest.data = p + sizeof("/{model}") - 1;
        pr->uri_rest.len = last - pr->uri_rest.data;

        uri->len = p + 1 - uri->data;

        if (uri->len < 2) {
            return 0;
        }
    }

    for (p = uri->data; p < uri->data + uri->len; p++) {
        if (*p == '{' || *p == '}') {
            return 0;
        }
    }

    for (p = pr->uri_rest.data; p && p < last; p++) {
        if (*p == '{' || *p == '}') {
            return 0;
        }
    }

    return 1;
}


/* it goes into the provider's request line as it is */

static char *
ngx_http_llm_provider_args(ngx_conf_t *cf, ngx_str_t *args)
{
    size_t  i;
    u_char  c;

    for (i = 0; i < args->len; i++) {
        c = args->data[i];

        if (c <= 0x20 || c >= 0x7f || c == '#' || (i == 0 && c == '?')) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"args=%V\": expected a query without its "
                               "question mark, printable ASCII without "
                               "spaces and \"#\"", args);
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_llm_provider_key(ngx_conf_t *cf, ngx_http_llm_provider_t *pr,
    ngx_str_t *source)
{
    u_char     *p;
    size_t      i;
    ngx_str_t   key;

    if (source->len == 0) {
        return NGX_CONF_OK;
    }

    if (ngx_http_llm_source_read(cf, source, "key of provider", &pr->name,
                                 &key)
        != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    for (i = 0; i < key.len; i++) {
        if (key.data[i] <= 0x20 || key.data[i] >= 0x7f) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "key of provider \"%V\": expected printable "
                               "ASCII without spaces", &pr->name);
            return NGX_CONF_ERROR;
        }
    }

    if (key.len == 0) {
        return NGX_CONF_OK;
    }

    p = ngx_pnalloc(cf->pool, sizeof("Bearer ") - 1 + key.len);
    if (p == NULL) {
        return NGX_CONF_ERROR;
    }

    pr->authorization.data = p;
    pr->authorization.len = sizeof("Bearer ") - 1 + key.len;

    p = ngx_cpymem(p, "Bearer ", sizeof("Bearer ") - 1);
    ngx_memcpy(p, key.data, key.len);

    pr->key.data = p;
    pr->key.len = key.len;

    return NGX_CONF_OK;
}


/* a limit of the ledger, shared by teams as their weights say */

static char *
ngx_http_llm_provider_limit(ngx_conf_t *cf, ngx_http_llm_provider_t *pr,
    ngx_http_llm_provider_args_t *pa)
{
    u_char       *p;
    llm_rates_t  *rates;

    rates = &pr->limit.rates;

    if (pa->rate.len) {
        rates->rpm = ngx_http_llm_provider_rate(&pa->rate);

        if (rates->rpm == LLM_UNLIMITED) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"rate=%V\": expected a rate like 600r/m or "
                               "10r/s, up to %dr/m", &pa->rate,
                               NGX_HTTP_LLM_RATE);
            return NGX_CONF_ERROR;
        }
    }

    rates->tpm = pa->tokens ? pa->tokens : LLM_UNLIMITED;

    pr->limit.concurrency = pa->concurrency ? (uint32_t) pa->concurrency
                                            : LLM_UNLIMITED;

    if (pa->concurrency == 0 && pa->rate.len == 0 && pa->tokens == 0) {
        return NGX_CONF_OK;
    }

    /* what a minute allows may be taken at once, as with keys and teams */

    rates->burst = rates->rpm;
    rates->burst_tokens = rates->tpm;

    p = ngx_pnalloc(cf->pool, pr->name.len + 2);
    if (p == NULL) {
        return NGX_CONF_ERROR;
    }

    pr->limit.name.data = p;
    pr->limit.name.len = pr->name.len + 2;

    p = ngx_cpymem(p, "p:", 2);
    ngx_memcpy(p, pr->name.data, pr->name.len);

    pr->limit.hash = llm_policy_hash(&pr->limit.name);
    pr->limit.weight = 1;
    pr->limit.fair = 1;

    return NGX_CONF_OK;
}


/* requests a minute, or LLM_UNLIMITED: it is none */

static uint64_t
ngx_http_llm_provider_rate(ngx_str_t *rate)
{
    size_t     len;
    ngx_int_t  n, unit;

    if (rate->len < sizeof("1r/m") - 1) {
        return LLM_UNLIMITED;
    }

    len = rate->len - 3;

    unit = ngx_strncmp(rate->data + len, "r/m", 3) == 0 ? 1
           : ngx_strncmp(rate->data + len, "r/s", 3) == 0 ? 60 : 0;

    n = ngx_atoi(rate->data, len);

    if (unit == 0 || n < 1 || n > NGX_HTTP_LLM_RATE / unit) {
        return LLM_UNLIMITED;
    }

    return (uint64_t) (n * unit);
}


ngx_http_llm_provider_t *
ngx_http_llm_provider_find(ngx_http_llm_main_conf_t *mcf, ngx_str_t *name)
{
    ngx_uint_t                 i;
    ngx_http_llm_provider_t  **pr;

    pr = mcf->providers.elts;

    for (i = 0; i < mcf->providers.nelts; i++) {
        if (pr[i]->name.len == name->len
            && ngx_memcmp(pr[i]->name.data, name->data, name->len) == 0)
        {
            return pr[i];
        }
    }

    return NULL;
}
