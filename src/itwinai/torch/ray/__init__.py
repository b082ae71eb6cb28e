"""The bridge between a training, the studies, and Ray."""
