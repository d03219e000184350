"""Files of a run that are used and resumed from, and the weights a run starts from."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ..checkpoints.checkpoint import Checkpoint
from ..errors import WriteError
from ..files import replacing
from ..network.config import SwinIRConfig
from ..network.swinir import SwinIR
from ..text import listed

LAST = "last.safetensors"
BEST = "best.safetensors"
STATE = "state.pt"

STATE_KEYS = frozenset(
    {"config", "settings", "model", "average", "optimizer", "critic", "scaler"}
    | {"step", "seconds", "best", "unlogged"}
)


class SaveError(WriteError):
    """A file of the run could not be written. What was saved before is whole."""


def keeping_saves(write: Callable[[Path], object], run_dir: Path, name: str) -> None:
    """Call ``write(run_dir / name)``. Raises ``SaveError``, naming the file and the way out."""
    # Not made again: it may have been renamed, or be on a disk that was taken out.
    if not run_dir.is_dir():
        raise SaveError(
            f"{run_dir} is gone: moved, deleted or on a disk that is no longer there; put "
            "it back and run again with --resume."
        )
    try:
        write(run_dir / name)
    except WriteError as error:
        way = "run again with --resume" if (run_dir / STATE).exists() else "start again"
        raise SaveError(
            f"{error} What was saved before is whole; put that right and {way}."
        ) from error


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write everything that a resumed run needs."""
    # In memory first, because torch.save reports a full disk as a RuntimeError.
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with replacing(path) as part:
        # Not getbuffer(), which crashes Python 3.12.1 when the write fails.
        part.write_bytes(buffer.getvalue())


def read_state(run_dir: Path, config: SwinIRConfig, optimizer: str) -> dict[str, Any]:
    """Read what ``write_state`` wrote, onto the CPU.

    Raises ``ValueError`` when there is no run, when the file is damaged or of another kind, and
    when the run is of another network or has another optimizer than the one named.
    """
    path = run_dir / STATE
    try:
        # Not containers.read_tensors, which keeps only weights: a state has numbers and settings
        # besides, and is a file of the user's own, not a stranger's.
        saved = torch.load(path, map_location="cpu", weights_only=True)
        state = {key: saved[key] for key in STATE_KEYS}
    except FileNotFoundError as error:
        raise ValueError(
            f"{run_dir} holds no saved run to resume; check the folder, or leave --resume out."
        ) from error
    except OSError:
        raise
    except Exception as error:  # torch raises some ten types for files that are no state
        raise ValueError(
            f"{path} is damaged or not the state of a run; start a new run in another folder, "
            f"from the {LAST} beside it if that is whole."
        ) from error
    ours, theirs = config.to_dict(), state["config"]
    different = [name for name in ours if theirs.get(name) != ours[name]]
    if different:
        was = ", ".join(f"{name}={theirs.get(name)!r}" for name in different)
        raise ValueError(f"{path} holds a run of another network, one with {was}.")
    # Runs of the time when there was no choice name none.
    named = re.search(r'^optimizer = "(\w+)"$', state["settings"], re.MULTILINE)
    was = named[1] if named else "adam"
    if was != optimizer:
        raise ValueError(
            f'{path} holds a run with optimizer = "{was}", not "{optimizer}"; resume with that, or '
            f"start a new run in another folder, from the {LAST} beside it."
        )
    return state


def load_fitting(model: SwinIR, checkpoint: Checkpoint, name: str) -> str:
    """Load the weights of a checkpoint whose name and shape fit the model.

    Args:
        model: changed in place.
        checkpoint: of any SwinIR.
        name: of the checkpoint, for messages.

    Returns:
        A sentence about the weights that were loaded and the others.

    Raises:
        ValueError: not one weight fits.
    """
    own, given = model.state_dict(), checkpoint.state_dict
    fitting = {
        key: tensor
        for key, tensor in given.items()
        if key in own and tensor.shape == own[key].shape
    }
    if not fitting:
        raise ValueError(f"no weight of {name} fits this network; take its [network] or another.")
    model.load_state_dict(fitting, strict=False)
    fresh = sorted(own.keys() - fitting.keys())
    unused = sorted(given.keys() - fitting.keys())
    return (
        f"{len(fitting)} of {len(own)} weights are those of {name}; "
        f"begun anew: {listed(fresh) or 'none'}; not used: {listed(unused) or 'none'}"
    )
