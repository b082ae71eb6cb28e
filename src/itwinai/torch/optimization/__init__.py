"""From a loss to an optimizer step, and what decides about the next epoch."""
