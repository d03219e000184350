"""The settings of a training run: one dataclass for each table of a configuration file.

They are read from TOML by ``files.py``, or made in Python. A new table is a class here and a field
of ``TrainConfig``; a new setting is a line in its table.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import field, replace
from pathlib import Path
from typing import Annotated, Any

import pydantic
from pydantic import AfterValidator, BeforeValidator, Field, StrictBool, StrictFloat, StrictInt
from pydantic.dataclasses import dataclass

from ...model_names import bundled_file
from ...network.config import PRESETS, RESI_CONNECTIONS, TASKS, UPSAMPLER_OF_TASK, SwinIRConfig

CHECKS = pydantic.ConfigDict(extra="forbid", allow_inf_nan=False)
"""Checks of every table besides the types."""


class SettingError(ValueError):
    """A setting that cannot be used; the message is ``[table] key = value: reason``.

    ``value`` is ``None`` for a setting that is missing, ``key`` is empty for a whole table.
    """

    def __init__(self, table: str, key: str, value: object, reason: str) -> None:
        self.table, self.key, self.value, self.reason = table, key, value, reason
        place = f"[{table}] {key}" if key else f"[{table}]"
        shown = "" if value is None else f" = {as_toml(value)}"
        super().__init__(f"{place}{shown}: {reason}")


def as_toml(value: object) -> str:
    """Format a value for a TOML file, on one line."""
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(map(as_toml, value))}]"
    if isinstance(value, (str, Path)):
        # JSON allows one character that TOML does not.
        return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower() if isinstance(value, bool) else str(value)


def _choice(*choices: str) -> AfterValidator:
    def check(value: str) -> str:
        if value not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return value

    return AfterValidator(check)


def _path(value: object, info: pydantic.ValidationInfo) -> Path:
    """Make text a path in the folder of the settings file, the context of the validation."""
    if isinstance(value, str) and value:
        return (info.context or Path()) / Path(value).expanduser()
    if not isinstance(value, Path):
        raise ValueError("must be a path in quotes")
    return value


def _model_path(value: object, info: pydantic.ValidationInfo) -> Path:
    """Make text a path, but keep the name of a bundled model."""
    return Path(value) if isinstance(value, str) and bundled_file(value) else _path(value, info)


def _absolute(path: Path) -> Path:
    return path if bundled_file(path) else path.absolute()


def _repeated(times: int) -> BeforeValidator:
    """Make a single value a list that holds it ``times`` times."""
    return BeforeValidator(lambda it: it if isinstance(it, (tuple, list)) else (it,) * times)


def _ordered(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] > ends[1]:
        raise ValueError("must have the lowest first")
    return ends


# Types of the settings. The strict ones convert nothing, except a whole number to a float.
Text = pydantic.StrictStr
Count = Annotated[StrictInt, Field(ge=1)]
CountOrZero = Annotated[StrictInt, Field(ge=0)]
Positive = Annotated[StrictFloat, Field(gt=0)]
NotNegative = Annotated[StrictFloat, Field(ge=0)]
Fraction = Annotated[StrictFloat, Field(ge=0, lt=1)]
Share = Annotated[StrictFloat, Field(ge=0, le=1)]
NoiseLevel = Annotated[StrictFloat, Field(ge=0, le=255)]
NoiseLevels = Annotated[tuple[NoiseLevel, NoiseLevel], _repeated(2), AfterValidator(_ordered)]
Quality = Annotated[StrictInt, Field(ge=1, le=100)]
Qualities = Annotated[tuple[Quality, Quality], _repeated(2), AfterValidator(_ordered)]
FilePath = Annotated[Path, BeforeValidator(_path), pydantic.PlainSerializer(Path.absolute)]
Folders = Annotated[tuple[FilePath, ...], _repeated(1)]
ModelPath = Annotated[Path, BeforeValidator(_model_path), pydantic.PlainSerializer(_absolute)]


class Table:
    """Base of the settings dataclasses; ``[task]`` in a file is ``TaskSettings`` here."""

    def fault(self, key: str, reason: str) -> SettingError:
        """Make the error to raise for the value of ``key``."""
        table = type(self).__name__.removesuffix("Settings").lower()
        return SettingError(table, key, getattr(self, key), reason)


@dataclass(frozen=True, config=CHECKS)
class TaskSettings(Table):
    """Task of the network."""

    name: Annotated[Text, _choice(*TASKS)]

    scale: Count = 1
    """Output pixels per input pixel along one side; only for the three super-resolution tasks."""

    gray: StrictBool = False
    """Make a super-resolution network of one channel. The other tasks say so by name."""

    def __post_init__(self) -> None:
        if self.enlarges and self.scale == 1:
            raise self.fault("scale", f"{self.name} enlarges; give 2, 3, 4 or 8")
        if not self.enlarges and self.scale != 1:
            raise self.fault("scale", f"{self.name} does not enlarge; leave it out")
        if self.gray and not self.enlarges:
            raise self.fault("gray", f"{self.name} says it by its name; leave it out")

    @property
    def enlarges(self) -> bool:
        return UPSAMPLER_OF_TASK[self.name] != "none"

    @property
    def channels(self) -> int:
        return 1 if self.gray or self.name.startswith("gray") else 3


@dataclass(frozen=True, config=CHECKS)
class NetworkSettings(Table):
    """Shape of the network: a preset, or a size of one's own, or else that of the checkpoint the
    run starts from. The task settles scale, channels and upsampler."""

    preset: Annotated[Text, _choice(*PRESETS)] | None = None
    """An official configuration."""

    embed_dim: Count | None = None
    depths: tuple[Count, ...] | None = None
    num_heads: tuple[Count, ...] | None = None
    window_size: Count = 8
    mlp_ratio: Positive = 2.0
    resi_connection: Annotated[Text, _choice(*RESI_CONNECTIONS)] = "1conv"
    num_feat: Count = 64
    img_range: Positive = 1.0

    def __post_init__(self) -> None:
        size = {item.name for item in dataclasses.fields(self) if item.name != "preset"
                and getattr(self, item.name) != item.default}  # fmt: skip
        if self.preset and size:
            raise self.fault("preset", f"it settles {min(size)} already; leave one of them out")
        for name in ("embed_dim", "depths", "num_heads") if size else ():
            if name not in size:
                raise self.fault(name, f"is missing, for {min(size)} is given; or name a preset")

    def config(self, task: TaskSettings, patch: int, start: SwinIRConfig | None) -> SwinIRConfig:
        """Make the configuration of the network.

        Args:
            task: settles scale, channels and reconstruction module.
            patch: side of a training patch in pixels of the network's input.
            start: configuration of the checkpoint the run starts from, if any.

        Raises:
            SettingError: no size is given, or the preset is for another task.
            ValueError: sizes that contradict each other.
        """
        settled: dict[str, Any] = {"img_size": patch, "task": task.name}
        if self.preset:
            preset = PRESETS[self.preset]
            if (preset.scale, preset.in_channels) != (task.scale, task.channels):
                raise self.fault(
                    "preset",
                    f"it has scale {preset.scale} and {preset.in_channels} channels, but "
                    f"{task.name} here has scale {task.scale} and {task.channels}",
                )
            return replace(preset, **settled)
        settled |= {"scale": task.scale, "in_channels": task.channels}
        settled["upsampler"] = UPSAMPLER_OF_TASK[task.name]
        if self.embed_dim:
            shape = dataclasses.asdict(self)
            del shape["preset"]
            return SwinIRConfig(**shape, **settled)
        if start is None:
            raise self.fault("preset", "is missing; or give a size, or start from a checkpoint")
        mean = start.mean if start.in_channels == task.channels else None
        return replace(start, **settled, mean=mean)


@dataclass(frozen=True, config=CHECKS)
class DataSettings(Table):
    """Images, patches and batches."""

    train: Folders = ()
    """Folders of PNG, JPEG, WebP and TIFF photographs, searched to any depth."""

    low: Folders = ()
    """Folders of the network inputs of the images in ``train``, one for each of them, with files of
    the same names (``name.png`` or ``namex4.png``). Without them inputs are made by degradation."""

    validate: FilePath | None = None
    """Folder of images to score. Without it a few of the training images are kept apart."""

    validate_low: FilePath | None = None
    """Folder of the inputs of ``validate``, as ``low`` is of ``train``."""

    validate_at_most: Count = 100
    """Images scored at each validation, evenly spread over the folder."""

    patch: Count = 64
    """Side of a patch in pixels of the network's input; in the photograph, times the scale."""

    batch: Count = 16
    """Patches in a step, over all processes together."""

    parts: Count = 1
    """Equal parts that the batch is worked through in, one after another, for less memory; the
    step is that of the whole batch."""

    flat: Share = 0.0
    """Share of the patches that are of one colour, input and output alike."""

    gray: Share = 0.0
    """Share of the patches that are made gray, input and output alike; of colour networks only."""

    workers: CountOrZero | None = None
    """Processes that prepare patches for each training process. Default: none beside a CPU, up to
    8 beside a GPU."""


@dataclass(frozen=True, config=CHECKS)
class DegradationSettings(Table):
    """Damage done to the photographs, as far as the task leaves a choice."""

    sigma: NoiseLevels | None = None
    """Standard deviation of the noise in levels of 255: one number, or [lowest, highest]."""

    quality: Qualities | None = None
    """JPEG quality: one number, or [lowest, highest]."""

    validate_at: StrictFloat | None = None
    """Sigma or quality of the validation. Default: the middle of the above."""

    @property
    def validation_level(self) -> float | None:
        """Sigma or quality of the validation."""
        ends = self.sigma or self.quality
        return sum(ends) / 2 if ends and self.validate_at is None else self.validate_at


@dataclass(frozen=True, config=CHECKS)
class TeacherSettings(Table):
    """Distillation: what the network learns are the pictures another model makes of the inputs."""

    file: ModelPath | None = None
    """The teacher: a SwinIR, or a model of any architecture that spandrel reads, of the task's
    scale and channels. Without it the photographs are what the network learns."""

    photograph: Share = 0.0
    """Weight of the photograph in the wanted output; the teacher's picture has the rest."""

    untouched: Share = 0.0
    """Share of the crops that are pieces of the photographs as they are, not damaged, of which the
    teacher's picture is the only truth."""

    keep_means: StrictBool = False
    """Give each channel of the teacher's picture the mean it has in the input."""

    crops: Count = 4
    """Crops of each photograph, each damaged in its own way."""

    crop: Count = 80
    """Side of a crop in pixels of the network's input."""

    pictures: FilePath | None = None
    """Folder in which the teacher's pictures are kept for this run and later ones. Default:
    ``teacher_pictures`` beside the folder of the run."""

    at_most_gib: Positive = 8.0
    """Space that the pictures may take, in GiB. A run that needs more says so and makes none."""


@dataclass(frozen=True, config=CHECKS)
class LossSettings(Table):
    """The loss: pixel + means_weight * means + gradient_weight * gradient
    + texture_weight * texture + plain_weight * plain + perceptual_weight * perceptual
    + gan_weight * GAN."""

    pixel: Annotated[Text, _choice("l1", "charbonnier")] = "l1"
    epsilon: Positive = 1e-3
    """Epsilon of the Charbonnier loss."""

    means_weight: NotNegative = 0.0
    gradient_weight: NotNegative = 0.0
    texture_weight: NotNegative = 0.0
    plain_weight: NotNegative = 0.0
    perceptual_weight: NotNegative = 0.0
    gan_weight: NotNegative = 0.0

    critic: Annotated[Text, _choice("unet", "patch")] = "unet"
    """The discriminator: the U-Net of Real-ESRGAN, or a small one that judges patches."""

    critic_features: Count = 64
    """Channels of the discriminator at full size."""

    critic_rate: Positive = 1.0
    """Learning rate of the discriminator, as a multiple of the network's."""

    vgg19: FilePath | None = None
    """File of torchvision's VGG19 weights for the perceptual loss. Default: torchvision's cache."""


@dataclass(frozen=True, config=CHECKS)
class ScheduleSettings(Table):
    """The optimizer, how long, and how fast. No weight decay, as in the paper."""

    steps: Count
    """Length of the whole run, steps before a resumption included."""

    learning_rate: Positive = 2e-4
    """The highest rate, reached after the warm-up."""

    warm_up: CountOrZero = 0
    """Steps over which the learning rate rises from nothing."""

    decay: Annotated[Text, _choice("halving", "cosine")] = "halving"
    halve_at: tuple[Count, ...] = ()
    """Steps at which ``halving`` halves the learning rate."""

    optimizer: Annotated[Text, _choice("adam", "muon")] = "adam"
    """``muon`` moves the matrices inside the network by Muon, all else by Adam."""

    betas: tuple[Fraction, Fraction] = (0.9, 0.99)
    """Of Adam, that of the discriminator too."""

    ema: Fraction = 0.999
    """Decay of the running average of the weights."""

    drop_path: Fraction = 0.0
    """Highest rate of stochastic depth, reached in the last layer."""

    clip_norm: Positive | None = None
    """Largest norm of the gradient; a longer one is scaled down to it. Default: no limit."""

    def __post_init__(self) -> None:
        if self.decay == "cosine" and self.halve_at:
            raise self.fault("halve_at", 'decay = "cosine" does not halve; leave one of them out')
        if list(self.halve_at) != sorted(set(self.halve_at)):
            raise self.fault("halve_at", "must be growing numbers of steps")
        if max(self.halve_at, default=0) > self.steps:
            raise self.fault("halve_at", f"the run ends earlier, at steps = {self.steps}")
        if self.warm_up >= self.steps:
            raise self.fault("warm_up", f"must end before the run, at steps = {self.steps}")

    def stretched_to(self, steps: int) -> dict[str, Any]:
        """Scale the schedule to a run of another length. The values are not checked yet."""
        factor = steps / self.steps
        return dataclasses.asdict(self) | {
            "steps": steps,
            "warm_up": min(round(self.warm_up * factor), steps - 1),
            "halve_at": sorted({max(round(at * factor), 1) for at in self.halve_at}),
        }


@dataclass(frozen=True, config=CHECKS)
class RunSettings(Table):
    """Folder of the run, start, device, and what is reported when."""

    out: FilePath = Path("runs")
    """Folder for weights, state, log, curves and samples."""

    start_from: ModelPath | None = None
    """Checkpoint file or bundled model whose fitting weights are taken over."""

    seed: Annotated[CountOrZero, Field(lt=2**63)] = 0
    device: Annotated[Text, _choice("auto", "cpu")] = "auto"
    precision: Annotated[Text, _choice("auto", "float32", "bfloat16", "float16")] = "auto"
    log_every: Count = 100
    """Steps between lines of the log."""

    validate_every: Count = 2000
    """Steps between validations; the end of the run is always validated."""

    save_minutes: NotNegative = 5.0
    """Minutes between saves; every validation and the end of the run is saved too."""

    samples: CountOrZero = 4
    """Validation images shown in each picture of samples."""


@dataclass(frozen=True, config=CHECKS)
class TrainConfig:
    """A whole run: every table, and the checks across them."""

    task: TaskSettings
    data: DataSettings
    schedule: ScheduleSettings
    network: NetworkSettings = field(default_factory=NetworkSettings)
    degradation: DegradationSettings = field(default_factory=DegradationSettings)
    teacher: TeacherSettings = field(default_factory=TeacherSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    run: RunSettings = field(default_factory=RunSettings)

    def __post_init__(self) -> None:
        self._check_degradation()
        self._check_teacher()
        self._check_inputs()
        task, loss, run = self.task, self.loss, self.run
        if task.name == "real_sr" and task.gray:
            raise task.fault("gray", "real-world degradation is made for colour; leave it out")
        if loss.vgg19 and not loss.perceptual_weight:
            raise loss.fault("vgg19", "is not used without a perceptual_weight")
        for key in ("critic", "critic_features", "critic_rate"):
            if getattr(loss, key) != getattr(LossSettings, key) and not loss.gan_weight:
                raise loss.fault(key, "is not used without a gan_weight")
        if loss.pixel == "l1" and loss.epsilon != LossSettings.epsilon:
            raise loss.fault("epsilon", 'is not used by pixel = "l1"')
        if run.device == "cpu" and run.precision == "float16":
            raise run.fault("precision", "a CPU trains in float32 or bfloat16")
        if not self.data.train:
            raise SettingError("data", "train", None, "is missing; name folders, or use --data")

    def _check_degradation(self) -> None:
        task, given = self.task.name, self.degradation
        needed = {"denoise": "sigma", "jpeg": "quality"}.get(task.split("_")[-1])
        if self.data.low:
            needed = None
            for key in ("sigma", "quality", "validate_at"):
                if getattr(given, key) is not None:
                    raise given.fault(key, "inputs are given by low; leave it out")
        for key in ("sigma", "quality"):
            if key == needed and getattr(given, key) is None:
                raise given.fault(key, f"is missing, and {task} is trained for it")
            if key != needed and getattr(given, key) is not None:
                raise given.fault(key, f"is not used by {task}; leave it out")
        if needed is None and given.validate_at is not None:
            raise given.fault("validate_at", f"is not used by {task}; leave it out")

    def _check_inputs(self) -> None:
        data = self.data
        if data.low and len(data.low) != len(data.train):
            raise data.fault("low", f"needs as many folders as train, {len(data.train)}")
        if bool(data.low and data.validate) != bool(data.validate_low):
            raise data.fault("validate_low", "goes with low and validate: all three or low alone")

    def _check_teacher(self) -> None:
        data, given = self.data, self.teacher
        if data.flat + data.gray > 1:
            raise data.fault("gray", f"together with flat = {data.flat} it is more than 1")
        if data.gray and self.task.channels == 1:
            raise data.fault("gray", "the network takes gray images only; leave it out")
        if given.file is None:
            for item in dataclasses.fields(TeacherSettings):
                if getattr(given, item.name) != item.default:
                    raise given.fault(
                        item.name, "needs a teacher; name one by file here, or by --teacher"
                    )
        elif given.crop < data.patch:
            raise given.fault("crop", f"must be at least as large as patch = {data.patch}")
        elif given.untouched == 1 and given.photograph:
            raise given.fault("photograph", "is not used with untouched = 1; leave it out")

    def to_toml(self) -> str:
        """Format the configuration as a file, with absolute paths and without ``None``."""
        lines = []
        for name, values in CONFIG.dump_python(self, exclude_none=True).items():
            lines += [f"[{name}]", *(f"{key} = {as_toml(values[key])}" for key in values), ""]
        return "\n".join(lines)


CONFIG = pydantic.TypeAdapter(TrainConfig)
"""Checks and writes a ``TrainConfig``; the context is the folder of relative paths."""
