-- The complete checkpoints, oldest first.
return { "points", redis.call("ZRANGE", CHECKPOINTS, 0, -1) }
