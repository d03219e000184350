"""Run by the host's own Python: what the nodes promise and no request to a server can ask.

``python inside.py HOST PACK BASE`` calls every ``check_`` function and prints, as the last line, a
JSON object of their names and what went wrong.
"""

from __future__ import annotations

import gc
import sys
import traceback
import weakref
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from in_process import error_of, load_pack, report, start_host

HOST, PACK, BASE = (Path(argument) for argument in sys.argv[1:])
start_host(HOST, ["--cpu", "--base-directory", str(BASE)])

import comfy.model_management  # noqa: E402
import comfy.utils  # noqa: E402
import folder_paths  # noqa: E402
import torch  # noqa: E402
from comfy_extras.nodes_upscale_model import UpscaleModelLoader  # noqa: E402
from spandrel import ImageModelDescriptor, ModelLoader  # noqa: E402
from spandrel.architectures.Compact.__arch.SRVGG import SRVGGNetCompact  # noqa: E402

import nodes as host_nodes  # noqa: E402

host_nodes.NODE_CLASS_MAPPINGS["UpscaleModelLoader"] = UpscaleModelLoader  # type: ignore
# A folder the user configured before the packs are loaded, as the host's own code enters it.
folder_paths.add_model_folder_path("swinir", str(BASE / "elsewhere"))


loaded_by_the_host = set(sys.modules)
pack = load_pack(PACK)
for node in [value for value in vars(pack).values() if hasattr(value, "define_schema")]:
    node.define_schema()
loaded_by_the_pack = set(sys.modules) - loaded_by_the_host
NAME = pack.__name__.rpartition(".")[0]
CORE = f"{NAME}.swinir_core"
image = torch.rand(1, 20, 27, 3, generator=torch.Generator().manual_seed(0))


def load(name: str = "x2.safetensors") -> Any:
    return pack.SwinIRModelLoader.execute(name).args[0]


def restore(model: Any, images: torch.Tensor = image) -> torch.Tensor:
    with torch.inference_mode():
        return pack.SwinIRRestore.execute(model, images).args[0]


def check_the_host_starts_without_what_computes() -> None:
    ours = {name for name in loaded_by_the_pack if name.startswith(NAME)}
    parts = {name.removeprefix(f"{CORE}.").partition(".")[0] for name in ours}
    assert {"choices", "model_names"} < parts
    assert parts & {"network", "restoration", "checkpoints", "degradation", "devices"} == set()
    assert loaded_by_the_pack - ours == set()


def check_the_picture_is_shown_as_tiles_finish() -> None:
    shown = []
    comfy.utils.set_progress_bar_global_hook(lambda *args, **_: shown.append(args[:3]))
    pack.host.SECONDS_BETWEEN_PICTURES = 0
    tiles = pack.SwinIRTileSettings.execute("tiled", 32, 32, 8).args[0]
    try:
        with torch.inference_mode():
            pack.SwinIRRestore.execute(load(), image.repeat(1, 3, 3, 1), tile_settings=tiles)
    finally:
        comfy.utils.set_progress_bar_global_hook(None)
    done = [(value, total) for value, total, _ in shown]
    assert done == sorted(done)
    assert done[-1][0] == done[-1][1] > 60 * 81
    previews = [preview for *_, preview in shown if preview is not None]
    assert len(previews) == 12
    assert {(kind, picture.size) for kind, picture, _ in previews} == {("JPEG", (162, 120))}


def check_a_run_of_hours_moves_the_bar_every_second() -> None:
    """A newer host holds back steps of less than half a percent."""
    shown: list[int] = []
    now, clock = [0.0], pack.host.time
    pack.host.time = SimpleNamespace(monotonic=lambda: now[0])
    comfy.utils.set_progress_bar_global_hook(lambda value, *_, **__: shown.append(value))
    try:
        progress = pack.host.Progress()
        for step in range(10):
            now[0] = 1.1 * step
            progress.advance(step, 10_000)
    finally:
        comfy.utils.set_progress_bar_global_hook(None)
        pack.host.time = clock
    assert shown == list(range(10))


def check_the_model_is_what_other_packs_expect() -> None:
    model = load()
    assert isinstance(model, ImageModelDescriptor)
    assert (model.scale, model.input_channels, model.output_channels) == (2, 3, 3)
    assert (model.purpose, model.architecture.id) == ("SR", "SwinIR")
    assert (model.device, model.dtype) == (torch.device("cpu"), torch.float32)
    assert model.supports_half
    assert model.supports_bfloat16
    assert not any(parameter.requires_grad for parameter in model.model.parameters())


def check_moving_the_model_is_left_to_the_host() -> None:
    model = load()
    comfy.model_management.unload_all_models()
    own = (model.half(), model.bfloat16(), model.float(), model.eval(), model.to(torch.float16))
    assert all(result is model for result in own)
    assert model.cpu() is model.to(device="cpu", dtype=torch.float32) is model
    assert model.dtype == torch.float32
    assert any(
        loaded.model is model.patcher for loaded in comfy.model_management.current_loaded_models
    )


def check_inputs_in_half_precision_are_restored_in_it() -> None:
    model = load()
    exact = model(image.movedim(-1, 1))
    for dtype in (torch.float16, torch.bfloat16):
        restored = model(image.movedim(-1, 1).to(dtype))
        assert restored.dtype == dtype
        assert (restored.float() - exact).abs().max() < 0.03


def check_a_gray_model_takes_colour() -> None:
    model = load("gray.safetensors")
    batch = image.movedim(-1, 1).expand(2, -1, -1, -1)
    restored = model(batch)
    assert restored.shape == batch.shape
    assert torch.equal(restored[:, 1:2], model(batch[:, 1:2]))
    calls = []
    model.model.register_forward_pre_hook(lambda _, inputs: calls.append(len(inputs[0])))
    gray = model(batch[:, :1].expand(-1, 3, -1, -1))
    assert calls == [1, 1]
    assert torch.equal(gray, restored[:, :1].expand(-1, 3, -1, -1))


def check_a_wrong_number_of_channels_is_explained() -> None:
    error = error_of(lambda: load()(torch.rand(1, 4, 16, 16)))
    assert isinstance(error, ValueError)
    assert "3 channels, the image has 4" in str(error)


def check_images_of_any_channels() -> None:
    for channels in (1, 2, 3, 4):
        images = torch.rand(2, 9, 17, channels)
        before = images.clone()
        restored = restore(load(), images)
        # One channel alone is more than the host's own nodes can show.
        assert restored.shape == (2, 18, 34, 4 if channels in (2, 4) else 3)
        assert channels > 2 or torch.equal(restored[..., 0], restored[..., 2])
        assert torch.equal(images, before)


def check_weights_made_only_when_loaded() -> None:
    """Hosts that stream weights from disk make layers without any; ours must not mind."""
    memory: Any = sys.modules.get("comfy.memory_management")
    if memory is None:
        return
    expected = restore(load())
    memory.aimdo_enabled = True
    try:
        model = load()
        assert torch.equal(restore(model), expected)
        foreign = UpscaleModelLoader.execute("x2.pth").args[0]
        assert (restore(foreign) - expected).abs().max() < 1e-5
    finally:
        memory.aimdo_enabled = False


def check_a_foreign_swinir_is_neither_copied_nor_changed() -> None:
    foreign = UpscaleModelLoader.execute("x2.pth").args[0]

    def state() -> list[tuple[int, int, bool]]:
        parameters = foreign.model.parameters()
        return [(id(p), p.data_ptr(), p.requires_grad) for p in parameters]

    before = state()
    runnable = import_module(f"{pack.__name__}.running.runnable").to_runnable(foreign)
    runnable.take_weights()
    ours = {p.data_ptr() for p in runnable.model.parameters()}
    assert ours == {pointer for _, pointer, _ in before}
    assert state() == before
    assert (restore(foreign) - restore(load())).abs().max() < 1e-5


def check_weights_left_behind_are_brought_along() -> None:
    host = sys.modules[f"{pack.__name__}.host"]
    patcher = SimpleNamespace(model=torch.nn.Linear(2, 2), load_device=torch.device("meta"))
    host.move_stragglers(patcher)
    assert all(parameter.is_meta for parameter in patcher.model.parameters())


def check_layers_fetch_their_weights_themselves() -> None:
    """Streamed weights are elsewhere, and only the host's layers know where. Weights of another
    type than the input find every place that takes them past the layers."""
    model = load()
    exact = model(image.movedim(-1, 1))
    for module in model.model.modules():
        if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d)):
            module.half()
    assert (model(image.movedim(-1, 1)) - exact).abs().max() < 0.03


def check_what_is_no_upscale_model_is_refused() -> None:
    for other in (None, object(), torch.nn.Identity()):
        error = error_of(lambda other=other: restore(other))
        assert isinstance(error, ValueError)
        assert type(other).__name__ in str(error)


def check_the_host_is_asked_for_what_will_be_run_at_once() -> None:
    """Before it is loaded a foreign SwinIR has no weights to ask how far tiles must overlap."""
    foreign = import_module(f"{pack.__name__}.running.runnable").to_runnable(
        UpscaleModelLoader.execute("x2.pth").args[0]
    )
    core: Any = import_module(CORE)
    check_inputs = import_module(f"{CORE}.restoration.inputs").check_inputs
    size = import_module(f"{CORE}.restoration.sizing").TargetSize

    def required(images: torch.Tensor, tiles: Any, total: int, *target: Any) -> int:
        module = import_module(f"{pack.__name__}.running.restoration")
        tiles = module.within(tiles, total)
        return module.memory_required(restorer, check_inputs(images), size(*target), tiles)

    restorer = core.Restorer(foreign.model, "cpu", torch.float32)
    images, settings = torch.zeros(1, 1000, 1200, 3), core.TileSettings()
    whole = restorer.estimate_memory(1000, 1200)
    assert required(images, settings, whole) == whole
    assert whole / 3 < required(images, settings, whole - 1) < whole
    tiled = required(images, core.TileSettings("tiled", 96), whole)
    assert restorer.estimate_memory(80, 80) <= tiled <= restorer.estimate_memory(96, 96)
    frames = required(torch.zeros(8, 16, 16, 3), settings, whole)
    assert frames == restorer.estimate_memory(16, 16, 8)
    twice = required(torch.zeros(1, 16, 24, 3), settings, whole, "factor", 3.0)
    assert twice == restorer.estimate_memory(32, 48)
    restorer = core.Restorer(load("gray.safetensors").model, "cpu", torch.float32)
    channels = required(torch.rand(1, 16, 16, 4), settings, whole)
    assert channels == restorer.estimate_memory(16, 16, 3)
    gray = required(torch.zeros(1, 16, 16, 4), settings, whole)
    assert gray == restorer.estimate_memory(16, 16)


def check_a_size_beyond_the_memory_is_refused_before_its_runs_are_planned() -> None:
    """There would be many of them, of so many tiles that planning them takes long."""
    sized: Any = import_module(f"{pack.__name__}.running.restoration").Sized
    model, plan = load(), sized.__init__
    sized.__init__ = None
    try:
        for way, value in (("factor", 1e5), ("longer side", 1e7), ("megapixels", 1e5)):
            error = error_of(
                lambda way=way, value=value: pack.SwinIRRestore.execute(
                    model, image, size=way, size_value=value
                )
            )
            assert isinstance(error, MemoryError), (way, error)
    finally:
        sized.__init__ = plan


def check_another_architecture_that_runs_out_of_memory_is_cut() -> None:
    torch.manual_seed(0)
    network = SRVGGNetCompact(num_feat=8, num_conv=2, upscale=2)
    model = ModelLoader().load_from_state_dict({"params": network.state_dict()})
    images = torch.rand(2, 64, 80, 3)
    expected = restore(model, images)
    sizes = []

    def fail(_: object, args: tuple[torch.Tensor, ...]) -> None:
        sizes.append(args[0][:, 0].numel())
        if sizes[-1] > 3000:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    model.model.register_forward_pre_hook(fail)
    assert (restore(model, images) - expected).abs().max() < 1e-5
    # Both frames side by side where there are threads for it, one alone, the pattern that tells the
    # overlap, and no frame again.
    measured = {80 * 80, 128 * 128}
    *frames, other = [size for size in sizes if size > 3000 and size not in measured]
    assert (set(frames), other) == ({64 * 80}, 96 * 96)
    assert len(frames) <= 3


def check_another_architecture_is_measured_once_and_its_room_asked_for() -> None:
    torch.manual_seed(0)
    network = SRVGGNetCompact(num_feat=8, num_conv=2, upscale=2)
    model = ModelLoader().load_from_state_dict({"params": network.state_dict()})
    large = torch.rand(1, 120, 140, 3)
    host: Any = sys.modules[f"{pack.__name__}.host"]
    sizes, asked = [], []
    model.model.register_forward_pre_hook(lambda _, args: sizes.append(args[0].shape[-1]))
    load_with = host.load
    host.load = lambda patcher, needed=0: asked.append(needed) or load_with(patcher, needed)
    try:
        for _ in range(2):
            restore(model, large)
    finally:
        host.load = load_with
    assert sizes.count(32) == 1
    assert sizes[-1] == large.shape[2]
    by_rule, measured, again = asked
    assert measured == again < by_rule


def check_any_model_is_interrupted_within_a_tile() -> None:
    """Between two of its layers, not only when a tile is done."""
    torch.manual_seed(0)
    network = SRVGGNetCompact(num_feat=8, num_conv=2, upscale=2)
    foreign = ModelLoader().load_from_state_dict({"params": network.state_dict()})
    for model in (foreign, load()):
        first, *_, last = (m for m in model.model.modules() if isinstance(m, torch.nn.Conv2d))
        ran = []
        first.register_forward_hook(
            lambda *_: comfy.model_management.interrupt_current_processing()
        )
        last.register_forward_pre_hook(lambda *_, ran=ran: ran.append(True))
        error = error_of(lambda model=model: restore(model))
        assert isinstance(error, comfy.model_management.InterruptProcessingException)
        assert ran == []


def check_errors_are_built_in_ones_without_a_chain() -> None:
    (BASE / "models" / "swinir" / "page.pth").write_bytes(b"<!DOCTYPE html>")
    wrong = {
        "a file": lambda: load("page.pth"),
        "an image": lambda: restore(load(), torch.rand(1, 8, 8, 5)),
        "weights": lambda: overflowing(),
    }
    kinds = {"a file": ValueError, "an image": ValueError, "weights": RuntimeError}
    for name, action in wrong.items():
        error = error_of(action)
        assert error is not None
        assert type(error) is kinds[name], (name, error)
        assert error.__cause__ is error.__context__ is None
        assert len(traceback.extract_tb(error.__traceback__)) <= 5


def overflowing() -> None:
    model = load()
    for parameter in model.model.parameters():
        parameter.data.mul_(1e4)
    with torch.inference_mode():
        pack.SwinIRRestore.execute(model, image, "float16")


def check_an_interrupt_leaves_as_the_hosts_own_exception() -> None:
    model = load()
    comfy.model_management.interrupt_current_processing()
    error = error_of(lambda: restore(model))
    assert isinstance(error, comfy.model_management.InterruptProcessingException)


def check_a_dropped_model_is_freed_at_once() -> None:
    model = load()
    restore(model)
    gc.disable()
    alive = weakref.ref(model.model)
    del model
    freed = alive() is None
    gc.enable()
    assert freed


def check_moving_the_slider_computes_the_blend_alone() -> None:
    blending: Any = import_module(f"{CORE}.checkpoints.blending")
    model_a, model_b = load(), UpscaleModelLoader.execute("x2.pth").args[0]
    before = [[w.clone() for w in m.model.state_dict().values()] for m in (model_a, model_b)]
    tried, warn = [], blending.blend_warning
    blending.blend_warning = lambda *args: tried.append(args) or warn(*args)
    try:
        with torch.inference_mode():
            for amount in (0.0, 0.5, 1.0):
                blended = pack.SwinIRBlendModels.execute(model_a, model_b, amount).args[0]
                assert not any(p.requires_grad for p in blended.model.parameters())
    finally:
        blending.blend_warning = warn
    assert len(tried) == 1
    for model, weights in zip((model_a, model_b), before, strict=True):
        assert all(map(torch.equal, model.model.state_dict().values(), weights))
    gc.collect()
    tried.clear()
    alive = [weakref.ref(model.model) for model in (model_a, model_b, blended)]
    del model_a, model_b, model, blended
    gc.collect()
    assert [reference() for reference in alive] == [None] * 3


def check_configured_folders_come_first_and_list_models_only() -> None:
    folders, suffixes = folder_paths.folder_names_and_paths["swinir"]
    assert folders == [
        str(BASE / "elsewhere"),
        str(BASE / "models" / "swinir"),
        *folder_paths.get_folder_paths("upscale_models"),
    ]
    assert suffixes == {".safetensors", ".pth", ".pt", ".ckpt"}
    assert suffixes is not folder_paths.supported_pt_extensions


def check_a_name_that_comes_by_a_link_is_checked_when_it_is_there() -> None:
    assert pack.SwinIRModelLoader.validate_inputs(None) is True
    assert "no model 'x3'" in pack.SwinIRModelLoader.validate_inputs("x3")


def check_names_lead_nowhere_else() -> None:
    secret = BASE / "secret.safetensors"
    secret.write_bytes((BASE / "models" / "swinir" / "x2.safetensors").read_bytes())
    for name in ("../../secret.safetensors", str(secret), "bundled/../x", "", "."):
        error = error_of(lambda name=name: load(name))
        assert isinstance(error, FileNotFoundError), name
    error = error_of(lambda: pack.SwinIRModelLoader.execute(None))
    assert "no model is chosen" in str(error)


report(globals())
