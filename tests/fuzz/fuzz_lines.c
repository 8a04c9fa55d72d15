
/*
 * Copyright (C) the ngx-llm authors
 *
 * The lines of a file in pieces must be those that a look at the whole file
 * finds.  The first byte of the input says how large the pieces are, the
 * second how long a line may be.
 */


#include <stdlib.h>
#include <string.h>

#include "core/llm_lines.h"
#include "fuzz_main.h"


typedef struct {
    const uint8_t  *text;
    const uint8_t  *pos;
    const uint8_t  *last;
    uint64_t        number;
    size_t          most;
} model_t;


/* the next line of the whole file that is not blank; 0: there is none */

static int
next(model_t *m, const uint8_t **start, size_t *len)
{
    size_t          i, n;
    const uint8_t  *lf;

    while (m->pos < m->last) {
        *start = m->pos;

        lf = memchr(m->pos, '\n', (size_t) (m->last - m->pos));
        n = (size_t) ((lf != NULL ? lf : m->last) - m->pos);

        m->pos = lf != NULL ? lf + 1 : m->last;
        m->number++;

        if (n != 0 && (*start)[n - 1] == '\r') {
            n--;
        }

        *len = n;

        for (i = 0; i < n && memchr(" \t\r", (*start)[i], 3) != NULL; i++) {
            /* void */
        }

        if (i < n || n > m->most) {
            return 1;
        }
    }

    return 0;
}


static void
compare(model_t *m, const llm_lines_t *ln, int rc, const llm_str_t *line)
{
    size_t          len;
    const uint8_t  *start;

    check(next(m, &start, &len));
    check(ln->number == m->number);
    check(ln->offset == (uint64_t) (start - m->text));

    if (len > m->most) {
        check(rc == LLM_DECLINED && line->len == 0);
        return;
    }

    check(rc == LLM_OK && line->len == len);
    check(memcmp(line->data, start, len) == 0);
}


int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t size)
{
    int                   rc;
    size_t                step, room, pos, n;
    model_t               m;
    llm_str_t             line;
    llm_lines_t           ln;
    const uint8_t        *start;
    unsigned char        *buf, *piece;
    const unsigned char  *at;

    if (size < 2) {
        return 0;
    }

    step = (size_t) p[0] + 1;
    room = (size_t) p[1] + 2;

    p += 2;
    size -= 2;

    m.text = m.pos = p;
    m.last = p + size;
    m.number = 0;
    m.most = room - 1;

    buf = malloc(room);
    llm_lines_init(&ln, buf, room);

    /* what came ends where the memory ends */

    step = step < size ? step : size;
    piece = malloc(step != 0 ? step : 1);

    for (pos = 0; pos < size; pos += n) {
        n = step < size - pos ? step : size - pos;

        at = memcpy(piece + step - n, p + pos, n);

        while ((rc = llm_lines_next(&ln, &at, piece + step, &line))
               != LLM_AGAIN)
        {
            compare(&m, &ln, rc, &line);
        }

        check(at == piece + step);
    }

    rc = llm_lines_eof(&ln, &line);

    if (rc != LLM_AGAIN) {
        compare(&m, &ln, rc, &line);
    }

    check(!next(&m, &start, &n));

    free(piece);
    free(buf);

    return 0;
}
