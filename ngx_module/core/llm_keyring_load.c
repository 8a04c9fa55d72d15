
/*
 * Copyright (C) the ngx-llm authors
 *
 * Generations of the file: two bits of each row say which of them have it.
 */


#include "core/llm_keyring_private.h"


static int llm_keyring_valid(const llm_keyring_t *kr, uint64_t ticket);
static int llm_keyring_load_check(const llm_keyring_t *kr,
    const llm_policy_row_t *row, uint32_t hash, char *other);
static int llm_keyring_add(llm_keyring_t *kr, const llm_policy_row_t *row,
    uint32_t len);
static void llm_keyring_drop(llm_keyring_t *kr, uint32_t i);


int
llm_keyring_begin(llm_keyring_t *kr, uint64_t *ticket)
{
    unsigned  next;

    if (kr->state & LLM_KEYRING_LOADING) {
        llm_keyring_abandon(kr, kr->ticket);
    }

    if (kr->cursor < kr->fresh) {
        return LLM_AGAIN;
    }

    next = (kr->state & LLM_KEYRING_LIVE) ^ LLM_KEYRING_LIVE;

    kr->count[next][LLM_ROW_TEAM] = 0;
    kr->count[next][LLM_ROW_KEY] = 0;
    llm_policy_terms_clear(&kr->defaults[next]);

    *ticket = ++kr->ticket;
    llm_keyring_step();

    kr->state |= LLM_KEYRING_LOADING;

    return LLM_OK;
}


static int
llm_keyring_valid(const llm_keyring_t *kr, uint64_t ticket)
{
    return (kr->state & LLM_KEYRING_LOADING) && kr->ticket == ticket;
}


int
llm_keyring_load_defaults(llm_keyring_t *kr, uint64_t ticket,
    const llm_terms_t *defaults)
{
    if (!llm_keyring_valid(kr, ticket)) {
        return LLM_ERROR;
    }

    kr->defaults[(kr->state & LLM_KEYRING_LIVE) ^ LLM_KEYRING_LIVE] =
        *defaults;

    return LLM_OK;
}


int
llm_keyring_load(llm_keyring_t *kr, uint64_t ticket,
    const llm_policy_row_t *row, char *other)
{
    int       rc;
    uint32_t  i, len, hash;

    len = llm_keyring_row_len(row);

    if (!llm_keyring_valid(kr, ticket) || row->version != 0
        || row->old_until != 0)
    {
        return LLM_ERROR;
    }

    hash = llm_keyring_hash(row->kind, &row->name);

    rc = llm_keyring_load_check(kr, row, hash, other);

    if (rc != LLM_OK) {
        return rc;
    }

    if (len == 0) {
        return LLM_DECLINED;
    }

    /* most rows of a file are the same as in the one before it */

    i = llm_keyring_lookup(kr, row->kind, &row->name, hash,
                           llm_keyring_live(kr));

    if (i != 0 && llm_keyring_row_same(kr, i, row, len)) {
        llm_keyring_block(kr, i)->gens |= llm_keyring_next(kr);

    } else if (llm_keyring_add(kr, row, len) != LLM_OK) {
        return LLM_DECLINED;
    }

    kr->count[(kr->state & LLM_KEYRING_LIVE) ^ LLM_KEYRING_LIVE][row->kind]++;

    return LLM_OK;
}


static int
llm_keyring_load_check(const llm_keyring_t *kr, const llm_policy_row_t *row,
    uint32_t hash, char *other)
{
    uint8_t   next;
    uint32_t  i;

    next = llm_keyring_next(kr);

    if (llm_keyring_lookup(kr, row->kind, &row->name, hash, next) != 0) {
        return LLM_KEYRING_NAME;
    }

    if (row->kind == LLM_ROW_TEAM) {
        return LLM_OK;
    }

    if (row->team.len != 0
        && llm_keyring_lookup(kr, LLM_ROW_TEAM, &row->team,
                              llm_keyring_hash(LLM_ROW_TEAM, &row->team), next)
           == 0)
    {
        return LLM_KEYRING_TEAM;
    }

    i = llm_keyring_lookup_secret(kr, row->sha256, next);

    if (i != 0) {
        llm_keyring_name(kr, i, other);
        return LLM_KEYRING_SECRET;
    }

    return LLM_OK;
}


static int
llm_keyring_add(llm_keyring_t *kr, const llm_policy_row_t *row, uint32_t len)
{
    uint32_t               need;
    llm_keyring_journal_t  jr;

    need = llm_keyring_need(len);

    if (llm_keyring_reserve(kr, need, LLM_KEYRING_SPARE) != LLM_OK) {
        return LLM_DECLINED;
    }

    llm_keyring_open(kr, &jr);

    jr.add[0] = kr->free;
    jr.add_last[0] = llm_keyring_row_write(kr, jr.add[0], row, len, 0,
                                           llm_keyring_next(kr));
    jr.add_kind[0] = row->kind == LLM_ROW_KEY ? LLM_KEYRING_IS_KEY
                                              : LLM_KEYRING_IS_TEAM;
    jr.free = llm_keyring_block(kr, jr.add_last[0])->link;
    jr.used += need;

    llm_keyring_journal(kr, &jr);
    llm_keyring_commit(kr);

    return LLM_OK;
}


int
llm_keyring_end(llm_keyring_t *kr, uint64_t ticket)
{
    if (!llm_keyring_valid(kr, ticket)) {
        return LLM_ERROR;
    }

    kr->cursor = 1;
    llm_keyring_step();

    kr->state = ((kr->state & LLM_KEYRING_LIVE) ^ LLM_KEYRING_LIVE)
                | LLM_KEYRING_LOADED;
    llm_keyring_step();

    kr->version++;

    return LLM_OK;
}


void
llm_keyring_abandon(llm_keyring_t *kr, uint64_t ticket)
{
    if (!llm_keyring_valid(kr, ticket)) {
        return;
    }

    kr->cursor = 1;
    llm_keyring_step();

    kr->state &= ~(uint32_t) LLM_KEYRING_LOADING;
}


int
llm_keyring_sweep(llm_keyring_t *kr, unsigned blocks)
{
    uint8_t               live;
    llm_keyring_block_t  *b;

    if (kr->state & LLM_KEYRING_LOADING) {
        return LLM_OK;
    }

    live = kr->state & LLM_KEYRING_LOADED ? llm_keyring_live(kr) : 0;

    for ( /* void */ ; kr->cursor < kr->fresh; kr->cursor++) {

        if (blocks-- == 0) {
            return LLM_AGAIN;
        }

        b = llm_keyring_block(kr, kr->cursor);

        if ((b->kind != LLM_KEYRING_IS_TEAM && b->kind != LLM_KEYRING_IS_KEY)
            || (b->flags & LLM_KEYRING_F_DYNAMIC))
        {
            continue;
        }

        b->gens &= live;

        if (b->gens == 0) {
            llm_keyring_drop(kr, kr->cursor);
        }
    }

    return LLM_OK;
}


static void
llm_keyring_drop(llm_keyring_t *kr, uint32_t i)
{
    uint32_t               n;
    llm_keyring_journal_t  jr;

    llm_keyring_open(kr, &jr);

    jr.del[0] = i;
    jr.del_last[0] = llm_keyring_last(kr, i, &n);
    jr.used -= n;

    llm_keyring_journal(kr, &jr);
    llm_keyring_commit(kr);
}
