
/*
 * Copyright (C) the ngx-llm authors
 *
 * Between the files of the JSON scanner.
 */


#ifndef _LLM_JSON_PRIVATE_H_INCLUDED_
#define _LLM_JSON_PRIVATE_H_INCLUDED_


#include "core/llm_json.h"

#if defined(__SSE2__) && !defined(LLM_JSON_NO_SSE2)
#include <emmintrin.h>
#define LLM_JSON_SSE2  1
#endif


/* what may come next */

enum {
    LLM_JSON_VALUE = 0,
    LLM_JSON_FIRST_VALUE,                   /* or the end of the array */
    LLM_JSON_FIRST_NAME,                    /* or the end of the object */
    LLM_JSON_AFTER,                         /* a comma or an end */
    LLM_JSON_FAILED
};


/* any next token, a value, or a name: exact for every spelling and error */

llm_json_token_e llm_json_any(llm_json_t *js);
llm_json_token_e llm_json_value(llm_json_t *js, const unsigned char *p);
llm_json_token_e llm_json_name(llm_json_t *js, const unsigned char *p);

/*
 * The inside of a string from "start" on, known to be plain before p: where
 * its closing quote is, or NULL with "error" and "pos" set.  Sets "size" and
 * "escaped".
 */
const unsigned char *llm_json_string(llm_json_t *js,
    const unsigned char *start, const unsigned char *p);


#if (LLM_JSON_SSE2)

static inline __m128i
llm_json_load(const unsigned char *p)
{
    return _mm_loadu_si128((const __m128i *) (const void *) p);
}


/* not a quote, a backslash, a control character or anything but ASCII */

static inline __m128i
llm_json_plain(__m128i v)
{
    __m128i  high;

    /*
     * The one bit makes the quote a space and the space a quote; bytes are
     * signed here, so that what is no ASCII is less than either.
     */

    high = _mm_cmpgt_epi8(_mm_xor_si128(v, _mm_set1_epi8('"' ^ ' ')),
                          _mm_set1_epi8(' '));

    return _mm_andnot_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8('\\')), high);
}


/* which of the 32 bytes at p are not, one bit for each */

static inline uint32_t
llm_json_mask(const unsigned char *p)
{
    uint32_t  low, high;

    low = (uint32_t) _mm_movemask_epi8(llm_json_plain(llm_json_load(p)));
    high = (uint32_t) _mm_movemask_epi8(llm_json_plain(llm_json_load(p + 16)));

    return ~(low | high << 16);
}

#endif


static inline const unsigned char *
llm_json_space(const unsigned char *p, const unsigned char *last)
{
    while (p < last && *p <= ' '
           && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t'))
    {
        p++;
    }

    return p;
}


#endif /* _LLM_JSON_PRIVATE_H_INCLUDED_ */
