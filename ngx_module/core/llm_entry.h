
/*
 * Copyright (C) the ngx-llm authors
 *
 * A stored answer: one block of bytes, little endian, versioned and checked,
 * since what comes back from a cache may be old, cut or somebody else's.
 */


#ifndef _LLM_ENTRY_H_INCLUDED_
#define _LLM_ENTRY_H_INCLUDED_


#include "core/llm_core.h"
#include "core/llm_answer.h"


typedef struct {
    uint64_t              created;          /* s since the epoch */
    uint32_t              ttl;              /* s */
    uint32_t              stale_error;      /* s behind it that it may be
                                               served when the provider
                                               fails, */
    uint32_t              stale_renew;      /* … while it is renewed */
    uint32_t              endpoint;         /* llm_endpoint_e */
    int64_t               cost;             /* of the call, micro-dollars,
                                               not below 0 */
    llm_usage_t           usage;
    llm_str_t             content_type;
    llm_str_t             provider;
    llm_str_t             model;            /* as the provider was asked */
    llm_str_t             body;
} llm_entry_t;


/* room for everything but the body, which goes last and unchanged */
size_t llm_entry_head_size(const llm_entry_t *e);

/* writes the head; the body is to follow behind the returned pointer */
unsigned char *llm_entry_encode_head(const llm_entry_t *e, unsigned char *p);

/*
 * LLM_OK with pointers into p; LLM_DECLINED: not one of ours, of another
 * version, or damaged
 */
int llm_entry_decode(llm_entry_t *e, unsigned char *p, size_t len);


#endif /* _LLM_ENTRY_H_INCLUDED_ */
