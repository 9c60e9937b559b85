"""The browser of runs: pages over a root of run directories, read and never written.

`server` answers requests, `guard` decides whose, `files` what of the disk may be seen, `pages`, `trends` and
`comparison` make HTML of rows, `live` follows a run that goes on. Whatever a system under test wrote is text in
all of them. Nothing here starts, stops or changes a run.
"""
