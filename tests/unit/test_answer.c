
/*
 * Copyright (C) the ngx-llm authors
 */


#include "json_check.h"

#include "core/llm_answer.h"


static llm_answer_t    an;
static unsigned char  *text;


static void
scan_len(llm_endpoint_e endpoint, const char *body, size_t len)
{
    free(text);
    text = check_copy(body, len);

    memset(&an, 0xa5, sizeof(an));
    llm_answer_scan(&an, endpoint, text, len);
}


static void
scan(llm_endpoint_e endpoint, const char *body)
{
    scan_len(endpoint, body, strlen(body));
}


static void
usage(llm_endpoint_e endpoint, const char *body, int prompt, int cached,
    int completion, int reasoning, int total)
{
    scan(endpoint, body);

    assert_int_equal(an.valid, 1);
    assert_int_equal(an.usage.prompt_tokens, prompt);
    assert_int_equal(an.usage.cached_tokens, cached);
    assert_int_equal(an.usage.completion_tokens, completion);
    assert_int_equal(an.usage.reasoning_tokens, reasoning);
    assert_int_equal(an.usage.total_tokens, total);
}


static const char  chat[] =
    "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\",\"created\":1,"
    "\"model\":\"gpt-4o\",\"choices\":[{\"index\":0,\"message\":{\"role\":"
    "\"assistant\",\"content\":\"h\\u00e9llo\",\"refusal\":null},"
    "\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":{"
    "\"prompt_tokens\":19,\"completion_tokens\":10,\"total_tokens\":29,"
    "\"prompt_tokens_details\":{\"cached_tokens\":5,\"audio_tokens\":0},"
    "\"completion_tokens_details\":{\"reasoning_tokens\":3,"
    "\"accepted_prediction_tokens\":0}},\"service_tier\":\"default\"}";


static void
test_usage(void **state)
{
    (void) state;

    usage(LLM_CHAT, chat, 19, 5, 10, 3, 29);
    assert_int_equal(an.complete, 1);
    assert_int_equal(an.error, 0);
    assert_int_equal(an.error_shape, 0);

    usage(LLM_EMBEDDINGS, "{\"object\":\"list\",\"data\":[{\"embedding\":"
          "[0.1,-2e-3]}],\"usage\":{\"prompt_tokens\":8,\"total_tokens\":8}}",
          8, -1, -1, -1, 8);
    assert_int_equal(an.complete, 1);

    usage(LLM_RESPONSES, "{\"id\":\"r\",\"status\":\"completed\",\"error\":"
          "null,\"usage\":{\"input_tokens\":36,\"input_tokens_details\":"
          "{\"cached_tokens\":1},\"output_tokens\":87,"
          "\"output_tokens_details\":{\"reasoning_tokens\":2},"
          "\"total_tokens\":123}}", 36, 1, 87, 2, 123);
    assert_int_equal(an.complete, 1);
    assert_int_equal(an.error, 0);

    /* an event of a stream */

    usage(LLM_RESPONSES, "{\"type\":\"response.completed\",\"response\":{"
          "\"status\":\"completed\",\"usage\":{\"input_tokens\":3,"
          "\"output_tokens\":4,\"total_tokens\":7}}}", 3, -1, 4, -1, 7);
    assert_int_equal(an.complete, 1);

    usage(LLM_CHAT, "{\"choices\":[],\"usage\":{\"prompt_tokens\":1,"
          "\"completion_tokens\":2}}", 1, -1, 2, -1, -1);
    assert_int_equal(an.complete, 0);

    usage(LLM_CHAT, "{\"x_groq\":{\"usage\":{\"prompt_tokens\":1}}}",
          1, -1, -1, -1, -1);

    /* null, wrong or out of place */

    usage(LLM_CHAT, "{\"usage\":null}", -1, -1, -1, -1, -1);
    usage(LLM_CHAT, "{\"usage\":[1]}", -1, -1, -1, -1, -1);
    usage(LLM_CHAT, "{\"usage\":[{\"prompt_tokens\":1}]}",
          -1, -1, -1, -1, -1);
    usage(LLM_CHAT, "{\"prompt_tokens\":1}", -1, -1, -1, -1, -1);
    usage(LLM_CHAT, "{\"a\":{\"usage\":{\"prompt_tokens\":1}}}",
          -1, -1, -1, -1, -1);
    usage(LLM_CHAT, "{\"choices\":[{\"usage\":{\"prompt_tokens\":1}}]}",
          -1, -1, -1, -1, -1);
    usage(LLM_CHAT, "{\"usage\":{\"a\":{\"prompt_tokens\":1},"
          "\"cached_tokens\":2,\"prompt_tokens\":\"5\",\"completion_tokens\":"
          "-5,\"total_tokens\":1.5}}", -1, -1, -1, -1, -1);
    usage(LLM_CHAT, "{\"usage\":{\"prompt_tokens\":99999999999999999999,"
          "\"completion_tokens\":null,\"prompt_tokens_details\":null}}",
          -1, -1, -1, -1, -1);

    /* the last one counts */

    usage(LLM_CHAT, "{\"usage\":{\"prompt_tokens\":1,\"total_tokens\":1},"
          "\"usage\":{\"prompt_tokens\":2,\"prompt_tokens\":3}}",
          3, -1, -1, -1, -1);

    /* whatever the name's spelling */

    usage(LLM_CHAT, "{\"us\\u0061ge\":{\"prompt\\u005ftokens\":7}}",
          7, -1, -1, -1, -1);
}


static void
complete(llm_endpoint_e endpoint, const char *body, unsigned expected)
{
    scan(endpoint, body);

    if (!an.valid || an.complete != expected) {
        fail_msg("%s: complete %u", body, an.complete);
    }
}


static void
test_complete(void **state)
{
    (void) state;

    complete(LLM_CHAT, "{\"choices\":[{\"finish_reason\":\"stop\"},"
             "{\"finish_reason\":\"length\"}]}", 1);
    complete(LLM_COMPLETIONS, "{\"choices\":[{\"finish_reason\":\"stop\"}]}",
             1);
    complete(LLM_CHAT, "{\"choices\":[{\"finish_reason\":\"stop\"},"
             "{\"finish_reason\":null}]}", 0);
    complete(LLM_CHAT, "{\"choices\":[{\"finish_reason\":null},"
             "{\"finish_reason\":\"stop\"}]}", 0);
    complete(LLM_CHAT, "{\"choices\":[{\"finish_reason\":\"stop\"},{}]}", 0);
    complete(LLM_CHAT, "{\"choices\":[{},{\"finish_reason\":\"stop\"}]}", 0);
    complete(LLM_CHAT, "{\"choices\":[]}", 0);
    complete(LLM_CHAT, "{\"choices\":null}", 0);
    complete(LLM_CHAT, "{\"choices\":{\"finish_reason\":\"stop\"}}", 0);
    complete(LLM_CHAT, "{\"choices\":[[{\"finish_reason\":\"stop\"}]]}", 0);
    complete(LLM_CHAT, "{\"choices\":[7,{\"finish_reason\":\"stop\"}]}", 0);
    complete(LLM_CHAT, "{\"choices\":[{\"finish_reason\":\"\"}]}", 0);
    complete(LLM_CHAT, "{\"choices\":[{\"finish_reason\":1}]}", 0);
    complete(LLM_CHAT, "{\"choices\":[{\"delta\":{\"finish_reason\":\"stop\""
             "}}]}", 0);
    complete(LLM_CHAT, "{\"finish_reason\":\"stop\"}", 0);
    complete(LLM_CHAT, "{\"choices\":[{\"message\":{\"finish_reason\":null},"
             "\"finish_reason\":\"stop\",\"x\":{\"finish_reason\":null}}]}",
             1);
    complete(LLM_CHAT, "{}", 0);
    complete(LLM_CHAT, "{\"data\":[1],\"status\":\"completed\"}", 0);

    complete(LLM_EMBEDDINGS, "{\"data\":[{}]}", 1);
    complete(LLM_EMBEDDINGS, "{\"data\":[]}", 0);
    complete(LLM_EMBEDDINGS, "{\"data\":{\"a\":1}}", 0);
    complete(LLM_EMBEDDINGS, "{\"x\":{\"data\":[{}]}}", 0);
    complete(LLM_EMBEDDINGS, "{}", 0);

    complete(LLM_RESPONSES, "{\"status\":\"completed\"}", 1);
    complete(LLM_RESPONSES, "{\"status\":\"incomplete\"}", 0);
    complete(LLM_RESPONSES, "{\"output\":[{\"status\":\"completed\"}]}", 0);
    complete(LLM_RESPONSES, "{\"status\":null}", 0);
    complete(LLM_RESPONSES, "{\"status\":\"completed \"}", 0);

    complete(LLM_ENDPOINTS, "{\"status\":\"completed\"}", 1);
    complete(LLM_ENDPOINTS, "{\"data\":[1]}", 1);
    complete(LLM_ENDPOINTS, "{\"choices\":[{\"finish_reason\":\"x\"}]}", 1);
    complete(LLM_ENDPOINTS, "{}", 0);
}


static void
error(const char *body, unsigned is, unsigned shape, const char *message,
    const char *type, const char *code)
{
    scan(LLM_CHAT, body);

    assert_int_equal(an.valid, 1);

    if (an.error != is || an.error_shape != shape
        || an.error_message.len != strlen(message)
        || an.error_type.len != strlen(type)
        || an.error_code.len != strlen(code))
    {
        fail_msg("%s: %u %u %zu %zu %zu", body, an.error, an.error_shape,
                 an.error_message.len, an.error_type.len, an.error_code.len);
    }

    if (*message) {
        assert_memory_equal(an.error_message.data, message, strlen(message));
    }

    if (*type) {
        assert_memory_equal(an.error_type.data, type, strlen(type));
    }

    if (*code) {
        assert_memory_equal(an.error_code.data, code, strlen(code));
    }
}


static void
test_error(void **state)
{
    (void) state;

    error("{\"error\":{\"message\":\"No \\\"way\\\"\",\"type\":\"t\","
          "\"param\":null,\"code\":\"insufficient_quota\"}}", 1, 1,
          "No \\\"way\\\"", "t", "\"insufficient_quota\"");
    error("{\"error\":{\"code\":null,\"param\":\"p\",\"type\":\"t\","
          "\"message\":\"m\"},\"x\":1}", 1, 1, "m", "t", "");
    error("{\"error\":{\"message\":\"m\",\"type\":\"t\",\"param\":null,"
          "\"code\":429}}", 1, 0, "m", "t", "429");
    error("{\"error\":{\"message\":\"m\",\"type\":\"t\",\"code\":null}}",
          1, 0, "m", "t", "");
    error("{\"error\":{\"message\":\"m\",\"param\":null,\"code\":null}}",
          1, 0, "m", "", "");
    error("{\"error\":{\"message\":\"m\",\"type\":\"t\",\"param\":null}}",
          1, 0, "m", "t", "");
    error("{\"error\":{\"type\":\"t\",\"param\":null,\"code\":null}}",
          1, 0, "", "t", "");
    error("{\"error\":{\"message\":null,\"type\":\"t\",\"param\":null,"
          "\"code\":null}}", 1, 0, "", "t", "");
    error("{\"error\":{\"message\":{\"message\":\"m\"},\"type\":\"t\","
          "\"param\":null,\"code\":null}}", 1, 0, "", "t", "");
    error("{\"error\":{\"message\":\"m\",\"type\":\"t\",\"param\":null,"
          "\"code\":null,\"code\":7}}", 1, 0, "m", "t", "7");
    error("{\"error\":\"bad\"}", 1, 0, "bad", "", "");
    error("{\"error\":7}", 1, 0, "", "", "");
    error("{\"error\":[]}", 1, 0, "", "", "");
    error("{\"error\":{}}", 1, 0, "", "", "");
    error("{\"error\":null}", 0, 0, "", "", "");
    assert_int_equal(an.error_null, 1);

    /* that it was there counts, and only of the top object */

    error("{\"\\u0065rror\":null,\"error\":7}", 1, 0, "", "", "");
    assert_int_equal(an.error_null, 1);
    error("{\"response\":{\"error\":null}}", 0, 0, "", "", "");
    assert_int_equal(an.error_null, 0);
    error("{\"a\":\"\\\"error\\\":null\"}", 0, 0, "", "", "");
    assert_int_equal(an.error_null, 0);
    error("{\"detail\":\"Not Found\"}", 0, 0, "", "", "");
    error("{\"x\":{\"error\":{\"message\":\"m\"}}}", 0, 0, "", "", "");
    error("{\"message\":\"m\",\"type\":\"t\",\"param\":null,\"code\":null}",
          0, 0, "", "", "");
    error("{\"response\":{\"error\":{\"message\":\"m\",\"type\":\"t\","
          "\"param\":null,\"code\":\"c\"}}}", 1, 0, "m", "t", "\"c\"");

    /* without a wrapper, as an error that came as a 200 */

    error("{\"object\":\"error\",\"message\":\"m\",\"type\":\"t\",\"param\":"
          "null,\"code\":40}", 1, 0, "", "", "");
    error("{\"object\":\"errors\",\"message\":\"m\"}", 0, 0, "", "", "");
    error("{\"x\":{\"object\":\"error\"}}", 0, 0, "", "", "");
    error("{\"object\":\"error\",\"object\":\"list\"}", 0, 0, "", "", "");

    /* null takes back what stood before */

    error("{\"error\":{\"message\":\"m\",\"type\":\"t\",\"param\":null,"
          "\"code\":\"c\"},\"error\":null}", 0, 0, "", "", "");
}


/* what is in front of a body does not matter */

static void
test_blanks(void **state)
{
    size_t  i;
    char    body[sizeof(chat) + 16];

    static const char *const  blanks[] = { "", "\n", "\n\n \t\r\n",
                                           "\xef\xbb\xbf",
                                           "\xef\xbb\xbf\n", " \xef\xbb\xbf" };

    (void) state;

    for (i = 0; i < sizeof(blanks) / sizeof(blanks[0]); i++) {
        sprintf(body, "%s%s", blanks[i], chat);
        usage(LLM_CHAT, body, 19, 5, 10, 3, 29);
        assert_int_equal(an.complete, 1);

        sprintf(body, "%s{\"error\":\"x\"}", blanks[i]);
        error(body, 1, 0, "x", "", "");
    }
}


static void
invalid(const char *body, size_t len)
{
    scan_len(LLM_CHAT, body, len);

    if (an.valid) {
        fail_msg("%.*s: valid", (int) len, body);
    }

    /* nothing is known of it */

    assert_int_equal(an.error, 0);
    assert_int_equal(an.error_shape, 0);
    assert_int_equal(an.complete, 0);
    assert_int_equal(an.usage.prompt_tokens, -1);
    assert_int_equal(an.usage.total_tokens, -1);
    assert_int_equal(an.error_message.len, 0);
}


static void
test_invalid(void **state)
{
    size_t    len, at;
    uint32_t  seed, i;
    char      copy[sizeof(chat)];

    static const char  wrong[] =
        "{\"error\":{\"message\":\"m\",\"type\":\"t\",\"param\":null,\"code\""
        ":null},\"usage\":{\"prompt_tokens\":1,\"total_tokens\":1}} x";

    (void) state;

    invalid("", 0);
    invalid("[]", 2);
    invalid("\xef\xbb{}", 4);
    invalid("\xef\xbb\xbf", 3);
    invalid("{}\xef\xbb\xbf", 5);
    invalid("[{\"error\":{\"message\":\"m\"}}]", 27);
    invalid("null", 4);
    invalid("\"error\"", 7);
    invalid("<html>", 6);
    invalid(wrong, sizeof(wrong) - 1);

    for (len = 0; len < sizeof(chat) - 1; len++) {
        invalid(chat, len);
    }

    seed = 7;

    for (i = 0; i < 100000; i++) {
        memcpy(copy, chat, sizeof(chat));
        at = check_random(&seed) % (sizeof(chat) - 1);
        copy[at] = (char) check_random(&seed);

        scan_len((llm_endpoint_e) (i % (LLM_ENDPOINTS + 1)), copy,
                 sizeof(chat) - 1);
    }
}


static int
teardown(void **state)
{
    (void) state;

    free(text);

    return 0;
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_usage),
        cmocka_unit_test(test_complete),
        cmocka_unit_test(test_error),
        cmocka_unit_test(test_blanks),
        cmocka_unit_test(test_invalid)
    };

    return cmocka_run_group_tests(tests, NULL, teardown);
}
