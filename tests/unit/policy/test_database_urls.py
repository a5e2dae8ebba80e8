"""A password is never shown, also where it was not percent-encoded and passes for a host, a path or a query."""

from __future__ import annotations

import pytest

from s3gc import create_config
from s3gc.exceptions import ConfigurationError
from s3gc.references.sources.urls import parse_url


@pytest.mark.parametrize(
    "password", ["ab/S3CR", "12/S3CR", "ab#S3CR", "12?S3CR", "ab[S3CR", "S3CR/a+b=", "S3CR#x:1"]
)
def test_a_password_that_is_not_encoded_shows_nowhere(password: str) -> None:
    url = f"postgresql://app:{password}@db.internal/shop"
    config = create_config("shop-media", tables={"users": ["avatar"]}, database_url=url)
    assert "S3CR" not in config.effective_sources[0].location
    with pytest.raises(ConfigurationError, match="percent-encoded") as caught:
        parse_url(url, "shop")
    assert "S3CR" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("postgresql://app:a@b:c@db:5432,db-2:5433/shop", "postgresql://db:5432,db-2:5433/shop"),
        ("postgresql://db/shop?user=a@b&password=x", "postgresql://db/shop"),
        ("mysql://u:p@[::1]:3306/shop", "mysql://[::1]:3306/shop"),
        ("postgresql:///shop?host=/run/postgresql", "postgresql:///shop"),
        ("sqlite:///a@b/c#d.db", "sqlite:///a@b/c"),
    ],
)
def test_an_address_is_shown_without_credentials(url: str, location: str) -> None:
    config = create_config("shop-media", tables={"users": ["avatar"]}, database_url=url)
    assert config.effective_sources[0].location == location
    parse_url(url, "shop")
