
/*
 * Copyright (C) the ngx-llm authors
 *
 * Between the two halves of llm_replay.
 */


#ifndef _LLM_REPLAY_PRIVATE_H_INCLUDED_
#define _LLM_REPLAY_PRIVATE_H_INCLUDED_


#include "core/llm_replay.h"
#include "core/llm_gather_private.h"


/* elements of one array that is told in parts */

#define LLM_REPLAY_ELEMENTS  128

/* what is repeated in each event must not be longer */

#define LLM_REPLAY_HEAD      1024
#define LLM_REPLAY_ID        256


typedef struct {
    llm_str_t             name;             /* decoded */
    llm_str_t             spelled;          /* with its quotes */
    llm_str_t             value;
    unsigned              told;             /* elsewhere than with the rest */
} llm_replay_member_t;


typedef struct {
    llm_replay_member_t  *elts;
    uint32_t              n;
    uint32_t              size;
} llm_replay_object_t;


typedef struct {
    llm_str_t            *elts;
    uint32_t              n;
    uint32_t              size;
} llm_replay_array_t;


typedef struct {
    llm_endpoint_e        endpoint;
    llm_arena_t          *arena;
    llm_replay_object_t   top;

    int                   usage;            /* is asked for */
    uint64_t              sequence;         /* responses */

    /* what the two kinds of streams are told from */
    void                 *data;
} llm_replay_t;


/* a tool call: its object, what it calls, and the text that it is given */

typedef struct {
    llm_replay_object_t   call;
    llm_replay_object_t   function;
    llm_replay_member_t  *called;           /* "function" or "custom" */
    llm_replay_member_t  *input;            /* a string, or NULL */
} llm_replay_call_t;


typedef struct {
    int64_t               index;

    llm_replay_object_t   choice;
    llm_replay_object_t   message;

    llm_replay_member_t  *logprobs;
    llm_replay_member_t  *finish;
    llm_replay_member_t  *role;
    llm_replay_member_t  *text;             /* content, or of completions */
    llm_replay_member_t  *refusal;

    llm_replay_call_t    *calls;
    uint32_t              ncalls;

    unsigned              begun;            /* while it is written: the */
    unsigned              logged;           /* first chunk, the logprobs */
} llm_replay_choice_t;


typedef struct {
    llm_str_t             head;
    llm_replay_member_t  *usage;
    unsigned              begun;

    llm_replay_choice_t  *choices;
    uint32_t              n;
} llm_replay_chat_t;


typedef enum {
    LLM_REPLAY_OTHER = 0,                   /* told at once */
    LLM_REPLAY_MESSAGE,
    LLM_REPLAY_FUNCTION,
    LLM_REPLAY_CUSTOM,
    LLM_REPLAY_REASONING
} llm_replay_item_e;


/* the names of a part's events, and of the member that is told in pieces */

typedef struct {
    const char           *type;
    const char           *member;
    const char           *added;
    const char           *delta;
    const char           *finished;
    const char           *done;
    const char           *index;
    int                   logged;           /* has logprobs, annotations */
} llm_replay_kind_t;


typedef struct {
    llm_str_t                 whole;
    llm_replay_object_t       part;
    const llm_replay_kind_t  *kind;         /* NULL: told at once */
    llm_replay_member_t      *text;
    llm_replay_member_t      *logprobs;
    llm_replay_array_t        annotations;
} llm_replay_part_t;


typedef struct {
    llm_replay_part_t    *elts;
    uint32_t              n;
} llm_replay_parts_t;


typedef struct {
    llm_str_t             whole;
    llm_replay_object_t   item;
    llm_replay_item_e     kind;
    llm_replay_member_t  *id;
    llm_replay_member_t  *text;             /* of a call */
    llm_replay_parts_t    content;
    llm_replay_parts_t    summary;
} llm_replay_item_t;


typedef struct {
    llm_replay_item_t    *items;
    uint32_t              n;
} llm_replay_output_t;


/*
 * The members of an object that is known to be valid.  LLM_DECLINED: it is
 * no object, has very many members or a name twice; LLM_ERROR: no memory.
 */
int llm_replay_object(llm_replay_t *rp, const llm_str_t *text,
    llm_replay_object_t *obj);

/* the same for the elements of an array, up to LLM_REPLAY_ELEMENTS */
int llm_replay_array(llm_replay_t *rp, const llm_str_t *text,
    llm_replay_array_t *array);

llm_replay_member_t *llm_replay_find(const llm_replay_object_t *obj,
    const char *name);

/* … and is told elsewhere */
llm_replay_member_t *llm_replay_take(llm_replay_object_t *obj,
    const char *name);

/* the members that are not told elsewhere */
void llm_replay_rest(llm_out_t *out, const llm_replay_object_t *obj);

/*
 * The next piece of a string's inside: where it ends, which is "end" for the
 * last one.
 */
const unsigned char *llm_replay_piece(const unsigned char *p,
    const unsigned char *end);


#define llm_replay_string(m)                                                  \
    ((m) != NULL && (m)->value.data[0] == '"')

#define llm_replay_null(m)                                                    \
    ((m) != NULL && (m)->value.data[0] == 'n')


int llm_replay_read(llm_replay_t *rp);

int llm_replay_response_read(llm_replay_t *rp, const llm_str_t *body);
void llm_replay_response(llm_replay_t *rp, llm_out_t *out,
    const llm_str_t *body);


#endif /* _LLM_REPLAY_PRIVATE_H_INCLUDED_ */
