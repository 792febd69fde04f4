"""VQ-SAM as a LightningModule."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from common import optim
from common.data.clip import Clip
from common.errors import InputError
from common.nn.sam2 import SAM2
from common.nn.sam2.architecture import READ_FROM_WEIGHTS, choose_architecture
from common.nn.sam2.config import TRUNK_NAMES
from common.nn.sam2.published import PUBLISHED, find_sam2
from common.nn.sam2.rates import encoder_rates
from common.nn.sam2.weights import sam2_state
from common.segmenter import VideoSegmenter
from common.settings import changed
from methods.vqsam.memory import Combine, Fusion, Pooling
from methods.vqsam.model import Settings, VQSAMNetwork
from methods.vqsam.session import VQSAMSession
from methods.vqsam.training import clip_losses

ADDED = ("stt.", "generate.")  # the parts that VQ-SAM adds to SAM 2
# Settings of the network that the shapes of its weights depend on.
_SHAPES = ("stages", "fusion", "combine", "stt_layers", "stt_heads", "stt_hidden")


class VQSAM(VideoSegmenter):
    """VQ-SAM (arXiv 2603.08898): all occurrences of a target that is known from an image outside the video.

    Args:
        size: ``tiny``, ``small``, ``base_plus``, ``large`` as published, or our ``nano``; default: that of ``weights``,
            nano without any.
        version: of SAM 2, ``"2"`` or ``"2.1"``; default: that of ``weights``, 2.1 without any.
        image_size: side of the square input, divisible by 32; default: that of ``weights`` of this suite, else 1024
            (nano 128). The paper's is 768.
        clip_length: frames looked at together, in training at least that many.
        overlap: frames that two clips of a video share at test time.
        stages: K (Table 7).
        targets: most frames that TFG picks, k_t (Table 9); 0 = no TFG (Table 5).
        distractors: most candidates that DFG picks, k_d (Table 10); 0 = no DFG (Table 5).
        target_iou: predicted IoU that TFG asks for, τ_t.
        divergence: 1 - IoU with the best mask that DFG asks for, τ_d.
        distractor_iou: predicted IoU that DFG asks for, τ_u.
        fusion: weights of the memories (Table 8): ``adaptive`` (AMG), ``static`` (SLMG), ``equal`` (EMG).
        combine: the weighed memories side by side (``concat``) or added up (``sum``).
        pooling: what eq. (6) pools over: the selected ``frames``, or ``space`` too.
        distractor_feature: memory of the ``distractor``'s mask or of the ``target``'s in the distractor's frame.
        query_pointer: memory attention also reads the query's object pointer.
        stt_layers: of the spatial-temporal transformer; 0 = none (Table 6).
        stt_heads: heads of its attention.
        stt_hidden: width of its feed-forward part; default four times that of its input.
        stage_weights: λ of each stage's loss (Table 12); default 1 for the last, 0.5 for those before.
        iou_l1: L1 on the predicted IoU, as SAM 2's recipe; false = squared error, which a small network needs.
        non_best_weight: weight of the candidates that are not the best in mask and dice; 0 in SAM 2.
        encoder_lr: factor on the learning rate of the image encoder; 0 freezes it.
        layer_decay: factor on the learning rate per trunk block towards the input.
        checkpoint_activations: recompute trunk, memory attention and STT in the backward pass, for memory.
        kwargs: see ``VideoSegmenter``; ``weights`` may be a file of VQ-SAM, or of SAM 2 to start a training from.

    Raises:
        InputError: numbers that do not fit each other.
    """

    published_weights = PUBLISHED
    read_from_weights = READ_FROM_WEIGHTS
    network: VQSAMNetwork

    def __init__(
        self,
        size: Literal["tiny", "small", "base_plus", "large", "nano"] | None = None,
        version: Literal["2", "2.1"] | None = None,
        image_size: int | None = None,
        clip_length: int = 7,
        overlap: int = 0,
        stages: int = 2,
        targets: int = 2,
        distractors: int = 1,
        target_iou: float = 0.5,
        divergence: float = 0.5,
        distractor_iou: float = 0.7,
        fusion: Fusion = "adaptive",
        combine: Combine = "concat",
        pooling: Pooling = "frames",
        distractor_feature: Literal["distractor", "target"] = "distractor",
        query_pointer: bool = True,
        stt_layers: int = 2,
        stt_heads: int = 8,
        stt_hidden: int | None = None,
        stage_weights: list[float] | None = None,
        iou_l1: bool = True,
        non_best_weight: float = 0.0,
        encoder_lr: float = 1.0,
        layer_decay: float = 1.0,
        checkpoint_activations: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        settings = Settings(
            stages, targets, distractors, target_iou, divergence, distractor_iou, fusion, combine, pooling,
            distractor_feature, query_pointer, stt_layers, stt_heads, stt_hidden,
        )  # fmt: skip
        if not 0 <= overlap < clip_length:
            raise InputError(f"overlap {overlap} must be at least 0 and less than clip_length {clip_length}")
        if stages < 1:
            raise InputError(f"stages {stages}: there must be at least one")
        self.stage_weights = stage_weights or [0.5] * (stages - 1) + [1.0]
        if len(self.stage_weights) != stages:
            raise InputError(f"stage_weights {stage_weights} must be {stages} numbers, one for each stage")
        self.loss_weights = {"mask": 20.0, "dice": 1.0, "iou": 1.0, "occlusion": 1.0} | self.loss_weights
        architecture = choose_architecture(self.read_weights(), self.weights_file, size, version, image_size)
        self.hparams.update(architecture._asdict())
        self.network = VQSAMNetwork(SAM2(*architecture), settings)
        self.network.sam2.checkpoint_activations = checkpoint_activations
        self.clip_length, self.overlap = clip_length, overlap
        self.loss_options = {"iou_l1": iou_l1, "non_best_weight": non_best_weight}
        self.encoder_lr, self.layer_decay = encoder_lr, layer_decay
        if encoder_lr == 0:
            self.network.sam2.net.vision_encoder.requires_grad_(False)
        self.method_name, self.variant = "VQ-SAM", _variant(architecture.size, architecture.version, settings)
        self.load_weights()

    def architecture(self) -> dict[str, Any]:
        """Return the settings of SAM 2 and those of the added parts that change shapes."""
        sam2 = {name: getattr(self.network.sam2, name) for name in ("size", "version", "image_size")}
        return sam2 | {name: value for name, value in asdict(self.network.settings).items() if name in _SHAPES}

    def find_published(self, name: str) -> Path:
        """Return the file of a published SAM 2, see ``find_sam2``."""
        return find_sam2(name)

    def from_published(self, state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
        """Return the weights of a SAM 2, completed by the initial values of the added parts."""
        self.weights_note = "partial"
        initial = {key: value for key, value in self.network.state_dict().items() if key.startswith(ADDED)}
        return initial | {f"sam2.net.{key}": value for key, value in sam2_state(state).items()}

    def session(self, length: int | None = None) -> VQSAMSession:
        """A session with this module's settings, whatever the length."""
        return VQSAMSession(self.network, self.clip_length, self.overlap)

    def losses(self, clip: Clip) -> dict[str, Tensor]:
        """SAM 2's four terms, summed over frames, weighed over stages, mean over queries.

        Raises:
            InputError: no queries, an empty query mask, fewer frames than ``clip_length``.
        """
        frames = clip.frames.shape[1]
        if frames < self.clip_length:
            raise InputError(
                f"training clips have {frames} frames, VQ-SAM looks at {self.clip_length}: set data.frames to that, "
                "or model.clip_length"
            )
        return clip_losses(self.network, clip, self.stage_weights, **self.loss_options)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Lower rates for the image encoder, as in SAM 2's recipe."""
        rates = encoder_rates(self.network.sam2, self.encoder_lr, self.layer_decay)
        return optim.parameter_groups(self, self.lr, self.weight_decay, rates)


def _variant(size: str, version: str, settings: Settings) -> str:
    """Return the name of a table's row: the trunk, and the settings that are not the paper's."""
    older = ["SAM2"] if version == "2" else []
    return ", ".join([TRUNK_NAMES.get(size, size), *older, *changed(settings, Settings())])
