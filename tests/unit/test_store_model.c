
/*
 * Copyright (C) the ngx-llm authors
 *
 * Random steps against a simple model, also after the memory was moved or
 * filled with anything and reset.
 */


#include "store_check.h"


/* what a store should hold, by the number of the key */

typedef struct {
    unsigned        used;                   /* when; 0: not there */
    uint64_t        until;
    size_t          len;
    unsigned char   seed;
} thing_t;


typedef struct {
    thing_t         thing[NAMES];
    unsigned        clock;
    uint64_t        now;
    uint64_t        put;
    uint64_t        evicted;
    uint64_t        expired;
    uint64_t        refused;
} model_t;


static unsigned
model_blocks(const model_t *m)
{
    unsigned  i, n;

    for (n = 0, i = 0; i < NAMES; i++) {
        if (m->thing[i].used != 0) {
            n += (unsigned) (m->thing[i].len + LLM_STORE_BLOCK - 1)
                 / LLM_STORE_BLOCK;
        }
    }

    return n;
}


static int
model_put(model_t *m, unsigned size, unsigned i, uint64_t until, size_t len,
    unsigned char seed)
{
    unsigned  k, oldest, need;

    m->thing[i].used = 0;
    need = (unsigned) (len + LLM_STORE_BLOCK - 1) / LLM_STORE_BLOCK;

    if (need == 0 || need > size / 8) {
        m->refused++;
        return LLM_DECLINED;
    }

    while (model_blocks(m) + need > size) {
        oldest = NAMES;

        for (k = 0; k < NAMES; k++) {
            if (m->thing[k].used != 0
                && (oldest == NAMES
                    || m->thing[k].used < m->thing[oldest].used))
            {
                oldest = k;
            }
        }

        m->thing[oldest].used = 0;

        if (m->thing[oldest].until <= m->now) {
            m->expired++;

        } else {
            m->evicted++;
        }
    }

    m->thing[i].used = ++m->clock;
    m->thing[i].until = until;
    m->thing[i].len = len;
    m->thing[i].seed = seed;
    m->put++;

    return LLM_OK;
}


static size_t
model_find(model_t *m, unsigned i)
{
    if (m->thing[i].used == 0) {
        return 0;
    }

    if (m->thing[i].until <= m->now) {
        m->thing[i].used = 0;
        m->expired++;
        return 0;
    }

    m->thing[i].used = ++m->clock;

    return m->thing[i].len;
}


static void
compare(llm_store_t *st, const model_t *m)
{
    unsigned          i, n;
    llm_store_stat_t  stat;

    for (n = 0, i = 0; i < NAMES; i++) {
        n += m->thing[i].used != 0;
    }

    stat = stat_of(st);

    assert_int_equal(stat.entries, n);
    assert_int_equal(stat.blocks, model_blocks(m));
    assert_int_equal(stat.put, m->put);
    assert_int_equal(stat.evicted, m->evicted);
    assert_int_equal(stat.expired, m->expired);
    assert_int_equal(stat.refused, m->refused);
}


static void
play(llm_store_t *st, model_t *m, unsigned steps)
{
    size_t         len;
    unsigned       i, size;
    uint64_t       until, now;
    unsigned char  seed;

    size = (unsigned) stat_of(st).size;

    while (steps-- != 0) {
        i = draw(NAMES);

        switch (draw(8)) {

        case 0:
            assert_int_equal(drop(st, i), m->thing[i].used != 0
                                          ? LLM_OK : LLM_DECLINED);
            m->thing[i].used = 0;
            break;

        case 1:
        case 2:
        case 3:
            len = draw(4) ? draw(3000) : draw((size / 8 + 1)
                                              * LLM_STORE_BLOCK);
            until = m->now + draw(400);
            seed = (unsigned char) draw(256);

            assert_int_equal(put(st, i, until, len, seed),
                             model_put(m, size, i, until, len, seed));
            break;

        default:
            m->now += draw(4);
            now = m->now;
            len = model_find(m, i);

            assert_int_equal(find(st, i, now), len);

            if (len != 0) {
                assert_value(st, i, len, m->thing[i].seed);
            }
        }

        compare(st, m);

        if (steps % 16 == 0) {
            conserved(st);
        }
    }
}


static void
test_model(void **state)
{
    void         *mem;
    model_t       m;
    llm_store_t  *st;

    (void) state;

    memset(&m, 0, sizeof(model_t));
    st = make(&mem, SIZE);

    play(st, &m, 40000);

    assert_true(m.evicted > 200 && m.expired > 200 && m.refused > 20);

    free(mem);
}


/* nothing in there knows where it lies */

static void
test_moved(void **state)
{
    void         *mem;
    model_t       m;
    unsigned      i;
    llm_store_t  *st;
    union {
        unsigned char  byte[64];
        uint64_t       aligned;
    }            *copy;

    (void) state;

    memset(&m, 0, sizeof(model_t));
    st = make(&mem, SIZE);

    for (i = 0; i < 20; i++) {
        play(st, &m, 300);

        copy = malloc(SIZE);
        memcpy(copy, st, SIZE - (size_t) ((char *) st - (char *) mem));
        memset(mem, 0xa5, SIZE);
        free(mem);

        mem = copy;
        st = mem;
    }

    conserved(st);
    free(mem);
}


/*
 * A process may die between any two stores to memory: whatever was left of
 * links, counts and rows, a reset needs none of it.
 */

static void
test_reset(void **state)
{
    void             *mem;
    size_t            i, from;
    model_t           m;
    unsigned          round, keep;
    llm_store_t      *st;
    unsigned char    *p;
    llm_store_stat_t  before, after;

    (void) state;

    memset(&m, 0, sizeof(model_t));
    st = make(&mem, SIZE);
    p = (unsigned char *) st;
    from = offsetof(llm_store_t, now);

    for (round = 0; round < 60; round++) {
        play(st, &m, 200);
        before = stat_of(st);

        /* everything, or here and there */

        keep = round % 3 ? 1 + draw(30) : 0;

        for (i = from; i < st->data; i++) {
            if (keep == 0 || draw(keep) == 0) {
                p[i] = (unsigned char) draw(256);
            }
        }

        llm_store_reset(st);

        after = stat_of(st);
        assert_int_equal(after.entries, 0);
        assert_int_equal(after.blocks, 0);
        assert_int_equal(after.size, before.size);
        assert_int_equal(after.put, before.put);
        assert_int_equal(after.evicted, before.evicted);
        assert_int_equal(after.expired, before.expired);
        assert_int_equal(after.refused, before.refused);

        memset(m.thing, 0, sizeof(m.thing));
        conserved(st);

        for (i = 0; i < NAMES; i++) {
            assert_int_equal(find(st, (unsigned) i, m.now), 0);
        }
    }

    play(st, &m, 2000);
    free(mem);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_moved),
        cmocka_unit_test(test_reset)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
