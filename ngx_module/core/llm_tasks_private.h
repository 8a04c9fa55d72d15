
/*
 * Copyright (C) the ngx-llm authors
 *
 * Between the files that cut a body into tasks.
 */


#ifndef _LLM_TASKS_PRIVATE_H_INCLUDED_
#define _LLM_TASKS_PRIVATE_H_INCLUDED_


#include "core/llm_tasks.h"


/* 4096 bytes, as much as an arena asks for at once */

#define LLM_TASKS_BLOCK  510

struct llm_tasks_block_s {
    llm_tasks_block_t    *next;
    size_t                n;
    llm_tasks_span_t      span[LLM_TASKS_BLOCK];
};


/* members of the top object, each a bit of "seen" */

typedef enum {
    LLM_TASKS_PARAM = 0,                    /* any other one */
    LLM_TASKS_PROMPTS,
    LLM_TASKS_REQUESTS,
    LLM_TASKS_PRIORITY,
    LLM_TASKS_URL,
    LLM_TASKS_CRASH,
    LLM_TASKS_META,
    LLM_TASKS_MODEL,                        /* params, but looked at */
    LLM_TASKS_STREAM,
    LLM_TASKS_MESSAGES,
    LLM_TASKS_MEMBERS
} llm_tasks_member_e;


#define llm_tasks_bit(member)  (1u << (member))


/* the value of ts->member begins, or is read if it is no object or array */
int llm_tasks_value(llm_tasks_t *ts, llm_json_token_e token);

/* an object or array that is the value of ts->member has been read */
int llm_tasks_value_end(llm_tasks_t *ts);

/* behind the top object: what is missing, what all requests begin with */
int llm_tasks_finish(llm_tasks_t *ts);

/*
 * Fills the error and gives LLM_ERROR.  The path is of "member", or of
 * element "index" of the list if that is not negative; "inner" is the member
 * of that element, or NULL.
 */
int llm_tasks_fail(llm_tasks_t *ts, const char *code, const char *member,
    int index, const char *inner, size_t offset, const char *text);

int llm_tasks_complex(llm_tasks_t *ts);


#endif /* _LLM_TASKS_PRIVATE_H_INCLUDED_ */
