
/*
 * Copyright (C) the ngx-llm authors
 *
 * What lies in the memory of a keyring, one behind the other: this header,
 * the buckets of names, those of secrets, and blocks of one size.  A row is a
 * chain of blocks; its first one begins with a head of one cache line that a
 * search by secret needs, then come its bytes: of a dynamic row its version,
 * "k:name", the team's name, and of all else only what is given, each behind
 * a tag.
 *
 * Changes are made so that a death leaves nothing in between.  A new row is
 * written into blocks that are still free; then the journal says which rows
 * come and which go, and only then is anything changed that can be seen.
 * Every step of that can be done twice, so a repair does them all again.
 */


#ifndef _LLM_KEYRING_PRIVATE_H_INCLUDED_
#define _LLM_KEYRING_PRIVATE_H_INCLUDED_


#include "core/llm_keyring.h"
#include "core/llm_policy_private.h"

#include <string.h>


#define LLM_KEYRING_BLOCK     128
#define LLM_KEYRING_HEAD      64
#define LLM_KEYRING_FIRST     (LLM_KEYRING_BLOCK - LLM_KEYRING_HEAD)
#define LLM_KEYRING_MORE      (LLM_KEYRING_BLOCK - 8)
#define LLM_KEYRING_VERSION   8            /* bytes, of a dynamic row */
#define LLM_KEYRING_LONGEST   (1 << 20)    /* bytes of a row */
#define LLM_KEYRING_SPARE     64           /* blocks kept for replacements */
#define LLM_KEYRING_STRIDE    8192         /* buckets of a page, at most */
#define LLM_KEYRING_ROWS      2            /* that come, or go, at once */


/* of a block; what "link" of 0 leads to is nothing */

enum {
    LLM_KEYRING_IS_FREE = 0,
    LLM_KEYRING_IS_MORE,                   /* of a row */
    LLM_KEYRING_IS_TEAM,                   /* the first of one … */
    LLM_KEYRING_IS_KEY,
    LLM_KEYRING_IS_ALIAS                   /* a key's older secret */
};


#define LLM_KEYRING_F_DYNAMIC  0x1
#define LLM_KEYRING_F_ENABLED  0x2


typedef struct {
    uint32_t              link;            /* next block, free or of a row */
    uint8_t               kind;
    uint8_t               gens;            /* of the file, as bits */
    uint8_t               flags;
    uint8_t               nname;           /* with "k:" */

    uint32_t              name;            /* next of the bucket */
    uint32_t              secret;          /* … of the other */
    uint32_t              hash;            /* of "k:name" */
    uint32_t              thash;           /* of "t:team" */
    uint32_t              other;           /* the alias, or whose it is */
    uint32_t              len:24;
    uint32_t              nteam:8;
    unsigned char         sha256[32];

    unsigned char         data[LLM_KEYRING_FIRST];
} llm_keyring_block_t;


_Static_assert(sizeof(llm_keyring_block_t) == LLM_KEYRING_BLOCK, "block");
_Static_assert(offsetof(llm_keyring_block_t, data) == LLM_KEYRING_HEAD,
               "head");


/* what is being done, with the values to be had after it */

typedef struct {
    uint32_t              open;
    uint32_t              add[LLM_KEYRING_ROWS];
    uint32_t              add_last[LLM_KEYRING_ROWS];
    uint32_t              add_kind[LLM_KEYRING_ROWS];
    uint32_t              del[LLM_KEYRING_ROWS];
    uint32_t              del_last[LLM_KEYRING_ROWS];
    uint32_t              free;            /* behind what was taken */
    uint32_t              used;
    uint64_t              dynamic[2];      /* by llm_row_e */
    uint64_t              version;
} llm_keyring_journal_t;


/* in "state", which changes by one store */

#define LLM_KEYRING_LIVE      0x1          /* the generation in force */
#define LLM_KEYRING_LOADING   0x2          /* the other one is coming */
#define LLM_KEYRING_LOADED    0x4          /* some has come */


struct llm_keyring_s {
    uint64_t              names;           /* offsets from here */
    uint64_t              secrets;
    uint64_t              blocks;
    uint32_t              size;            /* blocks, the first is not used */
    uint32_t              mask;            /* of the buckets */

    volatile uint64_t     version;
    volatile uint32_t     state;

    uint32_t              used;
    uint32_t              fresh;           /* this and behind: never used */
    uint32_t              free;
    uint32_t              cursor;          /* of sweep() */

    uint64_t              ticket;
    uint64_t              dynamic[2];
    uint64_t              count[2][2];     /* by generation and llm_row_e */
    llm_terms_t           defaults[2];

    llm_keyring_journal_t journal;
};


/* what stands before it is in memory before what stands behind it */
#define llm_keyring_step()  __asm__ __volatile__ ("" ::: "memory")


static inline uint32_t *
llm_keyring_names(const llm_keyring_t *kr, uint32_t hash)
{
    return (uint32_t *) (void *) ((unsigned char *) kr + kr->names)
           + (hash & kr->mask);
}


static inline uint32_t *
llm_keyring_secrets(const llm_keyring_t *kr, const unsigned char *sha256)
{
    uint32_t  h;

    memcpy(&h, sha256, sizeof(uint32_t));

    return (uint32_t *) (void *) ((unsigned char *) kr + kr->secrets)
           + (h & kr->mask);
}


static inline llm_keyring_block_t *
llm_keyring_block(const llm_keyring_t *kr, uint32_t i)
{
    return (llm_keyring_block_t *) (void *)
               ((unsigned char *) kr + kr->blocks) + i;
}


static inline uint32_t
llm_keyring_need(uint32_t len)
{
    return len <= LLM_KEYRING_FIRST ? 1
           : 1 + (len - LLM_KEYRING_FIRST + LLM_KEYRING_MORE - 1)
                 / LLM_KEYRING_MORE;
}


/* the bit of the generation in force, and of the one that is coming */

static inline uint8_t
llm_keyring_live(const llm_keyring_t *kr)
{
    return (uint8_t) (1 << (kr->state & LLM_KEYRING_LIVE));
}


static inline uint8_t
llm_keyring_next(const llm_keyring_t *kr)
{
    return (uint8_t) (2 >> (kr->state & LLM_KEYRING_LIVE));
}


static inline int
llm_keyring_visible(const llm_keyring_t *kr, const llm_keyring_block_t *b)
{
    return (b->flags & LLM_KEYRING_F_DYNAMIC)
           || (b->gens & llm_keyring_live(kr));
}


static inline const unsigned char *
llm_keyring_name_at(const llm_keyring_block_t *b)
{
    return b->data + (b->flags & LLM_KEYRING_F_DYNAMIC ? LLM_KEYRING_VERSION
                                                       : 0);
}


/* llm_keyring_row.c */

/* bytes that a row takes; 0: it cannot be one */
uint32_t llm_keyring_row_len(const llm_policy_row_t *row);

/*
 * Writes the row into a chain that has room for it, all but links and kinds;
 * the number of its last block.
 */
uint32_t llm_keyring_row_write(llm_keyring_t *kr, uint32_t i,
    const llm_policy_row_t *row, uint32_t len, uint8_t flags, uint8_t gens);

/* does the row say what there stands? */
int llm_keyring_row_same(const llm_keyring_t *kr, uint32_t i,
    const llm_policy_row_t *row, uint32_t len);

/* a row, its strings in the arena; *full gets its "k:name" */
int llm_keyring_row_read(const llm_keyring_t *kr, uint32_t i,
    llm_policy_row_t *row, llm_str_t *full, llm_arena_t *arena);

/* of "t:name" or "k:name" */
uint32_t llm_keyring_hash(llm_row_e kind, const llm_str_t *name);


/* llm_keyring_find.c; 0: there is none */

/* dynamic or, if gens is not 0, a row of one of these generations */
uint32_t llm_keyring_lookup(const llm_keyring_t *kr, llm_row_e kind,
    const llm_str_t *name, uint32_t hash, uint8_t gens);

/* a key of the file in one of these generations */
uint32_t llm_keyring_lookup_secret(const llm_keyring_t *kr,
    const unsigned char *sha256, uint8_t gens);

/* the same 32 bytes? in constant time */
int llm_keyring_same(const unsigned char *a, const unsigned char *b);

/* zero-terminated, into LLM_KEYRING_OTHER bytes */
void llm_keyring_name(const llm_keyring_t *kr, uint32_t i, char *name);


/* llm_keyring.c */

/* LLM_OK: so many blocks begin the free list; LLM_DECLINED */
int llm_keyring_reserve(llm_keyring_t *kr, uint32_t n, uint32_t spare);

/* does what the journal says; for a repair, once more */
void llm_keyring_commit(llm_keyring_t *kr);

/* a row's last block, and how many it has */
uint32_t llm_keyring_last(const llm_keyring_t *kr, uint32_t i, uint32_t *n);

/* a journal that changes nothing yet; what is to be done now will be done */
void llm_keyring_open(llm_keyring_t *kr, llm_keyring_journal_t *jr);
void llm_keyring_journal(llm_keyring_t *kr, const llm_keyring_journal_t *jr);


#endif /* _LLM_KEYRING_PRIVATE_H_INCLUDED_ */
