-- The chunks that have some changes, each once. ARGV: the seqs, in order.

local meta, found, last = read_meta(), {}, 0
for _, text in ipairs(ARGV) do
  local seq = tonumber(text)
  if seq > last then
    local reached, base, tag, _, data = chunk_from(meta, seq)
    if not reached then
      break
    end
    last = reached
    for _, each in ipairs({ integer(last), base, tag, data }) do
      table.insert(found, each)
    end
  end
end
return { "found", found }
