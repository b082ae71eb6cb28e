"""Configuration: validated models, and the composition of a pipeline from YAML."""
