"""Whisper, HuBERT and wav2vec 2.0 as audio encoders: stored answers, direct calls, joints, precision."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file
from transformers import (
    HubertConfig,
    HubertModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    WhisperConfig,
    WhisperForConditionalGeneration,
)

from latentsync.audio import encoders
from latentsync.audio.encoders import HubertAudioEncoder, Wav2Vec2AudioEncoder, WhisperAudioEncoder
from latentsync.audio.features import ArrayWaveform, AudioEncoder
from latentsync.audio.mel import LogMel
from latentsync.audio.mel_encoder import MARGIN, MelEncoder
from latentsync.audio.windows import audio_windows
from latentsync.types import CheckpointError

FADE_START = 29 * 50  # rows
POSITIONS = 150  # of the small Whisper: pieces of 3 s


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    samples = np.random.default_rng(seed).standard_normal(int(seconds * 16_000))
    envelope = 0.1 + 0.1 * np.sin(np.arange(len(samples)) / 1000)
    return (samples * envelope + 0.02).astype(np.float32)


def largest_step(rows: torch.Tensor) -> float:
    return float((rows[1:] - rows[:-1]).flatten(1).norm(dim=1).max())


@pytest.fixture(scope="module")
def openai_checkpoint(parity_dir) -> dict:
    return torch.load(parity_dir / "whisper_small_random.pt", weights_only=True)


@pytest.fixture(scope="module")
def small_whisper() -> WhisperForConditionalGeneration:
    torch.manual_seed(0)
    config = WhisperConfig(
        d_model=16, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=32, max_source_positions=POSITIONS,
        decoder_layers=1, decoder_attention_heads=2, decoder_ffn_dim=16, vocab_size=20, max_target_positions=8,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    return WhisperForConditionalGeneration(config).eval()


@pytest.fixture()
def whisper(small_whisper) -> WhisperAudioEncoder:
    return WhisperAudioEncoder(
        encoders.whisper_from_transformers(small_whisper.state_dict(), small_whisper.config.to_dict())
    )


def small_waveform_network(kind: str, norm: str = "group") -> torch.nn.Module:
    torch.manual_seed(0)
    kinds = {"hubert": (HubertConfig, HubertModel), "wav2vec2": (Wav2Vec2Config, Wav2Vec2Model)}
    config_class, model_class = kinds[kind]
    config = config_class(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, conv_dim=(8,) * 7,
        num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2, feat_extract_norm=norm,
        do_stable_layer_norm=norm == "layer",
    )  # fmt: skip
    return model_class(config).eval()


class TestWhisperParity:
    @pytest.fixture(scope="class")
    def encoder(self, openai_checkpoint) -> WhisperAudioEncoder:
        return WhisperAudioEncoder(encoders.whisper_from_openai(openai_checkpoint))

    @pytest.fixture(scope="class")
    def waveform(self, parity_dir) -> np.ndarray:
        return soundfile.read(parity_dir / "audio.wav", dtype="float32")[0]

    @pytest.fixture(scope="class")
    def rows(self, encoder, waveform) -> torch.Tensor:
        return encoder.encode(waveform)

    def test_rows_before_the_first_joint(self, rows, parity_dir):
        stored = load_file(parity_dir / "whisper_io.safetensors")
        assert len(rows) == stored["num_features"].item()
        before = torch.arange(0, len(rows), 37) < FADE_START
        torch.testing.assert_close(rows[::37][before], stored["features"][before], atol=1e-4, rtol=0)

    def test_no_step_after_it_exceeds_the_largest_inside_a_piece(self, rows):
        assert largest_step(rows[FADE_START - 1 :]) <= largest_step(rows[:FADE_START])

    def test_windows_at_25_fps(self, encoder, waveform, parity_dir):
        stored = load_file(parity_dir / "whisper_io.safetensors")
        frames = stored["chunk_index"]
        windows = audio_windows(encoder.stream(ArrayWaveform(waveform)), [frame / 25 for frame in frames.tolist()])
        before = 2 * frames + 5 < FADE_START
        assert windows.shape == (len(frames), 50, 64) and before.sum() >= 6
        torch.testing.assert_close(windows[before], stored["chunks"][before], atol=1e-4, rtol=0)


class TestWhisper:
    def test_follows_the_protocol(self, whisper):
        assert isinstance(whisper, AudioEncoder)
        assert (whisper.width, whisper.levels, whisper.rate) == (16, 3, 50.0)

    def test_one_piece_is_a_direct_call(self, whisper, small_whisper):
        """Levels are the blocks' inputs and the last block's output before the final norm."""
        seen = []
        network = small_whisper.model.encoder
        hook = network.layer_norm.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
        waveform = noise(3.0)
        columns = encoders.WhisperLogMel(ArrayWaveform(waveform)).read(0, 2 * POSITIONS)
        with torch.no_grad():
            states = network(columns[None], output_hidden_states=True).hidden_states
        hook.remove()
        expected = torch.stack([states[0][0], states[1][0], seen[0][0]], dim=1)
        torch.testing.assert_close(whisper.encode(waveform), expected, atol=1e-6, rtol=0)

    def test_the_last_piece_is_filled_with_zeros_of_the_normalised_mel(self, whisper):
        mel = torch.zeros(1, 80, 2 * POSITIONS)
        waveform = noise(1.01)
        mel[0, :, :101] = encoders.WhisperLogMel(ArrayWaveform(waveform)).read(0, 101)
        with torch.no_grad():
            expected = whisper.module(mel).last_hidden_state[0, :51]
        torch.testing.assert_close(whisper.encode(waveform)[:, -1], expected, atol=1e-6, rtol=0)

    def test_rows_asked_for_in_any_order_are_those_of_the_whole(self, whisper):
        waveform = noise(8.0)
        rows, stream = whisper.encode(waveform), whisper.stream(ArrayWaveform(waveform))
        for start, stop in ((390, 400), (90, 110), (140, 160), (0, 10)):
            torch.testing.assert_close(stream.rows(start, stop), rows[start:stop], atol=1e-5, rtol=0)

    def test_its_own_state_dict_loads_back(self, whisper):
        copy = WhisperAudioEncoder(type(whisper.module)(whisper.module.config))
        copy.load_state_dict(whisper.state_dict())
        assert torch.equal(copy.encode(noise(0.5)), whisper.encode(noise(0.5)))

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_precision_follows_the_module(self, whisper, dtype):
        expected = whisper.encode(noise(1.0))
        rows = whisper.to(dtype).encode(noise(1.0))
        assert rows.dtype == torch.float32
        torch.testing.assert_close(rows, expected, atol=0.05, rtol=0.05)
        assert not torch.equal(rows, expected)


class TestWhisperWeights:
    @staticmethod
    def edited(checkpoint: dict, edit: Callable[[dict], object]) -> dict:
        checkpoint = {"dims": dict(checkpoint["dims"]), "model_state_dict": dict(checkpoint["model_state_dict"])}
        edit(checkpoint)
        return checkpoint

    @pytest.mark.parametrize(
        ("edit", "message"),
        [
            (lambda c: c["model_state_dict"].pop("encoder.conv1.bias"), "missing conv1.bias"),
            (lambda c: c["model_state_dict"].update({"encoder.extra": torch.zeros(1)}), "surplus extra"),
            (lambda c: c["dims"].update(n_audio_ctx=1000), r"embed_positions.weight is \(1500, 64\), not \(1000, 64\)"),
            (lambda c: c["dims"].pop("n_audio_head"), "lacks 'n_audio_head'"),
            (lambda c: c.pop("dims"), "not an OpenAI Whisper checkpoint"),
        ],
    )
    def test_faults_are_named(self, openai_checkpoint, edit, message):
        with pytest.raises(CheckpointError, match=message):
            encoders.whisper_from_openai(self.edited(openai_checkpoint, edit))

    def test_half_precision_on_disk_loads_in_float32(self, openai_checkpoint):
        half = self.edited(openai_checkpoint, lambda c: c["model_state_dict"].update(
            {name: tensor.half() for name, tensor in c["model_state_dict"].items()}
        ))  # fmt: skip
        network = encoders.whisper_from_openai(half)
        assert {tensor.dtype for tensor in network.parameters()} == {torch.float32}

    def test_transformers_weights_of_the_encoder_alone(self, small_whisper):
        state, config = small_whisper.state_dict(), small_whisper.config.to_dict()
        whole = encoders.whisper_from_transformers(state, config)
        alone = encoders.whisper_from_transformers(small_whisper.model.encoder.state_dict(), config)
        assert all(torch.equal(alone.state_dict()[name], tensor) for name, tensor in whole.state_dict().items())


@pytest.mark.parametrize("kind", ["hubert", "wav2vec2"])
class TestWaveformTransformers:
    classes = {"hubert": HubertAudioEncoder, "wav2vec2": Wav2Vec2AudioEncoder}  # noqa: RUF012

    @pytest.mark.parametrize("norm", ["group", "layer"])
    def test_short_audio_is_a_direct_call(self, kind, norm):
        network, waveform = small_waveform_network(kind, norm), noise(0.7)
        values = Wav2Vec2FeatureExtractor()(waveform, sampling_rate=16_000, return_tensors="pt").input_values
        with torch.no_grad():
            expected = torch.stack(network(values, output_hidden_states=True).hidden_states, dim=2)[0]
        encoder = self.classes[kind](network)
        assert isinstance(encoder, AudioEncoder)
        assert (encoder.width, encoder.levels, encoder.rate) == (16, 3, 50.0)
        torch.testing.assert_close(encoder.encode(waveform), expected, atol=1e-5, rtol=0)

    def test_chosen_levels(self, kind):
        network, waveform = small_waveform_network(kind), noise(0.3)
        every, chosen = self.classes[kind](network).encode(waveform), self.classes[kind](network, levels=[2, 0])
        assert chosen.levels == 2
        assert torch.equal(chosen.encode(waveform), every[:, [2, 0]])
        with pytest.raises(CheckpointError, match=r"levels 0 to 2.*\[3\]"):
            self.classes[kind](network, levels=[3])

    def test_a_joint_cannot_be_seen(self, kind):
        encoder, waveform = self.classes[kind](small_waveform_network(kind)), noise(33.0)
        rows = encoder.encode(waveform)
        assert len(rows) == (33 * 16_000 - 400) // 320 + 1
        assert largest_step(rows[FADE_START - 1 :]) <= 1.05 * largest_step(rows[:FADE_START])

    def test_another_rate_is_refused(self, kind):
        network = small_waveform_network(kind)
        network.config.conv_stride = (5, 2, 2, 2, 2, 2, 1)
        with pytest.raises(CheckpointError, match="100 rows a second"):
            self.classes[kind](network)


def test_rows_of_waveform_transformers_lie_at_20_k_plus_12_5_ms():
    """A click at the centre of row 20 changes the rows around it symmetrically, before the transformer mixes them."""
    network = small_waveform_network("wav2vec2", "layer")
    field = encoders._receptive_field(network.config.conv_kernel, network.config.conv_stride)
    assert field == 400
    silent, click = torch.zeros(1, 16_000), torch.zeros(1, 16_000)
    click[0, 20 * 320 + field // 2] = 1.0
    with torch.no_grad():
        change = (network.feature_extractor(click) - network.feature_extractor(silent)).abs().sum(1)[0]
    assert change.nonzero().flatten().tolist() == [20]


class TestNormalisedWaveform:
    def test_mean_and_variance_over_a_whole_long_source(self):
        waveform = 0.3 + np.repeat(np.float32([0.01, 0.2]), 20 * 16_000) * noise(40.0)
        source = encoders.NormalisedWaveform(ArrayWaveform(waveform))
        samples = source.read(-5, len(source) + 5)
        assert abs(samples[5:-5].mean()) < 1e-4 and abs(samples[5:-5].var() - 1) < 1e-3
        assert (samples[:5] == 0).all() and (samples[-5:] == 0).all()


class TestMelEncoder:
    @pytest.fixture(scope="class")
    def encoder(self) -> MelEncoder:
        torch.manual_seed(0)
        return MelEncoder(width=8, levels=2, hidden=16).eval()

    def test_streamed_rows_equal_one_pass(self, encoder):
        """12 s need two pieces; the pass over all of it sees the same silence around the waveform."""
        waveform = noise(12.0)
        columns = LogMel(ArrayWaveform(waveform)).read(-2 * MARGIN, 1200 + 2 * MARGIN)
        with torch.no_grad():
            expected = encoder.rows_with_context(columns[None])[0]
        torch.testing.assert_close(encoder.encode(waveform), expected, atol=1e-5, rtol=0)
        stream = encoder.stream(ArrayWaveform(waveform))
        torch.testing.assert_close(stream.rows(490, 510), expected[490:510], atol=1e-5, rtol=0)

    def test_a_row_knows_no_more_than_the_margin(self, encoder):
        waveform, changed = noise(3.0), noise(3.0)
        changed[16_000:] = noise(2.0, seed=9)
        same = 50 - MARGIN - 1  # the mel frame of a row reaches 12.5 ms ahead of it
        before, after = encoder.encode(waveform), encoder.encode(changed)
        torch.testing.assert_close(before[:same], after[:same], atol=1e-6, rtol=0)
        assert not torch.equal(before[50], after[50])

    def test_a_frame_takes_its_own_row(self, encoder):
        rows, stream = encoder.encode(noise(1.0)), encoder.stream(ArrayWaveform(noise(1.0)))
        torch.testing.assert_close(audio_windows(stream, [0.0, 0.4, 9.0]), rows[[0, 20, 49]], atol=1e-5, rtol=0)


@pytest.mark.parametrize("samples", [1, 160, 399, 1600])
def test_audio_shorter_than_a_window(whisper, samples):
    waveform = noise(0.1)[:samples]
    for encoder in (whisper, HubertAudioEncoder(small_waveform_network("hubert"))):
        windows = audio_windows(encoder.stream(ArrayWaveform(waveform)), [0.0, 0.04, 5.0])
        assert windows.shape == (3, 30, 16)
        assert torch.isfinite(windows).all()
