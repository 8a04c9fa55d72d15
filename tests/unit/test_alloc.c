
/*
 * Copyright (C) the ngx-llm authors
 *
 * Every allocation of whatever in the core takes memory from an arena fails
 * once: by the n-th call of the arena's alloc(), and by a lent block that ends
 * anywhere.  Each time it is said so, nothing else; what was read is as it
 * was, what keeps something goes on with it, and once there is memory the
 * result is the same.
 */


#include "json_check.h"

#include "core/llm_batch.h"
#include "core/llm_book.h"
#include "core/llm_gather.h"
#include "core/llm_json.h"
#include "core/llm_keyring.h"
#include "core/llm_policy.h"
#include "core/llm_replay.h"
#include "core/llm_request.h"
#include "core/llm_sse.h"
#include "core/llm_tasks.h"


#define MB    (1024 * 1024)
#define HEX   "00112233445566778899aabbccddeeff"                             \
              "00112233445566778899aabbccddeeff"


/*
 * One use of the arena: LLM_OK, or LLM_ERROR for want of memory alone; adds to
 * "sum" what came of it.
 */

typedef struct {
    llm_arena_t     arena;
    unsigned char  *text;                  /* a copy of the case's */
    size_t          len;
    uint64_t        sum;
} use_t;

typedef struct {
    const char     *name;
    const char     *text;
    int           (*run)(use_t *u);
    unsigned        arg;
    int             writes;                /* into the text */
} case_t;

static const case_t  *current;


static void
add(use_t *u, const void *data, size_t len)
{
    const unsigned char  *p = data;

    for ( /* void */ ; len != 0; len--) {
        u->sum = (u->sum ^ *p++) * 0x100000001b3ULL;
    }

    u->sum = (u->sum ^ 0x100) * 0x100000001b3ULL;
}


static void
add_str(use_t *u, const llm_str_t *s)
{
    add(u, s->data, s->len);
}


static void
sink(void *data, const unsigned char *p, size_t len)
{
    use_t  *u = data;

    while (len-- != 0) {
        u->sum = (u->sum ^ *p++) * 0x100000001b3ULL;
    }
}


static int
run_request(use_t *u)
{
    llm_request_t        rq;
    llm_request_error_t  err;

    memset(&err, 0, sizeof(err));

    if (llm_request_parse(&rq, (llm_endpoint_e) current->arg, u->text, u->len,
                          1, &u->arena, &err)
        != LLM_OK)
    {
        assert_string_equal(err.code, "request_too_complex");
        assert_true(strlen(err.text) > 0);
        return LLM_ERROR;
    }

    add_str(u, &rq.model);

    return llm_request_digest(&rq, &u->arena, sink, u);
}


static int
run_json(use_t *u)
{
    int               rc;
    llm_str_t         s;
    llm_json_t        js;
    llm_json_token_e  token;

    llm_json_init(&js, u->text, u->len);

    while ((token = llm_json_next(&js)) != LLM_JSON_END) {

        if (token == LLM_JSON_NAME || token == LLM_JSON_STRING) {
            rc = llm_json_text(&js, &u->arena, &s);

            if (rc != LLM_OK) {
                return rc;
            }

            add_str(u, &s);
        }
    }

    return LLM_OK;
}


/* the line does not count, and may be checked again */

static int
run_batch(use_t *u)
{
    int                    rc;
    void                  *seen;
    llm_str_t              text;
    llm_batch_t            b;
    llm_batch_line_t       line;
    llm_batch_error_t      err;
    check_memory_t         m;
    static const uint64_t  key[2] = { 1, 2 };

    seen = malloc(llm_batch_room(8));
    llm_batch_init(&b, LLM_CHAT, key, seen, 8);

    text.data = u->text;
    text.len = u->len;

    rc = llm_batch_check(&b, &text, 1, &u->arena, &line, &err);

    if (rc == LLM_OK) {
        add_str(u, &line.custom_id);
        add_str(u, &line.model);
        assert_int_equal(b.n, 1);

    } else {
        assert_int_equal(b.n, 0);

        check_memory(&m, MB, -1);
        assert_int_equal(llm_batch_check(&b, &text, 1, &m.arena, &line, &err),
                         LLM_OK);
        assert_int_equal(b.n, 1);
        check_memory_free(&m);
    }

    free(seen);

    return rc;
}


static int
run_gather(use_t *u)
{
    int          rc;
    llm_str_t    body;
    llm_usage_t  usage;

    rc = llm_gather((llm_endpoint_e) current->arg, u->text, u->len, &u->arena,
                    &body, &usage);

    if (rc == LLM_OK) {
        add_str(u, &body);
        add(u, &usage, sizeof(usage));
    }

    return rc;
}


static int
run_replay(use_t *u)
{
    int        rc;
    llm_str_t  body, events;

    body.data = u->text;
    body.len = u->len;

    rc = llm_replay((llm_endpoint_e) current->arg, &body, 1, &u->arena,
                    &events);

    if (rc == LLM_OK) {
        add_str(u, &events);
    }

    return rc;
}


static int
run_sse(use_t *u)
{
    int        rc;
    llm_str_t  data;

    rc = llm_sse_data(u->text, u->len, &u->arena, &data);

    if (rc == LLM_OK) {
        add_str(u, &data);
    }

    return rc;
}


static int
run_tasks(use_t *u)
{
    int                rc;
    llm_str_t          body;
    llm_tasks_t        ts;
    unsigned char     *buf;
    llm_tasks_item_t   item;
    llm_tasks_error_t  err;
    static llm_str_t   model = llm_string("m\"1");

    body.data = u->text;
    body.len = u->len;

    memset(&err, 0, sizeof(err));
    llm_tasks_init(&ts, &body, &model, 1000, &u->arena, &err);

    do {
        rc = llm_tasks_scan(&ts, 16);
    } while (rc == LLM_AGAIN);

    if (rc != LLM_OK) {
        assert_string_equal(err.code, "request_too_complex");
        assert_int_equal(llm_tasks_scan(&ts, 16), LLM_ERROR);
        return rc;
    }

    add_str(u, &ts.webhook);
    add_str(u, &ts.metadata);

    while (llm_tasks_next(&ts, &item) == LLM_OK) {
        buf = malloc(item.len);
        llm_tasks_write(&ts, &item, buf);
        add(u, buf, item.len);
        free(buf);
    }

    return rc;
}


static int
run_row(use_t *u)
{
    char              err[200], text[2048];
    size_t            n;
    llm_policy_row_t  row;

    llm_policy_row_clear(&row, LLM_ROW_KEY);
    err[0] = '\0';

    if (llm_policy_row_parse(&row, (char *) u->text, u->len,
                             LLM_POLICY_RECORD, NULL, &u->arena, err,
                             sizeof(err), NULL)
        != LLM_OK)
    {
        if (strstr(err, "out of memory") == NULL) {
            fail_msg("%s", err);
        }

        return LLM_ERROR;
    }

    n = llm_policy_row_write(&row, LLM_POLICY_RECORD, text, sizeof(text));
    assert_true(n < sizeof(text));
    add(u, text, n);

    return LLM_OK;
}


/* a keyring is not changed by who finds no memory for what it says */

static int
run_keyring(use_t *u)
{
    int                  rc;
    void                *mem;
    uint64_t             cursor;
    unsigned             n;
    llm_str_t            models[2] = { llm_string("gpt-4o*"),
                                       llm_string("text-*") };
    llm_team_t           team;
    llm_keyring_t       *kr;
    llm_policy_row_t     row;
    llm_keyring_item_t   items[LLM_KEYRING_PAGE];
    llm_keyring_found_t  found;
    static llm_str_t     key = llm_string("a-key"), name = llm_string("team");
    static llm_str_t     metadata = llm_string("{\"a\":\"b\"}");

    mem = aligned_alloc(128, LLM_KEYRING_MIN);
    kr = llm_keyring_create(mem, LLM_KEYRING_MIN);

    llm_policy_row_clear(&row, LLM_ROW_TEAM);
    row.name = name;
    row.models = models;
    row.nmodels = 2;
    row.version = 1;
    assert_int_equal(llm_keyring_put(kr, &row, 0), LLM_OK);

    llm_policy_row_clear(&row, LLM_ROW_KEY);
    row.name = key;
    row.team = name;
    row.models = models;
    row.nmodels = 2;
    row.metadata = metadata;
    row.version = 1;
    memset(row.sha256, 7, 32);
    assert_int_equal(llm_keyring_put(kr, &row, 0), LLM_OK);

    /* what the case is about, and then all with memory */

    cursor = 0;
    n = 0;

    switch (current->arg) {

    case 0:
        rc = llm_keyring_find(kr, row.sha256, 0, &found, &u->arena);
        break;

    case 1:
        rc = llm_keyring_find_name(kr, &key, 0, &found, &u->arena);
        break;

    case 2:
        rc = llm_keyring_find_team(kr, &name, 0, &team, &u->arena);
        break;

    case 3:
        rc = llm_keyring_get(kr, LLM_ROW_KEY, &key, 1, items, &u->arena);
        break;

    default:
        rc = llm_keyring_walk(kr, LLM_ROW_KEY, LLM_KEYRING_ALL, &cursor, items,
                              LLM_KEYRING_PAGE, &n, &u->arena);
    }

    if (rc == LLM_OK && current->arg < 2) {
        add_str(u, &found.key.name);
        add_str(u, &found.key.limit.name);
        add_str(u, &found.key.models[1]);
        add_str(u, &found.team.name);
        add_str(u, &found.team.models[0]);

    } else if (rc == LLM_OK && current->arg == 2) {
        add_str(u, &team.name);
        add_str(u, &team.models[1]);

    } else if (rc == LLM_OK) {
        add_str(u, &items[0].row.name);
        add_str(u, &items[0].row.metadata);
        add_str(u, &items[0].row.models[1]);
    }

    free(mem);

    return rc;
}


static int
run_book(use_t *u)
{
    int                   rc;
    char                  text[32];
    unsigned              i, n, added;
    llm_str_t             name[LLM_BOOK_NAMES];
    llm_book_sums_t       sums, total;
    llm_book_query_t      q;
    llm_book_group_t    **groups;
    llm_book_result_t    *rs;

    memset(&q, 0, sizeof(q));
    q.kind = LLM_BOOK_DAY;
    q.from = 0;
    q.to = INT32_MAX;
    q.group = LLM_BOOK_BY(LLM_BOOK_KEY)|LLM_BOOK_BY_PERIOD;

    memset(name, 0, sizeof(name));
    memset(&sums, 0, sizeof(sums));
    sums.requests = 1;

    rs = llm_book_result_create(&q, 300, &u->arena);

    if (rs == NULL) {
        return LLM_ERROR;
    }

    added = 0;
    rc = LLM_OK;

    for (i = 0; i < 200; i++) {
        name[LLM_BOOK_KEY].data = (unsigned char *) text;
        name[LLM_BOOK_KEY].len = (size_t) sprintf(text, "key-%u", i % 150);

        if (llm_book_result_add(rs, 86400 * 100, name, &sums) == LLM_OK) {
            added++;

        } else {
            rc = LLM_ERROR;
        }
    }

    /* what was added counts, and nothing else does */

    llm_book_result_total(rs, &total);
    assert_int_equal(total.requests, added);

    groups = llm_book_result_sort(rs, &n);

    if (groups == NULL) {
        return LLM_ERROR;
    }

    for (i = 0; rc == LLM_OK && i < n; i++) {
        add_str(u, &groups[i]->name[LLM_BOOK_KEY]);
        add(u, &groups[i]->sums.requests, sizeof(groups[i]->sums.requests));
    }

    return rc;
}


#define D(c)     "data: {\"id\":\"c-1\",\"object\":"                         \
                 "\"chat.completion.chunk\",\"created\":17,\"model\":"      \
                 "\"gpt-4o\",\"choices\":[" c "]}\n\n"
#define DELTA(d) D("{\"index\":0,\"delta\":{" d "},\"finish_reason\":null}")
#define MANY     "\"a1\":1,\"a2\":1,\"a3\":1,\"a4\":1,\"a5\":1,\"a6\":1,"     \
                 "\"a7\":1,\"a8\":1,\"a9\":1,\"b1\":1,\"b2\":1,\"b3\":1,"     \
                 "\"b4\":1,\"b5\":1,\"b6\":1,\"b7\":1,\"b8\":1,\"b\\u0039\":1"
#define X10      "0123456789"
#define X100     X10 X10 X10 X10 X10 X10 X10 X10 X10 X10
#define X1K      X100 X100 X100 X100 X100 X100 X100 X100 X100 X100

static const case_t  cases[] = {

    { "chat", "{\"model\":\"g\\u0070t\",\"messages\":[{\"role\":\"user\","
      "\"content\":[{\"type\":\"text\",\"text\":\"\\u00e9\"}]}],\"metadata\":{"
      MANY "},\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\","
      "\"parameters\":{" MANY "}}}]," MANY "}", run_request, LLM_CHAT, 0 },
    { "responses", "{\"input\":\"x\",\"model\":\"m\","
      "\"previous_response_id\":\"r\\u0065sp\"," MANY "}", run_request,
      LLM_RESPONSES, 0 },
    { "strings", "{\"a\\n\":[\"\\ud83d\\ude00\",\"plain\",\"\\\"" X1K "\"],"
      "\"b\":\"\\/\"}", run_json, 0, 0 },
    { "line", "{\"custom_id\":\"a\\u0062\",\"method\":\"POST\",\"url\":"
      "\"/v1/chat/completions\",\"body\":{\"model\":\"\\u006d\","
      "\"messages\":[]}}", run_batch, 0, 0 },
    { "stream", DELTA("\"role\":\"assistant\",\"content\":\"\"")
      DELTA("\"content\":\"" X1K "\"") DELTA("\"content\":\"\\u00e9\"")
      DELTA("\"tool_calls\":[{\"index\":0,\"id\":\"c\",\"type\":\"function\","
            "\"function\":{\"name\":\"f\",\"arguments\":\"\"}}]")
      DELTA("\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":"
            "\"" X1K "\"}}]")
      DELTA("\"tool_calls\":[{\"index\":1,\"id\":\"d\",\"function\":{"
            "\"arguments\":\"1\"}}]")
      D("{\"index\":1,\"delta\":{\"content\":\"y\"},\"logprobs\":{\"content\":"
        "[{\"token\":\"y\"}]},\"finish_reason\":\"stop\"}")
      D("{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}")
      "data: [DONE]\n\n", run_gather, LLM_CHAT, 0 },
    { "split data", "event: response.completed\ndata: {\"type\":"
      "\"response.completed\",\ndata: \"response\":{\"id\":\"r\",\"object\":"
      "\"response\",\"status\":\"completed\",\"error\":null,\"output\":[]}}"
      "\n\n", run_gather, LLM_RESPONSES, 0 },
    { "answer", "{\"id\":\"c-1\",\"object\":\"chat.completion\","
      "\"created\":17,\"model\":\"gpt-4o\",\"choices\":[{\"index\":0,"
      "\"message\":{\"role\":"
      "\"assistant\",\"content\":\"" X1K X1K "\",\"tool_calls\":[{"
      "\"id\":\"c\",\"type\":\"function\",\"function\":{\"name\":\"f\","
      "\"arguments\":\""
      X1K "\"}}]},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":1,"
      "\"completion_tokens\":2,\"total_tokens\":3}}", run_replay, LLM_CHAT,
      0 },
    { "completion", "{\"id\":\"c\",\"object\":\"text_completion\","
      "\"created\":17,\"model\":\"m\",\"choices\":[{\"index\":0,\"text\":\""
      X1K "\",\"finish_reason\":\"stop\"}]}", run_replay, LLM_COMPLETIONS,
      0 },
    { "response", "{\"id\":\"r\",\"object\":\"response\",\"status\":"
      "\"completed\",\"error\":null,\"output\":[{\"type\":\"message\",\"id\":"
      "\"m\",\"status\":\"completed\",\"role\":\"assistant\",\"content\":[{"
      "\"type\":\"output_text\",\"text\":\"" X1K "\",\"annotations\":[]}]}],"
      "\"usage\":{\"input_tokens\":1,\"output_tokens\":2,\"total_tokens\":3}}",
      run_replay, LLM_RESPONSES, 0 },
    { "data", "data: {\"a\":\ndata: " X100 "\n\n", run_sse, 0, 0 },
    { "prompts", "{\"prompts\":[\"a\",\"\\u0062\"],\"temp\\u0065rature\":1,"
      "\"webhook\":\"https:\\/\\/x\",\"metadata\":{\"k\":1}}", run_tasks, 0,
      0 },
    { "requests", "{\"requests\":[{},{\"model\":\"x\"},{\"n\":1}],\"n\":2,"
      "\"user\":\"u\"}", run_tasks, 0, 0 },
    { "row", "{\"sha256\":\"" HEX "\",\"team\":\"t\","
      "\"models\":[\"a\",\"b*\"],"
      "\"metadata\":{\"a\":\"\\u00e9\"},\"hint\":\"sk-x\","
      "\"version\":3,\"budget\":{\"usd\":1.5,\"period\":\"day\"},"
      "\"raises\":[{\"limit\":\"concurrency\",\"value\":9,\"until\":8}],"
      "\"rotation\":{\"sha256\":\"" HEX "\",\"until\":7}}", run_row, 0, 0 },
    { "key", "", run_keyring, 0, 0 },
    { "key by name", "", run_keyring, 1, 0 },
    { "team", "", run_keyring, 2, 0 },
    { "key as it was put", "", run_keyring, 3, 0 },
    { "keys", "", run_keyring, 4, 0 },
    { "sums", "", run_book, 0, 0 },
};


/* "fail": the call that fails; "lent" bytes in memory of just that size */

static int
use(const case_t *c, int fail, size_t lent, uint64_t *sum, int *calls)
{
    int             rc;
    use_t           u;
    unsigned char  *block;
    check_memory_t  m;

    current = c;

    check_memory(&m, 16 * MB, fail);
    block = malloc(lent != 0 ? lent : 1);

    memset(&u, 0, sizeof(u));
    u.len = strlen(c->text);
    u.text = check_copy(c->text, u.len);
    u.arena = m.arena;

    if (lent != 0) {
        u.arena.pos = block;
        u.arena.end = block + lent;
        u.arena.alloc = NULL;
    }

    rc = c->run(&u);

    if (rc != LLM_OK && rc != LLM_ERROR) {
        fail_msg("%s: call %d, %zu bytes: %d", c->name, fail, lent, rc);
    }

    /* who was refused memory is told so, and only who was */

    assert_int_equal(u.arena.failed, lent == 0 && fail >= 0
                                     && m.calls > fail);
    assert_memory_equal(u.text, c->text, u.len);

    *sum = u.sum;
    *calls = m.calls;

    free(u.text);
    free(block);
    check_memory_free(&m);

    return rc;
}


static void
test_calls(void **state)
{
    int       n, calls, whole;
    size_t    i;
    uint64_t  sum, expected;

    (void) state;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(use(&cases[i], -1, 0, &expected, &whole), LLM_OK);

        if (whole == 0) {
            fail_msg("%s: nothing is allocated", cases[i].name);
        }

        for (n = 0; n < whole; n++) {
            if (use(&cases[i], n, 0, &sum, &calls) != LLM_ERROR) {
                fail_msg("%s: call %d fails unseen", cases[i].name, n);
            }
        }

        assert_int_equal(use(&cases[i], whole, 0, &sum, &calls), LLM_OK);
        assert_true(sum == expected);
    }
}


/* every single allocation, since a lent block may end before each */

static void
test_lent(void **state)
{
    int       calls, rc;
    size_t    i, lent, enough;
    uint64_t  sum, expected;

    (void) state;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        (void) use(&cases[i], -1, 0, &expected, &calls);

        for (lent = 8; /* void */ ; lent += 8) {
            rc = use(&cases[i], -1, lent, &sum, &calls);

            if (rc == LLM_OK) {
                break;
            }

            assert_true(lent < MB);
        }

        assert_true(sum == expected);

        /* with more it is no worse */

        for (enough = lent; lent < enough + 512; lent += 8) {
            assert_int_equal(use(&cases[i], -1, lent, &sum, &calls), LLM_OK);
            assert_true(sum == expected);
        }
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_calls),
        cmocka_unit_test(test_lent),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
