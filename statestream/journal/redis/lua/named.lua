-- Some of the idempotency records, in no order, that have one of some texts.
-- ARGV: where to go on, "0" at first; about how many to look at; the texts.
-- Returns where to go on, "0" at the end; and the keys and records.

local cursor, pairs_found = unpack(redis.call("HSCAN", IDS, ARGV[1], "COUNT", ARGV[2]))
local found = {}
for at = 1, #pairs_found, 2 do
  for text = 3, #ARGV do
    if string.find(pairs_found[at + 1], ARGV[text], 1, true) then
      table.insert(found, pairs_found[at])
      table.insert(found, pairs_found[at + 1])
      break
    end
  end
end
return { "named", cursor, found }
