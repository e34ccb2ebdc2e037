"""Speech networks of transformers as audio encoders: Whisper, HuBERT and wav2vec 2.0, in cross-faded pieces.

Every piece starts the network's positions anew, so neighbouring pieces disagree by several times a normal step.
A piece of 30 s therefore begins 10 s before the one ahead of it ends, and takes over linearly in its last second.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from latentsync.audio.features import FeatureStream, PieceLayout, StreamedEncoder, WaveformSource
from latentsync.audio.mel import COLUMN_RATE, WhisperLogMel
from latentsync.types import AUDIO_SAMPLE_RATE, FEATURE_RATE, CheckpointError

if TYPE_CHECKING:
    from transformers import HubertModel, Wav2Vec2Model, WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

PIECE_SECONDS = 30
COLUMNS_PER_ROW = int(COLUMN_RATE / FEATURE_RATE)  # Whisper's second convolution halves the rate
VARIANCE_FLOOR = 1e-7  # of the normalised waveform (transformers' Wav2Vec2FeatureExtractor)
SCAN_SAMPLES = PIECE_SECONDS * AUDIO_SAMPLE_RATE

OPENAI_NAMES = (
    ("positional_embedding", "embed_positions.weight"),
    ("ln_post.", "layer_norm."),
    ("blocks.", "layers."),
    (".attn_ln.", ".self_attn_layer_norm."),
    (".attn.query.", ".self_attn.q_proj."),
    (".attn.key.", ".self_attn.k_proj."),
    (".attn.value.", ".self_attn.v_proj."),
    (".attn.out.", ".self_attn.out_proj."),
    (".mlp_ln.", ".final_layer_norm."),
    (".mlp.0.", ".fc1."),
    (".mlp.2.", ".fc2."),
)
"""OpenAI's names inside `encoder.` -> those of transformers' `WhisperEncoder`, applied in this order."""


def faded_layout(rows: int) -> PieceLayout:
    """Pieces of `rows` rows, each begun after 2/3 of the one before, which fades over its last thirtieth."""
    return PieceLayout(rows=rows, hop=rows * 2 // 3, fade=rows // PIECE_SECONDS)


class WhisperAudioEncoder(StreamedEncoder):
    """Whisper's encoder: all levels (the input of block 0, then each block's output), without the final norm.

    `encode` gives ceil(columns / 2) rows of (levels, width), row k centred at 20 k ms; tiny has 5 levels of 384.
    """

    def __init__(self, module: WhisperEncoder):
        """module: transformers' encoder; its `layer_norm` is replaced by nothing, because no level uses it."""
        super().__init__()
        module.layer_norm = nn.Identity()  # type: ignore[assignment]
        self.module = module.eval().requires_grad_(False)
        self.width: int = module.config.d_model
        self.levels: int = module.config.encoder_layers + 1
        self.rate = FEATURE_RATE

    def stream(self, source: WaveformSource) -> FeatureStream:
        """Rows of `source` on demand; reads all of it once for the mel's maximum."""
        mel = WhisperLogMel(source, self.module.config.num_mel_bins)
        piece_rows = self.module.config.max_source_positions
        weight = self.module.conv1.weight

        @torch.no_grad()
        def piece(start: int, stop: int) -> torch.Tensor:
            columns = mel.read(start * COLUMNS_PER_ROW, (start + piece_rows) * COLUMNS_PER_ROW)
            states = self.module(columns[None].to(weight), output_hidden_states=True).hidden_states
            return torch.stack([state[0, : stop - start] for state in states], dim=1).float()

        return FeatureStream(math.ceil(mel.columns / COLUMNS_PER_ROW), faded_layout(piece_rows), piece)


class NormalisedWaveform:
    """A source with zero mean and unit variance over its whole length, found by one streaming pass."""

    def __init__(self, source: WaveformSource):
        self._source = source
        count, total, squares = max(len(source), 1), 0.0, 0.0
        for start in range(0, len(source), SCAN_SAMPLES):
            samples = source.read(start, min(start + SCAN_SAMPLES, len(source))).astype(np.float64)
            total += float(samples.sum())
            squares += float(samples @ samples)
        self._mean = total / count
        self._scale = 1.0 / math.sqrt(max(squares / count - self._mean**2, 0.0) + VARIANCE_FLOOR)

    def __len__(self) -> int:
        return len(self._source)

    def read(self, start: int, stop: int) -> np.ndarray:
        """(stop - start,) float32; zero, which is the mean, outside the source."""
        samples = (self._source.read(start, stop) - self._mean) * self._scale
        samples[: max(0, -start)] = 0.0
        samples[max(0, len(self._source) - start) :] = 0.0
        return samples.astype(np.float32)


class WaveformTransformerEncoder(StreamedEncoder):
    """What HuBERT and wav2vec 2.0 share: strided convolutions on the normalised waveform, then a transformer.

    Row k is centred at 20 k + 12.5 ms: each sees 400 samples and the next begins 320 samples later.
    """

    def __init__(self, module: HubertModel | Wav2Vec2Model, levels: Sequence[int] | None = None):
        """levels: which hidden states to hand out, 0 = the input of block 0; all by default.

        CheckpointError when the network has no such level or another rate than 50 rows a second.
        """
        super().__init__()
        config = module.config
        there = config.num_hidden_layers + 1
        self.level_indices = tuple(range(there) if levels is None else levels)
        if not self.level_indices or not all(0 <= level < there for level in self.level_indices):
            raise CheckpointError(
                f"the audio encoder has levels 0 to {there - 1}, but its configuration asks for "
                f"{list(self.level_indices)}: choose among those it has"
            )
        self._stride = math.prod(config.conv_stride)  # samples from row to row
        self._field = _receptive_field(config.conv_kernel, config.conv_stride)  # samples that a row sees
        self.rate = AUDIO_SAMPLE_RATE / self._stride
        if self.rate != FEATURE_RATE:
            raise CheckpointError(
                f"the audio encoder gives {self.rate:g} rows a second, but windows are cut at {FEATURE_RATE:g}: "
                "use a network with a stride of 320 samples"
            )
        self.module = module.eval().requires_grad_(False)
        self.width: int = config.hidden_size
        self.levels: int = len(self.level_indices)

    def stream(self, source: WaveformSource) -> FeatureStream:
        """Rows of `source` on demand; reads all of it once for its mean and variance."""
        waveform = NormalisedWaveform(source)
        steps = max(0, len(source) - self._field) // self._stride + 1
        weight = next(self.module.parameters())

        @torch.no_grad()
        def piece(start: int, stop: int) -> torch.Tensor:
            end = (stop - 1) * self._stride + self._field
            if stop == steps:  # samples after the last row's field still count in a norm over time
                end = max(end, len(waveform))
            values = torch.from_numpy(waveform.read(start * self._stride, end))[None].to(weight)
            states = self.module(values, output_hidden_states=True).hidden_states
            return torch.stack([states[level][0] for level in self.level_indices], dim=1).float()

        return FeatureStream(steps, faded_layout(int(PIECE_SECONDS * self.rate)), piece)


class HubertAudioEncoder(WaveformTransformerEncoder):
    """HuBERT (arXiv 2106.07447) over transformers' `HubertModel`."""


class Wav2Vec2AudioEncoder(WaveformTransformerEncoder):
    """wav2vec 2.0 (arXiv 2006.11477) over transformers' `Wav2Vec2Model`."""


def _receptive_field(kernels: Sequence[int], strides: Sequence[int]) -> int:
    field = 1
    for kernel, stride in zip(reversed(kernels), reversed(strides), strict=True):
        field = (field - 1) * stride + kernel
    return field


def whisper_from_openai(checkpoint: Mapping[str, Any]) -> WhisperEncoder:
    """checkpoint: OpenAI's `{"dims": {...}, "model_state_dict": {...}}` -> its encoder in float32; the decoder is left.

    CheckpointError when it is of another form, or names the tensors that are missing, surplus or misshapen.
    """
    from transformers import WhisperConfig

    dims, state = checkpoint.get("dims"), checkpoint.get("model_state_dict")
    if not isinstance(dims, Mapping) or not isinstance(state, Mapping):
        raise CheckpointError(
            f"not an OpenAI Whisper checkpoint: it needs the entries 'dims' and 'model_state_dict', found "
            f"{sorted(map(str, checkpoint))[:6]}"
        )
    try:
        config = WhisperConfig(
            num_mel_bins=dims["n_mels"],
            max_source_positions=dims["n_audio_ctx"],
            d_model=dims["n_audio_state"],
            encoder_attention_heads=dims["n_audio_head"],
            encoder_layers=dims["n_audio_layer"],
            encoder_ffn_dim=4 * dims["n_audio_state"],
        )
    except KeyError as missing:
        raise CheckpointError(
            f"the OpenAI Whisper checkpoint's 'dims' lacks {missing}: take the original file"
        ) from None
    return _whisper_encoder(config, {_from_openai(name): tensor for name, tensor in _under("encoder.", state).items()})


def whisper_from_transformers(state_dict: Mapping[str, torch.Tensor], config: Mapping[str, Any]) -> WhisperEncoder:
    """state_dict: of transformers' Whisper, whole or its encoder alone; config: its config.json -> encoder in float32.

    CheckpointError names the tensors that are missing, surplus or misshapen.
    """
    from transformers import WhisperConfig

    for prefix in ("model.encoder.", "encoder."):
        state_dict = _under(prefix, state_dict) or state_dict
    return _whisper_encoder(WhisperConfig.from_dict(dict(config)), state_dict)


def _under(prefix: str, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name[len(prefix) :]: tensor for name, tensor in state.items() if name.startswith(prefix)}


def _from_openai(name: str) -> str:
    for theirs, ours in OPENAI_NAMES:
        name = name.replace(theirs, ours)
    return name


def _whisper_encoder(config: WhisperConfig, state: Mapping[str, torch.Tensor]) -> WhisperEncoder:
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    encoder = WhisperEncoder(config)
    wanted = {name: tuple(tensor.shape) for name, tensor in encoder.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    faults = [f"missing {name}" for name in sorted(wanted.keys() - found.keys())]
    faults += [f"surplus {name}" for name in sorted(found.keys() - wanted.keys())]
    faults += [f"{n} is {shape}, not {wanted[n]}" for n, shape in found.items() if wanted.get(n, shape) != shape]
    if faults:
        raise CheckpointError(
            f"the Whisper checkpoint does not fit its own description ({len(faults)} faults: {'; '.join(faults[:5])}): "
            "take the original file"
        )
    encoder.load_state_dict(dict(state))
    return encoder.float().eval()
