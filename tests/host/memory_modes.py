"""Run by the host's own Python: our nodes under its memory management, on a pretend card.

``python memory_modes.py HOST PACK BASE MODE [FLAG...]`` starts the host's modules with those flags,
calls every ``check_`` function and prints, as the last line, a JSON object of their names and what
went wrong. BASE holds models and ``image.npy``, ``restored.npy``: what ``x2.safetensors`` makes of
an image on a CPU.
"""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from in_process import error_of, load_pack, report, start_host
from pretend_card import CUDA, OnCard, card

HOST, PACK, BASE = (Path(argument) for argument in sys.argv[1:4])
MODE, FLAGS = sys.argv[4], sys.argv[5:]
torch.set_num_threads(1)
card.install()
start_host(HOST, [*FLAGS, "--base-directory", str(BASE)])

import comfy.model_management as management  # noqa: E402
import comfy.model_patcher  # noqa: E402
import comfy.utils  # noqa: E402
from comfy_extras.nodes_upscale_model import (  # noqa: E402
    ImageUpscaleWithModel,
    UpscaleModelLoader,
)

import nodes as host_nodes  # noqa: E402

if MODE.startswith("dynamic"):
    import pretend_aimdo

    pretend_aimdo.install(budget=2**16 if MODE == "dynamic_streamed" else 2**40)

host_nodes.NODE_CLASS_MAPPINGS["UpscaleModelLoader"] = UpscaleModelLoader  # type: ignore
pack = load_pack(PACK)
complaints: list[str] = []
image = torch.from_numpy(np.load(BASE / "image.npy"))
expected = torch.from_numpy(np.load(BASE / "restored.npy"))
tiles = pack.SwinIRTileSettings.execute("tiled", 32, 32, 8).args[0]


class Complaints(logging.Handler):
    """Lines of the log that a reader would take for trouble."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING or "error" in record.getMessage().lower():
            complaints.append(record.getMessage())


logging.getLogger().addHandler(Complaints())


def given(images: torch.Tensor) -> torch.Tensor:
    """An image where the host keeps what travels between nodes."""
    return images.to(management.intermediate_device())


def load(name: str = "x2.safetensors") -> Any:
    with torch.inference_mode():
        return pack.SwinIRModelLoader.execute(name).args[0]


def restore(model: Any, precision: str = "float32", **options: Any) -> torch.Tensor:
    with torch.inference_mode():
        result = pack.SwinIRRestore.execute(model, given(image), precision, **options).args[0]
    assert result.device == management.intermediate_device()
    return result.cpu()


def assert_right(result: torch.Tensor, tolerance: float = 2e-5) -> None:
    assert result.shape == expected.shape
    difference = (result - expected).abs().max().item()
    assert difference <= tolerance + torch.finfo(result.dtype).eps, difference


def used() -> int:
    """Bytes on the card after what the host itself does at the end of a prompt."""
    gc.collect()
    getattr(management, "reset_cast_buffers", lambda: None)()
    return card.used


def clean(check: Callable[[Any], None]) -> None:
    """Run ``check`` on a model of its own and demand the memory back and a quiet log."""
    management.unload_all_models()
    complaints.clear()
    before = used()
    model = load()
    check(model)
    assert_right(restore(model))
    management.unload_all_models()
    left = used() - before - size_if_kept(model)
    assert left == 0, f"{left} bytes stay on the card"
    del model
    management.cleanup_models()
    management.cleanup_models_gc()
    assert used() == before
    assert complaints == [], complaints


def size_if_kept(model: Any) -> int:
    """Bytes of weights that the host leaves on the card: all where it was told so, and with
    dynamic VRAM those of modules that have others inside."""
    weights = model.model.named_parameters()
    if management.unet_offload_device().type == "cpu":
        small = "relative_position_bias_table"
        weights = [(n, w) for n, w in weights if MODE.startswith("dynamic") and n.endswith(small)]
    return sum(weight.nbytes for _, weight in weights)


def check_right_in_every_precision() -> None:
    def check(model: Any) -> None:
        assert_right(restore(model))
        assert_right(restore(model, "bfloat16"), 0.03)
        assert_right(restore(model, "float16"), 0.01)
        assert_right(restore(model, "auto"), 0.01)
        assert_right(restore(model, tile_settings=tiles), 0.1)
        assert_right(restore(model, ensemble=True), 0.6)
        mask = given(torch.ones(1, 8, 8))
        assert_right(restore(model, mask=mask))

    clean(check)


def check_again_gives_the_same_bytes() -> None:
    def check(model: Any) -> None:
        assert torch.equal(restore(model, "auto"), restore(model, "auto"))

    clean(check)


def check_the_work_is_done_on_the_card() -> None:
    """Or all the other checks would prove nothing."""
    model = load()
    restore(model)
    seen = []
    hook = model.model.conv_first.register_forward_pre_hook(
        lambda _, inputs: seen.append(type(inputs[0]))
    )
    restore(model)
    hook.remove()
    assert seen == [OnCard]
    assert any(own.model is model.patcher for own in management.current_loaded_models)


def check_evicted_between_two_nodes() -> None:
    def check(model: Any) -> None:
        restore(model)
        management.free_memory(1e30, CUDA)
        assert_right(restore(model))
        management.unload_all_models()
        assert_right(restore(model))

    clean(check)


def check_evicted_by_another_model() -> None:
    """A diffusion model that takes nearly the whole card, before and after us."""

    def check(model: Any) -> None:
        diffusion = torch.nn.ParameterList([torch.empty(900, 2**20, dtype=torch.float16)])
        other = comfy.model_patcher.ModelPatcher(diffusion, CUDA, torch.device("cpu"))
        for _ in range(2):
            management.load_models_gpu([other], memory_required=4 * 2**30)
            assert_right(restore(model))

    clean(check)


def check_a_card_full_of_others() -> None:
    """Somebody who does not ask the host has taken all but a little."""

    def check(model: Any) -> None:
        others = torch.empty(card.total - card.used - 12 * 2**20, dtype=torch.uint8, device=CUDA)
        assert_right(restore(model), 0.02)
        del others

    clean(check)


def check_two_models_in_turn() -> None:
    def check(model: Any) -> None:
        second, foreign = load("second.safetensors"), UpscaleModelLoader.execute("x2.pth").args[0]
        first = restore(second)
        for _ in range(2):
            assert_right(restore(model))
            assert_right(restore(foreign))
            assert torch.equal(restore(second), first)
        del foreign, second

    clean(check)


def check_another_architecture() -> None:
    """Its layers cannot fetch their weights from where the host may have left them."""

    def check(_: Any) -> None:
        foreign = UpscaleModelLoader.execute("compact.pth").args[0]
        with torch.inference_mode():
            exact = foreign(image.movedim(-1, 1)).movedim(1, -1)
        seen = set()
        hook = foreign.model.body[0].register_forward_hook(lambda *call: seen.add(call[-1].dtype))
        for precision, dtype, tolerance in (
            ("auto", torch.float16, 0.01),
            ("float32", torch.float32, 1e-3),
            ("float16", torch.float16, 0.01),
        ):
            seen.clear()
            assert (restore(foreign, precision) - exact).abs().max() < tolerance
            assert seen == {dtype}
            # They are the host's, whose other nodes run the model as well.
            assert {weight.dtype for weight in foreign.model.parameters()} == {torch.float32}
            management.unload_all_models()
        hook.remove()

    clean(check)


def check_weights_left_behind() -> None:
    """Half of the weights are loaded, as the host does it where memory is short."""

    def check(model: Any) -> None:
        half = model.patcher.model_size() / 2
        model.patcher.partially_load(CUDA, half)
        assert_right(restore(model))
        model.patcher.partially_unload(model.patcher.offload_device, half)
        assert_right(restore(model))

    clean(check)


def check_the_hosts_own_node_runs_our_model() -> None:
    def check(model: Any) -> None:
        node: Any = ImageUpscaleWithModel
        upscale = node.execute if hasattr(node, "execute") else node().upscale
        for memory in (0, card.total - 64 * 2**20):
            others = torch.empty(memory, dtype=torch.uint8, device=CUDA)
            with torch.inference_mode():
                result = upscale(upscale_model=model, image=given(image))
            assert_right(getattr(result, "args", result)[0].cpu())
            del others

    clean(check)


def check_interrupted_at_every_step() -> None:
    def check(model: Any) -> None:
        before = used()
        for _ in every_step(lambda: restore(model, tile_settings=tiles)):
            # The host rounds what it streams up to whole blocks.
            kept = int(used() - before - 1.05 * model.patcher.model_size())
            assert kept <= 0, f"an interrupted run keeps {kept} bytes"

    clean(check)


def every_step(run: Callable[[], object]) -> Any:
    """Run with an interrupt at the first few of the times one is asked for, and at 8 of all."""
    ask, asked, interrupted_at = pack.host.interrupted, 0, 0

    def interrupted() -> bool:
        nonlocal asked
        asked += 1
        if asked == interrupted_at:
            management.interrupt_current_processing()
        return ask()

    pack.host.interrupted = interrupted
    try:
        assert error_of(run) is None
        steps = {*range(1, min(asked, 5)), *np.linspace(1, asked, 8).astype(int)}
        for interrupted_at in sorted(steps):  # noqa: B007 - the function above reads it
            asked = 0
            error = error_of(run)
            assert isinstance(error, management.InterruptProcessingException), error
            del error
            yield
    finally:
        pack.host.interrupted = ask


def check_interrupted_or_out_of_memory_while_loading() -> None:
    """Whatever is being moved to the card, the weights above all, may be the last straw."""

    def check(model: Any) -> None:
        for error in (management.InterruptProcessingException, torch.cuda.OutOfMemoryError):
            for allocation in range(1, 12):
                management.unload_all_models()
                fail_at(allocation, error("pretended"))
                failure = error_of(lambda: restore(model))
                card.before_allocation = lambda: None
                assert failure is None or isinstance(failure, (error, MemoryError)), failure
                del failure
                assert_right(restore(model), 0.02)

    clean(check)


def fail_at(allocation: int, error: BaseException) -> None:
    left = allocation

    def fail() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise error

    card.before_allocation = fail


def check_the_file_is_gone_after_loading() -> None:
    path = BASE / "models" / "swinir" / f"passing_{MODE}.safetensors"
    path.write_bytes((BASE / "models" / "swinir" / "x2.safetensors").read_bytes())

    def check(_: Any) -> None:
        model = load(path.name)
        path.unlink()
        assert_right(restore(model))
        management.unload_all_models()
        assert_right(restore(model))
        error = error_of(lambda: load(path.name))
        assert isinstance(error, FileNotFoundError)
        assert path.name in str(error)
        del error  # Its traceback would keep the model for the garbage collector to find.

    clean(check)


def check_a_copy_is_written_of_a_model_wherever_it_is() -> None:
    def check(model: Any) -> None:
        restore(model)
        with torch.inference_mode():
            name = pack.SwinIRSaveModel.execute(model, f"copy_{MODE}", "float32").args[0]
        assert_right(restore(load(name)))

    clean(check)


def check_images_on_the_card_are_compared() -> None:
    first, second = given(image), given(1 - image)
    with torch.inference_mode():
        psnr, *_ = pack.SwinIRImageQuality.execute(first, second).args
    assert 0 < psnr < 20


def check_it_stays_within_the_forecast() -> None:
    """The host makes room for what we say, so more would push other models out, or crash."""
    model = load()
    restore(model)
    before, card.peak = used(), 0
    large = image.repeat(1, 8, 8, 1)
    with torch.inference_mode():
        pack.SwinIRRestore.execute(model, given(large), "float32")
    runnable = import_module(f"{pack.__name__}.running.runnable").to_runnable(model)
    core = sys.modules[f"{pack.__name__.rpartition('.')[0]}.swinir_core"]
    forecast = core.Restorer(runnable.model, CUDA, torch.float32).estimate_memory(*large.shape[1:3])
    assert card.peak - before < 1.2 * forecast, (card.peak - before, forecast)


report(globals())
