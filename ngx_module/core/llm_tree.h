
/*
 * Copyright (C) the ngx-llm authors
 *
 * Trees of jansson's, and whether it found memory: where it did not, it leaves
 * out characters of a string, or a member, and says nothing.
 */


#ifndef _LLM_TREE_H_INCLUDED_
#define _LLM_TREE_H_INCLUDED_


#include <stddef.h>

#include <jansson.h>


/*
 * As json_loadb(), but NULL whenever there was no memory for all of it; then
 * "error" (NULL: not asked for) says so, and so does llm_tree_no_memory().
 */
json_t *llm_tree_load(const char *text, size_t len, size_t flags,
    json_error_t *error);

/* from now on it is watched whether jansson finds memory */
void llm_tree_watch(void);

/* has jansson found no memory since llm_tree_watch()? */
int llm_tree_no_memory(void);


#endif /* _LLM_TREE_H_INCLUDED_ */
