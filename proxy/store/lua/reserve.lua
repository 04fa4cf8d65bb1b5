-- Take what a request needs on every limit, or nothing. Repeated, it tells its first grant again.
-- KEYS  1 reservation, 2 open index, 3 the tenant's epoch, 4 the client's own key for the request (where it gave none:
--       the reservation), 5.. one for each group of the line-up
-- ARGV  1 request id, 2 member of the open index, 3 epoch, 4 record so far, 5 line-up, 6 price (all JSON),
--       7 prompt tokens, 8 choices, 9 largest and 10 least completion (tokens a choice), 11 how long it is expected in
--       flight (microseconds), 12 how long the client's key is remembered (milliseconds; 0: it gave none)
-- Returns "now granted completion [index used reset]..." or "now refused index wait [index used reset]..." or "now repeated
--       id" or "now closed" or "now foreign": times in microseconds, index counts the limits of the line-up from 0 and
--       tells of each unit the limit that binds, wait "-" is never; repeated: the client's key belongs to the request with
--       that id; closed: it had ended before; foreign: the tenant's counters are not those that the gateway remembers, and
--       zeros here are not "0 used".

local FIRST = 4

local now = clock()
local found = redis.call('MGET', unpack(KEYS))
if found[3] ~= ARGV[3] then
  return text(now) .. ' foreign'
end
if found[1] then
  local known = split(found[1], '\n')
  return known[3] and string.sub(known[1], 1, 8) == 'PENDING ' and known[3] or text(now) .. ' closed'
end
if found[4] then
  return text(now) .. ' repeated ' .. found[4]
end

local groups = cjson.decode(ARGV[5])
local prompt, choices = tonumber(ARGV[7]), tonumber(ARGV[8])
local completion, least = tonumber(ARGV[9]), tonumber(ARGV[10])

-- Of each unit (1 tokens, 2 requests, 3 in flight) the limit with the least room: what binds.
local room, binding, group_of, place_of, amount_of = {MAX, MAX, MAX}, {}, {}, {}, {}
local counters, index, alive = {}, -1, alive_at(now)
for g = 1, #groups do
  local group = groups[g]
  if group[2] == 0 then
    index = index + 1
    redis.call('ZREMRANGEBYSCORE', KEYS[FIRST + g], '-inf', '(' .. alive)
    local free = group[3] - redis.call('ZCARD', KEYS[FIRST + g])
    if not binding[3] or free < room[3] then
      room[3], binding[3], group_of[3], amount_of[3] = free, index, g, group[3]
    end
  else
    local counter, at = unpacked(found[FIRST + g]), 2
    counters[g] = counter
    for i = 2, #group, 2 do
      local code, amount = group[i], group[i + 1]
      if counter[at] ~= code then
        at = place(counter, at, code)
      end
      bring(counter, at, code, amount, now)
      local unit, free = code > 5 and 2 or 1, amount - counter[at + 1]
      index = index + 1
      if not binding[unit] or free < room[unit] then
        room[unit], binding[unit], group_of[unit], place_of[unit], amount_of[unit] = free, index, g, at, amount
      end
      at = at + 4
    end
  end
end

if binding[1] then
  local spare = room[1] - prompt
  completion = spare < 0 and -1 or math.min(completion, (divide(spare, choices)))
end
local fits = completion >= least and room[2] > 0 and room[3] > 0

local cost, ends, longest, refusing = prompt + choices * completion, {}, -1, 0
if fits then
  for g = 1, #groups do
    local group, counter, key = groups[g], counters[g], KEYS[FIRST + g]
    if counter then
      local at, lasts = 2, 0
      for i = 2, #group, 2 do
        local code = group[i]
        while counter[at] ~= code do
          at = at + 4
        end
        counter[at + 1] = counter[at + 1] + (code > 5 and 1 or cost)
        local lasts_one = PERIOD_US[code]
        if not lasts_one then
          ends[#ends + 1] = counter[at + 2]
          lasts_one = counter[at + 2] * DAY_US - now
        end
        if lasts_one > lasts then
          lasts = lasts_one
        end
        at = at + 4
      end
      save(key, counter, lasts, now)
    else
      redis.call('ZADD', key, text(now + tonumber(ARGV[11])), ARGV[1])
      keep(key)
      room[3] = g == group_of[3] and room[3] - 1 or room[3]
    end
  end
else
  -- Which limit takes longest until the least that is asked fits; math.huge is never.
  index = -1
  for g, group in ipairs(groups) do
    local counter, at = counters[g], 2
    for i = 2, #group, 2 do
      local code, amount, used = group[i], group[i + 1], nil
      local asked = (code == 0 or code > 5) and 1 or prompt + choices * least
      if code == 0 then
        used = redis.call('ZCARD', KEYS[FIRST + g])
      else
        at = place(counter, at, code)
        used = counter[at + 1]
      end
      local missing, waits = asked - (amount - used), -1
      if asked > amount then
        waits = math.huge
      elseif missing > 0 and code == 0 then
        waits = place_wait(KEYS[FIRST + g], missing, now)
      elseif missing > 0 then
        waits = wait(counter, at, amount, missing, now)
      end
      index = index + 1
      if waits > longest then
        longest, refusing = waits, index
      end
    end
  end
end

-- What the decision says of the limits that bind.
local told = ''
for unit = 1, 3 do
  local g, amount = group_of[unit], amount_of[unit]
  local counter, at = counters[g], place_of[unit]
  if counter then
    told = told .. format(' %.0f %.0f %.0f', binding[unit], counter[at + 1], reset(counter, at, amount, now))
  elseif g then
    told = told .. format(' %.0f %.0f %.0f', binding[unit], amount - room[unit], latest_end(KEYS[FIRST + g], now))
  end
end
if not fits then
  return format('%.0f refused %.0f %s', now, refusing, longest == math.huge and '-' or text(longest)) .. told
end

local decision = format('%.0f granted %.0f', now, completion) .. told
local once = '-'
if ARGV[12] ~= '0' then
  once = KEYS[4]
  redis.call('SET', once, ARGV[1], 'PX', ARGV[12])
end
local head = format('PENDING %.0f 0', cost) .. (#ends > 0 and ' ' .. table.concat(ends, ' ') or '')
local lines = {head, once, decision, ARGV[4], ARGV[5], ARGV[6]}
redis.call('SET', KEYS[1], table.concat(lines, '\n'), 'PX', PENDING_MS)
redis.call('ZADD', KEYS[2], text(now), ARGV[2])
keep(KEYS[2])
return decision
