-- Deletes some of what lies before the earliest position: chunks of changes, and rows that no checkpoint needs.
-- Returns 1 if there is more. A row goes after those that it has superseded: one that says that a slice did not exist
-- must not go first. Entries of the stream go with whole nodes, so that none is there that is only marked as deleted,
-- where no erasure would find it. Redis bounds how many that are. ARGV: most rows.

local most = tonumber(ARGV[1])
local floor = tonumber(redis.call("HGET", META, "floor") or "0")
local rows = redis.call("ZRANGEBYSCORE", SUPERSEDED, "-inf", integer(floor), "LIMIT", 0, most)
for from = 1, #rows, STEP do
  local some = { unpack(rows, from, math.min(from + STEP - 1, #rows)) }
  redis.call("ZREM", ROWS, unpack(some))
  redis.call("HDEL", VALUES, unpack(some))
  redis.call("ZREM", SUPERSEDED, unpack(some))
end
local trimmed = redis.call("XTRIM", CHANGES, "MINID", "~", integer(floor + 1))
local replaced, overwritten = unpack(redis.call("HMGET", META, "replaced", "overwritten"))
if replaced then
  local gone = math.min(most, redis.call("ZCOUNT", REPLACED, "-inf", integer(floor)))
  trimmed = trimmed + (gone > 0 and redis.call("ZREMRANGEBYRANK", REPLACED, 0, gone - 1) or 0)
  if tonumber(replaced) <= floor and redis.call("EXISTS", REPLACED) == 0 then
    redis.call("HDEL", META, "replaced")
  end
end
if overwritten then
  redis.call("ZREMRANGEBYSCORE", ERASED, "-inf", integer(math.min(floor, tonumber(overwritten))))
end
return { "cleared", (#rows == most or trimmed > 0) and 1 or 0 }
