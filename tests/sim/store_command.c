
/*
 * Copyright (C) the ngx-llm authors
 *
 * The commands that quota.lua uses, on strings, hashes and sorted sets; the
 * latter are small, so that all of them are lists of fields.
 */


#include "store_private.h"


typedef struct {
    const char           *name;
    unsigned              args;            /* at least */
    int                   memory;          /* refused when full */
    void                (*run)(store_t *st, unsigned n, const char **arg);
} command_t;


static unsigned store_head(const char *name);
static void store_push(store_t *st, const char *value);
static entry_t *store_make(store_t *st, const char *name, store_kind_e kind);
static void store_remove(store_t *st, const char *name);
static field_t **store_field(entry_t *k, const char *name);
static void store_drop_field(field_t **at);
static void store_tidy(store_t *st, entry_t *k);

static void store_time(store_t *st, unsigned n, const char **arg);
static void store_mget(store_t *st, unsigned n, const char **arg);
static void store_set(store_t *st, unsigned n, const char **arg);
static void store_del(store_t *st, unsigned n, const char **arg);
static void store_pexpire(store_t *st, unsigned n, const char **arg);
static void store_hget(store_t *st, unsigned n, const char **arg);
static void store_hset(store_t *st, unsigned n, const char **arg);
static void store_hdel(store_t *st, unsigned n, const char **arg);
static void store_hgetall(store_t *st, unsigned n, const char **arg);
static void store_zadd(store_t *st, unsigned n, const char **arg);
static void store_zrange(store_t *st, unsigned n, const char **arg);
static void store_zrem_below(store_t *st, unsigned n, const char **arg);


static const command_t  commands[] = {
    { "TIME", 0, 0, store_time },
    { "MGET", 1, 0, store_mget },
    { "SET", 2, 1, store_set },
    { "DEL", 1, 0, store_del },
    { "PEXPIRE", 2, 0, store_pexpire },
    { "HGET", 2, 0, store_hget },
    { "HSET", 3, 1, store_hset },
    { "HDEL", 2, 0, store_hdel },
    { "HGETALL", 1, 0, store_hgetall },
    { "ZADD", 3, 1, store_zadd },
    { "ZRANGE", 3, 0, store_zrange },
    { "ZREMRANGEBYSCORE", 3, 0, store_zrem_below }
};


const char *
store_do(store_t *st, unsigned n, const char **arg)
{
    size_t            k;
    const command_t  *c;

    for (k = 0; k < sizeof(commands) / sizeof(commands[0]); k++) {
        c = &commands[k];

        if (n == 0 || strcmp(arg[0], c->name) != 0) {
            continue;
        }

        if (n <= c->args) {
            break;
        }

        if (c->memory && st->full && !st->wrote) {
            return "OOM command not allowed when used memory > 'maxmemory'.";
        }

        c->run(st, n, arg);

        return NULL;
    }

    return "ERR unknown command or wrong number of arguments";
}


static unsigned
store_head(const char *name)
{
    unsigned  h;

    for (h = 5381; *name != '\0'; name++) {
        h = h * 33 + (unsigned char) *name;
    }

    return h % STORE_HEADS;
}


entry_t *
store_find(store_t *st, const char *name)
{
    entry_t  *k;

    for (k = st->head[store_head(name)]; k != NULL; k = k->next) {

        if (strcmp(k->name, name) == 0) {

            if (k->expires != 0 && k->expires <= st->us / 1000) {
                store_remove(st, name);
                return NULL;
            }

            return k;
        }
    }

    return NULL;
}


static entry_t *
store_make(store_t *st, const char *name, store_kind_e kind)
{
    entry_t   *k;
    unsigned  h;

    k = store_find(st, name);

    if (k == NULL) {
        h = store_head(name);
        k = calloc(1, sizeof(entry_t));
        k->name = strdup(name);
        k->kind = kind;
        k->next = st->head[h];
        st->head[h] = k;
    }

    if (k->kind != kind) {
        fprintf(stderr, "WRONGTYPE %s\n", name);
        abort();
    }

    st->wrote = 1;

    return k;
}


static void
store_remove(store_t *st, const char *name)
{
    entry_t  *k, **at;

    for (at = &st->head[store_head(name)]; *at != NULL; at = &(*at)->next) {
        k = *at;

        if (strcmp(k->name, name) == 0) {
            *at = k->next;
            store_free_key(k);
            return;
        }
    }
}


void
store_free_key(entry_t *k)
{
    while (k->fields != NULL) {
        store_drop_field(&k->fields);
    }

    free(k->value);
    free(k->name);
    free(k);
}


static field_t **
store_field(entry_t *k, const char *name)
{
    field_t  **at;

    for (at = &k->fields; *at != NULL; at = &(*at)->next) {

        if (strcmp((*at)->name, name) == 0) {
            break;
        }
    }

    return at;
}


static void
store_drop_field(field_t **at)
{
    field_t  *f;

    f = *at;
    *at = f->next;

    free(f->name);
    free(f->value);
    free(f);
}


static void
store_tidy(store_t *st, entry_t *k)
{
    if (k->fields == NULL) {
        store_remove(st, k->name);
    }
}


static void
store_push(store_t *st, const char *value)
{
    if (value != NULL) {
        lua_pushstring(st->lua, value);

    } else {
        lua_pushboolean(st->lua, 0);
    }
}


static void
store_time(store_t *st, unsigned n, const char **arg)
{
    char  text[32];

    (void) n;
    (void) arg;

    lua_newtable(st->lua);

    snprintf(text, sizeof(text), "%llu",
             (unsigned long long) (st->us / 1000000));
    lua_pushstring(st->lua, text);
    lua_rawseti(st->lua, -2, 1);

    snprintf(text, sizeof(text), "%llu",
             (unsigned long long) (st->us % 1000000));
    lua_pushstring(st->lua, text);
    lua_rawseti(st->lua, -2, 2);
}


static void
store_mget(store_t *st, unsigned n, const char **arg)
{
    entry_t    *k;
    unsigned   i;

    lua_newtable(st->lua);

    for (i = 1; i < n; i++) {
        k = store_find(st, arg[i]);
        store_push(st, k != NULL ? k->value : NULL);
        lua_rawseti(st->lua, -2, (int) i);
    }
}


static void
store_set(store_t *st, unsigned n, const char **arg)
{
    entry_t  *k;

    k = store_make(st, arg[1], STORE_STRING);

    free(k->value);
    k->value = strdup(arg[2]);
    k->expires = 0;

    if (n == 5 && strcmp(arg[3], "PX") == 0) {
        k->expires = st->us / 1000 + strtoull(arg[4], NULL, 10);
    }

    lua_newtable(st->lua);
    lua_pushliteral(st->lua, "OK");
    lua_setfield(st->lua, -2, "ok");
}


static void
store_del(store_t *st, unsigned n, const char **arg)
{
    (void) n;

    store_remove(st, arg[1]);
    st->wrote = 1;

    lua_pushinteger(st->lua, 1);
}


static void
store_pexpire(store_t *st, unsigned n, const char **arg)
{
    entry_t  *k;

    (void) n;

    k = store_find(st, arg[1]);

    if (k != NULL) {
        k->expires = st->us / 1000 + strtoull(arg[2], NULL, 10);
    }

    lua_pushinteger(st->lua, k != NULL);
}


static void
store_hget(store_t *st, unsigned n, const char **arg)
{
    entry_t   *k;
    field_t  *f;

    (void) n;

    k = store_find(st, arg[1]);
    f = k != NULL ? *store_field(k, arg[2]) : NULL;

    store_push(st, f != NULL ? f->value : NULL);
}


static void
store_hset(store_t *st, unsigned n, const char **arg)
{
    entry_t    *k;
    field_t  **at;

    (void) n;

    k = store_make(st, arg[1], STORE_HASH);
    at = store_field(k, arg[2]);

    if (*at == NULL) {
        *at = calloc(1, sizeof(field_t));
        (*at)->name = strdup(arg[2]);
    }

    free((*at)->value);
    (*at)->value = strdup(arg[3]);

    lua_pushinteger(st->lua, 1);
}


static void
store_hdel(store_t *st, unsigned n, const char **arg)
{
    entry_t    *k;
    field_t  **at;

    (void) n;

    st->wrote = 1;
    k = store_find(st, arg[1]);
    at = k != NULL ? store_field(k, arg[2]) : NULL;

    if (at != NULL && *at != NULL) {
        store_drop_field(at);
        store_tidy(st, k);
        lua_pushinteger(st->lua, 1);
        return;
    }

    lua_pushinteger(st->lua, 0);
}


static void
store_hgetall(store_t *st, unsigned n, const char **arg)
{
    int       i;
    entry_t   *k;
    field_t  *f;

    (void) n;

    lua_newtable(st->lua);
    k = store_find(st, arg[1]);
    i = 1;

    for (f = k != NULL ? k->fields : NULL; f != NULL; f = f->next) {
        lua_pushstring(st->lua, f->name);
        lua_rawseti(st->lua, -2, i++);
        lua_pushstring(st->lua, f->value);
        lua_rawseti(st->lua, -2, i++);
    }
}


static void
store_zadd(store_t *st, unsigned n, const char **arg)
{
    entry_t    *k;
    field_t   *f, **at;

    (void) n;

    k = store_make(st, arg[1], STORE_ZSET);
    at = store_field(k, arg[3]);

    if (*at != NULL) {
        store_drop_field(at);
    }

    f = calloc(1, sizeof(field_t));
    f->name = strdup(arg[3]);
    f->score = atof(arg[2]);

    at = &k->fields;

    while (*at != NULL && (*at)->score <= f->score) {
        at = &(*at)->next;
    }

    f->next = *at;
    *at = f;

    lua_pushinteger(st->lua, 1);
}


static void
store_zrange(store_t *st, unsigned n, const char **arg)
{
    int       i;
    entry_t   *k;
    field_t  *f;

    (void) n;

    lua_newtable(st->lua);
    k = store_find(st, arg[1]);
    i = 1;

    for (f = k != NULL ? k->fields : NULL; f != NULL; f = f->next) {
        lua_pushstring(st->lua, f->name);
        lua_rawseti(st->lua, -2, i++);
    }
}


/* from -inf to below "(number" */

static void
store_zrem_below(store_t *st, unsigned n, const char **arg)
{
    double   limit;
    entry_t  *k;

    (void) n;

    limit = atof(arg[3] + 1);
    st->wrote = 1;
    k = store_find(st, arg[1]);

    while (k != NULL && k->fields != NULL && k->fields->score < limit) {
        store_drop_field(&k->fields);
    }

    if (k != NULL) {
        store_tidy(st, k);
    }

    lua_pushinteger(st->lua, 0);
}
