"""Models of other architectures, as spandrel loads them."""

from __future__ import annotations

import logging
import math
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from ..devices import is_out_of_memory, trim_heaps
from ..reports import Report, to_nobody
from ..threads import share_calls
from .overlap import pattern
from .peak_memory import Convolution, PeakMemory, count_memory

if TYPE_CHECKING:
    from spandrel import ImageModelDescriptor

_BYTES_PER_VALUE = 384
"""Times the input's values and the scale: what ComfyUI reserves for any upscale model."""

_MARGIN = 1.1
"""Times what was counted of small images, and on a CPU ``_KEPT`` besides: what a process grows by.
"""

_KEPT = 32 * 2**20
"""Bytes that libraries keep for themselves."""

_HEAP = 1.35
_MAPPED = 32 * 2**20
"""Times the bytes of tensors that lie on the heap of a CPU, which leaves gaps; the system maps
larger ones than these bytes by themselves."""

_MEASURED_SIDES = (32, 80, 128)
"""Sides of the images on which memory is measured, as many as there is time for. Not 64: for that
size many networks have masks that they were built with, and make them anew for all others."""

_STRIP_PRODUCTS = 2**32
"""Products of numbers in a strip of a convolution on a CPU: about a tenth of a second on one core,
and enough to keep many of them at work."""

_MEASURED_SECONDS = 2
_MEASURED_PART = 0.1
"""Seconds, or part of the run, that measuring takes at most, whichever is more."""


@dataclass
class _Measured:
    """Results of running a model on a small image, on one device in one type."""

    steps: int
    """Operations of one call, of which larger images take about as many."""

    tensors: list[float]
    """Bytes of each tensor alive where they take most, for a pixel of the image."""

    convolutions: list[_Convolution]
    keeps_state: bool
    """True where the call changed the model, so that two calls at once would disturb each other."""

    def bytes_for(self, pixels: int, heap: float) -> float:
        """Bytes that an image takes, with the copies that convolutions make, and ``heap`` times
        those of tensors on the heap."""
        tensors = (each * pixels for each in self.tensors)
        alive = sum(each * heap if each < _MAPPED else each for each in tensors)
        return max(alive, *(each.bytes_for(pixels) for each in self.convolutions), 0)


@dataclass
class _Convolution:
    """Memory of a convolution, in bytes for a pixel of the image."""

    alive: float
    """Of all tensors alive with it, input and output among them."""

    given: float
    made: float
    at_once: float
    """Pixels of the image that are computed at once, in a strip of larger ones."""

    @classmethod
    def of(cls, noted: Convolution, pixels: int, device: torch.device) -> _Convolution:
        """Take what was noted in a run on an image of ``pixels``."""
        at_once = _STRIP_PRODUCTS * pixels / noted.products if device.type == "cpu" else math.inf
        return cls(noted.alive / pixels, noted.given / pixels, noted.made / pixels, at_once)

    def bytes_for(self, pixels: int) -> float:
        """Bytes alive with the copies of input and output in the layout that kernels want: of the
        larger one, or of both in strips, which are cut and put together besides."""
        if pixels <= self.at_once:
            return (self.alive + max(self.given, self.made)) * pixels
        return self.alive * pixels + 2 * (self.given + self.made) * self.at_once


_measured: WeakKeyDictionary[nn.Module, dict[tuple[torch.device, torch.dtype], _Measured]] = (
    WeakKeyDictionary()
)
"""Kept for as long as a model is, however often it is wrapped."""

_CASTING = ("cpu", "cuda", "mps", "xpu")
"""Devices that PyTorch casts for; it would claim to for DirectML's as well."""

_overflowing: WeakSet[nn.Module] = WeakSet()
"""Models whose numbers float16 was found not to hold."""

_log = logging.getLogger(__name__)


class ForeignModel:
    """An ``ImageModel`` that calls a spandrel descriptor of any architecture.

    Nothing is known of its layers. So its memory is measured before tiles are planned, and it
    reports after every operation of PyTorch's, within large convolutions as well. The descriptor
    itself pads to the sizes it needs, and is given single images: on a CPU one to each thread, for
    operators that threads share wait for the slowest of them.

    The weights, which others may use too, stay as they are: in half precision PyTorch casts them
    as it goes (``torch.autocast``). Where float16 does not hold the numbers of a model it is run in
    float32 from then on.
    """

    tile_pixels = 512**2
    """As in ComfyUI's own node: larger tiles would compute a tenth fewer pixels at most, and take
    more memory and longer to stop."""

    def __init__(self, descriptor: ImageModelDescriptor) -> None:
        """Raises ``ValueError`` unless the model turns gray into gray or RGB into RGB, whatever is
        in the picture."""
        channels = (descriptor.input_channels, descriptor.output_channels)
        if channels not in ((1, 1), (3, 3)):
            raise ValueError(
                f"this {descriptor.architecture.name} model turns {channels[0]} channels into "
                f"{channels[1]}; only models for gray (1) or RGB (3) images can be run."
            )
        if descriptor.purpose == "FaceSR":
            raise ValueError(
                f"this {descriptor.architecture.name} model restores single faces, cut out and "
                "aligned; only models for pictures of anything can be run."
            )
        self.descriptor = descriptor
        self.scale = descriptor.scale
        self.in_channels = descriptor.input_channels
        self.alignment = descriptor.size_requirements.multiple_of

    def half_types(self, device: torch.device, /) -> tuple[torch.dtype, ...]:
        """List what the architecture allows. float16 comes first: it is finer by three bits."""
        if device.type not in _CASTING:
            return ()
        supported = {
            torch.float16: self.descriptor.supports_half,
            torch.bfloat16: self.descriptor.supports_bfloat16,
        }
        return tuple(dtype for dtype in supported if supported[dtype])

    def measure(
        self, dtype: torch.dtype, device: torch.device, pixels: int, report: Report, /
    ) -> bool:
        """Run the model on images of growing size and keep what memory they take."""
        dtype, model = self._used(dtype), self.descriptor.model
        known = _measured.setdefault(model, {})
        if (device, dtype) in known:
            return False
        spent, before, keeps_state = 0.0, _State(model), False
        measured = None  # Not kept before the end, for what was stopped is to be measured again.
        for side, following in zip(_MEASURED_SIDES, (*_MEASURED_SIDES[1:], math.inf), strict=True):
            started = time.monotonic()
            size = self._padded(side, side)
            x = pattern(self.in_channels, max(size)).to(device, dtype)
            steps, counter = _Steps(report, whole=True), PeakMemory()
            try:
                memory, _ = count_memory(partial(self._run, x, steps), device, counter)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                break
            seconds, area = time.monotonic() - started, size[0] * size[1]
            noted = counter.convolutions.values()
            tensors = [each / area for each in counter.at_peak or [memory]]
            keeps_state = keeps_state or before != _State(model)
            convolutions = [_Convolution.of(each, area, device) for each in noted]
            measured = _Measured(steps.count, tensors, convolutions, keeps_state)
            # A first call also takes the time to get ready, so that no more is tried than pays.
            spent += seconds
            allowed = max(_MEASURED_SECONDS, _MEASURED_PART * seconds * pixels / area)
            if spent + seconds * following**2 / area > allowed:
                break
        if measured is not None:
            known[device, dtype] = measured
        if self._used(dtype) != dtype:
            self.measure(self._used(dtype), device, pixels, report)
        return True

    def estimate_memory(
        self, height: int, width: int, dtype: torch.dtype, device: torch.device, batch: int = 1
    ) -> int:
        """Estimate bytes from what was measured; before that by ComfyUI's rule, which knows the
        size of the input and the scale."""
        pixels = math.prod(self._padded(height, width))
        if measured := self._measured(dtype, device):
            heap, kept = (_HEAP, _KEPT) if device.type == "cpu" else (1, 0)
            if batch > 1:  # Their results are put together.
                kept += batch * pixels * self.in_channels * self.scale**2 * dtype.itemsize
            return int(_MARGIN * batch * measured.bytes_for(pixels, heap)) + kept
        return batch * pixels * 3 * self._used(dtype).itemsize * self.scale * _BYTES_PER_VALUE

    def at_once(
        self, _: int, count: int, dtype: torch.dtype, device: torch.device, wanted: int | None
    ) -> int:
        """Find how many images are run side by side, none of the threads being left over.

        None are where a call may disturb another, through what it changes of the model or through
        the hook that looks for overflows of float16.
        """
        measured = self._measured(dtype, device)
        disturbing = measured is None or measured.keeps_state or self._used(dtype) == torch.float16
        if device.type != "cpu" or disturbing:
            return 1
        threads = torch.get_num_threads()
        most = max(min(wanted or threads, threads, count), 1)
        return max(number for number in range(1, most + 1) if threads % number == 0)

    def wrapping(self, *_: object) -> None:
        """Return no call: what lies beyond the edges of an architecture is not known."""

    def reusing_plans(self) -> AbstractContextManager[None]:
        return nullcontext()

    def __call__(self, x: Tensor, report: Report = to_nobody, /) -> Tensor:
        """Restore (B, C, H, W) to (B, C, scale * H, scale * W) in 0..1."""
        measured = self._measured(x.dtype, x.device)
        expected = measured.steps if measured else None
        if len(x) == 1:
            return self._run(x, _Steps(report, expected))
        size = (self.scale * side for side in x.shape[2:])
        out = x.new_empty(*x.shape[:2], *size, dtype=self._used(x.dtype))

        def restore(image: Tensor, result: Tensor, report: Report) -> None:
            result.copy_(self._run(image, _Steps(report, expected)))

        images = zip(x.split(1), out.split(1), strict=True)
        try:
            share_calls([partial(restore, *image) for image in images], report)
        finally:
            trim_heaps()
        return out

    def _measured(self, dtype: torch.dtype, device: torch.device) -> _Measured | None:
        """Results of measuring runs on inputs of ``dtype``, if there are any yet."""
        return _measured.get(self.descriptor.model, {}).get((device, self._used(dtype)))

    def _used(self, dtype: torch.dtype) -> torch.dtype:
        """The type that inputs of ``dtype`` are run in, which for half weights is theirs."""
        if dtype == torch.float16 and self.descriptor.model in _overflowing:
            dtype = torch.float32
        weights = self._weights_type(dtype)
        half = weights in (torch.float16, torch.bfloat16)
        return weights if dtype == torch.float32 and half else dtype

    def _weights_type(self, default: torch.dtype) -> torch.dtype:
        """The type of the first weight; ``default`` where there is none."""
        return next((each.dtype for each in self.descriptor.model.parameters()), default)

    def _run(self, x: Tensor, steps: _Steps) -> Tensor:
        """Run in the type of ``x``, or in float32 where float16 does not hold the numbers."""
        model, dtype = self.descriptor.model, self._used(x.dtype)
        if dtype != torch.float16:
            return self._run_in(dtype, x, steps)
        overflows: list[bool] = []
        # Before the descriptor clamps the result, which would make infinite pixels white.
        hook = model.register_forward_hook(
            # Of some architectures the network gives more than the picture.
            lambda *call: overflows.extend(not it.isfinite().all() for it in tree_leaves(call[-1]))
        )
        try:
            result = self._run_in(dtype, x, steps)
        finally:
            hook.remove()
        if not any(overflows):
            return result
        del result
        _overflowing.add(model)
        name = self.descriptor.architecture.name
        _log.warning("This %s model overflows float16 and is run in float32 from now on.", name)
        return self._run_in(torch.float32, x, steps)

    def _run_in(self, dtype: torch.dtype, x: Tensor, steps: _Steps) -> Tensor:
        half = nullcontext()
        if dtype in (torch.float16, torch.bfloat16):
            # A cache of cast weights would hold memory that nobody counts.
            half = torch.autocast(x.device.type, dtype, cache_enabled=False)
        with half, steps:
            # Many networks cast their mean to the type of their input for good, which is therefore
            # that of the weights; others write to it, which may be an image or be expanded.
            result = self.descriptor(x.to(self._weights_type(dtype), copy=True))
        # Descriptors run in inference mode, outside of which their results may not be overwritten.
        return result.to(dtype, copy=not torch.is_inference_mode_enabled())

    def _padded(self, height: int, width: int) -> tuple[int, int]:
        """The size to which the descriptor pads an image."""
        right, bottom = self.descriptor.size_requirements.get_padding(width, height)
        return height + bottom, width + right


class _State:
    """All that the modules of a model hold, to tell whether something of it was changed since.

    Equal where they hold the same objects, in lists and dictionaries as well, and the tensors were
    not written to.
    """

    def __init__(self, model: nn.Module) -> None:
        self.objects: list[object] = []
        """Held, so that no other object takes the place of one in memory."""

        self.marks: list[int] = []
        for module in model.modules():
            # Descriptors put their model into evaluation mode as they are called.
            self._add({name: it for name, it in vars(module).items() if name != "training"})

    def _add(self, held: object) -> None:
        if isinstance(held, (dict, list, tuple)):
            for each in held.values() if isinstance(held, dict) else held:
                self._add(each)
            return
        self.objects.append(held)
        self.marks.append(id(held))
        if isinstance(held, Tensor) and not held.is_inference():
            self.marks.append(held._version)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _State) and self.marks == other.marks


class _Steps(TorchFunctionMode):
    """Count and report of the operations of one call, in this thread only.

    A large convolution on a CPU, which would take seconds, is computed and reported strip by strip,
    with the same result to the last bit; with ``whole`` it is not.
    """

    def __init__(self, report: Report, expected: int | None = None, whole: bool = False) -> None:
        super().__init__()
        self.report = report
        self.expected = expected
        self.whole = whole
        self.count = 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        if func is torch.conv2d and not self.whole:
            result = self._convolve(*args, **(kwargs or {}))
        elif func in (torch.randn, torch.randn_like):
            result = _draw(func, *args, **(kwargs or {}))
        elif func is torch.einsum:
            result = func(*tree_map(_as_autocast, args), **(kwargs or {}))
        else:
            result = func(*args, **(kwargs or {}))
        self.count += 1
        self._tell()
        return result

    def _tell(self) -> None:
        self.report(min(self.count / self.expected, 1) if self.expected else 0)

    def _convolve(
        self,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: int | tuple[int, ...] = 1,
        padding: int | tuple[int, ...] | str = 0,
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
    ) -> Tensor:
        """``torch.conv2d``, by strips of rows where it is large."""
        rows = _STRIP_PRODUCTS // (weight.numel() * input.shape[-1])
        length = input.shape[-2]
        if rows >= length or isinstance(padding, str) or input.device.type != "cpu":
            return torch.conv2d(input, weight, bias, stride, padding, dilation, groups)
        (step, _), (above, beside), (apart, _) = map(_pair, (stride, padding, dilation))
        seen = apart * (weight.shape[-2] - 1) + 1
        height = (length + 2 * above - seen) // step + 1
        result = input.new_empty(0)
        for top in range(0, height, max(rows, 1)):
            bottom = min(top + max(rows, 1), height)
            first, last = top * step - above, (bottom - 1) * step - above + seen
            strip = input[..., max(first, 0) : last, :]
            strip = F.pad(strip, (0, 0, max(-first, 0), max(last - length, 0)))
            part = torch.conv2d(strip, weight, bias, stride, (0, beside), dilation, groups)
            if top == 0:
                result = part.new_empty(*part.shape[:-2], height, part.shape[-1])
            result[..., top:bottom, :] = part
            self._tell()
        return result


def _draw(func: Any, *given: Any, **options: Any) -> Tensor:
    """``torch.randn`` or ``torch.randn_like``, with the same numbers in every call, or tiles of a
    picture would differ in style."""
    if func is torch.randn_like:
        like = given[0]
        given, options = (like.shape,), {"dtype": like.dtype, "device": like.device, **options}
    device = options.get("device") or "cpu"
    return torch.randn(*given, **options | {"generator": torch.Generator(device).manual_seed(0)})


def _as_autocast(given: Any) -> Any:
    """Cast what autocast would. It casts for the products of an ``einsum``, not before, where a
    counter of memory sees it whole and has them of mixed types."""
    if not isinstance(given, Tensor) or not torch.is_autocast_enabled(given.device.type):
        return given
    return given.to(torch.get_autocast_dtype(given.device.type))


def _pair(value: int | tuple[int, ...]) -> tuple[int, ...]:
    """The numbers for height and width, of which convolutions take one where they are equal."""
    return (value, value) if isinstance(value, int) else (*value, *value)[:2]
