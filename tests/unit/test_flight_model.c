
/*
 * Copyright (C) the ngx-llm authors
 *
 * Random calls to a small table of flights and to a model of it.
 */


#include <stdarg.h>
#include <setjmp.h>
#include <string.h>
#include <stdio.h>
#include <cmocka.h>

#include "flight_model.h"


#define STEPS    400000
#define LONGEST  9000
#define PAST     64


static unsigned char    names[NAMES][LLM_FLIGHT_NAME];
static llm_flight_id_t  past[PAST];
static llm_flight_id_t  last[ROWS + READERS];


static void
begin(void)
{
    memset(&wake, 0, sizeof(llm_owners_t));
    memset(&want, 0, sizeof(llm_owners_t));
}


static void
number(party_t *p, llm_flight_id_t id, uint32_t from, uint32_t to)
{
    uint32_t  i;

    i = id & LLM_FLIGHT_INDEX_MASK;

    assert_true(i >= from && i < to);
    assert_true(id > last[i]);

    last[i] = id;

    p->used = 1;
    p->id = id;
    p->pending = 0;
    p->told = 0;
}


static void
enter_follow(flight_t *f, reader_t *r, llm_flight_id_t id)
{
    seen[SEEN_FOLLOW]++;
    seen[SEEN_LATE] += f->state == LLM_FLIGHT_DONE;
    st.followed++;

    number(&r->party, id, ROWS, ROWS + READERS);

    r->flight = f;
    r->piece = 0;
    r->off = 0;
    r->begun = 0;
    r->pos = 0;

    if (f->followers++ == 0 && f->state == LLM_FLIGHT_OPEN) {
        model_tell(&f->party);
    }

    if (f->end != 0 || f->state != LLM_FLIGHT_OPEN) {
        model_tell(&r->party);
    }

    model_whole(f);
}


static void
enter_lead(const llm_flight_ask_t *ask, const int *name, flight_t *f,
    llm_flight_id_t id)
{
    unsigned  k;

    seen[SEEN_LEAD]++;
    st.led++;

    number(&f->party, id, 0, ROWS);

    f->state = LLM_FLIGHT_OPEN;
    f->shut = 0;
    f->keep = 0;
    f->pieces = 0;
    f->end = 0;
    f->followers = 0;
    f->whole = 0;

    for (k = 0; k < LLM_FLIGHT_NAMES; k++) {
        f->name[k] = -1;
    }

    for (k = 0; k < LLM_FLIGHT_NAMES; k++) {
        if (ask->lead & 1U << k) {
            model_take(f, k, name[k]);
        }
    }
}


static void
step_enter(void)
{
    int                  rc, name[LLM_FLIGHT_NAMES];
    unsigned             k, full;
    flight_t            *f, *lead;
    reader_t            *r;
    llm_flight_id_t      id;
    llm_flight_ask_t     ask;
    llm_flight_limits_t  limits;

    for (k = 0; k < LLM_FLIGHT_NAMES; k++) {
        name[k] = (int) any(NAMES);
        ask.name[k] = names[name[k]];
    }

    ask.follow = any(4) ? any(16) : 0;
    ask.lead = any(6) ? any(16) : 0;
    ask.owner = any(OWNERS);

    limits.followers = any(4) ? 24 : any(3);
    limits.log = 0;

    f = NULL;
    full = 0;

    for (k = 0; k < LLM_FLIGHT_NAMES && f == NULL; k++) {
        if (ask.follow & 1U << k) {
            f = model_find(name[k], &limits);
        }

        if (f != NULL && !model_roomy(f)) {
            f = NULL;
            full = 1;
        }
    }

    full |= f != NULL;
    r = free_reader();
    lead = f == NULL && ask.lead ? free_flight() : NULL;

    if (f == NULL && ask.lead && lead == NULL && model_evict()) {
        lead = free_flight();
    }

    ask.data = f != NULL ? (void *) r : (void *) lead;

    rc = llm_flight_enter(fl, &ask, &limits, now, &id, &wake);

    if (f != NULL && r != NULL) {
        assert_int_equal(rc, LLM_AGAIN);
        r->party.owner = ask.owner;
        enter_follow(f, r, id);

    } else if (lead != NULL) {
        assert_int_equal(rc, LLM_OK);
        lead->party.owner = ask.owner;
        st.full += full;
        enter_lead(&ask, name, lead, id);

    } else {
        assert_int_equal(rc, LLM_DECLINED);
        assert_true(id == 0);
        full |= ask.lead != 0;
        st.full += full;
        seen[full ? SEEN_FULL : SEEN_ALONE]++;
    }
}


static flight_t *
some_flight(void)
{
    unsigned   i;
    flight_t  *f;

    for (i = 0; i < 16; i++) {
        f = &flights[any(ROWS)];

        if (f->party.used && (f->state == LLM_FLIGHT_OPEN || any(8) == 0)) {
            return f;
        }
    }

    return NULL;
}


static void
step_append(void)
{
    int                   rc;
    unsigned              i, n;
    piece_t               pc;
    flight_t             *f;
    llm_flight_limits_t   limits;
    static unsigned char  buf[LONGEST];

    f = some_flight();

    if (f == NULL) {
        return;
    }

    limits.followers = 0;
    limits.log = any(8) ? 24000 : 2000 + any(60000);

    for (n = 1 + any(4); n != 0; n--) {

        if (!f->party.used || f->state != LLM_FLIGHT_OPEN) {
            assert_int_equal(llm_flight_append(fl, f->party.id,
                                               LLM_FLIGHT_DATA, buf, 1,
                                               &limits, now, &wake),
                             LLM_DECLINED);
            return;
        }

        pc.kind = 1U << (any(8) ? 1 : any(3));
        pc.len = any(4) ? any(400) : any(20) ? any(2500) : any(LONGEST);
        pc.seed = any(1 << 30);

        for (i = 0; i < pc.len; i++) {
            buf[i] = byte_of(pc.seed, i);
        }

        rc = pc.len == 0 ? LLM_OK : model_append(f, &pc, limits.log);

        assert_int_equal(llm_flight_append(fl, f->party.id, pc.kind, buf,
                                           pc.len, &limits, now, &wake), rc);
    }
}


static void
step_read(void)
{
    size_t                size;
    unsigned              i, kinds;
    reader_t             *r;
    llm_flight_piece_t    pc, mine;
    static unsigned char  buf[20000], ours[20000];

    for (i = 0; i < 16; i++) {
        r = &readers[any(READERS)];

        if (r->party.used) {
            break;
        }
    }

    if (i == 16) {
        return;
    }

    size = any(3) ? any(600) : any(sizeof(buf));
    kinds = any(16) == 0 ? any(8)
            : LLM_FLIGHT_HEAD | LLM_FLIGHT_DATA
              | (r - readers) % 2 * LLM_FLIGHT_USAGE;
    kinds |= any(4) ? 0 : LLM_FLIGHT_ONE;

    model_read(r, kinds, size, ours, &mine);
    llm_flight_read(fl, r->party.id, kinds, buf, size, &pc);

    assert_int_equal(pc.size, mine.size);
    assert_int_equal(pc.kind, mine.kind);
    assert_int_equal(pc.pieces, mine.pieces);
    assert_int_equal(pc.end, mine.end);
    assert_int_equal(pc.state, mine.state);
    assert_true(memcmp(buf, ours, pc.size) == 0);

    if (r->flight != NULL) {
        model_whole(r->flight);
    }

    if (mine.state != LLM_FLIGHT_OPEN && any(2)) {
        llm_flight_leave(fl, r->party.id, &wake);
        model_detach(r);
        r->party.used = 0;
    }
}


static void
step_leave(void)
{
    reader_t  *r;

    r = &readers[any(READERS)];

    if (!r->party.used) {
        return;
    }

    past[any(PAST)] = r->party.id;

    llm_flight_leave(fl, r->party.id, &wake);
    model_detach(r);
    r->party.used = 0;
}


static void
step_end(void)
{
    uint64_t             keep;
    flight_t            *f;
    llm_flight_state_e   state;

    f = some_flight();

    if (f == NULL) {
        return;
    }

    past[any(PAST)] = f->party.id;

    state = any(5) ? LLM_FLIGHT_DONE
                   : any(2) ? LLM_FLIGHT_LEFT : LLM_FLIGHT_FAILED;
    keep = any(4) ? now + any(4) * 10 : 0;

    llm_flight_end(fl, f->party.id, state, keep, &wake);

    if (f->state == LLM_FLIGHT_OPEN) {
        model_end(f, state, keep);
    }
}


static void
step_close(void)
{
    flight_t  *f;

    f = some_flight();

    if (f != NULL) {
        llm_flight_close(fl, f->party.id);
        model_shut(f);
    }
}


static void
step_news(void)
{
    party_t   *p;
    unsigned   i, n, owner;

    owner = any(OWNERS);

    for (n = any(3) ? 1 : 1000; n != 0; n--) {
        p = llm_flight_news(fl, owner);

        if (p == NULL) {
            break;
        }

        assert_true(p->used && p->pending && p->owner == owner);

        p->pending = 0;
        p->told = 1;
    }

    for (i = 0; n != 0 && i < ROWS + READERS; i++) {
        p = i < ROWS ? &flights[i].party : &readers[i - ROWS].party;
        assert_false(p->used && p->pending && p->owner == owner);
    }
}


static void
step_reap(void)
{
    unsigned   i, owner;
    party_t   *p;
    flight_t  *f;
    reader_t  *r;

    owner = any(OWNERS);

    llm_flight_reap(fl, owner, &wake);

    for (f = flights; f < flights + ROWS; f++) {
        if (f->party.used && f->party.owner == owner
            && f->state == LLM_FLIGHT_OPEN)
        {
            model_end(f, LLM_FLIGHT_LEFT, 0);
        }
    }

    for (r = readers; r < readers + READERS; r++) {
        if (r->party.used && r->party.owner == owner) {
            model_detach(r);
            r->party.used = 0;
        }
    }

    /* all who have news are woken; what the dead one has told itself… */

    memset(&want, 0, sizeof(llm_owners_t));

    for (i = 0; i < ROWS + READERS; i++) {
        p = i < ROWS ? &flights[i].party : &readers[i - ROWS].party;

        if (p->used && p->pending) {
            want.bits[0] |= (uint64_t) 1 << p->owner;
        }
    }

    /* … does not matter, it is gone */

    wake.bits[0] &= ~((uint64_t) 1 << owner);
}


static void
step_reset(void)
{
    unsigned  i;

    for (i = 0; i < PAST; i++) {
        past[i] = any(2) ? flights[any(ROWS)].party.id
                         : readers[any(READERS)].party.id;
    }

    /* whoever died in the middle left anything */

    for (i = 0; i < ROWS; i++) {
        llm_flight_row(fl, i)->peers = any(1000);
        llm_flight_row(fl, i)->first = any(1000);
        llm_flight_row(fl, i)->party.pending = any(2);
        llm_flight_row(fl, i)->listed = any(2);
    }

    fl->free_block = any(1000);
    fl->kept[0] = any(1000);
    fl->whole.first = any(1000);
    fl->spare = any(1000);

    llm_flight_reset(fl);

    for (i = 0; i < ROWS; i++) {
        flights[i].party.used = 0;
    }

    for (i = 0; i < READERS; i++) {
        readers[i].party.used = 0;
    }
}


static void
step_past(void)
{
    unsigned             i;
    unsigned char        c;
    llm_flight_id_t      id;
    llm_flight_piece_t   pc;
    llm_flight_limits_t  limits = { 1000, 1 };

    id = past[any(PAST)];

    for (i = 0; i < ROWS + READERS; i++) {
        if ((i < ROWS ? flights[i].party : readers[i - ROWS].party).used
            && (i < ROWS ? flights[i].party : readers[i - ROWS].party).id
               == id)
        {
            return;
        }
    }

    c = 'x';

    llm_flight_read(fl, id, 7, &c, 1, &pc);
    assert_int_equal(pc.state, LLM_FLIGHT_FAILED);
    assert_int_equal(pc.size, 0);
    assert_int_equal(llm_flight_append(fl, id, LLM_FLIGHT_DATA, &c, 1,
                                       &limits, now, &wake), LLM_DECLINED);
    assert_int_equal(llm_flight_followers(fl, id), 0);
    llm_flight_leave(fl, id, &wake);
    llm_flight_close(fl, id);
    llm_flight_end(fl, id, LLM_FLIGHT_DONE, now + 1000, &wake);
}


static void
compare(void)
{
    flight_t           *f;
    llm_flight_stat_t   s;

    st.flights = 0;
    st.kept = 0;
    st.followers = 0;
    st.blocks = 0;

    for (f = flights; f < flights + ROWS; f++) {

        if (!f->party.used) {
            continue;
        }

        st.flights++;
        st.kept += f->state != LLM_FLIGHT_OPEN;
        st.followers += f->followers;
        st.blocks += model_blocks(f);

        assert_int_equal(llm_flight_followers(fl, f->party.id),
                         f->followers);
    }

    llm_flight_stat(fl, &s);

    assert_int_equal(s.flights, st.flights);
    assert_int_equal(s.kept, st.kept);
    assert_int_equal(s.followers, st.followers);
    assert_int_equal(s.blocks, st.blocks);
    assert_int_equal(s.led, st.led);
    assert_int_equal(s.followed, st.followed);
    assert_int_equal(s.failed, st.failed);
    assert_int_equal(s.full, st.full);
    assert_int_equal(s.lagged, st.lagged);

    assert_memory_equal(&wake, &want, sizeof(llm_owners_t));
}


static void
step(void)
{
    unsigned  what;

    what = any(1000);

    if (what < 180) {
        step_enter();

    } else if (what < 460) {
        step_append();

    } else if (what < 760) {
        step_read();

    } else if (what < 860) {
        step_leave();

    } else if (what < 900) {
        step_end();

    } else if (what < 905) {
        step_close();

    } else if (what < 960) {
        step_news();

    } else if (what < 980) {
        step_past();

    } else if (what < 998) {
        now += any(8);
        assert_int_equal(llm_flight_expire(fl, now), model_expire());

    } else if (any(4)) {
        step_reap();

    } else if (any(8) == 0) {
        step_reset();
    }
}


static void
test_model(void **state)
{
    void        *mem;
    unsigned     i, n;
    const char  *e;

    (void) state;

    seed = 88172645463325252;

    if (getenv("SEED") != NULL) {
        seed += strtoul(getenv("SEED"), NULL, 10) * 2654435761;
    }

    mem = malloc(SIZE);
    assert_non_null(mem);
    memset(mem, 0xa5, SIZE);

    fl = llm_flight_create(mem, SIZE);
    assert_non_null(fl);
    assert_int_equal(fl->rows, ROWS);
    assert_int_equal(fl->readers, READERS);

    llm_flight_stat(fl, &st);
    now = 1000;

    /* some share a chain of the index */

    for (i = 0; i < NAMES; i++) {
        memset(names[i], (int) i / 3, LLM_FLIGHT_NAME);
        names[i][LLM_FLIGHT_NAME - 1] = (unsigned char) i;
    }

    for (n = 0; n < STEPS; n++) {
        begin();
        step();
        compare();

        e = flight_check(fl);

        if (e != NULL) {
            fail_msg("step %u: %s", n, e);
        }
    }

    for (i = 0; i < SEEN_ALL; i++) {
        print_message("%s: %lu\n", label[i], seen[i]);
        assert_true(seen[i] > 5);
    }

    for (i = 0; i < ROWS; i++) {
        free(flights[i].piece);
    }

    free(mem);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_model),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
