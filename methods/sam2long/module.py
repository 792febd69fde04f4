"""SAM 2 and SAM2Long as one LightningModule: the same network and training, one or P pathways at test time."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from common import optim
from common.data.clip import Clip
from common.errors import InputError
from common.nn.sam2 import SAM2
from common.nn.sam2.architecture import READ_FROM_WEIGHTS, Architecture, choose_architecture
from common.nn.sam2.config import SMALL, TRUNK_NAMES
from common.nn.sam2.postprocess import PLAIN, PostProcessing
from common.nn.sam2.prompts import PromptSampling
from common.nn.sam2.published import PUBLISHED, find_sam2
from common.nn.sam2.rates import encoder_rates
from common.nn.sam2.training import ClipPass
from common.nn.sam2.weights import sam2_state
from common.segmenter import VideoSegmenter
from common.settings import changed, restore
from common.video.masks import rle_decode
from methods.sam2long.dam4sam import DAM4SAMSettings
from methods.sam2long.picks import TreeSettings
from methods.sam2long.predictors.generator import AutomaticMaskGenerator
from methods.sam2long.samurai import SamuraiSettings
from methods.sam2long.session import MemorySettings, SAM2LongSession

NANO_PROPOSALS = {"points_per_side": 16, "pred_iou_thresh": 0.6, "stability_score_thresh": 0.7}
"""Settings of the mask generator for nano and mini."""


class SAM2Long(VideoSegmenter):
    """SAM2Long (arXiv 2410.16268), a training-free memory tree on SAM 2; with one pathway and no extras SAM 2 itself.

    With another ``memory`` it is SAMURAI (arXiv 2411.11922) or DAM4SAM (arXiv 2411.17576), both training-free too.

    Args:
        size: ``tiny``, ``small``, ``base_plus``, ``large`` as published, or our ``nano`` or ``mini``; default: that of
            ``weights``, nano without any.
        version: ``"2"`` or ``"2.1"``; default: that of ``weights``, 2.1 without any.
        image_size: side of the square input, divisible by 32; default: that of ``weights`` of this suite, else 1024
            (nano 128, mini 384).
        memory: rule by which masks and memories are chosen: ``sam2long``, ``samurai`` or ``dam4sam``; the settings from
            ``pathways`` to ``equation_variant`` belong to ``sam2long``.
        samurai: settings of ``samurai``; null = its defaults.
        dam4sam: settings of ``dam4sam``; null = its defaults.
        pathways: P (Table 5).
        iou_threshold: δ_IoU (Table 6).
        confidence: δ_conf (Table 7).
        modulation: [w_low, w_high] (Table 8); null = none.
        selection: object-aware memory selection; false = SAM 2's memory.
        equation_variant: ``code`` (as released) or ``paper``.
        max_lag: answer at most this many frames late; 0 = at once; null = as soon as the answer is final.
        postprocessing: of the masks at test time; null = none, as in the papers. The ``sam2`` package's default is
            ``hole_area: 8``, ``dynamic_multimask: true``, ``binarize_clicks: true``.
        prompting: how training clips are prompted.
        iou_l1: L1 on the predicted IoU, as SAM 2's recipe; false = squared error, which a network from scratch needs.
        non_best_weight: weight of the candidates that are not the best in mask and dice; 0 in SAM 2. From scratch, 0.5
            keeps the three from sharing out the objects among them before the IoU head can tell them apart.
        loss_stride: masks are compared at the input's resolution divided by this; 1 in SAM 2.
        encoder_lr: factor on the learning rate of the image encoder; 0 freezes it.
        layer_decay: factor on the learning rate per trunk block towards the input.
        checkpoint_activations: recompute trunk and memory attention in the backward pass, for memory.
        compile: ``torch.compile`` the steps of the network, in training the image encoder only.
        kwargs: see ``VideoSegmenter``; ``weights`` may be a file or transformers folder of SAM 2.
    """

    published_weights = PUBLISHED
    read_from_weights = READ_FROM_WEIGHTS
    network: SAM2

    def __init__(
        self,
        size: Literal["tiny", "small", "base_plus", "large", "nano", "mini"] | None = None,
        version: Literal["2", "2.1"] | None = None,
        image_size: int | None = None,
        memory: Literal["sam2long", "samurai", "dam4sam"] = "sam2long",
        samurai: SamuraiSettings | None = None,
        dam4sam: DAM4SAMSettings | None = None,
        pathways: int = 3,
        iou_threshold: float = 0.3,
        confidence: float = 2.0,
        modulation: tuple[float, float] | None = (0.95, 1.05),
        selection: bool = True,
        equation_variant: Literal["code", "paper"] = "code",
        max_lag: int | None = None,
        postprocessing: PostProcessing | None = None,
        prompting: PromptSampling | None = None,
        iou_l1: bool = True,
        non_best_weight: float = 0.0,
        loss_stride: int = 1,
        encoder_lr: float = 1.0,
        layer_decay: float = 1.0,
        checkpoint_activations: bool = False,
        compile: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.loss_weights = {"mask": 20.0, "dice": 1.0, "iou": 1.0, "occlusion": 1.0} | self.loss_weights
        architecture = choose_architecture(self.read_weights(), self.weights_file, size, version, image_size)
        self.hparams.update(architecture._asdict())
        self.network = SAM2(*architecture)
        pair = None if modulation is None else (modulation[0], modulation[1])
        self.tree = TreeSettings(pathways, iou_threshold, confidence, pair, selection, equation_variant)
        self.memory_settings = _memory_settings(
            memory, self.tree, restore(SamuraiSettings, samurai), restore(DAM4SAMSettings, dam4sam)
        )
        self.prompting = restore(PromptSampling, prompting) or PromptSampling()
        self.max_lag = max_lag
        self.postprocessing = restore(PostProcessing, postprocessing) or PLAIN
        self.loss_options: dict[str, Any] = {
            "loss_stride": loss_stride,
            "iou_l1": iou_l1,
            "non_best_weight": non_best_weight,
        }
        self.encoder_lr, self.layer_decay = encoder_lr, layer_decay
        if encoder_lr == 0:
            self.network.net.vision_encoder.requires_grad_(False)
        self.method_name, self.variant = _row(architecture, self.memory_settings)
        self.load_weights()
        self.network.checkpoint_activations = checkpoint_activations
        self.network.compiled = compile

    def architecture(self) -> dict[str, Any]:
        """Return the size, version and side of the input of SAM 2."""
        return {name: getattr(self.network, name) for name in ("size", "version", "image_size")}

    def find_published(self, name: str) -> Path:
        """Return the file of a published SAM 2, see ``find_sam2``."""
        return find_sam2(name)

    def from_published(self, state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
        """Return a SAM 2 state dict, official or transformers', under the network's names."""
        return {f"net.{key}": value for key, value in sam2_state(state).items()}

    def session(self, length: int | None = None) -> SAM2LongSession:
        """A session with this module's memory."""
        return SAM2LongSession(self.network, self.memory_settings, self.max_lag, length, self.postprocessing)

    def propose_masks(self, frame: Tensor) -> Tensor:
        """Find masks on a frame by ``AutomaticMaskGenerator``, for ``track --everything``.

        The published networks have the generator's defaults, nano and mini have ``NANO_PROPOSALS``: their predicted
        IoUs are lower.

        Args:
            frame: uint8 RGB (H, W, 3).

        Returns:
            bool (N, H, W), of the largest predicted IoU first.
        """
        settings: dict[str, Any] = NANO_PROPOSALS if self.network.size in SMALL else {}
        found = AutomaticMaskGenerator(self.network, **settings).find(frame.cpu().numpy()).rles
        return rle_decode(found) if found else torch.zeros(0, *frame.shape[:2], dtype=torch.bool)

    def losses(self, clip: Clip) -> dict[str, Tensor]:
        """SAM 2's four terms, per object, summed over frames and prediction steps."""
        return ClipPass(self.network, clip, self.prompting, **self.loss_options).run()

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Lower rates for the image encoder, as in SAM 2's recipe."""
        rates = encoder_rates(self.network, self.encoder_lr, self.layer_decay)
        return optim.parameter_groups(self, self.lr, self.weight_decay, rates)


def _memory_settings(
    memory: str, tree: TreeSettings, samurai: SamuraiSettings | None, dam4sam: DAM4SAMSettings | None
) -> MemorySettings:
    """Return the settings of the rule that is used.

    Raises:
        InputError: the rule is unknown, or settings of another rule are given.
    """
    given = {"sam2long": None if tree == TreeSettings() else tree, "samurai": samurai, "dam4sam": dam4sam}
    if memory not in given:
        raise InputError(f"memory is {memory!r}; choose one of {', '.join(given)}")
    for rule, settings in given.items():
        if settings is not None and rule != memory:
            raise InputError(
                f"memory is {memory}, but settings of {rule} are given; remove them, or give memory: {rule}"
            )
    if memory == "samurai":
        return samurai or SamuraiSettings()
    if memory == "dam4sam":
        return dam4sam or DAM4SAMSettings()
    return tree


def _row(architecture: Architecture, settings: MemorySettings) -> tuple[str, str]:
    """Return method and variant of a table's row: the paper's names, and the settings that are not its defaults."""
    size, version, _ = architecture
    trunk, base = TRUNK_NAMES.get(size, size), "SAM2.1" if version == "2.1" else "SAM2"
    if not isinstance(settings, TreeSettings):  # both papers have 2.1, and name the trunk alone
        weights = [] if version == "2.1" else ["SAM2"]
        method, defaults = (
            ("SAMURAI", SamuraiSettings()) if isinstance(settings, SamuraiSettings) else ("DAM4SAM", DAM4SAMSettings())
        )
        return method, ", ".join([trunk, *weights, *changed(settings, defaults)])
    if settings == TreeSettings(pathways=1, modulation=None, selection=False):
        return base, trunk
    labels = {"pathways": "P", "iou_threshold": "δ_IoU", "confidence": "δ_conf", "modulation": "w"}
    return f"{base}Long", ", ".join([trunk, *changed(settings, TreeSettings(), labels)])
