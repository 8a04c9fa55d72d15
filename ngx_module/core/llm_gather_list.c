
/*
 * Copyright (C) the ngx-llm authors
 *
 * Arrays: joined, or merged by the index of their objects.
 */


#include "core/llm_gather_private.h"


#define LLM_GATHER_BLOCK  4                 /* pieces in the first block */
#define LLM_GATHER_GROWN  1024              /* and at most in others */


static int llm_gather_list(llm_gather_t *g, llm_gather_node_t *node,
    llm_json_t *js);
static int llm_gather_index(const llm_json_t *js, uint32_t *index);
static llm_gather_node_t *llm_gather_element(llm_gather_t *g,
    llm_gather_node_t *node, uint32_t index);
static int llm_gather_insert(llm_gather_t *g, llm_gather_node_t *node,
    uint32_t at, llm_gather_node_t *elt);


int
llm_gather_elements(llm_gather_t *g, llm_gather_node_t *node, llm_json_t *js)
{
    int                   first;
    uint32_t              index;
    llm_json_t            ahead;
    llm_json_token_e      token;
    const unsigned char  *start;

    if (node->type == LLM_GATHER_LIST) {
        return llm_gather_list(g, node, js);
    }

    if (node->type != LLM_GATHER_ARRAY) {
        return LLM_DECLINED;
    }

    ahead = *js;
    token = llm_json_next(&ahead);

    first = node->u.pieces.first == NULL;

    if (first && node->place != LLM_GATHER_PLAIN && token == LLM_JSON_OBJECT
        && llm_gather_index(&ahead, &index) == LLM_OK)
    {
        node->type = LLM_GATHER_LIST;
        return llm_gather_list(g, node, js);
    }

    start = ahead.start;

    if (llm_json_skip(js) != LLM_JSON_ARRAY_END) {
        return LLM_DECLINED;
    }

    return llm_gather_piece(g, node, start, (size_t) (js->start - start));
}


static int
llm_gather_list(llm_gather_t *g, llm_gather_node_t *node, llm_json_t *js)
{
    int                 rc;
    uint32_t            index;
    llm_json_token_e    token;
    llm_gather_node_t  *elt;

    while ((token = llm_json_token(js)) == LLM_JSON_OBJECT) {

        if (llm_gather_index(js, &index) != LLM_OK
            || node->u.list.n == LLM_GATHER_ELEMENTS)
        {
            return LLM_DECLINED;
        }

        elt = llm_gather_element(g, node, index);

        if (elt == NULL) {
            return LLM_ERROR;
        }

        rc = llm_gather_object(g, elt, js);

        if (rc != LLM_OK) {
            return rc;
        }
    }

    return token == LLM_JSON_ARRAY_END ? LLM_OK : LLM_DECLINED;
}


/* looks ahead: it need not be the first member */

static int
llm_gather_index(const llm_json_t *js, uint32_t *index)
{
    int               found;
    int64_t           n;
    llm_json_t        ahead;
    llm_json_token_e  token;

    ahead = *js;

    while (llm_json_token(&ahead) == LLM_JSON_NAME) {
        found = llm_json_same(&ahead, "index", 5);
        token = llm_json_token(&ahead);

        if (found) {

            if (token != LLM_JSON_NUMBER || !ahead.integer
                || llm_json_integer(&ahead, &n) != LLM_OK
                || n < 0 || n > INT32_MAX)
            {
                return LLM_DECLINED;
            }

            *index = (uint32_t) n;

            return LLM_OK;
        }

        if (llm_gather_pass(&ahead, token, NULL) != LLM_OK) {
            return LLM_DECLINED;
        }
    }

    return LLM_DECLINED;
}


static llm_gather_node_t *
llm_gather_element(llm_gather_t *g, llm_gather_node_t *node, uint32_t index)
{
    uint32_t             low, high, middle;
    llm_gather_node_t  **elts, *elt;

    low = 0;
    high = node->u.list.n;
    elts = node->u.list.elts;

    while (low < high) {
        middle = (low + high) / 2;

        if (elts[middle]->u.members.index == index) {
            return elts[middle];
        }

        if (elts[middle]->u.members.index < index) {
            low = middle + 1;

        } else {
            high = middle;
        }
    }

    elt = llm_arena_alloc(g->arena, sizeof(llm_gather_node_t));

    if (elt == NULL || llm_gather_insert(g, node, low, elt) != LLM_OK) {
        return NULL;
    }

    memset(elt, 0, sizeof(llm_gather_node_t));

    elt->type = LLM_GATHER_OBJECT;
    elt->place = node->place;
    elt->u.members.index = index;

    return elt;
}


static int
llm_gather_insert(llm_gather_t *g, llm_gather_node_t *node, uint32_t at,
    llm_gather_node_t *elt)
{
    uint32_t             n, size;
    llm_gather_node_t  **elts;

    n = node->u.list.n;

    if (n == node->u.list.size) {
        size = n == 0 ? 2 : n * 2;
        elts = llm_arena_alloc(g->arena, size * sizeof(elts[0]));

        if (elts == NULL) {
            return LLM_ERROR;
        }

        if (n != 0) {
            memcpy(elts, node->u.list.elts, n * sizeof(elts[0]));
        }

        node->u.list.elts = elts;
        node->u.list.size = size;
    }

    elts = node->u.list.elts;

    memmove(&elts[at + 1], &elts[at], (n - at) * sizeof(elts[0]));
    elts[at] = elt;
    node->u.list.n++;

    return LLM_OK;
}


int
llm_gather_piece(llm_gather_t *g, llm_gather_node_t *node,
    const unsigned char *p, size_t len)
{
    uint32_t             size;
    llm_gather_block_t  *block;

    if (len == 0) {
        return LLM_OK;
    }

    block = node->u.pieces.last;

    if (block == NULL || block->n == block->size) {

        size = block == NULL ? LLM_GATHER_BLOCK : block->size * 2;

        if (size > LLM_GATHER_GROWN) {
            size = LLM_GATHER_GROWN;
        }

        block = llm_arena_alloc(g->arena, sizeof(llm_gather_block_t)
                                          + size * sizeof(llm_str_t));
        if (block == NULL) {
            return LLM_ERROR;
        }

        block->next = NULL;
        block->n = 0;
        block->size = size;

        if (node->u.pieces.last != NULL) {
            node->u.pieces.last->next = block;

        } else {
            node->u.pieces.first = block;
        }

        node->u.pieces.last = block;
    }

    block->piece[block->n].data = (unsigned char *) p;
    block->piece[block->n].len = len;
    block->n++;

    return LLM_OK;
}
