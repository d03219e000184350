"""The host: its folders, its memory management, its progress bar and its interrupt.

Every call to ``comfy`` and ``folder_paths`` is made here. Where versions of the host differ the
feature is looked up when it is needed, so that one pack serves them all.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
import sys
import time
import uuid
from collections.abc import Callable, Collection, Sequence
from fractions import Fraction
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.utils
import folder_paths
import numpy as np
import torch
from comfy_api.latest import io
from PIL import Image
from torch import Tensor, nn

import nodes as host_nodes  # The host's nodes.py: an absolute import never reaches this package.

from ..swinir_core.errors import PrecisionError, UserFacingError
from ..swinir_core.model_names import SUFFIXES

if TYPE_CHECKING:
    from ..swinir_core.video_files.reading import FileVideo, FramesVideo

MODEL_FOLDER = "swinir"
SECONDS_BETWEEN_PICTURES = 0.2
SECONDS_BETWEEN_STEPS = 0.05
SECONDS_OF_A_BAR = 1


def schema(**fields: Any) -> io.Schema:
    """Make a node's schema, without fields that an older host does not know, such as aliases."""
    known = inspect.signature(io.Schema).parameters
    return io.Schema(**{name: value for name, value in fields.items() if name in known})


def advanced(widget: Any) -> dict[str, bool]:
    """Mark a widget as one for who asks for more, where the host knows such: a keyword argument."""
    return {"advanced": True} if "advanced" in inspect.signature(widget).parameters else {}


def plain_errors(execute: Callable[..., io.NodeOutput]) -> Callable[..., io.NodeOutput]:
    """Make ``execute`` of a node raise the built-in kind of what it wants a user to read.

    The host shows the name of any other class, with the modules it lies in, before the message, and
    writes the whole chain of tracebacks into the console.
    """

    @functools.wraps(execute)
    def executed(*args: Any, **kwargs: Any) -> io.NodeOutput:
        try:
            return execute(*args, **kwargs)
        except (UserFacingError, PrecisionError) as error:
            kinds = type(error).__mro__
            plain = next(kind for kind in kinds if kind.__module__ == "builtins")(str(error))
        raise plain  # Outside of the except block, or the first one is shown with it.

    return executed


def check_choice(name: str, value: str, choices: Collection[str]) -> None:
    """Check the value of the input ``name``, which an older host does not for optional inputs.

    Raises ``ValueError`` for a value that is not one of ``choices``.
    """
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}.")


def loader_category() -> str:
    """Return the category of the host's own upscale model loader, which has moved over time."""
    mappings = host_nodes.NODE_CLASS_MAPPINGS  # pyright: ignore[reportAttributeAccessIssue]
    return mappings["UpscaleModelLoader"].CATEGORY


def register_model_folder() -> None:
    """Make ``models/swinir`` a folder of the host, with its folders of upscale models behind it.

    Folders a user configured come first. The tuple is replaced as a whole, because the host makes
    one that lists files of every kind when a configuration file named the folder before us.
    """
    own = save_folder()
    with contextlib.suppress(OSError):  # A read-only models folder is no reason to fail.
        own.mkdir(parents=True, exist_ok=True)
    configured, _ = folder_paths.folder_names_and_paths.get(MODEL_FOLDER, ([], set()))
    folders = [*configured, str(own), *folder_paths.get_folder_paths("upscale_models")]
    folder_paths.folder_names_and_paths[MODEL_FOLDER] = (
        list(dict.fromkeys(folders)),
        set(SUFFIXES),
    )


def model_files() -> list[str]:
    """List all model files, relative to their folders, with slashes on every system: a workflow
    saved on one is opened on another."""
    return [PurePath(name).as_posix() for name in folder_paths.get_filename_list(MODEL_FOLDER)]


def model_path(name: str) -> Path:
    """Find the file of a name from ``model_files``.

    Raises ``FileNotFoundError``, also for a name that leads out of the folders.
    """
    return Path(folder_paths.get_full_path_or_raise(MODEL_FOLDER, name))


def operations() -> Any:
    """Return the layers that stream their weights where memory is short and compute in the input's
    type."""
    return comfy.ops.manual_cast


def offload_device() -> torch.device:
    """Return the device where weights wait while they are not needed."""
    return comfy.model_management.unet_offload_device()


def make_patcher(model: nn.Module) -> Any:
    """Put ``model`` under the host's memory management."""
    patcher_class = getattr(
        comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher
    )
    return patcher_class(
        model,
        load_device=comfy.model_management.get_torch_device(),
        offload_device=offload_device(),
    )


def patcher_of(upscale_model: Any) -> Any:
    """Return the patcher of a model the host loaded; an older host attaches none, so we do."""
    if getattr(upscale_model, "patcher", None) is None:
        upscale_model.patcher = make_patcher(upscale_model.model)
    return upscale_model.patcher


def load(patcher: Any, memory_required: int = 0) -> None:
    """Bring a model to its device and make ``memory_required`` bytes more free there."""
    comfy.model_management.load_models_gpu(
        [patcher], memory_required=memory_required, force_full_load=True
    )


def move_stragglers(patcher: Any) -> None:
    """Bring weights to the device that loading left behind.

    Layers the host did not make itself cannot stream their weights, yet it leaves some of them
    behind when memory is short, and an older host moves them away without telling the patcher.
    """
    model, device = patcher.model, patcher.load_device
    if any(tensor.device != device for tensor in (*model.parameters(), *model.buffers())):
        model.to(device)


def fastest_precision(device: torch.device, half_types: Sequence[torch.dtype]) -> torch.dtype:
    """Return the first of ``half_types`` that the device is made for, otherwise float32."""
    management = comfy.model_management
    if device.type == "cpu":
        return torch.float32
    fast = {
        torch.bfloat16: management.should_use_bf16,
        torch.float16: management.should_use_fp16,
    }
    return next((dtype for dtype in half_types if fast[dtype](device)), torch.float32)


def total_memory(device: torch.device) -> int:
    """Return the bytes of memory that ``device`` has in all."""
    return comfy.model_management.get_total_memory(device)


def free_memory(patcher: Any) -> int:
    """Return the bytes a run may take on the patcher's device, the host's reserve left out."""
    device = patcher.load_device
    # The newer method also counts what the host would evict on demand.
    measure = getattr(patcher, "get_free_memory", comfy.model_management.get_free_memory)
    return max(int(measure(device) - comfy.model_management.extra_reserved_memory()), 1)


def to_intermediate(images: Tensor) -> Tensor:
    """Move images to the device and type in which the host keeps what travels between nodes."""
    management = comfy.model_management
    # Older hosts know only float32.
    dtype = getattr(management, "intermediate_dtype", lambda: torch.float32)()
    return images.to(management.intermediate_device(), dtype)


def in_three_channels(images: Tensor) -> Tensor:
    """Make gray images, (B, H, W, 1) or with alpha (B, H, W, 2), ones that the host's own nodes
    show: of three equal channels, and alpha. Others are returned as they are."""
    if images.shape[-1] > 2:
        return images
    return torch.cat([images[..., :1].expand(-1, -1, -1, 3), images[..., 1:]], -1)


class Progress:
    """The bar of the running node, and the picture beneath it."""

    def __init__(self) -> None:
        self._bar = comfy.utils.ProgressBar(1)
        self._done, self._total = 0, 1
        self._before, self._count = 0, 1
        self._shown = self._moved = self._renewed = -math.inf

    def advance(self, done: float, total: float) -> None:
        """Move the bar, not more often than an eye sees; an older host sends every step on."""
        self._done, self._total = self._before * total + done, self._count * total
        now = time.monotonic()
        if self._done == self._total or now - self._moved > SECONDS_BETWEEN_STEPS:
            self._moved = now
            # A newer host holds back steps of less than half a percent, half a minute in a run of
            # hours, but not the first step of a bar.
            if now - self._renewed > SECONDS_OF_A_BAR:
                self._bar, self._renewed = comfy.utils.ProgressBar(self._total), now
            self._bar.update_absolute(self._done, self._total)

    def begin(self, number: int, count: int) -> None:
        """Let ``advance`` count within the picture ``number``, from 0, of ``count`` in all."""
        self._before, self._count = number, count

    def wants_picture(self) -> bool:
        """Tell whether the last picture is old enough for a person to follow."""
        return time.monotonic() - self._shown > SECONDS_BETWEEN_PICTURES

    def show(self, picture: np.ndarray) -> None:
        """Show a picture, (h, w) or (h, w, 3) uint8."""
        self._shown = time.monotonic()
        preview = ("JPEG", Image.fromarray(picture), None)
        self._bar.update_absolute(self._done, self._total, preview)


def open_video(video: Any) -> FileVideo | FramesVideo:
    """Open a ``VIDEO``: its file, as far as it is not trimmed away, or its frames in memory.

    Raises ``ImageError`` where there is nothing that can be read.
    """
    from comfy_api.input import VideoInput

    from ..swinir_core.video_files.reading import FileVideo, FramesVideo

    if type(video).get_stream_source is not VideoInput.get_stream_source:
        # An older host trims no videos.
        trim = getattr(video, "get_active_trim_window", lambda: (0.0, 0.0))
        return FileVideo(video.get_stream_source(), *trim())
    # A stream of them would be encoded first.
    parts = video.get_components()
    sound = parts.audio or {"waveform": torch.zeros(1, 1, 0), "sample_rate": 1}
    return FramesVideo(
        parts.images,
        Fraction(parts.frame_rate),
        sound["waveform"][0],
        int(sound["sample_rate"]),
        getattr(video, "get_bit_depth", lambda: 8)(),
    )


def to_video(path: Path) -> Any:
    """Return a ``VIDEO`` that is this file; saving it copies what is in it."""
    from comfy_api.input_impl import VideoFromFile

    return VideoFromFile(str(path))


def temporary_file(suffix: str) -> Path:
    """Return the path of a file that is not there yet, in the folder which the host empties when it
    ends."""
    folder = Path(folder_paths.get_temp_directory())
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"swinir-{uuid.uuid4().hex[:12]}{suffix}"


def show_text(node: type[io.ComfyNode], text: str) -> None:
    """Write ``text`` on the node that runs, in the page that runs it, if one does. In other pages
    its number may be another node's."""
    # Looked up, not imported: whoever runs nodes without a server has not loaded it.
    module = sys.modules.get("server")
    server = getattr(module.PromptServer, "instance", None) if module else None
    if server is not None and server.client_id is not None and node.hidden is not None:
        server.send_progress_text(text, node.hidden.unique_id, server.client_id)


def interrupted() -> bool:
    """Return ``False``; raises the host's own exception when the user has cancelled."""
    comfy.model_management.throw_exception_if_processing_interrupted()
    return False


def input_folder() -> Path:
    """Return the folder of the files that a user brings."""
    return Path(folder_paths.get_input_directory())


def output_folder() -> Path:
    """Return the folder of the files that nodes save."""
    return Path(folder_paths.get_output_directory())


def save_folder() -> Path:
    """Return the folder in which models are saved: ``models/swinir`` of the host."""
    return Path(folder_paths.models_dir) / MODEL_FOLDER


def is_model_file(name: str) -> bool:
    """Tell whether ``model_path`` finds a file of this name, in any of the folders."""
    return folder_paths.get_full_path(MODEL_FOLDER, name) is not None
