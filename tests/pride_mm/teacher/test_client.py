"""Addresses and keys before anything is asked."""

import pytest

from pride_mm.errors import UserError
from pride_mm.teacher.client import Client


@pytest.mark.parametrize("url", ["", "127.0.0.1:8000", "ftp://host/v1", "http://", "http://[", "http://me:pw@host/v1"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(UserError, match="give one like") as caught:
        Client(url, "some")
    assert "pw" not in str(caught.value)


def test_an_address_without_a_path_gets_the_usual_one() -> None:
    assert Client("http://127.0.0.1:8000/", "some").url == "http://127.0.0.1:8000/v1"
    assert Client(" https://host/api/v1/ ", "some").url == "https://host/api/v1"


def test_what_is_no_key() -> None:
    with pytest.raises(UserError, match="holds characters that no key has"):
        Client("http://127.0.0.1:8000", "some", "sk\n-ü")


@pytest.mark.parametrize(
    ("url", "private"),
    [
        ("http://127.0.0.1:8000", True),
        ("http://localhost:8000", True),
        ("http://[::1]:8000", True),
        ("https://host/v1", True),
        ("HTTPS://host/v1", True),
        ("http://host:8000", False),
        ("http://localhost.example.org", False),
        ("http://127.0.0.1.example.org", False),
        ("http://10.0.0.7:8000", False),
    ],
)
def test_who_can_read_along(url: str, private: bool) -> None:
    assert Client(url, "some").private is private
