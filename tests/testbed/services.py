"""Real servers as objects: MinIO, versitygw, PostgreSQL, MariaDB and MySQL, each on a free port of 127.0.0.1.

`tests/conftest.py` makes fixtures of them and `benchmarks/` uses them directly. `processes` starts and
ends them, `s3servers` and `databases` know the servers themselves; this module gathers what tests import.

Your own servers are used in place of these where the environment names them (see `docs/development.md`);
they are never stopped, and the databases and buckets that tests made there are dropped.
"""

from __future__ import annotations

from tests.testbed.databases import (
    Database,
    MariaDB,
    MySQL,
    Postgres,
    mariadb_from_environment,
    mysql_from_environment,
    postgres_from_environment,
    start_mariadb,
    start_mysql,
    start_postgres,
)
from tests.testbed.processes import Home, Process, free_port
from tests.testbed.s3servers import (
    S3Server,
    let_time_pass,
    make_bucket,
    remove_bucket,
    s3_client,
    start_minio,
    start_versitygw,
)

__all__ = [
    "Database",
    "Home",
    "MariaDB",
    "MySQL",
    "Postgres",
    "Process",
    "S3Server",
    "free_port",
    "let_time_pass",
    "make_bucket",
    "mariadb_from_environment",
    "mysql_from_environment",
    "postgres_from_environment",
    "remove_bucket",
    "s3_client",
    "start_mariadb",
    "start_minio",
    "start_mysql",
    "start_postgres",
    "start_versitygw",
]
