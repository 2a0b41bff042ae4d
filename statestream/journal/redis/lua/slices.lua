-- The versions of the slices that exist.

-- The name of a slice whose version is not the one in the list; nil if there is none.
local function differing(names, versions)
  for from = 1, #names, STEP do
    local found = redis.call("HMGET", VERSIONS, unpack(names, from, math.min(from + STEP - 1, #names)))
    for index, version in ipairs(found) do
      local at = from + index - 1
      if tonumber(version or "0") ~= versions[at] then
        return names[at]
      end
    end
  end
  return nil
end

-- Sets the versions, which count from `base`; 0 removes the slice.
local function set_versions(names, versions, base)
  local set, removed = {}, {}
  for at, name in ipairs(names) do
    if versions[at] == 0 then
      table.insert(removed, name)
    else
      table.insert(set, name)
      table.insert(set, integer(base + versions[at]))
    end
    if at % STEP == 0 or at == #names then
      if #set > 0 then
        redis.call("HSET", VERSIONS, unpack(set))
      end
      if #removed > 0 then
        redis.call("HDEL", VERSIONS, unpack(removed))
      end
      set, removed = {}, {}
    end
  end
end
