-- Moves the oldest entries of the stream to REPLACED, until it has none up to a seq: what is in a bundle takes less when
-- it gets shorter, and an entry of a stream cannot be replaced. They leave in whole nodes, of which Redis frees the
-- memory. What an erasure has moved from between them joins them.
-- ARGV: the seq; how large a bundle becomes. Returns 1 if there may be more to move.

local last_seq, most_bytes = tonumber(ARGV[1]), tonumber(ARGV[2])
local meta = read_meta()

local function seq_of(entry)
  return tonumber(string.match(entry[1], "^%d+"))
end

local entries, gone
local count = 100 -- which a node has at most, unless the server is configured otherwise
repeat
  entries = redis.call("XRANGE", CHANGES, "-", "+", "COUNT", count)
  if #entries == 0 or seq_of(entries[1]) > last_seq then
    return { "bundled", 0 }
  end
  if #entries < count then
    gone = redis.call("XTRIM", CHANGES, "MAXLEN", 0)
  else
    gone = redis.call("XTRIM", CHANGES, "MINID", "~", integer(seq_of(entries[count]) + 1), "LIMIT", 0)
  end
  count = 2 * count
until gone > 0

local first, last = integer(seq_of(entries[1])), integer(seq_of(entries[gone]))
local between, following = {}, 1
for _, member in ipairs(redis.call("ZRANGEBYSCORE", REPLACED, first, last)) do
  for _, each in ipairs(opened(member)) do
    table.insert(between, each)
  end
end
if #between > 0 then
  redis.call("ZREMRANGEBYSCORE", REPLACED, first, last)
end

local chunks, size = {}, 0
local function add(...)
  for at = 1, 5 do
    chunks[#chunks + 1] = select(at, ...)
  end
  size = size + #chunks[#chunks]
  if size >= most_bytes then
    keep(meta, chunks)
    chunks, size = {}, 0
  end
end

for at = 1, gone do
  local seq, fields = seq_of(entries[at]), entries[at][2]
  while following < #between and between[following] < seq do
    add(unpack(between, following, following + 4))
    following = following + 5
  end
  add(seq, tonumber(fields[2]), fields[4], tonumber(fields[6]), fields[8])
end
if #chunks > 0 then
  keep(meta, chunks)
end
return { "bundled", tonumber(last) < last_seq and 1 or 0 }
