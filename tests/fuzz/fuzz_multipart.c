
/*
 * Copyright (C) the ngx-llm authors
 *
 * A form in one piece and in pieces must come to the same: names, data, and
 * where an error is.  The first byte of the input says how large the pieces
 * are, the second how much of a header fits; if that is odd, the Content-Type
 * comes next, to the end of the line, then the form.
 */


#include <stdlib.h>
#include <string.h>

#include "core/llm_multipart.h"
#include "fuzz_main.h"
#include "fuzz_words.h"


typedef struct {
    int             rc;
    uint64_t        offset;
    size_t          bytes;
    unsigned        parts;
    uint64_t        hash;
} result_t;


static void
add(result_t *res, const unsigned char *p, size_t len)
{
    size_t  i;

    for (i = 0; i < len; i++) {
        res->hash = (res->hash ^ p[i]) * 0x100000001b3ULL;
    }
}


static void
part(result_t *res, const llm_multipart_t *mp, const unsigned char *head,
    size_t room)
{
    unsigned          i;
    const llm_str_t  *s[3];

    s[0] = &mp->name;
    s[1] = &mp->filename;
    s[2] = &mp->type;

    check(mp->name.len != 0);
    check(mp->file || mp->filename.len == 0);

    for (i = 0; i < 3; i++) {
        check(s[i]->len == 0 || (s[i]->data >= head
                                 && s[i]->data + s[i]->len <= head + room));
        check(s[i]->len == 0 || memchr(s[i]->data, '\n', s[i]->len) == NULL);

        add(res, (const unsigned char *) "|", 1);
        add(res, s[i]->data, s[i]->len);
    }

    res->parts++;
    check(res->parts == mp->parts && mp->parts <= LLM_MULTIPART_PARTS);
}


/* LLM_AGAIN or LLM_ERROR, or LLM_MULTIPART_END */

static int
events(result_t *res, llm_multipart_t *mp, int *inside,
    const unsigned char *piece, size_t n)
{
    int                   rc;
    llm_str_t             data;
    const unsigned char  *p;

    p = piece;

    for ( ;; ) {
        rc = llm_multipart_next(mp, &p, piece + n, &data);

        check(p >= piece && p <= piece + n);

        switch (rc) {

        case LLM_MULTIPART_PART:
            check(!*inside);
            *inside = 1;
            part(res, mp, mp->head, mp->size);
            break;

        case LLM_MULTIPART_DATA:
            check(*inside && data.len != 0);
            add(res, data.data, data.len);
            res->bytes += data.len;
            break;

        case LLM_MULTIPART_PART_END:
            check(*inside);
            *inside = 0;
            add(res, (const unsigned char *) "]", 1);
            break;

        case LLM_ERROR:
            check(mp->error != NULL);
            return rc;

        case LLM_MULTIPART_END:
            check(!*inside && p == piece + n);
            return rc;

        default:
            check(rc == LLM_AGAIN && p == piece + n);
            return rc;
        }
    }
}


static void
feed(result_t *res, const llm_str_t *type, const unsigned char *p,
    size_t size, size_t step, size_t room)
{
    int               inside;
    size_t            n, pos;
    unsigned char    *head, *piece;
    llm_multipart_t   mp;

    memset(res, 0, sizeof(result_t));

    head = malloc(room);
    inside = 0;
    res->rc = llm_multipart_init(&mp, type, head, room);

    if (res->rc != LLM_OK) {
        free(head);
        return;
    }

    /* what came ends where the memory ends */

    step = step < size ? step : size;
    piece = malloc(step != 0 ? step : 1);

    for (pos = 0; pos < size && res->rc != LLM_ERROR; pos += n) {
        n = step < size - pos ? step : size - pos;

        memcpy(piece + step - n, p + pos, n);
        res->rc = events(res, &mp, &inside, piece + step - n, n);
    }

    check(llm_multipart_eof(&mp) == (res->rc == LLM_MULTIPART_END
                                     ? LLM_OK : LLM_ERROR));

    if (res->rc != LLM_MULTIPART_END) {
        res->offset = mp.offset;
        check(mp.offset <= size);
        res->rc = LLM_ERROR;
    }

    free(piece);
    free(head);
}


int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t size)
{
    size_t          step, room, len;
    result_t        whole, pieces;
    llm_str_t       type = llm_string("multipart/form-data; boundary=b");
    const uint8_t  *lf;
    unsigned char  *text, *form;

    static const char *const  words[FUZZ_WORDS] = {
        "--b\r\nContent-Disposition: form-data; name=", "\r\n--b",
        "multipart/form-data; boundary=", "filename", "*=utf-8''",
        "Content-Disposition: form-data; name=\"a\"", "\r\n\r\n",
        "Content-Type: "
    };

    if (size < 2) {
        return 0;
    }

    step = (size_t) p[0] + 1;
    room = (size_t) p[1] * 2 + 1;

    text = fuzz_words(words, p + 2, size - 2, &len);
    form = text;

    if (p[1] & 1) {
        lf = memchr(text, '\n', len);

        if (lf != NULL) {
            type.data = text;
            type.len = (size_t) (lf - text);

            form = text + type.len + 1;
            len -= type.len + 1;
        }
    }

    feed(&whole, &type, form, len, len, room);
    feed(&pieces, &type, form, len, step, room);
    free(text);

    check(whole.rc == pieces.rc);
    check(whole.offset == pieces.offset);
    check(whole.bytes == pieces.bytes);
    check(whole.parts == pieces.parts);
    check(whole.hash == pieces.hash);

    return 0;
}
