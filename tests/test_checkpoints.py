"""Loading weights: every format, and every way to be wrong."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from common.checkpoints import find_weights, load_state, load_strict, rename, state_digest, weights_file
from common.errors import InputError
from common.files import PROJECT

STATE = {"weight": torch.arange(6.0).view(2, 3), "bias": torch.tensor([1.0, -1.0])}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.pt", STATE),
        ("a.pth", {"model": STATE}),
        ("a.ckpt", {"state_dict": STATE, "epoch": 3, "hyper_parameters": {"lr": 0.1}}),
        ("a.safetensors", STATE),
    ],
)
def test_every_format(name: str, content: dict, tmp_path: Path) -> None:
    path = tmp_path / name
    save_file(content, path) if name.endswith("safetensors") else torch.save(content, path)
    state = load_state(path)
    assert state.keys() == STATE.keys()
    assert all(torch.equal(state[key], STATE[key]) for key in STATE)


class Harmful:
    """Would run code where a pickle is trusted."""

    def __reduce__(self) -> tuple:
        return (print, ("this must not be run",))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("gone.pt", None, "no such file"),
        ("text.pt", b"not a checkpoint", "not a readable checkpoint"),
        ("text.safetensors", b"not a checkpoint", "not a readable safetensors file"),
        ("empty.pt", b"", "not a readable checkpoint"),
        ("list.pt", [1, 2], "holds a list"),
        ("numbers.pt", {"weight": 3}, "weight"),
        ("nothing.pt", {}, "it is empty"),
        ("harmful.pt", {"model": Harmful()}, "not a readable checkpoint"),
    ],
)
def test_unreadable_files_are_named(
    name: str, content: object, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(InputError, match=words) as caught:
        load_state(path)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "must not be run" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"weight": STATE["weight"]}, "1 missing: bias"),
        ({**STATE, "scale": torch.ones(1)}, "1 not known: scale"),
        ({**STATE, "bias": torch.ones(3)}, r"1 wrong size: bias \(3,\) instead of \(2,\)"),
        ({f"x{i}": torch.ones(1) for i in range(9)}, "9 not known: x0, x1, x2 and 6 more"),
    ],
)
def test_state_that_does_not_fit_names_its_keys_and_changes_nothing(state: dict[str, Tensor], words: str) -> None:
    module = nn.Linear(3, 2)
    before = state_digest(module)
    with pytest.raises(InputError, match=f"a.pt: does not fit Linear: .*{words}"):
        load_strict(module, state, "a.pt")
    assert state_digest(module) == before


def test_digest_follows_values_and_sizes_alone() -> None:
    module, same = nn.Linear(3, 2), nn.Linear(3, 2)
    load_strict(module, STATE, "a.pt")
    load_strict(same, STATE, "a.pt")
    assert state_digest(module) == state_digest(same)
    with torch.no_grad():
        same.weight[0, 0] = torch.nextafter(same.weight[0, 0], torch.tensor(1.0))
    assert state_digest(module) != state_digest(same)
    assert state_digest(nn.Linear(3, 2).half()) != state_digest(module)


def test_detectron2s_pickles(tmp_path: Path) -> None:
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array(2.0), "c": np.ones(2, np.float16)}
    for protocol in (2, 4):
        (file := tmp_path / "zoo.pkl").write_bytes(pickle.dumps({"model": arrays, "__author__": "someone"}, protocol))
        state = load_state(file)
        assert {key: value.numpy().tolist() for key, value in state.items()} == {
            k: v.tolist() for k, v in arrays.items()
        }
        assert state["c"].dtype == torch.float16


@pytest.mark.parametrize(
    "content",
    [{"model": {"a": Harmful()}}, {"weights": {}}, [1], {"model": {"a": np.array([None])}}],
    ids=["code", "no model", "a list", "objects"],
)
def test_a_pickle_that_is_more_than_arrays_is_refused(
    tmp_path: Path, content: object, capsys: pytest.CaptureFixture[str]
) -> None:
    (file := tmp_path / "odd.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(InputError, match=r"odd\.pkl"):
        load_state(file)
    assert "must not be run" not in capsys.readouterr().out


def test_rules_are_applied_in_order_to_every_name() -> None:
    rules = [(r"^a\.(\d)", lambda match: f"b.{int(match[1]) + 1}"), (r"^b\.", "c."), (r"x$", "y")]
    state = {"a.1.x": torch.zeros(1), "b.x": torch.ones(1), "other": torch.ones(2)}
    assert list(rename(state, rules)) == ["c.2.y", "c.y", "other"]


def test_a_path_is_looked_for_in_the_project_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_weights("weights/README.md") == PROJECT / "weights" / "README.md"
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "README.md").write_text("mine")
    assert find_weights("weights/README.md") == Path("weights/README.md")
    assert find_weights("weights/none") == Path("weights/none")
    with pytest.raises(InputError, match="weights/none: no such weights; somewhere; put one on disk"):
        weights_file("weights/none", "somewhere")
