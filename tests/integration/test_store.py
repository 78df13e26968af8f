"""What every object store must do for us, embedded or real. It pins minio-py's private call too."""

import threading

import pytest

from processor.errors import ObjectMissing, ObjectTooLarge, StoreError, StoreUnavailable
from processor.local.child import free_port
from processor.settings import StoreSettings
from processor.store import MinioStore
from tests.integration.mill import Mill


def test_what_was_put_is_got(mill: Mill) -> None:
    mill.store.put("a/b.wav", b"\x00\x01" * 1000, "audio/wav")

    assert mill.store.get("a/b.wav", 2000) == b"\x00\x01" * 1000
    assert mill.store.size("a/b.wav") == 2000


def test_of_many_writers_at_once_one_is_first(mill: Mill) -> None:
    start = threading.Barrier(16)
    won: list[int] = []

    def write(number: int) -> None:
        start.wait()
        if mill.store.put_if_absent("first", f"writer {number}".encode(), "text/plain"):
            won.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(won) == 1
    assert mill.store.get("first", 100) == f"writer {won[0]}".encode()


def test_a_missing_object_is_missing(mill: Mill) -> None:
    assert mill.store.size("nothing") is None
    with pytest.raises(ObjectMissing):
        mill.store.get("nothing", 10)


def test_no_more_than_the_bound_is_kept(mill: Mill) -> None:
    mill.store.put("large", b"x" * 101, "text/plain")

    assert len(mill.store.get("large", 101)) == 101
    with pytest.raises(ObjectTooLarge):
        mill.store.get("large", 100)


def test_a_removed_object_is_gone_and_may_be_removed_again(mill: Mill) -> None:
    mill.store.put("gone", b"x", "text/plain")
    mill.store.remove("gone")
    mill.store.remove("gone")

    assert mill.store.size("gone") is None


def test_a_bucket_that_is_not_there_is_refused_with_the_remedy(mill: Mill) -> None:
    settings = mill.settings.store.model_copy(update={"bucket": "nowhere-to-be-found"})
    with pytest.raises(StoreError, match="topics create"):
        MinioStore(settings).check()
    with pytest.raises(StoreError):
        MinioStore(settings).put("key", b"x", "text/plain")


@pytest.mark.integration
def test_a_store_that_is_not_there_is_unavailable() -> None:
    store = MinioStore(StoreSettings(endpoint=f"http://127.0.0.1:{free_port()}"))

    with pytest.raises(StoreUnavailable):
        store.check()
    with pytest.raises(StoreUnavailable):
        store.put("key", b"x", "text/plain")
