"""The verb ``weights``: what each method can load, what is here, where the rest comes from; and ``convert``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from common.cli.build import build_method, method_folders
from common.errors import InputError
from common.files import WEIGHTS_VARIABLE, file_sha256, weights_folders

USAGE = f"""usage: python cli.py weights [METHOD]                  what can be loaded, and whether it is here
       python cli.py weights convert METHOD FILE OUTPUT.safetensors [--config FILE ...] [--half]
                             [--data TEXT]

Weights are looked for in weights/ and below ${WEIGHTS_VARIABLE}. convert reads any of them, or a checkpoint
of a training run, into the method that the configs describe (without one, into the nano config or, on
SAM 2, into the network that the weights are of) and writes the whole of it with the settings that it
depends on; --model.weights, --weights and track take the result."""


@dataclass(frozen=True)
class Weights:
    """An entry of ``methods/<name>/weights.yaml``.

    Attributes:
        method: its folder.
        file: name of the file or folder; below ``weights/`` for those made here.
        what: what it is.
        source: link to the file, or to the page that links it; for those made here, their record.
        licence: of the weights.
        config: the config that loads it.
        sha256: of the file, where it is known; of a folder, of its ``model.safetensors``.
    """

    method: str
    file: str
    what: str
    source: str
    licence: str
    config: str
    sha256: str = ""

    @property
    def path(self) -> Path | None:
        """Where it lies on this machine."""
        return next((folder / self.file for folder in weights_folders() if (folder / self.file).exists()), None)

    @property
    def state(self) -> str:
        """``not here``, ``here``, ``here, checksum right`` or ``damaged: ...``."""
        path = self.path
        if path is None:
            return "not here"
        if not self.sha256:
            return "here"
        found = file_sha256(path / "model.safetensors" if path.is_dir() else path)
        return "here, checksum right" if found == self.sha256 else f"damaged: SHA-256 {found[:12]}…, fetch it again"


def known_weights(method: str | None = None) -> list[Weights]:
    """All entries, or those of one method.

    Raises:
        InputError: no such method, or a damaged file.
    """
    folders = method_folders()
    if method is not None and method not in folders:
        raise InputError(f"weights {method}: no such method; choose from {', '.join(folders)}")
    found = []
    for name, folder in folders.items():
        file = folder / "weights.yaml"
        if method in (None, name) and file.is_file():
            try:
                entries = yaml.safe_load(file.read_text(encoding="utf-8"))
                found += [Weights(name, **entry) for entry in entries]
            except (yaml.YAMLError, TypeError) as error:
                raise InputError(f"{file}: {' '.join(str(error).split())}") from None
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """List or convert; 1 = a file here is damaged.

    Raises:
        InputError: no such method, or weights that do not fit.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv and argv[0] in ("-h", "--help"):
        print(USAGE)
        return 0
    if argv and argv[0] == "convert":
        return _convert(argv[1:])
    if len(argv) > 1 or (argv and argv[0].startswith("-")):
        raise InputError(f"weights {' '.join(argv)}: it takes a METHOD or 'convert'; see --help")
    entries = known_weights(argv[0] if argv else None)
    print("\n".join(lines(entries)))
    return int(any(entry.state.startswith("damaged") for entry in entries))


def lines(entries: Sequence[Weights]) -> Iterator[str]:
    """What ``weights`` prints."""
    for method in dict.fromkeys(entry.method for entry in entries):
        yield f"{method}"
        for entry in (entry for entry in entries if entry.method == method):
            yield f"  {entry.file}   [{entry.state}]"
            yield f"      {entry.what}; {entry.licence}"
            yield f"      from {entry.source}"
            yield f"      used by --config {entry.config}"
    yield f"Put files into weights/ or a folder that ${WEIGHTS_VARIABLE} names, and give their name as --model.weights."


def _convert(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="cli.py weights convert", description="Write weights as safetensors.")
    parser.add_argument("method", choices=list(method_folders()))
    parser.add_argument("file", help="anything that the method loads")
    parser.add_argument("output", type=Path, help="a name that ends in .safetensors")
    parser.add_argument("--config", action="append", type=Path, default=[], help="what the weights are of")
    parser.add_argument("--half", action="store_true", help="in half precision")
    parser.add_argument("--data", default="", help="a note on what they were trained on, for the file")
    args = parser.parse_args(argv)
    if args.output.suffix != ".safetensors":
        raise InputError(f"{args.output}: the name must end in .safetensors")
    module = build_method(args.method, args.file, args.config)
    module.export(args.output, args.half, args.data)
    numbers = sum(value.numel() for value in module.network.state_dict().values())
    print(f"{args.output}  {numbers:,} numbers  SHA-256 {file_sha256(args.output)}")
    return 0
