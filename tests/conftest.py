"""Fixtures on real servers. Each starts at its first use and is shared by the session.

A server that is missing is a failure, never a skip: a green run means that everything ran. To use servers
of your own set S3GC_TEST_MINIO_ENDPOINT, _ACCESS_KEY, _SECRET_KEY, the same for S3GC_TEST_VERSITYGW_…,
S3GC_TEST_POSTGRES_DSN or S3GC_TEST_MARIADB_DSN; for a cluster KUBECONFIG and S3GC_TEST_IMAGE.

The environment is cleaned before anything is imported: no profile, credential, endpoint, proxy or
database variable of the machine reaches a test.
"""

from __future__ import annotations

import atexit
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

# A machine that is busy makes an example slow; that says nothing of the code.
hypothesis.settings.register_profile(
    "s3gc", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("s3gc")

_KEPT = ("S3GC_TEST_", "S3GC_TOOLS", "S3GC_SOAK_")
_CLEANED = ("AWS_", "S3GC_", "S3_BUCKET", "DATABASE_URL", "PG", "MYSQL_", "BOTO")


def _clean_environment() -> None:
    for name in list(os.environ):
        if name.startswith(_CLEANED) and not name.startswith(_KEPT):
            del os.environ[name]
    descriptor, empty = tempfile.mkstemp(prefix="s3gc-test-no-aws-config-")
    os.close(descriptor)
    atexit.register(Path(empty).unlink, missing_ok=True)
    os.environ.update(
        AWS_CONFIG_FILE=empty,
        AWS_SHARED_CREDENTIALS_FILE=empty,
        AWS_EC2_METADATA_DISABLED="true",
        AWS_DEFAULT_REGION="us-east-1",
        NO_PROXY="127.0.0.1,localhost",
        no_proxy="127.0.0.1,localhost",
    )


_clean_environment()

from tests.testbed import services  # noqa: E402  (after the environment is clean)
from tests.testbed.kubernetes import Kubernetes  # noqa: E402
from tests.testbed.services import Home, MariaDB, MySQL, Postgres, S3Server  # noqa: E402

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


#: Tests that share what is dear to start (a control plane, a demo, a browser), by where they are: one worker runs them.
_TOGETHER = (
    "tests/chart/",
    "tests/controller/",
    "tests/crds/",
    "tests/e2e/cluster/",
    "tests/e2e/test_demo.py",
    "tests/library/integrations/test_console",
)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Every test to the next worker that is free, but for those that belong together.

    In place of xdist's own groups, which need names of tests that the newest pytest does not let it change.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return next((start for start in _TOGETHER if nodeid.startswith(start)), nodeid)

    return Together(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave soak tests out unless `-m` says otherwise: they take as long as they are given."""
    if config.option.markexpr:
        return
    soaks = [item for item in items if item.get_closest_marker("soak")]
    if soaks:
        config.hook.pytest_deselected(items=soaks)
        items[:] = [item for item in items if not item.get_closest_marker("soak")]


@pytest.fixture(scope="session")
def testbed_home() -> Iterator[Home]:
    """Folder and watchdog of the servers, also for tests that start one of their own (`services.start_…`)."""
    home = Home()
    yield home
    home.close()


@pytest.fixture(scope="session")
def minio(testbed_home: Home) -> Iterator[S3Server]:
    server = S3Server.from_environment("minio") or services.start_minio(testbed_home)
    yield server
    server.close()


@pytest.fixture(scope="session")
def versitygw(testbed_home: Home) -> Iterator[S3Server]:
    server = S3Server.from_environment("versitygw") or services.start_versitygw(testbed_home)
    yield server
    server.close()


@pytest.fixture(params=["minio", "versitygw"])
def s3(request: pytest.FixtureRequest) -> S3Server:
    """Each S3 server in turn: a test that asks for this runs once against each."""
    server: S3Server = request.getfixturevalue(request.param)
    return server


@pytest.fixture(scope="session")
def postgres(testbed_home: Home) -> Iterator[Postgres]:
    server = services.postgres_from_environment() or services.start_postgres(testbed_home)
    yield server
    server.close()


@pytest.fixture(scope="session")
def mariadb(testbed_home: Home) -> Iterator[MariaDB]:
    server = services.mariadb_from_environment() or services.start_mariadb(testbed_home)
    yield server
    server.close()


@pytest.fixture(scope="session")
def mysql(testbed_home: Home) -> Iterator[MySQL]:
    server = services.mysql_from_environment() or services.start_mysql(testbed_home)
    yield server
    server.close()


@pytest.fixture(scope="session")
def make_bucket() -> Callable[..., str]:
    """``make_bucket(server, versioning=False, lock=False) -> name``, a new bucket each time."""
    return services.make_bucket


@pytest.fixture(scope="session")
def s3_client() -> Callable[[S3Server], S3Client]:
    """``s3_client(server)``: boto3's client of it, to arrange and to look, past everything under test."""
    return services.s3_client


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> Callable[[S3Server], None]:
    """``credentials(server)`` puts the server's keys into the environment of this test, as a user would."""

    def use(server: S3Server) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key)

    return use


@pytest.fixture(scope="session")
def kubernetes_api() -> Iterator[Kubernetes]:
    """A real API server with its controllers, where no pod has to run: needs no root."""
    cluster = Kubernetes.acquire(with_node=False)
    yield cluster
    cluster.release()


@pytest.fixture(scope="session")
def kubernetes() -> Iterator[Kubernetes]:
    """A real cluster with a node, shared with everybody on this machine. Pods use `hostNetwork: true`."""
    cluster = Kubernetes.acquire(with_node=True)
    yield cluster
    cluster.release()


@pytest.fixture(scope="module")
def private_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubernetes]:
    """An API server of this module's own, for tests of what a whole cluster shares (CRDs, cluster roles)."""
    cluster = Kubernetes.private(tmp_path_factory.mktemp("cluster"))
    yield cluster
    cluster.release()


@pytest.fixture(scope="session")
def s3gc_image(kubernetes: Kubernetes) -> str:
    """The project's image as its files are now, in the node of `kubernetes`."""
    return kubernetes.image()


@pytest.fixture
def namespace(kubernetes: Kubernetes) -> Iterator[str]:
    """A namespace of this test's own."""
    with kubernetes.namespace() as name:
        yield name
