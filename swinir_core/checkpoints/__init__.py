"""Files of weights: reading, recognising and writing them, and the bundled models."""
