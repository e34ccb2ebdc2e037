"""A shared folder goes to the Hugging Face hub: private unless asked otherwise, and never over what is not ours."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from latentsync.hub.card import SUMS
from latentsync.hub.folder import CARD
from latentsync.hub.remote import HubName
from latentsync.hub.share import Package, read_sums
from latentsync.types import InputError

OF_THE_HUB = (".gitattributes", CARD)  # what a new repository may have from its making


@dataclass(frozen=True)
class Target:
    """Where to. message: of the commit."""

    name: HubName
    public: bool = False
    message: str = "Share a checkpoint of latentsync"


def push(package: Package, target: Target) -> str:
    """Upload what was packed as one commit and return its address; the repository and the branch are made where needed.

    Files of an earlier `share` that are no longer there are removed; others are left alone.
    InputError: offline, not logged in, a repository with other things in it, or a public one without being asked for.
    """
    from huggingface_hub import HfApi, hf_hub_download, is_offline_mode

    if is_offline_mode():
        raise InputError(f"HF_HUB_OFFLINE is set: unset it to upload to {target.name}, or share to a folder")
    api, repo, revision = HfApi(), target.name.repo, target.name.revision
    with tempfile.TemporaryDirectory(prefix="latentsync-") as staging, _told(target):
        folder = Path(staging)
        package.write(folder)
        api.create_repo(repo, private=not target.public, exist_ok=True)
        if not target.public and not api.model_info(repo).private:
            raise InputError(f"{repo} is public on the hub: give --public if everyone may have these weights")
        if revision is not None:
            api.create_branch(repo, branch=revision, exist_ok=True)
        there = api.list_repo_files(repo, revision=revision)
        _check_ours(there, target)
        ours = set()
        if SUMS in there:
            ours = set(read_sums(Path(hf_hub_download(repo, SUMS, revision=revision, local_files_only=False)).parent))
        names = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
        commit = api.upload_folder(
            repo_id=repo,
            folder_path=folder,
            revision=revision,
            commit_message=target.message,
            delete_patterns=sorted(ours.intersection(there) - names) or None,
        )
    return str(commit.commit_url)


def _check_ours(there: Iterable[str], target: Target) -> None:
    """InputError when the repository holds anything and no earlier `share` made it."""
    others = sorted(name for name in there if name not in OF_THE_HUB)
    if others and SUMS not in others:
        raise InputError(
            f"{target.name} holds {others[0]} and was not made by sharing: give another name, or another revision"
        )


@contextmanager
def _told(target: Target) -> Iterator[None]:
    """Whatever the hub or the connection says, in one sentence."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # connection, rights, a full disk: the hub's client has its own error for each
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{target.name} could not be uploaded ({reason}): log in with `hf auth login` and look at the name (a "
            f"folder would be ./{target.name}), then run it again"
        ) from error
