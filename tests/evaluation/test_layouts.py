"""Folders of test sets: good images and inputs told apart by their names, or a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from swinir_core import ImageError
from swinir_core.evaluation.layouts import find_layout

TAKEN: dict[str, dict[str, str | None]] = {
    "a folder of photographs": {"a.png": None, "b.jpg": None},
    "photographs in folders": {"cats/a.png": None, "dogs/b.png": None, "high/c.png": None},
    "SwinIR, KAIR": {"HR/a.png": "LR_bicubic/X2/ax2.png", "HR/b.png": "LR_bicubic/X2/bx2.png"},
    "KAIR, of another scale": {"HR/a.png": None, "": "LR_bicubic/X4/ax4.png"},
    "KAIR, for training": {"trainH/a.png": "trainL/a.png", "testH/b.png": "testL/b.png"},
    "KAIR, short": {"H/a.png": "L/a.png"},
    "BasicSR": {"GTmod12/a.png": "LRbicx2/a.png", "": "original/a.png"},
    "BasicSR, names with the scale": {"GTmod12/a.png": "LRbicx2/ax2.png"},
    "BasicSR, of another scale": {"GTmod12/a.png": None, "": "LRbicx4/a.png"},
    "DIV2K": {"DIV2K_valid_HR/0801.png": "DIV2K_valid_LR_bicubic/X2/0801x2.png"},
    "DIV2K, all of it": {
        "DIV2K_train_HR/0001.png": "DIV2K_train_LR_bicubic/X2/0001x2.png",
        "DIV2K_valid_HR/0801.png": "DIV2K_valid_LR_bicubic/X2/0801x2.png",
    },
    "DIV2K, parts": {"DIV2K_HR_sub/1_s001.png": "DIV2K_LR_bicubic/X2_sub/1_s001.png"},
    "DIV2K, another way to shrink": {"DIV2K_HR/1.png": None, "": "DIV2K_LR_unknown/X2/1x2.png"},
    "DIV2K, mild": {"DIV2K_HR/1.png": None, "": "DIV2K_LR_mild/1x4m.png"},
    "GT and LQ": {"GT/a.png": "LQ/a.png"},
    "in small letters": {"hr/a.png": "lr/x2/a.png"},
    "LSDIR": {"val1/HR/val/1.png": "val1/X2/val/1x2.png"},
    "RealSR": {"2/a_HR.png": "2/a_LR2.png", "2/b_HR.png": "2/b_LR2.png"},
    "SelfExSR": {"image_SRF_2/i_1_SRF_2_HR.png": "image_SRF_2/i_1_SRF_2_LR.png"},
    "results in it": {"S/i_HR.png": "S/i_LR.png", "": "S/i_bicubic.png"},
    "names that end alike": {"a_HR.png": None, "b_HR.png": None},
    "a photograph of the left": {"a_L.png": None, "b_R.png": None},
    "original beside noisy": {"original_png/a.png": None, "": "noisy25/a.png"},
    "target beside input": {"target/a.png": "input/a.png"},
    "several sets": {
        "Set5/HR/a.png": "Set5/LR_bicubic/X2/ax2.png",
        "Set14/HR/b.png": "Set14/LR_bicubic/X2/bx2.png",
    },
    "several sets of BasicSR": {
        "Set5/GTmod12/a.png": "Set5/LRbicx2/a.png",
        "Set14/GTmod12/a.png": "Set14/LRbicx2/a.png",
    },
    "good images without inputs": {"HR/a.png": None, "": "thumbnails/a.png"},
}
"""Good images and their inputs; behind an empty name an image that is neither."""


@pytest.mark.parametrize("name", TAKEN)
def test_good_images_are_told_from_inputs(name: str) -> None:
    expected = {Path(good): low and Path(low) for good, low in TAKEN[name].items() if good}
    files = sorted({Path(file) for pair in TAKEN[name].items() for file in pair if file})
    assert dict(find_layout(Path("set"), files, scale=2)) == expected
    made = dict(find_layout(Path("set"), files, scale=None))
    assert made == dict.fromkeys(expected)


REFUSED: dict[str, tuple[str, list[str], str]] = {
    "inputs only": ("Set5", ["LRbicx2/a.png", "LRbicx4/a.png"], "LRbicx2, LRbicx4 hold inputs"),
    "inputs beside photographs": ("CBSD68", ["noisy25/a.png", "a.png"], "noisy25 hold inputs"),
    "inputs of another set": ("D", ["A_HR/a.png", "B_LR/a.png"], "B_LR hold inputs"),
    "scales only": ("Set5", ["X2/a.png", "X3/a.png"], "X2, X3 hold inputs"),
    "the folder of inputs": ("LRbicx2", ["a.png"], "by its name this one holds inputs"),
    "KAIR's, for a scale": ("LR_bicubic/X2", ["ax2.png"], "by its name this one holds inputs"),
    "DIV2K's": ("DIV2K_valid_LR_bicubic", ["X2/1x2.png"], "by its name this one holds inputs"),
    "one input is missing": ("S", ["HR/a.png", "HR/b.png", "LR/a.png"], "b.png: its input is miss"),
    "good images twice": ("S", ["HR/a.png", "GT/a.png"], "one of the folders GT, HR"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_names_leave_open_is_said(name: str) -> None:
    folder, files, words = REFUSED[name]
    with pytest.raises(ImageError) as refusal:
        find_layout(Path(folder), [Path(file) for file in files], scale=2)
    assert words in str(refusal.value)


@pytest.mark.parametrize("folder", ["HR", "GTmod12", "DIV2K_valid_HR", "LR/original", "low_light"])
def test_a_folder_of_good_images_may_have_any_other_name(folder: str) -> None:
    assert find_layout(Path(folder), [Path("a.png")], 2) == [(Path("a.png"), None)]
