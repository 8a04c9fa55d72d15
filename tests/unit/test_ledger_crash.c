
/*
 * Copyright (C) the ngx-llm authors
 *
 * The ledger after a sudden death.  Operations are run with the processor's
 * trap flag set, so that after each single instruction a copy of the memory
 * can be taken, rebuilt and looked at, as if the process had died there.
 * Besides, real processes are killed at real, random moments.
 */


#define _GNU_SOURCE

#include <stdarg.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <cmocka.h>

#include "ledger_check.h"


#define ROWS    10
#define NAMES   14
#define KEYS    10
#define OWNERS  4
#define WALL    1767225600
#define DAY     86400

#define OPS     300
#define KILLS   300


typedef enum {
    OP_ENTER = 0,
    OP_LEAVE,
    OP_CLOSE,
    OP_CHARGE,
    OP_RETRY,
    OP_GRANTED,
    OP_UNTAKE,
    OP_METER,
    OP_UPDATE,
    OP_REAP,
    OP_REBUILD
} op_e;


typedef struct {
    op_e            what;
    unsigned        owner;             /* who does it */
    unsigned        victim;            /* of OP_REAP */
    int             flag;              /* undo, force */
    llm_limits_t    ls;
    llm_ask_t       ask;
    llm_ticket_t    id;
    llm_amount_t    amount;
    llm_now_t       now;
} op_t;


/* what must be so after a death: as before or as after, all of it */

typedef struct {
    llm_meter_t     meter[NAMES];
    struct {
        llm_ticket_t   id;
        llm_amount_t   need;
        llm_amount_t   floor;
        int64_t        wall;
        int64_t        score;
        uint64_t       until;
        uint32_t       state, blocked, notice;
        uint32_t       owner, key, team;
    }               ticket[ROWS];
} sum_t;


static llm_limit_t    names[NAMES];
static char           text[NAMES][8];
static uint64_t       seed;
static llm_now_t      now;
static size_t         size;

static llm_ledger_t  *live, *before, *after, *seen, *scratch;
static sum_t          sums[3];
static op_t           op;
static llm_amount_t   loose[KEYS];       /* taken today without a ticket */
static unsigned long  instructions, stores, torn;
static const char    *wrong;


static unsigned
any(unsigned n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;

    return (unsigned) ((seed >> 11) % n);
}


static void
start(uint64_t from)
{
    unsigned      i;
    llm_rates_t  *rt;

    seed = from;
    now.ms = 1000000;
    now.wall = WALL;
    size = sizeof(llm_ledger_t) + ROWS * (sizeof(llm_ledger_node_t)
           + sizeof(llm_ledger_ticket_t) + sizeof(uint32_t));

    for (i = 0; i < NAMES; i++) {
        memset(&names[i], 0, sizeof(llm_limit_t));
        snprintf(text[i], sizeof(text[i]), "%c:%u", i < KEYS ? 'k' : 't', i);
        names[i].name.data = (unsigned char *) text[i];
        names[i].name.len = strlen(text[i]);
        names[i].hash = i % 3;
        names[i].concurrency = 1 + i % 3;
        names[i].weight = 1 + i % 2;
        names[i].fair = i == NAMES - 1;

        rt = &names[i].rates;
        rt->rpm = 6000;
        rt->burst = 4;
        rt->tpm = 60000;
        rt->burst_tokens = 400;
        rt->rpd = 1000000;
        rt->tpd = i % 2 ? 1000000 : 1000;
        rt->budget = 1000000;
        rt->month = i & 1;
    }
}


static void
choose(llm_ledger_t *lg)
{
    unsigned              i, k;
    llm_ledger_ticket_t  *t;

    memset(&op, 0, sizeof(op_t));

    /* reaping, rebuilding and the like are rare */

    i = any(40);
    op.what = i < 14 ? OP_ENTER : i < 17 ? OP_LEAVE : i < 23 ? OP_CLOSE
              : i < 26 ? OP_CHARGE : i < 30 ? OP_RETRY
              : i < 34 ? OP_GRANTED : (op_e) (i - 34 + OP_UNTAKE);

    if (op.what > OP_REBUILD) {
        op.what = OP_ENTER;
    }

    op.owner = any(OWNERS);
    op.victim = any(OWNERS);
    op.flag = (int) any(2);
    op.amount.requests = 1;
    op.amount.tokens = any(150);
    op.amount.money = any(100);

    now.ms += any(20);
    op.now = now;

    i = any(KEYS);
    op.ls.limit[0] = &names[i];
    op.ls.limit[1] = &names[KEYS + i % (NAMES - KEYS)];
    op.ls.n = 2;

    op.ask.need = op.amount;
    op.ask.floor.requests = 1;
    op.ask.floor.tokens = any(200);
    op.ask.data = names;
    op.ask.owner = op.owner;
    op.ask.priority = (int) any(3) - 1;
    op.ask.queue = 6;
    op.ask.slot = any(6) != 0;
    op.ask.park = any(2);

    if (op.what == OP_UPDATE) {
        names[i].concurrency = 1 + any(3);
    }

    if (op.what == OP_UNTAKE) {
        op.amount = loose[i];
        memset(&loose[i], 0, sizeof(llm_amount_t));
    }

    for (k = 0; k < ROWS && op.what >= OP_LEAVE && op.what <= OP_RETRY; k++) {
        t = llm_ledger_ticket(lg, any(ROWS));

        if (t->state != LLM_TICKET_FREE
            && (op.what != OP_RETRY || t->state == LLM_TICKET_PARKED
                || k == ROWS - 1))
        {
            op.id = t->id;
            op.owner = t->owner;
            break;
        }
    }
}


static int __attribute__((noinline))
apply(llm_ledger_t *lg, const op_t *o)
{
    int            rc;
    llm_ask_t      ask;
    llm_owners_t   wake;
    llm_ticket_t   id;
    llm_reading_t  rd;

    rc = LLM_DECLINED;
    memset(&wake, 0, sizeof(llm_owners_t));

    switch (o->what) {

    case OP_ENTER:
        ask = o->ask;
        ask.limits = &o->ls;
        rc = llm_ledger_enter(lg, &ask, &o->now, &id, &rd);
        break;

    case OP_LEAVE:
        llm_ledger_leave(lg, o->id, o->flag, &o->now, &wake);
        break;

    case OP_CLOSE:
        llm_ledger_close(lg, o->id, &o->amount, &o->now, &wake);
        break;

    case OP_CHARGE:
        (void) llm_ledger_charge(lg, o->id, &o->amount, o->flag, &o->now);
        break;

    case OP_RETRY:
        (void) llm_ledger_retry(lg, o->id, &o->now, &rd, &wake);
        break;

    case OP_GRANTED:
        (void) llm_ledger_granted(lg, o->owner, &id, &rd);
        break;

    case OP_UNTAKE:
        llm_ledger_untake(lg, &o->ls, &o->amount, &o->now);
        break;

    case OP_METER:
        (void) llm_ledger_meter(lg, o->ls.limit[0], &o->now);
        break;

    case OP_UPDATE:
        llm_ledger_update(lg, o->ls.limit[0], &o->now, &wake);
        break;

    case OP_REAP:
        (void) llm_ledger_reap(lg, o->victim, &o->now, &wake);
        break;

    case OP_REBUILD:
        llm_ledger_rebuild(lg, &o->now, &wake);
        break;
    }

    return rc;
}


/* what is so, whoever found it: of a ledger that was rebuilt */

static void
sum_up(llm_ledger_t *lg, sum_t *s)
{
    uint32_t              i, state, retried;
    llm_meter_t          *m;
    llm_ledger_node_t    *n;
    llm_ledger_ticket_t  *t;

    memset(s, 0, sizeof(sum_t));

    for (i = 0; i < NAMES; i++) {
        uint32_t  j = llm_ledger_node_find(lg, &names[i]);

        if (j == LLM_LEDGER_NONE) {
            continue;
        }

        n = llm_ledger_node(lg, j);
        m = &s->meter[i];

        *m = n->meter;
        llm_meter_roll(m, &names[i].rates, &op.now);

        /* one with nothing in it may be given up, and then be made anew */

        if (llm_meter_idle(m, &names[i].rates, &op.now)) {
            memset(m, 0, sizeof(llm_meter_t));
        }
    }

    for (i = 0; i < lg->tickets; i++) {
        t = llm_ledger_ticket(lg, i);

        /* in several steps, and its owner dies with it: what it took counts */
        retried = op.what == OP_RETRY && t->id == op.id;
        state = retried && t->state == LLM_TICKET_GRANTED ? LLM_TICKET_HOLDING
                : retried && t->state == LLM_TICKET_REFUSED ? LLM_TICKET_FREE
                : t->state;

        if (state != LLM_TICKET_FREE) {
            s->ticket[i].id = t->id;
            s->ticket[i].need = t->need;
            s->ticket[i].floor = t->floor;
            s->ticket[i].score = t->score;
            s->ticket[i].state = state;
            s->ticket[i].owner = t->owner;
            s->ticket[i].key = t->node[0];
            s->ticket[i].team = t->node[1];

            if (state >= LLM_TICKET_GRANTED) {
                s->ticket[i].wall = t->wall;
            }

            if (state == LLM_TICKET_PARKED && !retried) {
                s->ticket[i].until = t->until;
                s->ticket[i].blocked = t->blocked;
                s->ticket[i].notice = t->notice;
            }
        }
    }
}


/* what the keys of a team have taken today is what the team has taken */

static const char *
balance(llm_ledger_t *lg)
{
    uint32_t            i, j;
    unsigned            day;
    llm_tally_t         sum[NAMES], *t;

    memset(sum, 0, sizeof(sum));
    day = llm_meter_day(op.now.wall);

    for (i = 0; i < NAMES; i++) {
        j = llm_ledger_node_find(lg, &names[i]);

        if (j != LLM_LEDGER_NONE) {
            t = &llm_ledger_node(lg, j)->meter.day[day & 1];

            if (t->period == day) {
                sum[i] = *t;
            }
        }
    }

    for (i = 0; i < KEYS; i++) {
        j = KEYS + i % (NAMES - KEYS);
        sum[j].requests -= sum[i].requests;
        sum[j].tokens -= sum[i].tokens;
        sum[j].money -= sum[i].money;
    }

    for (j = KEYS; j < NAMES; j++) {
        CHECK(sum[j].requests == 0);
        CHECK(sum[j].tokens == 0);
        CHECK(sum[j].money == 0);
    }

    return NULL;
}


/* the process died here: what do the others find? */

static const char *
inspect(llm_ledger_t *lg, int stepped)
{
    uint32_t      i;
    const char   *e;
    llm_owners_t  wake;

    memcpy(scratch, lg, size);
    memset(&wake, 0, sizeof(llm_owners_t));

    torn += scratch->undo.n != 0;

    llm_ledger_rebuild(scratch, &op.now, &wake);

    e = ledger_check(scratch, 1);

    if (e == NULL) {
        e = balance(scratch);
    }

    if (e == NULL && stepped && op.what != OP_REAP) {
        sum_up(scratch, &sums[2]);

        if (memcmp(&sums[2], &sums[0], sizeof(sum_t)) != 0
            && memcmp(&sums[2], &sums[1], sizeof(sum_t)) != 0)
        {
            e = "neither as before nor as after";
        }
    }

    for (i = 0; i < OWNERS && e == NULL; i++) {
        if (scratch->granted[i].first != LLM_LEDGER_NONE) {
            CHECK(wake.bits[0] & ((uint64_t) 1 << i));
        }
    }

    if (e != NULL) {
        return e;
    }

    (void) llm_ledger_reap(scratch, op.owner, &op.now, &wake);

    for (i = 0; stepped && i < before->tickets; i++) {
        if (llm_ledger_ticket(before, i)->state != LLM_TICKET_FREE
            && llm_ledger_ticket(before, i)->owner != op.owner
            && !(op.what == OP_REAP
                 && llm_ledger_ticket(before, i)->owner == op.victim))
        {
            CHECK(llm_ledger_ticket(scratch, i)->state != LLM_TICKET_FREE);
        }
    }

    for (i = 0; i < scratch->tickets; i++) {
        CHECK(llm_ledger_ticket(scratch, i)->state == LLM_TICKET_FREE
              || llm_ledger_ticket(scratch, i)->owner != op.owner);
    }

    e = ledger_check(scratch, 1);

    return e == NULL ? balance(scratch) : e;
}


#if defined(__x86_64__)

#define TRAP(change)                                                          \
    __asm__ volatile ("lea -128(%%rsp), %%rsp\n\t"                            \
                      "pushfq\n\t"                                            \
                      change "\n\t"                                           \
                      "popfq\n\t"                                             \
                      "lea 128(%%rsp), %%rsp"                                 \
                      : : : "memory", "cc")


static void
trapped(int signo)
{
    (void) signo;

    instructions++;

    if (wrong != NULL || memcmp(live, seen, size) == 0) {
        return;
    }

    stores++;
    memcpy(seen, live, size);

    wrong = inspect(live, 1);
}


static void
step(void)
{
    int           rc;
    llm_owners_t  wake;

    memset(&wake, 0, sizeof(llm_owners_t));

    memcpy(before, live, size);
    memcpy(after, live, size);
    memcpy(seen, live, size);

    rc = apply(after, &op);

    memcpy(scratch, before, size);
    llm_ledger_rebuild(scratch, &op.now, &wake);
    sum_up(scratch, &sums[0]);

    memcpy(scratch, after, size);
    llm_ledger_rebuild(scratch, &op.now, &wake);
    sum_up(scratch, &sums[1]);

    TRAP("orq $0x100, (%%rsp)");
    (void) apply(live, &op);
    TRAP("andq $~0x100, (%%rsp)");

    if (wrong != NULL) {
        fail_msg("operation %d after %lu stores: %s", op.what, stores, wrong);
    }

    assert_memory_equal(live, after, size);

    if (op.what == OP_ENTER && !op.ask.slot && rc == LLM_OK) {
        loose[op.ls.limit[0] - names] = op.amount;
    }
}

#endif


static void
test_every_instruction(void **state)
{
#if defined(__x86_64__)

    unsigned          i, kinds[OP_REBUILD + 1] = { 0 };
    struct sigaction  sa;

    (void) state;

    memset(&sa, 0, sizeof(struct sigaction));
    sa.sa_handler = trapped;
    sigaction(SIGTRAP, &sa, NULL);

    start(0x9e3779b97f4a7c15);

    live = llm_ledger_create(malloc(size), size);
    before = malloc(size);
    after = malloc(size);
    seen = malloc(size);
    scratch = malloc(size);

    assert_int_equal(live->size, ROWS);

    for (i = 0; i < OPS; i++) {

        /* days pass, so that names can be forgotten */

        if (any(12) == 0) {
            now.wall += DAY / 2;
            memset(loose, 0, sizeof(loose));
        }

        choose(live);
        kinds[op.what]++;
        step();

        if (i == 0 && instructions == 0) {
            print_message("the trap flag is of no effect here\n");
            skip();
        }
    }

    print_message("%lu instructions, %lu changes of memory, %lu in the middle "
                  "of what is to be undone\n", instructions, stores, torn);
    assert_true(stores > 10 * OPS);
    assert_true(torn > 2 * OPS);

    for (i = 0; i <= OP_REBUILD; i++) {
        assert_true(kinds[i] > 0);
    }

    signal(SIGTRAP, SIG_DFL);
    free(live);
    free(before);
    free(after);
    free(seen);
    free(scratch);

#else

    (void) state;
    skip();

#endif
}


static void
work(uint64_t from)
{
    seed = from;

    for ( ;; ) {
        choose(live);
        op.owner = 1;

        if (op.id != 0
            && llm_ledger_ticket(live, op.id & LLM_LEDGER_INDEX_MASK)->owner
               != 1)
        {
            continue;
        }

        /* whether it has been taken before is not known here */
        if (op.what == OP_UNTAKE) {
            continue;
        }

        op.ask.owner = 1;
        op.victim = 1;
        (void) apply(live, &op);
    }
}


static void
test_kill(void **state)
{
    int              status;
    pid_t            pid;
    unsigned         i, n;
    const char      *e;
    llm_owners_t     wake;
    struct timespec  ts;

    (void) state;

    start(0xd1342543de82ef95);

    live = mmap(NULL, size, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_ANONYMOUS,
                -1, 0);
    assert_true(live != MAP_FAILED);
    assert_ptr_equal(llm_ledger_create(live, size), live);
    scratch = malloc(size);

    /* owner 2 is alive all the time: three tickets, one of them waits */

    memset(&op, 0, sizeof(op_t));
    op.what = OP_ENTER;
    op.owner = 2;
    op.ls.limit[0] = &names[9];
    op.ls.limit[1] = &names[KEYS + 9 % (NAMES - KEYS)];
    op.ls.n = 2;
    op.now = now;
    op.ask.owner = 2;
    op.ask.slot = 1;
    op.ask.queue = 6;
    op.ask.data = names;

    names[9].concurrency = 2;
    names[KEYS + 9 % (NAMES - KEYS)].concurrency = 3;

    (void) apply(live, &op);
    (void) apply(live, &op);
    (void) apply(live, &op);

    for (i = 0; i < KILLS; i++) {

        pid = fork();
        assert_true(pid != -1);

        if (pid == 0) {
            work(i + 1);
        }

        ts.tv_sec = 0;
        ts.tv_nsec = 20000 + any(1000000);
        nanosleep(&ts, NULL);

        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);

        op.owner = 1;
        e = inspect(live, 0);

        if (e != NULL) {
            fail_msg("kill %u: %s", i, e);
        }

        memset(&wake, 0, sizeof(llm_owners_t));
        llm_ledger_rebuild(live, &now, &wake);
        (void) llm_ledger_reap(live, 1, &now, &wake);

        n = (unsigned) live->tickets_used;
        assert_int_equal(n, 3);
    }

    free(scratch);
    munmap(live, size);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_every_instruction),
        cmocka_unit_test(test_kill),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
