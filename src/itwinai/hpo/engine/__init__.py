"""The machine room: Ray Tune's controller runs a study's trials in warm, reused slots."""
