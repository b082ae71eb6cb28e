"""Confirming a study: its winner and its default trained again, on a real Ray."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from small_trainings import make_data, options

from itwinai.errors import ConfigurationError
from itwinai.hpo import list_studies, load_study
from itwinai.hpo.display.confirmed import confirmed
from itwinai.hpo.engine import ray_cluster
from itwinai.hpo.errors import StudyError
from itwinai.hpo.retraining import confirm
from itwinai.torch.trainer import RayTorchTrainer

DATA = (make_data(40), make_data(20, seed=8), make_data(40, seed=9))


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    with ray_cluster():
        yield


def trainer(folder: Path, **study: Any) -> RayTorchTrainer:
    """Its default hardly learns, and every other configuration does."""
    settings = {"name": "s", "storage_path": folder, "metric": "validation_loss", "mode": "min"}
    return RayTorchTrainer(
        **options(folder, config={"optim_lr": 1e-5}),
        search_space={"optim_lr": {"type": "loguniform", "lower": 0.05, "upper": 0.3}},
        study=settings | {"num_samples": 3, "algorithm": "random", "seed": 2} | study,
    )


def test_a_winner_is_trained_again_from_fresh_seeds_beside_the_default(tmp_path: Path) -> None:
    trainer(tmp_path).execute(*DATA)
    record = (tmp_path / "s" / "record.log").read_bytes()
    found = confirm(trainer(tmp_path), DATA, tmp_path / "s", seeds=4)
    best = load_study(tmp_path / "s").best
    assert best is not None
    assert (found.candidates, found.default) == ((best.number,), 0)
    gain, on_test = found.gain(best.number), found.gain_on_test(best.number)
    assert gain is not None
    assert on_test is not None
    assert gain.verdict == "better"
    assert gain.reruns in (3, 4)  # their seeds are fresh each time
    assert 0 < gain.low < gain.mean < gain.high
    assert on_test.mean > 0.1
    # Each rerun has a seed of its own, and the values of its trial.
    values = [*found.values(0, "validation_loss"), *found.values(best.number, "validation_loss")]
    assert len(set(values)) == len(values) >= 6
    assert [line.partition(" by ")[0] for line in confirmed(found)] == [
        f"trial {best.number}: better",
        f"trial {best.number}: on the test set better",
    ]
    # The study is as it was, and no other one has appeared.
    assert (tmp_path / "s" / "record.log").read_bytes() == record
    assert [study.directory.name for study in list_studies(tmp_path)] == ["s"]
    # What is decided is told again, without a training.
    own = tmp_path / "s" / "confirmation" / "record.log"
    before = own.read_bytes()
    assert confirm(trainer(tmp_path), DATA, tmp_path / "s", seeds=4).gain(best.number) == gain
    assert own.read_bytes() == before


def test_what_cannot_be_confirmed_is_refused_before_anything_trains(tmp_path: Path) -> None:
    trainer(tmp_path, default_first=False, num_samples=1).execute(*DATA)
    with pytest.raises(StudyError, match="has no default trial to compare with"):
        confirm(trainer(tmp_path), DATA, tmp_path / "s")
    with pytest.raises(ConfigurationError, match="seeds=2: at least 3"):
        confirm(trainer(tmp_path), DATA, tmp_path / "s", seeds=2)
    assert not (tmp_path / "s" / "confirmation").exists()
