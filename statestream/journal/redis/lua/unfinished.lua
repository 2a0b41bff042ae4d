-- Erasures that are not finished. What they erase may still be in chunks, rows and records, but is not returned.

-- Their slices, each followed by the seq of its erasure.
local function unfinished(meta)
  if meta.erased <= meta.overwritten then
    return {}
  end
  return redis.call("ZRANGEBYSCORE", ERASED, "(" .. integer(meta.overwritten), "+inf", "WITHSCORES")
end
