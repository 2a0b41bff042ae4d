-- Appends the erasure of some slices, whatever their versions are. From then on, what they were does not exist.
-- ARGV[1] is a MessagePack array: the tag of the batch; the time; the slices; then lists, of the last offset and the
-- size of each chunk. Then come the texts of the chunks between which the versions of the slices belong: of each chunk
-- one more than it has changes.

local tag, now, names, lasts, sizes = unpack(cmsgpack.unpack(ARGV[1]))
local meta = read_meta()
local wrong = headless(meta)
if wrong then
  return wrong
end

local remainders = {} -- of CRC-32, by byte
for byte = 0, 255 do
  local rest = byte
  for _ = 1, 8 do
    rest = bit.bxor(bit.rshift(rest, 1), bit.band(rest, 1) * 0xEDB88320)
  end
  remainders[byte] = rest
end

local function checked(content) -- with its CRC before it, as in packing.py
  local crc = bit.bnot(0)
  for at = 1, #content do
    local byte = bit.band(bit.bxor(crc, string.byte(content, at)), 255)
    crc = bit.bxor(bit.rshift(crc, 8), remainders[byte])
  end
  return struct.pack(">i4", bit.bnot(crc)) .. content
end

local number, chunks, gone = 0, {}, {}
for at, last in ipairs(lasts) do
  local content = ARGV[1 + number + at]
  while number < last do
    number = number + 1
    local version = tonumber(redis.call("HGET", VERSIONS, names[number]) or "0")
    local digits = struct.pack(">I4I4", math.floor(version / 2 ^ 32), version % 2 ^ 32)
    content = content .. "\207" .. digits .. ARGV[1 + number + at]
    gone[number] = 0
  end
  chunks[at] = checked(content)
end

now = math.max(now, meta.clock)
local bytes, seq = add_chunks(meta, tag, lasts, sizes, chunks, 0), integer(meta.seq + number)
set_versions(names, gone, 0)
for _, name in ipairs(names) do
  redis.call("ZADD", ERASED, seq, name)
end
write_head(meta, { clock = now, bytes = bytes, seq = meta.seq + number, tag = tag })
redis.call("HSET", META, "erased", seq, "erased_tag", tag, "format", REPLACED_FORMAT)
return { "erased", seq, integer(now) }
