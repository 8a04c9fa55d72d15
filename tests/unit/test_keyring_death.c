
/*
 * Copyright (C) the ngx-llm authors
 *
 * A keyring after a sudden death.  Operations are run with the processor's
 * trap flag set: after each instruction that changed the memory a copy of it
 * is repaired and looked at, as if the process had died there.  The repair
 * itself dies in the same way now and then.
 */


#define _GNU_SOURCE

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <signal.h>
#include <cmocka.h>

#include "keyring_help.h"
#include "unit_random.h"


#define SIZE   LLM_KEYRING_MIN
#define NAMES  24
#define OPS    400


typedef enum {
    OP_PUT = 0,
    OP_REMOVE,
    OP_BEGIN,
    OP_LOAD,
    OP_END,
    OP_ABANDON,
    OP_SWEEP,
    OP_KINDS
} op_e;


static unsigned char   memory[5][SIZE] __attribute__((aligned(128)));
static llm_keyring_t  *live, *before, *after, *seen, *scratch;
static uint64_t        sums[2];
static unsigned long   instructions, deaths, torn;
static const char     *wrong;
static char            names[NAMES][80];
static llm_str_t       models[12];

static struct {
    op_e               what;
    llm_policy_row_t   row;
    uint64_t           ticket;
} op;


static void __attribute__((noinline))
apply(llm_keyring_t *kr)
{
    char      other[LLM_KEYRING_OTHER];
    uint64_t  t;

    switch (op.what) {

    case OP_PUT:
        (void) llm_keyring_put(kr, &op.row, LLM_KEYRING_ANY);
        break;

    case OP_REMOVE:
        (void) llm_keyring_remove(kr, op.row.kind, &op.row.name, 0);
        break;

    case OP_BEGIN:
        (void) llm_keyring_begin(kr, &t);
        break;

    case OP_LOAD:
        (void) llm_keyring_load(kr, op.ticket, &op.row, other);
        break;

    case OP_END:
        (void) llm_keyring_end(kr, op.ticket);
        break;

    case OP_ABANDON:
        llm_keyring_abandon(kr, op.ticket);
        break;

    default:
        (void) llm_keyring_sweep(kr, 16);
    }
}


static void
choose(unsigned round)
{
    unsigned           n;
    llm_policy_row_t  *row;

    n = (unsigned) any(40);

    op.what = n < 14 ? OP_PUT : n < 19 ? OP_REMOVE : n < 21 ? OP_BEGIN
              : n < 32 ? OP_LOAD : n < 34 ? OP_END
              : n < 35 ? OP_ABANDON : OP_SWEEP;
    op.ticket = live->ticket;

    row = &op.row;
    n = (unsigned) any(NAMES);

    if (any(4) == 0) {
        *row = team_row(names[n % 4], 0);

    } else {
        *row = key_row(names[n], any(3) ? "" : names[any(5)],
                       (unsigned) any(NAMES) * 32, 0);
        row->enabled = any(4) != 0;

        if (any(2)) {
            row->models = models;
            row->nmodels = (unsigned) any(12);
        }
    }

    row->terms.requests_per_minute = 1 + (int64_t) any(2);

    if (op.what == OP_PUT) {
        row->version = round + 1;

        if (row->kind == LLM_ROW_KEY && any(2)) {
            row->old_until = 1000;
            secret(row->old_sha256, (unsigned) any(NAMES) * 32 + 1);
        }
    }
}


/* is it as before or as after, once repaired? */

static void
look(const llm_keyring_t *from)
{
    uint64_t  sum;

    memcpy(scratch, from, SIZE);
    llm_keyring_repair(scratch);

    deaths++;

    wrong = keyring_wrong(scratch);

    if (wrong != NULL) {
        return;
    }

    sum = keyring_sum(scratch);

    if (sum != sums[0] && sum != sums[1]) {
        wrong = "neither before nor after";
    }

    torn += sum != sums[0];
}


static void
trapped(int signo)
{
    (void) signo;

    instructions++;

    if (wrong != NULL || memcmp(live, seen, SIZE) == 0) {
        return;
    }

    memcpy(seen, live, SIZE);
    look(live);
}


static void __attribute__((noinline))
traced(void (*what)(llm_keyring_t *kr), llm_keyring_t *kr)
{
    memcpy(seen, live, SIZE);

#if defined(__x86_64__)

    __asm__ __volatile__ ("pushfq\n\torl $0x100, (%%rsp)\n\tpopfq"
                          ::: "memory", "cc");
    what(kr);

    __asm__ __volatile__ ("pushfq\n\tandl $~0x100, (%%rsp)\n\tpopfq"
                          ::: "memory", "cc");
#else
    what(kr);
#endif
}


static void
start(void)
{
    unsigned          i;
    struct sigaction  sa;

    memset(&sa, 0, sizeof(struct sigaction));
    sa.sa_handler = trapped;
    sigaction(SIGTRAP, &sa, NULL);

    live = llm_keyring_create(memory[0], SIZE);
    before = (llm_keyring_t *) (void *) memory[1];
    after = (llm_keyring_t *) (void *) memory[2];
    seen = (llm_keyring_t *) (void *) memory[3];
    scratch = (llm_keyring_t *) (void *) memory[4];

    for (i = 0; i < NAMES; i++) {
        snprintf(names[i], sizeof(names[i]), "%s%u", i % 5 == 4
                 ? "a-name-that-is-longer-than-a-block-has-room-for-in-it-"
                 : "n", i);
    }

    for (i = 0; i < 12; i++) {
        models[i] = str("some-model-with-a-name-*");
    }
}


static void
test_death(void **state)
{
    unsigned  round, kinds[OP_KINDS];

    (void) state;

    seed = 20261121;
    memset(kinds, 0, sizeof(kinds));
    start();

    for (round = 0; round < OPS; round++) {
        choose(round);

        memcpy(before, live, SIZE);
        memcpy(after, live, SIZE);
        sums[0] = keyring_sum(before);
        apply(after);
        sums[1] = keyring_sum(after);

        assert_null(keyring_wrong(after));

        wrong = NULL;
        traced(apply, live);

        if (wrong != NULL) {
            fail_msg("round %u, operation %d: %s", round, op.what, wrong);
        }

        kinds[op.what] += sums[0] != sums[1];

        /* a death in a repair: of what the journal had just begun */

        if (before->journal.version != after->journal.version
            && op.what <= OP_REMOVE)
        {
            memcpy(live, after, SIZE);
            live->journal.open = 1;
            sums[0] = sums[1];
            traced(llm_keyring_repair, live);

            if (wrong != NULL) {
                fail_msg("round %u, repair: %s", round, wrong);
            }
        }

        assert_int_equal(keyring_sum(live), sums[1]);
    }

    assert_true(kinds[OP_PUT] > 10 && kinds[OP_REMOVE] > 5
                && kinds[OP_END] > 1);

#if defined(__x86_64__)
    assert_true(deaths > 1000 && torn > 100);
#endif

    printf("%lu instructions, %lu deaths, %lu found the change done\n",
           instructions, deaths, torn);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_death),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
