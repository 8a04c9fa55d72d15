
/*
 * Copyright (C) the ngx-llm authors
 *
 * A fleet in virtual time: gateways with the real ledger, agents, clients,
 * one store with the real script, and faults.
 */


#ifndef _SIM_H_INCLUDED_
#define _SIM_H_INCLUDED_


#include "core/llm_ledger_private.h"
#include "store.h"

#include <stdio.h>


#define SIM_GATEWAYS  8
#define SIM_NAMES     16
#define SIM_FAULTS    16


typedef enum {
    SIM_AWAY = 0,                  /* the store does not answer */
    SIM_CUT,                       /* … one gateway */
    SIM_LOSE,                      /* one reply in "value" is lost */
    SIM_CLOCK,                     /* Redis' clock is off by "value" ms */
    SIM_WALL,                      /* a gateway's wall clock is, by seconds */
    SIM_FLUSH,                     /* the store forgets, at "from" */
    SIM_FULL,                      /* the store has no memory left */
    SIM_VANISH                     /* a gateway goes for good, at "from" */
} sim_fault_e;


typedef struct {
    sim_fault_e  what;
    uint64_t     from;             /* s */
    uint64_t     to;
    int64_t      value;
    int          gateway;
} sim_fault_t;


/* a key or a team, and who asks by it */

typedef struct {
    const char  *name;
    int          team;             /* its place, -1: it is a team */
    llm_rates_t  rates;
    uint32_t     concurrency;
    double       offered;          /* requests per minute, of the fleet */
    double       quiet;            /* part of it between bursts; 1: always */
    int          gateways;         /* the first so many are asked */
    double       service;          /* s, mean */
    int64_t      tokens;           /* mean of the estimate */
    int          floor;            /* per mille of its rate that it gets */
} sim_name_t;


typedef struct {
    const char        *title;
    llm_quota_mode_e   mode;
    unsigned           gateways;
    uint64_t           seconds;
    uint64_t           start;      /* s since the epoch */
    uint64_t           ahead;      /* ms */
    sim_name_t         name[SIM_NAMES];
    sim_fault_t        fault[SIM_FAULTS];
    unsigned           names;
    unsigned           faults;
    int                loose;      /* faults: what is lost is not summed */
    int                picture;    /* of this name, -1: none */
} sim_scene_t;


/* what was admitted, in the order of decisions; for check.c */

typedef struct {
    uint64_t     ms;
    int64_t      requests;
    int64_t      tokens;
} sim_point_t;


typedef struct {
    sim_point_t *point;
    size_t       n;
    size_t       room;
    uint64_t     offered;
    uint64_t     admitted;
    uint64_t     refused;
    uint64_t     left;             /* the client did not wait */
    int          running;
    int          most;             /* at the same time */
    int          hurry;            /* at the same time, without a fault */
    int64_t      largest;          /* of gateways' chunks, requests */
    int64_t      largest_tokens;
    llm_amount_t day[2];           /* used, by the parity of the day */
    llm_amount_t month[2];
} sim_count_t;


extern const sim_scene_t  sim_scenes[];
extern const unsigned     sim_nscenes;

/* 0: every bound held */
int sim_check(const sim_scene_t *sc, sim_count_t *count, store_t *st,
    FILE *csv, const char *svg);


#endif /* _SIM_H_INCLUDED_ */
