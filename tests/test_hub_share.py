"""Shared folders: what goes into them, what is never taken along, the published layout, and the way to the hub."""

from __future__ import annotations

import hashlib
import json

import pytest
import torch
from hub_local import MAIN, LocalHub
from hub_samples import SETTINGS, published_unet, same_tensors, small_mel_encoder, small_unet, small_vae
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save

from latentsync.config import resource
from latentsync.hub import Settings, convert, load_components, load_unet, save_folder
from latentsync.hub.card import (
    ClipCount,
    Compared,
    Curve,
    DataFacts,
    RunFacts,
    SourceShare,
    check_no_paths,
    duration,
    retold,
)
from latentsync.hub.remote import HubName
from latentsync.hub.share import Package, Wishes, pack, read_sums, sums_faults, write_shared
from latentsync.hub.upload import Target, push
from latentsync.types import CheckpointError, InputError

PICTURE = b"\x89PNG not really"
RUN = RunFacts(
    updates=1200,
    began_from="unet_stage1/export",
    version="1.2.3",
    git="abc123+",
    data=DataFacts(
        "f00d",
        ClipCount(30, 4000.0, 5),
        ClipCount(3, 59.4, None),
        [SourceShare("GRID corpus", "CC-BY-4.0", 31, 4000.0), SourceShare("all others", None, 2, 59.4)],
    ),
    comparison=[Compared("r_leak", {"mean": 0.5, "low": 0.4, "high": 0.6}, {"mean": 0.25, "low": 0.2, "high": 0.3})],
    losses=[Curve("loss", [100, 200, 1200], [0.5, 0.125, 0.25])],
    validation=[Curve("mouth_psnr", [600, 1200], [21.5, 20.0])],
    settings="resolution: 96\n",
    pictures={"losses.png": PICTURE, "examples/dub.png": PICTURE},
)


@pytest.fixture
def checkpoint(tmp_path):
    networks = {"unet": small_unet(), "vae": small_vae(), "audio_encoder": small_mel_encoder()}
    return save_folder(tmp_path / "run" / "export", **networks, settings=SETTINGS)


def test_the_card_tells_what_is_known_and_what_nobody_stated(checkpoint) -> None:
    text = pack(checkpoint, "someone/my-dub@v2", RUN, Wishes("apache-2.0")).files["README.md"].decode()
    card = ModelCard(text)
    assert (card.data.license, card.data.library_name, card.data.base_model) == ("apache-2.0", "latentsync", None)
    assert str(card) == text, "the hub reads the very text that was written"
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert "| loss | 0.25 (update 1,200) | 0.125 (update 200) |" in rows
    assert "| mouth_psnr | 20 (update 1,200) | 20 (update 1,200) | 21.5 (update 600) |" in rows
    assert "| trained on | 30 | 1 h 6 min | 5 |" in rows and "| held out | 3 | 59.4 s | not stated |" in rows
    assert "| r_leak | 0.50 [0.40, 0.60] | 0.25 [0.20, 0.30] |" in rows
    assert "| GRID corpus | CC-BY-4.0 | 31 | 1 h 6 min |" in rows
    assert "| all others | not stated | 2 | 59.4 s |" in rows
    assert "| updates | 1,200 |" in rows and "commit `abc123` with changes that are not in it" in text
    assert "The licence of 2 clips is not stated" in text and "Hash of the data: `f00d`" in text
    assert 'from_pretrained("someone/my-dub@v2")' in text and "# my-dub\n" in text
    assert "![losses.png](losses.png)" in text and "(examples/dub.png)" in text
    unet = sum(tensor.numel() for tensor in small_unet().state_dict().values())
    assert f"| `unet` | `LatentSyncUNet` | {unet / 1e6:.3g} M | F32 |" in rows
    nothing = pack(checkpoint, "x", RunFacts(), Wishes()).files["README.md"].decode()
    assert "license" not in ModelCard(nothing).data.to_dict()
    for sentence in ("Licence of the weights: not stated", "Hash of the data: not stated", "| updates | not stated |"):
        assert sentence in nothing
    assert "Licence of the sources: not stated" in nothing and "The run noted none" in nothing


@pytest.mark.parametrize(
    "text",
    [
        "see /home/anna/clips",
        '"/data/x"',
        "(~/clips/a.mp4)",
        r"C:\Users\anna",
        "file:///srv",
        "from=/srv/clips",
        "/mnt",
    ],
)
def test_paths_of_a_machine_are_found(text) -> None:
    with pytest.raises(InputError, match="line 2, names a path of your machine"):
        check_no_paths(f"fine\n{text}\n", "the card")


def test_other_slashes_are_no_paths() -> None:
    card = (resource("checkpoints") / "embedded" / "README.md").read_text(encoding="utf-8")
    check_no_paths(f"{card} </details> 1 / 2 and/or https://a.b/c/d owner/name a/b/c.py 1/2 |/| km/h", "the card")


def test_a_card_or_a_description_with_a_path_is_not_shared(checkpoint) -> None:
    data = DataFacts("", sources=[SourceShare("clips of /home/anna/videos", None, 1, 1.0)])
    with pytest.raises(InputError, match=r"model card.*\(/home/anna/videos\)"):
        pack(checkpoint, "x", RunFacts(data=data), Wishes())
    for place, told in (
        ("vae", r"vae/config\.json, line 1, names a path"),
        ("extra.bin", r"extra\.bin is neither safetensors nor"),
        ("unet", r"model\.safetensors, line 1, names a path"),
    ):
        change_listed(checkpoint, place)
        with pytest.raises(InputError, match=told):
            pack(checkpoint, "x", None, Wishes())


def change_listed(checkpoint, place: str) -> None:
    """A folder whose own list agrees with it: what is wrong is found by looking."""
    config = json.loads((checkpoint / "config.json").read_text())
    if place == "unet":
        name = "unet/diffusion_pytorch_model.safetensors"
        content = save(load_file(checkpoint / name), {"made_at": "/home/anna"})
    elif place == "vae":
        inside = json.loads((checkpoint / "vae" / "config.json").read_text())
        content, name = json.dumps({**inside, "_name_or_path": "/home/anna/vae"}).encode(), "vae/config.json"
    else:
        content, name = b"optimiser", place
        (checkpoint / "vae" / "config.json").write_text("{}")
        config["files"]["vae/config.json"] = hashlib.sha256(b"{}").hexdigest()
    (checkpoint / name).write_bytes(content)
    config["files"][name] = hashlib.sha256(content).hexdigest()
    (checkpoint / "config.json").write_text(json.dumps(config))


def test_only_what_is_listed_travels_and_it_is_listed_again(checkpoint, tmp_path) -> None:
    (checkpoint / "optimizer.bin").write_bytes(b"state")
    (checkpoint.parent / "wandb").mkdir()
    shared = tmp_path / "shared"
    assert write_shared(pack(checkpoint, "shared", RUN, Wishes()), shared)
    names = {file.relative_to(shared).as_posix() for file in shared.rglob("*") if file.is_file()}
    assert names == {
        "README.md", "SHA256SUMS", "audio_encoder/config.json", "audio_encoder/model.safetensors", "config.json",
        "examples/dub.png", "losses.png", "unet/config.json", "unet/diffusion_pytorch_model.safetensors",
        "vae/config.json", "vae/diffusion_pytorch_model.safetensors",
    }  # fmt: skip
    listed = read_sums(shared)
    assert listed == {n: hashlib.sha256((shared / n).read_bytes()).hexdigest() for n in names - {"SHA256SUMS"}}
    assert all(file.stat().st_mode & 0o044 == 0o044 for file in shared.rglob("*") if file.is_file())
    before, after = load_components(checkpoint), load_components(shared)
    assert same_tensors(before.unet.state_dict(), after.unet.state_dict()) and before.settings == after.settings
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_the_same_again_touches_nothing_and_damage_is_mended(checkpoint, tmp_path) -> None:
    package, shared = pack(checkpoint, "shared", RUN, Wishes()), tmp_path / "shared"
    assert write_shared(package, shared)
    inode = shared.stat().st_ino
    assert not write_shared(package, shared) and shared.stat().st_ino == inode
    (shared / "losses.png").write_bytes(b"other")
    assert sums_faults(shared) == [
        f"{shared / 'losses.png'} is not the file that SHA256SUMS lists (its SHA-256 differs)"
    ]
    assert write_shared(package, shared) and sums_faults(shared) == []
    (shared / "vae" / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"vae/config\.json is missing"):
        pack(shared, "again", None, Wishes())


def test_what_sharing_did_not_write_is_not_replaced(checkpoint, tmp_path) -> None:
    package = pack(checkpoint, "x", RUN, Wishes())
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "me.jpg").write_bytes(b"me")
    with pytest.raises(InputError, match="photos exists and was not made by sharing"):
        write_shared(package, tmp_path / "photos")
    with pytest.raises(InputError, match="export exists and was not made by sharing"):
        write_shared(package, checkpoint)
    shared = tmp_path / "shared"
    write_shared(package, shared)
    (shared / ".git").mkdir()
    (shared / ".git" / "HEAD").write_text("ref")
    with pytest.raises(InputError, match=r"holds \.git/HEAD, which sharing did not put there"):
        write_shared(package, shared)
    assert (tmp_path / "photos" / "me.jpg").read_bytes() == b"me"
    (tmp_path / "empty").mkdir()
    assert write_shared(package, tmp_path / "empty")


def test_a_shared_folder_is_shared_on_with_all_it_has(checkpoint, tmp_path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    write_shared(pack(checkpoint, "first", RUN, Wishes()), first)
    write_shared(pack(first, "second", None, Wishes()), second)
    one, other = read_sums(first), read_sums(second)
    assert one.keys() == other.keys()
    assert {name for name in one if one[name] != other[name]} == {"README.md", "config.json"}
    card = (first / "README.md").read_text()
    renamed = card.replace('("first")', '("second")').replace("checkpoint first ", "checkpoint second ")
    assert (second / "README.md").read_text() == renamed.replace("# first\n", "# second\n")
    assert pack(first, "first", None, Wishes()).files["config.json"] == (first / "config.json").read_bytes()
    licensed = pack(first, "first", None, Wishes(licence="mit")).files["README.md"].decode()
    assert ModelCard(licensed).data.license == "mit"
    with pytest.raises(InputError, match="shows its examples"):
        pack(first, "third", None, Wishes(examples=False))
    (first / "examples" / "dub.png").write_bytes(b"other")
    with pytest.raises(CheckpointError, match=r"examples/dub\.png is not the file"):
        pack(first, "third", None, Wishes())


def test_a_folder_without_a_run_keeps_what_was_written_of_it(checkpoint, tmp_path) -> None:
    plain = pack(checkpoint, "x", None, Wishes()).files["README.md"].decode()
    assert "LatentSync checkpoint with audio_encoder, unet, vae, trained for face crops of 96 px" in plain
    written = "---\nlicense: mit\n---\n# Mine\n\nBy hand.\n"
    unet = save_folder(tmp_path / "mine", unet=small_unet(), settings=SETTINGS, card=written)
    assert pack(unet, "x", None, Wishes()).files["README.md"].decode() == written


def test_the_published_layout_beside_it_loads_as_the_same_network(tmp_path) -> None:
    torch.save({"state_dict": published_unet()}, tmp_path / "theirs.pt")
    checkpoint = convert(tmp_path / "theirs.pt", tmp_path / "ours")
    shared, again = tmp_path / "shared", tmp_path / "again"
    for place in (shared, again):
        write_shared(pack(checkpoint, "shared", RUN, Wishes(published=True)), place)
    assert read_sums(shared) == read_sums(again), "the same bytes every time"
    content = torch.load(shared / "latentsync_unet.pt", weights_only=True)
    assert content["global_step"] == 1200 and same_tensors(content["state_dict"], published_unet())
    assert same_tensors(load_unet(shared / "latentsync_unet.pt").state_dict(), load_unet(shared).state_dict())
    assert "`latentsync_unet.pt` holds the same weights" in (shared / "README.md").read_text()
    assert pack(checkpoint, "x", RUN, Wishes(published=True)).sizes()["latentsync_unet.pt"] > 0
    other = save_folder(tmp_path / "other", unet=small_unet(), settings=Settings())
    with pytest.raises(CheckpointError, match="a published file cannot say that"):
        pack(other, "x", RUN, Wishes(published=True))


@pytest.fixture
def hub(tmp_path, monkeypatch) -> LocalHub:
    return LocalHub(tmp_path / "hub").put_in_place(monkeypatch)


def on_hub(name: str = "someone/dub", revision: str | None = None, **options) -> Target:
    return Target(HubName(name, revision), **options)


def package_of(checkpoint, run: RunFacts = RUN) -> Package:
    return pack(checkpoint, "someone/dub", run, Wishes())


def test_an_upload_is_private_and_loads_by_its_name(checkpoint, hub) -> None:
    url = push(package_of(checkpoint), on_hub(message="First"))
    assert url == "https://hub.test/someone/dub/commit/1" and hub.messages == ["First"]
    assert hub.private == {"someone/dub": True}
    loaded = load_components("someone/dub")
    assert same_tensors(loaded.unet.state_dict(), load_components(checkpoint).unet.state_dict())
    asked = {file for _, file, _ in hub.asked}
    assert "README.md" in asked and not {file for file in asked if file.endswith(".png")}, "loading leaves pictures"
    push(package_of(checkpoint), on_hub(revision="v3"))
    assert load_components("someone/dub@v3").digest == loaded.digest


def test_a_second_upload_replaces_what_the_first_left_and_nothing_else(checkpoint, hub) -> None:
    from dataclasses import replace

    push(package_of(checkpoint), on_hub())
    source = hub.source("someone/dub")
    mine = ("NOTES.md", "examples/mine.png", "unet/notes.txt")
    for name in mine:
        (source / name).write_text("mine")
    push(package_of(checkpoint, replace(RUN, pictures={"losses.png": PICTURE})), on_hub())
    names = set(hub.list_repo_files("someone/dub", revision=MAIN))
    assert "examples/dub.png" not in names and {*mine, ".gitattributes", "losses.png"} <= names
    assert sums_faults(source) == []


def test_a_card_retold_keeps_words_and_licence() -> None:
    metadata, pictures = "---\nlicense: mit\ntags: [x]\n---\n", "![losses](losses.png)\n"
    card = f"{metadata}\n# Anna\n\nTrained on **two** clips.\n\n{pictures}\n## Limits\n"
    assert retold(card) == "Licence of the weights: mit.\n\nTrained on **two** clips.\n\n\n## Limits"
    assert retold("# Plain\n\nWords.\n") == "Words."


def test_other_peoples_repositories_and_public_ones_are_left_alone(checkpoint, hub) -> None:
    hub.source("someone/cats").mkdir(parents=True)
    (hub.source("someone/cats") / "cat.jpg").write_bytes(b"cat")
    hub.private["someone/cats"] = True
    with pytest.raises(InputError, match=r"someone/cats holds cat\.jpg and was not made by sharing"):
        push(package_of(checkpoint), on_hub("someone/cats"))
    hub.private["someone/cats"] = False
    with pytest.raises(InputError, match="someone/cats is public on the hub: give --public"):
        push(package_of(checkpoint), on_hub("someone/cats"))
    assert hub.messages == []
    push(package_of(checkpoint), on_hub("someone/all", public=True))
    assert hub.private["someone/all"] is False


def test_what_the_hub_says_is_one_sentence(checkpoint, hub, monkeypatch) -> None:
    def refuse(**_):
        raise ConnectionError("403 Forbidden:\n you may not")

    monkeypatch.setattr(hub, "upload_folder", refuse)
    with pytest.raises(InputError, match=r"could not be uploaded \(403 Forbidden: you may not\): log in with"):
        push(package_of(checkpoint), on_hub())
    hub.offline = True
    with pytest.raises(InputError, match="HF_HUB_OFFLINE is set"):
        push(package_of(checkpoint), on_hub())


def test_lengths_in_words() -> None:
    assert [duration(s) for s in (3.25, 61, 3599.9, 7325)] == ["3.2 s", "1 min 1 s", "1 h 0 min", "2 h 2 min"]
