"""``python -m itwinai`` is the command ``itwinai``."""

from itwinai.cli import app

app(prog_name="itwinai")
