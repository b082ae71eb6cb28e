"""Makes the samples anew, beside itself; README.md says with which command, and when."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from sample_program import Network, points, told, train

from itwinai.errors import ItwinaiError
from itwinai.hpo import StudyResult, load_study, stop_study
from itwinai.torch.inference import TorchModelLoader, TorchPredictor

HERE = Path(__file__).parent
#: Where all is run; its name stands in the records.
FOLDER = Path("/tmp/itwinai-samples")
#: Epochs of a checkpoint from which a training goes on.
BROKEN_OFF = 6


def itwinai(*arguments: str, **environment: str) -> subprocess.Popen[bytes]:
    """Begin a command in the folder."""
    command = [sys.executable, "-m", "itwinai", *arguments]
    return subprocess.Popen(command, cwd=FOLDER, env={**os.environ, **environment})


def finished() -> StudyResult:
    assert itwinai("exec-pipeline", "--config-name", "finished").wait() == 0
    result = load_study(FOLDER / "studies/finished")
    assert len(result.front) >= 2, result.front
    return result


def interrupted() -> StudyResult:
    """Stop a study while two trials run, after one was stopped by the scheduler."""
    folder = FOLDER / "studies/interrupted"
    process = itwinai("exec-pipeline", "--config-name", "interrupted", PACE="1")
    while process.poll() is None and not is_time(folder):
        time.sleep(0.1)
    stop_study(folder)
    assert process.wait() == 0
    result = load_study(folder)
    states = Counter(trial.state.value for trial in result.trials)
    assert states["completed"] >= 2, states
    assert states["stopped"] >= 1, states
    assert states["interrupted"] == 2, states
    return result


def is_time(folder: Path) -> bool:
    try:
        trials = load_study(folder).trials
    except ItwinaiError:
        return False
    states = Counter(trial.state.value for trial in trials)
    running = [trial.epochs for trial in trials if trial.state.value == "running"]
    enough = states["completed"] >= 2 and states["stopped"] >= 1
    return enough and len(running) == 2 and all(1 <= epochs <= 3 for epochs in running)


def gone_on(study: StudyResult) -> dict[int, list[Any]]:
    """Resume a copy; return the epochs of the trials that were interrupted."""
    copy = FOLDER / "again/interrupted"
    shutil.copytree(study.record.parent, copy)
    assert itwinai("hpo", "resume", str(copy)).wait() == 0
    resumed = {trial.number: list(trial.history) for trial in load_study(copy).trials}
    return {t.number: resumed[t.number] for t in study.trials if t.state.value == "interrupted"}


def predictions(model: Path) -> list[list[float]]:
    """What a model answers to the first points."""
    loader = TorchModelLoader(model, model_class=Network)
    predictor = TorchPredictor(loader, config={"num_workers_dataloader": 0})
    return [prediction.tolist() for prediction in predictor.execute(points(10))]


def sharded() -> list[Any]:
    place = FOLDER / "checkpoints/sharded"
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    subprocess.run([sys.executable, *launcher, "sample_program.py", place], cwd=FOLDER, check=True)
    epochs: list[Any] = json.loads((place / "epochs.json").read_text())
    return epochs


def main() -> None:
    torch.set_num_threads(1)
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    for name in ("sample_program.py", "interrupted.yaml", "finished.yaml"):
        shutil.copy(HERE / name, FOLDER)
    studies = {"finished": finished(), "interrupted": interrupted()}
    whole = FOLDER / "checkpoints/whole"
    trainings = {"whole": train(whole, noisy=True), "sharded": sharded()}
    kept = [f"checkpoints/{name}/epoch_{BROKEN_OFF - 1}" for name in trainings]
    places = [*(f"studies/{name}" for name in studies), *kept]
    expected = {
        "studies": {name: told(study) for name, study in studies.items()},
        "gone_on": gone_on(studies["interrupted"]),
        "trainings": trainings,
        "predictions": {place: predictions(FOLDER / place) for place in places},
    }
    for name in ("studies", "checkpoints"):
        shutil.rmtree(HERE / name, ignore_errors=True)
    for place in places:
        shutil.copytree(FOLDER / place, HERE / place)
    (HERE / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
    shutil.rmtree(FOLDER)


if __name__ == "__main__":
    main()
