
/*
 * Copyright (C) the ngx-llm authors
 *
 * The events of a stream, each made when its time has come.
 */


#include <string.h>

#include "mock.h"


static int event_chat(buf_t *data, const request_t *r, const answer_t *a,
    int64_t k);
static void event_chunk(buf_t *data, const request_t *r, const answer_t *a,
    int64_t choice, int64_t piece);
static void event_delta(buf_t *data, const request_t *r, const answer_t *a,
    int64_t piece);
static const char *event_response(buf_t *data, const request_t *r,
    const answer_t *a, int64_t k);
static void event_text(buf_t *data, const answer_t *a, int64_t at);
static void event_part(buf_t *data, const answer_t *a, const char *name,
    int with_text);
static void event_write(buf_t *out, const answer_t *a, const char *name,
    const buf_t *data);


#define PIECE_ROLE    -1
#define PIECE_FINISH  INT64_MAX


/* reused: one thread */
static buf_t  event_scratch;


int
event_add(buf_t *out, const request_t *r, const answer_t *a, int64_t k)
{
    const char    *name;

    static buf_t   data;

    data.len = 0;
    name = NULL;

    if (a->act.error_event >= 0 && k >= a->act.error_event) {

        if (k > a->act.error_event + (a->act.error_done == 1)) {
            return 0;
        }

        if (k > a->act.error_event) {
            buf_str(&data, "[DONE]");

        } else if (r->endpoint == EP_RESPONSES || r->endpoint == EP_STORED) {
            name = "error";
            buf_add(&data, "{", 1);
            body_error_fields(&data, 500, &a->act, 1);
            buf_fmt(&data, ",\"sequence_number\":%lld}", (long long) k);

        } else {
            buf_str(&data, "{\"error\":{");
            body_error_fields(&data, 500, &a->act, 0);
            buf_str(&data, "}}");
        }

    } else if (r->endpoint == EP_RESPONSES || r->endpoint == EP_STORED) {
        name = event_response(&data, r, a, k);

        if (name == NULL) {
            return 0;
        }

    } else if (!event_chat(&data, r, a, k)) {
        return 0;
    }

    event_write(out, a, name, &data);

    return 1;
}


/* role, pieces, finish, each for every choice; usage; [DONE] */

static int
event_chat(buf_t *data, const request_t *r, const answer_t *a, int64_t k)
{
    int      usage;
    int64_t  row, rows;

    rows = a->pieces + 1 + (r->endpoint == EP_CHAT);
    row = k / r->n;

    if (row < rows) {
        if (r->endpoint == EP_CHAT) {
            row--;
        }

        event_chunk(data, r, a, k % r->n,
                    row == a->pieces ? PIECE_FINISH : row);
        return 1;
    }

    k -= rows * r->n;

    usage = a->act.usage == USAGE_ALWAYS
            || (a->act.usage <= USAGE_AUTO && r->include_usage);

    if (k == 0 && usage) {
        event_chunk(data, r, a, -1, PIECE_FINISH);
        return 1;
    }

    if (k == usage && a->act.no_done != 1) {
        buf_str(data, "[DONE]");
        return 1;
    }

    return 0;
}


/* choice -1: the chunk that carries only the usage */

static void
event_chunk(buf_t *data, const request_t *r, const answer_t *a,
    int64_t choice, int64_t piece)
{
    int      chat;
    int64_t  total, usage;

    chat = r->endpoint == EP_CHAT;
    usage = a->act.usage;
    total = a->act.completion_tokens >= 0 ? a->act.completion_tokens : 20;

    buf_fmt(data, "{\"id\":\"%s-mock%016llx\",\"object\":\"%s\","
            "\"created\":%llu,\"model\":",
            chat ? "chatcmpl" : "cmpl", (unsigned long long) a->id,
            chat ? "chat.completion.chunk" : "text_completion",
            (unsigned long long) mock_created);
    body_model(data, r, a);

    buf_str(data, chat ? ",\"service_tier\":\"default\"" : "");
    buf_str(data, ",\"system_fingerprint\":\"fp_mock\",\"choices\":[");

    if (choice >= 0) {
        buf_fmt(data, "{\"index\":%lld,", (long long) choice);
        event_delta(data, r, a, piece);
        buf_str(data, ",\"logprobs\":null,\"finish_reason\":");

        if (piece == PIECE_FINISH) {
            body_finish(data, a);

        } else {
            buf_str(data, "null");
        }

        buf_add(data, "}", 1);
    }

    buf_add(data, "]", 1);

    if (choice == -1 || usage == USAGE_EVERY
        || (usage == USAGE_LAST && piece == PIECE_FINISH
            && choice == r->n - 1))
    {
        if (piece != PIECE_FINISH) {
            total = total * (piece + 1) / (a->pieces + 1);
        }

        buf_str(data, ",\"usage\":");
        body_usage(data, a, total);

    } else if (r->include_usage && usage != USAGE_NONE) {
        buf_str(data, ",\"usage\":null");
    }

    buf_add(data, "}", 1);
}


static void
event_delta(buf_t *data, const request_t *r, const answer_t *a,
    int64_t piece)
{
    int     tool;
    span_t  text;

    tool = a->act.tool_name.data != NULL;
    text = span("");

    if (piece != PIECE_ROLE && piece != PIECE_FINISH) {
        text = answer_piece(a, piece, &event_scratch);
    }

    if (r->endpoint != EP_CHAT) {
        buf_str(data, "\"text\":");
        buf_json(data, text.data, text.len);
        return;
    }

    buf_str(data, "\"delta\":{");

    if (piece == PIECE_ROLE && tool) {
        buf_fmt(data, "\"role\":\"assistant\",\"content\":null,"
                "\"tool_calls\":[{\"index\":0,\"id\":\"call_mock%016llx\","
                "\"type\":\"function\",\"function\":{\"name\":",
                (unsigned long long) a->id);
        buf_json(data, a->act.tool_name.data, a->act.tool_name.len);
        buf_str(data, ",\"arguments\":\"\"}}],\"refusal\":null");

    } else if (piece == PIECE_ROLE) {
        buf_str(data, "\"role\":\"assistant\",\"content\":\"\","
                "\"refusal\":null");

    } else if (piece != PIECE_FINISH && tool) {
        buf_str(data, "\"tool_calls\":[{\"index\":0,"
                "\"function\":{\"arguments\":");
        buf_json(data, text.data, text.len);
        buf_str(data, "}}]");

    } else if (piece != PIECE_FINISH) {
        buf_str(data, "\"content\":");
        buf_json(data, text.data, text.len);
    }

    buf_add(data, "}", 1);
}


/*
 * A function call has no content part, so those two events are passed over;
 * the name of the event, NULL after the last
 */

static const char *
event_response(buf_t *data, const request_t *r, const answer_t *a, int64_t k)
{
    int          tool;
    int64_t      at;
    const char  *name, *status;

    static const char *const  before[] = {
        "response.created", "response.in_progress",
        "response.output_item.added", "response.content_part.added"
    };

    static const char *const  after[] = {
        "response.output_text.done", "response.content_part.done",
        "response.output_item.done", "response.completed"
    };

    tool = a->act.tool_name.data != NULL;
    at = k - (tool ? 3 : 4) - a->pieces;

    if (tool && at >= 1) {
        at++;
    }

    if (at > 3 || (at == 3 && span_is(a->act.finish_reason, "none"))) {
        return NULL;
    }

    if (at < 0 && at >= -a->pieces) {
        name = tool ? "response.function_call_arguments.delta"
                    : "response.output_text.delta";

    } else {
        name = at < 0 ? before[k] : after[at];
    }

    if (tool && at == 0) {
        name = "response.function_call_arguments.done";
    }

    status = "in_progress";

    if (at == 3) {
        status = "completed";

        if (span_is(a->act.finish_reason, "length")) {
            name = "response.incomplete";
            status = "incomplete";
        }
    }

    buf_fmt(data, "{\"type\":\"%s\",\"sequence_number\":%lld",
            name, (long long) k);

    if (at == 3 || k < 2) {
        buf_str(data, ",\"response\":");
        body_response(data, r, a, status);

    } else if (at == 2 || k == 2) {
        buf_str(data, ",\"output_index\":0,\"item\":");
        body_item(data, a, at == 2 ? "completed" : "in_progress");

    } else {
        event_text(data, a, at);
    }

    buf_add(data, "}", 1);

    return name;
}


/* at: below -pieces a part begins, below 0 a delta, 0 the text, 1 the part */

static void
event_text(buf_t *data, const answer_t *a, int64_t at)
{
    int     tool;
    span_t  text;

    tool = a->act.tool_name.data != NULL;

    if (at == 1 || at < -a->pieces) {
        event_part(data, a, "part", at == 1);
        return;
    }

    if (at == 0) {
        event_part(data, a, tool ? "arguments" : "text", 1);
        return;
    }

    text = answer_piece(a, at + a->pieces, &event_scratch);
    event_part(data, a, "delta", 0);
    buf_json(data, text.data, text.len);
    buf_str(data, tool ? "" : ",\"logprobs\":[]");
}


/* where in the response an event belongs, and the text so far */

static void
event_part(buf_t *data, const answer_t *a, const char *name, int with_text)
{
    int      tool;
    span_t   text;
    int64_t  i;
    buf_t    all;

    tool = a->act.tool_name.data != NULL;

    buf_fmt(data, ",\"item_id\":\"%s_mock%016llx\",\"output_index\":0,%s"
            "\"%s\":", tool ? "fc" : "msg", (unsigned long long) a->id,
            tool ? "" : "\"content_index\":0,", name);

    if (strcmp(name, "delta") == 0) {
        return;
    }

    memset(&all, 0, sizeof(buf_t));

    for (i = 0; with_text && i < a->pieces; i++) {
        text = answer_piece(a, i, &event_scratch);
        buf_span(&all, text);
    }

    if (strcmp(name, "part") == 0) {
        buf_str(data, "{\"type\":\"output_text\",\"annotations\":[],"
                "\"logprobs\":[],\"text\":");
    }

    buf_json(data, all.data, all.len);

    if (strcmp(name, "part") == 0) {
        buf_add(data, "}", 1);

    } else if (!tool) {
        buf_str(data, ",\"logprobs\":[]");
    }

    buf_free(&all);
}


static void
event_write(buf_t *out, const answer_t *a, const char *name,
    const buf_t *data)
{
    const char  *eol;

    eol = a->act.eol == EOL_CRLF ? "\r\n" : a->act.eol == EOL_CR ? "\r" : "\n";

    if (a->act.comment.data != NULL) {
        buf_str(out, ": ");
        buf_span(out, a->act.comment);
        buf_str(out, eol);
        buf_str(out, eol);
    }

    if (name != NULL) {
        buf_fmt(out, "event: %s%s", name, eol);
    }

    buf_str(out, "data: ");
    buf_add(out, data->data, data->len);
    buf_str(out, eol);
    buf_str(out, eol);
}
