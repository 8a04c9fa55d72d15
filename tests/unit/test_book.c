
/*
 * Copyright (C) the ngx-llm authors
 */


#define _GNU_SOURCE

#include "book_help.h"

#include <time.h>


static void *
test_alloc(void *data, size_t size)
{
    void  ***list = data;
    void   **p;

    p = malloc(size + 16);
    p[0] = *list;
    *list = p;

    return p + 2;
}


typedef struct {
    llm_arena_t   arena;
    void        **list;
} lent_t;


static llm_arena_t *
lend(lent_t *l)
{
    memset(l, 0, sizeof(lent_t));
    l->arena.left = 64 << 20;
    l->arena.alloc = test_alloc;
    l->arena.data = &l->list;

    return &l->arena;
}


static void
give_back(lent_t *l)
{
    void  **next;

    for ( /* void */ ; l->list != NULL; l->list = next) {
        next = l->list[0];
        free(l->list);
    }
}


static llm_book_t *
make(size_t size)
{
    return llm_book_create(aligned_alloc(64, size), size, book_seed);
}


static void
query(llm_book_t *bk, llm_book_result_t *rs)
{
    int       rc;
    uint64_t  cursor;

    cursor = 0;

    do {
        rc = llm_book_result_rows(bk, rs, 0, &cursor, 3);
    } while (rc == LLM_AGAIN);

    assert_int_equal(rc, LLM_OK);
}


static void
test_sizes(void **state)
{
    void             *mem;
    size_t            size, i, n;
    llm_book_t       *bk;
    llm_book_stat_t   st;

    (void) state;

    assert_null(llm_book_create(NULL, 1000, book_seed));

    for (size = 512 * 1024; size <= (size_t) 1 << 28; size = size * 3 / 2) {
        mem = malloc(size);
        bk = llm_book_create(mem, size, book_seed);
        assert_non_null(bk);

        llm_book_stat(bk, &st);
        assert_true(bk->used <= size);
        assert_true(bk->used > size / 10 * 7);
        assert_true(bk->njournals >= 1);
        assert_true(st.kind_room[LLM_BOOK_DAY] > 62);

        free(mem);
    }

    /* what is said of the usual size */

    mem = malloc(16 << 20);
    memset(mem, 0xa5, 16 << 20);
    bk = llm_book_create(mem, (16 << 20) - 8192, book_seed);

    /* most of it is not touched before it is used */

    for (i = 0, n = 0; i < 16 << 20; i++) {
        n += (((unsigned char *) mem)[i] == 0xa5);
    }

    assert_in_range(n, 9 << 20, 16 << 20);
    llm_book_stat(bk, &st);
    print_message("16m: journals %u of %u, rows total %lu minute %lu hour "
                  "%lu day %lu month %lu, all %u %u, models %u %u, "
                  "histograms %u, names %lu %lu %lu %lu\n",
                  bk->njournals, bk->slots, st.kind_room[0], st.kind_room[1],
                  st.kind_room[2], st.kind_room[3], st.kind_room[4],
                  bk->pool[LLM_BOOK_ALL_MINUTE].room,
                  bk->pool[LLM_BOOK_ALL_HOUR].room,
                  bk->pool[LLM_BOOK_MODEL_MINUTE].room,
                  bk->pool[LLM_BOOK_MODEL_HOUR].room,
                  bk->pool[LLM_BOOK_HIST].room, st.names_room[0],
                  st.names_room[1], st.names_room[2], st.names_room[3]);
    assert_true(st.kind_room[LLM_BOOK_TOTAL] > 20000);
    assert_true(bk->pool[LLM_BOOK_ALL_MINUTE].room >= 1440);
    assert_true(bk->pool[LLM_BOOK_ALL_HOUR].room >= 2160);
    free(mem);
}


static void
test_names(void **state)
{
    char          text[200];
    unsigned      i;
    uint32_t      id;
    llm_str_t     s;
    llm_book_t   *bk;

    (void) state;

    bk = make(512 * 1024);

    assert_int_equal(name(bk, LLM_BOOK_TEAM, ""), LLM_BOOK_NONE);
    assert_int_equal(name(bk, LLM_BOOK_TEAM, "other"), LLM_BOOK_OTHER);

    s = str("search");
    assert_int_equal(llm_book_find(bk, LLM_BOOK_TEAM, &s), UINT32_MAX);
    id = llm_book_name(bk, LLM_BOOK_TEAM, &s);
    assert_int_equal(id, 2);
    assert_int_equal(llm_book_find(bk, LLM_BOOK_TEAM, &s), 2);
    assert_int_equal(llm_book_find(bk, LLM_BOOK_KEY, &s), UINT32_MAX);

    llm_book_text(bk, LLM_BOOK_TEAM, id, &s);
    assert_int_equal(s.len, 6);
    assert_memory_equal(s.data, "search", 6);

    llm_book_text(bk, LLM_BOOK_TEAM, UINT32_MAX, &s);
    assert_memory_equal(s.data, "other", 5);

    /* cut before a character, not in it */

    memset(text, 'x', sizeof(text));
    memcpy(text + 118, "\xc3\xa4", 2);
    s.data = (unsigned char *) text;
    s.len = 150;
    id = llm_book_name(bk, LLM_BOOK_MODEL, &s);
    assert_int_equal(llm_book_name(bk, LLM_BOOK_MODEL, &s), id);
    llm_book_text(bk, LLM_BOOK_MODEL, id, &s);
    assert_int_equal(s.len, 118);

    /* a flood of models folds no teams */

    for (i = 0; i < 100000; i++) {
        snprintf(text, sizeof(text), "m%u", i);
        id = name(bk, LLM_BOOK_MODEL, text);
    }

    assert_int_equal(id, LLM_BOOK_OTHER);
    assert_int_equal(bk->names[LLM_BOOK_MODEL].used,
                     bk->names[LLM_BOOK_MODEL].room);
    assert_int_equal(llm_book_names_full(bk, LLM_BOOK_MODEL), 1);
    assert_int_equal(llm_book_names_full(bk, LLM_BOOK_TEAM), 0);
    assert_int_equal(name(bk, LLM_BOOK_TEAM, "b"), 3);
    assert_int_equal(name(bk, LLM_BOOK_MODEL, "m7"), 10);

    free(bk);
}


static void
test_periods(void **state)
{
    time_t      t;
    int64_t     wall;
    uint32_t    p;
    unsigned    k;
    struct tm   tm;

    (void) state;

    seed = 5;

    for (wall = 0; wall < 8000000000; wall += 1 + (int64_t) any(500000)) {

        for (k = LLM_BOOK_MINUTE; k < LLM_BOOK_KINDS; k++) {
            p = llm_book_period((llm_book_kind_e) k, wall);

            assert_true(llm_book_start((llm_book_kind_e) k, p) <= wall);
            assert_true(llm_book_start((llm_book_kind_e) k, p + 1) > wall);
        }

        t = llm_book_start(LLM_BOOK_MONTH,
                           llm_book_period(LLM_BOOK_MONTH, wall));
        gmtime_r(&t, &tm);
        assert_int_equal(tm.tm_mday, 1);
        assert_int_equal(tm.tm_hour * 3600 + tm.tm_min * 60 + tm.tm_sec, 0);
    }
}


/* two teams, three keys, a hit; in the journal */

static llm_book_t *
example(void)
{
    llm_book_t         *bk;
    llm_book_record_t   rec;

    bk = make(512 * 1024);

    rec = record(bk, WALL, "search", "k1", "gpt-4o", "openai");
    assert_int_equal(llm_book_append(bk, 0, &rec), LLM_OK);
    rec = record(bk, WALL + 3600, "search", "k2", "gpt-4o", "azure");
    assert_int_equal(llm_book_append(bk, 0, &rec), LLM_OK);
    rec = record(bk, WALL + 86400, "ads", "k3", "gpt-4o", "openai");
    rec.status = 502;
    assert_int_equal(llm_book_append(bk, 0, &rec), LLM_OK);
    rec = record(bk, WALL + 86401, "", "k4", "gpt-4o", "");
    rec.flags = LLM_BOOK_HIT;
    rec.prompt = rec.completion = rec.money = 0;
    rec.saved_tokens = 15;
    rec.saved_money = 123;
    rec.latency = rec.first = rec.queued = LLM_BOOK_UNKNOWN;
    assert_int_equal(llm_book_append(bk, 0, &rec), LLM_OK);

    assert_int_equal(llm_book_append(bk, 4000, &rec), LLM_DECLINED);

    return bk;
}


static void
test_sums(void **state)
{
    unsigned          n;
    llm_book_t       *bk;
    llm_book_sums_t   sums;

    (void) state;

    bk = example();

    assert_int_equal(llm_book_waits(bk, 0), 1);
    sum_kind(bk, LLM_BOOK_TOTAL, &sums);
    assert_int_equal(sums.requests, 0);

    assert_int_equal(llm_book_drain(bk, LLM_BOOK_OWNERS, 3), LLM_AGAIN);
    assert_int_equal(llm_book_drain(bk, LLM_BOOK_OWNERS, 3), LLM_OK);
    assert_int_equal(llm_book_waits(bk, 0), 0);

    for (n = 0; n < LLM_BOOK_KINDS; n++) {
        sum_kind(bk, (llm_book_kind_e) n, &sums);
        assert_int_equal(sums.requests, 4);
        assert_int_equal(sums.errors, 1);
        assert_int_equal(sums.hits, 1);
        assert_int_equal(sums.prompt, 30);
        assert_int_equal(sums.completion, 15);
        assert_int_equal(sums.money, 369);
        assert_int_equal(sums.saved_money, 123);
    }

    free(bk);
}


static void
test_query(void **state)
{
    lent_t               lent;
    unsigned             n;
    llm_book_t          *bk;
    llm_book_sums_t      sums;
    llm_book_query_t     q;
    llm_book_group_t   **g;
    llm_book_result_t   *rs;

    (void) state;

    bk = example();
    (void) llm_book_drain(bk, 0, 100);

    memset(&q, 0, sizeof(llm_book_query_t));
    q.kind = LLM_BOOK_DAY;
    q.from = WALL + 1;
    q.to = WALL + 86401;
    q.group = LLM_BOOK_BY_PERIOD | LLM_BOOK_BY(LLM_BOOK_TEAM);

    rs = llm_book_result_create(&q, 10, lend(&lent));
    query(bk, rs);
    g = llm_book_result_sort(rs, &n);
    assert_int_equal(n, 3);
    assert_int_equal(g[0]->start, WALL);
    assert_memory_equal(g[0]->name[LLM_BOOK_TEAM].data, "search", 6);
    assert_int_equal(g[0]->sums.requests, 2);
    assert_int_equal(g[0]->sums.money, 246);
    assert_int_equal(g[0]->name[LLM_BOOK_KEY].len, 0);
    assert_int_equal(g[1]->start, WALL + 86400);
    assert_int_equal(g[1]->name[LLM_BOOK_TEAM].len, 0);
    assert_memory_equal(g[2]->name[LLM_BOOK_TEAM].data, "ads", 3);
    llm_book_result_total(rs, &sums);
    assert_int_equal(sums.requests, 4);

    /* filters, also by no team */

    q.filters = LLM_BOOK_BY(LLM_BOOK_TEAM);
    llm_book_result_clear(rs);
    query(bk, rs);
    (void) llm_book_result_sort(rs, &n);
    assert_int_equal(n, 1);

    give_back(&lent);
    free(bk);
}


static void
test_query_bounds(void **state)
{
    lent_t              lent;
    uint64_t            cursor;
    llm_book_t         *bk;
    llm_book_sums_t     sums;
    llm_book_query_t    q;
    llm_book_result_t  *rs;

    (void) state;

    bk = example();
    (void) llm_book_drain(bk, 0, 100);

    /* the end of the span is not in it */

    memset(&q, 0, sizeof(llm_book_query_t));
    q.kind = LLM_BOOK_DAY;
    q.from = WALL + 1;
    q.to = WALL + 86400;

    rs = llm_book_result_create(&q, 10, lend(&lent));
    query(bk, rs);
    llm_book_result_total(rs, &sums);
    assert_int_equal(sums.requests, 2);

    /* one more group than there is room for */

    q.group = LLM_BOOK_BY(LLM_BOOK_KEY);
    q.to = WALL + 100000;
    give_back(&lent);
    rs = llm_book_result_create(&q, 3, lend(&lent));

    cursor = 0;
    assert_int_equal(llm_book_result_rows(bk, rs, 0, &cursor, 1000),
                     LLM_DECLINED);

    /* hours of all requests together */

    q.kind = LLM_BOOK_HOUR;
    q.group = 0;
    give_back(&lent);
    rs = llm_book_result_create(&q, 3, lend(&lent));
    query(bk, rs);
    llm_book_result_total(rs, &sums);
    assert_int_equal(sums.requests, 4);
    assert_int_equal(sums.money, 369);

    give_back(&lent);
    free(bk);
}


/* more names in a day than there is room for: sums are kept */

static void
test_full(void **state)
{
    char                key[16];
    unsigned            i, k;
    llm_book_t         *bk;
    llm_book_sums_t     sums;
    llm_book_stat_t     st;
    llm_book_record_t   rec;

    (void) state;

    bk = make(512 * 1024);
    llm_book_stat(bk, &st);

    for (i = 0; i < 5000; i++) {
        snprintf(key, sizeof(key), "k%u", i % 150);
        rec = record(bk, WALL + i % 10, "t", key, i % 3 ? "a" : "b",
                     i % 7 ? "p" : "q");
        rec.status = 200 + i % 40;
        llm_book_post(bk, &rec);
    }

    for (k = 0; k < LLM_BOOK_KINDS; k++) {
        sum_kind(bk, (llm_book_kind_e) k, &sums);
        assert_int_equal(sums.requests, 5000);
        assert_int_equal(sums.money, 5000 * 123);
    }

    llm_book_stat(bk, &st);
    assert_true(st.folded > 100);
    assert_int_equal(st.posted, 5000);
    assert_int_equal(st.evicted, 0);

    /* days later the oldest give way, and totals do not */

    for (i = 0; i < 40000; i++) {
        snprintf(key, sizeof(key), "k%u", i % 100);
        rec = record(bk, WALL + (int64_t) i * 400, "t", key, "a", "p");
        llm_book_post(bk, &rec);
    }

    sum_kind(bk, LLM_BOOK_TOTAL, &sums);
    assert_int_equal(sums.requests, 45000);
    sum_kind(bk, LLM_BOOK_DAY, &sums);
    assert_true(sums.requests < 45000);
    llm_book_stat(bk, &st);
    assert_true(st.evicted > 100);
    assert_true(llm_book_lost(bk, LLM_BOOK_DAY)
                > llm_book_period(LLM_BOOK_DAY, WALL));

    /* what is left is whole: the last day has all its requests */

    i = llm_book_period(LLM_BOOK_DAY, WALL + (int64_t) 39999 * 400);
    assert_true(llm_book_lost(bk, LLM_BOOK_DAY) < i);

    free(bk);
}


static void
test_histograms(void **state)
{
    unsigned             i, k;
    uint64_t             cursor, n;
    llm_str_t            s;
    llm_book_t          *bk;
    llm_book_hists_t     h;
    llm_book_record_t    rec;
    llm_book_between_t   bt;
    llm_book_latency_t   lat;
    static uint32_t      times[20000];

    (void) state;

    bk = make(1 << 20);
    seed = 99;

    for (i = 0; i < 20000; i++) {
        rec = record(bk, WALL, "t", "k", i % 2 ? "a" : "b", "p");
        rec.latency = (uint32_t) any(1u << (3 + any(18)));
        rec.first = i < 100 ? i : LLM_BOOK_UNKNOWN;
        times[i] = rec.latency;
        llm_book_post(bk, &rec);
    }

    memset(&bt, 0, sizeof(bt));
    llm_book_between(&bt, 0);
    llm_book_between(&bt, 1);
    llm_book_between(&bt, 2);
    llm_book_between(&bt, 99999);
    rec = record(bk, WALL, "t", "k", "a", "p");
    assert_int_equal(llm_book_append_between(bk, 0, rec.name[LLM_BOOK_MODEL],
                     rec.name[LLM_BOOK_PROVIDER], &bt), LLM_OK);
    llm_book_drain(bk, 0, 1);

    cursor = 0;
    n = 0;

    for (k = 0; llm_book_hists(bk, &cursor, &h) == LLM_OK; k++) {
        for (i = 0; i < LLM_BOOK_BUCKETS; i++) {
            n += h.hist[LLM_BOOK_LATENCY].n[i];
        }

        if (h.model.data[0] == 'a') {
            assert_int_equal(h.hist[LLM_BOOK_BETWEEN].n[0], 2);
            assert_int_equal(h.hist[LLM_BOOK_BETWEEN].n[1], 1);
            assert_int_equal(h.hist[LLM_BOOK_BETWEEN].n[14], 1);
            assert_int_equal(h.hist[LLM_BOOK_BETWEEN].sum, 100002);
        }
    }

    assert_int_equal(k, 2);
    assert_int_equal(n, 20000);

    /* percentiles against those of the sorted times */

    for (i = 1; i < 20000; i++) {
        uint32_t  t = times[i];

        for (k = i; k > 0 && times[k - 1] > t; k--) {
            times[k] = times[k - 1];
        }

        times[k] = t;
    }

    assert_int_equal(llm_book_latency(bk, LLM_BOOK_MINUTE,
                     llm_book_period(LLM_BOOK_MINUTE, WALL), NULL, &lat),
                     LLM_OK);
    assert_int_equal(lat.n[0], 20000);
    assert_int_equal(lat.n[1], 100);
    assert_true(abs((int) lat.p50[0] - (int) times[9999])
                <= (int) times[9999] / 10);
    assert_true(abs((int) lat.p95[0] - (int) times[18999])
                <= (int) times[18999] / 10);
    assert_true(abs((int) lat.p99[0] - (int) times[19799])
                <= (int) times[19799] / 10);

    s = str("a");
    assert_int_equal(llm_book_latency(bk, LLM_BOOK_HOUR,
                     llm_book_period(LLM_BOOK_HOUR, WALL), &s, &lat), LLM_OK);
    assert_int_equal(lat.n[0], 10000);
    assert_int_equal(lat.n[1], 50);

    s = str("nobody");
    assert_int_equal(llm_book_latency(bk, LLM_BOOK_HOUR,
                     llm_book_period(LLM_BOOK_HOUR, WALL), &s, &lat),
                     LLM_DECLINED);
    free(bk);
}


/* every step's middle is within a tenth of all that is in it */

static void
test_steps(void **state)
{
    uint32_t  ms, low, high, middle;
    unsigned  i;

    (void) state;

    for (ms = 0; ms < 2346801; ms++) {
        i = llm_book_step(ms);
        low = llm_book_steps[i];
        high = llm_book_steps[i + 1] - 1;
        middle = (low + high) / 2;

        assert_true(low <= ms && ms <= high);
        assert_true((middle > ms ? middle - ms : ms - middle) * 10 <= ms);
    }

    assert_int_equal(llm_book_step(UINT32_MAX - 1), LLM_BOOK_STEPS - 1);
}


static void
test_text(void **state)
{
    unsigned          i;
    llm_str_t         n[LLM_BOOK_NAMES], m[LLM_BOOK_NAMES], s;
    unsigned char     field[LLM_BOOK_FIELD], value[LLM_BOOK_VALUE];
    llm_book_sums_t   sums, back;

    (void) state;

    n[0] = str("7:se\narch");
    n[1] = str("");
    n[2] = str("gpt 4 2:x");
    n[3] = str("p");

    s.data = field;
    s.len = llm_book_put_names(n, field);
    assert_int_equal(llm_book_get_names(&s, m), LLM_OK);

    for (i = 0; i < LLM_BOOK_NAMES; i++) {
        assert_int_equal(n[i].len, m[i].len);
        assert_memory_equal(n[i].data, m[i].data, n[i].len);
    }

    for (s.len--; s.len > 0; s.len--) {
        assert_int_equal(llm_book_get_names(&s, m), LLM_ERROR);
    }

    memset(&sums, 0, sizeof(sums));
    sums.requests = 3;
    sums.money = INT64_MAX;
    s.data = value;
    s.len = llm_book_put_sums(&sums, value);
    assert_memory_equal(value, "3 0 0 0 0 0 0 0 0 9223372036854775807",
                        s.len);
    assert_int_equal(llm_book_get_sums(&s, &back), LLM_OK);
    assert_memory_equal(&sums, &back, sizeof(sums));

    s = str("1 2 x");
    assert_int_equal(llm_book_get_sums(&s, &back), LLM_ERROR);
    s = str("9223372036854775808");
    assert_int_equal(llm_book_get_sums(&s, &back), LLM_ERROR);
    s = str("");
    assert_int_equal(llm_book_get_sums(&s, &back), LLM_ERROR);
}


/* what it costs; of interest, not a test */

static void
test_speed(void **state)
{
    unsigned            i;
    uint64_t            a, b, c;
    llm_str_t           s[4];
    llm_book_t         *bk;
    struct timespec     t0, t1, t2;
    llm_book_record_t   rec;

    (void) state;

    bk = make(16 << 20);
    rec = record(bk, WALL, "search", "notebooks", "gpt-4o", "openai");
    s[0] = str("search");
    s[1] = str("notebooks");
    s[2] = str("gpt-4o-mini-2026-01-01");
    s[3] = str("openai");

    for (i = 0; i < 4; i++) {
        (void) llm_book_name(bk, (llm_book_name_e) i, &s[i]);
    }

    a = b = c = 0;

    for (i = 0; i < 2000; i++) {
        unsigned  k, j;

        clock_gettime(CLOCK_MONOTONIC, &t0);

        for (k = 0; k < 100; k++) {
            for (j = 0; j < 4; j++) {
                rec.name[j] = llm_book_find(bk, (llm_book_name_e) j, &s[j]);
            }

            assert_true(llm_book_append(bk, 0, &rec) == LLM_OK);
        }

        clock_gettime(CLOCK_MONOTONIC, &t1);
        (void) llm_book_drain(bk, 0, 1000);
        clock_gettime(CLOCK_MONOTONIC, &t2);

        a += (uint64_t) ((t1.tv_sec - t0.tv_sec) * 1000000000
                         + t1.tv_nsec - t0.tv_nsec);
        b += (uint64_t) ((t2.tv_sec - t1.tv_sec) * 1000000000
                         + t2.tv_nsec - t1.tv_nsec);
        c += 100;
    }

    print_message("names and append: %lu ns, posting: %lu ns\n", a / c,
                  b / c);
    free(bk);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_periods),
        cmocka_unit_test(test_sums),
        cmocka_unit_test(test_query),
        cmocka_unit_test(test_query_bounds),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_histograms),
        cmocka_unit_test(test_steps),
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_speed)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
