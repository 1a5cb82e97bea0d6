"""Files are found by what they hold, kept for ever, and sent small."""

from __future__ import annotations

import gzip

import pytest

from proxy.errors import NotFound
from proxy.portal.assets import FOR_EVER, Assets

STYLE = b"body { color: black }" * 40


@pytest.fixture
def assets(tmp_path):
    (tmp_path / "vendor").mkdir()
    (tmp_path / "app.css").write_bytes(STYLE)
    (tmp_path / "vendor" / "one.min.js").write_bytes(b"1")
    (tmp_path / "vendor" / "VENDOR.toml").write_bytes(b"")
    (tmp_path / "vendor" / "LICENSE").write_bytes(b"")
    return Assets(tmp_path)


def told(assets, name):
    return assets.address(name).removeprefix("/portal/static")


def test_a_changed_file_has_another_address(assets, tmp_path):
    before = assets.address("app.css")
    (tmp_path / "app.css").write_bytes(STYLE + b" ")
    assert Assets(tmp_path).address("app.css") != before
    with pytest.raises(NotFound):
        Assets(tmp_path).find(before.removeprefix("/portal/static"))


def test_a_file_is_kept_for_ever_and_sent_as_the_browser_can_read_it(assets):
    asset = assets.find(told(assets, "app.css"))
    plain, zipped = asset.reply(accepts="", knows=""), asset.reply(accepts="br, gzip", knows="")
    assert plain.content == STYLE
    assert gzip.decompress(zipped.content) == STYLE
    assert zipped.headers["content-encoding"] == "gzip"
    assert len(zipped.content) < len(STYLE)
    assert plain.headers["cache-control"] == FOR_EVER
    assert asset.media_type == "text/css"


@pytest.mark.parametrize("form", ["{}", 'W/{}, "x"', '"x",{}'])
def test_a_browser_that_has_it_is_told_so(assets, form):
    asset = assets.find(told(assets, "vendor/one.min.js"))
    reply = asset.reply(accepts="gzip", knows=form.format(asset.etag))
    assert (reply.status_code, reply.content) == (304, b"")
    assert asset.reply(accepts="", knows='"another"').status_code is None


def test_manifests_and_licences_are_no_assets(assets):
    for name in ("vendor/VENDOR.toml", "vendor/LICENSE", "../assets.py"):
        with pytest.raises(KeyError):
            assets.address(name)
        with pytest.raises(NotFound):
            assets.find(name)


def test_everything_that_we_ship_together_is_small_on_the_wire():
    shipped = Assets()
    sizes = {name: len(shipped.find(told(shipped, name)).zipped) for name in shipped._addresses}
    assert sum(sizes.values()) < 110_000, sizes
