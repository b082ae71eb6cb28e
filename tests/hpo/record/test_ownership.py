"""A study's folder is its user's alone, and what others could have put there is not used."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hand_driven import MakeStudy, run_trial

from itwinai.hpo.errors import StudyError
from itwinai.hpo.record import pipeline_of
from itwinai.io.ownership import open_to_group, why_not_own


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("open_umask")
def test_a_new_studys_folder_is_its_owners_alone(make_study: MakeStudy, tmp_path: Path) -> None:
    study = make_study(storage_path=tmp_path / "studies")
    assert mode(study.directory) == 0o700
    assert mode(tmp_path / "studies") == 0o755


def test_the_group_may_read_where_that_is_asked_for(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    (folder / "trials").mkdir(parents=True, mode=0o700)
    outside = tmp_path / "outside"
    for file in (folder / "record.log", outside):
        file.touch(mode=0o600)
    (folder / "link").symlink_to(outside)
    folder.chmod(0o700)
    open_to_group(folder)
    assert [mode(folder), mode(folder / "trials"), mode(folder / "record.log")] == [
        0o750,
        mode(folder / "trials") | 0o050,
        0o640,
    ]
    assert mode(outside) == 0o600


def test_what_everybody_may_write_to_is_not_used(make_study: MakeStudy) -> None:
    study = make_study()
    run_trial(study, [0.3])
    directory = study.close().record.parent
    (directory / "pipeline.yaml").touch()
    directory.chmod(0o777)
    with pytest.raises(StudyError, match="everybody may write to"):
        make_study(resume=True)
    with pytest.raises(StudyError, match="is not run"):
        pipeline_of(directory)
    directory.chmod(0o755)
    assert len(make_study(resume=True).result().trials) == 1


@pytest.mark.parametrize("name", ["record.log", "pipeline.yaml"])
def test_a_link_in_a_studys_folder_is_not_followed(tmp_path: Path, name: str) -> None:
    (tmp_path / "elsewhere").touch()
    (tmp_path / name).symlink_to(tmp_path / "elsewhere")
    assert why_not_own(tmp_path, name) == f"{tmp_path / name} is a symbolic link"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")
def test_another_users_folder_is_not_used() -> None:
    with tempfile.TemporaryDirectory() as name:
        theirs = Path(name)
        theirs.chmod(0o755)
        os.chown(theirs, 54321, 54321)
        assert why_not_own(theirs) == ""  # root looks at everybody's
        os.seteuid(12345)
        try:
            assert why_not_own(theirs) == f"{theirs} belongs to user 54321, not to you"
        finally:
            os.seteuid(0)


def test_a_study_whose_name_is_an_option_is_refused(make_study: MakeStudy) -> None:
    with pytest.raises(ValueError, match=r"does not start with '\.' or '-'"):
        make_study(name="-rf")
