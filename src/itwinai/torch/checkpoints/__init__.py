"""What a training leaves: checkpoints, which of them stay, and the state in them."""
