
/*
 * Copyright (C) the ngx-llm authors
 */


#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "load.h"


/* values keep 7 bits below the first: within 0.8 percent */
#define HIST_BITS     7
#define HIST_STEPS    (1 << HIST_BITS)
#define HIST_BUCKETS  ((64 - HIST_BITS + 1) * HIST_STEPS)


typedef struct {
    uint64_t       count;
    uint64_t       sum;
    uint64_t       max;
    uint64_t       buckets[HIST_BUCKETS];
} hist_t;


static hist_t      hists[HISTS];
static uint64_t    stat_from;
static uint64_t    stat_until;
static int64_t     stat_requests;
static int64_t     stat_ok;
static int64_t     stat_events;
static int64_t     stat_bytes;
static int64_t     stat_max_events;
static int64_t     stat_errors[ERRORS];
static int64_t     stat_over[OVERS];
static int64_t     stat_ttft_over[OVERS];


static double hist_percentile(const hist_t *h, double share);
static void hist_print(const char *name, const hist_t *h);
static void over_count(int64_t *over, uint64_t ns);
static void over_print(const char *name, const int64_t *over);


/* what was due before "from" is warming up and not counted */

void
stat_start(uint64_t from)
{
    stat_from = from;
    stat_until = from;
}


void
stat_value(load_hist_t hist, uint64_t due, uint64_t ns)
{
    int       shift;
    size_t    i;
    hist_t   *h;

    if (due < stat_from) {
        return;
    }

    h = &hists[hist];

    i = ns;

    if (ns >= HIST_STEPS) {
        shift = 63 - HIST_BITS - __builtin_clzll(ns);
        i = (size_t) (shift + 1) * HIST_STEPS
            + ((ns >> shift) & (HIST_STEPS - 1));
    }

    if (hist == HIST_TTFT) {
        over_count(stat_ttft_over, ns);
    }

    h->buckets[i]++;
    h->count++;
    h->sum += ns;

    if (ns > h->max) {
        h->max = ns;
    }
}


void
stat_result(load_error_t error, uint64_t due, uint64_t now, int64_t bytes,
    int64_t events)
{
    uint64_t  ns;

    if (due < stat_from) {
        return;
    }

    stat_requests++;
    stat_bytes += bytes;
    stat_events += events;

    if (now > stat_until) {
        stat_until = now;
    }

    if (error != ERROR_NONE) {
        stat_errors[error]++;
        return;
    }

    ns = now > due ? now - due : 0;

    stat_ok++;
    stat_value(HIST_LATENCY, due, ns);
    over_count(stat_over, ns);
}


void
stat_read_events(int64_t events)
{
    if (events > stat_max_events) {
        stat_max_events = events;
    }
}


int
stat_report(int64_t late)
{
    double         seconds, cpu;
    const int64_t *e;
    struct rusage  usage;

    getrusage(RUSAGE_SELF, &usage);

    cpu = (double) (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec)
          + (double) (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;

    seconds = (double) (stat_until - stat_from) / 1e9;
    e = stat_errors;

    printf("{\"requests\":%lld,\"ok\":%lld,\"errors\":{\"connect\":%lld,"
           "\"closed\":%lld,\"timeout\":%lld,\"status\":%lld,\"body\":%lld,"
           "\"protocol\":%lld},\"rps\":%.1f,\"seconds\":%.3f,",
           (long long) stat_requests, (long long) stat_ok,
           (long long) e[ERROR_CONNECT], (long long) e[ERROR_CLOSED],
           (long long) e[ERROR_TIMEOUT], (long long) e[ERROR_STATUS],
           (long long) e[ERROR_BODY], (long long) e[ERROR_PROTOCOL],
           seconds > 0 ? (double) stat_ok / seconds : 0, seconds);

    hist_print("latency", &hists[HIST_LATENCY]);
    hist_print("ttft", &hists[HIST_TTFT]);
    hist_print("gap", &hists[HIST_GAP]);
    hist_print("transit", &hists[HIST_TRANSIT]);
    hist_print("lag", &hists[HIST_LAG]);
    over_print("over", stat_over);

    if (load_options.stream) {
        over_print("ttft_over", stat_ttft_over);
    }

    printf("\"events\":%lld,\"max_events_per_read\":%lld,\"bytes\":%lld,"
           "\"late\":%lld,\"cpu_seconds\":%.3f}\n",
           (long long) stat_events, (long long) stat_max_events,
           (long long) stat_bytes, (long long) late, cpu);

    return stat_ok != 0 && stat_ok == stat_requests ? 0 : 1;
}


static double
hist_percentile(const hist_t *h, double share)
{
    int       shift;
    size_t    i;
    uint64_t  n, rank, low;

    rank = (uint64_t) ((double) h->count * share);
    rank = rank >= h->count ? h->count - 1 : rank;

    for (n = 0, i = 0; i < HIST_BUCKETS; i++) {
        n += h->buckets[i];

        if (n > rank) {
            break;
        }
    }

    if (i < HIST_STEPS) {
        return (double) i / 1000;
    }

    shift = (int) (i / HIST_STEPS) - 1;
    low = (uint64_t) (HIST_STEPS + i % HIST_STEPS) << shift;
    low += ((uint64_t) 1 << shift) / 2;

    return (double) (low < h->max ? low : h->max) / 1000;
}


static void
hist_print(const char *name, const hist_t *h)
{
    if (h->count == 0) {
        printf("\"%s\":null,", name);
        return;
    }

    printf("\"%s\":{\"p50\":%.1f,\"p90\":%.1f,\"p99\":%.1f,\"max\":%.1f,"
           "\"mean\":%.1f,\"count\":%llu},", name, hist_percentile(h, 0.5),
           hist_percentile(h, 0.9), hist_percentile(h, 0.99),
           (double) h->max / 1000,
           (double) h->sum / (double) h->count / 1000,
           (unsigned long long) h->count);
}


static void
over_count(int64_t *over, uint64_t ns)
{
    size_t  i;

    for (i = 0; i < load_options.overs; i++) {
        if (ns > (uint64_t) load_options.over[i] * 1000) {
            over[i]++;
        }
    }
}


static void
over_print(const char *name, const int64_t *over)
{
    size_t  i;

    if (load_options.overs == 0) {
        return;
    }

    for (i = 0; i < load_options.overs; i++) {
        if (i == 0) {
            printf("\"%s\":{", name);
        }

        printf("%s\"%lld\":%lld", i == 0 ? "" : ",",
               (long long) load_options.over[i], (long long) over[i]);
    }

    printf("},");
}
