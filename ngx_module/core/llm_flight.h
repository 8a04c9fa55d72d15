
/*
 * Copyright (C) the ngx-llm authors
 *
 * Flights: calls that several requests share, in a block of memory that the
 * workers share.  The first request of a name leads; those that come after it
 * follow: they read what the leader appends to the flight's log, each at its
 * own pace, from the beginning.
 *
 * Nothing is appended while nobody follows: the leader keeps what came until
 * it is told (llm_flight_news()) that somebody does.  A flight that has ended
 * may be kept for a while, for those who come late.
 *
 * Whoever calls holds the lock; time is in ms of a clock that does not go
 * back; owners are the workers' places as in the ledger.  If a process dies
 * in the middle, llm_flight_reset().  All links are indices.
 */


#ifndef _LLM_FLIGHT_H_INCLUDED_
#define _LLM_FLIGHT_H_INCLUDED_


#include "core/llm_core.h"
#include "core/llm_ledger.h"


#define LLM_FLIGHT_NAME   32
#define LLM_FLIGHT_NAMES  4                 /* that a flight may have */
#define LLM_FLIGHT_BLOCK  2048
#define LLM_FLIGHT_NOTES  2                 /* numbers that a leader leaves */


typedef struct llm_flights_s  llm_flights_t;

/* of a flight or of one who follows it; never given twice, 0: none */
typedef uint64_t  llm_flight_id_t;


/* what a piece of the log is, as bits of a reader's wishes */

#define LLM_FLIGHT_HEAD   0x01              /* what the caller makes of it */
#define LLM_FLIGHT_DATA   0x02              /* an event; or bytes of a body */
#define LLM_FLIGHT_USAGE  0x04              /* the event of usage alone */

#define LLM_FLIGHT_ONE    0x08              /* a wish: of one piece, no more */


typedef enum {
    LLM_FLIGHT_OPEN = 0,                    /* more may come */
    LLM_FLIGHT_DONE,                        /* the answer was whole */
    LLM_FLIGHT_FAILED,                      /* it was not, or nobody tells */
    LLM_FLIGHT_LAGGED,                      /* the reader was too slow */
    LLM_FLIGHT_LEFT                         /* failed, but not the call: its
                                               leader had to go */
} llm_flight_state_e;


typedef struct {
    const unsigned char  *name[LLM_FLIGHT_NAMES];
    unsigned              follow;           /* names to look for, as bits */
    unsigned              lead;             /* names to take; 0: no leader */
    unsigned              owner;
    void                 *data;             /* the owner's, for its news;
                                               not NULL */
} llm_flight_ask_t;


typedef struct {
    size_t                log;              /* bytes a flight may hold */
    unsigned              followers;        /* of one flight */
} llm_flight_limits_t;


typedef struct {
    uint32_t              flights;          /* now */
    uint32_t              kept;             /* … of them ended */
    uint32_t              followers;        /* now */
    uint64_t              blocks;           /* in use now */
    uint64_t              size;             /* blocks there are */
    uint64_t              led;              /* since the start */
    uint64_t              followed;
    uint64_t              failed;           /* ended without the answer */
    uint64_t              full;             /* asked in vain: no room */
    uint64_t              lagged;
} llm_flight_stat_t;


/* NULL: "size" is too small to be of use (less than 128 KB) */
llm_flights_t *llm_flight_create(void *mem, size_t size);

/*
 * Forgets all, whatever state it is in.  No id from before is known any more:
 * leaders find that they lead nothing, followers that their flight failed.
 */
void llm_flight_reset(llm_flights_t *fl);

/*
 * LLM_AGAIN: follows the flight that has one of the names of "follow", the
 * first of them first; "id" is the follower's, and as long as it is not
 * through it is told once that there is something to read.  LLM_OK: there is
 * none, and a flight of all names of "lead" began; "id" is the flight's.  A
 * name that another flight has is the new one's from then on.  LLM_DECLINED:
 * neither may be, or there is no room: go alone; "id" is 0.  A flight that
 * failed, is closed to newcomers or has all the followers that it may have is
 * not followed.  Nor does one get its first follower while the memory is short
 * (less than an eighth of the blocks, or eight, free or kept for nobody, also
 * after a few beginnings that nobody is at were cut): who is let in should be
 * able to finish.
 */
int llm_flight_enter(llm_flights_t *fl, const llm_flight_ask_t *ask,
    const llm_flight_limits_t *limits, uint64_t now, llm_flight_id_t *id,
    llm_owners_t *wake);

/* those who follow it now */
unsigned llm_flight_followers(const llm_flights_t *fl,
    llm_flight_id_t flight);

/*
 * By the leader: one whole piece, copied; an empty one is nothing.  Above
 * limits.log (each piece counts four bytes more) the flight is closed to
 * newcomers, what all have read is given up, and who would hold more than
 * limits.log unread has lagged.  If there is no room, first the kept that
 * nobody follows go, then any flights whose beginning is only there for
 * newcomers are closed and cut to what somebody has still to read, first the
 * one whose beginning was left first.  LLM_DECLINED: there is still none, the
 * flight has failed; or it has ended or the id is not known.
 */
int llm_flight_append(llm_flights_t *fl, llm_flight_id_t flight,
    unsigned kind, const unsigned char *p, size_t len,
    const llm_flight_limits_t *limits, uint64_t now, llm_owners_t *wake);

/* numbers for those who read to the end; the caller's, 0 at first */
void llm_flight_note(llm_flights_t *fl, llm_flight_id_t flight,
    const int64_t *note);

/* what has been appended is all that the answer has to say */
void llm_flight_said(llm_flights_t *fl, llm_flight_id_t flight);

/*
 * The leader is through; LLM_FLIGHT_DONE, _LEFT or _FAILED (as any other).
 * Followers read to the end at their pace.  A flight that is done can be
 * followed until "keep" (0: by nobody new); one that failed or was left never.
 */
void llm_flight_end(llm_flights_t *fl, llm_flight_id_t flight,
    llm_flight_state_e state, uint64_t keep, llm_owners_t *wake);

/*
 * No more followers, the present ones go on; what is in the log may be cut.
 * A kept flight that nobody follows is given up.
 */
void llm_flight_close(llm_flights_t *fl, llm_flight_id_t flight);

/*
 * By a follower: copies bytes of the pieces whose kind is in "kinds", as many
 * as there are and "size" allows; other pieces are passed over.  One call
 * gives either the bytes of one head or those of data and usage; a piece may
 * come in parts.  With LLM_FLIGHT_ONE it gives bytes of one piece, "kind" is
 * the piece's own, and nothing behind it is passed over.  Of a failed flight
 * what is there can be read; one who has lagged gets nothing more.  An unknown
 * follower's flight failed.
 */
typedef struct {
    size_t                size;             /* bytes copied */
    unsigned              kind;             /* LLM_FLIGHT_HEAD, _DATA; 0 */
    unsigned              pieces;           /* data that came to their end */
    unsigned              end;              /* so did the last of the bytes,
                                               be it of a head or of data */
    llm_flight_state_e    state;            /* OPEN: or not all is read yet */
    int64_t               note[LLM_FLIGHT_NOTES];  /* … once it is DONE */
    unsigned              whole;            /* all is read, however it ends */
} llm_flight_piece_t;

void llm_flight_read(llm_flights_t *fl, llm_flight_id_t follower,
    unsigned kinds, unsigned char *p, size_t size, llm_flight_piece_t *pc);

/*
 * A follower goes, harmless when it is not known.  The last one's leaving is
 * news for the leader.
 */
void llm_flight_leave(llm_flights_t *fl, llm_flight_id_t follower,
    llm_owners_t *wake);

/*
 * The "data" of one of this owner's leaders whose first follower came or last
 * one left, or of a follower with something new to read; each is told once
 * for what is new, and a follower that has not read since it was told only of
 * the end and that it has lagged.  NULL: that was all, so no "data" is NULL.
 */
void *llm_flight_news(llm_flights_t *fl, unsigned owner);

/*
 * The worker is gone, and has left its flights (those that are done are kept)
 * and what it followed.  All who have news are woken: it may have died
 * before it did that.
 */
void llm_flight_reap(llm_flights_t *fl, unsigned owner, llm_owners_t *wake);

/* gives up what was kept until now; the next "keep" to come, or 0: none */
uint64_t llm_flight_expire(llm_flights_t *fl, uint64_t now);

void llm_flight_stat(const llm_flights_t *fl, llm_flight_stat_t *stat);


#endif /* _LLM_FLIGHT_H_INCLUDED_ */
