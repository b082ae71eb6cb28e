"""What every strategy must do, proved in real processes.

One line proves a strategy, in a script or a test::

    check_strategy(MyStrategy, world_size=2)

Each rule is a function in ``meeting``, ``steps`` or ``state``. It runs in every process, with a
:class:`Bench` that makes models, data and the results of a single process to compare with.
"""

from itwinai.testing.strategies.bench import Bench, Factory, Model, Rule, Training
from itwinai.testing.strategies.checking import RULES, BrokenRuleError, check_strategy
from itwinai.testing.strategies.meeting import (
    another_training_can_follow,
    collectives,
    init_twice_is_refused,
    nothing_works_before_init,
    ranks_and_sizes,
)
from itwinai.testing.strategies.state import (
    a_single_process_can_go_on,
    model_state_is_plain,
    shards_can_be_put_back,
    states_can_be_put_back,
)
from itwinai.testing.strategies.steps import (
    a_plain_loop_trains_too,
    accumulated_batches_equal_a_large_one,
    all_ranks_begin_with_the_weights_of_rank_0,
    an_earlier_schedule_goes_on,
    autocast_reaches_the_model,
    clips_as_a_single_process,
    trains_as_a_single_process,
    zero_grad_drops_gradients,
)

__all__ = [
    "Bench",
    "BrokenRuleError",
    "Factory",
    "Model",
    "RULES",
    "Rule",
    "Training",
    "a_plain_loop_trains_too",
    "a_single_process_can_go_on",
    "accumulated_batches_equal_a_large_one",
    "all_ranks_begin_with_the_weights_of_rank_0",
    "an_earlier_schedule_goes_on",
    "another_training_can_follow",
    "autocast_reaches_the_model",
    "check_strategy",
    "clips_as_a_single_process",
    "collectives",
    "init_twice_is_refused",
    "model_state_is_plain",
    "nothing_works_before_init",
    "ranks_and_sizes",
    "shards_can_be_put_back",
    "states_can_be_put_back",
    "trains_as_a_single_process",
    "zero_grad_drops_gradients",
]
