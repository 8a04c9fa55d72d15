
/*
 * Copyright (C) the ngx-llm authors
 *
 * Strings of the JSON scanner: nearly all bytes of a body are theirs, so
 * the bytes that need no attention are passed by in large steps.
 */


#include <string.h>

#include "core/llm_json_private.h"


#define LLM_JSON_ONES   0x0101010101010101
#define LLM_JSON_HIGHS  0x8080808080808080

/* what a letter behind a backslash stands for */

static const unsigned char  llm_json_escapes[256] = {
    ['"'] = '"',  ['\\'] = '\\', ['/'] = '/',  ['b'] = '\b',
    ['f'] = '\f', ['n'] = '\n',  ['r'] = '\r', ['t'] = '\t'
};

/* one more than the value of a hexadecimal digit */

static const unsigned char  llm_json_hex[256] = {
    ['0'] = 1,  ['1'] = 2,  ['2'] = 3,  ['3'] = 4,  ['4'] = 5,
    ['5'] = 6,  ['6'] = 7,  ['7'] = 8,  ['8'] = 9,  ['9'] = 10,
    ['a'] = 11, ['b'] = 12, ['c'] = 13, ['d'] = 14, ['e'] = 15, ['f'] = 16,
    ['A'] = 11, ['B'] = 12, ['C'] = 13, ['D'] = 14, ['E'] = 15, ['F'] = 16
};


static const unsigned char *llm_json_rare(llm_json_t *js,
    const unsigned char *p);
static inline const unsigned char *llm_json_escape(llm_json_t *js,
    const unsigned char *p);
static const unsigned char *llm_json_unicode(llm_json_t *js,
    const unsigned char *p);
static int llm_json_hex4(llm_json_t *js, const unsigned char *p);
static inline const unsigned char *llm_json_utf8(const unsigned char *p,
    const unsigned char *last);
static const unsigned char *llm_json_fault(llm_json_t *js,
    const unsigned char *p, const char *error);


/*
 * Where the next bytes are that need a look: a quote, a backslash, a control
 * character, not ASCII.  Passes by the blocks without any; a bit is set for
 * each in the block at *p, which ends at *next.  0: there is none to "last".
 */

static inline uint32_t
llm_json_stops(const llm_json_t *js, const unsigned char **p,
    const unsigned char **next)
{
    const unsigned char  *s, *last;

    s = *p;
    last = js->last;

#if (LLM_JSON_SSE2)

    uint32_t  mask;

    for ( /* void */ ; last - s >= 32; s += 32) {
        mask = llm_json_mask(s);

        if (mask != 0) {
            *p = s;
            *next = s + 32;
            return mask;
        }
    }

    if (last - js->text >= 32) {

        /* the last 32 bytes of the text, without those that were looked at */

        *p = s;
        *next = last;

        return s == last ? 0 : llm_json_mask(last - 32) >> (32 - (last - s));
    }

#else

    uint64_t  v, quote, slash;

    while (last - s >= 8) {
        memcpy(&v, s, 8);

        quote = v ^ (LLM_JSON_ONES * '"');
        slash = v ^ (LLM_JSON_ONES * '\\');

        /*
         * A borrow may mark a good byte next to a bad one, never a word
         * without any: the loop below finds the byte itself.
         */

        if (((quote - LLM_JSON_ONES) | (slash - LLM_JSON_ONES)
             | (v - LLM_JSON_ONES * 0x20) | v) & LLM_JSON_HIGHS)
        {
            break;
        }

        s += 8;
    }

#endif

    while (s < last && *s >= 0x20 && *s < 0x80 && *s != '"' && *s != '\\') {
        s++;
    }

    *p = s;
    *next = s + 1;

    return s < last;
}


const unsigned char *
llm_json_string(llm_json_t *js, const unsigned char *start,
    const unsigned char *p)
{
    size_t                saved;
    unsigned              n;
    uint64_t              mask;
    const unsigned char  *block, *next, *last;

    js->escaped = 0;
    js->size = 0;

    last = js->last;
    saved = 0;

    for ( ;; ) {
        mask = llm_json_stops(js, &p, &next);

        if (mask == 0) {
            return llm_json_fault(js, last, "it ends before it is complete");
        }

        block = p;

        do {
            n = (unsigned) __builtin_ctzll(mask);
            p = block + n;

            if (*p == '"') {
                /* "size" holds, so far, what decoding will save */
                js->size = (size_t) (p - start) - js->size - saved;
                js->escaped |= (saved != 0);
                return p;
            }

            if (*p != '\\' || p + 1 == last || llm_json_escapes[p[1]] == 0) {
                next = llm_json_rare(js, p);
                p = next;
                break;
            }

            /* the rest of the block need not be looked at again */

            saved++;
            p += 2;
            block = p;
            mask >>= n + 2;

        } while (mask != 0);

        if (next == NULL) {
            return NULL;
        }

        p = p > next ? p : next;
    }
}


/* at a byte that is neither plain nor a quote: behind all such ones */

static const unsigned char *
llm_json_rare(llm_json_t *js, const unsigned char *p)
{
    const unsigned char  *next;

    if (*p == '\\') {

        do {
            p = llm_json_escape(js, p);
        } while (p != NULL && p < js->last && *p == '\\');

        return p;
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

    return p;
}


static inline const unsigned char *
llm_json_escape(llm_json_t *js, const unsigned char *p)
{
    js->escaped = 1;

    if (p + 1 == js->last) {
        return llm_json_fault(js, p + 1, "it ends before it is complete");
    }

    if (llm_json_escapes[p[1]] != 0) {
        js->size++;
        return p + 2;
    }

    if (p[1] == 'u') {
        return llm_json_unicode(js, p);
    }

    return llm_json_fault(js, p + 1, "an escape sequence is unknown");
}


/* the four digits at p, or above 0xffff: not all of them are digits */

static inline unsigned
llm_json_code(const unsigned char *p)
{
    unsigned  a, b, c, d;

    a = llm_json_hex[p[0]] - 1u;
    b = llm_json_hex[p[1]] - 1u;
    c = llm_json_hex[p[2]] - 1u;
    d = llm_json_hex[p[3]] - 1u;

    return ((a | b | c | d) & 0x10000) | (a << 12 & 0xf000)
           | (b << 8 & 0xf00) | (c << 4 & 0xf0) | (d & 0xf);
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


static int
llm_json_hex4(llm_json_t *js, const unsigned char *p)
{
    unsigned              code;
    const unsigned char  *end;

    if (js->last - p >= 4) {
        code = llm_json_code(p);

        if (code <= 0xffff) {
            return (int) code;
        }
    }

    end = js->last - p >= 4 ? p + 4 : js->last;

    while (p < end && llm_json_hex[*p] != 0) {
        p++;
    }

    (void) llm_json_fault(js, p, p == js->last
                                 ? "it ends before it is complete"
                                 : "expected a hexadecimal digit");
    return -1;
}


/* one character of RFC 3629 that is not ASCII; NULL: it is none */

static inline const unsigned char *
llm_json_utf8(const unsigned char *p, const unsigned char *last)
{
    unsigned char  c;

#if (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__)

    uint32_t  v, bits;

    if (last - p >= 4) {
        memcpy(&v, p, 4);

        /* the common case: three bytes, and no special one among the leads */

        bits = v & 0x200f;

        if ((v & 0xc0c0f0) == 0x8080e0 && bits != 0 && bits != 0x200d) {
            return p + 3;
        }
    }

#endif

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

    p = *pos;

    if (p[1] != 'u') {
        *out = llm_json_escapes[p[1]];
        *pos = p + 2;
        return 1;
    }

    code = llm_json_code(p + 2);
    *pos = p + 6;

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

    code = 0x10000 + ((code & 0x3ff) << 10) + (llm_json_code(p + 8) & 0x3ff);
    *pos = p + 12;

    out[0] = (unsigned char) (0xf0 | code >> 18);
    out[1] = (unsigned char) (0x80 | (code >> 12 & 0x3f));
    out[2] = (unsigned char) (0x80 | (code >> 6 & 0x3f));
    out[3] = (unsigned char) (0x80 | (code & 0x3f));

    return 4;
}


size_t
llm_json_decode(const unsigned char *p, const unsigned char *end,
    unsigned char *out)
{
    unsigned char        *start;
    const unsigned char  *slash;

    start = out;

    for ( ;; ) {
        slash = memchr(p, '\\', (size_t) (end - p));

        if (slash == NULL) {
            memcpy(out, p, (size_t) (end - p));
            return (size_t) (out - start) + (size_t) (end - p);
        }

        memcpy(out, p, (size_t) (slash - p));
        out += slash - p;

        p = slash;
        out += llm_json_unescape(&p, out);
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

    (void) llm_json_decode(js->start + 1, js->end - 1, text->data);

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

    (void) llm_json_decode(js->start + 1, js->end - 1, buf);

    return memcmp(buf, s, len) == 0;
}
