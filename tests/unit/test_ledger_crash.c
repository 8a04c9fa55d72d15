
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
#define RATE    6000

#define OPS     200
#define KILLS   300


typedef enum {
    OP_ENTER = 0,
    OP_LEAVE,
    OP_TAKE,
    OP_UNTAKE,
    OP_GRANTED,
    OP_UPDATE,
    OP_REAP,
    OP_REBUILD
} op_e;


typedef struct {
    op_e            what;
    unsigned        owner;             /* who does it */
    unsigned        victim;            /* of OP_REAP */
    int             priority;
    llm_limits_t    ls;
    llm_ticket_t    id;
    uint64_t        now;
} op_t;


static llm_limit_t    names[NAMES];
static char           text[NAMES][8];
static uint64_t       seed, now;
static size_t         size;

static llm_ledger_t  *live, *before, *after, *seen, *scratch;
static op_t           op;
static unsigned long  instructions, stores;
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
    unsigned  i;

    seed = from;
    now = 1000000;
    size = sizeof(llm_ledger_t) + ROWS * (sizeof(llm_ledger_node_t)
           + sizeof(llm_ledger_ticket_t) + sizeof(uint32_t));

    for (i = 0; i < NAMES; i++) {
        snprintf(text[i], sizeof(text[i]), "%c:%u", i < KEYS ? 'k' : 't', i);
        names[i].name.data = (unsigned char *) text[i];
        names[i].name.len = strlen(text[i]);
        names[i].hash = i % 3;
        names[i].concurrency = 1 + i % 3;
        names[i].rpm = RATE;
        names[i].burst = 2;
    }
}


static void
choose(llm_ledger_t *lg)
{
    unsigned              i, k;
    llm_ledger_ticket_t  *t;

    /* reaping and rebuilding are rare, the rest is about even */

    i = any(24);
    op.what = i < 9 ? OP_ENTER : i < 14 ? OP_LEAVE : i < 18 ? OP_TAKE
              : (op_e) (i - 18 + OP_TAKE);

    op.owner = any(OWNERS);
    op.victim = any(OWNERS);
    op.priority = (int) any(3) - 1;
    op.now = now += any(20);

    i = any(KEYS);
    op.ls.limit[0] = &names[i];
    op.ls.limit[1] = &names[KEYS + i % (NAMES - KEYS)];
    op.ls.n = i < 8 ? 2 : 1;

    if (op.what == OP_UPDATE) {
        names[i].concurrency = 1 + any(3);
    }

    op.id = 0;

    for (k = 0; k < ROWS && op.what == OP_LEAVE; k++) {
        t = llm_ledger_ticket(lg, any(ROWS));

        if (t->state != LLM_TICKET_FREE) {
            op.id = t->id;
            op.owner = t->owner;
            break;
        }
    }
}


static void __attribute__((noinline))
apply(llm_ledger_t *lg, const op_t *o)
{
    llm_owners_t   wake;
    llm_ticket_t   id;
    llm_reading_t  rd;

    memset(&wake, 0, sizeof(llm_owners_t));

    switch (o->what) {

    case OP_ENTER:
        (void) llm_ledger_enter(lg, &o->ls, o->owner, names, o->priority, 6,
                                o->now, &id, &rd);
        break;

    case OP_LEAVE:
        llm_ledger_leave(lg, o->id, &wake);
        break;

    case OP_TAKE:
        (void) llm_ledger_take(lg, &o->ls, o->now, &rd);
        break;

    case OP_UNTAKE:
        llm_ledger_untake(lg, &o->ls, o->now);
        break;

    case OP_GRANTED:
        (void) llm_ledger_granted(lg, o->owner, &id);
        break;

    case OP_UPDATE:
        llm_ledger_update(lg, o->ls.limit[0], &wake);
        break;

    case OP_REAP:
        (void) llm_ledger_reap(lg, o->victim, &wake);
        break;

    case OP_REBUILD:
        llm_ledger_rebuild(lg, &wake);
        break;
    }
}


/* is a ticket after death and rebuilding what it was, or what it became? */

static const char *
survived(uint32_t i)
{
    llm_ledger_ticket_t  *b, *a, *s;

    b = llm_ledger_ticket(before, i);
    a = llm_ledger_ticket(after, i);
    s = llm_ledger_ticket(scratch, i);

    if (b->state == LLM_TICKET_FREE) {
        CHECK(s->state == LLM_TICKET_FREE
              || (op.what == OP_ENTER && s->owner == op.owner
                  && a->state != LLM_TICKET_FREE && a->id == s->id
                  && a->score == s->score && a->data == s->data));
        return NULL;
    }

    if (s->state == LLM_TICKET_FREE) {
        CHECK((op.what == OP_LEAVE && op.id == b->id)
              || (op.what == OP_REAP && op.victim == b->owner));
        return NULL;
    }

    CHECK(s->id == b->id && s->score == b->score && s->seq == b->seq
          && s->data == b->data && s->owner == b->owner
          && s->node[0] == b->node[0] && s->node[1] == b->node[1]);

    CHECK(s->state >= b->state);
    CHECK(s->state == b->state || s->state == LLM_TICKET_GRANTED
          || (op.what == OP_GRANTED && s->owner == op.owner
              && b->state == LLM_TICKET_GRANTED));

    return NULL;
}


static llm_bucket_t *
bucket(llm_ledger_t *lg, unsigned name)
{
    uint32_t            i;
    llm_ledger_node_t  *n;

    for (i = 0; i < lg->nodes; i++) {
        n = llm_ledger_node(lg, i);

        if (n->used && n->len == names[name].name.len
            && memcmp(n->name, text[name], n->len) == 0)
        {
            return &n->bucket[n->turn];
        }
    }

    return NULL;
}


/* level and time as they were or as they became, never a mixture */

static const char *
kept(unsigned name)
{
    int            full;
    llm_bucket_t  *b, *a, *s;

    b = bucket(before, name);
    a = bucket(after, name);
    s = bucket(scratch, name);

    /* one that is full may be given up, and then be made anew */

    full = b == NULL
           || b->level <= (int64_t) ((op.now - b->time) * RATE);

    if (s == NULL) {
        CHECK(full);
        return NULL;
    }

    if (b != NULL && b->level == s->level && b->time == s->time) {
        return NULL;
    }

    if (a != NULL && a->level == s->level && a->time == s->time) {
        return NULL;
    }

    CHECK(full && s->level == 0);

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

    llm_ledger_rebuild(scratch, &wake);

    e = ledger_check(scratch, 1);

    for (i = 0; i < scratch->tickets && e == NULL && stepped; i++) {
        e = survived(i);
    }

    for (i = 0; i < NAMES && e == NULL && stepped; i++) {
        e = kept(i);
    }

    for (i = 0; i < OWNERS && e == NULL; i++) {
        if (scratch->granted[i].first != LLM_LEDGER_NONE) {
            CHECK(wake.bits[0] & ((uint64_t) 1 << i));
        }
    }

    if (e != NULL) {
        return e;
    }

    (void) llm_ledger_reap(scratch, op.owner, &wake);

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

    return ledger_check(scratch, 1);
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
    memcpy(before, live, size);
    memcpy(after, live, size);
    memcpy(seen, live, size);

    apply(after, &op);

    TRAP("orq $0x100, (%%rsp)");
    apply(live, &op);
    TRAP("andq $~0x100, (%%rsp)");

    if (wrong != NULL) {
        fail_msg("operation %d after %lu stores: %s", op.what, stores, wrong);
    }

    assert_memory_equal(live, after, size);
}

#endif


static void
test_every_instruction(void **state)
{
#if defined(__x86_64__)

    unsigned          i;
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
        choose(live);
        step();

        if (i == 0 && instructions == 0) {
            print_message("the trap flag is of no effect here\n");
            skip();
        }
    }

    print_message("%lu instructions, %lu changes of memory\n", instructions,
                  stores);
    assert_true(stores > 10 * OPS);

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

        if (op.what == OP_LEAVE
            && llm_ledger_ticket(live, op.id & LLM_LEDGER_INDEX_MASK)->owner
               != 1)
        {
            continue;
        }

        op.victim = 1;
        apply(live, &op);
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
    op.ls.n = 1;
    op.now = now;

    names[9].concurrency = 2;

    apply(live, &op);
    apply(live, &op);
    apply(live, &op);

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
        llm_ledger_rebuild(live, &wake);
        (void) llm_ledger_reap(live, 1, &wake);

        n = live->held + live->waiting;
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
