"""Checkpoints: read any SwinIR file, recognise and check it, write safetensors."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from .config import SwinIRConfig
from .errors import CheckpointError
from .files import replacing
from .network import SwinIR
from .recognise import BUFFER_SUFFIXES, recognise

SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt")
CONFIG_KEY = "swinir_config"

# Where training code puts the weights, best first: an average beats the last step.
_WRAPPERS = (
    *("params_ema", "model_ema", "state_dict_ema", "ema"),
    *("params", "state_dict", "model_state_dict", "model"),
    *("net_g", "netG", "generator", "network", "net", "weights"),
)
# What only a SwinIR has at its beginning, so that what precedes it is a prefix.
_PREFIX_MARK = "layers.0.residual_group.blocks.0.norm1.weight"


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
        return _interpret(contents, metadata)
    except ValueError as error:
        raise CheckpointError(f"{path.name}: {error}.") from error


def _interpret(contents: Mapping[Any, Any], metadata: dict[str, str]) -> Checkpoint:
    weights = _strip_prefix(_unwrap(contents))
    if not weights:
        keys = ", ".join(repr(key) for key in list(contents)[:5])
        raise ValueError(f"it holds no weights under names we know, only {keys or 'nothing'}")
    header = metadata.pop(CONFIG_KEY, None)
    metadata.pop("format", None)
    config = recognise(weights) if header is None else _config_from_header(header)
    mean = weights.get("mean")  # A buffer in some forks, a plain attribute in the original.
    if mean is not None and mean.numel() in (1, config.in_channels):
        config = replace(config, mean=tuple(mean.flatten().expand(config.in_channels).tolist()))
        del weights["mean"]
    weights = {key: w for key, w in weights.items() if not key.endswith(BUFFER_SUFFIXES)}
    _check_weights(weights, config)
    return Checkpoint(config, weights, metadata)


def write_checkpoint(
    path: str | os.PathLike[str], checkpoint: Checkpoint, dtype: torch.dtype | None = None
) -> None:
    """Write ``checkpoint`` as .safetensors, in ``dtype`` or as it is.

    The configuration and the provenance go into the header. The file appears whole or not at all.
    Raises ``CheckpointError`` for another suffix, and ``OSError`` when the disk refuses.
    """
    path = Path(path)
    if path.suffix.lower() != ".safetensors":
        raise CheckpointError(f"{path.name}: checkpoints are written as .safetensors; rename it.")
    tensors = {
        key: weight.detach().to("cpu", dtype or weight.dtype).contiguous()
        for key, weight in sorted(checkpoint.state_dict.items())
    }
    for key, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise CheckpointError(f"{path.name}: {key!r} is not finite in {tensor.dtype}.")
    header = {
        **checkpoint.metadata,
        "format": "pt",
        CONFIG_KEY: json.dumps(checkpoint.config.to_dict()),
    }
    with replacing(path) as part:
        part.write_bytes(save(tensors, header))


def _read_file(path: Path) -> tuple[Mapping[str, Any], dict[str, str]]:
    if path.suffix.lower() not in SUFFIXES:
        raise CheckpointError(
            f"{path.name}: a model file ends in {', '.join(SUFFIXES)}, not {path.suffix!r}."
        )
    if not path.is_file():
        what = "this is a folder" if path.is_dir() else "there is no such file"
        raise CheckpointError(f"{path}: {what}; check the name.")
    if path.stat().st_size == 0:
        raise CheckpointError(f"{path.name}: the file is empty; download it again.")
    reader = _read_safetensors if path.suffix.lower() == ".safetensors" else _read_pickled
    try:
        return reader(path)
    except CheckpointError:
        raise
    except PermissionError as error:
        raise CheckpointError(f"{path}: cannot be read, because permission is denied.") from error
    except Exception as error:  # The legacy unpickler raises anything.
        raise CheckpointError(f"{path.name}: {_what_it_is(path, error)}.") from error


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(path, framework="pt") as file:
        # Cloned, so that nothing keeps the file mapped when it is replaced.
        weights = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
        return weights, dict(file.metadata() or {})


def _read_pickled(path: Path) -> tuple[Mapping[Any, Any], dict[str, str]]:
    major, minor = (int(part) for part in torch.__version__.split(".")[:2])
    if (major, minor) < (2, 6):
        raise CheckpointError(
            f"{path.name}: torch {torch.__version__} cannot read pickled files safely "
            f"(CVE-2025-32434); update to torch 2.6 or use a .safetensors file."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Old pickle protocols.
        contents = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(contents, Mapping):
        raise CheckpointError(
            f"{path.name}: holds a {type(contents).__name__}, not a state dict; export "
            f"model.state_dict() instead."
        )
    return contents, {}


def _what_it_is(path: Path, error: Exception) -> str:
    """Why a file could not be read, and what to do; without the advice of torch to run it."""
    with path.open("rb") as file:
        start = file.read(512).lstrip()
    if start.lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return "this is a web page, not a model; download the file itself"
    if start.startswith(b"version https://git-lfs"):
        return "this is a Git LFS pointer, not the model; fetch the file itself with git lfs pull"
    pickled = start.startswith((b"PK", b"\x80"))
    if path.suffix.lower() == ".safetensors":
        if pickled:
            return "this is a pickled file; rename it to .pth"
    elif start[8:9] == b"{":
        return "this is a safetensors file; rename it to .safetensors"
    foreign = re.search(r"GLOBAL (\S+)", str(error))
    if pickled and foreign:
        return (
            f"it holds Python objects besides weights ({foreign[1]}), which are not loaded because "
            f"they can run code; export model.state_dict() instead"
        )
    return "the file is truncated or damaged, or not a model; download it again"


def _unwrap(contents: Mapping[Any, Any]) -> dict[str, Tensor]:
    """The innermost state dict of a training checkpoint."""
    while True:
        inner = next((contents[k] for k in _WRAPPERS if isinstance(contents.get(k), Mapping)), None)
        if inner is None:
            return {
                key: value
                for key, value in contents.items()
                if isinstance(key, str) and isinstance(value, Tensor)
            }
        contents = inner


def _strip_prefix(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Take off what wrappers such as DataParallel, torch.compile or a trainer put before names.

    Where several networks lie side by side, an averaged one (``ema``) is preferred.
    """
    weights = {key.replace("_orig_mod.", ""): weight for key, weight in weights.items()}
    prefixes = {key.removesuffix(_PREFIX_MARK) for key in weights if key.endswith(_PREFIX_MARK)}
    if not prefixes:
        return weights
    prefix = min(prefixes, key=lambda p: ("ema" not in p, len(p), p))
    return {
        key[len(prefix) :]: weight
        for key, weight in weights.items()
        if key.startswith(prefix) and key != f"{prefix}n_averaged"
    }


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
        if weight.layout != torch.strided or weight.is_meta:
            raise ValueError(f"{key!r} holds no ordinary numbers ({weight.layout})")
        if weight.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
            raise ValueError(f"{key!r} holds {weight.dtype}, floating point numbers expected")
        if not weight.isfinite().all():
            raise ValueError(f"{key!r} contains NaN or infinite values")
