
/*
 * Copyright (C) the ngx-llm authors
 *
 * For inputs that are of use only with long words in them: a byte from 0xf8
 * on, which no text has, stands for one of eight words.
 */


#ifndef _FUZZ_WORDS_H_INCLUDED_
#define _FUZZ_WORDS_H_INCLUDED_


#include <stdint.h>
#include <stdlib.h>
#include <string.h>


#define FUZZ_WORDS  8


/* the text, to be freed */

static inline unsigned char *
fuzz_words(const char *const words[FUZZ_WORDS], const uint8_t *p, size_t size,
    size_t *len)
{
    size_t          i, k, n, most;
    unsigned char  *text;

    for (most = 1, i = 0; i < FUZZ_WORDS; i++) {
        n = strlen(words[i]);
        most = n > most ? n : most;
    }

    text = malloc(size * most + 1);

    for (i = 0, n = 0; i < size; i++) {

        if (p[i] < 0xf8) {
            text[n++] = p[i];
            continue;
        }

        k = strlen(words[p[i] - 0xf8]);
        memcpy(text + n, words[p[i] - 0xf8], k);
        n += k;
    }

    *len = n;

    /* no byte more, so that a checker sees a step too far */

    return realloc(text, n != 0 ? n : 1);
}


#endif /* _FUZZ_WORDS_H_INCLUDED_ */
