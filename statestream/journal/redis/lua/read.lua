-- The chunks after a position: until they have `limit` changes, or more bytes than `most`.
-- ARGV: the position (seq, tag); limit; most.
-- While an erasure is not finished, also the rest of the first and the last batch, because what an action has done to an
-- erased slice decides what is returned of its other changes; then where the page ends, and the unfinished erasures.

local seq, tag, limit, most = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local meta = read_meta()
local wrong = refusal(meta, seq, tag)
if wrong then
  return wrong
end
local erasures = unfinished(meta)
local whole = #erasures > 0
local found, count, size, last, enough, batch = {}, 0, 0, seq, seq + limit, nil
if whole and seq < meta.seq then
  local _, base = chunk_from(meta, seq + 1)
  last = math.max(meta.floor, tonumber(base or seq))
end
while last < meta.seq and (whole or last < enough) do
  local reached, base, chunk_tag, _, data = chunk_from(meta, last + 1)
  if not reached then
    return { "damaged", "the history after change " .. integer(last) }
  end
  if last > seq and size + #data > most then
    enough = math.min(enough, last)
  end
  if last >= enough and not (whole and chunk_tag == batch) then
    break
  end
  if reached > seq then
    size = size + #data
  end
  found[count + 1], found[count + 2], found[count + 3], found[count + 4] = integer(reached), base, chunk_tag, data
  count, last, batch = count + 4, reached, chunk_tag
end
return { "read", found, integer(enough), erasures }
