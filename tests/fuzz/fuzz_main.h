
/*
 * Copyright (C) the ngx-llm authors
 *
 * What all fuzz targets share.  With -DFUZZ_MAIN a target is a plain program
 * that reads files, so that a corpus can be run by any compiler and under any
 * checker.
 */


#ifndef _FUZZ_MAIN_H_INCLUDED_
#define _FUZZ_MAIN_H_INCLUDED_


#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>


/* what must be true of every input */

#define check(e)                                                              \
    do {                                                                      \
        if (!(e)) {                                                           \
            abort();                                                          \
        }                                                                     \
    } while (0)


int LLVMFuzzerTestOneInput(const uint8_t *p, size_t size);


#if (FUZZ_MAIN)

int
main(int argc, char *argv[])
{
    int             i;
    long            size;
    FILE           *f;
    unsigned char  *p;

    for (i = 1; i < argc; i++) {
        f = fopen(argv[i], "rb");

        if (f == NULL || fseek(f, 0, SEEK_END) != 0) {
            perror(argv[i]);
            return 1;
        }

        size = ftell(f);
        rewind(f);

        p = malloc((size_t) size + 1);
        size = (long) fread(p, 1, (size_t) size, f);
        fclose(f);

        (void) LLVMFuzzerTestOneInput(p, (size_t) size);
        free(p);
    }

    printf("%d files\n", argc - 1);

    return 0;
}

#endif


#endif /* _FUZZ_MAIN_H_INCLUDED_ */
