"""The languages and the help pages as the browser asks a live server for them."""

from __future__ import annotations

import urllib.error

import pytest


def test_the_server_has_the_names_in_every_language(comfy):
    # Chinese is written in escapes here: registries' checks want sources that any code page can hold.
    words = comfy.json("/api/i18n")
    assert {"en", "zh", "ja", "ko", "fr", "de", "es", "ru"} <= words.keys()
    assert words["zh"]["nodeDefs"]["AIOR_ApplyDAFF"]["display_name"] == "\u5e94\u7528 DAFF"
    assert words["zh"]["nodeDefs"]["AIOR_SteerPrior"]["inputs"]["rain"]["name"] == "\u96e8"
    assert words["zh"]["nodeCategories"]["restoration"] == "\u4fee\u590d"
    assert words["de"]["nodeDefs"]["AIOR_DAFFSampler"]["inputs"]["fidelity"]["name"] == "Treue"
    assert words["de"]["nodeDefs"]["AIOR_DecodeDAEM"]["outputs"]["0"]["name"] == "Bild"
    info = comfy.object_info()["AIOR_EncodePrior"]
    assert words["en"]["nodeDefs"]["AIOR_EncodePrior"]["display_name"] == info["display_name"]


def test_a_help_page_is_chinese_where_asked_and_english_elsewhere(comfy, comfy_host):
    # The browser asks for the page of the language first, then for the page without a language.
    pages = f"/extensions/{comfy_host.pack_name}/docs/AIOR_EncodePrior"
    assert comfy.request(f"{pages}/zh.md").decode().startswith("# \u7f16\u7801\u9000\u5316\u5148\u9a8c\n")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        comfy.request(f"{pages}/fr.md")
    assert comfy.request(f"{pages}.md").decode().startswith("# Encode Degradation Prior\n")
