-- Appends what another journal has numbered, if it continues this one.
-- ARGV[1] is a MessagePack array: the time; the seq of the first change; the numbers of chunks and of ids; then lists:
-- of the slices that change, their versions before and after, and of the last seq, the tag and the size of each chunk.
-- Then come the contents of the chunks, and the key, the time and the record of each id.

local batch = cmsgpack.unpack(ARGV[1])
local now, first, chunk_count, id_count, names, before, after, lasts, tags, sizes = unpack(batch)
local meta = read_meta()
local wrong = headless(meta)
if wrong then
  return wrong
end
if (chunk_count > 0 and first ~= meta.seq + 1) or differing(names, before) then
  return { "forked" }
end
local head = { clock = math.max(now, meta.clock), bytes = meta.bytes, seq = meta.seq, tag = meta.tag }
for at = 1, chunk_count do
  head.seq, head.tag, head.bytes = lasts[at], tags[at], head.bytes + sizes[at]
  local id = integer(head.seq) .. "-0"
  redis.call("XADD", CHANGES, id, "b", "0", "t", head.tag, "z", integer(head.bytes), "d", ARGV[1 + at])
end
set_versions(names, after, 0)
for at = 2 + chunk_count, 1 + chunk_count + 3 * id_count, 3 do
  remember(ARGV[at], ARGV[at + 1], ARGV[at + 2])
end
write_head(meta, head)
return { "adopted" }
