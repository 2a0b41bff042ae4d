-- Idempotency records, of which the oldest are forgotten first. `id_bytes` in meta is exactly the size of those in IDS.

-- Stores a record, of which `content` is what comes after its time and size.
local function remember(key, at, content)
  local size = #content + 2 * #key + RECORD_BYTES
  local replaced = redis.call("HGET", IDS, key)
  local gone = replaced and tonumber(string.match(replaced, "^%d+ (%d+) ")) or 0
  redis.call("HSET", IDS, key, at .. " " .. integer(size) .. " " .. content)
  redis.call("RPUSH", AGES, at .. " " .. key)
  redis.call("HINCRBY", META, "id_bytes", integer(size - gone))
end

-- Forgets up to `most` of the oldest: those from before `oldest`, and those that exceed `limit` (0: none).
-- Returns how many it looked at and forgot.
local function forget(oldest, limit, most)
  local size = tonumber(redis.call("HGET", META, "id_bytes") or "0")
  local forgotten = 0
  while forgotten < most do
    local first = redis.call("LINDEX", AGES, 0)
    if not first then
      break
    end
    local space = string.find(first, " ", 1, true)
    local at, key = tonumber(string.sub(first, 1, space - 1)), string.sub(first, space + 1)
    if at >= oldest and (limit == 0 or size <= limit) then
      break
    end
    local record = redis.call("HGET", IDS, key)
    local record_at, record_size = string.match(record or "", "^(%d+) (%d+) ")
    if record_at and tonumber(record_at) == at then -- otherwise the id was used again, a day later
      redis.call("HDEL", IDS, key)
      size = size - tonumber(record_size)
    end
    redis.call("LPOP", AGES)
    forgotten = forgotten + 1
  end
  if forgotten > 0 then
    redis.call("HSET", META, "id_bytes", integer(size))
  end
  return forgotten
end
