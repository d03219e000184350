"""The script of the publish workflow that writes web addresses into pyproject.toml."""

from __future__ import annotations

import re
import runpy
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / ".ci" / "web_addresses.py"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
RAW = f"https://raw.githubusercontent.com/octo-cat/hello.world_2/{COMMIT}/"


def run(*arguments: str) -> None:
    """As ``python .ci/web_addresses.py`` in the current folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(SCRIPT), *arguments])
        runpy.run_path(str(SCRIPT), run_name="__main__")


def written(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def folder(empty: Path) -> Path:
    """The current folder, with our pyproject.toml."""
    shutil.copy(ROOT / "pyproject.toml", empty)
    return empty


@pytest.fixture
def addressed(folder: Path) -> dict[str, Any]:
    """What pyproject.toml says once the script has run."""
    run("octo-cat/hello.world_2", COMMIT)
    return written(folder)


def test_the_addresses_are_written_and_all_else_stays(addressed: dict[str, Any]) -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    repository = {"Repository": "https://github.com/octo-cat/hello.world_2"}
    wanted["project"].setdefault("urls", {}).update(repository)
    wanted["tool"]["comfy"].update(
        {"Icon": RAW + "docs/icon.png", "Banner": RAW + "docs/banner.png"}
    )
    assert addressed == wanted


def test_the_pictures_are_there_and_as_the_registry_wants_them(addressed: dict[str, Any]) -> None:
    comfy = addressed["tool"]["comfy"]
    icon, banner = (
        Image.open(ROOT / comfy[key].removeprefix(RAW)).size for key in ("Icon", "Banner")
    )
    assert icon[0] == icon[1] <= 400
    assert banner[0] / banner[1] == 21 / 9


def test_addresses_that_are_there_are_replaced(folder: Path) -> None:
    for repository in ("somebody/else", "octo-cat/hello.world_2"):
        run(repository, COMMIT)
    assert "somebody" not in (folder / "pyproject.toml").read_text(encoding="utf-8")
    assert written(folder)["tool"]["comfy"]["Icon"] == RAW + "docs/icon.png"


def test_a_header_may_have_a_comment(empty: Path) -> None:
    (empty / "pyproject.toml").write_text("[ tool.comfy ]  # the registry\nModels = []\n")
    run("octo-cat/hello.world_2", COMMIT)
    comfy = written(empty)["tool"]["comfy"]
    assert comfy == {"Icon": f"{RAW}docs/icon.png", "Banner": f"{RAW}docs/banner.png", "Models": []}


def test_a_table_in_the_middle_keeps_its_own_keys(empty: Path) -> None:
    (empty / "pyproject.toml").write_text(
        '[project.urls]\nIssues = "x"\n\n[tool.comfy]\nIcon = ""\n[tool.ruff]\nIcon = 1\n'
    )
    run("octo-cat/hello.world_2", COMMIT)
    assert written(empty) == {
        "project": {
            "urls": {"Repository": "https://github.com/octo-cat/hello.world_2", "Issues": "x"}
        },
        "tool": {
            "comfy": {"Icon": RAW + "docs/icon.png", "Banner": RAW + "docs/banner.png"},
            "ruff": {"Icon": 1},
        },
    }


@pytest.mark.parametrize(
    ("repository", "commit", "sentence"),
    [
        ("hello", COMMIT, "'hello' is not a repository on GitHub: give OWNER/NAME"),
        ("a/b/c", COMMIT, "'a/b/c' is not a repository on GitHub"),
        ("octocat/..", COMMIT, "'octocat/..' is not a repository on GitHub"),
        ('octocat/a"b', COMMIT, "is not a repository on GitHub"),
        ("octocat/a\n", COMMIT, "is not a repository on GitHub"),
        ("https://github.com/o/n", COMMIT, "is not a repository on GitHub"),
        ("octocat/hello", "main", "'main' is not a commit: give all 40 digits"),
        ("octocat/hello", COMMIT[:7], "'0123456' is not a commit"),
    ],
)
def test_what_is_no_repository_or_commit_is_refused_in_one_sentence(
    folder: Path, repository: str, commit: str, sentence: str
) -> None:
    before = (folder / "pyproject.toml").read_bytes()
    with pytest.raises(SystemExit, match=re.escape(sentence)) as refusal:
        run(repository, commit)
    assert "\n" not in str(refusal.value)
    assert (folder / "pyproject.toml").read_bytes() == before


@pytest.mark.usefixtures("empty")
def test_a_folder_without_the_file_is_refused() -> None:
    with pytest.raises(SystemExit, match=r"There is no pyproject\.toml"):
        run("octocat/hello", COMMIT)


@pytest.mark.parametrize(
    "page",
    ["README.md", "docs/platforms.md", "docs/training/guide.md", "swinir_core/weights/README.md"],
)
def test_links_of_pages_lead_into_the_repository(folder: Path, page: str) -> None:
    (folder / page).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / page, folder / page)
    for _ in range(2):  # Again changes nothing.
        run("octo-cat/hello.world_2", COMMIT)
    text = (folder / page).read_text(encoding="utf-8")
    before = (ROOT / page).read_text(encoding="utf-8")
    assert len(re.findall(r"\]\(", text)) == len(re.findall(r"\]\(", before))
    assert re.findall(r"\]\((?!https://|#)[^)]*\)", text) == []
    blob = f"https://github.com/octo-cat/hello.world_2/blob/{COMMIT}/"
    for start, picture in ((RAW, True), (blob, False)):
        paths = re.findall(rf"(!?)\[[^\]]*\]\({re.escape(start)}([^)]*)\)", text)
        for mark, path in paths:
            assert bool(mark) == picture
            assert (ROOT / path).exists(), path
    assert blob in text
