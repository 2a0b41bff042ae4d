-- Appends a batch, if the position read, the ids and the versions of the slices allow it. Numbers its changes.
-- ARGV[1] is one MessagePack array, because that is quicker to write and to read than many arguments: the position read
-- (seq, tag); the tag of the batch; the time; the time before which ids are forgotten; the limit for ids in bytes; the
-- numbers of changes and of ids; then lists, of the slices to compare and their versions, of the slices that change and
-- the offset of the last change (0 if it removes the slice), of the last offset and the size of each chunk.
-- Offsets count the changes of the batch from 1. Then come key and record of each id, and the contents of the chunks.

local batch = cmsgpack.unpack(ARGV[1])
local seq, tag, batch_tag, now, oldest, limit, count, id_count = unpack(batch, 1, 8)
local names, versions, changed, offsets, lasts, sizes = unpack(batch, 9, 14)
local id_last = 2 * id_count -- of the arguments after the first

local meta = read_meta()
local wrong = headless(meta) or refusal(meta, seq, tag)
if wrong then
  return wrong
end

now = math.max(now, meta.clock)
local duplicates = {}
for at = 2, id_last, 2 do
  local record = redis.call("HGET", IDS, ARGV[at])
  if record and tonumber(string.match(record, "^(%d+) ")) >= oldest then
    table.insert(duplicates, ARGV[at])
    table.insert(duplicates, record)
  end
end
if #duplicates > 0 then
  redis.call("HSET", META, "clock", integer(now)) -- a write, so that WAIT covers the one that is repeated
  return { "duplicate", duplicates, unfinished(meta) }
end

local moved = differing(names, versions)
if moved then
  return { "conflict", moved }
end

local bytes = add_chunks(meta, batch_tag, lasts, sizes, ARGV, 1 + id_last)

set_versions(changed, offsets, meta.seq)

if id_count > 0 then
  local before = integer(meta.seq) .. " " .. meta.tag .. " "
  for at = 2, id_last, 2 do
    remember(ARGV[at], integer(now), before .. ARGV[at + 1])
  end
  forget(oldest, limit, 2 * id_count + 100) -- twice as many as were added, and some
end

write_head(meta, { clock = now, bytes = bytes, seq = meta.seq + count, tag = count > 0 and batch_tag or meta.tag })
return table.concat({ "appended", integer(meta.seq), meta.tag, integer(now) }, " ") -- takes less to read than a table
