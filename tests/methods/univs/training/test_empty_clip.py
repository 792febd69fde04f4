"""A clip that all targets have left: every loss and gradient is finite, and what remains still trains."""

from dataclasses import replace

import pytest

from common.data.datamodule import VideoDataModule
from common.synthetic import SyntheticPanoptic
from methods.univs import UniVS
from methods.univs.settings import TrainingSettings


@pytest.mark.parametrize("visual", [1.0, 0.0])
@pytest.mark.parametrize("task", ["VIS", "VOS"])
def test_all_targets_have_left_the_second_clip(visual: float, task: str) -> None:
    """Seven frames are cut into clips of frames 0 to 4 and 2 to 6; targets are shown on frames 0 and 1 only."""
    recipe = TrainingSettings(num_points=64, max_prompts=4, clip=5, overlap=1, visual_prompt_prob=visual)
    model = UniVS(recipe=recipe, weights="random").train()
    data = VideoDataModule(
        train=[SyntheticPanoptic(length=1000, seed=1, size=(64, 64))],
        tasks=[task],
        batch_size=1,
        frames=7,
        window=6,
        size=(64, 64),
        max_objects=6,
        clips_per_epoch=4,
    )
    clip = next(iter(data.train_dataloader()))
    masks = clip.masks.clone()
    masks[:, 2:] = False
    losses = model.losses(replace(clip, masks=masks))
    sum(losses.values()).backward()  # type: ignore[union-attr]
    assert {name: bool(value.isfinite()) for name, value in losses.items()} == dict.fromkeys(losses, True)
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)
    assert any(bool(gradient.any()) for gradient in gradients)
    assert losses["mask"] > 0
