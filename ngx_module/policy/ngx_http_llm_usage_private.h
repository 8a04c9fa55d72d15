
/*
 * Copyright (C) the ngx-llm authors
 *
 * Between the files of the accounts.  In Redis each gateway has hashes of its
 * own, with its own sums, absolute: what is written twice is written once.
 *
 *     {llm}:u:d:1795219200                   set: EPOCH:SHARD of who wrote
 *     {llm}:u:EPOCH:d:1795219200:SHARD       hash: NUMBER;NAMES -> SUMS
 *
 * The epoch is that of a gateway's memory, the time that of the period's
 * start.  A row stays in its shard, so hashes are small and are read whole.
 */


#ifndef _NGX_HTTP_LLM_USAGE_PRIVATE_H_INCLUDED_
#define _NGX_HTTP_LLM_USAGE_PRIVATE_H_INCLUDED_


#include "policy/ngx_http_llm_usage.h"
#include "state/ngx_http_llm_book.h"
#include "state/ngx_http_llm_redis.h"


#define NGX_HTTP_LLM_USAGE_SHARD  256          /* rows of one hash */
#define NGX_HTTP_LLM_USAGE_KEY    96           /* bytes of a key's name */
#define NGX_HTTP_LLM_USAGE_EPOCH  16           /* hexadecimal digits */


/* "h", "d", "m" */
extern const u_char  ngx_http_llm_usage_letter[LLM_BOOK_KINDS];

/* the set of a period; the hash of a shard; the memory is the caller's */
void ngx_http_llm_usage_index_key(llm_book_kind_e kind, int64_t start,
    ngx_str_t *key, u_char *p);
void ngx_http_llm_usage_hash_key(llm_book_kind_e kind, int64_t start,
    ngx_str_t *member, ngx_str_t *key, u_char *p);

/* writes what has changed, once a second by one worker */
ngx_int_t ngx_http_llm_usage_write_init_process(
    ngx_http_llm_main_conf_t *mcf, ngx_cycle_t *cycle);
void ngx_http_llm_usage_write_exit_process(ngx_http_llm_main_conf_t *mcf);


/* a query; its memory is its own pool and lives until no command is out */

struct ngx_http_llm_usage_query_s {
    ngx_pool_t                     *pool;
    ngx_http_llm_main_conf_t       *mcf;
    llm_book_query_t                query;
    llm_arena_t                     arena;
    llm_book_result_t              *rs;
    ngx_http_llm_usage_handler_pt   handler;
    void                           *data;
    ngx_pool_cleanup_t             *cleanup;
    ngx_event_t                     event;

    uint64_t                        cursor;
    uint32_t                        after;       /* own rows: newer ones */
    ngx_int_t                       rc;

    uint32_t                        period;      /* the next to ask for */
    uint32_t                        last;
    ngx_queue_t                     shards;      /* to be read */
    ngx_uint_t                      busy;        /* commands */

    unsigned                        fleet:1;     /* Redis is asked, too */
    unsigned                        asking:1;    /* … now */
    unsigned                        failed:1;
    unsigned                        cancelled:1;
};

/* the next commands of a query that is at Redis' */
void ngx_http_llm_usage_ask(ngx_http_llm_usage_query_t *q);

/* Redis has told all, or has failed */
void ngx_http_llm_usage_told(ngx_http_llm_usage_query_t *q);


#endif /* _NGX_HTTP_LLM_USAGE_PRIVATE_H_INCLUDED_ */
