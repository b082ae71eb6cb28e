"""The faults and attacks that itwinai is tested against: one table, also the documentation's.

``python tests/faults/table.py`` writes it into ``docs/reliability.md``; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from measured import seconds

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reliability.md"


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong, or that somebody tries.

    Attributes:
        id: Its number; attacks have an S before it.
        fault: What happens.
        survives: What is there afterwards, without anybody's doing; of an attack: what stops it.
        lost: What is gone; of an attack: what remains open.
        message: What the user reads or sees in the record; empty: nothing.
        tests: Where it is made to happen, as pytest names tests.
    """

    id: str
    fault: str
    survives: str
    lost: str
    message: str = ""
    tests: tuple[str, ...] = ()


_ENGINE = "tests/hpo/engine"
_OUTAGES = "tests/hpo/engine/test_outages.py"
_STUDY = "tests/hpo/study/test_study.py"
_EXTENDING = "tests/hpo/study/test_extending.py"
_RECORD = "tests/hpo/record/test_record.py"
_CHECKPOINTS = "tests/torch/checkpoints/test_checkpoints.py"
_PARTING = "tests/torch/training/test_parting.py"
_REFUSALS = "tests/torch/ray/test_refusals.py"
_TRAINER = "tests/torch/training/test_trainer.py"
_SLURM = "tests/slurm"
_KILLED = "tests/faults/test_killed_driver.py"
_MOMENTS = "tests/faults/test_killed_at_any_moment.py"
_ENDS = "tests/faults/test_ends_of_drivers.py"
_SINGLE = "tests/faults/test_single_faults.py"

FAULTS = (
    Fault(
        "1",
        "a worker is killed with -9 in the middle of a trial",
        "the trial, which goes on from its newest checkpoint with the same values",
        "epochs since that checkpoint",
        "after `max_failures` losses: *its worker was lost 4 times (study.max_failures=3)*",
        (
            f"{_ENGINE}/test_engine.py::test_a_killed_worker_costs_no_trial_and_no_finished_epoch",
            f"{_KILLED}::test_a_killed_worker_is_replaced",
            f"{_ENGINE}/test_engine.py::test_a_trial_that_loses_its_worker_too_often_is_lost",
            "tests/torch/ray/test_long_training.py"
            "::test_two_workers_train_and_a_killed_one_costs_no_finished_epoch",
        ),
    ),
    Fault(
        "2",
        "one rank fails, is gone or falls silent, and the others wait",
        "the other ranks end within seconds",
        "the epoch",
        "*rank 1 failed in train_step(), epoch 1, batch 2: ...*; *rank 1 is gone. It was last seen "
        "in ...*",
        (
            f"{_PARTING}::test_a_rank_that_fails_is_named_with_its_hook",
            f"{_PARTING}::test_a_rank_that_is_lost_is_named_with_its_last_place",
            f"{_PARTING}::test_ranks_that_have_parted_end",
        ),
    ),
    Fault(
        "3",
        "a node of the job is lost",
        "its trials go on elsewhere, from the shared storage; the study too, in a next job, if the "
        "driver's node was the one",
        "epochs since their newest checkpoints",
        "",
        (
            f"{_SLURM}/test_cluster.py::test_a_lost_node_costs_no_trial",
            f"{_SLURM}/test_chain.py::test_a_study_goes_on_when_the_node_of_its_driver_was_lost",
        ),
    ),
    Fault(
        "4",
        "the driver is killed with -9",
        "every epoch on record; `resume` goes on to the same total, with the same search",
        "epochs since the newest checkpoints of the trials that ran",
        "",
        (
            f"{_KILLED}::test_a_killed_study_goes_on_without_losing_or_repeating_anything",
            f"{_ENGINE}/test_resume_after_kill.py"
            "::test_a_study_whose_driver_is_killed_three_times_loses_nothing",
            f"{_STUDY}::test_a_study_killed_twice_in_a_row_still_runs_each_trial_once",
        ),
    ),
    Fault(
        "5",
        "processes outlive a driver that was killed",
        "none: Ray and its workers end by themselves; a watcher ends those that have not after "
        "3 s, and deletes the folder with the token; if it was killed too, the next start does",
        "nothing",
        "",
        (
            f"{_KILLED}::test_no_process_of_a_killed_driver_stays",
            f"{_KILLED}::test_the_token_of_a_killed_driver_goes_with_it",
            f"{_MOMENTS}::test_nothing_stays_of_a_driver_that_is_killed_when",
            f"{_ENGINE}/test_watcher.py"
            "::test_a_killed_programs_ray_goes_with_it_and_nothing_else_does",
            f"{_ENGINE}/test_watcher.py::test_a_fork_of_the_program_does_not_hide_its_end",
            "tests/test_temporary_folders.py::test_a_killed_processs_folder_goes_with_the_next_one",
        ),
    ),
    Fault(
        "6",
        "trials are left *running* in the record",
        "`resume` takes them up under their numbers, from their checkpoints",
        "nothing more than in 4",
        "`hpo list` says *interrupted*, because nobody holds the record's lock",
        (
            f"{_STUDY}::test_interrupted_trials_go_on_under_their_numbers_from_their_checkpoints",
            f"{_STUDY}::test_a_trial_killed_after_its_last_epoch_is_complete_without_training_again",
        ),
    ),
    Fault(
        "7",
        "a live worker is taken for dead, because it sleeps for a while",
        "the trial: a worker is lost when its process is gone, not when it is slow; an end that is "
        "told twice counts once",
        "nothing",
        "",
        (
            f"{_KILLED}::test_a_worker_that_sleeps_for_a_while_is_not_declared_dead",
            f"{_STUDY}::test_an_end_told_twice_counts_once",
            f"{_STUDY}::test_an_epoch_reported_again_by_a_retried_trial_is_not_recorded_twice",
        ),
    ),
    Fault(
        "8",
        "the disk is full",
        "every trial: no other one starts, and those that met it go on once there is space; after "
        "`outage_timeout_s` the study ends, to be resumed",
        "epochs since the newest checkpoints; of the record nothing, which is written later",
        "*No space left on device ... No trial starts until this has passed, for at most 600 s*; "
        "before the start: *1 MiB are free, but 3 checkpoints at the same time ... need 2 MiB*",
        (
            f"{_OUTAGES}::test_a_full_disk_holds_a_study_until_there_is_space_and_costs_no_trial",
            f"{_OUTAGES}::test_a_disk_that_stays_full_ends_a_study_which_can_be_resumed",
            f"{_OUTAGES}::test_notes_of_ray_tune_that_a_full_disk_cuts_short_end_no_study",
            f"{_OUTAGES}"
            "::test_what_a_full_disk_does_not_take_of_a_record_is_written_when_there_is_space",
            f"{_OUTAGES}"
            "::test_a_disk_without_room_for_the_checkpoints_is_refused_before_anything_starts",
        ),
    ),
    Fault(
        "9",
        "a logger fails: its disk is full, its folder is gone",
        "the training and its result; the failure is counted, and told once and in the summary",
        "that logger's values",
        "*12 failures of MLFlowLogger, the first: ...*",
        (
            "tests/loggers/test_loggers_collection.py"
            "::test_a_failing_logger_is_counted_warned_about_once_and_survived",
            "tests/torch/ray/test_study_runs.py"
            "::test_a_logger_that_fails_changes_no_result_and_is_in_the_summary",
            "tests/loggers/test_spool.py::test_a_full_disk_leaves_whole_lines",
        ),
    ),
    Fault(
        "10",
        "the storage is slow, read-only or gone",
        "a slow one costs time alone; where it is gone the study ends within a second, keeps what "
        "it knew and writes it once the place is there again",
        "of a storage that is gone: what ran since the newest checkpoints",
        "*is slow: a file of five bytes took 1.2 s*; *the record was deleted, moved or replaced "
        "while its study ran*",
        (
            f"{_OUTAGES}::test_a_slow_disk_is_named_before_the_start",
            f"{_EXTENDING}::test_a_record_that_vanishes_stops_its_study_which_keeps_what_it_knew",
            f"{_SLURM}/test_cluster.py::test_storage_that_a_node_cannot_write_to_is_named",
        ),
    ),
    Fault(
        "11",
        "nodes do not share the storage, or a node cannot write to it",
        "nothing is started",
        "nothing",
        "*... cannot hold records and checkpoints on 10.0.0.2: Read-only file system ...*",
        (
            f"{_SLURM}/test_cluster.py::test_storage_that_a_node_does_not_share_is_named",
            f"{_SLURM}/test_cluster.py::test_storage_that_a_node_cannot_write_to_is_named",
            "tests/torch/ray/test_where_trials_run.py::test_a_node_without_the_folder_is_named",
        ),
    ),
    Fault(
        "12",
        "a checkpoint is cut off, altered or incomplete, or its writer is killed",
        "the one before it, which is used",
        "the epochs in between",
        "*...: the file was cut off after it was written*",
        (
            f"{_CHECKPOINTS}::test_a_damaged_checkpoint_is_named_and_the_one_before_it_used",
            f"{_CHECKPOINTS}::test_fifty_kills_while_saving_leave_a_good_checkpoint_each_time",
            f"{_TRAINER}::test_what_a_crash_between_two_renames_left_is_found",
            "tests/torch/ray/test_torch_study.py"
            "::test_a_trial_whose_checkpoint_is_damaged_begins_again",
        ),
    ),
    Fault(
        "13",
        "a rank dies while all ranks write a checkpoint in parts",
        "the checkpoint before it: the new one has no name until all parts are there",
        "the epochs in between",
        "*rank 1 is gone. It was last seen in ...*",
        (
            f"{_PARTING}::test_a_rank_that_is_lost_while_all_save_leaves_the_checkpoint_before",
            "tests/torch/strategies/test_strategies.py::test_a_shard_that_is_missing_is_noticed",
        ),
    ),
    Fault(
        "14",
        "the record is torn or damaged",
        "all that is undamaged; the damaged record is kept beside the mended one",
        "what the damaged lines held",
        "*warning: .../record.log: line 12 (...) is damaged, and left out*",
        (
            f"{_RECORD}::test_a_line_torn_at_any_byte_costs_no_ended_trial",
            f"{_RECORD}::test_a_damaged_line_costs_what_it_held_and_the_damaged_record_is_kept",
            "tests/hpo/record/test_damage.py::test_random_damage",
            "tests/cli/test_hpo_cli.py::test_a_damaged_record_is_repaired",
        ),
    ),
    Fault(
        "15",
        "a lock is left by a process that was killed",
        "the study: the system lets go of the lock with its process; a live holder keeps it",
        "nothing",
        "of a live holder: *another process is running this study*",
        (f"{_RECORD}::test_a_second_writer_is_refused_while_the_first_lives_and_not_after_kill_9",),
    ),
    Fault(
        "16",
        "two different studies have one folder, or one study two drivers",
        "the first one; the second is refused",
        "nothing",
        "*another process is running this study*; *its epochs were 4 and are now 5*",
        (
            f"{_STUDY}::test_a_changed_study_is_refused_and_can_be_resumed_as_it_was",
            f"{_STUDY}::test_an_existing_study_is_refused_without_resume",
            f"{_RECORD}::test_a_study_of_another_program_is_refused",
            "tests/cli/test_hpo_cli.py::test_a_running_study_is_asked_to_stop",
        ),
    ),
    Fault(
        "17",
        "many processes read and write one database on a shared disk",
        "there is none: the record is a file with one writer, which everybody may read meanwhile",
        "nothing",
        "",
        (
            f"{_RECORD}::test_the_record_of_a_running_study_can_be_read",
            f"{_RECORD}"
            "::test_a_second_study_in_the_same_process_is_refused_until_the_first_is_closed",
        ),
    ),
    Fault(
        "18",
        "a loss or metric is NaN or infinite",
        "the study: the trial ends as *diverged*, is never the best, and the search learns from it",
        "the rest of that trial",
        "*validation_loss became nan in epoch 2*",
        (
            f"{_STUDY}::test_a_metric_that_is_not_finite_means_diverged",
            "tests/torch/ray/test_torch_study.py::test_a_trial_that_goes_wrong_is_alone_with_it",
            "tests/torch/training/test_data_of_a_training.py"
            "::test_a_loss_that_is_no_number_ends_a_training_with_its_place",
        ),
    ),
    Fault(
        "19",
        "the GPU or the machine runs out of memory",
        "the study: the trial ends as *out of memory* and is not tried again; the next one gets a "
        "new process",
        "the rest of that trial",
        "*Ray ended its process: the machine ran out of memory*",
        (
            f"{_ENGINE}/test_ends.py::test_an_error_that_spoils_its_process_is_not_retried_and_the"
            "_next_trial_gets_a_new_one",
            f"{_ENGINE}/test_memory_monitor.py"
            "::test_a_trial_that_fills_the_memory_is_not_retried_and_the_study_goes_on",
        ),
    ),
    Fault(
        "20",
        "a trial hangs",
        "the study, with `report_timeout_s`: the trial ends as *hung*, and the next one gets a new "
        "process",
        "the rest of that trial",
        "*no report within 600 s (stacks: trials/00001/hung.txt)*",
        (
            f"{_ENGINE}/test_ends.py"
            "::test_a_hung_trial_ends_with_its_stacks_and_the_next_gets_a_new_process",
        ),
    ),
    Fault(
        "21",
        "the time of a batch job is nearly up",
        "everything: trials end after their epoch, with a checkpoint; the next job goes on",
        "nothing",
        "*study 'digits' goes on in the next job*; exit code 75",
        (
            "tests/torch/training/test_job.py"
            "::test_a_study_ends_with_the_job_and_goes_on_in_the_next_one",
            f"{_SLURM}/test_chain.py::test_a_study_is_finished_by_as_many_jobs_as_it_takes",
        ),
    ),
    Fault(
        "22",
        "jobs continue one another wrongly, or Slurm's commands are missing",
        "each job submits its own continuation, once, unless it was cancelled; arrays are refused",
        "nothing",
        "*sbatch: this command of Slurm is not here ...*",
        (
            f"{_SLURM}/test_chain.py::test_jobs_follow_one_another_until_none_is_left",
            f"{_SLURM}/test_chain.py::test_cancelled_jobs_are_not_continued",
            f"{_SLURM}/test_commands.py::test_a_machine_without_slurm_is_said_to_have_none",
        ),
    ),
    Fault(
        "23",
        "two studies or jobs on one machine want the same port",
        "both: the system chooses every port",
        "nothing",
        "",
        (
            f"{_ENDS}::test_studies_at_the_same_time_have_rays_of_their_own",
            f"{_SLURM}/test_cluster.py::test_two_studies_share_a_node",
        ),
    ),
    Fault(
        "24",
        "somebody else's Ray runs on the machine",
        "the study: it starts a Ray of its own, in a private folder, or joins the one that "
        "`RAY_ADDRESS` names",
        "nothing",
        "",
        (
            f"{_ENDS}::test_studies_at_the_same_time_have_rays_of_their_own",
            f"{_KILLED}::test_nobody_without_the_token_is_answered",
        ),
    ),
    Fault(
        "25",
        "clocks of machines differ, or jump",
        "the study: it measures by clocks that only go forward, each in one process",
        "nothing",
        "",
        (f"{_SINGLE}::test_a_clock_that_jumps_changes_nothing",),
    ),
    Fault(
        "26",
        "the YAML file has a mistake",
        "nothing is started",
        "nothing",
        "the file, the key, what is wrong, the nearest name",
        (
            "tests/cli/test_yaml_mistakes.py::test_what_the_user_sees",
            f"{_REFUSALS}::test_a_wrong_key_or_value_of_the_study",
            "tests/hpo/space/test_space.py::test_numbers_written_as_strings_are_numbers",
        ),
    ),
    Fault(
        "27",
        "the tracking server is down, silent or answers with errors",
        "the training, without waiting; what could not be sent is kept: `itwinai loggers sync`",
        "nothing",
        "*MLflow's server ... has not got all of a run ... To send them: itwinai loggers sync ...*",
        (
            "tests/loggers/test_mlflow_faults.py::test_a_server_that_never_works",
            "tests/loggers/test_mlflow_faults.py::test_a_server_that_fails_in_the_middle",
            "tests/loggers/test_mlflow_faults.py::test_a_training_does_not_notice",
            "tests/loggers/test_mlflow_faults.py::test_the_command",
        ),
    ),
    Fault(
        "28",
        "a training that goes on differs from one that was never interrupted",
        "the same numbers, to the last bit on a CPU: weights, optimizer, schedule, order, "
        "generators",
        "nothing",
        "",
        (
            f"{_CHECKPOINTS}::test_a_resumed_training_equals_an_uninterrupted_one_bit_for_bit",
            "tests/torch/training/test_training_matrix.py"
            "::test_the_numbers_are_those_of_one_uninterrupted_process",
            "tests/torch/ray/test_torch_study.py"
            "::test_an_interrupted_study_is_resumed_to_the_same_total",
        ),
    ),
    Fault(
        "29",
        "a plan cannot work: more cores or GPUs per trial than any machine has",
        "nothing is started",
        "nothing",
        "*a trial needs 1 worker(s) with 4 CPU each, which no machine here can ever give*",
        (
            f"{_ENGINE}/test_resources.py::test_what_no_machine_can_ever_give_is_refused",
            f"{_REFUSALS}::test_more_cores_than_there_are",
        ),
    ),
    Fault(
        "30",
        "Ctrl-C once or twice, `kill`, a terminal or a pipe that is closed",
        "the record: trials end after their epoch and can be resumed; after the second Ctrl-C at "
        "once; a closed pipe ends nothing",
        "after the second Ctrl-C: the epoch; of a closed pipe: what its reader would have read",
        "*study 'digits' was interrupted after 7 trials; the same command with study.resume=true "
        "goes on to the same total*; exit code 130",
        (
            f"{_ENDS}::test_a_signal_ends_a_study_with_its_record_in_order",
            f"{_ENDS}::test_the_first_signal_is_heard_with_patience",
            f"{_ENDS}::test_the_second_ctrl_c_waits_for_nothing",
            f"{_ENDS}::test_a_study_that_is_told_to_end_as_its_ray_starts_ends_alike",
            f"{_ENDS}::test_a_pipe_whose_reader_has_gone_costs_what_it_would_have_read",
            "tests/test_cli.py::test_ctrl_c_ends_quietly_with_130",
        ),
    ),
    Fault(
        "31",
        "a study ends itself because its first trials failed alike, or is asked to stop",
        "its record; it can be resumed, with no more trials at once than before",
        "nothing",
        "*the first 3 trials all failed, so the study ends here*",
        (
            f"{_EXTENDING}::test_failures_of_the_same_kind_end_the_study",
            f"{_EXTENDING}::test_a_request_to_stop_interrupts_and_can_be_resumed",
            f"{_KILLED}::test_a_worker_that_sleeps_for_a_while_is_not_declared_dead",
        ),
    ),
    Fault(
        "32",
        "a node is much slower than the others, or trials fail on it that succeed elsewhere",
        "every trial: those on a slow node go on elsewhere from their next checkpoints, those that "
        "failed on a broken one run again; the node gets no more, unless `exclude_nodes: never`",
        "what trials had trained on a broken one since their newest checkpoints",
        "*node2 is slow and gets no more trials: epochs take 3.5 times as long as on the other "
        "node ...*",
        (
            f"{_ENGINE}/test_slow_nodes.py"
            "::test_a_node_whose_processes_are_stopped_and_continued_is_left_out",
            f"{_ENGINE}/test_slow_nodes.py"
            "::test_trials_that_fail_on_a_broken_node_run_again_elsewhere",
            "tests/hpo/study/test_nodes.py::test_a_broken_node_costs_no_trial",
            f"{_SLURM}/test_cluster.py::test_a_slow_node_of_a_job_is_left_out",
        ),
    ),
)

ATTACKS = (
    Fault(
        "S1",
        "somebody on the machine or its network sends commands to Ray",
        "Ray has no dashboard, listens on loopback alone (in a job on its nodes' interface), and "
        "answers nobody without the token",
        "the traffic between the nodes of a job is not encrypted",
        "`itwinai check` shows where Ray listens",
        (
            f"{_KILLED}::test_nobody_without_the_token_is_answered",
            f"{_ENGINE}/test_engine.py::test_ray_listens_on_this_machine_only",
            "tests/cli/test_check.py::test_this_machine_passes",
            "tests/cli/test_check.py::test_an_open_door_fails_the_check",
            f"{_SLURM}/test_cluster.py::test_clusters_share_a_node_and_a_later_node_joins_its_own",
        ),
    ),
    Fault(
        "S2",
        "somebody reads the token: in `ps`, a script, a log, a file",
        "it stands in one file of mode 0600, in a folder of mode 0700",
        "nothing",
        "",
        (
            f"{_KILLED}::test_the_token_stands_in_its_own_file_alone",
            f"{_SLURM}/test_cluster_parts.py::test_the_token_is_for_its_owner_alone",
        ),
    ),
    Fault(
        "S3",
        "a secret is the same for everybody, in what we ship or write",
        "each study and each job has a token of its own, from the system's random numbers",
        "nothing",
        "",
        (
            f"{_ENDS}::test_studies_at_the_same_time_have_rays_of_their_own",
            f"{_SLURM}/test_cluster_parts.py::test_the_token_is_for_its_owner_alone",
        ),
    ),
    Fault(
        "S4",
        "a checkpoint holds code",
        "it is not run: checkpoints are read as data (`weights_only=True`)",
        "a model pickled by MLflow, which you must allow by name",
        "*.../model.pt: not a whole checkpoint, or one that holds more than tensors and plain "
        "values*",
        (
            f"{_TRAINER}::test_a_checkpoint_that_would_run_code_is_refused_and_does_not",
            "tests/torch/strategies/test_strategies.py::test_shards_run_no_code",
            "tests/torch/test_inference.py::test_a_pickled_module_is_not_run",
        ),
    ),
    Fault(
        "S5",
        "pickles are planted in a study's folder",
        "they are not read: a study is resumed from its record, which is JSON",
        "nothing",
        "",
        (f"{_KILLED}::test_pickles_in_a_studys_folder_are_not_read",),
    ),
    Fault(
        "S6",
        "a YAML file names a function that does harm",
        "only public classes and the file's own folder may be named, unless you `--allow` more",
        "Python modules in the file's own folder run",
        "*os.system: ...; if you trust it, add --allow os.system*",
        (
            "tests/config/test_allowing.py::test_a_gadget_is_refused_and_nothing_runs",
            "tests/config/test_allowing.py::test_a_name_that_is_put_together_is_refused",
            "tests/config/test_allowing.py::test_hydra_builds_nothing_else",
        ),
    ),
    Fault(
        "S7",
        "a configuration comes from the network",
        "only files of this machine are read",
        "`plugins` of programs for itwinai 0.4 are installed by `itwinai run`",
        "*only files on this machine are read*",
        (
            f"{_SLURM}/test_configuration.py::test_a_url_is_refused_with_the_reason",
            f"{_SINGLE}::test_a_configuration_on_the_network_is_not_fetched",
        ),
    ),
    Fault(
        "S8",
        "a value becomes shell in a job's script",
        "every value is checked and quoted",
        "`pre_exec`, which is shell",
        "the key, and what may stand there",
        (
            f"{_SLURM}/test_script.py::test_no_value_runs_as_shell",
            f"{_SLURM}/test_script.py::test_the_hostile_values_would_be_noticed",
            f"{_SLURM}/test_commands.py::test_an_argument_is_never_read_by_a_shell",
        ),
    ),
    Fault(
        "S9",
        "a name leads out of its folder, or a link does",
        "names of studies are letters, digits, `.`, `_` and `-`; links in a study's folder are not "
        "followed",
        "nothing",
        "*study.name='../up': a study's name is 1 to 100 letters ...*",
        (
            f"{_REFUSALS}::test_a_wrong_key_or_value_of_the_study",
            "tests/hpo/record/test_ownership.py::test_a_link_in_a_studys_folder_is_not_followed",
            "tests/hpo/record/test_ownership.py::test_a_study_whose_name_is_an_option_is_refused",
            "tests/loggers/test_mlflow_faults.py::test_a_spool_is_data_and_not_trusted",
        ),
    ),
    Fault(
        "S10",
        "others read or write a study's folder",
        "it has mode 0700, whatever the umask; one of another user, or that all may write to, is "
        "refused",
        "root",
        "*... everybody may write to ...*",
        (
            "tests/hpo/record/test_ownership.py::test_a_new_studys_folder_is_its_owners_alone",
            "tests/hpo/record/test_ownership.py::test_another_users_folder_is_not_used",
            "tests/hpo/record/test_ownership.py::test_what_everybody_may_write_to_is_not_used",
            f"{_SLURM}/test_script.py::test_what_a_job_makes_is_for_its_user_alone",
        ),
    ),
    Fault(
        "S11",
        "secrets travel to workers through what others can see",
        "they are inherited with the environment; no command line and no setting of Ray holds them",
        "root, and your own processes",
        "",
        (
            f"{_KILLED}::test_a_secret_of_the_environment_stands_in_no_file",
            f"{_KILLED}::test_the_token_stands_in_its_own_file_alone",
        ),
    ),
    Fault(
        "S12",
        "secrets are written to logs, checkpoints or tracking services",
        "values of variables with names of secrets are written as `${oc.env:NAME}`, passwords of "
        "addresses as `***`",
        "what your own code prints",
        "",
        (
            "tests/torch/training/test_secrets.py::test_a_logger_is_told_no_secret",
            "tests/torch/training/test_secrets.py::test_a_message_names_no_password",
            "tests/torch/training/test_secrets.py"
            "::test_a_checkpoint_holds_no_secret_of_the_environment_and_finds_it_again",
        ),
    ),
    Fault(
        "S13",
        "a name or a value is code for whatever shows it: a terminal, a spreadsheet",
        "control characters reach no terminal, and no text of a CSV file is a formula",
        "nothing",
        "",
        (
            "tests/hpo/display/test_terminals.py::test_no_command_writes_what_steers",
            "tests/cli/test_hpo_cli.py::test_no_text_of_a_csv_is_a_formula",
        ),
    ),
    Fault(
        "S14",
        "a server that we start is open to the network",
        "it listens on loopback, unless you name another address",
        "the pages ask for no password",
        "a warning if you name another address",
        (
            "tests/cli/test_ui.py::test_the_page_is_there_until_it_is_interrupted",
            "tests/cli/test_ui.py::test_other_machines_see_the_page_only_with_a_warning",
        ),
    ),
    Fault(
        "S15",
        "a new version of a package breaks or endangers a study",
        "every package that itwinai needs has an upper bound; archives are not unpacked",
        "bounds are no lock file",
        "",
        (f"{_SINGLE}::test_every_dependency_has_an_upper_bound",),
    ),
)


def rendered(rows: Iterable[Fault], headings: Iterable[str]) -> str:
    """A table as Markdown; the seconds are those that the tests have measured."""
    took = seconds()
    lines = [f"| {' | '.join(headings)} |"]
    lines.append("| " + " | ".join("---" for _ in headings) + " |")
    for row in rows:
        cells = [row.id, row.fault, row.survives, row.lost or "-", row.message or "-"]
        if row in FAULTS:
            cells.append(f"{took[row.id]:g}" if row.id in took else "")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def updated(page: str) -> str:
    """The page with both tables between their marks."""
    tables = {
        "faults": rendered(
            FAULTS,
            ["", "what happens", "what survives", "what is lost", "what you see", "seconds"],
        ),
        "attacks": rendered(
            ATTACKS, ["", "what is tried", "what stops it", "what remains open", "what you see"]
        ),
    }
    for name, table in tables.items():
        begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->\n"
        before, old = page.split(begin)
        page = before + begin + table + "\n" + end + old.split(end)[1]
    return page


if __name__ == "__main__":
    PAGE.write_text(updated(PAGE.read_text()))
