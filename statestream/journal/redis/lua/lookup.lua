-- The idempotency records under some keys, in their order. ARGV: the keys.

local found = {}
for _, key in ipairs(ARGV) do
  table.insert(found, redis.call("HGET", IDS, key))
end
return { "found", found }
