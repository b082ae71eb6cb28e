"""Whatever the documentation names can be imported from where it says."""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from itwinai.errors import MissingPackageError

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

#: Tags of runs and a file's name, which look like addresses.
NO_ADDRESSES = {
    "itwinai.best_trial",
    "itwinai.run",
    "itwinai.study",
    "itwinai.trial",
    "itwinai.schema.json",
}

_ADDRESS = re.compile(r"\bitwinai(?:\.[A-Za-z_]\w*)+")
_IMPORT = re.compile(r"^\s*from (itwinai[\w.]*) import (\([^)]*\)|[^\n]+)$", re.M)


def addresses_in(text: str) -> Iterator[str]:
    yield from _ADDRESS.findall(text)
    for module, names in _IMPORT.findall(text):
        for name in re.findall(r"[A-Za-z_]\w*(?: as \w+)?", names.partition("#")[0]):
            yield f"{module}.{name.split(' as ')[0]}"


def left_out() -> set[str]:
    """Names of itwinai 0.4 that the page about compatibility says are not there."""
    page = (ROOT / "docs" / "compatibility.md").read_text()
    rows = [line for line in page.splitlines() if "| left out |" in line]
    return {name for row in rows for name in _ADDRESS.findall(row.split("|")[1])}


ADDRESSES = {name for page in PAGES for name in addresses_in(page.read_text())}


def test_the_documentation_names_many_addresses() -> None:
    assert len(ADDRESSES) > 120
    assert {"itwinai.hpo.load_study", "itwinai.torch.trainer.RayTorchTrainer"} < ADDRESSES


@pytest.mark.parametrize("address", sorted(ADDRESSES - NO_ADDRESSES - left_out()))
def test_an_address_can_be_imported(address: str) -> None:
    try:
        assert pkgutil.resolve_name(address) is not None
    except MissingPackageError as error:
        assert "pip install" in str(error)  # noqa: PT017 - either is as it should be
    except AttributeError:  # of a module without its package, which resolve_name() passes over
        with pytest.raises(MissingPackageError, match="pip install"):
            import_module(".".join(address.split(".")[:3]))


@pytest.mark.parametrize("address", sorted(left_out()))
def test_a_name_that_is_left_out_is_not_there(address: str) -> None:
    with pytest.raises((ImportError, AttributeError)):
        pkgutil.resolve_name(address)
