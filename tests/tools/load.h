
/*
 * Copyright (C) the ngx-llm authors
 *
 * The load generator: what its parts share.
 *
 *     load.c        options, schedule
 *     load_conn.c   connections: one request after the other
 *     load_stat.c   histograms and the report
 */


#ifndef _LOAD_H_INCLUDED_
#define _LOAD_H_INCLUDED_


#include "lib_buf.h"
#include "lib_http.h"
#include "lib_loop.h"


#define UNIQUE_DIGITS  16
#define OVERS          8


typedef enum {
    ERROR_NONE = -1,
    ERROR_CONNECT = 0,
    ERROR_CLOSED,
    ERROR_TIMEOUT,
    ERROR_STATUS,
    ERROR_BODY,
    ERROR_PROTOCOL,
    ERRORS
} load_error_t;


typedef enum {
    HIST_LATENCY = 0,
    HIST_TTFT,
    HIST_GAP,
    HIST_TRANSIT,
    HIST_LAG,
    HISTS
} load_hist_t;


typedef struct {
    const char      *where;             /* for loop_connect() */
    const char      *host;
    const char      *path;
    const char      *method;
    const char      *model;
    const char      *body_file;
    const char      *expect;
    int64_t          connections;
    int64_t          requests;          /* 0: no limit */
    int64_t          size;
    int64_t          status;
    int64_t          timeout_ms;
    double           rate;              /* 0: closed loop */
    double           seconds;
    double           warmup;
    int              stream;
    int              unique;
    int              no_done;
    int              close;
    int64_t          over[OVERS];       /* µs */
    size_t           overs;
    buf_t            headers;

    buf_t            request;
    size_t           unique_at;
} load_options_t;


typedef struct load_conn_s  load_conn_t;

struct load_conn_s {
    loop_io_t        io;                /* first: the loop hands it over */
    loop_timer_t     timer;
    load_conn_t     *idle_next;

    unsigned         busy:1;
    unsigned         connected:1;
    unsigned         got_head:1;
    unsigned         done_seen:1;
    unsigned         found:1;
    unsigned         eof:1;
    unsigned         hup:1;             /* the end is there to be read */
    unsigned         data_line:1;

    buf_t            out;
    size_t           out_pos;
    buf_t            in;
    buf_t            body;              /* without chunks */
    size_t           scanned;           /* events: looked at so far */
    size_t           event_at;
    int64_t          body_len;
    http_head_t      head;
    http_chunked_t   chunked;

    uint64_t         due;
    uint64_t         last_event;
    int64_t          events;
};


extern load_options_t  load_options;

/* load.c */
void      load_finished(load_conn_t *c, int unreachable);

/* load_conn.c */
void      load_conn_init(load_conn_t *c);
void      load_conn_send(load_conn_t *c, uint64_t due);

/* load_stat.c */
void      stat_start(uint64_t from);
void      stat_value(load_hist_t hist, uint64_t due, uint64_t ns);
void      stat_result(load_error_t error, uint64_t due, uint64_t now,
              int64_t bytes, int64_t events);
void      stat_read_events(int64_t events);
int       stat_report(int64_t late);


#endif /* _LOAD_H_INCLUDED_ */
