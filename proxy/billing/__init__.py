"""
What an exchange cost, and how it is told.

- `record` is the one frozen record that feeds log, metrics and ledger; `charging` puts the price on it.
- `reports` sums the ledger's rows, and `formats` writes the sums for people, spreadsheets and programs.

Decision: a bill is never changed. Because whoever exported it must find the same row again; a correction is a row of
its own beside it, instead of a new version of the old one.
"""
