-- Deletes some of what lies before the earliest position: chunks of changes, and rows that no checkpoint needs.
-- Returns 1 if there is more. A row goes after those that it has superseded: one that says that a slice did not exist
-- must not go first. ARGV: most entries and rows.

local most = tonumber(ARGV[1])
local floor = tonumber(redis.call("HGET", META, "floor") or "0")
local rows = redis.call("ZRANGEBYSCORE", SUPERSEDED, "-inf", integer(floor), "LIMIT", 0, most)
for from = 1, #rows, STEP do
  local some = { unpack(rows, from, math.min(from + STEP - 1, #rows)) }
  redis.call("ZREM", ROWS, unpack(some))
  redis.call("HDEL", VALUES, unpack(some))
  redis.call("ZREM", SUPERSEDED, unpack(some))
end
local first = redis.call("XRANGE", CHANGES, "-", "+", "COUNT", 1)[1]
local oldest = first and tonumber(string.match(first[1], "^%d+"))
if oldest and oldest <= floor then
  redis.call("XTRIM", CHANGES, "MINID", "=", integer(math.min(floor + 1, oldest + most)))
end
return { "cleared", (#rows == most or (oldest and oldest + most <= floor)) and 1 or 0 }
