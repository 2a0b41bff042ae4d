-- The keys of a journal, in the order of `keys.py`. Every script gets all of them: they share one slot of a cluster.
-- meta         hash   format, seq and tag (the head), floor, floor_tag and floor_bytes (the earliest position), bytes
--                     (the size of all changes ever written), id_bytes, clock; once something was erased: erased and
--                     erased_tag (the newest erasure), overwritten (the newest one of which nothing is left), compact
--                     (one of which the append-only file may have something); once something was moved: replaced (the last
--                     seq in `replaced`); folded and folded_tag (how far was looked for changes to fold)
-- changes      stream chunks of batches; the id is the seq of the last change, so the seqs of a chunk end there
-- versions     hash   slice -> version, of the slices that exist
-- ids          hash   idempotency key -> "at size base base_tag " .. record
-- ages         list   "at " .. idempotency key, oldest first
-- rows         zset   slice .. "\0" .. seq, with 16 digits, in the order of their text: a slice as of a checkpoint
-- values       hash   row -> "seq.tag " .. value, or "" where the slice did not exist
-- checkpoints  zset   "seq tag at size bytes" by seq: the complete ones. `bytes` is as in meta, when it was made
-- superseded   zset   rows by the seq from which on no checkpoint needs them
-- replaced     zset   bundles of chunks that are not in the stream any more, by the last seq; see chunks.lua
-- erased       zset   slices by the seq of their erasure: what they were before does not exist
local META, CHANGES, VERSIONS, IDS, AGES, ROWS, VALUES, CHECKPOINTS, SUPERSEDED, REPLACED, ERASED = unpack(KEYS)

local STEP = 1000 -- Lua passes some thousands of arguments at most

local function integer(number) -- as text: tostring would write 1e+15
  return string.format("%.0f", number)
end
