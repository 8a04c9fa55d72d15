
/*
 * Copyright (C) the ngx-llm authors
 *
 * The members of the tenants file: right and wrong values of each.
 */


#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "policy_parse.h"


/* "%" is where a member of a team, a key or the defaults is put in */

static llm_policy_t *
parse_member(const char *text, const char *member)
{
    char         buf[2048];
    const char  *at;

    at = strchr(text, '%');
    snprintf(buf, sizeof(buf), "%.*s%s%s", (int) (at - text), text, member,
             at + 1);

    return parse(buf);
}


#define IN_KEY       "{\"keys\":{\"k\":{\"sha256\":\"" HEX "\",%}}}"
#define IN_TEAM      "{\"teams\":{\"t\":{%}}}"
#define IN_DEFAULTS  "{\"defaults\":{%}}"


static const struct {
    const char       *member;
    const char       *error;       /* behind "keys.k.", NULL: none */
} members[] = {

#define INTEGER(name)                                                         \
    { "\"" name "\":1", NULL },                                               \
    { "\"" name "\":1000000000000000", NULL },                                \
    { "\"" name "\":1000000000000001",                                        \
      name ": expected an integer from 1 to 1000000000000000, "               \
      "got 1000000000000001" },                                               \
    { "\"" name "\":0", name ": expected a positive integer, got 0" },        \
    { "\"" name "\":-1", name ": expected a positive integer, got -1" },      \
    { "\"" name "\":4.0", name ": expected a positive integer, got 4.0" },    \
    { "\"" name "\":null",                                                    \
      name ": expected a positive integer, got null" },                       \
    { "\"" name "\":\"4\"",                                                   \
      name ": expected a positive integer, got \"4\"" }

    INTEGER("requests_per_minute"),
    INTEGER("requests_per_day"),
    INTEGER("tokens_per_minute"),
    INTEGER("tokens_per_day"),
    INTEGER("burst_requests"),
    INTEGER("burst_tokens"),

    { "\"concurrency\":1000000000", NULL },
    { "\"concurrency\":1000000001", "concurrency: expected an integer "
      "from 1 to 1000000000, got 1000000001" },
    { "\"concurrency\":\"4\"",
      "concurrency: expected a positive integer, got \"4\"" },
    { "\"concurrency\":true",
      "concurrency: expected a positive integer, got true" },
    { "\"concurrency\":[]",
      "concurrency: expected a positive integer, got an empty list" },

    { "\"budget\":{\"usd\":0.000001,\"period\":\"day\"}", NULL },
    { "\"budget\":{\"usd\":1000000000,\"period\":\"month\"}", NULL },
    { "\"budget\":{\"usd\":999999999.999999,\"period\":\"month\"}", NULL },
    { "\"budget\":{\"usd\":1000000000.5,\"period\":\"day\"}", "budget.usd:"
      " expected a number above 0, at most 1000000000, got 1000000000.5" },
    { "\"budget\":{\"usd\":0,\"period\":\"day\"}", "budget.usd: expected a"
      " number above 0, at most 1000000000, got 0" },
    { "\"budget\":{\"usd\":\"5\",\"period\":\"day\"}", "budget.usd: "
      "expected a number above 0, at most 1000000000, got \"5\"" },
    { "\"budget\":{\"usd\":0.0000015,\"period\":\"day\"}",
      "budget.usd: expected at most 6 decimals, got 1.5e-6" },
    { "\"budget\":{\"usd\":5}",
      "budget.period: expected \"day\" or \"month\", got nothing" },
    { "\"budget\":{\"usd\":5,\"period\":\"week\"}",
      "budget.period: expected \"day\" or \"month\", got \"week\"" },
    { "\"budget\":{\"period\":\"day\"}", "budget.usd: expected a number "
      "above 0, at most 1000000000, got nothing" },
    { "\"budget\":{\"usd\":5,\"period\":\"day\",\"x\":1}",
      "budget.x: unknown member" },
    { "\"budget\":5", "budget: expected an object, got 5" },

    { "\"queue\":{}", NULL },
    { "\"queue\":{\"size\":0}", NULL },
    { "\"queue\":{\"size\":65536,\"timeout_ms\":3600000,"
      "\"rates\":false}", NULL },
    { "\"queue\":{\"size\":65537}",
      "queue.size: expected an integer from 0 to 65536, got 65537" },
    { "\"queue\":{\"size\":-1}",
      "queue.size: expected an integer from 0 to 65536, got -1" },
    { "\"queue\":{\"timeout_ms\":0}",
      "queue.timeout_ms: expected a positive integer, got 0" },
    { "\"queue\":{\"timeout_ms\":3600001}", "queue.timeout_ms: expected "
      "an integer from 1 to 3600000, got 3600001" },
    { "\"queue\":{\"rates\":1}",
      "queue.rates: expected true or false, got 1" },
    { "\"queue\":{\"length\":1}", "queue.length: unknown member" },
    { "\"queue\":[1]", "queue: expected an object, got a list" },

    { "\"cache\":{}", NULL },
    { "\"cache\":{\"scope\":\"team\",\"ttl_s\":1}", NULL },
    { "\"cache\":{\"scope\":\"key\",\"ttl_s\":1000000000}", NULL },
    { "\"cache\":{\"scope\":\"global\"}", NULL },
    { "\"cache\":{\"scope\":\"all\"}", "cache.scope: expected \"key\", "
      "\"team\" or \"global\", got \"all\"" },
    { "\"cache\":{\"scope\":1}", "cache.scope: expected \"key\", "
      "\"team\" or \"global\", got 1" },
    { "\"cache\":{\"ttl_s\":0}",
      "cache.ttl_s: expected a positive integer, got 0" },
    { "\"cache\":{\"ttl\":0}", "cache.ttl: unknown member" },
    { "\"cache\":{\"use\":false,\"skip\":true}", NULL },
    { "\"cache\":{\"use\":1}",
      "cache.use: expected true or false, got 1" },
    { "\"cache\":{\"skip\":null}",
      "cache.skip: expected true or false, got null" },
    { "\"cache\":false", "cache: expected an object, got false" },

    { "\"priority\":-100", NULL },
    { "\"priority\":100", NULL },
    { "\"priority\":-101",
      "priority: expected an integer from -100 to 100, got -101" },
    { "\"priority\":101",
      "priority: expected an integer from -100 to 100, got 101" },
    { "\"priority\":1.5",
      "priority: expected an integer from -100 to 100, got 1.5" },

    { "\"on_exceed\":\"finish\"", NULL },
    { "\"on_exceed\":\"cut\"", NULL },
    { "\"on_exceed\":\"stop\"",
      "on_exceed: expected \"finish\" or \"cut\", got \"stop\"" },
    { "\"on_exceed\":true",
      "on_exceed: expected \"finish\" or \"cut\", got true" },

    { "\"clamp_max_tokens\":true", NULL },
    { "\"clamp_max_tokens\":false", NULL },
    { "\"clamp_max_tokens\":\"true\"",
      "clamp_max_tokens: expected true or false, got \"true\"" },
    { "\"clamp_max_tokens\":null",
      "clamp_max_tokens: expected true or false, got null" },

    { "\"metadata\":{}", NULL },
    { "\"metadata\":{\"any thing\":\"x\",\"\":\"\"}", NULL },
    { "\"metadata\":{\"a\":1}", "metadata.a: expected a string, got 1" },
    { "\"metadata\":\"x\"",
      "metadata: expected an object of strings, got \"x\"" },

    { "\"models\":[\"*\"]", NULL },
    { "\"models\":[]",
      "models: expected a list of at least one pattern, "
      "got an empty list" },
    { "\"models\":[\"a\",\"\"]",
      "models[1]: expected a pattern of 1 to 256 bytes, got \"\"" },
    { "\"models\":[\"a\",4]",
      "models[1]: expected a pattern of 1 to 256 bytes, got 4" },
    { "\"models\":\"a\"",
      "models: expected a list of at least one pattern, got \"a\"" },

    { "\"weight\":1", NULL },
    { "\"weight\":1000", NULL },
    { "\"weight\":1001",
      "weight: expected an integer from 1 to 1000, got 1001" },
    { "\"weight\":0", "weight: expected a positive integer, got 0" },
    { "\"weight\":1.5", "weight: expected a positive integer, got 1.5" },
    { "\"weight\":\"2\"", "weight: expected a positive integer, got \"2\"" },

    { "\"enabled\":true", NULL },
    { "\"enabled\":1", "enabled: expected true or false, got 1" },
    { "\"enabled\":\"true\"",
      "enabled: expected true or false, got \"true\"" },
    { "\"team\":\"none\"",
      "team: expected the name of a team, got \"none\"" },
    { "\"team\":4", "team: expected the name of a team, got 4" },
    { "\"expires\":1798761600", "expires: expected a time like "
      "\"2027-01-01T00:00:00Z\", got 1798761600" },
    { "\"nonsense\":1", "nonsense: unknown member" },
    { "\"Priority\":1", "Priority: unknown member" },
    { "\"secret\":\"x\"", "secret: unknown member" },
};


static void
test_members(void **state)
{
    int                   common;
    char                  want[160];
    unsigned              i;
    const char           *e;
    llm_policy_t         *p;

    (void) state;

    common = 1;

    for (i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
        e = members[i].error;

        p = parse_member(IN_KEY, members[i].member);
        snprintf(want, sizeof(want), "%s%s", e ? "keys.k." : "", e ? e : "");
        assert_string_equal(err, want);
        assert_true((p == NULL) == (e != NULL));
        llm_policy_destroy(p);

        /* what is in front of "models" may stand everywhere */

        common = common && strncmp(members[i].member, "\"models", 7) != 0;

        if (!common) {
            continue;
        }

        p = parse_member(IN_DEFAULTS, members[i].member);
        snprintf(want, sizeof(want), "%s%s", e ? "defaults." : "", e ? e : "");
        assert_string_equal(err, want);
        llm_policy_destroy(p);

        p = parse_member(IN_TEAM, members[i].member);
        snprintf(want, sizeof(want), "%s%s", e ? "teams.t." : "", e ? e : "");
        assert_string_equal(err, want);
        llm_policy_destroy(p);
    }
}


/* any amount of whole micro-dollars comes out as it was written */

static void
test_money(void **state)
{
    char           member[128];
    int64_t        micro;
    uint64_t       x;
    unsigned       i;
    llm_policy_t  *p;

    (void) state;

    x = 1;

    for (i = 0, micro = 1; i < 20000; i++) {
        snprintf(member, sizeof(member),
                 "\"budget\":{\"usd\":%lld.%06lld,\"period\":\"day\"}",
                 (long long) micro / 1000000, (long long) micro % 1000000);

        p = parse_member(IN_TEAM, member);
        assert_non_null(p);
        assert_true(llm_policy_team(p, 0)->terms.budget_micro_usd == micro);
        llm_policy_destroy(p);

        /* small ones one by one, then all over the range */

        if (i < 5000) {
            micro++;
            continue;
        }

        x = x * 6364136223846793005 + 1442695040888963407;
        micro = 1 + (int64_t) ((x >> 11) % (i % 2 ? 1000000000000000
                                                  : 1000000000));
    }
}


static void
test_places(void **state)
{
    unsigned                  i;
    llm_policy_t             *p;
    static const char *const  key_only[] = {
        "\"enabled\":true", "\"expires\":\"2027-01-01T00:00:00Z\"",
        "\"sha256\":\"" HEX "\"", "\"team\":\"t\""
    };

    (void) state;

    for (i = 0; i < sizeof(key_only) / sizeof(key_only[0]); i++) {
        assert_null(parse_member(IN_TEAM, key_only[i]));
        assert_memory_equal(err, "teams.t.", 8);
        assert_non_null(strstr(err, ": unknown member"));
        assert_null(parse_member(IN_DEFAULTS, key_only[i]));
        assert_non_null(strstr(err, ": unknown member"));
    }

    assert_null(parse_member(IN_DEFAULTS, "\"weight\":2"));
    assert_string_equal(err, "defaults.weight: unknown member");
    assert_non_null(p = parse_member(IN_TEAM, "\"weight\":2"));
    llm_policy_destroy(p);

    assert_null(parse_member(IN_DEFAULTS, "\"models\":[\"a\"]"));
    assert_string_equal(err, "defaults.models: unknown member");
}


static void
test_time(void **state)
{
    char                  member[128];
    unsigned              i;
    llm_policy_t         *p;
    static const struct {
        const char       *text;
        int64_t           time;        /* 0: wrong */
    } cases[] = {
        { "2027-01-01T00:00:00Z", 1798761600 },
        { "2027-01-01t00:00:00z", 1798761600 },
        { "2027-01-01T01:30:00+01:30", 1798761600 },
        { "2026-12-31T19:00:00-05:00", 1798761600 },
        { "2027-01-01T00:00:00.999Z", 1798761600 },
        { "2000-02-29T12:34:56Z", 951827696 },
        { "2028-02-29T00:00:00Z", 1835395200 },
        { "2100-03-01T00:00:00Z", 4107542400 },
        { "9999-12-31T23:59:59Z", 253402300799 },
        { "2016-12-31T23:59:60Z", 1483228800 },
        { "1970-01-01T00:00:01Z", 1 },
        { "1970-01-01T00:00:00Z", 1 },       /* long ago, not "never" */
        { "1969-12-31T23:59:59Z", 1 },
        { "0000-01-01T00:00:00Z", 1 },
        { "2027-02-29T00:00:00Z", 0 },
        { "2100-02-29T00:00:00Z", 0 },
        { "2027-04-31T00:00:00Z", 0 },
        { "2027-00-01T00:00:00Z", 0 },
        { "2027-13-01T00:00:00Z", 0 },
        { "2027-01-00T00:00:00Z", 0 },
        { "2027-01-32T00:00:00Z", 0 },
        { "2027-01-01T24:00:00Z", 0 },
        { "2027-01-01T00:60:00Z", 0 },
        { "2027-01-01T00:00:61Z", 0 },
        { "2027-01-01T00:00:00", 0 },
        { "2027-01-01T00:00:00.Z", 0 },
        { "2027-01-01T00:00:00+0100", 0 },
        { "2027-01-01T00:00:00+24:00", 0 },
        { "2027-01-01T00:00:00+00:60", 0 },
        { "2027-01-01T00:00:00Zx", 0 },
        { "2027-01-01 00:00:00Z", 0 },
        { "2027-01-01", 0 },
        { "27-01-01T00:00:00Z", 0 },
        { "+027-01-01T00:00:00Z", 0 },
        { "2027-1-1T00:00:00Z", 0 },
        { "", 0 },
    };

    (void) state;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        snprintf(member, sizeof(member), "\"expires\":\"%s\"", cases[i].text);
        p = parse_member(IN_KEY, member);

        if ((p == NULL) != (cases[i].time == 0)
            || (p != NULL
                && llm_policy_key(p, 0)->expires != cases[i].time))
        {
            fail_msg("%s", cases[i].text);
        }

        llm_policy_destroy(p);
    }

    /* cut at every byte it is never right */

    for (i = 0; i < 25; i++) {
        snprintf(member, sizeof(member), "\"expires\":\"%.*s\"", (int) i,
                 "2027-01-01T01:30:00+01:30");
        assert_null(parse_member(IN_KEY, member));
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_members),
        cmocka_unit_test(test_money),
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
