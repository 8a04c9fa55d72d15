
/*
 * Copyright (C) the ngx-llm authors
 *
 * The tests of the scanner again, as it is built for machines without SSE2.
 */


#define LLM_JSON_NO_SSE2  1

#include "core/llm_json.c"
#include "core/llm_json_string.c"

#include "test_json.c"
