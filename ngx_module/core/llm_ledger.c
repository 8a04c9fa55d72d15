
/*
 * Copyright (C) the ngx-llm authors
 */


#include "core/llm_ledger_private.h"

#include <string.h>


static int llm_ledger_nodes(llm_ledger_t *lg, const llm_limits_t *ls,
    uint32_t *node, const llm_now_t *now);
static int llm_ledger_free_way(llm_ledger_t *lg, const uint32_t *node);
static void llm_ledger_fill(llm_ledger_ticket_t *t, uint32_t i,
    const llm_ask_t *ask, const uint32_t *node);
static uint32_t llm_ledger_elsewhere(llm_ledger_t *lg,
    const uint32_t *node);
static int llm_ledger_admit(llm_ledger_t *lg, uint32_t i,
    const llm_ask_t *ask, const uint32_t *node, const llm_now_t *now,
    llm_reading_t *rd);
static void llm_ledger_write(llm_ledger_ticket_t *t, uint32_t state,
    const llm_ledger_turn_t *turn, const llm_now_t *now,
    const llm_reading_t *rd);
static int llm_ledger_decline(llm_reading_t *rd, llm_why_e why);


llm_ledger_t *
llm_ledger_create(void *mem, size_t size)
{
    size_t         rows;
    uint32_t       heads, i, k;
    llm_ledger_t  *lg;

    if (size < sizeof(llm_ledger_t)) {
        return NULL;
    }

    /* as many nodes as tickets, and at most one head for each */

    rows = (size - sizeof(llm_ledger_t))
           / (sizeof(llm_ledger_ticket_t) + sizeof(llm_ledger_node_t)
              + sizeof(uint32_t));

    if (rows < LLM_LEDGER_LIMITS) {
        return NULL;
    }

    if (rows > LLM_LEDGER_ROWS) {
        rows = LLM_LEDGER_ROWS;
    }

    for (heads = 1; heads <= rows / 2; heads *= 2) { /* void */ }

    lg = mem;

    /* rows are cleared when they are first used: most of them never are */

    memset(lg, 0, sizeof(llm_ledger_t));

    lg->size = (uint32_t) rows;
    lg->mask = heads - 1;

    lg->offset[LLM_LEDGER_LINE] = sizeof(llm_ledger_t);
    lg->stride[LLM_LEDGER_LINE] = sizeof(llm_ledger_ticket_t);

    lg->offset[LLM_LEDGER_READY] = sizeof(llm_ledger_t)
                                   + offsetof(llm_ledger_ticket_t, ready);
    lg->stride[LLM_LEDGER_READY] = sizeof(llm_ledger_ticket_t);

    for (k = 0; k < LLM_LEDGER_LIMITS; k++) {
        lg->offset[LLM_LEDGER_AHEAD + k] = sizeof(llm_ledger_t)
                                     + offsetof(llm_ledger_ticket_t, ahead)
                                     + k * sizeof(llm_ledger_link_t);
        lg->stride[LLM_LEDGER_AHEAD + k] = sizeof(llm_ledger_ticket_t);
    }

    lg->offset[LLM_LEDGER_IDLE] = sizeof(llm_ledger_t)
                                  + rows * sizeof(llm_ledger_ticket_t);
    lg->stride[LLM_LEDGER_IDLE] = sizeof(llm_ledger_node_t);

    lg->heads = lg->offset[LLM_LEDGER_IDLE] + rows * sizeof(llm_ledger_node_t);

    for (i = 0; i < heads; i++) {
        *llm_ledger_head(lg, i) = LLM_LEDGER_NONE;
    }

    lg->free_node = LLM_LEDGER_NONE;
    lg->free_ticket = LLM_LEDGER_NONE;
    lg->todo = LLM_LEDGER_NONE;

    lg->conf.mode = LLM_QUOTA_LOCAL;
    lg->conf.gateways = 1;

    llm_ledger_list_reset(&lg->asking);
    llm_ledger_list_reset(&lg->idle);

    for (i = 0; i < LLM_LEDGER_OWNERS; i++) {
        llm_ledger_list_reset(&lg->granted[i]);
    }

    return lg;
}


int
llm_ledger_enter(llm_ledger_t *lg, const llm_ask_t *ask,
    const llm_now_t *now, llm_ticket_t *id, llm_reading_t *rd)
{
    int                   rc;
    uint32_t              i, node[LLM_LEDGER_LIMITS];
    llm_ledger_ticket_t  *t;

    *id = 0;
    llm_ledger_blank(rd);

    if (llm_ledger_nodes(lg, ask->limits, node, now) != LLM_OK) {
        return llm_ledger_decline(rd, LLM_WHY_MEMORY);
    }

    i = llm_ledger_new_ticket(lg);

    if (i != LLM_LEDGER_NONE) {
        llm_ledger_fill(llm_ledger_ticket(lg, i), i, ask, node);
    }

    rc = llm_ledger_admit(lg, i, ask, node, now, rd);

    llm_ledger_gauge(lg, node, now, rd);

    if (i != LLM_LEDGER_NONE) {
        t = llm_ledger_ticket(lg, i);

        if (t->state != LLM_TICKET_FREE) {
            llm_ledger_open(lg, i);
            rd->asking = t->state == LLM_TICKET_ASKING ? 1
                         : t->state == LLM_TICKET_WAITING
                           && llm_ledger_elsewhere(lg, node) != 0 ? 2 : 0;
            *id = t->id;

            if (ask->background && ask->slot) {
                llm_ledger_wish(lg, node, 0, now);
            }

            return rc;
        }

        llm_ledger_free_ticket(lg, i);
    }

    llm_ledger_node_touch(lg, node[0]);

    if (node[1] != LLM_LEDGER_NONE) {
        llm_ledger_node_touch(lg, node[1]);
    }

    return rc;
}


void
llm_ledger_untake(llm_ledger_t *lg, const llm_limits_t *ls,
    const llm_amount_t *amount, const llm_now_t *now)
{
    unsigned      k;
    uint32_t      node[LLM_LEDGER_LIMITS];
    llm_amount_t  back;

    for (k = 0; k < LLM_LEDGER_LIMITS; k++) {

        /* a node that has gone had taken nothing */

        node[k] = k < ls->n ? llm_ledger_node_find(lg, ls->limit[k])
                            : LLM_LEDGER_NONE;
    }

    back = llm_ledger_bounded(amount);

    llm_ledger_begin(lg, node, LLM_LEDGER_NONE);
    llm_ledger_refund(lg, node, &back, now->wall, now);
    llm_ledger_commit(lg);
}


int
llm_ledger_add(llm_ledger_t *lg, const llm_limits_t *ls,
    const llm_amount_t *amount, const llm_now_t *now)
{
    unsigned       k;
    uint32_t       node[LLM_LEDGER_LIMITS];
    llm_amount_t   all;
    llm_reading_t  rd;

    if (llm_ledger_nodes(lg, ls, node, now) != LLM_OK) {
        return LLM_DECLINED;
    }

    all = llm_ledger_bounded(amount);

    llm_ledger_blank(&rd);

    llm_ledger_begin(lg, node, LLM_LEDGER_NONE);
    (void) llm_ledger_draw(lg, node, &all, LLM_DRAW_FORCE, NULL, now, &rd);
    llm_ledger_commit(lg);

    for (k = 0; k < ls->n; k++) {
        llm_ledger_node_touch(lg, node[k]);
    }

    return LLM_OK;
}


void
llm_ledger_update(llm_ledger_t *lg, const llm_limit_t *limit,
    const llm_now_t *now, llm_owners_t *wake)
{
    uint32_t  i;

    i = llm_ledger_node_find(lg, limit);

    if (i != LLM_LEDGER_NONE) {
        llm_ledger_adopt(lg, i, limit);
    }

    llm_ledger_run(lg, now, wake);
}


int
llm_ledger_look(llm_ledger_t *lg, const llm_limit_t *limit, unsigned *held,
    unsigned *waiting)
{
    uint32_t            i;
    llm_ledger_node_t  *n;

    *held = 0;
    *waiting = 0;

    i = llm_ledger_node_find(lg, limit);
    if (i == LLM_LEDGER_NONE) {
        return LLM_DECLINED;
    }

    n = llm_ledger_node(lg, i);

    *held = n->held;
    *waiting = n->waiting;

    return LLM_OK;
}


void
llm_ledger_stat(llm_ledger_t *lg, llm_ledger_stat_t *st)
{
    st->tickets = lg->size;
    st->nodes = lg->size;
    st->tickets_used = lg->tickets_used;
    st->nodes_used = lg->nodes_used;
    st->held = lg->held;
    st->waiting = lg->waiting;
}


static int
llm_ledger_nodes(llm_ledger_t *lg, const llm_limits_t *ls, uint32_t *node,
    const llm_now_t *now)
{
    unsigned  k;

    node[0] = LLM_LEDGER_NONE;
    node[1] = LLM_LEDGER_NONE;

    for (k = 0; k < ls->n; k++) {
        node[k] = llm_ledger_node_get(lg, ls->limit[k], now,
                                      k ? node[0] : LLM_LEDGER_NONE);
        if (node[k] == LLM_LEDGER_NONE) {
            return LLM_DECLINED;
        }
    }

    for (k = 0; k < ls->n; k++) {
        llm_ledger_adopt(lg, node[k], ls->limit[k]);
    }

    return LLM_OK;
}


/*
 * A slot at once?  After a limit was raised there may be waiters although
 * there is room.
 */

static int
llm_ledger_free_way(llm_ledger_t *lg, const uint32_t *node)
{
    llm_ledger_node_t  *key, *gate;

    key = llm_ledger_node(lg, node[0]);
    gate = node[1] != LLM_LEDGER_NONE ? llm_ledger_node(lg, node[1]) : key;

    return llm_ledger_room(lg, key) && key->line.first == LLM_LEDGER_NONE
           && llm_ledger_room(lg, gate)
           && gate->ready.first == LLM_LEDGER_NONE;
}


/* as long as its state is FREE the row is nobody's */

static void
llm_ledger_fill(llm_ledger_ticket_t *t, uint32_t i, const llm_ask_t *ask,
    const uint32_t *node)
{
    t->id = (t->id & ~LLM_LEDGER_INDEX_MASK) + LLM_LEDGER_INDEX_MASK + 1 + i;
    t->data = ask->data;
    t->need = llm_ledger_bounded(&ask->need);
    t->floor = llm_ledger_bounded(&ask->floor);
    t->node[0] = node[0];
    t->node[1] = node[1];
    t->owner = ask->owner;
    t->slot = ask->slot;
    t->park = ask->park && !ask->background;
    t->background = ask->background;
    t->notice = 0;
    t->blocked = 0;
}


/*
 * Slots of a fleet that are not this gateway's now: they may be free, and
 * whoever waits to hear of them is no more than running.
 */

static uint32_t
llm_ledger_elsewhere(llm_ledger_t *lg, const uint32_t *node)
{
    uint32_t            k, left, least, slots;
    llm_ledger_node_t  *n;

    if (lg->conf.mode != LLM_QUOTA_EXACT && lg->conf.mode != LLM_QUOTA_LEASED)
    {
        return 0;
    }

    least = LLM_LEDGER_NONE;

    for (k = 0; k < LLM_LEDGER_LIMITS; k++) {

        if (node[k] == LLM_LEDGER_NONE) {
            continue;
        }

        n = llm_ledger_node(lg, node[k]);

        if (llm_ledger_room(lg, n)) {
            continue;
        }

        /* a share that is being lowered is still in use */

        slots = llm_ledger_slots(lg, n);

        if (slots < n->held) {
            slots = n->held;
        }

        left = slots < n->concurrency ? n->concurrency - slots : 0;

        if (left < least) {
            least = left;
        }
    }

    return least == LLM_LEDGER_NONE ? 0 : least;
}


/*
 * Checks and takes, and writes what has become of it as the state of row "i",
 * which is LLM_LEDGER_NONE if there was none.
 */

static int
llm_ledger_admit(llm_ledger_t *lg, uint32_t i, const llm_ask_t *ask,
    const uint32_t *node, const llm_now_t *now, llm_reading_t *rd)
{
    int                   rc, way;
    uint32_t              state;
    llm_amount_t          need;
    llm_ledger_turn_t     turn;

    turn.score = (int64_t) (ask->since ? ask->since : now->ms)
                 + (int64_t) ask->priority * LLM_LEDGER_AGING;
    turn.seq = lg->seq++;
    turn.blocked = 0;
    turn.background = 0;

    if (ask->background) {
        turn.score = INT64_MAX;
        turn.background = 1;
    }

    need = llm_ledger_bounded(&ask->need);

    way = !ask->slot
          || (i != LLM_LEDGER_NONE && llm_ledger_free_way(lg, node)
              && (!ask->background || llm_ledger_leaves(lg, node, now)));

    llm_ledger_begin(lg, node, i);

    rc = llm_ledger_draw(lg, node, &need,
                         way ? LLM_DRAW_TAKE : LLM_DRAW_CHECK, &turn, now,
                         rd);

    if (rc == LLM_DECLINED) {

        if (!ask->park || ask->background || rd->refusal.wait_ms <= 0) {
            llm_ledger_commit(lg);
            return LLM_DECLINED;
        }

        state = LLM_TICKET_PARKED;

    } else if (rc == LLM_AGAIN) {
        state = LLM_TICKET_ASKING;

    } else if (!way) {
        state = LLM_TICKET_WAITING;

    } else if (ask->slot) {
        state = LLM_TICKET_HOLDING;

    } else {
        llm_ledger_commit(lg);
        return LLM_OK;
    }

    if (ask->background && state == LLM_TICKET_WAITING
        && i != LLM_LEDGER_NONE)
    {
        llm_ledger_rollback(lg);
        llm_ledger_busy_by(lg, node, now, rd);
        llm_ledger_wish(lg, node, 1, now);
        return LLM_DECLINED;
    }

    if (llm_ledger_waits(state)
        && llm_ledger_node(lg, node[0])->waiting
           >= ask->queue + llm_ledger_elsewhere(lg, node))
    {
        llm_ledger_rollback(lg);
        return llm_ledger_decline(rd, LLM_WHY_QUEUE_FULL);
    }

    if (i == LLM_LEDGER_NONE) {
        llm_ledger_rollback(lg);
        return llm_ledger_decline(rd, LLM_WHY_MEMORY);
    }

    llm_ledger_write(llm_ledger_ticket(lg, i), state, &turn, now, rd);
    llm_ledger_commit(lg);

    return state == LLM_TICKET_HOLDING ? LLM_OK : LLM_AGAIN;
}


static void
llm_ledger_write(llm_ledger_ticket_t *t, uint32_t state,
    const llm_ledger_turn_t *turn, const llm_now_t *now,
    const llm_reading_t *rd)
{
    t->score = turn->score;
    t->seq = turn->seq;
    t->wall = now->wall;

    if (state == LLM_TICKET_PARKED) {
        t->refusal = rd->refusal;
        t->refused_by = rd->index;
        t->blocked = turn->blocked;
        t->until = now->ms + (uint64_t) rd->refusal.wait_ms;
    }

    llm_ledger_store(&t->state, state);
}


static int
llm_ledger_decline(llm_reading_t *rd, llm_why_e why)
{
    rd->index = 0;
    rd->refusal.why = why;
    rd->refusal.wait_ms = 0;
    rd->refusal.limit = 0;
    rd->refusal.used = 0;
    rd->refusal.need = 0;

    return LLM_DECLINED;
}
