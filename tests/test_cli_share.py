"""`latentsync share` on a real, tiny run: the folder dubs with the same bits, says what it came from, and no more."""

from __future__ import annotations

import json
import shutil
import subprocess
import warnings
from pathlib import Path

import pytest
from hub_local import LocalHub
from omegaconf import OmegaConf
from pipelines_tiny import decoded
from training_unet import options, write_clips, write_vae

from latentsync import DubbingPipeline
from latentsync.cli import main
from latentsync.hub import load_components
from latentsync.hub.share import read_sums
from latentsync.training.loop.recipe import train
from latentsync.training.unet.build import build
from latentsync.types import CheckpointError

LICENCES = "source\tlicence\torigin\na_*\tCC-BY-4.0\tThe A corpus\n"


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A finished run with everything that a run leaves behind, in a folder with a telling name."""
    folder = tmp_path_factory.mktemp("home of anna")
    write_clips(folder / "crops")
    write_vae(folder / "vae")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = train(options(folder, "run.validate_every=1"), build)
    (run / "wandb").mkdir()
    (run / "wandb" / "debug.log").write_text(str(folder))
    (folder / "licences.tsv").write_text(LICENCES)
    return run


@pytest.fixture
def run(trained, tmp_path) -> Path:
    """The same, yours to change."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def share(capsys, *words: object) -> tuple[int, str, str]:
    status = main(["share", *map(str, words)])
    told = capsys.readouterr()
    return status, told.out, told.err


def names(folder: Path) -> set[str]:
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


def test_a_shared_run_dubs_bit_for_bit_and_tells_nothing_of_this_machine(
    trained, tmp_path, dubbing_material, capsys, one_thread
) -> None:
    shared = tmp_path / "my-dub"
    table = trained.parent / "licences.tsv"
    status, out, err = share(capsys, trained, "--to", shared, "--source-licences", table, "--weights-licence", "mit")
    assert status == 0 and err == "" and f": {shared}" in out
    assert names(shared) == {
        "README.md", "SHA256SUMS", "audio_encoder/config.json", "audio_encoder/model.safetensors", "config.json",
        "examples/truth_and_dub.png", "losses.png", "unet/config.json", "unet/diffusion_pytorch_model.safetensors",
        "vae/config.json", "vae/diffusion_pytorch_model.safetensors",
    }  # fmt: skip
    if shutil.which("sha256sum"):
        subprocess.run(["sha256sum", "-c", "--strict", "--quiet", "SHA256SUMS"], cwd=shared, check=True)
    for file in shared.rglob("*"):
        content = file.read_bytes() if file.is_file() else b""
        assert b"home of anna" not in content and str(tmp_path).encode() not in content, file
    made = []
    for place in (trained / "export", shared):
        pipeline = DubbingPipeline.from_pretrained(place, device="cpu")
        pipeline.dub(dubbing_material.video, dubbing_material.audio, tmp_path / "out.mp4", progress=False, seed=4)
        made.append((tmp_path / "out.mp4").read_bytes())
    assert made[0] == made[1]
    assert (decoded(tmp_path / "out.mp4") != decoded(dubbing_material.video)).any(), "the mouth was made anew"


def test_the_card_of_a_run(trained, tmp_path, capsys) -> None:
    table = trained.parent / "licences.tsv"
    share(capsys, trained, "--to", tmp_path / "my-dub", "--source-licences", table)
    card = (tmp_path / "my-dub" / "README.md").read_text(encoding="utf-8")
    record = json.loads((trained / "run.json").read_text())
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert f"| loss | {losses[-1]:.4g} (update 2) | {min(losses):.4g} (update" in card
    psnr = [line["validation/mouth_psnr"] for line in lines if "validation/mouth_psnr" in line]
    assert len(psnr) == 2 and f"| mouth_psnr | {psnr[-1]:.4g} (update 2) |" in card
    assert f"Hash of the data: `{record['data']}`" in card
    assert "| trained on | 2 | 3.2 s | not stated |" in card and "| held out | 1 | 1.6 s | not stated |" in card
    assert "| The A corpus | CC-BY-4.0 | 1 | 1.6 s |" in card and "| all others | not stated | 2 | 3.2 s |" in card
    assert "| updates | 2 |" in card and "| began from | new weights |" in card
    assert "Licence of the weights: not stated" in card and "license" not in card.partition("---\n\n")[0]
    assert record["git"].rstrip("+") in card and f"latentsync {record['version']}" in card
    assert "run_folder: run\n" in card and "  crops: crops\n" in card and "learning_rate: 0.001" in card
    assert "Crops are 32 px" in card and "The licence of 2 clips is not stated" in card


def test_sharing_twice_changes_nothing_and_a_tampered_file_is_found(trained, tmp_path, capsys, monkeypatch) -> None:
    from latentsync.cli import checks

    shared = tmp_path / "my-dub"
    share(capsys, trained, "--to", shared)
    before = {name: (shared / name).stat().st_mtime_ns for name in names(shared)}
    status, out, _ = share(capsys, trained, "--to", shared)
    assert status == 0 and "as it was already" in out
    assert {name: (shared / name).stat().st_mtime_ns for name in names(shared)} == before
    monkeypatch.setattr(checks, "GROUPS", {})
    assert main(["doctor", "--checkpoint", str(shared)]) == 0
    for name in ("losses.png", "unet/diffusion_pytorch_model.safetensors"):
        content = bytearray((shared / name).read_bytes())
        content[-1] ^= 1
        (shared / name).write_bytes(content)
        capsys.readouterr()
        assert main(["doctor", "--checkpoint", str(shared)]) == 1
        assert f"{name} is not the file that" in capsys.readouterr().out
    with pytest.raises(CheckpointError, match="unet/diffusion"):
        DubbingPipeline.from_pretrained(shared, device="cpu")


def test_a_dry_run_lists_what_the_real_one_writes_and_writes_nothing(run, tmp_path, capsys) -> None:
    before = names(tmp_path)
    _, out, _ = share(capsys, run, "--to", tmp_path / "new" / "my-dub", "--dry-run")
    assert names(tmp_path) == before and "nothing was written" in out
    listed = {line.split()[2]: line.split()[0] for line in out.splitlines() if " MB  " in line}
    (tmp_path / "new").mkdir()
    share(capsys, run, "--to", tmp_path / "new" / "my-dub")
    written = tmp_path / "new" / "my-dub"
    assert listed == {name: f"{(written / name).stat().st_size / 1e6:.3f}" for name in read_sums(written)}


def test_pictures_of_people_stay_at_home_where_asked(run, tmp_path, capsys) -> None:
    share(capsys, run, "--to", tmp_path / "my-dub", "--no-examples")
    assert not [name for name in names(tmp_path / "my-dub") if name.startswith("examples")]
    assert "Examples" not in (tmp_path / "my-dub" / "README.md").read_text()


def test_the_export_folder_of_a_run_is_the_run(run, tmp_path, capsys) -> None:
    for source, place in ((run, "one"), (run / "export", "other")):
        (tmp_path / place).mkdir()
        share(capsys, source, "--to", tmp_path / place / "my-dub")
    assert read_sums(tmp_path / "one" / "my-dub") == read_sums(tmp_path / "other" / "my-dub")


def test_data_that_changed_or_went_are_not_counted(run, capsys) -> None:
    config = OmegaConf.load(run / "config.yaml")
    for folder, told in (("gone", "could not be read"), ("changed", "have changed since the run")):
        if folder == "changed":
            write_clips(run.parent / folder, ("a_1", "c_1"))
        config.data.crops = str(run.parent / folder)
        OmegaConf.save(config, run / "config.yaml")
        status, _, err = share(capsys, run, "--to", run.parent / f"shared-{folder}")
        card = (run.parent / f"shared-{folder}" / "README.md").read_text()
        assert status == 0 and told in err and told in card and "| trained on" not in card
        assert "Licence of the sources: not stated" in card


def refused(capsys, *words: object) -> str:
    status, _, err = share(capsys, *words)
    assert status == 2 and err.startswith("latentsync: ") and len(err.splitlines()) == 1, err
    return err


def test_what_cannot_be_shared_says_what_to_do(run, tmp_path, capsys, monkeypatch) -> None:
    out = tmp_path / "my-dub"
    assert "nowhere' is neither a run folder" in refused(capsys, tmp_path / "nowhere", "--to", out)
    for place in (run, run.parent, run / "export"):
        assert "which is being shared" in refused(capsys, run, "--to", place)
    assert "validation exists and was not made" in refused(capsys, run, "--to", run / "validation")
    assert "licences.txt' is no .tsv" in refused(capsys, run, "--to", out, "--source-licences", "licences.txt")
    assert "--source-licences is for runs" in refused(
        capsys, shutil.copytree(run / "export", tmp_path / "alone"), "--to", out, "--source-licences", "x.tsv"
    )
    assert "--public is for the hub" in refused(capsys, run, "--to", out, "--public")
    assert "is no name of a hub repository" in refused(capsys, run, "--to", "just-a-word", "--push")
    assert "cannot say" in refused(capsys, run, "--to", out, "--published")
    (run / "export" / "config.json").rename(run / "export" / "kept")
    assert "such weights are shared by hand" in refused(capsys, run, "--to", out)
    shutil.rmtree(run / "export")
    told = refused(capsys, run, "--to", out)
    assert "no finished weights yet (2 updates are noted): give the command that trained it again" in told
    assert not out.exists()


def test_a_name_of_the_hub_goes_to_the_hub_and_a_folder_to_a_folder(run, tmp_path, capsys, monkeypatch) -> None:
    hub = LocalHub(tmp_path / "hub").put_in_place(monkeypatch)
    monkeypatch.chdir(tmp_path)
    _, out, _ = share(capsys, run, "--to", "someone/my-dub", "--dry-run")
    assert "would go to the hub as someone/my-dub, private" in out and hub.messages == []
    status, out, _ = share(capsys, run, "--to", "someone/my-dub", "--message", "Second stage", "--revision", "v2")
    assert status == 0 and "https://hub.test/someone/my-dub/commit/1" in out
    assert hub.messages == ["Second stage"] and hub.private == {"someone/my-dub": True}
    assert load_components("someone/my-dub@v2").settings.resolution == 32
    card = hub.source("someone/my-dub", "v2") / "README.md"
    assert 'from_pretrained("someone/my-dub@v2")' in card.read_text()
    (tmp_path / "someone").mkdir()
    share(capsys, run, "--to", "someone/my-dub")
    assert len(hub.messages) == 1 and (tmp_path / "someone" / "my-dub" / "config.json").is_file()
    share(capsys, tmp_path / "someone" / "my-dub", "--to", "someone/my-dub", "--push")
    assert len(hub.messages) == 2
