"""The node that loads a SwinIR."""

from __future__ import annotations

from pathlib import Path

from comfy_api.latest import io

from ..swinir_core.choices import MEAN_NAMES, RANGES
from ..swinir_core.errors import OtherNetworkError
from ..swinir_core.model_names import bundled_files, title
from . import host

BUNDLED = "bundled/"
AS_IN_FILE = "as in the file"


class SwinIRModelLoader(io.ComfyNode):
    """Loads a bundled model or a file as an ``UPSCALE_MODEL``."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="SwinIRModelLoader",
            display_name="Load SwinIR Model",
            category=host.loader_category(),
            description=(
                "Loads a SwinIR for super-resolution, denoising or JPEG artefact removal. Scale, "
                "task and size are read from the file. Put files into models/swinir or "
                "models/upscale_models; the bundled models need no file."
            ),
            search_aliases=["swinir", "upscale model", "super resolution", "denoise", "jpeg"],
            inputs=[
                io.Combo.Input(
                    "model_name",
                    options=model_names(),
                    tooltip=(
                        "The model decides what is done: enlarging by its scale, or removing "
                        "noise or JPEG artefacts at the same size. Change it for another task; "
                        "after adding a file, refresh the list with R. Models of other "
                        "architectures need the host's own Load Upscale Model."
                    ),
                ),
                io.Combo.Input(
                    "mean",
                    options=[AS_IN_FILE, *MEAN_NAMES],
                    default=AS_IN_FILE,
                    optional=True,
                    tooltip=(
                        "What the network subtracts from pixels, which most files do not tell. "
                        "Change it where colors come out shifted: networks from neosr have 0.5, "
                        "the official ones DIV2K for color and none for gray."
                    ),
                ),
                io.Combo.Input(
                    "img_range",
                    options=[AS_IN_FILE, *RANGES],
                    default=AS_IN_FILE,
                    optional=True,
                    tooltip=(
                        "To what the network stretches pixels of 0 to 1, which most files do not "
                        "tell. Change it where the result is wrong all over: taken is 255 for "
                        "windows of 7, as in the official JPEG models, and 1 for others."
                    ),
                ),
            ],
            outputs=[
                io.UpscaleModel.Output(
                    tooltip=(
                        "Connect it to Upscale or Restore (SwinIR), or to any other node that "
                        "takes an upscale model."
                    ),
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @host.plain_errors
    def execute(
        cls, model_name: str, mean: str = AS_IN_FILE, img_range: str = AS_IN_FILE
    ) -> io.NodeOutput:
        from ..swinir_core import read_checkpoint
        from ..swinir_core.checkpoints.models import describe, with_pixels
        from .running.upscale_model import SwinIRUpscaleModel

        host.check_choice("mean", mean, (AS_IN_FILE, *MEAN_NAMES))
        host.check_choice("img_range", img_range, (AS_IN_FILE, *RANGES))
        try:
            checkpoint = read_checkpoint(find_file(model_name))
        except OtherNetworkError as error:
            raise OtherNetworkError(advised(error), error.is_upscaler) from error
        chosen = (None if value == AS_IN_FILE else value for value in (mean, img_range))
        checkpoint = with_pixels(checkpoint, *chosen)
        host.show_text(cls, describe(checkpoint))
        return io.NodeOutput(SwinIRUpscaleModel(checkpoint))

    @classmethod
    def validate_inputs(cls, model_name: str | None = None) -> bool | str:
        """Replaces the host's own check, which knows only the separators of its system.

        The name is None where another node is going to give it.
        """
        if model_name is None or listed_name(model_name) is not None:
            return True
        return f"there is no model {model_name!r}; press R to read the list again."

    @classmethod
    def fingerprint_inputs(cls, model_name: str | None, **_: str | None) -> tuple[int, int] | None:
        """Time and size of the file, so that the host loads it again when it is replaced.

        None where another node is going to give the name.
        """
        if model_name is None:
            return None
        stat = find_file(model_name).stat()
        return stat.st_mtime_ns, stat.st_size


def advised(error: OtherNetworkError) -> str:
    """The message of ``error`` behind what to do, for a dialog may cut off its end."""
    if error.is_upscaler is False:
        return str(error)
    doubt = "" if error.is_upscaler else "If this is an upscale model, "
    restore = '"Upscale or Restore (SwinIR)"'
    advice = f'{doubt}load it with "Load Upscale Model" and connect that to {restore}'
    return f"{advice[0].upper()}{advice[1:]}: {error}"


def model_names() -> list[str]:
    """Names to choose from: bundled models first, then files."""
    return [*titled_files(), *host.model_files()]


def titled_files() -> dict[str, Path]:
    """The files of the bundled models, by the names they have in the list."""
    return {BUNDLED + title(name): path for name, path in bundled_files().items()}


def listed_name(model_name: str) -> str | None:
    """The entry of ``model_names`` that ``model_name`` means; None without one.

    Other packs and older workflows write names with the backslashes of Windows. A file that has a
    backslash in its own name is found first.
    """
    names = model_names()
    spellings = (model_name, str(model_name).replace("\\", "/"))
    return next((spelling for spelling in spellings if spelling in names), None)


def find_file(model_name: str | None) -> Path:
    """The file of a model name, which comes from the outside: only known ones lead to a file.

    Raises ``FileNotFoundError`` for any other, and for none, which the host's check lets through.
    """
    if model_name is None:
        raise FileNotFoundError("model_name: no model is chosen; choose one from the list.")
    name = listed_name(model_name) or model_name
    return titled_files().get(name) or host.model_path(name)
