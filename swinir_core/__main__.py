"""``python -m swinir_core`` is ``swinir``."""

import sys

from .cli import main

sys.exit(main())
