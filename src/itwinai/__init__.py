"""itwinai: from a PyTorch training pipeline to a distributed hyper-parameter study.

Importing this package is cheap: neither torch nor ray is loaded until a module that needs it is.
"""

from __future__ import annotations

import logging
import os
import sys

__version__ = "0.1.0"

#: The library's logger: to standard output, at the level of ``ITWINAI_LOG_LEVEL`` (INFO).
logger = logging.getLogger("itwinai")


#: Of programs written for itwinai 0.4; the library itself does not use it.
plain_logger = logging.getLogger("cli_logger")


class _StdoutHandler(logging.Handler):
    """Writes to what ``sys.stdout`` is at that moment: in a trial, the trial's log file."""

    def emit(self, record: logging.LogRecord) -> None:
        sys.stdout.write(self.format(record) + "\n")


if not logger.handlers:
    logger.addHandler(_StdoutHandler())
    logger.setLevel(os.environ.get("ITWINAI_LOG_LEVEL", "INFO").upper())
    logger.propagate = False

__all__ = ["__version__", "logger", "plain_logger"]
