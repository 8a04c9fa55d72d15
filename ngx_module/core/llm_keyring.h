
/*
 * Copyright (C) the ngx-llm authors
 *
 * The policy as all processes see it: teams and keys in a block of memory
 * that they share, those of the tenants file and those of the admin API
 * ("dynamic").  Where both know a name or a secret, the file's is found and
 * the other is shadowed: kept, listed, and back when the file's is gone.
 *
 * The file comes in generations: a new one is loaded beside the one in force,
 * a row at a time, and takes its place as a whole; a row that both have is
 * kept once.  What is left of an old one, or of one that was not finished, is
 * swept away in slices.
 *
 * Whoever calls holds the lock, for one call at a time; none does more than a
 * bounded piece of work.  All links are indices: the memory may be mapped
 * anywhere.  After a death inside the lock llm_keyring_repair() brings the
 * change that was under way to its end or undoes it; nothing else is lost.
 */


#ifndef _LLM_KEYRING_H_INCLUDED_
#define _LLM_KEYRING_H_INCLUDED_


#include "core/llm_core.h"
#include "core/llm_policy.h"


#define LLM_KEYRING_MIN   (64 * 1024)      /* bytes */
#define LLM_KEYRING_PAGE  64               /* rows of a page, at least */


typedef struct llm_keyring_s  llm_keyring_t;


/* why a row was not taken, beside LLM_ERROR and LLM_DECLINED (no room) */

typedef enum {
    LLM_KEYRING_NAME = 1,                  /* its name is taken */
    LLM_KEYRING_SECRET,                    /* its secret is another key's */
    LLM_KEYRING_TEAM,                      /* there is no such team */
    LLM_KEYRING_CHANGED,                   /* not the version expected */
    LLM_KEYRING_STALE                      /* there is a later version */
} llm_keyring_e;


/*
 * A key as a request meets it; key.team points to "team" or is NULL.  The
 * same is found again while the version stays and now < good_until.
 */

typedef struct {
    llm_key_t             key;
    llm_team_t            team;
    int64_t               good_until;      /* s, or INT64_MAX */
} llm_keyring_found_t;


/* a row of a list, and what the keyring knows of it */

typedef struct {
    llm_policy_row_t      row;
    unsigned              dynamic:1;       /* else of the file */
    unsigned              shadowed:1;      /* … a row of the file hides it */
    unsigned              orphan:1;        /* its team is gone: refused */
    uint64_t              place;           /* a walk's cursor for it */
} llm_keyring_item_t;


typedef struct {
    uint64_t              version;         /* grows with every change */
    uint64_t              keys;            /* of the file in force */
    uint64_t              teams;
    uint64_t              dynamic_keys;
    uint64_t              dynamic_teams;
    uint64_t              blocks;          /* there are, of 128 bytes */
    uint64_t              used;            /* … now, all generations */
    int                   loaded;          /* some file is in force */
    int                   loading;
} llm_keyring_stat_t;


/* how many blocks a keyring of that size has; 0: it is too small */
uint64_t llm_keyring_blocks(size_t size);

/* NULL: "size" is less than LLM_KEYRING_MIN */
llm_keyring_t *llm_keyring_create(void *mem, size_t size);

/* after a death inside the lock; O(1) */
void llm_keyring_repair(llm_keyring_t *kr);

void llm_keyring_stat(const llm_keyring_t *kr, llm_keyring_stat_t *stat);

/* reads without the lock: grows with every change that can be seen */
uint64_t llm_keyring_version(const llm_keyring_t *kr);

/* reads without the lock: has a file been in force? else nobody is known */
int llm_keyring_loaded(const llm_keyring_t *kr);


/*
 * The key of this secret, or of this name (without "k:"), as it is at "now"
 * (s since the epoch): with its team and the defaults, raises and a secret's
 * end counted; that it is disabled or expired is for the caller to see.  All
 * strings and lists are copied into the arena.  A key whose team is gone is
 * disabled.  LLM_OK; LLM_DECLINED: there is none; LLM_ERROR: no memory.
 */
int llm_keyring_find(const llm_keyring_t *kr, const unsigned char sha256[32],
    int64_t now, llm_keyring_found_t *found, llm_arena_t *arena);
int llm_keyring_find_name(const llm_keyring_t *kr, const llm_str_t *name,
    int64_t now, llm_keyring_found_t *found, llm_arena_t *arena);

/* the same for a team's name (without "t:") */
int llm_keyring_find_team(const llm_keyring_t *kr, const llm_str_t *name,
    int64_t now, llm_team_t *team, llm_arena_t *arena);

/* the secret will soon be looked for: fetches into the cache; needs no lock */
void llm_keyring_expect(const llm_keyring_t *kr,
    const unsigned char sha256[32]);


/* of the file in force: what a key has that does not say it */
void llm_keyring_defaults(const llm_keyring_t *kr, llm_terms_t *defaults);


/*
 * Dynamic rows.  put() takes the place of the one of that name and kind.
 * "expect": 0, there must be none; LLM_KEYRING_ANY, whatever there is, if its
 * version is less than row->version; else the version that there must be.
 * row->version must not be 0.  A name or a secret that the file has too is no
 * obstacle.  LLM_OK, LLM_DECLINED: no room, or an llm_keyring_e.
 */

#define LLM_KEYRING_ANY  UINT64_MAX

int llm_keyring_put(llm_keyring_t *kr, const llm_policy_row_t *row,
    uint64_t expect);

/* LLM_OK, or LLM_KEYRING_SECRET: put() would refuse it for that */
int llm_keyring_check(const llm_keyring_t *kr, const llm_policy_row_t *row);

/* "expect" as above, 0: any.  LLM_OK, LLM_DECLINED: there is none */
int llm_keyring_remove(llm_keyring_t *kr, llm_row_e kind,
    const llm_str_t *name, uint64_t expect);

/*
 * A row as it was put.  "dynamic" 1: of the admin API, 0: of the file, -1:
 * the file's, else the other.  LLM_OK; LLM_DECLINED: there is none;
 * LLM_ERROR: no memory.
 */
int llm_keyring_get(const llm_keyring_t *kr, llm_row_e kind,
    const llm_str_t *name, int dynamic, llm_keyring_item_t *item,
    llm_arena_t *arena);

/*
 * All rows of a kind, a page at a time, in an order that a change does not
 * disturb: what is there from the first page to the last is seen once.
 * *cursor is 0 at first and 0 again at the end.  Fills at most "max" items
 * (at least LLM_KEYRING_PAGE), their number is *n, and looks at a bounded
 * piece of the table: a page may be empty though more follow.  "what" is a
 * sum of LLM_KEYRING_OF_….  LLM_OK, LLM_ERROR: no memory.
 */

#define LLM_KEYRING_OF_FILE   0x1
#define LLM_KEYRING_DYNAMIC   0x2
#define LLM_KEYRING_ALL       0x3

int llm_keyring_walk(const llm_keyring_t *kr, llm_row_e kind, unsigned what,
    uint64_t *cursor, llm_keyring_item_t *items, unsigned max, unsigned *n,
    llm_arena_t *arena);


/*
 * A new generation of the file: begin() until it gives LLM_OK (LLM_AGAIN:
 * sweep() first), then the defaults, teams and keys, then end(), which puts
 * it in force.  One at a time: a second begin() makes the first one's ticket
 * worthless, so that a loader that died or slept is replaced.
 */
int llm_keyring_begin(llm_keyring_t *kr, uint64_t *ticket);

/*
 * LLM_OK, LLM_ERROR: the ticket is worth nothing (any more), LLM_DECLINED: no
 * room, LLM_KEYRING_NAME, LLM_KEYRING_TEAM, LLM_KEYRING_SECRET: with the
 * other key's name in other[LLM_KEYRING_OTHER], zero-terminated.
 */

#define LLM_KEYRING_OTHER  80

int llm_keyring_load_defaults(llm_keyring_t *kr, uint64_t ticket,
    const llm_terms_t *defaults);
int llm_keyring_load(llm_keyring_t *kr, uint64_t ticket,
    const llm_policy_row_t *row, char *other);

/* LLM_OK; LLM_ERROR: the ticket is worth nothing (any more) */
int llm_keyring_end(llm_keyring_t *kr, uint64_t ticket);

/* gives the generation up: to be swept */
void llm_keyring_abandon(llm_keyring_t *kr, uint64_t ticket);

/*
 * Frees what no generation in force has, looking at up to "blocks" blocks.
 * LLM_AGAIN: there is more to do; LLM_OK: all is clean, or being loaded.
 */
int llm_keyring_sweep(llm_keyring_t *kr, unsigned blocks);


#endif /* _LLM_KEYRING_H_INCLUDED_ */
