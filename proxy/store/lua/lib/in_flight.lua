-- Requests in flight are a sorted set for each subject: request id -> expected end, in microseconds.
-- The pure form is policies/in_flight.py.

-- So long after its expected end nobody can still end a request, and its place is none any more.
local PENDING_MS = 30 * 86400000
-- The same, and twice that, as Redis takes it: to write a number out would take longer than some commands.
local PENDING, KEPT = '2592000000', '5184000000'

-- Set a key that must outlive what is pending to expire; not each time, since that is one more write.
local function keep(key)
  if redis.call('PTTL', key) < PENDING_MS then
    redis.call('PEXPIRE', key, KEPT)
  end
end

-- How many places are taken. While a set is to expire later than in PENDING_MS each of them is one still: so it is set
-- when the first is taken, and here.
local function places_taken(key, now)
  local taken = redis.call('ZCARD', key)
  if taken == 0 or redis.call('PTTL', key) >= PENDING_MS then
    return taken
  end
  redis.call('ZREMRANGEBYSCORE', key, '-inf', '(' .. text(now - PENDING_MS * 1000))
  local first = redis.call('ZRANGE', key, '0', '0', 'WITHSCORES')
  if first[2] then
    redis.call('PEXPIRE', key, text(2 * PENDING_MS + math.ceil((tonumber(first[2]) - now) / 1000)))
  end
  return redis.call('ZCARD', key)
end

local function take_place(key, id, ends_at, taken)
  redis.call('ZADD', key, ends_at, id)
  if taken == 0 then
    redis.call('PEXPIRE', key, KEPT)
  end
end

-- Microseconds until `missing` places are expected to be free, at least a second.
local function place_wait(key, missing, now)
  local ends = redis.call('ZRANGE', key, missing - 1, missing - 1, 'WITHSCORES')
  return math.max(1000000, tonumber(ends[2]) - now)
end

-- Microseconds until every place is expected to be free.
local function latest_end(key, now)
  local latest = redis.call('ZREVRANGE', key, '0', '0', 'WITHSCORES')
  return latest[2] and math.max(0, tonumber(latest[2]) - now) or 0
end
