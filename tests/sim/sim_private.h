
/*
 * Copyright (C) the ngx-llm authors
 *
 * What the files of the simulation share: its time, its gateways, requests.
 */


#ifndef _SIM_PRIVATE_H_INCLUDED_
#define _SIM_PRIVATE_H_INCLUDED_


#include "sim.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>


#define SIM_MEMORY    (512 * 1024)
#define SIM_OWNER     0
#define SIM_REQUESTS  65536

#define SIM_TRIP      1            /* ms, to the store and back each */
#define SIM_PACE      20           /* ms between batches nobody waits for */
#define SIM_POLL      200          /* ms between looks for hints */
#define SIM_DEADLINE  50           /* ms of a command */
#define SIM_PROBE     200          /* ms, when the store is away */
#define SIM_BEAT      1000
#define SIM_PATIENCE  30000        /* ms, how long a client waits */


typedef enum {
    EVENT_ARRIVE = 0,
    EVENT_END,
    EVENT_LEAVE,                   /* the client waits no longer */
    EVENT_PUMP,
    EVENT_EVAL,
    EVENT_REPLY,
    EVENT_LATE,
    EVENT_BEAT
} event_e;


typedef struct {
    uint64_t      at;
    uint64_t      seq;
    event_e       what;
    unsigned      who;             /* a gateway, a name, a request */
    uint64_t      number;
} event_t;


typedef struct {
    unsigned      gateway;
    unsigned      name;
    int           live;
    int           waits;
    uint64_t      use;             /* counts reuse */
    llm_ticket_t  ticket;
    llm_amount_t  need;
} request_t;


typedef struct {
    llm_ledger_t *lg;
    void         *mem;
    char          name[16];
    llm_quota_mode_e  mode;
    int           gone;
    uint64_t      pumping;         /* 1 + when the next PUMP is due */
    int           open;            /* a batch is at the store */
    unsigned      late;            /* in a row */
    uint64_t      sent;
    uint64_t      seq;             /* of the open batch */
    uint64_t      decided;         /* when the store did, first */
    uint64_t      decided_seq;
    char         *reply;
    size_t        len;
} gateway_t;


extern const sim_scene_t  *sc;
extern sim_count_t         count[SIM_NAMES];
extern llm_limit_t         limit[SIM_NAMES];
extern gateway_t           gw[SIM_GATEWAYS];
extern request_t           req[SIM_REQUESTS];
extern unsigned            nfree, unused[SIM_REQUESTS];
extern store_t            *st;
extern uint64_t            now, end, seed;
extern size_t              nheap;
extern llm_owners_t        wake;
extern unsigned            failed;


/* event.c: what is to come, and chance */

uint64_t sim_bits(void);
double sim_uniform(void);
/* of an exponential distribution */
double sim_waiting(double mean);
void sim_post(uint64_t at, event_e what, unsigned who, uint64_t number);
event_t sim_next(void);
void sim_done(void);

/* client.c: requests */

int64_t sim_fault(sim_fault_e what, int gateway);
llm_now_t sim_clock_of(unsigned g);
void sim_arrive(unsigned name);
/* takes up what the ledger has granted; the store decided then */
void sim_granted(unsigned g, uint64_t decided);
void sim_finish(unsigned r);
void sim_leave(unsigned r, int undo);
void sim_forget(unsigned r);
void sim_vanish(unsigned g);

/* agent.c: batches */

void sim_pump(unsigned g, uint64_t at);
/* what the zone's unlock does: the agent hears of it */
void sim_tell(unsigned g);
void sim_mode(unsigned g, llm_quota_mode_e m);
void sim_send_batch(unsigned g, int force);
void sim_evaluate(unsigned g, uint64_t seq);
void sim_take_reply(unsigned g, uint64_t sent);
void sim_late(unsigned g, uint64_t sent);
void sim_beat(unsigned g);


#endif /* _SIM_PRIVATE_H_INCLUDED_ */
