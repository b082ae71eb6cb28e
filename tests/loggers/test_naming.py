"""Names that MLflow takes, for any that a user has."""

from __future__ import annotations

import pytest

from itwinai.loggers.naming import Names


@pytest.mark.parametrize(
    "name", ["train_loss", "a-b.c d:e", "präzision", "日本", "acc/train", "x" * 250, " ", ".a"]
)
def test_what_is_taken_stays_as_it_is(name: str) -> None:
    assert Names(are_files=True).of(name) == name


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("mAP@50", "mAP_50"),
        ("F1 (macro) [%]", "F1 _macro_ ___"),
        ("line\nbreak\t", "line_break_"),
        ("/a", "_a"),
        ("a//b", "a__b"),
        ("../a", "__a"),
        ("..a", "_a"),
        ("a/", "a_"),
        (".", "_"),
        ("..", "_"),
        ("", "_"),
        ("x" * 300, "x" * 250),
        ("é" * 200, "é" * 125),
    ],
)
def test_what_is_refused_is_changed_and_that_is_said_once(
    name: str, taken: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names = Names()
    assert [names.of(name) for _ in range(3)] == [taken] * 3
    said = f"MLflow does not take the name {name!r}: there it is {taken!r}\n"
    assert capsys.readouterr().out == said


def test_no_two_names_are_one() -> None:
    names = Names()
    assert [names.of(n) for n in ("a@b", "a_b", "a%b")] == ["a_b", "a_b_2", "a_b_3"]
    assert [names.of(n) for n in ("a@b", "a_b", "a%b")] == ["a_b", "a_b_2", "a_b_3"]
    long = [names.of(f"{'y' * 300}{end}") for end in "ab"]
    assert long == ["y" * 250, "y" * 240 + "_2"]


@pytest.mark.parametrize(
    ("given", "in_files"),
    [
        (("top", "top/5"), ["top", "top_5"]),
        (("top/5", "top"), ["top/5", "top_2"]),
        (("top/5", "top/1", "topmost"), ["top/5", "top/1", "topmost"]),
    ],
)
def test_a_file_is_no_folder(given: tuple[str, ...], in_files: list[str]) -> None:
    files, server = Names(are_files=True), Names()
    assert [files.of(name) for name in given] == in_files
    assert [server.of(name) for name in given] == list(given)
