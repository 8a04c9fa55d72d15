
/*
 * Copyright (C) the ngx-llm authors
 *
 * The text of an answer, and the JSON bodies that carry it.
 */


#include <stdio.h>
#include <string.h>

#include "mock.h"


#define text(s)  { s, sizeof(s) - 1 }


static const char  default_content[] =
    "Hello from the mock provider, which always says the same.";

static const char  filler[] =
    "abcdefghijklmnopqrstuvwxyz-ABCDEFGHIJKLMNOPQRSTUVWXYZ-0123456789";

static const struct {
    int       status;
    span_t    type;
    span_t    code;
    span_t    message;
} errors[] = {
    { 400, text("invalid_request_error"), text("null"),
      text("The request is not valid.") },
    { 401, text("invalid_request_error"), text("invalid_api_key"),
      text("Incorrect API key provided.") },
    { 403, text("invalid_request_error"), text("null"),
      text("You may not do this.") },
    { 404, text("invalid_request_error"), text("null"), text("Not found.") },
    { 409, text("invalid_request_error"), text("null"),
      text("Conflict, try again.") },
    { 413, text("invalid_request_error"), text("null"),
      text("The request is too large.") },
    { 429, text("requests"), text("rate_limit_exceeded"),
      text("Rate limit reached. Please try again in 1s.") },
    { 503, text("server_error"), text("null"),
      text("The server is overloaded.") },
    { 529, text("overloaded_error"), text("null"), text("Overloaded") },
    { 0,   text("server_error"), text("null"),
      text("The server had an error while processing your request.") }
};


static int64_t answer_offset(const answer_t *a, int64_t piece);
static void body_choices(buf_t *out, const request_t *r, const answer_t *a);
static void body_message(buf_t *out, const answer_t *a);
static void body_content(buf_t *out, const answer_t *a);


/* how long the content is and into how many pieces it falls */

void
answer_content(answer_t *a)
{
    const action_t  *act;

    act = &a->act;
    a->piece_size = 0;

    if (act->tool_name.data != NULL) {
        a->content = act->tool_args.data != NULL ? act->tool_args
                                                 : span("{\"a\": 1}");

    } else if (act->content.data != NULL) {
        a->content = act->content;

    } else if (act->content_bytes >= 0) {
        a->content.data = NULL;
        a->content.len = (size_t) act->content_bytes;

    } else if (act->chunks >= 0 || act->chunk_bytes > 0) {
        a->pieces = act->chunks >= 0 ? act->chunks : 8;
        a->piece_size = act->chunk_bytes > 0 ? act->chunk_bytes : 8;
        a->content.data = NULL;
        a->content.len = (size_t) (a->pieces * a->piece_size);
        return;

    } else {
        a->content = span(default_content);
    }

    if (act->chunks >= 0) {
        a->pieces = act->chunks;
        return;
    }

    a->pieces = 8;

    if (act->chunk_bytes > 0) {
        a->piece_size = act->chunk_bytes;
        a->pieces = ((int64_t) a->content.len + a->piece_size - 1)
                    / a->piece_size;
    }
}


span_t
answer_piece(const answer_t *a, int64_t piece, buf_t *scratch)
{
    char     stamp[32];
    int64_t  from, to, n;

    from = answer_offset(a, piece);
    to = answer_offset(a, piece + 1);

    if (a->content.data != NULL && a->act.stamp != 1) {
        return (span_t) { a->content.data + from, (size_t) (to - from) };
    }

    scratch->len = 0;

    if (a->act.stamp == 1) {
        n = snprintf(stamp, sizeof(stamp), "@%019llu@",
                     (unsigned long long) loop_now());
        buf_add(scratch, stamp, (size_t) n);
    }

    if (a->content.data != NULL) {
        buf_add(scratch, a->content.data + from, (size_t) (to - from));
    }

    while (a->content.data == NULL && from < to) {
        n = 64 - (from & 63);
        n = n < to - from ? n : to - from;
        buf_add(scratch, filler + (from & 63), (size_t) n);
        from += n;
    }

    return (span_t) { scratch->data, scratch->len };
}


static int64_t
answer_offset(const answer_t *a, int64_t piece)
{
    int64_t  at, len;

    len = (int64_t) a->content.len;

    at = piece >= a->pieces ? len
         : a->piece_size != 0 ? piece * a->piece_size
         : len * piece / a->pieces;

    if (at > len) {
        at = len;
    }

    while (a->content.data != NULL && at < len
           && (a->content.data[at] & 0xc0) == 0x80)
    {
        at++;
    }

    return at;
}


static void
body_content(buf_t *out, const answer_t *a)
{
    size_t  n, left;

    if (a->content.data != NULL) {
        buf_json(out, a->content.data, a->content.len);
        return;
    }

    buf_add(out, "\"", 1);

    for (left = a->content.len; left != 0; left -= n) {
        n = left < 64 ? left : 64;
        buf_add(out, filler, n);
    }

    buf_add(out, "\"", 1);
}


/* of an error object, or of an event of /responses ("flat") */

void
body_error_fields(buf_t *out, int64_t status, const action_t *act, int flat)
{
    size_t  i;
    span_t  code, type, message;

    for (i = 0; errors[i].status != 0 && errors[i].status != status; i++) {
        /* void */
    }

    if (errors[i].status == 0 && status >= 400 && status < 500) {
        i = 0;
    }

    message = act->error_message.data != NULL ? act->error_message
                                              : errors[i].message;
    type = act->error_type.data != NULL ? act->error_type : errors[i].type;
    code = act->error_code.data != NULL ? act->error_code : errors[i].code;

    buf_str(out, "\"message\":");
    buf_json(out, message.data, message.len);

    buf_str(out, ",\"type\":");

    if (flat) {
        buf_str(out, "\"error\"");

    } else {
        buf_json(out, type.data, type.len);
    }

    buf_str(out, ",\"param\":null,\"code\":");

    if (span_is(code, "null")) {
        buf_str(out, "null");

    } else {
        buf_json(out, code.data, code.len);
    }
}


void
body_error(buf_t *out, int64_t status, const action_t *act)
{
    buf_str(out, "{\"error\":{");
    body_error_fields(out, status, act, 0);
    buf_str(out, "}}\n");
}


void
body_model(buf_t *out, const request_t *r, const answer_t *a)
{
    if (a->act.model.data != NULL) {
        buf_json(out, a->act.model.data, a->act.model.len);
        return;
    }

    buf_add(out, "\"", 1);
    buf_span(out, r->model);
    buf_add(out, "\"", 1);
}


void
body_finish(buf_t *out, const answer_t *a)
{
    span_t  reason;

    reason = a->act.finish_reason;

    if (reason.data == NULL) {
        buf_str(out, a->act.tool_name.data != NULL ? "\"tool_calls\""
                                                   : "\"stop\"");

    } else if (span_is(reason, "none")) {
        buf_str(out, "null");

    } else {
        buf_json(out, reason.data, reason.len);
    }
}


void
body_usage(buf_t *out, const answer_t *a, int64_t completion)
{
    int64_t          prompt, cached, reasoning;
    const action_t  *act;

    act = &a->act;
    prompt = act->prompt_tokens >= 0 ? act->prompt_tokens : 10;
    cached = act->cached_tokens >= 0 ? act->cached_tokens : 0;
    reasoning = act->reasoning_tokens >= 0 ? act->reasoning_tokens : 0;

    buf_fmt(out, "{\"prompt_tokens\":%lld,\"completion_tokens\":%lld,"
            "\"total_tokens\":%lld,\"prompt_tokens_details\":"
            "{\"cached_tokens\":%lld,\"audio_tokens\":0},"
            "\"completion_tokens_details\":{\"reasoning_tokens\":%lld,"
            "\"audio_tokens\":0,\"accepted_prediction_tokens\":0,"
            "\"rejected_prediction_tokens\":0}}",
            (long long) prompt, (long long) completion,
            (long long) (prompt + completion), (long long) cached,
            (long long) reasoning);
}


/* chat and legacy completions */

void
body_answer(buf_t *out, const request_t *r, const answer_t *a)
{
    int  chat;

    chat = r->endpoint == EP_CHAT;

    buf_fmt(out, "{\"id\":\"%s-mock%016llx\",\"object\":\"%s\","
            "\"created\":%llu,\"model\":",
            chat ? "chatcmpl" : "cmpl", (unsigned long long) a->id,
            chat ? "chat.completion" : "text_completion",
            (unsigned long long) mock_created);

    body_model(out, r, a);
    body_choices(out, r, a);

    if (a->act.usage != USAGE_NONE) {
        buf_str(out, ",\"usage\":");
        body_usage(out, a, a->act.completion_tokens >= 0
                           ? a->act.completion_tokens : 20);
    }

    buf_str(out, chat ? ",\"service_tier\":\"default\"" : "");
    buf_str(out, ",\"system_fingerprint\":\"fp_mock\"}\n");
}


static void
body_choices(buf_t *out, const request_t *r, const answer_t *a)
{
    int64_t  i;

    buf_str(out, ",\"choices\":[");

    for (i = 0; i < r->n; i++) {
        buf_fmt(out, "%s{\"index\":%lld,", i == 0 ? "" : ",", (long long) i);

        if (r->endpoint == EP_CHAT) {
            body_message(out, a);

        } else {
            buf_str(out, "\"text\":");
            body_content(out, a);
        }

        buf_str(out, ",\"logprobs\":null,\"finish_reason\":");
        body_finish(out, a);
        buf_add(out, "}", 1);
    }

    buf_add(out, "]", 1);
}


static void
body_message(buf_t *out, const answer_t *a)
{
    buf_str(out, "\"message\":{\"role\":\"assistant\",\"content\":");

    if (a->act.tool_name.data == NULL) {
        body_content(out, a);

    } else {
        buf_fmt(out, "null,\"tool_calls\":[{\"id\":\"call_mock%016llx\","
                "\"type\":\"function\",\"function\":{\"name\":",
                (unsigned long long) a->id);
        buf_json(out, a->act.tool_name.data, a->act.tool_name.len);
        buf_str(out, ",\"arguments\":");
        body_content(out, a);
        buf_str(out, "}}]");
    }

    buf_str(out, ",\"refusal\":null,\"annotations\":[]}");
}


/* the output item of a response; "in_progress" has no content yet */

void
body_item(buf_t *out, const answer_t *a, const char *status)
{
    int  done;

    done = strcmp(status, "in_progress") != 0;

    if (a->act.tool_name.data != NULL) {
        buf_fmt(out, "{\"id\":\"fc_mock%016llx\",\"type\":\"function_call\","
                "\"status\":\"%s\",\"call_id\":\"call_mock%016llx\","
                "\"name\":", (unsigned long long) a->id, status,
                (unsigned long long) a->id);
        buf_json(out, a->act.tool_name.data, a->act.tool_name.len);
        buf_str(out, ",\"arguments\":");

        if (done) {
            body_content(out, a);

        } else {
            buf_str(out, "\"\"");
        }

        buf_add(out, "}", 1);
        return;
    }

    buf_fmt(out, "{\"id\":\"msg_mock%016llx\",\"type\":\"message\","
            "\"status\":\"%s\",\"role\":\"assistant\",\"content\":[",
            (unsigned long long) a->id, status);

    if (done) {
        buf_str(out, "{\"type\":\"output_text\",\"annotations\":[],"
                "\"logprobs\":[],\"text\":");
        body_content(out, a);
        buf_add(out, "}", 1);
    }

    buf_str(out, "]}");
}


void
body_response(buf_t *out, const request_t *r, const answer_t *a,
    const char *status)
{
    int64_t  completion, prompt, cached, reasoning;

    buf_fmt(out, "{\"id\":\"resp_mock%016llx\",\"object\":\"response\","
            "\"created_at\":%llu,\"status\":\"",
            (unsigned long long) a->id, (unsigned long long) mock_created);
    buf_str(out, status);
    buf_str(out, "\",\"background\":false,\"error\":null,"
            "\"incomplete_details\":");
    buf_str(out, strcmp(status, "incomplete") == 0
                 ? "{\"reason\":\"max_output_tokens\"}" : "null");
    buf_str(out, ",\"instructions\":null,\"max_output_tokens\":null,"
            "\"model\":");

    body_model(out, r, a);
    buf_str(out, ",\"output\":[");

    if (strcmp(status, "in_progress") != 0) {
        body_item(out, a, status);
    }

    buf_str(out, "],\"parallel_tool_calls\":true,"
            "\"previous_response_id\":null,\"reasoning\":{\"effort\":null,"
            "\"summary\":null},\"service_tier\":\"default\",\"store\":true,"
            "\"temperature\":1.0,\"text\":{\"format\":{\"type\":\"text\"}},"
            "\"tool_choice\":\"auto\",\"tools\":[],\"top_p\":1.0,"
            "\"truncation\":\"disabled\",\"usage\":");

    if (strcmp(status, "in_progress") == 0 || a->act.usage == USAGE_NONE) {
        buf_str(out, "null");

    } else {
        prompt = a->act.prompt_tokens >= 0 ? a->act.prompt_tokens : 10;
        completion = a->act.completion_tokens >= 0
                     ? a->act.completion_tokens : 20;
        cached = a->act.cached_tokens >= 0 ? a->act.cached_tokens : 0;
        reasoning = a->act.reasoning_tokens >= 0 ? a->act.reasoning_tokens
                                                 : 0;

        buf_fmt(out, "{\"input_tokens\":%lld,\"input_tokens_details\":"
                "{\"cached_tokens\":%lld},\"output_tokens\":%lld,"
                "\"output_tokens_details\":{\"reasoning_tokens\":%lld},"
                "\"total_tokens\":%lld}", (long long) prompt,
                (long long) cached, (long long) completion,
                (long long) reasoning, (long long) (prompt + completion));
    }

    buf_str(out, ",\"user\":null,\"metadata\":{}}");
}
