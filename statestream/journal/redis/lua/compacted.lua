-- Notes that the append-only file is being written anew. ARGV: `compact` as it was when that began.

if redis.call("HGET", META, "compact") == ARGV[1] then
  redis.call("HDEL", META, "compact")
end
return { "compacted" }
