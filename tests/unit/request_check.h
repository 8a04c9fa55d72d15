
/*
 * Copyright (C) the ngx-llm authors
 *
 * What the tests of the request parser share.
 */


#ifndef _REQUEST_CHECK_H_INCLUDED_
#define _REQUEST_CHECK_H_INCLUDED_


#include "json_check.h"

#include "core/llm_request.h"


#define MB  (1024 * 1024)

#define CHAT(more)  "{\"model\":\"a\",\"messages\":[]," more "}"


static check_memory_t       memory;
static llm_request_t        rq;
static llm_request_error_t  err;
static unsigned char       *text;


/* the body stays until the next call */

static int
parse_len(llm_endpoint_e endpoint, const char *body, size_t len)
{
    int  rc;

    check_memory_free(&memory);
    check_memory(&memory, 64 * MB, -1);

    free(text);
    text = check_copy(body, len);

    memset(&rq, 0xa5, sizeof(rq));
    memset(&err, 0, sizeof(err));

    rc = llm_request_parse(&rq, endpoint, text, len, 1, &memory.arena, &err);

    if (rc != LLM_OK) {
        assert_int_equal(rc, LLM_ERROR);
        assert_non_null(err.code);
        assert_true(err.offset <= len);
        assert_non_null(memchr(err.text, '\0', sizeof(err.text)));
    }

    return rc;
}


static int
parse(llm_endpoint_e endpoint, const char *body)
{
    return parse_len(endpoint, body, strlen(body));
}


static void
refused(llm_endpoint_e endpoint, const char *body, const char *code,
    const char *param, long offset)
{
    if (parse(endpoint, body) == LLM_OK) {
        fail_msg("%s: not refused", body);
    }

    if (strcmp(err.code, code) != 0
        || (param == NULL) != (err.param == NULL)
        || (param != NULL && strcmp(err.param, param) != 0)
        || (offset >= 0 && err.offset != (size_t) offset))
    {
        fail_msg("%s: %s %s at %zu, expected %s %s at %ld", body, err.code,
                 err.param ? err.param : "NULL", err.offset, code,
                 param ? param : "NULL", offset);
    }
}


#define ok(endpoint, body)  assert_int_equal(parse(endpoint, body), LLM_OK)


static int
teardown(void **state)
{
    (void) state;

    check_memory_free(&memory);
    free(text);

    return 0;
}


#endif /* _REQUEST_CHECK_H_INCLUDED_ */
