"""Checkpoints: read any SwinIR file, recognise and check it, write safetensors."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .config import SwinIRConfig
from .errors import CheckpointError
from .files import replacing
from .network import SwinIR
from .recognise import BUFFER_SUFFIXES, recognise

SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt")
CONFIG_KEY = "swinir_config"

# Where training code puts the weights, best first: an average beats the last step.
_WRAPPERS = ("params_ema", "params", "state_dict", "model_state_dict", "model", "netG", "net")
_READ_ERRORS = (OSError, SafetensorError, RuntimeError, ValueError, EOFError, KeyError)


@dataclass(frozen=True)
class Checkpoint:
    """The weights of one SwinIR with the configuration they fit."""

    config: SwinIRConfig
    state_dict: dict[str, Tensor]
    """Parameters only, under the official names, on the CPU."""
    metadata: dict[str, str] = field(default_factory=dict)
    """Free provenance text: where the weights come from, what they were trained on."""


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read .safetensors, .pth, .pt or .ckpt; pickled files as weights only.

    Wrappers (``params_ema`` before ``params``, ``state_dict``, ...), prefixes (``module.``,
    ``_orig_mod.``, ``netG.``, ...) and saved buffers are taken off. The configuration comes from
    our own header where there is one, else from the weights. Raises ``CheckpointError`` naming the
    file when it cannot be read, is not a SwinIR, or contradicts itself.
    """
    path = Path(path)
    contents, metadata = _read_file(path)
    try:
        return checkpoint_from_weights(contents, metadata)
    except ValueError as error:
        raise CheckpointError(f"{path.name}: {error}.") from error


def checkpoint_from_weights(
    contents: Mapping[str, Any], metadata: Mapping[str, str] | None = None
) -> Checkpoint:
    """The same for weights already in memory. Raises ``ValueError``."""
    weights = _strip_prefix(_unwrap(contents))
    if not weights:
        raise ValueError("it holds no weights")
    provenance = dict(metadata or {})
    header = provenance.pop(CONFIG_KEY, None)
    provenance.pop("format", None)
    config = recognise(weights) if header is None else _config_from_header(header)
    weights = {key: w for key, w in weights.items() if not key.endswith(BUFFER_SUFFIXES)}
    _check_weights(weights, config)
    return Checkpoint(config, weights, provenance)


def write_checkpoint(
    path: str | os.PathLike[str], checkpoint: Checkpoint, dtype: torch.dtype | None = None
) -> None:
    """Write ``checkpoint`` as .safetensors, in ``dtype`` or as it is.

    The configuration and the provenance go into the header. The file appears whole or not at all.
    Raises ``CheckpointError`` for another suffix, and ``OSError`` when the disk refuses.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise CheckpointError(f"{path.name}: checkpoints are written as .safetensors; rename it.")
    tensors = {
        key: weight.detach().to("cpu", dtype or weight.dtype).contiguous()
        for key, weight in sorted(checkpoint.state_dict.items())
    }
    header = {
        "format": "pt",
        CONFIG_KEY: json.dumps(checkpoint.config.to_dict()),
        **checkpoint.metadata,
    }
    with replacing(path) as part:
        save_file(tensors, part, header)


def _read_file(path: Path) -> tuple[Mapping[str, Any], dict[str, str]]:
    if path.suffix.lower() not in SUFFIXES:
        raise CheckpointError(
            f"{path.name}: a model file ends in {', '.join(SUFFIXES)}, not {path.suffix!r}."
        )
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file; check the name and the folder.")
    if path.stat().st_size == 0:
        raise CheckpointError(f"{path.name}: the file is empty; download it again.")
    try:
        if path.suffix.lower() == ".safetensors":
            return _read_safetensors(path)
        return _read_pickled(path), {}
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path.name}: {_what_it_is(path)} It was not loaded, because a file of weights needs "
            f"no code; if you trust its source, convert it to .safetensors there. ({_first(error)})"
        ) from error
    except _READ_ERRORS as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path.name}: {_what_it_is(path)} ({_first(error)})") from error


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(path, framework="pt") as file:
        # Cloned, so that nothing keeps the file mapped when it is replaced.
        weights = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
        return weights, dict(file.metadata() or {})


def _read_pickled(path: Path) -> Mapping[str, Any]:
    major, minor = (int(part) for part in torch.__version__.split(".")[:2])
    if (major, minor) < (2, 6):
        raise CheckpointError(
            f"{path.name}: torch {torch.__version__} cannot read pickled files safely "
            f"(CVE-2025-32434); update to torch 2.6 or use a .safetensors file."
        )
    contents = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(contents, Mapping):
        raise CheckpointError(
            f"{path.name}: holds a {type(contents).__name__}, not a state dict; export "
            f"model.state_dict() instead."
        )
    return contents


def _what_it_is(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(512).lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "this is a web page, not a model; download the file itself."
    if start.startswith(b"version https://git-lfs"):
        return "this is a Git LFS pointer, not the model; fetch the file itself with git lfs pull."
    if path.suffix.lower() != ".safetensors" and start.startswith((b"pk\x03\x04", b"\x80")):
        return "the file is truncated, damaged, or holds more than weights; download it again."
    return "the file is truncated or damaged, or not a model; download it again."


def _first(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def _unwrap(contents: Mapping[str, Any]) -> dict[str, Tensor]:
    """The innermost state dict of a training checkpoint."""
    while True:
        inner = next((contents[k] for k in _WRAPPERS if isinstance(contents.get(k), Mapping)), None)
        if inner is None:
            return {key: value for key, value in contents.items() if isinstance(value, Tensor)}
        contents = inner


def _strip_prefix(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Take off what wrappers such as DataParallel, torch.compile or a trainer put before names.

    Where several networks lie side by side, an averaged one (``ema``) is preferred.
    """
    weights = {key.replace("_orig_mod.", ""): weight for key, weight in weights.items()}
    prefixes = {
        key.removesuffix(ending)
        for key in weights
        for ending in ("conv_first.weight", "conv_first.1.weight")
        if key.endswith(ending)
    }
    if not prefixes:
        return weights
    prefix = min(prefixes, key=lambda p: ("ema" not in p, len(p), p))
    return {key[len(prefix) :]: w for key, w in weights.items() if key.startswith(prefix)}


def _config_from_header(header: str) -> SwinIRConfig:
    try:
        return SwinIRConfig.from_dict(json.loads(header))
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"its header holds no valid configuration ({error})") from error


def _check_weights(weights: Mapping[str, Tensor], config: SwinIRConfig) -> None:
    """Names, shapes, types and values of all weights; raises ``ValueError`` at the first fault."""
    expected = {k: tuple(p.shape) for k, p in SwinIR(config, device="meta").state_dict().items()}
    missing = [key for key in expected if key not in weights]
    if missing:
        raise ValueError(f"{len(missing)} weights are missing, the first is {missing[0]!r}")
    unknown = [key for key in weights if key not in expected]
    if unknown:
        raise ValueError(f"{len(unknown)} weights do not belong to it, the first is {unknown[0]!r}")
    for key, weight in weights.items():
        shape = tuple(weight.shape)
        if shape != expected[key]:
            raise ValueError(f"{key!r} has shape {shape}, {expected[key]} expected")
        if weight.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
            raise ValueError(f"{key!r} holds {weight.dtype}, floating point numbers expected")
        if not weight.isfinite().all():
            raise ValueError(f"{key!r} contains NaN or infinite values")
