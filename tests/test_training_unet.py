"""The UNet's training: resumes bit for bit with every loss, trains what it should, ends in a checkpoint that dubs."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from training_task import lines
from training_unet import (
    RESOLUTION,
    clip,
    options,
    stage2,
    write_clips,
    write_material,
    write_unisync,
)

from latentsync.config import load_config
from latentsync.data.manifest import ManifestEntry, write_manifest
from latentsync.diffusion.conditioning import steady_context
from latentsync.hub import load_components
from latentsync.hub.loras import LoraCard, save_lora
from latentsync.training.loop.recipe import train
from latentsync.training.loop.runner import BadSample
from latentsync.training.unet.build import build, make_task, read_clips
from latentsync.training.unet.parts import add_lora, choose_parts, merged
from latentsync.training.unet.task import UNetTask
from latentsync.types import InputError

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    return write_material(tmp_path_factory.mktemp("unet"))


def task_of(config) -> UNetTask:
    task, _ = build(config)
    assert isinstance(task, UNetTask)
    task.prepare(torch.device("cpu"))
    return task


def test_both_stages_end_in_a_checkpoint_that_dubs(material) -> None:
    from latentsync import DubbingPipeline

    first = train(options(material), build)
    start, run = f"start_from={first / 'export'}", f"run_folder={material / 'run2'}"
    second = train(stage2(material, start, run, "run.gradient_checkpointing=true", "run.precision=bf16"), build)
    assert {"loss/noise", "loss/sync", "loss/trepa"} <= set(lines(second)[0])
    assert {"validation/audio_gain", "validation/mouth_psnr", "validation/sync"} <= set(lines(second)[-1])
    assert (second / "validation" / "step_00000002" / "truth_and_dub.mp4").stat().st_size > 500
    before, after = (load_components(folder / "export") for folder in (first, second))
    assert after.settings.resolution == RESOLUTION and after.unet.config["temporal"] == "decoder"
    trained = {
        name
        for name, tensor in before.unet.state_dict().items()
        if not torch.equal(tensor, after.unet.state_dict()[name])
    }
    assert trained and all(".attn2." in name for name in trained)
    assert any(
        p.abs().sum() > 0
        for name, p in after.unet.named_parameters()
        if name.endswith("motion_modules.0.proj_out.weight")
    )
    assert "held-out mouth_psnr" in (second / "export" / "README.md").read_text()
    pipeline = DubbingPipeline.from_pretrained(second / "export", device="cpu")
    assert pipeline is not None


def test_on_a_processor_nothing_is_compiled(material, monkeypatch) -> None:
    compiled: list[torch.nn.Module] = []
    monkeypatch.setattr(torch.nn.Module, "compile", compiled.append)
    with pytest.warns(UserWarning, match="compiled convolutions no gradient .* trains uncompiled"):
        task_of(options(material, "compiled=true"))
    assert compiled == []


def test_a_killed_stage_2_run_gives_the_same_losses_bit_for_bit(material, monkeypatch) -> None:
    def config(name):
        return stage2(material, f"run_folder={material / name}", "run.steps=4", "run.gradient_accumulation=2")

    train(config("whole"), build)
    step_losses = UNetTask.losses

    def killed(self, module, batch, step):
        if step == 3:
            raise KeyboardInterrupt
        return step_losses(self, module, batch, step)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(UNetTask, "losses", killed)
        train(config("killed"), build)
    train(config("killed"), build)
    assert lines(material / "killed") == lines(material / "whole")
    whole, again = (load_components(material / name / "export").unet.state_dict() for name in ("whole", "killed"))
    assert all(torch.equal(tensor, again[name]) for name, tensor in whole.items())


@pytest.mark.parametrize("critic", ["stable_syncnet", "unisync"])
def test_every_loss_reaches_the_network_and_sync_only_where_there_is_sound(material, critic: str) -> None:
    chosen = [f"sync_critic={critic}"]
    if critic == "unisync":
        chosen.append(f"losses.sync_critic={write_unisync(material / 'critics' / 'unisync')}")
    weights = ["losses.min_snr=5", "weights.noise=0", "weights.trepa=0", "weights.sync=1"]
    task = task_of(stage2(material, *weights, *chosen))
    for module in task.module.modules():
        if isinstance(module, torch.nn.Linear) and module.weight.abs().sum() == 0:
            torch.nn.init.normal_(module.weight, std=0.1)
    batch = task.batch([0, 1])
    losses = {}
    for heard in (torch.ones(2), torch.tensor([1.0, 0.0])):
        losses[heard.sum().item()] = task.losses(task.module, {**batch, "heard": heard}, 0)
    assert set(losses[2.0]) == {"noise", "sync"}
    assert losses[1.0]["sync"] != losses[2.0]["sync"]
    losses[2.0]["sync"].backward()
    reached = [p for p in task.module.unet.parameters() if p.requires_grad]
    assert reached and all(p.grad is not None and p.grad.isfinite().all() for p in reached)
    assert any(p.grad.abs().sum() > 0 for p in reached)  # type: ignore[union-attr]
    assert all(p.grad is None for p in task.frozen.vae.parameters())


def test_a_silent_window_hears_nothing(material) -> None:
    task = task_of(options(material))
    batch = task.batch([0, 1])
    other = {**batch, "mel": batch["mel"].flip(0)}
    silent, heard = torch.zeros(2), torch.ones(2)
    without, again = (task.losses(task.module, {**b, "heard": silent}, 0)["noise"] for b in (batch, other))
    with_audio = task.losses(task.module, {**other, "heard": heard}, 0)["noise"]
    assert torch.equal(without, again) and not torch.equal(again, with_audio)


def test_encoding_each_batch_anew_gives_what_was_cached(material) -> None:
    cached, anew = (task_of(options(material, f"data.cache_latents={value}")) for value in ("true", "false"))
    kept, made = (task.conditions(task.batch([0, 1, 2])) for task in (cached, anew))
    for expected, found in zip(kept, made, strict=True):
        assert expected.shape == found.shape == (3, 4, 16, 8, 8)
        torch.testing.assert_close(found, expected, atol=0.05, rtol=0.05)  # the cache encodes in bf16


def test_the_loss_is_that_of_the_velocity_with_the_kept_surroundings_weighed_down(material) -> None:
    """As the embedded recipe wants it; the velocity is that of diffusers' schedule."""
    changes = ("scheduler.prediction_type=v_prediction", "scheduler.timestep_spacing=trailing")
    task = task_of(options(material, *changes, "losses.kept_weight=0.05"))
    batch, schedule = task.batch([0, 1]), task.frozen.schedule
    loss = task.losses(task.module, batch, 0)["noise"]
    latents, masked, reference = task.conditions(batch)
    noisy = schedule.add_noise(latents, batch["noise"], batch["timesteps"])  # type: ignore[arg-type]
    keep = (1 - task.frozen.latent_mask).expand(2, 1, 16, 8, 8)
    shown = torch.cat([noisy, keep, masked, reference], dim=1)
    predicted = task.module(shown, batch["timesteps"], batch, batch["heard"])
    error = predicted - schedule.get_velocity(latents, batch["noise"], batch["timesteps"])  # type: ignore[arg-type]
    inside = task.frozen.latent_mask.expand_as(error) == 1
    squares, places = (error**2).flatten(), torch.where(inside, 1.0, 0.05).flatten()
    torch.testing.assert_close(loss, (squares * places).sum() / places.sum())
    assert schedule.config["timestep_spacing"] == "trailing" and 0 < inside.float().mean() < 1


def test_a_clip_is_seen_with_as_many_other_looks_as_its_group_is(material) -> None:
    def seen(looks: str) -> dict[str, int]:
        windows = task_of(options(material, f"data.looks={looks}", "data.most_frames=33")).training
        assert {len(one.clip) for one in windows.clips} == {33}
        return Counter(one.name for one in windows.clips)

    assert seen("{a: 2, others: 1}") == {"a_1": 3, "b_1": 2}
    assert seen("{a: 1}") == {"a_1": 2, "b_1": 1}
    assert seen("1") == {"a_1": 2, "b_1": 2}
    assert seen("null") == {"a_1": 1, "b_1": 1}


def test_the_network_is_shown_the_context_that_dubbing_shows(material) -> None:
    """What the UNet is given in training and in validation is steadied as the exported checkpoint asks dubbing to."""
    plain, steady = (task_of(options(material, f"data.context_steadiness={frames}")) for frames in (0, 4))
    batch = steady.batch([0, 1])
    shown: list[torch.Tensor] = []
    steady.module.unet.register_forward_pre_hook(lambda unet, arguments: shown.append(arguments[0][:, 5:9]))
    steady.losses(steady.module, batch, 0)
    assert torch.equal(shown[0], steady_context(batch["masked"], 4.0))
    latents, masked, reference = plain.conditions(batch)
    assert torch.equal(masked, batch["masked"]) and not torch.equal(masked, shown[0])
    assert all(torch.equal(a, b) for a, b in zip((latents, reference), steady.conditions(batch)[::2], strict=True))
    held_out = steady.held_out.sample(0)["masked"][None]  # type: ignore[union-attr]
    shown.clear()
    with torch.no_grad():
        steady.validate(steady.module)
    assert torch.equal(shown[0], steady_context(held_out, 4.0))
    torch.testing.assert_close(shown[-1][:1], steady_context(held_out, 4.0))  # of the dub
    assert [task.settings.defaults["context_steadiness"] for task in (plain, steady)] == [0, 4]


def test_a_sample_hangs_on_its_number_and_a_bad_clip_is_named(material) -> None:
    config = stage2(material, "windows.swapped_context=0.5", "data.looks=1")
    training, held_out, _ = read_clips(config)
    torn = replace(training[0], name="torn", waveform=np.full_like(training[0].waveform, np.nan))
    tasks = [make_task(config, [training[1]], held_out), make_task(config, [torn], [])]
    for task in tasks:
        task.prepare(torch.device("cpu"))
    alone, beside = tasks[0].batch([7]), tasks[0].batch([3, 7])
    for name, tensor in alone.items():
        assert torch.equal(tensor[0], beside[name][1]), name
    with pytest.raises(BadSample, match=r"torn: .*holds no finite numbers"):
        tasks[1].batch([0])


def test_parts_are_chosen_by_name(material) -> None:
    unet = task_of(options(material, "unet.temporal=all")).module.unet
    choose_parts(unet, "motion_modules+attentions")
    trained = {name for name, parameter in unet.named_parameters() if parameter.requires_grad}
    assert trained == {
        name for name, _ in unet.named_parameters() if ".motion_modules." in name or ".attentions." in name
    }
    choose_parts(unet, "all")
    assert all(parameter.requires_grad for parameter in unet.parameters())
    with pytest.raises(InputError, match="no parameter of the UNet has 'attn9'"):
        choose_parts(unet, "motion_modules+attn9")


def test_lora_begins_as_nothing_and_merges_into_the_weights(material, tmp_path) -> None:
    from safetensors.torch import load_file

    task = task_of(options(material))
    sample, tokens = torch.randn(1, 13, 2, 8, 8), torch.randn(2, 2, 8)
    unet = task.module.unet
    before = unet(sample, 5, tokens).sample
    plain = set(unet.state_dict())
    add_lora(unet, rank=2, alpha=4.0)
    torch.testing.assert_close(unet(sample, 5, tokens).sample, before)
    trained = [parameter for parameter in unet.parameters() if parameter.requires_grad]
    assert 0 < sum(map(torch.numel, trained)) < 0.1 * sum(p.numel() for p in unet.parameters())
    with torch.no_grad():
        for parameter in trained:
            parameter.normal_(std=0.3)
    changed = unet(sample, 5, tokens).sample
    whole = merged(unet)
    assert set(whole.state_dict()) == plain
    torch.testing.assert_close(whole(sample, 5, tokens).sample, changed, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(changed, before, atol=1e-3)
    kept = load_file(save_lora(unet, tmp_path / "kept", LoraCard("a", "b", "c")) / "adapter_model.safetensors")
    assert sum(tensor.numel() for tensor in kept.values()) == sum(map(torch.numel, trained))


def test_a_frozen_encoder_is_listened_to_through_the_cache(material) -> None:
    learns, frozen = (
        task_of(options(material, f"audio_encoder.rate={rate}", "windows.changed_voices=0")) for rate in (1.0, 0.0)
    )
    assert frozen.module.encoder is None and learns.module.encoder is not None
    assert len(list((material / "run" / "cache" / "audio").iterdir())) >= 3
    unet = frozen.module.unet
    unet.load_state_dict(learns.module.unet.state_dict())
    losses = [task.losses(task.module, task.batch([0, 1]), 0)["noise"] for task in (learns, frozen)]
    torch.testing.assert_close(losses[0], losses[1], atol=1e-3, rtol=1e-3)  # features are kept in half precision


def test_a_video_network_of_other_windows_is_told_before_clips_are_encoded(material) -> None:
    with pytest.raises(InputError, match=r"videomae looks at 16 frames.* windows\.frames is 8: .*windows\.frames=16"):
        build(stage2(material, "weights.sync=0", "windows.frames=8"))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (["data.crops=null"], r"no data: give data\.manifest"),
        (["audio_encoder.mel=null"], "the UNet needs an audio encoder"),
        (["unet.cross_attention_dim=16"], "tokens of width 8 and the UNet listens to 16"),
        (["weights.sync=1"], r"give losses\.sync_critic, weights of a stable_syncnet"),
        (["weights.sync=1", "sync_critic=unisync"], r"train/unisync\.py makes one"),
        (["weights.sync=1", "sync_critic=syncnet"], "choose one of stable_syncnet, unisync"),
        (["weights.trepa=1"], r"give losses\.trepa_critic"),
        (["weights.perceptual=1"], r"give losses\.perceptual_backbone"),
        (["trained=motion_modules"], "no parameter of the UNet has 'motion_modules'"),
        (["data.cache_latents=false", "windows.swapped_context=0.5"], "needs data.cache_latents=true"),
    ],
)
def test_what_does_not_fit_says_what_to_do(material, changes, told) -> None:
    with pytest.raises(InputError, match=told):
        build(options(material, *changes))


def test_a_unisync_of_other_representations_cannot_judge_frames(material) -> None:
    of_points = write_unisync(material / "critics" / "points", visual={"kind": "landmarks", "width": 956})
    chosen = ["weights.sync=1", "sync_critic=unisync", f"losses.sync_critic={of_points}"]
    with pytest.raises(InputError, match=r"looks at landmarks and listens to mel.*visual\.kind=rgb audio\.kind=mel"):
        build(options(material, *chosen))
    of_frames = write_unisync(material / "critics" / "unisync")
    with pytest.raises(InputError, match=r"windows\.frames is 4, and the critic .* looks at 5"):
        build(options(material, *chosen[:2], f"losses.sync_critic={of_frames}", "windows.frames=4"))


def test_clips_that_cannot_be_used_are_named(material) -> None:
    config = options(material)
    short, faceless, mute = (
        clip("short", frames=20),
        clip("faceless"),
        replace(clip("mute"), waveform=np.zeros(0, np.float32)),
    )
    faceless.landmarks[::10] = np.nan
    with pytest.warns(
        UserWarning, match="3 of 4 clips are left out: short has 20 frames.*faceless shows.*mute has no sound"
    ):
        make_task(config, [clip("good"), short, faceless, mute], []).prepare(torch.device("cpu"))
    with pytest.raises(InputError, match="crops of 32 px where resolution is 64"):
        make_task(options(material, "resolution=64"), [clip("small")], []).prepare(torch.device("cpu"))


def test_a_manifest_becomes_a_task(material) -> None:
    names = {"a_1": "train", "b_1": "train", "c_1": "validation"}
    entries = [
        ManifestEntry(f"{name}.mp4", "0", 0.0, 1.6, 25.0, 40, name[0], 0.0, 5.0, 1.0, split, f"crops/{name}", "mel.npy")
        for name, split in names.items()
    ]
    np.save(material / "mel.npy", np.zeros((80, 129), np.float32))
    written = write_manifest(material / "manifest.jsonl", entries, {})
    task, data_hash = build(options(material, f"data.manifest={written.path}", "data.crops=null"))
    assert data_hash == written.digest and isinstance(task, UNetTask)
    task.prepare(torch.device("cpu"))
    assert [len(windows.clips) for windows in (task.training, task.held_out)] == [2, 1]  # type: ignore[union-attr]
    assert {clip.clip.speaker for clip in task.training.clips} == {"a", "b"}


def test_runs_on_one_manifest_share_what_is_encoded(material, monkeypatch) -> None:
    names = ("a_1", "b_1", "c_1")
    entries = [
        ManifestEntry(name, "0", 0.0, 1.6, 25.0, 40, name, 0.0, 5.0, 1.0, "train", f"crops/{name}", "mel.npy")
        for name in names
    ]
    np.save(material / "mel.npy", np.zeros((80, 129), np.float32))
    written = write_manifest(material / "manifest.jsonl", [*entries, replace(entries[0], split="validation")], {})
    given = [f"data.manifest={written.path}", "data.crops=null"]
    build(options(material, *given))[0].prepare(torch.device("cpu"))
    assert len(list((material / "features" / "latents").iterdir())) == len(names)
    monkeypatch.setattr("latentsync.data.cached.encoded", lambda *_: pytest.fail("this was encoded before"))
    build(options(material, f"run_folder={material / 'stage2'}", *given))[0].prepare(torch.device("cpu"))


def test_a_checkpoint_of_another_shape_is_refused(material) -> None:
    exported = train(options(material, f"run_folder={material / 'other'}", "run.steps=1"), build) / "export"
    with pytest.raises(InputError, match=r"UNet of .* has another shape: layers_per_block is 1 and 2 is asked for"):
        build(options(material, f"start_from={exported}", "unet.layers_per_block=2"))
    with pytest.raises(InputError, match="prediction_type is 'epsilon' and 'v_prediction' is asked for"):
        build(options(material, f"start_from={exported}", "scheduler.prediction_type=v_prediction"))
    with pytest.raises(InputError, match=r"mel encoder of .* has another shape: levels is 2 and 4 is asked for"):
        build(options(material, f"start_from={exported}", "audio_encoder.mel={width: 8, levels: 4, hidden: 8}"))


def test_temporal_modules_come_from_where_they_were_learned(material, tmp_path) -> None:
    first, other = (task_of(options(material, f"unet.temporal={where}")) for where in ("none", "all"))
    for name, parameter in other.module.unet.named_parameters():
        torch.nn.init.normal_(parameter, std=0.1 if ".motion_modules." in name else 0.2)
    for task, name in ((first, "first"), (other, "other")):
        task.export(task.module, tmp_path / name)
    start = (f"start_from={tmp_path / 'first'}", "unet.temporal=decoder")
    unet = task_of(options(material, *start, f"temporal_from={tmp_path / 'other'}")).module.unet
    for name, tensor in unet.state_dict().items():
        source = other if ".motion_modules." in name else first
        assert torch.equal(tensor, source.module.unet.state_dict()[name]), name
    with pytest.raises(InputError, match=r"temporal_from=.*first: 0 of the \d+ temporal tensors"):
        build(options(material, *start, f"temporal_from={tmp_path / 'first'}"))


def test_a_dry_run_prints_and_encodes_nothing(material, capsys) -> None:
    folder = material / "dry"
    train(options(material, f"run_folder={folder}"), build, dry_run=True)
    assert "updates: 2 of 2 samples" in capsys.readouterr().out and not folder.exists()


def test_a_video_network_is_pretrained_and_used(tmp_path) -> None:
    from latentsync.hub.videomae import load_video_features
    from latentsync.training.videomae import MaskedVideoTask, build

    write_clips(tmp_path / "crops")
    ramp = np.broadcast_to(np.linspace(0, 255, RESOLUTION).astype(np.uint8)[:, None], (40, RESOLUTION, RESOLUTION, 3))
    for path in (tmp_path / "crops").glob("*.crops.npy"):
        np.save(path, ramp)  # every patch gets brighter from left to right: easily learned
    changes = [
        f"run_folder={tmp_path / 'run'}", f"data.crops={tmp_path / 'crops'}", "data.validation=[c_1]",
        "network={size: 16, patch: 4, width: 16, layers: 1, heads: 2}", "hidden=0.75", "changed_looks=0",
        "run.steps=40", "run.batch=2", "run.learning_rate=0.02", "run.warmup=0", "run.log_every=1",
    ]  # fmt: skip
    config = load_config("videomae", changes)
    folder = train(config, build)
    noted = [entry["loss"] for entry in lines(folder) if "loss" in entry]
    assert noted[-1] < 0.5 * noted[0]
    assert lines(folder)[-1]["validation/reconstruction"] < 0.5 * noted[0]
    assert load_video_features(folder / "export")(torch.rand(1, 16, 3, 16, 16)).shape == (1, 16)
    np.save(tmp_path / "crops" / "b_1.crops.npy", ramp[:20])  # too short for two windows
    with pytest.warns(UserWarning, match="1 of 2 clips are left out: b_1 has 20 frames"):
        task, _ = build(config)
    assert isinstance(task, MaskedVideoTask)
    hidden = task.batch([4])["hidden"].view(8, 16)  # tubes: the same places of every frame
    assert hidden.sum() == 0.75 * 8 * 16 and (hidden == hidden[0]).all()
