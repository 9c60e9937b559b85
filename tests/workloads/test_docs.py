"""What the documentation says of workloads is what there is."""

import re

import pytest

from splitbrain import registry
from tests.splitbrain.helpers import ROOT
from tests.workloads.plans import workload

TEXT = (ROOT / "docs" / "workloads.md").read_text()
WHAT, OPTIONS = TEXT.split("## Options")


@pytest.mark.parametrize("name", registry.names("workloads"))
def test_docs_name_each_workload_its_options_and_its_judges(name: str) -> None:
    row = next(line for line in WHAT.splitlines() if line.startswith(f"| `{name}` |"))
    for checker, _ in workload(name).checkers.values():
        assert f"`{checker}`" in row.split("|")[5]
    own = re.search(rf"^\| `{name}` \|.*\n(?:\| \|.*\n)*", OPTIONS, re.MULTILINE)
    told = dict[str, str]()
    for line in own[0].splitlines() if own else ():
        names, defaults = re.findall(r"`(\w+)`", line.split("|")[2]), line.split("|")[3].split(",")
        told |= dict(zip(names, (default.strip() for default in defaults), strict=True))
    options = {o.name: o.default for o in registry.describe("workloads", name).options}
    assert told == {
        name: f"{value:g}"
        if isinstance(value, int | float) and not isinstance(value, bool)
        else str(value).lower()
        for name, value in options.items()
    }


@pytest.mark.parametrize("name", registry.names("workloads"))
def test_each_file_says_what_it_can_show_and_what_it_cannot(name: str) -> None:
    path = (
        ROOT / "workloads" / f"{registry.describe('workloads', name).target.split(':')[0].split('.')[1]}.py"
    )
    docstring = path.read_text().split('"""')[1]
    assert docstring.startswith(f"Workload `{name}`: ")
    for part in ("What it does:", "What it can show:", "What it cannot:"):
        assert part in " ".join(docstring.split())
