
/*
 * Copyright (C) the ngx-llm authors
 */


#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <jansson.h>

#include "json_starve.h"
#include "policy_parse.h"


static llm_policy_t *
contract(void)
{
    return parse("{\"defaults\":{\"requests_per_minute\":60,\"concurrency\":8,"
                 "\"requests_per_day\":1000},"
                 "\"keys\":{\"notebooks\":{\"team\":\"search\","
                 "\"sha256\":\"" HEX "\",\"requests_per_minute\":61,"
                 "\"tokens_per_minute\":20000,\"concurrency\":4,"
                 "\"queue\":{\"size\":64,\"timeout_ms\":20000},"
                 "\"priority\":-1,"
                 "\"models\":[\"*o\",\"gpt-4o-mini\",\"text-*\"],"
                 "\"expires\":\"2027-01-01T00:00:00Z\",\"enabled\":false},"
                 "\"other\":{\"sha256\":\"" HEX1 "\",\"burst_requests\":7}},"
                 "\"teams\":{\"empty\":{},\"search\":{"
                 "\"requests_per_minute\":600,\"tokens_per_minute\":200000,"
                 "\"concurrency\":32,\"budget\":{\"usd\":500,"
                 "\"period\":\"month\"},\"cache\":{\"scope\":\"key\"},"
                 "\"models\":[\"gpt-4o*\",\"text-embedding-3-*\"]}}}");
}


static void
unlimited(const llm_limit_t *limit)
{
    assert_int_equal(limit->rates.rpm, LLM_UNLIMITED);
    assert_int_equal(limit->rates.burst, 0);
    assert_int_equal(limit->rates.tpm, LLM_UNLIMITED);
    assert_int_equal(limit->rates.burst_tokens, 0);
    assert_int_equal(limit->rates.rpd, LLM_UNLIMITED);
    assert_int_equal(limit->rates.tpd, LLM_UNLIMITED);
    assert_int_equal(limit->rates.budget, LLM_UNLIMITED);
    assert_int_equal(limit->concurrency, LLM_UNLIMITED);
    assert_int_equal(limit->weight, 1);
    assert_int_equal(limit->fair, 0);
}


static void
test_contract(void **state)
{
    llm_policy_t      *p;
    const llm_key_t   *k;
    const llm_team_t  *t;

    (void) state;

    p = contract();
    assert_string_equal(err, "");
    assert_non_null(p);
    assert_int_equal(llm_policy_keys(p), 2);
    assert_int_equal(llm_policy_teams(p), 2);
    assert_null(llm_policy_key(p, 2));
    assert_null(llm_policy_team(p, 2));

    k = llm_policy_key(p, 0);
    t = llm_policy_team(p, 1);

    assert_int_equal(k->name.len, 9);
    assert_memory_equal(k->name.data, "notebooks", 9);
    assert_memory_equal(k->team->name.data, t->name.data, t->name.len);
    assert_int_equal(k->terms.requests_per_minute, 61);
    assert_int_equal(k->terms.requests_per_day, 1000);
    assert_int_equal(k->terms.tokens_per_minute, 20000);
    assert_int_equal(k->terms.tokens_per_day, -1);
    assert_int_equal(k->terms.concurrency, 4);
    assert_int_equal(k->terms.budget_micro_usd, -1);
    assert_int_equal(k->terms.queue_size, 64);
    assert_int_equal(k->terms.queue_timeout, 20000);
    assert_int_equal(k->terms.queue_rates, 0);
    assert_int_equal(k->terms.priority, -1);
    assert_int_equal(k->terms.cache_scope, LLM_SCOPE_KEY);
    assert_int_equal(k->terms.cache_ttl, -1);
    assert_int_equal(k->terms.cache_use, 1);
    assert_int_equal(k->terms.cache_skip, 1);
    assert_int_equal(k->expires, 1798761600);
    assert_int_equal(k->enabled, 0);
    assert_int_equal(k->nmodels, 3);
    assert_int_equal(k->limit.name.len, 11);
    assert_memory_equal(k->limit.name.data, "k:notebooks", 11);
    assert_int_equal(k->limit.rates.rpm, 61);
    assert_int_equal(k->limit.rates.burst, 61);
    assert_int_equal(k->limit.rates.tpm, 20000);
    assert_int_equal(k->limit.rates.burst_tokens, 20000);
    assert_int_equal(k->limit.rates.rpd, 1000);
    assert_int_equal(k->limit.rates.tpd, LLM_UNLIMITED);
    assert_int_equal(k->limit.rates.budget, LLM_UNLIMITED);
    assert_int_equal(k->limit.weight, 1);
    assert_int_equal(k->terms.cut, 0);
    assert_int_equal(k->terms.clamp, 0);
    assert_int_equal(k->limit.concurrency, 4);

    assert_memory_equal(t->limit.name.data, "t:search", 8);
    assert_int_equal(t->terms.budget_micro_usd, 500000000);
    assert_int_equal(t->terms.budget_month, 1);
    assert_int_equal(t->terms.priority, 0);
    assert_int_equal(t->terms.requests_per_day, -1);
    assert_int_equal(t->limit.rates.rpm, 600);
    assert_int_equal(t->limit.rates.burst, 600);
    assert_int_equal(t->limit.rates.tpm, 200000);
    assert_int_equal(t->limit.rates.burst_tokens, 200000);
    assert_int_equal(t->limit.rates.rpd, LLM_UNLIMITED);
    assert_int_equal(t->limit.rates.budget, 500000000);
    assert_int_equal(t->limit.rates.month, 1);

    t = llm_policy_team(p, 0);
    unlimited(&t->limit);

    k = llm_policy_key(p, 1);
    assert_null(k->team);
    assert_int_equal(k->terms.requests_per_minute, 60);
    assert_int_equal(k->terms.concurrency, 8);
    assert_int_equal(k->terms.queue_size, 128);
    assert_int_equal(k->terms.queue_timeout, 30000);
    assert_int_equal(k->terms.priority, 0);
    assert_int_equal(k->terms.cache_scope, -1);
    assert_int_equal(k->expires, 0);
    assert_int_equal(k->enabled, 1);
    assert_int_equal(k->limit.rates.rpm, 60);
    assert_int_equal(k->limit.rates.burst, 7);
    assert_int_equal(k->limit.concurrency, 8);

    llm_policy_destroy(p);
    llm_policy_destroy(NULL);
}


static void
test_models(void **state)
{
    llm_str_t         m;
    llm_policy_t     *p;
    const llm_key_t  *k;

    (void) state;

    p = contract();
    k = llm_policy_key(p, 0);

    /* by the key's patterns and by the team's */
    m = (llm_str_t) llm_string("gpt-4o");
    assert_true(llm_policy_allows(k, &m));
    m = (llm_str_t) llm_string("gpt-4o-mini");
    assert_true(llm_policy_allows(k, &m));
    m = (llm_str_t) llm_string("gpt-4o-vision");
    assert_false(llm_policy_allows(k, &m));
    m = (llm_str_t) llm_string("text-davinci");
    assert_false(llm_policy_allows(k, &m));

    /* neither a list nor a team: any */
    assert_true(llm_policy_allows(llm_policy_key(p, 1), &m));

    llm_policy_destroy(p);
}


static void
test_inherit(void **state)
{
    llm_policy_t     *p;
    const llm_key_t  *k;

    (void) state;

    p = parse("{\"defaults\":{\"queue\":{\"size\":1,\"timeout_ms\":2,"
              "\"rates\":true},\"priority\":5,\"budget\":{\"usd\":1,"
              "\"period\":\"month\"},\"cache\":{\"ttl_s\":9,"
              "\"scope\":\"global\",\"skip\":false},\"burst_tokens\":3,"
              "\"tokens_per_day\":4},"
              "\"teams\":{\"t\":{\"queue\":{\"timeout_ms\":20},"
              "\"priority\":-1,\"concurrency\":5,"
              "\"cache\":{\"ttl_s\":90,\"use\":false}}},"
              "\"keys\":{\"a\":{\"team\":\"t\",\"sha256\":\"" HEX "\","
              "\"queue\":{\"size\":0}},\"b\":{\"sha256\":\"" HEX1 "\","
              "\"queue\":{\"rates\":false},\"priority\":0,"
              "\"cache\":{\"skip\":true},"
              "\"budget\":{\"usd\":0.25,\"period\":\"day\"}}}}");
    assert_string_equal(err, "");

    k = llm_policy_key(p, 0);
    assert_int_equal(k->terms.queue_size, 0);
    assert_int_equal(k->terms.queue_timeout, 20);
    assert_int_equal(k->terms.queue_rates, 1);
    assert_int_equal(k->terms.priority, -1);
    assert_int_equal(k->terms.cache_ttl, 90);
    assert_int_equal(k->terms.cache_use, 0);
    assert_int_equal(k->terms.cache_skip, 0);
    assert_int_equal(k->terms.cache_scope, LLM_SCOPE_GLOBAL);
    assert_int_equal(k->terms.budget_micro_usd, 1000000);
    assert_int_equal(k->terms.budget_month, 1);
    assert_int_equal(k->terms.burst_tokens, 3);
    assert_int_equal(k->terms.tokens_per_day, 4);
    /* a team's limits are the team's alone */
    assert_int_equal(k->terms.concurrency, -1);
    assert_int_equal(k->limit.concurrency, LLM_UNLIMITED);
    assert_int_equal(k->limit.rates.rpm, LLM_UNLIMITED);

    k = llm_policy_key(p, 1);
    assert_int_equal(k->terms.queue_size, 1);
    assert_int_equal(k->terms.queue_rates, 0);
    assert_int_equal(k->terms.cache_use, 1);
    assert_int_equal(k->terms.cache_skip, 1);
    assert_int_equal(k->terms.priority, 0);
    assert_int_equal(k->terms.budget_micro_usd, 250000);
    assert_int_equal(k->terms.budget_month, 0);

    llm_policy_destroy(p);
}


/* what each limit becomes for the ledger, and what a size alone does not */

static void
test_limits(void **state)
{
    llm_policy_t       *p;
    const llm_rates_t  *r;

    (void) state;

    p = parse("{\"defaults\":{\"burst_tokens\":77,\"burst_requests\":7,"
              "\"tokens_per_day\":1000000000000000},"
              "\"teams\":{\"t\":{\"weight\":1000,\"burst_tokens\":9,"
              "\"tokens_per_minute\":8,\"requests_per_day\":5,"
              "\"tokens_per_day\":6,"
              "\"budget\":{\"usd\":0.000001,\"period\":\"day\"}}},"
              "\"keys\":{\"a\":{\"team\":\"t\",\"sha256\":\"" HEX "\"},"
              "\"b\":{\"sha256\":\"" HEX1 "\",\"weight\":3,"
              "\"tokens_per_minute\":1000,\"requests_per_minute\":10}}}");
    assert_string_equal(err, "");

    r = &llm_policy_team(p, 0)->limit.rates;
    assert_int_equal(r->rpm, LLM_UNLIMITED);
    assert_int_equal(r->burst, 0);
    assert_int_equal(r->tpm, 8);
    assert_int_equal(r->burst_tokens, 9);
    assert_int_equal(r->rpd, 5);
    assert_int_equal(r->tpd, 6);
    assert_int_equal(r->budget, 1);
    assert_int_equal(r->month, 0);
    assert_int_equal(llm_policy_team(p, 0)->limit.weight, 1000);

    /* neither a team's limit nor a size without a rate */

    r = &llm_policy_key(p, 0)->limit.rates;
    assert_int_equal(r->rpm, LLM_UNLIMITED);
    assert_int_equal(r->burst, 0);
    assert_int_equal(r->tpm, LLM_UNLIMITED);
    assert_int_equal(r->burst_tokens, 0);
    assert_true(r->tpd == 1000000000000000);
    assert_int_equal(llm_policy_key(p, 0)->limit.weight, 1);

    r = &llm_policy_key(p, 1)->limit.rates;
    assert_int_equal(r->burst, 7);
    assert_int_equal(r->tpm, 1000);
    assert_int_equal(r->burst_tokens, 77);
    assert_int_equal(llm_policy_key(p, 1)->limit.weight, 3);

    llm_policy_destroy(p);

    assert_null(parse("{\"teams\":{\"t\":{}},\"keys\":{\"k\":{\"weight\":2,"
                      "\"sha256\":\"" HEX "\",\"team\":\"t\"}}}"));
    assert_string_equal(err, "keys.k.weight: slots are shared by teams, a key "
                        "in one has no weight of its own");
}


/* what a team says is its keys' manner, and what the defaults say after it */

static void
test_manners(void **state)
{
    char                  text[512];
    unsigned              i;
    llm_policy_t         *p;
    const llm_terms_t    *t;
    static const struct {
        const char       *defaults, *team, *key;
        int               cut, clamp;
    } cases[] = {
        { "", "", "", 0, 0 },
        { "\"on_exceed\":\"cut\",\"clamp_max_tokens\":true", "", "", 1, 1 },
        { "", "\"on_exceed\":\"cut\",\"clamp_max_tokens\":true", "", 1, 1 },
        { "", "", "\"on_exceed\":\"cut\"", 1, 0 },
        { "", "", "\"clamp_max_tokens\":true", 0, 1 },
        { "\"on_exceed\":\"cut\"", "\"on_exceed\":\"finish\"", "", 0, 0 },
        { "\"clamp_max_tokens\":true", "\"clamp_max_tokens\":false", "",
          0, 0 },
        { "", "\"on_exceed\":\"cut\"", "\"on_exceed\":\"finish\"", 0, 0 },
        { "", "\"clamp_max_tokens\":true", "\"clamp_max_tokens\":false",
          0, 0 },
    };

    (void) state;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        snprintf(text, sizeof(text), "{\"defaults\":{%s},\"teams\":{\"t\":{%s"
                 "}},\"keys\":{\"k\":{\"team\":\"t\",\"sha256\":\"" HEX "\""
                 "%s%s}}}", cases[i].defaults, cases[i].team,
                 cases[i].key[0] ? "," : "", cases[i].key);

        p = parse(text);
        assert_string_equal(err, "");

        t = &llm_policy_key(p, 0)->terms;

        if (t->cut != cases[i].cut || t->clamp != cases[i].clamp) {
            fail_msg("%s: %d %d", text, t->cut, t->clamp);
        }

        llm_policy_destroy(p);
    }
}


static void
test_find(void **state)
{
    size_t            n;
    char             *text;
    unsigned          i;
    unsigned char     sha[32];
    llm_policy_t     *p;

    (void) state;

    /* all keys but the first two begin alike: one run in the index */

    text = malloc(200 * 1000);
    n = (size_t) sprintf(text, "{\"keys\":{");

    for (i = 0; i < 1000; i++) {
        n += (size_t) sprintf(text + n, "%s\"k%u\":{\"sha256\":\"%08x%056x\"}",
                              i ? "," : "", i, i < 2 ? i : 0x77, i);
    }

    sprintf(text + n, "}}");
    p = parse(text);
    free(text);

    assert_string_equal(err, "");

    for (i = 0; i < 1001; i++) {
        memset(sha, 0, sizeof(sha));
        sha[3] = i < 2 ? (unsigned char) i : 0x77;
        sha[30] = (unsigned char) (i >> 8);
        sha[31] = (unsigned char) i;

        assert_ptr_equal(llm_policy_find(p, sha),
                         i < 1000 ? llm_policy_key(p, i) : NULL);
    }

    memset(sha, 0xff, sizeof(sha));
    assert_null(llm_policy_find(p, sha));
    llm_policy_destroy(p);

    p = parse("{}");
    assert_null(llm_policy_find(p, sha));
    assert_int_equal(llm_policy_keys(p), 0);
    llm_policy_destroy(p);
}


static void
test_file(void **state)
{
    unsigned              i;
    llm_policy_t         *p;
    static const struct {
        const char       *text;
        const char       *error;
    } cases[] = {
        { "{}", "" },
        { "{\"keys\":{}}", "" },
        { " {\"teams\":{\"a.B_c-9\":{}}}\n", "" },
        { "", "line 1, column 0: '[' or '{' expected near end of file" },
        { "[]", ".: expected an object, got an empty list" },
        { "{\"a\":1}", "a: unknown member" },
        { "{\"keys\":[]}", "keys: expected an object, got an empty list" },
        { "{\"keys\":4}", "keys: expected an object, got 4" },
        { "{\"teams\":null}", "teams: expected an object, got null" },
        { "{\"defaults\":\"x\"}", "defaults: expected an object, got \"x\"" },
        { "{\"keys\":{\"a\":{}}}",
          "keys.a.sha256: expected 64 hexadecimal digits, got nothing" },
        { "{\"keys\":{\"a\":7}}", "keys.a: expected an object, got 7" },
        { "{\"keys\":{\"\":{}}}", "keys: expected names of 1 to 64 letters, "
          "digits, \".\", \"_\" or \"-\", got \"\"" },
        { "{\"teams\":{\"a b\":{}}}", "teams: expected names of 1 to 64 "
          "letters, digits, \".\", \"_\" or \"-\", got \"a b\"" },
        { "{\"teams\":{\"\\u00e9\\n\":{}}}", "teams: expected names of 1 to 64"
          " letters, digits, \".\", \"_\" or \"-\", got \"\?\?\?\"" },
        { "{\"keys\":{\"a\":{\"sha256\":\"" HEX "\"},"
          "\"b\":{\"sha256\":\"" HEX2 "\"}}}", "" },
        { "{\"keys\":{\"a\":{\"sha256\":\"" HEX "\"},"
          "\"b\":{\"sha256\":\"" HEX "\"}}}",
          "keys.b.sha256: the same secret as that of keys.a" },
        { "{\"keys\":{\"a\":{\"sha256\":\"" HEX "\"},\n\"a\":2}}",
          "keys.a: expected an object, got 2" },
        { "{\"keys\":{\"a\":{\"sha256\":\"" HEX "\"},\n"
          "  \"a\":{\"sha256\":\"" HEX1 "\"}}}",
          "line 2, column 5: duplicate object key" },
        { "{\"teams\":{\"\xc3\xa9\":1,\n \"a\":{},\n\"a\" :{}}}",
          "teams: expected names of 1 to 64 letters, digits, \".\", \"_\" "
          "or \"-\", got \"\?\?\"" },
        { "{\"teams\":{\n \"a\":{},\"a\" :{}}}",
          "line 2, column 11: duplicate object key" },
        { "{\"teams\":{}, \"keys\":{},\"teams\":{}}",
          "line 1, column 30: duplicate object key" },
        { "{\"teams\":{},\n\"keys\":{\"a\":{\"team\":\"b\",\"sha256\":\""
          HEX "\",\n\"team\":3}}}",
          "line 3, column 6: duplicate object key" },
        { "{\"teams\":{},\n\"keys\":{\"\xc3\xa9\":{\n\"a\":1,}}}",
          "line 3, column 7: string or '}' expected" },
        { "{\"teams\":{},\n\"keys\":{\"\xc3\xa9\":{}, \"b\":{},}}",
          "line 2, column 24: string or '}' expected" },
        { "{\"teams\":{},\n\"keys\":{} \"b\":{}}",
          "line 2, column 13: '}' expected" },
        { "{\"teams\":{},\n\"keys\":{}",
          "line 2, column 9: '}' expected near end of file" },
        { "{\"teams\":{\"a\":{}} , , }",
          "line 1, column 21: string or '}' expected" },
        { "[1,", "line 1, column 3: ']' expected near end of file" },
        { "[1, 2]", ".: expected an object, got a list" },
        { "4", "line 1, column 1: '[' or '{' expected" },
        { "{\"keys\":[1]}", "keys: expected an object, got a list" },
        { "{\"\":1}", ".: unknown member" },
        { "{\"keys\":\n{\"a\":}}", "line 2, column 6: unexpected token" },
        { "{} x", "line 1, column 4: end of file expected" },
        { "{\"a\":\"\xff\"}",
          "line 1, column 6: unable to decode byte 0xff" },
    };

    (void) state;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        p = parse(cases[i].text);
        assert_string_equal(err, cases[i].error);
        assert_true((p != NULL) == (cases[i].error[0] == '\0'));
        llm_policy_destroy(p);
    }

    assert_null(llm_policy_parse("{\"a\":1}", 7, NULL, 0));
    assert_null(llm_policy_parse("{", 1, err, 5));
    assert_string_equal(err, "line");
}


static void
test_names(void **state)
{
    char           text[256], name[80];
    size_t         n;
    llm_policy_t  *p;

    (void) state;

    for (n = 1; n < 70; n++) {
        memset(name, 'n', n);
        name[n] = '\0';
        snprintf(text, sizeof(text), "{\"teams\":{\"%s\":{}}}", name);
        p = parse(text);
        assert_true((p != NULL) == (n <= 64));

        if (p != NULL) {
            n = llm_policy_team(p, 0)->limit.name.len - 2;
            assert_true(n + 2 <= LLM_LEDGER_NAME);
        }

        llm_policy_destroy(p);
    }
}


static void
test_memory(void **state)
{
    llm_policy_t      *p;
    static const char  text[] =
        "{\"defaults\":{\"concurrency\":8.5},\"teams\":{\"t\":{\"budget\":"
        "{\"usd\":1.5,\"period\":\"day\"},\"models\":[\"a\"]}},\"keys\":"
        "{\"k\":{\"team\":\"t\",\"sha256\":\"" HEX "\",\"expires\":"
        "\"2027-01-01T00:00:00Z\",\"queue\":{\"size\":1}}}}";
    char               copy[sizeof(text)];

    (void) state;

    memcpy(copy, text, sizeof(text));

    json_set_alloc_funcs(counting_malloc, counting_free);

    /* first with an error to be told, then without */

    for ( ;; ) {

        for (failing = 1; failing < 100000; failing++) {
            allocations = 0;
            living = 0;
            p = parse(copy);

            assert_true((p == NULL) == (err[0] != '\0'));
            llm_policy_destroy(p);
            assert_int_equal(living, 0);

            if (allocations < failing) {
                break;
            }

            if (strstr(copy, "8.5") == NULL) {
                assert_null(p);
            }
        }

        assert_true(failing > 5);

        if (strstr(copy, "8.5") == NULL) {
            assert_non_null(p);
            break;
        }

        assert_string_equal(err, "defaults.concurrency: expected a positive "
                            "integer, got 8.5");
        memcpy(strstr(copy, "8.5"), "855", 3);
    }

    json_set_alloc_funcs(malloc, free);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_contract),
        cmocka_unit_test(test_models),
        cmocka_unit_test(test_inherit),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_manners),
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
