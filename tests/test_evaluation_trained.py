"""Critics that were really trained, on drawn mouths for some seconds, find sound that was moved and sound that is not
theirs, on speakers they never saw. SyncNet v2 is nobody's to train here: its weights are the user's."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from data_talkers import talker

from latentsync.config import load_config
from latentsync.data.crops import ClipCrops
from latentsync.evaluation.sync import protocols
from latentsync.evaluation.sync.critic import Talk
from latentsync.evaluation.sync.judgement import judge
from latentsync.evaluation.sync.stable_syncnet import StableSyncNetCritic
from latentsync.evaluation.sync.talks import prepared_talk
from latentsync.evaluation.sync.unisync import UniSyncCritic
from latentsync.evaluation.sync.vectors import VectorCritic
from latentsync.training.sync import stable_syncnet, unisync

BATCH = 32
UNISYNC = [
    "visual.size=32", "network.channels=8", "network.width=32", "network.trunk={widths: [16], residuals: [0]}",
    "network.pictures={widths: [8], strides: [[2, 4]], residuals: [0]}",
    "network.mel={widths: [8], strides: [[2, 4]], residuals: [0]}", "network.numbers={hidden: 16, residuals: 0}",
    "loss.form=bce", "pairs={negative_distance: 2, cross_speaker: 0.0, changed_looks: 0.0, crossed: true}",
]  # fmt: skip
STABLE_SYNCNET = [
    "input.size=16", "network.visual_encoder.block_out_channels=[32,32,32,128]",
    "network.visual_encoder.downsample_factors=[[1,2],2,2,2]", "network.visual_encoder.attn_blocks=[0,0,1,0]",
    "network.audio_encoder.block_out_channels=[32,32,32,128]",
    "network.audio_encoder.downsample_factors=[3,3,3,3]", "network.audio_encoder.attn_blocks=[0,0,1,0]",
    "pairs={negative_distance: 2, changed_looks: 0.0, crossed: true}",
]  # fmt: skip


def clip(seed: int, frames: int = 60) -> ClipCrops:
    return replace(talker(seed, frames=frames, size=32), speaker=f"speaker {seed}")


def train(task: stable_syncnet.StableSyncNetTask | unisync.UniSyncTask, steps: int, rate: float) -> torch.nn.Module:
    optimizer = torch.optim.Adam(task.module.parameters(), rate)
    task.module.train()
    for step in range(steps):
        loss = task.losses(task.module, task.batch(range(BATCH * step, BATCH * (step + 1))), step)["sync"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return task.module


@pytest.fixture(scope="module", params=["UniSync rgb", "UniSync landmarks", "StableSyncNet"])
def critic(request, tmp_path_factory) -> VectorCritic:
    people = [clip(seed) for seed in range(12)]
    if request.param == "StableSyncNet":
        made = stable_syncnet.make_task(load_config("stable_syncnet_small", STABLE_SYNCNET), people[:10], people[10:])
        return StableSyncNetCritic(train(made, 40, 0.002))  # type: ignore[arg-type]
    folder = tmp_path_factory.mktemp("run")
    options = [*UNISYNC, f"visual.kind={request.param.split()[1]}", f"run_folder={folder}"]
    made = unisync.make_task(load_config("unisync_small", options), people[:10], people[10:])
    return UniSyncCritic(train(made, 80, 0.005))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def strangers() -> list[Talk]:
    return [prepared_talk(clip(seed, frames=70)) for seed in (20, 21)]


def test_sound_moved_by_k_frames_is_found_at_k(critic, strangers) -> None:
    for one, late in ((strangers[0], -7), (strangers[0], 0), (strangers[1], 5)):
        assert abs(judge(critic, [one.shifted(late)]).offset - late) <= 1


def test_own_sound_is_believed_more_than_another_s(critic, strangers) -> None:
    one, other = strangers
    own, swapped = judge(critic, [one]), judge(critic, [one.with_sound(other.waveform)])
    assert own.in_step > swapped.in_step + 0.1 and own.confidence > 1.5 * swapped.confidence


def test_both_protocols_see_that_it_has_learned(critic, strangers) -> None:
    accuracy = list(protocols.offset_accuracy([critic.scores(one) for one in strangers], critic.frames).values())
    assert accuracy[-1] > 0.6 and accuracy[-1] > accuracy[0] - 0.05, "chance is 0.1, and context helps"
    binary = protocols.binary_accuracy(critic, strangers)
    assert binary.auc > 0.8 and binary.auc_shifted > 0.7 and binary.auc_swapped > 0.7
