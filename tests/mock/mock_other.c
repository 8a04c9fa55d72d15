
/*
 * Copyright (C) the ngx-llm authors
 *
 * Embeddings and the list of models.
 */


#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <string.h>

#include "mock.h"


#define EMBEDDING_DIMENSIONS      16
#define EMBEDDING_DIMENSIONS_MAX  8192


static const char *const  models[] = {
    "gpt-4o", "gpt-4o-mini", "gpt-4.1", "text-embedding-3-small", NULL
};


static void body_embedding(buf_t *out, size_t index, int64_t dimensions,
    int base64);
static void body_model_object(buf_t *out, span_t id);


void
body_embeddings(buf_t *out, const request_t *r, const answer_t *a)
{
    int          base64;
    size_t       i, n;
    span_t       value;
    int64_t      prompt, dimensions;
    json_iter_t  it;

    n = 1;

    /* an array is a list of inputs unless it is one of tokens */

    if (json_find(r->json, "input", &value) && value.data[0] == '[') {
        json_iter(&it, value);

        if (json_next(&it)
            && (it.value.data[0] == '"' || it.value.data[0] == '['))
        {
            n = json_count(value);
        }
    }

    dimensions = EMBEDDING_DIMENSIONS;

    if (json_find(r->json, "dimensions", &value)) {
        dimensions = json_int(value, EMBEDDING_DIMENSIONS);
    }

    if (dimensions > EMBEDDING_DIMENSIONS_MAX) {
        dimensions = EMBEDDING_DIMENSIONS_MAX;
    }

    base64 = json_find(r->json, "encoding_format", &value)
             && span_is(value, "\"base64\"");

    buf_str(out, "{\"object\":\"list\",\"data\":[");

    for (i = 0; i < n; i++) {
        buf_fmt(out, "%s{\"object\":\"embedding\",\"index\":%zu,"
                "\"embedding\":", i == 0 ? "" : ",", i);
        body_embedding(out, i, dimensions, base64);
        buf_add(out, "}", 1);
    }

    buf_str(out, "],\"model\":");
    body_model(out, r, a);

    if (a->act.usage != USAGE_NONE) {
        prompt = a->act.prompt_tokens >= 0 ? a->act.prompt_tokens : 10;
        buf_fmt(out, ",\"usage\":{\"prompt_tokens\":%lld,"
                "\"total_tokens\":%lld}", (long long) prompt,
                (long long) prompt);
    }

    buf_str(out, "}\n");
}


/* multiples of 1/256, so that text and floats say exactly the same */

static void
body_embedding(buf_t *out, size_t index, int64_t dimensions, int base64)
{
    float    value;
    buf_t    floats;
    int64_t  k;

    memset(&floats, 0, sizeof(buf_t));

    for (k = 0; k < dimensions; k++) {
        value = (float) ((int64_t) ((size_t) k * 37 + index * 11) % 256 - 128)
                / 256;

        if (base64) {
            buf_add(&floats, &value, sizeof(float));

        } else {
            buf_fmt(out, "%s%.8g", k == 0 ? "[" : ",", (double) value);
        }
    }

    if (base64) {
        buf_add(out, "\"", 1);
        buf_base64(out, floats.data, floats.len);
        buf_add(out, "\"", 1);

    } else {
        buf_str(out, dimensions == 0 ? "[]" : "]");
    }

    buf_free(&floats);
}


/* 0: there is no such model */

int
body_models(buf_t *out, const request_t *r)
{
    size_t       i;
    span_t       id;
    const char  *p, *end;

    static const char  list[] = "/models/";

    if (span_ends(r->path, span("/models"))) {
        buf_str(out, "{\"object\":\"list\",\"data\":[");

        for (i = 0; models[i] != NULL; i++) {
            buf_str(out, i == 0 ? "" : ",");
            id.data = models[i];
            id.len = strlen(models[i]);
            body_model_object(out, id);
        }

        buf_str(out, "]}\n");
        return 1;
    }

    /* an id may hold slashes */

    end = r->path.data + r->path.len;
    p = memmem(r->path.data, r->path.len, list, sizeof(list) - 1);
    p = p == NULL ? end : p + sizeof(list) - 1;

    id.data = p;
    id.len = (size_t) (end - p);

    if (id.len >= 3 && memcmp(id.data, "no-", 3) == 0) {
        return 0;
    }

    body_model_object(out, id);
    buf_add(out, "\n", 1);

    return 1;
}


static void
body_model_object(buf_t *out, span_t id)
{
    buf_str(out, "{\"id\":");
    buf_json(out, id.data, id.len);
    buf_fmt(out, ",\"object\":\"model\",\"created\":%llu,"
            "\"owned_by\":\"mock\"}", (unsigned long long) mock_created);
}
