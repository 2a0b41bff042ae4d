-- The chunks after a position: until they have `limit` changes, or more bytes than `most`.
-- ARGV: the position (seq, tag); limit; most.

local seq, tag, limit, most = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local meta = read_meta()
local wrong = refusal(meta, seq, tag)
if wrong then
  return wrong
end
local found, size, last = {}, 0, seq
while last < seq + limit and last < meta.seq do
  local entry = redis.call("XRANGE", CHANGES, integer(last + 1), "+", "COUNT", 1)[1]
  if not entry then
    return { "damaged", "the history after change " .. integer(last) }
  end
  local fields = entry[2]
  size = size + #fields[8]
  if size > most and #found > 0 then
    break
  end
  last = tonumber(string.match(entry[1], "^%d+"))
  for _, each in ipairs({ integer(last), fields[2], fields[4], fields[8] }) do
    table.insert(found, each)
  end
end
return { "read", found }
