-- Replaces idempotency records that nobody has changed in the meantime. They take less then, which is not counted.
-- ARGV: the erasure (seq, tag); then of each record its key, what it was, and what it becomes.

if not is_known(read_meta(), tonumber(ARGV[1]), ARGV[2]) then
  return { "unknown" }
end
for at = 3, #ARGV, 3 do
  if redis.call("HGET", IDS, ARGV[at]) == ARGV[at + 1] then
    redis.call("HSET", IDS, ARGV[at], ARGV[at + 2])
  end
end
return { "rewritten" }
