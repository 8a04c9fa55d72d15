
/*
 * Copyright (C) the ngx-llm authors
 *
 * A small table of flights and short calls for the tests of it.
 */


#ifndef _FLIGHT_HELP_H_INCLUDED_
#define _FLIGHT_HELP_H_INCLUDED_


#include "flight_check.h"


#define NOW    5000
#define LOG    10000


static llm_flights_t       *fl;
static void                *mem;
static llm_owners_t         wake;
static llm_flight_piece_t   pc;
static llm_flight_limits_t  limits;
static unsigned char        buf[65536], data[65536];
static char                 who[64];       /* "data" of leaders, readers */
static unsigned char        names[512][LLM_FLIGHT_NAME];


static inline int
setup(void **state)
{
    size_t    size;
    unsigned  i;

    (void) state;

    size = LLM_FLIGHT_LEAST;
    mem = malloc(size);
    memset(mem, 0xa5, size);
    fl = llm_flight_create(mem, size);

    memset(&wake, 0, sizeof(llm_owners_t));
    limits.log = LOG;
    limits.followers = 100;

    for (i = 0; i < sizeof(data); i++) {
        data[i] = (unsigned char) (i * 7 + i / 251);
    }

    for (i = 0; i < 512; i++) {
        memset(names[i], (int) i, LLM_FLIGHT_NAME);
        names[i][LLM_FLIGHT_NAME - 1] = (unsigned char) (i >> 8);
    }

    return fl == NULL;
}


static inline int
teardown(void **state)
{
    (void) state;

    free(mem);

    return 0;
}


static inline void
check(void)
{
    const char  *e;

    e = flight_check(fl);

    if (e != NULL) {
        fail_msg("%s", e);
    }
}


/* all four names a, a + 1, …: which to follow, which to take */

static inline int
enter(unsigned a, unsigned follow, unsigned lead, unsigned owner, char *d,
    llm_flight_id_t *id)
{
    int               rc;
    unsigned          k;
    llm_flight_ask_t  ask;

    for (k = 0; k < LLM_FLIGHT_NAMES; k++) {
        ask.name[k] = (follow | lead) >> k & 1 ? names[a + k] : NULL;
    }

    ask.follow = follow;
    ask.lead = lead;
    ask.owner = owner;
    ask.data = d;

    rc = llm_flight_enter(fl, &ask, &limits, NOW, id, &wake);
    check();

    return rc;
}


static inline llm_flight_id_t
lead(unsigned a, unsigned owner, char *d)
{
    llm_flight_id_t  id;

    assert_int_equal(enter(a, 1, 1, owner, d, &id), LLM_OK);
    assert_true(id != 0);

    return id;
}


static inline llm_flight_id_t
follow(unsigned a, unsigned owner, char *d)
{
    llm_flight_id_t  id;

    assert_int_equal(enter(a, 1, 0, owner, d, &id), LLM_AGAIN);
    assert_true(id != 0);

    return id;
}


static inline int
append(llm_flight_id_t id, unsigned kind, const void *p, size_t len)
{
    int  rc;

    rc = llm_flight_append(fl, id, kind, p, len, &limits, NOW, &wake);
    check();

    return rc;
}


static inline int
say(llm_flight_id_t id, const char *s)
{
    return append(id, LLM_FLIGHT_DATA, s, strlen(s));
}


static inline void
end(llm_flight_id_t id, llm_flight_state_e state, uint64_t keep)
{
    llm_flight_end(fl, id, state, keep, &wake);
    check();
}


static inline void
leave(llm_flight_id_t id)
{
    llm_flight_leave(fl, id, &wake);
    check();
}


static inline void
get(llm_flight_id_t id, unsigned kinds, size_t size)
{
    memset(buf, 0, sizeof(buf));
    llm_flight_read(fl, id, kinds, buf, size, &pc);
    check();
}


static inline void
reads(llm_flight_id_t id, const char *s, llm_flight_state_e state)
{
    get(id, LLM_FLIGHT_DATA, sizeof(buf));
    assert_string_equal((char *) buf, s);
    assert_int_equal(pc.size, strlen(s));
    assert_int_equal(pc.state, state);
}


/* exactly these owners were to be woken since the last time */

static inline void
woken(uint64_t bits)
{
    assert_true(wake.bits[0] == bits);
    wake.bits[0] = 0;
}


static inline void
news(unsigned owner, void *d)
{
    assert_ptr_equal(llm_flight_news(fl, owner), d);
    check();
}


static inline llm_flight_stat_t
stat_of(void)
{
    llm_flight_stat_t  st;

    llm_flight_stat(fl, &st);

    return st;
}


#endif /* _FLIGHT_HELP_H_INCLUDED_ */
