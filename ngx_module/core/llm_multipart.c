
/*
 * Copyright (C) the ngx-llm authors
 */


#include <string.h>

#include "core/llm_multipart_private.h"


enum {
    LLM_MULTIPART_PREAMBLE = 0,
    LLM_MULTIPART_INSIDE,                   /* the data of a part */
    LLM_MULTIPART_BEHIND,                   /* a delimiter */
    LLM_MULTIPART_DASH,                     /* the first of two */
    LLM_MULTIPART_PADDING,
    LLM_MULTIPART_LF,
    LLM_MULTIPART_HEADER,
    LLM_MULTIPART_WHOLE,
    LLM_MULTIPART_FAILED
};


static int llm_multipart_copy(llm_multipart_t *mp, const llm_str_t *value);
static int llm_multipart_data(llm_multipart_t *mp, const unsigned char **pos,
    const unsigned char *last, llm_str_t *data);
static int llm_multipart_resume(llm_multipart_t *mp,
    const unsigned char **pos, const unsigned char *last, llm_str_t *data);
static int llm_multipart_delimited(llm_multipart_t *mp);
static int llm_multipart_behind(llm_multipart_t *mp, unsigned char c);
static int llm_multipart_header(llm_multipart_t *mp,
    const unsigned char *start, const unsigned char **pos,
    const unsigned char *last);
static int llm_multipart_begin(llm_multipart_t *mp, uint64_t end);
static int llm_multipart_fail(llm_multipart_t *mp, const char *error,
    uint64_t offset);


int
llm_multipart_init(llm_multipart_t *mp, const llm_str_t *type,
    unsigned char *head, size_t size)
{
    int                     rc;
    const unsigned char    *p, *last;
    llm_multipart_param_t   param;
    llm_str_t               media;

    memset(mp, 0, sizeof(llm_multipart_t));

    mp->head = head;
    mp->size = size;

    p = type->data;
    last = type->len != 0 ? p + type->len : p;

    while (p < last && *p != ';') {
        p++;
    }

    media.data = type->data;
    media.len = (size_t) (p - type->data);

    while (media.len != 0 && (media.data[media.len - 1] == ' '
                              || media.data[media.len - 1] == '\t'))
    {
        media.len--;
    }

    if (!llm_multipart_is(&media, "multipart/form-data", 19)) {
        return LLM_DECLINED;
    }

    while ((rc = llm_multipart_param(&p, last, &param)) == LLM_OK) {

        if (!llm_multipart_is(&param.name, "boundary", 8)) {
            continue;
        }

        if (mp->delimiter_len != 0
            || llm_multipart_copy(mp, &param.value) != LLM_OK)
        {
            return LLM_ERROR;
        }
    }

    if (rc != LLM_DECLINED || mp->delimiter_len == 0) {
        return LLM_ERROR;
    }

    /* at the very beginning no CR LF is needed */

    mp->matched = 2;
    mp->unreal = 2;

    return LLM_OK;
}


/* a quoted value with escapes is none of these either */

static int
llm_multipart_copy(llm_multipart_t *mp, const llm_str_t *value)
{
    size_t         i;
    unsigned char  c;

    if (value->len == 0 || value->len > LLM_MULTIPART_BOUNDARY
        || value->data[value->len - 1] == ' ')
    {
        return LLM_ERROR;
    }

    for (i = 0; i < value->len; i++) {
        c = value->data[i];

        if ((unsigned) ((c | 0x20) - 'a') >= 26 && (unsigned) (c - '0') >= 10
            && (c == '\0' || strchr("'()+_,-./:=? ", c) == NULL))
        {
            return LLM_ERROR;
        }
    }

    memcpy(mp->delimiter, "\r\n--", 4);
    memcpy(mp->delimiter + 4, value->data, value->len);
    mp->delimiter_len = value->len + 4;

    return LLM_OK;
}


int
llm_multipart_next(llm_multipart_t *mp, const unsigned char **pos,
    const unsigned char *last, llm_str_t *data)
{
    int                   rc;
    const unsigned char  *start;

    data->len = 0;
    data->data = NULL;

    if (mp->state == LLM_MULTIPART_FAILED) {
        return LLM_ERROR;
    }

    while (*pos < last && mp->state != LLM_MULTIPART_WHOLE) {
        start = *pos;

        switch (mp->state) {

        case LLM_MULTIPART_PREAMBLE:
        case LLM_MULTIPART_INSIDE:
            rc = llm_multipart_data(mp, pos, last, data);
            break;

        case LLM_MULTIPART_HEADER:
            rc = llm_multipart_header(mp, start, pos, last);
            break;

        default:
            rc = llm_multipart_behind(mp, **pos);
            *pos += (rc != LLM_ERROR);
        }

        mp->taken += (uint64_t) (*pos - start);

        if (rc != LLM_AGAIN) {
            return rc;
        }
    }

    if (mp->state == LLM_MULTIPART_WHOLE) {
        mp->taken += (uint64_t) (last - *pos);
        *pos = last;

        return LLM_MULTIPART_END;
    }

    return LLM_AGAIN;
}


int
llm_multipart_eof(llm_multipart_t *mp)
{
    if (mp->state == LLM_MULTIPART_WHOLE) {
        return LLM_OK;
    }

    if (mp->state == LLM_MULTIPART_FAILED) {
        return LLM_ERROR;
    }

    return llm_multipart_fail(mp, "it ends before its last boundary",
                              mp->taken);
}


/* to the delimiter, or to the end of what came */

static int
llm_multipart_data(llm_multipart_t *mp, const unsigned char **pos,
    const unsigned char *last, llm_str_t *data)
{
    int                   rc;
    size_t                n;
    const unsigned char  *p, *start;

    if (mp->matched != 0) {
        rc = llm_multipart_resume(mp, pos, last, data);

        if (rc != LLM_AGAIN || mp->matched != 0 || *pos == last
            || mp->state == LLM_MULTIPART_BEHIND)
        {
            return rc;
        }
    }

    start = *pos;
    n = 0;

    for (p = start; p < last; p += n) {

        p = memchr(p, '\r', (size_t) (last - p));

        if (p == NULL) {
            p = last;
            break;
        }

        /* no CR inside of it: what is equal is passed by at once */

        for (n = 1; n < mp->delimiter_len && p + n < last
                    && p[n] == mp->delimiter[n]; n++)
        {
            /* void */
        }

        if (n == mp->delimiter_len || p + n == last) {
            break;
        }
    }

    if (p > start && mp->state == LLM_MULTIPART_INSIDE) {

        /* what may be a delimiter is met again by the next call */

        data->data = (unsigned char *) start;
        data->len = (size_t) (p - start);
        *pos = p;

        return LLM_MULTIPART_DATA;
    }

    *pos = p;

    if (p == last) {
        return LLM_AGAIN;
    }

    *pos = p + n;
    mp->matched = n;
    mp->unreal = 0;

    return n == mp->delimiter_len ? llm_multipart_delimited(mp) : LLM_AGAIN;
}


/* a piece has ended inside of what looks like the delimiter */

static int
llm_multipart_resume(llm_multipart_t *mp, const unsigned char **pos,
    const unsigned char *last, llm_str_t *data)
{
    size_t                n;
    const unsigned char  *p;

    p = *pos;
    n = mp->matched;

    while (p < last && n < mp->delimiter_len && *p == mp->delimiter[n]) {
        p++;
        n++;
    }

    *pos = p;
    mp->matched = n;

    if (n == mp->delimiter_len) {
        return llm_multipart_delimited(mp);
    }

    if (p == last) {
        return LLM_AGAIN;
    }

    /* it was data: the delimiter's own bytes are the same */

    mp->matched = 0;

    if (mp->state != LLM_MULTIPART_INSIDE || n == mp->unreal) {
        return LLM_AGAIN;
    }

    data->data = mp->delimiter + mp->unreal;
    data->len = n - mp->unreal;

    return LLM_MULTIPART_DATA;
}


static int
llm_multipart_delimited(llm_multipart_t *mp)
{
    unsigned  inside;

    inside = (mp->state == LLM_MULTIPART_INSIDE);

    mp->matched = 0;
    mp->state = LLM_MULTIPART_BEHIND;

    return inside ? LLM_MULTIPART_PART_END : LLM_AGAIN;
}


/* one byte on the line of a delimiter */

static int
llm_multipart_behind(llm_multipart_t *mp, unsigned char c)
{
    switch (mp->state) {

    case LLM_MULTIPART_BEHIND:

        if (c == '-') {
            mp->state = LLM_MULTIPART_DASH;
            return LLM_AGAIN;
        }

        /* fall through */

    case LLM_MULTIPART_PADDING:

        if (c == '\r') {
            mp->state = LLM_MULTIPART_LF;
            return LLM_AGAIN;
        }

        if (c == ' ' || c == '\t') {
            mp->state = LLM_MULTIPART_PADDING;
            return LLM_AGAIN;
        }

        break;

    case LLM_MULTIPART_DASH:

        if (c == '-') {
            mp->state = LLM_MULTIPART_WHOLE;
            return LLM_AGAIN;
        }

        break;

    default:

        if (c == '\n') {
            mp->state = LLM_MULTIPART_HEADER;
            mp->len = 0;
            return LLM_AGAIN;
        }
    }

    return llm_multipart_fail(mp, "a line does not end behind a boundary",
                              mp->taken);
}


/* the header lines of a part are gathered, to the line that is empty */

static int
llm_multipart_header(llm_multipart_t *mp, const unsigned char *start,
    const unsigned char **pos, const unsigned char *last)
{
    size_t                n;
    uint64_t              offset;
    const unsigned char  *p;

    for (p = start; p < last; /* void */ ) {

        if (mp->len == mp->size) {
            offset = mp->taken + (uint64_t) (p - start);
            *pos = p;

            return llm_multipart_fail(mp, "the header of a part is too large",
                                      offset);
        }

        mp->head[mp->len++] = *p++;
        n = mp->len;

        if (mp->head[n - 1] == '\n' && n >= 2 && mp->head[n - 2] == '\r'
            && (n == 2 || (n >= 4 && mp->head[n - 3] == '\n'
                           && mp->head[n - 4] == '\r')))
        {
            *pos = p;
            return llm_multipart_begin(mp, mp->taken + (uint64_t) (p - start));
        }
    }

    *pos = p;

    return LLM_AGAIN;
}


static int
llm_multipart_begin(llm_multipart_t *mp, uint64_t end)
{
    const char           *error;
    const unsigned char  *fault;

    if (mp->parts == LLM_MULTIPART_PARTS) {
        return llm_multipart_fail(mp, "it has too many parts", end - mp->len);
    }

    error = llm_multipart_head(mp, mp->head, mp->len - 2, &fault);

    if (error != NULL) {
        return llm_multipart_fail(mp, error,
                                  end - mp->len
                                  + (uint64_t) (fault - mp->head));
    }

    mp->parts++;
    mp->state = LLM_MULTIPART_INSIDE;

    /* the CR LF of the empty line may be the one of a boundary */

    mp->matched = 2;
    mp->unreal = 2;

    return LLM_MULTIPART_PART;
}


static int
llm_multipart_fail(llm_multipart_t *mp, const char *error, uint64_t offset)
{
    mp->state = LLM_MULTIPART_FAILED;
    mp->error = error;
    mp->offset = offset;

    return LLM_ERROR;
}
