"""Time and memory against image size, from recorded measurements, as a PNG.

    python -m benchmarks.release.plot benchmarks/results/cpu.json --out docs/speed.png

Needs matplotlib. Several files are drawn as one, and where they measured the same image the last
counts.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

LINES = {
    # (network, precision): label, colour
    ("spandrel", "float32"): ("spandrel, float32", "#6e7781"),
    ("spandrel", "bfloat16"): ("spandrel, bfloat16", "#b0b7c0"),
    ("swinir", "float32"): ("ours, float32", "#1f6feb"),
    ("swinir", "bfloat16"): ("ours, bfloat16", "#d9480f"),
}
PANELS = {
    # what: title, unit, units of one
    "median_seconds": ("Time of one forward pass", "seconds", 1.0),
    "peak_bytes": ("Peak memory, without the weights", "MB", 1e-6),
}
FAINT, GRAY = "#d8dee4", "#57606a"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", type=Path, nargs="+", metavar="FILE.json")
    parser.add_argument("--model", default="lightweight_sr_x2")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.png")
    args = parser.parse_args()
    reports = [json.loads(file.read_text("utf-8")) for file in args.results]
    cases = [case for report in reports for case in report["cases"] if case["model"] == args.model]
    if not cases:
        parser.error(f"no file has measurements of {args.model}; choose another --model.")
    draw(cases, caption(args.model, reports[-1]), args.out)


def draw(cases: Sequence[dict[str, Any]], text: str, out: Path) -> None:
    figure = Figure(figsize=(9, 4))
    axes = figure.subplots(1, len(PANELS))
    for panel, axis in zip(PANELS, axes, strict=True):
        draw_panel(axis, panel, cases)
    lines, labels = axes[0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="upper center", ncols=len(lines), frameon=False)
    figure.text(0.5, 0.02, text, ha="center", fontsize=8, color=GRAY)
    figure.tight_layout(rect=(0, 0.05, 1, 0.93), w_pad=3)
    figure.savefig(out, dpi=180)


def draw_panel(axis: Axes, panel: str, cases: Sequence[dict[str, Any]]) -> None:
    title, unit, units = PANELS[panel]
    sizes: dict[int, str] = {}
    for (network, precision), (label, colour) in LINES.items():
        points = {}
        for case in cases:
            if (case["network"], case["precision"]) == (network, precision) and case[panel]:
                pixels = case["width"] * case["height"]
                points[pixels] = case[panel] * units
                sizes[pixels] = size_label(case["width"], case["height"])
        x = sorted(points)
        y = [points[pixels] for pixels in x]
        axis.plot(x, y, "o-", color=colour, label=label, linewidth=2, markersize=5)
    axis.set(xscale="log", yscale="log", xlabel="input image, pixels", ylabel=unit)
    axis.set_title(title, fontsize=11, fontweight="bold", loc="left", pad=10)
    axis.set_xticks(sorted(sizes), [sizes[pixels] for pixels in sorted(sizes)])
    axis.xaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_minor_locator(NullLocator())
    low, high = axis.get_ylim()
    axis.yaxis.set_major_locator(LogLocator(subs=(1,) if high > 300 * low else (1, 2, 5)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axis.grid(axis="y", color=FAINT, linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color(FAINT)
    axis.tick_params(length=0)


def size_label(width: int, height: int) -> str:
    return f"{width}²" if width == height else f"{width}×{height}"


def caption(model: str, report: dict[str, Any]) -> str:
    machine, versions = report["machine"], report["versions"]
    on = f"{machine['processor']}, threads: {machine['threads']}"
    if machine["device"] != "cpu":
        on = machine["device"]
    return f"{model} on {on}; torch {versions['torch']}, spandrel {versions['spandrel']}"


if __name__ == "__main__":
    main()
