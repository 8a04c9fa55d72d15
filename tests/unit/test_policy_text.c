
/*
 * Copyright (C) the ngx-llm authors
 *
 * The tenants file as a text: what is no JSON, what may not be shown, and
 * that slices make no difference.
 */


#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <jansson.h>

#include "policy_parse.h"


static void
test_secrets(void **state)
{
    unsigned                  i;
    static const char *const  texts[] = {
        "{\"keys\":{\"a\":{\"sha256\":\"sk-llm-SECRETSECRETSECRET\"}}}",
        "{\"keys\":{\"a\":{\"sha256\":\"SECRET\"}}}",
        "{\"keys\":{\"a\":{\"sha256\":\"" HEX "0\"}}}",
        "{\"keys\":{\"a\":{\"team\":\"sk-llm-SECRETSECRETSECRET\"}}}",
        "{\"keys\":{\"a\":{\"team\":\"" HEX "\"}}}",
        "{\"keys\":{\"a\":{\"team\":\"x" HEX "\"}}}",
        "{\"keys\":{\"" HEX "\":{\"x\":1}}}",
        "{\"keys\":{\"sk-llm-SECRETSECRETSECRET\":{\"x\":1}}}",
        "{\"keys\":{\"a\":{\"sk-llm-SECRETSECRETSECRET\":1}}}",
        "{\"keys\":{\"a\":{\"sha256\":\"SECRET\" \"" HEX "\"}}}",
        "{\"keys\":{\"a\":{\"sha256\":\"" HEX "}}}",
        "{\"keys\":{\"a\":{\"sha256\":" HEX "}}}",
    };

    (void) state;

    for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        assert_null(parse(texts[i]));
        assert_null(strstr(err, "SECRET"));
        assert_null(strstr(err, "0011223344"));
        assert_null(strstr(err, "8899aabb"));
        assert_true(strlen(err) < 120);
    }

    assert_null(parse("{\"keys\":{\"a\":{\"sha256\":\"" HEX "\",\"team\":"
                      "\"a value of more than forty bytes is not shown\""
                      "}}}"));
    assert_string_equal(err, "keys.a.team: expected the name of a team, "
                        "got a string of 45 bytes");
}


/* a syntax error is told as the library tells it of the whole text */

static void
same_as_whole(const char *text)
{
    char          said[512], *near;
    json_t       *root;
    json_error_t  je;

    if (strncmp(err, "line ", 5) != 0) {
        return;
    }

    root = json_loadb(text, strlen(text), JSON_REJECT_DUPLICATES, &je);

    if (root != NULL) {
        fail_msg("%s: %s", text, err);
    }

    near = strstr(je.text, " near '");

    if (near != NULL) {
        *near = '\0';
    }

    snprintf(said, sizeof(said), "line %d, column %d: %s", je.line, je.column,
             je.text);

    if (strcmp(said, err) != 0) {
        fail_msg("%s:\n%s\n%s", text, said, err);
    }
}


/* any prefix of a right file is wrong, and no byte of it may harm */

static void
test_cut(void **state)
{
    size_t             i, n;
    unsigned           c;
    char               buf[512];
    llm_policy_t      *p;
    static const char  text[] =
        "{\"defaults\":{\"concurrency\":8},\n\"teams\":{\"t\":{\"budget\":"
        "{\"usd\":1.5,\"period\":\"day\"},\"models\":[\"a\xc3\xa9\"]}},"
        "\"keys\":{\"k\":{\"team\":\"t\",\"sha256\":\"" HEX "\",\"expires\":"
        "\"2027-01-01T00:00:00Z\",\n\"queue\":{\"size\":1}}}}";

    (void) state;

    n = sizeof(text) - 1;
    memcpy(buf, text, sizeof(text));

    for (i = 0; i < n; i++) {
        buf[i] = '\0';
        assert_null(parse(buf));
        assert_true(err[0] != '\0');
        same_as_whole(buf);

        for (c = 1; c < 256; c += 3) {
            buf[i] = (char) c;
            p = parse(buf);
            assert_true((p == NULL) == (err[0] != '\0'));
            same_as_whole(buf);
            llm_policy_destroy(p);
        }

        buf[i] = text[i];
    }

    p = parse(buf);
    assert_non_null(p);
    llm_policy_destroy(p);
}


/* what comes out of a file, row by row, and its error */

static char    told[65536];
static size_t  ntold;


static int
tell_defaults(void *data, const llm_terms_t *terms)
{
    (void) data;

    ntold += (size_t) snprintf(told + ntold, sizeof(told) - ntold, "d%d,",
                               (int) terms->concurrency);
    return LLM_OK;
}


static int
tell_row(void *data, const llm_policy_row_t *row, char *other)
{
    (void) data;
    (void) other;

    ntold += (size_t) snprintf(told + ntold, sizeof(told) - ntold,
                               "%d%.*s:%.*s:%u:%02x,", row->kind,
                               (int) row->name.len, row->name.data,
                               (int) row->team.len, row->team.data,
                               row->nmodels, row->sha256[0]);
    return LLM_OK;
}


static void
tell(const char *text, size_t bytes)
{
    int                        rc;
    static unsigned char       scratch[LLM_POLICY_FILE_SCRATCH];
    llm_policy_file_t          f;
    static llm_policy_sink_t   sink = { NULL, tell_defaults, tell_row };

    ntold = 0;
    err[0] = '\0';

    llm_policy_file_init(&f, text, strlen(text), scratch, &sink);

    do {
        rc = llm_policy_file_step(&f, bytes, err, sizeof(err));
    } while (rc == LLM_AGAIN);

    snprintf(told + ntold, sizeof(told) - ntold, "%d %s", rc, err);
}


static void
test_slices(void **state)
{
    unsigned                  i, bytes;
    char                     *whole;
    static const char *const  texts[] = {
        "{\"keys\":{\"a\":{\"sha256\":\"" HEX "\",\"models\":[\"x\",\"y\"]},"
        " \"b\" : {\"team\":\"t\",\"sha256\":\"" HEX1 "\"}},\n"
        "\"defaults\":{\"concurrency\":3},\"teams\":{\"t\":{},\"u\":{}}}",
        "{\"keys\":{\"a\":{\"sha256\":\"" HEX "\"},\n\"b\":{\"sha256\":\""
        HEX1 "\",\n \"priority\":\"x\"}}}",
        "{\"keys\":{\"a\":{\"sha256\":\"" HEX "\"},\n\"b\":{\"sha256\":\""
        HEX1 "\",\n \"priority\":01}}}",
        "{\"teams\":{\"a\":{}},\n\"keys\":7,\"x\":1}",
        "{\"teams\":{\"a\":{}},\n\"keys\":7}",
        "{\"teams\":{\"a\":{}},\n\"keys\":{\"a\":{\"sha256\":\"" HEX "\"},}}",
    };

    (void) state;

    for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        tell(texts[i], 1 << 20);
        whole = malloc(strlen(told) + 1);
        strcpy(whole, told);

        for (bytes = 1; bytes < 300; bytes++) {
            tell(texts[i], bytes);
            assert_string_equal(told, whole);
        }

        free(whole);
    }

    tell(texts[0], 1);
    assert_string_equal(told, "d3,0t::0:00,0u::0:00,1a::2:00,1b:t:0:10,0 ");
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_secrets),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_slices),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
