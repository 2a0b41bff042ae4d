-- The newest and the earliest position, the recorded time, and the format ("" if the journal is empty).

local meta = read_meta()
local wrong = headless(meta)
if wrong then
  return wrong
end
local format = redis.call("HGET", META, "format") or ""
if format == "" and redis.call("EXISTS", META) == 1 then
  return { "damaged", "the head of the journal" }
end
return { "head", integer(meta.seq), meta.tag, integer(meta.floor), meta.floor_tag, integer(meta.clock), format }
