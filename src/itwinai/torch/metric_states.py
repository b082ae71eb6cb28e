"""What an object of torchmetrics has seen of an epoch, into a checkpoint and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def load_states(name: str, metric: TorchMetric, ranks: Sequence[Mapping[str, Any]]) -> None:
    """Let it have seen what one or several ranks had.

    Args:
        name: Its name among the metrics.
        metric: The object, which has seen nothing.
        ranks: What :func:`state_of` returned on each.
    """
    parts, first = _parts(metric), ranks[0]
    for part_name, part in parts.items():
        for key, value in _here(part, first[part_name]).items():
            setattr(part, key, value)
        part._update_count = first[part_name]["updates"]
    merges = [
        _merged(part, rank[part_name])
        for rank in ranks[1:]
        for part_name, part in parts.items()
        if _has_own_state(part)
    ]
    if not all(merges):
        itwinai.logger.warning(
            "warning: metrics.%s does not merge what several ranks have seen: before the "
            "checkpoint it counts the first one's batches of this epoch alone",
            name,
        )


def _here(part: TorchMetric, saved: Mapping[str, Any]) -> dict[str, Any]:
    """A saved state, on the device of the object."""
    state: dict[str, Any] = to_device(saved["state"], str(part.device))
    return state


def _merged(part: TorchMetric, saved: Mapping[str, Any]) -> bool:
    """Whether a state could be added to that of an object, which some do not offer."""
    try:
        part.merge_state(_here(part, saved))
    except RuntimeError:
        return False
    part._update_count += saved["updates"]
    return True


def _has_own_state(part: TorchMetric) -> bool:
    """Whether it has a state that is not shown by it alone, and kept by one that it wraps."""
    state = part.metric_state
    inner = [other.metric_state for other in _parts(part).values() if other is not part]
    return bool(state) and not any(
        all(known.get(key) is value for key, value in state.items()) for known in inner
    )


def _parts(metric: TorchMetric) -> dict[str, TorchMetric]:
    from torchmetrics import Metric as TorchMetric

    return {name: part for name, part in metric.named_modules() if isinstance(part, TorchMetric)}
