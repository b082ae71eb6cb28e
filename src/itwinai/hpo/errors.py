"""Errors of a study that has started."""

from __future__ import annotations

from itwinai.errors import ItwinaiError


class StudyError(ItwinaiError):
    """A study cannot go on, or its record cannot be used."""


class StudyInterrupted(StudyError):  # noqa: N818 - an end, not a mistake
    """The study was interrupted; the same command with ``study.resume=true`` goes on."""


class MissingMetricError(StudyError):
    """The study's metric was not among those that a trial reported."""


class UnusedParameterError(StudyError):
    """A sampled hyper-parameter was never read by the training."""


class UnkeepableError(StudyError):
    """A function hands over a checkpoint that could not be loaded without running code."""


class ReportError(StudyError):
    """A function reports what a study cannot take, or when it cannot."""


class TrialsFailedError(StudyError):
    """No trial of the study produced a result."""
