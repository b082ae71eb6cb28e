"""Trials that ended for what their machine lacked: they run again, and nobody learns from it."""

from __future__ import annotations

import pytest
from hand_driven import MakeStudy, ask, report

from itwinai.hpo.record import load_study
from itwinai.hpo.trial import TrialState

HALVING = {"name": "asha", "grace_period": 2, "reduction_factor": 2}


@pytest.mark.parametrize("postponed", [False, True])
def test_a_scheduler_hears_the_epochs_of_a_postponed_trial_once(
    make_study: MakeStudy, postponed: bool
) -> None:
    study = make_study(scheduler=HALVING, epochs=8)
    first = ask(study)
    assert report(study, first, [0.1, 0.1]) == "continue"
    if postponed:
        study.postpone(first.number, "no space")
        study.tell(first.number, TrialState.INTERRUPTED)
        study.postpone(first.number, "no space")  # an engine may announce an end twice
        while study.held:
            pass
        again = ask(study)
        assert (again.number, again.epochs) == (first.number, 0)
        assert report(study, again, [0.1, 0.1]) == "continue"
    verdicts = [report(study, ask(study), [loss] * 2) for loss in (0.3, 0.4, 0.2)]
    assert verdicts == ["stop", "stop", "continue"]  # the fourth is second of four: the better half


def test_a_postponed_trial_teaches_nothing_and_keeps_its_number_and_values(
    make_study: MakeStudy,
) -> None:
    study = make_study(num_samples=2)
    first = ask(study)
    report(study, first, [0.5, 0.4], checkpoints=True)
    study.postpone(first.number, "no space left on device")
    study.tell(first.number, TrialState.INTERRUPTED)
    assert study.ask() is None
    assert not study.finished
    (seen,) = load_study(study.directory).trials
    assert (seen.state, seen.reason) == (TrialState.INTERRUPTED, "no space left on device")
    while study.held:
        pass
    again = ask(study)
    assert (again.number, again.params, again.epochs) == (first.number, first.params, 2)
    report(study, again, [0.3, 0.2])
    study.tell(again.number, TrialState.COMPLETED)
    (trial,) = load_study(study.directory).trials
    assert [metrics["validation_loss"] for metrics in trial.history] == [0.5, 0.4, 0.3, 0.2]
