"""The ``swinir`` command, run in process on a tiny real model."""

import json
import os
import signal
import subprocess
import sys
import time
import unicodedata
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch

from swinir_core.checkpoints.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from swinir_core.checkpoints.models import ModelInfo, find_model, load_model
from swinir_core.cli.main import main
from swinir_core.model_names import DEFAULT_MODEL
from swinir_core.network.config import SwinIRConfig
from swinir_core.network.swinir import SwinIR
from swinir_core.restoration.restorer import Restorer
from tests.support.image_files import Image, read_image, write_image
from tests.support.reference import TINY
from tests.support.relabelled import relabelled

ROOT = Path(__file__).parents[2]
PROFILE = b"a profile"


def picture(path: str, channels: int = 3, depth: int = 8, height: int = 9, width: int = 14) -> str:
    samples = np.random.default_rng(channels).integers(0, 2**depth, (height, width, channels))
    write_image(path, Image(samples.astype(np.float32) / (2**depth - 1), depth, PROFILE))
    return path


def restore(model: str, *arguments: str) -> int:
    return main(["restore", *arguments, "--model", model, "--device", "cpu"])


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize(("suffix", "depth"), [("png", 8), ("png", 16), ("tif", 16), ("webp", 8)])
def test_restore_is_the_restorer_on_the_file(
    model: str, suffix: str, depth: int, channels: int, capsys: pytest.CaptureFixture[str]
) -> None:
    source = read_image(picture(f"in.{suffix}", channels, depth))
    assert restore(model, f"in.{suffix}", "-o", "out") == 0
    result = read_image(f"out/in.{suffix}")
    expected = Restorer(load_model(model))(torch.from_numpy(source.pixels)[None])[0].numpy()
    assert result.pixels.shape == (18, 28, source.pixels.shape[2])
    np.testing.assert_allclose(result.pixels, expected, atol=0.51 / (2**depth - 1))
    assert (result.bit_depth, result.icc_profile) == (depth, PROFILE)
    line = rf"in.{suffix} (14 x 9) -> out{os.sep}in.{suffix} (28 x 18) in "
    assert capsys.readouterr().out.startswith(line)


def test_files_folders_patterns(model: str) -> None:
    for name in ("a.png", "set/b.png", "set/inner/c.jpg", "d1.webp", "d2.webp"):
        picture(name)
    assert restore(model, "a.png", "set", "d*.webp", "-o", "out") == 0
    written = {path.relative_to("out").as_posix() for path in Path("out").rglob("*.*")}
    assert written == {"a.png", "b.png", "inner/c.jpg", "d1.webp", "d2.webp"}


def test_one_image_to_a_named_file_in_another_format(model: str) -> None:
    picture("a.png")
    assert restore(model, "a.png", "-o", "new/b.jpg") == 0
    assert read_image("new/b.jpg").pixels.shape == (18, 28, 3)


def test_a_folder_in_another_format(model: str) -> None:
    picture("set/a.png", depth=16)
    assert restore(model, "set", "-o", "out", "--format", "tiff") == 0
    assert read_image("out/a.tiff").bit_depth == 16


def test_a_failed_file_is_reported_and_the_rest_go_on(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    picture("a.png")
    Path("b.png").write_bytes(Path("a.png").read_bytes()[:100])
    picture("c.png")
    assert restore(model, "gone.png", "a.png", "b.png", "notes.txt", "c.png", "-o", "out") == 1
    assert {path.name for path in Path("out").iterdir()} == {"a.png", "c.png"}
    errors = capsys.readouterr().err.splitlines()
    assert [name for name in ("gone.png", "notes.txt", "b.png") for e in errors if name in e] == [
        "gone.png",
        "notes.txt",
        "b.png",
    ]
    assert errors[-1] == "swinir: 3 failed, see above."


def test_nothing_is_overwritten_unless_told(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    picture("set/a.png")
    picture("set/b.png")
    picture("out/a.png", height=3)
    assert restore(model, "set", "-o", "out") == 1
    assert "--overwrite" in capsys.readouterr().err
    assert read_image("out/a.png").pixels.shape[0] == 3
    assert read_image("out/b.png").pixels.shape[0] == 18
    assert restore(model, "set", "-o", "out", "--overwrite") == 0
    assert read_image("out/a.png").pixels.shape[0] == 18


def test_an_input_is_not_replaced_by_its_result_unless_told(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    picture("a.png")
    assert restore(model, "a.png", "-o", ".") == 1
    assert "its own result" in capsys.readouterr().err
    assert read_image("a.png").pixels.shape[0] == 9
    assert restore(model, "a.png", "-o", "a.png", "--overwrite") == 0
    assert read_image("a.png").pixels.shape[0] == 18


def test_results_inside_the_input_folder_are_not_read_again(model: str) -> None:
    picture("set/a.png")
    assert restore(model, "set", "-o", "set/out") == 0
    assert restore(model, "set", "-o", "set/out", "--overwrite") == 0
    assert [path.as_posix() for path in Path("set/out").rglob("*.*")] == ["set/out/a.png"]


def test_alpha_into_jpeg_is_refused_and_nothing_written(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    picture("a.png", channels=4)
    assert restore(model, "a.png", "-o", "a.jpg") == 1
    assert "PNG, WebP or TIFF" in capsys.readouterr().err
    assert not Path("a.jpg").exists()


@pytest.mark.parametrize(
    ("tiles", "said"),
    [
        (["--tile", "whole"], ""),
        (["--tile", "64"], "2 tiles of 48x50, "),
        (["--tile", "32", "--overlap", "8"], "6 tiles of 32x32, "),
    ],
)
def test_tiles(model: str, tiles: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    picture("a.png", height=50, width=70)
    assert restore(model, "a.png", "-o", "out", *tiles) == 0
    assert read_image("out/a.png").pixels.shape == (100, 140, 3)
    error = capsys.readouterr().err
    assert said in error
    assert error.count(" tiles of ") == bool(said)


USAGE = {
    # name: arguments after the input, what the message says
    "empty input": (["", "-o", "out"], 'IN: must name something, not ""'),
    "empty output": (["-o", ""], '-o/--output: must name something, not ""'),
    "empty model": (["-o", "out", "--model="], '--model: must name something, not ""'),
    "no output": ([], "-o"),
    "tile in words": (["-o", "out", "--tile", "big"], "--tile: must be auto, whole or a number"),
    "tiny tile": (["-o", "out", "--tile", "4"], "at least 32"),
    "wide overlap": (["-o", "out", "--tile", "64", "--overlap", "60"], "half the tile size"),
    "unknown device": (["-o", "out", "--device", "gpu"], "--device: must be auto, cpu"),
    "absent device": (["-o", "out", "--device", "cuda:99"], "--device cuda:99: this machine has"),
    "unknown precision": (["-o", "out", "--precision", "int8"], "invalid choice: 'int8'"),
    "unwritable format": (["-o", "out.bmp"], "out.bmp: the name must end in one of .png"),
    "same target twice": (["other/a.png", "-o", "out"], "would both be written"),
}


@pytest.mark.parametrize("name", USAGE)
def test_bad_usage_is_one_sentence_and_status_2(
    model: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    picture("a.png")
    picture("other/a.png")
    arguments, reason = USAGE[name]
    try:
        status = main(["restore", "--model", model, "a.png", *arguments])
    except SystemExit as error:
        status = error.code
    assert status == 2
    assert reason in capsys.readouterr().err.splitlines()[-1]
    assert not Path("out").exists()


def test_a_wrong_model_is_one_sentence(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    picture("a.png")
    Path("bad.pth").write_bytes(b"<html>not found</html>")
    for name, reason in (("nothing", "nothing: neither a file nor"), ("bad.pth", "web page")):
        assert restore(name, "a.png", "-o", "out") == 1
        error = capsys.readouterr().err
        assert reason in error
        assert error.count("\n") == 1


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_ctrl_c_keeps_finished_files(model: str) -> None:
    for number in range(300):  # So large that they cannot all be done before the signal comes.
        picture(f"set/{number:03}.png", height=30, width=30)
    command = [sys.executable, "-m", "swinir_core", "restore", "set", "-o", "out"]
    command += ["--model", model, "--device", "cpu"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        # What a shell starts in the background ignores the signal, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while process.poll() is None and not list(Path().glob("out/*.png")):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert errors == "swinir: error: interrupted; finished files are kept.\n"
    assert process.returncode == 130
    finished = list(Path("out").iterdir())
    assert 0 < len(finished) < 300
    assert all(read_image(path).pixels.shape == (60, 60, 3) for path in finished)


@pytest.mark.skipif(os.name != "posix", reason="Windows has no SIGPIPE")
@pytest.mark.parametrize("command", ["models", "info upscale_x2_light", "train --list", "--help"])
def test_a_closed_pipe_is_no_error(command: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    arguments = [sys.executable, "-m", "swinir_core", *command.split()]
    done = subprocess.run(
        arguments, env=environment, stdout=writing, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writing)
    assert done.stderr == ""


def test_info_says_everything(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", model, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["file"] == model
    assert (facts["task"], facts["scale"], facts["channels"]) == ("lightweight_sr", 2, 3)
    assert facts["parameters"] == sum(p.numel() for p in SwinIR(TINY).parameters())
    assert facts["precision"] == "float32"
    assert SwinIRConfig.from_dict(facts["config"]) == TINY
    assert facts["metadata"] == {"author": "a test"}

    assert main(["info", model]) == 0
    text = capsys.readouterr().out
    assert facts["guessed"] == {}  # Its header says everything.
    for name in (*facts.keys() - {"guessed"}, *facts["config"]):
        assert name in text


HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\r\n"
"""Sets the title of a terminal, empties it, changes colour, begins another line."""


def told(texts: dict[str, str]) -> str:
    weights = SwinIR(TINY).state_dict()
    write_checkpoint("told.safetensors", Checkpoint(TINY, weights, texts))
    return "told.safetensors"


def pickled(contents: object) -> str:
    torch.save(contents, "pickled.pth")
    return "pickled.pth"


def photograph(name: str) -> str:
    Path("photographs").mkdir()
    picture(str(Path("photographs", name)))
    return "photographs"


WITH_TEXTS: dict[str, Callable[[], list[str]]] = {
    "values": lambda: ["info", told({"author": HOSTILE})],
    "names": lambda: ["info", told({HOSTILE: "me"})],
    "values as JSON": lambda: ["info", "--json", told({"author": HOSTILE + "\x7f"})],
    "a megabyte": lambda: ["info", told({"thumbnail": HOSTILE * 100_000})],
    "many": lambda: ["info", told({f"{i}{HOSTILE}": HOSTILE for i in range(20_000)})],
    "names of weights": lambda: ["info", pickled({HOSTILE * 1000: torch.zeros(1)})],
    "names of the contents": lambda: ["info", pickled({HOSTILE * 1000: 1, "x": HOSTILE})],
    "a converted file": lambda: ["convert", told({HOSTILE: HOSTILE}), "converted.safetensors"],
    "a restored file": lambda: ["restore", photograph(f"{HOSTILE}.png"), "-o", "out"],
    "a damaged file": lambda: ["evaluate", "--data", photograph(f"{HOSTILE}.png")],
}


@pytest.mark.skipif(os.name == "nt", reason="Windows takes no control characters in names")
@pytest.mark.parametrize("name", WITH_TEXTS)
def test_texts_of_strangers_do_not_reach_the_terminal(
    name: str, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    main(WITH_TEXTS[name]())
    output = "".join(capsys.readouterr())
    assert output
    assert not {char for char in output if unicodedata.category(char) == "Cc"} - {"\n"}
    assert max(map(len, output.splitlines())) < 5000
    assert len(output) < 600_000


def test_info_on_what_is_no_model(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", picture("a.png")]) == 1
    assert "a.png" in capsys.readouterr().err


def test_models_lists_names_and_scores(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def info(name: str, **scores: str) -> ModelInfo:
        return ModelInfo(name, "lightweight_sr", 2, Path(), f"What {name} is for", scores)

    bundled = [info(DEFAULT_MODEL, Set5="35.4 dB"), info("other", Set5="36.1 dB", Set14="32 dB")]
    monkeypatch.setattr("swinir_core.cli.models.bundled_models", lambda: bundled)
    assert main(["models"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{DEFAULT_MODEL} (default), x2: What {DEFAULT_MODEL} is for",
        "  Set5: 35.4 dB",
        "other, x2: What other is for",
        "  Set5: 36.1 dB; Set14: 32 dB",
    ]


def test_models_lists_what_is_bundled(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    assert f"{DEFAULT_MODEL} (default)" in capsys.readouterr().out


@pytest.mark.parametrize("precision", ["same", "float32", "bfloat16", "float16"])
def test_convert(model: str, precision: str, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"params": read_checkpoint(model).state_dict}, "tiny.pth")
    assert main(["convert", "tiny.pth", "new/out.safetensors", "--precision", precision]) == 0
    converted = read_checkpoint("new/out.safetensors")
    assert converted.config == TINY
    expected = torch.float32 if precision == "same" else getattr(torch, precision)
    assert {weight.dtype for weight in converted.state_dict.values()} == {expected}
    assert capsys.readouterr().out.count(" MB)") == 2


def test_convert_refuses(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = Path(model).read_bytes()
    assert main(["convert", model, model]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main(["convert", model, "out.pth"]) == 2
    assert ".safetensors" in capsys.readouterr().err
    assert Path(model).read_bytes() == before
    assert main(["convert", model, model, "--overwrite", "--precision", "float16"]) == 0
    assert len(Path(model).read_bytes()) < len(before)


def test_convert_takes_a_suffix_in_capitals(model: str) -> None:
    assert main(["convert", model, "OUT.SAFETENSORS"]) == 0
    assert read_checkpoint("OUT.SAFETENSORS").config == TINY


@pytest.mark.parametrize("target", ["a.png/y.safetensors", "a.png/inner/y.safetensors"])
def test_convert_names_the_file_it_cannot_write(
    model: str, target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    picture("a.png")
    assert main(["convert", model, target]) == 1
    expected = f"swinir: error: {Path(target)} cannot be written: a.png is not a folder.\n"
    assert capsys.readouterr().err == expected


def test_blend(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    other = read_checkpoint(model)
    weights = {key: weight + 1 for key, weight in other.state_dict.items()}
    write_checkpoint("other.safetensors", Checkpoint(TINY, weights))
    command = ["blend", model, "other.safetensors", "-o", "new/out.safetensors"]

    assert main([*command, "--amount", "0.25"]) == 0

    said = capsys.readouterr()
    assert said.out.startswith("0.75 tiny + 0.25 other -> new/out.safetensors (0.")
    assert said.err == ""
    blended = read_checkpoint("new/out.safetensors")
    assert blended.metadata == {"blended": "0.75 tiny + 0.25 other", "model_a.author": "a test"}
    for key, weight in other.state_dict.items():
        torch.testing.assert_close(blended.state_dict[key], weight + 0.25)
    assert main(command) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_blend_warns_of_strangers_and_refuses_misfits(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stranger = relabelled(read_checkpoint(find_model("upscale_x2_light")))
    write_checkpoint("stranger.safetensors", stranger)
    assert main(["blend", "upscale_x2_light", "stranger.safetensors", "-o", "o.safetensors"]) == 0
    assert capsys.readouterr().err.startswith("swinir: warning: The half-way blend restores a ")
    assert main(["blend", "upscale_x2_light", model, "-o", "p.safetensors"]) == 1
    assert "model_a has embed_dim 48 and model_b 12: only" in capsys.readouterr().err
    assert not Path("p.safetensors").exists()
    with pytest.raises(SystemExit, match="2"):
        main(["blend", model, model, "-o", "q.safetensors", "--amount", "1.5"])
    assert "must be a number from 0 to 1, not '1.5'" in capsys.readouterr().err


@pytest.mark.parametrize("installed", [True, False])
def test_version(
    installed: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def version(name: str) -> str:
        if not installed:
            raise metadata.PackageNotFoundError(name)
        return f"1.2.3 of {name}"

    monkeypatch.setattr(metadata, "version", version)
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    expected = "swinir 1.2.3 of swinir-restore\n" if installed else "swinir unknown\n"
    assert capsys.readouterr().out == expected


def test_help_answers_without_torch() -> None:
    code = (
        "import runpy, sys\n"
        "sys.argv = ['swinir', '--help']\n"
        "try: runpy.run_module('swinir_core', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for command in ("restore", "info", "models", "convert", "blend", "benchmark"):
        assert command in done.stdout


def test_the_sample_is_restored(model: str) -> None:
    sample = ROOT / "swinir_core" / "samples" / "chelsea.png"
    assert restore(model, str(sample), "-o", "restored/") == 0
    assert read_image("restored/chelsea.png").pixels.shape == (300, 450, 3)
