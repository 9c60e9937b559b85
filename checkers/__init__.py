"""What is true of a history: one file a property; the Go engine lives in `checkers/engine`.

docs/checkers.md says of each what it decides, its anomalies, and what it cannot see. All agree on what
they do not decide: an operation whose value cannot be what its `f` says (a set read as a number) is a
`HistoryError` with the line; without an operation to judge, or without a read after the last fault, the
verdict is unknown; operations of other names are none of a checker's business.
"""
