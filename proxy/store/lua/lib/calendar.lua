-- The days and months (UTC) that windows are made of, in days since 1970-01-01.
-- Source: Howard Hinnant, chrono-compatible low-level date algorithms, civil_from_days.

local DAY_US = 86400000000

-- The first day behind the month of a day.
local function month_end(day)
  local era, day_of_era = divide(day + 719468, 146097)
  local year_of_era = floor(
    (day_of_era - floor(day_of_era / 1460) + floor(day_of_era / 36524) - floor(day_of_era / 146096)) / 365)
  local day_of_year = day_of_era - (365 * year_of_era + floor(year_of_era / 4) - floor(year_of_era / 100))
  local shifted = floor((5 * day_of_year + 2) / 153)
  local first = day - (day_of_year - floor((153 * shifted + 2) / 5))
  local month = shifted < 10 and shifted + 3 or shifted - 9
  if month == 2 then
    local year = year_of_era + era * 400 + 1
    return first + ((year % 4 == 0 and (year % 100 ~= 0 or year % 400 == 0)) and 29 or 28)
  end
  return first + ((month == 4 or month == 6 or month == 9 or month == 11) and 30 or 31)
end
