"""Values of a YAML file, as people write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from itwinai.config.reading import read_as_written, read_mapping
from itwinai.errors import ConfigurationError


def test_numbers_and_what_only_looks_like_one(tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    texts = "[1e, e3, 1e-3x, '1e-3', 12:00:00, 1:30.5, 2026-11-30]"
    file.write_text(f"a: [1e-3, -2E4, 1.5e+2, .5e1, 3e0]\nb: {texts}\n")
    content = read_mapping(file)
    assert content["a"] == [0.001, -20000.0, 150.0, 5.0, 3.0]
    assert content["b"] == ["1e", "e3", "1e-3x", "1e-3", "12:00:00", "1:30.5", "2026-11-30"]
    assert read_as_written(file, ["c=1e-2"])["c"] == 0.01


@pytest.mark.parametrize("number", ["010", "-017", "0_7"])
def test_no_number_is_read_to_the_base_of_8(tmp_path: Path, number: str) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(f"a: [0, 08, 0.5, 0x1f, 00:30:00, '{number}', !!str {number}]\n")
    assert read_mapping(file)["a"] == [0, "08", 0.5, 31, "00:30:00", number, number]
    file.write_text(f"a: 1\nb: [{number}]\n")
    with pytest.raises(ConfigurationError, match=f"yaml, line 2: {number} would be read to the"):
        read_mapping(file)
