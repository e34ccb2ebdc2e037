"""Hub names, with a hub made of local files: revisions, listed digests, the cache, and life without a connection."""

from __future__ import annotations

import shutil

import pytest
import torch
from hub_local import MAIN, OLD, LocalHub
from hub_samples import (
    SETTINGS,
    published_unet,
    same_tensors,
    small_mel_encoder,
    small_unet,
    small_vae,
    small_waveform_encoder,
    write_whisper,
)
from huggingface_hub.errors import OfflineModeIsEnabled

from latentsync.hub import load_audio_encoder, load_components, load_unet, load_vae, remote, save_folder
from latentsync.types import CheckpointError

PUBLISHED = "ByteDance/LatentSync-1.6"
VAE = "stabilityai/sd-vae-ft-mse"


@pytest.fixture
def hub(tmp_path, monkeypatch) -> LocalHub:
    return LocalHub(tmp_path).put_in_place(monkeypatch)


@pytest.fixture
def published(hub) -> LocalHub:
    for seed, commit in ((0, MAIN), (9, OLD)):
        write_whisper(hub.source(PUBLISHED, commit) / "whisper" / "tiny.pt")
        torch.save({"state_dict": published_unet(seed)}, hub.source(PUBLISHED, commit) / "latentsync_unet.pt")
    small_vae().save_pretrained(hub.source(VAE))
    return hub


def test_a_published_name_is_composed_of_its_parts(published, recwarn):
    loaded = load_components(PUBLISHED)
    assert loaded.settings.resolution == loaded.trained_resolution == 512
    assert loaded.settings.defaults == {"num_inference_steps": 20, "guidance_scale": 1.5, "scheduler": "ddim"}
    assert loaded.settings.scheduler["prediction_type"] == "epsilon"
    assert same_tensors(loaded.vae.state_dict(), small_vae().state_dict())
    assert loaded.audio_encoder.width == 384
    assert {(repo, file) for repo, file, _ in published.asked} == {
        (PUBLISHED, "latentsync_unet.pt"),
        (PUBLISHED, "whisper/tiny.pt"),
        (VAE, "config.json"),
        (VAE, "diffusion_pytorch_model.safetensors"),
    }
    assert not [warning for warning in recwarn if warning.category is UserWarning]


def test_a_revision_is_that_revision(published):
    main, old = load_components(PUBLISHED), load_components(PUBLISHED, revision="v1")
    assert main.digest != old.digest
    assert {revision for repo, _, revision in published.asked if repo == PUBLISHED} == {MAIN, OLD}
    assert load_components(f"{PUBLISHED}@v1").digest == old.digest
    assert not same_tensors(main.unet.state_dict(), old.unet.state_dict())
    with pytest.raises(CheckpointError, match=r"LatentSync-1\.6@v7 is neither a path here nor a revision"):
        load_components(f"{PUBLISHED}@v7")


def test_a_file_that_differs_from_the_listing_is_refused(published):
    load_unet(PUBLISHED)
    for offline in (False, True):
        published.offline = offline
        blob = next((published.root / "cache" / PUBLISHED / "blobs").iterdir())
        content = bytearray(blob.read_bytes())
        content[-1] ^= 1
        blob.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"latentsync_unet\.pt is not the file that the hub lists"):
            load_unet(PUBLISHED)
        content[-1] ^= 1
        blob.write_bytes(content)
    assert load_unet(PUBLISHED)


def test_small_files_are_compared_too(published):
    load_vae(VAE)
    config = next(file for file in (published.root / "cache" / VAE / "blobs").iterdir() if len(file.name) == 40)
    config.write_text(config.read_text().replace('"latent_channels": 4', '"latent_channels": 8'))
    with pytest.raises(CheckpointError, match=r"config\.json is not the file that the hub lists"):
        load_vae(VAE)


@pytest.mark.parametrize("silence", ["offline", "unreachable"])
def test_without_a_connection_the_cache_serves(published, silence):
    digest = load_components(PUBLISHED).digest
    published.offline, published.reachable = silence == "offline", silence != "unreachable"
    assert load_components(PUBLISHED).digest == digest
    told = "HF_HUB_OFFLINE is set" if silence == "offline" else "the hub cannot be reached"
    with pytest.raises(CheckpointError, match=f"not in the local cache, and {told}.*fetch it once with a connection"):
        load_components("ByteDance/LatentSync-1.5")


def test_the_real_client_refuses_to_connect_when_offline(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    from huggingface_hub import HfApi

    with pytest.raises(OfflineModeIsEnabled):
        HfApi().model_info(PUBLISHED)
    with pytest.raises(CheckpointError, match="HF_HUB_OFFLINE is set"):
        load_unet(PUBLISHED)


def test_a_folder_of_ours_on_the_hub(hub):
    networks = {"unet": small_unet(), "vae": small_vae(), "audio_encoder": small_mel_encoder()}
    save_folder(hub.source("someone/dub"), **networks, settings=SETTINGS)
    loaded = load_components("someone/dub@main")
    assert loaded.settings.resolution == 96
    assert same_tensors(loaded.unet.state_dict(), small_unet().state_dict())
    weights = hub.source("someone/dub") / "vae" / "diffusion_pytorch_model.safetensors"
    weights.unlink()
    shutil.rmtree(hub.root / "cache")
    with pytest.raises(CheckpointError, match=r"someone/dub.* has no file vae/diffusion_pytorch_model"):
        load_components("someone/dub")


def test_other_repositories_are_refused(hub):
    hub.source("someone/cats").mkdir(parents=True)
    with pytest.raises(CheckpointError, match=r"someone/cats has no file config\.json"):
        load_unet("someone/cats")
    (hub.source("someone/cats") / "config.json").write_text('{"model_type": "cat"}')
    with pytest.raises(CheckpointError, match="neither in our format nor one of the published ones"):
        load_unet("someone/cats")
    with pytest.raises(CheckpointError, match="someone/dogs is neither a path here nor a revision"):
        load_unet("someone/dogs")


@pytest.mark.parametrize(
    ("text", "repo", "revision"),
    [("a/b", "a/b", None), ("a-1/b.c@v1", "a-1/b.c", "v1"), ("a/b@refs/pr/1", "a/b", "refs/pr/1")],
)
def test_names_are_read(text, repo, revision):
    assert remote.parse_name(text) == remote.HubName(repo, revision)
    assert str(remote.parse_name(text)) == text


@pytest.mark.parametrize("text", ["a", "/a/b", "a/b/c.pt", "a b/c", "../a/b"])
def test_paths_are_no_names(text):
    assert remote.parse_name(text) is None


def test_hubert_by_its_name_on_the_hub(hub):
    name, encoder = "facebook/hubert-tiny", small_waveform_encoder("hubert")
    encoder.module.save_pretrained(hub.source(name))
    (hub.source(name) / "tf_model.h5").write_bytes(b"not asked for")
    loaded = load_audio_encoder(name)
    assert type(loaded) is type(encoder) and same_tensors(loaded.module.state_dict(), encoder.module.state_dict())
    assert {file for _, file, _ in hub.asked} == {"config.json", "model.safetensors"}
    (hub.source(name) / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"has no file model\.safetensors"):
        load_audio_encoder(name)
    own = "someone/own-encoder"
    save_folder(hub.source(own), audio_encoder=small_mel_encoder(), settings=SETTINGS)
    assert same_tensors(load_audio_encoder(own).state_dict(), small_mel_encoder().state_dict())
