
/*
 * Copyright (C) the ngx-llm authors
 *
 * Chunks are merged into a small tree of their members.  What comes once is
 * not looked into: it is read only when more of the same member comes.
 */


#include "core/llm_gather_private.h"
#include "core/llm_sse_private.h"


typedef struct {
    llm_str_t             name;
    unsigned char         in;
    unsigned char         rule;
    unsigned char         what;
    unsigned char         place;
} llm_gather_name_t;


#define llm_gather_name(in, name, rule, what, place)                          \
    { llm_string(name), LLM_GATHER_ ## in, LLM_GATHER_ ## rule,               \
      LLM_GATHER_ ## what, LLM_GATHER_ ## place }


static const llm_gather_name_t  llm_gather_names[] = {

    llm_gather_name(TOP, "id", FIRST, ID, ANY),
    llm_gather_name(TOP, "object", TYPE, SORT, ANY),
    llm_gather_name(TOP, "created", FIRST, CREATED, ANY),
    llm_gather_name(TOP, "model", FIRST, MODEL, ANY),
    llm_gather_name(TOP, "usage", LAST, USAGE, ANY),
    llm_gather_name(TOP, "x_groq", LAST, VENDOR, ANY),
    llm_gather_name(TOP, "error", FAULT, OTHER, ANY),
    llm_gather_name(TOP, "type", TYPE, OTHER, ANY),
    llm_gather_name(TOP, "obfuscation", SKIP, OTHER, ANY),

    llm_gather_name(CHOICE, "index", SKIP, OTHER, ANY),
    llm_gather_name(CHOICE, "delta", KNOWN, MESSAGE, DELTA),
    llm_gather_name(CHOICE, "message", FAULT, OTHER, ANY),
    llm_gather_name(CHOICE, "logprobs", MERGE, LOGPROBS, PLAIN),
    llm_gather_name(CHOICE, "finish_reason", FINISH, FINISHED, ANY),

    llm_gather_name(PIECE, "index", SKIP, OTHER, ANY),
    llm_gather_name(PIECE, "text", MERGE, TEXT, ANY),
    llm_gather_name(PIECE, "logprobs", MERGE, LOGPROBS, PLAIN),
    llm_gather_name(PIECE, "finish_reason", FINISH, FINISHED, ANY),

    llm_gather_name(DELTA, "role", SAME, ROLE, ANY),
    llm_gather_name(DELTA, "content", MERGE, CONTENT, PLAIN),
    llm_gather_name(DELTA, "refusal", MERGE, REFUSAL, ANY),
    llm_gather_name(DELTA, "tool_calls", KNOWN, OTHER, CALL),
    llm_gather_name(DELTA, "function_call", MERGE, OTHER, FUNCTION),
    llm_gather_name(DELTA, "annotations", MERGE, OTHER, PLAIN),
    llm_gather_name(DELTA, "obfuscation", SKIP, OTHER, ANY),

    llm_gather_name(CALL, "index", SKIP, OTHER, ANY),
    llm_gather_name(CALL, "id", SAME, OTHER, ANY),
    llm_gather_name(CALL, "type", SAME, KIND, ANY),
    llm_gather_name(CALL, "function", KNOWN, CALLED, FUNCTION),
    llm_gather_name(CALL, "custom", KNOWN, OTHER, FUNCTION),

    llm_gather_name(FUNCTION, "name", SAME, OTHER, ANY),
    llm_gather_name(FUNCTION, "arguments", MERGE, ARGUMENTS, ANY),

    llm_gather_name(ANY, "index", LAST, OTHER, ANY),
    llm_gather_name(ANY, "id", SAME, OTHER, ANY),
    llm_gather_name(ANY, "type", SAME, OTHER, ANY),
    llm_gather_name(ANY, "name", SAME, OTHER, ANY),
    llm_gather_name(ANY, "role", SAME, OTHER, ANY),
    llm_gather_name(ANY, "format", SAME, OTHER, ANY)
};


static int llm_gather_member(llm_gather_t *g, llm_gather_node_t *node,
    llm_json_t *js, llm_gather_node_t **cursor);
static void llm_gather_meaning(llm_gather_t *g, llm_gather_node_t *node,
    unsigned in);
static int llm_gather_value(llm_gather_t *g, llm_gather_node_t *node,
    llm_json_t *js);
static int llm_gather_rule(llm_gather_node_t *node, llm_json_token_e token,
    const llm_str_t *value);
static int llm_gather_same(llm_gather_node_t *node, const llm_str_t *value);
static int llm_gather_merge(llm_gather_t *g, llm_gather_node_t *node,
    llm_json_t *js, llm_json_token_e token);
static int llm_gather_open(llm_gather_t *g, llm_gather_node_t *node,
    llm_json_t *js, llm_json_token_e token);
static int llm_gather_reopen(llm_gather_t *g, llm_gather_node_t *node);


int
llm_gather_chunk(llm_gather_t *g, const llm_str_t *data)
{
    int         rc;
    llm_json_t  js;

    llm_json_init(&js, data->data, data->len);

    if (llm_json_next(&js) != LLM_JSON_OBJECT) {
        return LLM_DECLINED;
    }

    rc = llm_gather_object(g, &g->top, &js);

    if (rc == LLM_OK && llm_json_next(&js) != LLM_JSON_END) {
        return LLM_DECLINED;
    }

    return rc;
}


int
llm_gather_object(llm_gather_t *g, llm_gather_node_t *node, llm_json_t *js)
{
    int                 rc;
    uint32_t            visit;
    llm_json_token_e    token;
    llm_gather_node_t  *member;

    visit = ++g->visit;
    member = node->u.members.first;

    while ((token = llm_json_token(js)) == LLM_JSON_NAME) {

        rc = llm_gather_member(g, node, js, &member);

        if (rc != LLM_OK) {
            return rc;
        }

        if (member->visit == visit) {
            return LLM_DECLINED;
        }

        member->visit = visit;

        rc = llm_gather_value(g, member, js);

        if (rc != LLM_OK) {
            return rc;
        }

        member = member->next;
    }

    return token == LLM_JSON_OBJECT_END ? LLM_OK : LLM_DECLINED;
}


/* the member of a name; "cursor" is where it probably is */

static int
llm_gather_member(llm_gather_t *g, llm_gather_node_t *node, llm_json_t *js,
    llm_gather_node_t **cursor)
{
    llm_str_t           name;
    llm_gather_node_t  *member;

    name.data = (unsigned char *) js->start + 1;
    name.len = js->size;

    if (js->escaped && llm_json_text(js, g->arena, &name) != LLM_OK) {
        return LLM_ERROR;
    }

    member = *cursor;

    if (member == NULL || member->name.len != name.len
        || memcmp(member->name.data, name.data, name.len) != 0)
    {
        for (member = node->u.members.first;
             member != NULL;
             member = member->next)
        {
            if (member->name.len == name.len
                && memcmp(member->name.data, name.data, name.len) == 0)
            {
                break;
            }
        }
    }

    if (member == NULL) {

        if (node->u.members.n == LLM_GATHER_MEMBERS) {
            return LLM_DECLINED;
        }

        member = llm_gather_add(g, node);

        if (member == NULL) {
            return LLM_ERROR;
        }

        member->name = name;
        member->spelled.data = (unsigned char *) js->start;
        member->spelled.len = (size_t) (js->end - js->start);

        llm_gather_meaning(g, member, node->place);
    }

    *cursor = member;

    return LLM_OK;
}


llm_gather_node_t *
llm_gather_add(llm_gather_t *g, llm_gather_node_t *node)
{
    llm_gather_node_t  *member;

    member = llm_arena_alloc(g->arena, sizeof(llm_gather_node_t));

    if (member == NULL) {
        return NULL;
    }

    memset(member, 0, sizeof(llm_gather_node_t));

    if (node->u.members.last != NULL) {
        node->u.members.last->next = member;

    } else {
        node->u.members.first = member;
    }

    node->u.members.last = member;
    node->u.members.n++;

    return member;
}


llm_gather_node_t *
llm_gather_find(const llm_gather_node_t *node, llm_gather_what_e what)
{
    llm_gather_node_t  *member;

    for (member = node->u.members.first;
         member != NULL;
         member = member->next)
    {
        if (member->what == what && member->type != LLM_GATHER_NONE) {
            return member;
        }
    }

    return NULL;
}


static void
llm_gather_meaning(llm_gather_t *g, llm_gather_node_t *node, unsigned in)
{
    size_t                    i;
    const llm_gather_name_t  *nm;

    node->place = in == LLM_GATHER_PLAIN ? LLM_GATHER_PLAIN : LLM_GATHER_ANY;
    node->rule = in < LLM_GATHER_DELTA ? LLM_GATHER_LAST : LLM_GATHER_MERGE;

    for (i = 0; i < sizeof(llm_gather_names) / sizeof(*nm); i++) {
        nm = &llm_gather_names[i];

        if (nm->in == in && nm->name.len == node->name.len
            && memcmp(nm->name.data, node->name.data, nm->name.len) == 0)
        {
            node->rule = nm->rule;
            node->what = nm->what;
            node->place = nm->place;
            return;
        }
    }

    if (in == LLM_GATHER_TOP && node->name.len == 7
        && memcmp(node->name.data, "choices", 7) == 0)
    {
        node->rule = LLM_GATHER_KNOWN;
        node->what = LLM_GATHER_CHOICES;
        node->place = g->endpoint == LLM_CHAT ? LLM_GATHER_CHOICE
                                              : LLM_GATHER_PIECE;
    }
}


static int
llm_gather_value(llm_gather_t *g, llm_gather_node_t *node, llm_json_t *js)
{
    llm_str_t         value;
    llm_json_token_e  token;

    token = llm_json_token(js);

    switch (node->rule) {

    case LLM_GATHER_MERGE:
    case LLM_GATHER_KNOWN:
        return llm_gather_merge(g, node, js, token);

    case LLM_GATHER_SAME:

        if (token == LLM_JSON_OBJECT || token == LLM_JSON_ARRAY) {
            return llm_gather_merge(g, node, js, token);
        }

        break;

    default:
        break;
    }

    if ((node->rule == LLM_GATHER_TYPE || node->rule == LLM_GATHER_FINISH)
        && token == LLM_JSON_STRING
        && (llm_sse_type(js->start + 1, (size_t) (js->end - js->start) - 2)
            & LLM_SSE_ERROR))
    {
        return LLM_DECLINED;
    }

    if (node->rule == LLM_GATHER_FINISH && token != LLM_JSON_STRING
        && token != LLM_JSON_NULL)
    {
        return LLM_DECLINED;
    }

    if (llm_gather_pass(js, token, &value) != LLM_OK) {
        return LLM_DECLINED;
    }

    return llm_gather_rule(node, token, &value);
}


/* of values that are kept or not, but never joined */

static int
llm_gather_rule(llm_gather_node_t *node, llm_json_token_e token,
    const llm_str_t *value)
{
    switch (node->rule) {

    case LLM_GATHER_SKIP:
        return LLM_OK;

    case LLM_GATHER_FAULT:
        return token == LLM_JSON_NULL ? LLM_OK : LLM_DECLINED;

    case LLM_GATHER_SAME:
        return llm_gather_same(node, value);

    case LLM_GATHER_FIRST:

        if (!llm_gather_absent(node) && node->type != LLM_GATHER_NONE) {
            return LLM_OK;
        }

        break;

    case LLM_GATHER_FINISH:

        if (node->type == LLM_GATHER_RAW && llm_gather_empty(value)) {
            return LLM_OK;
        }

        break;

    default: /* LLM_GATHER_LAST, LLM_GATHER_TYPE */

        if (node->type == LLM_GATHER_RAW && token == LLM_JSON_NULL) {
            return LLM_OK;
        }
    }

    node->type = token == LLM_JSON_NULL ? LLM_GATHER_NULL : LLM_GATHER_RAW;
    node->u.raw = *value;

    return LLM_OK;
}


static int
llm_gather_same(llm_gather_node_t *node, const llm_str_t *value)
{
    if (node->type == LLM_GATHER_NONE
        || (llm_gather_absent(node) && !llm_gather_empty(value)))
    {
        node->type = value->data[0] == 'n' ? LLM_GATHER_NULL
                                           : LLM_GATHER_RAW;
        node->u.raw = *value;

        return LLM_OK;
    }

    if (llm_gather_empty(value)) {
        return LLM_OK;
    }

    if (node->type != LLM_GATHER_RAW || node->u.raw.len != value->len
        || memcmp(node->u.raw.data, value->data, value->len) != 0)
    {
        return LLM_DECLINED;
    }

    return LLM_OK;
}


static int
llm_gather_merge(llm_gather_t *g, llm_gather_node_t *node, llm_json_t *js,
    llm_json_token_e token)
{
    int  fresh;

    fresh = node->type <= LLM_GATHER_NULL;

    if (node->rule == LLM_GATHER_KNOWN && token != LLM_JSON_NULL
        && token != (node->place == LLM_GATHER_DELTA
                     || node->place == LLM_GATHER_FUNCTION
                     ? LLM_JSON_OBJECT : LLM_JSON_ARRAY))
    {
        return LLM_DECLINED;
    }

    switch (token) {

    case LLM_JSON_NULL:

        if (fresh) {
            node->type = LLM_GATHER_NULL;
        }

        return LLM_OK;

    case LLM_JSON_STRING:

        if (fresh) {
            node->type = LLM_GATHER_STRING;
            memset(&node->u, 0, sizeof(node->u));
        }

        if (node->type != LLM_GATHER_STRING) {
            return LLM_DECLINED;
        }

        return llm_gather_piece(g, node, js->start + 1,
                                (size_t) (js->end - js->start) - 2);

    case LLM_JSON_NUMBER:
    case LLM_JSON_TRUE:
    case LLM_JSON_FALSE:

        if (!fresh && (node->type != LLM_GATHER_RAW
                       || node->u.raw.data[0] == '{'
                       || node->u.raw.data[0] == '['))
        {
            return LLM_DECLINED;
        }

        node->type = LLM_GATHER_RAW;
        node->u.raw.data = (unsigned char *) js->start;
        node->u.raw.len = (size_t) (js->end - js->start);

        return LLM_OK;

    case LLM_JSON_OBJECT:
    case LLM_JSON_ARRAY:
        return llm_gather_open(g, node, js, token);

    default:
        return LLM_DECLINED;
    }
}


static int
llm_gather_open(llm_gather_t *g, llm_gather_node_t *node, llm_json_t *js,
    llm_json_token_e token)
{
    int  rc;

    if (node->type <= LLM_GATHER_NULL) {

        if (node->rule != LLM_GATHER_KNOWN) {
            node->type = LLM_GATHER_RAW;
            return llm_gather_pass(js, token, &node->u.raw);
        }

        node->type = token == LLM_JSON_OBJECT ? LLM_GATHER_OBJECT
                                              : LLM_GATHER_LIST;
        memset(&node->u, 0, sizeof(node->u));
    }

    if (node->type == LLM_GATHER_RAW) {
        rc = llm_gather_reopen(g, node);

        if (rc != LLM_OK) {
            return rc;
        }
    }

    if (token == LLM_JSON_OBJECT) {
        return node->type == LLM_GATHER_OBJECT
               ? llm_gather_object(g, node, js) : LLM_DECLINED;
    }

    return llm_gather_elements(g, node, js);
}


/* what came first, now read */

static int
llm_gather_reopen(llm_gather_t *g, llm_gather_node_t *node)
{
    llm_json_t        js;
    llm_json_token_e  token;

    llm_json_init(&js, node->u.raw.data, node->u.raw.len);
    token = llm_json_next(&js);

    memset(&node->u, 0, sizeof(node->u));

    if (token == LLM_JSON_OBJECT) {
        node->type = LLM_GATHER_OBJECT;
        return llm_gather_object(g, node, &js);
    }

    if (token == LLM_JSON_ARRAY) {
        node->type = LLM_GATHER_ARRAY;
        return llm_gather_elements(g, node, &js);
    }

    return LLM_DECLINED;
}
