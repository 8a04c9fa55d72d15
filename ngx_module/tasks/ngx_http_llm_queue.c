
/*
 * Copyright (C) the ngx-llm authors
 */


#include "tasks/ngx_http_llm_queue.h"
