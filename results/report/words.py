"""The terms of the field, explained where they stand and once more at the end of a report."""

from __future__ import annotations

from typing import Final

from results.report.html import Html, esc

_words: Final = {
    "ok": "The operation happened, and this is its answer.",
    "fail": "The operation certainly did not happen.",
    "info": "Nobody knows: it may have happened, may happen later, or never (a timeout, a lost connection).",
    "process": "One client, doing one thing at a time. After an info it retires and a new one takes its place.",
    "linearizable": "Each operation seems to take effect at one moment between its invocation and its completion.",
    "window": "The smallest part of the history found that cannot be explained by any order of its operations.",
    "linearization": "An order of the operations that fits their answers and real time. A history without one is"
    " a violation.",
    "cas": "Compare and set: writes the new value only if the old one is still there.",
    "term": "The number of a leader's reign. A higher term deposes a lower one.",
    "commit index": "How far a node knows the replicated log to be agreed upon by a majority.",
    "applied index": "How far a node has carried out the log; behind the commit index, it answers from the past.",
    "lag": "How many entries a node had applied fewer than the node that was furthest at about that moment.",
    "clock offset": "How far a fault had put the node's clock from the machine's, as it was read back.",
    "stamp lag": "How late the harness itself woke up to note an answer. It widens operations in time, which can"
    " hide violations and never invents one.",
    "sensitivity": "Of violations planted into copies of this history, the share that the check would have seen."
    " It says what a valid verdict is worth.",
    "vacuous": "Passed without meaning anything: a fault had no effect, or too few operations met it.",
    "effective": "A fault counts as effective where a measurement in the system or the network showed it while it was"
    " in force, not because it was injected.",
    "recovery": "From the end of a fault to the first operation that succeeded after it.",
    "lease": "A grant that runs out by itself unless it is kept alive.",
    "fencing token": "A number that grows with every grant of a lock, so that what the lock guards can refuse an"
    " earlier holder.",
    "seed": "The number that all random choices came from: the same one gives the same operations and faults.",
}


def term(word: str, shown: str | None = None) -> Html:
    """A term with its explanation to hover, tap or focus; a word that is not explained is just the word."""
    text = esc(word if shown is None else shown)
    told = _words.get(word)
    return Html(f'<abbr class="term" tabindex="0" title="{esc(told)}">{text}</abbr>' if told else text)


def words() -> str:
    """All terms, explained."""
    items = "".join(f"<div><dt>{esc(word)}</dt><dd>{esc(text)}</dd></div>" for word, text in _words.items())
    return (
        '<section id="words" aria-label="Words"><details><summary>Words</summary>'
        f'<dl class="words">{items}</dl></details></section>'
    )
