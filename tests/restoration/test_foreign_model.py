"""Models of other architectures behind the contract of a ``Restorer``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import cycle
from threading import Barrier, get_ident
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from spandrel import ImageModelDescriptor, ModelLoader, SizeRequirements
from spandrel.architectures.Compact.__arch.SRVGG import SRVGGNetCompact
from spandrel.architectures.DRUNet import DRUNet
from spandrel.architectures.HAT import HAT
from spandrel.architectures.RCAN import RCAN
from spandrel.architectures.SPAN import SPAN
from torch import Tensor, nn

from swinir_core import Cancelled, Restorer, TileSettings
from swinir_core.images.color import rgb_to_gray
from swinir_core.reports import to_nobody
from swinir_core.restoration import foreign_model
from swinir_core.restoration.foreign_model import ForeignModel
from swinir_core.restoration.inputs import check_inputs
from swinir_core.restoration.peak_memory import Convolution, PeakMemory, count_memory


def descriptor(**options: Any) -> ImageModelDescriptor:
    torch.manual_seed(0)
    network = SRVGGNetCompact(num_feat=8, num_conv=1, upscale=2, **options)
    model = ModelLoader().load_from_state_dict({"params": network.state_dict()})
    assert isinstance(model, ImageModelDescriptor)
    return model


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_a_call_is_given_one_image_and_two_threads_make_two() -> None:
    model, images, sizes, makers = descriptor(), torch.rand(3, 12, 20, 3), [], set()
    restore = Restorer(ForeignModel(model), "cpu", torch.float32)
    assert restore.plan(12, 20, batch=3).at_once == 1  # Nothing was measured yet.
    restore(images)
    both = Barrier(2, timeout=20)  # Breaks unless two calls wait here.

    def made(_: nn.Module, inputs: tuple[Tensor]) -> None:
        sizes.append(tuple(inputs[0].shape))
        if len(sizes) < 3:
            both.wait()
            makers.add((get_ident(), torch.get_num_threads()))

    model.model.register_forward_pre_hook(made)
    told, here = [], set()

    def progress(*pixels: int) -> None:
        told.append(pixels)
        here.add(get_ident())

    result = restore(images, progress=progress)
    assert sizes == [(1, 3, 12, 20)] * 3
    assert [count for _, count in makers] == [1, 1]
    assert (here, told, told[-1]) == ({get_ident()}, sorted(told), (720, 720))
    assert torch.allclose(result, model(images.movedim(-1, 1)).movedim(1, -1), atol=1e-6)
    with PeakMemory() as memory:
        restore(images[:2])
    assert memory.peak <= restore.plan(12, 20, batch=2).memory - foreign_model._KEPT


STATE: dict[str, Callable[[Any], object]] = {
    "nothing": lambda body: None,
    "a number": lambda body: setattr(body, "calls", body.calls + 1),
    "a number that is the old one at last": lambda body: setattr(body, "calls", next(body.numbers)),
    "another tensor": lambda body: setattr(body, "mask", torch.ones(1)),
    "the numbers of a tensor": lambda body: body.mask.add_(1),
    "a table": lambda body: body.table.update(size=3),
    "a list within": lambda body: body.table["list"].append(3),
}


@pytest.mark.parametrize("what", STATE)
@pytest.mark.usefixtures("two_threads")
def test_a_model_that_changes_itself_is_called_once_at_a_time(what: str) -> None:
    model = descriptor()
    body: Any = model.model.body
    body.calls, body.mask, body.table = 0, torch.zeros(1), {"list": []}
    body.numbers = cycle((1, 2, 0))
    model.model.register_forward_hook(lambda *_: STATE[what](body) and None)
    restore = Restorer(ForeignModel(model), "cpu", torch.float32)
    restore(torch.rand(1, 640, 640, 3))  # Large enough for three sizes to be measured.
    assert restore.plan(8, 8, batch=5).at_once == (2 if what == "nothing" else 1)


@pytest.mark.parametrize(
    ("threads", "count", "wanted", "at_once"),
    [
        (8, 5, None, 4),
        (8, 3, None, 2),
        (8, 9, None, 8),
        (8, 9, 6, 4),
        (6, 5, None, 3),
        (1, 5, 4, 1),
    ],
)
def test_no_threads_are_left_over(
    threads: int, count: int, wanted: int | None, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, cpu = ForeignModel(descriptor()), torch.device("cpu")
    model.measure(torch.float32, cpu, 1, to_nobody)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert model.at_once(64, count, torch.float32, cpu, wanted) == at_once


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(
    ("dtype", "tiles", "at_once"),
    [
        (torch.float32, TileSettings(at_once=1), 1),
        (torch.float32, TileSettings(at_once=4), 2),
        (torch.float32, TileSettings(memory_budget=foreign_model._KEPT + 2**20), 1),
        (torch.bfloat16, TileSettings(), 2),
        (torch.float16, TileSettings(), 1),
    ],
)
def test_as_many_are_run_side_by_side_as_fit_and_may(
    dtype: torch.dtype, tiles: TileSettings, at_once: int
) -> None:
    restore = Restorer(ForeignModel(descriptor()), "cpu", dtype)
    restore(torch.rand(1, 8, 8, 3))
    assert restore.plan(64, 64, tiles, batch=5).at_once == at_once


def test_memory_grows_with_the_input() -> None:
    model = ForeignModel(descriptor())
    cpu = torch.device("cpu")
    assert model.estimate_memory(512, 512, torch.float32, cpu) == 512**2 * 3 * 4 * 2 * 384
    assert model.estimate_memory(8, 8, torch.float32, cpu, 5) == 5 * 8**2 * 3 * 4 * 2 * 384


def test_memory_is_measured_once_for_all_that_wrap_a_model() -> None:
    model, calls, cpu = descriptor(), [], torch.device("cpu")
    model.model.register_forward_pre_hook(lambda _, inputs: calls.append(inputs[0].shape[-1]))
    assert ForeignModel(model).measure(torch.float32, cpu, 10**9, to_nobody)
    assert calls == [32, 80, 128]
    assert not ForeignModel(model).measure(torch.float32, cpu, 10**9, to_nobody)
    assert calls == [32, 80, 128]
    x = torch.rand(1, 3, 300, 200)
    needed, _ = count_memory(lambda: model(x), cpu)
    estimate = ForeignModel(model).estimate_memory(300, 200, torch.float32, cpu)
    assert needed + foreign_model._KEPT <= estimate <= 2 * needed + foreign_model._KEPT


def test_copies_of_a_large_convolution_are_those_of_a_strip() -> None:
    size = Convolution(alive=800, given=400, made=200, products=foreign_model._STRIP_PRODUCTS)
    conv = foreign_model._Convolution.of(size, 100, torch.device("cpu"))
    assert conv.bytes_for(100) == (8 + 4) * 100
    assert conv.bytes_for(1000) == 8 * 1000 + 2 * (4 + 2) * 100
    elsewhere = foreign_model._Convolution.of(size, 100, torch.device("mps"))
    assert elsewhere.bytes_for(1000) == (8 + 4) * 1000
    measured = foreign_model._Measured(1, [6, 4], convolutions=[conv], keeps_state=False)
    assert measured.bytes_for(100, 1) == 12 * 100
    assert measured.bytes_for(10_000, 1) == 10 * 10_000


def test_the_heap_takes_more_than_what_lies_on_it() -> None:
    measured = foreign_model._Measured(1, [6, 4], convolutions=[], keeps_state=False)
    assert measured.bytes_for(1000, 1.5) == 1.5 * 10 * 1000
    pixels = foreign_model._MAPPED // 5  # For which one of both tensors is mapped.
    assert measured.bytes_for(pixels, 1.5) == (6 + 1.5 * 4) * pixels


def test_measuring_takes_two_seconds_or_a_tenth_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 100, 1))
    monkeypatch.setattr(foreign_model.time, "monotonic", lambda: next(clock))
    for pixels, sides in {32**2: 1, 32**2 * 80: 2, 32**2 * 1000: 3}.items():
        model, calls = descriptor(), []
        model.model.register_forward_pre_hook(lambda _, x, calls=calls: calls.append(x))
        ForeignModel(model).measure(torch.float32, torch.device("cpu"), pixels, to_nobody)
        assert len(calls) == sides


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_leaves_the_weights_alone(dtype: torch.dtype) -> None:
    model, image, cpu = descriptor(), torch.rand(1, 60, 50, 3), torch.device("cpu")
    assert ForeignModel(model).half_types(cpu) == (torch.float16, torch.bfloat16)
    before = {name: (weight, weight.clone()) for name, weight in model.model.named_parameters()}
    exact = Restorer(ForeignModel(model), cpu, torch.float32)(image)
    seen = []
    hook = model.model.body[0].register_forward_hook(lambda *call: seen.append(call[-1].dtype))
    result = Restorer(ForeignModel(model), cpu, dtype)(image)
    hook.remove()
    assert set(seen) == {dtype}
    assert 0 < (result - exact).abs().max() < 8 * torch.finfo(dtype).eps
    for name, weight in model.model.named_parameters():
        assert weight is before[name][0]
        assert torch.equal(weight, before[name][1])


def test_half_precision_takes_the_memory_that_was_measured() -> None:
    model, cpu = ForeignModel(descriptor()), torch.device("cpu")
    for dtype in (torch.float32, torch.bfloat16):
        assert model.measure(dtype, cpu, 10**9, to_nobody)
        x = torch.rand(1, 3, 300, 200).to(dtype)
        needed, _ = count_memory(lambda x=x: model(x), cpu)
        estimate = model.estimate_memory(300, 200, dtype, cpu)
        assert needed + foreign_model._KEPT <= estimate <= 2 * needed + foreign_model._KEPT


@pytest.mark.parametrize("when", ["measuring", "in the run"])
def test_a_model_that_overflows_float16_is_run_in_float32(
    when: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, image = descriptor(), torch.rand(2, 20, 20, 3)
    if when == "in the run":
        monkeypatch.setattr(ForeignModel, "measure", lambda *_: False)
    with torch.inference_mode(False), torch.no_grad():
        # Larger than float16 holds, and small again before the end.
        model.model.body[0].weight.mul_(1e6)
        model.model.body[-1].weight.mul_(1e-6)
    exact = Restorer(ForeignModel(model), "cpu", torch.float32)(image)
    wrapped = ForeignModel(model)
    restorer = Restorer(wrapped, "cpu", torch.float16)
    for _ in range(2):
        assert (restorer(image) - exact).abs().max() < 2e-3
    (told,) = [text for text in caplog.messages if "overflows float16" in text]
    assert told.startswith("This RealESRGAN Compact model overflows float16 and is run in float32")
    cpu = torch.device("cpu")
    in_half = wrapped.estimate_memory(64, 64, torch.float16, cpu)
    assert in_half == wrapped.estimate_memory(64, 64, torch.float32, cpu)


@pytest.mark.parametrize(
    ("half", "bfloat16", "expected"),
    [
        (True, True, (torch.float16, torch.bfloat16)),
        (False, True, (torch.bfloat16,)),
        (False, False, ()),
    ],
)
def test_half_precision_is_what_the_architecture_allows(
    half: bool, bfloat16: bool, expected: tuple[torch.dtype, ...]
) -> None:
    model: Any = descriptor()
    model.supports_half, model.supports_bfloat16 = half, bfloat16
    assert ForeignModel(model).half_types(torch.device("cuda")) == expected
    assert ForeignModel(model).half_types(torch.device("privateuseone")) == ()


def test_sizes_the_descriptor_pads_to_are_counted() -> None:
    model, cpu = descriptor(), torch.device("cpu")
    model.size_requirements = SizeRequirements(minimum=16, multiple_of=16, square=True)
    estimate = ForeignModel(model).estimate_memory(20, 100, torch.float32, cpu)
    assert estimate == ForeignModel(model).estimate_memory(112, 112, torch.float32, cpu)


@pytest.mark.parametrize("when", ["measuring", "overlap", "run"])
def test_can_be_stopped_within_any_call(when: str) -> None:
    model, calls, asked = descriptor(), [], []
    model.model.register_forward_pre_hook(lambda _, inputs: calls.append(inputs[0].shape[-1]))
    wrong = {"measuring": 32, "overlap": 96, "run": 48}[when]

    def cancelled() -> bool:
        asked.append(True)
        return calls[-1:] == [wrong]

    restorer = Restorer(ForeignModel(model), "cpu", torch.float32)
    with pytest.raises(Cancelled):
        restorer(torch.rand(1, 50, 64, 3), TileSettings("tiled", 48), cancelled=cancelled)
    assert calls[-1] == wrong


CONVOLUTIONS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "3x3": ((4, 6, 3, 3), {"padding": 1}),
    "no padding": ((4, 6, 3, 3), {}),
    "7x3 with stride 2": ((4, 6, 7, 3), {"padding": (3, 1), "stride": 2}),
    "dilated": ((4, 6, 3, 3), {"padding": (2,), "dilation": (2, 2)}),
    "in groups": ((6, 2, 5, 5), {"padding": 2, "groups": 3}),
    "patches": ((4, 6, 4, 4), {"stride": (4, 4)}),
    "same": ((4, 6, 3, 3), {"padding": "same"}),
}


@pytest.mark.parametrize(("weight", "options"), CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_a_large_convolution_can_be_stopped_within(
    weight: tuple[int, ...], options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    x, kernel, bias, asked = torch.rand(1, 6, 41, 30), torch.rand(weight), torch.rand(weight[0]), []
    products = math.prod(weight) * 30 * 5  # Of five rows.
    monkeypatch.setattr(foreign_model, "_STRIP_PRODUCTS", products)
    with foreign_model._Steps(asked.append):
        result = F.conv2d(x, kernel, bias, **options)
    assert torch.equal(result, F.conv2d(x, kernel, bias, **options))
    assert len(asked) > result.shape[-2] // 5 or options == {"padding": "same"}


def test_progress_moves_within_a_call() -> None:
    seen = []
    restorer = Restorer(ForeignModel(descriptor()), "cpu", torch.float32)
    restorer(torch.rand(1, 40, 50, 3), progress=lambda *x: seen.append(x))
    assert len(seen) > 5
    assert seen == sorted(seen)
    assert seen[-1] == (2000, 2000)


def test_tiles_are_no_larger_than_pays() -> None:
    restorer = Restorer(ForeignModel(descriptor()), "cpu", torch.float32)
    tiles = TileSettings(overlap=16, memory_budget=10**12)
    assert max(restorer.plan(3000, 4000, tiles).tiles.largest) <= 1024
    assert math.prod(restorer.plan(3000, 4000, tiles).tiles.largest) <= 512**2
    assert len(restorer.plan(512, 512, tiles).tiles) == 1
    assert len(restorer.plan(3000, 4000, replace(tiles, mode="whole")).tiles) == 1


@pytest.mark.parametrize(("num_in_ch", "num_out_ch"), [(4, 4), (3, 1)])
def test_other_channels_are_refused(num_in_ch: int, num_out_ch: int) -> None:
    model = descriptor(num_in_ch=3, num_out_ch=3)
    model.input_channels, model.output_channels = num_in_ch, num_out_ch
    words = f"turns {num_in_ch} channels into {num_out_ch}; only models for gray"
    with pytest.raises(ValueError, match=words):
        ForeignModel(model)


def test_models_for_faces_are_refused() -> None:
    model: Any = descriptor()
    model._purpose = "FaceSR"
    with pytest.raises(ValueError, match="Compact model restores single faces, cut out"):
        ForeignModel(model)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "casts its mean to the input's type": lambda: HAT(
        embed_dim=8, depths=(2,), num_heads=(2,), window_size=8, squeeze_factor=4, upscale=2
    ),
    "merges its weights in every call": lambda: SPAN(
        num_in_ch=3, num_out_ch=3, feature_channels=8, upscale=2, norm=True
    ),
    "writes to its input": lambda: RCAN(
        scale=2, n_resgroups=1, n_resblocks=1, n_feats=8, reduction=4
    ),
    "takes a map of noise": lambda: DRUNet(in_nc=4, out_nc=3, nc=[8, 8, 8, 8], nb=2),
}


@pytest.mark.filterwarnings("ignore:torch.meshgrid")
@pytest.mark.parametrize("name", NETWORKS)
def test_results_are_those_of_spandrel_before_and_after_other_runs(name: str) -> None:
    torch.manual_seed(0)
    weights = NETWORKS[name]().state_dict()
    model, same = (ModelLoader().load_from_state_dict(dict(weights)) for _ in range(2))
    assert isinstance(model, ImageModelDescriptor)
    assert isinstance(same, ImageModelDescriptor)
    image = torch.rand(1, 21, 37, 3)
    wanted = same(image.movedim(-1, 1).clone()).movedim(1, -1)
    gray = same(image[..., :1].movedim(-1, 1).repeat(1, 3, 1, 1)).movedim(1, -1)
    run = {
        dtype: Restorer(ForeignModel(model), "cpu", dtype)
        for dtype in (torch.float32, torch.bfloat16)
    }
    assert torch.allclose(run[torch.float32](image), wanted, atol=1e-6)
    assert (run[torch.bfloat16](image) - wanted).abs().mean() < 0.01
    assert torch.allclose(run[torch.float32](image), wanted, atol=1e-6)
    result = run[torch.float32](image[..., :1])
    assert torch.allclose(result, rgb_to_gray(gray)[..., None], atol=1e-6)


class Odd(nn.Module):
    """A network of other ways: numbers drawn at random, products by ``einsum``, and more than a
    picture in its result."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.mix = nn.Parameter(torch.eye(3))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x + 0.1 * torch.randn_like(x) + 0.1 * torch.randn((1, 3, 1, 1), device=x.device)
        mixed = torch.einsum("bchw,cd->bdhw", self.body(x), self.mix)
        return mixed, mixed.mean()


def odd() -> ImageModelDescriptor:
    known = descriptor()
    network = Odd(known.model)
    return ImageModelDescriptor(
        network,
        network.state_dict(),
        architecture=known.architecture,
        purpose="SR",
        tags=[],
        supports_half=True,
        supports_bfloat16=True,
        scale=2,
        input_channels=3,
        output_channels=3,
        call_fn=lambda model, image: model(image)[0],
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_networks_of_other_ways_run_in_every_precision(dtype: torch.dtype) -> None:
    image, model = torch.rand(1, 20, 24, 3), ForeignModel(odd())
    with torch.inference_mode():
        result = Restorer(model, "cpu", dtype)(image)
        wanted = Restorer(model, "cpu", torch.float32)(image)
    assert (result - wanted).abs().max() < 0.02


@pytest.mark.parametrize("weights", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_half_weights_run_whatever_is_asked_for(weights: torch.dtype, dtype: torch.dtype) -> None:
    image, model = torch.rand(1, 20, 24, 3), descriptor()
    wanted = Restorer(ForeignModel(model), "cpu", torch.float32)(image)
    model.model.to(weights)
    result = Restorer(ForeignModel(model), "cpu", dtype)(image)
    assert (result - wanted).abs().max() < 0.05


def test_a_measurement_that_was_stopped_is_made_again() -> None:
    model, calls = ForeignModel(descriptor()), []

    def stop_at_the_second_size(_: float) -> None:
        calls.append(1)
        if len(calls) == 30:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        model.measure(torch.float32, torch.device("cpu"), 10**9, stop_at_the_second_size)
    assert model.measure(torch.float32, torch.device("cpu"), 10**9, to_nobody)
    assert not model.measure(torch.float32, torch.device("cpu"), 10**9, to_nobody)


@pytest.mark.usefixtures("two_threads")
def test_no_images_and_large_tiles_are_run_by_all_threads() -> None:
    restore = Restorer(ForeignModel(descriptor()), "cpu", torch.float32)
    assert restore(torch.rand(0, 12, 20, 3)).shape == (0, 24, 40, 3)
    restore.measure(check_inputs(torch.rand(1, 700, 1400, 3)))
    assert restore.plan(700, 1400, TileSettings("tiled", 768)).at_once == 2
