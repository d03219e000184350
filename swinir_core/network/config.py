"""Every hyper-parameter of a SwinIR, checked, and the official configurations.

Names follow the reference implementation (https://github.com/JingyunLiang/SwinIR); the paper's
term is given where it differs (arXiv 2108.10257, section 4.1).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

UPSAMPLER_OF_TASK = {
    "classical_sr": "pixelshuffle",
    "lightweight_sr": "pixelshuffledirect",
    "real_sr": "nearest+conv",
    "gray_denoise": "none",
    "color_denoise": "none",
    "gray_jpeg": "none",
    "color_jpeg": "none",
}
"""Reconstruction module of each task; ``none`` where the network does not enlarge."""

TASKS = tuple(UPSAMPLER_OF_TASK)
UPSAMPLERS = tuple(dict.fromkeys(UPSAMPLER_OF_TASK.values()))
RESI_CONNECTIONS = ("1conv", "3conv")
DIV2K_MEAN = (0.4488, 0.4371, 0.4040)

_WHOLE_NUMBERS = (
    *("scale", "in_channels", "embed_dim", "window_size"),
    *("img_size", "start_unshuffle", "num_feat"),
)


class _DerivedText(str):
    """A task that follows from the other fields, and is derived anew in every copy."""

    __slots__ = ()


class _DerivedNumbers(tuple[float, ...]):
    """A mean that follows from the other fields, and is derived anew in every copy."""

    __slots__ = ()


@dataclass(frozen=True)
class SwinIRConfig:
    """The shape of one network. Wrong or contradictory values raise ``ValueError``."""

    scale: int
    """Output pixels per input pixel along one side; 1 for denoising and JPEG artefacts."""

    in_channels: int
    """Image channels, in and out: 1 (gray) or 3 (RGB)."""

    embed_dim: int
    """Channels of the deep features ("channel number" in the paper)."""

    depths: tuple[int, ...]
    """Swin transformer layers (STL) in each residual Swin transformer block (RSTB)."""

    num_heads: tuple[int, ...]
    """Attention heads of the layers in each RSTB; each divides ``embed_dim``."""

    window_size: int
    """Side of an attention window, in feature pixels."""

    mlp_ratio: float
    """Hidden channels of an MLP over ``embed_dim``."""

    upsampler: str
    """Reconstruction module: pixelshuffle, pixelshuffledirect, nearest+conv or none."""

    resi_connection: str = "1conv"
    """Convolution before each residual connection: 1conv, or the cheaper 3conv bottleneck."""

    img_range: float = 1.0
    """Pixel values 0..1 are multiplied by this before the network; 255 in the JPEG models."""

    qkv_bias: bool = True
    """Query, key and value projections have a bias."""

    patch_norm: bool = True
    """The shallow features are normalised before the first RSTB."""

    ape: bool = False
    """An absolute position embedding is added before the first RSTB."""

    img_size: int = 64
    """Side of a training patch in feature pixels, and of the absolute position embedding. A network
    trained on patches of a single window never shifts its windows."""

    start_unshuffle: int = 1
    """The input is pixel-unshuffled by this factor first, so the body runs at lower resolution."""

    num_feat: int = 64
    """Channels of the pixelshuffle and nearest+conv reconstruction modules."""

    mean: tuple[float, ...] | None = None
    """Subtracted from the image. ``None``: the DIV2K mean for RGB, zero for gray. That, or the same
    given, is derived anew where ``dataclasses.replace`` changes the channels."""

    task: str = ""
    """One of ``TASKS``. Empty: inferred from the upsampler, the channels, the window and the range.
    That, or the same given, is inferred anew where ``dataclasses.replace`` changes these."""

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        default_mean = DIV2K_MEAN if self.in_channels == 3 else (0.0,)
        mean = default_mean if isinstance(self.mean, _DerivedNumbers | None) else self.mean
        set_field(self, "mean", mean)
        for name in ("depths", "num_heads", "mean"):
            if not isinstance(getattr(self, name), (tuple, list)):
                raise ValueError(f"{name} must be a list, got {getattr(self, name)!r}")
            set_field(self, name, tuple(getattr(self, name)))
        if self.mean == default_mean:
            set_field(self, "mean", _DerivedNumbers(default_mean))
        _check_types(self)
        _check_architecture(self)
        _check_upsampler(self)
        inferred = _infer_task(self)
        if isinstance(self.task, _DerivedText) or self.task in ("", inferred):
            set_field(self, "task", _DerivedText(inferred))
        if UPSAMPLER_OF_TASK.get(self.task) != self.upsampler:
            fitting = [task for task in TASKS if UPSAMPLER_OF_TASK[task] == self.upsampler]
            raise ValueError(
                f"task {self.task!r} does not fit upsampler {self.upsampler!r}; "
                f"possible: {', '.join(fitting)}"
            )

    @property
    def upscale(self) -> int:
        """Factor of the reconstruction module: ``scale`` times that of the unshuffling."""
        return self.scale * self.start_unshuffle

    @property
    def hidden_dim(self) -> int:
        """Hidden channels of every MLP."""
        return int(self.embed_dim * self.mlp_ratio + 1e-6)

    @property
    def alignment(self) -> int:
        """Input pixels per window side: sizes that are multiples of this need no padding."""
        return self.window_size * self.start_unshuffle

    @property
    def conv_margin(self) -> int:
        """Feature pixels beyond each that the convolution before a residual connection sees."""
        return 2 if self.resi_connection == "3conv" else 1

    @property
    def head_margin(self) -> int:
        """Feature pixels beyond each that the reconstruction sees: one for every convolution at
        feature resolution, of which there are two at most, and less than one for all later ones
        together."""
        return 3 if self.upsampler in ("pixelshuffle", "nearest+conv") else 1

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain values, for a JSON header."""
        assert self.mean is not None
        return {**asdict(self), "mean": tuple(self.mean), "task": str(self.task)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> SwinIRConfig:
        """Build a configuration from what ``to_dict`` returned.

        Raises ``ValueError`` for unknown or missing names and for wrong values.
        """
        unknown = values.keys() - {field.name for field in fields(cls)}
        if unknown:
            raise ValueError(f"unknown hyper-parameters: {', '.join(sorted(unknown))}")
        try:
            return cls(**values)
        except TypeError as error:
            raise ValueError(f"incomplete or ill-typed hyper-parameters: {error}") from error


def _check_types(config: SwinIRConfig) -> None:
    for name in _WHOLE_NUMBERS:
        _check_whole(name, getattr(config, name))
    for name in ("depths", "num_heads"):
        for i, value in enumerate(getattr(config, name)):
            _check_whole(f"{name}[{i}]", value)
    for name in ("mlp_ratio", "img_range"):
        value = getattr(config, name)
        if type(value) not in (int, float) or not 0 < value < 1e6:
            raise ValueError(f"{name} must be a positive number, got {value!r}")
    for name in ("qkv_bias", "patch_norm", "ape"):
        if type(getattr(config, name)) is not bool:
            raise ValueError(f"{name} must be true or false, got {getattr(config, name)!r}")


def _check_whole(name: str, value: Any) -> None:
    if type(value) is not int or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")


def _check_architecture(config: SwinIRConfig) -> None:
    c = config
    assert c.mean is not None
    if c.in_channels not in (1, 3):
        raise ValueError(f"in_channels must be 1 or 3, got {c.in_channels}")
    if len(c.mean) != c.in_channels:
        raise ValueError(f"mean has {len(c.mean)} values for {c.in_channels} channels")
    if not all(type(value) in (int, float) and abs(value) < 1e6 for value in c.mean):
        raise ValueError(f"mean must be numbers, got {c.mean}")
    if not c.depths or len(c.depths) != len(c.num_heads):
        raise ValueError(
            f"depths {c.depths} and num_heads {c.num_heads} must be equally long, one value an RSTB"
        )
    for heads in c.num_heads:
        if c.embed_dim % heads:
            raise ValueError(f"embed_dim {c.embed_dim} is not divisible by num_heads {heads}")
    if c.hidden_dim < 1:
        raise ValueError(f"mlp_ratio {c.mlp_ratio} leaves no hidden channel of {c.embed_dim}")
    if c.img_size < c.window_size:
        raise ValueError(f"img_size {c.img_size} is smaller than window_size {c.window_size}")
    if c.resi_connection not in RESI_CONNECTIONS:
        raise ValueError(
            f"resi_connection must be one of {RESI_CONNECTIONS}, got {c.resi_connection!r}"
        )
    if c.resi_connection == "3conv" and c.embed_dim < 4:
        raise ValueError(f"3conv needs an embed_dim of at least 4, got {c.embed_dim}")


def _check_upsampler(config: SwinIRConfig) -> None:
    upsampler, upscale = config.upsampler, config.upscale
    if upsampler not in UPSAMPLERS:
        raise ValueError(f"upsampler must be one of {UPSAMPLERS}, got {upsampler!r}")
    if upsampler == "none" and upscale != 1:
        raise ValueError(f"upsampler 'none' cannot reach scale {config.scale} and unshuffle "
                         f"{config.start_unshuffle}; both must be 1")  # fmt: skip
    power_of_two = upscale > 1 and upscale & (upscale - 1) == 0
    if upsampler == "pixelshuffle" and not (power_of_two or upscale == 3):
        raise ValueError(f"upsampler 'pixelshuffle' enlarges by 3 or a power of 2, not {upscale}")
    if upsampler == "nearest+conv" and upscale not in (2, 4, 8):
        raise ValueError(f"upsampler 'nearest+conv' enlarges by 2, 4 or 8, not {upscale}")


def _infer_task(config: SwinIRConfig) -> str:
    if config.upsampler != "none":
        return next(t for t in TASKS if UPSAMPLER_OF_TASK[t] == config.upsampler)
    color = "gray" if config.in_channels == 1 else "color"
    # Of the official models exactly the JPEG ones have window 7 and range 255, so that windows
    # do not coincide with the 8x8 blocks of the format.
    return f"{color}_{'jpeg' if config.window_size == 7 or config.img_range == 255 else 'denoise'}"


_MEDIUM = {"embed_dim": 180, "depths": (6,) * 6, "num_heads": (6,) * 6, "window_size": 8}
_LIGHT = {"embed_dim": 60, "depths": (6,) * 4, "num_heads": (6,) * 4}
_LARGE = {"embed_dim": 240, "depths": (6,) * 9, "num_heads": (8,) * 9, "resi_connection": "3conv"}
_JPEG = {"window_size": 7, "img_range": 255.0, "img_size": 126}


def _official(task: str, scale: int = 1, **values: Any) -> SwinIRConfig:
    in_channels = 1 if task.startswith("gray") else 3
    hyper_parameters: dict[str, Any] = {**_MEDIUM, "upsampler": UPSAMPLER_OF_TASK[task], **values}
    return SwinIRConfig(scale, in_channels, mlp_ratio=2.0, task=task, **hyper_parameters)


PRESETS: dict[str, SwinIRConfig] = {
    **{f"classical_sr_x{s}": _official("classical_sr", s) for s in (2, 3, 4, 8)},
    **{f"lightweight_sr_x{s}": _official("lightweight_sr", s, **_LIGHT) for s in (2, 3, 4)},
    **{f"real_sr_x{s}": _official("real_sr", s) for s in (2, 4)},
    "real_sr_large_x4": _official("real_sr", 4, **_LARGE),
    "gray_denoise": _official("gray_denoise", img_size=128),
    "color_denoise": _official("color_denoise", img_size=128),
    "gray_jpeg": _official("gray_jpeg", **_JPEG),
    "color_jpeg": _official("color_jpeg", **_JPEG),
}
"""The official configurations (``main_test_swinir.py:define_model`` of the reference)."""
