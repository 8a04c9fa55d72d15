
/*
 * Copyright (C) the ngx-llm authors
 *
 * Strings of the JSON scanner: nearly all bytes of a body are theirs, so
 * the bytes that need no attention are passed by in large steps.
 */


#include <string.h>

#include "core/llm_json.h"

#if defined(__SSE2__) && !defined(LLM_JSON_NO_SSE2)
#include <emmintrin.h>
#define LLM_JSON_SSE2  1
#endif


#define LLM_JSON_ONES   0x0101010101010101
#define LLM_JSON_HIGHS  0x8080808080808080


static const unsigned char *llm_json_escape(llm_json_t *js,
    const unsigned char *p);
static const unsigned char *llm_json_unicode(llm_json_t *js,
    const unsigned char *p);
static int llm_json_hex4(llm_json_t *js, const unsigned char *p);
static const unsigned char *llm_json_utf8(const unsigned char *p,
    const unsigned char *last);
static const unsigned char *llm_json_fault(llm_json_t *js,
    const unsigned char *p, const char *error);


/*
 * The first byte that is a quote, a backslash, a control character or not
 * ASCII, or "last".  No load goes beyond "last".
 */

static inline const unsigned char *
llm_json_plain(const unsigned char *p, const unsigned char *last)
{
#if (LLM_JSON_SSE2)

    int      mask;
    __m128i  v, odd;

    while (last - p >= 16) {
        v = _mm_loadu_si128((const __m128i *) (const void *) p);

        odd = _mm_or_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8('"')),
                           _mm_cmpeq_epi8(v, _mm_set1_epi8('\\')));

        odd = _mm_or_si128(odd, _mm_cmpeq_epi8(
                                    _mm_min_epu8(v, _mm_set1_epi8(0x1f)), v));

        /* the high bit of a byte that is not ASCII counts as it is */

        mask = _mm_movemask_epi8(_mm_or_si128(odd, v));

        if (mask != 0) {
            return p + __builtin_ctz((unsigned) mask);
        }

        p += 16;
    }

#else

    uint64_t  v, quote, slash;

    while (last - p >= 8) {
        memcpy(&v, p, 8);

        quote = v ^ (LLM_JSON_ONES * '"');
        slash = v ^ (LLM_JSON_ONES * '\\');

        /*
         * A borrow may mark a good byte above a bad one, never a word
         * without any: the loop below finds the byte itself.
         */

        if (((quote - LLM_JSON_ONES) | (slash - LLM_JSON_ONES)
             | (v - LLM_JSON_ONES * 0x20) | v) & LLM_JSON_HIGHS)
        {
            break;
        }

        p += 8;
    }

#endif

    while (p < last && *p >= 0x20 && *p < 0x80 && *p != '"' && *p != '\\') {
        p++;
    }

    return p;
}


const unsigned char *
llm_json_string(llm_json_t *js, const unsigned char *p)
{
    const unsigned char  *next, *start;

    start = p;

    js->escaped = 0;
    js->size = 0;

    for ( ;; ) {
        p = llm_json_plain(p, js->last);

        if (p == js->last) {
            return llm_json_fault(js, p, "it ends before it is complete");
        }

        if (*p == '"') {
            /* "size" holds, so far, what decoding will save */
            js->size = (size_t) (p - start) - js->size;
            return p;
        }

        if (*p == '\\') {
            p = llm_json_escape(js, p);
            if (p == NULL) {
                return NULL;
            }

            continue;
        }

        if (*p < 0x20) {
            return llm_json_fault(js, p,
                             "a control character in a string is not escaped");
        }

        do {
            next = llm_json_utf8(p, js->last);
            if (next == NULL) {
                return llm_json_fault(js, p, "a string is not valid UTF-8");
            }

            p = next;
        } while (p < js->last && *p >= 0x80);
    }
}


static const unsigned char *
llm_json_escape(llm_json_t *js, const unsigned char *p)
{
    js->escaped = 1;

    if (p + 1 == js->last) {
        return llm_json_fault(js, p + 1, "it ends before it is complete");
    }

    switch (p[1]) {

    case 'n': case '"': case '\\': case '/':
    case 't': case 'r': case 'b': case 'f':
        js->size++;
        return p + 2;

    case 'u':
        return llm_json_unicode(js, p);

    default:
        return llm_json_fault(js, p + 1, "an escape sequence is unknown");
    }
}


static const unsigned char *
llm_json_unicode(llm_json_t *js, const unsigned char *p)
{
    int  code;

    code = llm_json_hex4(js, p + 2);
    if (code < 0) {
        return NULL;
    }

    if ((code & 0xf800) != 0xd800) {
        js->size += code < 0x80 ? 5 : code < 0x800 ? 4 : 3;
        return p + 6;
    }

    if (code >= 0xdc00 || js->last - p < 8 || p[6] != '\\' || p[7] != 'u') {

        if (code < 0xdc00 && (p + 6 == js->last
                              || (p + 7 == js->last && p[6] == '\\')))
        {
            return llm_json_fault(js, js->last,
                                  "it ends before it is complete");
        }

        return llm_json_fault(js, p, "a surrogate escape stands alone");
    }

    code = llm_json_hex4(js, p + 8);
    if (code < 0) {
        return NULL;
    }

    if ((code & 0xfc00) != 0xdc00) {
        return llm_json_fault(js, p, "a surrogate escape stands alone");
    }

    js->size += 8;

    return p + 12;
}


static inline int
llm_json_hex(unsigned char c)
{
    if ((unsigned) (c - '0') < 10) {
        return c - '0';
    }

    c |= 0x20;

    if ((unsigned) (c - 'a') < 6) {
        return c - 'a' + 10;
    }

    return -1;
}


static int
llm_json_hex4(llm_json_t *js, const unsigned char *p)
{
    int  i, digit, code;

    code = 0;

    for (i = 0; i < 4; i++) {

        if (p + i == js->last) {
            (void) llm_json_fault(js, p + i, "it ends before it is complete");
            return -1;
        }

        digit = llm_json_hex(p[i]);

        if (digit < 0) {
            (void) llm_json_fault(js, p + i, "expected a hexadecimal digit");
            return -1;
        }

        code = code << 4 | digit;
    }

    return code;
}


/* one character of RFC 3629 that is not ASCII; NULL: it is none */

static const unsigned char *
llm_json_utf8(const unsigned char *p, const unsigned char *last)
{
    unsigned char  c;

    c = *p;

    if (c >= 0xe0 && c < 0xf0) {

        if (last - p < 3 || (p[1] & 0xc0) != 0x80 || (p[2] & 0xc0) != 0x80
            || (c == 0xe0 && p[1] < 0xa0)           /* overlong */
            || (c == 0xed && p[1] >= 0xa0))         /* surrogate */
        {
            return NULL;
        }

        return p + 3;
    }

    if (c < 0xe0) {

        if (c < 0xc2 || last - p < 2 || (p[1] & 0xc0) != 0x80) {
            return NULL;
        }

        return p + 2;
    }

    if (c > 0xf4 || last - p < 4 || (p[1] & 0xc0) != 0x80
        || (p[2] & 0xc0) != 0x80 || (p[3] & 0xc0) != 0x80
        || (c == 0xf0 && p[1] < 0x90)               /* overlong */
        || (c == 0xf4 && p[1] >= 0x90))             /* above U+10FFFF */
    {
        return NULL;
    }

    return p + 4;
}


static const unsigned char *
llm_json_fault(llm_json_t *js, const unsigned char *p, const char *error)
{
    js->pos = p;
    js->error = error;

    return NULL;
}


size_t
llm_json_unescape(const unsigned char **pos, unsigned char *out)
{
    unsigned              code;
    const unsigned char  *p;

    p = *pos + 1;

    if (*p != 'u') {
        *pos = p + 1;

        switch (*p) {
        case 'n':  *out = '\n';  break;
        case 't':  *out = '\t';  break;
        case 'r':  *out = '\r';  break;
        case 'b':  *out = '\b';  break;
        case 'f':  *out = '\f';  break;
        default:   *out = *p;                       /* stands for itself */
        }

        return 1;
    }

#define llm_json_code(p)                                                      \
    ((unsigned) (llm_json_hex((p)[0]) << 12 | llm_json_hex((p)[1]) << 8       \
                 | llm_json_hex((p)[2]) << 4 | llm_json_hex((p)[3])))

    code = llm_json_code(p + 1);
    *pos = p + 5;

    if (code < 0x80) {
        out[0] = (unsigned char) code;
        return 1;
    }

    if (code < 0x800) {
        out[0] = (unsigned char) (0xc0 | code >> 6);
        out[1] = (unsigned char) (0x80 | (code & 0x3f));
        return 2;
    }

    if ((code & 0xfc00) != 0xd800) {
        out[0] = (unsigned char) (0xe0 | code >> 12);
        out[1] = (unsigned char) (0x80 | (code >> 6 & 0x3f));
        out[2] = (unsigned char) (0x80 | (code & 0x3f));
        return 3;
    }

    code = 0x10000 + ((code & 0x3ff) << 10) + (llm_json_code(p + 7) & 0x3ff);
    *pos = p + 11;

    out[0] = (unsigned char) (0xf0 | code >> 18);
    out[1] = (unsigned char) (0x80 | (code >> 12 & 0x3f));
    out[2] = (unsigned char) (0x80 | (code >> 6 & 0x3f));
    out[3] = (unsigned char) (0x80 | (code & 0x3f));

    return 4;
}


/* "out" has room for js->size bytes, which is what this writes */

static void
llm_json_decode(const llm_json_t *js, unsigned char *out)
{
    const unsigned char  *p, *end, *slash;

    p = js->start + 1;
    end = js->end - 1;

    while (p < end) {
        slash = memchr(p, '\\', (size_t) (end - p));

        if (slash == NULL) {
            slash = end;
        }

        memcpy(out, p, (size_t) (slash - p));
        out += slash - p;
        p = slash;

        if (p < end) {
            out += llm_json_unescape(&p, out);
        }
    }
}


int
llm_json_text(const llm_json_t *js, llm_arena_t *arena, llm_str_t *text)
{
    text->len = js->size;

    if (!js->escaped) {
        text->data = (unsigned char *) js->start + 1;
        return LLM_OK;
    }

    text->data = llm_arena_alloc(arena, js->size);
    if (text->data == NULL) {
        return LLM_ERROR;
    }

    llm_json_decode(js, text->data);

    return LLM_OK;
}


int
llm_json_is(const llm_json_t *js, const char *s, size_t len)
{
    unsigned char  buf[32];

    if (js->size != len || len > sizeof(buf)) {
        return 0;
    }

    if (!js->escaped) {
        return memcmp(js->start + 1, s, len) == 0;
    }

    llm_json_decode(js, buf);

    return memcmp(buf, s, len) == 0;
}
