"""Values of a YAML file, as people write them."""

from __future__ import annotations

from pathlib import Path

from itwinai.config.reading import read_mapping


def test_numbers_and_what_only_looks_like_one(tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text("a: [1e-3, -2E4, 1.5e+2, .5e1, 3e0]\nb: [1e, e3, 1e-3x, '1e-3', 12:00:00]\n")
    content = read_mapping(file, ["c=1e-2"])
    assert content["a"] == [0.001, -20000.0, 150.0, 5.0, 3.0]
    assert content["b"] == ["1e", "e3", "1e-3x", "1e-3", "12:00:00"]
    assert content["c"] == 0.01
