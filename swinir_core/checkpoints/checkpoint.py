"""Tensors to checkpoints: recognise and check what a file holds, and write safetensors.

How tensors come out of files is the business of ``containers``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from ..devices import is_out_of_memory
from ..errors import CheckpointError, OtherNetworkError
from ..files import replacing
from ..network.config import SwinIRConfig
from ..network.swinir import SwinIR
from ..text import quoted
from .containers import Contents, read_tensors
from .limits import check_size
from .recognise import BUFFER_SUFFIXES, guesses, recognise
from .spandrel import foreign_architecture, official_names

CONFIG_KEY = "swinir_config"


@dataclass(frozen=True)
class Checkpoint:
    """The weights of one SwinIR with the configuration they fit."""

    config: SwinIRConfig
    state_dict: dict[str, Tensor]
    """Parameters only, under the official names, on the CPU."""
    metadata: dict[str, str] = field(default_factory=dict)
    """Free provenance text: where the weights come from, what they were trained on."""
    taken: str = ""
    """Place of these weights in the file, in a clause; empty where there was no choice."""
    guessed: dict[str, str] = field(default_factory=dict)
    """Hyper-parameters that the file does not tell, with what is assumed of each and why."""
    name: str = ""
    """Name of the file without suffix, or the sum that a blend is; empty where neither is known."""


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read .safetensors, .pth, .pt or .ckpt; pickled files as data, running nothing in them.

    What trainers put around weights and before their names, and saved buffers, are taken off;
    of several networks the averaged one is taken. The configuration comes from our own header where
    there is one, else from the weights. Names, shapes and types are checked while the file is only
    mapped; its weights are copied into memory after that.

    Raises ``CheckpointError`` naming the file when it cannot be read, is not a SwinIR, or
    contradicts itself, and ``OtherNetworkError`` when it holds another network.
    """
    path = Path(path)
    contents = read_tensors(path)
    try:
        return replace(_interpret(contents, path.stat().st_size), name=path.stem)
    except ValueError as error:
        foreign = foreign_architecture(contents.weights)
        if foreign is not None:
            remark = f"; {foreign.remark}" if foreign.remark else ""
            raise OtherNetworkError(
                f"{path.name}: this is a model of the architecture {foreign.name}, not a "
                f"SwinIR{remark}.",
                not foreign.remark,
            ) from error
        reason = f"{path.name}: {quoted(error)}."
        if isinstance(error, OtherNetworkError):
            raise OtherNetworkError(reason, error.is_upscaler) from error
        raise CheckpointError(reason) from error
    except Exception as error:
        reason = f"its weights cannot be read ({type(error).__name__}: {quoted(error)})"
        if is_out_of_memory(error):
            reason = "its weights do not fit into the memory of this machine"
        raise CheckpointError(f"{path.name}: {reason}.") from error


def _interpret(contents: Contents, file_size: int) -> Checkpoint:
    weights, metadata = official_names(contents.weights), contents.metadata
    for key, weight in weights.items():
        if weight.is_meta and not key.endswith(BUFFER_SUFFIXES):
            raise ValueError(f"{key!r} holds no ordinary numbers")
    header = metadata.pop(CONFIG_KEY, None)
    metadata.pop("format", None)
    config = recognise(weights) if header is None else _config_from_header(header)
    guessed = guesses(config, weights) if header is None else {}
    mean = weights.get("mean")  # A buffer in some forks, a plain attribute in the original.
    if mean is not None and tuple(mean.squeeze().shape) in ((), (config.in_channels,)):
        config = replace(config, mean=tuple(mean.flatten().expand(config.in_channels).tolist()))
        del weights["mean"]
        guessed.pop("mean", None)
    check_size(config)
    weights = {key: w for key, w in weights.items() if not key.endswith(BUFFER_SUFFIXES)}
    _check_weights(weights, config)
    claimed = sum(weight.numel() * weight.element_size() for weight in weights.values())
    if claimed > file_size:
        raise ValueError(f"its weights claim {claimed} bytes, the file has {file_size}")
    for key, weight in weights.items():
        # Copied out of the mapped file, which can then be replaced.
        weights[key] = weight.detach().clone(memory_format=torch.contiguous_format)
        if not weights[key].isfinite().all():
            raise ValueError(f"{key!r} contains NaN or infinite values")
    return Checkpoint(config, weights, metadata, contents.taken, guessed)


def write_checkpoint(
    path: str | os.PathLike[str], checkpoint: Checkpoint, dtype: torch.dtype | None = None
) -> None:
    """Write ``checkpoint``, with its configuration and metadata in the header.

    The file appears whole or not at all, and equal contents make equal files. Missing folders are
    made.

    Args:
        path: the file to write or replace, .safetensors.
        checkpoint: finite weights, on any device.
        dtype: the type to store the weights in. None: the type that each has.

    Raises:
        CheckpointError: another suffix, or weights that are not finite in ``dtype``.
        ValueError: a network that ``read_checkpoint`` would refuse as too large.
        WriteError: the disk is full, the folder is read-only, ...
    """
    path = Path(path)
    if path.suffix.lower() != ".safetensors":
        raise CheckpointError(f"{path.name}: checkpoints are written as .safetensors; rename it.")
    check_size(checkpoint.config)
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
    with replacing(path) as part, part.open("wb") as file:
        file.writelines(_serialised(tensors, header))


def _serialised(tensors: dict[str, Tensor], metadata: dict[str, str]) -> tuple[bytes, memoryview]:
    """Header and numbers of a .safetensors file.

    The library writes metadata in a random order; sorted, equal contents make equal files.
    """
    data = memoryview(save(tensors, metadata))
    numbers = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(bytes(data[8:numbers]))
    header["__metadata__"] = dict(sorted(metadata.items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # The numbers begin at a multiple of eight bytes.
    return len(text).to_bytes(8, "little") + text, data[numbers:]


def _config_from_header(header: str) -> SwinIRConfig:
    try:
        return SwinIRConfig.from_dict(json.loads(header))
    except (ValueError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise ValueError(f"its header holds no valid configuration ({error})") from error


def _check_weights(weights: Mapping[str, Tensor], config: SwinIRConfig) -> None:
    """Compare names, shapes and types with the network's; raise ``ValueError`` at a difference."""
    layers = sum(config.depths)
    if len(weights) < layers:  # Making a network of so many layers takes seconds.
        raise ValueError(f"it holds {len(weights)} weights, too few for {layers} Swin layers")
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
            raise ValueError(f"{key!r} holds {weight.dtype}, floats of 16 to 64 bits expected")
