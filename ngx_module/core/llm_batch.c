
/*
 * Copyright (C) the ngx-llm authors
 */


#include <stdio.h>
#include <string.h>

#include "core/llm_batch_private.h"
#include "core/llm_siphash.h"


static int llm_batch_line(llm_batch_t *b, llm_batch_scan_t *sc,
    llm_arena_t *arena, llm_batch_line_t *line, llm_batch_error_t *err);
static int llm_batch_rest(llm_batch_t *b, llm_batch_scan_t *sc,
    llm_arena_t *arena, llm_batch_line_t *line, llm_batch_error_t *err);
static int llm_batch_model(llm_batch_t *b, llm_batch_scan_t *sc,
    llm_arena_t *arena, llm_batch_line_t *line, llm_batch_error_t *err);
static int llm_batch_string(const llm_batch_value_t *v, llm_arena_t *arena,
    llm_str_t *s);
static int llm_batch_same(const llm_batch_value_t *v, const llm_str_t *s);
static int llm_batch_add(llm_batch_t *b, const llm_str_t *id);
static int llm_batch_count(llm_batch_t *b, uint64_t number,
    llm_batch_error_t *err);
static int llm_batch_refuse(llm_batch_error_t *err, const char *code,
    llm_batch_member_e member, const char *text);


static const llm_str_t  llm_batch_urls[LLM_ENDPOINTS] = {
    [LLM_CHAT] = llm_string("/v1/chat/completions"),
    [LLM_COMPLETIONS] = llm_string("/v1/completions"),
    [LLM_EMBEDDINGS] = llm_string("/v1/embeddings"),
    [LLM_RESPONSES] = llm_string("/v1/responses")
};


int
llm_batch_endpoint(const llm_str_t *url, llm_endpoint_e *endpoint)
{
    unsigned  i;

    for (i = 0; i < LLM_ENDPOINTS; i++) {

        if (url->len == llm_batch_urls[i].len
            && memcmp(url->data, llm_batch_urls[i].data, url->len) == 0)
        {
            *endpoint = (llm_endpoint_e) i;
            return LLM_OK;
        }
    }

    return LLM_DECLINED;
}


const llm_str_t *
llm_batch_url(llm_endpoint_e endpoint)
{
    return &llm_batch_urls[endpoint];
}


/* a table that is at most half full */

size_t
llm_batch_room(unsigned most)
{
    size_t  n;

    for (n = 16; n / 2 < most; n *= 2) { /* void */ }

    return n * sizeof(uint64_t);
}


void
llm_batch_init(llm_batch_t *b, llm_endpoint_e endpoint,
    const uint64_t key[2], void *memory, unsigned most)
{
    size_t  size;

    memset(b, 0, sizeof(llm_batch_t));

    size = llm_batch_room(most);
    memset(memory, 0, size);

    b->endpoint = endpoint;
    b->key[0] = key[0];
    b->key[1] = key[1];
    b->seen = memory;
    b->mask = size / sizeof(uint64_t) - 1;
    b->most = most;
}


int
llm_batch_check(llm_batch_t *b, const llm_str_t *text, uint64_t number,
    llm_arena_t *arena, llm_batch_line_t *line, llm_batch_error_t *err)
{
    int                rc;
    const char        *error;
    llm_batch_scan_t   sc;

    if (llm_batch_count(b, number, err) != LLM_OK) {
        return LLM_DECLINED;
    }

    memset(line, 0, sizeof(llm_batch_line_t));

    error = llm_batch_scan(&sc, text);

    if (error != NULL) {
        (void) snprintf(err->text, sizeof(err->text),
                        "This line is not valid JSON: %s (byte %zu)", error,
                        (size_t) (sc.js.pos - sc.js.text));

        return llm_batch_refuse(err, "invalid_json_line", LLM_BATCH_NONE,
                                NULL);
    }

    if (sc.twice != LLM_BATCH_NONE) {
        return llm_batch_refuse(err, "invalid_json_line", sc.twice,
                                "A member of this line stands twice");
    }

    rc = llm_batch_line(b, &sc, arena, line, err);

    if (rc == LLM_ERROR) {
        b->n--;
    }

    return rc;
}


int
llm_batch_too_long(llm_batch_t *b, uint64_t number, size_t size,
    llm_batch_error_t *err)
{
    if (llm_batch_count(b, number, err) != LLM_OK) {
        return LLM_DECLINED;
    }

    (void) snprintf(err->text, sizeof(err->text),
                    "This line is longer than %zu bytes", size);

    return llm_batch_refuse(err, "line_too_long", LLM_BATCH_NONE, NULL);
}


int
llm_batch_end(const llm_batch_t *b, llm_batch_error_t *err)
{
    if (b->n != 0) {
        return LLM_OK;
    }

    err->line = 0;

    return llm_batch_refuse(err, "empty_file", LLM_BATCH_NONE,
                            "The file has no requests");
}


/* one more line, if it is not one too many */

static int
llm_batch_count(llm_batch_t *b, uint64_t number, llm_batch_error_t *err)
{
    err->line = number;

    if (b->n == b->most) {
        b->full = 1;
    }

    if (!b->full) {
        b->n++;
        return LLM_OK;
    }

    (void) snprintf(err->text, sizeof(err->text),
                    "The file has more than %u requests", b->most);

    return llm_batch_refuse(err, "too_many_tasks", LLM_BATCH_NONE, NULL);
}


/* what has been found, in the order in which it is complained about */

static int
llm_batch_line(llm_batch_t *b, llm_batch_scan_t *sc, llm_arena_t *arena,
    llm_batch_line_t *line, llm_batch_error_t *err)
{
    int                 i, rc;
    llm_batch_value_t  *v;

    for (i = LLM_BATCH_CUSTOM_ID; i <= LLM_BATCH_BODY; i++) {
        v = &sc->value[i];

        if (v->token == LLM_JSON_ERROR || v->token == LLM_JSON_NULL) {
            (void) snprintf(err->text, sizeof(err->text),
                            "Missing required parameter: '%s'",
                            llm_batch_member_name((llm_batch_member_e) i));

            return llm_batch_refuse(err, "missing_required_parameter",
                                    (llm_batch_member_e) i, NULL);
        }
    }

    v = &sc->value[LLM_BATCH_CUSTOM_ID];

    if (v->token != LLM_JSON_STRING || v->size == 0
        || v->size > LLM_BATCH_ID)
    {
        return llm_batch_refuse(err, "invalid_value", LLM_BATCH_CUSTOM_ID,
                            "'custom_id' must be a string of 1 to 512 bytes");
    }

    if (llm_batch_string(v, arena, &line->custom_id) != LLM_OK) {
        return LLM_ERROR;
    }

    /* the one step that cannot be repeated is the last one */

    rc = llm_batch_rest(b, sc, arena, line, err);

    if (rc == LLM_ERROR || llm_batch_add(b, &line->custom_id) == LLM_OK) {
        return rc;
    }

    return llm_batch_refuse(err, "duplicate_custom_id", LLM_BATCH_CUSTOM_ID,
                            "Another line has the same 'custom_id'");
}


static int
llm_batch_rest(llm_batch_t *b, llm_batch_scan_t *sc, llm_arena_t *arena,
    llm_batch_line_t *line, llm_batch_error_t *err)
{
    llm_batch_value_t  *v;

    static const llm_str_t  post = llm_string("POST");

    if (!llm_batch_same(&sc->value[LLM_BATCH_METHOD], &post)) {
        return llm_batch_refuse(err, "invalid_method", LLM_BATCH_METHOD,
                                "'method' must be \"POST\"");
    }

    if (!llm_batch_same(&sc->value[LLM_BATCH_URL],
                        &llm_batch_urls[b->endpoint]))
    {
        (void) snprintf(err->text, sizeof(err->text),
                        "'url' must be the batch's endpoint, \"%s\"",
                        (char *) llm_batch_urls[b->endpoint].data);

        return llm_batch_refuse(err, "invalid_url", LLM_BATCH_URL, NULL);
    }

    v = &sc->value[LLM_BATCH_BODY];

    if (v->token != LLM_JSON_OBJECT) {
        return llm_batch_refuse(err, "invalid_value", LLM_BATCH_BODY,
                                "'body' must be an object");
    }

    line->body.data = (unsigned char *) v->start;
    line->body.len = (size_t) (v->end - v->start);

    v = &sc->value[LLM_BATCH_BODY_STREAM];

    if (v->token != LLM_JSON_ERROR && v->token != LLM_JSON_NULL
        && v->token != LLM_JSON_FALSE)
    {
        return llm_batch_refuse(err, "unsupported_parameter",
                                LLM_BATCH_BODY_STREAM,
                                "A request of a batch cannot be streamed");
    }

    return llm_batch_model(b, sc, arena, line, err);
}


static int
llm_batch_model(llm_batch_t *b, llm_batch_scan_t *sc, llm_arena_t *arena,
    llm_batch_line_t *line, llm_batch_error_t *err)
{
    llm_batch_value_t  *v;

    v = &sc->value[LLM_BATCH_BODY_MODEL];

    if (v->token == LLM_JSON_ERROR || v->token == LLM_JSON_NULL) {
        return llm_batch_refuse(err, "missing_required_parameter",
                                LLM_BATCH_BODY_MODEL,
                                "Missing required parameter: 'body.model'");
    }

    if (v->token != LLM_JSON_STRING || v->size == 0
        || v->size > LLM_BATCH_MODEL)
    {
        return llm_batch_refuse(err, "invalid_value", LLM_BATCH_BODY_MODEL,
                           "'body.model' must be a string of 1 to 256 bytes");
    }

    if (llm_batch_string(v, arena, &line->model) != LLM_OK) {
        return LLM_ERROR;
    }

    line->model_start = (size_t) (v->start - line->body.data);
    line->model_end = (size_t) (v->end - line->body.data);

    /* the first line that is right so far says which one it is */

    if (b->model_len == 0) {
        memcpy(b->model, line->model.data, line->model.len);
        b->model_len = line->model.len;
    }

    if (line->model.len != b->model_len
        || memcmp(line->model.data, b->model, b->model_len) != 0)
    {
        return llm_batch_refuse(err, "mismatched_model", LLM_BATCH_BODY_MODEL,
                           "'body.model' must be the same in all lines");
    }

    return LLM_OK;
}


static int
llm_batch_string(const llm_batch_value_t *v, llm_arena_t *arena,
    llm_str_t *s)
{
    s->len = v->size;

    if (!v->escaped) {
        s->data = (unsigned char *) v->start + 1;
        return LLM_OK;
    }

    s->data = llm_arena_alloc(arena, v->size);

    if (s->data == NULL) {
        return LLM_ERROR;
    }

    (void) llm_json_decode(v->start + 1, v->end - 1, s->data);

    return LLM_OK;
}


static int
llm_batch_same(const llm_batch_value_t *v, const llm_str_t *s)
{
    const unsigned char  *p;
    unsigned char         buf[32];

    if (v->token != LLM_JSON_STRING || v->size != s->len
        || v->size > sizeof(buf))
    {
        return 0;
    }

    p = v->start + 1;

    if (v->escaped) {
        (void) llm_json_decode(p, v->end - 1, buf);
        p = buf;
    }

    return memcmp(p, s->data, s->len) == 0;
}


/*
 * By 64 of the digest's bits: two of 50,000 custom_ids are taken for equal
 * by chance once in some 10^10 files.
 */

static int
llm_batch_add(llm_batch_t *b, const llm_str_t *id)
{
    size_t    i;
    uint64_t  hash[2];

    llm_siphash(b->key, id->data, id->len, hash);

    hash[0] += (hash[0] == 0);                      /* 0: nobody's place */

    for (i = (size_t) hash[0] & b->mask; b->seen[i] != 0;
         i = (i + 1) & b->mask)
    {
        if (b->seen[i] == hash[0]) {
            return LLM_DECLINED;
        }
    }

    b->seen[i] = hash[0];

    return LLM_OK;
}


static int
llm_batch_refuse(llm_batch_error_t *err, const char *code,
    llm_batch_member_e member, const char *text)
{
    err->code = code;
    err->param = llm_batch_member_name(member);

    if (text != NULL) {
        (void) snprintf(err->text, sizeof(err->text), "%s", text);
    }

    return LLM_DECLINED;
}
