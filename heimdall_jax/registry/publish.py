"""A verified bundle goes to an object store as `{name}/{version}/`: whole, or not visible at all.

**Order.** The model's files, `SHA256SUMS`, then `manifest.json`, the commit: a version without it does not exist.
`{name}/latest` comes last. Every object is read back and hashed. A stopped upload leaves objects that no reader sees;
publishing again takes them up.

**Two at once.** Publishers of the same bytes both succeed. Of publishers of other bytes under one version the one whose
manifest is there first wins, and the other is told so. Both may take the other's files for what a stopped upload left,
and put theirs over them; so the winner reads all files again after its commit and puts right what is not its own, and
the loser gives back what it replaced. A loser that is killed between the two, or that had in view only what a third
had left, may leave a file of its own under the winner's version: readers refuse it by its hash, and publishing the
winner's again mends it. Where the server ignores conditional writes (rclone's), two manifests of one moment may both be
put: the later one stays, and the check at the end tells the other publisher unless it had finished.

**`latest`** always names a whole version. A version number is never replaced by a lower one, nor a version by one that
was `latest` before, so that publishing an old one again moves nothing; versions made of the content have no order, and
the one published last is named. Two publishers that read `latest` in the same moment may still leave the lower number
there; publishing the higher again mends it.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from heimdall_jax.errors import ExportError, StorageError, explain
from heimdall_jax.export.bundle import MANIFEST, read_bundle
from heimdall_jax.progress import counted
from heimdall_jax.registry.published import (
    LATEST,
    MODEL,
    SUMS,
    Latest,
    checked_segment,
    parse_sums,
    read_latest,
    sha256,
    to_sums,
)
from heimdall_jax.store import ExistingObjectError, MissingObjectError, ObjectStore

COMPANIONS = ("metrics.json", "config.yaml", "model_card.md")
"""Files of a run that go along where they are."""
DIGITS = 12
"""Of the hash of `SHA256SUMS`, as a version; a registry's numbers are shorter."""
TRIES = 5
"""Of putting an object until it reads back as it was written."""


class VersionTakenError(ExportError):
    """The version is published already, with other bytes."""


@dataclass(frozen=True)
class Published:
    """A version that is whole in the store.

    Attributes:
        name: Of the model.
        version: Of the model.
        files: Under the version.
        new: Whether this call published it; else it was there.
    """

    name: str
    version: str
    files: tuple[str, ...]
    new: bool


def publish(folder: Path, store: ObjectStore, *, name: str, version: str | None = None) -> Published:
    """Upload a bundle and its companions, verify what was stored, and point `latest` at it.

    Publishing what is there already, with the same bytes, puts nothing; objects of it that were damaged are mended.

    Args:
        folder: Holds `model.onnx` and `manifest.json`; a run folder.
        store: Holds models by name.
        name: Of the model, one part of a key.
        version: A registry's number, or any name; by default the first 12 digits of the SHA-256 of `SHA256SUMS`, which
            no other content has.

    Raises:
        ConfigError: The name or the version cannot be part of a key.
        ExportError: The bundle is not what it says; `VersionTakenError`: the version is there with other bytes.
        StorageError: A file cannot be read, or the store not be written or read; nothing half is visible.
    """
    checked_segment("model name", name)
    digests = _digests(folder)
    version = checked_segment("model version", version or sha256(to_sums(digests))[:DIGITS])
    edition = _Edition(store, f"{name}/{version}", folder, digests)
    new = edition.upload()
    _point_latest(store, name, Latest(version, digests[MANIFEST]))
    return Published(name, version, (*digests, SUMS), new)


def _digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a bundle, by name in the order of upload; each model file is verified."""
    manifest = read_bundle(folder / MODEL).manifest
    digests = {MODEL: manifest.sha256}
    for entry in manifest.smaller:
        if entry.accepted:
            digests[entry.file] = read_bundle(folder / entry.file).manifest.sha256
    for name in (*(name for name in COMPANIONS if (folder / name).exists()), MANIFEST):
        digests[name] = sha256(_read(folder / name))
    return digests


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        cure = "Check the run folder."
        raise StorageError(explain(str(path), got=error.strerror, allowed="a readable file", cure=cure)) from error


class _Edition:
    """One version in a store, as one publisher wants it."""

    def __init__(self, store: ObjectStore, where: str, folder: Path, digests: dict[str, str]) -> None:
        self._store, self._where, self._folder, self._digests = store, where, folder, digests
        self._sums = to_sums(digests)
        self._replaced: dict[str, bytes] = {}

    def upload(self) -> bool:
        """Put what is missing and commit it; whether this call did."""
        try:
            if self._committed():
                self._place_all()
                return False
            self._place_all()
            new = self._commit()
            # A publisher of other bytes may have put its own over these before it saw the commit.
            self._place_all()
            self._check_committed()
        except VersionTakenError:
            self._give_back()
            raise
        return new

    def _place_all(self) -> None:
        names = (*(name for name in self._digests if name != MANIFEST), SUMS)
        for name in counted(names, len(names), f"publishing {self._where}", "files"):
            self._place(name)

    def _place(self, name: str) -> None:
        """Put an object unless it is there, until it reads back as it should."""
        data = self._content(name)
        for _ in range(TRIES):
            there = self._there(name)
            if there == data:
                return
            self._committed()
            if there is None:
                with contextlib.suppress(ExistingObjectError):
                    self._store.put(f"{self._where}/{name}", data, new=True)
            else:
                self._replaced[name] = there
                self._store.put(f"{self._where}/{name}", data)
        raise self._unlike(name)

    def _commit(self) -> bool:
        try:
            self._store.put(f"{self._where}/{MANIFEST}", self._content(MANIFEST), new=True)
        except ExistingObjectError:
            self._check_committed()
            return False
        self._check_committed()
        return True

    def _check_committed(self) -> None:
        if not self._committed():
            raise self._unlike(MANIFEST)

    def _committed(self) -> bool:
        """Whether the version is there.

        Raises:
            VersionTakenError: It is, with other bytes.
        """
        manifest = self._there(MANIFEST)
        if manifest is None:
            return False
        theirs = self._sums_of(manifest, self._there(SUMS))
        differ = [name for name in {**self._digests, **theirs} if theirs.get(name) != self._digests.get(name)]
        same = sha256(manifest) == self._digests[MANIFEST]
        if same and (not theirs or not differ):
            return True
        got = f"other bytes in {', '.join(sorted(differ)) if theirs else MANIFEST}"
        cure = "Give another --version, or none to have one made of the content."
        allowed = "a new version, or the same bytes again"
        raise VersionTakenError(explain(f"published {self._where}", got=got, allowed=allowed, cure=cure))

    def _give_back(self) -> None:
        """Put back what this publisher replaced of the version that another committed."""
        manifest = self._there(MANIFEST)
        for sums in (self._replaced.get(SUMS), self._there(SUMS)):
            theirs = self._sums_of(manifest, sums)
            if sums is None or not theirs:
                continue
            for name, data in self._replaced.items():
                if data == sums or sha256(data) == theirs.get(name):
                    self._store.put(f"{self._where}/{name}", data)
            return

    def _sums_of(self, manifest: bytes | None, sums: bytes | None) -> dict[str, str]:
        """Digests that belong to a manifest; none if they are missing, damaged or another manifest's."""
        if manifest is None or sums is None:
            return {}
        with contextlib.suppress(ExportError):
            found = parse_sums(sums, self._where)
            return found if found.get(MANIFEST) == sha256(manifest) else {}
        return {}

    def _content(self, name: str) -> bytes:
        """What is to be stored, if it still is what was verified."""
        data = self._sums if name == SUMS else _read(self._folder / name)
        if name != SUMS and sha256(data) != self._digests[name]:
            cure = "Publish again when nothing writes to the folder."
            got = "another content than a moment ago"
            raise ExportError(explain(f"file {name}", got=got, allowed="a finished run", cure=cure))
        return data

    def _there(self, name: str) -> bytes | None:
        try:
            return self._store.get(f"{self._where}/{name}")
        except MissingObjectError:
            return None

    def _unlike(self, name: str) -> StorageError:
        cure = "Publish again; if it stays, check the store: it loses or alters what it is given."
        got = "not what was written"
        return StorageError(explain(f"object {self._where}/{name}", got=got, allowed="the same bytes", cure=cure))


def _point_latest(store: ObjectStore, name: str, mine: Latest) -> None:
    """Let `latest` name a version, unless it names a newer one or has named this one before."""
    now = None
    with contextlib.suppress(ExportError):  # a damaged one is written anew
        now = read_latest(store, name)
    if now is not None:
        same = (now.version, now.manifest_sha256) == (mine.version, mine.manifest_sha256)
        if same or mine.version in now.earlier or _lower(mine.version, now.version):
            return
        earlier = (*now.earlier, now.version) if now.version != mine.version else now.earlier
        mine = Latest(mine.version, mine.manifest_sha256, earlier)
    store.put(f"{name}/{LATEST}", mine.to_json())
    if read_latest(store, name) is None:
        got, cure = "nothing after it was written", "Publish again; if it stays, check the store."
        raise StorageError(explain(f"object {name}/{LATEST}", got=got, allowed="what was written", cure=cure))


def _lower(version: str, other: str) -> bool:
    """Of two registry numbers; digits of a hash are none."""
    numbers = [text.isdecimal() and len(text) < DIGITS for text in (version, other)]
    return all(numbers) and int(version) < int(other)
