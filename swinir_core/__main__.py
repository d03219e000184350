"""``python -m swinir_core`` is ``swinir``."""

import sys

from .cli.main import main

sys.exit(main())
