
/*
 * Copyright (C) the ngx-llm authors
 */


#include "store_private.h"


static int store_call(lua_State *l);
static int store_pcall(lua_State *l);
static int store_redis(lua_State *l);
static void store_start(store_t *st, unsigned nkeys);
static const char *store_finish(store_t *st, size_t *len);
static void store_sink(void *data, const char *p, size_t len);


store_t *
store_create(const char *script)
{
    store_t    *st;
    lua_State  *l;

    st = calloc(1, sizeof(store_t));
    l = luaL_newstate();
    luaL_openlibs(l);

    st->lua = l;

    lua_pushlightuserdata(l, st);
    lua_setfield(l, LUA_REGISTRYINDEX, "store");

    lua_newtable(l);
    lua_pushcfunction(l, store_call);
    lua_setfield(l, -2, "call");
    lua_pushcfunction(l, store_pcall);
    lua_setfield(l, -2, "pcall");
    lua_setglobal(l, "redis");

    if (luaL_loadfile(l, script) != 0) {
        fprintf(stderr, "%s\n", lua_tostring(l, -1));
        store_destroy(st);
        return NULL;
    }

    lua_setfield(l, LUA_REGISTRYINDEX, "script");

    return st;
}


void
store_destroy(store_t *st)
{
    store_flush(st);
    lua_close(st->lua);
    free(st);
}


void
store_clock(store_t *st, uint64_t us)
{
    st->us = us;
}


void
store_full(store_t *st, int full)
{
    st->full = full;
}


void
store_flush(store_t *st)
{
    unsigned   i;
    entry_t    *k;

    for (i = 0; i < STORE_HEADS; i++) {

        while (st->head[i] != NULL) {
            k = st->head[i];
            st->head[i] = k->next;
            store_free_key(k);
        }
    }
}


uint64_t
store_calls(store_t *st)
{
    return st->calls;
}


const char *
store_batch(store_t *st, llm_ledger_t *lg, const llm_quota_batch_t *b,
    const char *gateway, size_t *len)
{
    unsigned  nkeys, nargs;

    store_start(st, 4 + 2 * b->names);

    llm_quota_write(lg, b, gateway, store_sink, st, &nkeys, &nargs);

    if (nkeys != st->nkeys || nkeys + nargs != st->pushed) {
        fprintf(stderr, "%u keys and %u arguments\n", nkeys, nargs);
        return NULL;
    }

    return store_finish(st, len);
}


const char *
store_run(store_t *st, unsigned nkeys, unsigned n, const char *const *arg,
    size_t *len)
{
    unsigned  i;

    store_start(st, nkeys);

    for (i = 0; i < n; i++) {
        store_sink(st, arg[i], strlen(arg[i]));
    }

    return store_finish(st, len);
}


static void
store_start(store_t *st, unsigned nkeys)
{
    lua_settop(st->lua, 0);

    lua_newtable(st->lua);
    lua_newtable(st->lua);

    st->nkeys = nkeys;
    st->pushed = 0;
}


static const char *
store_finish(store_t *st, size_t *len)
{
    lua_State   *l;
    const char  *reply;

    l = st->lua;

    lua_setglobal(l, "ARGV");
    lua_setglobal(l, "KEYS");

    lua_getfield(l, LUA_REGISTRYINDEX, "script");

    st->wrote = 0;
    st->calls++;

    if (lua_pcall(l, 0, 1, 0) != 0) {
        fprintf(stderr, "%s\n", lua_tostring(l, -1));
        return NULL;
    }

    reply = lua_tolstring(l, -1, len);

    if (reply == NULL) {
        fprintf(stderr, "the script returned no string\n");
    }

    return reply;
}


static void
store_sink(void *data, const char *p, size_t len)
{
    store_t  *st = data;

    lua_pushlstring(st->lua, p, len);

    if (st->pushed < st->nkeys) {
        lua_rawseti(st->lua, 1, (int) st->pushed + 1);

    } else {
        lua_rawseti(st->lua, 2, (int) (st->pushed - st->nkeys) + 1);
    }

    st->pushed++;
}


int64_t
store_command(store_t *st, unsigned n, const char **arg)
{
    int         type;
    int64_t     rc;
    unsigned    i;
    lua_State  *l;

    l = st->lua;
    lua_settop(l, 0);

    lua_pushcfunction(l, store_call);

    for (i = 0; i < n; i++) {
        lua_pushstring(l, arg[i]);
    }

    if (lua_pcall(l, (int) n, 1, 0) != 0) {
        fprintf(stderr, "%s\n", lua_tostring(l, -1));
        return -1;
    }

    type = lua_type(l, -1);
    rc = type == LUA_TNUMBER ? (int64_t) lua_tonumber(l, -1)
         : type == LUA_TBOOLEAN ? -1 : (int64_t) lua_objlen(l, -1);

    return rc;
}


const char *
store_get(store_t *st, const char *key)
{
    entry_t  *k;

    k = store_find(st, key);

    return k != NULL ? k->value : NULL;
}


static int
store_call(lua_State *l)
{
    if (store_redis(l) != 0) {
        lua_getfield(l, -1, "err");
        return lua_error(l);
    }

    return 1;
}


static int
store_pcall(lua_State *l)
{
    (void) store_redis(l);

    return 1;
}


/* leaves the reply, or a table with "err", on the stack */

static int
store_redis(lua_State *l)
{
    int          i, n;
    store_t     *st;
    const char  *arg[STORE_ARGS], *error;

    lua_getfield(l, LUA_REGISTRYINDEX, "store");
    st = lua_touserdata(l, -1);
    lua_pop(l, 1);

    n = lua_gettop(l);
    error = NULL;

    for (i = 0; i < n && i < STORE_ARGS; i++) {
        arg[i] = lua_tostring(l, i + 1);

        if (arg[i] == NULL) {
            error = "ERR arguments must be strings or integers";
        }
    }

    if (error == NULL) {
        error = store_do(st, (unsigned) i, arg);
    }

    if (error == NULL) {
        return 0;
    }

    lua_newtable(l);
    lua_pushstring(l, error);
    lua_setfield(l, -2, "err");

    return 1;
}
