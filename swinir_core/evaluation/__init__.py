"""Scores by the protocol of the paper's tables."""
