"""How the processes of one training work together: one file per strategy."""
