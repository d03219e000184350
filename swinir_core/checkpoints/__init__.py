"""Model files: read and recognised, whoever wrote them, and written; the bundled models."""
