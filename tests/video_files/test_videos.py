"""Videos through reading and writing with nothing done to their frames."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from torch import Tensor

from swinir_core.errors import ImageError, WriteError
from swinir_core.video_files.encoding import Encoding
from swinir_core.video_files.reading import FileVideo, FramesVideo
from swinir_core.video_files.writing import VideoWriter
from tests.support.videos import (
    RATE,
    length_of,
    moving_picture,
    packets_of,
    pictures_of,
    planes_frame,
    times_of,
    write_video,
)

EXACT = Encoding(crf=0, pixel_format="yuv444p")


def rewrite(
    video: FileVideo | FramesVideo,
    path: Path,
    encoding: Encoding = EXACT,
    change: Callable[[Tensor], Tensor] = lambda pixels: pixels,
) -> list[str]:
    """Write the frames again; what is said of them."""
    with video, VideoWriter(path, video, encoding) as writer:
        for frame in video.frames():
            writer.add(change(frame.pixels), frame)
    return [*video.notes, *writer.notes]


def kind_of(path: Path) -> dict[str, Any]:
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        context = stream.codec_context
        return {
            "size": (context.width, context.height),
            "format": context.pix_fmt,
            "rate": stream.average_rate,
            "tags": tuple(
                int(tag)
                for tag in (
                    context.colorspace,
                    context.color_range,
                    context.color_primaries,
                    context.color_trc,
                )
            ),
            "aspect": stream.sample_aspect_ratio,
        }


# Colours

RED: dict[str, tuple[str, tuple[int, ...], dict[str, Any]]] = {
    "BT.709": ("yuv420p", (63, 102, 240), {"colorspace": 1}),
    "BT.601": ("yuv420p", (81, 90, 240), {"colorspace": 6}),
    "BT.601 of PAL": ("yuv422p", (81, 90, 240), {"colorspace": 5}),
    "BT.2020": ("yuv420p10le", (294, 387, 960), {"colorspace": 9, "color_primaries": 9}),
    "BT.601, full range": ("yuv420p", (76, 85, 255), {"colorspace": 6, "color_range": 2}),
    "BT.709, full range": ("yuv444p10le", (217, 395, 1023), {"colorspace": 1, "color_range": 2}),
    "nothing said, small": ("yuv420p", (81, 90, 240), {}),
}
"""Red as other programs write it: format, levels and tags."""


@pytest.mark.parametrize("name", RED)
def test_red_is_red_and_stays_what_it_was(tmp_path: Path, name: str) -> None:
    pixel_format, levels, tags = RED[name]
    dtype = np.uint16 if "10" in pixel_format else np.uint8
    empty = av.VideoFrame(64, 48, pixel_format)
    planes = [
        np.full((plane.height, plane.width), level, dtype)
        for plane, level in zip(empty.planes, levels, strict=True)
    ]
    frames = [planes_frame(planes, pixel_format)]
    source = write_video(
        tmp_path / "a.mkv", frames, codec="ffv1", pixel_format=pixel_format, **tags
    )

    (frame,) = FileVideo(source).frames()
    exact = Encoding(crf=0, pixel_format="yuv444p10le") if dtype == np.uint16 else EXACT
    said = rewrite(FileVideo(source), tmp_path / "b.mp4", exact)

    red = torch.tensor([1.0, 0, 0]).expand(48, 64, 3)
    torch.testing.assert_close(frame.pixels, red, atol=0.012, rtol=0)
    (again,) = FileVideo(tmp_path / "b.mp4").frames()
    torch.testing.assert_close(again.pixels, frame.pixels, atol=0.006, rtol=0)
    matrix = tags.get("colorspace", 6)
    assert kind_of(tmp_path / "b.mp4")["tags"] == (
        matrix,
        1,
        tags.get("color_primaries", matrix),
        1,
    )
    assert said == []


def test_a_frame_comes_back_level_by_level(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mkv", 2, codec="ffv1", pixel_format="yuv444p", colorspace=1)
    rewrite(FileVideo(source), tmp_path / "b.mp4", Encoding(crf=0, pixel_format="yuv444p"))

    with av.open(str(source)) as one, av.open(str(tmp_path / "b.mp4")) as other:
        for before, after in zip(one.decode(video=0), other.decode(video=0), strict=True):
            assert np.array_equal(before.to_ndarray(), after.to_ndarray())


@pytest.mark.parametrize("pixel_format", ["rgb24", "gray"])
def test_videos_of_rgb_and_gray(tmp_path: Path, pixel_format: str) -> None:
    codec = "png" if pixel_format == "rgb24" else "ffv1"
    source = write_video(tmp_path / "a.avi", 2, codec=codec, pixel_format=pixel_format)
    if pixel_format == "rgb24":
        expected = np.stack([moving_picture(number, 64, 48) for number in range(2)]) / 255
    else:
        with av.open(str(source)) as file:
            gray = np.stack([frame.to_ndarray() for frame in file.decode(video=0)])
        expected = np.repeat((gray[..., None].astype(float) - 16) / 219, 3, -1)

    found = torch.stack([frame.pixels for frame in FileVideo(source).frames()])

    np.testing.assert_allclose(found, expected.clip(0, 1), atol=1e-5)


@pytest.mark.parametrize("transfer", [16, 18])
def test_a_high_dynamic_range_keeps_its_tags_and_needs_its_bits(
    tmp_path: Path, transfer: int
) -> None:
    tags: dict[str, Any] = {
        "colorspace": 9,
        "color_primaries": 9,
        "color_trc": transfer,
        "color_range": 1,
    }
    source = write_video(tmp_path / "a.mp4", 5, codec="libx265", pixel_format="yuv420p10le", **tags)

    with pytest.raises(ImageError, match=r"high dynamic range .* choose yuv420p10le"):
        rewrite(FileVideo(source), tmp_path / "b.mp4", Encoding())
    rewrite(FileVideo(source), tmp_path / "b.mp4", Encoding("h265", 4, "yuv420p10le"))

    assert kind_of(tmp_path / "b.mp4")["tags"] == (9, 1, 9, transfer)


# Kinds of files

CODECS = {
    "the defaults": (Encoding(), "yuv420p"),
    "h264 in 10 bit": (Encoding(pixel_format="yuv420p10le"), "yuv420p10le"),
    "h265": (Encoding("h265"), "yuv420p"),
    "h265 in 10 bit": (Encoding("h265", 20, "yuv444p10le"), "yuv444p10le"),
    "av1": (Encoding("av1", 20), "yuv420p"),
    "av1 in 10 bit": (Encoding("av1", 20, "yuv420p10le"), "yuv420p10le"),
}


@pytest.mark.parametrize("name", CODECS)
def test_codecs(tmp_path: Path, name: str) -> None:
    encoding, pixel_format = CODECS[name]
    source = write_video(tmp_path / "a.mp4", 5, (96, 64), sound="aac", colorspace=1)

    rewrite(FileVideo(source), tmp_path / "b.mp4", encoding)

    assert kind_of(tmp_path / "b.mp4")["format"] == pixel_format
    difference = pictures_of(tmp_path / "b.mp4") - pictures_of(source)
    assert np.abs(difference).mean() < 3
    assert np.abs(difference.mean((0, 1, 2))).max() < 1


@pytest.mark.parametrize("codec", ["h264", "h265", "av1"])
@pytest.mark.parametrize("size", [(16, 16), (34, 18), (40, 40), (48, 96), (62, 34)])
def test_narrow_frames(tmp_path: Path, size: tuple[int, int], codec: str) -> None:
    """A failure of x265 ends the process of the tests as it would end a host."""
    source = write_video(tmp_path / "a.mp4", 12, size)

    rewrite(FileVideo(source), tmp_path / "b.mp4", Encoding(codec))

    assert pictures_of(tmp_path / "b.mp4").shape == (12, *reversed(size), 3)


def test_av1_in_444_is_refused(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", 1)
    with pytest.raises(ImageError, match="av1 does not take yuv444p; choose"):
        rewrite(FileVideo(source), tmp_path / "b.mp4", Encoding("av1", 20, "yuv444p"))


def test_10_bits_in_8_are_said(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", 5, codec="libx265", pixel_format="yuv420p10le")
    assert rewrite(FileVideo(source), tmp_path / "b.mp4", Encoding()) == [
        "its 10 bits are written as 8; yuv420p10le keeps 10"
    ]


def test_odd_sizes(tmp_path: Path) -> None:
    size = (63, 47)
    source = write_video(tmp_path / "a.mkv", 2, size, codec="ffv1", pixel_format="yuv444p")

    assert rewrite(FileVideo(source), tmp_path / "b.mp4") == []
    (said,) = rewrite(FileVideo(source), tmp_path / "c.mp4", Encoding())

    assert pictures_of(tmp_path / "b.mp4").shape == (2, 47, 63, 3)
    padded = pictures_of(tmp_path / "c.mp4")
    assert padded.shape == (2, 48, 64, 3)
    assert np.abs(padded[:, -1] - padded[:, -2]).mean() < 4
    assert "its 63x47 pixels are not even" in said


@pytest.mark.skipif(
    not hasattr(av.VideoStream, "set_display_rotation"), reason="this PyAV writes no rotation"
)
@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_a_turned_video_is_upright(tmp_path: Path, degrees: int) -> None:
    aspect = Fraction(4, 3)
    source = write_video(tmp_path / "a.mp4", 2, rotation=degrees, sample_aspect_ratio=aspect)

    video = FileVideo(source)
    rewrite(video, tmp_path / "b.mp4")

    lying = pictures_of(write_video(tmp_path / "c.mp4", 2))
    turned = np.rot90(lying, degrees // 90, (1, 2))
    assert (video.height, video.width) == turned.shape[1:3]
    assert np.abs(pictures_of(tmp_path / "b.mp4") - turned).mean() < 2
    assert kind_of(tmp_path / "b.mp4")["aspect"] == (aspect if degrees == 180 else 1 / aspect)
    with av.open(str(tmp_path / "b.mp4")) as file:
        assert next(file.decode(video=0)).rotation == 0


def test_what_else_is_in_a_file(tmp_path: Path) -> None:
    one, other = (write_video(tmp_path / f"{name}.mp4", sound="aac") for name in "ab")
    with (
        av.open(str(one)) as first,
        av.open(str(other)) as second,
        av.open(str(tmp_path / "b.mkv"), "w") as file,
    ):
        file.metadata.update({"title": "A cat", "workflow": "{}"})
        sources = [*first.streams, second.streams.video[0]]
        targets = [file.add_stream_from_template(stream, opaque=True) for stream in sources]
        for source, target in zip(sources, targets, strict=True):
            for packet in source.container.demux(source):
                if packet.size:
                    packet.stream = target
                    file.mux(packet)
            source.container.seek(0)

    said = rewrite(FileVideo(tmp_path / "b.mkv"), tmp_path / "c.mp4")

    with av.open(str(tmp_path / "c.mp4")) as file:
        metadata = {name.lower(): value for name, value in file.metadata.items()}
    assert {"title": "A cat", "workflow": "{}"}.items() <= metadata.items()
    assert said == ["1 of its streams (subtitles, further pictures, data) are left out"]


def test_transparency_is_said(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mkv", 2, codec="ffv1", pixel_format="yuva420p")
    (said,) = rewrite(FileVideo(source), tmp_path / "b.mp4")
    assert "its transparency is left out" in said


# Time

UNEVEN = [0, 40, 100, 130, 400, 410, 900, 960, 1500, 1533]


def test_times_that_are_not_even_are_kept(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mkv", 10, times=UNEVEN)
    rewrite(FileVideo(source), tmp_path / "b.mp4", Encoding())
    assert times_of(tmp_path / "b.mp4") == [time / 1000 for time in UNEVEN]


def test_frame_rate_and_count(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", 12)
    with FileVideo(source) as video:
        assert (video.rate, video.count) == (RATE, 12)
    rewrite(FileVideo(source), tmp_path / "b.mp4", Encoding())
    assert kind_of(tmp_path / "b.mp4")["rate"] == RATE
    assert times_of(tmp_path / "b.mp4") == times_of(source)


PARTS = {
    "from a moment on": ((0.4, 0), range(10, 25)),
    "a moment between": ((0.4, 0.2), range(10, 15)),
    "up to a moment": ((0, 0.2), range(5)),
    "beyond the end": ((0.8, 5), range(20, 25)),
}


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_a_part(tmp_path: Path, name: str, suffix: str) -> None:
    (start, duration), kept = PARTS[name]
    source = write_video(tmp_path / f"a.{suffix}", 25, sound="aac")
    begun = times_of(source)[0]  # Streams of broadcasts begin at any time.
    if start:
        start += begun
    elif duration:
        duration += begun
    video = FileVideo(source, start, duration)

    rewrite(video, tmp_path / "b.mp4")

    # 90,000 units a second are not whole frames.
    written = pictures_of(tmp_path / "b.mp4")
    assert abs(len(written) - len(kept)) <= (suffix == "ts")
    difference = np.abs(written[:4] - pictures_of(source)[kept.start :][:4]).mean()
    assert difference < 1
    assert abs(video.count - len(kept)) <= 1
    lengths = [length_of(tmp_path / "b.mp4", kind) for kind in ("video", "audio")]
    assert lengths[0] == pytest.approx(len(written) / RATE, abs=0.03)
    assert lengths[1] == pytest.approx(lengths[0], abs=0.05)


def test_no_frame_in_the_part_that_is_wanted(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", 5)
    with pytest.raises(ImageError, match=r"no frame of .*a.mp4 can be read in the part"):
        FileVideo(source, 7, 1)


# Sound

SOUNDS = {
    "MP4 with AAC": ("a.mp4", "libx264", "aac", True),
    "Matroska with Opus": ("a.mkv", "libx264", "libopus", True),
    "AVI with MP3": ("a.avi", "mpeg4", "libmp3lame", True),
    "QuickTime with samples": ("a.mov", "libx264", "pcm_s16le", False),
}


@pytest.mark.parametrize("name", SOUNDS)
def test_sound_is_copied_where_mp4_holds_it(tmp_path: Path, name: str) -> None:
    file, codec, sound, copied = SOUNDS[name]
    source = write_video(tmp_path / file, codec=codec, sound=sound)

    said = rewrite(FileVideo(source), tmp_path / "b.mp4")

    before, after = (packets_of(path, "audio") for path in (source, tmp_path / "b.mp4"))
    assert (before == after) == copied
    assert said == [
        f"its sound is encoded anew as AAC, because players do not take {sound} from MP4"
    ] * (not copied)
    assert level_of(tmp_path / "b.mp4") == pytest.approx(level_of(source), rel=0.1)


def level_of(path: Path) -> float:
    """Root of the mean square of the sound from a fifth of a second on."""
    with av.open(str(path)) as file:
        resampler = av.AudioResampler("fltp")
        parts = [
            part.to_ndarray()
            for frame in file.decode(audio=0)
            for part in resampler.resample(frame)
        ]
    return float(np.sqrt(np.mean(np.concatenate(parts, 1)[:, 9600:18000] ** 2)))


# Frames in memory


def test_frames_and_sound_in_memory(tmp_path: Path) -> None:
    pictures = np.stack([moving_picture(number, 63, 47) for number in range(10)])
    images = torch.from_numpy(pictures).float() / 255
    sound = torch.randn(2, 44100, generator=torch.Generator().manual_seed(0)) * 0.1
    video = FramesVideo(images, Fraction(24000, 1001), sound, 44100)

    assert rewrite(video, tmp_path / "b.mp4") == []

    assert np.abs(pictures_of(tmp_path / "b.mp4") - pictures).max() <= 2.5
    kind = kind_of(tmp_path / "b.mp4")
    assert (kind["rate"], kind["tags"]) == (Fraction(24000, 1001), (1, 1, 1, 1))
    assert length_of(tmp_path / "b.mp4", "audio") == pytest.approx(10 * 1001 / 24000, abs=0.03)


@pytest.mark.parametrize("channels", [1, 4])
def test_gray_and_transparent_frames(tmp_path: Path, channels: int) -> None:
    images = torch.rand(2, 16, 16, channels, generator=torch.Generator().manual_seed(0))
    video = FramesVideo(images, Fraction(8))
    assert [frame.pixels.shape for frame in video.frames()] == [(16, 16, 3)] * 2
    assert len(video.notes) == (channels == 4)


def test_sound_of_a_rate_that_aac_has_not(tmp_path: Path) -> None:
    sound = torch.randn(1, 192000, generator=torch.Generator().manual_seed(0)) * 0.1
    video = FramesVideo(torch.rand(25, 16, 16, 3), Fraction(25), sound, 192000)
    rewrite(video, tmp_path / "b.mp4")
    assert length_of(tmp_path / "b.mp4", "audio") == pytest.approx(1, abs=0.03)


TOO_MUCH = {
    "wide": (FramesVideo(torch.zeros(1, 2, 16400, 3), Fraction(25)), "frames of 16400x2 in yuv4"),
    "9 channels": (
        FramesVideo(torch.zeros(1, 16, 16, 3), Fraction(25), torch.zeros(9, 99999), 48000),
        "the sound has 9 channels",
    ),
}


@pytest.mark.parametrize("name", TOO_MUCH)
def test_what_an_encoder_does_not_take_is_a_sentence(tmp_path: Path, name: str) -> None:
    video, words = TOO_MUCH[name]
    with pytest.raises(ImageError, match=words):
        rewrite(video, tmp_path / "b.mp4")
    assert not (tmp_path / "b.mp4").exists()


def test_no_frames() -> None:
    with pytest.raises(ImageError, match="the video has no frames"):
        FramesVideo(torch.zeros(0, 16, 16, 3), Fraction(8))


# Damage


def no_video(path: Path) -> None:
    with av.open(str(path), "w", format="mp4") as file:
        track: Any = file.add_stream("aac", rate=48000)
        silence = av.AudioFrame.from_ndarray(np.zeros((2, 4800), np.float32), "fltp", "stereo")
        silence.sample_rate = 48000
        file.mux(track.encode(silence))
        file.mux(track.encode(None))


REFUSED = {
    "sound alone": (no_video, "has no video stream"),
    "text": (lambda path: path.write_text("hello" * 1000), "cannot be read as a video"),
    "nothing": (lambda path: path.write_bytes(b""), "cannot be read as a video"),
    "no file": (lambda path: None, "cannot be read as a video: No such file"),
    "a beginning": (
        lambda path: path.write_bytes(write_video(path).read_bytes()[:2000]),
        "cannot be read as a video",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_video_is_refused(tmp_path: Path, name: str) -> None:
    make, words = REFUSED[name]
    path = tmp_path / "a.mp4"
    make(path)
    with pytest.raises(ImageError, match=rf"a\.mp4 {words}"):
        FileVideo(path)


def test_damaged_pieces_are_left_out_and_said(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", 40)
    content = bytearray(source.read_bytes())
    content[3000:6000] = bytes(3000)
    source.write_bytes(content)

    said = rewrite(FileVideo(source), tmp_path / "b.mp4", Encoding())

    assert 20 < len(pictures_of(tmp_path / "b.mp4")) <= 40
    assert "damaged pieces" in said[-1]


def test_a_file_that_is_cut_off_gives_what_there_is(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mkv", 40)
    source.write_bytes(source.read_bytes()[: source.stat().st_size // 2])

    said = rewrite(FileVideo(source), tmp_path / "b.mp4", Encoding())

    written = len(pictures_of(tmp_path / "b.mp4"))
    assert 5 < written < 35
    assert said == [f"it ends after {written} of about 40 frames"]


def test_a_size_that_changes_is_refused(tmp_path: Path) -> None:
    parts = [
        write_video(tmp_path / f"{width}.ts", 5, (width, 48)).read_bytes() for width in (64, 96)
    ]
    (tmp_path / "a.ts").write_bytes(b"".join(parts))
    with pytest.raises(ImageError, match="change their size from 64x48 to 96x48"):
        rewrite(FileVideo(tmp_path / "a.ts"), tmp_path / "b.mp4", Encoding())


# What is left behind


class StoppedError(BaseException):
    """What a host raises to stop a run is not always an ``Exception``."""


@pytest.mark.parametrize("codec", ["h264", "h265"])
@pytest.mark.parametrize("frames", [0, 1, 2, 20])
def test_a_stopped_run_leaves_a_file_that_plays_or_none(
    tmp_path: Path, frames: int, codec: str
) -> None:
    source = write_video(tmp_path / "a.mp4", 40, sound="aac")
    left = [*range(frames)]

    def change(pixels: Tensor) -> Tensor:
        if not left:
            raise StoppedError
        left.pop()
        return pixels

    with pytest.raises(StoppedError):
        rewrite(FileVideo(source), tmp_path / "b.mp4", Encoding(codec), change)

    assert (tmp_path / "b.mp4").exists() == (frames > 0)
    if frames:
        assert times_of(tmp_path / "b.mp4") == [number / RATE for number in range(frames)]
        assert length_of(tmp_path / "b.mp4", "audio") == pytest.approx(frames / RATE, abs=0.03)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Make writing fail as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("size", [0, 100_000])
def test_a_full_disk_leaves_nothing(tmp_path: Path, size: int) -> None:
    generator = torch.Generator().manual_seed(0)
    video = FramesVideo(torch.rand(30, 96, 128, 3, generator=generator), Fraction(25))
    with (
        files_of_at_most(size),
        pytest.raises(WriteError, match=r"b\.mp4 cannot be written: File too large"),
    ):
        rewrite(video, tmp_path / "b.mp4")
    assert not (tmp_path / "b.mp4").exists()
