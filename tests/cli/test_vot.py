"""The verb ``vot``: what a method answers to the VOT toolkit, with a double of its protocol and over the real one."""

from __future__ import annotations

import configparser
import shlex
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

import cli
from common.cli import vot
from common.errors import InputError
from common.synthetic import SyntheticClips
from common.vot.trax import serve
from methods.baselines.baselines import CopyFirstMask

Request = namedtuple("Request", "type image objects")


class Mask:
    """A mask as TraX has it: the part that is not empty, with its offset."""

    type = "mask"

    def __init__(self, part: np.ndarray, x: int, y: int) -> None:
        self.part, self.x, self.y = part, x, y

    @classmethod
    def create(cls, part: np.ndarray, x: int = 0, y: int = 0) -> Mask:
        assert part.dtype == np.uint8
        assert part.flags["C_CONTIGUOUS"]
        return cls(part, x, y)

    def array(self, normalize: bool) -> np.ndarray:
        assert normalize
        return np.pad(self.part, [(self.y, 0), (self.x, 0)])


def toolkit(requests: list[Request]) -> ModuleType:
    """A module ``trax`` whose server gets these requests; ``replies`` and ``hello`` are what it was told."""
    double = ModuleType("trax")
    double.replies, double.hello, waiting = [], [], iter(requests)

    class Server:
        def __init__(self, *args: object, **kwargs: object) -> None:
            double.hello.append((args, kwargs))

        def __enter__(self) -> Server:
            return self

        def __exit__(self, *_: object) -> None:
            double.replies.append("quit")

        def wait(self) -> Request:
            return next(waiting)

        def status(self, objects: list) -> None:
            double.replies.append(objects)

    double.Server, double.Mask = Server, Mask
    double.Region, double.Image = SimpleNamespace(MASK="mask"), SimpleNamespace(PATH="path")
    return double


def cropped(mask: torch.Tensor) -> Mask:
    ys, xs = mask.nonzero().T
    return Mask(mask[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1].numpy().astype(np.uint8), xs.min(), ys.min())


@pytest.fixture
def files(tmp_path: Path) -> tuple[list[Path], torch.Tensor]:
    """Three frames on disk, and the two masks of the first."""
    from PIL import Image

    video = SyntheticClips("easy", 1, frames=3, size=(48, 64), seed=3, objects=2)[0]
    paths = [tmp_path / f"{index:08}.png" for index in range(1, 4)]
    for path, frame in zip(paths, video, strict=True):
        Image.fromarray(frame.numpy()).save(path)
    return paths, video.truth[0]


def image(path: Path) -> dict[str, SimpleNamespace]:
    return {"color": SimpleNamespace(path=lambda: str(path))}


def test_objects_are_followed_in_their_order_and_may_come_later(files, monkeypatch, capsys) -> None:
    paths, masks = files
    double = toolkit(
        [
            Request("initialize", image(paths[0]), [(cropped(masks[1]), {})]),
            Request("frame", image(paths[1]), None),
            Request("frame", image(paths[2]), [(cropped(masks[0]), {})]),
            Request("initialize", image(paths[0]), [(cropped(masks[0]), {})]),
            Request("quit", None, None),
        ]
    )
    monkeypatch.setitem(sys.modules, "trax", double)
    monkeypatch.setattr(vot, "build_method", lambda *_: CopyFirstMask())
    assert cli.main(["vot", "--method", "hqsmem", "--device", "cpu"]) == 0
    (args, kwargs), replies = double.hello[0], double.replies
    assert args == (["mask"], ["path"], ["color"])
    assert kwargs["multiobject"]
    assert replies[-1] == "quit"
    expected = [masks[[1]], masks[[1]], masks[[1, 0]], masks[[0]]]  # the second initialisation forgets the first
    assert [len(reply) for reply in replies[:-1]] == [1, 1, 2, 1]
    for reply, wanted in zip(replies, expected, strict=False):
        assert torch.equal(torch.from_numpy(np.stack([mask.part for mask, _ in reply])).bool(), wanted)
    assert capsys.readouterr().out == ""  # standard output belongs to the protocol


def test_what_cannot_be_served(files, monkeypatch, capsys) -> None:
    paths, masks = files
    box = SimpleNamespace(type="rectangle")
    double = toolkit([Request("initialize", image(paths[0]), [(box, {})])])
    with pytest.raises(InputError, match="given as a rectangle"):
        serve(CopyFirstMask().session, "copy", torch.device("cpu"), double)
    late = CopyFirstMask()
    late.session = lambda: SimpleNamespace(step=lambda *_: [])
    double = toolkit([Request("initialize", image(paths[0]), [(cropped(masks[0]), {})])])
    with pytest.raises(InputError, match="later than frames come"):
        serve(late.session, late.method_name, torch.device("cpu"), double)
    monkeypatch.setitem(sys.modules, "trax", double)
    config = Path(cli.__file__).parent / "configs" / "sam2long" / "nano_scratch.yaml"
    assert cli.main(["vot", "--method", "sam2long", "--config", str(config)]) == 2
    assert "give --weights" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "trax", None)  # as if it were not installed
    assert cli.main(["vot", "--method", "hqsmem"]) == 2
    assert "pip install 'vot-trax" in capsys.readouterr().err


def test_the_lines_of_trackers_ini_start_this_command(tmp_path: Path, capsys) -> None:
    weights = tmp_path / "some weights.pth"
    weights.touch()
    assert cli.main(["vot", "--method", "hqsmem", "--weights", str(weights), "--ini"]) == 0
    ini = configparser.ConfigParser()
    ini.read_string(capsys.readouterr().out)
    section = ini["vidseg_hqsmem"]
    assert section["protocol"] == "trax"
    command = shlex.split(section["command"])
    assert Path(command[0]).is_file()
    assert Path(command[1]).is_file()
    assert command[2:] == ["vot", "--method", "hqsmem", "--weights", str(weights)]


@pytest.mark.slow
@pytest.mark.parity
def test_over_the_real_protocol(files, repository: Path, tmp_path: Path) -> None:
    trax = pytest.importorskip("trax", reason="vot-trax is not installed")
    from trax.client import Client

    paths, masks = files
    code = (
        "import torch, trax; from common.vot.trax import serve; from methods.baselines import CopyFirstMask\n"
        "serve(CopyFirstMask().session, 'copy', torch.device('cpu'), trax)"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, cwd=repository, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        client = Client(stream=(process.stdin.fileno(), process.stdout.fileno()), log=lambda text: None)
        assert client.get("multiobject")
        whole = [(trax.Mask.create(np.ascontiguousarray(mask.numpy().astype(np.uint8))), {}) for mask in masks]
        first, _ = client.initialize({"color": trax.FileImage.create(str(paths[0]))}, whole, {})
        later, _ = client.frame({"color": trax.FileImage.create(str(paths[1]))}, {}, [])
        client.quit()
        process.wait(30)
    for status in (first, later):
        answered = np.stack([region.array(True) for region, _ in status]).astype(bool)
        assert np.array_equal(answered, masks.numpy())
