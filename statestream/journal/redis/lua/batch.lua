-- All chunks of the batch that has a change. None if it was trimmed. ARGV: the seq.

local seq, meta, found = tonumber(ARGV[1]), read_meta(), {}
local _, base, batch = chunk_from(meta, seq)
local last, at, tag, data = tonumber(base), nil, nil, nil
while last do
  last, at, tag, _, data = chunk_from(meta, last + 1)
  if not last or (last >= seq and tag ~= batch) then -- before it, an adopted one has others of the same base
    break
  end
  for _, each in ipairs({ integer(last), at, tag, data }) do
    table.insert(found, each)
  end
end
return { "batch", found }
