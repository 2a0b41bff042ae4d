-- The chunks of the history. Most are in the stream, and those that an erasure has moved are in REPLACED.

-- The chunk with a change, or the next one if that was trimmed: its last seq, its base, its tag, the bytes up to it, its
-- data, and whether it is in REPLACED. Nothing if there is none. Several values, because they cost less than a table.
local function chunk_from(meta, seq)
  local entry = redis.call("XRANGE", CHANGES, integer(seq), "+", "COUNT", 1)[1]
  local last = entry and tonumber(string.match(entry[1], "^%d+"))
  if seq <= meta.replaced then
    local member = redis.call("ZRANGEBYSCORE", REPLACED, integer(seq), "+inf", "LIMIT", 0, 1)[1]
    if member then
      local _, header, other, base, tag, bytes = string.find(member, "^(%d+) (%d+) (%w+) (%d+) ")
      other = tonumber(other)
      if not (last and last < other) then
        return other, base, tag, bytes, string.sub(member, header + 1), true
      end
    end
  end
  if entry then
    local fields = entry[2]
    return last, fields[2], fields[4], fields[6], fields[8], false
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
