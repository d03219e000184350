"""Distance of real-world x4 models to the pictures of a large one, and their sharpness.

    python -m benchmarks.release.against_teacher --teacher RealESRGAN_x4plus.safetensors \\
        --data BSD100 --model real_x4_light --json benchmarks/results/against-teacher.json

Two sets of pictures, neither trained on: those of ``--data``, degraded blindly with the seed of
their place in the set, as ``swinir evaluate`` does it; and the photographs and scans named in
``KEPT_ASIDE``, as they come with scikit-image and matplotlib, their middle 160x160 pixels. Results
are rounded to 8 bits and compared in full-range luma:

- distance: mean absolute difference to the teacher's picture, as a fraction of that of Pillow's
  bicubic;
- sharpness: mean absolute gradient, as a fraction of the teacher's; only from 0.8 to 1.1 does it
  count as such, because noise and halos have gradients too;
- gradients: mean absolute difference of the gradients to the teacher's, as a fraction of bicubic's;
- color shift: largest difference over the channels of the mean of the picture and of its input, in
  levels.

Beside these, of flat pictures the largest deviation from the input, and of gray ones the largest
spread between channels, in levels. A real-world model is bundled by distance and sharpness; PSNR is
reported only.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib
import numpy as np
import PIL.Image
import skimage
import torch
from spandrel import ImageModelDescriptor, ModelLoader

from swinir_core import Restorer, SwinIR, load_model
from swinir_core.evaluation.protocol import Protocol
from swinir_core.evaluation.test_sets import find_pairs, read_pair
from swinir_core.images.color import rgb_to_gray
from swinir_core.images.levels import to_floats, to_integers

SCALE = 4
SIDE = 160
KEPT_ASIDE = {
    "scikit-image": (
        *("astronaut.png", "brick.png", "camera.png", "chelsea.png", "coffee.png", "coins.png"),
        *("grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png", "moon.png"),
        *("motorcycle_left.png", "page.png", "rocket.jpg", "text.png"),
    ),
    "matplotlib": ("grace_hopper.jpg", "logo2.png"),
}
FOLDERS = {
    "scikit-image": Path(skimage.__file__).parent / "data",
    "matplotlib": Path(matplotlib.get_data_path()) / "sample_data",
}
FLAT = {"white": 255, "black": 0, "gray": 128, "blue": (30, 60, 220), "red": (200, 20, 20)}

Enlarge = Callable[[np.ndarray], np.ndarray]
"""float32 (H, W, 3) in 0..1 to uint8 (4H, 4W, 3)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--teacher", type=Path, required=True, help="a model spandrel reads")
    parser.add_argument("--data", type=Path, help="a folder of good photographs")
    parser.add_argument(
        "--every", type=int, default=1, metavar="N", help="take every Nth photograph"
    )
    parser.add_argument("--model", nargs="+", default=["real_x4_light"])
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    teacher = teacher_of(args.teacher)
    models = {name: load_model(name) for name in args.model}
    sets = {"kept aside": dict(kept_aside())}
    if args.data:
        sets["degraded"] = dict(degraded(args.data, args.every))
    facts = {}
    for title, pictures in sets.items():
        targets = {name: teacher(low) for name, low in pictures.items()}
        for model_name, model in models.items():
            enlarge = student_of(model)
            rows = {
                name: scores(enlarge(low), targets[name], low) for name, low in pictures.items()
            }
            facts[f"{model_name}, {title}"] = {"mean": means(rows), "pictures": rows}
            print_table(f"{model_name}, {title}", rows)
    for model_name, model in models.items():
        facts[f"{model_name}, flat and gray"] = flat_and_gray(student_of(model))
        print(f"\n{model_name}, flat and gray, levels: {facts[f'{model_name}, flat and gray']}")
    if args.json:
        args.json.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def teacher_of(path: Path) -> Enlarge:
    model = ModelLoader().load_from_file(path).eval()
    assert isinstance(model, ImageModelDescriptor)

    @torch.inference_mode()
    def enlarge(low: np.ndarray) -> np.ndarray:
        restored = model(torch.from_numpy(low).movedim(-1, 0)[None])
        return to_integers(restored[0].movedim(0, -1).float().numpy())

    return enlarge


def student_of(model: SwinIR) -> Enlarge:
    restorer = Restorer(model)
    return lambda low: to_integers(restorer(torch.from_numpy(low)[None])[0].numpy())


def kept_aside() -> Iterator[tuple[str, np.ndarray]]:
    for package, names in KEPT_ASIDE.items():
        for name in names:
            picture = np.asarray(PIL.Image.open(FOLDERS[package] / name).convert("RGB"))
            top, left = (max(side - SIDE, 0) // 2 for side in picture.shape[:2])
            yield name, to_floats(np.ascontiguousarray(picture[top:, left:][:SIDE, :SIDE]))


def degraded(folder: Path, every: int) -> Iterator[tuple[str, np.ndarray]]:
    protocol = Protocol("real_sr", SCALE, 3)
    for pair in find_pairs(folder, protocol)[::every]:
        yield pair.name, read_pair(pair, protocol).low


def scores(picture: np.ndarray, target: np.ndarray, low: np.ndarray) -> dict[str, float]:
    """Of one picture, uint8 (4H, 4W, 3), beside the teacher's; ``low`` is float32 (H, W, 3)."""
    height, width = target.shape[:2]
    plain = PIL.Image.fromarray(to_integers(low)).resize(
        (width, height), PIL.Image.Resampling.BICUBIC
    )
    ours, theirs, bicubic = (rgb_to_gray(np.asarray(each)) for each in (picture, target, plain))
    shift = np.abs(picture.mean((0, 1)) - 255 * low.clip(0, 1).mean((0, 1))).max()
    return {
        "distance": np.abs(ours - theirs).mean() / np.abs(bicubic - theirs).mean(),
        "sharpness": sum(np.abs(g).mean() for g in gradients(ours))
        / sum(np.abs(g).mean() for g in gradients(theirs)),
        "gradients": gradient_distance(ours, theirs) / gradient_distance(bicubic, theirs),
        "color shift": float(shift),
    }


def gradients(luma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.diff(luma, axis=0), np.diff(luma, axis=1)


def gradient_distance(luma: np.ndarray, other: np.ndarray) -> float:
    pairs = zip(gradients(luma), gradients(other), strict=True)
    return sum(np.abs(a - b).mean() for a, b in pairs)


def means(rows: dict[str, dict[str, float]]) -> dict[str, float]:
    """Means over pictures, and the fraction of these whose sharpness is that of a sharp picture."""
    mean = {
        key: float(np.mean([row[key] for row in rows.values()]))
        for key in next(iter(rows.values()))
    }
    mean["sharp enough"] = float(np.mean([0.8 <= row["sharpness"] <= 1.1 for row in rows.values()]))
    mean["worst color shift"] = max(row["color shift"] for row in rows.values())
    return mean


def flat_and_gray(enlarge: Enlarge) -> dict[str, int]:
    largest = {}
    for name, color in FLAT.items():
        flat = np.full((48, 56, 3), color, np.uint8)
        error = enlarge(to_floats(flat)).astype(int) - np.array(color)
        largest[name] = int(np.abs(error).max())
    camera = np.asarray(PIL.Image.open(FOLDERS["scikit-image"] / "camera.png").convert("RGB"))
    picture = enlarge(to_floats(np.ascontiguousarray(camera[150:310, 150:310]))).astype(int)
    return largest | {"gray spread": int((picture.max(-1) - picture.min(-1)).max())}


def print_table(title: str, rows: dict[str, dict[str, float]]) -> None:
    print(f"\n{title}\n{'':28}" + "".join(f"{key:>13}" for key in next(iter(rows.values()))))
    for name, row in rows.items():
        print(f"{name[-26:]:28}" + "".join(f"{value:13.2f}" for value in row.values()))
    print("mean  " + ", ".join(f"{key} {value:.3f}" for key, value in means(rows).items()))


if __name__ == "__main__":
    main()
