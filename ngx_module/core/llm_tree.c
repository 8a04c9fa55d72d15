
/*
 * Copyright (C) the ngx-llm authors
 */


#include "core/llm_tree.h"

#include <stdio.h>


static void llm_tree_attach(void);
static void *llm_tree_alloc(size_t size);


static json_malloc_t  llm_tree_next;
static int            llm_tree_starved;


json_t *
llm_tree_load(const char *text, size_t len, size_t flags, json_error_t *error)
{
    int      before;
    json_t  *root;

    llm_tree_attach();

    before = llm_tree_starved;
    llm_tree_starved = 0;

    root = json_loadb(text, len, flags, error);

    if (llm_tree_starved) {
        json_decref(root);
        root = NULL;

        if (error != NULL) {
            snprintf(error->text, sizeof(error->text), "out of memory");
        }
    }

    llm_tree_starved |= before;

    return root;
}


void
llm_tree_watch(void)
{
    llm_tree_attach();

    llm_tree_starved = 0;
}


int
llm_tree_no_memory(void)
{
    return llm_tree_starved;
}


/* before whatever allocates now: a test has its own */

static void
llm_tree_attach(void)
{
    json_free_t    release;
    json_malloc_t  allocate;

    json_get_alloc_funcs(&allocate, &release);

    if (allocate != llm_tree_alloc) {
        llm_tree_next = allocate;
        json_set_alloc_funcs(llm_tree_alloc, release);
    }
}


static void *
llm_tree_alloc(size_t size)
{
    void  *p;

    p = llm_tree_next(size);

    if (p == NULL) {
        llm_tree_starved = 1;
    }

    return p;
}
