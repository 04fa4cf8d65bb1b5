-- The day or month (UTC) around a moment. Part of every script.
-- Source: Howard Hinnant, chrono-compatible low-level date algorithms, civil_from_days.

local DAY_US = 86400000000
local MONTH_DAYS = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}

-- Year, month and day of the month of a count of days since 1970-01-01.
local function civil(days)
  local era, day_of_era = divide(days + 719468, 146097)
  local year_of_era = math.floor(
    (day_of_era - math.floor(day_of_era / 1460) + math.floor(day_of_era / 36524) - math.floor(day_of_era / 146096)) / 365)
  local day_of_year = day_of_era - (365 * year_of_era + math.floor(year_of_era / 4) - math.floor(year_of_era / 100))
  local shifted = math.floor((5 * day_of_year + 2) / 153)
  local day = day_of_year - math.floor((153 * shifted + 2) / 5) + 1
  local month = shifted < 10 and shifted + 3 or shifted - 9
  return year_of_era + era * 400 + (month <= 2 and 1 or 0), month, day
end

local function days_in(year, month)
  local leap = year % 4 == 0 and (year % 100 ~= 0 or year % 400 == 0)
  return MONTH_DAYS[month] + ((month == 2 and leap) and 1 or 0)
end

-- The first microsecond of the `unit` ('day' or 'month') around `now`, and the first one after it.
local function window_bounds(unit, now)
  local today = divide(now, DAY_US)
  if unit == 'day' then
    return today * DAY_US, (today + 1) * DAY_US
  end
  local year, month, day = civil(today)
  local first = today - (day - 1)
  return first * DAY_US, (first + days_in(year, month)) * DAY_US
end
