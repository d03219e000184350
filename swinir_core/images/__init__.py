"""Pictures as arrays in memory: colour, levels, size, and how close two of them are."""
