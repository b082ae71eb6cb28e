"""What remains of a study: its journal, and everything that is read from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from itwinai.lazy import lazily

if TYPE_CHECKING:
    from itwinai.hpo.record.attempts import Attempt, attempts_of
    from itwinai.hpo.record.attributes import Setup, Start
    from itwinai.hpo.record.cost import Cost
    from itwinai.hpo.record.exporting import csv_text, export_study, plain, plain_study, plain_trial
    from itwinai.hpo.record.journal import FILE_NAME, LiveRecord, MemoryRecord, StudyRecord, repair
    from itwinai.hpo.record.listing import (
        STOP_FILE,
        ListedStudy,
        is_running,
        list_studies,
        state_of,
        stop_study,
    )
    from itwinai.hpo.record.mending import legible
    from itwinai.hpo.record.nodes import NodeVerdict
    from itwinai.hpo.record.origin import (
        PIPELINE_FILE,
        is_of_this_job,
        keep_job,
        keep_pipeline,
        pipeline_of,
        resume_command,
        this_start,
    )
    from itwinai.hpo.record.quiet import quiet_optuna
    from itwinai.hpo.record.reading import load_optuna_study, load_study, read_result
    from itwinai.hpo.record.results import StudyResult
    from itwinai.hpo.record.storage import StudyStorage

__all__ = [
    "Attempt",
    "Cost",
    "FILE_NAME",
    "ListedStudy",
    "LiveRecord",
    "MemoryRecord",
    "NodeVerdict",
    "PIPELINE_FILE",
    "STOP_FILE",
    "Setup",
    "Start",
    "StudyRecord",
    "StudyResult",
    "StudyStorage",
    "attempts_of",
    "csv_text",
    "export_study",
    "is_of_this_job",
    "is_running",
    "keep_job",
    "keep_pipeline",
    "legible",
    "list_studies",
    "load_optuna_study",
    "load_study",
    "pipeline_of",
    "plain",
    "plain_study",
    "plain_trial",
    "quiet_optuna",
    "read_result",
    "repair",
    "resume_command",
    "state_of",
    "stop_study",
    "this_start",
]

__getattr__ = lazily(
    __name__,
    {
        "journal": "FILE_NAME LiveRecord MemoryRecord StudyRecord repair",
        "storage": "StudyStorage",
        "attempts": "Attempt attempts_of",
        "attributes": "Setup Start",
        "cost": "Cost",
        "results": "StudyResult",
        "mending": "legible",
        "nodes": "NodeVerdict",
        "reading": "load_optuna_study load_study read_result",
        "listing": "STOP_FILE ListedStudy is_running list_studies state_of stop_study",
        "exporting": "csv_text export_study plain plain_study plain_trial",
        "origin": "PIPELINE_FILE is_of_this_job keep_job keep_pipeline pipeline_of resume_command "
        "this_start",
        "quiet": "quiet_optuna",
    },
)
