"""Links of the pages lead to files that are there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVED = "/extensions/swinir-restore/"
"""Where a host serves nodes/web, for the help pages that it shows."""
LINK = re.compile(r"\]\(([^)\s]+)\)")


def pages() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    return listed or [str(path.relative_to(ROOT)) for path in ROOT.glob("*.md")]


@pytest.mark.parametrize("page", pages())
def test_every_relative_link_leads_somewhere(page: str) -> None:
    path = ROOT / page
    links = [link.partition("#")[0] for link in LINK.findall(path.read_text(encoding="utf-8"))]
    missing = [
        link
        for link in links
        if link
        and not link.startswith(("http://", "https://"))
        and not (
            ROOT / "nodes" / "web" / link.removeprefix(SERVED)
            if link.startswith(SERVED)
            else path.parent / link
        ).exists()
    ]
    assert missing == []


def test_hosts_serve_the_help_under_the_name_of_the_project() -> None:
    """Whatever the folder is called that the pack lies in."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    names, folders = (
        re.findall(rf'^{key} = "(.*?)"', project, re.MULTILINE) for key in ("name", "web")
    )
    assert (f"/extensions/{names[0]}/", folders) == (SERVED, ["nodes/web"])
