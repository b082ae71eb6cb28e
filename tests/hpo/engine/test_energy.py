"""What trials use, by counters laid out as Linux has them, and on its way into the record."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from toy_study import EPOCHS, ToyProgram, run_toy_study

from itwinai.hpo.config import StudyConfiguration
from itwinai.hpo.engine import Place, energy, ray_cluster
from itwinai.hpo.engine.energy import EnergyMeter, Held
from itwinai.hpo.insight import spent_by
from itwinai.hpo.record import load_study, plain_trial
from itwinai.hpo.study import Study
from itwinai.hpo.trial import Assignment

CORES = os.cpu_count() or 1
#: Microjoules after which a counter begins again at 0.
MOST = 262_143_328_850
ALL = Held(CORES)


class Counters:
    """The folder of a machine's counters."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def zone(self, zone: str, name: str, microjoules: int = 0) -> Counters:
        path = self.folder / f"intel-rapl:{zone}"
        path.mkdir(parents=True)
        (path / "name").write_text(f"{name}\n")
        (path / "max_energy_range_uj").write_text(f"{MOST}\n")
        (path / "energy_uj").write_text(f"{microjoules}\n")
        return self

    def use(self, joules: float, *zones: str) -> None:
        for zone in zones:
            file = self.folder / f"intel-rapl:{zone}" / "energy_uj"
            file.write_text(f"{(int(file.read_text()) + round(joules * 1e6)) % MOST}\n")

    def used(self, zone: str) -> float:
        return int((self.folder / f"intel-rapl:{zone}" / "energy_uj").read_text()) / 1e6


@pytest.fixture
def counters(tmp_path: Path) -> Counters:
    return Counters(tmp_path / "powercap").zone("0", "package-0", microjoules=10**9)


def joules(meter: EnergyMeter) -> dict[str, float] | None:
    reading = meter.read()
    meter.close()
    return None if reading is None else dict(reading.joules)


def test_processors_and_memory_count_once(counters: Counters) -> None:
    counters.zone("0:0", "core").zone("0:1", "dram").zone("1", "package-1").zone("2", "psys")
    meter = EnergyMeter(ALL, counters.folder)
    counters.use(5, "0", "0:0", "0:1", "1", "2")
    assert joules(meter) == {"RAPL": pytest.approx(15)}


def test_a_counter_that_begins_again_goes_on(counters: Counters) -> None:
    counters.use(MOST / 1e6 - 1001, "0")
    meter = EnergyMeter(ALL, counters.folder)
    counters.use(3, "0")
    assert counters.used("0") == pytest.approx(2)
    assert meter.read().joules == {"RAPL": pytest.approx(3)}
    counters.use(4, "0")
    assert joules(meter) == {"RAPL": pytest.approx(7)}


def test_trials_that_share_a_node_use_together_what_it_used(counters: Counters) -> None:
    meters = [EnergyMeter(Held(CORES / 4), counters.folder) for _ in range(4)]
    counters.use(100, "0")
    parts = [joules(meter) for meter in meters]
    assert parts == [{"RAPL": pytest.approx(25)}] * 4


def test_what_cannot_be_read_is_not_measured(tmp_path: Path, counters: Counters) -> None:
    assert joules(EnergyMeter(ALL, tmp_path / "nowhere")) is None
    assert joules(EnergyMeter(None, counters.folder)) is None
    assert joules(EnergyMeter(Held(0), counters.folder)) is None
    meter = EnergyMeter(ALL, counters.folder)
    counter = counters.folder / "intel-rapl:0/energy_uj"
    content = counter.read_text()
    counter.unlink()
    assert meter.read() is None
    counter.write_text(content)
    assert joules(meter) is None  # what it used in between is not known


@pytest.mark.skipif(Path("/proc/driver/nvidia").exists(), reason="its GPUs may be measured")
def test_without_a_driver_of_gpus_processors_are_measured_alone(counters: Counters) -> None:
    meter = EnergyMeter(Held(CORES, {"0": 1.0}), counters.folder)
    counters.use(5, "0")
    assert joules(meter) == {"RAPL": pytest.approx(5)}


def test_a_worker_holds_its_part_of_each_of_its_gpus() -> None:
    assert Held.of({"CPU": 2, "GPU": 0.5}, [["3"]]) == Held(2, {"3": 0.5})
    assert Held.of({"CPU": 4, "GPU": 2}, [["0", "1"], ["GPU-a", "GPU-b"]]) == Held(
        8, {"0": 1, "1": 1, "GPU-a": 1, "GPU-b": 1}
    )
    assert Held.of({"CPU": 1}, [[], []]) == Held(2)


# -- in the slots of a study -------------------------------------------------------------------

Nodes = list[dict[str, float]]


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    """One Ray for the whole module."""
    with ray_cluster() as found:
        yield found


class Use:
    """Uses ten joules in each epoch; from a process's second trial on they can be measured."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters

    def __call__(self, assignment: Assignment, place: Place, epoch: int) -> None:
        energy.POWERCAP = self._counters.folder
        if place.rank == 0:
            self._counters.use(10, "0")


@pytest.mark.parametrize("workers", [1, 2])
def test_the_record_tells_what_each_trial_used(
    tmp_path: Path, nodes: Nodes, counters: Counters, workers: int
) -> None:
    study = run(tmp_path, nodes, counters, workers)
    result = load_study(study.directory)
    first, second, third = result.trials
    share = workers * 0.5 / CORES
    assert first.energy == {}
    assert second.energy == third.energy == {"RAPL": pytest.approx(EPOCHS * 10 * share)}
    assert plain_trial(second)["joules"] == second.energy
    assert spent_by(result).rapl_kwh == pytest.approx(2 * EPOCHS * 10 * share / 3.6e6)


def run(folder: Path, nodes: Nodes, counters: Counters, workers: int) -> Study:
    configuration = StudyConfiguration(
        storage_path=folder,
        mode="min",
        algorithm="random",
        scheduler="none",
        num_samples=3,
        max_concurrent_trials=1,
        workers_per_trial=workers,
        resources_per_worker={"CPU": 0.5},
    )
    return run_toy_study(configuration, nodes, ToyProgram(Use(counters)))
