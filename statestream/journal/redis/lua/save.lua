-- Stores some slices as of a position, which a checkpoint needs. Rows are facts: they are true also if the checkpoint
-- is never completed. A slice that was erased after the position did not exist there.
-- ARGV: the position (seq, tag); the seq in 16 digits; then slice and value of each row.

local seq, tag, digits = tonumber(ARGV[1]), ARGV[2], ARGV[3]
local meta = read_meta()
local wrong = refusal(meta, seq, tag)
if wrong then
  return wrong
end

local function neighbour(command, from, to, name) -- the next row of the same slice in one direction
  local row = redis.call(command, ROWS, from, to, "LIMIT", 0, 1)[1]
  if row and string.sub(row, 1, #name + 1) == name .. "\0" then
    return row
  end
  return nil
end

local function store(name, value)
  local row = name .. "\0" .. digits
  redis.call("ZADD", ROWS, 0, row)
  redis.call("HSET", VALUES, row, value)
  local before = neighbour("ZREVRANGEBYLEX", "(" .. row, "-", name)
  if before then
    redis.call("ZADD", SUPERSEDED, "LT", integer(seq), before)
  end
  local after = neighbour("ZRANGEBYLEX", "(" .. row, "+", name) -- of a node that makes a later checkpoint
  if after then
    redis.call("ZADD", SUPERSEDED, "LT", string.sub(after, -16), row)
  elseif value == "" then
    redis.call("ZADD", SUPERSEDED, "LT", integer(seq), row)
  end
end

for at = 4, #ARGV, 2 do
  if meta.erased <= seq or tonumber(redis.call("ZSCORE", ERASED, ARGV[at]) or "0") <= seq then
    store(ARGV[at], ARGV[at + 1])
  end
end
return { "saved" }
