
/*
 * Copyright (C) the ngx-llm authors
 *
 * The accounts after a sudden death.  Operations are run with the processor's
 * trap flag set, so that after each single instruction a copy of the memory
 * can be taken, recovered and looked at, as if the process had died there.
 * Besides, real processes are killed at real, random moments.
 */


#define _GNU_SOURCE

#include "book_help.h"

#include <signal.h>
#include <time.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/wait.h>


#define OPS    120
#define KILLS  150
#define MOST   9                          /* records of one drain */


typedef enum {
    OP_APPEND = 0,
    OP_PAUSES,
    OP_DRAIN,
    OP_POST,
    OP_NAME,
    OP_RESTORE
} op_e;


typedef struct {
    op_e                what;
    unsigned            n;
    llm_book_record_t   rec;
    llm_book_between_t  pauses;
    llm_book_row_t      row;
    char                text[16];
} op_t;


/* what must be so after a death: as after some of the records, whole ones */

typedef struct {
    llm_book_sums_t     total;
    llm_book_sums_t     day;
    llm_book_sums_t     month;
    uint64_t            hist[LLM_BOOK_HISTS];
    uint64_t            steps;
    uint64_t            posted;
    uint64_t            names;
    uint64_t            waiting;
} sum_t;


static llm_book_t     *live, *before, *after, *seen, *scratch;
static size_t          size;
static op_t            op;
static sum_t           sums[MOST + 1];            /* after so many records */
static unsigned        nsums;
static const char     *wrong;
static unsigned long   instructions, stores, torn, together;


#define CHECK(e)  if (!(e)) return #e


static void
shape(llm_book_shape_t *sp)
{
    unsigned  i;

    memset(sp, 0, sizeof(llm_book_shape_t));

    sp->journals = 2;
    sp->slots = 16;

    for (i = 0; i < LLM_BOOK_NAMES; i++) {
        sp->names[i] = 6;
    }

    for (i = 0; i < LLM_BOOK_POOLS; i++) {
        sp->rows[i] = 12;
    }

    sp->rows[LLM_BOOK_TOTAL] = 30;
    sp->rows[LLM_BOOK_DAY] = 60;
    sp->rows[LLM_BOOK_MONTH] = 60;
    sp->rows[LLM_BOOK_ALL_MINUTE] = 3;
    sp->rows[LLM_BOOK_ALL_HOUR] = 40;
    sp->rows[LLM_BOOK_HIST] = 4;

    size = (llm_book_size(sp) + 63) & ~(size_t) 63;
}


static llm_book_record_t
draw(llm_book_t *bk, int64_t wall)
{
    char               text[4][8];
    unsigned           i;
    llm_book_record_t  rec;

    for (i = 0; i < 4; i++) {
        snprintf(text[i], sizeof(text[i]), "%c%u", 'a' + i,
                 (unsigned) any(3));
    }

    rec = record(bk, wall, text[0], text[1], text[2], text[3]);
    rec.status = any(5) ? 200 : 400 + (uint32_t) any(12);
    rec.prompt = (int64_t) any(1000);
    rec.money = (int64_t) any(1000);
    rec.flags = (uint32_t) any(16);
    rec.latency = any(4) ? (uint32_t) any(9000) : LLM_BOOK_UNKNOWN;
    rec.first = any(2) ? (uint32_t) any(9000) : LLM_BOOK_UNKNOWN;
    rec.queued = any(2) ? (uint32_t) any(9000) : LLM_BOOK_UNKNOWN;

    return rec;
}


static void
choose(llm_book_t *bk, int64_t wall)
{
    memset(&op, 0, sizeof(op_t));

    op.what = (op_e) any(6);
    op.n = 1 + (unsigned) any(MOST);
    op.rec = draw(bk, wall);
    llm_book_between(&op.pauses, (uint32_t) any(50));
    llm_book_between(&op.pauses, (uint32_t) any(5000));
    snprintf(op.text, sizeof(op.text), "n%u", (unsigned) any(9));

    op.row.kind = (llm_book_kind_e) (LLM_BOOK_HOUR + any(3));
    op.row.period = llm_book_period(op.row.kind, wall);
    op.row.name[LLM_BOOK_TEAM] = str(op.text);
    op.row.sums.requests = 3;
    op.row.sums.money = 70;
}


/* several requests of one client, with now and then another's between */

static void
fill(llm_book_t *bk, int64_t wall)
{
    unsigned             n;
    llm_book_record_t    rec;
    llm_book_between_t   pauses;

    rec = draw(bk, wall);
    n = (unsigned) any(MOST);

    while (n--) {
        rec.prompt = (int64_t) any(1000);
        rec.latency = any(8000) + 1;
        rec.first = any(2) ? (uint32_t) any(90) : LLM_BOOK_UNKNOWN;
        rec.queued = (uint32_t) any(30);

        (void) llm_book_append(bk, 0, &rec);

        if (any(12) == 0) {
            memset(&pauses, 0, sizeof(llm_book_between_t));
            llm_book_between(&pauses, (uint32_t) any(50));
            (void) llm_book_append_between(bk, 0, rec.name[LLM_BOOK_MODEL],
                                           rec.name[LLM_BOOK_PROVIDER],
                                           &pauses);
        }

        if (any(12) == 0) {
            rec = draw(bk, wall);
        }
    }
}


static void __attribute__((noinline))
apply(llm_book_t *bk, const op_t *o)
{
    llm_str_t  s;

    switch (o->what) {

    case OP_APPEND:
        (void) llm_book_append(bk, 0, &o->rec);
        break;

    case OP_PAUSES:
        (void) llm_book_append_between(bk, 0, o->rec.name[LLM_BOOK_MODEL],
                                       o->rec.name[LLM_BOOK_PROVIDER],
                                       &o->pauses);
        break;

    case OP_DRAIN:
        (void) llm_book_drain(bk, LLM_BOOK_OWNERS, o->n);
        break;

    case OP_POST:
        llm_book_post(bk, &o->rec);
        break;

    case OP_NAME:
        s.data = (unsigned char *) o->text;
        s.len = 2;
        (void) llm_book_name(bk, LLM_BOOK_KEY, &s);
        break;

    case OP_RESTORE:
        (void) llm_book_restore(bk, &o->row, o->rec.wall);
        break;
    }
}


/* every row is found, and nothing else is */

static const char *
structure(llm_book_t *bk)
{
    uint64_t                 i, linked;
    uint32_t                 k, row, *index;
    unsigned                 of;
    llm_str_t                s;
    llm_book_cell_t         *c;
    llm_book_pool_t         *pl;
    const llm_book_names_t  *nm;

    CHECK(bk->nredo == 0);

    for (of = 0; of < LLM_BOOK_POOLS; of++) {
        pl = &bk->pool[of];

        CHECK(pl->tail - pl->head <= pl->room);

        for (i = pl->head; i < pl->tail; i++) {
            c = llm_book_cell(bk, pl, i);
            CHECK(llm_book_lookup(bk, pl, &c->key) == c);
        }

        index = llm_book_at(bk, pl->index);
        linked = 0;

        for (k = 0; k <= pl->mask; k++) {
            for (row = index[k]; row != 0; row = c->chain) {
                c = llm_book_cell(bk, pl, row - 1);
                linked++;
                CHECK(linked <= pl->room);
            }
        }

        CHECK(linked == pl->tail - pl->head);
    }

    for (of = 0; of < LLM_BOOK_NAMES; of++) {
        nm = &bk->names[of];

        for (k = 0; k < nm->used; k++) {
            llm_book_text(bk, (llm_book_name_e) of, k, &s);
            CHECK(llm_book_find(bk, (llm_book_name_e) of, &s) == k);
        }
    }

    return NULL;
}


static void
sum_up(llm_book_t *bk, sum_t *s)
{
    unsigned             i, k;
    uint64_t             cursor, n;
    llm_book_cell_t     *c;
    llm_book_pool_t     *pl;
    llm_book_hists_t     h;
    llm_book_journal_t  *j;

    memset(s, 0, sizeof(sum_t));

    sum_kind(bk, LLM_BOOK_TOTAL, &s->total);
    sum_kind(bk, LLM_BOOK_DAY, &s->day);
    sum_kind(bk, LLM_BOOK_MONTH, &s->month);

    for (cursor = 0; llm_book_hists(bk, &cursor, &h) == LLM_OK; /* void */) {
        for (i = 0; i < LLM_BOOK_HISTS; i++) {
            for (k = 0; k < LLM_BOOK_BUCKETS; k++) {
                s->hist[i] += h.hist[i].n[k];
            }

            s->hist[i] += h.hist[i].sum << 20;
        }
    }

    pl = &bk->pool[LLM_BOOK_ALL_HOUR];

    for (n = pl->head; n < pl->tail; n++) {
        c = llm_book_cell(bk, pl, n);

        for (k = 0; k < LLM_BOOK_STEPS; k++) {
            s->steps += c->v[LLM_BOOK_SUMS + k];
        }
    }

    s->posted = bk->posted;

    for (i = 0; i < LLM_BOOK_NAMES; i++) {
        s->names += (uint64_t) bk->names[i].used << 16 * i;
    }

    for (i = 0; i < bk->njournals; i++) {
        j = llm_book_journal(bk, i);
        s->waiting += j->tail - j->head;
    }
}


/* the process died here: what do the others find? */

static const char *
inspect(llm_book_t *bk)
{
    sum_t        s;
    unsigned     i;
    const char  *e;

    memcpy(scratch, bk, size);

    torn += scratch->nredo != 0;

    llm_book_recover(scratch);

    e = structure(scratch);

    if (e != NULL) {
        return e;
    }

    if (op.what == OP_RESTORE) {
        return NULL;
    }

    sum_up(scratch, &s);

    for (i = 0; i < nsums; i++) {
        if (memcmp(&s, &sums[i], sizeof(sum_t)) == 0) {
            return NULL;
        }
    }

    return "neither as before nor as after";
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

    wrong = inspect(live);
}


static void
step(void)
{
    op_t      one;
    sum_t     last, all;
    unsigned  n;

    memcpy(before, live, size);
    memcpy(after, live, size);
    memcpy(seen, live, size);

    sum_up(before, &sums[0]);

    /* a drain may end behind each record: here they come one by one */

    one = op;
    one.n = 1;
    n = op.what == OP_DRAIN ? op.n : 1;

    for (nsums = 1; nsums <= n; nsums++) {
        apply(after, &one);
        sum_up(after, &sums[nsums]);
    }

    sum_up(after, &last);
    memcpy(after, before, size);
    apply(after, &op);

    TRAP("orq $0x100, (%%rsp)");
    apply(live, &op);
    TRAP("andq $~0x100, (%%rsp)");

    if (wrong != NULL) {
        fail_msg("operation %d after %lu stores: %s", op.what, stores, wrong);
    }

    assert_memory_equal(live, after, size);

    sum_up(live, &all);
    assert_memory_equal(&all, &last, sizeof(sum_t));

    /* posted by fewer changes than there were records */

    together += live->posted - before->posted
                > live->change - before->change;
}

#endif


static llm_book_t *
form(void *mem)
{
    llm_book_shape_t  sp;

    shape(&sp);

    return llm_book_form(mem, size, &sp, book_seed);
}


static void
test_every_instruction(void **state)
{
#if defined(__x86_64__)

    int64_t            wall;
    unsigned           i, kinds[OP_RESTORE + 1] = { 0 };
    llm_book_stat_t    st;
    llm_book_shape_t   sp;
    struct sigaction   sa;

    (void) state;

    memset(&sa, 0, sizeof(struct sigaction));
    sa.sa_handler = trapped;
    sigaction(SIGTRAP, &sa, NULL);

    shape(&sp);

    live = form(aligned_alloc(64, size));
    before = aligned_alloc(64, size);
    after = aligned_alloc(64, size);
    seen = aligned_alloc(64, size);
    scratch = aligned_alloc(64, size);

    assert_non_null(live);

    seed = 0x9e3779b97f4a7c15;
    wall = WALL;

    for (i = 0; i < OPS; i++) {

        /* minutes and hours pass, so that rows must go */

        wall += (int64_t) any(600);

        choose(live, wall);
        kinds[op.what]++;

        if (op.what == OP_DRAIN) {
            fill(live, wall);
        }

        step();

        if (i == 0 && instructions == 0) {
            print_message("the trap flag is of no effect here\n");
            skip();
        }
    }

    llm_book_stat(live, &st);

    print_message("%lu instructions, %lu changes of memory, %lu with a step "
                  "to be ended, %lu rows evicted, %lu folded, %lu times "
                  "several records at once\n", instructions, stores, torn,
                  st.evicted, st.folded, together);
    assert_true(together > 5);
    assert_true(stores > 10 * OPS);
    assert_true(torn > 2 * OPS);
    assert_true(st.evicted > 10);
    assert_true(st.folded > 10);

    for (i = 0; i <= OP_RESTORE; i++) {
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


/* real deaths: what was appended is there, once */

static void
test_kill(void **state)
{
    int                 status;
    pid_t               pid;
    unsigned            i;
    uint64_t            base;
    int64_t             wall;
    llm_book_sums_t     s;
    llm_book_shape_t    sp;
    struct timespec     ts;
    volatile uint64_t  *said;

    (void) state;

    shape(&sp);

    said = mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_ANONYMOUS,
                -1, 0);
    live = mmap(NULL, size, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_ANONYMOUS,
                -1, 0);

    live = form(live);
    assert_non_null(live);

    base = 0;
    wall = WALL;

    for (i = 0; i < KILLS; i++) {
        *said = 0;

        pid = fork();

        if (pid == 0) {
            seed = i + 1;

            for ( ;; ) {
                llm_book_record_t  rec;

                rec = draw(live, wall);

                while (llm_book_append(live, i % 2, &rec) != LLM_OK) {
                    (void) llm_book_drain(live, i % 2, 3);
                }

                (*said)++;
                wall += (int64_t) any(30);
            }
        }

        seed = i + 77;
        ts.tv_sec = 0;
        ts.tv_nsec = 200000 + (long) any(2000000);
        nanosleep(&ts, NULL);

        kill(pid, SIGKILL);
        waitpid(pid, &status, 0);

        torn += live->nredo != 0;

        llm_book_recover(live);
        assert_null(structure(live));

        while (llm_book_drain(live, LLM_BOOK_OWNERS, 2) == LLM_AGAIN) {
            /* void */
        }

        sum_kind(live, LLM_BOOK_TOTAL, &s);

        assert_true((uint64_t) s.requests - base == *said
                    || (uint64_t) s.requests - base == *said + 1);
        assert_int_equal(s.requests, live->posted);

        base = (uint64_t) s.requests;
    }

    print_message("%lu requests in %u lives\n", (unsigned long) base, KILLS);
    assert_true(base > 1000);

    munmap(live, size);
    munmap((void *) said, 4096);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_every_instruction),
        cmocka_unit_test(test_kill)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
