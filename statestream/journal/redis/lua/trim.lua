-- Makes a checkpoint the earliest position, unless there is a later one. What lies before it is deleted by `clear.lua`.
-- ARGV: the position (seq, tag).

local seq, tag = tonumber(ARGV[1]), ARGV[2]
local meta = read_meta()
local point = redis.call("ZRANGEBYSCORE", CHECKPOINTS, integer(seq), integer(seq))[1]
if seq <= meta.floor or not point then
  return { "trimmed" }
end
local point_tag, bytes = string.match(point, "^%d+ (%w+) %d+ %d+ (%d+)$")
if point_tag ~= tag then
  return { "trimmed" }
end
redis.call("HSET", META, "floor", integer(seq), "floor_tag", tag, "floor_bytes", bytes)
redis.call("ZREMRANGEBYSCORE", CHECKPOINTS, "-inf", "(" .. integer(seq))
return { "trimmed" }
