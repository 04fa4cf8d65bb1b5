"""
The gateway's write-ahead log: what must not be lost is on this machine's disk before anybody is told that it is done.

The nouns: an **entry** is one line, checksum and payload; a **group** is the entries that one write takes to the disk;
a **segment** is one file of entries; a **folder** holds the segments of one incarnation and is locked while it lives.

Decision: one line of text for each entry and one file after the other, synced by O_DSYNC in a thread of its own.
Because an entry is written once, read almost never, and must be understood by whoever comes after a crash; instead of
a database, whose own log would be written beside ours, or of Redis' append-only file, which may lose its last second.

Must not know what an entry says, nor who takes it in the end.
"""
