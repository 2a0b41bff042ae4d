-- Some of the keys of the idempotency records, in no order. ARGV: where to go on, "0" at first; about how many.
-- Returns where to go on, "0" at the end; and the keys, some of them twice if there are new ones meanwhile.

local cursor, pairs_found = unpack(redis.call("HSCAN", IDS, ARGV[1], "COUNT", ARGV[2]))
local keys = {}
for at = 1, #pairs_found, 2 do
  table.insert(keys, pairs_found[at])
end
return { "scanned", cursor, keys }
