-- Looks for texts in the chunks after a seq, for about so many bytes.
-- ARGV: the seq; the last seq to look at; most bytes; the texts.
-- Returns how far it has looked, and the last seq of each chunk that has one of them.

local after, last, most = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local meta, found, size = read_meta(), {}, 0
while after < last and size < most do
  local reached, _, _, _, data = chunk_from(meta, after + 1)
  if not reached then
    after = last
    break
  end
  after = reached
  size = size + 500 -- what it takes to look at a chunk at all
  for at = 4, #ARGV do
    size = size + #data
    if string.find(data, ARGV[at], 1, true) then
      table.insert(found, integer(after))
      break
    end
  end
end
return { "searched", integer(after), found }
