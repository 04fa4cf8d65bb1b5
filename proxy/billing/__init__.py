"""
What an exchange cost, and how it is told.

- `record` is the one frozen record that feeds log, metrics and ledger; `charging` puts the price on it; an `entry` is
  one row of the ledger.
- `query` asks for the sums of a period, `reports` adds the rows up, and `formats` writes the sums for people,
  spreadsheets and programs.

Must not know where rows are kept: the store imports this package, and who asks brings the two together.

Decision: a bill is never changed. Because whoever exported it must find the same row again; a correction is a row of
its own beside it, instead of a new version of the old one.
"""
