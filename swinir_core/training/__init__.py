"""Training: settings, data, losses and the loop."""
