"""Which algorithm works with which scheduler and how many objectives.

The tables are data: they are enforced before a study starts, and printed in the documentation.
"""

from __future__ import annotations

from dataclasses import dataclass

from itwinai.errors import ConfigurationError


@dataclass(frozen=True)
class Rule:
    """What a name works with.

    Attributes:
        several: Whether it takes several objectives without a ``primary``.
        primary: Whether it takes several objectives with a ``primary``.
        partner: The only algorithm (of a scheduler: the only one it works with), or None for any.
        instead: What comes nearest where there are several objectives.
    """

    several: bool = True
    primary: bool = True
    partner: str | None = None
    instead: str = ""


ALGORITHM_RULES: dict[str, Rule] = {
    "grid": Rule(),
    "random": Rule(),
    "qmc": Rule(),
    "tpe": Rule(),
    "gp": Rule(),
    "mfgp": Rule(several=False, primary=False, instead="tpe"),
    "bohb": Rule(several=False, primary=False, partner="bohb", instead="tpe"),
    "cmaes": Rule(several=False, primary=False, instead="nsga2"),
    "ga": Rule(several=False, primary=False, instead="nsga2"),
    "nsga2": Rule(),
    "nsga3": Rule(),
    "pbt": Rule(partner="pbt"),
    "Optuna sampler": Rule(),
    "Ray Searcher": Rule(several=False, primary=False, instead="nsga2"),
}

SCHEDULER_RULES: dict[str, Rule] = {
    "none": Rule(),
    "asha": Rule(),
    "median": Rule(),
    "hyperband": Rule(),
    "bohb": Rule(several=False, primary=False, partner="bohb", instead="hyperband"),
    "pasha": Rule(several=False, instead="asha"),
    "patience": Rule(),
    "threshold": Rule(several=False, instead="patience"),
    "pbt": Rule(partner="pbt"),
    "Optuna pruner": Rule(several=False, instead="asha"),
    "Ray TrialScheduler": Rule(several=False, instead="asha"),
}


def refusal(algorithm: str, scheduler: str, objectives: int, primary: bool) -> str | None:
    """Say why a combination does not work and which one comes nearest, or None if it works.

    Args:
        algorithm: A key of :data:`ALGORITHM_RULES`.
        scheduler: A key of :data:`SCHEDULER_RULES`.
        objectives: How many the study has.
        primary: Whether it names a primary one.
    """
    of_algorithm, of_scheduler = ALGORITHM_RULES[algorithm], SCHEDULER_RULES[scheduler]
    for kind, name, rule in (
        ("algorithm", algorithm, of_algorithm),
        ("scheduler", scheduler, of_scheduler),
    ):
        if objectives > 1 and not (rule.primary if primary else rule.several):
            hint = ", or name a study.primary metric" if rule.primary else ""
            return (
                f"study.{kind}={name!r} takes one objective, and there are {objectives}. "
                f"The nearest that takes several is {kind}: {rule.instead}{hint}."
            )
    if of_scheduler.partner not in (None, algorithm):
        return (
            f"study.scheduler={scheduler!r} proposes by itself, so it does not work with "
            f"algorithm {algorithm!r}. Leave the algorithm out, or use scheduler: asha."
        )
    if of_algorithm.partner not in (None, scheduler):
        return (
            f"study.algorithm={algorithm!r} works with scheduler {of_algorithm.partner!r} alone, "
            f"not with {scheduler!r}. Leave the scheduler out."
        )
    return None


def check_combination(algorithm: str, scheduler: str, objectives: int, primary: bool) -> None:
    """Refuse what does not work together.

    Raises:
        ConfigurationError: With the reason and the nearest combination that works.
    """
    reason = refusal(algorithm, scheduler, objectives, primary)
    if reason is not None:
        raise ConfigurationError(reason)


def table() -> str:
    """The combinations as Markdown: for each, with how many objectives it works."""
    lines = [
        f"| algorithm \\ scheduler | {' | '.join(SCHEDULER_RULES)} |",
        f"| --- |{' --- |' * len(SCHEDULER_RULES)}",
    ]
    for algorithm in ALGORITHM_RULES:
        cells = [_cell(algorithm, scheduler) for scheduler in SCHEDULER_RULES]
        lines.append(f"| {algorithm} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(algorithm: str, scheduler: str) -> str:
    if refusal(algorithm, scheduler, 1, primary=False) is not None:
        return "-"
    if refusal(algorithm, scheduler, 2, primary=False) is None:
        return "any"
    return "1" if refusal(algorithm, scheduler, 2, primary=True) is not None else "1, or primary"
