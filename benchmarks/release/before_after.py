"""Draw docs/before_after.png: the sample picture enlarged by Pillow's bicubic and by SwinIR.

python -m benchmarks.release.before_after
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

import swinir_core as sc
from swinir_core.model_names import DEFAULT_MODEL

SAMPLE = Path(sc.__file__).parent / "samples" / "chelsea.png"
CROP = (60, 20, 180, 120)  # left, top, right, bottom in the small picture
ZOOM = 3  # each pixel of the results is drawn this wide


def main() -> None:
    small = Image.open(SAMPLE).convert("RGB").crop(CROP)
    pixels = torch.from_numpy(np.array(small)).float()[None] / 255
    restored = sc.Restorer(sc.load_model(DEFAULT_MODEL))(pixels)[0]
    ours = Image.fromarray((restored * 255).round().byte().numpy())
    bicubic = small.resize(ours.size, Image.Resampling.BICUBIC)
    width, height = ours.width * ZOOM, ours.height * ZOOM
    gap = 6
    sheet = Image.new("RGB", (2 * width + gap, height), "white")
    for number, picture in enumerate((bicubic, ours)):
        zoomed = picture.resize((width, height), Image.Resampling.NEAREST)
        sheet.paste(zoomed, (number * (width + gap), 0))
    sheet.save(Path(__file__).parents[2] / "docs" / "before_after.png", optimize=True)


if __name__ == "__main__":
    main()
