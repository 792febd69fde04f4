"""The LightningModule of SAM 2 and SAM2Long: its optimiser groups and options."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from common.errors import InputError
from common.nn.sam2.prompts import prompt_points
from common.video import Prompt
from methods.sam2long import SAM2Long
from methods.sam2long.picks import TreeSettings


def rates(module: SAM2Long) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay of every parameter, by name."""
    names = {id(parameter): name for name, parameter in module.named_parameters() if parameter.requires_grad}
    groups = module.parameter_groups()
    out = {names[id(p)]: (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert len(out) == len(names) == sum(len(group["params"]) for group in groups)
    return out


def test_rates_fall_towards_the_input_of_the_trunk_only():
    module = SAM2Long(image_size=64, lr=1.0, encoder_lr=0.5, layer_decay=0.1, weight_decay=0.2)
    by_name = rates(module)
    core = "network.net."
    trunk = core + "vision_encoder.backbone."
    expected = {  # nano has 8 blocks; the last one is one step away from the neck
        core + "mask_decoder.iou_token.weight": (1.0, 0.2),
        core + "memory_attention.layers.0.linear1.bias": (1.0, 0.0),
        core + "vision_encoder.neck.convs.0.weight": (0.5, 0.2),
        trunk + "blocks.7.attn.qkv.weight": (0.5 * 0.1, 0.2),
        trunk + "blocks.0.attn.qkv.weight": (0.5 * 0.1**8, 0.2),
        trunk + "blocks.0.layer_norm1.weight": (0.5 * 0.1**8, 0.0),
        trunk + "patch_embed.projection.weight": (0.5 * 0.1**9, 0.2),
        trunk + "pos_embed": (0.5, 0.2),
        trunk + "pos_embed_window": (0.5, 0.2),
    }
    for name, (lr, decay) in expected.items():
        assert by_name[name] == (pytest.approx(lr), decay), name


def test_rates_are_even_by_default():
    assert {lr for lr, _ in rates(SAM2Long(image_size=64, lr=0.3)).values()} == {0.3}


def test_losses_weigh_as_sam2_unless_told_otherwise():
    assert SAM2Long(image_size=64).loss_weights == {"mask": 20.0, "dice": 1.0, "iou": 1.0, "occlusion": 1.0}
    assert SAM2Long(image_size=64, loss_weights={"iou": 2.0}).loss_weights["iou"] == 2.0
    assert SAM2Long(image_size=64, loss_weights={"iou": 2.0}).loss_weights["mask"] == 20.0


def test_defaults_are_the_papers():
    assert SAM2Long(image_size=64).tree == TreeSettings(3, 0.3, 2.0, (0.95, 1.05), True, "code")


def test_session_has_the_settings_and_the_length():
    session = SAM2Long(image_size=64, pathways=2, max_lag=4).session(9)
    assert (session.settings.pathways, session.max_lag, session.max_pointers) == (2, 4, 9)
    assert SAM2Long(image_size=64).session().max_pointers == 16


def test_options():
    assert SAM2Long(image_size=64, checkpoint_activations=True).network.checkpoint_activations
    assert not SAM2Long(image_size=64).network.checkpoint_activations
    assert SAM2Long(image_size=64, version="2").network.net.occlusion_spatial_embedding_parameter is None
    with pytest.raises(InputError, match="image_size 70"):
        SAM2Long(image_size=70)


@pytest.mark.slow
def test_compiled_encoder_gives_the_same_features(monkeypatch):
    """Traced as ever, but run without generated code, which takes a minute to build."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    torch.manual_seed(0)
    plain = SAM2Long(image_size=64).eval()
    fast = SAM2Long(image_size=64, compile=True).eval()
    fast.load_state_dict(plain.state_dict())
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected, got = plain.network.encode(images), fast.network.encode(images)
    torch.testing.assert_close(got.embedding, expected.embedding, atol=1e-4, rtol=1e-4)


def test_a_box_is_two_points_ahead_of_the_others():
    prompt = Prompt(1, box=(1.0, 2.0, 30.0, 20.0), points=torch.tensor([[5.0, 6.0]]), labels=torch.tensor([0]))
    points, labels = prompt_points(prompt, size=(20, 40), side=80)
    assert points.tolist() == [[[2, 8], [60, 80], [10, 24]]]
    assert labels.tolist() == [[2, 3, 0]]


def test_points_are_scaled_to_the_input_and_one_point_gives_three_candidates(monkeypatch):
    module = SAM2Long(image_size=64).eval()
    calls = []
    decode = module.network.decode
    monkeypatch.setattr(
        module.network, "decode", lambda *args, **how: calls.append((args, how)) or decode(*args, **how)
    )
    frame = torch.zeros(32, 128, 3, dtype=torch.uint8)
    one = Prompt(1, points=torch.tensor([[64.0, 8.0]]), labels=torch.tensor([1]))
    module.session().step(frame, [one, Prompt(2, box=(0.0, 0.0, 128.0, 32.0))])
    (_, _, points, labels), how = calls[0]
    assert (points.tolist(), labels.tolist(), how["multimask"]) == ([[[32.0, 16.0]]], [[1]], True)
    (_, _, points, labels), how = calls[1]
    assert (points.tolist(), labels.tolist(), how["multimask"]) == ([[[0, 0], [64, 64]]], [[2, 3]], False)


def test_two_prompts_of_one_target_on_a_frame_are_refused():
    module, frame = SAM2Long(image_size=64).eval(), torch.zeros(32, 32, 3, dtype=torch.uint8)
    prompts = [Prompt(1, box=(0.0, 0.0, 9.0, 9.0)), Prompt(1, points=torch.ones(1, 2), labels=torch.tensor([0]))]
    with pytest.raises(InputError, match="put everything about a target into one prompt"):
        module.session().step(frame, prompts)
