
/*
 * Copyright (C) the ngx-llm authors
 *
 * The scenes.  All but the leased one begin at noon of 31 January 2026, so
 * that a day of it sees midnight and the first of a month.
 */


#include "sim.h"


#define NOON  1769860800

/* rpm, burst, tpm, burst_tokens, rpd, tpd, budget, month */

#define TEAM_SEARCH  { 150, 150, 90000, 90000, 0, 0, 2000000000, 1 }
#define TEAM_CHAT    { 60, 60, 0, 0, 40000, 0, 900000000, 0 }

#define NAMES                                                                 \
    { "t:search", -1, TEAM_SEARCH, 24, 0, 0, 0, 0, 0, 0 },                    \
    { "t:chat", -1, TEAM_CHAT, 8, 0, 0, 0, 0, 0, 0 },                         \
    { "k:greedy", 0, { 20, 10, 0, 0, 0, 0, 0, 0 }, 12, 36, 1, 3, 4, 300,      \
      990 },                                                                  \
    { "k:bursty", 0, { 60, 60, 30000, 30000, 0, 0, 0, 0 }, 8, 80, 0.05, 3,   \
      6, 900, 0 },                                                            \
    { "k:single", 0, { 20, 20, 0, 0, 0, 3000000, 0, 0 }, 2, 20, 0.5, 1, 3,    \
      500, 0 },                                                               \
    { "k:slots", 1, { 0, 0, 0, 0, 0, 0, 0, 0 }, 5, 24, 0.3, 3, 8, 200, 0 },   \
    { "k:dear", 1, { 40, 40, 0, 0, 0, 0, 100000000, 0 }, 4, 36, 0.2, 3, 2,    \
      2000, 0 }


const sim_scene_t  sim_scenes[] = {

    { "exact", LLM_QUOTA_EXACT, 3, 86400, NOON, 0,
      { NAMES },
      { { SIM_AWAY, 0, 0, 0, -1 } },
      7, 0, 0, 2 },

    { "leased", LLM_QUOTA_LEASED, 4, 3600, NOON + 39600, 1000,
      { { "t:all", -1, { 6000, 6000, 9000000, 9000000, 0, 0, 4000000000, 1 },
          0, 0, 0, 0, 0, 0, 0 },
        { "k:much", 0, { 3000, 1500, 0, 0, 0, 0, 0, 0 }, 0, 4500, 1, 4, 0.5,
          400, 985 },
        { "k:some", 0, { 2400, 2400, 900000, 900000, 0, 0, 0, 0 }, 60, 3000,
          0.3, 4, 1, 700, 0 },
        { "k:few", 0, { 60, 30, 0, 0, 0, 0, 0, 0 }, 8, 90, 1, 2, 1, 300,
          985 } },
      { { SIM_LOSE, 600, 1800, 50, -1 } },
      4, 1, 0, 1 },

    { "alone", LLM_QUOTA_EXACT, 3, 43200, NOON + 21600, 0,
      { NAMES },
      { { SIM_LOSE, 0, 43200, 50, -1 },
        { SIM_AWAY, 3600, 7200, 0, -1 },
        { SIM_AWAY, 21000, 22800, 0, -1 },
        { SIM_CUT, 30000, 31200, 0, 1 },
        { SIM_WALL, 14400, 43500, -3, 2 } },
      7, 5, 0, 2 },

    { "harm", LLM_QUOTA_EXACT, 3, 28800, NOON + 36000, 0,
      { NAMES },
      { { SIM_LOSE, 0, 28800, 20, -1 },
        { SIM_CLOCK, 3600, 5400, 7200000, -1 },
        { SIM_CLOCK, 7200, 7800, -600000, -1 },
        { SIM_FLUSH, 10800, 10801, 0, -1 },
        { SIM_FULL, 14400, 15600, 0, -1 },
        { SIM_VANISH, 18000, 18001, 0, 2 },
        { SIM_AWAY, 21600, 21900, 0, -1 } },
      7, 7, 1, 2 }
};

const unsigned  sim_nscenes = sizeof(sim_scenes) / sizeof(sim_scenes[0]);
