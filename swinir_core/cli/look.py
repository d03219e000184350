"""``swinir look``: what is wrong with image files, and the model to use."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from ..checkpoints.advice import advise
from ..checkpoints.models import bundled_models
from ..errors import ImageError
from ..image_files.finding import find_images
from ..image_files.picture import FORMATS, READ_ONLY
from ..image_files.reading import open_file
from ..images.looking import look as look_at
from ..text import shown
from .options import STDOUT
from .output import report_error, sentence, write_json


def look(args: argparse.Namespace) -> int:
    """Print lines about every image the arguments name; a file that fails does not stop the
    others."""
    out = sys.stderr if args.json == STDOUT else sys.stdout
    looks: list[dict[str, Any]] = []
    failures = 0
    for name in args.inputs:
        try:
            found = find_images([name], None, [*FORMATS, *READ_ONLY])
        except ImageError as error:
            report_error(error)
            failures += 1
            continue
        for path, _ in found:
            try:
                picture = next(open_file(path).pictures)
                seen = look_at(picture.levels())
            except ImageError as error:
                report_error(error)
                failures += 1
            except (ValueError, OSError, MemoryError) as error:
                report_error(f"{shown(path)} was not looked at: {sentence(error)}")
                failures += 1
            else:
                advice = advise(seen, bundled_models())
                facts = str(seen).replace("\n", ", ")
                line = advice.sentence(advice.model.name)
                print(f"{shown(path)}: {facts}\n  {line}", file=out)
                looks.append(
                    {
                        "file": str(path),
                        "sigma": round(seen.sigma, 2),
                        "jpeg_quality": seen.jpeg_quality,
                        "blur": round(seen.blur, 2),
                        "gray": seen.gray,
                        "clean": advice.clean,
                        "model": advice.model.name,
                        "strength": advice.strength,
                    }
                )
    if args.json:
        write_json(args.json, {"images": looks})
    return 1 if failures else 0
