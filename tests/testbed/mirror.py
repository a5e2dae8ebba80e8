"""The Debian mirror that this machine's own apt uses, for what the test bed takes from Debian beside the system."""

from __future__ import annotations

from pathlib import Path

__all__ = ["debian_mirror"]


def debian_mirror() -> list[str]:
    """Its address in a list, or an empty list on a machine that has none."""
    apt = Path("/etc/apt")
    for source in [*sorted(apt.glob("sources.list*")), *sorted((apt / "sources.list.d").glob("*"))]:
        if not source.is_file():
            continue
        for line in source.read_text().splitlines():
            words = line.split()
            if len(words) >= 2 and words[0] in ("URIs:", "deb"):
                url = next((word for word in words[1:] if "://" in word), None)
                if url and url.rstrip("/").endswith("debian"):
                    return [url]
    return []
