"""An object store whose puts a test can count, stop or spoil."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from heimdall_jax.store import ObjectStore


class KilledError(BaseException):
    """The publisher's process ends here."""


def nothing(number: int) -> None:
    """Of a put, to leave it alone."""


class WatchedStore:
    """Passes all on to a store; tells the number of each put, from 0, before it is there and after."""

    def __init__(
        self,
        store: ObjectStore,
        *,
        before: Callable[[int], None] = nothing,
        after: Callable[[int], None] = nothing,
        spoil: Callable[[bytes], bytes] = bytes,
    ) -> None:
        self._store, self._before, self._after, self._spoil = store, before, after, spoil
        self.puts: list[str] = []

    def get(self, key: str, length: int | None = None) -> bytes:
        return self._store.get(key, length)

    def put(self, key: str, data: bytes, *, new: bool = False) -> None:
        number = len(self.puts)
        self.puts.append(key)
        self._before(number)
        self._store.put(key, self._spoil(data), new=new)
        self._after(number)

    def list(self, prefix: str = "") -> Iterator[str]:
        return self._store.list(prefix)

    def stamps(self, prefix: str = "") -> dict[str, str]:
        return self._store.stamps(prefix)

    def exists(self, key: str) -> bool:
        return self._store.exists(key)

    def size(self, key: str) -> int:
        return self._store.size(key)


def kill(at: int) -> Callable[[int], None]:
    """Ends the publisher at one put."""

    def end(number: int) -> None:
        if number == at:
            raise KilledError

    return end


def once(at: int, action: Callable[[], object]) -> Callable[[int], None]:
    """Does something at one put."""

    def act(number: int) -> None:
        if number == at:
            action()

    return act
