"""A hub made of local files, with a cache, and with what an upload asks of it."""

from __future__ import annotations

import hashlib
import inspect
import shutil
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError

MAIN, OLD = "a" * 40, "b" * 40  # commits


class LocalHub:
    """Repositories as folders, and a cache laid out as the hub's client does: blobs by digest, links by commit."""

    def __init__(self, root: Path):
        self.root, self.offline, self.reachable = root, False, True
        self.revisions = {None: MAIN, "main": MAIN, MAIN: MAIN, "v1": OLD, OLD: OLD}
        self.asked: list[tuple[str, str, str | None]] = []
        self.private: dict[str, bool] = {}
        self.messages: list[str] = []

    def put_in_place(self, monkeypatch: pytest.MonkeyPatch) -> LocalHub:
        """Of the real client."""
        monkeypatch.setattr("huggingface_hub.HfApi", lambda: self)
        monkeypatch.setattr("huggingface_hub.hf_hub_download", self.hf_hub_download)
        monkeypatch.setattr("huggingface_hub.is_offline_mode", lambda: self.offline)
        return self

    def source(self, repo: str, commit: str = MAIN) -> Path:
        return self.root / "origin" / repo / commit

    def model_info(self, repo: str, revision: str | None = None, *, files_metadata: bool = False):
        if not self.reachable:
            raise ConnectionError("Name or service not known")
        if revision not in self.revisions or not self.source(repo, self.revisions[revision]).is_dir():
            raise RepositoryNotFoundError("404", response=SimpleNamespace(headers={}, request=None))
        commit = self.revisions[revision]
        top = self.source(repo, commit)
        files = [file for file in top.rglob("*") if file.is_file()]
        listed = [self._listed(file, top) for file in files] if files_metadata else None
        return SimpleNamespace(sha=commit, siblings=listed, private=self.private.get(repo, False))

    def _listed(self, file: Path, top: Path):
        large = file.suffix in (".pt", ".safetensors")
        lfs = SimpleNamespace(sha256=self.etag(file)) if large else None
        return SimpleNamespace(rfilename=file.relative_to(top).as_posix(), lfs=lfs, blob_id=self.etag(file))

    def etag(self, file: Path) -> str:
        content = file.read_bytes()
        if file.suffix in (".pt", ".safetensors"):
            return hashlib.sha256(content).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

    def hf_hub_download(self, repo: str, file: str, *, revision: str | None, local_files_only: bool) -> str:
        self.asked.append((repo, file, revision))
        cached = self.root / "cache" / repo
        link = cached / "snapshots" / self.revisions[revision] / file
        if not link.exists():
            if local_files_only:
                raise LocalEntryNotFoundError("not in the cache")
            source = self.source(repo, self.revisions[revision]) / file
            blob = cached / "blobs" / self.etag(source)
            for path in (blob, link):
                path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, blob)
            link.symlink_to(blob)
        return str(link)

    def create_repo(self, repo: str, **options) -> None:
        self._as_the_real_one("create_repo", repo, **options)
        assert options["exist_ok"]
        if not self.source(repo).exists():
            self.private[repo] = options["private"]
            self.source(repo).mkdir(parents=True)
            (self.source(repo) / ".gitattributes").write_text("*.safetensors filter=lfs\n")

    def create_branch(self, repo: str, **options) -> None:
        self._as_the_real_one("create_branch", repo, **options)
        commit = self.revisions.setdefault(options["branch"], options["branch"])
        if not self.source(repo, commit).exists():
            shutil.copytree(self.source(repo), self.source(repo, commit))

    def list_repo_files(self, repo: str, **options) -> list[str]:
        self._as_the_real_one("list_repo_files", repo, **options)
        top = self.source(repo, self.revisions[options["revision"]])
        return [file.relative_to(top).as_posix() for file in top.rglob("*") if file.is_file()]

    def upload_folder(self, **options) -> SimpleNamespace:
        self._as_the_real_one("upload_folder", **options)
        repo, revision = options["repo_id"], options["revision"]
        top = self.source(repo, self.revisions[revision])
        for name in self.list_repo_files(repo, revision=revision):
            if any(fnmatch(name, pattern) for pattern in options["delete_patterns"] or ()):
                (top / name).unlink()
        shutil.copytree(options["folder_path"], top, dirs_exist_ok=True)
        self.messages.append(options["commit_message"])
        return SimpleNamespace(commit_url=f"https://hub.test/{repo}/commit/{len(self.messages)}")

    @staticmethod
    def _as_the_real_one(method: str, *given, **options) -> None:
        """The client that is installed takes such a call."""
        inspect.signature(getattr(HfApi, method)).bind(None, *given, **options)
