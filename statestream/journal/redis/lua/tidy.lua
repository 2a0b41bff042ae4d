-- Records the time, and forgets some idempotency records.
-- ARGV: the time; the time before which ids are forgotten; the limit for ids in bytes; most records.
-- Returns the recorded time, and 1 if there may be more to forget.

local now = math.max(tonumber(ARGV[1]), read_meta().clock)
local most = tonumber(ARGV[4])
if redis.call("EXISTS", META) == 1 then -- otherwise the journal is empty, and stays so
  redis.call("HSET", META, "clock", integer(now))
end
local forgotten = forget(tonumber(ARGV[2]), tonumber(ARGV[3]), most)
return { "tidied", integer(now), forgotten == most and 1 or 0 }
