
/*
 * Copyright (C) the ngx-llm authors
 *
 * A body of tasks that is read in one go and in steps must come to the same,
 * and each chat request that is made of it must be JSON with a model.  The
 * first byte of the input says how large the steps are, the second how many
 * allocations succeed and whether there is a model for all.
 */


#include <stdlib.h>
#include <string.h>

#include "core/llm_tasks.h"
#include "fuzz_main.h"
#include "fuzz_words.h"


#define BLOCKS  32


typedef struct {
    llm_tasks_t        ts;
    llm_tasks_error_t  err;
    llm_arena_t        arena;
    void              *block[BLOCKS];
    unsigned           n;
    unsigned           fail;
    int                rc;
} body_t;


static void *
get(void *data, size_t size)
{
    body_t  *b = data;

    if (b->n == BLOCKS || b->n == b->fail) {
        return NULL;
    }

    b->block[b->n] = malloc(size);

    return b->block[b->n++];
}


static void
scan(body_t *b, const llm_str_t *text, const llm_str_t *model, size_t step,
    unsigned fail)
{
    memset(b, 0, sizeof(body_t));

    b->arena.left = (size_t) 1 << 24;
    b->arena.alloc = get;
    b->arena.data = b;
    b->fail = fail;

    llm_tasks_init(&b->ts, text, model, 1000, &b->arena, &b->err);

    do {
        b->rc = llm_tasks_scan(&b->ts, step);
    } while (b->rc == LLM_AGAIN);

    if (b->rc == LLM_OK) {
        check(b->ts.n != 0 && b->ts.n <= 1000);
        check(b->ts.webhook.len <= LLM_TASKS_WEBHOOK);
        check(b->ts.metadata.len <= LLM_TASKS_METADATA);
        return;
    }

    check(b->rc == LLM_ERROR && b->err.code != NULL);
    check(b->err.text[0] != '\0' && b->err.offset <= text->len);
}


/* one object of JSON that has a model, and messages if it was a prompt */

static void
valid(const unsigned char *p, size_t len, int prompt)
{
    unsigned          model, messages;
    llm_json_t        js;
    llm_json_token_e  token;

    llm_json_init(&js, p, len);

    check(llm_json_next(&js) == LLM_JSON_OBJECT);
    model = messages = 0;

    while ((token = llm_json_next(&js)) == LLM_JSON_NAME) {
        model += llm_json_is(&js, "model", 5);
        messages += llm_json_is(&js, "messages", 8);

        token = llm_json_next(&js);

        if (token == LLM_JSON_OBJECT || token == LLM_JSON_ARRAY) {
            check(llm_json_skip(&js) != LLM_JSON_ERROR);
        }
    }

    check(token == LLM_JSON_OBJECT_END);
    check(llm_json_next(&js) == LLM_JSON_END);
    check(prompt ? model == 1 && messages == 1 : model != 0);
}


static void
compare(body_t *a, body_t *b)
{
    unsigned          n;
    unsigned char    *p, *q;
    llm_tasks_item_t  one, other;

    for (n = 0; llm_tasks_next(&a->ts, &one) == LLM_OK; n++) {
        check(llm_tasks_next(&b->ts, &other) == LLM_OK);
        check(one.index == n && other.index == n && one.len == other.len);

        p = malloc(one.len);
        q = malloc(one.len);
        llm_tasks_write(&a->ts, &one, p);
        llm_tasks_write(&b->ts, &other, q);

        check(memcmp(p, q, one.len) == 0);
        valid(p, one.len, a->ts.prompts);

        free(p);
        free(q);
    }

    check(n == a->ts.n);
    check(llm_tasks_next(&b->ts, &other) == LLM_DECLINED);
}


int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t size)
{
    unsigned   fail;
    body_t     a, b;
    llm_str_t  text, model;

    static const llm_str_t    name = llm_string("d\"\\\n\xff");
    static const char *const  words[FUZZ_WORDS] = {
        "{\"prompts\":[\"a", "{\"requests\":[{", "\"model\":\"m\"",
        "\"metadata\":{}", "\"webhook\":\"https://x", "\"priority\":\"high\"",
        "\"on_crash\":\"fail\"", "\"temperature\":1"
    };

    if (size < 2) {
        return 0;
    }

    fail = p[1] >> 4;
    fail = fail == 0 ? BLOCKS : fail - 1;

    model = name;
    model.len = (p[1] & 1) ? name.len : 0;

    text.data = fuzz_words(words, p + 2, size - 2, &text.len);

    scan(&a, &text, &model, text.len, fail);
    scan(&b, &text, &model, (size_t) p[0], fail);

    check(a.rc == b.rc);

    if (a.rc == LLM_OK) {
        check(a.ts.priority == b.ts.priority);
        check(a.ts.fail_on_crash == b.ts.fail_on_crash);
        check(a.ts.webhook.len == b.ts.webhook.len);
        check(a.ts.metadata.len == b.ts.metadata.len);
        compare(&a, &b);

    } else {
        check(strcmp(a.err.code, b.err.code) == 0);
        check(strcmp(a.err.param, b.err.param) == 0);
        check(strcmp(a.err.text, b.err.text) == 0);
        check(a.err.offset == b.err.offset);
    }

    while (a.n != 0) {
        free(a.block[--a.n]);
    }

    while (b.n != 0) {
        free(b.block[--b.n]);
    }

    free(text.data);

    return 0;
}
