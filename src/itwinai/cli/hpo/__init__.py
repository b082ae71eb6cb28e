"""``itwinai hpo``: commands for studies.

All but ``run``, ``plan`` and ``schema`` need the study's folder alone.
"""

from __future__ import annotations

import typer

from itwinai.cli.exits import EXIT_CODES
from itwinai.cli.hpo.looking import (
    best_command,
    dashboard_command,
    ledger_command,
    list_command,
    show_command,
    watch_command,
)
from itwinai.cli.hpo.mending import diagnose_command, repair_command
from itwinai.cli.hpo.planning import plan_command
from itwinai.cli.hpo.retraining import confirm_command, rerun_command
from itwinai.cli.hpo.running import extend_command, resume_command, run_command, stop_command
from itwinai.cli.hpo.writing import export_command, report_command, schema_command

_MORE_EXIT_CODES = """\
  3    a repeated trial differed from its record
  75   the job's time is nearly up; the next job goes on
  130  interrupted; 'itwinai hpo resume' goes on
"""

app = typer.Typer(
    name="hpo",
    help="Run, resume, inspect, repeat and export hyper-parameter studies.",
    epilog=EXIT_CODES + _MORE_EXIT_CODES,
    no_args_is_help=True,
    rich_markup_mode=None,
)

#: All other arguments are Hydra's.
_PASSED_ON = {"ignore_unknown_options": True, "allow_extra_args": True}

app.command(
    "run",
    context_settings=_PASSED_ON,
    options_metavar="[FILE.py:FUNCTION] [--plan] [--json] [OPTIONS] [KEY=VALUE]...",
)(run_command)
app.command(
    "plan",
    context_settings=_PASSED_ON,
    options_metavar="[--epoch-seconds S | --probe | --like STUDY] [OPTIONS] [KEY=VALUE]...",
)(plan_command)
app.command("resume")(resume_command)
app.command("extend")(extend_command)
app.command("list")(list_command)
app.command("ledger")(ledger_command)
app.command("show")(show_command)
app.command("watch")(watch_command)
app.command("dashboard")(dashboard_command)
app.command("best")(best_command)
app.command("rerun")(rerun_command)
app.command("confirm")(confirm_command)
app.command("export")(export_command)
app.command("report")(report_command)
app.command("diagnose")(diagnose_command)
app.command("stop")(stop_command)
app.command("repair")(repair_command)
app.command("schema")(schema_command)
