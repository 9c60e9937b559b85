"""Campaigns: a night of chaos, whose green means something.

A campaign is a file (`spec`) that says which cells there are (`plan`), and a home that holds its nights (`home`).
A night is a plan, a ledger of attempts (`ledger`) and their run directories. `runner` decides what is started
when, `places` (this machine) and `dask` (many) start it, `cell` is one attempt: a `splitbrain run --json` process.
What came of it is compared with the nights before (`compare`), told (`summary`, `page`, `trend`), made known
(`notify`), and made smaller (`retention`).

Two things are decided before anything is started, and on disk: which cells a night has, with their seeds; and the
id of every run. So a campaign that is killed goes on where it was, and what is started twice is run once.
"""
