
/*
 * Copyright (C) the ngx-llm authors
 *
 * The ground that all floors share: configuration and the request's context.
 */


#ifndef _NGX_HTTP_LLM_H_INCLUDED_
#define _NGX_HTTP_LLM_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "core/llm_answer.h"
#include "core/llm_request.h"
#include "core/llm_policy.h"
#include "core/llm_ledger.h"
#include "core/llm_entry.h"
#include "core/llm_price.h"
#include "core/llm_quota.h"
#include "core/llm_span.h"
#include "core/llm_target.h"


#define NGX_HTTP_LLM_VERSION      "0.1.0"

#define NGX_HTTP_LLM_DIGEST_LEN   32
#define NGX_HTTP_LLM_ID_LEN       64        /* longest x-request-id kept */


typedef struct ngx_http_llm_ctx_s      ngx_http_llm_ctx_t;
typedef struct ngx_http_llm_zone_s     ngx_http_llm_zone_t;
typedef struct ngx_http_llm_redis_s    ngx_http_llm_redis_t;
typedef struct ngx_http_llm_redis_op_s ngx_http_llm_redis_op_t;
typedef struct ngx_http_llm_tenants_s  ngx_http_llm_tenants_t;
typedef struct ngx_http_llm_attempt_s  ngx_http_llm_attempt_t;
typedef struct ngx_http_llm_affinity_s ngx_http_llm_affinity_t;
typedef struct ngx_http_llm_flight_s   ngx_http_llm_flight_t;
typedef struct ngx_http_llm_area_s     ngx_http_llm_area_t;
typedef struct ngx_http_llm_heart_s    ngx_http_llm_heart_t;
typedef struct ngx_http_llm_hedge_s    ngx_http_llm_hedge_t;
typedef struct ngx_http_llm_inbox_s    ngx_http_llm_inbox_t;
typedef struct ngx_http_llm_prices_s   ngx_http_llm_prices_t;
typedef struct ngx_http_llm_state_s    ngx_http_llm_state_t;
typedef struct ngx_http_llm_secret_s   ngx_http_llm_secret_t;
typedef struct ngx_http_llm_quota_conf_s  ngx_http_llm_quota_conf_t;
typedef struct ngx_http_llm_trace_conf_s  ngx_http_llm_trace_conf_t;
typedef struct ngx_http_llm_tasks_conf_s  ngx_http_llm_tasks_conf_t;
typedef struct ngx_http_llm_spans_s       ngx_http_llm_spans_t;
typedef struct ngx_http_llm_span_call_s   ngx_http_llm_span_call_t;


typedef struct {
    ngx_str_t                   name;
    ngx_str_t                   uri;             /* "/llm/openai/" */
    ngx_str_t                   authorization;   /* "Bearer …" or empty */
    ngx_str_t                   key;             /* the same, bare */
    ngx_str_t                   args;            /* "api-version=…" */
    ngx_str_t                   uri_rest;        /* behind "{model}" in uri */
    ngx_uint_t                  drain;           /* on_leave=drain */
    ngx_uint_t                  adaptive;        /* calls at a time */
    ngx_uint_t                  pace;            /* by its headers */
    ngx_uint_t                  windowed;
    ngx_uint_t                  margin;          /* requests kept back */
    unsigned                    templated:1;     /* uri has a "{model}" */
    llm_limit_t                 limit;           /* its slots: "p:name" */
    ngx_uint_t                  no_usage;        /* knows no include_usage */
    ngx_uint_t                  slot;            /* of its counters */
    u_char                     *file;            /* where it was defined */
    ngx_uint_t                  line;
} ngx_http_llm_provider_t;


typedef struct {
    ngx_http_llm_provider_t    *provider;
    ngx_str_t                   model;           /* empty: as asked for */
    ngx_str_t                   name;            /* as configured */
    ngx_uint_t                  weight;          /* 1 unless given */
    uint64_t                    window;          /* tokens, 0: not told */
} ngx_http_llm_target_t;


#define NGX_HTTP_LLM_TARGETS  16                 /* of one route */


typedef enum {
    NGX_HTTP_LLM_CHOOSE_ORDER = 0,
    NGX_HTTP_LLM_CHOOSE_WEIGHT,
    NGX_HTTP_LLM_CHOOSE_LEAST,                   /* in flight, by weight */
    NGX_HTTP_LLM_CHOOSE_FASTEST                  /* to the first byte */
} ngx_http_llm_choose_e;


/* another pause than the usual one before an attempt after this status */

typedef struct {
    ngx_uint_t                  status;
    ngx_msec_t                  base;
} ngx_http_llm_retry_wait_t;


typedef struct {
    ngx_str_t                   pattern;
    ngx_uint_t                  literal;
    ngx_array_t                 targets;    /* of ngx_http_llm_target_t */
    time_t                      cache_ttl;       /* s, -1: none of its own */
    ngx_http_llm_choose_e       choose;
    ngx_uint_t                  native;     /* batches are the provider's */
} ngx_http_llm_route_t;


typedef struct {
    ngx_http_llm_zone_t        *zone;
    size_t                      cache_size;      /* of its zone, 0: none */
    size_t                      flight_size;
    size_t                      keys_size;
    size_t                      usage_size;
    ngx_http_llm_redis_t       *redis;           /* NULL: off */
    ngx_http_llm_redis_t       *redis_cache;     /* NULL: the same */
    ngx_str_t                   redis_url;       /* as given */
    ngx_str_t                   redis_cache_url;
    ngx_http_llm_secret_t      *secret;          /* NULL: none */
    ngx_http_llm_inbox_t       *inbox;           /* NULL: no fleet */
    ngx_http_llm_area_t        *store;           /* answers, NULL: none */
    ngx_http_llm_area_t        *flights;         /* NULL: nobody joins */
    ngx_http_llm_area_t        *targets;
    ngx_http_llm_area_t        *keys;            /* the policy */
    ngx_http_llm_area_t        *book;            /* accounts */
    ngx_http_llm_area_t        *responses;       /* where they are stored */
    ngx_http_llm_quota_conf_t  *quota;           /* NULL: no Redis */
    ngx_http_llm_tenants_t     *tenants;
    ngx_http_llm_prices_t      *prices;          /* NULL: all is free */
    ngx_http_llm_state_t       *state;           /* NULL: none */
    ngx_http_llm_trace_conf_t  *trace;           /* NULL: off */
    ngx_http_llm_tasks_conf_t  *tasks;
    ngx_array_t                 providers;  /* of ngx_http_llm_provider_t * */
    ngx_array_t                 routes;     /* of ngx_http_llm_route_t */
    ngx_uint_t                  gateways;        /* locations */
    unsigned                    redis_set:1;
    unsigned                    caches:1;        /* some location does */
} ngx_http_llm_main_conf_t;


typedef struct {
    ngx_uint_t                  gateway;
} ngx_http_llm_srv_conf_t;


typedef struct {
    ngx_flag_t                  gateway;

    ngx_flag_t                  cache;
    ngx_flag_t                  cache_zero;      /* temperature=zero */
    time_t                      cache_ttl;       /* s */
    size_t                      cache_max;
    size_t                      cache_memory;    /* largest kept there, too */
    time_t                      cache_stale_error;    /* s, 0: off */
    time_t                      cache_stale_renew;    /* … while asking */
    ngx_str_t                   cache_namespace;
    ngx_flag_t                  cache_encrypt;
    ngx_uint_t                  cache_bypass;    /* LLM_BYPASS_ bits */

    ngx_flag_t                  join;
    ngx_msec_t                  join_linger;     /* of a call without client */
    ngx_msec_t                  join_resume;     /* 0: off */
    size_t                      join_log;        /* bytes of a flight */
    ngx_uint_t                  join_followers;

    ngx_uint_t                  retry_tries;     /* per target */
    ngx_msec_t                  retry_base;
    ngx_msec_t                  retry_cap;
    ngx_msec_t                  retry_max_wait;
    ngx_uint_t                  retry_budget;    /* % of first attempts */
    ngx_uint_t                  retry_floor;     /* a second, at least */
    ngx_array_t                *retry_waits;     /* …_retry_wait_t, NULL */

    ngx_uint_t                  hedge_budget;    /* % of requests, 0: off */
    ngx_msec_t                  hedge_after;     /* at least */

    ngx_uint_t                  breaker_consecutive;
    ngx_uint_t                  breaker_ratio;   /* % */
    ngx_uint_t                  breaker_min;     /* ends of a window */
    ngx_msec_t                  breaker_window;
    ngx_msec_t                  breaker_eject;
    ngx_msec_t                  breaker_max;

    ngx_msec_t                  timeout_total;
    ngx_msec_t                  timeout_first_byte;
    ngx_msec_t                  timeout_between; /* events */
    ngx_msec_t                  timeout_drain;

    ngx_msec_t                  heartbeat;       /* 0: off */
    ngx_msec_t                  heartbeat_grace;

    u_char                     *admin;           /* SHA-256 of its secret */
} ngx_http_llm_loc_conf_t;


/* an error as the API words it */

typedef struct {
    ngx_uint_t                  status;
    const char                 *type;
    const char                 *code;            /* NULL: null */
    const char                 *param;           /* NULL: null */
    ngx_str_t                   message;         /* not escaped */
    ngx_int_t                   wait;            /* ms, -1: no retry-after */
    unsigned                    no_retry:1;      /* x-should-retry: false */
} ngx_http_llm_error_t;


/* a whole answer on its way to the client */

typedef struct {
    ngx_uint_t                  status;
    ngx_str_t                   content_type;
    ngx_str_t                   body;
    ngx_http_request_t         *from;            /* headers to pass on */
} ngx_http_llm_answer_t;


typedef enum {
    NGX_HTTP_LLM_CACHE_OFF = 0,
    NGX_HTTP_LLM_CACHE_BYPASS,
    NGX_HTTP_LLM_CACHE_MISS,
    NGX_HTTP_LLM_CACHE_HIT,
    NGX_HTTP_LLM_CACHE_RELOAD,                   /* the client's no-cache */
    NGX_HTTP_LLM_CACHE_STALE,
    NGX_HTTP_LLM_CACHE_JOINED                    /* another's call */
} ngx_http_llm_cache_e;


/*
 * What is counted of an attempt until it ends: at its target and, if that
 * names no model, at the model that was asked for.
 */

typedef struct {
    uint32_t                    place;           /* in shared memory */
    uint32_t                    model_place;
    llm_target_call_t           target;
    llm_target_call_t           model;
    int64_t                     late;            /* ms, -1: not known */
    unsigned                    counted:1;       /* it runs */
} ngx_http_llm_call_t;


struct ngx_http_llm_ctx_s {
    ngx_http_llm_main_conf_t   *mcf;
    ngx_http_llm_loc_conf_t    *conf;

    void                       *table;           /* of stages: the line's */
    ngx_uint_t                  stage;
    ngx_int_t                   rc;              /* to finalize with */

    /* a service that ends a wait calls wake(); it only posts the line */
    void                      (*wake)(ngx_http_llm_ctx_t *ctx);
    ngx_event_t                 event;
    ngx_event_t                 timer;           /* of the present wait */

    ngx_str_t                   id;              /* x-request-id */
    ngx_msec_t                  start;
    ngx_msec_t                  deadline;
    ngx_msec_t                  queued;          /* ms in line */
    ngx_msec_t                  look_since;      /* for a stored answer … */
    ngx_msec_t                  look_ms;         /* … when looked is set */
    ngx_msec_t                  ask_since;       /* the first attempt … */
    ngx_msec_t                  ask_ms;          /* … to the last one's end */
    ngx_msec_t                  ttft;            /* ms, if headed is set */

    ngx_uint_t                  api;             /* with what is no call */
    llm_trace_t                 trace;
    ngx_http_llm_spans_t       *spans;           /* NULL: not sampled */

    llm_request_t               rq;
    llm_arena_t                 arena;
    ngx_str_t                   body;            /* contiguous */
    ngx_str_t                   model;           /* as asked for */

    /* identify */
    const llm_key_t            *key;
    ngx_queue_t                 running;         /* this worker's requests */

    /* limits */
    llm_limits_t                limits;
    llm_reading_t               reading;
    ngx_queue_t                 line;            /* this worker's waiters */
    ngx_msec_t                  line_since;
    ngx_msec_t                  patience;        /* ms */
    ngx_msec_t                  park_until;
    llm_amount_t                need;            /* reserved */
    int64_t                     estimate_prompt;      /* tokens, each */
    int64_t                     estimate_completion;  /* … as charged */
    int64_t                     clamp;           /* of the caps, -1: none */
    llm_price_t                 price;           /* of the first target */
    uint64_t                    model_hash;      /* for estimates … */
    ngx_uint_t                  model_of;        /* … of target + 1 */
    llm_usage_t                 usage;           /* what was charged */
    int64_t                     cost;            /* micro-dollars */

    /* a provider's slots */
    llm_ticket_t                gate;
    llm_limits_t                gate_limits;

    /* cache */
    ngx_http_llm_cache_e        cache;
    ngx_http_llm_redis_op_t    *op;
    llm_entry_t                 entry;           /* found, or followed */
    time_t                      max_age;         /* client's, -1: none */
    u_char                      digest[NGX_HTTP_LLM_DIGEST_LEN];
    ngx_uint_t                  joins;           /* times it tried to join */
    ngx_msec_t                  drain_until;     /* of a client that left */
    int64_t                     saved_tokens;
    int64_t                     saved_cost;      /* micro-dollars */

    /* upstream */
    ngx_http_llm_route_t       *route;
    ngx_http_llm_affinity_t    *affinity;        /* of a stored response */
    ngx_str_t                   path;            /* its, behind a prefix */
    ngx_http_llm_heart_t       *heart;           /* NULL: no heartbeats */
    ngx_msec_t                  bears;           /* silence, 0: not told */
    ngx_uint_t                  attempts;
    ngx_uint_t                  target;
    ngx_uint_t                  tries;           /* of this target */
    uint32_t                    barred;          /* targets, as bits */
    uint32_t                    visited;         /* … that have been asked */
    ngx_http_llm_call_t         call;            /* the present attempt */
    u_char                      order[NGX_HTTP_LLM_TARGETS];
    ngx_msec_t                  choose_wait;
    ngx_msec_t                  pause_until;

    /* a second attempt beside the present one */
    ngx_http_llm_hedge_t       *hedge;           /* NULL: there was none */
    ngx_msec_t                  hedge_at;        /* … when, 0: not planned */
    ngx_http_request_t         *beside;          /* its subrequest */
    ngx_uint_t                  beside_target;

    ngx_http_llm_error_t        error;
    ngx_http_llm_answer_t       answer;

    /* what each event of a stream looks at, side by side with the flags */

    ngx_http_request_t         *request;         /* main */
    ngx_http_llm_attempt_t     *attempt;
    size_t                      charge_at;       /* bytes of text */
    llm_ticket_t                ticket;
    void                       *pauses;          /* between events, NULL */
    ngx_http_llm_flight_t      *flight;          /* led or followed, NULL */
    ngx_msec_t                  last_out;        /* bytes for the client */
    llm_endpoint_e              endpoint;

    unsigned                    looking:1;
    unsigned                    looked:1;
    unsigned                    headed:1;        /* first bytes: committed */
    unsigned                    body_wait:1;
    unsigned                    body_read:1;
    unsigned                    taken:1;         /* a request, from buckets */
    unsigned                    waiting:1;       /* for the ledger */
    unsigned                    lined:1;         /* … and to be resumed */
    unsigned                    asking:1;        /* … not in line */
    unsigned                    refused:1;       /* when its turn came */
    unsigned                    parked:1;
    unsigned                    inject_usage:1;  /* the client did not ask */
    unsigned                    charged:1;       /* usage and cost are set */
    unsigned                    hurried:1;       /* the client asked for less
                                                    time than is configured */
    unsigned                    background:1;    /* of a task: leaves room to
                                                    whom people wait for */
    unsigned                    unpriced:1;      /* no price for its model */
    unsigned                    pausing:1;
    unsigned                    ordered:1;       /* "order" is there */
    unsigned                    begun:1;         /* our header is out, for
                                                    heartbeats */
    unsigned                    quiet:1;         /* … may not come now */
    unsigned                    chosen:1;        /* target, for an attempt */
    unsigned                    stick:1;         /* the same one, if well */
    unsigned                    forced:1;        /* none is well */
    unsigned                    hedged:1;        /* two attempts run */
    unsigned                    stored:1;        /* about such a response */
    unsigned                    native:1;        /* about a provider's batch
                                                    or file: any bytes */
    unsigned                    no_store:1;
    unsigned                    answered:1;      /* answer is there */
    unsigned                    committed:1;     /* header is on its way */
    unsigned                    failed:1;        /* error is set */
    unsigned                    keyed:1;         /* digest is set */
    unsigned                    fetched:1;       /* Redis was asked */
    unsigned                    stale:1;         /* entry: if all else fails */
    unsigned                    renew:1;         /* … or while it is renewed */
    unsigned                    locking:1;       /* … asked for the lock */
    unsigned                    denied:1;        /* … another renews it */
    unsigned                    alone:1;         /* follows nobody any more */
    unsigned                    served:1;        /* stale, and goes on */
    unsigned                    detached:1;      /* goes on without a client */
    unsigned                    gone:1;          /* the client has left */
    unsigned                    listed:1;        /* … it is among them */
    unsigned                    revoked:1;       /* its key, with all of it */
    unsigned                    settled:1;
};


extern ngx_module_t  ngx_http_llm_module;


#endif /* _NGX_HTTP_LLM_H_INCLUDED_ */
