-- Take what a request needs on every limit, or nothing. Repeated, it tells its first grant again.
-- KEYS  1 reservation, 2 open index, 3 the tenant's epoch, 4 the client's own key for the request (where it gave none:
--       the reservation), 5.. those of the line-up
-- ARGV  1 request id, 2 member of the open index, 3 epoch, 4 record so far, line-up and price (a line of JSON each, for
--       the sweeper), 5 what is asked (six doubles): prompt tokens, choices, largest and least completion (tokens a
--       choice), how long it is expected in flight (microseconds), how long the client's key is remembered
--       (milliseconds; 0: it gave none), 6 line-up (packed)
-- Returns "now granted completion [index used reset]..." or "now refused index wait [index used reset]..." or "now repeated
--       id" or "now closed" or "now foreign": times in microseconds, index counts the limits of the line-up from 0 and
--       tells of each unit the limit that binds, wait "-" is never; repeated: the client's key belongs to the request with
--       that id; closed: it had ended before; foreign: the tenant's counters are not those that the gateway remembers, and
--       zeros here are not "0 used".

local FIRST = 4

local now = clock()
local line_up = line_up_of(ARGV[6])
local last_counter = FIRST + line_up[1]
local found = redis.call('MGET', unpack(KEYS, 1, last_counter))
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

local prompt, choices, completion, least, held, once_ms = struct.unpack('<dddddd', ARGV[5])

-- Of each unit (1 tokens, 2 requests, 3 in flight) the limit with the least room: what binds. Where it stands in the
-- line-up, which limit that is, and where what is used of it stands. Like what follows for each of the four scopes,
-- these tables begin with the room they need: one that grows is made anew at each power of two.
local room, limit_of, index_of = {math.huge, math.huge, math.huge}, {false, false, false}, {false, false, false}
local key_of, place_of = {false, false, false}, {false, false, false}

local taken = {0, 0, 0, 0}
for g = last_counter + 1, #KEYS do
  local i, places = #line_up - 1 - #KEYS + g, places_taken(KEYS[g], now)
  taken[g - last_counter] = places
  if line_up[i] - places < room[3] then
    room[3], limit_of[3], key_of[3] = line_up[i] - places, i, g
  end
end

-- Bring the other limits to now and take from each what is asked. Where one has not so much, begin anew: with the
-- largest completion that all of them hold, or, where that is too little, with nothing. Which windows that is from is
-- noted as lib/reservations.lua tells.
local cost, request, index = prompt + choices * completion, 1, 0
if room[3] <= 0 then
  cost, request = 0, 0
end
local counters, lasting, ends = {0, 0, 0, 0}, {0, 0, 0, 0}, {}
while true do
  local last, window, fits, before_last, last_end = 1, 0, true, nil, nil
  index = 0
  for g = FIRST + 1, last_counter do
    local codes = line_up[last + 1]
    local from = last + 3
    last = last + 2 + 2 * #codes
    local counter, at, lasts = unpacked(found[g], codes, #codes), 0, 0
    for i = from, last, 2 do
      local code, amount = line_up[i], line_up[i + 1]
      at = at + 3
      local used, lasts_one, after = bring(counter, at, code, amount, now)
      local unit, asked, free = 1, cost, amount - used
      if code > 5 then
        unit, asked = 2, request
      end
      if free < room[unit] then
        room[unit], limit_of[unit], index_of[unit], key_of[unit], place_of[unit] = free, i, index, g, at
      end
      if asked <= free then
        counter[at] = used + asked
      else
        fits = false
      end
      if after then
        window = window + 1
        if after ~= before_last then
          for left_out = #ends + 1, window - 1 do
            ends[left_out] = ends[left_out - 2]
          end
          ends[window] = after
        end
        before_last, last_end = last_end, after
      end
      if lasts_one > lasts then
        lasts = lasts_one
      end
      index = index + 1
    end
    counters[g - FIRST], lasting[g - FIRST] = counter, lasts
  end
  if fits or request == 0 then
    break
  end
  if limit_of[1] then
    completion = room[1] < prompt and -1 or math.min(completion, (divide(room[1] - prompt, choices)))
  end
  if completion >= least and room[2] > 0 then
    cost = prompt + choices * completion
  else
    cost, request = 0, 0
  end
end
index_of[3] = key_of[3] and index + key_of[3] - last_counter - 1

if request == 1 then
  for g = FIRST + 1, last_counter do
    save(KEYS[g], counters[g - FIRST], lasting[g - FIRST], now)
  end
  local ends_at = text(now + held)
  for g = last_counter + 1, #KEYS do
    local places = taken[g - last_counter]
    take_place(KEYS[g], ARGV[1], ends_at, places)
    taken[g - last_counter] = places + 1
  end
end

-- What the decision says of the limits that bind.
local told = ''
for unit = 1, 3 do
  local g, i, at = key_of[unit], limit_of[unit], place_of[unit]
  if at then
    local counter = counters[g - FIRST]
    local resets = reset(counter, at, line_up[i], line_up[i + 1], now)
    told = told .. format(' %.0f %.0f %.0f', index_of[unit], counter[at], resets)
  elseif g then
    told = told .. format(' %.0f %.0f %.0f', index_of[unit], taken[g - last_counter], latest_end(KEYS[g], now))
  end
end

if request == 0 then
  -- Which limit takes longest until the least that is asked fits; math.huge is never.
  local last, longest, refusing = 1, -1, 0
  index = 0
  local function look_at(missing, waits)
    if missing > 0 and waits > longest then
      longest, refusing = waits, index
    end
    index = index + 1
  end
  for g = FIRST + 1, last_counter do
    local counter, at = counters[g - FIRST], 0
    local from = last + 3
    last = last + 2 + 2 * #line_up[last + 1]
    for i = from, last, 2 do
      local code, amount = line_up[i], line_up[i + 1]
      local asked = code > 5 and 1 or prompt + choices * least
      at = at + 3
      local missing = asked - (amount - counter[at])
      look_at(missing, asked > amount and math.huge or missing > 0 and wait(counter, at, code, amount, missing, now))
    end
  end
  for g = last_counter + 1, #KEYS do
    local missing = taken[g - last_counter] + 1 - line_up[#line_up - 1 - #KEYS + g]
    look_at(missing, missing > 0 and place_wait(KEYS[g], missing, now))
  end
  return format('%.0f refused %.0f %s', now, refusing, longest == math.huge and '-' or text(longest)) .. told
end

local written_now = text(now)
local decision = written_now .. ' granted ' .. text(completion) .. told
local once = '-'
if once_ms > 0 then
  once = KEYS[4]
  redis.call('SET', once, ARGV[1], 'PX', text(once_ms))
end
ends[#ends + 1] = MARK
local head = table.concat({'PENDING', text(cost), '0', unpack(ends)}, ' ')
local lines = {head, once, decision, ARGV[4]}
redis.call('SET', KEYS[1], table.concat(lines, '\n'), 'PX', PENDING)
redis.call('ZADD', KEYS[2], written_now, ARGV[2])
keep(KEYS[2])
return decision
