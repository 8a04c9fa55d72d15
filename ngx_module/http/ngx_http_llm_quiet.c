
/*
 * Copyright (C) the ngx-llm authors
 */


#include "http/ngx_http_llm_quiet.h"

#include "core/llm_quiet.h"
#include "core/llm_siphash.h"


static llm_quiet_t  ngx_http_llm_quiet_table;    /* of this worker */


const char *
ngx_http_llm_quiet(ngx_uint_t kind, const void *who, size_t len)
{
    u_char    *p;
    uint64_t   key[2], hash[2], left;

    static u_char  text[64];

    key[0] = kind;
    key[1] = 0;

    llm_siphash(key, who, len, hash);

    if (llm_quiet(&ngx_http_llm_quiet_table, hash[0] ? hash[0] : 1,
                  ngx_current_msec, NGX_HTTP_LLM_QUIET_TIME, &left)
        != LLM_OK)
    {
        return NULL;
    }

    p = text;

    if (left) {
        p = ngx_sprintf(p, " (%uL such lines were left out)", left);
    }

    *p = '\0';

    return (const char *) text;
}
