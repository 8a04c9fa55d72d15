
/*
 * Copyright (C) the ngx-llm authors
 *
 * What of a request may keep it from the cache.
 */


#include "request_check.h"


#define RESP(more)  "{\"model\":\"a\",\"input\":\"x\",\"store\":false" more "}"
#define TOOLS(list)  CHAT("\"tools\":[" list "]")

#define HOSTED  (LLM_BYPASS_TOOLS|LLM_BYPASS_HOSTED)

#define DATA_URL  "data:image/png;base64,iVBORw0KGgo="


/* besides the temperature, which few of these bodies give */

static void
bypass(llm_endpoint_e endpoint, const char *body, unsigned expected)
{
    ok(endpoint, body);

    if ((rq.bypass & ~LLM_BYPASS_TEMPERATURE) != expected) {
        fail_msg("%s: bypass %x", body, rq.bypass);
    }
}


static void
test_bypass(void **state)
{
    (void) state;

    bypass(LLM_CHAT, CHAT("\"store\":true"), LLM_BYPASS_STORE);
    bypass(LLM_CHAT, CHAT("\"store\":false"), 0);
    bypass(LLM_CHAT, CHAT("\"store\":null"), 0);
    bypass(LLM_CHAT, CHAT("\"web_search_options\":{}"), LLM_BYPASS_HOSTED);
    bypass(LLM_CHAT, CHAT("\"web_search_options\":null"), 0);
    bypass(LLM_CHAT, CHAT("\"x\":{\"store\":true,\"functions\":[{}]}"), 0);

    bypass(LLM_RESPONSES, RESP(""), 0);
    bypass(LLM_RESPONSES, "{\"model\":\"a\",\"input\":\"x\"}",
           LLM_BYPASS_STORE);
    bypass(LLM_RESPONSES, "{\"model\":\"a\"}", LLM_BYPASS_STORE);
    bypass(LLM_RESPONSES, "{\"model\":\"a\",\"store\":null}",
           LLM_BYPASS_STORE);
    bypass(LLM_RESPONSES, "{\"model\":\"a\",\"store\":true}",
           LLM_BYPASS_STORE);
    bypass(LLM_RESPONSES, "{\"model\":\"a\",\"store\":false}", 0);
    bypass(LLM_RESPONSES, RESP(",\"previous_response_id\":\"r\""),
           LLM_BYPASS_PREVIOUS);
    bypass(LLM_RESPONSES, RESP(",\"previous_response_id\":null"), 0);
    bypass(LLM_RESPONSES, RESP(",\"background\":true"),
           LLM_BYPASS_BACKGROUND);
    bypass(LLM_RESPONSES, RESP(",\"background\":false"), 0);
    bypass(LLM_RESPONSES, RESP(",\"conversation\":\"c\""),
           LLM_BYPASS_PREVIOUS);
    bypass(LLM_RESPONSES, RESP(",\"conversation\":{\"id\":\"c\"}"),
           LLM_BYPASS_PREVIOUS);
    bypass(LLM_RESPONSES, RESP(",\"conversation\":null"), 0);
    bypass(LLM_RESPONSES, RESP(",\"prompt\":{\"id\":\"p\"}"),
           LLM_BYPASS_PREVIOUS);
    bypass(LLM_RESPONSES, RESP(",\"prompt\":null"), 0);
    bypass(LLM_RESPONSES, "{\"model\":\"a\",\"store\":false,\"input\":"
           "[{\"type\":\"item_reference\",\"id\":\"i\"}]}",
           LLM_BYPASS_PREVIOUS);
    bypass(LLM_RESPONSES, "{\"model\":\"a\",\"store\":false,\"input\":"
           "[{\"type\":\"message\",\"content\":\"item_reference\"}]}", 0);
    bypass(LLM_RESPONSES, "{\"model\":\"a\",\"background\":true,\"prompt\":{"
           "},\"tools\":[{}]}", LLM_BYPASS_STORE|LLM_BYPASS_BACKGROUND
           |LLM_BYPASS_PREVIOUS|HOSTED);

    bypass(LLM_COMPLETIONS, "{\"model\":\"a\",\"prompt\":\"x\"}", 0);
    bypass(LLM_EMBEDDINGS, "{\"model\":\"a\",\"input\":\"x\"}", 0);

    refused(LLM_CHAT, CHAT("\"store\":\"yes\""), "invalid_type", "store", -1);
    refused(LLM_CHAT, CHAT("\"tools\":{}"), "invalid_type", "tools", -1);
    refused(LLM_RESPONSES, RESP(",\"background\":1"), "invalid_type",
            "background", -1);
    refused(LLM_RESPONSES, RESP(",\"previous_response_id\":1"),
            "invalid_type", "previous_response_id", -1);
    refused(LLM_RESPONSES, RESP(",\"conversation\":1"), "invalid_type",
            "conversation", -1);
}


static void
test_bypass_tools(void **state)
{
    unsigned  i;

    static const char *const  hosted[] = {
        TOOLS("{\"type\":\"web_search\"}"),
        TOOLS("{\"type\":\"functions\"}"),
        TOOLS("{\"type\":null}"),
        TOOLS("{\"type\":{\"type\":\"function\"}}"),
        TOOLS("{}"),
        TOOLS("{\"function\":{\"type\":\"function\"}}"),
        TOOLS("{\"type\":\"function\"},{\"type\":\"mcp\"}"),
        TOOLS("{\"type\":\"function\"},{}"),
        TOOLS("{\"type\":\"mcp\"},{\"type\":\"function\"}")
    };

    static const char *const  own[] = {
        TOOLS("{\"type\":\"function\",\"function\":{}}"),
        TOOLS("{\"function\":{},\"type\":\"custom\"}"),
        TOOLS("{\"ty\\u0070e\":\"functio\\u006e\"}"),
        TOOLS("{\"type\":\"function\",\"function\":{\"parame"
              "ters\":{\"type\":\"object\"}}}"),
        CHAT("\"functions\":[{\"name\":\"f\"}]")
    };

    (void) state;

    for (i = 0; i < sizeof(hosted) / sizeof(hosted[0]); i++) {
        bypass(LLM_CHAT, hosted[i], HOSTED);
    }

    for (i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
        bypass(LLM_CHAT, own[i], LLM_BYPASS_TOOLS);
    }

    bypass(LLM_RESPONSES, RESP(",\"tools\":[{\"type\":\"file_search\"}]"),
           HOSTED);

    bypass(LLM_CHAT, TOOLS(""), 0);
    bypass(LLM_CHAT, CHAT("\"tools\":null"), 0);
    bypass(LLM_CHAT, CHAT("\"functions\":null"), 0);
    bypass(LLM_CHAT, CHAT("\"functions\":[]"), 0);
    bypass(LLM_CHAT, CHAT("\"functions\":\"none\""), 0);
}


static void
remote(const char *items, unsigned expected)
{
    char  body[512];

    snprintf(body, sizeof(body), "{\"model\":\"a\",\"messages\":[%s]}", items);
    bypass(LLM_CHAT, body, expected);

    snprintf(body, sizeof(body), "{\"model\":\"a\",\"input\":[%s],"
             "\"store\":false}", items);
    bypass(LLM_RESPONSES, body, expected);
}


#define PART(part)  "{\"content\":[{\"text\":\"x\"}," part "]}"


static void
test_bypass_url(void **state)
{
    unsigned  i;

    static const char *const  away[] = {
        PART("{\"type\":\"image_url\",\"image_url\":{\"url\":\"http://a\"}}"),
        PART("{\"image_url\":{\"detail\":\"low\",\"url\":\"HTTP://a/\"}}"),
        PART("{\"image_url\":{\"url\":\"https:\\/\\/a\\/\"},\"type\":\"x\"}"),
        PART("{\"image_url\":{\"url\":\"\\u0068ttps://a/\"}}"),
        PART("{\"image_ur\\u006c\":{\"\\u0075rl\":\"https://a/\"}}"),
        PART("{\"image_url\":\"http://a/\"}"),
        PART("{\"image_url\":[{\"url\":[\"http://a/\"]}]}"),
        PART("{\"video_url\":{\"url\":\"http://a/\"}}"),
        PART("{\"type\":\"input_file\",\"file_url\":\"http://a/\"}"),
        PART("{\"source\":{\"type\":\"url\",\"url\":\"http://a/\"}}"),
        PART("{\"input_audio\":{\"data\":\"http://a/\"}}"),
        PART("{\"input_audio\":{\"data\":\"https://a/\"}}"),
        PART("{\"image_url\":{\"url\":\"" DATA_URL "\"}},"
             "{\"image_url\":{\"url\":\"gs://a/b\"}}"),
        ("{\"output\":{\"type\":\"computer_screenshot\","
         "\"image_url\":\"https://a/\"}}")
    };

    static const char *const  here[] = {
        PART("{\"image_url\":{\"url\":\"" DATA_URL "\"}}"),
        PART("{\"image_url\":{\"url\":\"data:image/svg+xml,x\"}}"),
        PART("{\"image_url\":null},\"https://a/\""),
        PART("{\"image_url\":{\"url\":null,\"detail\":\"https://a/\"}}"),
        PART("{\"image_url\":{}},{\"text\":\"https://a/\"}"),
        PART("{\"file\":{\"file_id\":\"https://a/\"}}"),
        PART("{\"input_audio\":{\"data\":\"httpsAAA\"}}"),
        PART("{\"input_audio\":{\"data\":\"http\"}}"),
        PART("{\"detail\":\"http://a\"},{\"\":\"\"},{\"l\":\"http://a\"}"),
        PART("{\"rl\":\"https://a/\"},{\"model\":\"https://a/\"}"),
        "{\"content\":\"https://a/\"}"
    };

    (void) state;

    for (i = 0; i < sizeof(away) / sizeof(away[0]); i++) {
        remote(away[i], LLM_BYPASS_URL);
    }

    for (i = 0; i < sizeof(here) / sizeof(here[0]); i++) {
        remote(here[i], 0);
    }

    bypass(LLM_CHAT, TOOLS("{\"type\":\"function\",\"a_url\":\"https://a\"}"),
           LLM_BYPASS_TOOLS);
    bypass(LLM_CHAT, CHAT("\"a_url\":\"https://a\",\"user\":{\"image_url\":"
                          "\"https://a\"}"), 0);
}


static void
chance(llm_endpoint_e endpoint, const char *members, unsigned expected)
{
    char  body[256];

    snprintf(body, sizeof(body), "{\"model\":\"a\",\"messages\":[],"
             "\"input\":\"x\",\"store\":false%s}", members);
    ok(endpoint, body);

    if (rq.bypass != expected) {
        fail_msg("%s: bypass %x", body, rq.bypass);
    }
}


static void
test_bypass_chance(void **state)
{
    (void) state;

    chance(LLM_CHAT, "", LLM_BYPASS_TEMPERATURE);
    chance(LLM_CHAT, ",\"temperature\":null", LLM_BYPASS_TEMPERATURE);
    chance(LLM_CHAT, ",\"temperature\":0.1", LLM_BYPASS_TEMPERATURE);
    chance(LLM_CHAT, ",\"temperature\":0e1", 0);
    chance(LLM_CHAT, ",\"temperature\":1,\"seed\":7", 0);
    chance(LLM_CHAT, ",\"seed\":0", 0);
    chance(LLM_CHAT, ",\"seed\":null", LLM_BYPASS_TEMPERATURE);
    chance(LLM_CHAT, ",\"seed\":\"7\"", LLM_BYPASS_TEMPERATURE);
    chance(LLM_CHAT, ",\"x\":{\"seed\":7}", LLM_BYPASS_TEMPERATURE);

    chance(LLM_CHAT, ",\"n\":1,\"temperature\":0", 0);
    chance(LLM_CHAT, ",\"n\":2,\"temperature\":0", LLM_BYPASS_N);
    chance(LLM_CHAT, ",\"n\":2,\"seed\":7", 0);
    chance(LLM_CHAT, ",\"seed\":-7,\"n\":2", 0);
    chance(LLM_COMPLETIONS, ",\"best_of\":2,\"temperature\":0", LLM_BYPASS_N);
    chance(LLM_RESPONSES, "", LLM_BYPASS_TEMPERATURE);

    /* there is nothing of chance in them */

    chance(LLM_EMBEDDINGS, ",\"n\":2", 0);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_bypass),
        cmocka_unit_test(test_bypass_tools),
        cmocka_unit_test(test_bypass_url),
        cmocka_unit_test(test_bypass_chance)
    };

    return cmocka_run_group_tests(tests, NULL, teardown);
}
