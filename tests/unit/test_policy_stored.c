
/*
 * Copyright (C) the ngx-llm authors
 *
 * Rows as they are stored: what the tenants file does not have.
 */


#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <setjmp.h>
#include <cmocka.h>

#include "core/llm_policy.h"


#define HEX   "00112233445566778899aabbccddeeff"                             \
              "0123456789ABCDEFfedcba9876543210"
#define HEX1  "10112233445566778899aabbccddeeff"                             \
              "0123456789ABCDEFfedcba9876543210"


static char              err[512];
static llm_policy_row_t  row;
static llm_arena_t       arena;
static _Alignas(8) char  place[16384];


/* "size" bytes and no more */

static llm_arena_t *
memory(size_t size)
{
    memset(&arena, 0, sizeof(llm_arena_t));
    arena.pos = (unsigned char *) place;
    arena.end = arena.pos + size;

    return &arena;
}


static int
record(llm_row_e kind, const char *text)
{
    size_t  path;

    err[0] = '\0';
    llm_policy_row_clear(&row, kind);

    return llm_policy_row_parse(&row, text, strlen(text), LLM_POLICY_RECORD,
                                NULL, memory(sizeof(place)), err,
                                sizeof(err), &path);
}


static void
test_stored(void **state)
{
    (void) state;

    assert_int_equal(record(LLM_ROW_KEY,
        "{\"created\":7,\"version\":9223372036854775807,\"hint\":\"abcd\","
        "\"rotation\":{\"sha256\":\"" HEX1 "\",\"until\":1},"
        "\"raises\":[],\"sha256\":\"" HEX "\"}"), LLM_OK);

    assert_int_equal(row.created, 7);
    assert_true(row.version == INT64_MAX);
    assert_int_equal(row.hint.len, 4);
    assert_memory_equal(row.hint.data, "abcd", 4);
    assert_int_equal(row.old_sha256[0], 0x10);
    assert_int_equal(row.sha256[0], 0x00);
    assert_int_equal(row.old_until, 1);

    /* of two the later one, as of any member */

    assert_int_equal(record(LLM_ROW_TEAM,
        "{\"raises\":[{\"limit\":\"budget\",\"value\":1,\"until\":2},"
        "{\"limit\":\"budget\",\"value\":3,\"until\":4}]}"), LLM_OK);
    assert_int_equal(row.raise[LLM_RAISE_BUDGET].value, 3);
    assert_int_equal(row.raise[LLM_RAISE_BUDGET].until, 4);
}


/* what somebody wrote into Redis by hand */

static void
test_refused(void **state)
{
    size_t  i;

    static const struct {
        const char  *text;
        const char  *err;
    } cases[] = {
        { "{\"created\":0}", "created: " },
        { "{\"created\":\"7\"}", "created: " },
        { "{\"created\":1.5}", "created: " },
        { "{\"version\":0}", "version: " },
        { "{\"version\":-1}", "version: " },
        { "{\"version\":null}", "version: " },
        { "{\"version\":9223372036854775808}", "" },
        { "{\"hint\":7}", "hint: expected a string of at most 16 bytes" },
        { "{\"hint\":\"12345678901234567\"}",
          "hint: expected a string of at most 16 bytes" },
        { "{\"rotation\":7}", "rotation: " },
        { "{\"rotation\":{}}",
          "rotation.sha256: expected 64 hexadecimal digits" },
        { "{\"rotation\":{\"sha256\":\"12\",\"until\":1}}",
          "rotation.sha256: expected 64 hexadecimal digits" },
        { "{\"rotation\":{\"sha256\":7,\"until\":1}}",
          "rotation.sha256: expected 64 hexadecimal digits" },
        { "{\"rotation\":{\"sha256\":\"" HEX "\"}}", "rotation.until: " },
        { "{\"rotation\":{\"sha256\":\"" HEX "\",\"until\":0}}",
          "rotation.until: " },
        { "{\"rotation\":{\"sha256\":\"" HEX "\",\"until\":1,\"x\":1}}",
          "rotation" },
        { "{\"raises\":{}}", "raises: expected a list" },
        { "{\"raises\":7}", "raises: expected a list" },
        { "{\"raises\":[7]}", "raises" },
        { "{\"raises\":[{}]}", "raises" },
        { "{\"raises\":[{\"limit\":7,\"value\":1,\"until\":1}]}",
          "raises" },
        { "{\"raises\":[{\"limit\":\"none\",\"value\":1,\"until\":1}]}",
          "raises" },
        { "{\"raises\":[{\"limit\":\"budget\",\"value\":0,\"until\":1}]}",
          "raises" },
        { "{\"raises\":[{\"limit\":\"budget\",\"value\":1}]}", "raises" },
        { "{\"raises\":[{\"limit\":\"budget\",\"value\":1,\"until\":1,"
          "\"by\":\"x\"}]}", "raises" },
    };

    (void) state;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (record(LLM_ROW_KEY, cases[i].text) != LLM_ERROR
            || strncmp(err, cases[i].err, strlen(cases[i].err)) != 0
            || err[0] == '\0')
        {
            fail_msg("%s: \"%s\"", cases[i].text, err);
        }
    }

    /* a team has no secret */

    assert_int_equal(record(LLM_ROW_TEAM, "{\"hint\":\"a\"}"), LLM_ERROR);
    assert_int_equal(record(LLM_ROW_TEAM,
        "{\"rotation\":{\"sha256\":\"" HEX "\",\"until\":1}}"), LLM_ERROR);
    assert_int_equal(record(LLM_ROW_TEAM, "{\"created\":1}"), LLM_OK);
}


/* no arena for its strings */

static void
test_memory(void **state)
{
    size_t             path;
    static const char  text[] = "{\"hint\":\"abcd\"}";

    (void) state;

    llm_policy_row_clear(&row, LLM_ROW_KEY);

    assert_int_equal(llm_policy_row_parse(&row, text, strlen(text),
                                          LLM_POLICY_RECORD, NULL, memory(0),
                                          err, sizeof(err), &path), LLM_ERROR);
    assert_non_null(strstr(err, "out of memory"));
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_stored),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
