"""The node that tells what is wrong with an image, and which model repairs it."""

from __future__ import annotations

from comfy_api.latest import io
from torch import Tensor

from . import host
from .model_loader import BUNDLED


class SwinIRLookAtImage(io.ComfyNode):
    """Noise, JPEG quality and blur of an image, and the model to use."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="SwinIRLookAtImage",
            display_name="SwinIR Look at Image",
            category="image",
            description=(
                "Estimates the noise, the JPEG quality and the blur of an image, and names the "
                "bundled model and the strength to use."
            ),
            search_aliases=[
                "swinir",
                "which model",
                "noise level",
                "estimate noise",
                "jpeg quality",
                "blur",
                "analyze image",
            ],
            is_output_node=True,
            inputs=[
                io.Image.Input(
                    "image",
                    tooltip=(
                        "The image to look at, in its own size: shrinking or enlarging hides what "
                        "is wrong with it. Of a batch only the first is looked at."
                    ),
                ),
            ],
            outputs=[
                io.String.Output(
                    display_name="advice",
                    tooltip="What was found and which model to use, as a sentence.",
                ),
                # An older host gives io.Combo.Output another type than the input of the loader.
                io.Custom("COMBO").Output(
                    display_name="model_name",
                    tooltip=(
                        "The model to use. Connect it to model_name of Load SwinIR Model to have "
                        "it loaded; for a clean image it is one that enlarges."
                    ),
                ),
                io.Float.Output(
                    display_name="strength",
                    tooltip=(
                        "How much of the model's result to take: 1 is all, less where the damage "
                        "is lighter than what the model was trained for. Connect it to strength "
                        "of Upscale or Restore (SwinIR)."
                    ),
                ),
                io.Float.Output(
                    display_name="sigma",
                    tooltip="Standard deviation of the noise, in levels of 255.",
                ),
                io.Int.Output(
                    display_name="jpeg_quality",
                    tooltip="Quality of the last JPEG file; 100 where there is no sign of one.",
                ),
                io.Float.Output(
                    display_name="blur",
                    tooltip=(
                        "Standard deviation of the blur in pixels: about 0.5 for a sharp image, 0 "
                        "where there are no edges to tell by."
                    ),
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @host.plain_errors
    def execute(cls, image: Tensor) -> io.NodeOutput:
        from ..swinir_core import bundled_models
        from ..swinir_core.checkpoints.advice import advise
        from ..swinir_core.images.looking import look

        if len(image) == 0:
            raise ValueError("There is no image to look at: the batch is empty.")
        found = look(image[0].float().cpu().numpy())
        advice = advise(found, bundled_models())
        sentence = advice.sentence(advice.model.title)
        text = f"{found}\n{sentence}"
        host.show_text(cls, text)
        values = {
            "model_name": BUNDLED + advice.model.title,
            "strength": advice.strength,
            "sigma": round(found.sigma, 2),
            "jpeg_quality": found.jpeg_quality,
            "blur": round(found.blur, 2),
        }
        # For whoever runs the graph by the API.
        shown = {"text": [text], **{name: [value] for name, value in values.items()}}
        return io.NodeOutput(sentence, *values.values(), ui=shown)
