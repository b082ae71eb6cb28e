"""What a study keeps of itself in its record, and what of that must not change from run to run."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import optuna

import itwinai
from itwinai.errors import ConfigurationError
from itwinai.hpo.config import StudyConfiguration
from itwinai.hpo.errors import StudyError
from itwinai.hpo.record import attributes
from itwinai.hpo.space import SearchSpace, from_json, to_json


def keep_fact(study: optuna.Study, key: str, value: Any) -> None:
    """Set an attribute of a study, unless it has that value already."""
    if study.user_attrs.get(key) != value:
        study.set_user_attr(key, value)


def keep_setup(study: optuna.Study, setup: attributes.Setup) -> None:
    """Set who decides and what trials get, and note what those of earlier runs had got."""
    before = attributes.Setup.read(study.user_attrs.get(attributes.SETUP))
    if before is not None and before.held != setup.held:
        earlier = study.user_attrs.get(attributes.HELD, [])
        study.set_user_attr(attributes.HELD, [*earlier, [time.time(), before.held]])
    keep_fact(study, attributes.SETUP, setup.kept())


def keep_alike(study: optuna.Study, values: Mapping[str, Any]) -> None:
    """Keep prints of what all trials have alike, and say what was another for those that ended.

    Args:
        study: The study.
        values: By their dotted names; of what JSON cannot write nothing is kept.
    """
    prints = {}
    for name, value in values.items():
        with suppress(TypeError, ValueError):
            text = json.dumps(value, sort_keys=True)
            prints[name] = hashlib.sha256(text.encode()).hexdigest()[:16]  # it may be a secret
    before = study.user_attrs.get(attributes.ALIKE, prints)
    changed = [name for name in {**before, **prints} if before.get(name) != prints.get(name)]
    if changed:
        itwinai.logger.warning(
            "warning: study %r has trials that were trained otherwise: since then config.%s has "
            "changed. They do not compare with new ones. Restore what was there, or give the "
            "study another name.",
            *(study.study_name, ", config.".join(changed)),
        )
    keep_fact(study, attributes.ALIKE, prints)


def seeds_of(study: optuna.Study, seed: int | None) -> attributes.Seeds:
    """The seeds of a study, which it keeps whatever a later run is given."""
    if attributes.SEEDS not in study.user_attrs:
        drawn = int(np.random.default_rng().integers(2**31)) if seed is None else seed
        study.set_user_attr(attributes.SEEDS, [drawn, seed is not None])
    return attributes.Seeds(*study.user_attrs[attributes.SEEDS])


def facts_of(configuration: StudyConfiguration, space: SearchSpace, epochs: int) -> dict[str, Any]:
    """What must not change from run to run, as the record gives it back."""
    facts = {
        "format": attributes.FORMAT,
        "objectives": [vars(objective) for objective in configuration.objectives],
        "epochs": epochs,
        "space": to_json(space.describe()),
        "constraints": [constraint.text for constraint in space.constraints],
    }
    restored: dict[str, Any] = json.loads(json.dumps(facts))
    return restored


def keep_or_refuse(study: optuna.Study, facts: Mapping[str, Any], record: Path) -> None:
    """Keep a new study's facts; refuse others than those that a study has.

    Raises:
        StudyError: If the study was written by another program.
        ConfigurationError: If one of the facts has changed.
    """
    known = study.user_attrs.get(attributes.FACTS)
    if known is None:
        if study.get_trials(deepcopy=False):
            raise StudyError(f"{record}: this Optuna study was not written by itwinai")
        study.set_user_attr(attributes.FACTS, facts)
        return
    if _widened(known, facts):
        known = {**known, "space": facts["space"]}
        study.set_user_attr(attributes.FACTS, known)
    for key, value in facts.items():
        if known.get(key) != value:
            raise ConfigurationError(
                f"study {study.study_name!r} cannot be resumed: its "
                f"{_changed(key, known.get(key), value)}. Restore it, or give the study another "
                "name; study.warm_start then learns from this one's trials."
            )


def _widened(known: Mapping[str, Any], facts: Mapping[str, Any]) -> bool:
    """Tell whether the ranges of numbers have become wider, which finished trials do not mind."""
    before, now = known.get("space"), facts["space"]
    return before != now and _space(now).widens(_space(before or now))


def _space(kept: Any) -> SearchSpace:
    return SearchSpace.parse(from_json(kept))


def _changed(key: str, before: Any, now: Any) -> str:
    if key == "space":
        return f"space was {before!r} and is now {now!r}"
    if key == "objectives":
        before, now = (", ".join(f"{o['mode']} {o['metric']}" for o in v) for v in (before, now))
    return f"{key} were {before} and are now {now}"
