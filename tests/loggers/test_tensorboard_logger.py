"""What the logger writes, read back with TensorBoard's own readers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from itwinai.errors import MissingPackageError
from itwinai.loggers import RunContext, TensorBoardLogger, running

pytest.importorskip("tensorboard")

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.plugins.hparams import api_pb2


class Alone:
    """The team of a single process."""

    def global_rank(self) -> int:
        return 0

    def global_world_size(self) -> int:
        return 1

    def broadcast_obj(self, obj: Any, src_rank: int) -> Any:
        return obj


def read(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder))
    events.Reload()
    return events


def table(folder: Path) -> dict[str, tuple[dict[str, Any], dict[str, float], str]]:
    """The table of hyper-parameters as TensorBoard's own backend gives it to the page."""
    from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
    from tensorboard.context import RequestContext
    from tensorboard.plugins.base_plugin import TBContext
    from tensorboard.plugins.hparams import (
        backend_context,
        get_experiment,
        list_session_groups,
    )

    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(folder))
    multiplexer.Reload()
    provider = MultiplexerDataProvider(multiplexer, str(folder))
    context = backend_context.Context(TBContext(data_provider=provider))
    experiment = get_experiment.Handler(
        RequestContext(), context, "", api_pb2.GetExperimentRequest(include_metrics=True)
    ).run()
    request = api_pb2.ListSessionGroupsRequest(
        slice_size=100,
        allowed_statuses=list(api_pb2.Status.values()),
        col_params=[
            api_pb2.ColParams(metric=info.name, missing_values_first=True)
            for info in experiment.metric_infos
        ],
    )
    groups = list_session_groups.Handler(RequestContext(), context, "", request).run()
    rows = {}
    for group in groups.session_groups:
        (session,) = group.sessions
        params = {
            name: getattr(value, value.WhichOneof("kind")) for name, value in group.hparams.items()
        }
        metrics = {value.name.tag: value.value for value in session.metric_values}
        rows[session.name] = (params, metrics, api_pb2.Status.Name(session.status))
    return rows


def test_a_training_alone_lies_in_the_loggers_folder(tmp_path: Path) -> None:
    with running(TensorBoardLogger(tmp_path), Alone(), {"lr": 1.0}, "mine") as log:
        for step, loss in enumerate((0.5, torch.tensor(0.25))):
            log.log(loss, "train_loss", step=step)
    (file,) = (tmp_path / "tensorboard").iterdir()
    events = read(file).Scalars("train_loss")
    assert [(event.step, event.value) for event in events] == [(0, 0.5), (1, 0.25)]
    row = ({"lr": 1.0}, {"train_loss": 0.25}, "STATUS_SUCCESS")
    assert table(tmp_path) == {"tensorboard": row}


def test_each_of_several_workers_has_a_folder(tmp_path: Path) -> None:
    for rank in range(2):
        team = Alone()
        team.global_rank = lambda rank=rank: rank  # type: ignore[method-assign]
        team.global_world_size = lambda: 2  # type: ignore[method-assign]
        with running(TensorBoardLogger(tmp_path, log_on_workers=-1), team, {}) as log:
            log.log(float(rank), "loss", step=0)
    for rank in range(2):
        (event,) = read(tmp_path / "tensorboard" / f"worker-{rank}").Scalars("loss")
        assert event.value == rank


@pytest.mark.parametrize(
    "name", ["mAP@50 (val) %", "F1 [macro]", "acc/train", "präzision", "x" * 300]
)
def test_any_name_is_kept(name: str, tmp_path: Path) -> None:
    logger = TensorBoardLogger(savedir=tmp_path)
    with logger.start_logging():
        logger.save_hyperparameters({name: 1.0})
        logger.log(0.5, name, step=0)
    (event,) = read(tmp_path / "tensorboard").Scalars(name)
    assert event.value == 0.5
    assert table(tmp_path)["tensorboard"][:2] == ({name: 1.0}, {name: 0.5})


def test_texts_images_figures_and_histograms(tmp_path: Path) -> None:
    figure = pytest.importorskip("matplotlib.pyplot").figure()
    logger = TensorBoardLogger(savedir=tmp_path)
    with logger.start_logging():
        logger.log("hello", "note", kind="text", step=1)
        logger.log("ddp", "strategy", kind="param")
        logger.log(torch.zeros(3, 4, 4), "sample", kind="image", step=2)
        logger.log(figure, "curve", kind="figure", step=3)
        logger.log(torch.arange(10.0), "weights", kind="histogram", step=4)
        logger.log(object(), "unknown", kind="nonsense")
    events = read(tmp_path / "tensorboard")
    (note,) = events.Tensors("note/text_summary")
    assert (note.step, note.tensor_proto.string_val[0]) == (1, b"hello")
    assert events.Tensors("strategy/text_summary")[0].tensor_proto.string_val[0] == b"ddp"
    assert [(image.step, image.width) for image in events.Images("sample")] == [(2, 4)]
    assert [image.step for image in events.Images("curve")] == [3]
    assert [histogram.step for histogram in events.Histograms("weights")] == [4]
    assert "unknown" not in str(events.Tags())


def test_the_table_of_hyper_parameters_has_a_row_per_run(tmp_path: Path) -> None:
    logger = TensorBoardLogger(savedir=tmp_path)
    ends = {"good": "FINISHED", "bad": "FAILED", "stopped": "KILLED"}
    for number, (name, status) in enumerate(ends.items()):
        logger.create_logger_context(run_name=name, group="study")
        logger.save_hyperparameters({"lr": number / 2, "layers": [1, 2], "bias": True, "n": None})
        for step in range(3):
            logger.log(step + number, "loss", step=step)
        logger.destroy_logger_context(status)
    rows = table(tmp_path / "tensorboard")
    assert rows == {
        f"study/{name}": (
            {"lr": number / 2, "layers": "[1, 2]", "bias": True, "n": "None"},
            {"loss": 2.0 + number},
            status,
        )
        for number, (name, status) in enumerate(
            {"good": "STATUS_SUCCESS", "bad": "STATUS_FAILURE", "stopped": "STATUS_UNKNOWN"}.items()
        )
    }
    # The row is of the run itself: no other folder, which SummaryWriter.add_hparams would make.
    assert {path.parent.name for path in tmp_path.rglob("*tfevents*")} == set(ends)


def test_a_run_that_still_runs_is_in_the_table(tmp_path: Path) -> None:
    logger = TensorBoardLogger(savedir=tmp_path)
    with logger.start_logging():
        logger.save_hyperparameters({"lr": 0.5})
        logger.log(1.0, "loss", step=0)
        logger.writer.flush()
        assert table(tmp_path)["tensorboard"][:2] == ({"lr": 0.5}, {"loss": 1.0})


def test_a_name_that_is_taken_gets_a_number(tmp_path: Path) -> None:
    for _ in range(3):
        logger = TensorBoardLogger(savedir=tmp_path)
        logger.create_logger_context(run_name="same", group="study")
        logger.destroy_logger_context()
    folders = sorted(path.name for path in (tmp_path / "tensorboard/study").iterdir())
    assert folders == ["same", "same-1", "same-2"]


@pytest.mark.parametrize(("group", "where"), [("study", "study/trial-0"), (None, ".")])
def test_a_continued_training_goes_on_in_its_folder(
    group: str | None, where: str, tmp_path: Path
) -> None:
    context = RunContext(group=group, folder=tmp_path / "trial")
    for step in range(2):
        with running(TensorBoardLogger(tmp_path), Alone(), {"lr": 1.0}, "trial-0", context) as log:
            log.log(float(step), "loss", step=step)
    folder = tmp_path / "tensorboard" / where
    assert len(list((tmp_path / "tensorboard").rglob("*tfevents*"))) == 2
    assert [(event.step, event.value) for event in read(folder).Scalars("loss")] == [(0, 0), (1, 1)]


def test_tensorflow_is_refused_with_a_reason() -> None:
    with pytest.raises(ValueError, match="framework is 'tensorflow'; it must be 'pytorch'"):
        TensorBoardLogger(framework="tensorflow")


def test_a_missing_tensorboard_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    logger = TensorBoardLogger(savedir=tmp_path)
    for use in (logger.create_logger_context, logger.check_package):
        with pytest.raises(MissingPackageError, match=r"pip install 'itwinai\[tensorboard\]'"):
            use()
    assert not logger.is_initialized
