
/*
 * Copyright (C) the ngx-llm authors
 *
 * What the files of the Redis client share, for them alone: a server with
 * its connection and the commands on it.
 */


#ifndef _NGX_HTTP_LLM_REDIS_CONNECTION_H_INCLUDED_
#define _NGX_HTTP_LLM_REDIS_CONNECTION_H_INCLUDED_


#include "state/ngx_http_llm_redis.h"
#include "state/ngx_http_llm_redis_event.h"
#include "state/ngx_http_llm_redis_url.h"


#define NGX_HTTP_LLM_REDIS_SHA1  40

/* the longest "*1\r\n" and "$1\r\n" */
#define NGX_HTTP_LLM_REDIS_HEADER  (NGX_INT_T_LEN + 3)


/* lines of the log in a minute; what is no fault has but a part of them */
#define NGX_HTTP_LLM_REDIS_FAULTS  10

/* times a command follows its slot to another node */
#define NGX_HTTP_LLM_REDIS_MOVES  2


typedef enum {
    NGX_HTTP_LLM_REDIS_CLOSED = 0,
    NGX_HTTP_LLM_REDIS_OPENING,             /* until the server lets us in */
    NGX_HTTP_LLM_REDIS_UP,
    NGX_HTTP_LLM_REDIS_PAUSED,              /* connected to one not ready */
    NGX_HTTP_LLM_REDIS_LEAVING              /* for another server */
} ngx_http_llm_redis_state_e;


/* what a connection is to */

typedef enum {
    NGX_HTTP_LLM_REDIS_TO_HOST = 0,         /* of the configuration */
    NGX_HTTP_LLM_REDIS_TO_NODE,             /* that a server has named */
    NGX_HTTP_LLM_REDIS_TO_SENTINEL
} ngx_http_llm_redis_target_e;


/* what an error does to the connection, besides going to the caller */

typedef enum {
    NGX_HTTP_LLM_REDIS_TELL = 0,            /* nothing else */
    NGX_HTTP_LLM_REDIS_RESEND,              /* EVALSHA as EVAL, untold */
    NGX_HTTP_LLM_REDIS_FOLLOW,              /* to another node, untold */
    NGX_HTTP_LLM_REDIS_PAUSE,               /* a while without commands */
    NGX_HTTP_LLM_REDIS_LEAVE,               /* connects anew */
    NGX_HTTP_LLM_REDIS_DENY                 /* waits for the operator */
} ngx_http_llm_redis_action_e;


/* why a server is not up, in the order of what the log has to say */

typedef enum {
    NGX_HTTP_LLM_REDIS_FINE = 0,
    NGX_HTTP_LLM_REDIS_DOWN,
    NGX_HTTP_LLM_REDIS_DENIED               /* needs the operator */
} ngx_http_llm_redis_fault_e;


struct ngx_http_llm_redis_op_s {
    ngx_queue_t                     queue;  /* as sent, or free */
    ngx_http_llm_redis_t           *redis;
    ngx_http_llm_redis_handler_pt   handler;
    void                           *data;
    ngx_msec_t                      deadline;

    /* the command, to send it again; the buffer stays with a free op */
    u_char                         *buffer;
    size_t                          size;
    size_t                          len;    /* 0: not kept */

    /* EVALSHA: what follows the script */
    ngx_http_llm_redis_script_t    *script;
    ngx_uint_t                      argc;   /* 0: another command */
    ngx_str_t                       args;

    unsigned                        expired:1;
    unsigned                        offer:1;    /* may be forbidden */
    unsigned                        moves:2;
};


struct ngx_http_llm_redis_script_s {
    ngx_str_t                       text;
    ngx_str_t                       head;   /* "EVALSHA" and its SHA-1 */
    u_char                          data[NGX_HTTP_LLM_REDIS_SHA1 + 32];
};


struct ngx_http_llm_redis_s {
    ngx_http_llm_redis_options_t    options;
    ngx_http_llm_redis_stat_t       stat;
    ngx_http_llm_redis_url_t        url;
    ngx_array_t                     scripts;    /* of pointers */
    ngx_log_t                      *log;

    ngx_http_llm_redis_event_t      event;
    ngx_http_llm_redis_state_e      state;
    ngx_http_llm_redis_fault_e      fault;
    ngx_uint_t                      logged;     /* classes of errors */
    char                            reason[128];  /* not logged as yet */

    ngx_event_t                     connect;    /* begin, give up, trust */
    ngx_msec_t                      backoff;
    ngx_msec_t                      probe;      /* when PING was sent */

    ngx_http_llm_redis_target_e     target;
    ngx_http_llm_redis_addr_t       current;    /* connected to */
    ngx_uint_t                      host;
    ngx_uint_t                      addr;
    ngx_uint_t                      tried;      /* addresses, in a row */

    /* the master by a Sentinel, or the node of the cluster */
    ngx_http_llm_redis_host_t       node;
    u_char                          text[256];  /* its name */
    ngx_int_t                       slot;       /* of the scripts' keys */
    ngx_msec_t                      moved;      /* when, lately, and */
    ngx_uint_t                      moves;      /* how often */
    ngx_queue_t                     held;       /* to be sent there */

    void                           *http;       /* with the resolver */
    ngx_resolver_t                 *resolver;
    ngx_msec_t                      resolver_timeout;
    ngx_event_t                     refresh;
    ngx_msec_t                      refreshed;

    ngx_http_llm_redis_shared_t    *shared;
    ngx_http_llm_redis_shared_t     own;        /* without share() */

    ngx_event_t                     deadline;
    ngx_queue_t                     pending;
    ngx_queue_t                     free;
    ngx_uint_t                      nfree;
    ngx_uint_t                      npending;   /* with those held */
    ngx_uint_t                      live;       /* not expired */
    ngx_uint_t                      late;       /* expired, in a row */

    u_char                         *buffer;
    size_t                          size;

    unsigned                        before:1;   /* was up before */
    unsigned                        named:1;    /* "node" is known */
    unsigned                        probing:1;  /* one that was granted */
};


/* connection: its timer, and what its event calls at the end */

void ngx_http_llm_redis_connect(ngx_event_t *ev);
void ngx_http_llm_redis_closed(void *data, char *why);

/* the server has let us in and answers */

void ngx_http_llm_redis_up(ngx_http_llm_redis_t *rd);

/* closes, for the reason that the log may get, and begins to try again */

void ngx_http_llm_redis_down(ngx_http_llm_redis_t *rd,
    ngx_http_llm_redis_fault_e fault, const char *what, const char *why);

/* the same for another target, at once and without a fault */

void ngx_http_llm_redis_again(ngx_http_llm_redis_t *rd);

/* no commands for a while, the connection stays */

void ngx_http_llm_redis_pause(ngx_http_llm_redis_t *rd, const char *why);

/* connects anew when what is pending has its answers */

void ngx_http_llm_redis_leave(ngx_http_llm_redis_t *rd);
void ngx_http_llm_redis_left(ngx_http_llm_redis_t *rd);


/* greet: what is said on a new connection, until it is up */

void ngx_http_llm_redis_opened(void *data);

/* a command of the client's own; "name" goes to fn */

void ngx_http_llm_redis_say(ngx_http_llm_redis_t *rd, redisCallbackFn *fn,
    const char *name, ngx_uint_t argc, ngx_str_t *argv);

void ngx_http_llm_redis_ping(ngx_http_llm_redis_t *rd);


/* names: periodic and after a failure; the node's */

void ngx_http_llm_redis_names_init(ngx_http_llm_redis_t *rd);
void ngx_http_llm_redis_names_exit(ngx_http_llm_redis_t *rd);
void ngx_http_llm_redis_names_refresh(ngx_http_llm_redis_t *rd);

/*
 * The node's name and port as a server said them, copied.  NGX_OK: it has an
 * address; NGX_AGAIN: it is being resolved, the connect timer is set after
 * that; NGX_ERROR: it cannot be, which is logged.
 */

ngx_int_t ngx_http_llm_redis_names_node(ngx_http_llm_redis_t *rd,
    ngx_str_t *name, ngx_str_t *port);


/* Sentinel: asks the one that is connected; and the check of its answer */

void ngx_http_llm_redis_sentinel(ngx_http_llm_redis_t *rd);
ngx_uint_t ngx_http_llm_redis_is_master(ngx_http_llm_redis_reply_t *role);


/* cluster: NGX_OK: the command goes to the node that the error names */

ngx_int_t ngx_http_llm_redis_follow(ngx_http_llm_redis_op_t *op,
    ngx_http_llm_redis_reply_t *reply);
void ngx_http_llm_redis_held_send(ngx_http_llm_redis_t *rd);
void ngx_http_llm_redis_held_gone(ngx_http_llm_redis_t *rd);


/*
 * Breaker: closed for good by a good PING; the log's share.  A client beside
 * another one neither opens nor closes it.
 */

void ngx_http_llm_redis_breaker_open(ngx_http_llm_redis_t *rd);
void ngx_http_llm_redis_breaker_close(ngx_http_llm_redis_t *rd);

/* 1: this worker may try now */
ngx_uint_t ngx_http_llm_redis_breaker_probe(ngx_http_llm_redis_t *rd);

/* the fault that the log knows of */
ngx_atomic_t *ngx_http_llm_redis_known(ngx_http_llm_redis_t *rd);

/* 1: a line of the log is left in this minute */
ngx_uint_t ngx_http_llm_redis_may_log(ngx_http_llm_redis_t *rd,
    ngx_uint_t max);


/* deadline: the timer, and that it is due in time for a command */

void ngx_http_llm_redis_deadline(ngx_event_t *ev);
void ngx_http_llm_redis_arm(ngx_http_llm_redis_t *rd, ngx_msec_t at);

/* whether pending commands keep a worker that quits */
void ngx_http_llm_redis_keep(ngx_http_llm_redis_t *rd);


/* command: ends one with what is in the view */

void ngx_http_llm_redis_done(ngx_http_llm_redis_op_t *op,
    ngx_http_llm_redis_reply_t *view);
void ngx_http_llm_redis_reply(redisAsyncContext *ac, void *reply, void *data);


/* format: the protocol's form of numbers and arguments */

u_char *ngx_http_llm_redis_buffer(ngx_http_llm_redis_t *rd, size_t size);
size_t ngx_http_llm_redis_args_size(ngx_uint_t argc, ngx_str_t *argv);
u_char *ngx_http_llm_redis_args(u_char *p, ngx_uint_t argc, ngx_str_t *argv);
u_char *ngx_http_llm_redis_count(u_char *p, u_char type, size_t n);


/* reply */

void ngx_http_llm_redis_view(ngx_http_llm_redis_reply_t *reply,
    redisReply *r);

/* counts an error and says what it does; logs it */

ngx_http_llm_redis_action_e ngx_http_llm_redis_error(ngx_http_llm_redis_t *rd,
    ngx_http_llm_redis_reply_t *reply);
void ngx_http_llm_redis_complain(ngx_http_llm_redis_t *rd,
    ngx_http_llm_redis_reply_t *reply);


#endif /* _NGX_HTTP_LLM_REDIS_CONNECTION_H_INCLUDED_ */
