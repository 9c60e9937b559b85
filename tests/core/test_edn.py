"""EDN in: every kind of form, the line of each, and refusals; out: what is written is read back."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.edn import DEEPEST, EdnError, Keyword, Map, Set, Symbol, Tagged, forms, written


def read(text: str) -> list[Any]:
    return [value for _line, value in forms(text.splitlines(keepends=True))]


def same(a: Any, b: Any) -> bool:
    """Equal in value and in type, all the way down: in Python 1 == True == 1.0."""
    if type(a) is not type(b):
        return False
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("nil", None),
        ("true", True),
        ("false", False),
        ("-12", -12),
        ("+7", 7),
        ("9223372036854775808N", 2**63),
        ("1.5", 1.5),
        ("-2e3", -2000.0),
        ('"a b"', "a b"),
        (r'"a\"b\\\n\u00e9"', 'a"b\\\né'),
        (":read", Keyword("read")),
        (":a/b-c", Keyword("a/b-c")),
        (r"\a", "a"),
        (r"\newline", "\n"),
        (r"\u0041", "A"),
        ("foo/bar", Symbol("foo/bar")),
        ("1/2", Symbol("1/2")),
        ("1.5M", Symbol("1.5M")),
        ("007", Symbol("007")),
        ("##Inf", Symbol("##Inf")),
        ("{}", Map()),
        ("{:a 1, 1 [2]}", Map([Keyword("a"), 1, 1, [2]])),
        ("#{1 2}", Set([1, 2])),
        ("{:a () :b [1,2,,3]}", Map([Keyword("a"), [], Keyword("b"), [1, 2, 3]])),
        ('#inst "2020"', Tagged("inst", "2020")),
        ("#a.B{:c 1}", Tagged("a.B", Map([Keyword("c"), 1]))),
        ("#a #b 1", Tagged("a", Tagged("b", 1))),
        ("#_ignored 1", 1),
        ("#_ #_ 1 2 3", 3),
        ("{:a #_1 2} ; and no more", Map([Keyword("a"), 2])),
        ('"not ; a comment"', "not ; a comment"),
        (
            '#object[java.lang.Thread 0x1f "x"]',
            Tagged("object", [Symbol("java.lang.Thread"), Symbol("0x1f"), "x"]),
        ),
    ],
)
def test_a_form_is_what_it_says(text: str, value: Any) -> None:
    (found,) = read(text)
    assert same(found, value), found


def test_forms_come_with_the_lines_that_they_begin_in() -> None:
    text = '; a word before\n{:a 1}\n\n{:b\n "over\ntwo lines"} {:c 2}\n'
    found = list(forms(text.splitlines(keepends=True)))
    assert [line for line, _ in found] == [2, 4, 6]
    assert found[1][1] == Map([Keyword("b"), "over\ntwo lines"])


@pytest.mark.parametrize("brackets", ["[]", "()"])
def test_one_vector_or_list_of_all_is_read_element_by_element(brackets: str) -> None:
    text = f"; all of it\n{brackets[0]}{{:a 1}}\n {{:a [2]}}\n{brackets[1]}\n; the end\n"
    assert list(forms(text.splitlines(keepends=True))) == [
        (2, Map([Keyword("a"), 1])),
        (3, Map([Keyword("a"), [2]])),
    ]


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("{:a 1\n{:b 2}", 1, "{ is not closed"),
        ("[{:a 1}\n", 1, "[ is not closed"),
        ("{:a 1]\n", 1, "] where } was expected"),
        ("1\n}\n", 2, "} closes nothing"),
        ("[1]\n2\n", 2, "2 after the end of the one vector"),
        ("{:a}\n", 1, "a key that has no value"),
        ('1\n"abc\n\n', 2, "a text without an end"),
        (r'"a\qb"', 1, "an escape"),
        ("{:a #}", 1, "stands alone"),
        ("{:a #tag}", 1, "still waits"),
        ("1\n:\n", 2, "no keyword"),
        (r"\foo", 1, "no character"),
        ("{" * (DEEPEST + 1), 1, "nested more than"),
        ('"' + "abc\n" * 40_000, 1, "does not end within"),
    ],
)
def test_what_is_no_edn_is_refused_with_its_line(text: str, line: int, says: str) -> None:
    with pytest.raises(EdnError) as refused:
        read(text)
    assert refused.value.line == line
    assert says in refused.value.problem


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.from_regex(r"[a-z][a-z0-9/-]*[a-z]", fullmatch=True).map(Keyword),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(Set)
        | st.lists(st.tuples(inner, inner)).map(lambda pairs: Map(x for pair in pairs for x in pair))
    ),
    max_leaves=12,
)


@given(st.lists(values.map(lambda v: Map([1, v])), min_size=1))
def test_what_is_written_is_read_back(all_of_them: list[Map]) -> None:
    text = "\n".join(map(written, all_of_them))
    found = [value for _line, value in forms([text])]
    assert same(found, list(all_of_them))
