
/*
 * Copyright (C) the ngx-llm authors
 *
 * Between ngx_http_llm_keys_{store,sync,journal}.c: how changes look in the
 * store.
 */


#ifndef _NGX_HTTP_LLM_KEYS_STORE_PRIVATE_H_INCLUDED_
#define _NGX_HTTP_LLM_KEYS_STORE_PRIVATE_H_INCLUDED_


#include "policy/ngx_http_llm_keys_private.h"
#include "policy/ngx_http_llm_keys_store.h"
#include "state/ngx_http_llm_redis.h"
#include "state/ngx_http_llm_zone.h"


/*
 * In Redis, all under one hash tag: the records by field, "k:NAME" or
 * "t:NAME"; fields by the version of their last change, those that are there
 * and those that are gone; keys whose streams were cut, by version; and "v",
 * the greatest version, "e", the first one, "floor", the last of a change
 * that is not remembered any more.
 *
 * A record is its version, a space, and the row as JSON.
 */

#define NGX_HTTP_LLM_KEYS_HASH   "{llm}:keys"
#define NGX_HTTP_LLM_KEYS_LOG    "{llm}:keys:log"
#define NGX_HTTP_LLM_KEYS_DEAD   "{llm}:keys:dead"
#define NGX_HTTP_LLM_KEYS_CUT    "{llm}:keys:cut"
#define NGX_HTTP_LLM_KEYS_META   "{llm}:keys:meta"

#define NGX_HTTP_LLM_KEYS_FIELD  96        /* bytes, "k:" and a name */


static ngx_inline ngx_http_llm_keys_seen_t *
ngx_http_llm_keys_seen(ngx_http_llm_main_conf_t *mcf)
{
    return &ngx_http_llm_keys_words(mcf->keys)->sync;
}


/* the record of a row, without a version: from the pool; NGX_ERROR */
ngx_int_t ngx_http_llm_keys_record(ngx_pool_t *pool, llm_policy_row_t *row,
    ngx_str_t *record);

/* "k:NAME"; "buf" has NGX_HTTP_LLM_KEYS_FIELD bytes; NGX_DECLINED: too long */
ngx_int_t ngx_http_llm_keys_field(llm_row_e kind, ngx_str_t *name,
    u_char *buf, ngx_str_t *field);

/* and back; NGX_DECLINED: it is none */
ngx_int_t ngx_http_llm_keys_field_parse(ngx_str_t *field, llm_row_e *kind,
    ngx_str_t *name);

/* a number in digits; 0: it is none */
uint64_t ngx_http_llm_keys_number(ngx_str_t *s);

/* a record into the shared memory; what cannot be read is logged */
ngx_int_t ngx_http_llm_keys_apply(ngx_http_llm_main_conf_t *mcf,
    ngx_str_t *field, uint64_t version, ngx_str_t *record);

/* it is gone since "version" */
void ngx_http_llm_keys_apply_gone(ngx_http_llm_main_conf_t *mcf,
    ngx_str_t *field, uint64_t version);

/*
 * The script that makes a change: keys hash, log, dead, cut, meta; arguments
 * field, version expected ("*": any), record (empty: it goes), 1 if streams
 * are cut, and for a row that Redis has lost the version that it had, else 0.
 * {version} or {}.
 */
extern ngx_str_t  ngx_http_llm_keys_lua;

ngx_http_llm_redis_op_t *ngx_http_llm_keys_eval(ngx_http_llm_redis_t *rd,
    ngx_str_t *field, uint64_t expect, ngx_str_t *record, ngx_uint_t cut,
    uint64_t known, ngx_http_llm_redis_handler_pt handler, void *data);


/* llm_state's journal; results as of ngx_http_llm_keys_store() */
ngx_int_t ngx_http_llm_keys_journal(ngx_http_llm_main_conf_t *mcf,
    ngx_http_llm_keys_change_t *change, ngx_str_t *field, ngx_str_t *record,
    uint64_t *version);
ngx_int_t ngx_http_llm_keys_journal_load(ngx_http_llm_main_conf_t *mcf,
    ngx_cycle_t *cycle);


#define NGX_HTTP_LLM_KEYS_PAGE   200       /* of Redis' */

/* one at a time, of this worker */

typedef struct {
    ngx_http_llm_main_conf_t   *mcf;
    ngx_pool_t                 *pool;         /* of one page's names */
    ngx_str_t                  *names;
    ngx_uint_t                  nnames;
    ngx_uint_t                  busy;
    ngx_uint_t                  round;        /* of this worker alone */
    ngx_uint_t                  all;          /* compares */
    ngx_uint_t                  lost;         /* Redis lost what it had … */
    ngx_uint_t                  gave;         /* … and gets it back */
    uint64_t                    version;      /* of this round */
    uint64_t                    epoch;
    uint64_t                    cut;
    uint64_t                    cursor;       /* after this one */
    uint64_t                    place;        /* of the walk here */
} ngx_http_llm_keys_sync_t;

extern ngx_http_llm_keys_sync_t  ngx_http_llm_keys_sync;


/* a timer's turn in one of the workers: follows Redis */
void ngx_http_llm_keys_follow(ngx_http_llm_main_conf_t *mcf);

/* a command of the round; NGX_DECLINED: not now, and the round is over */
ngx_int_t ngx_http_llm_keys_send(ngx_uint_t argc, ngx_str_t *argv,
    ngx_http_llm_redis_handler_pt handler);
void ngx_http_llm_keys_stop(void);

/* the round's stage is so far; of another round: nothing */
void ngx_http_llm_keys_stage(ngx_uint_t stage, uint64_t place);

/* room for the names of a page, one more of them, and their records */
ngx_int_t ngx_http_llm_keys_names(ngx_uint_t n);
ngx_int_t ngx_http_llm_keys_name(ngx_str_t *field);
ngx_int_t ngx_http_llm_keys_fetch(ngx_http_llm_redis_handler_pt handler);

/* a record as it lies in Redis: "version record" */
void ngx_http_llm_keys_take(ngx_str_t *field, ngx_str_t *value);

/* all of Redis, then all that is known here */
ngx_int_t ngx_http_llm_keys_scan(void);
ngx_int_t ngx_http_llm_keys_compare(void);

/* all rows are known: whose streams are to end? */
void ngx_http_llm_keys_last(void);


#endif /* _NGX_HTTP_LLM_KEYS_STORE_PRIVATE_H_INCLUDED_ */
