
/*
 * Copyright (C) the ngx-llm authors
 *
 * Most events are a few words of a completion.  To tell so costs one search
 * for line ends and one for names; JSON is read where a name was found whose
 * value is not null, by a reader that goes from value to value and looks into
 * no more of them than it must.
 */


#include "core/llm_sse.h"

#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif


/* how far one kind of line end is looked for before the other kind is */

#define LLM_SSE_CHUNK  512

/* an object "usage" has some 300 bytes */

#define LLM_SSE_USAGE_LEN  4096

#define LLM_SSE_NAME       "\"usage\":"


typedef enum {
    LLM_SSE_FIELD_END = 0,
    LLM_SSE_FIELD_DATA,
    LLM_SSE_FIELD_EVENT
} llm_sse_field_e;


typedef struct {
    unsigned char        *pos;             /* start of the next line */
    unsigned char        *end;
} llm_sse_lines_t;


/*
 * A reader of the data as one JSON text.  A line end can only be white space
 * between two tokens, so that each token lies within one data line.
 */

typedef struct {
    unsigned char        *pos;
    unsigned char        *end;             /* of this data line */
    llm_sse_lines_t       lines;           /* those after it */

    unsigned              fresh:1;         /* just behind "{" or "[" */
} llm_sse_reader_t;


typedef struct {
    llm_sse_reader_t      reader;

    unsigned              bits;
    unsigned              choices;

    llm_sse_reader_t      usage;           /* stands before the object … */
    unsigned char        *usage_end;       /* … that ends here, or NULL */
} llm_sse_chunk_t;


static const unsigned char *llm_sse_eol(const unsigned char *p,
    const unsigned char *end);
static void llm_sse_lines(llm_sse_lines_t *ls, unsigned char *event,
    size_t len);
static llm_sse_field_e llm_sse_field(llm_sse_lines_t *ls, llm_str_t *value);
static unsigned llm_sse_type(const unsigned char *p, size_t len);
static int llm_sse_done(const llm_str_t *data);
static int llm_sse_suspect(const unsigned char *p, const unsigned char *end);
static int llm_sse_telling(const unsigned char *p, const unsigned char *end);
static int llm_sse_chunk(llm_sse_chunk_t *ch);
static int llm_sse_member(llm_sse_chunk_t *ch, const llm_str_t *name);
static int llm_sse_response(llm_sse_chunk_t *ch);
static int llm_sse_choices(llm_sse_chunk_t *ch);
static int llm_sse_choice(llm_sse_chunk_t *ch);
static int llm_sse_object(llm_sse_chunk_t *ch);
static int llm_sse_usage(llm_sse_chunk_t *ch, llm_endpoint_e endpoint,
    llm_usage_t *usage);
static int llm_sse_peek(llm_sse_reader_t *r);
static int llm_sse_null(llm_sse_reader_t *r);
static int llm_sse_item(llm_sse_reader_t *r, int close);
static int llm_sse_name(llm_sse_reader_t *r, llm_str_t *name);
static int llm_sse_string(llm_sse_reader_t *r, llm_str_t *value);
static int llm_sse_scalar(llm_sse_reader_t *r);
static int llm_sse_skip(llm_sse_reader_t *r);


static inline int
llm_sse_is(const llm_str_t *s, const char *name, size_t len)
{
    return s->len == len && memcmp(s->data, name, len) == 0;
}


#define llm_sse_equal(s, name)  llm_sse_is(s, name, sizeof(name) - 1)


size_t
llm_sse_next(const unsigned char *p, size_t len, size_t *scan)
{
    size_t  i, before;

    i = *scan;

    while (i < len) {

        i = (size_t) (llm_sse_eol(p + i, p + len) - p);

        if (i == len) {
            break;
        }

        /*
         * What the bytes in front say is enough, so that there is no state
         * to be kept: a line is blank if a line end is in front of its own.
         */

        if (i != 0 && (p[i - 1] == '\n'
                       || (p[i - 1] == '\r' && p[i] == '\r')))
        {
            before = i - 1;

            if (p[before] == '\n' && before != 0 && p[before - 1] == '\r') {
                before--;
            }

            /* it ends the event if the line in front of it is not blank */

            if (before != 0 && p[before - 1] != '\n'
                && p[before - 1] != '\r')
            {
                i++;

                if (p[i - 1] == '\r' && i < len && p[i] == '\n') {
                    i++;
                }

                *scan = 0;

                return i;
            }
        }

        i++;
    }

    *scan = i;

    return 0;
}


unsigned
llm_sse_classify(llm_endpoint_e endpoint, unsigned char *event, size_t len,
    llm_usage_t *usage)
{
    unsigned         n, type, suspect;
    llm_str_t        value, data;
    llm_sse_chunk_t  ch;
    llm_sse_field_e  field;
    llm_sse_lines_t  ls;

    n = 0;
    type = 0;
    suspect = 0;

    llm_sse_lines(&ls, event, len);

    while ((field = llm_sse_field(&ls, &value)) != LLM_SSE_FIELD_END) {

        if (field == LLM_SSE_FIELD_EVENT) {
            type = llm_sse_type(value.data, value.len);
            continue;
        }

        if (n++ == 0) {
            data = value;
            ch.reader.lines = ls;
        }

        if (!suspect) {
            suspect = llm_sse_suspect(value.data, value.data + value.len);
        }
    }

    if (n == 0) {
        return type & LLM_SSE_ERROR;
    }

    if (n == 1 && llm_sse_done(&data)) {
        return LLM_SSE_DATA|LLM_SSE_DONE|(type & LLM_SSE_ERROR);
    }

    if (!suspect && type == 0) {
        return LLM_SSE_DATA;
    }

    ch.reader.pos = data.data;
    ch.reader.end = data.data + data.len;
    ch.bits = LLM_SSE_DATA|type;
    ch.choices = 0;
    ch.usage_end = NULL;

    /* the end of an answer must be whole, an error need not be */

    if (llm_sse_chunk(&ch) != LLM_OK
        || llm_sse_usage(&ch, endpoint, usage) != LLM_OK)
    {
        return ch.bits & (LLM_SSE_DATA|LLM_SSE_ERROR);
    }

    return ch.bits;
}


int
llm_sse_data(unsigned char *event, size_t len, llm_arena_t *arena,
    llm_str_t *data)
{
    size_t           size;
    unsigned         n;
    llm_str_t        value;
    llm_sse_field_e  field;
    llm_sse_lines_t  ls;

    n = 0;
    size = 0;

    llm_sse_lines(&ls, event, len);

    while ((field = llm_sse_field(&ls, &value)) != LLM_SSE_FIELD_END) {
        if (field == LLM_SSE_FIELD_DATA) {
            *data = value;
            size += value.len + 1;
            n++;
        }
    }

    if (n == 0) {
        return LLM_DECLINED;
    }

    if (n == 1) {
        return LLM_OK;
    }

    data->data = llm_arena_alloc(arena, size);
    if (data->data == NULL) {
        return LLM_ERROR;
    }

    data->len = 0;

    llm_sse_lines(&ls, event, len);

    while ((field = llm_sse_field(&ls, &value)) != LLM_SSE_FIELD_END) {
        if (field == LLM_SSE_FIELD_DATA) {
            memcpy(data->data + data->len, value.data, value.len);
            data->len += value.len;
            data->data[data->len++] = '\n';
        }
    }

    /* a line feed goes between two lines only */

    data->len--;

    return LLM_OK;
}


/* the first CR or LF, or end; bounded: there may be none of one kind */

static const unsigned char *
llm_sse_eol(const unsigned char *p, const unsigned char *end)
{
    size_t                n;
    const unsigned char  *lf, *cr;

    if (p < end && (*p == '\n' || *p == '\r')) {
        return p;
    }

    while (p < end) {
        n = (size_t) (end - p);

        if (n > LLM_SSE_CHUNK) {
            n = LLM_SSE_CHUNK;
        }

        lf = memchr(p, '\n', n);

        if (lf != NULL) {
            n = (size_t) (lf - p);
        }

        cr = memchr(p, '\r', n);

        if (cr != NULL) {
            return cr;
        }

        if (lf != NULL) {
            return lf;
        }

        p += n;
    }

    return end;
}


static void
llm_sse_lines(llm_sse_lines_t *ls, unsigned char *event, size_t len)
{
    ls->pos = event;
    ls->end = event + len;

    /* a byte order mark in front of a stream is none of the first name */

    if (len >= 3 && memcmp(event, "\xef\xbb\xbf", 3) == 0) {
        ls->pos += 3;
    }
}


/*
 * The next field of those that matter.  The line feed of a CRLF is a blank
 * line here, and those mean nothing within an event.
 */

static llm_sse_field_e
llm_sse_field(llm_sse_lines_t *ls, llm_str_t *value)
{
    unsigned char    *p, *eol;
    llm_sse_field_e   field;

    while (ls->pos < ls->end) {
        p = ls->pos;
        eol = (unsigned char *) llm_sse_eol(p, ls->end);
        ls->pos = eol < ls->end ? eol + 1 : eol;

        if (eol - p >= 4 && memcmp(p, "data", 4) == 0) {
            field = LLM_SSE_FIELD_DATA;
            p += 4;

        } else if (eol - p >= 5 && memcmp(p, "event", 5) == 0) {
            field = LLM_SSE_FIELD_EVENT;
            p += 5;

        } else {
            continue;
        }

        if (p < eol) {
            if (*p++ != ':') {
                continue;
            }

            if (p < eol && *p == ' ') {
                p++;
            }
        }

        value->data = p;
        value->len = (size_t) (eol - p);

        return field;
    }

    return LLM_SSE_FIELD_END;
}


static unsigned
llm_sse_type(const unsigned char *p, size_t len)
{
    llm_str_t  type;

    type.data = (unsigned char *) p;
    type.len = len;

    if (llm_sse_equal(&type, "error")
        || llm_sse_equal(&type, "response.failed"))
    {
        return LLM_SSE_ERROR;
    }

    if (llm_sse_equal(&type, "response.completed")
        || llm_sse_equal(&type, "response.incomplete"))
    {
        return LLM_SSE_DONE;
    }

    return 0;
}


static int
llm_sse_done(const llm_str_t *data)
{
    size_t  i;

    if (data->len < 6 || memcmp(data->data, "[DONE]", 6) != 0) {
        return 0;
    }

    for (i = 6; i < data->len; i++) {
        if (data->data[i] != ' ' && data->data[i] != '\t') {
            return 0;
        }
    }

    return 1;
}


/*
 * Is there anything that could make the event more than a piece of text?
 * Names inside generated text do not look like names, since their quotes are
 * escaped; what is left of false alarms is for the reader to tell.
 */

static int
llm_sse_suspect(const unsigned char *p, const unsigned char *end)
{
#if defined(__SSE2__)
    unsigned  mask;
    __m128i   x, y, m;

    for ( ; end - p > 16; p += 16) {

        x = _mm_loadu_si128((const __m128i *) (const void *) p);
        y = _mm_loadu_si128((const __m128i *) (const void *) (p + 1));

        /* '"' and then the first letter of one of the names */

        m = _mm_or_si128(_mm_cmpeq_epi8(y, _mm_set1_epi8('e')),
                         _mm_cmpeq_epi8(y, _mm_set1_epi8('f')));
        m = _mm_or_si128(m, _mm_cmpeq_epi8(y, _mm_set1_epi8('u')));
        m = _mm_or_si128(m, _mm_cmpeq_epi8(y, _mm_set1_epi8('r')));
        m = _mm_and_si128(m, _mm_cmpeq_epi8(x, _mm_set1_epi8('"')));

        mask = (unsigned) _mm_movemask_epi8(m);

        for ( ; mask != 0; mask &= mask - 1) {
            if (llm_sse_telling(p + __builtin_ctz(mask), end)) {
                return 1;
            }
        }
    }
#endif

    while (p < end) {
        p = memchr(p, '"', (size_t) (end - p));

        if (p == NULL) {
            return 0;
        }

        if (llm_sse_telling(p, end)) {
            return 1;
        }

        p++;
    }

    return 0;
}


/* at '"': a name whose value is not null, or one of the types */

static int
llm_sse_telling(const unsigned char *p, const unsigned char *end)
{
    size_t                i, len;
    const unsigned char  *name;

    static const llm_str_t  names[] = {
        llm_string("error\""),
        llm_string("usage\""),
        llm_string("finish_reason\"")
    };

    static const llm_str_t  types[] = {
        llm_string("response.failed\""),
        llm_string("response.completed\""),
        llm_string("response.incomplete\"")
    };

    name = p + 1;
    len = (size_t) (end - name);

    if (len < names[0].len) {
        return 0;
    }

    if (*name == 'r') {
        for (i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
            if (len >= types[i].len
                && memcmp(name, types[i].data, types[i].len) == 0)
            {
                return 1;
            }
        }

        return 0;
    }

    for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (*name == names[i].data[0] && len >= names[i].len
            && memcmp(name, names[i].data, names[i].len) == 0)
        {
            break;
        }
    }

    if (i == sizeof(names) / sizeof(names[0])) {
        return 0;
    }

    p = name + names[i].len;

    while (p < end && (*p == ' ' || *p == '\t')) {
        p++;
    }

    if (p < end && *p != ':') {

        /* a value: {"type":"error"} */

        return i == 0;
    }

    for (p++; p < end && (*p == ' ' || *p == '\t'); p++) { /* void */ }

    /* if the line ends here the value is on the next one */

    return !(end - p >= 4 && memcmp(p, "null", 4) == 0);
}


static int
llm_sse_chunk(llm_sse_chunk_t *ch)
{
    int                rc;
    llm_str_t          name;
    llm_sse_reader_t  *r;

    r = &ch->reader;

    if (llm_sse_peek(r) != '{') {
        return LLM_ERROR;
    }

    r->pos++;
    r->fresh = 1;

    while ((rc = llm_sse_item(r, '}')) == LLM_OK) {
        if (llm_sse_name(r, &name) != LLM_OK
            || llm_sse_member(ch, &name) != LLM_OK)
        {
            return LLM_ERROR;
        }
    }

    if (rc != LLM_DECLINED || llm_sse_peek(r) != -1) {
        return LLM_ERROR;
    }

    return LLM_OK;
}


static int
llm_sse_member(llm_sse_chunk_t *ch, const llm_str_t *name)
{
    llm_str_t          type;
    llm_sse_reader_t  *r;

    r = &ch->reader;

    if (llm_sse_equal(name, "error")) {
        if (!llm_sse_null(r)) {
            ch->bits |= LLM_SSE_ERROR;
        }

        return llm_sse_skip(r);
    }

    if (llm_sse_equal(name, "type") && *r->pos == '"') {
        if (llm_sse_string(r, &type) != LLM_OK) {
            return LLM_ERROR;
        }

        ch->bits |= llm_sse_type(type.data, type.len);

        return LLM_OK;
    }

    if (llm_sse_equal(name, "usage") && *r->pos == '{') {
        return llm_sse_object(ch);
    }

    if (llm_sse_equal(name, "response") && *r->pos == '{') {
        return llm_sse_response(ch);
    }

    if (llm_sse_equal(name, "choices") && *r->pos == '[') {
        return llm_sse_choices(ch);
    }

    return llm_sse_skip(r);
}


static int
llm_sse_response(llm_sse_chunk_t *ch)
{
    int                rc;
    llm_str_t          name;
    llm_sse_reader_t  *r;

    r = &ch->reader;
    r->pos++;
    r->fresh = 1;

    while ((rc = llm_sse_item(r, '}')) == LLM_OK) {
        if (llm_sse_name(r, &name) != LLM_OK) {
            return LLM_ERROR;
        }

        if (llm_sse_equal(&name, "usage") && *r->pos == '{') {
            rc = llm_sse_object(ch);

        } else {
            rc = llm_sse_skip(r);
        }

        if (rc != LLM_OK) {
            return LLM_ERROR;
        }
    }

    return rc == LLM_DECLINED ? LLM_OK : LLM_ERROR;
}


static int
llm_sse_choices(llm_sse_chunk_t *ch)
{
    int                rc;
    llm_sse_reader_t  *r;

    r = &ch->reader;
    r->pos++;
    r->fresh = 1;

    while ((rc = llm_sse_item(r, ']')) == LLM_OK) {
        ch->choices++;

        rc = *r->pos == '{' ? llm_sse_choice(ch) : llm_sse_skip(r);

        if (rc != LLM_OK) {
            return LLM_ERROR;
        }
    }

    return rc == LLM_DECLINED ? LLM_OK : LLM_ERROR;
}


static int
llm_sse_choice(llm_sse_chunk_t *ch)
{
    int                rc;
    llm_str_t          name;
    llm_sse_reader_t  *r;

    r = &ch->reader;
    r->pos++;
    r->fresh = 1;

    while ((rc = llm_sse_item(r, '}')) == LLM_OK) {
        if (llm_sse_name(r, &name) != LLM_OK) {
            return LLM_ERROR;
        }

        if (llm_sse_equal(&name, "finish_reason") && !llm_sse_null(r)) {
            ch->bits |= LLM_SSE_FINISH;
        }

        if (llm_sse_skip(r) != LLM_OK) {
            return LLM_ERROR;
        }
    }

    return rc == LLM_DECLINED ? LLM_OK : LLM_ERROR;
}


static int
llm_sse_object(llm_sse_chunk_t *ch)
{
    ch->usage = ch->reader;

    if (llm_sse_skip(&ch->reader) != LLM_OK) {
        return LLM_ERROR;
    }

    ch->usage_end = ch->reader.pos;

    return LLM_OK;
}


/* hands over the object "usage" alone: the rest has been read */

static int
llm_sse_usage(llm_sse_chunk_t *ch, llm_endpoint_e endpoint,
    llm_usage_t *usage)
{
    size_t             n, len;
    llm_answer_t       an;
    unsigned char     *last, buf[LLM_SSE_USAGE_LEN];
    llm_sse_reader_t  *r;

    if (ch->usage_end == NULL) {
        return LLM_OK;
    }

    r = &ch->usage;
    buf[0] = '{';
    len = sizeof(LLM_SSE_NAME);
    memcpy(buf + 1, LLM_SSE_NAME, len - 1);

    do {
        last = ch->usage_end <= r->end ? ch->usage_end : r->end;
        n = (size_t) (last - r->pos);

        if (n > sizeof(buf) - len - 1) {
            return LLM_ERROR;
        }

        memcpy(buf + len, r->pos, n);
        len += n;
        r->pos = last;

        /* goes on to the next line if there is more */

    } while (last != ch->usage_end && llm_sse_peek(r) != -1);

    buf[len++] = '}';

    llm_answer_scan(&an, endpoint, buf, len);

    if (!an.valid) {
        return LLM_ERROR;
    }

    ch->bits |= LLM_SSE_USAGE;

    if (usage != NULL) {
        *usage = an.usage;
    }

    return LLM_OK;
}


/* goes to the next token: its first character, or -1 at the end */

static int
llm_sse_peek(llm_sse_reader_t *r)
{
    llm_str_t        value;
    llm_sse_field_e  field;

    for ( ;; ) {
        while (r->pos < r->end) {
            if (*r->pos != ' ' && *r->pos != '\t') {
                return *r->pos;
            }

            r->pos++;
        }

        do {
            field = llm_sse_field(&r->lines, &value);

            if (field == LLM_SSE_FIELD_END) {
                return -1;
            }

        } while (field != LLM_SSE_FIELD_DATA);

        r->pos = value.data;
        r->end = value.data + value.len;
    }
}


static int
llm_sse_null(llm_sse_reader_t *r)
{
    return r->end - r->pos >= 4 && memcmp(r->pos, "null", 4) == 0;
}


/* LLM_OK: stands before an item; LLM_DECLINED: behind the last */

static int
llm_sse_item(llm_sse_reader_t *r, int close)
{
    int  c;

    c = llm_sse_peek(r);

    if (c == close) {
        r->pos++;
        r->fresh = 0;
        return LLM_DECLINED;
    }

    if (!r->fresh) {
        if (c != ',') {
            return LLM_ERROR;
        }

        r->pos++;
        c = llm_sse_peek(r);
    }

    r->fresh = 0;

    return c == -1 ? LLM_ERROR : LLM_OK;
}


/* a member's name, still escaped, and on to its value */

static int
llm_sse_name(llm_sse_reader_t *r, llm_str_t *name)
{
    if (llm_sse_string(r, name) != LLM_OK || llm_sse_peek(r) != ':') {
        return LLM_ERROR;
    }

    r->pos++;

    return llm_sse_peek(r) == -1 ? LLM_ERROR : LLM_OK;
}


static int
llm_sse_string(llm_sse_reader_t *r, llm_str_t *value)
{
    unsigned char  *p, *back;

    if (*r->pos != '"') {
        return LLM_ERROR;
    }

    value->data = r->pos + 1;

    for (p = value->data; p < r->end; p++) {

        p = memchr(p, '"', (size_t) (r->end - p));

        if (p == NULL) {
            break;
        }

        /* an odd number of backslashes escapes the quote */

        for (back = p; back[-1] == '\\'; back--) { /* void */ }

        if ((p - back) % 2 == 0) {
            value->len = (size_t) (p - value->data);
            r->pos = p + 1;

            return LLM_OK;
        }
    }

    return LLM_ERROR;
}


static int
llm_sse_scalar(llm_sse_reader_t *r)
{
    unsigned char  *start;

    for (start = r->pos; r->pos < r->end; r->pos++) {
        switch (*r->pos) {
        case ' ': case '\t': case ',': case ':': case '"':
        case '{': case '}': case '[': case ']':
            return r->pos != start ? LLM_OK : LLM_ERROR;
        }
    }

    return LLM_OK;
}


/* over one value; what is balanced will do, grammar is the client's concern */

static int
llm_sse_skip(llm_sse_reader_t *r)
{
    int        c;
    uint64_t   kinds;
    unsigned   depth;
    llm_str_t  value;

    kinds = 0;
    depth = 0;

    do {
        c = llm_sse_peek(r);

        switch (c) {

        case '{':
        case '[':
            if (depth++ == LLM_JSON_DEPTH) {
                return LLM_ERROR;
            }

            kinds = kinds << 1 | (c == '{');
            r->pos++;
            break;

        case '}':
        case ']':
            if (depth-- == 0 || (kinds & 1) != (c == '}')) {
                return LLM_ERROR;
            }

            kinds >>= 1;
            r->pos++;
            break;

        case ',':
        case ':':
            if (depth == 0) {
                return LLM_ERROR;
            }

            r->pos++;
            break;

        case '"':
            if (llm_sse_string(r, &value) != LLM_OK) {
                return LLM_ERROR;
            }

            break;

        default:
            if (c == -1 || llm_sse_scalar(r) != LLM_OK) {
                return LLM_ERROR;
            }
        }

    } while (depth != 0);

    return LLM_OK;
}
