"""A study's folder is its user's alone, and what others could have put there is not used."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hand_driven import MakeStudy, ask, run_trial

from itwinai.hpo.errors import StudyError
from itwinai.hpo.record import pipeline_of
from itwinai.hpo.trial import TrialState
from itwinai.io.files import delete_folder
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


@pytest.mark.parametrize(
    "place", [".tune", "trials", "trials/00000", "trials/00003", "trials/00000/log.txt"]
)
def test_a_link_through_which_a_study_would_write_is_refused(
    make_study: MakeStudy, tmp_path: Path, place: str
) -> None:
    study = make_study(num_samples=2)
    run_trial(study, [0.3], checkpoints=True)
    directory = study.close().record.parent
    outside = tmp_path / "outside"
    outside.mkdir()
    link = directory / place
    if link.is_dir():
        link.rename(tmp_path / "aside")
    link.symlink_to(outside, target_is_directory=True)
    with pytest.raises(StudyError, match="is a symbolic link, through which files outside") as told:
        make_study(num_samples=2, resume=True)
    assert str(link) in str(told.value)
    link.unlink()
    assert len(make_study(num_samples=2, resume=True).result().trials) == 1


def test_what_a_record_names_outside_of_its_study_is_not_deleted(
    make_study: MakeStudy, tmp_path: Path
) -> None:
    study = make_study(num_samples=2)
    outside = tmp_path / "outside" / "trials" / "00000" / "epoch_1"
    outside.mkdir(parents=True)
    first = ask(study)
    study.report(first.number, {"validation_loss": 0.3}, str(outside), 1)
    study.tell(first.number, TrialState.COMPLETED)
    study.close()
    resumed = make_study(num_samples=2, resume=True)
    better = run_trial(resumed, [0.1], checkpoints=True)  # only the best one's is kept
    assert outside.exists()
    assert Path(better.directory, "epoch_1").exists()


def test_a_folder_behind_a_link_is_not_deleted(tmp_path: Path) -> None:
    inside, outside = tmp_path / "study", tmp_path / "outside"
    for folder in (inside / "00000" / "epoch_1", outside / "epoch_1"):
        folder.mkdir(parents=True)
    (inside / "00003").symlink_to(outside, target_is_directory=True)
    (inside / "00004").mkdir()
    (inside / "00004" / "epoch_1").symlink_to(outside, target_is_directory=True)
    for path in [*inside.glob("*/epoch_1"), outside / "epoch_1", inside]:
        delete_folder(path, within=inside)
    assert (outside / "epoch_1").exists()
    assert not (inside / "00000").exists()


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
