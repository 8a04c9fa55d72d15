
/*
 * Copyright (C) the ngx-llm authors
 *
 * A batch's file in one piece and in pieces must come to the same lines and
 * errors, and so must one whose allocations fail now and then; what is right
 * is JSON, and its output line is one line of JSON that tells its custom_id.
 * The first byte of the input says how large the pieces are, the second what
 * fails and how long lines may be.
 */


#include <stdlib.h>
#include <string.h>

#include "core/llm_batch.h"
#include "core/llm_json.h"
#include "core/llm_lines.h"
#include "fuzz_main.h"
#include "fuzz_words.h"


#define LINES  20


typedef struct {
    llm_batch_t     batch;
    llm_arena_t     arena;
    void           *block;
    unsigned        fail;                   /* the next allocation does */
    unsigned        again;
    uint64_t        hash;
} file_t;


static void *
get(void *data, size_t size)
{
    file_t  *f = data;

    if (f->fail) {
        f->fail = 0;
        return NULL;
    }

    check(f->block == NULL);                /* one will do for a line */
    f->block = malloc(size);

    return f->block;
}


static void
add(file_t *f, const void *data, size_t len)
{
    size_t                i;
    const unsigned char  *p = data;

    for (i = 0; i < len; i++) {
        f->hash = (f->hash ^ p[i]) * 0x100000001b3ULL;
    }

    f->hash = (f->hash ^ 0x100 ^ len) * 0x100000001b3ULL;
}


static llm_json_token_e
whole(const unsigned char *p, size_t len)
{
    llm_json_t        js;
    llm_json_token_e  token, first;

    llm_json_init(&js, p, len);

    first = token = llm_json_next(&js);

    while (token != LLM_JSON_END && token != LLM_JSON_ERROR) {
        token = llm_json_next(&js);
    }

    return token == LLM_JSON_END ? first : LLM_JSON_ERROR;
}


static void
result(const llm_batch_line_t *line, const llm_str_t *body)
{
    size_t              n;
    llm_str_t           id;
    llm_arena_t         arena;
    llm_json_t          js;
    unsigned char      *out, *buf;
    llm_batch_result_t  res;

    memset(&res, 0, sizeof(res));

    res.id = (llm_str_t) llm_string("batch_req_1");
    res.custom_id = line->custom_id;
    res.request_id = line->model;
    res.status = 200;
    res.body = *body;

    n = llm_batch_write_result(NULL, 0, &res);

    out = malloc(n);
    check(llm_batch_write_result(out, n, &res) == n);

    check(out[n - 1] == '\n' && memchr(out, '\n', n) == out + n - 1);
    check(whole(out, n) == LLM_JSON_OBJECT);

    /* the custom_id comes back as it was */

    buf = malloc(n);
    arena.pos = buf;
    arena.end = buf + n;
    arena.left = 0;
    arena.alloc = NULL;

    llm_json_init(&js, out, n);

    while (llm_json_next(&js) != LLM_JSON_NAME
           || !llm_json_is(&js, "custom_id", 9))
    {
        /* void */
    }

    check(llm_json_next(&js) == LLM_JSON_STRING);
    check(llm_json_text(&js, &arena, &id) == LLM_OK);
    check(id.len == line->custom_id.len);
    check(memcmp(id.data, line->custom_id.data, id.len) == 0);

    free(buf);
    free(out);
}


static void
take(file_t *f, const llm_lines_t *ln, int rc, const llm_str_t *text)
{
    llm_batch_line_t   line;
    llm_batch_error_t  err;

    memset(&err, 0, sizeof(err));

    if (rc == LLM_DECLINED) {
        rc = llm_batch_too_long(&f->batch, ln->number, ln->size - 1, &err);
        check(rc == LLM_DECLINED);

    } else {
        do {
            f->arena.pos = f->arena.end = NULL;
            f->arena.left = 4096;
            f->arena.alloc = get;
            f->arena.data = f;

            rc = llm_batch_check(&f->batch, text, ln->number, &f->arena,
                                 &line, &err);

            if (rc == LLM_ERROR) {
                free(f->block);
                f->block = NULL;
                check(f->again);
            }

        } while (rc == LLM_ERROR);

        f->fail = f->again;
    }

    add(f, &rc, sizeof(rc));

    if (rc == LLM_OK) {
        check(line.custom_id.len - 1 < LLM_BATCH_ID);
        check(line.model.len - 1 < LLM_BATCH_MODEL);
        check(whole(line.body.data, line.body.len) == LLM_JSON_OBJECT);
        check(line.model_start < line.model_end);
        check(whole(line.body.data + line.model_start,
                    line.model_end - line.model_start) == LLM_JSON_STRING);

        add(f, line.custom_id.data, line.custom_id.len);
        add(f, line.body.data, line.body.len);
        add(f, line.model.data, line.model.len);

        result(&line, &line.body);
        result(&line, &line.custom_id);

    } else {
        check(rc == LLM_DECLINED && err.code != NULL && err.text[0] != '\0');
        check(err.line == ln->number);

        add(f, err.code, strlen(err.code));
        add(f, err.text, strlen(err.text));
    }

    free(f->block);
    f->block = NULL;
}


static uint64_t
feed(const uint8_t *p, size_t size, size_t step, size_t room, unsigned again)
{
    int                   rc;
    size_t                n, pos;
    file_t                f;
    llm_str_t             line;
    llm_lines_t           ln;
    llm_batch_error_t     err;
    unsigned char        *buf, *piece;
    const unsigned char  *at;
    void                 *seen;

    static const uint64_t  key[2] = { 1, 2 };

    memset(&f, 0, sizeof(f));

    f.again = f.fail = again;

    seen = malloc(llm_batch_room(LINES));
    llm_batch_init(&f.batch, LLM_CHAT, key, seen, LINES);

    buf = malloc(room);
    llm_lines_init(&ln, buf, room);

    /* what came ends where the memory ends */

    step = step < size ? step : size;
    piece = malloc(step != 0 ? step : 1);

    for (pos = 0; pos < size; pos += n) {
        n = step < size - pos ? step : size - pos;

        at = memcpy(piece + step - n, p + pos, n);

        while ((rc = llm_lines_next(&ln, &at, piece + step, &line))
               != LLM_AGAIN)
        {
            take(&f, &ln, rc, &line);
        }
    }

    rc = llm_lines_eof(&ln, &line);

    if (rc != LLM_AGAIN) {
        take(&f, &ln, rc, &line);
    }

    rc = llm_batch_end(&f.batch, &err);
    check((rc == LLM_OK) == (f.batch.n != 0));
    add(&f, &f.batch.n, sizeof(f.batch.n));

    free(piece);
    free(buf);
    free(seen);

    return f.hash;
}


int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t size)
{
    size_t          step, room, len;
    uint64_t        hash;
    unsigned char  *text;

    static const char *const  words[FUZZ_WORDS] = {
        "{\"custom_id\":\"", "\",\"method\":\"POST\",",
        "\"url\":\"/v1/chat/completions\",", "\"body\":{\"model\":\"m",
        "\"stream\":", "\"}}\n", "\\u0061", "\"custom_id\":\"b\","
    };

    if (size < 2) {
        return 0;
    }

    step = (size_t) p[0] + 1;
    room = (size_t) (p[1] >> 1) * 16 + 2;

    text = fuzz_words(words, p + 2, size - 2, &len);

    hash = feed(text, len, len, room, 0);
    check(feed(text, len, step, room, p[1] & 1) == hash);

    free(text);

    return 0;
}
