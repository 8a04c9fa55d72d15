
/*
 * Copyright (C) the ngx-llm authors
 *
 * Stored responses: there is each one whose id this mock has given, until it
 * is deleted.  Nothing of them is kept but that.
 */


#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <stdlib.h>
#include <string.h>

#include "mock.h"


#define ID_PREFIX  "resp_mock"
#define ID_LEN     (sizeof(ID_PREFIX) - 1 + 16)


static uint64_t  *deleted;
static size_t     deleted_n;
static size_t     deleted_size;


static int stored_parse(span_t id, uint64_t *number);
static span_t stored_query(const request_t *r, const char *name);
static int stored_deleted(uint64_t id);
static void stored_delete(uint64_t id);


int
stored_is(span_t path)
{
    return memmem(path.data, path.len, "/responses/", 11) != NULL;
}


int
stored_start(const char *method, request_t *r, answer_t *a)
{
    span_t       value;
    uint64_t     id;
    const char  *p, *end;

    end = r->path.data + r->path.len;
    p = memmem(r->path.data, r->path.len, "/responses/", 11);

    value.data = p + 11;
    value.len = (size_t) (end - value.data);

    r->what.data = memchr(value.data, '/', value.len);
    r->what.len = 0;

    if (r->what.data != NULL) {
        r->what.len = (size_t) (end - r->what.data);
        value.len -= r->what.len;
    }

    if (!stored_parse(value, &id) || id > a->id || id <= a->id >> 32 << 32
        || stored_deleted(id))
    {
        return 404;
    }

    if (strcmp(method, r->what.len == 0 ? "GET"
                       : span_is(r->what, "/cancel") ? "POST"
                       : span_is(r->what, "/input_items") ? "GET" : "") != 0)
    {
        if (r->what.len != 0 || strcmp(method, "DELETE") != 0) {
            return 405;
        }

        r->what = span("DELETE");
        stored_delete(id);
    }

    a->id = id;
    r->model = span("gpt-4o");
    r->stream = r->what.len == 0
                && span_is(stored_query(r, "stream="), "true");

    value = stored_query(r, "starting_after=");

    if (r->stream && value.len != 0) {
        a->event = atoll(value.data) + 1;
    }

    return 0;
}


void
body_stored(buf_t *out, const request_t *r, const answer_t *a)
{
    const char  *status;

    if (span_is(r->what, "DELETE")) {
        buf_fmt(out, "{\"id\":\"" ID_PREFIX "%016llx\",\"object\":"
                "\"response\",\"deleted\":true}\n",
                (unsigned long long) a->id);
        return;
    }

    if (span_is(r->what, "/input_items")) {
        buf_fmt(out, "{\"object\":\"list\",\"data\":[{\"id\":"
                "\"msg_mock%016llx\",\"type\":\"message\",\"role\":\"user\","
                "\"content\":[{\"type\":\"input_text\",\"text\":\"Hello\"}]}],"
                "\"first_id\":\"msg_mock%016llx\",\"last_id\":"
                "\"msg_mock%016llx\",\"has_more\":false}\n",
                (unsigned long long) a->id, (unsigned long long) a->id,
                (unsigned long long) a->id);
        return;
    }

    status = r->what.len != 0 ? "cancelled" : "completed";

    body_response(out, r, a, status);
    buf_add(out, "\n", 1);
}


static int
stored_parse(span_t id, uint64_t *number)
{
    char   text[17], *end;
    size_t n;

    n = sizeof(ID_PREFIX) - 1;

    if (id.len != ID_LEN || memcmp(id.data, ID_PREFIX, n) != 0) {
        return 0;
    }

    memcpy(text, id.data + n, 16);
    text[16] = '\0';

    *number = strtoull(text, &end, 16);

    return *end == '\0';
}


/* the value of "name=" in the query, up to the next "&" */

static span_t
stored_query(const request_t *r, const char *name)
{
    size_t       len;
    span_t       value;
    const char  *p, *end, *and;

    value.data = NULL;
    value.len = 0;

    len = strlen(name);
    end = r->query.data + r->query.len;

    for (p = r->query.data; p != NULL && p < end; p = and + 1) {

        and = memchr(p, '&', (size_t) (end - p));
        and = and == NULL ? end : and;

        if ((size_t) (and - p) > len && memcmp(p, name, len) == 0) {
            value.data = p + len;
            value.len = (size_t) (and - value.data);
            break;
        }
    }

    return value;
}


static int
stored_deleted(uint64_t id)
{
    size_t  i;

    for (i = 0; i < deleted_n; i++) {
        if (deleted[i] == id) {
            return 1;
        }
    }

    return 0;
}


static void
stored_delete(uint64_t id)
{
    if (deleted_n == deleted_size) {
        deleted_size = deleted_size == 0 ? 64 : 2 * deleted_size;
        deleted = realloc(deleted, deleted_size * sizeof(uint64_t));

        if (deleted == NULL) {
            abort();
        }
    }

    deleted[deleted_n++] = id;
}
