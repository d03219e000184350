"""Examples that enlarge what a diffusion model made; the user brings the checkpoint."""

from __future__ import annotations

from dataclasses import replace

from .graph import ASTRONAUT, MIDDLE, Node, Workflow
from .parts import (
    CHECKPOINT,
    CHECKPOINT_PAGE,
    X2,
    X4,
    after,
    before,
    model,
    restore,
    sample,
    simple,
)

NEGATIVE = "blurry, low quality, text, watermark"


def checkpoint() -> Node:
    return Node(
        "checkpoint",
        "CheckpointLoaderSimple",
        values={"ckpt_name": CHECKPOINT},
        download=CHECKPOINT_PAGE,
    )


def prompts(positive: str) -> tuple[Node, ...]:
    """Say what the picture shows, and what not.

    Low enough for the link from the checkpoint to the sampler to pass above.
    """
    return tuple(
        Node(key, "CLIPTextEncode", title, {"text": text}, {"clip": "checkpoint.CLIP"}, above=above)
        for key, title, text, above in (
            ("positive", "Prompt", positive, 70),
            ("negative", "Negative prompt", NEGATIVE, 0),
        )
    )


def sampler(key: str, title: str, latent: str, denoise: float) -> Node:
    return Node(
        key,
        "KSampler",
        title,
        {
            "seed": 1,
            "control_after_generate": "fixed",
            "steps": 20,
            "cfg": 7.0,
            "sampler_name": "dpmpp_2m",
            "scheduler": "karras",
            "denoise": denoise,
        },
        {
            "model": "checkpoint.MODEL",
            "positive": "positive.CONDITIONING",
            "negative": "negative.CONDITIONING",
            "latent_image": latent,
        },
    )


def decode(latent: str) -> Node:
    return Node("decode", "VAEDecode", links={"samples": latent, "vae": "checkpoint.VAE"})


AFTER_DIFFUSION = Workflow(
    "06 Upscale after diffusion",
    f"""
# Enlarge what a diffusion model made

1. **Load Checkpoint**: choose a checkpoint. The sizes here suit Stable Diffusion 1.5; for SDXL \
set 1024 in **Empty Latent Image**.
2. Write a **Prompt** and press **Run**.

The first sampler makes a picture of 512x512. Enlarging its latent by 1.5 and sampling again at \
*denoise* 0.5 adds detail: 768x768. SwinIR then doubles the decoded picture without changing what \
is in it: 1536x1536.

**Second pass**: lower *denoise* keeps more of the first picture; below 0.4 the enlarged latent \
stays blurred.

**Load SwinIR Model**: *{X4}*, or a published file in *models/swinir*, for a larger or better \
result. The seeds are fixed, so that trying another model does not sample again. Set \
*control after generate* to *randomize* for new pictures.
""",
    (
        (
            (
                checkpoint(),
                Node("empty", "EmptyLatentImage", values={"width": 512, "height": 512}),
            ),
            prompts("photograph of a cat in a garden, detailed fur, soft morning light"),
            (sampler("first", "First pass", "empty.LATENT", 1.0),),
            (
                Node(
                    "enlarge",
                    "LatentUpscaleBy",
                    values={"upscale_method": "bislerp", "scale_by": 1.5},
                    links={"samples": "first.LATENT"},
                ),
                sampler("second", "Second pass", "enlarge.LATENT", 0.5),
            ),
        ),
        (
            (decode("second.LATENT"),),
            # Low enough for the picture's link to pass above.
            (replace(before("decode.IMAGE", "Before"), above=70),),
            (replace(model(X2), above=70),),
            (restore("decode.IMAGE"),),
            (after(),),
        ),
    ),
    focus=MIDDLE,
    stand_in=simple("", "", X2, "cat", MIDDLE),
)

SECOND_PASS = Workflow(
    "07 Upscale and add detail by sampling",
    """
# Enlarge with SwinIR, then add detail by sampling

1. **Load Checkpoint**: choose a checkpoint.
2. **Prompt**: say what the picture shows.
3. Press **Run**.

SwinIR enlarges the picture four times. **Upscale Image By** shrinks it to the size you want, here \
half of that, so twice the original. It is encoded and sampled once more at a low *denoise*, which \
adds detail that no restoration model can know.

**Upscale Image By**: change *scale_by* to 1 for four times the size, if the memory of your \
graphics card allows sampling at that size.

**Add detail**: a *denoise* of 0.2 changes little; from 0.5 on the picture becomes another one.

Then delete **SwinIR Sample Image** and connect **Load Image**, or the decoded picture of a \
sampler, in its place.
""",
    (
        (
            (sample("astronaut"), model(X4)),
            (restore(),),
            (
                Node(
                    "shrink",
                    "ImageScaleBy",
                    values={"upscale_method": "lanczos", "scale_by": 0.5},
                    links={"image": "restore.IMAGE"},
                ),
            ),
            (before("shrink.IMAGE", "Enlarged by SwinIR"),),
        ),
        (
            (
                checkpoint(),
                Node(
                    "encode", "VAEEncode", links={"pixels": "shrink.IMAGE", "vae": "checkpoint.VAE"}
                ),
            ),
            prompts(
                "photograph of a smiling woman in an orange space suit, detailed hair, studio light"
            ),
            (sampler("detail", "Add detail", "encode.LATENT", 0.3),),
            (decode("detail.LATENT"),),
            (after("decode.IMAGE", "With detail"),),
        ),
    ),
    focus=ASTRONAUT,
    stand_in=simple("", "", X4, "astronaut", ASTRONAUT),
)
