-- Deletes rows of slices as of positions before their erasure.
-- ARGV: the erasure (seq, tag); most rows; then each slice and the seq of its erasure, in 16 digits.
-- Returns 1 if there may be more.

if not is_known(read_meta(), tonumber(ARGV[1]), ARGV[2]) then
  return { "unknown" }
end
local left = tonumber(ARGV[3])
for at = 4, #ARGV, 2 do
  local name = ARGV[at]
  local from, to = "[" .. name .. "\0", "(" .. name .. "\0" .. ARGV[at + 1]
  for _, row in ipairs(redis.call("ZRANGEBYLEX", ROWS, from, to, "LIMIT", 0, left)) do
    redis.call("ZREM", ROWS, row)
    redis.call("HDEL", VALUES, row)
    redis.call("ZREM", SUPERSEDED, row)
    left = left - 1
  end
  if left == 0 then
    return { "unsaved", 1 }
  end
end
return { "unsaved", 0 }
