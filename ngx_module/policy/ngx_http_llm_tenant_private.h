
/*
 * Copyright (C) the ngx-llm authors
 *
 * Between the files that follow the tenants file.
 */


#ifndef _NGX_HTTP_LLM_TENANT_PRIVATE_H_INCLUDED_
#define _NGX_HTTP_LLM_TENANT_PRIVATE_H_INCLUDED_


#include "policy/ngx_http_llm_keys_private.h"
#include "policy/ngx_http_llm_tenant.h"

#include "core/llm_policy_file.h"


#define NGX_HTTP_LLM_TENANTS_POLL   250          /* ms */
#define NGX_HTTP_LLM_TENANTS_LEASE  1500         /* ms of a leader's silence */
#define NGX_HTTP_LLM_TENANTS_ERROR  512


typedef enum {
    NGX_HTTP_LLM_TENANTS_IDLE = 0,
    NGX_HTTP_LLM_TENANTS_READ,                   /* the file, to memory */
    NGX_HTTP_LLM_TENANTS_BEGIN,                  /* a generation */
    NGX_HTTP_LLM_TENANTS_PARSE,
    NGX_HTTP_LLM_TENANTS_SWEEP,
    NGX_HTTP_LLM_TENANTS_FREE                    /* the file's text */
} ngx_http_llm_tenants_state_e;


struct ngx_http_llm_tenants_s {
    ngx_http_llm_file_t         file;
    ngx_http_llm_main_conf_t   *mcf;
    ngx_uint_t                  epoch;           /* of this configuration */
    uint64_t                    version;         /* seen last */
    void                      (*changed)(ngx_http_llm_main_conf_t *mcf);

    /* read at configuration time, until it is in force */

    void                       *mem;
    llm_keyring_t              *heap;

    ngx_event_t                 poll;
    ngx_event_t                 work;
    ngx_connection_t            dummy;

    /* what is being done, by who leads */

    ngx_http_llm_tenants_state_e  state;
    ngx_http_llm_file_stat_t    stat;            /* before it was read */
    ngx_fd_t                    fd;
    char                       *text;
    size_t                      size;
    size_t                      len;
    unsigned char              *scratch;
    llm_policy_file_t          *reader;
    llm_policy_sink_t           sink;
    uint64_t                    ticket;
    int                         declined;        /* why, by the keyring */
    ngx_uint_t                  rows;
};


/* ngx_http_llm_tenant_load.c */

/* begins to load the file that has changed; the rest comes in slices */
void ngx_http_llm_tenants_load(ngx_http_llm_tenants_t *tn);

/* the same without a file, to free what an older one has left */
void ngx_http_llm_tenants_sweep(ngx_http_llm_tenants_t *tn);

/* a slice: the handler of tn->work */
void ngx_http_llm_tenants_work(ngx_event_t *ev);

/* in one go into a keyring of nobody else; NGX_DECLINED: it is too small */
ngx_int_t ngx_http_llm_tenants_parse(llm_keyring_t *kr, char *text,
    size_t size, char *err, size_t errlen, ngx_log_t *log);


/* ngx_http_llm_tenant.c */

/* is this worker (still) the one that follows the file? */
ngx_uint_t ngx_http_llm_tenants_lead(ngx_http_llm_tenants_t *tn);


#endif /* _NGX_HTTP_LLM_TENANT_PRIVATE_H_INCLUDED_ */
