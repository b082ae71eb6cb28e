"""From a job's configuration to its script: one file of bash that needs nothing but Slurm.

A configuration's values reach the script in two ways only: in ``#SBATCH`` lines, whose patterns
leave no room for anything else, and in assignments, quoted. What follows them is the same text for
every job of a kind.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path

from itwinai.environ import ALLOW
from itwinai.job import UNFINISHED
from itwinai.slurm.config import SlurmConfiguration

_HEAD = """\
#!/bin/bash
# {what}, written by 'itwinai slurm'. To change it, change its configuration.
# shellcheck disable=SC2016,SC2317 # values are meant as they stand; traps call functions
#
"""

_STRICT = """\

set -euo pipefail
umask 077
: "${SLURM_JOB_ID:?submit this script with sbatch}"
"""

_FILES = """\

# --- Files: this job's folder, which goes with it, and what all jobs of a run know ---------------
jobs="$storage/.jobs"
run="${ITWINAI_RUN:-$SLURM_JOB_ID}" # the first job's number; what that one began is continued
link="${ITWINAI_LINK:-0}"           # how many jobs came before, one after the other
[[ "$run$link" =~ ^[0-9]+$ ]] || { run="$SLURM_JOB_ID" link=0; }
folder="$jobs/$SLURM_JOB_ID-${SLURM_RESTART_COUNT:-0}"

mkdir -p -- "$jobs"
chmod 700 -- "$jobs" # fails if the folder is somebody else's
echo "$SLURM_JOB_ID $link" >> "$jobs/$run.links"
if ((link == 0 && ${SLURM_RESTART_COUNT:-0} == 0)); then
    rm -f -- "$jobs/$run.cancelled"
    cp -- "$0" "$jobs/$run.sh" # Slurm deletes its own copy
else # the jobs before this one are over, but could not clean up if they were killed
    while read -r job _; do
        if [[ "$job" =~ ^[0-9]+$ ]]; then rm -rf -- "$jobs/$job"-*; fi
    done < "$jobs/$run.links"
fi
mkdir -- "$folder"
trap 'rm -rf -- "$folder"' EXIT

# The command ends early, with code 75, when this file appears.
export ITWINAI_STOP_FILE="$folder/stop"
export ITWINAI_RUN="$run"
"""

_SIGNALS = """\

# --- The end, early or not ----------------------------------------------------------------------
limit_is_near=0 continued=0 later=
printf -v ends_at '%(%s)T' -1
ends_at="${SLURM_JOB_END_TIME:-$((ends_at + time_limit_s))}" # older versions do not tell
export ITWINAI_STOP_AT=$((ends_at - signal_before_s))

say() { printf 'itwinai: %(%F %T)T %s\\n' -1 "$*"; }

drain() {
    say "$1; the command is told to come to an end"
    touch -- "$ITWINAI_STOP_FILE"
}

continue_later() {
    local next
    continued=1
    if [[ -e "$jobs/$run.cancelled" ]]; then return 0; fi
    if ((link >= max_continuations)); then
        say "not finished, and max_continuations=$max_continuations allows no further job"
    elif next=$(sbatch --parsable --dependency="afterany:$SLURM_JOB_ID" \\
        --export="ALL,ITWINAI_RUN=$run,ITWINAI_LINK=$((link + 1))" "$jobs/$run.sh"); then
        next="${next%%;*}" # without the cluster's name
        echo "$next $((link + 1))" >> "$jobs/$run.links"
        say "job $next goes on from here, continuation $((link + 1)) of $max_continuations"
        # Cancelled in this very moment: the other side has not seen the new job.
        if [[ -e "$jobs/$run.cancelled" ]]; then scancel "$next"; fi
        return 0 # in a trap a bare 'return' means the code of what the signal interrupted
    else
        say "not finished, and the job that should go on was refused"
    fi
    say "to go on by hand: ITWINAI_RUN=$run sbatch $jobs/$run.sh"
}

# Slurm's warning may come a minute before it is due (sbatch(1), --signal). The command goes on
# until then, as it has been told that it can. An earlier one is somebody's wish.
on_warning() {
    local now early
    limit_is_near=1
    printf -v now '%(%s)T' -1
    early=$((ITWINAI_STOP_AT - now))
    if ((early > 0 && early <= 60)); then
        say "the time limit is near; the command has $early s until it is told"
        (
            trap exit TERM # it waits no longer than the command
            sleep "$early" &
            trap 'kill "$!"; exit' TERM
            wait "$!"
            drain "the time limit is near"
        ) &
        later=$!
    else
        drain "the time limit is near"
    fi
}

# Slurm ends this job: it is cancelled, has to make room, or has met its limit. The processes have
# half a minute or so (KillWait). At the limit there was no time to come to an end, but what the
# command has kept so far is enough to go on from.
on_end() {
    local now
    printf -v now '%(%s)T' -1
    drain "Slurm ends this job"
    if ((now < ends_at - 10)); then
        limit_is_near=0 # it was cancelled, so nothing goes on
    elif ((limit_is_near && !continued)); then
        continue_later
    fi
}

trap on_warning USR1
trap on_end TERM

# Runs the command and notes its code: where a signal comes as it ends, 'wait' may tell another.
run_command() {
    trap 'echo "$?" > "$folder/code" || true' EXIT
    trap : TERM USR1 # the command hears of them by itself
    "$@"
}

# Waits for 'run_command'. A signal ends 'wait' early, while the command is still running.
wait_for() {
    while true; do
        code=0
        wait "$1" || code=$?
        if ! kill -0 "$1" 2> /dev/null; then break; fi
    done
    # A full disk has taken no note.
    if [[ -s "$folder/code" ]]; then code=$(< "$folder/code"); fi
}
"""

_STUDY = """\

# --- Ray on every node, and the command on this one ---------------------------------------------
# A node that is lost takes its own trials with it and nothing else.
srun --overlap --no-kill --kill-on-bad-exit=0 --wait=0 --nodes="$SLURM_JOB_NUM_NODES" \\
    --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 --cpus-per-task="$cpus_per_task" \\
    {python} -m itwinai.slurm.node "$folder"{interface} &
agents=$!

run_command {python} -m itwinai.slurm.driver "$folder" --nodes "$SLURM_JOB_NUM_NODES" \\
    --timeout {node_timeout_s} -- "${{command[@]}}" &
wait_for $!
touch -- "$folder/ended" # the driver has told the nodes, unless it was killed
# A node that hangs is left to Slurm, which ends on all nodes what is left when this script ends.
sleep 60 &
patience=$!
wait -n "$agents" "$patience" || true
kill "$patience" 2> /dev/null || true
"""

_TRAINING = """\

# --- torchrun on every node, which meet on this one ---------------------------------------------
port=$({python} -c 'import socket; s = socket.create_server(("", 0)); print(s.getsockname()[1])')
# After the first node has ended, the others have a minute to write what they have.
run_command srun --kill-on-bad-exit=0 --wait=60 --nodes="$SLURM_JOB_NUM_NODES" \\
    --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 --cpus-per-task="$cpus_per_task" \\
    {python} -m torch.distributed.run --nnodes="$SLURM_JOB_NUM_NODES" \\
    --nproc-per-node={processes} --rdzv-backend=c10d --rdzv-endpoint="$(hostname):$port" \\
    --rdzv-id="$SLURM_JOB_ID" --no-python "${{command[@]}}" &
wait_for $!
"""

_PLAIN = """\

# --- The command --------------------------------------------------------------------------------
run_command {inside}"${{command[@]}}" &
wait_for $!
"""

_END = f"""\

# torchrun ends with 0 or 1, whatever its processes end with, so they leave a note.
if ((code == 0)) && [[ -e "$ITWINAI_STOP_FILE.met" ]]; then code={UNFINISHED}; fi
say "the command ended with code $code"
if [[ -n "$later" ]]; then kill "$later" 2> /dev/null || true; fi
if ((code == {UNFINISHED} && limit_is_near && !continued)); then continue_later; fi
exit "$code"
"""


def render(configuration: SlurmConfiguration, allow: Iterable[str] = ()) -> str:
    """Write the script of a job.

    Args:
        configuration: What is asked of Slurm, and what runs.
        allow: What pipelines of the job may name, as of ``--allow``.
    """
    names = ",".join(allow)
    parts = {"study": _study, "training": _training, "plain": _plain}
    return "".join(
        [
            _HEAD.format(what=_what(configuration)),
            *(f"#SBATCH --{option}\n" for option in sbatch_options(configuration)),
            _STRICT,
            "".join(f"{line}\n" for line in _values(configuration)),
            _FILES,
            _SIGNALS,
            "".join(f"{line}\n" for line in _surroundings(configuration)),
            f"export {ALLOW}={_quoted(names)}\n" if names else "",
            parts[configuration.kind](configuration),
            _END,
        ]
    )


def sbatch_options(configuration: SlurmConfiguration) -> Iterator[str]:
    """Give the options of sbatch, without their leading dashes."""
    c = configuration
    named = {
        "job-name": c.job_name,
        "account": c.account,
        "partition": c.partition,
        "qos": c.qos,
        "reservation": c.reservation,
        "constraint": c.constraint,
        "time": c.time,
        "nodes": c.nodes,
        "ntasks-per-node": c.tasks_per_node,
        "cpus-per-task": c.cpus_per_task,
        "mem": c.memory,
        **c.sbatch_options,
        "chdir": c.working_dir,
        "output": c.log,
        "error": c.err_out,
    }
    yield from (f"{name}={value}" for name, value in named.items() if value is not None)
    if c.gpus_per_node:
        gpus = f"{c.gpu_type}:{c.gpus_per_node}" if c.gpu_type else str(c.gpus_per_node)
        yield f"gres=gpu:{gpus}" if c.gpu_option == "gres" else f"gpus-per-node={gpus}"
    if c.exclusive:
        yield "exclusive"
    yield from ("open-mode=append", "requeue", f"signal=B:USR1@{c.signal_before_s}")
    if c.kind == "study":
        yield "no-kill"


def _what(c: SlurmConfiguration) -> str:
    nodes = "1 node" if c.nodes == 1 else f"{c.nodes} nodes"
    return {
        "study": f"A study on {nodes}",
        "training": f"A training on {nodes}",
        "plain": f"A command on the first of {nodes}",
    }[c.kind]


def _values(c: SlurmConfiguration) -> Iterator[str]:
    yield ""
    yield "# --- Values of the configuration ".ljust(98, "-")
    yield f"command=({_array(c.command)})"
    yield f"storage={_quoted(c.storage_path)}"
    yield f"time_limit_s={c.time_s}"
    yield f"signal_before_s={c.signal_before_s}"
    yield f"max_continuations={c.max_continuations}"
    if c.kind != "plain":
        yield f"cpus_per_task={c.cpus_per_task} # srun does not take it from the job"
    if c.container is not None:
        yield f"inside=({_array(_container(c))})"


def _container(c: SlurmConfiguration) -> list[str]:
    folders = dict.fromkeys([c.storage_path, c.working_dir, *c.binds])
    binds = [word for folder in folders for word in ("--bind", str(folder))]
    gpus = ["--nv"] if c.gpus_per_node else []
    return [
        c.container_runtime,
        "exec",
        *gpus,
        *binds,
        "--pwd",
        str(c.working_dir),
        str(c.container),
    ]


def _surroundings(c: SlurmConfiguration) -> Iterator[str]:
    yield ""
    yield "# --- Surroundings of the command ".ljust(98, "-")
    if c.modules or c.pre_exec:
        yield "set +u # a site's scripts may use variables that are not set"
    if c.modules:
        yield "# shellcheck source=/dev/null"
        yield "type module > /dev/null 2>&1 || source /etc/profile"
        yield f"module load {_array(c.modules)}"
    if c.pre_exec:
        yield "# pre_exec of the configuration, as it stands there"
        yield from c.pre_exec
    if c.modules or c.pre_exec:
        yield "set -u"
    if c.python_venv is not None:
        yield f"export VIRTUAL_ENV={_quoted(c.python_venv)}"
        yield 'export PATH="$VIRTUAL_ENV/bin:$PATH"'
    yield "export PYTHONUNBUFFERED=1 # the log shows a line when it is written"
    if c.kind == "training" and c.interface is not None:
        yield f"export NCCL_SOCKET_IFNAME={c.interface} GLOO_SOCKET_IFNAME={c.interface}"
    for name, value in c.environment.items():
        yield f"export {name}={_quoted(value)}"


def _study(c: SlurmConfiguration) -> str:
    interface = f" --interface {_quoted(c.interface)}" if c.interface else ""
    return _STUDY.format(
        python=_inside(c) + "python", interface=interface, node_timeout_s=c.node_timeout_s
    )


def _training(c: SlurmConfiguration) -> str:
    processes = c.processes_per_node or c.gpus_per_node or 1
    return _TRAINING.format(python=_inside(c) + "python", processes=processes)


def _plain(c: SlurmConfiguration) -> str:
    return _PLAIN.format(inside=_inside(c))


def _inside(c: SlurmConfiguration) -> str:
    return "" if c.container is None else '"${inside[@]}" '


def _array(words: Iterable[str]) -> str:
    return " ".join(map(_quoted, words))


def _quoted(value: str | Path) -> str:
    """Quote for bash, ',' and '=' as well: bare, they look like slips in an array."""
    text = str(value)
    quoted = shlex.quote(text)
    return f"'{text}'" if quoted == text and re.search("[,=]", text) else quoted
