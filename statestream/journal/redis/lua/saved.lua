-- The slices in ranges of names, as of a checkpoint: as many as fit.
-- ARGV: the checkpoint (seq, tag); the seq in 16 digits; most bytes; most slices; "index" if the values are not wanted;
-- then the ranges: where to go on in the first one, and the pairs (from, to) of texts between which the rows are.
-- Returns the rows (name, value; for an index, of the value only its position), and the number of ranges that are done
-- and where to go on in the next one.

local seq, tag, digits = tonumber(ARGV[1]), ARGV[2], ARGV[3]
local most, most_slices, index = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6] == "index"
local kept = redis.call("ZRANGEBYSCORE", CHECKPOINTS, integer(seq), integer(seq))[1]
if not kept or string.match(kept, "^%d+ (%w+) ") ~= tag then
  return { "gone" }
end

local erased = tonumber(redis.call("HGET", META, "erased") or "0") > seq -- since then

local function is_erased(name)
  return erased and tonumber(redis.call("ZSCORE", ERASED, name) or "0") > seq
end

local found, size, looked = {}, 0, 0
local from = ARGV[7]
for range = 8, #ARGV, 2 do
  if from == "" then
    from = ARGV[range]
  end
  while true do
    local row = redis.call("ZRANGEBYLEX", ROWS, "[" .. from, "(" .. ARGV[range + 1], "LIMIT", 0, 1)[1]
    if not row then
      break
    end
    if size > most or looked >= most_slices then
      return { "saved", found, (range - 8) / 2, from }
    end
    local name = string.sub(row, 1, -18)
    local newest = not is_erased(name) and redis.call(
      "ZREVRANGEBYLEX", ROWS, "[" .. name .. "\0" .. digits, "[" .. name .. "\0", "LIMIT", 0, 1
    )[1]
    local value = newest and redis.call("HGET", VALUES, newest)
    if newest and not value then
      return { "damaged", "a slice in the checkpoint at change " .. integer(seq) }
    end
    if newest and value ~= "" then
      if index then
        value = string.match(value, "^[^ ]* ") or ""
      end
      table.insert(found, name)
      table.insert(found, value)
      size = size + #value
    end
    looked = looked + 1
    from = name .. "\1"
  end
  from = ""
end
return { "saved", found, (#ARGV - 7) / 2, "" }
