
/*
 * Copyright (C) the ngx-llm authors
 *
 * Between the files that turn streams into answers and back.
 */


#ifndef _LLM_GATHER_PRIVATE_H_INCLUDED_
#define _LLM_GATHER_PRIVATE_H_INCLUDED_


#include <string.h>

#include "core/llm_gather.h"
#include "core/llm_json_inline.h"


/* members of one object that is merged, elements of one list by index */

#define LLM_GATHER_MEMBERS   128
#define LLM_GATHER_ELEMENTS  1024


/* what is written twice: counted first ("pos" is NULL), then written */

typedef struct {
    unsigned char        *pos;
    size_t                len;
    unsigned              comma;            /* in front of the next member */
} llm_out_t;


static inline void
llm_out(llm_out_t *out, const void *p, size_t len)
{
    if (out->pos != NULL) {
        memcpy(out->pos, p, len);
        out->pos += len;
    }

    out->len += len;
}


#define llm_out_text(out, s)  llm_out(out, s, sizeof(s) - 1)
#define llm_out_str(out, s)   llm_out(out, (s)->data, (s)->len)

void llm_out_number(llm_out_t *out, uint64_t n);

/* the comma that is due, and a name that needs no escapes */
void llm_out_name(llm_out_t *out, const char *name);


/*
 * Behind the first token of a value: passes the rest of it.  "value" (may be
 * NULL) is set to all of it.  LLM_DECLINED: it is no JSON.
 */
int llm_gather_pass(llm_json_t *js, llm_json_token_e token,
    llm_str_t *value);


/* what the names inside an object mean */

typedef enum {
    LLM_GATHER_TOP = 0,
    LLM_GATHER_CHOICE,
    LLM_GATHER_PIECE,                       /* a choice of completions */
    LLM_GATHER_DELTA,
    LLM_GATHER_CALL,
    LLM_GATHER_FUNCTION,
    LLM_GATHER_PLAIN,                       /* arrays are always joined */
    LLM_GATHER_ANY
} llm_gather_place_e;


/* how what came before and what comes make one value */

typedef enum {
    LLM_GATHER_MERGE = 0,                   /* strings and arrays joined */
    LLM_GATHER_KNOWN,                       /* … and never kept unread */
    LLM_GATHER_FIRST,                       /* that is not empty */
    LLM_GATHER_LAST,                        /* that is not null */
    LLM_GATHER_SAME,                        /* each time, or empty */
    LLM_GATHER_FINISH,
    LLM_GATHER_FAULT,                       /* no answer unless null */
    LLM_GATHER_TYPE,                        /* may be "error" */
    LLM_GATHER_SKIP
} llm_gather_rule_e;


/* members that have a place of their own in the answer */

typedef enum {
    LLM_GATHER_OTHER = 0,
    LLM_GATHER_ID,
    LLM_GATHER_SORT,                        /* the "object" of chunks */
    LLM_GATHER_CREATED,
    LLM_GATHER_MODEL,
    LLM_GATHER_CHOICES,
    LLM_GATHER_USAGE,
    LLM_GATHER_VENDOR,
    LLM_GATHER_MESSAGE,
    LLM_GATHER_TEXT,
    LLM_GATHER_LOGPROBS,
    LLM_GATHER_FINISHED,
    LLM_GATHER_ROLE,
    LLM_GATHER_CONTENT,
    LLM_GATHER_REFUSAL,
    LLM_GATHER_KIND,                        /* of a tool call: "type" */
    LLM_GATHER_CALLED,                      /* its function, */
    LLM_GATHER_ARGUMENTS                    /* and what it is called with */
} llm_gather_what_e;


typedef enum {
    LLM_GATHER_NONE = 0,
    LLM_GATHER_NULL,
    LLM_GATHER_RAW,                         /* as spelled */
    LLM_GATHER_STRING,
    LLM_GATHER_ARRAY,                       /* elements one after the other */
    LLM_GATHER_LIST,                        /* of objects, by their index */
    LLM_GATHER_OBJECT
} llm_gather_type_e;


typedef struct llm_gather_node_s   llm_gather_node_t;
typedef struct llm_gather_block_s  llm_gather_block_t;


/* pieces of a string or an array, in blocks that grow */

struct llm_gather_block_s {
    llm_gather_block_t   *next;
    uint32_t              n;
    uint32_t              size;
    llm_str_t             piece[];
};


struct llm_gather_node_s {
    llm_gather_node_t    *next;             /* in order of appearance */

    llm_str_t             name;             /* decoded */
    llm_str_t             spelled;          /* with its quotes */

    uint32_t              visit;            /* of the object: no name twice */
    unsigned char         type;
    unsigned char         rule;
    unsigned char         what;
    unsigned char         place;            /* of what is inside */

    union {
        llm_str_t             raw;

        struct {
            llm_gather_block_t   *first;
            llm_gather_block_t   *last;
        } pieces;

        struct {
            llm_gather_node_t    *first;
            llm_gather_node_t    *last;
            uint32_t              n;
            uint32_t              index;    /* in the list it stands in */
        } members;

        struct {
            llm_gather_node_t   **elts;     /* sorted */
            uint32_t              n;
            uint32_t              size;
        } list;
    } u;
};


typedef struct {
    llm_endpoint_e        endpoint;
    llm_arena_t          *arena;

    llm_gather_node_t     top;
    uint32_t              visit;

    llm_str_t             response;         /* of response.completed */
    unsigned              done;             /* [DONE] came */
} llm_gather_t;


/* merges one chunk, a JSON object, into the top node */
int llm_gather_chunk(llm_gather_t *g, const llm_str_t *data);

/* the rest of an object whose brace was read, merged into the node */
int llm_gather_object(llm_gather_t *g, llm_gather_node_t *node,
    llm_json_t *js);

/* the rest of an array */
int llm_gather_elements(llm_gather_t *g, llm_gather_node_t *node,
    llm_json_t *js);

/* one more piece of a string or an array */
int llm_gather_piece(llm_gather_t *g, llm_gather_node_t *node,
    const unsigned char *p, size_t len);

/* a member that was found; NULL: not there */
llm_gather_node_t *llm_gather_find(const llm_gather_node_t *node,
    llm_gather_what_e what);

/* a new member at the end, without a value; NULL: no memory */
llm_gather_node_t *llm_gather_add(llm_gather_t *g, llm_gather_node_t *node);

/* the answer */
void llm_gather_write(llm_out_t *out, llm_endpoint_e endpoint,
    const llm_gather_node_t *top);


static inline int
llm_gather_empty(const llm_str_t *value)
{
    return (value->len == 2 && value->data[0] == '"')
           || (value->len == 1 && value->data[0] == '0')
           || (value->len == 4 && value->data[0] == 'n');
}


/* not there, null or an empty string */

static inline int
llm_gather_absent(const llm_gather_node_t *node)
{
    return node == NULL || node->type == LLM_GATHER_NULL
           || (node->type == LLM_GATHER_RAW
               && llm_gather_empty(&node->u.raw));
}


#endif /* _LLM_GATHER_PRIVATE_H_INCLUDED_ */
