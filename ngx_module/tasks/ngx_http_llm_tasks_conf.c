
/*
 * Copyright (C) the ngx-llm authors
 *
 * The directive llm_tasks.
 */


#include "tasks/ngx_http_llm_tasks.h"
#include "http/ngx_http_llm_arg.h"
#include "http/ngx_http_llm_loopback.h"
#include "http/ngx_http_llm_outcall.h"
#include "state/ngx_http_llm_source.h"

#include "core/llm_url.h"

/* the scripts as C strings, made from *.lua while nginx is built */
#include <ngx_http_llm_queue_lua.h>
#include <ngx_http_llm_files_lua.h>
#include <ngx_http_llm_batches_lua.h>


#define NGX_HTTP_LLM_TASKS_TIMEOUT  5000             /* of Redis, ms */
#define NGX_HTTP_LLM_TASKS_SHORT    24               /* a secret, bytes */

#define NGX_HTTP_LLM_TASKS_GIGABYTE  ((off_t) 1024 * 1024 * 1024)
#define NGX_HTTP_LLM_TASKS_DAY      (24 * 3600)
#define NGX_HTTP_LLM_TASKS_YEAR     (365 * 24 * 3600)


/* the configuration, and what is known only when all of it has been read */

typedef struct {
    ngx_http_llm_tasks_conf_t   conf;
    ngx_flag_t                  encrypt;
    ngx_str_t                   file_max;            /* as given */
    ngx_str_t                   file_quota;
    ngx_str_t                   webhook;             /* the last one read */
    ngx_str_t                   webhook_secret;      /* where it is */
    ngx_str_t                   archive;
    u_char                     *file;                /* of the directive */
    ngx_uint_t                  line;
} ngx_http_llm_tasks_read_t;


static char *ngx_http_llm_tasks_args(ngx_conf_t *cf,
    ngx_http_llm_tasks_read_t *rd);
static char *ngx_http_llm_tasks_sizes(ngx_conf_t *cf,
    ngx_http_llm_tasks_read_t *rd);
static ngx_int_t ngx_http_llm_tasks_size(ngx_str_t *s, off_t max, off_t *size);
static char *ngx_http_llm_tasks_model(ngx_conf_t *cf, ngx_str_t *model);
static char *ngx_http_llm_tasks_webhook(ngx_conf_t *cf,
    ngx_http_llm_tasks_read_t *rd);
static char *ngx_http_llm_tasks_secret(ngx_conf_t *cf,
    ngx_http_llm_tasks_read_t *rd);
static ngx_int_t ngx_http_llm_tasks_needs(ngx_conf_t *cf,
    ngx_http_llm_tasks_read_t *rd, const char *what, const char *need);
static ngx_int_t ngx_http_llm_tasks_redis(ngx_conf_t *cf,
    ngx_http_llm_main_conf_t *mcf, ngx_http_llm_tasks_conf_t *tcf);


static ngx_str_t  ngx_http_llm_tasks_queue_lua =
                                       ngx_string(NGX_HTTP_LLM_QUEUE_LUA);
static ngx_str_t  ngx_http_llm_tasks_files_lua =
                                       ngx_string(NGX_HTTP_LLM_FILES_LUA);
static ngx_str_t  ngx_http_llm_tasks_batches_lua =
                                       ngx_string(NGX_HTTP_LLM_BATCHES_LUA);


#define ngx_http_llm_tasks(field)                                             \
    offsetof(ngx_http_llm_tasks_read_t, field)

#define ngx_http_llm_tasks_count(name, field)                                 \
    { ngx_string(name), NGX_HTTP_LLM_ARG_COUNT,                               \
      ngx_http_llm_tasks(conf.field), 1, 10000000,                            \
      "a number from 1 to 10m", NULL }

#define ngx_http_llm_tasks_number(name, field, min, max)                      \
    { ngx_string(name), NGX_HTTP_LLM_ARG_NUMBER,                              \
      ngx_http_llm_tasks(conf.field), min, max,                               \
      "a number from " #min " to " #max, NULL }

#define ngx_http_llm_tasks_days(name, field)                                  \
    { ngx_string(name), NGX_HTTP_LLM_ARG_SEC,                                 \
      ngx_http_llm_tasks(conf.field), 1, NGX_HTTP_LLM_TASKS_YEAR,             \
      "a time from 1s to 365d", NULL }


static ngx_http_llm_arg_t  ngx_http_llm_tasks_table[] = {
    ngx_http_llm_tasks_count("max=", max),
    ngx_http_llm_tasks_count("team_max=", team_max),
    ngx_http_llm_tasks_number("window=", window, 1, 10000),
    ngx_http_llm_tasks_number("in_flight=", in_flight, 1, 10000),
    { ngx_string("lease="), NGX_HTTP_LLM_ARG_MSEC,
      ngx_http_llm_tasks(conf.lease), 200, 600000,
      "a time from 200ms to 10m", NULL },
    ngx_http_llm_tasks_number("deaths=", deaths, 0, 100),
    ngx_http_llm_tasks_number("tries=", tries, 1, 100),
    { ngx_string("backoff="), NGX_HTTP_LLM_ARG_MSEC,
      ngx_http_llm_tasks(conf.backoff), 1, 3600000,
      "a time from 1ms to 1h", NULL },
    { ngx_string("backoff_max="), NGX_HTTP_LLM_ARG_MSEC,
      ngx_http_llm_tasks(conf.backoff_max), 1, 3600000,
      "a time from 1ms to 1h", NULL },
    { ngx_string("timeout="), NGX_HTTP_LLM_ARG_MSEC,
      ngx_http_llm_tasks(conf.timeout), 100, 86400000,
      "a time from 100ms to 1d", NULL },
    { ngx_string("poll="), NGX_HTTP_LLM_ARG_MSEC,
      ngx_http_llm_tasks(conf.poll), 10, 3600000,
      "a time from 10ms to 1h", NULL },
    ngx_http_llm_tasks_days("deadline=", deadline),
    ngx_http_llm_tasks_days("keep=", keep),
    ngx_http_llm_tasks_days("results=", results),
    { ngx_string("result_max="), NGX_HTTP_LLM_ARG_SIZE,
      ngx_http_llm_tasks(conf.result_max), 1024, 15 * 1024 * 1024,
      "a size from 1k to 15m", NULL },
    { ngx_string("model="), NGX_HTTP_LLM_ARG_TEXT,
      ngx_http_llm_tasks(conf.model), 1, 256,
      "a model of 1 to 256 bytes", NULL },
    { ngx_string("file_max="), NGX_HTTP_LLM_ARG_TEXT,
      ngx_http_llm_tasks(file_max), 1, 32,
      "a size from 1k to 1g", NULL },
    { ngx_string("file_quota="), NGX_HTTP_LLM_ARG_TEXT,
      ngx_http_llm_tasks(file_quota), 1, 32,
      "a size from 1k to 1024g", NULL },
    ngx_http_llm_tasks_days("file_ttl=", file_ttl),
    { ngx_string("encrypt="), NGX_HTTP_LLM_ARG_CHOICE,
      ngx_http_llm_tasks(encrypt), 0, 0,
      "on or off", ngx_http_llm_on_off },
    { ngx_string("webhook="), NGX_HTTP_LLM_ARG_TEXT,
      ngx_http_llm_tasks(webhook), 1, 512,
      "a host", NULL },
    { ngx_string("webhook_secret="), NGX_HTTP_LLM_ARG_TEXT,
      ngx_http_llm_tasks(webhook_secret), 1, 4096,
      "env:VARIABLE or file:PATH", NULL },
    { ngx_string("archive="), NGX_HTTP_LLM_ARG_TEXT,
      ngx_http_llm_tasks(archive), 1, 4096,
      "a path", NULL },
    { ngx_string("run="), NGX_HTTP_LLM_ARG_CHOICE,
      ngx_http_llm_tasks(conf.run), 0, 0,
      "on or off", ngx_http_llm_on_off },
    ngx_http_llm_null_arg
};


ngx_http_llm_tasks_conf_t *
ngx_http_llm_tasks_create_conf(ngx_conf_t *cf)
{
    ngx_http_llm_tasks_conf_t  *tcf;
    ngx_http_llm_tasks_read_t  *rd;

    rd = ngx_pcalloc(cf->pool, sizeof(ngx_http_llm_tasks_read_t));
    if (rd == NULL) {
        return NULL;
    }

    rd->encrypt = NGX_CONF_UNSET;

    tcf = &rd->conf;

    tcf->on = NGX_CONF_UNSET;
    tcf->run = 1;

    tcf->max = 100000;
    tcf->team_max = 60000;
    tcf->window = 64;
    tcf->in_flight = 64;
    tcf->lease = 20000;
    tcf->deaths = 3;
    tcf->tries = 8;
    tcf->backoff = 2000;
    tcf->backoff_max = 60000;
    tcf->timeout = 600000;
    tcf->poll = 15000;
    tcf->deadline = NGX_HTTP_LLM_TASKS_DAY;
    tcf->keep = NGX_HTTP_LLM_TASKS_DAY;
    tcf->results = 7 * NGX_HTTP_LLM_TASKS_DAY;
    tcf->result_max = 4 * 1024 * 1024;

    tcf->file_max = 200 * 1024 * 1024;
    tcf->file_quota = 2 * NGX_HTTP_LLM_TASKS_GIGABYTE;
    tcf->file_ttl = 30 * NGX_HTTP_LLM_TASKS_DAY;

    return tcf;
}


char *
ngx_http_llm_tasks_set(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_llm_main_conf_t *mcf = conf;

    char                       *rv;
    ngx_http_llm_tasks_read_t  *rd;

    if (mcf->tasks == NULL) {
        mcf->tasks = ngx_http_llm_tasks_create_conf(cf);
        if (mcf->tasks == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    rd = (ngx_http_llm_tasks_read_t *) mcf->tasks;

    rv = ngx_http_llm_arg_switch(cf, &rd->conf.on);
    if (rv != NGX_CONF_OK) {
        return rv;
    }

    rd->file = cf->conf_file->file.name.data;
    rd->line = cf->conf_file->line;

    rv = ngx_http_llm_tasks_args(cf, rd);
    if (rv != NGX_CONF_OK) {
        return rv;
    }

    if (rd->conf.backoff > rd->conf.backoff_max) {
        return "expects a backoff= of at most backoff_max=";
    }

    if (rd->archive.len) {
        rd->conf.archive = ngx_conf_open_file(cf->cycle, &rd->archive);
        if (rd->conf.archive == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    return ngx_http_llm_tasks_secret(cf, rd);
}


static char *
ngx_http_llm_tasks_args(ngx_conf_t *cf, ngx_http_llm_tasks_read_t *rd)
{
    char        *rv;
    ngx_str_t   *value;
    ngx_uint_t   i;

    value = cf->args->elts;

    for (i = 2; i < cf->args->nelts; i++) {

        rv = ngx_http_llm_arg(cf, &value[i], ngx_http_llm_tasks_table, rd);
        if (rv != NGX_CONF_OK) {
            return rv;
        }

        if (rd->webhook.len) {
            rv = ngx_http_llm_tasks_webhook(cf, rd);
            if (rv != NGX_CONF_OK) {
                return rv;
            }
        }
    }

    rv = ngx_http_llm_tasks_sizes(cf, rd);
    if (rv != NGX_CONF_OK) {
        return rv;
    }

    return ngx_http_llm_tasks_model(cf, &rd->conf.model);
}


/* those that have gigabytes */

static char *
ngx_http_llm_tasks_sizes(ngx_conf_t *cf, ngx_http_llm_tasks_read_t *rd)
{
    off_t  size;

    size = rd->conf.file_max;

    if (ngx_http_llm_tasks_size(&rd->file_max, NGX_HTTP_LLM_TASKS_GIGABYTE,
                                &size)
        != NGX_OK)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid parameter \"file_max=%V\": expected a "
                           "size from 1k to 1g", &rd->file_max);
        return NGX_CONF_ERROR;
    }

    rd->conf.file_max = (size_t) size;

    if (ngx_http_llm_tasks_size(&rd->file_quota,
                                1024 * NGX_HTTP_LLM_TASKS_GIGABYTE,
                                &rd->conf.file_quota)
        != NGX_OK)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid parameter \"file_quota=%V\": expected a "
                           "size from 1k to 1024g", &rd->file_quota);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_llm_tasks_size(ngx_str_t *s, off_t max, off_t *size)
{
    off_t  n;

    if (s->len == 0) {
        return NGX_OK;
    }

    n = ngx_parse_offset(s);

    if (n < 1024 || n > max) {
        return NGX_ERROR;
    }

    *size = n;

    return NGX_OK;
}


/* it is put into requests as it is */

static char *
ngx_http_llm_tasks_model(ngx_conf_t *cf, ngx_str_t *model)
{
    u_char  c;
    size_t  i;

    for (i = 0; i < model->len; i++) {
        c = model->data[i];

        if (c <= 0x20 || c >= 0x7f || c == '"' || c == '\\') {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid parameter \"model=%V\": expected "
                               "printable ASCII without spaces, quotes and "
                               "backslashes", model);
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}


/* may be given more than once */

static char *
ngx_http_llm_tasks_webhook(ngx_conf_t *cf, ngx_http_llm_tasks_read_t *rd)
{
    llm_str_t   entry;
    ngx_str_t   s, *elt;

    s = rd->webhook;
    ngx_str_null(&rd->webhook);

    entry.data = s.data;
    entry.len = s.len;

    if (llm_url_allowed(&entry, NULL) == LLM_ERROR) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid parameter \"webhook=%V\": expected NAME, "
                           "*.NAME or either with :PORT, or http:// or "
                           "https:// with a name or with an address and a "
                           "port", &s);
        return NGX_CONF_ERROR;
    }

    if (rd->conf.webhooks == NULL) {
        rd->conf.webhooks = ngx_array_create(cf->pool, 4, sizeof(ngx_str_t));
        if (rd->conf.webhooks == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    elt = ngx_array_push(rd->conf.webhooks);
    if (elt == NULL) {
        return NGX_CONF_ERROR;
    }

    *elt = s;

    return NGX_CONF_OK;
}


static char *
ngx_http_llm_tasks_secret(ngx_conf_t *cf, ngx_http_llm_tasks_read_t *rd)
{
    ngx_str_t  *value, *secret;

    value = cf->args->elts;
    secret = &rd->conf.webhook_secret;

    if (rd->webhook_secret.len == 0) {
        return rd->conf.webhooks == NULL
               ? NGX_CONF_OK
               : "expects a webhook_secret= with webhook=";
    }

    if (ngx_http_llm_source_read(cf, &rd->webhook_secret,
                                 "webhook_secret of", &value[0], secret)
        != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    if (secret->len == 0) {
        return "expects a webhook_secret that is not empty";
    }

    if (secret->len < NGX_HTTP_LLM_TASKS_SHORT) {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                           "the webhook_secret is short: fewer than %d bytes",
                           NGX_HTTP_LLM_TASKS_SHORT);
    }

    return NGX_CONF_OK;
}


ngx_int_t
ngx_http_llm_tasks_init_conf(ngx_conf_t *cf, ngx_http_llm_main_conf_t *mcf)
{
    ngx_http_llm_tasks_conf_t  *tcf;
    ngx_http_llm_tasks_read_t  *rd;

    if (mcf->tasks == NULL) {
        mcf->tasks = ngx_http_llm_tasks_create_conf(cf);
        if (mcf->tasks == NULL) {
            return NGX_ERROR;
        }
    }

    tcf = mcf->tasks;
    rd = (ngx_http_llm_tasks_read_t *) tcf;

    ngx_conf_init_value(tcf->on, 0);

    if (!tcf->on) {
        return NGX_OK;
    }

    if (!ngx_http_llm_loopback_configured()) {
        return ngx_http_llm_tasks_needs(cf, rd, "", "llm_internal");
    }

    if (rd->encrypt == 1 && mcf->secret == NULL) {
        return ngx_http_llm_tasks_needs(cf, rd, " encrypt=on", "llm_secret");
    }

    if (tcf->webhooks && ngx_http_llm_outcall_check(cf) != NGX_OK) {
        return NGX_ERROR;
    }

    tcf->seal = rd->encrypt == 0 ? NULL : mcf->secret;

    return mcf->redis ? ngx_http_llm_tasks_redis(cf, mcf, tcf) : NGX_OK;
}


static ngx_int_t
ngx_http_llm_tasks_needs(ngx_conf_t *cf, ngx_http_llm_tasks_read_t *rd,
    const char *what, const char *need)
{
    ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                  "\"llm_tasks%s\" in %s:%ui needs \"%s\" in the http block",
                  what, rd->file, rd->line, need);

    return NGX_ERROR;
}


/* a client of its own: its commands are longer and may take longer */

static ngx_int_t
ngx_http_llm_tasks_redis(ngx_conf_t *cf, ngx_http_llm_main_conf_t *mcf,
    ngx_http_llm_tasks_conf_t *tcf)
{
    ngx_http_llm_redis_t  *redis;

    redis = ngx_http_llm_redis_create(cf, &mcf->redis_url);
    if (redis == NULL) {
        return NGX_ERROR;
    }

    ngx_http_llm_redis_options(redis)->timeout = NGX_HTTP_LLM_TASKS_TIMEOUT;

    tcf->redis = redis;

    tcf->queue = ngx_http_llm_redis_script(redis,
                                           &ngx_http_llm_tasks_queue_lua);
    tcf->files = ngx_http_llm_redis_script(redis,
                                           &ngx_http_llm_tasks_files_lua);
    tcf->batches = ngx_http_llm_redis_script(redis,
                                             &ngx_http_llm_tasks_batches_lua);

    return tcf->queue && tcf->files && tcf->batches ? NGX_OK : NGX_ERROR;
}
