
/*
 * Copyright (C) the ngx-llm authors
 *
 * The two halves of the store: Lua around the script, and the commands.
 */


#ifndef _STORE_PRIVATE_H_INCLUDED_
#define _STORE_PRIVATE_H_INCLUDED_


#include "store.h"

#include <lua5.1/lauxlib.h>
#include <lua5.1/lua.h>
#include <lua5.1/lualib.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>


#define STORE_HEADS  1024
#define STORE_ARGS   256


typedef enum {
    STORE_STRING = 0,
    STORE_HASH,
    STORE_ZSET
} store_kind_e;


typedef struct field_s  field_t;

struct field_s {
    field_t              *next;
    char                 *name;
    char                 *value;
    double                score;
};


typedef struct entry_s  entry_t;

struct entry_s {
    entry_t               *next;
    char                 *name;
    store_kind_e          kind;
    uint64_t              expires;         /* ms, 0: never */
    char                 *value;
    field_t              *fields;          /* a zset's in order of score */
};


struct store_s {
    lua_State            *lua;
    entry_t               *head[STORE_HEADS];
    uint64_t              us;
    uint64_t              calls;
    int                   full;
    int                   wrote;
    unsigned              nkeys;
    unsigned              pushed;
};


/* runs a command, its reply goes onto Lua's stack: NULL, or an error */
const char *store_do(store_t *st, unsigned n, const char **arg);
entry_t *store_find(store_t *st, const char *name);
void store_free_key(entry_t *k);


#endif /* _STORE_PRIVATE_H_INCLUDED_ */
