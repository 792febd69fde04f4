"""SAM2Long's memory tree, by hand: the numbered steps of the released code, and the paper's variant of them."""

from __future__ import annotations

import math
import random
import time
import weakref
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from common.nn.sam2 import Bank, Candidates
from common.synthetic import SyntheticClips
from methods.sam2long.pathways import WAITING_ON_DEVICE, Branch, Node, Pathway, Prediction
from methods.sam2long.picks import LOG_EPSILON, TreeSettings, pick_candidates, rank_weights
from methods.sam2long.session import SAM2LongSession
from methods.sam2long.tree import MemoryTree
from tests.support.lively import lively_sam2

CODE, PAPER = TreeSettings(), TreeSettings(equation_variant="paper")
GREEDY = TreeSettings(pathways=1, selection=False, modulation=None)


def slots(picks) -> list[tuple[int, int]]:
    return [(pick.pathway, pick.candidate) for pick in picks]


# Step 5: pick P of 3P.


def test_certain_frame_takes_the_largest_sums():
    # S + ln u: -0.11 -1.20 -0.22 | -0.61 -2.11 -2.80 | -1.05 -3.30 -5.61
    ious = [[0.9, 0.3, 0.8], [0.9, 0.2, 0.1], [0.95, 0.1, 0.01]]
    picks = pick_candidates([0.0, -0.5, -1.0], ious, [0.1, -2.1, 0.1], CODE)
    assert slots(picks) == [(0, 0), (0, 2), (1, 0)]
    sums = [math.log(0.9 + 1e-5), math.log(0.8 + 1e-5), -0.5 + math.log(0.9 + 1e-5)]
    assert [pick.total for pick in picks] == pytest.approx(sums, abs=1e-12)


def test_logarithm_of_nothing_is_bounded():
    (pick,) = pick_candidates([-1.0], [[0.0, 0.0, 0.0]], [9.0], replace(CODE, pathways=1))
    assert pick.total == pytest.approx(-1 + math.log(LOG_EPSILON))


def test_ties_go_to_the_lower_pathway_then_the_lower_candidate():
    picks = pick_candidates([0.0] * 3, [[0.4, 0.5, 0.5]] * 3, [5.0] * 3, CODE)
    assert slots(picks) == [(0, 1), (0, 2), (1, 1)]


def test_one_sure_pathway_makes_the_frame_certain_and_the_threshold_is_strict():
    ious = [[0.9, 0.9, 0.9], [0.8, 0.7, 0.6], [0.1, 0.1, 0.1]]
    assert slots(pick_candidates([0.0] * 3, ious, [0.0, 0.0, -2.1], CODE)) == [(0, 0), (0, 1), (0, 2)]
    assert slots(pick_candidates([0.0] * 3, ious, [2.0, -2.0, 2.0], CODE)) == [(0, 0), (1, 0), (1, 1)]


def test_uncertain_frame_takes_distinct_rounded_ious():
    ious = [[0.904, 0.902, 0.5], [0.90, 0.70, 0.1], [0.3, 0.2, 0.1]]
    assert slots(pick_candidates([0.0] * 3, ious, [1.0] * 3, CODE)) == [(0, 0), (1, 1), (0, 2)]


def test_an_absent_object_counts_as_another_iou_in_the_code_only():
    ious = [[0.9, 0.5, 0.4], [0.9, 0.7, 0.1], [0.3, 0.2, 0.1]]
    scores = [1.0, 0.0, 1.0]  # 0 is absent
    assert slots(pick_candidates([0.0] * 3, ious, scores, CODE)) == [(0, 0), (1, 0), (1, 1)]
    assert slots(pick_candidates([0.0] * 3, ious, scores, PAPER)) == [(0, 0), (1, 1), (0, 1)]


def test_uncertain_frame_is_filled_by_pathways_without_a_pick():
    ious = [[0.9, 0.9, 0.9], [0.9, 0.8, 0.9], [0.2, 0.9, 0.9]]
    assert slots(pick_candidates([0.0, -0.1, -0.2], ious, [1.0] * 3, CODE)) == [(0, 0), (1, 1), (2, 0)]  # 0.9 0.8 0.2
    ious[2][0] = 0.9
    assert slots(pick_candidates([0.0, -0.1, -0.2], ious, [1.0] * 3, CODE)) == [(0, 0), (1, 1), (2, 0)]  # 2 fills up
    same = [[0.9] * 3] * 3
    assert slots(pick_candidates([-0.2, 0.0, -0.1], same, [1.0] * 3, CODE)) == [(1, 0), (0, 0), (2, 0)]
    assert slots(pick_candidates([-0.2, 0.0, -0.1], same, [1.0] * 3, PAPER)) == [(1, 0), (1, 1), (1, 2)]


@pytest.mark.parametrize("pathways", [1, 2, 3, 4])
@pytest.mark.parametrize("equation_variant", ["code", "paper"])
def test_always_p_picks_with_the_best_first(pathways, equation_variant):
    draw = random.Random(pathways)
    settings = TreeSettings(pathways=pathways, equation_variant=equation_variant)
    for _ in range(200):
        totals = [-draw.random() for _ in range(pathways)]
        ious = [[round(draw.random(), 1) for _ in range(3)] for _ in range(pathways)]
        scores = [draw.uniform(-2.5, 2.5) for _ in range(pathways)]
        picks = pick_candidates(totals, ious, scores, settings)
        assert len(set(slots(picks))) == len(picks) == pathways
        best = max(t + math.log(u + LOG_EPSILON) for t, row in zip(totals, ious, strict=True) for u in row)
        assert picks[0].total == best


# Growing a tree without a network.


def answer(iou: float = 0.9, score: float = 5.0) -> Candidates:
    """One candidate, recognisable by nothing but its numbers."""
    return Candidates(torch.zeros(1, 1, 2, 2), torch.tensor([[iou]]), torch.tensor([score]), torch.zeros(1, 1, 4))


def planted(settings: TreeSettings, max_pointers: int = 16, frame: int = 0) -> MemoryTree:
    tree = MemoryTree(settings, max_pointers)
    tree.prompt(frame, answer(1.0, 10.0), torch.zeros(1, 64, 1, 1))
    return tree


def choose(tree: MemoryTree, said: dict[Node, tuple[list[float], float]]) -> list[Branch]:
    """Predicted IoUs and occlusion score of every leaf; the masks do not matter to the tree."""
    return tree.choose(predictions(said), (8, 8))


def predictions(said: dict[Node, tuple[list[float], float]]) -> dict[Node, Prediction]:
    return {node: Prediction(ious, score, torch.zeros(3, 2, 2)) for node, (ious, score) in said.items()}


def advance(tree: MemoryTree, frame: int, iou: float = 0.9, score: float = 5.0) -> None:
    """One certain frame on which every leaf says the same."""
    said = {node: ([iou, 0.1, 0.05], score) for node in tree.nodes}
    branches = choose(tree, said)
    maps = [torch.zeros(1, 64, 1, 1)] * len(branches)
    tree.grow(frame, branches, predictions(said), [answer(iou, score)] * len(branches), maps)


def frames_of(tree: MemoryTree, bank: Bank) -> tuple[list[int], list[int]]:
    """Frame of each map and of each pointer that a bank reads."""
    memories = [*tree.prompted, *(m for node in tree.nodes for m in (*node.recent, node.memory) if m)]
    of_map = {m.map.data_ptr(): m.frame for m in memories if m.map is not None}
    of_pointer = {id(m.pointer): m.frame for m in memories}
    return [of_map[m.data_ptr()] for m in bank.maps], [of_pointer[id(p)] for p in bank.pointers]


def grown(settings: TreeSettings, steps: list[tuple[float, float]], max_pointers: int = 16) -> MemoryTree:
    """A tree prompted on frame 0, with (IoU, score) for each later frame."""
    tree = planted(settings, max_pointers)
    for frame, (iou, score) in enumerate(steps, 1):
        advance(tree, frame, iou, score)
    return tree


@pytest.mark.parametrize("equation_variant", ["code", "paper"])
def test_first_tracked_frame_is_neither_scored_nor_branched_in_the_code(equation_variant):
    tree = planted(TreeSettings(equation_variant=equation_variant))
    (root,) = tree.nodes
    branches = choose(tree, {root: ([0.5, 0.9, 0.2], 1.0)})  # uncertain
    if equation_variant == "code":
        assert [(b.parent, b.candidate, b.totals) for b in branches] == [(root, 1, {0: 0.0, 1: 0.0, 2: 0.0})]
    else:
        assert [(b.candidate, list(b.totals)) for b in branches] == [(1, [0]), (0, [1]), (2, [2])]
        assert branches[0].totals[0] == pytest.approx(math.log(0.9 + 1e-5))


def test_best_candidate_of_the_first_tracked_frame_is_the_first_on_ties():
    tree = planted(CODE)
    assert choose(tree, {tree.nodes[0]: ([0.2, 0.7, 0.7], 1.0)})[0].candidate == 1


def test_certain_frames_keep_one_node_and_add_up_logarithms():
    tree = grown(CODE, [(0.9, 5.0), (0.8, 5.0), (0.7, -5.0)])
    assert len(tree.nodes) == 1
    expected = math.log(0.8 + 1e-5) + math.log(0.7 + 1e-5)
    assert [path.total for path in tree.pathways] == pytest.approx([expected] * 3, abs=1e-6)


def test_uncertain_frame_branches_in_pick_order():
    tree = grown(CODE, [(0.9, 5.0)])
    (leaf,) = tree.nodes
    said = {leaf: ([0.3, 0.9, 0.6], 1.0)}
    branches = choose(tree, said)
    assert [(b.candidate, list(b.totals)) for b in branches] == [(1, [0]), (2, [1]), (0, [2])]
    tree.grow(2, branches, predictions(said), [answer(), answer(0.6), answer(0.3)], [torch.zeros(1, 64, 1, 1)] * 3)
    assert len(tree.nodes) == 3
    assert all(node.parent is leaf for node in tree.nodes)
    assert [path.total for path in tree.pathways] == sorted((path.total for path in tree.pathways), reverse=True)


def scripted(settings: TreeSettings) -> list[int]:
    """Candidates of the best path where the second-best mask of frame 2 turns out to be right on frame 3."""
    tree = grown(settings, [(0.9, 1.0)])
    third = {0: 0.5, 1: 0.9, 2: 0.6}  # best IoU on frame 3 after each candidate of frame 2
    candidate_of: dict[Node, int] = {}
    for frame in (2, 3):
        said = {
            leaf: ([0.9, 0.8, 0.6] if frame == 2 else [third[candidate_of[leaf]], 0.1, 0.1], 1.0) for leaf in tree.nodes
        }
        branches = choose(tree, said)
        maps = [torch.zeros(1, 64, 1, 1)] * len(branches)
        tree.grow(frame, branches, predictions(said), [answer(0.9, 1.0)] * len(branches), maps)
        for branch in branches:
            (stands,) = {tree.pathways[slot].node for slot in branch.totals}
            candidate_of[stands] = branch.candidate
    leaf = tree.pathways[0].node
    assert leaf.parent is not None
    return [candidate_of[leaf.parent], candidate_of[leaf]]


def test_a_path_that_was_second_wins_where_the_first_goes_wrong():
    """0.8 x 0.9 > 0.9 x 0.5: what one greedy pathway, or a frame taken for certain, cannot find."""
    assert scripted(CODE) == [1, 0]
    assert scripted(replace(CODE, pathways=2)) == [1, 0]
    assert scripted(replace(CODE, pathways=1)) == [0, 0]
    assert scripted(replace(CODE, confidence=0.5)) == [0, 0]


# Step 3: what a pathway reads.


def test_bank_of_the_first_tracked_frame_is_the_prompt_unweighed():
    tree = planted(CODE)
    bank = tree.bank(tree.nodes[0], 1)
    assert frames_of(tree, bank) == ([0], [0])
    assert (bank.slots, bank.offsets) == ([6], [1.0])
    assert bank.map_weights is None
    assert bank.pointer_weights is None


def test_six_newest_maps_by_rank_oldest_first_and_all_pointers_but_the_oldest():
    tree = grown(CODE, [(0.9, 5.0)] * 10)
    bank = tree.bank(tree.nodes[0], 11)
    assert frames_of(tree, bank) == ([0, 5, 6, 7, 8, 9, 10], [0, 10, 9, 8, 7, 6, 5, 4, 3, 2])
    assert bank.slots == [6, 5, 4, 3, 2, 1, 0]
    assert bank.offsets == [11.0, 1, 2, 3, 4, 5, 6, 7, 8, 9]


def test_at_most_fifteen_frames_are_kept():
    tree = grown(CODE, [(0.9, 5.0)] * 40)
    bank = tree.bank(tree.nodes[0], 41)
    assert frames_of(tree, bank)[1] == [0, *range(40, 26, -1)]  # 14 of the 15 kept
    advance(tree, 41, 0.1)  # read as the last frame, not kept
    bank = tree.bank(tree.nodes[0], 42)
    assert frames_of(tree, bank)[1] == [0, *range(41, 26, -1)]
    assert bank.offsets == [42.0, *range(1, 16)]


def test_short_video_keeps_fewer_pointers():
    tree = grown(CODE, [(0.9, 5.0)] * 5, max_pointers=4)
    bank = tree.bank(tree.nodes[0], 6)
    assert frames_of(tree, bank) == ([0, 3, 4, 5], [0, 5, 4])
    assert bank.max_pointers == 4


def test_only_good_and_visible_frames_are_kept_but_the_last_is_always_read():
    settings = replace(CODE, iou_threshold=0.5)
    #        frame 1      2 no: = δ   3            4 no: absent  5           6 no: hidden
    steps = [(0.9, 5.0), (0.5, 5.0), (0.51, 0.1), (0.9, 0.0), (0.9, 3.0), (0.9, -4.0)]
    tree = grown(settings, steps)
    bank = tree.bank(tree.nodes[0], 7)
    assert frames_of(tree, bank) == ([0, 1, 3, 5, 6], [0, 6, 5, 3])
    assert bank.slots == [6, 3, 2, 1, 0]
    assert bank.offsets == [7.0, 1, 2, 3]  # ranks, whatever the distance; the prompt's is true
    advance(tree, 7, 0.9)
    assert frames_of(tree, tree.bank(tree.nodes[0], 8))[0] == [0, 1, 3, 5, 7]


def test_paper_reads_kept_frames_only_and_as_many_pointers_as_maps():
    settings = replace(PAPER, iou_threshold=0.5)
    tree = grown(settings, [(0.9, 5.0)] * 8 + [(0.2, 5.0)])
    bank = tree.bank(tree.nodes[0], 10)
    assert frames_of(tree, bank) == ([0, 3, 4, 5, 6, 7, 8], [0, 8, 7, 6, 5, 4, 3])
    assert bank.offsets == [10.0, 1, 2, 3, 4, 5, 6]


def test_a_second_prompt_is_read_by_all_and_takes_no_tracked_place():
    tree = grown(CODE, [(0.9, 5.0)] * 3)
    tree.prompt(4, answer(1.0, 10.0), torch.zeros(1, 64, 1, 1))
    bank = tree.bank(tree.nodes[0], 5)
    assert frames_of(tree, bank) == ([0, 4, 1, 2, 3], [0, 4, 3, 2])
    assert bank.slots == [6, 6, 2, 1, 0]
    assert bank.offsets == [5.0, 1.0, 1, 2]


def test_rank_weights():
    torch.testing.assert_close(rank_weights([10.0, 1.0, 3.0], 0.95, 1.05), torch.tensor([1.05, 0.95, 1.0]))
    torch.testing.assert_close(rank_weights([10.0, 12.0], 0.95, 1.05), torch.tensor([0.95, 1.05]))
    torch.testing.assert_close(rank_weights([2.0, 2.0], 0.9, 1.1), torch.tensor([0.9, 1.1]))  # stable
    torch.testing.assert_close(rank_weights([7.0], 0.95, 1.05), torch.tensor([0.95]))


def test_modulation_ranks_maps_and_pointers_apart_and_the_prompt_counts_ten():
    tree = grown(CODE, [(0.9, 3.0), (0.9, 12.0), (0.9, 1.0)])
    bank = tree.bank(tree.nodes[0], 4)
    assert frames_of(tree, bank) == ([0, 1, 2, 3], [0, 3, 2])
    low, high = 0.95, 1.05
    third = (high - low) / 3
    expected = torch.tensor([[low + 2 * third, low + third, high, low]])  # scores 10, 3, 12, 1
    torch.testing.assert_close(bank.map_weights, expected)
    torch.testing.assert_close(bank.pointer_weights, torch.tensor([[1.0, low, high]]))  # 10, 1, 12


def test_a_single_pointer_gets_the_low_weight():
    tree = grown(CODE, [(0.9, 3.0)])
    bank = tree.bank(tree.nodes[0], 2)
    torch.testing.assert_close(bank.map_weights, torch.tensor([[1.05, 0.95]]))
    torch.testing.assert_close(bank.pointer_weights, torch.tensor([[0.95]]))


def test_paper_weighs_maps_only():
    tree = grown(PAPER, [(0.9, 3.0), (0.9, 1.0)])
    bank = tree.bank(tree.nodes[0], 3)
    torch.testing.assert_close(bank.map_weights, torch.tensor([[1.05, 1.0, 0.95]]))
    torch.testing.assert_close(bank.pointer_weights, torch.ones(1, 3))


def test_without_selection_memory_is_that_of_sam2():
    tree = grown(GREEDY, [(0.01, -9.0)] * 20)  # neither IoU nor presence matters
    bank = tree.bank(tree.nodes[0], 21)
    assert frames_of(tree, bank) == ([0, 15, 16, 17, 18, 19, 20], [0, *range(20, 5, -1)])
    assert bank.slots == [6, 5, 4, 3, 2, 1, 0]
    assert bank.offsets == [21.0, *range(1, 16)]
    assert bank.map_weights is None


def test_without_selection_slots_are_distances():
    tree = grown(GREEDY, [(0.9, 5.0)] * 3)
    tree.prompt(4, answer(1.0, 10.0), torch.zeros(1, 64, 1, 1))
    advance(tree, 5)
    bank = tree.bank(tree.nodes[0], 6)
    assert frames_of(tree, bank) == ([0, 4, 1, 2, 3, 5], [0, 4, 5, 3, 2, 1])
    assert bank.slots == [6, 6, 4, 3, 2, 0]
    assert bank.offsets == [6.0, 2.0, 1, 3, 4, 5]


# When a frame is final.


def node(frame: int, parent: Node | None = None) -> Node:
    return Node(frame, parent, torch.zeros(1, 1, 2, 2), 1.0, None)


def stand(tree: MemoryTree, *leaves: Node) -> None:
    tree.advance([Pathway(leaf) for leaf in leaves])


def test_a_frame_is_final_as_soon_as_all_pathways_share_it():
    tree = planted(CODE)
    (root,) = tree.nodes
    assert tree.pop_final() == [root]
    assert tree.pop_final() == []  # once
    one = node(1, root)
    stand(tree, one, one, one)
    assert tree.pop_final() == [one]
    a, b = node(2, one), node(2, one)
    stand(tree, a, b, b)
    assert tree.pop_final() == []
    a3, b3, b3_ = node(3, a), node(3, b), node(3, b)
    stand(tree, a3, b3, b3_)
    assert tree.pop_final() == []
    b4, b4_ = node(4, b3), node(4, b3_)
    stand(tree, b4, b4_, b4)  # a has died out: b is final, frame 3 is not
    assert tree.pop_final() == [b]
    b5, b5_ = node(5, b4_), node(5, b4_)
    stand(tree, b5, b5_, b5)
    assert tree.pop_final() == [b3_, b4_]
    assert tree.pop_final(0) == [b5]  # the best pathway's, at the end
    assert tree.pop_final(0) == []


def test_max_lag_answers_by_the_best_pathway_then():
    tree = planted(CODE)
    (root,) = tree.nodes
    a1, b1 = node(1, root), node(1, root)
    stand(tree, a1, b1, b1)
    assert tree.pop_final(1) == [root]
    a2, b2 = node(2, a1), node(2, b1)
    stand(tree, a2, b2, b2)
    assert tree.pop_final(1) == [a1]
    a3, b3 = node(3, a2), node(3, b2)
    stand(tree, b3, a3, a3)  # another one is best now; frame 1 has been answered by a
    assert tree.pop_final(1) == [b2]
    assert tree.pop_final(0) == [b3]


def test_lag_zero_answers_every_frame_at_once():
    tree = planted(CODE)
    (root,) = tree.nodes
    assert tree.pop_final(0) == [root]
    a, b = node(1, root), node(1, root)
    for frame in range(2, 6):
        stand(tree, a, b, b)
        assert tree.pop_final(0) == [a]
        a, b = node(frame, a), node(frame, b)


@pytest.mark.parametrize("lag", [None, 0, 1, 4])
def test_answers_are_the_best_path_whatever_the_tree(lag):
    """Random trees against the path that is best after the last frame (or ``lag`` frames later)."""
    draw = random.Random(0)
    for _ in range(60):
        tree, history, got = planted(CODE), [], []
        leaves = [tree.nodes[0]] * 3
        length = draw.randint(1, 20)
        ancestry: dict[Node, tuple[Node, ...]] = {leaves[0]: (leaves[0],)}
        for frame in range(1, length + 1):
            got += tree.pop_final(lag)
            history.append(ancestry[leaves[0]])
            parents = [draw.choice(leaves) for _ in range(3)]
            children = {(parent, draw.randint(0, 1)): None for parent in parents}
            new = {key: node(frame, key[0]) for key in children}
            leaves = [draw.choice(list(new.values())) for _ in range(3)]
            ancestry = {child: (*ancestry[parent], child) for (parent, _), child in new.items()}
            stand(tree, *leaves)
        got += tree.pop_final(lag)
        history.append(ancestry[leaves[0]])
        got += tree.pop_final(0)
        assert [n.frame for n in got] == list(range(length + 1))
        if lag is None:
            assert got == list(history[-1])
        for frame, chosen in enumerate(got):  # final at the latest ``lag`` frames later, by the best path then
            when = length if lag is None else min(frame + lag, length)
            assert chosen is history[when][frame]


def test_what_is_answered_or_dead_is_freed():
    tree = planted(CODE)
    watched = [weakref.ref(tree.nodes[0])]
    tree.pop_final()
    for frame in range(1, 8):
        (leaf,) = tree.nodes
        watched += [weakref.ref(leaf)] if frame > 1 else []
        del leaf
        advance(tree, frame)
        tree.pop_final()
    assert [ref() for ref in watched] == [None] * len(watched)
    assert len(tree.nodes) == 1
    dead, alive = node(8, tree.nodes[0]), node(8, tree.nodes[0])
    stand(tree, dead, alive, alive)
    gone = weakref.ref(dead)
    del dead
    stand(tree, *[node(9, alive)] * 3)
    assert gone() is None


def test_an_undecided_frame_keeps_its_logits_and_nothing_else():
    """All later memory hangs on leaves: waiting frames must not hold maps (512 KB each at full size)."""
    tree = grown(CODE, [(0.9, 5.0)])
    for frame in range(2, 30):
        said = {leaf: ([0.9, 0.6, 0.3], 1.0) for leaf in tree.nodes}
        branches = choose(tree, said)
        maps = [torch.zeros(1, 64, 1, 1)] * len(branches)
        tree.grow(frame, branches, predictions(said), [answer()] * len(branches), maps)
    inner = tree.nodes[0].parent
    count = 0
    while inner is not None:
        assert inner.memory is None
        assert inner.recent == ()
        inner, count = inner.parent, count + 1
    assert count == 29


def test_a_frame_costs_the_same_however_many_frames_wait():
    """Three pathways that never agree: 4,000 frames took 25 s when each step walked back to the first of them."""
    tree = planted(CODE)
    tree.pop_final()
    logits = torch.zeros(1, 1, 2, 2)
    leaves = [Node(1, tree.nodes[0], logits, 1.0, None) for _ in range(3)]
    start = time.process_time()
    for frame in range(2, 4002):
        tree.advance([Pathway(leaf) for leaf in leaves])
        assert tree.pop_final() == []
        leaves = [Node(frame, leaf, logits, 1.0, None) for leaf in leaves]
    assert time.process_time() - start < 1
    tree.advance([Pathway(node(4001, leaves[0].parent))] * 3)
    assert [n.frame for n in tree.pop_final()] == list(range(1, 4002))


def test_a_short_branch_that_dies_does_not_cost_the_long_one():
    """A branch that starts and dies on every frame: its nodes are removed once, and the rest stays."""
    tree = planted(CODE)
    tree.pop_final()
    a, b = node(1, tree.nodes[0]), node(1, tree.nodes[0])
    stand(tree, a, b, b)
    for frame in range(2, 200):
        a, b, dead = node(frame, a), node(frame, b), node(frame, b)
        stand(tree, a, b, dead)
        assert tree.pop_final() == []
        assert len(tree.nodes) == 3
    a = node(200, a)
    stand(tree, a, a, a)
    assert len(tree.pop_final()) == 200


def test_logits_of_frames_that_wait_long_leave_the_device():
    class Logits:
        """Stands for logits on a device."""

        def __init__(self, device: str = "gpu") -> None:
            self.device = device

        def cpu(self) -> Logits:
            return Logits("cpu")

    tree = planted(CODE)
    tree.pop_final()
    leaves = [tree.nodes[0]] * 2
    for frame in range(1, 100):
        leaves = [Node(frame, leaf, Logits(), 1.0, None) for leaf in leaves]
        stand(tree, *leaves)
    devices = [n.logits.device for n in tree.pop_final(0)]
    assert devices == ["cpu"] * (99 - WAITING_ON_DEVICE) + ["gpu"] * WAITING_ON_DEVICE


@pytest.mark.parametrize("settings", [CODE, PAPER, GREEDY])
def test_maps_are_let_go_when_only_their_pointer_can_be_read(settings):
    (leaf,) = grown(settings, [(0.9, 5.0)] * 30).nodes
    assert [memory.frame for memory in leaf.recent] == list(range(16, 31))
    assert [memory.frame for memory in leaf.recent if memory.map is not None] == list(range(25, 31))


def test_maps_of_a_batch_are_not_kept_alive_by_one_of_them():
    tree = planted(CODE)
    batch = torch.zeros(50, 64, 1, 1)
    said = {tree.nodes[0]: ([0.9, 0.1, 0.1], 5.0)}
    branches = choose(tree, said)
    tree.grow(1, branches, predictions(said), [answer()], [batch[7:8]])
    memory = tree.nodes[0].memory
    assert memory is not None
    assert memory.map.untyped_storage().nbytes() == batch[7:8].numel() * 4


# With the network.


@pytest.fixture(scope="module")
def clip():
    video = SyntheticClips("easy", length=1, frames=20, size=(33, 47), seed=5, objects=1)[0]
    return list(video), video.prompts[0]


def track(model, settings: TreeSettings, clip, **how) -> tuple[list, list[int]]:
    """Answers, and the number of distinct nodes on each frame."""
    frames, prompt = clip
    session, answers, counts = SAM2LongSession(model, settings, length=len(frames), **how), [], []
    for index, frame in enumerate(frames):
        answers += session.step(frame, [prompt] if index == 0 else [])
        counts.append(len(session.trees[1].nodes))
    return answers + session.finish(), counts


@pytest.mark.parametrize("version", ["2", "2.1"])
def test_one_pathway_without_extras_is_sam2(version, clip):
    """Against a plain loop: the prompt, the six frames before, up to 15 pointers, the best candidate."""
    model, (frames, prompt) = lively_sam2(version, seed=2), clip
    expected, memories = [], []
    with torch.inference_mode():
        for now, frame in enumerate(frames):
            features = model.encode(model.preprocess(frame.permute(2, 0, 1)[None]))
            if now == 0:
                side = (model.image_size,) * 2
                mask = F.interpolate(prompt.mask[None, None].float(), side, mode="bilinear", antialias=True)
                best = model.take_mask(features, (mask >= 0.5).float())
            else:
                near = range(max(1, now - 6), now)
                far = range(now - 1, max(0, now - 16), -1)
                bank = Bank(
                    maps=[memories[t][0] for t in (0, *near)],
                    slots=[6, *(now - t - 1 for t in near)],
                    pointers=[memories[t][1] for t in (0, *far)],
                    offsets=[float(now - t) for t in (0, *far)],
                )
                best = model.decode(model.read(features, bank), features).best()
            memories.append((model.encode_memory(features, best).bfloat16(), best.pointers[:, 0]))
            logits = F.interpolate(best.visible_logits, frame.shape[:2], mode="bilinear")
            expected.append((logits[0] > 0, float(best.score)))
    answers, counts = track(model, GREEDY, clip)
    assert counts == [1] * len(frames)
    for got, (mask, score) in zip(answers, expected, strict=True):
        assert torch.equal(got.masks, mask), f"frame {got.frame}"
        assert float(got.scores) == pytest.approx(score, abs=1e-5)


def test_three_pathways_on_certain_frames_are_one(clip):
    model = lively_sam2(seed=2, visible=4.0)
    three, counts = track(model, CODE, clip)
    one, _ = track(model, replace(CODE, pathways=1), clip)
    assert counts == [1] * 20
    for a, b in zip(three, one, strict=True):
        assert torch.equal(a.masks, b.masks)
        assert torch.equal(a.scores, b.scores)


@pytest.mark.parametrize(
    "change",
    [{"iou_threshold": 0.5}, {"modulation": None}, {"selection": False}, {"equation_variant": "paper"}],
    ids=str,
)
def test_every_setting_of_the_memory_changes_masks(clip, change):
    model = lively_sam2(seed=2, visible=1.0, iou=-0.4, head=2.0)
    base = torch.stack([answer.masks for answer in track(model, CODE, clip)[0]])
    other = torch.stack([answer.masks for answer in track(model, replace(CODE, **change), clip)[0]])
    assert not torch.equal(other, base)


def test_online_answers_at_once_and_a_lag_waits_no_longer(clip):
    model, (frames, prompt) = lively_sam2(seed=1, visible=1.0), clip
    final, counts = track(model, CODE, clip)
    assert max(counts) == 3
    for lag in (0, 3):
        session, seen = SAM2LongSession(model, CODE, lag, len(frames)), 0
        for index, frame in enumerate(frames):
            seen += len(session.step(frame, [prompt] if index == 0 else []))
            assert index + 1 - seen <= lag
    patient, _ = track(model, CODE, clip, max_lag=19)
    assert all(torch.equal(a.masks, b.masks) for a, b in zip(patient, final, strict=True))
