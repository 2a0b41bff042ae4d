-- What is left to do of erasures: the newest one (seq, tag), the slices of those that are not finished, each followed by
-- the seq of its erasure, and the newest one that the append-only file may still contain, 0 if there is none.

local meta = read_meta()
local tag, compact = unpack(redis.call("HMGET", META, "erased_tag", "compact"))
return { "pending", integer(meta.erased), tag or "0", unfinished(meta), compact or "0" }
