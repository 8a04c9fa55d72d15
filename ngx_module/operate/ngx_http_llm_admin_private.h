
/*
 * Copyright (C) the ngx-llm authors
 *
 * Between ngx_http_llm_admin*.c: a request to the admin API, what it brings
 * and how it is answered.
 */


#ifndef _NGX_HTTP_LLM_ADMIN_PRIVATE_H_INCLUDED_
#define _NGX_HTTP_LLM_ADMIN_PRIVATE_H_INCLUDED_


#include "http/ngx_http_llm.h"

#include "core/llm_book.h"

#include <jansson.h>


#define NGX_HTTP_LLM_ADMIN_ARGS   12
#define NGX_HTTP_LLM_ADMIN_LIMIT  100        /* rows, when not asked for */
#define NGX_HTTP_LLM_ADMIN_MOST   1000


typedef struct ngx_http_llm_admin_s  ngx_http_llm_admin_t;


/*
 * Returns what goes to ngx_http_finalize_request(), of a function below; or
 * ngx_http_llm_admin_wait(), and calls ngx_http_llm_admin_done() later.
 */
typedef ngx_int_t (*ngx_http_llm_admin_handler_pt)(ngx_http_llm_admin_t *ad);


typedef struct {
    ngx_uint_t                  method;
    const char                 *path;            /* "/keys/{name}/rotate" */
    const char                 *what;            /* a change, for the log */
    const char                 *args;            /* of the query: "a b c" */
    ngx_uint_t                  body;            /* a JSON object; 2: or
                                                    nothing */
    ngx_http_llm_admin_handler_pt  handler;
} ngx_http_llm_admin_api_t;


/* in the request's pool */

struct ngx_http_llm_admin_s {
    ngx_http_request_t         *request;
    ngx_http_llm_main_conf_t   *mcf;
    ngx_http_llm_admin_api_t   *api;
    ngx_str_t                   name;            /* "{name}", decoded */
    json_t                     *json;            /* the body; lent */
    ngx_keyval_t                arg[NGX_HTTP_LLM_ADMIN_ARGS];
    ngx_uint_t                  nargs;
    ngx_uint_t                  status;          /* of the answer, 200 */
    ngx_int_t                   rc;              /* the handler's own … */
    void                       *data;            /* … too */
};


/* "%2F" and, in a query, "+" */
ngx_int_t ngx_http_llm_admin_decode(ngx_pool_t *pool, ngx_str_t *raw,
    ngx_uint_t plus, ngx_str_t *text);

/* NGX_DECLINED: it holds only what the row knows; else it is answered */
ngx_int_t ngx_http_llm_admin_query(ngx_http_llm_admin_t *ad);

/* the query: NGX_OK and the value, decoded, or NGX_DECLINED */
ngx_int_t ngx_http_llm_admin_arg(ngx_http_llm_admin_t *ad, const char *name,
    ngx_str_t *value);

/* its "limit", "other" without one; NGX_ERROR: what wrong() answers */
ngx_int_t ngx_http_llm_admin_limit(ngx_http_llm_admin_t *ad, ngx_int_t other,
    ngx_int_t *limit);
ngx_int_t ngx_http_llm_admin_limit_wrong(ngx_http_llm_admin_t *ad);

/* "2026-11-21T20:00:00Z", or seconds since the epoch; -1: it is neither */
time_t ngx_http_llm_admin_time(ngx_str_t *text);
time_t ngx_http_llm_admin_time_json(json_t *value);

/* new references, NULL: no memory; null for a time of 0 or less */
json_t *ngx_http_llm_admin_json_time(time_t time);
json_t *ngx_http_llm_admin_json_text(u_char *data, size_t len);
json_t *ngx_http_llm_admin_json_usd(int64_t micro);
json_t *ngx_http_llm_admin_json_sums(const llm_book_sums_t *s);


/* an answer; takes the reference over, NULL: there was no memory */
ngx_int_t ngx_http_llm_admin_answer(ngx_http_llm_admin_t *ad,
    ngx_uint_t status, json_t *json);

/* {"object": "list", …}; "next": where the next page begins, NULL: none */
ngx_int_t ngx_http_llm_admin_list(ngx_http_llm_admin_t *ad, json_t *data,
    ngx_str_t *next);

/* an error, worded as ngx_sprintf() does; "param" may be NULL */
ngx_int_t ngx_http_llm_admin_error(ngx_http_llm_admin_t *ad,
    ngx_uint_t status, const char *code, const char *param,
    const char *fmt, ...);

/* so many bytes of an unknown word are shown: no half characters */
size_t ngx_http_llm_admin_short(const char *text, size_t max);

/* the handler has to wait; done() may not be called before it has returned */
ngx_int_t ngx_http_llm_admin_wait(ngx_http_llm_admin_t *ad);
void ngx_http_llm_admin_done(ngx_http_llm_admin_t *ad, ngx_int_t rc);

/* is it a name that may be given here, and shown anywhere? */
ngx_uint_t ngx_http_llm_admin_name(ngx_str_t *name);

/*
 * A change was made: a line in the error log.  What is refused has one of
 * ngx_http_llm_admin_error().
 */
void ngx_http_llm_admin_audit(ngx_http_llm_admin_t *ad, ngx_str_t *name);


/* the handlers */

ngx_int_t ngx_http_llm_admin_purge(ngx_http_llm_admin_t *ad);

ngx_int_t ngx_http_llm_admin_keys(ngx_http_llm_admin_t *ad);
ngx_int_t ngx_http_llm_admin_key_create(ngx_http_llm_admin_t *ad);
ngx_int_t ngx_http_llm_admin_key(ngx_http_llm_admin_t *ad);
ngx_int_t ngx_http_llm_admin_key_change(ngx_http_llm_admin_t *ad);
ngx_int_t ngx_http_llm_admin_key_delete(ngx_http_llm_admin_t *ad);
ngx_int_t ngx_http_llm_admin_key_rotate(ngx_http_llm_admin_t *ad);
ngx_int_t ngx_http_llm_admin_key_raise(ngx_http_llm_admin_t *ad);
ngx_int_t ngx_http_llm_admin_key_lower(ngx_http_llm_admin_t *ad);

ngx_int_t ngx_http_llm_admin_teams(ngx_http_llm_admin_t *ad);
ngx_int_t ngx_http_llm_admin_team(ngx_http_llm_admin_t *ad);
ngx_int_t ngx_http_llm_admin_team_put(ngx_http_llm_admin_t *ad);
ngx_int_t ngx_http_llm_admin_team_delete(ngx_http_llm_admin_t *ad);

ngx_int_t ngx_http_llm_admin_usage(ngx_http_llm_admin_t *ad);
ngx_int_t ngx_http_llm_admin_latency(ngx_http_llm_admin_t *ad);

ngx_int_t ngx_http_llm_admin_status(ngx_http_llm_admin_t *ad);
ngx_int_t ngx_http_llm_admin_slots(ngx_http_llm_admin_t *ad);
ngx_int_t ngx_http_llm_admin_breakers(ngx_http_llm_admin_t *ad);
ngx_int_t ngx_http_llm_admin_breakers_reset(ngx_http_llm_admin_t *ad);

ngx_int_t ngx_http_llm_admin_tasks(ngx_http_llm_admin_t *ad);
ngx_int_t ngx_http_llm_admin_tasks_dead(ngx_http_llm_admin_t *ad);
ngx_int_t ngx_http_llm_admin_tasks_purge(ngx_http_llm_admin_t *ad);
ngx_int_t ngx_http_llm_admin_task_cancel(ngx_http_llm_admin_t *ad);


#endif /* _NGX_HTTP_LLM_ADMIN_PRIVATE_H_INCLUDED_ */
