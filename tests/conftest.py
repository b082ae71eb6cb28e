"""What all tests need."""

from __future__ import annotations

import signal

# A shell that starts the tests in the background has SIGINT ignored, which programs started here
# would inherit; some tests interrupt them.
signal.signal(signal.SIGINT, signal.default_int_handler)
