-- Bundles that are written.

-- Writes successive chunks as a bundle. The list has five elements for each of them, as `bundle` does.
local function keep(meta, chunks)
  local written, last, bytes = {}, 0, 0
  for at = 1, #chunks, 5 do
    written[at], written[at + 1], written[at + 2] = chunks[at] - last, chunks[at] - chunks[at + 1], chunks[at + 2]
    written[at + 3], written[at + 4] = chunks[at + 3] - bytes, chunks[at + 4]
    last, bytes = chunks[at], chunks[at + 3]
  end
  redis.call("ZADD", REPLACED, integer(last), cmsgpack.pack(written))
  bundle = nil
  if last > meta.replaced then
    meta.replaced = last
    redis.call("HSET", META, "replaced", integer(last), "format", REPLACED_FORMAT)
  end
end

-- Writes a bundle again, the data of which have changed.
local function keep_again(meta, chunks)
  redis.call("ZREMRANGEBYSCORE", REPLACED, integer(chunks.last), integer(chunks.last))
  keep(meta, chunks)
end
