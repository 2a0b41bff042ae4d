-- Notes that nothing is left of what was erased by an erasure and those before it. ARGV: the erasure (seq, tag).

local meta, seq = read_meta(), tonumber(ARGV[1])
if not is_known(meta, seq, ARGV[2]) then
  return { "unknown" }
end
local overwritten = integer(math.max(seq, meta.overwritten))
redis.call("HSET", META, "overwritten", overwritten, "compact", overwritten) -- a write always, so that WAIT covers all
return { "finished" }
