
/*
 * Copyright (C) the ngx-llm authors
 *
 * The journal: a ring of the last requests, its buffers reused.
 */


#include <stdlib.h>
#include <string.h>

#include "mock.h"


#define JOURNAL_BODY  65536
#define JOURNAL_KEEP  (1 << 20)
#define JOURNAL_KEPT  256


typedef struct {
    uint64_t       number;
    uint64_t       connection;
    uint64_t       arrival;
    uint64_t       first;
    uint64_t       end;
    int64_t        in_flight;
    int64_t        status;
    int64_t        sent;
    int            rule;
    int            used;
    int            keep;
    int            crc_known;
    uint32_t       sent_crc;
    uint32_t       body_crc;            /* of a body too long to be here */
    size_t         body_length;
    ended_t        ended;
    buf_t          head;
    buf_t          body;
    buf_t          kept;
    buf_t          sni;                 /* as a C string; empty: none */
} record_t;


static record_t  *journal;
static size_t     journal_size;
static uint64_t   journal_next;         /* the number of the next request */
static uint64_t   journal_base;         /* the number of index 0 */
static uint64_t   journal_kept[JOURNAL_KEPT];
static size_t     journal_kept_n;


static record_t *journal_record(uint64_t number);
static void journal_keep(record_t *rec);
static void journal_record_json(buf_t *out, const record_t *rec);
static void journal_headers_json(buf_t *out, const http_head_t *head);
static void journal_text(buf_t *out, const char *name, const buf_t *text);
static void journal_time(buf_t *out, const char *name, uint64_t ns);


void
journal_init(size_t size)
{
    journal_size = size;
    journal = calloc(size + 1, sizeof(record_t));

    if (journal == NULL) {
        die("out of memory");
    }
}


/* what is still under way is not part of the new count, except in_flight */

void
journal_reset(void)
{
    int64_t  in_flight, connections;

    journal_base = journal_next;
    in_flight = mock_stats.in_flight;
    connections = mock_stats.connections;

    memset(&mock_stats, 0, sizeof(stats_t));

    mock_stats.in_flight = in_flight;
    mock_stats.max_in_flight = in_flight;
    mock_stats.connections = connections;
}


void
journal_begin(conn_t *c)
{
    record_t         *rec;
    const request_t  *r;

    c->record = journal_next++;

    if (journal_size == 0) {
        return;
    }

    r = &c->request;
    rec = &journal[c->record % journal_size];

    rec->used = 1;
    rec->number = c->record;
    rec->connection = c->number;
    rec->arrival = loop_now();
    rec->first = 0;
    rec->end = 0;
    rec->in_flight = mock_stats.in_flight;
    rec->status = 0;
    rec->rule = c->answer.rule;
    rec->keep = c->answer.act.keep == 1;
    rec->ended = ENDED_NOT;
    rec->body_length = r->body.len;

    rec->sni.len = 0;

    if (c->tls != NULL) {
        buf_str(&rec->sni, tls_server_name(c->tls));
    }

    rec->head.len = 0;
    buf_add(&rec->head, c->in.data, c->head.len);

    rec->body.len = 0;
    buf_add(&rec->body, r->body.data,
            r->body.len < JOURNAL_BODY ? r->body.len : JOURNAL_BODY);

    if (r->body.len > JOURNAL_BODY) {
        rec->body_crc = crc32_add(0, r->body.data, r->body.len);
    }

    if (rec->kept.size != 0) {
        buf_free(&rec->kept);
    }

    if (rec->keep) {
        journal_keep(rec);
    }
}


static record_t *
journal_record(uint64_t number)
{
    record_t  *rec;

    if (journal_size == 0) {
        return NULL;
    }

    rec = &journal[number % journal_size];

    return rec->used && rec->number == number ? rec : NULL;
}


/* the newest push out the oldest, so that memory has a bound */

static void
journal_keep(record_t *rec)
{
    uint64_t  *place;
    record_t  *old;

    place = &journal_kept[journal_kept_n++ % JOURNAL_KEPT];

    old = journal_kept_n > JOURNAL_KEPT ? journal_record(*place) : NULL;

    if (old != NULL && old != rec) {
        old->keep = 0;
        buf_free(&old->kept);
    }

    *place = rec->number;
}


void
journal_first(conn_t *c)
{
    record_t  *rec;

    rec = journal_record(c->record);

    if (rec != NULL && rec->first == 0) {
        rec->first = loop_now();
    }
}


void
journal_body(conn_t *c, const void *data, size_t len)
{
    size_t     room;
    record_t  *rec;

    if (c->answer.act.keep != 1) {
        return;
    }

    rec = journal_record(c->record);

    if (rec != NULL && rec->keep) {
        room = JOURNAL_KEEP - rec->kept.len;
        buf_add(&rec->kept, data, len < room ? len : room);
    }
}


void
journal_end(conn_t *c, ended_t ended)
{
    record_t        *rec;
    const answer_t  *a;

    a = &c->answer;
    mock_stats.in_flight--;

    if (c->record >= journal_base) {
        mock_stats.done += ended == ENDED_DONE;
        mock_stats.cut += ended == ENDED_CUT;
        mock_stats.client_closed += ended == ENDED_CLIENT;
        usage_count(&mock_stats, c);
    }

    rec = journal_record(c->record);

    if (rec != NULL) {
        rec->end = ended == ENDED_DONE && a->event == 0 ? rec->first
                                                        : loop_now();
        rec->ended = ended;
        rec->status = a->status;
        rec->sent = a->sent;
        rec->sent_crc = a->crc;
        rec->crc_known = a->crc_known;
    }

    control_wake();
}


void
journal_json(buf_t *out, int64_t from, int64_t limit)
{
    uint64_t   number, first;
    record_t  *rec;

    first = journal_base;

    if (journal_next - first > journal_size) {
        first = journal_next - journal_size;
    }

    buf_add(out, "{", 1);
    journal_time(out, "now_ms", loop_now());
    buf_add(out, ",", 1);
    journal_time(out, "since_ms", mock_script->since);
    buf_fmt(out, ",\"dropped\":%llu,\"requests\":[",
            (unsigned long long) (first - journal_base));

    number = journal_base + (uint64_t) from;
    number = number < first ? first : number;

    for ( /* void */ ; number < journal_next && limit != 0; number++) {
        rec = journal_record(number);

        if (rec != NULL) {
            buf_str(out, out->data[out->len - 1] == '[' ? "\n" : ",\n");
            journal_record_json(out, rec);
            limit--;
        }
    }

    buf_str(out, "]}\n");
}


int
journal_sent(int64_t index, buf_t *out)
{
    record_t  *rec;

    rec = journal_record(journal_base + (uint64_t) index);

    if (rec == NULL || !rec->keep) {
        return 0;
    }

    buf_add(out, rec->kept.data, rec->kept.len);

    return 1;
}


static void
journal_record_json(buf_t *out, const record_t *rec)
{
    uint32_t     crc;
    http_head_t  head;

    static const char *const  ended[] = {
        "null", "\"done\"", "\"client_closed\"", "\"cut\""
    };

    http_request(&head, rec->head.data, rec->head.len);

    buf_fmt(out, "{\"index\":%llu,\"connection\":%llu,\"method\":",
            (unsigned long long) (rec->number - journal_base),
            (unsigned long long) rec->connection);
    buf_json(out, head.method.data, head.method.len);
    buf_str(out, ",\"path\":");
    buf_json(out, head.target.data, head.target.len);

    if (rec->sni.len != 0) {
        buf_str(out, ",\"sni\":");
        buf_json(out, rec->sni.data, rec->sni.len);
    }

    buf_str(out, ",\"headers\":{");
    journal_headers_json(out, &head);
    buf_str(out, "}");

    journal_text(out, "head", &rec->head);
    journal_text(out, "body", &rec->body);

    crc = rec->body_length > JOURNAL_BODY
          ? rec->body_crc : crc32_add(0, rec->body.data, rec->body.len);

    buf_fmt(out, ",\"body_length\":%zu,\"body_crc32\":%u,\"rule\":",
            rec->body_length, crc);
    buf_fmt(out, rec->rule < 0 ? "null," : "%d,", rec->rule);

    journal_time(out, "arrival_ms", rec->arrival);
    buf_add(out, ",", 1);
    journal_time(out, "first_ms", rec->first);
    buf_add(out, ",", 1);
    journal_time(out, "end_ms", rec->end);

    buf_fmt(out, ",\"in_flight\":%lld,\"ended\":%s",
            (long long) rec->in_flight, ended[rec->ended]);

    if (rec->ended == ENDED_NOT) {
        buf_str(out, ",\"status\":null,\"sent_length\":null,"
                "\"sent_crc32\":null}");
        return;
    }

    buf_fmt(out, ",\"status\":%lld,\"sent_length\":%lld,\"sent_crc32\":",
            (long long) rec->status, (long long) rec->sent);
    buf_fmt(out, rec->crc_known ? "%u}" : "null}", rec->sent_crc);
}


static void
journal_headers_json(buf_t *out, const http_head_t *head)
{
    char           ch;
    size_t         i, k, n;
    buf_t          name, value;
    const span_t  *first;

    memset(&name, 0, sizeof(buf_t));
    memset(&value, 0, sizeof(buf_t));

    for (n = 0, i = 0; i < head->n; i++) {
        name.len = 0;
        value.len = 0;

        for (k = 0; k < head->headers[i].name.len; k++) {
            ch = head->headers[i].name.data[k];
            ch = ch >= 'A' && ch <= 'Z' ? (char) (ch | 0x20) : ch;
            buf_add(&name, &ch, 1);
        }

        buf_add(&name, "", 1);
        first = http_header(head, name.data);

        if (first != &head->headers[i].value) {
            continue;
        }

        buf_span(&value, *first);

        for (k = i + 1; k < head->n; k++) {
            if (span_eq_case(head->headers[k].name, head->headers[i].name)) {
                buf_str(&value, ", ");
                buf_span(&value, head->headers[k].value);
            }
        }

        buf_str(out, n++ == 0 ? "" : ",");
        buf_json(out, name.data, name.len - 1);
        buf_add(out, ":", 1);
        buf_json(out, value.data, value.len);
    }

    buf_free(&name);
    buf_free(&value);
}


static void
journal_text(buf_t *out, const char *name, const buf_t *text)
{
    size_t  len, cut;

    len = text->len;

    /* the limit may have cut a character */

    for (cut = 0; len == JOURNAL_BODY && cut < 4; cut++) {
        if (utf8_valid(text->data, len - cut)) {
            len -= cut;
            break;
        }
    }

    if (utf8_valid(text->data, len)) {
        buf_fmt(out, ",\"%s\":", name);
        buf_json(out, text->data, len);
        return;
    }

    buf_fmt(out, ",\"%s_base64\":\"", name);
    buf_base64(out, text->data, text->len);
    buf_add(out, "\"", 1);
}


static void
journal_time(buf_t *out, const char *name, uint64_t ns)
{
    buf_fmt(out, "\"%s\":", name);

    if (ns == 0) {
        buf_str(out, "null");
        return;
    }

    buf_fmt(out, "%llu.%03llu", (unsigned long long) (ns / LOOP_MS),
            (unsigned long long) (ns / 1000 % 1000));
}
