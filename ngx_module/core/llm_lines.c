
/*
 * Copyright (C) the ngx-llm authors
 */


#include <string.h>

#include "core/llm_lines.h"


static int llm_lines_end(llm_lines_t *ln, const unsigned char *p, size_t len,
    llm_str_t *line);
static int llm_lines_blank(const unsigned char *p, size_t len);


void
llm_lines_init(llm_lines_t *ln, unsigned char *buf, size_t size)
{
    memset(ln, 0, sizeof(llm_lines_t));

    ln->buf = buf;
    ln->size = size;
}


int
llm_lines_next(llm_lines_t *ln, const unsigned char **pos,
    const unsigned char *last, llm_str_t *line)
{
    int                   rc;
    size_t                len;
    const unsigned char  *p, *lf;

    line->len = 0;
    line->data = NULL;

    while (*pos < last) {
        p = *pos;

        lf = memchr(p, '\n', (size_t) (last - p));
        len = (size_t) ((lf != NULL ? lf : last) - p);

        ln->passed += len;

        /* a CR may follow as many bytes as a line may have */

        if (len > ln->size - ln->len) {
            ln->skip = 1;
        }

        if (lf == NULL) {

            if (!ln->skip) {
                memcpy(ln->buf + ln->len, p, len);
                ln->len += len;
            }

            *pos = last;
            break;
        }

        *pos = lf + 1;

        if (ln->len != 0 && !ln->skip) {
            memcpy(ln->buf + ln->len, p, len);
            len += ln->len;
            p = ln->buf;
        }

        if (len != 0 && !ln->skip && p[len - 1] == '\r') {
            len--;
        }

        rc = llm_lines_end(ln, p, len, line);

        ln->start += ln->passed + 1;
        ln->passed = 0;

        if (rc != LLM_AGAIN) {
            return rc;
        }
    }

    return LLM_AGAIN;
}


int
llm_lines_eof(llm_lines_t *ln, llm_str_t *line)
{
    size_t  len;

    line->len = 0;
    line->data = NULL;

    if (ln->passed == 0) {
        return LLM_AGAIN;
    }

    ln->passed = 0;
    len = ln->len;

    if (len != 0 && ln->buf[len - 1] == '\r') {
        len--;
    }

    return llm_lines_end(ln, ln->buf, len, line);
}


/* a line has ended: LLM_AGAIN, if there is nothing to tell of it */

static int
llm_lines_end(llm_lines_t *ln, const unsigned char *p, size_t len,
    llm_str_t *line)
{
    unsigned  skip;

    skip = ln->skip || len > ln->size - 1;

    ln->ended++;
    ln->len = 0;
    ln->skip = 0;

    if (!skip && llm_lines_blank(p, len)) {
        return LLM_AGAIN;
    }

    ln->number = ln->ended;
    ln->offset = ln->start;

    if (skip) {
        return LLM_DECLINED;
    }

    line->data = (unsigned char *) p;
    line->len = len;

    return LLM_OK;
}


static int
llm_lines_blank(const unsigned char *p, size_t len)
{
    size_t  i;

    for (i = 0; i < len; i++) {
        if (p[i] != ' ' && p[i] != '\t' && p[i] != '\r') {
            return 0;
        }
    }

    return 1;
}
