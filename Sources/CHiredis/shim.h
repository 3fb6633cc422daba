#pragma once
#include <hiredis/hiredis.h>

/* hiredis keeps its error text in a fixed array inside the context; Swift sees a tuple. */
static inline const char *mg_redis_error(const redisContext *context) { return context->errstr; }
