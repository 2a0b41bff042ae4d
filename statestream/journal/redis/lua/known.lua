-- Whether an erasure is part of this history: a node that has missed a failover must not finish one that was lost.
local function is_known(meta, seq, tag)
  if redis.call("HGET", META, "erased_tag") == tag then
    return true
  end
  return seq >= meta.floor and refusal(meta, seq, tag) == nil
end
