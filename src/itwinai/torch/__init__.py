"""Training with PyTorch: configuration, strategies, metrics, checkpoints and the trainers."""
