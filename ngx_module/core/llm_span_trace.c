
/*
 * Copyright (C) the ngx-llm authors
 *
 * W3C Trace Context: version-traceid-parentid-flags, lower-case hex digits.
 */


#include "core/llm_span.h"

#include <string.h>


#define LLM_TRACE_SAMPLED  0x01
#define LLM_TRACE_RANDOM   0x02
#define LLM_TRACE_MEMBERS  32


static int llm_trace_hex(const unsigned char *p, size_t len);
static int llm_trace_digit(unsigned char c);


int
llm_trace_parse(llm_trace_t *tr, const unsigned char *p, size_t len)
{
    int  version, flags;

    if (len < LLM_TRACEPARENT_LEN || p[2] != '-' || p[35] != '-'
        || p[52] != '-')
    {
        return LLM_DECLINED;
    }

    if (llm_trace_digit(p[0]) < 0 || llm_trace_digit(p[1]) < 0
        || llm_trace_digit(p[53]) < 0 || llm_trace_digit(p[54]) < 0
        || llm_trace_hex(p + 3, LLM_TRACE_ID_LEN) != LLM_OK
        || llm_trace_hex(p + 36, LLM_SPAN_ID_LEN) != LLM_OK)
    {
        return LLM_DECLINED;
    }

    version = llm_trace_digit(p[0]) << 4 | llm_trace_digit(p[1]);
    flags = llm_trace_digit(p[53]) << 4 | llm_trace_digit(p[54]);

    if (version == 0xff) {
        return LLM_DECLINED;
    }

    /* later versions may go on behind another dash */

    if (len > LLM_TRACEPARENT_LEN
        && (version == 0 || p[LLM_TRACEPARENT_LEN] != '-'))
    {
        return LLM_DECLINED;
    }

    memcpy(tr->trace, p + 3, LLM_TRACE_ID_LEN);
    memcpy(tr->parent, p + 36, LLM_SPAN_ID_LEN);

    tr->known = 1;
    tr->sampled = (flags & LLM_TRACE_SAMPLED) ? 1 : 0;
    tr->random = (flags & LLM_TRACE_RANDOM) ? 1 : 0;

    return LLM_OK;
}


void
llm_trace_write(unsigned char *p, const llm_trace_t *tr,
    const unsigned char *id)
{
    memcpy(p, "00-", 3);
    memcpy(p + 3, tr->trace, LLM_TRACE_ID_LEN);
    p[35] = '-';
    memcpy(p + 36, id, LLM_SPAN_ID_LEN);
    p[52] = '-';
    p[53] = '0';
    p[54] = (unsigned char) ('0' + (tr->sampled ? LLM_TRACE_SAMPLED : 0)
                             + (tr->random ? LLM_TRACE_RANDOM : 0));
}


void
llm_trace_id(unsigned char *p, size_t len, const uint32_t *word)
{
    size_t    i;
    unsigned  digit, any;

    static const char  hex[] = "0123456789abcdef";

    any = 0;

    for (i = 0; i < len; i++) {
        digit = word[i / 8] >> (4 * (i % 8)) & 0xf;
        any |= digit;
        p[i] = (unsigned char) hex[digit];
    }

    if (!any) {
        p[len - 1] = '1';
    }
}


int
llm_trace_state(const unsigned char *p, size_t len)
{
    size_t    i;
    unsigned  members;

    if (len == 0 || len > LLM_TRACESTATE_LEN) {
        return LLM_DECLINED;
    }

    members = 1;

    for (i = 0; i < len; i++) {

        if (p[i] == '\t') {
            continue;
        }

        if (p[i] < 0x20 || p[i] > 0x7e) {
            return LLM_DECLINED;
        }

        if (p[i] == ',' && ++members > LLM_TRACE_MEMBERS) {
            return LLM_DECLINED;
        }
    }

    return memchr(p, '=', len) == NULL ? LLM_DECLINED : LLM_OK;
}


/* all digits, and not all of them zero */

static int
llm_trace_hex(const unsigned char *p, size_t len)
{
    int     digit, any;
    size_t  i;

    any = 0;

    for (i = 0; i < len; i++) {

        digit = llm_trace_digit(p[i]);

        if (digit < 0) {
            return LLM_DECLINED;
        }

        any |= digit;
    }

    return any ? LLM_OK : LLM_DECLINED;
}


static int
llm_trace_digit(unsigned char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }

    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }

    return -1;
}
