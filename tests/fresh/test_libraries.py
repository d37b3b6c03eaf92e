"""Libraries in C, a thousand times in a fresh worker: right answers, flat memory; and a leak of 10,000 MiB in all."""

import hashlib
import importlib.util
from pathlib import Path

import pytest

from tests.support.frames import Worker
from tests.worker.conftest import Start

CALLS = 1_000
GROWTH_KIB_MAX = 4 * 1024

LIBRARIES: dict[str, tuple[tuple[str, ...], str, object]] = {
    "numpy": (
        ("numpy", "numpy.libs"),
        """
import numpy
weights = numpy.arange(10_000, dtype=float)
def handler(n: int) -> float:
    kept.append(numpy.ones(50_000))
    weights[:] += 1
    return float((weights * n).sum() + numpy.linalg.det(numpy.eye(20) * 2))
""",
        lambda n: float(n * (10_000 * 10_001 // 2) + 2**20),
    ),
    "Pillow": (
        ("PIL", "pillow.libs"),
        """
import io
from PIL import Image
def handler(n: int) -> list[int]:
    picture = Image.new("RGB", (64, 64), (n % 256, 2, 3))
    out = io.BytesIO()
    picture.resize((16, 16)).save(out, "PNG")
    kept.append(picture)
    return list(Image.open(io.BytesIO(out.getvalue())).getpixel((3, 3)))
""",
        lambda n: [n % 256, 2, 3],
    ),
    "pydantic-core": (
        ("pydantic", "pydantic_core", "annotated_types", "typing_extensions.py", "typing_inspection"),
        """
from pydantic import BaseModel
class Order(BaseModel):
    item: str
    count: int
def handler(n: int) -> int:
    kept.append(Order.model_validate_json('{"item": "x", "count": %d}' % n))
    return kept[-1].count + len(kept)
""",
        lambda n: n + 1,
    ),
    "lxml": (
        ("lxml",),
        """
from lxml import etree
tree = etree.fromstring("<a><b/></a>")
def handler(n: int) -> str:
    etree.SubElement(tree, "c").text = str(n)
    return etree.tostring(tree).decode()
""",
        lambda n: f"<a><b/><c>{n}</c></a>",
    ),
    "sqlite3": (
        (),
        """
import sqlite3
base = sqlite3.connect(":memory:")
base.execute("create table t (n)")
def handler(n: int) -> list[int]:
    base.executemany("insert into t values (?)", [(n,), (n,)])
    base.commit()
    return list(base.execute("select count(*), sum(n) from t").fetchone())
""",
        lambda n: [2, 2 * n],
    ),
    "cryptography": (
        ("cryptography", "cffi", "_cffi_backend.cpython-313-x86_64-linux-gnu.so"),
        """
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
def handler(n: int) -> str:
    key = AESGCM.generate_key(128)
    text = AESGCM(key).decrypt(b"0" * 12, AESGCM(key).encrypt(b"0" * 12, str(n).encode(), None), None)
    digest = hashes.Hash(hashes.SHA256())
    digest.update(text)
    kept.append(key)
    return digest.finalize().hex()
""",
        lambda n: hashlib.sha256(str(n).encode()).hexdigest(),
    ),
}


def memory_kib(worker: Worker) -> int:
    lines = Path(f"/proc/{worker.pid}/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon:", "RssShmem:", "VmSwap:")))


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_thousand_calls_of_a_library_are_right_and_leave_memory_flat(start: Start, tmp_path: Path, name: str) -> None:
    packages, source, expected = LIBRARIES[name]
    assert callable(expected)
    site = Path(str(importlib.util.find_spec("pytest").origin)).parents[1]
    worker = start(f"kept = []\n{source}", state="fresh", packages=[site / one for one in packages])
    for n in range(100):
        assert worker.call(n=n).json == expected(n)
    before = memory_kib(worker)
    for n in range(100, CALLS):
        assert worker.call(n=n).json == expected(n)
    assert memory_kib(worker) < before + GROWTH_KIB_MAX


def test_ten_thousand_leaks_of_a_mebibyte_leave_memory_flat(start: Start) -> None:
    worker = start(
        "kept = []\ndef handler() -> int:\n    kept.append(b'x' * 2**20)\n    return len(kept)\n", state="fresh"
    )
    for _ in range(100):
        assert worker.call().json == 1
    before = memory_kib(worker)
    for _ in range(10_000):
        assert worker.call().json == 1
    assert memory_kib(worker) < before + GROWTH_KIB_MAX
