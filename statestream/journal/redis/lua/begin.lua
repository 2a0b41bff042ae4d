-- Makes an empty journal begin at a position, and notes the versions of slices that exist there. Called again with more
-- of them. ARGV: one MessagePack array: the position (seq, tag), the time, whether it is the first call, and the slices
-- and their versions.

local seq, tag, now, first, names, versions = unpack(cmsgpack.unpack(ARGV[1]))
local meta = read_meta()
local wrong = headless(meta)
if wrong then
  return wrong
end
if first then
  if meta.seq > 0 or meta.floor > 0 then
    return { "forked" }
  end
  write_head(meta, { clock = math.max(now, meta.clock), bytes = meta.bytes, seq = seq, tag = tag })
  redis.call("HSET", META, "floor", integer(seq), "floor_tag", tag, "floor_bytes", integer(meta.bytes))
elseif meta.seq ~= seq or meta.tag ~= tag then
  return { "forked" }
end
set_versions(names, versions, 0)
return { "begun" }
