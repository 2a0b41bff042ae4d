-- How far the history was looked through for changes to fold.
local seq, tag = unpack(redis.call("HMGET", META, "folded", "folded_tag"))
return { "noted", seq or "0", tag or "0" }
