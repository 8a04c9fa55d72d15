
/*
 * Copyright (C) the ngx-llm authors
 *
 * What a scene's admissions are held against: one exact meter per limit that
 * sees all of them in the order in which they were decided.
 */


#include "sim.h"

#include <stdlib.h>
#include <string.h>


#define CHECK_COLUMNS  300

#define PICTURE_W  760
#define PICTURE_H  300
#define PICTURE_X  60
#define PICTURE_Y  60


static int
earlier(const void *a, const void *b)
{
    const sim_point_t  *x = a, *y = b;

    if (x->ms != y->ms) {
        return x->ms < y->ms ? -1 : 1;
    }

    /* at the same time what is given back comes first */

    if (x->tokens != y->tokens) {
        return x->tokens < y->tokens ? -1 : 1;
    }

    return 0;
}


static int
has(const sim_scene_t *sc, sim_fault_e what)
{
    unsigned  i;

    for (i = 0; i < sc->faults; i++) {

        if (sc->fault[i].what == what) {
            return 1;
        }
    }

    return 0;
}


/* how far above "burst" the level ever was, in units, rounded up */

static int64_t
above(const sim_count_t *c, uint64_t rate, uint64_t burst, int tokens)
{
    size_t        i;
    int64_t       most, over;
    llm_bucket_t  b;

    b.level = 0;
    b.time = 0;
    most = 0;

    for (i = 0; i < c->n; i++) {
        llm_bucket_leak(&b, rate, c->point[i].ms);
        llm_bucket_take(&b, tokens ? c->point[i].tokens
                                   : c->point[i].requests);

        if (b.level > most) {
            most = b.level;
        }
    }

    over = most - (int64_t) burst * LLM_BUCKET_UNIT;

    return over <= 0 ? 0 : (over - 1) / LLM_BUCKET_UNIT + 1;
}


/*
 * What may be admitted above burst + rate * t.  Leased: the chunks of all
 * gateways; of tokens twice that, since what is given back is kept until it
 * is the double.  Each fault may fill a bucket once: gateways have their own
 * when they are alone, and a store that forgets has an empty one.  One that
 * is cut off adds its part for as long as that lasts.
 */

static int64_t
slack(const sim_scene_t *sc, uint64_t rate, uint64_t burst, int tokens)
{
    int64_t             n;
    unsigned            i;
    const sim_fault_t  *f;

    n = 0;

    if (sc->mode == LLM_QUOTA_LEASED) {
        n += (int64_t) (rate * sc->ahead / 60000) * (tokens ? 2 : 1);
    }

    for (i = 0; i < sc->faults; i++) {
        f = &sc->fault[i];

        switch (f->what) {

        case SIM_CUT:
            n += (int64_t) (rate * (f->to - f->from) / 60 / sc->gateways);
            /* fall through */

        case SIM_AWAY:
        case SIM_CLOCK:
        case SIM_FLUSH:
        case SIM_FULL:
            n += (int64_t) (burst + sc->gateways);
            break;

        default:
            break;
        }
    }

    return n;
}


static int
meters(const sim_scene_t *sc, unsigned i, const sim_count_t *c)
{
    int                bad;
    double             part;
    int64_t            over, may;
    const llm_rates_t  *rt;

    bad = 0;
    rt = &sc->name[i].rates;

    if (rt->rpm) {
        over = above(c, rt->rpm, rt->burst, 0);
        may = slack(sc, rt->rpm, rt->burst, 0);
        part = (double) c->admitted * 60
               / ((double) rt->rpm * (double) sc->seconds);

        printf("  %-10s requests: %llu of %llu admitted, %.3f of the rate, "
               "%lld above the burst (may: %lld)\n", sc->name[i].name,
               (unsigned long long) c->admitted,
               (unsigned long long) c->offered, part, (long long) over,
               (long long) may);

        if (over > may) {
            printf("    too much\n");
            bad = 1;
        }

        if (part * 1000 < sc->name[i].floor) {
            printf("    too little\n");
            bad = 1;
        }
    }

    if (rt->tpm) {
        over = above(c, rt->tpm, rt->burst_tokens, 1);
        may = slack(sc, rt->tpm, rt->burst_tokens, 1);

        printf("  %-10s tokens: %lld above the burst (may: %lld)\n",
               sc->name[i].name, (long long) over, (long long) may);

        if (over > may) {
            printf("    too much\n");
            bad = 1;
        }
    }

    return bad;
}


static int
slots(const sim_scene_t *sc, unsigned i, const sim_count_t *c)
{
    int  may;

    may = (int) sc->name[i].concurrency;

    if (may == 0) {
        return 0;
    }

    if (has(sc, SIM_AWAY) || has(sc, SIM_CUT) || has(sc, SIM_FLUSH)) {
        may += may + (int) sc->gateways;
    }

    printf("  %-10s slots: %d at once (may: %d)\n", sc->name[i].name,
           c->most, may);

    if (c->most > may) {
        printf("    too many\n");
        return 1;
    }

    return 0;
}


static int
same(const char *name, const char *what, const double *v,
    const llm_amount_t used[2])
{
    int                  k, bad;
    const llm_amount_t  *u;

    bad = 0;

    for (k = 0; k < 8; k += 4) {

        if (v[k] == 0) {
            continue;
        }

        u = &used[(int64_t) v[k] & 1];

        if (v[k + 1] != (double) u->requests || v[k + 2] != (double) u->tokens
            || v[k + 3] != (double) u->money)
        {
            printf("    %s: %s %.0f: the store says %.0f %.0f %.0f, used "
                   "were %lld %lld %lld\n", name, what, v[k], v[k + 1],
                   v[k + 2], v[k + 3], (long long) u->requests,
                   (long long) u->tokens, (long long) u->money);
            bad = 1;
        }
    }

    return bad;
}


/* the store's tallies are what was used, to the unit */

static int
sums(const sim_scene_t *sc, unsigned i, const sim_count_t *c, store_t *st)
{
    int          n, bad;
    char         key[128], *end;
    double       v[24];
    const char  *p;

    if (sc->loose || c->admitted == 0
        || (sc->name[i].rates.rpd | sc->name[i].rates.tpd
            | sc->name[i].rates.budget) == 0)
    {
        return 0;
    }

    snprintf(key, sizeof(key), "{llm}:l:%s", sc->name[i].name);
    p = store_get(st, key);

    for (n = 0; p != NULL && n < 24 && *p != '\0'; p = end) {
        v[n++] = strtod(p, &end);
    }

    if (n != 21) {
        printf("    %s: the store knows nothing\n", sc->name[i].name);
        return 1;
    }

    bad = same(sc->name[i].name, "day", v + 5, c->day);
    bad |= same(sc->name[i].name, "month", v + 13, c->month);

    printf("  %-10s sums: %s\n", sc->name[i].name, bad ? "wrong" : "equal");

    return bad;
}


static void
outages(const sim_scene_t *sc, FILE *f, double scale)
{
    unsigned            i;
    const sim_fault_t  *t;
    static const char  *text[] = { "store away", "one cut off", "", "clock",
                                   "", "forgets", "full", "one gone" };

    for (i = 0; i < sc->faults; i++) {
        t = &sc->fault[i];

        if (*text[t->what] == '\0') {
            continue;
        }

        fprintf(f, "<rect x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"%d\" "
                "fill=\"#f6d5d5\"/>\n<text x=\"%.1f\" y=\"%d\" "
                "font-size=\"10\" fill=\"#a04040\">%s</text>\n",
                PICTURE_X + (double) t->from * scale, PICTURE_Y,
                t->to - t->from > 1 ? (double) (t->to - t->from) * scale : 1,
                PICTURE_H - PICTURE_Y - 40,
                PICTURE_X + (double) t->from * scale, PICTURE_Y - 4,
                text[t->what]);
    }
}


static void
picture(const sim_scene_t *sc, unsigned i, const double *admitted,
    double limit, const char *path)
{
    int     k, bottom;
    FILE   *f;
    double  most, width, y;

    f = fopen(path, "w");

    if (f == NULL) {
        perror(path);
        exit(1);
    }

    most = limit;
    width = PICTURE_W - PICTURE_X - 20;
    bottom = PICTURE_H - 40;

    for (k = 0; k < CHECK_COLUMNS; k++) {
        most = admitted[k] > most ? admitted[k] : most;
    }

    most *= 1.1;

    fprintf(f, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" "
            "height=\"%d\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" "
            "font-size=\"13\">\n<rect width=\"100%%\" height=\"100%%\" "
            "fill=\"#ffffff\"/>\n<text x=\"16\" y=\"24\" font-size=\"15\" "
            "font-weight=\"bold\">%s: %u gateways, one limit</text>\n"
            "<text x=\"16\" y=\"42\" fill=\"#57606a\">requests of %s per "
            "minute, admitted and (line) allowed</text>\n", PICTURE_W,
            PICTURE_H, PICTURE_W, PICTURE_H, sc->title, sc->gateways,
            sc->name[i].name);

    outages(sc, f, width / (double) sc->seconds);

    fprintf(f, "<polyline fill=\"none\" stroke=\"#1f6feb\" points=\"");

    for (k = 0; k < CHECK_COLUMNS; k++) {
        y = bottom - admitted[k] / most * (bottom - PICTURE_Y);
        fprintf(f, "%.1f,%.1f ", PICTURE_X + (k + 0.5) * width
                / CHECK_COLUMNS, y);
    }

    y = bottom - limit / most * (bottom - PICTURE_Y);

    fprintf(f, "\"/>\n<line x1=\"%d\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" "
            "stroke=\"#24292f\"/>\n<text x=\"%d\" y=\"%.1f\" "
            "text-anchor=\"end\">%.0f</text>\n", PICTURE_X, y,
            PICTURE_X + width, y, PICTURE_X - 6, y + 4, limit);

    fprintf(f, "<line x1=\"%d\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\" "
            "stroke=\"#d0d7de\"/>\n<text x=\"%d\" y=\"%d\" "
            "text-anchor=\"end\">0</text>\n", PICTURE_X, bottom,
            PICTURE_X + width, bottom, PICTURE_X - 6, bottom + 4);

    for (k = 0; k <= 6; k++) {
        fprintf(f, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\" "
                "font-size=\"11\" fill=\"#57606a\">%.1f h</text>\n",
                PICTURE_X + width * k / 6, bottom + 18,
                (double) sc->seconds * k / 6 / 3600);
    }

    fprintf(f, "</svg>\n");
    fclose(f);
}


static void
rows(const sim_scene_t *sc, unsigned i, const sim_count_t *c, FILE *csv,
    const char *svg)
{
    int       k;
    size_t    n;
    double    column[CHECK_COLUMNS], tokens[CHECK_COLUMNS], minutes;
    uint64_t  ms;

    memset(column, 0, sizeof(column));
    memset(tokens, 0, sizeof(tokens));

    ms = sc->seconds * 1000;
    minutes = (double) sc->seconds / 60 / CHECK_COLUMNS;

    for (n = 0; n < c->n; n++) {

        if (c->point[n].ms < ms) {
            k = (int) (c->point[n].ms * CHECK_COLUMNS / ms);
            column[k] += (double) c->point[n].requests / minutes;
            tokens[k] += (double) c->point[n].tokens / minutes;
        }
    }

    for (k = 0; k < CHECK_COLUMNS; k++) {
        fprintf(csv, "%s,%.0f,%.2f,%.2f\n", sc->name[i].name,
                (double) sc->seconds * k / CHECK_COLUMNS, column[k],
                tokens[k]);
    }

    if (sc->picture == (int) i) {
        picture(sc, i, column, (double) sc->name[i].rates.rpm, svg);
    }
}


int
sim_check(const sim_scene_t *sc, sim_count_t *count, store_t *st, FILE *csv,
    const char *svg)
{
    int       bad;
    unsigned  i;

    bad = 0;
    fprintf(csv, "name,second,requests_per_minute,tokens_per_minute\n");

    for (i = 0; i < sc->names; i++) {
        qsort(count[i].point, count[i].n, sizeof(sim_point_t), earlier);

        bad |= meters(sc, i, &count[i]);
        bad |= slots(sc, i, &count[i]);
        bad |= sums(sc, i, &count[i], st);

        rows(sc, i, &count[i], csv, svg);
    }

    return bad;
}
