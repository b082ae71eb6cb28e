"""What a study's folder keeps, with damage: refused, or read as it was written.

Records with check sums are damaged by ``tests/hpo/record/test_damage.py``.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from damaging import Damage, damages
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from refusing import FEWER, soon, taken

from itwinai.cli.kept import KeptPipeline
from itwinai.hpo.display.summary import summary
from itwinai.hpo.record import csv_text, keep_pipeline, list_studies, load_study, plain_study

SAMPLES = Path(__file__).parents[1] / "samples" / "studies"


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SAMPLES / "finished", tmp_path / "study"))


@FEWER
@given(st.sampled_from(["finished", "interrupted"]), st.lists(damages(), min_size=1, max_size=3))
def test_a_record_without_check_sums(study: Path, name: str, several: list[Damage]) -> None:
    content = (SAMPLES / name / "record.log").read_bytes()
    for damage in several:
        content = damage(content)
    (study / "record.log").write_bytes(content)
    read = taken(lambda: load_study(study))
    if read is not None:
        taken(lambda: [summary(read), csv_text(read), plain_study(read)])
    with soon():
        (listed,) = list_studies(study.parent)
    assert (listed.state == "damaged") == (read is None)


def plainly(kept: KeptPipeline) -> dict[str, Any]:
    return {**vars(kept), "config": OmegaConf.to_container(kept.config)}


@FEWER
@given(damages(), st.booleans())
def test_a_kept_pipeline(study: Path, damage: Damage, has_sum: bool) -> None:
    file = study / "pipeline.yaml"
    file.write_bytes((SAMPLES / "finished" / "pipeline.yaml").read_bytes())
    whole = plainly(KeptPipeline.read(study))
    if has_sum:
        keep_pipeline(study, file.read_text())
    file.write_bytes(damage(file.read_bytes()))
    read = taken(lambda: KeptPipeline.read(study))
    assert not has_sum or read is None or plainly(read) == whole
