"""``track`` and ``vot`` merge configs as ``test`` does."""

from __future__ import annotations

from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from common.cli.build import build_method
from common.cli.suite import SuiteCLI
from common.records.run import class_path

ROOT = Path(__file__).resolve().parents[2]
HQSMEM = ROOT / "configs" / "hqsmem"
CHANGES: dict[str, dict[str, Any]] = {
    "nested settings": {"init_args": {"memory": {"capacity": 4}, "refinement": {"threshold": 0.98}, "hqtf": False}},
    "nested twice": {"init_args": {"memory": {"per_object": True}, "policy": {"balance": 0.25}}},
    "another class": {
        "class_path": "methods.hqsmem.SAM2SMem",
        "init_args": {"gap": 3, "version": "2.1", "size": "nano"},
    },
    "the same class": {"class_path": "methods.hqsmem.HQSMem", "init_args": {"smem": False}},
}


class Parsed(Exception):
    """Carries the settings of the verb, before anything is built."""


class ParseOnly(SuiteCLI):
    def before_instantiate_classes(self) -> None:
        raise Parsed(self.config[self.subcommand])


def by_test(configs: list[Path]) -> tuple[str, dict[str, Any]]:
    """Class and arguments as the verb ``test`` has them."""
    with pytest.raises(Parsed) as parsed:
        ParseOnly(["test", *(word for config in configs for word in ("--config", str(config)))])
    model = parsed.value.args[0].model
    return model.class_path, {**model.init_args.as_dict(), **model.get("dict_kwargs", {})}


def by_track(configs: list[Path]) -> tuple[str, dict[str, Any]]:
    """Class and arguments as the verbs ``track`` and ``vot`` have them."""
    module = build_method("hqsmem", None, configs)
    given = {key: value for key, value in module.hparams.items() if not key.startswith("_")}
    plain = {key: asdict(value) if is_dataclass(value) else value for key, value in given.items()}
    return class_path(type(module)), plain


@pytest.mark.parametrize("change", CHANGES)
def test_track_merges_configs_as_test_does(change: str, tmp_path: Path) -> None:
    (second := tmp_path / "second.yaml").write_text(yaml.safe_dump({"model": CHANGES[change]}))
    (third := tmp_path / "third.yaml").write_text(
        yaml.safe_dump({"model": {"init_args": {"weights": "random", "policy": {"threshold": 0.5}}}})
    )
    configs = [HQSMEM / "nano.yaml", second, third]
    expected = by_test(configs)
    assert by_track(configs) == expected
    if change == "nested settings":
        assert expected[1]["memory"]["gap"] == 5  # of nano.yaml; a shallow merge lost it
        assert expected[1]["memory"]["capacity"] == 4
    if change == "another class":
        assert "memory" not in expected[1]  # of HQSMem, which the class does not take


def test_without_a_config_it_is_the_nano_config_with_the_nano_weights() -> None:
    module = build_method("sslvos")
    assert (module.weights, module.weights_note) == ("nano", "nano")
    config = yaml.safe_load((ROOT / "configs" / "sslvos" / "nano.yaml").read_text())["model"]["init_args"]
    assert config.items() <= dict(module.hparams).items()
