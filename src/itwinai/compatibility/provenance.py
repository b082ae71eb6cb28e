"""The logger of provenance, which comes with its own package now."""

from __future__ import annotations

import importlib
from typing import Any

from itwinai.errors import MissingPackageError

#: Where the package has it.
_HOME, _NAME = "yprov4ml.loggers.prov4ml_itwinai_logger", "ProvMLItwinAILogger"


def _from_yprov4ml() -> Any:
    # By name: the package is optional, and nothing else here needs it.
    try:
        return getattr(importlib.import_module(_HOME), _NAME)
    except (ImportError, AttributeError) as error:
        raise MissingPackageError(
            f"itwinai.loggers.Prov4MLLogger is {_NAME} of yprov4ml ({error}): pip install yprov4ml"
        ) from error


Prov4MLLogger: Any = _from_yprov4ml()
