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
if not meta.exists and redis.call("EXISTS", CHANGES, VERSIONS, IDS, AGES, ROWS, VALUES, CHECKPOINTS) > 0 then
  return { "damaged", "the head of the journal" }
end
local wrong = refusal(meta, seq, tag)
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
  return { "duplicate", duplicates }
end

for from = 1, #names, STEP do
  local found = redis.call("HMGET", VERSIONS, unpack(names, from, math.min(from + STEP - 1, #names)))
  for index, version in ipairs(found) do
    local at = from + index - 1
    if tonumber(version or "0") ~= versions[at] then
      return { "conflict", names[at] }
    end
  end
end

local bytes = meta.bytes
for at, last in ipairs(lasts) do
  bytes = bytes + sizes[at]
  local id, data = integer(meta.seq + last) .. "-0", ARGV[1 + id_last + at]
  redis.call("XADD", CHANGES, id, "b", integer(meta.seq), "t", batch_tag, "z", integer(bytes), "d", data)
end

local set, removed = {}, {}
local function flush()
  if #set > 0 then
    redis.call("HSET", VERSIONS, unpack(set))
  end
  if #removed > 0 then
    redis.call("HDEL", VERSIONS, unpack(removed))
  end
  set, removed = {}, {}
end
for at, name in ipairs(changed) do
  local offset = offsets[at]
  if offset == 0 then
    table.insert(removed, name)
  else
    table.insert(set, name)
    table.insert(set, integer(meta.seq + offset))
  end
  if #set + #removed >= STEP then
    flush()
  end
end
flush()

if id_count > 0 then
  local size = tonumber(redis.call("HGET", META, "id_bytes") or "0")
  local before = integer(meta.seq) .. " " .. meta.tag .. " "
  for at = 2, id_last, 2 do
    local key = ARGV[at]
    local replaced = redis.call("HGET", IDS, key)
    if replaced then
      size = size - tonumber(string.match(replaced, "^%d+ (%d+) "))
    end
    local taken = #ARGV[at + 1] + 2 * #key + RECORD_BYTES
    redis.call("HSET", IDS, key, integer(now) .. " " .. integer(taken) .. " " .. before .. ARGV[at + 1])
    redis.call("RPUSH", AGES, integer(now) .. " " .. key)
    size = size + taken
  end
  redis.call("HSET", META, "id_bytes", integer(size))
  forget(oldest, limit, 2 * id_count + 100) -- twice as many as were added, and some
end

local head = { "clock", integer(now), "bytes", integer(bytes), "seq", integer(meta.seq + count) }
if not meta.exists then
  table.insert(head, "format")
  table.insert(head, FORMAT)
end
if count > 0 or not meta.exists then
  table.insert(head, "tag")
  table.insert(head, count > 0 and batch_tag or meta.tag)
end
redis.call("HSET", META, unpack(head))
return table.concat({ "appended", integer(meta.seq), meta.tag, integer(now) }, " ") -- takes less to read than a table
