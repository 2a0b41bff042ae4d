-- Replaces the data of chunks, which moves them from the stream to REPLACED.
-- Redis only marks an entry of a stream as deleted: its bytes stay in memory, and in every file that Redis writes, until
-- nothing else is left in the same node of the stream. So the neighbours in that node move as well. Redis does not say
-- which they are, but how many nodes there are. Moving those before the chunk until a node is gone, and then those after
-- it, removes its node, and leaves no other node with a deleted entry in it.
-- ARGV: the erasure (seq, tag); then of each chunk its last seq, the SHA-1 of its data, and the data that replace them.
-- Returns 1 if all of them were replaced, 0 if one was not, because another erasure has changed it.

local meta = read_meta()
if not is_known(meta, tonumber(ARGV[1]), ARGV[2]) then
  return { "unknown" }
end

local function nodes()
  local info = redis.call("XINFO", "STREAM", CHANGES)
  for at = 1, #info, 2 do
    if info[at] == "radix-tree-keys" then
      return info[at + 1]
    end
  end
end

local function move(last, base, tag, bytes, data) -- out of the stream
  redis.call("XDEL", CHANGES, integer(last) .. "-0")
  keep(meta, { last, tonumber(base), tag, tonumber(bytes), data })
end

local function move_neighbours(command, seq, step, to)
  local before = nodes()
  repeat
    local entry = redis.call(command, CHANGES, integer(seq + step), to, "COUNT", 1)[1]
    if not entry then
      return
    end
    seq = tonumber(string.match(entry[1], "^%d+"))
    move(seq, entry[2][2], entry[2][4], entry[2][6], entry[2][8])
  until nodes() < before
end

for at = 3, #ARGV, 3 do
  local last = tonumber(ARGV[at])
  local found, base, tag, bytes, data, place = chunk_from(meta, last)
  if found == last then -- otherwise it was trimmed
    if redis.sha1hex(data) ~= ARGV[at + 1] then
      return { "replaced", 0 }
    end
    if place then
      bundle[place + 4] = ARGV[at + 2]
      keep_again(meta, bundle)
    else
      local before = nodes()
      move(last, base, tag, bytes, ARGV[at + 2])
      if nodes() == before then
        move_neighbours("XREVRANGE", last, -1, "-")
        move_neighbours("XRANGE", last, 1, "+")
      end
    end
  end
end
return { "replaced", 1 }
