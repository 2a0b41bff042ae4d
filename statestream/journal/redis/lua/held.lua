-- Whether any of some slices exists now, or in a checkpoint: 1 or 0. ARGV: their names.

for _, name in ipairs(ARGV) do
  if redis.call("HEXISTS", VERSIONS, name) == 1 then
    return { "held", 1 }
  end
  local since = string.format("%016.0f", tonumber(redis.call("ZSCORE", ERASED, name) or "0"))
  for _, row in ipairs(redis.call("ZRANGEBYLEX", ROWS, "[" .. name .. "\0" .. since, "(" .. name .. "\1")) do
    if redis.call("HSTRLEN", VALUES, row) > 0 then
      return { "held", 1 }
    end
  end
end
return { "held", 0 }
