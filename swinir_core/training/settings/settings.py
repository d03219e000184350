"""What a training run can be told: one dataclass for each table of a configuration file.

``config.py`` reads them from TOML; they work as well from Python. An impossible value, or values
that contradict each other, raise ``SettingError``.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace
from pathlib import Path

from ...network.config import PRESETS, RESI_CONNECTIONS, TASKS, SwinIRConfig
from .tables import Table, setting

DEVICES = ("auto", "cpu")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")
UPSAMPLERS = {
    "classical_sr": "pixelshuffle",
    "lightweight_sr": "pixelshuffledirect",
    "real_sr": "nearest+conv",
}
"""Reconstruction module of the tasks that enlarge; the others have none."""


@dataclass(frozen=True)
class TaskSettings(Table):
    """What the network is to do."""

    table = "task"

    name: str = setting(choices=TASKS)

    scale: int = setting(1, at_least=1)
    """Output pixels per input pixel along one side; only for the three super-resolution tasks."""

    gray: bool = False
    """Whether a super-resolution network has one channel. The other tasks say so by name."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.enlarges and self.scale == 1:
            raise self.fault("scale", f"{self.name} enlarges; give 2, 3, 4 or 8")
        if not self.enlarges and self.scale != 1:
            raise self.fault("scale", f"{self.name} does not enlarge; leave it out")
        if self.gray and not self.enlarges:
            raise self.fault("gray", f"{self.name} says it by its name; leave it out")

    @property
    def enlarges(self) -> bool:
        return self.name in UPSAMPLERS

    @property
    def channels(self) -> int:
        return 1 if self.gray or self.name.startswith("gray") else 3


@dataclass(frozen=True)
class NetworkSettings(Table):
    """The shape of the network: a preset, or a size of one's own. What the task settles (scale,
    channels, upsampler) is not repeated. Without any of it the network is that of the checkpoint
    the run starts from."""

    table = "network"

    preset: str | None = setting(None, choices=tuple(PRESETS))
    """An official configuration."""

    embed_dim: int | None = setting(None, at_least=1)
    depths: tuple[int, ...] | None = None
    num_heads: tuple[int, ...] | None = None
    window_size: int = setting(8, at_least=1)
    mlp_ratio: float = setting(2.0, above=0)
    resi_connection: str = setting("1conv", choices=RESI_CONNECTIONS)
    num_feat: int = setting(64, at_least=1)
    img_range: float = setting(1.0, above=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        size = self._size()
        if self.preset and size:
            raise self.fault("preset", f"it settles {min(size)} already; leave one of them out")
        for name in ("embed_dim", "depths", "num_heads") if size else ():
            if name not in size:
                raise self.fault(name, f"is missing, for {min(size)} is given; or name a preset")

    @property
    def is_given(self) -> bool:
        """Whether the shape is settled here, and not by the checkpoint the run starts from."""
        return bool(self.preset or self._size())

    def _size(self) -> dict[str, object]:
        return {
            item.name: getattr(self, item.name)
            for item in dataclasses.fields(self)
            if item.name != "preset" and getattr(self, item.name) != item.default
        }

    def config(self, task: TaskSettings, patch: int, start: SwinIRConfig | None) -> SwinIRConfig:
        """The network for ``task``, trained on patches of ``patch`` pixels. ``start`` is the
        configuration of the checkpoint the run starts from. Raises ``ValueError``."""
        if self.preset:
            base = PRESETS[self.preset]
        elif self.embed_dim:
            shape = dataclasses.asdict(self)
            del shape["preset"]
            settled = {"scale": task.scale, "in_channels": task.channels}
            upsampler = UPSAMPLERS.get(task.name, "none")
            return SwinIRConfig(
                **settled, **shape, upsampler=upsampler, img_size=patch, task=task.name
            )
        elif start:
            return replace(
                start,
                scale=task.scale,
                in_channels=task.channels,
                mean=start.mean if start.in_channels == task.channels else None,
                upsampler=UPSAMPLERS.get(task.name, "none"),
                img_size=patch,
                task=task.name,
            )
        else:
            raise self.fault("preset", "is missing; or give a size, or start from a checkpoint")
        if (base.scale, base.in_channels) != (task.scale, task.channels):
            raise self.fault(
                "preset",
                f"it has scale {base.scale} and {base.in_channels} channels, but {task.name} "
                f"here has scale {task.scale} and {task.channels}",
            )
        return replace(base, img_size=patch, task=task.name)


@dataclass(frozen=True)
class DataSettings(Table):
    """Which images, and how much of them at a time."""

    table = "data"

    train: tuple[Path, ...] = ()
    """Folders of PNG, JPEG, WebP and TIFF photographs, searched to any depth."""

    validate: Path | None = None
    """Folder of images to score. Without it a few of the training images are kept apart."""

    validate_at_most: int = setting(100, at_least=1)
    """Images scored at each validation, evenly spread over the folder."""

    patch: int = setting(64, at_least=1)
    """Side of a patch the network sees, in its input pixels: times the scale in the photograph."""

    batch: int = setting(16, at_least=1)
    """Patches in a step, over all processes together."""

    workers: int | None = setting(None, at_least=0)
    """Processes that prepare patches for each training process. Default: none beside a CPU, up to
    8 beside a GPU."""


@dataclass(frozen=True)
class DegradationSettings(Table):
    """How the network's input is made from a photograph, where the task leaves a choice."""

    table = "degradation"

    sigma: tuple[float, float] | None = None
    """Deviation of the noise in grey levels of 0..255: one number, or [lowest, highest]."""

    quality: tuple[int, int] | None = None
    """JPEG quality: one number, or [lowest, highest]."""

    validate_at: float | None = None
    """Sigma or quality of the validation. Default: the middle of the above."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least, most in (("sigma", 0.0, 255.0), ("quality", 1, 100)):
            ends = getattr(self, name)
            if ends and not least <= ends[0] <= ends[1] <= most:
                raise self.fault(name, f"must lie between {least:g} and {most:g}, lowest first")

    @property
    def validation_level(self) -> float | None:
        """Sigma or quality to validate at."""
        ends = self.sigma or self.quality
        return sum(ends) / 2 if ends and self.validate_at is None else self.validate_at


@dataclass(frozen=True)
class LossSettings(Table):
    """What is minimised: pixel + perceptual_weight * perceptual + gan_weight * GAN."""

    table = "loss"

    pixel: str = setting("l1", choices=("l1", "charbonnier"))
    epsilon: float = setting(1e-3, above=0)
    """Of Charbonnier."""

    perceptual_weight: float = setting(0.0, at_least=0)
    gan_weight: float = setting(0.0, at_least=0)
    critic_features: int = setting(64, at_least=1)
    """Channels of the discriminator at full size."""

    vgg19: Path | None = None
    """File of torchvision's VGG19 weights for the perceptual loss. Default: torchvision's cache."""


@dataclass(frozen=True)
class ScheduleSettings(Table):
    """Adam, how long, and how fast. No weight decay, as in the paper."""

    table = "schedule"

    steps: int = setting(at_least=1)
    """Length of the whole run, steps before a resumption included."""

    learning_rate: float = setting(2e-4, above=0)
    """The highest, right after the warm-up."""

    warm_up: int = setting(0, at_least=0)
    """Steps over which the learning rate rises from nothing."""

    decay: str = setting("halving", choices=("halving", "cosine"))
    halve_at: tuple[int, ...] = ()
    """Steps at which ``halving`` halves the learning rate."""

    betas: tuple[float, float] = (0.9, 0.99)
    ema: float = setting(0.999, at_least=0, below=1)
    """How much of the running average of the weights survives a step."""

    drop_path: float = setting(0.0, at_least=0, below=1)
    """Highest rate of stochastic depth, reached in the last layer."""

    clip_norm: float | None = setting(None, above=0)
    """Gradients are shortened to this length. Default: never."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not all(0 <= beta < 1 for beta in self.betas):
            raise self.fault("betas", "both must be at least 0 and below 1")
        if self.decay == "cosine" and self.halve_at:
            raise self.fault("halve_at", 'decay = "cosine" does not halve; leave one of them out')
        if list(self.halve_at) != sorted(set(self.halve_at)) or min(self.halve_at, default=1) < 1:
            raise self.fault("halve_at", "must be growing numbers of steps, from 1")
        if max(self.halve_at, default=0) > self.steps:
            raise self.fault("halve_at", f"the run ends earlier, at steps = {self.steps}")
        if self.warm_up >= self.steps:
            raise self.fault("warm_up", f"must end before the run, at steps = {self.steps}")

    def stretched_to(self, steps: int) -> ScheduleSettings:
        """The same curve for a run of another length."""
        factor = steps / self.steps
        return replace(
            self,
            steps=steps,
            warm_up=min(round(self.warm_up * factor), steps - 1),
            halve_at=tuple(sorted({max(round(at * factor), 1) for at in self.halve_at})),
        )


@dataclass(frozen=True)
class RunSettings(Table):
    """Where the run lives and what it does besides training."""

    table = "run"

    out: Path = Path("runs")
    """Folder for weights, state, log, curve and samples."""

    start_from: Path | None = None
    """Checkpoint file or bundled model whose fitting weights are taken over."""

    seed: int = setting(0, at_least=0, below=2**63)
    device: str = setting("auto", choices=DEVICES)
    precision: str = setting("auto", choices=PRECISIONS)
    log_every: int = setting(100, at_least=1)
    """Steps between lines of the log."""

    validate_every: int = setting(2000, at_least=1)
    """Steps between validations; the end of the run is always validated."""

    save_minutes: float = setting(5.0, at_least=0)
    """Minutes between saves; every validation and the end of the run is saved too."""

    samples: int = setting(4, at_least=0)
    """Validation images shown in each picture of samples."""
