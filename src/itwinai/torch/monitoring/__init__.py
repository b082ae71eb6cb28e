"""What a training takes of its machine."""
