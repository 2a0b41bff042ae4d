-- The idempotency records under some keys, in their order, and the unfinished erasures. ARGV: the keys.

local found = {}
for _, key in ipairs(ARGV) do
  table.insert(found, redis.call("HGET", IDS, key))
end
local erased, overwritten = unpack(redis.call("HMGET", META, "erased", "overwritten"))
if not erased then
  return { "found", found, {} }
end
return { "found", found, unfinished({ erased = tonumber(erased), overwritten = tonumber(overwritten or "0") }) }
