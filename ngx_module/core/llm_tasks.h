
/*
 * Copyright (C) the ngx-llm authors
 *
 * The body of POST /api/tasks, cut into chat requests without a tree and
 * without spelling anything anew; and what is told of one task.
 */


#ifndef _LLM_TASKS_H_INCLUDED_
#define _LLM_TASKS_H_INCLUDED_


#include "core/llm_core.h"
#include "core/llm_json.h"


#define LLM_TASKS_MOST      10000
#define LLM_TASKS_PARAMS    64              /* chat parameters for all */
#define LLM_TASKS_NAME      64              /* bytes of a parameter's name */
#define LLM_TASKS_WEBHOOK   2048            /* bytes of the URL */
#define LLM_TASKS_METADATA  16384


typedef enum {
    LLM_TASKS_HIGH = 0,
    LLM_TASKS_NORMAL,
    LLM_TASKS_LOW
} llm_tasks_priority_e;


/*
 * code: invalid_json, duplicate_key, missing_required_parameter,
 * invalid_value, unsupported_parameter, too_many_tasks, request_too_complex
 * (no memory)
 */

typedef struct {
    const char           *code;
    char                  param[48];        /* "requests[3].model"; "": none */
    size_t                offset;           /* of the byte at fault */
    char                  text[192];        /* a sentence, ASCII, no prompt */
} llm_tasks_error_t;


/* spans in the body */

typedef struct {
    uint32_t              start;
    uint32_t              end;
} llm_tasks_span_t;


typedef struct llm_tasks_block_s  llm_tasks_block_t;


/* a member of the top object that is part of each chat request */

typedef struct {
    llm_tasks_span_t      whole;            /* name and value, as spelled */
    uint32_t              len;              /* of the name, decoded */
    unsigned char         name[LLM_TASKS_NAME];
} llm_tasks_param_t;


typedef struct {
    /* known when llm_tasks_scan() has given LLM_OK */

    unsigned              n;                /* tasks, 1 to "most" */
    unsigned              prompts:1;        /* else requests */
    unsigned              fail_on_crash:1;  /* on_crash; else "retry" */
    llm_tasks_priority_e  priority;
    llm_str_t             webhook;          /* decoded; empty: none */
    llm_str_t             metadata;         /* as spelled; empty: none */

    /* the scan's own */

    llm_json_t            js;
    llm_str_t             body;
    llm_str_t             model;            /* if the body names none */
    llm_arena_t          *arena;
    llm_tasks_error_t    *err;
    unsigned              most;
    unsigned              state;
    unsigned              member;           /* whose value is read */
    unsigned              seen;             /* members that stood already */
    unsigned              own:1;            /* this request has a model */
    unsigned              bare:1;           /* one has none: */
    unsigned              bare_index;
    size_t                bare_offset;
    size_t                start;            /* of the value or the request */
    size_t                name_start;

    llm_tasks_block_t    *first;
    llm_tasks_block_t    *last;

    llm_tasks_param_t    *param;
    unsigned              nparams;

    llm_str_t             front;            /* of each body, of prompts */
    llm_str_t             default_model;    /* a member, with its name */

    /* of llm_tasks_next() */

    llm_tasks_block_t    *block;
    unsigned              at;
    unsigned              index;
} llm_tasks_t;


/* one chat request: how many bytes it has, and what it is made of */

typedef struct {
    unsigned              index;            /* from 0, as in the body */
    size_t                len;
    llm_tasks_span_t      span;
    uint64_t              add;              /* a bit for each that it lacks */
    unsigned              add_model:1;
    unsigned              empty:1;          /* the request is {} */
} llm_tasks_item_t;


/*
 * {"prompts": [string, …]} or {"requests": [chat body, …]}, and beside
 * them "priority" ("high", "normal", "low"), "webhook" (URL), "on_crash"
 * ("retry", "fail"), "metadata" (an object), which may be null; all other
 * members are chat parameters, which go into every request unless it has its
 * own.  "stream": true and, with prompts, "messages" are refused.  The model
 * is the one of the request, else of the body, else "model", which is plain
 * text and may be empty: then it is an error if there is none.
 *
 * All that is lent (body, model, arena, err) outlives "ts".  Memory of the
 * arena: 8 bytes for each task, and some KB.
 */
void llm_tasks_init(llm_tasks_t *ts, const llm_str_t *body,
    const llm_str_t *model, unsigned most, llm_arena_t *arena,
    llm_tasks_error_t *err);

/*
 * Reads on for about "bytes" bytes, to the end of a token at least (a single
 * string is not divided); a MB takes some 4 ms at worst.  LLM_AGAIN: call
 * again; LLM_OK: the body is right; LLM_ERROR: "err" is set, and the body is
 * of no use.  The result does not depend on "bytes".
 */
int llm_tasks_scan(llm_tasks_t *ts, size_t bytes);

/* the next chat request; LLM_OK, or LLM_DECLINED behind the last one */
int llm_tasks_next(llm_tasks_t *ts, llm_tasks_item_t *item);

/* writes item->len bytes */
void llm_tasks_write(const llm_tasks_t *ts, const llm_tasks_item_t *item,
    unsigned char *buf);


/* what is told of one task */

typedef enum {
    LLM_TASKS_QUEUED = 0,
    LLM_TASKS_PROCESSING,
    LLM_TASKS_COMPLETED,
    LLM_TASKS_ERROR,
    LLM_TASKS_CANCELLED,
    LLM_TASKS_NOT_FOUND,
    LLM_TASKS_STATES
} llm_tasks_state_e;


/* times are milliseconds since 1970, 0: not yet, and told as null */

typedef struct {
    llm_tasks_state_e     state;
    unsigned              progress;         /* per cent */
    unsigned              attempts;
    int64_t               created;
    int64_t               started;
    int64_t               finished;
    llm_str_t             result;           /* JSON; empty: null */
    llm_str_t             error;            /* JSON; empty: null */
    llm_str_t             usage;            /* JSON; empty: not told */
    llm_str_t             metadata;         /* JSON; empty: not told */
} llm_tasks_task_t;


/*
 * {"status":…,"progress":…,"attempts":…,"created_at":…,"started_at":…,
 * "finished_at":…,"result":…,"error":…}, times in seconds with three
 * decimals; of a task that is not found the status alone.  Gives the number
 * of bytes that the text has; if that is more than "size", what stands in
 * "buf" is of no use; with size 0 buf may be NULL.
 */
size_t llm_tasks_write_task(unsigned char *buf, size_t size,
    const llm_tasks_task_t *task);

const char *llm_tasks_state_name(llm_tasks_state_e state);


#endif /* _LLM_TASKS_H_INCLUDED_ */
