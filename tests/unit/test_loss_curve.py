"""The file of a loss curve: it is whole, or the curve begins anew."""

import pytest


@pytest.mark.parametrize("text", [
    b"", b'{"picture": "a", "losses": [[0.0, 1', b"null", b"[]", b'{"losses": []}',
    b'{"picture": "a", "losses": [3], "decibels": []}',
    b'{"picture": "a", "losses": [[0, "x"]], "decibels": []}', b"\xff\xfe",
])  # fmt: skip
def test_a_broken_file_is_reported_and_the_curve_begins_anew(tmp_path, text, caplog):
    from aior_pack.aior_core.training.loss_curve import LossCurve

    path = tmp_path / "curve.json"
    path.write_bytes(text)
    assert LossCurve.load(path, "a") == LossCurve("a")
    assert [str(path) in record.getMessage() for record in caplog.records] == [True]


def test_a_curve_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    from aior_pack.aior_core import atomic
    from aior_pack.aior_core.training.loss_curve import LossCurve

    path, curve = tmp_path / "curve.json", LossCurve("a", [(0.0, 1.0)])
    curve.save(path)

    def killed(*names):
        raise KeyboardInterrupt

    monkeypatch.setattr(atomic.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        LossCurve("a", [(0.0, 1.0), (1.0, 0.5)]).save(path)
    assert LossCurve.load(path, "a") == curve
