
/*
 * Copyright (C) the ngx-llm authors
 */


#include "json_check.h"

#include <jansson.h>

#include "core/llm_dialect.h"


static llm_dialect_error_t   e;
static unsigned char        *text, *out;
static unsigned              answered;


static void
read_len(unsigned status, const char *body, size_t len)
{
    free(text);
    text = check_copy(body, len);

    memset(&e, 0xa5, sizeof(e));
    llm_dialect_error(&e, status, text, len);

    answered = status;
}


static void
write_out(void)
{
    size_t          size;
    unsigned char  *end;

    free(out);

    size = llm_dialect_size(&e);
    out = malloc(size + 1);
    end = llm_dialect_write(&e, answered, out);

    assert_true((size_t) (end - out) <= size);
    *end = '\0';
}


/* what a client gets; "%" in the message: not looked at */

static void
gives(const char *name, unsigned status, const char *message,
    const char *type, const char *param, const char *code)
{
    json_t        *root, *error, *m;
    const char    *keys[] = { "message", "type", "param", "code" };
    const char    *want[4];
    int            i;
    json_error_t   why;

    want[0] = message;
    want[1] = type;
    want[2] = param;
    want[3] = code;

    write_out();

    root = json_loads((char *) out, JSON_REJECT_DUPLICATES, &why);

    if (root == NULL) {
        fail_msg("%s: %s: %s", name, why.text, (char *) out);
    }

    assert_int_equal(json_object_size(root), 1);
    error = json_object_get(root, "error");
    assert_int_equal(json_object_size(error), 4);

    for (i = 0; i < 4; i++) {
        m = json_object_get(error, keys[i]);

        if (want[i] == NULL ? !json_is_null(m)
                            : !json_is_string(m)
                              || strcmp(json_string_value(m), want[i]) != 0)
        {
            fail_msg("%s: %s: %s", name, keys[i], (char *) out);
        }
    }

    json_decref(root);

    if (llm_dialect_status(&e, answered) != status) {
        fail_msg("%s: status %u", name, llm_dialect_status(&e, answered));
    }
}


static void
told(const char *name, int known, int right, int quota, int context,
    int filtered, long wait)
{
    if (e.known != (unsigned) known || e.right != (unsigned) right
        || e.quota != (unsigned) quota || e.context != (unsigned) context
        || e.filtered != (unsigned) filtered || e.wait != wait)
    {
        fail_msg("%s: known %u right %u quota %u context %u filtered %u "
                 "wait %ld", name, e.known, e.right, e.quota, e.context,
                 e.filtered, (long) e.wait);
    }
}


typedef struct {
    const char           *name;
    unsigned              status;
    const char           *body;

    unsigned              seen;
    const char           *message;
    const char           *type;
    const char           *param;
    const char           *code;

    const char           *flags;            /* k r q c f */
    long                  wait;
} dialect_t;


static const dialect_t  dialects[] = {

    /* the API itself */

    { "OpenAI", 401, "{\"error\":{\"message\":\"Incorrect API key\",\"type\":"
      "\"invalid_request_error\",\"param\":null,\"code\":"
      "\"invalid_api_key\"}}", 401, "Incorrect API key",
      "invalid_request_error", NULL, "invalid_api_key", "kr", -1 },

    { "OpenAI: rate", 429, "{\n \"error\": {\n  \"message\": \"Rate limit "
      "reached for m on tokens per min (TPM): Limit 30000, Used 28039. "
      "Please try again in 3.89s. You can add a payment method at "
      "https://x/account/billing.\",\n  \"type\": \"tokens\",\n  \"param\": "
      "null,\n  \"code\": \"rate_limit_exceeded\"\n }\n}\n", 429,
      "Rate limit reached for m on tokens per min (TPM): Limit 30000, Used "
      "28039. Please try again in 3.89s. You can add a payment method at "
      "https://x/account/billing.", "tokens", NULL, "rate_limit_exceeded",
      "kr", 3890 },

    { "OpenAI: quota", 429, "{\"error\":{\"message\":\"You exceeded your "
      "current quota, please check your plan and billing details.\",\"type\":"
      "\"insufficient_quota\",\"param\":null,\"code\":\"insufficient_quota\"}"
      "}", 429, "You exceeded your current quota, please check your plan and "
      "billing details.", "insufficient_quota", NULL, "insufficient_quota",
      "krq", -1 },

    { "OpenAI: context", 400, "{\"error\":{\"message\":\"This model's maximum"
      " context length is 4097 tokens.\",\"type\":\"invalid_request_error\","
      "\"param\":\"messages\",\"code\":\"context_length_exceeded\"}}", 400,
      "This model's maximum context length is 4097 tokens.",
      "invalid_request_error", "messages", "context_length_exceeded", "krc",
      -1 },

    /* Azure */

    { "Azure: rate", 429, "{\"error\":{\"code\":\"429\",\"message\":"
      "\"Requests have exceeded the token rate limit. Please retry after 45 "
      "seconds.\"}}", 429, "Requests have exceeded the token rate limit. "
      "Please retry after 45 seconds.", "requests", NULL, "429", "k", 45000 },

    { "Azure: a day", 429, "{\"error\":{\"code\":\"429\",\"message\":"
      "\"Please retry after 86400 seconds.\"}}", 429,
      "Please retry after 86400 seconds.", "requests", NULL, "429", "k",
      86400000 },

    { "Azure: filter", 400, "{\"error\":{\"message\":\"The response was "
      "filtered\",\"type\":null,\"param\":\"prompt\",\"code\":"
      "\"content_filter\",\"status\":400,\"innererror\":{\"code\":"
      "\"ResponsibleAIPolicyViolation\",\"content_filter_result\":{\"hate\":"
      "{\"filtered\":true,\"severity\":\"high\"}}}}}", 400,
      "The response was filtered", "invalid_request_error", "prompt",
      "content_filter", "krf", -1 },

    { "Azure: in front of the model", 401, "{ \"statusCode\": 401, "
      "\"message\": \"Unauthorized. Access token is missing.\" }", 401,
      "Unauthorized. Access token is missing.", "invalid_request_error", NULL,
      NULL, "k", -1 },

    /* vLLM: integer codes, and earlier without the wrapper */

    { "vLLM", 404, "{\"error\":{\"message\":\"The model `x` does not "
      "exist.\",\"type\":\"NotFoundError\",\"param\":null,\"code\":404}}",
      404, "The model `x` does not exist.", "NotFoundError", NULL, "404", "k",
      -1 },

    { "vLLM: context", 400, "{\"object\":\"error\",\"message\":\"This "
      "model's maximum context length is 16384 tokens. However, you "
      "requested 19591 tokens.\",\"type\":\"BadRequestError\",\"param\":"
      "null,\"code\":400}", 400, "This model's maximum context length is "
      "16384 tokens. However, you requested 19591 tokens.",
      "BadRequestError", NULL, "context_length_exceeded", "kc", -1 },

    { "vLLM: FastAPI", 422, "{\"detail\":[{\"type\":\"missing\",\"loc\":["
      "\"body\",\"messages\"],\"msg\":\"Field required\",\"input\":{\"a\":1}}"
      ",{\"type\":\"x\",\"loc\":[\"body\",\"other\"],\"msg\":\"Second\"}]}",
      422, "Field required", "invalid_request_error", "messages", NULL, "k",
      -1 },

    { "vLLM: no path", 404, "{\"detail\":\"Not Found\"}", 404, "Not Found",
      "invalid_request_error", NULL, NULL, "k", -1 },

    /* Ollama */

    { "Ollama", 404, "{\"error\":{\"message\":\"model 'x' not found\","
      "\"type\":\"not_found_error\",\"param\":null,\"code\":null}}", 404,
      "model 'x' not found", "not_found_error", NULL, NULL, "kr", -1 },

    { "Ollama: native", 503, "{\"error\":\"server busy, please try again.  "
      "maximum pending requests exceeded\"}", 503,
      "server busy, please try again.  maximum pending requests exceeded",
      "server_error", NULL, NULL, "k", -1 },

    /* llama.cpp */

    { "llama.cpp", 503, "{\"error\":{\"code\":503,\"message\":\"Loading "
      "model\",\"type\":\"unavailable_error\"}}", 503, "Loading model",
      "unavailable_error", NULL, "503", "k", -1 },

    { "llama.cpp: context", 400, "{\"error\":{\"code\":400,\"message\":\"the"
      " request exceeds the available context size, try increasing it\","
      "\"type\":\"exceed_context_size_error\",\"n_prompt_tokens\":9,\"n_ctx\""
      ":8}}", 400, "the request exceeds the available context size, try "
      "increasing it", "exceed_context_size_error", NULL,
      "context_length_exceeded", "kc", -1 },

    /* Groq */

    { "Groq", 429, "{\"error\":{\"message\":\"Rate limit reached for model. "
      "Please try again in 7m12.48s. Visit x.\",\"type\":\"tokens\",\"code\":"
      "\"rate_limit_exceeded\"}}\n", 429, "Rate limit reached for model. "
      "Please try again in 7m12.48s. Visit x.", "tokens", NULL,
      "rate_limit_exceeded", "k", 432480 },

    { "Groq: too large", 413, "{\"error\":{\"message\":\"Request too large "
      "for model on tokens per minute (TPM): Limit 6000, Requested 9000\","
      "\"type\":\"tokens\",\"code\":\"rate_limit_exceeded\"}}", 413,
      "Request too large for model on tokens per minute (TPM): Limit 6000, "
      "Requested 9000", "tokens", NULL, "rate_limit_exceeded", "k", -1 },

    /* Mistral */

    { "Mistral", 429, "{\"object\":\"error\",\"message\":\"Requests rate "
      "limit exceeded\",\"type\":\"rate_limited\",\"param\":null,\"code\":"
      "\"1300\"}", 429, "Requests rate limit exceeded", "rate_limited", NULL,
      "1300", "k", -1 },

    { "Mistral: validation", 422, "{\"object\":\"error\",\"message\":"
      "{\"detail\":[{\"type\":\"extra_forbidden\",\"loc\":[\"body\",\"seed\"]"
      ",\"msg\":\"Extra inputs are not permitted\"}]},\"type\":"
      "\"invalid_request_error\",\"param\":null,\"code\":null}", 422,
      "Extra inputs are not permitted", "invalid_request_error", "seed", NULL,
      "k", -1 },

    { "Mistral: context", 400, "{\"object\":\"error\",\"message\":\"Prompt "
      "contains 40000 tokens and 0 draft tokens, too large for model with "
      "32768 maximum context length\",\"type\":\"invalid_request_error\","
      "\"param\":null,\"code\":\"3051\"}", 400, "Prompt contains 40000 tokens"
      " and 0 draft tokens, too large for model with 32768 maximum context "
      "length", "invalid_request_error", NULL, "context_length_exceeded",
      "kc", -1 },

    /* Gemini */

    { "Gemini", 400, "[{\n  \"error\": {\n    \"code\": 400,\n    "
      "\"message\": \"Unknown name \\\"store\\\"\",\n    \"status\": "
      "\"INVALID_ARGUMENT\",\n    \"details\": []\n  }\n}\n]", 400,
      "Unknown name \"store\"", "invalid_request_error", NULL, "400", "k",
      -1 },

    { "Gemini: rate", 429, "[{\"error\":{\"code\":429,\"message\":\"You "
      "exceeded your current quota, please check your plan and billing "
      "details.\",\"status\":\"RESOURCE_EXHAUSTED\",\"details\":[{\"@type\":"
      "\"type.googleapis.com/google.rpc.QuotaFailure\",\"violations\":[{"
      "\"quotaId\":\"PerMinute\"}]},{\"@type\":"
      "\"type.googleapis.com/google.rpc.RetryInfo\",\"retryDelay\":\"12s\"}]}"
      "}]", 429, "You exceeded your current quota, please check your plan and"
      " billing details.", "requests", NULL, "429", "k", 12000 },

    { "Gemini: no RetryInfo", 429, "[{\"error\":{\"code\":429,\"message\":"
      "\"You exceeded your current quota\",\"status\":"
      "\"RESOURCE_EXHAUSTED\"}}]", 429, "You exceeded your current quota",
      "requests", NULL, "429", "k", -1 },

    { "Gemini: context", 400, "[{\"error\":{\"code\":400,\"message\":\"The "
      "input token count (1200000) exceeds the maximum number of tokens "
      "allowed (1048575).\",\"status\":\"INVALID_ARGUMENT\"}}]", 400,
      "The input token count (1200000) exceeds the maximum number of tokens "
      "allowed (1048575).", "invalid_request_error", NULL,
      "context_length_exceeded", "kc", -1 },

    /* Anthropic */

    { "Anthropic", 529, "{\"type\":\"error\",\"error\":{\"type\":"
      "\"overloaded_error\",\"message\":\"Overloaded\"},\"request_id\":"
      "\"req_1\"}", 503, "Overloaded", "overloaded_error", NULL, NULL, "k",
      -1 },

    { "Anthropic: context", 400, "{\"type\":\"error\",\"error\":{\"type\":"
      "\"invalid_request_error\",\"message\":\"prompt is too long: 210000 "
      "tokens > 200000 maximum\"}}", 400,
      "prompt is too long: 210000 tokens > 200000 maximum",
      "invalid_request_error", NULL, "context_length_exceeded", "kc", -1 },

    { "Anthropic: credit", 400, "{\"error\":{\"type\":"
      "\"invalid_request_error\",\"message\":\"Your credit balance is too "
      "low to access the API.\"}}", 400,
      "Your credit balance is too low to access the API.",
      "invalid_request_error", NULL, "insufficient_quota", "kq", -1 },

    /* OpenRouter */

    { "OpenRouter", 402, "{\"error\":{\"code\":402,\"message\":\"This "
      "request requires more credits\",\"metadata\":{\"provider_name\":null}}"
      ",\"user_id\":\"u\"}", 429, "This request requires more credits",
      "insufficient_quota", NULL, "insufficient_quota", "kq", -1 },

    { "OpenRouter: after 200", 200, "{\"error\":{\"code\":429,\"message\":"
      "\"Provider returned error\",\"metadata\":{\"retry_after\":1.5}}}", 429,
      "Provider returned error", "requests", NULL, "429", "k", 1500 },

    /* others */

    { "Cerebras", 429, "{\"message\":\"Too many requests\",\"type\":"
      "\"too_many_requests_error\",\"param\":\"queue\",\"code\":"
      "\"queue_exceeded\"}", 429, "Too many requests",
      "too_many_requests_error", "queue", "queue_exceeded", "k", -1 },

    { "DeepSeek", 402, "\n\n {\"error\":{\"message\":\"Insufficient "
      "Balance\",\"type\":\"unknown_error\",\"param\":null,\"code\":"
      "\"invalid_request_error\"}}", 429, "Insufficient Balance",
      "unknown_error", NULL, "invalid_request_error", "krq", -1 },

    { "Hugging Face", 402, "{\"error\":\"You have exceeded your monthly "
      "included credits\"}", 429,
      "You have exceeded your monthly included credits",
      "insufficient_quota", NULL, "insufficient_quota", "kq", -1 },

    { "Z.ai", 429, "{\"error\":{\"code\":\"1302\",\"message\":\"High "
      "concurrency\"}}", 429, "High concurrency", "requests", NULL, "1302",
      "k", -1 },

    { "a rate, no context", 429, "{\"message\":\"This exceeds the maximum "
      "number of tokens per minute\"}", 429,
      "This exceeds the maximum number of tokens per minute", "requests",
      NULL, NULL, "k", -1 },

    { "a proxy's object", 429, "{\"message\":\"slow down\",\"retry_after\":"
      "\"12\"}", 429, "slow down", "requests", NULL, NULL, "k", 12000 },

    { "an array of strings", 400, "{\"message\":[\"one\",\"two\"]}", 400,
      "one", "invalid_request_error", NULL, NULL, "k", -1 },

    { "a string", 500, "\"out of order\"", 500, "out of order",
      "server_error", NULL, NULL, "k", -1 },

    { "HTML", 502, "<html>\r\n<head><title>502 Bad Gateway</title></head>"
      "<body>try again in 5 seconds</body>\r\n</html>", 502,
      "The provider answered with HTTP 502.", "server_error", NULL, NULL, "",
      -1 },

    { "Cloudflare", 524, "<!DOCTYPE html>", 502,
      "The provider answered with HTTP 524.", "server_error", NULL, NULL, "",
      -1 },

    { "text", 504, "upstream request timeout", 504,
      "The provider answered with HTTP 504.", "timeout", NULL, NULL, "", -1 },

    { "text with a wait", 429, "Too many requests, retry after 7 s", 429,
      "The provider answered with HTTP 429.", "requests", NULL, NULL, "",
      7000 },

    { "nothing", 499, "", 502, "The provider answered with HTTP 499.",
      "server_error", NULL, NULL, "", -1 },

    { "not JSON in an event", 200, "oops", 502,
      "The provider answered with an error.", "server_error", NULL, NULL, "",
      -1 },

    { "a number", 500, "17", 500, "The provider answered with HTTP 500.",
      "server_error", NULL, NULL, "", -1 },

    { "null", 500, "{\"error\":null}", 500,
      "The provider answered with HTTP 500.", "server_error", NULL, NULL, "",
      -1 },

    { "cut", 500, "{\"error\":{\"message\":\"half\",\"type\":\"server_err",
      500, "half", "server_error", NULL, NULL, "k", -1 },

    { "the last one counts", 500, "{\"error\":{\"message\":\"a\",\"type\":"
      "\"x\",\"param\":null,\"code\":null},\"error\":{\"message\":\"b\"}}",
      500, "b", "server_error", NULL, NULL, "k", -1 },

    { "no end to rely on", 500, "{\"error\":{\"message\":\"a\",\"type\":"
      "\"x\",\"param\":null,\"code\":null}} x", 500, "a", "x", NULL, NULL,
      "k", -1 },

    { "prompts speak of money, too", 400, "{\"error\":{\"message\":\"Invalid "
      "value: 'insufficient balance'\",\"code\":null}}", 400,
      "Invalid value: 'insufficient balance'", "invalid_request_error", NULL,
      NULL, "k", -1 },

    { "escapes", 400, "{\"err\\u006fr\":{\"message\":\"a\\u0000\\u001b[1m"
      "\\u007f\\b\\ud83d\\ude00\\u00e9\\n\\\"\",\"type\":\"\\u0074\"}}", 400,
      "a  [1m  \xf0\x9f\x98\x80\xc3\xa9\n\"", "t", NULL, NULL, "k", -1 }
};


static void
test_dialects(void **state)
{
    int               i, pad;
    size_t            n;
    const dialect_t  *d;
    char              body[8192];

    static const char *const  blanks[] = { "", "\n\n", " \r\n\t ",
                                           "\xef\xbb\xbf",
                                           " \xef\xbb\xbf\n" };

    (void) state;

    n = sizeof(dialects) / sizeof(dialects[0]);

    for (i = 0; i < (int) n; i++) {
        d = &dialects[i];

        for (pad = 0; pad < 5; pad++) {
            snprintf(body, sizeof(body), "%s%s", blanks[pad], d->body);

            read_len(d->status, body, strlen(body));

            told(d->name, strchr(d->flags, 'k') != NULL,
                 strchr(d->flags, 'r') != NULL, strchr(d->flags, 'q') != NULL,
                 strchr(d->flags, 'c') != NULL, strchr(d->flags, 'f') != NULL,
                 d->wait);

            gives(d->name, d->seen, d->message, d->type, d->param, d->code);
        }
    }
}


static void
wait_of(const char *message, long wait)
{
    char  body[512];

    snprintf(body, sizeof(body), "{\"error\":{\"message\":\"%s\"}}", message);
    read_len(429, body, strlen(body));

    if (e.wait != wait) {
        fail_msg("\"%s\": %ld", message, (long) e.wait);
    }
}


static void
test_wait(void **state)
{
    (void) state;

    wait_of("Please try again in 3.2s", 3200);
    wait_of("Please try again in 174ms. Visit", 174);
    wait_of("please TRY AGAIN IN 6m0s.", 360000);
    wait_of("try again in 1h2m3.0004s", 3723001);
    wait_of("Please retry after 45 seconds.", 45000);
    wait_of("Please retry after 1 second.", 1000);
    wait_of("Please retry in 37.48s.", 37480);
    wait_of("try again after 2 minutes 5 seconds, please", 125000);
    wait_of("try again in 20 ms", 20);
    wait_of("retry after 30", 30000);
    wait_of("retry after 30.", 30000);
    wait_of("retry after 3 days", 86400000);
    wait_of("retry after 99999999999999999999999 seconds", 86400000);
    wait_of("retry after 0.00000000000000000001s", 0);
    wait_of("try again in a while, or try again in 2s", 2000);

    wait_of("retry after 2026-11-21T18:00:00Z", -1);
    wait_of("retry after 12:30", -1);
    wait_of("try again in 3", 3000);
    wait_of("try again later", -1);
    wait_of("try again in -3s", -1);
    wait_of("in 3s", -1);
    wait_of("retry after ", -1);

    read_len(429, "{\"error\":{\"message\":\"try again in 9s\","
             "\"retry_after\":2}}", 55);
    assert_int_equal(e.wait, 2000);

    read_len(429, "{\"retry_after_ms\":\"20.5\",\"message\":\"x\"}", 39);
    assert_int_equal(e.wait, 21);

    read_len(429, "{\"retry_after\":-2,\"message\":\"x\"}", 32);
    assert_int_equal(e.wait, -1);
}


/* bounded, and cut between two characters */

static void
test_large(void **state)
{
    int    i, pad;
    char  *body, *p, *m;

    static const char *const  units[] = { "x", "\xc3\xa9", "\xe2\x82\xac",
                                          "\xf0\x9f\x98\x80", "\\n",
                                          "\\u00e9", "\\ud83d\\ude00" };

    (void) state;

    body = malloc(70000);

    for (i = 0; i < 7; i++) {
        for (pad = 0; pad < 12; pad++) {
            p = body + sprintf(body, "{\"error\":{\"type\":\"t\",\"code\":"
                               "\"c\",\"message\":\"%.*s", pad,
                               "............");

            while (p - body < 5000) {
                p += sprintf(p, "%s", units[i]);
            }

            p += sprintf(p, "\",\"param\":\"p\"}}");

            read_len(500, body, (size_t) (p - body));
            assert_int_equal(e.right, 1);
            write_out();

            m = strstr((char *) out, "\",\"type\":\"t\",\"param\":\"p\","
                                     "\"code\":\"c\"}}");
            assert_non_null(m);
            assert_true(m - (char *) out <= 21 + 4096);
            assert_true(m - (char *) out > 21 + 4096 - 12);

            json_decref(json_loads((char *) out, 0, NULL));
        }
    }

    /* what is behind 64 KB is not seen */

    memset(body, ' ', 70000);
    memcpy(body, "{\"a\":1,", 7);
    memcpy(body + 66000, "\"error\":\"x\"}", 12);
    read_len(500, body, 66012);
    assert_int_equal(e.known, 0);

    memcpy(body + 64000, "\"error\":\"x\"}", 12);
    read_len(500, body, 70000);
    assert_int_equal(e.known, 1);
    assert_int_equal(e.right, 0);

    /* long words */

    p = body + sprintf(body, "{\"error\":{\"type\":\"%0500d\",\"code\":%0500d,"
                       "\"param\":\"%0500d\"}}", 1, 1, 1);
    read_len(500, body, (size_t) (p - body));
    write_out();

    p = body + sprintf(body, "{\"error\":{\"type\":\"%0500d\",\"code\":"
                       "\"c%0500d\",\"param\":\"%0500d\"}}", 1, 1, 1);
    read_len(500, body, (size_t) (p - body));
    write_out();
    assert_true(strlen((char *) out) < 1024);

    free(body);
}


/* the writer does not trust its reader */

static void
test_unsafe(void **state)
{
    static const struct {
        const char  *raw, *safe;
    } cases[] = {
        { "a\"b", "a b" },
        { "a\nb\x7f", "a b " },
        { "\\", " " },
        { "a\\x", "a x" },
        { "\\u12", " 12" },
        { "\\ud83d", " " },
        { "\\ud83d\\u0041", " A" },
        { "\\udc00", " " },
        { "\xff\xc3\xa9\xc3", "?\xc3\xa9?" },
        { "\xed\xa0\x80", "???" },
        { "\xc0\xaf", "??" }
    };

    size_t  i;

    (void) state;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        memset(&e, 0, sizeof(e));
        e.message.data = (unsigned char *) cases[i].raw;
        e.message.len = strlen(cases[i].raw);
        answered = 400;

        gives(cases[i].raw, 400, cases[i].safe, "invalid_request_error", NULL,
              NULL);
    }
}


static void
test_status(void **state)
{
    unsigned  i;

    static const unsigned  seen[][2] = {
        { 400, 400 }, { 401, 401 }, { 402, 429 }, { 408, 408 }, { 409, 409 },
        { 413, 413 }, { 429, 429 }, { 499, 502 }, { 500, 500 }, { 504, 504 },
        { 520, 502 }, { 524, 502 }, { 527, 502 }, { 528, 528 }, { 529, 503 },
        { 530, 502 }, { 599, 599 }, { 600, 502 }, { 302, 502 }, { 0, 502 }
    };

    (void) state;

    memset(&e, 0, sizeof(e));

    for (i = 0; i < sizeof(seen) / sizeof(seen[0]); i++) {
        assert_int_equal(llm_dialect_status(&e, seen[i][0]), seen[i][1]);
    }
}


int
main(void)
{
    int  rc;

    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dialects),
        cmocka_unit_test(test_wait),
        cmocka_unit_test(test_large),
        cmocka_unit_test(test_unsafe),
        cmocka_unit_test(test_status)
    };

    rc = cmocka_run_group_tests(tests, NULL, NULL);

    free(text);
    free(out);

    return rc;
}
