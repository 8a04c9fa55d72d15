
/*
 * Copyright (C) the ngx-llm authors
 *
 * What is found in a keyring, of the file and of the admin API.
 */


#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "keyring_help.h"


#define SIZE  (256 * 1024)


static unsigned char        memory[SIZE] __attribute__((aligned(128)));
static llm_keyring_t       *kr;
static llm_keyring_found_t  found;
static llm_keyring_item_t   item;
static char                 other[LLM_KEYRING_OTHER];


static int
setup(void **state)
{
    (void) state;

    kr = llm_keyring_create(memory, SIZE);

    return kr == NULL;
}


static int
teardown(void **state)
{
    (void) state;

    assert_null(keyring_wrong(kr));

    return 0;
}


static uint64_t
begin(void)
{
    uint64_t  ticket;

    while (llm_keyring_begin(kr, &ticket) == LLM_AGAIN) {
        (void) llm_keyring_sweep(kr, 3);
    }

    return ticket;
}


static int
find(unsigned n, int64_t now)
{
    unsigned char  sha256[32];

    secret(sha256, n);

    return llm_keyring_find(kr, sha256, now, &found, fresh_arena());
}


static int
find_name(const char *name)
{
    llm_str_t  s = str(name);

    return llm_keyring_find_name(kr, &s, 0, &found, fresh_arena());
}


static int
put(const llm_policy_row_t *row)
{
    return llm_keyring_put(kr, row, LLM_KEYRING_ANY);
}


static void
load(const llm_policy_row_t *rows, unsigned n)
{
    uint64_t  ticket;

    ticket = begin();

    while (n-- > 0) {
        assert_int_equal(llm_keyring_load(kr, ticket, rows++, other), LLM_OK);
    }

    assert_int_equal(llm_keyring_end(kr, ticket), LLM_OK);
}


static void
test_generations(void **state)
{
    uint64_t            ticket, version;
    llm_terms_t         terms;
    llm_policy_row_t    rows[3];
    llm_keyring_stat_t  stat;

    (void) state;

    assert_false(llm_keyring_loaded(kr));
    assert_int_equal(find(1, 0), LLM_DECLINED);

    rows[0] = team_row("t", 0);
    rows[0].terms.concurrency = 9;
    rows[1] = key_row("a", "t", 1, 0);
    rows[2] = key_row("b", "", 2, 0);
    rows[2].terms.requests_per_minute = 5;
    load(rows, 3);

    assert_true(llm_keyring_loaded(kr));
    version = llm_keyring_version(kr);

    assert_int_equal(find(1, 0), LLM_OK);
    assert_memory_equal(found.key.limit.name.data, "k:a", 3);
    assert_int_equal(found.key.limit.hash,
                     llm_policy_hash(&found.key.limit.name));
    assert_ptr_equal(found.key.team, &found.team);
    assert_int_equal(found.team.limit.concurrency, 9);
    assert_int_equal(found.key.limit.concurrency, LLM_UNLIMITED);
    assert_int_equal(found.key.dynamic, 0);

    /* the next one: the same but for one key, which is not to be seen yet */

    llm_keyring_stat(kr, &stat);
    assert_int_equal(stat.keys, 2);
    assert_int_equal(stat.used, 3);

    ticket = begin();
    llm_policy_terms_clear(&terms);
    terms.concurrency = 4;
    assert_int_equal(llm_keyring_load_defaults(kr, ticket, &terms), LLM_OK);
    rows[2].terms.requests_per_minute = 6;
    rows[2].name = str("c");
    assert_int_equal(llm_keyring_load(kr, ticket, &rows[1], other),
                     LLM_KEYRING_TEAM);
    assert_int_equal(llm_keyring_load(kr, ticket, &rows[0], other), LLM_OK);
    assert_int_equal(llm_keyring_load(kr, ticket, &rows[1], other), LLM_OK);
    assert_int_equal(llm_keyring_load(kr, ticket, &rows[1], other),
                     LLM_KEYRING_NAME);
    assert_int_equal(llm_keyring_load(kr, ticket, &rows[2], other), LLM_OK);

    rows[2].name = str("d");
    assert_int_equal(llm_keyring_load(kr, ticket, &rows[2], other),
                     LLM_KEYRING_SECRET);
    assert_string_equal(other, "c");

    llm_keyring_stat(kr, &stat);
    assert_int_equal(stat.used, 4);
    assert_int_equal(llm_keyring_version(kr), version);

    assert_int_equal(find(2, 0), LLM_OK);
    assert_int_equal(found.key.limit.rates.rpm, 5);
    assert_int_equal(find_name("c"), LLM_DECLINED);
    assert_int_equal(found.key.limit.concurrency, LLM_UNLIMITED);

    assert_int_equal(llm_keyring_end(kr, ticket), LLM_OK);
    assert_true(llm_keyring_version(kr) > version);
    assert_int_equal(find(2, 0), LLM_OK);
    assert_memory_equal(found.key.name.data, "c", 1);
    assert_int_equal(found.key.limit.rates.rpm, 6);
    assert_int_equal(found.key.limit.concurrency, 4);
    assert_int_equal(find_name("b"), LLM_DECLINED);
}


/* what is left of an old one goes, also of one that was not finished */

static void
test_sweep(void **state)
{
    uint64_t            ticket, first;
    llm_policy_row_t    rows[3];
    llm_keyring_stat_t  stat;

    (void) state;

    rows[0] = team_row("t", 0);
    rows[1] = key_row("a", "t", 1, 0);
    rows[2] = key_row("b", "", 2, 0);
    load(rows, 3);
    rows[2].terms.concurrency = 3;
    load(rows, 3);

    llm_keyring_stat(kr, &stat);
    assert_int_equal(stat.used, 4);

    while (llm_keyring_sweep(kr, 1) == LLM_AGAIN) { /* void */ }
    llm_keyring_stat(kr, &stat);
    assert_int_equal(stat.used, 3);

    first = begin();
    rows[2].name = str("e");
    secret(rows[2].sha256, 77);
    assert_int_equal(llm_keyring_load(kr, first, &rows[2], other), LLM_OK);

    ticket = begin();
    assert_int_equal(llm_keyring_load(kr, first, &rows[2], other), LLM_ERROR);
    assert_int_equal(llm_keyring_end(kr, first), LLM_ERROR);
    llm_keyring_abandon(kr, first);
    llm_keyring_stat(kr, &stat);
    assert_int_equal(stat.used, 3);
    assert_true(stat.loading);

    llm_keyring_abandon(kr, ticket);
    assert_int_equal(find(1, 0), LLM_OK);
    assert_int_equal(find(77, 0), LLM_DECLINED);
}


static void
test_shadow(void **state)
{
    llm_str_t           name;
    llm_policy_row_t    rows[2], row;
    llm_keyring_stat_t  stat;

    (void) state;

    row = key_row("a", "", 10, 1);
    row.terms.requests_per_minute = 1;
    assert_int_equal(put(&row), LLM_OK);
    row = key_row("x", "", 2, 1);
    assert_int_equal(put(&row), LLM_OK);
    assert_int_equal(find(10, 0), LLM_OK);
    assert_int_equal(found.key.dynamic, 1);

    /* by name, by secret */

    rows[0] = key_row("a", "", 1, 0);
    rows[0].terms.requests_per_minute = 2;
    rows[1] = key_row("b", "", 2, 0);
    load(rows, 2);

    assert_int_equal(find(10, 0), LLM_DECLINED);
    assert_int_equal(find_name("a"), LLM_OK);
    assert_int_equal(found.key.limit.rates.rpm, 2);
    assert_int_equal(find(2, 0), LLM_OK);
    assert_memory_equal(found.key.name.data, "b", 1);
    assert_int_equal(find_name("x"), LLM_DECLINED);

    name = str("x");
    assert_int_equal(llm_keyring_get(kr, LLM_ROW_KEY, &name, -1, &item,
                                     fresh_arena()), LLM_OK);
    assert_true(item.shadowed && item.dynamic);
    name = str("a");
    assert_int_equal(llm_keyring_get(kr, LLM_ROW_KEY, &name, 1, &item,
                                     fresh_arena()), LLM_OK);
    assert_true(item.shadowed && item.row.version == 1);
    assert_int_equal(llm_keyring_get(kr, LLM_ROW_KEY, &name, -1, &item,
                                     fresh_arena()), LLM_OK);
    assert_false(item.dynamic);

    /* back when the file's are gone */

    load(rows, 0);
    assert_int_equal(find(10, 0), LLM_OK);
    assert_int_equal(find_name("x"), LLM_OK);

    llm_keyring_stat(kr, &stat);
    assert_int_equal(stat.keys, 0);
    assert_int_equal(stat.dynamic_keys, 2);
}


static void
test_teams(void **state)
{
    llm_str_t         name, model;
    llm_team_t        team;
    llm_policy_row_t  row;

    (void) state;

    row = key_row("a", "t", 1, 1);
    assert_int_equal(put(&row), LLM_OK);
    assert_int_equal(find(1, 0), LLM_OK);
    assert_int_equal(found.key.enabled, 0);
    assert_null(found.key.team);

    name = str("a");
    assert_int_equal(llm_keyring_get(kr, LLM_ROW_KEY, &name, 1, &item,
                                     fresh_arena()), LLM_OK);
    assert_true(item.orphan);

    row = team_row("t", 1);
    model = str("gpt-*");
    row.models = &model;
    row.nmodels = 1;
    row.terms.priority = -3;
    row.terms.queue_size = 5;
    assert_int_equal(put(&row), LLM_OK);
    assert_int_equal(find(1, 0), LLM_OK);
    assert_int_equal(found.key.enabled, 1);
    assert_int_equal(found.key.terms.priority, -3);
    assert_int_equal(found.key.terms.queue_size, 5);
    name = str("gpt-4o");
    assert_true(llm_policy_allows(&found.key, &name));
    name = str("o3");
    assert_false(llm_policy_allows(&found.key, &name));

    /* the file's wins */

    row = team_row("t", 0);
    row.terms.priority = 7;
    load(&row, 1);
    assert_int_equal(find(1, 0), LLM_OK);
    assert_int_equal(found.key.terms.priority, 7);
    assert_int_equal(found.team.nmodels, 0);

    name = str("t");
    assert_int_equal(llm_keyring_find_team(kr, &name, 0, &team,
                                           fresh_arena()), LLM_OK);
    assert_int_equal(team.terms.priority, 7);
    name = str("u");
    assert_int_equal(llm_keyring_find_team(kr, &name, 0, &team,
                                           fresh_arena()), LLM_DECLINED);
}


static void
test_rotation(void **state)
{
    llm_policy_row_t  row;

    (void) state;

    row = key_row("a", "", 1, 1);
    assert_int_equal(put(&row), LLM_OK);

    secret(row.old_sha256, 1);
    secret(row.sha256, 2);
    row.old_until = 100;
    row.version = 2;
    assert_int_equal(put(&row), LLM_OK);

    assert_int_equal(find(2, 1000), LLM_OK);
    assert_true(found.good_until == INT64_MAX);
    assert_int_equal(find(1, 99), LLM_OK);
    assert_int_equal(found.good_until, 100);
    assert_memory_equal(found.key.sha256, row.sha256, 32);
    assert_int_equal(find(1, 100), LLM_DECLINED);

    /* neither of the two can be another's */

    row = key_row("b", "", 1, 1);
    assert_int_equal(put(&row), LLM_KEYRING_SECRET);
    row = key_row("b", "", 2, 1);
    assert_int_equal(put(&row), LLM_KEYRING_SECRET);
    row = key_row("b", "", 3, 1);
    secret(row.old_sha256, 2);
    row.old_until = 5;
    assert_int_equal(put(&row), LLM_KEYRING_SECRET);

    row = key_row("a", "", 4, 3);
    assert_int_equal(put(&row), LLM_OK);
    assert_int_equal(find(1, 0), LLM_DECLINED);
    assert_int_equal(find(2, 0), LLM_DECLINED);
    assert_int_equal(find(4, 0), LLM_OK);
}


static void
test_raise(void **state)
{
    llm_policy_row_t  row;

    (void) state;

    row = key_row("a", "", 1, 1);
    row.terms.requests_per_minute = 10;
    row.terms.budget_micro_usd = 5;
    row.terms.budget_month = 1;
    row.raise[LLM_RAISE_REQUESTS_PER_MINUTE].value = 600;
    row.raise[LLM_RAISE_REQUESTS_PER_MINUTE].until = 100;
    row.raise[LLM_RAISE_BUDGET].value = 50;
    row.raise[LLM_RAISE_BUDGET].until = 200;
    row.raise[LLM_RAISE_CONCURRENCY].value = 3;
    row.raise[LLM_RAISE_CONCURRENCY].until = 50;
    assert_int_equal(put(&row), LLM_OK);

    assert_int_equal(find(1, 49), LLM_OK);
    assert_int_equal(found.key.limit.rates.rpm, 600);
    assert_int_equal(found.key.limit.rates.burst, 600);
    assert_int_equal(found.key.limit.rates.budget, 50);
    assert_int_equal(found.key.limit.rates.month, 1);
    assert_int_equal(found.key.limit.concurrency, 3);
    assert_int_equal(found.good_until, 50);

    assert_int_equal(find(1, 100), LLM_OK);
    assert_int_equal(found.good_until, 200);
    assert_int_equal(found.key.limit.rates.rpm, 10);
    assert_int_equal(found.key.limit.rates.budget, 50);
    assert_int_equal(found.key.limit.concurrency, LLM_UNLIMITED);

    assert_int_equal(find(1, 200), LLM_OK);
    assert_true(found.good_until == INT64_MAX);

    /* what is raised for the team ends for its keys, too */

    row = team_row("t", 1);
    row.raise[LLM_RAISE_CONCURRENCY].value = 3;
    row.raise[LLM_RAISE_CONCURRENCY].until = 300;
    assert_int_equal(put(&row), LLM_OK);
    row = key_row("b", "t", 2, 1);
    assert_int_equal(put(&row), LLM_OK);

    assert_int_equal(find(2, 299), LLM_OK);
    assert_int_equal(found.good_until, 300);
}


static void
test_versions(void **state)
{
    llm_str_t         name;
    llm_policy_row_t  row;

    (void) state;

    row = key_row("a", "", 1, 5);
    assert_int_equal(llm_keyring_put(kr, &row, 4), LLM_KEYRING_CHANGED);
    assert_int_equal(llm_keyring_put(kr, &row, 0), LLM_OK);
    assert_int_equal(llm_keyring_put(kr, &row, 0), LLM_KEYRING_NAME);
    assert_int_equal(put(&row), LLM_KEYRING_STALE);
    row.version = 4;
    assert_int_equal(put(&row), LLM_KEYRING_STALE);
    row.version = 6;
    assert_int_equal(llm_keyring_put(kr, &row, 4), LLM_KEYRING_CHANGED);
    assert_int_equal(llm_keyring_put(kr, &row, 5), LLM_OK);
    row.version = 0;
    assert_int_equal(put(&row), LLM_ERROR);

    name = str("a");
    assert_int_equal(llm_keyring_remove(kr, LLM_ROW_TEAM, &name, 0),
                     LLM_DECLINED);
    assert_int_equal(llm_keyring_remove(kr, LLM_ROW_KEY, &name, 5),
                     LLM_KEYRING_CHANGED);
    assert_int_equal(llm_keyring_remove(kr, LLM_ROW_KEY, &name, 6), LLM_OK);
    assert_int_equal(llm_keyring_remove(kr, LLM_ROW_KEY, &name, 0),
                     LLM_DECLINED);
    assert_int_equal(find(1, 0), LLM_DECLINED);
}


/* full: nothing new, but what there is can still be disabled */

static void
test_full(void **state)
{
    char                name[32];
    unsigned            n;
    uint64_t            ticket;
    llm_policy_row_t    row;
    llm_keyring_stat_t  stat;

    (void) state;

    for (n = 0; /* void */ ; n++) {
        snprintf(name, sizeof(name), "key%u", n);
        row = key_row(name, "", n, 1);

        if (put(&row) != LLM_OK) {
            break;
        }
    }

    llm_keyring_stat(kr, &stat);
    assert_true(n > 1500);
    assert_int_equal(stat.dynamic_keys, n);
    assert_int_equal(put(&row), LLM_DECLINED);

    ticket = begin();
    row.version = 0;
    assert_int_equal(llm_keyring_load(kr, ticket, &row, other), LLM_DECLINED);
    llm_keyring_abandon(kr, ticket);

    row = key_row("key7", "", 7, 2);
    row.enabled = 0;
    assert_int_equal(put(&row), LLM_OK);
    assert_int_equal(find(7, 0), LLM_OK);
    assert_int_equal(found.key.enabled, 0);
}


static void
test_walk(void **state)
{
    char                name[80];
    unsigned            n, i, got, seen[500];
    uint64_t            cursor;
    llm_policy_row_t    row;
    llm_keyring_item_t  items[LLM_KEYRING_PAGE];

    (void) state;

    memset(seen, 0, sizeof(seen));

    for (n = 0; n < 500; n++) {
        snprintf(name, sizeof(name), "%u%.*s", n, (int) (n % 60),
                 "-a-name-of-any-length-up-to-the-longest-that-there-can-be-ok"
                 );
        row = key_row(name, "", n, 1);
        assert_int_equal(put(&row), LLM_OK);
    }

    cursor = 0;

    do {
        assert_int_equal(llm_keyring_walk(kr, LLM_ROW_KEY, LLM_KEYRING_ALL,
                                          &cursor, items, LLM_KEYRING_PAGE,
                                          &got, fresh_arena()),
                         LLM_OK);
        assert_true(got <= LLM_KEYRING_PAGE);

        for (i = 0; i < got; i++) {
            seen[atoi((char *) items[i].row.name.data)]++;
        }

        /* changes on the way: replaced, and another one gone and back */

        for (i = 0; i < got; i++) {
            row = items[i].row;
            row.version++;
            assert_int_equal(put(&row), LLM_OK);
        }

    } while (cursor != 0);

    for (n = 0; n < 500; n++) {
        assert_int_equal(seen[n], 1);
    }

    cursor = 0;
    assert_int_equal(llm_keyring_walk(kr, LLM_ROW_TEAM, LLM_KEYRING_ALL,
                                      &cursor, items, LLM_KEYRING_PAGE, &got,
                                      fresh_arena()), LLM_OK);
    assert_int_equal(got, 0);
    assert_int_equal(cursor, 0);
}


/* what a row says, through the keyring and as JSON */

static void
test_row(void **state)
{
    char               err[300], text[2048], again[2048];
    size_t             n, path;
    llm_str_t          name;
    llm_policy_row_t   row;
    static const char  all[] =
        "\"team\":\"t\",\"requests_per_minute\":1,\"requests_per_day\":2,"
        "\"tokens_per_minute\":3,\"tokens_per_day\":1000000000000000,"
        "\"burst_requests\":5,\"burst_tokens\":6,\"concurrency\":7,"
        "\"budget\":{\"usd\":0.000001,\"period\":\"month\"},"
        "\"queue\":{\"size\":0,\"timeout_ms\":9,\"rates\":true},"
        "\"cache\":{\"scope\":\"team\",\"ttl_s\":8,\"use\":false,"
        "\"skip\":true},\"priority\":-100,\"on_exceed\":\"finish\","
        "\"clamp_max_tokens\":true,\"models\":[\"a\\\"\\\\*\",\"b\"],"
        "\"expires\":\"2027-02-28T23:59:58Z\",\"enabled\":false,"
        "\"metadata\":{\"who\":\"\\u0001x\"},\"created\":5,\"version\":6,"
        "\"raises\":[{\"limit\":\"concurrency\",\"value\":4,\"until\":5},"
        "{\"limit\":\"budget\",\"value\":7,\"until\":8}],"
        "\"sha256\":\"0011223344556677889900112233445566778899001122334455667"
        "788990011\",\"hint\":\"x7Qa\",\"rotation\":{\"sha256\":\"1111223344"
        "556677889900112233445566778899001122334455667788990011\","
        "\"until\":9}";

    (void) state;

    llm_policy_row_clear(&row, LLM_ROW_KEY);
    snprintf(text, sizeof(text), "{%s}", all);

    if (llm_policy_row_parse(&row, text, strlen(text), LLM_POLICY_RECORD,
                             NULL, fresh_arena(), err, sizeof(err), &path)
        != LLM_OK)
    {
        fail_msg("%s", err);
    }

    row.name = str("full");
    assert_int_equal(put(&row), LLM_OK);

    name = str("full");
    assert_int_equal(llm_keyring_get(kr, LLM_ROW_KEY, &name, 1, &item,
                                     fresh_arena()), LLM_OK);

    n = llm_policy_row_write(&item.row, LLM_POLICY_RECORD, again,
                             sizeof(again));
    again[n] = '\0';
    assert_string_equal(again, all);
    assert_int_equal(llm_policy_row_write(&item.row, LLM_POLICY_RECORD, NULL,
                                          0), n);
}


static void
patch(const char *present, const char *change, const char *expected)
{
    char                      err[300], text[512];
    size_t                    n, path;
    llm_policy_row_t          row;
    static const char *const  others[] = { "name", NULL };

    llm_policy_row_clear(&row, LLM_ROW_KEY);
    assert_int_equal(llm_policy_row_parse(&row, present, strlen(present), 0,
                                          others, fresh_arena(), err,
                                          sizeof(err), NULL),
                     LLM_OK);

    row.created = 5;

    if (llm_policy_row_parse(&row, change, strlen(change), LLM_POLICY_PATCH,
                             others, &arena, err, sizeof(err), &path)
        != LLM_OK)
    {
        assert_string_equal(err, expected);
        assert_true(path == 0 || err[path] == ':');
        return;
    }

    assert_int_equal(row.created, 5);
    n = llm_policy_row_write(&row, 0, text, sizeof(text));
    text[n] = '\0';
    assert_string_equal(text, expected);
}


static void
test_patch(void **state)
{
    (void) state;

    patch("{\"name\":4,\"requests_per_minute\":5}", "{\"name\":\"x\"}",
          "\"requests_per_minute\":5");
    patch("{\"requests_per_minute\":5}", "{\"requests_per_minute\":null,"
          "\"enabled\":false}", "\"enabled\":false");
    patch("{\"enabled\":false}", "{\"enabled\":true}", "");
    patch("{\"budget\":{\"usd\":5.5,\"period\":\"day\"}}",
          "{\"budget\":{\"usd\":7}}",
          "\"budget\":{\"usd\":7,\"period\":\"day\"}");
    patch("{\"budget\":{\"usd\":5,\"period\":\"day\"}}",
          "{\"budget\":{\"period\":null}}",
          "budget.period: expected \"day\" or \"month\", got nothing");
    patch("{\"metadata\":{\"a\":\"b\",\"c\":\"d\"}}",
          "{\"metadata\":{\"a\":null,\"e\":\"f\"}}",
          "\"metadata\":{\"c\":\"d\",\"e\":\"f\"}");
    patch("{\"models\":[\"a\",\"b\"]}", "{\"models\":[\"c\"]}",
          "\"models\":[\"c\"]");
    patch("{}", "{\"concurrency\":\"4\"}",
          "concurrency: expected a positive integer, got \"4\"");
    patch("{}", "{\"speed\":4}", "speed: unknown member");
    patch("{}", "[]", ".: expected an object, got an empty list");
    patch("{}", "{",
          "line 1, column 1: string or '}' expected near end of file");
    patch("{\"team\":\"t\"}", "{\"weight\":4}", "weight: slots are shared by "
          "teams, a key in one has no weight of its own");
    patch("{\"weight\":4}", "{\"weight\":null,\"team\":\"t\"}",
          "\"team\":\"t\"");
    patch("{}", "{\"version\":4}", "version: unknown member");
}


#define test(name)                                                            \
    cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
    const struct CMUnitTest  tests[] = {
        test(test_generations),
        test(test_sweep),
        test(test_shadow),
        test(test_teams),
        test(test_rotation),
        test(test_raise),
        test(test_versions),
        test(test_full),
        test(test_walk),
        test(test_row),
        test(test_patch),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
