"""How a training scales: the time of an epoch over the number of workers, by strategy."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from operator import attrgetter
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from itwinai.compatibility.commands.experiments import LoggedRun
from itwinai.errors import ConfigurationError, MissingPackageError, did_you_mean
from itwinai.hpo.display import number, table
from itwinai.hpo.display.tables import Listing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: What a TorchTrainer logs.
EPOCH_TIME, STRATEGY, WORKERS = "epoch_time_s", "strategy", "global_world_size"


@dataclass(frozen=True)
class Scale:
    """All trainings of a strategy on so many workers.

    Attributes:
        strategy: Name of the strategy.
        workers: Number of processes (the world size).
        runs: How many runs there are.
        seconds: Median time of an epoch.
        speedup: How many times faster an epoch is than on the fewest workers of the strategy.
        efficiency: The speedup over that of the ideal, which is the ratio of the workers.
    """

    strategy: str
    workers: int
    runs: int
    seconds: float
    speedup: float
    efficiency: float


def scales(runs: Iterable[LoggedRun], names: Sequence[str] | None = None) -> list[Scale]:
    """Compare trainings by strategy and number of workers.

    A median over all epochs of all runs, so that a slow first epoch does not count.

    Args:
        runs: Runs of one model on the same data; those that logged no epochs are left out.
        names: Only the runs of these names; None: all.

    Raises:
        ConfigurationError: If a name is no run's, or no run logged the time of an epoch.
    """
    runs = list(runs)
    _check_names(names or [], [run.name for run in runs])
    times: dict[str, dict[int, list[list[float]]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        epochs = [point.value for point in run.measurements if point.metric == EPOCH_TIME]
        if epochs and WORKERS in run.params and (names is None or run.name in names):
            times[run.params.get(STRATEGY, "unknown")][int(run.params[WORKERS])].append(epochs)
    if not times:
        raise ConfigurationError(
            f"no run logged {EPOCH_TIME!r} and {WORKERS!r}, as every TorchTrainer with a logger "
            "does. Name the experiment of its runs."
        )
    return [scale for strategy in sorted(times) for scale in _compared(strategy, times[strategy])]


def _compared(strategy: str, times: Mapping[int, list[list[float]]]) -> Iterator[Scale]:
    seconds = {workers: median(chain.from_iterable(times[workers])) for workers in sorted(times)}
    fewest = min(seconds)
    for workers, time in seconds.items():
        speedup = seconds[fewest] / time
        runs, ideal = len(times[workers]), workers / fewest
        yield Scale(strategy, workers, runs, time, speedup, speedup / ideal)


def _check_names(names: Sequence[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            raise ConfigurationError(
                f"--run-names: there is no run {name!r}{did_you_mean(name, known) or '.'} "
                f"There are: {', '.join(dict.fromkeys(known)) or 'none'}."
            )


def table_of_scales(found: Iterable[Scale]) -> Listing:
    """One row per strategy and number of workers."""
    rows = [
        [
            scale.strategy,
            str(scale.workers),
            str(scale.runs),
            number(scale.seconds),
            f"{scale.speedup:.2f}",
            f"{scale.efficiency:.0%}",
        ]
        for scale in found
    ]
    return table(["strategy", "workers", "runs", "epoch, s", "speedup", "efficiency"], rows)


def draw(found: Sequence[Scale], folder: Path, suffix: str = ".png") -> list[Path]:
    """Draw the time of an epoch and the speedup over the workers, a line for each strategy.

    Args:
        found: What is drawn.
        folder: Where the pictures go; made if it does not exist.
        suffix: Form of the pictures, as in ``.png``, ``.pdf`` or ``.svg``.

    Returns:
        The pictures' paths.

    Raises:
        ConfigurationError: If there is no such form.
        MissingPackageError: If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        message = f"pictures need matplotlib ({error}): pip install matplotlib"
        raise MissingPackageError(message) from error
    times, speedups = Figure(layout="constrained"), Figure(layout="constrained")
    _plot(times, found, "seconds", "median time of an epoch (s)")
    _plot(speedups, found, "speedup", "speedup")
    workers = sorted({scale.workers for scale in found})
    speedups.axes[0].plot(workers, [count / workers[0] for count in workers], "k:", label="ideal")
    speedups.axes[0].legend()
    _check_form(suffix, times.canvas.get_supported_filetypes())
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {"absolute_epoch_time": times, "relative_epoch_speedup": speedups}
    for name, figure in pictures.items():
        figure.savefig(folder / f"{name}{suffix}")
    return [folder / f"{name}{suffix}" for name in pictures]


def _plot(figure: Figure, found: Sequence[Scale], quantity: str, label: str) -> None:
    axes = figure.subplots()
    for strategy, group in groupby(found, key=attrgetter("strategy")):
        points = [(scale.workers, getattr(scale, quantity)) for scale in group]
        axes.plot(*zip(*points, strict=True), marker="o", label=strategy)
    axes.set(xlabel="workers", ylabel=label)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
    axes.legend()


def _check_form(suffix: str, known: Iterable[str]) -> None:
    forms = [f".{form}" for form in known]
    if suffix not in forms:
        raise ConfigurationError(
            f"--plot-file-suffix {suffix}: there is no such form of a picture"
            f"{did_you_mean(suffix, forms) or '.'} There are: {', '.join(forms)}."
        )
