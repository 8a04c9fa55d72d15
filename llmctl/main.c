
/*
 * Copyright (C) the ngx-llm authors
 *
 * llmctl: the command line of the gateway's admin API.
 */


#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "llmctl.h"

#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>


static int main_run(args_t *a);


int
main(int argc, char **argv)
{
    int     rc;
    args_t  args;

    /* how wide a character is; numbers are written as ever */
    setlocale(LC_CTYPE, "C.UTF-8");

    rc = args_read(&args, argc, argv);

    if (rc != CTL_OK) {
        return rc;
    }

    rc = main_run(&args);

    /* a secret that nobody has seen is lost: that is no success */

    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "llmctl: the output cannot be written\n");
        return rc != CTL_OK ? rc : CTL_REFUSED;
    }

    return rc;
}


static int
main_run(args_t *a)
{
    int  rc;

    if (a->values[OPT_HELP] != NULL) {
        args_help(a);
        return CTL_OK;
    }

    if (a->values[OPT_VERSION] != NULL) {
        printf("llmctl %s\n", LLMCTL_VERSION);
        return CTL_OK;
    }

    /* it says nothing about any gateway */

    if (a->command->run == complete_run) {
        return complete_run(a);
    }

    rc = http_init(a);

    return rc != CTL_OK ? rc : a->command->run(a);
}
