"""Jobs of Slurm as programs written for itwinai 0.4 describe and build them."""
