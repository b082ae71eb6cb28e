"""What all tests need."""

from __future__ import annotations

import os
import signal

# The tests are of trainings on the CPU, the same on every machine; make test-gpu shows them a GPU.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

# A shell that starts the tests in the background has SIGINT ignored, which programs started here
# would inherit; some tests interrupt them.
signal.signal(signal.SIGINT, signal.default_int_handler)
