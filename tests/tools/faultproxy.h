
/*
 * Copyright (C) the ngx-llm authors
 *
 * The fault proxy: what its parts share.
 *
 *     faultproxy.c       listening, commands
 *     faultproxy_pair.c  a connection: two sockets and a pipe each way
 */


#ifndef _FAULTPROXY_H_INCLUDED_
#define _FAULTPROXY_H_INCLUDED_


#include "lib_buf.h"
#include "lib_loop.h"


enum { UP = 0, DOWN };


typedef enum {
    AFTER_NOTHING = 0,
    AFTER_STALL,
    AFTER_RST,
    AFTER_CLOSE
} after_t;


/* what happens to the bytes of one direction */

typedef struct {
    uint64_t       latency_ms;
    uint64_t       rate;                /* bytes per second; 0: any */
    uint64_t       slice;               /* bytes per write; 0: any */
    uint64_t       slice_ms;
    after_t        after;
    uint64_t       after_bytes;
} rule_t;


typedef struct {
    uint64_t       accepted;
    uint64_t       open;
    uint64_t       refused_by_target;
    uint64_t       bytes[2];
} proxy_stats_t;


extern rule_t         proxy_rules[2];
extern proxy_stats_t  proxy_stats;
extern const char    *proxy_target;
extern int            proxy_hang;

/* faultproxy_pair.c */
void      pair_new(int fd);
void      pairs_counted(int direction);     /* "after" counts from now on */
void      pairs_go_on(void);                /* the rules have changed */
void      pairs_end(int reset);


#endif /* _FAULTPROXY_H_INCLUDED_ */
