
/*
 * Copyright (C) the ngx-llm authors
 *
 * Most events are a few words of a completion.  To tell so costs one search
 * for line ends and one for names; JSON is read (llm_sse_chunk.c) only where
 * a name was found whose value is not null.
 */


#include "core/llm_sse_private.h"
#include "core/llm_dialect.h"

#include <string.h>


/* how far one kind of line end is looked for before the other kind is */

#define LLM_SSE_SPAN  512

/* of data in several lines that must be joined; no provider sends such */

#define LLM_SSE_JOIN  16384


#define llm_sse_equal(p, len, s)                                              \
    ((len) == sizeof(s) - 1 && memcmp(p, s, sizeof(s) - 1) == 0)


typedef enum {
    LLM_SSE_FIELD_END = 0,
    LLM_SSE_FIELD_DATA,
    LLM_SSE_FIELD_EVENT
} llm_sse_field_e;


typedef struct {
    unsigned char        *pos;             /* start of the next line */
    unsigned char        *end;
} llm_sse_lines_t;


static unsigned llm_sse_single(llm_sse_reader_t *rd, const llm_str_t *data,
    llm_usage_t *usage);
static unsigned llm_sse_joined(llm_sse_reader_t *rd, unsigned char *event,
    size_t len, llm_usage_t *usage);
static unsigned llm_sse_json(llm_sse_reader_t *rd, const llm_str_t *data,
    llm_usage_t *usage);
static const unsigned char *llm_sse_eol(const unsigned char *p,
    const unsigned char *end);
static void llm_sse_lines(llm_sse_lines_t *ls, unsigned char *event,
    size_t len);
static llm_sse_field_e llm_sse_field(llm_sse_lines_t *ls, llm_str_t *value);


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
    llm_usage_t *usage, llm_sse_text_t *text)
{
    unsigned          n, type, bits;
    llm_str_t         value, data;
    llm_sse_field_e   field;
    llm_sse_lines_t   ls;
    llm_sse_reader_t  rd;

    n = 0;
    type = 0;

    llm_sse_lines(&ls, event, len);

    while ((field = llm_sse_field(&ls, &value)) != LLM_SSE_FIELD_END) {

        if (field == LLM_SSE_FIELD_EVENT) {
            type = llm_sse_type(value.data, value.len);
            continue;
        }

        data = value;
        n++;
    }

    if (n == 0) {
        return type & LLM_SSE_ERROR;
    }

    rd.endpoint = endpoint;
    rd.bits = type;
    rd.text = text;
    rd.learned = 0;

    if (n != 1) {
        return LLM_SSE_DATA|llm_sse_joined(&rd, event, len, usage);
    }

    if (llm_sse_done(&data)) {
        return LLM_SSE_DATA|LLM_SSE_DONE|(type & LLM_SSE_ERROR);
    }

    bits = llm_sse_single(&rd, &data, usage);

    if (rd.learned) {
        llm_sse_text_frame(text, event, len, &data);
    }

    return LLM_SSE_DATA|bits;
}


/* the only data of its event */

static unsigned
llm_sse_single(llm_sse_reader_t *rd, const llm_str_t *data,
    llm_usage_t *usage)
{
    unsigned              look, bits;
    const unsigned char  *end, *known[2];

    end = data->data + data->len;

    if (rd->text != NULL && llm_sse_text_same(rd->text, data, known)) {
        rd->text = NULL;

        look = llm_sse_suspect(data->data, known[0])
               | llm_sse_suspect(known[1], end);

        if (look != 0) {

            /* what is known may have cut a value */

            look = llm_sse_suspect(data->data, end);
        }

    } else {
        look = llm_sse_suspect(data->data, end);
    }

    rd->telling = (look & LLM_SSE_SUSPECT) || rd->bits != 0;
    bits = 0;

    if (rd->telling || rd->text != NULL) {
        bits = llm_sse_json(rd, data, usage);
    }

    if (rd->telling) {
        return bits | (look & LLM_SSE_NULLED);
    }

    rd->learned = look == 0 && rd->text != NULL
                  && llm_sse_text_learn(rd, data);

    return look & LLM_SSE_NULLED;
}


/* apart from the rest, which does well with little of the stack */

static unsigned __attribute__((noinline))
llm_sse_joined(llm_sse_reader_t *rd, unsigned char *event, size_t len,
    llm_usage_t *usage)
{
    llm_str_t      data;
    llm_arena_t    arena;
    unsigned char  buf[LLM_SSE_JOIN];

    arena.pos = buf;
    arena.end = buf + sizeof(buf);
    arena.alloc = NULL;

    if (llm_sse_data(event, len, &arena, &data) != LLM_OK) {
        return rd->bits;
    }

    rd->telling = 1;

    return llm_sse_json(rd, &data, usage);
}


static unsigned
llm_sse_json(llm_sse_reader_t *rd, const llm_str_t *data, llm_usage_t *usage)
{
    rd->last = NULL;
    rd->texts = 0;
    rd->choices = 0;
    rd->usage = 0;

    if (rd->text != NULL && rd->endpoint == LLM_RESPONSES) {
        llm_sse_text_delta(rd, data);

        if (!rd->telling) {
            return 0;
        }

        rd->text = NULL;
    }

    return llm_sse_read(rd, data, usage);
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


int
llm_sse_clean(unsigned char *event, size_t len)
{
    size_t       n;
    llm_str_t    data;
    llm_arena_t  none;

    memset(&none, 0, sizeof(llm_arena_t));

    if (llm_sse_data(event, len, &none, &data) != LLM_OK) {
        return LLM_DECLINED;
    }

    n = llm_dialect_clean(data.data, data.len);

    if (n == data.len) {
        return LLM_DECLINED;
    }

    memset(data.data + n, ' ', data.len - n);

    return LLM_OK;
}


unsigned
llm_sse_type(const unsigned char *p, size_t len)
{
    if (llm_sse_equal(p, len, "error")
        || llm_sse_equal(p, len, "response.failed"))
    {
        return LLM_SSE_ERROR;
    }

    if (llm_sse_equal(p, len, "response.completed")
        || llm_sse_equal(p, len, "response.incomplete"))
    {
        return LLM_SSE_DONE;
    }

    return 0;
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

        if (n > LLM_SSE_SPAN) {
            n = LLM_SSE_SPAN;
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

    while (ls->pos < ls->end && (*ls->pos == '\n' || *ls->pos == '\r')) {
        ls->pos++;
    }

    /* a byte order mark in front of a stream is none of the first name */

    if (ls->end - ls->pos >= 3 && memcmp(ls->pos, "\xef\xbb\xbf", 3) == 0) {
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


int
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
