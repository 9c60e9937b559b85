"""The track record: bugs that were published, and found again on command.

A bug is a pair: the version or option that has it, and its clean twin, under the same faults and seeds. A finding
without its twin proves nothing. `data` reads the bugs, one TOML file each in `known/`; `runner` runs pairs
and keeps what they came to; `table` tells it.
"""
