-- Appends a batch, if the position read, the ids and the versions of the slices allow it. Numbers its changes.
-- ARGV: the position read (seq, tag); the tag of the batch; the time; the time before which ids are forgotten; the
-- limit for ids in bytes; the number of changes; and four lists, each with its length before it:
-- ids (key, record), versions (slice, version), slices after the batch (slice, offset or 0), chunks (offset, size, data).
-- Offsets count the changes of the batch from 1.

local seq, tag = tonumber(ARGV[1]), ARGV[2]
local batch_tag, now, oldest, limit = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local count = tonumber(ARGV[7])

local function list_at(at, width) -- the index of the first member, of the last one, and of the next list
  local length = tonumber(ARGV[at]) * width
  return at + 1, at + length, at + length + 1
end
local id_first, id_last, next_list = list_at(8, 2)
local version_first, version_last, set_first, set_last, chunk_first, chunk_last
version_first, version_last, next_list = list_at(next_list, 2)
set_first, set_last, next_list = list_at(next_list, 2)
chunk_first, chunk_last = list_at(next_list, 3)

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
for at = id_first, id_last, 2 do
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

for from = version_first, version_last, 2 * STEP do
  local to = math.min(from + 2 * STEP, version_last + 1) - 1
  local names = {}
  for at = from, to, 2 do
    table.insert(names, ARGV[at])
  end
  for index, version in ipairs(redis.call("HMGET", VERSIONS, unpack(names))) do
    if (version or "0") ~= ARGV[from + 2 * index - 1] then
      return { "conflict", names[index] }
    end
  end
end

local bytes = meta.bytes
for at = chunk_first, chunk_last, 3 do
  local last = integer(meta.seq + tonumber(ARGV[at]))
  bytes = bytes + tonumber(ARGV[at + 1])
  redis.call(
    "XADD", CHANGES, last .. "-0", "b", integer(meta.seq), "t", batch_tag, "z", integer(bytes), "d", ARGV[at + 2]
  )
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
for at = set_first, set_last, 2 do
  local offset = tonumber(ARGV[at + 1])
  if offset == 0 then
    table.insert(removed, ARGV[at])
  else
    table.insert(set, ARGV[at])
    table.insert(set, integer(meta.seq + offset))
  end
  if #set + #removed >= STEP then
    flush()
  end
end
flush()

if id_last > id_first then
  local size = tonumber(redis.call("HGET", META, "id_bytes") or "0")
  local before = integer(meta.seq) .. " " .. meta.tag .. " "
  for at = id_first, id_last, 2 do
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
  forget(oldest, limit, id_last - id_first + 101) -- twice as many as were added, and some
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
