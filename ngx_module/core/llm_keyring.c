
/*
 * Copyright (C) the ngx-llm authors
 *
 * The block of memory, the journal, and dynamic rows.
 */


#include "core/llm_keyring_private.h"


#define LLM_KEYRING_ALIGN  128
#define LLM_KEYRING_START                                                     \
    ((sizeof(llm_keyring_t) + LLM_KEYRING_ALIGN - 1)                          \
     & ~((size_t) LLM_KEYRING_ALIGN - 1))


static size_t llm_keyring_divide(size_t size, size_t *buckets);
static void llm_keyring_commit_add(llm_keyring_t *kr, uint32_t i,
    uint32_t last, uint8_t kind);
static void llm_keyring_commit_del(llm_keyring_t *kr, uint32_t i,
    uint32_t last);
static void llm_keyring_link(llm_keyring_t *kr, uint32_t i, int secret);
static void llm_keyring_unlink(llm_keyring_t *kr, uint32_t i, int secret);
static int llm_keyring_put_check(const llm_keyring_t *kr,
    const llm_policy_row_t *row, uint32_t old);
static int llm_keyring_expected(const llm_keyring_t *kr, uint32_t old,
    uint64_t expect, uint64_t version);
static void llm_keyring_put_alias(llm_keyring_t *kr, uint32_t i,
    uint32_t owner, const llm_policy_row_t *row);
static void llm_keyring_leave(const llm_keyring_t *kr,
    llm_keyring_journal_t *jr, uint32_t i);
static void llm_keyring_run(llm_keyring_t *kr, llm_keyring_journal_t *jr);


uint64_t
llm_keyring_blocks(size_t size)
{
    size_t  buckets, n;

    n = llm_keyring_divide(size, &buckets);

    return n > 1 ? n - 1 : 0;
}


llm_keyring_t *
llm_keyring_create(void *mem, size_t size)
{
    size_t          pad, n, buckets;
    llm_keyring_t  *kr;

    pad = -(uintptr_t) mem & (LLM_KEYRING_ALIGN - 1);

    if (size < LLM_KEYRING_MIN) {
        return NULL;
    }

    n = llm_keyring_divide(size - pad, &buckets);

    kr = (llm_keyring_t *) (void *) ((unsigned char *) mem + pad);

    memset(kr, 0, LLM_KEYRING_START + buckets * 2 * sizeof(uint32_t));

    kr->names = LLM_KEYRING_START;
    kr->secrets = LLM_KEYRING_START + buckets * sizeof(uint32_t);
    kr->blocks = LLM_KEYRING_START + buckets * 2 * sizeof(uint32_t);
    kr->size = (uint32_t) n;
    kr->mask = (uint32_t) (buckets - 1);
    kr->fresh = 1;
    kr->cursor = 1;
    kr->version = 1;

    llm_policy_terms_clear(&kr->defaults[0]);
    llm_policy_terms_clear(&kr->defaults[1]);

    return kr;
}


/* blocks, and two buckets of each kind for each three of them or more */

static size_t
llm_keyring_divide(size_t size, size_t *buckets)
{
    size_t  n;

    *buckets = 32;

    if (size < LLM_KEYRING_START + LLM_KEYRING_BLOCK * 16) {
        return 0;
    }

    size -= LLM_KEYRING_START;

    while (*buckets < size / LLM_KEYRING_BLOCK * 2 / 3) {
        *buckets *= 2;
    }

    n = (size - *buckets * 2 * sizeof(uint32_t)) / LLM_KEYRING_BLOCK;

    return n < UINT32_MAX / 2 ? n : UINT32_MAX / 2;
}


void
llm_keyring_repair(llm_keyring_t *kr)
{
    /* the list of free blocks got this one, and nothing else did */

    if (kr->free == kr->fresh) {
        kr->fresh++;
    }

    if (kr->journal.open) {
        llm_keyring_commit(kr);
    }

    kr->version++;
}


void
llm_keyring_stat(const llm_keyring_t *kr, llm_keyring_stat_t *stat)
{
    unsigned  live;

    live = kr->state & LLM_KEYRING_LIVE;

    stat->version = kr->version;
    stat->keys = kr->count[live][LLM_ROW_KEY];
    stat->teams = kr->count[live][LLM_ROW_TEAM];
    stat->dynamic_keys = kr->dynamic[LLM_ROW_KEY];
    stat->dynamic_teams = kr->dynamic[LLM_ROW_TEAM];
    stat->blocks = kr->size - 1;
    stat->used = kr->used;
    stat->loaded = (kr->state & LLM_KEYRING_LOADED) != 0;
    stat->loading = (kr->state & LLM_KEYRING_LOADING) != 0;
}


void
llm_keyring_defaults(const llm_keyring_t *kr, llm_terms_t *defaults)
{
    *defaults = kr->defaults[kr->state & LLM_KEYRING_LIVE];
}


uint64_t
llm_keyring_version(const llm_keyring_t *kr)
{
    return kr->version;
}


int
llm_keyring_loaded(const llm_keyring_t *kr)
{
    return (kr->state & LLM_KEYRING_LOADED) != 0;
}


int
llm_keyring_put(llm_keyring_t *kr, const llm_policy_row_t *row,
    uint64_t expect)
{
    int                    rc;
    uint32_t               i, old, len, need, alias, spare;
    llm_keyring_journal_t  jr;

    len = llm_keyring_row_len(row);

    if (len == 0 || row->version == 0) {
        return LLM_ERROR;
    }

    old = llm_keyring_lookup(kr, row->kind, &row->name,
                             llm_keyring_hash(row->kind, &row->name), 0);

    rc = llm_keyring_expected(kr, old, expect, row->version);

    if (rc != LLM_OK) {
        return rc == LLM_DECLINED ? LLM_KEYRING_CHANGED : rc;
    }

    rc = llm_keyring_put_check(kr, row, old);

    if (rc != LLM_OK) {
        return rc;
    }

    alias = row->kind == LLM_ROW_KEY && row->old_until != 0
            && !llm_keyring_same(row->old_sha256, row->sha256);
    need = llm_keyring_need(len);
    spare = old != 0 ? 0 : LLM_KEYRING_SPARE;

    if (llm_keyring_reserve(kr, need + alias, spare) != LLM_OK) {
        return LLM_DECLINED;
    }

    llm_keyring_open(kr, &jr);

    i = kr->free;
    jr.add[0] = i;
    jr.add_last[0] = llm_keyring_row_write(kr, i, row, len,
                                           LLM_KEYRING_F_DYNAMIC, 0);
    jr.add_kind[0] = row->kind == LLM_ROW_KEY ? LLM_KEYRING_IS_KEY
                                              : LLM_KEYRING_IS_TEAM;
    jr.free = llm_keyring_block(kr, jr.add_last[0])->link;

    if (alias) {
        jr.add[1] = jr.free;
        jr.add_last[1] = jr.free;
        jr.add_kind[1] = LLM_KEYRING_IS_ALIAS;
        llm_keyring_put_alias(kr, jr.add[1], i, row);
        llm_keyring_block(kr, i)->other = jr.add[1];
        jr.free = llm_keyring_block(kr, jr.add[1])->link;
    }

    jr.used += need + alias;

    if (old != 0) {
        llm_keyring_leave(kr, &jr, old);

    } else {
        jr.dynamic[row->kind]++;
    }

    llm_keyring_run(kr, &jr);

    return LLM_OK;
}


int
llm_keyring_check(const llm_keyring_t *kr, const llm_policy_row_t *row)
{
    return llm_keyring_put_check(kr, row,
               llm_keyring_lookup(kr, row->kind, &row->name,
                                  llm_keyring_hash(row->kind, &row->name),
                                  0));
}


int
llm_keyring_remove(llm_keyring_t *kr, llm_row_e kind, const llm_str_t *name,
    uint64_t expect)
{
    int                    rc;
    uint32_t               old;
    llm_keyring_journal_t  jr;

    old = llm_keyring_lookup(kr, kind, name, llm_keyring_hash(kind, name), 0);

    if (old == 0) {
        return LLM_DECLINED;
    }

    if (expect != 0 && expect != LLM_KEYRING_ANY) {
        rc = llm_keyring_expected(kr, old, expect, UINT64_MAX);

        if (rc != LLM_OK) {
            return rc == LLM_DECLINED ? LLM_KEYRING_CHANGED : rc;
        }
    }

    llm_keyring_open(kr, &jr);
    llm_keyring_leave(kr, &jr, old);
    jr.dynamic[kind]--;
    llm_keyring_run(kr, &jr);

    return LLM_OK;
}


static int
llm_keyring_expected(const llm_keyring_t *kr, uint32_t old, uint64_t expect,
    uint64_t version)
{
    uint64_t  present;

    if (old == 0) {
        return expect == 0 || expect == LLM_KEYRING_ANY ? LLM_OK
                                                        : LLM_DECLINED;
    }

    if (expect == 0) {
        return LLM_KEYRING_NAME;
    }

    memcpy(&present, llm_keyring_block(kr, old)->data, LLM_KEYRING_VERSION);

    if (expect == LLM_KEYRING_ANY) {
        return present < version ? LLM_OK : LLM_KEYRING_STALE;
    }

    return present == expect ? LLM_OK : LLM_DECLINED;
}


/* no other dynamic key has its secrets */

static int
llm_keyring_put_check(const llm_keyring_t *kr, const llm_policy_row_t *row,
    uint32_t old)
{
    uint32_t                    i, n;
    const unsigned char        *sha256[2];
    const llm_keyring_block_t  *b;

    if (row->kind != LLM_ROW_KEY) {
        return LLM_OK;
    }

    sha256[0] = row->sha256;
    sha256[1] = row->old_until != 0 ? row->old_sha256 : NULL;

    for (n = 0; n < 2 && sha256[n] != NULL; n++) {

        for (i = *llm_keyring_secrets(kr, sha256[n]); i != 0; i = b->secret) {
            b = llm_keyring_block(kr, i);

            if ((b->flags & LLM_KEYRING_F_DYNAMIC)
                && (old == 0 || (i != old && b->other != old))
                && llm_keyring_same(b->sha256, sha256[n]))
            {
                return LLM_KEYRING_SECRET;
            }
        }
    }

    return LLM_OK;
}


static void
llm_keyring_put_alias(llm_keyring_t *kr, uint32_t i, uint32_t owner,
    const llm_policy_row_t *row)
{
    llm_keyring_block_t  *b;

    b = llm_keyring_block(kr, i);

    b->gens = 0;
    b->flags = LLM_KEYRING_F_DYNAMIC;
    b->nname = 0;
    b->name = 0;
    b->secret = 0;
    b->hash = 0;
    b->thash = 0;
    b->other = owner;
    b->len = sizeof(int64_t);
    b->nteam = 0;

    memcpy(b->sha256, row->old_sha256, sizeof(b->sha256));
    memcpy(b->data, &row->old_until, sizeof(int64_t));
}


/* the row goes, and its alias */

static void
llm_keyring_leave(const llm_keyring_t *kr, llm_keyring_journal_t *jr,
    uint32_t i)
{
    uint32_t  n;

    jr->del[0] = i;
    jr->del_last[0] = llm_keyring_last(kr, i, &n);
    jr->used -= n;

    jr->del[1] = llm_keyring_block(kr, i)->other;

    if (jr->del[1] != 0) {
        jr->del_last[1] = jr->del[1];
        jr->used--;
    }
}


/* a change that can be seen */

static void
llm_keyring_run(llm_keyring_t *kr, llm_keyring_journal_t *jr)
{
    jr->version++;

    llm_keyring_journal(kr, jr);
    llm_keyring_commit(kr);
}


int
llm_keyring_reserve(llm_keyring_t *kr, uint32_t n, uint32_t spare)
{
    llm_keyring_block_t  *b;

    if (kr->size - 1 - kr->used < n + spare) {
        return LLM_DECLINED;
    }

    while (kr->fresh - 1 - kr->used < n) {
        b = llm_keyring_block(kr, kr->fresh);

        b->kind = LLM_KEYRING_IS_FREE;
        b->link = kr->free;
        llm_keyring_step();

        kr->free = kr->fresh;
        llm_keyring_step();

        kr->fresh++;
        llm_keyring_step();
    }

    return LLM_OK;
}


uint32_t
llm_keyring_last(const llm_keyring_t *kr, uint32_t i, uint32_t *n)
{
    uint32_t  k;

    *n = llm_keyring_need(llm_keyring_block(kr, i)->len);

    for (k = 1; k < *n; k++) {
        i = llm_keyring_block(kr, i)->link;
    }

    return i;
}


void
llm_keyring_open(llm_keyring_t *kr, llm_keyring_journal_t *jr)
{
    memset(jr, 0, sizeof(llm_keyring_journal_t));

    jr->free = kr->free;
    jr->used = kr->used;
    jr->dynamic[0] = kr->dynamic[0];
    jr->dynamic[1] = kr->dynamic[1];
    jr->version = kr->version;
}


void
llm_keyring_journal(llm_keyring_t *kr, const llm_keyring_journal_t *jr)
{
    kr->journal = *jr;
    llm_keyring_step();

    kr->journal.open = 1;
    llm_keyring_step();
}


void
llm_keyring_commit(llm_keyring_t *kr)
{
    uint32_t                free;
    unsigned                k;
    llm_keyring_journal_t  *jr;

    jr = &kr->journal;

    for (k = 0; k < LLM_KEYRING_ROWS; k++) {

        if (jr->add[k] != 0) {
            llm_keyring_commit_add(kr, jr->add[k], jr->add_last[k],
                                   (uint8_t) jr->add_kind[k]);
        }
    }

    free = jr->free;

    for (k = 0; k < LLM_KEYRING_ROWS; k++) {

        if (jr->del[k] != 0) {
            llm_keyring_commit_del(kr, jr->del[k], jr->del_last[k]);
            llm_keyring_block(kr, jr->del_last[k])->link = free;
            free = jr->del[k];
        }
    }

    llm_keyring_step();

    kr->free = free;
    kr->used = jr->used;
    kr->dynamic[0] = jr->dynamic[0];
    kr->dynamic[1] = jr->dynamic[1];
    kr->version = jr->version;
    llm_keyring_step();

    jr->open = 0;
    llm_keyring_step();
}


static void
llm_keyring_commit_add(llm_keyring_t *kr, uint32_t i, uint32_t last,
    uint8_t kind)
{
    uint32_t  k;

    for (k = i; k != last; k = llm_keyring_block(kr, k)->link) {
        llm_keyring_block(kr, k)->kind = LLM_KEYRING_IS_MORE;
    }

    llm_keyring_block(kr, last)->kind = LLM_KEYRING_IS_MORE;
    llm_keyring_block(kr, last)->link = 0;
    llm_keyring_block(kr, i)->kind = kind;
    llm_keyring_step();

    if (kind != LLM_KEYRING_IS_ALIAS) {
        llm_keyring_link(kr, i, 0);
    }

    if (kind != LLM_KEYRING_IS_TEAM) {
        llm_keyring_link(kr, i, 1);
    }
}


/* how long the row is cannot be asked any more: a repair may be the second */

static void
llm_keyring_commit_del(llm_keyring_t *kr, uint32_t i, uint32_t last)
{
    uint32_t  k;

    llm_keyring_unlink(kr, i, 0);
    llm_keyring_unlink(kr, i, 1);

    for (k = i; k != last; k = llm_keyring_block(kr, k)->link) {
        llm_keyring_block(kr, k)->kind = LLM_KEYRING_IS_FREE;
    }

    llm_keyring_block(kr, last)->kind = LLM_KEYRING_IS_FREE;
    llm_keyring_step();
}


/* unless it is there already */

static void
llm_keyring_link(llm_keyring_t *kr, uint32_t i, int secret)
{
    uint32_t             *bucket, k, *next;
    llm_keyring_block_t  *b;

    b = llm_keyring_block(kr, i);
    bucket = secret ? llm_keyring_secrets(kr, b->sha256)
                    : llm_keyring_names(kr, b->hash);

    for (k = *bucket; k != 0; k = *next) {

        if (k == i) {
            return;
        }

        b = llm_keyring_block(kr, k);
        next = secret ? &b->secret : &b->name;
    }

    b = llm_keyring_block(kr, i);
    next = secret ? &b->secret : &b->name;

    *next = *bucket;
    llm_keyring_step();

    *bucket = i;
    llm_keyring_step();
}


static void
llm_keyring_unlink(llm_keyring_t *kr, uint32_t i, int secret)
{
    uint32_t             *at;
    llm_keyring_block_t  *b;

    b = llm_keyring_block(kr, i);
    at = secret ? llm_keyring_secrets(kr, b->sha256)
                : llm_keyring_names(kr, b->hash);

    while (*at != 0) {
        b = llm_keyring_block(kr, *at);

        if (*at == i) {
            *at = secret ? b->secret : b->name;
            llm_keyring_step();
            return;
        }

        at = secret ? &b->secret : &b->name;
    }
}
