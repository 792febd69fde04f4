"""What every method must do, whatever it is inside. A new method adds one line to ``METHODS``."""

from __future__ import annotations

import gc
import signal
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, ModuleType

import lightning as L
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from common.benchmarks.tiny import Tiny
from common.checkpoints import load_state
from common.data import VideoDataModule
from common.data.clip import Clip
from common.data.clips import ClipDataset, collate
from common.errors import InputError
from common.inference.resumable import RESULT, Tracking
from common.inference.session import Session
from common.nn.sam2.prompts import PromptSampling
from common.segmenter import VideoSegmenter
from common.synthetic import SyntheticClips
from common.video import FrameMasks, Prompt, Video, open_video
from methods.baselines.baselines import CopyFirstMask
from methods.hqsmem import HQSMem, SAM2SMem
from methods.hqsmem.refinement.gate import RefineSettings
from methods.hqsmem.settings import MemorySettings
from methods.sam2long import SAM2Long
from methods.sslvos import SSLVOS
from methods.univs import UniVS
from methods.univs.settings import InferenceSettings
from methods.vqsam import VQSAM
from tests.support.lively import enliven
from tests.support.seeded_sslvos import Case, seeded_value
from tests.support.small_refiner import with_small_refiner

SIZE, LENGTH = (33, 47), 18  # odd sides; longer than any window of memory that depends on the length


@dataclass(frozen=True)
class Method:
    """One method, small and seeded.

    Attributes:
        build: a fresh module in eval mode, the same at every call.
        trainable: whether it defines ``losses``.
        kinds: prompt kinds it takes.
        online: every frame is answered in its own step.
        separate: targets do not change each other's answers, overlaps apart.
        alike: a target's answers do not depend on its place among the targets.
        side: of the frames it is trained on.
        lend: gives a restored module the networks that no checkpoint holds.
    """

    build: Callable[[], VideoSegmenter]
    trainable: bool = False
    kinds: tuple[str, ...] = ("mask",)
    online: bool = False
    separate: bool = True
    alike: bool = True
    side: int = 64
    lend: Callable[[VideoSegmenter], VideoSegmenter] = lambda module: module


def sam2(visible: float = 4.0, **settings) -> Callable[[], VideoSegmenter]:
    def build() -> VideoSegmenter:
        module = SAM2Long(image_size=64, weights="random", prompting=MASKS, **settings).eval()
        enliven(module, seed=2, visible=visible)
        return module

    return build


def sam2_smem() -> VideoSegmenter:
    module = SAM2SMem(image_size=64, weights="random", gap=2).eval()
    enliven(module, seed=2, visible=4.0)
    return module


def vqsam(**settings) -> Callable[[], VideoSegmenter]:
    def build() -> VideoSegmenter:
        module = VQSAM(image_size=64, weights="random", target_iou=0.0, distractor_iou=0.0, **settings).eval()
        enliven(module, seed=2, visible=4.0)
        return module

    return build


def sslvos(**settings) -> Callable[[], VideoSegmenter]:
    def build() -> VideoSegmenter:
        module = SSLVOS(weights="random", **settings).eval()
        state = module.network.state_dict()
        case = Case(seed=1, gain=0.8, visible=0.5)
        module.network.load_state_dict({name: seeded_value(name, value.shape, case) for name, value in state.items()})
        return module

    return build


def hqsmem(**settings) -> Callable[[], VideoSegmenter]:
    def build() -> VideoSegmenter:
        torch.manual_seed(3)
        return with_small_refiner(HQSMem(weights="random", sam_hq="random", dino="random", **settings).eval())

    return build


def univs() -> VideoSegmenter:
    """Random weights: masks are made sharp, and nothing is discarded."""
    accept_all = dict(min_similarity=-1.0, min_area_share=0.0, min_first_iou=0.0)
    inference = InferenceSettings(clip=3, memory=3, points=8, short_side=None, **accept_all)
    torch.manual_seed(1)
    module = UniVS(weights="random", inference=inference).eval()
    with torch.no_grad():
        module.network.decoder.heads.mask.layers[-1].weight *= 60
    return module


DTYPES = {"bf16-true": torch.bfloat16, "16-true": torch.float16, "64-true": torch.float64}
ARRAYS = (  # frames as people have them
    lambda frame: frame.numpy(),
    lambda frame: np.ascontiguousarray(frame.numpy()[..., ::-1])[..., ::-1],  # BGR turned round, as of OpenCV
    lambda frame: np.frombuffer(frame.numpy().tobytes(), np.uint8).reshape(frame.shape),  # read-only
    lambda frame: Image.fromarray(frame.numpy()),
)
MASKS = PromptSampling(points=0.0, prompted_frames=1)  # the same prompts at every step of training
GREEDY = {"pathways": 1, "selection": False, "modulation": None}
KINDS = ("mask", "box", "points", "query")
METHODS = {
    "copy": Method(CopyFirstMask, online=True),
    "sam2": Method(sam2(**GREEDY), trainable=True, kinds=KINDS, online=True),
    "sam2long": Method(sam2(), trainable=True, kinds=KINDS),
    "sam2long-uncertain": Method(sam2(visible=1.0), trainable=True, kinds=KINDS),
    "sam2long-lag": Method(sam2(visible=1.0, max_lag=2), trainable=True, kinds=KINDS),
    "samurai": Method(sam2(memory="samurai"), kinds=KINDS, online=True),
    "dam4sam": Method(sam2(memory="dam4sam"), kinds=KINDS, online=True),
    "vqsam": Method(vqsam(), trainable=True, kinds=KINDS),
    "vqsam-overlap": Method(vqsam(overlap=3), trainable=True, kinds=KINDS),
    "sslvos": Method(sslvos(), trainable=True, online=True, separate=False),
    "sslvos-vit": Method(sslvos(encoder="full", backbone="random"), trainable=True, online=True, separate=False),
    "sam2-smem": Method(sam2_smem, kinds=KINDS[:3], online=True),
    "hqsmem": Method(
        hqsmem(refinement=RefineSettings(0.5)),
        trainable=True,
        online=True,
        separate=False,
        alike=False,
        side=65,
        lend=with_small_refiner,
    ),
    "hqsmem-objects": Method(
        hqsmem(
            hqtf=False, feature="dino", memory=MemorySettings(gap=2, capacity=3, per_object=True, short_term_skip=2)
        ),
        online=True,
        separate=False,
        alike=False,
    ),
    "univs": Method(univs, kinds=(*KINDS[:3], "text", "vocabulary"), separate=False),
}
TRAINABLE = [
    name
    for name, method in METHODS.items()
    if method.trainable and name in ("sam2", "sam2long", "sslvos", "sslvos-vit", "hqsmem")
]


# Further settings of a method that has another line: all but the first of their tests are slow.
FURTHER = {"sam2long", "sam2long-lag", "vqsam-overlap", "sslvos-vit", "sam2-smem", "hqsmem-objects"}


def quick(names: Iterable[str], further: Iterable[str] = FURTHER) -> list:
    """Parameters, those of ``further`` marked slow."""
    return [pytest.param(name, marks=[pytest.mark.slow] * (name in further)) for name in names]


@pytest.fixture(params=quick(METHODS))
def method(request) -> Method:
    return METHODS[request.param]


@pytest.fixture(scope="module")
def video() -> Video:
    """Two targets, both on the first frame; all in memory."""
    made = SyntheticClips("easy", length=1, frames=LENGTH, size=SIZE, seed=5, objects=2)[0]
    assert len(made.prompts) == 2
    return replace(open_video(torch.stack(list(made)), "clip"), prompts=made.prompts)


def run(session: Session, frames: Iterable[Tensor], prompts: Sequence[Prompt]) -> list[FrameMasks]:
    """Frame by frame by hand."""
    out = []
    for index, frame in enumerate(frames):
        out += session.step(frame, [prompt for prompt in prompts if prompt.frame == index])
    return out + session.finish()


def assert_same(got: Sequence[FrameMasks], expected: Sequence[FrameMasks]) -> None:
    assert [answer.frame for answer in got] == [answer.frame for answer in expected]
    for a, b in zip(got, expected, strict=True):
        assert a.targets == b.targets
        assert torch.equal(a.masks, b.masks), f"frame {a.frame}"
        assert torch.equal(a.scores, b.scores), f"frame {a.frame}"


def assert_alike(got: FrameMasks, expected: FrameMasks, targets: Sequence[int]) -> None:
    """The same up to rounding: a batch of another size or order adds up in another order."""
    a, b = got.select(tuple(targets)), expected.select(tuple(targets))
    assert (a ^ b).float().mean() < 2e-3, f"frame {got.frame}"
    mine = [got.scores[got.targets.index(target)] for target in targets]
    theirs = [expected.scores[expected.targets.index(target)] for target in targets]
    torch.testing.assert_close(mine, theirs, atol=1e-3, rtol=1e-3)


def shifted(prompt: Prompt, frame: int) -> Prompt:
    return replace(prompt, frame=frame)


# Answers.


@pytest.mark.parametrize("name", METHODS)
def test_every_frame_is_answered_once_and_in_order(name, video):
    answers = list(METHODS[name].build().track(video))
    assert [answer.frame for answer in answers] == list(range(LENGTH))
    for answer in answers:
        assert answer.targets == (1, 2)
        assert answer.masks.shape == (2, *SIZE)
        assert answer.masks.dtype == torch.bool
        assert answer.scores.shape == (2,)
        assert answer.scores.dtype == torch.float32
        assert answer.scores.isfinite().all()
    assert any(answer.masks.any() and not answer.masks.all() for answer in answers[1:]), "nothing to compare"


def test_stream_equals_offline(method, video):
    module = method.build()
    offline = list(module.track(video))
    session, streamed, waits = module.session(LENGTH), [], []
    for index, frame in enumerate(video):
        new = session.step(frame, video.prompts if index == 0 else ())
        waits.append(index + 1 - len(streamed) - len(new))
        streamed += new
    streamed += session.finish()
    assert_same(streamed, offline)
    assert min(waits) >= 0
    assert max(waits) == 0 or not method.online


def test_source_without_a_length_equals_a_long_one(method, video):
    """Methods may use the length, but only of videos shorter than their memory."""
    module = method.build()
    stream = replace(open_video(frame for frame in video), prompts=video.prompts)
    assert stream.length is None
    assert_same(list(module.track(stream)), list(module.track(video)))


def test_mode_of_the_module_does_not_matter_and_is_kept(method, video):
    module = method.build()
    expected = list(module.track(video))
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.5
    module.train()
    frozen = list(module.modules())[-1].eval()  # one leaf, as a user may have left it
    assert_same(list(module.track(video)), expected)
    assert module.training == (frozen is not module)
    assert not frozen.training


def test_half_precision(method, video):
    """As ``--trainer.precision bf16-mixed`` runs it: every frame, sizes and types as ever."""
    with torch.autocast("cpu", torch.bfloat16):
        answers = list(method.build().track(video))
    assert [answer.frame for answer in answers] == list(range(LENGTH))
    assert all(answer.scores.dtype == torch.float32 and answer.scores.isfinite().all() for answer in answers)
    assert all(answer.masks.shape == (2, *SIZE) for answer in answers)


@pytest.mark.parametrize("precision", ["bf16-true", "16-true", "64-true"])
def test_weights_of_another_precision_are_refused(method, precision):
    """In one line, by the module and with ``--trainer.precision``."""
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    benchmark, frames = Tiny(videos=1, frames=2, size=(32, 32)), SyntheticClips("easy", length=1, frames=2)
    trainer = L.Trainer(accelerator="cpu", precision=precision, enable_checkpointing=False, **quiet)
    data, dtype = VideoDataModule(test=[benchmark], predict=[frames]), DTYPES[precision]
    for convert in (
        lambda module: trainer.test(module, data, verbose=False),
        lambda module: trainer.predict(module, data),
        lambda module: module.to(dtype),
    ):
        module = method.build()
        with pytest.raises(InputError, match=r"cannot be converted to \w+: .* use precision bf16-mixed") as error:
            convert(module)
        assert "\n" not in str(error.value)
        assert all(parameter.dtype == torch.float32 for parameter in module.parameters())


def test_input_from_anywhere(method, video):
    """Arrays, images and lists are answered as tensors are."""
    module = method.build()
    masks = [replace(prompt, mask=prompt.mask.numpy()) for prompt in video.prompts]
    answers = run(module.session(LENGTH), [ARRAYS[row % len(ARRAYS)](frame) for row, frame in enumerate(video)], masks)
    assert_same(answers, list(module.track(video)))
    if "points" not in method.kinds:
        return
    points, labels = [[10.0, 12.0], [40, 30]], [1, 1]
    expected, *others = (
        run(module.session(), list(video)[:2], [Prompt(1, points=kind(points), labels=kind(labels))])
        for kind in (torch.tensor, np.array, list, lambda rows: np.array(rows, np.uint8), torch.tensor)
    )
    for other in others:
        assert_same(other, expected)


# Targets.


def test_permuting_targets_permutes_answers(method, video):
    if not method.alike:
        pytest.skip("its targets have identities, each learned by itself")
    module = method.build()
    swapped = [replace(prompt, target=3 - prompt.target) for prompt in video.prompts]
    for a, b in zip(module.track(video), module.track(replace(video, prompts=tuple(swapped[::-1]))), strict=True):
        assert b.targets == (1, 2)
        assert_alike(FrameMasks(b.frame, b.targets, b.masks.flip(0), b.scores.flip(0)), a, (1, 2))


def test_second_target_leaves_the_first_as_it_is(method, video):
    """Overlaps apart: a pixel of the first may go to the second, but nothing else changes."""
    if not method.separate:
        pytest.skip("its targets share out the pixels")
    module = method.build()
    alone = [list(module.track(replace(video, prompts=(prompt,)))) for prompt in video.prompts]
    for both, first, second in zip(module.track(video), *alone, strict=True):
        union = first.masks[0] | second.masks[0]
        assert (both.masks.any(0) ^ union).float().mean() < 2e-3, f"frame {both.frame}"
        kept = both.masks & torch.stack([first.masks[0], second.masks[0]])
        assert (both.masks ^ kept).float().mean() < 2e-3, f"frame {both.frame}"
        torch.testing.assert_close(both.scores, torch.cat([first.scores, second.scores]), atol=1e-3, rtol=1e-3)


def test_late_target_is_that_of_a_video_that_starts_there(method, video):
    module, start = method.build(), 5
    first, second = video.prompts[0], shifted(video.prompts[1], start)
    late = run(module.session(LENGTH), video, [first, second])
    assert [answer.targets for answer in late] == [(1,)] * start + [(1, 2)] * (LENGTH - start)
    if not method.separate:
        return
    alone = run(module.session(LENGTH), list(video)[start:], [shifted(second, 0)])
    for answer, expected in zip(late[start:], alone, strict=True):
        lost = answer.select((2,)) ^ (expected.masks & ~answer.select((1,)))
        assert lost.float().mean() < 2e-3, f"frame {answer.frame}"


def test_video_without_prompts_at_first(method, video):
    answers = run(method.build().session(LENGTH), video, [shifted(video.prompts[0], 4)])
    assert [answer.frame for answer in answers] == list(range(LENGTH))
    assert [len(answer.targets) for answer in answers] == [0] * 4 + [1] * (LENGTH - 4)
    assert answers[0].masks.shape == (0, *SIZE)


def test_dropped_target(method, video):
    module, end = method.build(), 7
    session, answers = module.session(LENGTH), []
    for index, frame in enumerate(video):
        answers += session.step(frame, video.prompts if index == 0 else ())
        if index == end - 1:
            session.drop(2)
    answers += session.finish()
    assert [answer.frame for answer in answers] == list(range(LENGTH))
    assert [answer.targets for answer in answers] == [(1, 2)] * end + [(1,)] * (LENGTH - end)
    alone = list(module.track(replace(video, prompts=video.prompts[:1])))
    for answer, expected in zip(answers[end:], alone[end:], strict=True):
        if method.separate:
            assert_alike(answer, expected, (1,))
    with pytest.raises(InputError, match="target 2 is not tracked"):
        session.drop(2)


def test_dropped_target_may_come_back(method, video):
    session, answers = method.build().session(LENGTH), []
    for index, frame in enumerate(video):
        answers += session.step(frame, [video.prompts[0]] if index in (0, 8) else ())
        if index == 4:
            session.drop(1)
    answers += session.finish()
    assert [answer.targets for answer in answers] == [(1,)] * 5 + [()] * 3 + [(1,)] * (LENGTH - 8)
    assert answers[8].select((1,)).any()


def test_second_prompt_of_a_target(method, video):
    prompts = [video.prompts[0], shifted(video.prompts[0], 6)]
    answers = run(method.build().session(LENGTH), video, prompts)
    assert [answer.frame for answer in answers] == list(range(LENGTH))
    assert torch.equal(answers[6].masks, answers[0].masks)


# Corrections.

CORRECTED = 5  # frame of the correction


def other_mask(video: Video, target: int, shift: int) -> Prompt:
    """A mask that the target is not predicted to have: its first one, moved."""
    return replace(video.prompts[target - 1], mask=video.prompts[target - 1].mask.roll((shift, -shift), (0, 1)))


def corrected_run(session: Session, video: Video, prompts: Sequence[Prompt]) -> tuple[FrameMasks, list[FrameMasks]]:
    """The answer to a correction of frame ``CORRECTED``, and the answers to all frames with it."""
    answers, correction = [], None
    for index, frame in enumerate(video):
        answers += session.step(frame, video.prompts if index == 0 else ())
        if index == CORRECTED:
            correction = session.correct(prompts)
            answers = [correction if answer.frame == index else answer for answer in answers]
    assert correction is not None
    return correction, answers + session.finish()


def test_corrected_mask_is_answered_and_read_by_later_frames(method, video):
    module, prompt = method.build(), other_mask(video, 1, 4)
    assert "mask" in module.session().correction_kinds
    before = list(module.track(video))
    correction, answers = corrected_run(module.session(LENGTH), video, [prompt])
    session = module.session(1)  # as the method answers this mask where it is the first prompt
    (given,) = [*session.step(video[CORRECTED], [prompt]), *session.finish()]
    assert (correction.frame, correction.targets) == (CORRECTED, (1, 2))
    assert torch.equal(correction.select((1,)), given.select((1,)))
    assert torch.equal(answers[CORRECTED].select((1,)), given.select((1,)))
    assert (given.select((1,))[0] & prompt.mask).sum() > 0.5 * (given.select((1,))[0] | prompt.mask).sum()
    assert [answer.frame for answer in answers] == list(range(LENGTH))
    if method.online:
        assert_same(answers[:CORRECTED], before[:CORRECTED])
    assert any(
        not torch.equal(a.select((1,)), b.select((1,))) or a.scores[0] != b.scores[0]
        for a, b in zip(answers[CORRECTED + 1 :], before[CORRECTED + 1 :], strict=True)
    )


def test_correction_leaves_the_other_targets_as_they_are(method, video):
    """But for the pixels that the corrected target takes or gives up; where targets are separate, on all frames."""
    module = method.build()
    uncorrected = list(module.track(video))
    runs = [corrected_run(module.session(LENGTH), video, [other_mask(video, 1, shift)]) for shift in (4, 9)]
    pairs = [(runs[0][0], runs[1][0])]
    if method.online:
        pairs.append((runs[0][0], uncorrected[CORRECTED]))
    if method.separate:
        pairs += zip(runs[0][1], uncorrected, strict=True)
    for a, b in pairs:
        free = ~(a.select((1,)) | b.select((1,)))
        assert ((a.select((2,)) ^ b.select((2,))) & free).float().mean() < 2e-3, f"frame {a.frame}"
        torch.testing.assert_close(a.scores[1], b.scores[1], atol=1e-3, rtol=1e-3)


def test_second_correction_replaces_the_first(method, video):
    session, module = method.build().session(LENGTH), method.build()
    session.step(video[0], video.prompts)
    for frame in list(video)[1:4]:
        session.step(frame)
    session.correct([other_mask(video, 1, 9)])
    once = held_bytes(session)
    session.correct([other_mask(video, 2, 3)])
    last = session.correct([other_mask(video, 1, 4)])
    assert held_bytes(session) <= once * 1.1, "what the frame left in memory is replaced, not added to"
    again = module.session(LENGTH)
    again.step(video[0], video.prompts)
    for frame in list(video)[1:4]:
        again.step(frame)
    expected = again.correct([other_mask(video, 2, 3), other_mask(video, 1, 4)])
    assert torch.equal(last.select((1,)), expected.select((1,)))
    assert not (last.masks[0] & last.masks[1]).any() or session.overlap


BAD_CORRECTIONS = {
    "target 7 is not tracked": [Prompt(7, mask=torch.ones(SIZE, dtype=torch.bool))],
    "this is text": [Prompt(1, text="the red one")],
    "the mask is": [Prompt(1, mask=torch.ones(SIZE[1], SIZE[0], dtype=torch.bool))],
    "at least one prompt": [],
}


def test_wrong_correction_is_one_line_and_changes_nothing(method, video):
    module = method.build()
    expected = list(module.track(video))
    session, answers = module.session(LENGTH), []
    with pytest.raises(InputError, match="no frame has been taken"):
        session.correct(video.prompts[:1])
    for index, frame in enumerate(video):
        answers += session.step(frame, video.prompts if index == 0 else ())
        for text, prompts in BAD_CORRECTIONS.items() if index == 3 else ():
            with pytest.raises(InputError, match=text) as error:
                session.correct(prompts)
            assert "\n" not in str(error.value)
    assert_same(answers + session.finish(), expected)


def test_dropped_target_cannot_be_corrected_and_others_can(method, video):
    session = method.build().session(LENGTH)
    for index in range(4):
        session.step(video[index], video.prompts if index == 0 else ())
    session.drop(2)
    with pytest.raises(InputError, match="target 2 is not tracked"):
        session.correct([other_mask(video, 2, 4)])
    answer = session.correct([other_mask(video, 1, 4)])
    assert 1 in answer.targets
    rest = [answer for frame in list(video)[4:] for answer in session.step(frame)] + session.finish()
    assert all(answer.targets == (1,) for answer in rest if answer.frame >= 4)


@pytest.mark.parametrize("kind", ["box", "points"])
def test_other_corrections_change_the_target_alone(method, video, kind):
    module = method.build()
    prompts = [replace(PROMPTS[kind], target=1)]
    if kind not in module.session().correction_kinds:
        session = module.session(LENGTH)
        session.step(video[0], video.prompts)
        with pytest.raises(InputError, match="target 1"):
            session.correct(prompts)
        return
    uncorrected = list(module.track(video))
    correction, answers = corrected_run(module.session(LENGTH), video, prompts)
    assert answers[CORRECTED].scores[0] == correction.scores[0]
    contested = answers[CORRECTED].select((2,)) | correction.select((2,))
    assert not ((answers[CORRECTED].select((1,)) ^ correction.select((1,))) & ~contested).any()
    assert any(a.scores[0] != b.scores[0] for a, b in zip(answers[CORRECTED:], uncorrected[CORRECTED:], strict=True))
    for a, b in zip(answers, uncorrected, strict=True):
        torch.testing.assert_close(a.scores[1], b.scores[1], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", quick(METHODS, set(METHODS) - {"copy", "sam2", "sslvos"}))
def test_memory_does_not_grow_with_corrections(name, video):
    """Every frame is corrected: frames 20 to 39 against 40 to 59."""
    session, frames, sizes = METHODS[name].build().session(), list(video), []
    for index in range(60):
        session.step(frames[index % LENGTH], video.prompts if index == 0 else ())
        session.correct([other_mask(video, 1, index % 7)])
        sizes.append(held_bytes(session))
    assert max(sizes[40:]) <= max(sizes[20:40]) * 1.05


# State.


def test_reset_leaves_nothing(method, video):
    session = method.build().session(LENGTH)
    first = run(session, video, video.prompts)
    session.reset()
    assert_same(run(session, video, video.prompts), first)
    session.reset()
    for index in range(5):  # another video, cut off
        session.step(video[LENGTH - 1 - index], video.prompts[1:] if index == 0 else ())
    session.reset()
    assert_same(run(session, video, video.prompts), first)


def test_two_sessions_do_not_meet(method, video):
    module = method.build()
    alone = list(module.track(video))
    sessions = [module.session(LENGTH), module.session(LENGTH)]
    answers: list[list[FrameMasks]] = [[], []]
    for index, frame in enumerate(video):
        for which, session in enumerate(sessions):
            given = video.prompts if index == 0 and which == 0 else video.prompts[:1] if index == 0 else ()
            answers[which] += session.step(frame, given)
    assert_same(answers[0] + sessions[0].finish(), alone)


def test_a_stopped_run_goes_on_to_the_same_answers(method, video, tmp_path: Path):
    module = method.build()
    list(Tracking(module, video, tmp_path / "whole", "").run())
    for taken in Tracking(module, video, tmp_path / "parts", "").run():
        if taken == LENGTH // 2:
            signal.raise_signal(signal.SIGINT)
    list(Tracking(module, video, tmp_path / "parts", "").run(resume=True))
    assert (tmp_path / "parts" / RESULT).read_text() == (tmp_path / "whole" / RESULT).read_text()


@pytest.mark.parametrize(
    "name", quick(["copy", "sam2", "sam2long", "sam2long-lag", "vqsam", "sslvos", "hqsmem"], {"sam2", "sam2long-lag"})
)
def test_memory_does_not_grow_with_the_length(name, video):
    """Peak of the bytes that the session holds: frames 20 to 39 (memory is full after 17) against 40 to 199."""
    session, frames = METHODS[name].build().session(), list(video)
    sizes = []
    for index in range(200):
        session.step(frames[index % LENGTH], video.prompts if index == 0 else ())
        sizes.append(held_bytes(session))
    early, late = max(sizes[20:40]), max(sizes[40:])
    assert early > 0
    assert late <= early * 1.05  # pathways of an uncertain video share more or fewer nodes


def held_bytes(session: Session) -> int:
    """Bytes of all tensors within reach of a session, each storage once and as a whole; the network does not count."""
    seen, storages, open_ = set(), {}, [session.__dict__]
    while open_:
        thing = open_.pop()
        if id(thing) in seen or isinstance(thing, nn.Module | type | ModuleType | FunctionType | BuiltinFunctionType):
            continue
        seen.add(id(thing))
        if isinstance(thing, Tensor):
            storages[thing.untyped_storage().data_ptr()] = thing.untyped_storage().nbytes()
        else:
            open_ += gc.get_referents(thing)
    return sum(storages.values())


# Sizes and bad input.


def test_one_frame_video(method, video):
    single = replace(open_video(video[0][None]), prompts=video.prompts)
    (answer,) = method.build().track(single)
    assert answer.targets == (1, 2)
    assert answer.masks.any()


@pytest.mark.parametrize("size", [(1, 1), (7, 100), (64, 64)])
def test_any_size(method, size):
    frames = torch.randint(0, 256, (3, *size, 3), dtype=torch.uint8)
    mask = torch.ones(size, dtype=torch.bool)
    answers = list(method.build().track(replace(open_video(frames), prompts=(Prompt(1, mask=mask),))))
    assert [answer.masks.shape for answer in answers] == [(1, *size)] * 3


def test_frame_of_another_size_is_refused_and_changes_nothing(method, video):
    module = method.build()
    expected = list(module.track(video))
    session, answers = module.session(LENGTH), []
    for index, frame in enumerate(video):
        if index == 3:
            with pytest.raises(InputError, match="frame 3") as error:
                session.step(frame[:-1])
            assert "\n" not in str(error.value)
        answers += session.step(frame, video.prompts if index == 0 else ())
    assert_same(answers + session.finish(), expected)


PROMPTS = {
    "mask": Prompt(1, mask=torch.ones(SIZE, dtype=torch.bool)),
    "box": Prompt(1, box=(5.0, 6.0, 30.0, 20.0)),
    "points": Prompt(1, points=torch.tensor([[10.0, 12.0]]), labels=torch.tensor([1])),
    "text": Prompt(1, text="the red one"),
    "vocabulary": Prompt(1, vocabulary=("cat",)),
    "query": Prompt(1, mask=torch.ones(9, 9, dtype=torch.bool), image=torch.zeros(9, 9, 3, dtype=torch.uint8)),
}


@pytest.mark.parametrize("kind", PROMPTS)
def test_prompt_kinds(method, video, kind):
    session = method.build().session(LENGTH)
    if kind in method.kinds:
        answers = run(session, list(video)[:3], [PROMPTS[kind]])
        assert len(answers) == 3
        assert kind == "vocabulary" or all(answer.targets == (1,) for answer in answers)
        return
    with pytest.raises(InputError, match="target 1"):
        session.step(video[0], [PROMPTS[kind]])
    # the refused frame does not count
    assert [answer.frame for answer in run(session, video, video.prompts)] == list(range(LENGTH))


def test_mask_of_another_size_is_refused(method, video):
    with pytest.raises(InputError, match="target 1"):
        method.build().session().step(video[0], [Prompt(1, mask=torch.ones(SIZE[1], SIZE[0], dtype=torch.bool))])


def test_empty_mask_is_refused():
    with pytest.raises(InputError, match="empty"):
        Prompt(1, mask=torch.zeros(SIZE, dtype=torch.bool))


def test_prompt_after_the_end_is_refused(method, video):
    late = replace(video, prompts=(shifted(video.prompts[0], LENGTH),))
    with pytest.raises(InputError, match=f"frame {LENGTH}, but the video has {LENGTH} frames"):
        list(method.build().track(late))


# Training.


def clip(side: int) -> Clip:
    clips = SyntheticClips("easy", length=2, size=(side, side), seed=1)
    data = ClipDataset(clips, frames=3, size=(side, side), max_objects=2)
    return collate([data[0], data[1]])


@pytest.mark.parametrize("name", quick(TRAINABLE))
def test_loss_falls_when_overfitting_two_clips(name):
    module, two = METHODS[name].build().train(), clip(METHODS[name].side)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3)
    history = []
    for _ in range(25):
        terms = module.losses(two)
        assert all(term.ndim == 0 and term.isfinite() for term in terms.values())
        total = torch.stack([module.loss_weights.get(term, 1.0) * value for term, value in terms.items()]).sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        history.append(total.item())
    assert min(history[-3:]) < 0.6 * history[0], history


@pytest.mark.parametrize("name", quick(TRAINABLE))
def test_checkpoint_round_trip_is_bit_equal(name, video, tmp_path: Path):
    module, size = METHODS[name].build().train(), (METHODS[name].side,) * 2
    data = VideoDataModule(
        [SyntheticClips("easy", length=2, size=size)], frames=2, size=size, batch_size=1, clips_per_epoch=1
    )
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = L.Trainer(max_steps=1, accelerator="cpu", enable_checkpointing=False, **quiet)
    trainer.fit(module, data)
    trainer.save_checkpoint(file := tmp_path / "last.ckpt")
    again = METHODS[name].lend(type(module).load_from_checkpoint(file, weights_only=True).eval())
    stored = load_state(file)
    assert stored.keys() == again.state_dict().keys()
    for key, value in again.state_dict().items():
        assert torch.equal(value, module.state_dict()[key]), key
        assert torch.equal(value, stored[key]), key
    assert_same(list(again.track(video)), list(module.eval().track(video)))


def test_an_untrainable_method_says_so():
    with pytest.raises(TypeError, match="cannot be trained"):
        CopyFirstMask().losses(clip(64))
