"""The manifest: what is written is read, and whatever is wrong with it is told with what to do."""

from __future__ import annotations

import json
import pickle
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from latentsync.data.arrays import stored_array, stored_arrays
from latentsync.data.manifest import ManifestEntry, read_manifest, write_manifest
from latentsync.types import InputError


def entry(folder: Path, name: str, split: str) -> ManifestEntry:
    place = folder / "clips" / name
    place.parent.mkdir(parents=True, exist_ok=True)
    frames = 4
    np.save(f"{place}.crops.npy", np.full((frames, 8, 8, 3), len(name), np.uint8))
    arrays = {"lm": np.zeros((frames, 478, 2), np.float32), "times": np.arange(frames) / 25}
    np.savez(f"{place}.npz", wav=np.zeros(640 * frames, np.float32), **arrays)
    np.save(folder / f"{name}.mel.npy", np.ones((80, 9), np.float32))
    return ManifestEntry(
        source="shards/a.tar::people/talk.mp4", source_sha256="0" * 64, start=2.0, end=2.16, fps=25.0, frames=frames,
        speaker=f"speaker of {name}", av_offset=-1.0, confidence=0.3, quality=0.6, split=split, clip=f"clips/{name}",
        mel=f"{name}.mel.npy",
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    entries = [entry(tmp_path, "one", "train"), entry(tmp_path, "three", "train"), entry(tmp_path, "ten", "validation")]
    write_manifest(tmp_path / "manifest.jsonl", entries, {"resolution": 8})
    return tmp_path


def test_what_is_written_is_read(folder: Path) -> None:
    manifest = read_manifest(folder)
    assert manifest.settings == {"resolution": 8} and [e.frames for e in manifest.entries] == [4, 4, 4]
    first, second = manifest.clips("train")
    assert (first.crops[0, 0, 0, 0], second.crops[0, 0, 0, 0]) == (3, 5) and first.crops.shape == (4, 8, 8, 3)
    assert first.speaker == "speaker of one" and first.name == "talk@2.00s-one" and first.usable.all()
    assert len(manifest.clips("validation")) == 1
    assert torch.equal(first.sync_sound.columns(2, 3), torch.ones(80, 3))
    assert first.picture_contents != second.picture_contents
    assert replace(first, crops=second.crops[:2]).picture_contents == second.crops[:2].tobytes()


def test_a_manifest_moves_with_its_folder(folder: Path) -> None:
    digest = read_manifest(folder).digest
    moved = folder.rename(folder.with_name("moved"))
    assert len(read_manifest(moved / "manifest.jsonl").clips("train")) == 2
    assert read_manifest(moved).digest == digest


def test_the_digest_changes_with_the_content(folder: Path) -> None:
    before = read_manifest(folder)
    after = write_manifest(before.path, before.entries[:2], before.settings)
    assert read_manifest(folder).digest == after.digest != before.digest


@pytest.mark.parametrize("file", ["clip.crops.npy", "clip.npz"])
def test_a_damaged_clip_is_named_and_left_out_and_many_end_it(tmp_path: Path, file: str) -> None:
    clips = [entry(tmp_path / "clip", "clip", "train"), *[entry(tmp_path, "one", "train")] * 99]
    clips[0] = replace(clips[0], clip="clip/clips/clip", mel="clip/clip.mel.npy")
    manifest = write_manifest(tmp_path / "manifest.jsonl", clips, {})
    whole = (tmp_path / "clip" / "clips" / file).read_bytes()
    (tmp_path / "clip" / "clips" / file).write_bytes(whole[:-100])
    with pytest.warns(UserWarning, match=r"1 of 100 clips are damaged: the prepared clip '.*clip' cannot be read"):
        assert len(manifest.clips("train")) == 99
    fewer = write_manifest(tmp_path / "manifest.jsonl", clips[:99], {})
    with pytest.raises(InputError, match="1 of 99 clips are damaged"):
        fewer.clips("train")


def test_more_clips_than_a_process_may_have_open_files(folder: Path) -> None:
    resource = pytest.importorskip("resource")  # not on Windows
    manifest = read_manifest(folder)
    many = write_manifest(manifest.path, [manifest.entries[0]] * 300, {})
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, limits[1]))
    try:
        clips = many.clips("train")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert all((clip.crops[:] == 3).all() for clip in clips)


def test_a_clip_stays_on_disk(folder: Path) -> None:
    """A process may have some 65,000 memory maps, and less memory than a year of faces takes."""
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("only Linux tells its memory maps")
    clips = read_manifest(folder).clips("train")
    shown = [clip.crops[1:3] for clip in clips]
    assert all(clip.usable.all() for clip in clips) and np.asarray(clips[0].waveform).shape == (2560,)
    assert str(folder) not in maps.read_text()
    assert len(pickle.dumps(clips)) < sum(np.asarray(clip.landmarks).nbytes for clip in clips) / 10  # sent to loaders
    assert [int(pictures.max()) for pictures in shown] == [3, 5]


def test_stored_arrays_are_read_as_numpy_reads_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    plain, columns, empty = rng.random((5, 3, 2)), np.asfortranarray(rng.random((4, 6), np.float32)), np.zeros((0, 2))
    np.savez(tmp_path / "some.npz", plain=plain, columns=columns, empty=empty)
    np.savez_compressed(tmp_path / "tight.npz", plain=plain)
    np.save(tmp_path / "columns.npy", columns)
    found = stored_arrays(tmp_path / "some.npz")
    for name, array in {"plain": plain, "columns": columns, "empty": empty}.items():
        np.testing.assert_array_equal(np.asarray(found[name]), array)
        assert found[name].dtype == array.dtype and len(found[name]) == len(array)
    np.testing.assert_array_equal(found["plain"][1:4, ::2, 0], plain[1:4, ::2, 0])
    np.testing.assert_array_equal(found["plain"][[0, 4, 2]], plain[[0, 4, 2]])
    np.testing.assert_array_equal(stored_array(tmp_path / "columns.npy")[2], columns[2])
    np.testing.assert_array_equal(stored_arrays(tmp_path / "tight.npz")["plain"], plain)
    with pytest.raises(IndexError):
        found["plain"][5]


def rewritten(folder: Path, change) -> Path:
    path = folder / "manifest.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(change(lines)) + "\n")
    return path


def test_another_version_is_refused_with_what_to_do(folder: Path) -> None:
    newer = lambda lines: [json.dumps({**json.loads(lines[0]), "version": 99}), *lines[1:]]  # noqa: E731
    with pytest.raises(InputError, match=r"version 99 .* reads 2: run `latentsync prepare` again"):
        read_manifest(rewritten(folder, newer))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda lines: lines[:-1], "2 clips of 3: it is cut off"),
        (lambda lines: lines[1:], "is no manifest"),
        (lambda lines: [*lines[:2], lines[2][:40], lines[3]], "line 3 is damaged"),
        (lambda lines: [*lines[:2], lines[2].replace('"quality"', '"shine"'), lines[3]], "'quality' is missing"),
        (lambda lines: [], "is no manifest"),
    ],
)
def test_damage_is_named(folder: Path, change, told: str) -> None:
    with pytest.raises(InputError, match=told):
        read_manifest(rewritten(folder, change))


def test_a_folder_without_one_and_a_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="make one with `latentsync prepare --out"):
        read_manifest(tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        read_manifest(tmp_path / "none.jsonl")


def test_missing_clips_and_splits_are_told_before_training(folder: Path) -> None:
    manifest = read_manifest(folder)
    with pytest.raises(InputError, match=r"no clip in the split 'test' \(it has: train, validation\)"):
        manifest.clips("test")
    for split, only, change in (
        ("train", "validation", "fewer of them out (lower"),
        ("validation", "train", "more of them out (raise"),
    ):
        entries = [replace(one, split=only) for one in manifest.entries]
        with pytest.raises(InputError, match=rf"no clip in the split '{split}'.* hold {re.escape(change)} split\.val"):
            replace(manifest, entries=tuple(entries)).clips(split)
    (folder / "clips" / "three.npz").unlink()
    with pytest.raises(InputError, match=r"1 of 6 files that are not there, clips/three.npz first"):
        manifest.clips("train")


def test_a_damaged_mel_is_named(folder: Path) -> None:
    manifest = read_manifest(folder)
    path = folder / manifest.entries[0].mel
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(InputError, match=r"'one.mel.npy' of .* cannot be read .*cut off.* remove it"):
        manifest.clip(manifest.entries[0])
