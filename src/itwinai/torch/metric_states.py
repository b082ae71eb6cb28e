"""What an object of torchmetrics has seen of an epoch, into a checkpoint and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import itwinai
from itwinai.torch.data import to_device

if TYPE_CHECKING:
    from torchmetrics import Metric as TorchMetric


def state_of(metric: TorchMetric) -> dict[str, Any]:
    """What it has seen, and what those that it wraps have."""
    return {
        name: {"updates": part.update_count, "state": part.metric_state}
        for name, part in _parts(metric).items()
    }


def add_state(name: str, metric: TorchMetric, saved: Mapping[str, Any]) -> None:
    """Let it have seen what another one had, beside what it has seen itself.

    Args:
        name: Its name among the metrics.
        metric: The object.
        saved: What :func:`state_of` returned.
    """
    for part_name, part in _parts(metric).items():
        updates, state = saved[part_name]["updates"], saved[part_name]["state"]
        state = to_device(state, str(part.device))
        if part.update_count == 0:
            for key, value in state.items():
                setattr(part, key, value)
        elif updates and not _merged(part, state):
            itwinai.logger.warning(
                "warning: metrics.%s does not merge what several ranks have seen: before the "
                "checkpoint it counts the first one's batches of this epoch alone",
                name,
            )
            return
        part._update_count += updates


def _merged(metric: TorchMetric, state: dict[str, Any]) -> bool:
    """Whether a state could be added to that of a metric, which some do not offer."""
    try:
        metric.merge_state(state)
    except RuntimeError:
        return False
    return True


def _parts(metric: TorchMetric) -> dict[str, TorchMetric]:
    from torchmetrics import Metric as TorchMetric

    return {name: part for name, part in metric.named_modules() if isinstance(part, TorchMetric)}
