
/*
 * Copyright (C) the ngx-llm authors
 *
 * Between the two files of the JSON scanner.
 */


#ifndef _LLM_JSON_PRIVATE_H_INCLUDED_
#define _LLM_JSON_PRIVATE_H_INCLUDED_


#include "core/llm_json.h"

#if defined(__SSE2__) && !defined(LLM_JSON_NO_SSE2)
#include <emmintrin.h>
#define LLM_JSON_SSE2  1
#endif


/*
 * The inside of a string from "start" on, known to be plain before p: where
 * its closing quote is, or NULL with "error" and "pos" set.  Sets "size" and
 * "escaped".
 */
const unsigned char *llm_json_string(llm_json_t *js,
    const unsigned char *start, const unsigned char *p);


#if (LLM_JSON_SSE2)

/* not zero: a quote, a backslash, a control character or no ASCII */

static inline __m128i
llm_json_odd(__m128i v)
{
    __m128i  odd;

    odd = _mm_or_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8('"')),
                       _mm_cmpeq_epi8(v, _mm_set1_epi8('\\')));

    /* bytes are signed here: what is no ASCII is less, too */

    return _mm_or_si128(odd, _mm_cmplt_epi8(v, _mm_set1_epi8(0x20)));
}


static inline __m128i
llm_json_load(const unsigned char *p)
{
    return _mm_loadu_si128((const __m128i *) (const void *) p);
}

#endif


/* the same for names and other short strings, without a call */

static inline const unsigned char *
llm_json_quoted(llm_json_t *js, const unsigned char *p)
{
#if (LLM_JSON_SSE2)

    unsigned              n, mask;
    const unsigned char  *start;

    start = p;

    if (js->last - p >= 16) {
        mask = (unsigned) _mm_movemask_epi8(llm_json_odd(llm_json_load(p)));
        n = mask != 0 ? (unsigned) __builtin_ctz(mask) : 16;
        p += n;

        if (n < 16 && *p == '"') {
            js->size = n;
            js->escaped = 0;
            return p;
        }
    }

    return llm_json_string(js, start, p);

#else

    return llm_json_string(js, p, p);

#endif
}


#endif /* _LLM_JSON_PRIVATE_H_INCLUDED_ */
