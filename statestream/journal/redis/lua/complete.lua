-- Completes a checkpoint, all rows of which are stored.
-- ARGV: the position (seq, tag); the time; the bytes of its rows; the seq of the checkpoint on which it builds.

local seq, tag, now = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local saved, base = tonumber(ARGV[4]), tonumber(ARGV[5])
local meta = read_meta()
local wrong = refusal(meta, seq, tag)
if wrong then
  return wrong
end
local newest, bytes = 0, meta.floor_bytes -- if there is none: the history is new, or `begin.lua` has just begun it
local last = redis.call("ZREVRANGE", CHECKPOINTS, 0, 0)[1]
if last then
  local newest_seq, newest_bytes = string.match(last, "^(%d+) %w+ %d+ %d+ (%d+)$")
  newest, bytes = tonumber(newest_seq), tonumber(newest_bytes)
end
if newest >= seq then
  return { "later" }
end
if newest < base then
  return { "lost" }
end
local _, _, _, reached = chunk_from(meta, seq)
reached = tonumber(reached or meta.bytes)
local size = reached - bytes + saved
now = math.max(now, meta.clock)
local point = { integer(seq), tag, integer(now), integer(size), integer(reached) }
redis.call("ZADD", CHECKPOINTS, integer(seq), table.concat(point, " "))
return { "completed" }
