
/*
 * Copyright (C) the ngx-llm authors
 *
 * The mock provider: what its parts share.
 *
 *     mock.c          options, connections
 *     mock_listen.c   listening sockets, open and shut
 *     mock_tls.c      TLS
 *     mock_script.c   rules and x-mock-* headers: what shall happen
 *     mock_limit.c    a provider's limits and the headers that tell them
 *     mock_request.c  what is asked, and which answer that gets
 *     mock_body.c     text and JSON bodies
 *     mock_other.c    embeddings, models
 *     mock_stored.c   stored responses
 *     mock_batch.c    files, and batches of their lines
 *     mock_event.c    the events of a stream
 *     mock_send.c     head, framing, pace, cuts
 *     mock_fast.c     precomputed answers
 *     mock_journal.c  what happened
 *     mock_usage.c    what a provider would ask money for
 *     mock_control.c  the endpoints below /__mock/
 */


#ifndef _MOCK_H_INCLUDED_
#define _MOCK_H_INCLUDED_


#include "../tools/lib_buf.h"
#include "../tools/lib_http.h"
#include "../tools/lib_json.h"
#include "../tools/lib_loop.h"

#include <sys/types.h>


#define MOCK_BODY_MAX  ((int64_t) 64 << 20)

/* values of action members that are words */
enum { FRAMING_LENGTH, FRAMING_CHUNKED, FRAMING_CLOSE };
enum { USAGE_AUTO, USAGE_NONE, USAGE_ALWAYS, USAGE_LAST, USAGE_EVERY };
enum { CUT_CLOSE, CUT_RST, CUT_HANG, CUT_CLEAN };
enum { EOL_LF, EOL_CRLF, EOL_CR };
enum { BATCH_COMPLETED, BATCH_FAILED, BATCH_EXPIRED };
enum { LIMIT_OPENAI, LIMIT_AZURE, LIMIT_ANTHROPIC, LIMIT_NONE };

/* cut_at beside a number of bytes; -1 is "not given" everywhere */
#define CUT_START  -2
#define CUT_HEAD   -3

/* conditions of /__mock/wait */
#define MOCK_WAITS  10


typedef enum {
    EP_CHAT = 0,
    EP_COMPLETIONS,
    EP_RESPONSES,
    EP_EMBEDDINGS,
    EP_MODELS,
    EP_STORED,
    EP_BATCH,                           /* and files */
    EP_UNKNOWN
} endpoint_t;


typedef enum {
    ENDED_NOT = 0,
    ENDED_DONE,
    ENDED_CLIENT,
    ENDED_CUT
} ended_t;


typedef struct action_header_s  action_header_t;

struct action_header_s {
    action_header_t   *next;
    span_t             name;
    span_t             value;
    int                drop;
};


typedef struct {
    int64_t            delay_ms;
    int64_t            delay_jitter_ms;
    int64_t            body_delay_ms;
    int64_t            ttft_ms;
    int64_t            idle_at;
    int64_t            idle_ms;
    int64_t            limit_headers;
    int64_t            hang;
    int64_t            status;
    int64_t            garbage;
    int64_t            truncate;
    int64_t            content_length;
    int64_t            framing;
    int64_t            keep_alive;
    int64_t            early;
    int64_t            content_bytes;
    int64_t            chunks;
    int64_t            chunk_bytes;
    int64_t            pace_ms;
    int64_t            stamp;
    int64_t            usage;
    int64_t            prompt_tokens;
    int64_t            completion_tokens;
    int64_t            cached_tokens;
    int64_t            reasoning_tokens;
    int64_t            cut;
    int64_t            cut_at;
    int64_t            cut_events;
    int64_t            error_event;
    int64_t            error_done;
    int64_t            no_done;
    int64_t            slice;
    int64_t            slice_ms;
    int64_t            eol;
    int64_t            keep;
    int64_t            batch_ms;
    int64_t            batch_status;

    span_t             error_message;
    span_t             error_type;
    span_t             error_code;
    span_t             body;
    span_t             raw;
    span_t             content;
    span_t             model;
    span_t             finish_reason;
    span_t             tool_name;
    span_t             tool_args;
    span_t             comment;
    span_t             before;

    action_header_t   *headers;
} action_t;


/* a bucket of requests and one of tokens, or a window's count of both */

typedef struct {
    int64_t            requests;        /* per minute or window; 0: any */
    int64_t            burst;
    int64_t            tokens;
    int64_t            window_ms;       /* 0: buckets */
    double             requests_left;
    double             tokens_left;
    uint64_t           since;           /* of what is left, or the window */
} limit_t;


typedef struct {
    span_t             path;
    span_t             method;
    span_t             model;
    span_t             body;
    int64_t            stream;
    action_header_t   *headers;

    int64_t            times;
    int64_t            skip;
    int64_t            every;
    int64_t            from_ms;
    int64_t            until_ms;        /* -1: for ever */
    limit_t           *limit;

    int64_t            seen;
    int64_t            acted;

    action_t           action;
} rule_t;


typedef struct {
    int                refs;
    int                early;
    uint64_t           since;           /* when it was set */
    size_t             n;
    rule_t            *rules;
    pool_t             pool;
} script_t;


typedef struct {
    endpoint_t         endpoint;
    span_t             path;            /* without the query */
    span_t             query;
    span_t             what;            /* of a stored response */
    span_t             body;
    span_t             json;            /* empty: no JSON object */
    span_t             model;           /* still escaped */
    int64_t            n;
    int                stream;
    int                include_usage;
} request_t;


typedef enum {
    PHASE_START = 0,
    PHASE_HEAD,
    PHASE_BODY,
    PHASE_END,
    PHASE_FLUSH,
    PHASE_CUT
} phase_t;


typedef struct {
    action_t           act;
    int                in_play;         /* a rule or a header acts */
    int                rule;            /* -1: none */
    script_t          *script;          /* keeps the rule's texts alive */
    pool_t             pool;

    phase_t            phase;
    int                waited;
    int                idled;
    uint64_t           due;
    uint64_t           id;
    int64_t            status;
    int64_t            framing;
    int                sse;
    int                close;

    int                fixed;           /* the body is this buffer */
    buf_t              body;

    span_t             content;         /* data NULL: filler */
    int64_t            pieces;
    int64_t            piece_size;      /* 0: even pieces */

    int64_t            event;
    int64_t            sent;
    uint32_t           crc;
    int                crc_known;
} answer_t;


typedef enum {
    CONN_HEAD = 0,
    CONN_BODY,
    CONN_ANSWER,
    CONN_WAIT,                          /* in /__mock/wait */
    CONN_LINGER
} conn_state_t;


typedef struct conn_s  conn_t;

struct conn_s {
    loop_io_t          io;              /* first: the loop hands it over */
    loop_timer_t       timer;
    conn_state_t       state;
    uint64_t           number;
    void              *tls;             /* NULL: without */
    conn_t            *next;
    conn_t           **link;            /* what points here */

    unsigned           readable:1;
    unsigned           hup:1;
    unsigned           blocked:1;       /* waits for room to write */
    unsigned           dead:1;
    unsigned           control:1;       /* answers a control request */
    unsigned           provider:1;      /* counted as a connection */
    unsigned           early:1;
    unsigned           control_port:1;

    buf_t              in;
    buf_t              out;
    size_t             out_pos;
    buf_t              body;            /* a chunked one */
    http_chunked_t     chunked;

    http_head_t        head;
    request_t          request;
    answer_t           answer;
    uint64_t           record;          /* its number in the journal */

    /* while in CONN_WAIT */
    conn_t            *wait_next;
    int64_t            wait_for[MOCK_WAITS];
};


typedef struct {
    int64_t            requests;
    int64_t            done;
    int64_t            client_closed;
    int64_t            cut;
    int64_t            broken;
    int64_t            in_flight;
    int64_t            max_in_flight;
    int64_t            connections;
    int64_t            accepted;
    int64_t            prompt_tokens;   /* of answers that were sent */
    int64_t            completion_tokens;
    int64_t            cached_tokens;
    int64_t            streamed_pieces;
    int64_t            limited;
    int64_t            tls_failed;
    int64_t            batches;
    int64_t            batch_lines;
} stats_t;


extern stats_t    mock_stats;
extern script_t  *mock_script;
extern uint64_t   mock_created;

/* mock.c */
int       mock_key_ok(const http_head_t *head);
void      conn_new(int fd, int control_port);
void      conn_close(conn_t *c);
void      conn_drop_all(const conn_t *except);
ssize_t   conn_write(conn_t *c, const void *data, size_t len);
void      conn_answered(conn_t *c);
void      conn_next(conn_t *c);

/* mock_listen.c */
void      listen_start(const char *port, const char *control_port);

/* -1: "what" is no object of known members */
int       listen_change(conn_t *c, span_t what, buf_t *out);

/* mock_tls.c: reading and writing as read() and write() do */
void      tls_init(const char *cert, const char *key);
void     *tls_new(int fd);
ssize_t   tls_read(void *tls, void *data, size_t len);
ssize_t   tls_write(void *tls, const void *data, size_t len);
const char *tls_server_name(void *tls);

/* tells the peer that nothing more comes */
void      tls_finish(void *tls);

/* 1: the handshake had been done */
int       tls_free(void *tls);

/* mock_limit.c */
limit_t  *limit_parse(span_t object, pool_t *pool);
void      limit_restart(limit_t *l);
void      limit_apply(conn_t *c);
void      limit_left(const script_t *s, buf_t *out);

/* mock_script.c */
script_t *script_parse(span_t text, buf_t *error);
void      script_release(script_t *s);
void      script_restart(script_t *s);
void      action_init(action_t *act);
int       action_headers(action_t *act, const http_head_t *head,
              pool_t *pool, buf_t *error);
int       script_match(script_t *s, const http_head_t *head,
              const request_t *r, int early);

/* mock_request.c */
void      request_path(request_t *r, const http_head_t *head);
void      request_json(request_t *r);
void      request_endpoint(request_t *r);
int       request_early(conn_t *c);
void      request_start(conn_t *c);

/* mock_body.c */
void      body_error(buf_t *out, int64_t status, const action_t *act);
void      body_answer(buf_t *out, const request_t *r, const answer_t *a);
void      body_response(buf_t *out, const request_t *r, const answer_t *a,
              const char *status);
void      body_item(buf_t *out, const answer_t *a, const char *status);
void      body_usage(buf_t *out, const answer_t *a, int64_t completion);
void      body_model(buf_t *out, const request_t *r, const answer_t *a);
void      body_finish(buf_t *out, const answer_t *a);
void      body_error_fields(buf_t *out, int64_t status, const action_t *act,
              int flat);
void      answer_content(answer_t *a);
span_t    answer_piece(const answer_t *a, int64_t piece, buf_t *scratch);

/* mock_usage.c */
void      usage_count(stats_t *stats, const conn_t *c);

/* mock_other.c */
void      body_embeddings(buf_t *out, const request_t *r, const answer_t *a);
int       body_models(buf_t *out, const request_t *r);

/* mock_stored.c: 0, or the status of what is wrong; a DELETE is done */
int       stored_is(span_t path);
int       stored_start(const char *method, request_t *r, answer_t *a);
void      body_stored(buf_t *out, const request_t *r, const answer_t *a);

/* mock_batch.c: 0, or the status of what is wrong */
int       batch_is(span_t path);
int       batch_start(conn_t *c);
void      body_batch(buf_t *out);

/* mock_event.c: 0 when there is no such event */
int       event_add(buf_t *out, const request_t *r, const answer_t *a,
              int64_t k);

/* mock_send.c */
void      send_step(conn_t *c);
void      send_plain(conn_t *c, int status, const char *type,
              const buf_t *body);
int64_t   send_framing(const conn_t *c);
void      send_head(conn_t *c);

/* mock_fast.c: 0 when it is not for this request */
int       send_fast(conn_t *c);

/* mock_journal.c */
void      journal_init(size_t size);
void      journal_reset(void);
void      journal_begin(conn_t *c);
void      journal_first(conn_t *c);
void      journal_body(conn_t *c, const void *data, size_t len);
void      journal_end(conn_t *c, ended_t ended);
void      journal_json(buf_t *out, int64_t from, int64_t limit);
int       journal_sent(int64_t index, buf_t *out);

/* mock_control.c */
int       control_is(const request_t *r);
void      control_start(conn_t *c);
void      control_wake(void);
void      control_forget(conn_t *c);


#endif /* _MOCK_H_INCLUDED_ */
