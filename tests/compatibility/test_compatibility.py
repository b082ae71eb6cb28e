"""The page about compatibility says what is true: names, constructors, commands and counts."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from itwinai.cli import app
from itwinai.errors import MissingPackageError

PAGE = Path(__file__).parents[2] / "docs" / "compatibility.md"
STATES = ("same", "better", "left out")

_ROW = re.compile(r"^\| (?P<names>`.*`) \| (?P<state>[a-z ]+) \| (?P<note>.*)\|$", re.M)
_COUNTS = re.compile(r"(\d+) names,\s+of which (\d+) are the same, (\d+) are better and (\d+)")

_SLURM = (
    "*, job_name=None, account, partition, time='00:30:00', std_out=None, err_out=None, "
    "num_nodes=1, num_tasks=None, num_tasks_per_node=1, gpus_per_node=4, cpus_per_task=16, "
    "memory='16G', exclusive=False, pre_exec_command=None, exec_command=None, save_script=False, "
    "submit_job=False, save_dir=Path('slurm-scripts'), pre_exec_file=None, exec_file=None"
)

#: What 0.4 takes, in its order: ``name`` without default, or ``name=default``.
SIGNATURES = {
    "itwinai.components.BaseComponent": "name=None",
    "itwinai.components.DataGetter": "name=None",
    "itwinai.components.DataProcessor": "name=None",
    "itwinai.components.DataSplitter": (
        "train_proportion, validation_proportion, test_proportion, name=None"
    ),
    "itwinai.components.Trainer": "name=None",
    "itwinai.components.Predictor": "model, name=None",
    "itwinai.components.Saver": "name=None",
    "itwinai.components.Adapter": "policy, name=None",
    "itwinai.components.DataGetter.execute": "self",
    "itwinai.components.DataProcessor.execute": (
        "self, train_dataset, validation_dataset, test_dataset"
    ),
    "itwinai.components.DataSplitter.execute": "self, dataset",
    "itwinai.components.Trainer.execute": "self, train_dataset, validation_dataset, test_dataset",
    "itwinai.components.Predictor.execute": "self, predict_dataset, model=None",
    "itwinai.components.Saver.execute": "self, artifact",
    "itwinai.torch.trainer.TorchLightningTrainer": "config, mlflow_saved_model='my_model'",
    "itwinai.torch.loggers.ItwinaiLogger": ("itwinai_logger, log_model=False, skip_finalize=False"),
    "itwinai.serialization.ModelLoader": "model_uri",
    "itwinai.serialization.Serializable.locals2params": "locals, pop_self=True",
    "itwinai.serialization.is_jsonable": "x",
    "itwinai.serialization.fullname": "o",
    "itwinai.pipeline.Pipeline": "steps, name=None",
    "itwinai.pipeline.Pipeline.validate_args": "input_args, component",
    "itwinai.utils.load_yaml": "path",
    "itwinai.utils.dynamically_import_class": "name",
    "itwinai.utils.flatten_dict": "d, parent_key='', sep='.'",
    "itwinai.utils.SignatureInspector": "func",
    "itwinai.utils.clear_key": "my_dict, dict_name, key, complain=True",
    "itwinai.utils.make_config_paths_absolute": "args",
    "itwinai.utils.get_root_cause": "exc",
    "itwinai.utils.to_uri": "path_str",
    "itwinai.utils.normalize_tracking_uri": "uri",
    "itwinai.utils.generate_random_name": "",
    "itwinai.utils.deprecated": "reason",
    "itwinai.utils.time_and_log": (
        "func, logger, identifier, step=None, destroy_current_logger_context=False"
    ),
    "itwinai.utils.filter_pipeline_steps": "pipeline_cfg, pipe_steps",
    "itwinai.utils.retrieve_remote_omegaconf_file": "url",
    "itwinai.distributed.suppress_workers_print": "func",
    "itwinai.distributed.suppress_workers_output": "func",
    "itwinai.distributed.distributed_patch_print": "is_main",
    "itwinai.distributed.ClusterEnvironment": (
        "global_rank=0, local_rank=0, global_world_size=1, local_world_size=1"
    ),
    "itwinai.loggers.LogMixin.log": (
        "self, item, identifier, kind='metric', step=None, batch_idx=None"
    ),
    "itwinai.loggers.Logger": (
        "savedir='mllogs', log_freq='epoch', log_on_workers=0, experiment_id=None, run_id=None"
    ),
    "itwinai.loggers.Logger.start_logging": "self, rank=0",
    "itwinai.loggers.Logger.create_logger_context": "self, rank=0",
    "itwinai.loggers.Logger.destroy_logger_context": "self",
    "itwinai.loggers.Logger.save_hyperparameters": "self, params",
    "itwinai.loggers.Logger.serialize": "self, obj, identifier",
    "itwinai.loggers.Logger.should_log": "self, batch_idx=None",
    "itwinai.loggers.ConsoleLogger": "savedir='mllogs', log_freq='epoch', log_on_workers=0",
    "itwinai.loggers.MLFlowLogger": (
        "savedir='mllogs', experiment_name='default_experiment', tracking_uri=None, "
        "run_description=None, run_name=None, log_freq='epoch', log_on_workers=0"
    ),
    "itwinai.loggers.WandBLogger": (
        "savedir='mllogs', project_name='default_experiment', log_freq='epoch', "
        "log_on_workers=0, offline_mode=False"
    ),
    "itwinai.loggers.TensorBoardLogger": (
        "savedir='mllogs', log_freq='epoch', framework='pytorch', log_on_workers=0"
    ),
    "itwinai.loggers.LoggersCollection": "loggers",
    "itwinai.loggers.EmptyLogger": "savedir='mllogs', log_freq='epoch', log_on_workers=0",
    "itwinai.torch.config.TrainingConfiguration": (
        "batch_size=32, shuffle_train=False, shuffle_validation=False, shuffle_test=False, "
        "pin_gpu_memory=False, num_workers_dataloader=4, loss='cross_entropy', optimizer='adam', "
        "optim_lr=1e-3, optim_momentum=0.9, optim_betas=(0.9, 0.999), optim_weight_decay=0.0, "
        "lr_scheduler=None, lr_scheduler_step_size=10, lr_scheduler_gamma=0.95, "
        "fp16_allreduce=False, use_adasum=False, gradient_predivide_factor=1.0, "
        "dist_backend='nccl'"
    ),
    "itwinai.torch.reproducibility.seed_worker": "worker_id",
    "itwinai.torch.reproducibility.set_seed": "rnd_seed, deterministic_cudnn=True",
    "itwinai.torch.distributed.TorchDDPStrategy": "backend",
    "itwinai.torch.distributed.DeepSpeedStrategy": "backend",
    "itwinai.torch.distributed.NonDistributedStrategy": "",
    "itwinai.torch.distributed.RayDDPStrategy": "",
    "itwinai.torch.distributed.RayDeepSpeedStrategy": "backend",
    "itwinai.torch.trainer.TorchTrainer": (
        "config, epochs, model=None, strategy='ddp', test_every=None, random_seed=None, "
        "logger=None, metrics=None, checkpoints_location='checkpoints', checkpoint_every=None, "
        "disable_tqdm=False, name=None, profiling_wait_epochs=0, profiling_warmup_epochs=0, "
        "measure_gpu_data=False, enable_torch_profiling=False, "
        "store_torch_profiling_traces=False, measure_epoch_time=False, ray_scaling_config=None, "
        "ray_tune_config=None, ray_run_config=None, ray_search_space=None, "
        "ray_torch_config=None, ray_data_config=None, from_checkpoint=None, "
        "initial_best_validation_metric='inf', run_name=None, time_ray=False"
    ),
    "itwinai.torch.trainer.TorchTrainer.create_dataloaders": (
        "self, train_dataset, validation_dataset=None, test_dataset=None"
    ),
    "itwinai.torch.trainer.TorchTrainer.execute": (
        "self, train_dataset, validation_dataset=None, test_dataset=None"
    ),
    "itwinai.torch.trainer.TorchTrainer.train_step": "self, batch, batch_idx",
    "itwinai.torch.trainer.TorchTrainer.validation_step": "self, batch, batch_idx",
    "itwinai.torch.trainer.TorchTrainer.test_step": "self, batch, batch_idx",
    "itwinai.torch.trainer.TorchTrainer.compute_metrics": (
        "self, true, pred, logger_step, batch_idx, stage='train'"
    ),
    "itwinai.torch.trainer.TorchTrainer.log": (
        "self, item, identifier, kind='metric', step=None, batch_idx=None"
    ),
    "itwinai.torch.trainer.TorchTrainer.ray_report": (
        "self, metrics, checkpoint_file=None, checkpoint_dir=None, checkpoint_data=None"
    ),
    "itwinai.torch.trainer.TorchTrainer.save_checkpoint": (
        "self, name, best_validation_metric=None, checkpoints_root=None, force=False"
    ),
    "itwinai.slurm.configuration.SlurmScriptConfiguration": _SLURM,
    "itwinai.slurm.configuration.MLSlurmBuilderConfig": (
        f"{_SLURM}, use_ray=False, container_path=None, distributed_strategy, mode='single', "
        "training_cmd, python_venv=None, config_name='config', config_path='.', "
        "pipe_key='training_pipeline', scalability_nodes, py_spy=False, "
        "profiling_sampling_rate=10, run_name='main-run'"
    ),
    "itwinai.slurm.script_builder.SlurmScriptBuilder": "config",
    "itwinai.slurm.script_builder.SlurmScriptBuilder.submit_script": "self, script",
    "itwinai.slurm.script_builder.SlurmScriptBuilder.save_script": "self, script, file_path",
    "itwinai.slurm.script_builder.SlurmScriptBuilder.print_script": "self, script",
    "itwinai.slurm.script_builder.SlurmScriptBuilder.process_script": "self",
    "itwinai.slurm.script_builder.MLSlurmBuilder": "config",
    "itwinai.slurm.script_builder.MLSlurmBuilder.process_all_strategies": "self, strategies",
    "itwinai.slurm.script_builder.MLSlurmBuilder.process_scaling_test": (
        "self, strategies, num_nodes_list=(1, 2, 4, 8)"
    ),
    "itwinai.slurm.script_builder.generate_default_slurm_script": "config",
    "itwinai.cli.generate_slurm": "config, submit_job=None, save_script=None",
    "itwinai.slurm.script_builder.process_builder": "slurm_script_builder",
    "itwinai.slurm.utils.remove_indentation_from_multiline_string": "multiline_string",
    "itwinai.torch.inference.TorchModelLoader": "model_uri, model_class=None",
    "itwinai.torch.tuning.search_space": "config",
    **{
        f"itwinai.tests.dummy_components.{name}{kind}": arguments
        for kind in ("", "Exec")
        for name, arguments in {
            "FakeGetter": "data_uri, name=None",
            "FakeSplitter": "train_prop, name=None",
            "FakePreproc": "max_items, name=None",
            "FakeTrainer": "lr, batch_size, name=None",
            "FakeSaver": "save_path, name=None",
        }.items()
    },
}

#: Methods that subclasses override or programs call, beside those above.
MEMBERS = {
    "itwinai.components.BaseComponent": "execute cleanup exec_t _printout",
    "itwinai.components.Adapter": "INPUT_PREFIX",
    "itwinai.serialization.Serializable": (
        "save_parameters update_parameters locals2params to_dict to_json to_yaml"
    ),
    "itwinai.pipeline.Pipeline": "_pack_args validate_args execute",
    "itwinai.utils.SignatureInspector": ("INFTY required_params min_params_num max_params_num"),
    "itwinai.loggers.Logger": "supported_kinds log_freq",
    "itwinai.loggers.MLFlowLogger": "mlflow active_run resolve_experiment_id",
    "itwinai.slurm.configuration.SlurmScriptConfiguration": "exclusive_line generate_script",
    "itwinai.slurm.configuration.MLSlurmBuilderConfig": "build_training_command",
    "itwinai.torch.distributed.TorchDistributedStrategy": (
        "is_distributed is_initialized name is_main_worker init distributed global_world_size "
        "local_world_size global_rank local_rank barrier device set_device clean_up "
        "allgather_obj gather_obj gather broadcast_obj create_dataloader"
    ),
    "itwinai.torch.trainer.TorchTrainer": (
        "create_model_loss_optimizer create_dataloaders train train_epoch validation_epoch "
        "test_epoch set_epoch device load_checkpoint get_default_distributed_kwargs"
    ),
}


def rows() -> Iterator[tuple[str, str]]:
    """Each name on the page and what the page says of it."""
    for row in _ROW.finditer(PAGE.read_text(encoding="utf-8")):
        for name in re.findall(r"`([^`]+)`", row["names"]):
            yield name, row["state"]


PYTHON = {name: state for name, state in rows() if not name.startswith("itwinai ")}
COMMANDS = {name: state for name, state in rows() if name.startswith("itwinai ")}
HERE = [name for name, state in PYTHON.items() if state != "left out"]


def look_up(name: str) -> Any:
    """Import a dotted name, which may be that of a class's member."""
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        return getattr(look_up(module), attribute)


def parameters(text: str) -> list[tuple[str, Any]]:
    """Names and defaults of a list of parameters."""
    signature = inspect.signature(eval(f"lambda {text}: None"))
    return [(p.name, p.default) for p in signature.parameters.values()]


def test_the_page_has_each_name_once() -> None:
    names = [name for name, _ in rows()]
    assert len(names) == len(set(names)) > 100
    assert {state for _, state in rows()} == set(STATES)


def test_the_counts_on_the_page_are_those_of_its_rows() -> None:
    counts = _COUNTS.search(PAGE.read_text(encoding="utf-8"))
    assert counts is not None
    states = [state for _, state in rows()]
    assert [int(count) for count in counts.groups()] == [
        len(states),
        *(states.count(state) for state in STATES),
    ]


def test_every_left_out_name_says_why() -> None:
    text = PAGE.read_text(encoding="utf-8")
    unexplained = [row["names"] for row in _ROW.finditer(text) if not row["note"].strip()]
    assert [names for names in unexplained if f"| {names} | same |" not in text] == []


@pytest.mark.parametrize("name", HERE)
def test_a_name_that_is_here_can_be_imported(name: str) -> None:
    try:
        look_up(name)
    except MissingPackageError as error:
        assert "pip install" in str(error)  # noqa: PT017 - either is as it should be


@pytest.mark.parametrize("name", sorted(set(PYTHON) - set(HERE)))
def test_a_name_that_is_left_out_is_not_here(name: str) -> None:
    with pytest.raises((ModuleNotFoundError, AttributeError)):
        look_up(name)


#: Defaults that have changed since, as the page says.
OTHER_DEFAULTS: dict[str, dict[str, Any]] = {
    "itwinai.torch.trainer.TorchTrainer.compute_metrics": {"stage": None}
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_arguments_are_those_of_0_4(name: str) -> None:
    expected = parameters(SIGNATURES[name])
    found = list(inspect.signature(look_up(name)).parameters.values())
    if found and found[0].kind is inspect.Parameter.KEYWORD_ONLY:  # no order to keep
        by_name = {parameter.name: parameter for parameter in found}
        found = [by_name[key] for key, _ in expected]
    assert [p.name for p in found[: len(expected)]] == [key for key, _ in expected]
    for parameter, (key, default) in zip(found, expected, strict=False):
        # An argument that had to be given may have got a default since.
        if default is not inspect.Parameter.empty:
            assert parameter.default == OTHER_DEFAULTS.get(name, {}).get(key, default), key
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    for parameter in found[len(expected) :]:
        assert parameter.default is not parameter.empty or parameter.kind in variadic


@pytest.mark.parametrize("name", MEMBERS)
def test_members_are_those_of_0_4(name: str) -> None:
    kind = look_up(name)
    assert [member for member in MEMBERS[name].split() if not hasattr(kind, member)] == []


def test_each_signature_belongs_to_a_name_on_the_page() -> None:
    owners = {*SIGNATURES, *MEMBERS}
    assert [o for o in owners if not any(o == n or o.startswith(f"{n}.") for n in HERE)] == []


def test_the_constant_is_the_loggers() -> None:
    from itwinai.constants import BASE_EXP_NAME

    assert look_up("itwinai.loggers.BASE_EXP_NAME") == BASE_EXP_NAME


def test_commands_are_there_or_left_out_as_the_page_says() -> None:
    known = set(typer.main.get_command(app).commands)
    here = {f"itwinai {name}" for name in known} & set(COMMANDS)
    assert here == {name for name, state in COMMANDS.items() if state != "left out"}
