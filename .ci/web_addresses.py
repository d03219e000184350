"""Writes the web addresses that the Comfy registry shows into pyproject.toml, and into the pages
of the archive those of pictures and pages that only the repository has.

    python .ci/web_addresses.py OWNER/NAME COMMIT

OWNER/NAME is a repository on GitHub and COMMIT the 40 digits of the published commit, so that the
pictures of a version stay as they were. Run where pyproject.toml lies; what it has there already
is replaced. The registry wants an icon that is square and at most 400 pixels wide and a banner of
21:9 (https://docs.comfy.org/registry/specifications).
"""

from __future__ import annotations

import posixpath
import re
import sys
from collections.abc import Mapping
from pathlib import Path

USAGE = "Usage: python .ci/web_addresses.py OWNER/NAME COMMIT"
REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,38}/(?!\.{1,2}$)[A-Za-z0-9._-]{1,100}")
COMMIT = re.compile(r"[0-9a-f]{40}")
PAGES = ("README.md", "docs/**/*.md", "swinir_core/weights/README.md")
"""What the archive has of pages; patterns."""
LINK = re.compile(r"(?P<picture>!?)\[(?P<text>[^\]]*)\]\((?P<path>[^):#]+)\)")
"""A Markdown link to another file of the repository."""


def tables(repository: str, commit: str) -> dict[str, dict[str, str]]:
    """Keys and addresses by table. Raises ``ValueError`` for what is no repository or commit."""
    if not REPOSITORY.fullmatch(repository):
        raise ValueError(
            f"{repository!r} is not a repository on GitHub: give OWNER/NAME, such as "
            "octocat/hello-world."
        )
    if not COMMIT.fullmatch(commit):
        raise ValueError(
            f"{commit!r} is not a commit: give all 40 digits, as git rev-parse HEAD prints them."
        )
    pictures = f"https://raw.githubusercontent.com/{repository}/{commit}/docs"
    return {
        "project.urls": {"Repository": f"https://github.com/{repository}"},
        "tool.comfy": {"Icon": f"{pictures}/icon.png", "Banner": f"{pictures}/banner.png"},
    }


def set_values(text: str, table: str, values: Mapping[str, str]) -> str:
    """``text`` with ``values`` at the head of a table, which is added where there is none.

    Values in ``text`` that go over several lines are not understood.
    """
    lines = text.splitlines()
    header = re.compile(rf"\s*\[\s*{re.escape(table)}\s*\]\s*(#.*)?")
    if not any(header.fullmatch(line) for line in lines):
        lines += ["", f"[{table}]"]
    start = next(i for i, line in enumerate(lines) if header.fullmatch(line)) + 1
    end = next((i for i in range(start, len(lines)) if lines[i].startswith("[")), len(lines))
    kept = [line for line in lines[start:end] if line.partition("=")[0].strip() not in values]
    new = [f'{key} = "{value}"' for key, value in values.items()]
    return "\n".join([*lines[:start], *new, *kept, *lines[end:]]) + "\n"


def absolute_links(text: str, folder: str, repository: str, commit: str) -> str:
    """The Markdown ``text`` of a page in ``folder`` with links that work anywhere."""

    def absolute(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(folder, link["path"]))
        address = f"https://github.com/{repository}/blob/{commit}/{path}"
        if link["picture"]:
            address = f"https://raw.githubusercontent.com/{repository}/{commit}/{path}"
        return f"{link['picture']}[{link['text']}]({address})"

    return LINK.sub(absolute, text)


def main(arguments: list[str]) -> None:
    if len(arguments) != 2:
        raise SystemExit(USAGE)
    file = Path("pyproject.toml")
    if not file.is_file():
        raise SystemExit(f"There is no {file} in {Path.cwd()}: run this in the repository's root.")
    try:
        addresses = tables(*arguments)
    except ValueError as error:
        raise SystemExit(str(error)) from None
    text = file.read_text(encoding="utf-8")
    for table, values in addresses.items():
        text = set_values(text, table, values)
    file.write_text(text, encoding="utf-8")
    for page in sorted(page for pattern in PAGES for page in Path().glob(pattern)):
        text = page.read_text(encoding="utf-8")
        text = absolute_links(text, page.parent.as_posix(), *arguments)
        page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
