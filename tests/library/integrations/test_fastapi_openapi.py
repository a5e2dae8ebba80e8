"""What the plugin's OpenAPI document promises holds for requests that nobody thought of."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.library.integrations.conftest import Shop
from tests.library.integrations.serving import BASE, TOKEN, Served


def test_schemathesis_finds_nothing(
    make_shop: Callable[..., Shop], serve: Callable[..., Served], tmp_path: Path
) -> None:
    shop = make_shop()
    served = serve(shop, shop.policy(tmp_path / "vault", mode="execute"))
    swept = served.run()
    assert swept["deleted_count"] == 4
    # Ids that exist, so that the requests get beyond the 404.
    (tmp_path / "schemathesis.toml").write_text(f'[parameters]\n"path.op_id" = "{swept["operation_id"]}"\n')
    done = subprocess.run(
        [
            *(str(Path(sys.executable).with_name("schemathesis")), "run", f"{served.url}/openapi.json"),
            *("--include-path-regex", f"^{BASE}/", "--exclude-path", f"{BASE}/events"),
            *("--header", f"Authorization: Bearer {TOKEN}"),
            *("--checks", "all", "--exclude-checks", "ignored_auth"),
            *("--phases", "examples,coverage,fuzzing", "--max-examples", "25", "--seed", "7"),
            *("--request-timeout", "30", "--no-color"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-12000:] + done.stderr[-2000:]
    assert set(shop.referenced) <= shop.keys()
