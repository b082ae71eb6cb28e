"""A study's record and its pipeline, as the commands read them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from itwinai.cli.output import messages_aside

if TYPE_CHECKING:
    from itwinai.cli.kept import KeptPipeline
    from itwinai.hpo.record import StudyResult, Trial


def load(study: Path) -> StudyResult:
    """Read a study; what of it is damaged is told on standard error."""
    from itwinai.hpo.record import load_study

    with messages_aside(True):
        return load_study(study)


def best_of(result: StudyResult) -> Trial:
    """Return a study's best trial.

    Raises:
        StudyError: If it has none.
    """
    from itwinai.hpo.errors import StudyError

    best = result.best
    if best is None:
        raise StudyError(f"study {result.name!r} has no best trial: none reported {result.metric}")
    return best


def kept_of(study: Path, allow: list[str] | None) -> KeptPipeline:
    """Read the pipeline that a study keeps, which may name what ``--allow`` says."""
    from itwinai.cli.kept import KeptPipeline
    from itwinai.config.allowing import allowed_names

    return KeptPipeline.read(study).allowing(allowed_names(allow or ()))


def data_from(steps: list[Any]) -> tuple[Any, ...]:
    """Run the steps before a trainer; return what its ``execute`` would get."""
    from itwinai.pipeline import Pipeline

    output = Pipeline(steps).execute()
    return output if isinstance(output, tuple) else (output,)
