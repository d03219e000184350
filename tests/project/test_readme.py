"""Options and choices that the README names, which must exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from swinir_core.choices import ALPHAS, COLORS, EDGES
from swinir_core.cli.options import parser

ROOT = Path(__file__).parents[2]
TABLE = (ROOT / "README.md").read_text(encoding="utf-8").partition("### When something is wrong")[2]
ROWS = [row for row in TABLE.partition("\n## ")[0].splitlines() if row.startswith("| ")][1:]
OPTION = re.compile(r"`(--[a-z]+ \w+)`")
COMMAND = re.compile(r"`swinir ([^`]+)`")
CHOICE = re.compile(r"`(edges|colors|alpha)`[^*]*(?:\*\*[^*]+\*\*[^*]*)?\*(\w+)\*")
CHOICES = {"edges": EDGES, "colors": COLORS, "alpha": ALPHAS}


@pytest.mark.parametrize("row", ROWS, ids=[row[2:40] for row in ROWS])
def test_every_option_of_the_table_of_troubles_is_there(row: str) -> None:
    for option in OPTION.findall(row):
        parser("").parse_args(["restore", "a.png", "-o", "out", *option.split()])
    for command in COMMAND.findall(row):
        parser("").parse_args(command.split())
    for name, choice in CHOICE.findall(row):
        assert choice in CHOICES[name]


def test_the_table_names_options() -> None:
    assert len(OPTION.findall(TABLE)) >= 5
    assert {name for name, _ in CHOICE.findall(TABLE)} == set(CHOICES)


SENTENCES = {
    "it is not a SwinIR": "swinir_core/checkpoints/recognise.py",
    "lacks what was not kept": "swinir_core/cli/restore.py",
    "would both be written to": "swinir_core/image_files/finding.py",
    "makes images worse": "swinir_core/training/trainer.py",
}


@pytest.mark.parametrize("sentence", SENTENCES)
def test_messages_in_the_table_are_those_of_the_code(sentence: str) -> None:
    assert f"*{sentence}*" in TABLE
    assert sentence in (ROOT / SENTENCES[sentence]).read_text(encoding="utf-8")
