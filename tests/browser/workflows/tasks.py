"""One example for each task, and one that measures."""

from __future__ import annotations

from dataclasses import replace

from .graph import ASTRONAUT, CAT, COFFEE, LARGE_PICTURE, ROCKET, SEAM, SPOON, Node, Workflow
from .parts import (
    DENOISE,
    DENOISE_GRAY,
    JPEG,
    MORE_MODELS,
    OWN_PICTURE,
    REAL,
    REAL_WORLD_REPAIRS,
    X2,
    X4,
    after,
    before,
    model,
    restore,
    sample,
    simple,
)

UPSCALE_PHOTO = simple(
    "01 Upscale a photograph",
    f"""
# Upscale a photograph

Press **Run**. The picture becomes twice as wide and high and is saved in the *output* folder.

{OWN_PICTURE}

**Load SwinIR Model**: choose *{X4}* for four times the size.

{MORE_MODELS}

Large pictures are cut into tiles only when the memory is short. To decide that yourself, see the \
example *Large picture in tiles*.
""",
    X2,
    "cat",
    CAT,
)

DENOISE_PHOTO = simple(
    "03 Remove noise",
    f"""
# Remove noise

Press **Run**. The sample picture is made noisy, and the model takes the noise away. The size \
stays as it is.

**SwinIR Sample Image**: change *noise* (a standard deviation on the scale of 0 to 255) to see how \
far it goes. The bundled model is made for 15 to 50. {OWN_PICTURE}

{MORE_MODELS} The number in the names of the published denoisers is the noise they are made for: \
choose the one nearest to yours; a higher one makes pictures too smooth.
""",
    DENOISE,
    "coffee",
    COFFEE,
    noise=25,
)

REMOVE_JPEG = simple(
    "04 Remove JPEG artefacts",
    f"""
# Remove JPEG artefacts

Press **Run**. The sample picture is saved as a poor JPEG, and the model smooths the blocks and \
the ringing away, as far as so small a model can. The size stays as it is.

**SwinIR Sample Image**: change *JPEG quality*. The bundled model is made for 10 to 40. \
{OWN_PICTURE}

{MORE_MODELS} The number in the names of the published models is the JPEG quality they are made \
for.
""",
    JPEG,
    "rocket",
    ROCKET,
    jpeg_quality=20,
)

REAL_WORLD = simple(
    "02 Restore a picture from the web",
    f"""
# Restore a picture from the web

Press **Run**. The sample picture is made small, noisy and compressed, as pictures are that have \
been passed on many times. The model cleans it and enlarges it four times.

{OWN_PICTURE}

For a clean photograph the example *Upscale a photograph* keeps more detail.

{MORE_MODELS} Of the published *003_realSR* files, those with *GAN* in the name invent more \
detail, and those with *PSNR* stay closer to the picture.
""",
    REAL,
    "astronaut",
    ASTRONAUT,
    shrink=2,
    noise=5,
    jpeg_quality=60,
)

GRAY_IMAGE = simple(
    "05 Remove noise from a gray picture",
    f"""
# Remove noise from a gray picture

Press **Run**. The sample picture is made gray and noisy, and a model for gray pictures takes the \
noise away.

**SwinIR Sample Image**: change *noise* (a standard deviation on the scale of 0 to 255). The \
bundled model is made for 15 to 50. {OWN_PICTURE} A gray picture needs no conversion.

Given a colour picture, a gray model restores red, green and blue one by one. Models for colour \
do better there, and they accept gray pictures as well.

{MORE_MODELS}
""",
    DENOISE_GRAY,
    "cat",
    CAT,
    noise=25,
    gray=True,
)

COMPARE_QUALITY = Workflow(
    "13 Measure the quality",
    """
# Measure how much better it became

Press **Run**. The sample picture is made noisy, then restored. Both are compared with the \
original: **Quality before** and **Quality after** show the peak signal-to-noise ratio (PSNR, in \
decibels) and the structural similarity (SSIM, 1 for equal pictures). Higher is better. Where the \
frontend clears both when the run ends, **PSNR before** and **PSNR after** stay.

**SwinIR Sample Image**: change *noise* and see which numbers follow.

**Quality**: *channel* *Y* measures brightness, as is usual for enlarged pictures and gray ones; \
*RGB* measures all colours, as is usual for noise. *border* leaves out pixels at the edges; for \
enlarged pictures it is usually the scale.

To compare models, add a second **Load SwinIR Model** and **Upscale or Restore (SwinIR)**.
""",
    (
        (
            (sample("rocket", noise=25), model(DENOISE)),
            (restore(), before()),
            tuple(
                Node(
                    f"quality_{when}",
                    "SwinIRImageQuality",
                    f"Quality {when}",
                    {"channel": "RGB"},
                    {"image": image, "reference": "sample.original"},
                )
                for when, image in (("before", "sample.image"), ("after", "restore.IMAGE"))
            ),
            (
                Node(
                    "psnr_before",
                    "PreviewAny",
                    "PSNR before",
                    {},
                    {"source": "quality_before.psnr"},
                ),
                Node(
                    "psnr_after", "PreviewAny", "PSNR after", {}, {"source": "quality_after.psnr"}
                ),
                after(),
            ),
        ),
    ),
    focus=ROCKET,
)

BLEND_MODELS = Workflow(
    "14 Blend two models",
    f"""
# Blend two models into one

Press **Run**. The sample picture is noisy and was saved as a JPEG. **SwinIR Blend Models** mixes \
a denoiser with a model for JPEG artefacts, and the blend repairs both better than either model \
alone.

**SwinIR Blend Models**: move *amount* from 0 (**Model a**) to 1 (**Model b**). The higher it is, \
the more grain stays. No file is read again.

**Save SwinIR Model**: click its title and press Ctrl+M to switch it on; it keeps the blend as a \
file.

**Your own models**: two files with the same shape, one trained from the other: denoisers of two \
strengths, *PSNR* and *GAN*. The node says where two models do not blend.

{OWN_PICTURE}
""",
    (
        (
            (
                model(DENOISE, "model_a", "Model a: noise"),
                model(JPEG, "model_b", "Model b: JPEG artefacts"),
            ),
            (
                sample("cat", noise=15, jpeg_quality=60),
                Node(
                    "blend",
                    "SwinIRBlendModels",
                    values={"amount": 0.5},
                    links={
                        "model_a": "model_a.UPSCALE_MODEL",
                        "model_b": "model_b.UPSCALE_MODEL",
                    },
                ),
            ),
            (
                # Low enough for the link to the picture before to pass above.
                replace(restore(upscale_model="blend.UPSCALE_MODEL"), above=70),
                Node(
                    "save",
                    "SwinIRSaveModel",
                    values={"name": "my_blend"},
                    links={"upscale_model": "blend.UPSCALE_MODEL"},
                    muted=True,
                ),
            ),
            (before(), after()),
        ),
    ),
    focus=CAT,
)

SIZE = Workflow(
    "16 Upscale to the size you want",
    f"""
# Upscale to the size you want

Press **Run**. The picture is made 1024 pixels wide. The model enlarges it four times, which is \
more, and the result is shrunk.

**Upscale or Restore (SwinIR)**: *size* says what *size value* means.

- *longer side*: pixels of the longer side, such as 1920 or 3840.
- *factor*: 1.5 makes width and height one and a half times as large.
- *megapixels*: 8 makes about 8 million pixels, whatever the shape.
- *model*: the model's own scale; *size value* has no effect.

Where one run is not enough, the model runs again over its own result. The memory it takes stays \
bounded.

*strength*: below 1 the plainly enlarged picture shows through.

{OWN_PICTURE}
""",
    (
        (
            (sample("coffee"), model(X4)),
            (
                restore(values={"size": "longer side", "size_value": 1024.0}),
                Node(
                    "plain",
                    "ImageScale",
                    "Enlarged without a model",
                    # A height of 0 keeps the shape.
                    {"upscale_method": "bicubic", "width": 1024, "height": 0},
                    {"image": "sample.image"},
                ),
            ),
            (after(room=LARGE_PICTURE), before("plain.IMAGE", "Without a model", LARGE_PICTURE)),
        ),
    ),
    focus=SPOON,
)


def tiled(key: str, source: str) -> tuple[Node, Node]:
    """Puts four copies of a picture together; the second node gives it."""
    row, square = f"{key}_row", f"{key}_square"
    return (
        Node(row, "ImageStitch", "Two copies", {}, {"image1": source, "image2": source}),
        Node(
            square,
            "ImageStitch",
            "Four copies",
            {"direction": "down"},
            {"image1": f"{row}.IMAGE", "image2": f"{row}.IMAGE"},
        ),
    )


SEAMLESS = Workflow(
    "17 Seamless textures",
    f"""
# Textures that stay seamless

Press **Run**. A seamless texture is enlarged four times, and four copies of the result are put \
together.

**Wrapped**: no seam, because *edges* is *wrapped*: beyond each edge the model sees the opposite \
one.

**Not wrapped**: the host's own node knows nothing of the opposite edge. Look for the cross in the \
middle, where the copies meet.

**Upscale or Restore (SwinIR)**: for 360° panoramas set *edges* to *wrapped horizontally*.

Sides that are multiples of 8 pixels are exact and cost nothing; others fit as well as tiles do.

{OWN_PICTURE}
""",
    (
        (
            (sample("terrazzo", shrink=4), model(REAL)),
            (
                restore(values={"edges": "wrapped"}),
                Node(
                    "host",
                    "ImageUpscaleWithModel",
                    links={"upscale_model": "model.UPSCALE_MODEL", "image": "sample.image"},
                ),
            ),
            (*tiled("wrapped", "restore.IMAGE"), *tiled("plain", "host.IMAGE")),
            (
                after("wrapped_square.IMAGE", "Wrapped", (400, 420)),
                before("plain_square.IMAGE", "Not wrapped", (400, 420)),
            ),
        ),
    ),
    focus=SEAM,
)

LOOK = Workflow(
    "18 Let a node choose the model",
    f"""
# Let a node choose the model

Press **Run**. **SwinIR Look at Image** estimates noise, JPEG quality and blur of the picture, \
says which bundled model helps, and how much of it. Here **Load SwinIR Model** loads that one, and \
**Upscale or Restore (SwinIR)** takes that *strength*.

**SwinIR Sample Image**: set *noise* to 0 and *JPEG quality* to 30, and another model is loaded. A \
clean picture is enlarged.

To choose yourself, disconnect *model* of **Load SwinIR Model** and *strength*; the advice \
remains. *edges* and *colors* are set as the real-world model needs them.

Look at pictures in their own size: once they are shrunk or enlarged less can be told.

{OWN_PICTURE}
""",
    (
        (
            (
                sample("astronaut", noise=12),
                Node("look", "SwinIRLookAtImage", links={"image": "sample.image"}),
            ),
            # Low enough for the link to the picture to pass above.
            (
                Node(
                    "model", "SwinIRModelLoader", links={"model_name": "look.model_name"}, above=420
                ),
                Node("advice", "PreviewAny", "Advice", {}, {"source": "look.advice"}),
            ),
            (
                replace(
                    restore(values=REAL_WORLD_REPAIRS, strength="look.strength"),
                    above=70,
                ),
            ),
            (before(), after()),
        ),
    ),
    focus=ASTRONAUT,
)
