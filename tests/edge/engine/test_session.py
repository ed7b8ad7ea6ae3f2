"""Which CPUs have their weights converted, and that the option is only set there."""

from pathlib import Path

import pytest

from edge.engine import session

OPTION = "session.x64quantprecision"


@pytest.mark.parametrize(
    ("flags", "clips"),
    [
        ("fpu sse4_1 avx", True),
        ("fpu avx avx2 fma", True),  # AMD before Zen 4, Intel before Ice Lake
        ("fpu avx2 avx512f avx512bw avx512dq avx512vl", True),  # Skylake-X
        ("fpu avx2 avx512f avx512bw avx512dq avx512vl avx_vnni", True),  # onnxruntime takes the 512 bits
        ("fpu avx2 avx512f avx512bw avx512dq avx512vl avx512_vnni", False),
        ("fpu avx2 avx512f avx512bw avx512dq avx512vl avx512_vnni avx_vnni amx_int8", False),
        ("fpu avx2 avx_vnni", False),  # Alder Lake
    ],
)
def test_weights_are_converted_on_x86_without_vnni(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, clips: bool
) -> None:
    cpus = tmp_path / "cpuinfo"
    core = f"processor\t: 0\nvendor_id\t: Someone\nflags\t\t: {flags}\nbugs\t\t: avx_vnni avx512_vnni\n\n"
    cpus.write_text(core * 2)
    monkeypatch.setattr(session, "_CPUS", cpus)
    assert session._has_vnni() is not clips


def test_nothing_is_taken_for_granted_where_nobody_lists_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "_CPUS", tmp_path / "missing")
    assert not session._has_vnni()
    monkeypatch.setattr(session, "_CPUS", tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_bytes(b"processor\t: 0\nFeatures\t: fp asimd \xff\n")  # ARM
    assert not session._has_vnni()


def test_cpus_with_vnni_keep_their_fast_sums() -> None:
    assert session._options(1, converts=True).get_session_config_entry(OPTION) == "1"
    with pytest.raises(RuntimeError, match=OPTION):
        session._options(1, converts=False).get_session_config_entry(OPTION)
