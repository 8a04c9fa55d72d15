
/*
 * Copyright (C) the ngx-llm authors
 *
 * Traces: the traceparent header of W3C Trace Context, and spans as OTLP's
 * JSON encoding writes them.
 */


#ifndef _LLM_SPAN_H_INCLUDED_
#define _LLM_SPAN_H_INCLUDED_


#include "core/llm_core.h"


#define LLM_TRACE_ID_LEN      32              /* hex digits, lower case */
#define LLM_SPAN_ID_LEN       16
#define LLM_TRACEPARENT_LEN   55
#define LLM_TRACESTATE_LEN    512
#define LLM_SPAN_ATTRS        20
#define LLM_SPAN_TEXT         256             /* bytes of a value, at most */


/* of one request: the trace, who called, and the request's own span */

typedef struct {
    unsigned char         trace[LLM_TRACE_ID_LEN];
    unsigned char         parent[LLM_SPAN_ID_LEN];
    unsigned char         span[LLM_SPAN_ID_LEN];
    unsigned              known:1;            /* trace and parent came */
    unsigned              made:1;             /* span is set, trace too */
    unsigned              sampled:1;
    unsigned              random:1;           /* as the caller says */
} llm_trace_t;


typedef enum {
    LLM_SPAN_INTERNAL = 1,                    /* OTLP's own numbers */
    LLM_SPAN_SERVER = 2,
    LLM_SPAN_CLIENT = 3
} llm_span_kind_e;


typedef enum {
    LLM_SPAN_STRING = 0,
    LLM_SPAN_INT,
    LLM_SPAN_BOOL,
    LLM_SPAN_MICRO                            /* millionths, as a double */
} llm_span_type_e;


typedef struct {
    const char           *key;
    llm_span_type_e       type;
    llm_str_t             text;
    int64_t               number;
} llm_span_attr_t;


/* what a name or a value has too much of is cut off */

typedef struct {
    const unsigned char  *trace;              /* LLM_TRACE_ID_LEN bytes */
    const unsigned char  *id;                 /* LLM_SPAN_ID_LEN bytes */
    const unsigned char  *parent;             /* the same, or NULL */
    const char           *operation;          /* the name's first word */
    llm_str_t             subject;            /* … and the rest, or empty */
    llm_span_kind_e       kind;
    uint64_t              start;              /* ms since 1970 */
    uint64_t              end;
    unsigned              failed:1;
    unsigned              nattrs;
    llm_span_attr_t       attr[LLM_SPAN_ATTRS];
} llm_span_t;


/*
 * The header, strictly: LLM_OK, and trace, parent, known, sampled and random
 * are set; or LLM_DECLINED, and nothing is.
 */
int llm_trace_parse(llm_trace_t *tr, const unsigned char *p, size_t len);

/* LLM_TRACEPARENT_LEN bytes, for a call of the span "id" */
void llm_trace_write(unsigned char *p, const llm_trace_t *tr,
    const unsigned char *id);

/* "len" hex digits, not all zero, of 8 digits of each "word" */
void llm_trace_id(unsigned char *p, size_t len, const uint32_t *word);

/* LLM_OK: at most 32 members of printable bytes, 512 bytes in all */
int llm_trace_state(const unsigned char *p, size_t len);


/* one more attribute; those without room or value are left out */
void llm_span_text(llm_span_t *sp, const char *key, const void *data,
    size_t len);
void llm_span_number(llm_span_t *sp, const char *key, llm_span_type_e type,
    int64_t number);

/* the span as JSON; bytes written, 0: "size" is not enough */
size_t llm_span_write(unsigned char *p, size_t size, const llm_span_t *sp);

/*
 * What stands around spans in a request of the collector; the spans between
 * them are separated by commas.  Bytes written, 0: "size" is not enough.
 */
size_t llm_span_head(unsigned char *p, size_t size, const llm_str_t *service,
    const llm_str_t *instance, const char *version);
size_t llm_span_tail(unsigned char *p, size_t size);


#endif /* _LLM_SPAN_H_INCLUDED_ */
