
/*
 * Copyright (C) the ngx-llm authors
 */


#include "tasks/ngx_http_llm_tasks.h"


ngx_int_t
ngx_http_llm_batches_stage(ngx_http_llm_ctx_t *ctx)
{
    return ngx_http_llm_tasks_unavailable(ctx);
}
