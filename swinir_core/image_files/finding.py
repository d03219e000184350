"""Finding the image files a command reads, and planning where each result goes."""

import glob
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import PIL.Image

from ..errors import ImageError
from ..file_names import folded
from ..files import nearest, real_path
from .picture import FORMATS, READ_ONLY


def find_images(
    inputs: Sequence[str], output: Path | None = None, suffixes: Collection[str] = FORMATS
) -> list[tuple[Path, Path]]:
    """Find every image that files, folders and glob patterns name, with its path in the output.

    A name that exists is taken literally, whatever characters it has. Folders are searched to any
    depth and patterns may hold ``**``; both keep their inner folders in the output, and leave out
    hidden files and, where ``output`` is a folder inside them, its contents.

    Raises ImageError for a name that leads to no image.
    """
    return [image for name in inputs for image in _find(name, output, suffixes)]


def images_in(folder: Path) -> list[Path]:
    """Find the image files at any depth in ``folder`` that are neither hidden nor in a hidden
    folder.

    Returns paths relative to ``folder``, in an order that depends neither on the disk nor on the
    system.
    """
    return _images(folder, _inside(folder), FORMATS)


def plan_outputs(
    found: Sequence[tuple[Path, Path]], output: Path, suffix: str | None = None
) -> list[tuple[Path, Path]]:
    """Pair every image with the file its result is written to.

    found: images as from ``find_images``; one that is named twice counts once.
    output: the target itself where there is one image and the name ends like an image's, and a
    folder otherwise.
    suffix: replaces those of the images.
    Raises ImageError when two images would have one target, when a target is another image still
    to be read, or when ``output`` cannot be what it has to be.
    """
    unique: dict[Path, tuple[Path, Path]] = {}
    for path, inside in found:
        unique.setdefault(path.absolute(), (path, inside))
    found = list(unique.values())

    with _naming(output):
        if _names_a_file(output):
            if len(found) > 1:
                raise ImageError(
                    f"{output} is one file, but there are {len(found)} images to write."
                )
            if suffix and FORMATS[suffix] != FORMATS.get(output.suffix.lower()):
                raise ImageError(f"{output} is not a {FORMATS[suffix]} name; leave the format out.")
            _check_folder(output.parent)
            return [(path, output) for path, _ in found]
        _check_folder(output)
    plan = [
        (path, output / inside.with_suffix(suffix or _result_suffix(inside)))
        for path, inside in found
    ]
    _check_distinct(plan)
    return plan


def _result_suffix(path: Path) -> str:
    return READ_ONLY.get(path.suffix.lower(), path.suffix)


def _check_distinct(plan: Sequence[tuple[Path, Path]]) -> None:
    """Raise ImageError where a result would replace another one or another image.

    Names that differ only in case or in how accents are composed are refused on every system: many
    disks take them for one, and only writing to a disk would tell.
    """
    sources = {_key(source): source for source, _ in plan}
    written: dict[str, tuple[Path, Path]] = {}
    for source, target in plan:
        key = _key(target)
        if key in written:
            other, its_target = written[key]
            where = f"{its_target} and {target}, which many disks take for one file"
            where = target if target == its_target else where
            raise ImageError(
                f"{other} and {source} would both be written to {where}; "
                "restore them into separate folders."
            )
        if key in sources and real_path(sources[key]) != real_path(source):
            raise ImageError(f"{target} is itself to be restored; choose another output folder.")
        written[key] = source, target


def _find(name: str, output: Path | None, suffixes: Collection[str]) -> list[tuple[Path, Path]]:
    path = Path(name)
    with _naming(path):
        if path.is_dir():
            found = _without_results(path, _images(path, _inside(path), suffixes), output)
            missing = "is in this folder"
        elif path.exists():
            if path.suffix.lower() not in suffixes:
                raise ImageError(f"{path}: the name must end in one of {', '.join(suffixes)}.")
            return [(path, Path(path.name))]
        elif glob.has_magic(name):
            folder, pattern = _split_pattern(path)
            # Path.glob refuses some patterns that shells accept.
            matches = glob.glob(pattern, root_dir=folder, recursive=True)  # noqa: PTH207
            found = _without_results(folder, _images(folder, map(Path, matches), suffixes), output)
            missing = "matches this pattern"
        else:
            raise ImageError(f"{path}: no such file or folder.")
    if not found:
        kind = "PNG, JPEG, WebP or TIFF" if ".png" in suffixes else "video"
        raise ImageError(f"{path}: no {kind} file {missing}.")
    return found


def _split_pattern(path: Path) -> tuple[Path, str]:
    """Split a pattern into the longest leading folder that exists and the pattern inside it."""
    folder = Path(path.anchor)
    parts = path.relative_to(path.anchor).parts
    while (folder / parts[0]).is_dir():
        folder, parts = folder / parts[0], parts[1:]
    return folder, str(Path(*parts))


def _inside(folder: Path) -> Iterator[Path]:
    return (inner.relative_to(folder) for inner in folder.rglob("*"))


def _images(folder: Path, candidates: Iterable[Path], suffixes: Collection[str]) -> list[Path]:
    """Sort those candidates, relative to ``folder``, that are image files and not hidden."""

    def wanted(inside: Path) -> bool:
        hidden = any(part.startswith(".") and part != ".." for part in inside.parts)
        return not hidden and inside.suffix.lower() in suffixes

    # By its parts, because Windows compares paths without regard to capitals.
    in_order = sorted(filter(wanted, candidates), key=lambda inside: inside.parts)
    return [inside for inside in in_order if (folder / inside).is_file()]


def _without_results(
    folder: Path, images: Iterable[Path], output: Path | None
) -> list[tuple[Path, Path]]:
    """Pair each image with its path inside ``folder``, except those in an output folder there."""
    results = real_path(output) if output and output.suffix.lower() not in FORMATS else None
    if results and real_path(folder) not in results.parents:
        results = None
    return [
        (folder / inside, inside)
        for inside in images
        if not (results and real_path(folder / inside).is_relative_to(results))
    ]


def _check_folder(folder: Path) -> None:
    """Raise ImageError where a file is in the place of the folder or of one above it."""
    above = nearest(folder)
    if not above.is_dir():
        raise ImageError(f"{above} is not a folder; name a folder for the results.")


def _names_a_file(output: Path) -> bool:
    """Tell whether ``output`` is meant as a file. Raises ImageError for a format not written."""
    suffix = output.suffix.lower()
    if output.is_dir():
        return False
    if suffix not in FORMATS and suffix in PIL.Image.registered_extensions():
        raise ImageError(f"{output}: the name must end in one of {', '.join(FORMATS)}.")
    return suffix in FORMATS


def _key(path: Path) -> str:
    """Name the file at ``path`` alike for every way to write the path."""
    return folded(str(real_path(path)))


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn an ``OSError``, such as for a name too long to look up, into a sentence."""
    try:
        yield
    except OSError as error:
        raise ImageError(f"{path} cannot be used: {error.strerror or error}.") from error
