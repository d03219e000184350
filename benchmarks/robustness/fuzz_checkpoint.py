"""Coverage-guided fuzzing of ``read_checkpoint``.

    python -m benchmarks.robustness.fuzz_checkpoint --seconds 300 \\
        --json benchmarks/results/fuzz.json

Starts from valid files of every format, changes them, and keeps what reaches a line of swinir_core
that nothing reached before. Only ``CheckpointError`` naming the file, or weights that fit their
configuration, is allowed, within five seconds and 512 MiB; everything else is a finding, and the
exit status is 1. Should the interpreter itself die, ``--folder`` still holds the file it read.
"""

from __future__ import annotations

import faulthandler
import hashlib
import io
import json
import os
import pickle
import random
import struct
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import psutil
import torch
from safetensors.torch import save

import swinir_core
from benchmarks import common
from swinir_core import CheckpointError, SwinIR, SwinIRConfig, read_checkpoint
from swinir_core.benchmark.contenders import random_checkpoint
from swinir_core.checkpoints.checkpoint import CONFIG_KEY

LONGEST, MOST_BYTES = 5.0, 512 * 2**20
CORE = str(Path(swinir_core.__file__).parent) + os.sep
READERS = (
    *("checkpoints/checkpoint", "checkpoints/containers", "checkpoints/unpickle"),
    *("checkpoints/recognise", "checkpoints/limits", "network/config"),
)

TINY = SwinIRConfig(
    scale=2,
    in_channels=1,
    embed_dim=4,
    depths=(1,),
    num_heads=(2,),
    window_size=2,
    mlp_ratio=1.0,
    upsampler="pixelshuffledirect",
)
TOKENS = [
    *(b"\x80\x02", b"}", b"]", b")", b"(", b"t", b"\x85", b"\x86", b"\x87", b"R", b"b", b"Q", b"s"),
    *(b"u", b"e", b"a", b"0", b".", b"N", b"\x88", b"\x81", b"h\x01", b"q\x01", b"K\x01", b"\x8f"),
    *(b"\x94", b"\x93", b"\x90", b"\x91", b"\x95", b"\x96", b"\x8c\x01a", b"C\x01a", b"\x92"),
    *(
        b"J\xff\xff\xff\x7f",
        b"\x8a\x01\x01",
        b"X\x01\x00\x00\x00a",
        b"cos\nsystem\n",
        b"PK\x01\x02",
    ),
    *(b"ctorch._utils\n_rebuild_tensor_v2\n", b"ccollections\nOrderedDict\n", b"PK\x03\x04"),
    *(b"ctorch._utils\n_rebuild_parameter\n", b"ctorch._utils\n_rebuild_sparse_tensor\n"),
    *(b"ctorch\nHalfStorage\n", b"ctorch\nSize\n", b"X\x06\x00\x00\x00params", b"_orig_mod."),
    *(
        b"PK\x05\x06",
        b"PK\x06\x06",
        b"\xff" * 4,
        b"\0" * 8,
        b"\xff" * 8,
        b'"dtype"',
        b"F64",
        b"BF16",
    ),
    *(
        b"1e999",
        b"-1",
        b"NaN",
        b"18446744073709551615",
        b"[[",
        b"{}",
        b"null",
        b"layers.0.",
        b"mean",
    ),
    *(b"conv_first.1.weight", b"upsample.0.weight", b"conv_up1.weight", b"absolute_pos_embed"),
]
CONFIGS = [
    TINY,
    replace(TINY, task="", upsampler="nearest+conv", resi_connection="3conv", ape=True, img_size=2),
    replace(
        TINY,
        task="",
        upsampler="pixelshuffle",
        in_channels=3,
        mean=None,
        start_unshuffle=2,
        scale=1,
    ),
    replace(TINY, upsampler="none", scale=1, task="", patch_norm=False, qkv_bias=False),
]


class Coverage:
    """The lines of swinir_core that ran, of the readers all of them that there are."""

    def __init__(self) -> None:
        self.lines: set[tuple[str, int]] = set()
        self.fresh = False

    def __enter__(self) -> None:
        self.fresh = False
        sys.settrace(self._enter)

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _enter(self, frame: FrameType, event: str, argument: Any) -> Any:
        return self._line if frame.f_code.co_filename.startswith(CORE) else None

    def _line(self, frame: FrameType, event: str, argument: Any) -> Any:
        line = (frame.f_code.co_filename, frame.f_lineno)
        if line not in self.lines:
            self.lines.add(line)
            self.fresh = True
        return self._line

    def of_readers(self) -> dict[str, str]:
        """Lines within functions that ran, of all."""
        rows = {}
        for name in READERS:
            path = str(Path(CORE, f"{name}.py"))
            module = compile(Path(path).read_text("utf-8"), path, "exec")
            known = _lines_of_functions(module)
            rows[f"{Path(name).name}.py"] = (
                f"{len({n for f, n in self.lines if f == path} & known)}/{len(known)}"
            )
        return rows


def _lines_of_functions(code: CodeType) -> set[int]:
    lines: set[int] = set()
    for part in code.co_consts:
        if isinstance(part, CodeType):
            if part.co_flags & 2:  # Not the body of a class: it ran when the module was imported.
                lines |= {n for _, _, n in part.co_lines() if n and n > part.co_firstlineno}
            lines |= _lines_of_functions(part)
    return lines


def seeds() -> list[tuple[str, bytes]]:
    """Suffix and contents of valid files."""
    files = []
    for config in CONFIGS:
        weights = random_checkpoint(config).state_dict
        header = {CONFIG_KEY: json.dumps(config.to_dict()), "source": "fuzz"}
        files += [(".safetensors", save(weights)), (".safetensors", save(weights, header))]
        halves = {f"module.{key}": weight.half() for key, weight in weights.items()}
        parameters = {key: torch.nn.Parameter(weight) for key, weight in weights.items()}
        mean = {"mean": torch.full((1, config.in_channels, 1, 1), 0.5)}
        for contents in (weights | mean, {"params": halves}, {"epoch": 1, "model": parameters}):
            for zipped, protocol in ((True, 2), (True, 5), (False, 2), (False, 4)):
                file = io.BytesIO()
                torch.save(contents, file, pickle, protocol, zipped)
                files.append((".pth", file.getvalue()))
    return files


def mutate(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """``data`` changed; of a zip file, mostly what is in it."""
    if not data.startswith(b"PK") or rng.random() < 0.3:
        return _mutate(data, other, rng)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            records = {name: archive.read(name) for name in archive.namelist()}
    except Exception:  # Whatever is wrong with it.
        return _mutate(data, other, rng)
    chosen = [n for n in records if n.endswith("data.pkl") or rng.random() < 0.05]
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in records.items():
            archive.writestr(name, _mutate(content, other, rng) if name in chosen else content)
    return file.getvalue()


def _mutate(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """``data`` changed at one to six places, mostly where names and shapes are."""
    is_header = data[8:9] == b"{"
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        length = len(data)
        if not length:
            break
        header = min(8 + int.from_bytes(data[:8], "little"), length) if is_header else length
        tail = rng.random() < 0.2
        at = rng.randrange(max(length - 3000, 0), length) if tail else rng.randrange(header)
        size = rng.choice((1, 1, 2, 4, 8, 50, 400))
        match rng.randrange(9):
            case 0:
                data = data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
            case 1:
                data = data[:at] + rng.randbytes(size) + data[at + size :]
            case 2:
                data = data[:at] + data[at + size :]
            case 3:
                start = rng.randrange(length)
                data = data[:at] + data[start : start + size] + data[at:]
            case 4:
                start = rng.randrange(max(len(other), 1))
                data = data[:at] + other[start : start + size] + data[at + size :]
            case 5:
                token = rng.choice(TOKENS)
                data = data[:at] + token + data[at + rng.choice((0, len(token))) :]
            case 6:
                data = data[:at]
            case 7:
                data = _change_number(data, at, rng)
            case _:
                value = rng.choice((0, 1, 2**31 - 1, 2**31, 2**32 - 1, length, 100))
                data = data[:at] + struct.pack("<I", value) + data[at + 4 :]
        if is_header and rng.random() < 0.9:  # A header whose length is right again.
            data = struct.pack("<Q", max(header - 8 + len(data) - length, 0)) + data[8:]
    return data


def _change_number(data: bytes, at: int, rng: random.Random) -> bytes:
    """The next decimal number replaced, as in a header."""
    start = next(
        (i for i in range(at, min(at + 200, len(data))) if data[i : i + 1].isdigit()), None
    )
    if start is None:
        return data
    end = start + 1
    while data[end : end + 1].isdigit():
        end += 1
    value = rng.choice(
        (0, 1, 3, 7, 64, 65, 1024, 2**31, 2**63, 10**30, -1, int(data[start:end]) + 1)
    )
    return data[:start] + str(value).encode() + data[end:]


def check(path: Path) -> str:
    """ "loaded" or "refused"; raises anything else."""
    try:
        checkpoint = read_checkpoint(path)
    except CheckpointError as error:
        if path.name not in str(error):
            raise AssertionError("a message without the name of the file") from error
        return "refused"
    expected = SwinIR(checkpoint.config, device="meta").state_dict()
    shapes = {key: weight.shape for key, weight in checkpoint.state_dict.items()}
    assert shapes == {key: weight.shape for key, weight in expected.items()}, "other shapes"
    assert all(weight.isfinite().all() for weight in checkpoint.state_dict.values()), "not finite"
    return "loaded"


def main() -> None:
    parser = common.parser(__doc__)
    add = parser.add_argument
    add("--seconds", type=float, default=300)
    add("--seed", type=int, default=0)
    add("--folder", type=Path, help="for the file that is read, and those that are findings")
    args = parser.parse_args()
    torch.set_num_threads(1)
    faulthandler.enable()
    folder = args.folder or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    result = fuzz(args.seconds, random.Random(args.seed), folder)
    for name, value in result.items():
        print(f"{name}: {value}")
    common.write(args.json, result)
    sys.exit(bool(result["findings"]))


def fuzz(seconds: float, rng: random.Random, folder: Path) -> dict[str, Any]:
    corpus, coverage = seeds(), Coverage()
    waiting = list(corpus)
    outcomes: Counter[str] = Counter()
    findings: dict[str, str] = {}
    slowest, process = 0.0, psutil.Process()
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        if waiting:  # The valid ones first, as they are.
            suffix, data = waiting.pop()
        else:
            suffix, data = rng.choice(corpus)
            data = mutate(data, rng.choice(corpus)[1], rng)
        path = folder / f"input{suffix}"
        path.write_bytes(data)
        before, started = process.memory_info().rss, time.monotonic()
        finding = None
        try:
            with coverage:
                outcomes[check(path)] += 1
        except Exception as error:
            outcomes["wrong"] += 1
            where = traceback.extract_tb(error.__traceback__)[-1]
            finding = f"{type(error).__name__} at {Path(where.filename).name}:{where.lineno}"
        took, grown = time.monotonic() - started, process.memory_info().rss - before
        slowest = max(slowest, took)
        if took > LONGEST:
            finding = finding or "slow"
        if grown > MOST_BYTES:
            finding = finding or "much memory"
        if finding and finding not in findings:
            findings[finding] = f"finding-{hashlib.sha256(data).hexdigest()[:12]}{suffix}"
            (folder / findings[finding]).write_bytes(data)
        if coverage.fresh:
            corpus.append((suffix, data))
    return {
        "seconds": round(time.monotonic() - began),
        "inputs": outcomes.total(),
        **{name: outcomes[name] for name in ("refused", "loaded", "wrong")},
        "corpus": {"seeds": len(seeds()), "kept": len(corpus)},
        "lines": {"swinir_core": len(coverage.lines), **coverage.of_readers()},
        "slowest_seconds": round(slowest, 2),
        "findings": findings,
    }


if __name__ == "__main__":
    main()
