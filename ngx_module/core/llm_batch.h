
/*
 * Copyright (C) the ngx-llm authors
 *
 * OpenAI's Batch API: the check of an input file, line by line, and the
 * spelling of output lines and of the objects that tell of batches and files.
 */


#ifndef _LLM_BATCH_H_INCLUDED_
#define _LLM_BATCH_H_INCLUDED_


#include "core/llm_core.h"
#include "core/llm_request.h"


#define LLM_BATCH_TASKS  50000              /* OpenAI's own bound */
#define LLM_BATCH_ID     512                /* bytes of a custom_id */
#define LLM_BATCH_MODEL  256                /* bytes of a model's name */


/*
 * Why a line, or the file, is refused; "line" is 0 if it is about the file.
 * code: invalid_json_line, line_too_long, missing_required_parameter,
 * invalid_value, duplicate_custom_id, invalid_method, invalid_url,
 * mismatched_model, unsupported_parameter, empty_file, too_many_tasks.
 */

typedef struct {
    const char           *code;
    const char           *param;            /* "body.model"; NULL: none */
    uint64_t              line;
    char                  text[192];        /* a sentence, ASCII, no prompt */
} llm_batch_error_t;


/* a line that is right; what it points to lies in the line or the arena */

typedef struct {
    llm_str_t             custom_id;        /* decoded */
    llm_str_t             body;             /* the request, as spelled */
    llm_str_t             model;            /* decoded */
    size_t                model_start;      /* the value's span in the body, */
    size_t                model_end;        /* quotes included               */
} llm_batch_line_t;


/* one input file */

typedef struct {
    llm_endpoint_e        endpoint;
    uint64_t              key[2];
    uint64_t             *seen;             /* lent: digests of custom_ids */
    size_t                mask;
    unsigned              most;

    unsigned              n;                /* lines, wrong ones included */
    unsigned              full:1;           /* too_many_tasks was told */

    size_t                model_len;        /* 0: not known yet */
    unsigned char         model[LLM_BATCH_MODEL];
} llm_batch_t;


/* LLM_OK, or LLM_DECLINED: batches do not know that endpoint */
int llm_batch_endpoint(const llm_str_t *url, llm_endpoint_e *endpoint);

/* "/v1/chat/completions", … */
const llm_str_t *llm_batch_url(llm_endpoint_e endpoint);

/* bytes of memory that the check of up to "most" lines needs: 16 to 32 each */
size_t llm_batch_room(unsigned most);

/*
 * "memory" of llm_batch_room() bytes, aligned to 8, is lent, need not be
 * zeroed and outlives the check.  "key" is random and secret, so that nobody
 * can choose custom_ids that seem to be equal.
 */
void llm_batch_init(llm_batch_t *b, llm_endpoint_e endpoint,
    const uint64_t key[2], void *memory, unsigned most);

/*
 * The next line that is not blank; "number" is for the error alone.  One pass
 * without a tree: the line is exact JSON, its custom_id a string of 1 to
 * LLM_BATCH_ID bytes that no line before had, its method POST, its url the
 * batch's own, and its body an object with the model of all lines and
 * without "stream": true.  What else the body holds is the gateway's to judge
 * when it is sent.  Members that are not known are passed over; those that
 * are may not stand twice.
 *
 * LLM_OK: "line" is set.  LLM_DECLINED: "err" is set, the next lines can
 * still be checked.  Behind too_many_tasks all lines are declined so.
 * LLM_ERROR: no memory; the line does not count and may be checked again.
 * The arena is only needed for strings that are spelled with escapes.
 */
int llm_batch_check(llm_batch_t *b, const llm_str_t *text, uint64_t number,
    llm_arena_t *arena, llm_batch_line_t *line, llm_batch_error_t *err);

/* a line of more than "size" bytes; counts; gives LLM_DECLINED */
int llm_batch_too_long(llm_batch_t *b, uint64_t number, size_t size,
    llm_batch_error_t *err);

/* behind the last line: LLM_OK, or LLM_DECLINED with empty_file */
int llm_batch_end(const llm_batch_t *b, llm_batch_error_t *err);


/*
 * What became of a line: an answer of any status, or none ("status" 0), and
 * then "code" and "message" say why.
 */

typedef struct {
    llm_str_t             id;               /* batch_req_… */
    llm_str_t             custom_id;        /* decoded */
    unsigned              status;
    llm_str_t             request_id;
    llm_str_t             body;             /* JSON, or any text */
    llm_str_t             code;             /* batch_expired, … */
    llm_str_t             message;
} llm_batch_result_t;


typedef enum {
    LLM_BATCH_VALIDATING = 0,
    LLM_BATCH_FAILED,
    LLM_BATCH_IN_PROGRESS,
    LLM_BATCH_FINALIZING,
    LLM_BATCH_COMPLETED,
    LLM_BATCH_EXPIRED,
    LLM_BATCH_CANCELLING,
    LLM_BATCH_CANCELLED,
    LLM_BATCH_STATES
} llm_batch_state_e;


/* times are seconds since 1970, 0: not yet, and told as null */

typedef struct {
    llm_str_t             id;
    llm_endpoint_e        endpoint;
    llm_str_t             model;            /* empty: not told */
    llm_batch_state_e     state;

    llm_str_t             input_file;
    llm_str_t             output_file;      /* empty: null */
    llm_str_t             error_file;
    llm_str_t             window;           /* completion_window, "24h" */

    int64_t               created;
    int64_t               in_progress;
    int64_t               expires;
    int64_t               finalizing;
    int64_t               completed;
    int64_t               failed;
    int64_t               expired;
    int64_t               cancelling;
    int64_t               cancelled;

    uint64_t              total;            /* request_counts */
    uint64_t              succeeded;
    uint64_t              unsuccessful;

    int64_t               input_tokens;     /* -1: usage is not told */
    int64_t               cached_tokens;
    int64_t               output_tokens;
    int64_t               reasoning_tokens;

    llm_str_t             metadata;         /* JSON; empty: null */

    const llm_batch_error_t  *errors;       /* none: null */
    unsigned              nerrors;
} llm_batch_object_t;


typedef struct {
    llm_str_t             id;
    uint64_t              bytes;
    int64_t               created;
    int64_t               expires;          /* 0: not told */
    llm_str_t             filename;
    const char           *purpose;          /* "batch", "batch_output" */
    const char           *status;           /* "processed", "uploaded", … */
} llm_batch_file_t;


/*
 * The writers give the number of bytes that the text has.  If that is more
 * than "size", what stands in "buf" is of no use; with size 0 buf may be
 * NULL.  Nothing is ended by a zero byte.
 */

/* one line of an output or an error file, its LF included */
size_t llm_batch_write_result(unsigned char *buf, size_t size,
    const llm_batch_result_t *res);

/* is it of the output file? else it is of the error file */
int llm_batch_succeeded(const llm_batch_result_t *res);

size_t llm_batch_write_object(unsigned char *buf, size_t size,
    const llm_batch_object_t *ob);
size_t llm_batch_write_file(unsigned char *buf, size_t size,
    const llm_batch_file_t *f);

/* {"id":…,"object":"file","deleted":true} */
size_t llm_batch_write_deleted(unsigned char *buf, size_t size,
    const llm_str_t *id);

/* what stands around the objects of a page; between them stand commas */
size_t llm_batch_write_list_head(unsigned char *buf, size_t size);
size_t llm_batch_write_list_tail(unsigned char *buf, size_t size,
    const llm_str_t *first, const llm_str_t *last, int more);

const char *llm_batch_state_name(llm_batch_state_e state);


#endif /* _LLM_BATCH_H_INCLUDED_ */
