"""Files of the Hugging Face hub: fetched once, kept in its cache, compared with what it lists for a revision."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from latentsync.hub.tensors import sha256_file
from latentsync.types import CheckpointError

logger = logging.getLogger(__name__)

NAME = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")
SHA256_DIGITS, SHA1_DIGITS = 64, 40


@dataclass(frozen=True)
class HubName:
    """A repository at a branch, tag or commit; None is the main branch."""

    repo: str
    revision: str | None = None

    def __str__(self) -> str:
        return self.repo if self.revision is None else f"{self.repo}@{self.revision}"


@dataclass(frozen=True)
class _Listing:
    """What the hub says of a revision; without `digests`, `silence` says why it said nothing."""

    commit: str | None
    digests: dict[str, str] | None
    silence: str = ""


def parse_name(name: str, revision: str | None = None) -> HubName | None:
    """`owner/repository` or `owner/repository@revision` -> its parts; None for what cannot be a hub name."""
    match = NAME.fullmatch(name)
    return HubName(match["repo"], revision or match["revision"]) if match else None


def fetch(name: HubName, file: str) -> Path:
    """Where a file of the hub lies in the local cache, after it was compared with the hub's listing.

    With HF_HUB_OFFLINE set, or without a connection, the cache alone is used, whose file names are those digests.
    CheckpointError when there is no such repository, revision or file, when it cannot be had, or differs.
    """
    return _fetch(name, file, _list(name))


def fetch_folder(name: HubName, files: Iterable[str]) -> Path:
    """The folder in the cache that holds these files of one revision. CheckpointError as `fetch`."""
    listing = _list(name)
    paths = {file: _fetch(name, file, listing) for file in files}
    file, path = next(iter(paths.items()))
    return path.parents[len(Path(file).parts) - 1]


def _fetch(name: HubName, file: str, listing: _Listing) -> Path:
    if listing.digests is not None and file not in listing.digests:
        raise CheckpointError(f"the hub repository {name} has no file {file}: check the name and the revision")
    path = _download(name, file, listing)
    listed = listing.digests[file] if listing.digests is not None else path.resolve().name
    if (found := _digest_like(listed, path)) not in (None, listed):
        raise CheckpointError(
            f"{path} is not the file that the hub lists for {name} (its digest is {found}, not {listed}): delete it, "
            "and fetch it again"
        )
    return path


def _list(name: HubName) -> _Listing:
    from huggingface_hub import HfApi, is_offline_mode
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    if is_offline_mode():
        return _Listing(None, None, "HF_HUB_OFFLINE is set")
    try:
        info = HfApi().model_info(name.repo, revision=name.revision, files_metadata=True)
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise CheckpointError(f"{name} is neither a path here nor a revision of a repository on the hub") from error
    except Exception as error:  # every kind of missing connection
        reason = f"the hub cannot be reached ({str(error).strip().partition(chr(10))[0]})"
        logger.warning("%s: %s, looking in the local cache", name, reason)
        return _Listing(None, None, reason)
    digests = {file.rfilename: file.lfs.sha256 if file.lfs else str(file.blob_id) for file in info.siblings or []}
    return _Listing(info.sha, digests)


def _download(name: HubName, file: str, listing: _Listing) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(
            hf_hub_download(
                name.repo, file, revision=listing.commit or name.revision, local_files_only=listing.digests is None
            )
        )
    except Exception as error:  # connection, disk, permission: the hub's client has its own error for each
        if listing.digests is None:
            raise CheckpointError(
                f"{file} of {name} is not in the local cache, and {listing.silence}: fetch it once with a connection, "
                "or give the path of a file"
            ) from error
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(f"{file} of {name} could not be fetched ({reason}): try again") from error


def _digest_like(listed: str, path: Path) -> str | None:
    """The file's digest of the kind that `listed` is: SHA-256 of large files, git's own of small ones."""
    if re.fullmatch(f"[0-9a-f]{{{SHA256_DIGITS}}}", listed):
        return sha256_file(path)
    if re.fullmatch(f"[0-9a-f]{{{SHA1_DIGITS}}}", listed):
        content = path.read_bytes()
        return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    return None
