-- Replaces the data of chunks in bundles, all of them or none.
-- ARGV[1] is a MessagePack array of lists, each in order: the seqs of the changes that are replaced, and how much less
-- each of them takes; their slices, and the first of these seqs of each slice; the last seqs and the tags of the chunks.
-- Then come the SHA-1 of what each chunk has, and what it becomes.
-- Returns 1 if they were replaced, 0 if a change is trimmed or erased, -1 if a chunk is another, or still in the stream.

local seqs, saved, names, firsts, lasts, tags = unpack(cmsgpack.unpack(ARGV[1]))
local meta = read_meta()
if seqs[1] <= meta.floor then
  return { "folded", 0 }
end
for at, name in ipairs(names) do
  if tonumber(redis.call("ZSCORE", ERASED, name) or "0") > firsts[at] then -- even if it is not overwritten yet
    return { "folded", 0 }
  end
end
local bundles, places = {}, {}
for at, last in ipairs(lasts) do
  local found, _, tag, _, data, place = chunk_from(meta, last)
  if found ~= last or tag ~= tags[at] or not place or redis.sha1hex(data) ~= ARGV[2 * at] then
    return { "folded", -1 }
  end
  bundles[at], places[at] = bundle, place
end

for at, chunks in ipairs(bundles) do
  chunks[places[at] + 4] = ARGV[2 * at + 1]
  if chunks ~= bundles[at + 1] then
    keep_again(meta, chunks)
  end
end

local at = 1
while at <= #seqs do -- the checkpoints that cover them take less
  local point = redis.call("ZRANGEBYSCORE", CHECKPOINTS, integer(seqs[at]), "+inf", "LIMIT", 0, 1)[1]
  if not point then
    break
  end
  local seq, tag, made, size, bytes = string.match(point, "^(%d+) (%w+) (%d+) (%d+) (%d+)$")
  while at <= #seqs and seqs[at] <= tonumber(seq) do
    size, at = size - saved[at], at + 1
  end
  redis.call("ZREM", CHECKPOINTS, point)
  redis.call("ZADD", CHECKPOINTS, seq, table.concat({ seq, tag, made, integer(math.max(0, size)), bytes }, " "))
end
return { "folded", 1 }
