"""docs/thirty-minutes.md: its files are written and its commands run, in the order of the page."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from harness.admission import VARIABLE
from tests.runs.commands import SLOTS
from tests.splitbrain.helpers import ROOT

BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TEXT = (ROOT / "docs" / "thirty-minutes.md").read_text()


def steps() -> list[tuple[str, str]]:
    return [(kind, text) for kind, text in BLOCK.findall(TEXT)]


@pytest.mark.netns
@pytest.mark.slow
def test_the_page_does_what_it_says(tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, module in (("splitbrain", " -m splitbrain"), ("python", "")):
        (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable}{module} "$@"\n')
        (programs / name).chmod(0o755)
    env = {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        VARIABLE: SLOTS.name,
    }
    folder, ran = tmp_path, 0
    for kind, text in steps():
        if kind == "python":
            (folder / text.split()[1]).write_text(text)
            continue
        for command in text.splitlines():
            done = subprocess.run(
                ["sh", "-c", f"{command} && pwd >{tmp_path}/pwd"],
                cwd=folder,
                env=env,
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
            assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
            folder = Path((tmp_path / "pwd").read_text().strip())
            ran += 1
    assert ran >= 8
    cases = list(ET.parse(folder / "results.xml").iter("testcase"))
    verdicts = [
        p.get("value") for c in cases for p in c.iter("property") if p.get("name") == "splitbrain.verdict"
    ]
    assert verdicts == ["valid", "invalid"]


def test_its_links_lead_somewhere() -> None:
    for page in ("thirty-minutes", "semantics", "pytest", "expectations"):
        for link in re.findall(r"\]\(([^)#:]+)\)", (ROOT / "docs" / f"{page}.md").read_text()):
            assert (ROOT / "docs" / link).exists(), f"{page}: {link}"
