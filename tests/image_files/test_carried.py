"""Metadata, pages and frames of files, between all formats, restored at twice the size."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageCms
import pytest
import tifffile
from PIL.ExifTags import IFD, Base

from swinir_core.cli.main import main
from swinir_core.image_files.reading import open_file, open_image
from tests.support.image_bytes import DEEP, FLAT, GRAY, RGB, RGBA, pillow, png

XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6" '
    b'dc:creator="Ann"/></x:xmpmeta>'
)
IPTC = b"\x1c\x02\x50\0\3Ann"
RESOURCES = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(IPTC)) + IPTC + bytes(len(IPTC) % 2)
PROFILE = PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile("sRGB")).tobytes()
CHROMATICITIES = struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    from swinir_core.checkpoints.checkpoint import Checkpoint, write_checkpoint
    from swinir_core.network.swinir import SwinIR
    from tests.support.reference import TINY

    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    write_checkpoint(path, Checkpoint(TINY, SwinIR(TINY).state_dict(), {}))
    return str(path)


@pytest.fixture
def restored(model: str, tmp_path: Path) -> Callable[[bytes, str, str], Path]:
    """Restore a file of these contents and this name to a file of another name."""

    def run(data: bytes, name: str, target: str) -> Path:
        (tmp_path / name).write_bytes(data)
        arguments = [str(tmp_path / name), "-o", str(tmp_path / "out" / target)]
        assert main(["restore", *arguments, "--model", model, "--device", "cpu"]) == 0
        return tmp_path / "out" / target

    return run


def exif() -> PIL.Image.Exif:
    made = PIL.Image.Exif()
    made[Base.Artist] = "Ann"
    made[Base.ImageDescription] = "A cat"
    made[IFD.Exif] = {Base.ISOSpeedRatings: 200}
    made[IFD.GPSInfo] = {1: "N"}
    return made


def jpeg() -> bytes:
    segment = b"Photoshop 3.0\0" + RESOURCES
    extra = b"\xff\xed" + struct.pack(">H", len(segment) + 2) + segment
    head = b"http://ns.adobe.com/xap/1.0/\0" + XMP
    extra += b"\xff\xe1" + struct.pack(">H", len(head) + 2) + head
    return pillow(RGB, "JPEG", exif=exif(), dpi=(300, 300), comment="Grüße", extra=extra)


def full_png() -> bytes:
    return png(
        8,
        2,
        bytes(12),
        (b"gAMA", struct.pack(">I", 50000)),
        (b"cHRM", CHROMATICITIES),
        (b"cICP", b"\1\2\0\1"),
        (b"pHYs", struct.pack(">IIB", 11811, 11811, 1)),
        (b"tEXt", b"Author\0Ann"),
        (b"zTXt", b"parameters\0\0" + zlib.compress(b"steps 20")),
        (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
        (b"iTXt", "Title\0\0\0de\0Rubrik\0日本".encode()),
        (b"eXIf", exif().tobytes().removeprefix(b"Exif\0\0")),
    )


def tiff() -> bytes:
    return pillow(
        RGB,
        "TIFF",
        tiffinfo={
            **{270: "A cat", 315: "Ann", 33432: "Bob", 700: XMP, 33723: IPTC},
            **{34665: {Base.ISOSpeedRatings: 200}, 34853: {1: "N"}},
        },
        dpi=(300, 300),
    )


SOURCES = {
    "png": full_png(),
    "jpg": jpeg(),
    "webp": pillow(RGB, "WEBP", exif=exif(), xmp=XMP),
    "tif": tiff(),
}


@pytest.mark.parametrize("target", SOURCES)
@pytest.mark.parametrize("source", SOURCES)
def test_metadata_survives_every_pair_of_formats(
    source: str, target: str, restored: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    path = restored(SOURCES[source], f"in.{source}", f"out.{target}")
    with PIL.Image.open(path) as picture:
        picture.load()
        found = picture.getexif()
        details = found.get_ifd(IFD.Exif)
        assert found[Base.Artist] == "Ann"
        assert details[Base.ISOSpeedRatings] == 200
        assert found.get_ifd(IFD.GPSInfo)[1] == "N"
        if source != "webp" and target != "webp":
            assert picture.info["dpi"] == pytest.approx((600, 600), abs=0.1)
        elif source != "webp":
            assert found[Base.XResolution] == 600
    metadata = open_image(path).metadata
    assert metadata.xmp == XMP.replace(b' tiff:Orientation="6"', b"")
    said = capsys.readouterr().err
    has_iptc, holds_iptc = source in ("jpg", "tif"), target in ("jpg", "tif")
    assert bool(metadata.photoshop) == (has_iptc and holds_iptc)
    assert ("not kept: IPTC" in said) == (has_iptc and not holds_iptc)
    assert ("cICP" in said) == (source == "png" and target != "png")


def test_everything_in_a_png_stays_in_a_png(restored: Callable) -> None:
    first = open_image(restored(full_png(), "in.png", "a.png")).metadata
    assert [text.text for text in first.texts] == ["Ann", "steps 20", "日本"]
    assert first.texts[2][2:] == ("de", "Rubrik")
    assert [kind for kind, _ in first.colour] == [b"gAMA", b"cHRM", b"cICP"]
    assert dict(first.colour)[b"cHRM"] == CHROMATICITIES


CROSSED = {
    # name: source, target, what a reader of the result finds
    "texts of a png": ("png", "jpg", lambda p: b"parameters: steps 20" in p.read_bytes()),
    "texts of a png, in webp": (
        "png",
        "webp",
        lambda p: "steps 20".encode("utf-16-le") in p.read_bytes(),
    ),
    "gamma and chromaticities of a png": (
        "png",
        "tif",
        lambda p: tifffile.TiffFile(p).pages.first.tags[319].value[:2] == (64000, 100000),
    ),
    "the comment of a jpeg": (
        "jpg",
        "png",
        lambda p: PIL.Image.open(p).info["Comment"] == "Grüße",
    ),
    "the comment of a jpeg, in a jpeg": (
        "jpg",
        "jpg",
        lambda p: PIL.Image.open(p).info["comment"] == "Grüße".encode(),
    ),
    "the IPTC of a jpeg": (
        "jpg",
        "tif",
        lambda p: tifffile.TiffFile(p).pages.first.tags[34377].value is not None,
    ),
    "the copyright of a tiff": (
        "tif",
        "tif",
        lambda p: tifffile.TiffFile(p).pages.first.tags[33432].value == "Bob",
    ),
}


def gif(frames: int = 1) -> bytes:
    """With XMP, a colour profile and an extension of a stranger, after the table of colours."""
    data = animation("GIF") if frames > 1 else pillow(RGB, "GIF")
    start = 13 + 3 * 2 ** ((data[10] & 7) + 1) * (data[10] >> 7)
    trailer = b"\1" + bytes(range(255, -1, -1)) + b"\0"
    parts = [PROFILE[at : at + 200] for at in range(0, len(PROFILE), 200)]
    blocks = b"".join(bytes([len(part)]) + part for part in parts) + b"\0"
    extra = b"!\xff\x0bXMP DataXMP" + XMP + trailer + b"!\xff\x0bICCRGBG1012" + blocks
    extra += b"!\xff\x0bSTRANGER1.0\3abc\0"
    return data[:start] + extra + data[start:]


@pytest.mark.parametrize("target", ["a.png", "a.webp"])
@pytest.mark.parametrize("frames", [1, 3])
def test_what_a_gif_carries(
    frames: int, target: str, restored: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    metadata = next(open_file(restored(gif(frames), "in.gif", target)).pictures).metadata
    assert metadata.xmp == XMP.replace(b' tiff:Orientation="6"', b"")
    assert metadata.icc_profile == PROFILE
    assert "not kept: the extension STRANGER1.0." in capsys.readouterr().err


def segment(marker: int, data: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


CURVE = tuple(range(256))
NOT_KEPT = {
    # name: suffix, file, what is said
    "the transfer function of a tiff": (
        "tif",
        lambda: tiff_of(np.asarray(GRAY), extratags=[(301, 3, 256, CURVE, False)]),
        "the transfer function",
    ),
    "a tag of a stranger": (
        "tif",
        lambda: tiff_of(np.asarray(GRAY), extratags=[(65000, 3, 1, 7, False)]),
        "the TIFF tag 65000",
    ),
    "the other pictures of a jpeg": (
        "jpg",
        lambda: pillow(RGB, "MPO", save_all=True, append_images=[RGB]),
        "the other pictures of the file (MPF: a preview, a gain or depth map)",
    ),
    "FlashPix in a jpeg": (
        "jpg",
        lambda: pillow(RGB, "JPEG", extra=segment(0xE2, b"FPXR\0\0")),
        "the segment APP2 (FPXR)",
    ),
    "a segment beside EXIF and XMP": (
        "jpg",
        lambda: pillow(RGB, "JPEG", extra=segment(0xE1, b"http://ns.example/\0x")),
        "the segment APP1 (http://ns.example/)",
    ),
    "a jpeg with a profile": (
        "jpg",
        lambda: pillow(RGB, "JPEG", icc_profile=PROFILE, exif=exif()),
        "",
    ),
    "an animation that repeats": ("gif", lambda: animation("GIF"), ""),
}


@pytest.mark.parametrize("name", NOT_KEPT)
def test_what_no_format_holds_is_said(
    name: str, restored: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    suffix, data, said = NOT_KEPT[name]
    restored(data(), f"in.{suffix}", f"out.{'png' if suffix == 'gif' else suffix}")
    sentences = [line for line in capsys.readouterr().err.splitlines() if "not kept" in line]
    assert [line.partition("not kept: ")[2] for line in sentences] == ([f"{said}."] if said else [])


@pytest.mark.parametrize("name", CROSSED)
def test_what_has_another_place_in_another_format(name: str, restored: Callable) -> None:
    source, target, is_there = CROSSED[name]
    assert is_there(restored(SOURCES[source], f"in.{source}", f"out.{target}"))


def geotiff(raster_type: int, transformed: bool) -> bytes:
    keys = (1, 1, 0, 1, 1025, 0, 1, raster_type)
    position = [(33550, 12, 3, (10.0, 10.0, 0.0), False)]
    position += [(33922, 12, 6, (2.0, 3.0, 0.0, 500.0, 900.0, 0.0), False)]
    if transformed:
        matrix = (10.0, 0, 0, 500, 0, -10.0, 0, 900, *[0.0] * 7, 1.0)
        position = [(34264, 12, 16, matrix, False)]
    return tiff_of(DEEP[..., 0], extratags=[*position, (34735, 3, 8, keys, False)])


def tiff_of(samples: np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, samples, metadata=None, **options)
    return file.getvalue()


def on_the_ground(tags: tifffile.TiffTags, column: float, row: float) -> tuple[float, float]:
    """Locate a place of the raster, in pixels from the corner of the picture, on the ground."""
    point = tags[34735].value[7] == 2
    i, j = (n - 0.5 * point for n in (column, row))
    if 34264 in tags:
        a, b, _, d, e, f, _, h, *_ = tags[34264].value
        return a * i + b * j + d, e * i + f * j + h
    (sx, sy, _), (ti, tj, _, x, y, _) = tags[33550].value, tags[33922].value
    return x + (i - ti) * sx, y - (j - tj) * sy


@pytest.mark.parametrize("transformed", [False, True])
@pytest.mark.parametrize("raster_type", [1, 2])
def test_a_geotiff_stays_where_it_is(
    raster_type: int, transformed: bool, restored: Callable
) -> None:
    data = geotiff(raster_type, transformed)
    path = restored(data, "in.tif", "out.tif")
    with tifffile.TiffFile(io.BytesIO(data)) as before, tifffile.TiffFile(path) as after:
        old, new = before.pages.first.tags, after.pages.first.tags
        for column, row in ((0, 0), (5, 7)):
            assert on_the_ground(new, 2 * column, 2 * row) == on_the_ground(old, column, row)


def test_a_position_that_is_lost_is_said(
    restored: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    restored(geotiff(1, False), "in.tif", "out.png")
    assert "not kept: the geographic position" in capsys.readouterr().err


def test_the_pages_of_a_tiff(restored: Callable) -> None:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for number in range(130):
            size = 8 if number else 9
            page = np.full((size, size), number * 100, np.uint16)
            writer.write(page, metadata=None, description=f"slice {number}", contiguous=False)
    with tifffile.TiffFile(restored(file.getvalue(), "in.tif", "out.tif")) as stack:
        assert len(stack.pages) == 130
        assert stack.pages[0].shape == (18, 18)
        assert stack.pages[129].asarray().shape == (16, 16)
        assert [page.aspage().description for page in stack.pages] == [
            f"slice {number}" for number in range(130)
        ]


def animation(kind: str) -> bytes:
    frames = [RGBA.copy() for _ in range(3)]
    frames[1].paste((255, 0, 0, 255), (2, 2, 8, 8))
    frames = [frame.convert("RGB") for frame in frames] if kind == "GIF" else frames
    options = {"save_all": True, "append_images": frames[1:], "duration": [100, 200, 300]}
    options |= {"lossless": True} if kind == "WEBP" else {}
    return pillow(frames[0], kind, loop=2, **options)


@pytest.mark.parametrize(
    ("kind", "target", "loops"),
    [
        ("PNG", "a.png", 2),
        ("PNG", "a.webp", 2),
        ("WEBP", "a.webp", 2),
        ("WEBP", "a.png", 2),
        ("GIF", "a.png", 3),  # A GIF counts repetitions.
        ("GIF", "a.webp", 3),
    ],
)
def test_the_frames_of_an_animation(kind: str, target: str, loops: int, restored: Callable) -> None:
    data = animation(kind)
    path = restored(data, f"in.{kind.lower()}", target)
    with PIL.Image.open(io.BytesIO(data)) as before, PIL.Image.open(path) as after:
        assert after.info["loop"] == loops
        for number in range(3):
            before.seek(number)
            after.seek(number)
            assert after.size == (2 * before.width, 2 * before.height)
            after.load()
            before.load()
            assert after.info["duration"] == before.info["duration"]


def apng(depth: int = 8) -> bytes:
    """Three frames: the whole red, a green pixel over it that is taken back, a blue one."""
    white = 2**depth - 1

    def body(width: int, colour: tuple[int, ...]) -> bytes:
        row = np.array([colour] * width, f">u{depth // 8}").tobytes()
        return zlib.compress(b"\0" + row)

    def control(sequence: int, width: int, x: int, dispose: int, blend: int) -> tuple[bytes, bytes]:
        return b"fcTL", struct.pack(">IIIIIHHBB", sequence, width, 1, x, 0, 1, 3, dispose, blend)

    red, green, blue = (white, 0, 0, white), (0, white, 0, white), (0, 0, white, white)
    head = struct.pack(">IIBBBBB", 4, 1, depth, 6, 0, 0, 0)
    parts = [(b"IHDR", head), (b"acTL", struct.pack(">II", 3, 0))]
    parts += [control(0, 4, 0, 0, 0), (b"IDAT", body(4, red))]
    parts += [control(1, 1, 1, 2, 1), (b"fdAT", struct.pack(">I", 2) + body(1, green))]
    parts += [control(3, 1, 2, 1, 0), (b"fdAT", struct.pack(">I", 4) + body(1, blue))]
    data = b"\x89PNG\r\n\x1a\n"
    for kind, content in [*parts, (b"IEND", b"")]:
        data += struct.pack(">I", len(content)) + kind + content
        data += struct.pack(">I", zlib.crc32(kind + content))
    return data


@pytest.mark.parametrize("depth", [8, 16])
def test_disposal_and_depth_of_an_animated_png(tmp_path: Path, depth: int) -> None:
    (tmp_path / "a.png").write_bytes(apng(depth))
    frames = [
        (picture.rows(0, 1)[0, :, :3].argmax(1).tolist(), picture.metadata)
        for picture in open_file(tmp_path / "a.png").pictures
    ]
    assert [colours for colours, _ in frames] == [[0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 2, 0]]
    assert [metadata.bit_depth for _, metadata in frames] == [depth] * 3
    assert frames[0][1].seconds == pytest.approx(1 / 3)


REFUSED = {
    # name: file, target, what the message says
    "pages into png": ("tif", pillow(RGB, "TIFF", save_all=True, append_images=[GRAY]), "a.png"),
    "frames into tiff": ("png", animation("PNG"), "a.tif"),
    "frames into jpeg": ("gif", animation("GIF"), "a.jpg"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_hold_many_pictures_says_so(
    name: str, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suffix, data, target = REFUSED[name]
    (tmp_path / f"in.{suffix}").write_bytes(data)
    arguments = [str(tmp_path / f"in.{suffix}"), "-o", str(tmp_path / target)]
    assert main(["restore", *arguments, "--model", model, "--device", "cpu"]) == 1
    assert "can hold" in capsys.readouterr().err
    assert not (tmp_path / target).exists()


def test_a_gif_in_a_folder_becomes_a_png(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.gif").write_bytes(animation("GIF"))
    arguments = [str(tmp_path / "in"), "-o", str(tmp_path / "out")]
    assert main(["restore", *arguments, "--model", model, "--device", "cpu"]) == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]
    assert "written as PNG; GIF holds 256 colours only" in capsys.readouterr().err


def masked() -> bytes:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(FLAT[..., :3], photometric="rgb", metadata=None)
        writer.write(FLAT[..., 0] > 9, subfiletype=4, photometric="minisblack", metadata=None)
    return file.getvalue()


WARNED = {
    # name: suffix, file, what is said
    "a jpeg without its end": ("jpg", pillow(RGB, "JPEG")[:-2], "ends too early"),
    "half a jpeg": ("jpg", pillow(RGB, "JPEG")[:-100], "ends too early"),
    "a mask page": ("tif", masked(), "a mask page"),
}


@pytest.mark.parametrize("name", WARNED)
def test_what_is_read_with_a_warning(
    name: str, restored: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    suffix, data, said = WARNED[name]
    path = restored(data, f"in.{suffix}", f"out.{suffix}")
    assert open_image(path).shape == (24, 34, 3)
    assert said in capsys.readouterr().err


HOSTILE = {
    # name: file, what is said of it
    "a text of a gigabyte": (
        png(
            8,
            2,
            bytes(12),
            (b"iTXt", b"a\0\1\0\0\0" + zlib.compress(bytes(1000))[:-4]),
            (b"tEXt", b"no separator"),
        ),
        "a damaged or huge text",
    ),
    "EXIF that repeats the file": (
        png(
            8,
            2,
            bytes(12),
            (
                b"eXIf",
                b"II*\0\10\0\0\0\3\0"
                + b"".join(struct.pack("<HHII", tag, 7, 40, 0) for tag in (1, 2, 3))
                + bytes(4),
            ),
        ),
        "damaged EXIF",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_metadata_is_left_out_and_said(name: str, tmp_path: Path) -> None:
    data, said = HOSTILE[name]
    (tmp_path / "a.png").write_bytes(data)
    assert said in open_image(tmp_path / "a.png").metadata.left_out


FLATNESS = """
import json, resource, sys
import numpy as np, tifffile, torch
from pathlib import Path
from swinir_core import Restorer, TileSettings
from swinir_core.cli.restore import restore_file
from tests.support.models import PretendModel

class Gray(PretendModel):
    in_channels = 1

torch.set_num_threads(1)
model = Restorer(Gray(scale=2), "cpu", torch.float32)
peaks = []
for pages in (10, int(sys.argv[1])):
    with tifffile.TiffWriter("in.tif") as writer:
        for number in range(pages):
            page = np.full((256, 256), number, np.uint16)
            writer.write(page, metadata=None, contiguous=False)
    restore_file(model, Path("in.tif"), Path("out.tif"), TileSettings(), True, "", False)
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
print(json.dumps(peaks))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts the resident set as Linux does")
def test_many_pages_take_no_more_memory_than_few(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", FLATNESS, "300"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    few, many = json.loads(run.stdout)
    assert many - few < 15  # MB; 300 results of one page are 150
