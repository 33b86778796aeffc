from __future__ import annotations

import sys

import pytest

from airflow_brayns.brayns.official import official_client
from airflow_brayns.errors import BraynsError


@pytest.mark.parametrize(
    ("version", "told"),
    [
        ((3, 11, 0), r"on Python 3\.11 or 3\.12\. The official client is not installed here\.$"),
        ((3, 13, 0), r"The official client does not import on Python 3\.13, which this is\.$"),
    ],
)
def test_what_to_install_is_said(version: tuple[int, ...], told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Version(tuple[int, ...]):
        major, minor = version[:2]

    monkeypatch.setitem(sys.modules, "brayns", None)
    monkeypatch.setattr(sys, "version_info", Version(version))
    with pytest.raises(BraynsError, match=r"^Install the extra `client` where tasks run: .*" + told) as error:
        official_client()
    assert not error.value.retry
