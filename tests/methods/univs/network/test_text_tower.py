"""UniVS's texts: templates, tokens, the text encoder, the concept bank, Lang2Img."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from common.errors import InputError
from methods.univs.network.model import UniVSNetwork
from methods.univs.network.text_tower import ConceptBank, TextTower
from methods.univs.network.tokenizer import Tokenizer, clean, templates
from methods.univs.settings import TextSettings, preset

SMALL = TextSettings(16, 1, 2, 8, 12, 64, hashed=True)


@pytest.fixture(scope="module")
def network() -> UniVSNetwork:
    torch.manual_seed(0)
    text = replace(preset().text, frozen=True)
    return UniVSNetwork(preset(queries=4, text=text)).eval()


def test_clips_sentences():
    sentences = templates(TextSettings())
    assert sentences[0] == "{}."
    assert len(sentences) == len(set(sentences)) == 81
    some = [
        "itap of my {}.",
        "a photo of the hard to see {}.",
        "a black and white photo of a {}.",
        "graffiti of the {}.",
    ]
    assert {*some, "the origami {}.", "a {} in a video game.", "a photo of many {}."} <= set(sentences)
    assert templates(replace(TextSettings(), templates="plain")) == ["{}."]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Traffic_Light", "traffic light"),
        ("bow_(weapon)2", "bow weapon"),
        ("left-most man's hat!", "left most mans hat"),
    ],
)
def test_cleaning(text, expected):
    assert clean(text) == expected


def test_a_text_without_words_is_refused():
    with pytest.raises(InputError, match="'12'"):
        clean("12")


# Tokens.


def test_hashed_words():
    tokenize = Tokenizer(SMALL)
    rows = tokenize(["the dog", "dog"], "a photo of {}.")
    assert rows.shape == (2, 12)
    assert rows[0, 0] == rows[1, 0] == 62
    assert rows[0, 6] == rows[1, 5] == 63
    assert rows[0, 1:4].tolist() == rows[1, 1:4].tolist()
    assert rows[0, 5] == rows[1, 4]  # dog
    assert not rows[0, 7:].any()
    assert rows[0, 1:6].min() >= 1
    assert rows[0, 1:6].max() < 62


def test_a_template_is_cut_a_text_is_refused():
    tokenize = Tokenizer(SMALL)
    row = tokenize(["one two three four five six seven eight"], "a photo of {}.")[0]
    assert row[-1] == 63
    assert row.all()
    with pytest.raises(InputError, match=r"'word word.*has 200 tokens, there is room for 9") as error:
        tokenize([" ".join(["word"] * 200)])
    assert "\n" not in str(error.value)


def test_clips_bpe_from_a_folder(tmp_path):
    words = ["a", "b", "a</w>", "b</w>", ".</w>", "ab</w>", "<|startoftext|>", "<|endoftext|>"]
    (tmp_path / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b</w>\n")
    rows = Tokenizer(TextSettings(context=6, vocabulary=8), tmp_path)(["ab", "b a"], "{}.")
    assert rows.tolist() == [[6, 5, 4, 7, 0, 0], [6, 3, 2, 4, 7, 0]]


@pytest.mark.parametrize("folder", [None, "nowhere"])
def test_no_vocabulary_says_where_it_comes_from(folder):
    with pytest.raises(InputError, match=r"vocab.json and merges.txt"):
        Tokenizer(TextSettings(), folder)(["a dog"])


# The tower.


def test_names_and_expressions():
    torch.manual_seed(0)
    tower = TextTower(replace(SMALL, context=16))
    with torch.inference_mode():
        out = tower.expressions(["The red dog.", "cat"])
        names = tower.encode_names(["red_dog", "cat"])
        assert out.shape == (2, 17, 8)
        torch.testing.assert_close(out[1, 0], names[1])
        rows = tower.tokenize(["the red dog"], "{}.")
        hidden = tower.body(input_ids=rows).last_hidden_state
        torch.testing.assert_close(out[0, 1:], tower.body.text_projection(hidden)[0])
        ends = [
            tower.body.text_projection(tower.body(input_ids=row).last_hidden_state)[0, row[0].tolist().index(63)]
            for row in (tower.tokenize(["cat"], template) for template in templates(tower.settings))
        ]
        torch.testing.assert_close(names[1], torch.stack(ends).mean(0), atol=1e-6, rtol=1e-5)


def test_a_frozen_tower_stays_as_it_is():
    frozen, trained = TextTower(SMALL).train(), TextTower(replace(SMALL, frozen=False)).train()
    assert not any(module.training for module in frozen.modules())
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    assert not frozen.encode_names(["cat"]).requires_grad
    assert trained.body.training
    assert trained.encode_names(["cat"]).requires_grad


# The concept bank.


def test_a_vocabulary_leaves_the_others_slices_alone():
    bank = ConceptBank(3)
    first, second = torch.randn(2, 3), torch.randn(4, 3)
    bank.add(["a", "b"], first)
    bank.add(["a", "c", "d", "e"], second)
    assert torch.equal(bank.get(["a", "b"]), first)
    assert torch.equal(bank.get(["a", "c", "d", "e"]), second)
    assert bank.rows.shape == (6, 3)
    assert bank.get(["b", "a"]) is None
    assert not bank.state_dict()
    assert bank.to(torch.float64).get(["a", "b"]).dtype == torch.float64


def test_class_logits_of_a_vocabulary_do_not_depend_on_others(network):
    classes = torch.randn(1, 5, 64)
    before = network.class_logits(classes, network.concepts(["cat", "dog"]))
    network.concepts(["horse", "dog", "tree"])
    assert torch.equal(network.class_logits(classes, network.concepts(["cat", "dog"])), before)
    assert before.shape == (1, 5, 2)


def test_the_bank_follows_the_tower(network):
    before = network.concepts(["cat"])
    assert network.concepts(("cat",)).data_ptr() == network.concepts(["cat"]).data_ptr()
    changed = {key: value + 0.1 * torch.randn_like(value) for key, value in network.text.body.state_dict().items()}
    copied = deepcopy(network)
    copied.load_state_dict(network.state_dict() | {f"text.body.{key}": value for key, value in changed.items()})
    assert not torch.allclose(copied.concepts(["cat"]), before)
    assert torch.equal(network.concepts(["cat"]), before)


def test_concepts_kept_while_testing_serve_in_training(network):
    with torch.inference_mode():
        network.concepts(["first encoded while testing"])
    classes = torch.randn(1, 2, 64, requires_grad=True)
    network.class_logits(classes, network.concepts(["first encoded while testing"])).sum().backward()
    assert classes.grad.any()


def test_concepts_of_a_trained_tower_are_never_kept():
    network = UniVSNetwork(preset(queries=4))
    network.concepts(["cat"]).sum().backward()
    network.concepts(["cat"]).sum().backward()
    assert not len(network.text.bank.rows)


# Lang2Img.


def test_text_tokens_differ_by_frame_and_see_their_own_frame_only(network):
    text = torch.randn(2, 2, 3, 64, generator=torch.Generator().manual_seed(0))
    frames = torch.rand(6, 3, 32, 64, generator=torch.Generator().manual_seed(1))
    changed = frames.clone()
    changed[4] = 0  # clip 1, frame 1
    with torch.inference_mode():
        index = torch.arange(3).expand(2, 3)
        a, b = (network.language(text, network.scene(network.encode(each), index)) for each in (frames, changed))
    differs = (a - b).abs().amax((1, 3, 4)) > 1e-5
    assert differs.tolist() == [[False] * 3, [False, True, False]]
    assert (a[:, :, 0] - a[:, :, 1]).abs().max() > 1e-4


def test_text_reads_features_without_position_codes(network):
    text, frames = torch.randn(1, 2, 3, 64), torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        features = network.encode(frames)
        early, late = (
            network.language(text, network.scene(features, torch.tensor([index]))) for index in ([0, 1], [70, 99])
        )
    assert torch.equal(early, late)
