-- A reservation as it is kept: one string of lines.
-- Open:  1 PENDING, the tokens it holds, 1 if it was trimmed, then the first day after each window it was taken from, as
--        far as they are not each the one before the last again, as month and day in turn are; then `d` and the seconds
--        from its reserve within which its exchange ends; where it is SUSPECT, `s` and the tokens that rates keep of it
--        2 the client's own key for the request, "-" where it gave none  3 the decision
--        4 the record as far as it was known  5 the limits  6 the price (all JSON, for the sweeper alone)
--        7 once it made progress: attempt, prompt and completion tokens ("-": not told yet), what else is known (JSON)
-- Ended: 1 SETTLED, EXPIRED or RELEASED, the id of its FINAL, the incarnation that ended it; then who corrected it and
--        by what, if anybody did
--        2 of an expired one that may still be corrected: what it held of tokens and what was posted, then the windows
--        3 what was billed, in the order of COUNTED (version 2: five of them, the charge in millionths)
-- Its version stands in it as a word: that of an open one is the last of line 1, that of an ended one its last line. One
-- without it was written by an earlier release, and is of version 2 (proxy/versions.py). Words that are no numbers, behind
-- the windows, and lines behind the last are passed over: so an earlier release settles a SUSPECT one as any other.
-- Keys are percent-encoded, so they contain neither blanks nor line ends.

local VERSION, MARK = 3, 'v3'

-- A new reservation of so many tokens, from windows that end so, whose exchange lasts so many seconds at most. A window
-- that ends as the one before the last is left out behind the last one that does not.
local function open_reservation(tokens, ends, lasts_s, once, decision, details)
  local last = #ends
  while last > 0 and ends[last] == ends[last - 2] do
    last = last - 1
  end
  ends[last + 1], ends[last + 2] = 'd' .. lasts_s, MARK
  local head = table.concat({'PENDING', text(tokens), '0', unpack(ends, 1, last + 2)}, ' ')
  return table.concat({head, once, decision, details}, '\n')
end
