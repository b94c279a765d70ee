"""The loss curve of Train AIOR Restorer as a file: whole, or not there."""

import pytest


@pytest.mark.parametrize("text", [
    b"", b'{"picture": "a", "losses": [[0.0, 1', b"null", b"[]", b'{"picture": "a", "losses": [3], "decibels": []}', b'{"losses": []}',
    b'{"picture": "a", "losses": [[0, "x"]], "decibels": []}', b"\xff\xfe",
])  # fmt: skip
def test_a_broken_curve_begins_anew_and_is_said(tmp_path, text, caplog):
    from aior_pack.aior_core.training.curve import Curve

    path = tmp_path / "curve.json"
    path.write_bytes(text)
    assert Curve.load(path, "a") == Curve("a")
    assert [str(path) in record.getMessage() for record in caplog.records] == [True]


def test_a_curve_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    from aior_pack.aior_core.training import files
    from aior_pack.aior_core.training.curve import Curve

    path, curve = tmp_path / "curve.json", Curve("a", [(0.0, 1.0)])
    curve.save(path)

    def killed(*names):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        Curve("a", [(0.0, 1.0), (1.0, 0.5)]).save(path)
    assert Curve.load(path, "a") == curve
