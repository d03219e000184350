"""The paper's losses: pixel, perceptual, adversarial, and their sum."""
