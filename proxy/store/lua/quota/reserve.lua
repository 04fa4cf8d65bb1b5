-- Take what a request needs on every limit, or nothing. Repeated, it tells its first grant again.
-- KEYS  1 reservation, 2 open index, 3 the tenant's data generation, 4 the client's own key for the request (where it
--       gave none: the reservation), 5.. those of the compiled limits
-- ARGV  1 request id, 2 member of the open index, 3 data generation, 4 record so far, limits and price (a line of JSON
--       each, for the sweeper), 5 what is asked (six doubles): prompt tokens, choices, largest and least completion
--       (tokens a choice), how long it is expected in flight (microseconds), how long the client's key is remembered
--       (milliseconds; 0: it gave none), 6 compiled limits, 7 within how many seconds its exchange ends
-- Returns "now granted completion [index used reset]..." or "now refused index wait [index used reset]..." or "now repeated
--       id" or "now closed" or "now foreign": times in microseconds, index counts the compiled limits from 0 and
--       tells of each unit the limit that binds, wait "-" is never; repeated: the client's key belongs to the request with
--       that id; closed: it had ended before; foreign: the tenant's counters are not those that the gateway remembers, and
--       zeros here are not "0 used".

local FIRST = 4

local now = clock()
local limits = compiled_limits(ARGV[6])
local last_counter = FIRST + limits[1]
local found = redis.call('MGET', unpack(KEYS, 1, last_counter))
if found[3] ~= ARGV[3] then
  return text(now) .. ' foreign'
end
if found[1] then
  return string.match(found[1], '^PENDING [^\n]*\n[^\n]*\n([^\n]*)') or text(now) .. ' closed'
end
if found[4] then
  return text(now) .. ' repeated ' .. found[4]
end

local prompt, choices, most, least, held, once_ms = struct.unpack('<dddddd', ARGV[5])
local counters, lasting, ends, free, binding = look(limits, found, FIRST, now)
local taken = look_in_flight(limits, last_counter, free, binding, now)
local completion = fitting(free, prompt, choices, most, least)
if not completion then
  local index, waits, unit, place = longest_wait(limits, last_counter, counters, taken, prompt + choices * least, now)
  -- Of its unit it is the one that binds, whatever another has left.
  binding[unit] = place
  return format('%d refused %d %s', now, index, waits == math.huge and '-' or text(waits))
    .. told(limits, last_counter, counters, taken, binding, now)
end

local cost, written_now, once = prompt + choices * completion, text(now), '-'
take(limits, FIRST, counters, lasting, cost, now)
take_places(last_counter, taken, ARGV[1], now + held)
if once_ms > 0 then
  once = KEYS[4]
  redis.call('SET', once, ARGV[1], 'PX', text(once_ms))
end
local decision = written_now .. ' granted ' .. text(completion)
  .. told(limits, last_counter, counters, taken, binding, now)
redis.call('SET', KEYS[1], open_reservation(cost, ends, ARGV[7], once, decision, ARGV[4]), 'PX', PENDING)
redis.call('ZADD', KEYS[2], written_now, ARGV[2])
keep(KEYS[2])
return decision
