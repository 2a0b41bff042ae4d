-- Notes how far the history was looked through for changes to fold, unless a later position is noted.
-- ARGV: the position (seq, tag).

local seq, tag, meta = tonumber(ARGV[1]), ARGV[2], read_meta()
local wrong = refusal(meta, seq, tag) -- of a node that has missed a failover, and would make others skip changes
if wrong then
  return wrong
end
if meta.exists and seq > tonumber(redis.call("HGET", META, "folded") or "0") then
  redis.call("HSET", META, "folded", integer(seq), "folded_tag", tag)
end
return { "noted" }
