"""The generated cases are those that the official tools scored."""

import json

import pytest

from tests.golden.folder import HERE, check, vots_cases, vqs_cases


def test_masks_other_than_those_scored_are_refused() -> None:
    scored = json.loads((HERE / "vqs_expected.json").read_text())["cases"]
    drawn = vqs_cases()
    assert check(drawn, scored) is drawn
    drawn["s03"].pred[0] ^= 1
    with pytest.raises(ValueError, match=r"s03: its masks are not those that the official tools scored"):
        check(drawn, scored)


def test_each_file_names_the_tools_that_made_it() -> None:
    vos, vots = (json.loads((HERE / f"{name}_expected.json").read_text()) for name in ("vos", "vots"))
    assert all(len(commit) == 40 for commit in vos["tools"].values())
    assert len(vos["tools"]) == 6
    assert vots["toolkit"] == "0.9.0"
    assert set(vots["cases"]) == set(vots_cases())
