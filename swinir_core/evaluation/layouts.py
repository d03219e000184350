"""Test sets in the layouts of the field: which images are good ones, and which are their inputs.

The names of folders tell, and where one folder holds both, the ends of the names of files:

    HR/baby.png                        LR_bicubic/X2/babyx2.png                      KAIR, EDSR
    GTmod12/baby.png                   LRbicx2/baby.png                              BasicSR
    DIV2K_valid_HR/0801.png            DIV2K_valid_LR_bicubic/X2/0801x2.png          DIV2K
    testH/baby.png                     testL/baby.png                                KAIR
    image_SRF_2/img_001_SRF_2_HR.png   image_SRF_2/img_001_SRF_2_LR.png              SelfExSR
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import ImageError
from ..text import listed

_SURE = re.compile(
    r"(?P<set>|.*[_-]|train|test|valid|val)"
    r"((?P<good>HR|GT|(?<![_-])H(?!.))|(?P<input>LR|LQ|(?<![_-])L(?!.)))"
    r"((mod|bic|blur|unk|x\d|[^a-z]).*)?",
    re.IGNORECASE,
)
_LIKELY = re.compile(
    r"(?P<set>)((?P<good>(original|high|hq|target|clean|reference|ground.?truth)([_-].*)?)|"
    r"(?P<input>(noisy|noise|low|input|bicubic|jpe?g|x(?=[2348]))([_-].*|\d*)))",
    re.IGNORECASE,
)
"""Names that good images may also have where no inputs lie beside them."""

_FILE = re.compile(r"(?P<set>.+)[_-]((?P<good>HR|GT)|(?P<input>LR|LQ)(x?\d)?)", re.IGNORECASE)
_END = re.compile(r"([_-]?x[2348]|[_-](HR|GT|LR|LQ)(x?\d)?)$", re.IGNORECASE)
_SCALE = re.compile(r"(?:x|SRF_|LR)([2348])(?![0-9a-z])", re.IGNORECASE)
_NOT_BICUBIC = re.compile(r"unk|mild|difficult|wild|blur|nois|jpe?g|(?<![a-z])(BD|DN)", re.I)


@dataclass(frozen=True)
class _Role:
    """Role of an image in a test set, told by a name in its path."""

    is_good: bool
    is_sure: bool
    test_set: tuple[Path, str]
    """Folder in which its good images and its inputs lie, and how their names begin there."""

    name: Path
    """Of the folder of such images, or of the folder of both."""


def find_layout(
    folder: Path, images: Sequence[Path], scale: int | None
) -> list[tuple[Path, Path | None]]:
    """List the good images, each with its input where the set brings one.

    Args:
        folder: Of the test set, or of several.
        images: All its images, relative to it.
        scale: Of the inputs that are wanted, made by bicubic shrinking or in a way that no name
            tells; ``None`` for none.

    Returns:
        Paths from ``images``; where no name tells inputs from good images, all are good ones.

    Raises:
        ImageError: By their names there are inputs, but it is open which images are the good ones;
            or an input is missing.
    """
    if _is_input_folder(folder):
        raise ImageError(
            f"{folder}: name the folder of the good images, or the one above both; by its name "
            "this one holds inputs."
        )
    roles = _find_roles(images)
    input_of: dict[Path, Path | None] = {}
    for test_set in dict.fromkeys(role.test_set for role in roles.values()):
        members = {image: role for image, role in roles.items() if role.test_set == test_set}
        inputs = [image for image, role in members.items() if not role.is_good]
        fitting = [path for path in inputs if scale is not None and _suits(path, scale)]
        for good in _good_images(folder, members):
            input_of[good] = _find_input(folder, good, fitting, scale)
    # Without any good image by name there are no inputs either, or that was an error.
    return [(image, input_of.get(image)) for image in images if image in input_of or not input_of]


def _is_input_folder(folder: Path) -> bool:
    """Tell whether a folder is named like one of inputs, or like one for a scale inside one."""
    above, own = ("", *folder.absolute().parts)[-2:]
    sure = (_SURE.fullmatch(own), _SURE.fullmatch(above))
    return any(
        match and match["input"] and (likely is None or likely["input"])
        for match, likely in zip(sure, (None, _LIKELY.fullmatch(own) or {"input": ""}), strict=True)
    )


def _find_roles(images: Sequence[Path]) -> dict[Path, _Role]:
    """Find the roles of those images whose names, or whose folders' names, tell one."""
    roles = {image: role for image in images if (role := _role_by_folder(image))}
    # A name that ends so means nothing unless its counterpart is there.
    rest = {image: _FILE.fullmatch(image.stem) for image in images if image not in roles}
    bases = [
        {(path.parent, match["set"]) for path, match in rest.items() if match and match[kind]}
        for kind in ("good", "input")
    ]
    for path, match in rest.items():
        if match and all((path.parent, match["set"]) in base for base in bases):
            roles[path] = _Role(bool(match["good"]), True, (path.parent, ""), path.parent)
    return roles


def _role_by_folder(image: Path) -> _Role | None:
    folders = list(image.parents)[-2::-1]
    for names, is_sure in ((_SURE, True), (_LIKELY, False)):
        for folder in folders:
            if match := names.fullmatch(folder.name):
                test_set = folder.parent, match["set"].lower()
                return _Role(bool(match["good"]), is_sure, test_set, folder)
    return None


def _good_images(folder: Path, members: Mapping[Path, _Role]) -> list[Path]:
    """Choose the good images of one test set: of sure names, or of likely ones beside inputs."""
    inputs = {role.name for role in members.values() if not role.is_good}
    good = {role.name: role.is_sure for role in members.values() if role.is_good}
    chosen = [name for name, is_sure in good.items() if is_sure] or (list(good) if inputs else [])
    if inputs and not chosen:
        raise ImageError(
            f"{folder}: name the folder of the good images; by their names "
            f"{listed(sorted(inputs))} hold inputs, and none beside them is called HR or GT."
        )
    if len(chosen) > 1:
        raise ImageError(
            f"{folder}: name one of the folders {listed(sorted(chosen))}; all seem to hold the "
            "same good images."
        )
    return [image for image, role in members.items() if role.is_good and role.name in chosen]


def _suits(image: Path, scale: int) -> bool:
    """Tell whether an input is named neither for another scale nor for more than shrinking."""
    name = image.with_suffix("").as_posix()
    return {int(found) for found in _SCALE.findall(name)} <= {scale} and not _NOT_BICUBIC.search(
        name
    )


def _find_input(folder: Path, good: Path, inputs: Iterable[Path], scale: int | None) -> Path | None:
    """Find the input of a good image by the name they share; ``None`` if there are no inputs."""
    fitting = {image.stem: image for image in inputs}
    if not fitting:
        return None
    by_base = {_base(stem): image for stem, image in fitting.items()}
    found = fitting.get(f"{good.stem}x{scale}") or fitting.get(good.stem)
    found = found or by_base.get(_base(good.stem))
    if found is None:
        raise ImageError(
            f"{folder / good}: its input is missing among the others, such as "
            f"{folder / min(fitting.values())}; without these all inputs are made."
        )
    return found


def _base(stem: str) -> str:
    """The name that a good image and its input share, without what tells them apart."""
    return _END.sub("", _END.sub("", stem)).lower()
