
/*
 * Copyright (C) the ngx-llm authors
 *
 * What is not named here is kept as written: an unknown member may change
 * the answer, and its order may be seen by the model.  Sorting too little
 * costs a hit, sorting too much would give a wrong answer.
 */


#include <string.h>

#include "core/llm_digest.h"


#define llm_kind(name, kind, null)  { name, sizeof(name) - 1, kind, null }
#define LLM_KIND_END                { NULL, SIZE_MAX, LLM_KIND_KEEP, 0 }


/* the rules of a kind are in the order of the lengths of their names */

typedef struct {
    const char           *name;
    size_t                len;
    llm_kind_e            kind;
    unsigned              null;
} llm_kind_rule_t;


typedef struct {
    unsigned                sorted;
    llm_kind_e              element;
    llm_kind_e              other;
    const llm_kind_rule_t  *rules;
} llm_kind_t;


static const llm_kind_rule_t  llm_kind_top[] = {
    llm_kind("n", LLM_KIND_KEEP, 1),
    llm_kind("echo", LLM_KIND_KEEP, 1),
    llm_kind("seed", LLM_KIND_KEEP, 1),
    llm_kind("stop", LLM_KIND_KEEP, 1),
    llm_kind("text", LLM_KIND_TEXT, 0),
    llm_kind("user", LLM_KIND_DROP, 0),
    llm_kind("audio", LLM_KIND_FLAT, 1),
    llm_kind("input", LLM_KIND_MESSAGES, 1),
    llm_kind("model", LLM_KIND_DROP, 0),
    llm_kind("store", LLM_KIND_KEEP, 1),
    llm_kind("tools", LLM_KIND_TOOLS, 0),
    llm_kind("top_p", LLM_KIND_REAL, 1),
    llm_kind("prompt", LLM_KIND_KEEP, 1),
    llm_kind("stream", LLM_KIND_DROP, 0),
    llm_kind("suffix", LLM_KIND_KEEP, 1),
    llm_kind("best_of", LLM_KIND_KEEP, 1),
    llm_kind("include", LLM_KIND_KEEP, 1),
    llm_kind("logprobs", LLM_KIND_KEEP, 1),
    llm_kind("messages", LLM_KIND_MESSAGES, 0),
    llm_kind("metadata", LLM_KIND_DROP, 0),
    llm_kind("functions", LLM_KIND_TOOLS, 0),
    llm_kind("reasoning", LLM_KIND_FLAT, 1),
    llm_kind("verbosity", LLM_KIND_KEEP, 1),
    llm_kind("background", LLM_KIND_KEEP, 1),
    llm_kind("logit_bias", LLM_KIND_BIAS, 1),
    llm_kind("max_tokens", LLM_KIND_KEEP, 1),
    llm_kind("modalities", LLM_KIND_KEEP, 1),
    llm_kind("moderation", LLM_KIND_FLAT, 1),
    llm_kind("prediction", LLM_KIND_FLAT, 1),
    llm_kind("truncation", LLM_KIND_KEEP, 1),
    llm_kind("temperature", LLM_KIND_REAL, 1),
    llm_kind("tool_choice", LLM_KIND_CHOICE, 0),
    llm_kind("conversation", LLM_KIND_FLAT, 1),
    llm_kind("instructions", LLM_KIND_KEEP, 1),
    llm_kind("service_tier", LLM_KIND_KEEP, 1),
    llm_kind("top_logprobs", LLM_KIND_KEEP, 1),
    llm_kind("function_call", LLM_KIND_FLAT, 0),
    llm_kind("max_tool_calls", LLM_KIND_KEEP, 1),
    llm_kind("stream_options", LLM_KIND_DROP, 0),
    llm_kind("response_format", LLM_KIND_FORMAT, 0),
    llm_kind("presence_penalty", LLM_KIND_REAL, 1),
    llm_kind("prompt_cache_key", LLM_KIND_DROP, 0),
    llm_kind("reasoning_effort", LLM_KIND_KEEP, 1),
    llm_kind("frequency_penalty", LLM_KIND_REAL, 1),
    llm_kind("max_output_tokens", LLM_KIND_KEEP, 1),
    llm_kind("safety_identifier", LLM_KIND_DROP, 0),
    llm_kind("web_search_options", LLM_KIND_FLAT, 1),
    llm_kind("parallel_tool_calls", LLM_KIND_KEEP, 1),
    llm_kind("previous_response_id", LLM_KIND_KEEP, 1),
    llm_kind("prompt_cache_options", LLM_KIND_DROP, 0),
    llm_kind("max_completion_tokens", LLM_KIND_KEEP, 1),
    llm_kind("prompt_cache_retention", LLM_KIND_DROP, 0),
    LLM_KIND_END
};


static const llm_kind_rule_t  llm_kind_message[] = {
    llm_kind("audio", LLM_KIND_FLAT, 0),
    llm_kind("output", LLM_KIND_PARTS, 0),
    llm_kind("content", LLM_KIND_PARTS, 0),
    llm_kind("summary", LLM_KIND_PARTS, 0),
    llm_kind("tool_calls", LLM_KIND_CALLS, 0),
    llm_kind("function_call", LLM_KIND_FLAT, 0),
    LLM_KIND_END
};


static const llm_kind_rule_t  llm_kind_part[] = {
    llm_kind("file", LLM_KIND_FLAT, 0),
    llm_kind("image_url", LLM_KIND_FLAT, 0),
    llm_kind("input_audio", LLM_KIND_FLAT, 0),
    llm_kind("prompt_cache_breakpoint", LLM_KIND_DROP, 0),
    LLM_KIND_END
};


static const llm_kind_rule_t  llm_kind_call[] = {
    llm_kind("custom", LLM_KIND_FLAT, 0),
    llm_kind("function", LLM_KIND_FLAT, 0),
    LLM_KIND_END
};


static const llm_kind_rule_t  llm_kind_text[] = {
    llm_kind("format", LLM_KIND_FLAT, 0),
    LLM_KIND_END
};


static const llm_kind_rule_t  llm_kind_format[] = {
    llm_kind("json_schema", LLM_KIND_FLAT, 0),
    LLM_KIND_END
};


static const llm_kind_rule_t  llm_kind_choice[] = {
    llm_kind("custom", LLM_KIND_FLAT, 0),
    llm_kind("function", LLM_KIND_FLAT, 0),
    llm_kind("allowed_tools", LLM_KIND_FLAT, 0),
    LLM_KIND_END
};


static const llm_kind_rule_t  llm_kind_none[] = { LLM_KIND_END };


/* a member of LLM_KIND_FLAT is kept as written: so are all schemas */

static const llm_kind_t  llm_kinds[LLM_KINDS] = {

    [LLM_KIND_KEEP]     = { 0, LLM_KIND_KEEP, LLM_KIND_KEEP, llm_kind_none },
    [LLM_KIND_DROP]     = { 0, LLM_KIND_KEEP, LLM_KIND_KEEP, llm_kind_none },
    [LLM_KIND_REAL]     = { 0, LLM_KIND_KEEP, LLM_KIND_KEEP, llm_kind_none },
    [LLM_KIND_TOP]      = { 1, LLM_KIND_KEEP, LLM_KIND_KEEP, llm_kind_top },
    [LLM_KIND_MESSAGES] = { 0, LLM_KIND_MESSAGE, LLM_KIND_KEEP,
                            llm_kind_none },
    [LLM_KIND_MESSAGE]  = { 1, LLM_KIND_KEEP, LLM_KIND_KEEP,
                            llm_kind_message },
    [LLM_KIND_PARTS]    = { 0, LLM_KIND_PART, LLM_KIND_KEEP, llm_kind_none },
    [LLM_KIND_PART]     = { 1, LLM_KIND_KEEP, LLM_KIND_KEEP, llm_kind_part },
    [LLM_KIND_CALLS]    = { 0, LLM_KIND_CALL, LLM_KIND_KEEP, llm_kind_none },
    [LLM_KIND_CALL]     = { 1, LLM_KIND_KEEP, LLM_KIND_KEEP, llm_kind_call },
    [LLM_KIND_TOOLS]    = { 0, LLM_KIND_TOOL, LLM_KIND_KEEP, llm_kind_none },
    [LLM_KIND_TOOL]     = { 1, LLM_KIND_KEEP, LLM_KIND_KEEP, llm_kind_call },
    [LLM_KIND_TEXT]     = { 1, LLM_KIND_KEEP, LLM_KIND_KEEP, llm_kind_text },
    [LLM_KIND_FORMAT]   = { 1, LLM_KIND_KEEP, LLM_KIND_KEEP,
                            llm_kind_format },
    [LLM_KIND_CHOICE]   = { 1, LLM_KIND_KEEP, LLM_KIND_KEEP,
                            llm_kind_choice },
    [LLM_KIND_FLAT]     = { 1, LLM_KIND_KEEP, LLM_KIND_KEEP, llm_kind_none },
    [LLM_KIND_BIAS]     = { 1, LLM_KIND_KEEP, LLM_KIND_REAL, llm_kind_none }
};


int
llm_kind_sorted(llm_kind_e kind)
{
    return llm_kinds[kind].sorted;
}


llm_kind_e
llm_kind_element(llm_kind_e kind)
{
    return llm_kinds[kind].element;
}


llm_kind_e
llm_kind_member(llm_kind_e kind, const unsigned char *name, size_t len,
    int *null)
{
    const llm_kind_rule_t  *rule;

    for (rule = llm_kinds[kind].rules; rule->len < len; rule++) { /* void */ }

    for ( /* void */ ; rule->len == len; rule++) {

        if (memcmp(rule->name, name, len) == 0) {
            *null = rule->null;
            return rule->kind;
        }
    }

    *null = 0;

    return llm_kinds[kind].other;
}
