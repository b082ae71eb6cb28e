"""What the sampler of BOHB is shown of a study."""

from __future__ import annotations

import math
from typing import Any

import optuna
from hand_driven import MakeStudy, ask, report, run_trial
from optuna.samplers import RandomSampler

from itwinai.hpo.search.rung_sampler import RungSampler
from itwinai.hpo.trial import TrialState


class Witness(RandomSampler):
    """Proposes at random, and keeps the values that it was shown last."""

    shown: tuple[float, ...] = ()

    def sample_independent(self, study: optuna.Study, *args: Any) -> Any:
        self.shown = tuple(trial.value for trial in study.trials if trial.value is not None)
        return super().sample_independent(study, *args)


def test_a_trial_that_was_interrupted_counts_once_at_its_rung(make_study: MakeStudy) -> None:
    witness = Witness()
    settings: dict[str, Any] = {"algorithm": RungSampler(witness, least=3), "num_samples": 6}
    study = make_study(**settings)
    for trial in [ask(study) for _ in range(3)]:
        report(study, trial, [0.5, 0.4], checkpoints=True)
        report(study, trial, [0.5, 0.4, 0.9])  # after its checkpoint, so that it is lost
    study._record.close()
    study = make_study(**settings, resume=True)
    first, *others = [ask(study) for _ in range(3)]
    report(study, first, [0.3, 0.2])
    ask(study)
    assert witness.shown == (0.4, 0.4, 0.4)
    for trial in others:
        report(study, trial, [0.2])
    ask(study)
    assert witness.shown == (0.3, 0.2, 0.2)


def test_a_trial_that_diverged_after_a_rung_counts_once_as_the_worst(make_study: MakeStudy) -> None:
    witness = Witness()
    study = make_study(algorithm=RungSampler(witness, least=2), num_samples=4)
    for trial in [ask(study) for _ in range(2)]:
        report(study, trial, [0.5, 0.4])
    diverged = ask(study)
    report(study, diverged, [0.5, 0.3, math.nan])
    study.tell(diverged.number, TrialState.COMPLETED)
    ask(study)
    assert witness.shown == (0.4, 0.4, math.inf)


def test_what_another_study_has_found_counts_at_the_rungs_of_this_one(
    make_study: MakeStudy,
) -> None:
    source = make_study(name="source", epochs=6, num_samples=3)
    for _ in range(3):
        run_trial(source, [0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    source.close()
    witness = Witness()
    study = make_study(
        algorithm=RungSampler(witness, least=3), num_samples=4, warm_start=source.directory
    )
    trial = ask(study)
    assert witness.shown == (0.6, 0.6, 0.6)  # after four epochs, as many as a training has here
    report(study, trial, [0.3])
    ask(study)
    assert witness.shown == (0.6, 0.6, 0.6)
