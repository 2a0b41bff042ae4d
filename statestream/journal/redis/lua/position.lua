-- Whether a position is part of the history. Two positions with the same seq and tag are the same.

local function read_meta()
  local found = redis.call(
    "HMGET", META, "seq", "tag", "floor", "floor_tag", "bytes", "floor_bytes", "clock", "erased", "overwritten",
    "replaced"
  )
  return {
    exists = found[1] ~= false,
    seq = tonumber(found[1] or "0"),
    tag = found[2] or "0",
    floor = tonumber(found[3] or "0"),
    floor_tag = found[4] or "0",
    bytes = tonumber(found[5] or "0"),
    floor_bytes = tonumber(found[6] or "0"),
    clock = tonumber(found[7] or "0"),
    erased = tonumber(found[8] or "0"),
    overwritten = tonumber(found[9] or "0"),
    replaced = tonumber(found[10] or "0"),
  }
end

-- What a script has to return if there is a journal without its head; nil if that is there, or nothing is.
local function headless(meta)
  if meta.exists then
    return nil
  end
  if redis.call("EXISTS", CHANGES, VERSIONS, IDS, AGES, ROWS, VALUES, CHECKPOINTS, REPLACED, ERASED) > 0 then
    return { "damaged", "the head of the journal" }
  end
  return nil
end

local function write_head(meta, head)
  redis.call(
    "HSET", META, "seq", integer(head.seq), "tag", head.tag, "bytes", integer(head.bytes), "clock", integer(head.clock)
  )
  if not meta.exists then
    redis.call("HSET", META, "format", FORMAT)
  end
end

-- What is wrong with a position: nil, or what the script has to return.
local function refusal(meta, seq, tag)
  if seq < meta.floor then
    return { "expired", integer(meta.floor) .. "." .. meta.floor_tag }
  end
  local known
  if seq == meta.floor then
    known = meta.floor_tag
  elseif seq == meta.seq then
    known = meta.tag
  elseif seq < meta.seq then
    local last, _, found = chunk_from(meta, seq)
    if not last then
      return { "damaged", "the history at change " .. integer(seq) }
    end
    known = found
  end
  if known ~= tag then
    return { "forked" }
  end
  return nil
end
