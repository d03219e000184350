"""Memory that runs out, at every step: what is finished is kept, the rest is run smaller."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable

import pytest
import torch
from skimage import data
from torch import Tensor, nn

from swinir_core import Restorer, SwinIR, SwinIRConfig, TileSettings
from swinir_core.network import swinir
from swinir_core.restoration import execution
from swinir_core.restoration.execution import release_cached_memory
from tests.support.models import PretendModel
from tests.support.reference import network

CONFIG = SwinIRConfig(
    scale=2,
    in_channels=3,
    embed_dim=8,
    depths=(2,),
    num_heads=(2,),
    window_size=8,
    mlp_ratio=2.0,
    upsampler="pixelshuffledirect",
)
ERRORS = {
    "CUDA": torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "cuBLAS": RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"),
    "MPS": RuntimeError("MPS backend out of memory (MPS allocated: 9 GB, max allowed: 9.07 GB)"),
    "CPU": RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"),
    "Python": MemoryError(),
}
CUDA = ERRORS["CUDA"]


class Limited(SwinIR):
    """A network on a device that holds no more than so many pixels, and fails when told to."""

    def __init__(
        self,
        most_pixels: float = float("inf"),
        error: Exception = CUDA,
        fails: Callable[[int], bool] = lambda call: False,
    ) -> None:
        super().__init__(CONFIG)
        self.load_state_dict(network(CONFIG).state_dict())
        self.eval().requires_grad_(False)
        self.most_pixels = most_pixels
        self.error = error
        self.fails = fails
        self.sizes: list[tuple[int, int, int]] = []
        """(tiles, height, width) of every call."""

    def estimate_memory(
        self, height: int, width: int, dtype: torch.dtype, device: torch.device, batch: int = 1
    ) -> int:
        return 0

    def forward(self, x: Tensor, *_: object) -> Tensor:
        count, height, width = len(x), *x.shape[-2:]
        self.sizes.append((count, height, width))
        if self.fails(len(self.sizes) - 1) or self.too_large(self.sizes[-1]):
            raise copy.copy(self.error)  # A new one: the old keeps a traceback and what is in it.
        return super().forward(x)

    def too_large(self, size: tuple[int, int, int]) -> bool:
        return pixels(size) > self.most_pixels


def pixels(size: tuple[int, int, int]) -> int:
    return size[0] * size[1] * size[2]


def photograph(height: int, width: int) -> Tensor:
    return torch.from_numpy(data.astronaut()[100 : 100 + height, 150 : 150 + width]).float() / 255


@pytest.mark.parametrize("name", ERRORS)
def test_each_size_fails_once_and_what_fits_is_remembered(name: str) -> None:
    image = photograph(64, 56)
    images = torch.stack([image, image.flip(1), image.flip(0)])
    model = Limited(most_pixels=1500, error=ERRORS[name])
    result = Restorer(model)(images, TileSettings(overlap=16))
    failed = [(2, 64, 56), (1, 64, 56), (1, 32, 56)]
    assert model.sizes[:3] == failed
    assert not any(model.too_large(size) for size in model.sizes[3:])
    difference = result - Restorer(network(CONFIG))(images)
    assert difference.abs().max() <= 0.25 / 255


def test_fewer_frames_at_once_before_smaller_tiles() -> None:
    images = torch.stack([photograph(16, 24)] * 7)
    model = Limited(most_pixels=2 * 16 * 24)
    result = Restorer(model)(images)
    assert [count for count, _, _ in model.sizes] == [7, 3, 1, 1, 1, 1, 1, 1, 1]
    assert torch.allclose(result, Restorer(network(CONFIG))(images), atol=1e-6)


def test_fewer_tiles_at_once_before_smaller_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swinir, "CPU_PIXELS_AT_ONCE", 4 * 32**2)
    tiles = TileSettings("tiled", 32, 16)
    image = photograph(64, 32)[None]
    model = Limited(most_pixels=2 * 32**2)
    result = Restorer(model)(image, tiles)
    assert model.sizes == [(3, 32, 32), (1, 32, 32), (1, 32, 32), (1, 32, 32)]
    assert torch.allclose(result, Restorer(network(CONFIG))(image, tiles), atol=1e-6)


@pytest.mark.parametrize(
    "tiles", [TileSettings("whole", overlap=16), TileSettings("tiled", 40, 16)], ids=["whole", "40"]
)
@pytest.mark.parametrize("at_once", [1, 3])
def test_a_failure_at_any_step_changes_no_result(
    tiles: TileSettings, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps are the calls of the network, counting those that repeat what failed."""
    monkeypatch.setattr(swinir, "CPU_PIXELS_AT_ONCE", at_once * 40 * 64)
    image = photograph(40, 64)
    images = torch.stack([image, image.flip(0), torch.rand(40, 64, 3)])
    complete = Limited()
    expected = Restorer(complete)(images, tiles)
    steps = len(complete.sizes)
    failures = 0
    for step in range(steps):
        model = Limited(fails=lambda call, step=step: call == step)
        failures += check_run(model, images, tiles, expected)
    # And again while the step that failed is repeated.
    for step in range(steps):
        model = Limited(fails=lambda call, step=step: call in (step, step + 1))
        failures += check_run(model, images, tiles, expected)
    assert failures >= 3 * steps - 1


def check_run(model: Limited, images: Tensor, tiles: TileSettings, expected: Tensor) -> int:
    """The result and the progress of a run with failures; how many of these there were."""
    seen: list[tuple[int, int]] = []
    result = Restorer(model)(images, tiles, progress=lambda *x: seen.append(x))
    done, total = zip(*seen, strict=True)
    assert list(done) == sorted(done)
    assert list(total) == sorted(total)
    assert all(d <= t for d, t in seen)
    assert done[-1] == total[-1] >= images[..., 0].numel()
    assert (result - expected).abs().max() <= 0.25 / 255
    assert not any(layer._forward_hooks for layer in model.modules())
    return sum(model.fails(call) for call in range(len(model.sizes)))


@pytest.mark.parametrize("place", ["mlp", "attn", "conv_after_body"])
@pytest.mark.parametrize("name", ERRORS)
def test_a_failure_in_the_middle_of_a_layer(name: str, place: str) -> None:
    """As an allocator fails: half way through a run, beneath the hooks that tell the progress."""
    images = photograph(40, 48)[None]
    expected = Restorer(network(CONFIG))(images)
    calls = 0

    def fail_at_first(*_: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ERRORS[name]

    model = Limited()
    (module,) = (m for n, m in model.named_modules() if n.endswith(f"1.{place}") or n == place)
    module.register_forward_pre_hook(fail_at_first)
    seen: list[tuple[int, int]] = []
    result = Restorer(model)(images, TileSettings(overlap=16), lambda *x: seen.append(x))
    assert calls > 1
    assert (result - expected).abs().max() <= 0.25 / 255
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1] > 40 * 48


def test_the_memory_of_what_failed_is_free_before_the_next_attempt() -> None:
    left: list[weakref.ref[Tensor]] = []
    alive: list[bool] = []

    class Leaky(Limited):
        def forward(self, x: Tensor, *_: object) -> Tensor:
            alive.extend(reference() is not None for reference in left)
            features = x + 1
            left[:] = [weakref.ref(x), weakref.ref(features)]
            return super().forward(x)

    model = Leaky(most_pixels=400)
    Restorer(model)(torch.rand(3, 16, 32, 3), TileSettings(overlap=8))
    assert len(model.sizes) > 4
    assert alive
    assert not any(alive)


@pytest.mark.parametrize("backend", ["cuda", "mps"])
def test_cached_blocks_are_given_back(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    emptied = []
    for name in ("cuda", "mps"):
        monkeypatch.setattr(
            getattr(torch, name), "empty_cache", lambda name=name: emptied.append(name)
        )
    release_cached_memory(torch.device(backend))
    release_cached_memory(torch.device("cpu"))
    assert emptied == [backend]


def test_cached_blocks_are_given_back_before_every_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = Limited(most_pixels=700)
    at = []
    monkeypatch.setattr(
        execution, "release_cached_memory", lambda device: at.append(len(model.sizes))
    )
    Restorer(model)(torch.rand(2, 32, 32, 3), TileSettings(overlap=8))
    assert at == [i + 1 for i, size in enumerate(model.sizes) if model.too_large(size)]


def test_only_the_smallest_tile_gives_up_and_says_what_was_tried() -> None:
    model = Limited(most_pixels=0)
    tried = "3 times 48x20, 48x20, 24x20"
    with pytest.raises(MemoryError, match=f"even for 24x20 pixels, tried after {tried}; close"):
        Restorer(model)(torch.rand(3, 20, 48, 3), TileSettings(overlap=16))


def test_nothing_is_lost_on_the_way_to_the_smallest_tile() -> None:
    images = photograph(32, 40)[None]
    model = Limited(most_pixels=24 * 24)
    result = Restorer(model)(images, TileSettings(overlap=16))
    assert (result - Restorer(network(CONFIG))(images)).abs().max() <= 0.25 / 255


def test_where_the_overlap_cannot_be_found_either() -> None:
    images = photograph(64, 48)[None]
    model = Limited(most_pixels=2000)
    result = Restorer(model)(images)
    assert (1, 96, 96) in model.sizes
    assert (result - Restorer(network(CONFIG))(images)).abs().max() <= 0.25 / 255


class ForeignNetwork(PretendModel):
    """A network of another kind, which tells nothing of its layers."""

    def __init__(self, most_pixels: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blur = nn.Conv2d(3, 3, 5, padding=2).requires_grad_(False)
        self.most_pixels = most_pixels

    def __call__(self, x: Tensor, *_: object) -> Tensor:
        if x[:, 0].numel() > self.most_pixels:
            raise CUDA
        return self.blur(x).clamp(0, 1)


def test_a_foreign_network_is_cut_too() -> None:
    images = torch.rand(2, 61, 75, 3)
    seen: list[tuple[int, int]] = []
    model = ForeignNetwork(most_pixels=1500)
    result = Restorer(model, "cpu", torch.float32)(images, progress=lambda *x: seen.append(x))
    expected = model.blur(images.movedim(-1, 1)).clamp(0, 1).movedim(1, -1)
    # Up to 81 of these tiles are blended in one pixel, each rounded to 2^-23.
    assert torch.allclose(result, expected, atol=5e-6)
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1] > 2 * 61 * 75


def test_other_errors_are_not_taken_for_it() -> None:
    model = Limited(most_pixels=0, error=RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="mat1"):
        Restorer(model)(torch.rand(1, 32, 32, 3))
    assert len(model.sizes) == 1
