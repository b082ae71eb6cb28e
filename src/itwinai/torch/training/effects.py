"""Which configured keys have an effect on a training, and which its own code has forgotten.

A key counts as read where it takes effect: a clipping norm at a clipped step, a schedule when it
has gone on. What an own ``train()`` or ``train_step()`` does by itself, it has read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from itwinai.reporting import Reporter
from itwinai.torch.config import TrainingConfiguration
from itwinai.torch.optimization.factories import OPTIMIZERS, SCHEDULE_KEYS
from itwinai.torch.training.names import own_keys, suggestion
from itwinai.torch.training.precedence import Settings, settings_of

_STEP, _EPOCH = "self.optimize(loss)", "self.end_epoch(metrics)"

#: What gives each key its effect.
CALLS = {
    "precision": "self.autocast() around the forward pass",
    "gradient_clipping": _STEP,
    "ema_decay": _STEP,
    "gradient_accumulation_steps": f"{_STEP} in a train_step()",
    "early_stopping_patience": _EPOCH,
    "lr_scheduler": f"{_STEP} for each batch and {_EPOCH} for each epoch, or its own step()",
}

#: What each key of the optimizers is called in an optimizer's groups.
OPTIONS = {key: option for recipe in OPTIMIZERS.values() for option, key in recipe.fields.items()}


class Effects:
    """Looks at what takes effect, from the begin of a training on.

    Args:
        config: The training's.
    """

    def __init__(self, config: TrainingConfiguration) -> None:
        self._config = config
        self._listener: Reporter | None = None
        self._schedule: LRScheduler | None = None
        self._began: int | None = None
        self._looks = 0
        #: Settings of an optimizer's groups that a state loaded by hand has brought.
        self._brought: Settings = []

    def begin(self, schedule: LRScheduler | None, listener: Reporter | None) -> None:
        """Hear that the training begins.

        Args:
            schedule: As it stands.
            listener: Who is told what has no effect; None: another process tells it.
        """
        self._schedule, self._listener = schedule, listener
        self._began = self._schedules_step()

    def watch(self, optimizer: Optimizer) -> None:
        """Notice states that are loaded into an optimizer of the configuration."""

        def note(loaded: Optimizer) -> None:
            self._brought = settings_of(loaded)

        self._optimizer = optimizer
        optimizer.register_load_state_dict_post_hook(note)

    @contextmanager
    def restoring(self) -> Iterator[None]:
        """Take no notice of what a block loads."""
        brought = self._brought
        yield
        self._brought = brought

    def overwritten(self, names: Iterable[str]) -> list[str]:
        """Those keys in whose place the optimizer uses what a state loaded by hand has brought."""
        if not self._brought:
            return []
        values, uses = self._config.snapshot(), settings_of(self._optimizer)
        return [
            name
            for name in names
            for brought, used in zip(self._brought, uses, strict=False)
            if OPTIONS.get(name) in brought
            and values[name] != brought[OPTIONS[name]] == used[OPTIONS[name]]
        ]

    def missing(self, names: Iterable[str]) -> list[str]:
        """Those keys that had no effect so far."""
        if self._schedules_step() != self._began:
            self._config.took_effect(*SCHEDULE_KEYS)
        return self._config.unread(names)

    def look(self, certain: bool = False) -> None:
        """Say once which keys that were set had no effect.

        Args:
            certain: Whether an epoch has ended for sure; otherwise it has when the next one is
                reported, for some loops let their schedule go on after a report.
        """
        self._looks += 2 if certain else 1
        listener = self._listener
        if self._looks < 2 or listener is None:
            return
        self._listener = None
        fields, values = TrainingConfiguration.model_fields, self._config.snapshot()
        chosen = [name for name in CALLS if values[name] != fields[name].default]
        own = self._config.unread(own_keys(self._config))
        for name in own:
            hint = suggestion(name, [known for known in values if known not in own])
            text = f"warning: nothing has read config.{name} in the first epoch{hint}"
            listener.note(f"unread {name}", text)
        for name in self.missing(chosen):
            text = f"warning: config.{name}={values[name]!r} has had no effect: nothing called "
            listener.note(name, text + CALLS[name])

    def _schedules_step(self) -> int | None:
        return None if self._schedule is None else self._schedule.last_epoch
