-- The chunks of the history. The newest are in the stream. Those that were moved are in REPLACED, some to a member, which
-- takes less memory: a bundle. It is a MessagePack array with five elements for each of its successive chunks: the last
-- seq, less that of the chunk before; how much less the base is; the tag; the bytes up to it, less those of the chunk
-- before; and the data. No other chunk lies between those of a bundle.

local bundle -- the one that was looked at last, with absolute numbers, and the seqs for which it was found

local function opened(member)
  local chunks, last, bytes = cmsgpack.unpack(member), 0, 0
  for at = 1, #chunks, 5 do
    last, bytes = last + chunks[at], bytes + chunks[at + 3]
    chunks[at], chunks[at + 1], chunks[at + 3] = last, last - chunks[at + 1], bytes
  end
  chunks.last = last
  return chunks
end

local function bundle_from(seq)
  if not (bundle and bundle.from <= seq and seq <= bundle.last) then
    local member = redis.call("ZRANGEBYSCORE", REPLACED, integer(seq), "+inf", "LIMIT", 0, 1)[1]
    bundle = member and opened(member)
    if bundle then
      bundle.from = math.min(seq, bundle[1])
    end
  end
  return bundle
end

-- The chunk with a change, or the next one if that was trimmed: its last seq, its base, its tag, the bytes up to it, its
-- data, and where it is in `bundle`, if it is. Nothing if there is none. Several values, because they cost less than a
-- table.
local function chunk_from(meta, seq)
  local moved, at = seq <= meta.replaced and bundle_from(seq), 1
  while moved and moved[at] < seq do
    at = at + 5
  end
  local entry = at == 1 and redis.call("XRANGE", CHANGES, integer(seq), "+", "COUNT", 1)[1]
  local last = entry and tonumber(string.match(entry[1], "^%d+"))
  if moved and not (last and last < moved[at]) then
    return moved[at], integer(moved[at + 1]), moved[at + 2], integer(moved[at + 3]), moved[at + 4], at
  end
  if entry then
    local fields = entry[2]
    return last, fields[2], fields[4], fields[6], fields[8], nil
  end
end

-- Adds the chunks of a new batch, which are in a list after `before`. Returns the size of all changes with them.
local function add_chunks(meta, tag, lasts, sizes, list, before)
  local bytes, base = meta.bytes, integer(meta.seq)
  for at, last in ipairs(lasts) do
    bytes = bytes + sizes[at]
    local id = integer(meta.seq + last) .. "-0"
    redis.call("XADD", CHANGES, id, "b", base, "t", tag, "z", integer(bytes), "d", list[before + at])
  end
  return bytes
end
