"""A `BucketGC` manifest is a policy: the same file for kubectl and for s3gc, and the way back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from s3gc.builder import create_config
from s3gc.config import Limits, S3GCConfig
from s3gc.exceptions import ConfigurationError
from s3gc.manifest import BucketGC, BucketGCSpec, LimitsSpec
from s3gc.names import SETTINGS, markdown_table
from s3gc.policy import (
    load_manifest,
    load_policy,
    parse_manifest,
    policy_from_environment,
    to_config,
    to_manifest,
)

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples" / "policy.yaml"
SECRETS = {
    "S3GC_SOURCE_0_URL": "postgresql://app:secret@pooler:6432/shop",
    "S3GC_SOURCE_0_CDC_URL": "postgresql://app:secret@db:5432/shop",
}
SMALLEST = """
apiVersion: s3gc.dev/v1
kind: BucketGC
metadata: {name: media}
spec:
  bucket: {name: shop-media}
  vault: {persistentVolumeClaim: {claimName: vault}}
"""


def changed(**spec: object) -> str:
    document = yaml.safe_load(SMALLEST)
    document["spec"].update(spec)
    return json.dumps(document)


def problems_of(text: str, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_policy(text, environ or {})
    return str(caught.value)


# --- a manifest is a policy


def test_the_example_says_what_the_design_says() -> None:
    config = load_policy(EXAMPLE, SECRETS)
    assert config.policy_name == "shop.media"
    assert config.bucket == "shop-media"
    assert config.endpoint_url == "https://minio.storage:9000"
    assert config.path_style is True
    assert config.base_urls[0].url == "https://cdn.shop.example/"
    assert config.vault_path == "s3://shop-vault/media"
    assert config.schedule_cron == "30 2 * * *"
    assert config.unreferenced_days == 1
    assert config.deadline_seconds == 21600 - 300
    source = config.effective_sources[0]
    assert source.name == "shop"
    assert source.connection_url == SECRETS["S3GC_SOURCE_0_URL"]
    assert [table.table for table in source.tables] == ["public.users", "public.posts"]
    assert source.queries[0].format == "key"
    assert source.derivatives == ("{stem}_thumb{ext}",)
    assert source.ignore_columns == ("public.audit_log.payload",)


def test_the_smallest_manifest_has_the_defaults_of_a_manifest() -> None:
    config = load_policy(SMALLEST, {})
    expected = create_config("shop-media", name="media", vault_path="/vault", unreferenced_days=1)
    assert config == expected


def test_every_default_of_a_manifest_is_the_engine_s_own_but_for_two() -> None:
    config = to_config(load_manifest(SMALLEST), None)
    plain = S3GCConfig(bucket="shop-media")
    different = {name for name in S3GCConfig.model_fields if getattr(config, name) != getattr(plain, name)}
    assert different == {"name", "vault_path", "unreferenced_days"}


def test_a_manifest_has_every_limit() -> None:
    assert set(LimitsSpec.model_fields) == set(Limits.model_fields)


def test_one_reference_may_use_database_url_and_two_may_not() -> None:
    reference = {
        "name": "a",
        "database": {"urlSecretRef": {"name": "db", "key": "url"}},
        "queries": [{"name": "files", "sql": "select key from files"}],
    }
    environ = {"DATABASE_URL": "sqlite:///shop.db"}
    config = load_policy(changed(references=[reference]), environ)
    assert config.sources[0].connection_url == "sqlite:///shop.db"
    text = problems_of(changed(references=[reference, {**reference, "name": "b"}]), environ)
    assert "spec.references[0].database.urlSecretRef: outside of a cluster, set S3GC_SOURCE_0_URL" in text
    assert "spec.references[1].database.urlSecretRef: outside of a cluster, set S3GC_SOURCE_1_URL" in text


def test_a_database_that_nothing_is_read_of_is_refused() -> None:
    reference = {"name": "a", "database": {"urlSecretRef": {"name": "db", "key": "url"}}}
    assert "spec.references[0]: a database without tables and queries" in problems_of(
        changed(references=[reference])
    )


def test_without_secrets_a_manifest_can_still_be_judged() -> None:
    config = to_config(load_manifest(EXAMPLE), None)
    assert config.sources[0].url is None
    assert config.sources[0].tables[0].table == "public.users"


def test_the_work_folder_comes_from_the_environment() -> None:
    assert load_policy(SMALLEST, {"S3GC_WORK_DIR": "/work"}).work_dir == "/work"


# --- and back


@pytest.mark.parametrize(
    "config",
    [
        load_policy(EXAMPLE, SECRETS),
        create_config("my-bucket", vault_path="/vault"),
        create_config(
            "my-bucket",
            name="media",
            region="eu-central-1",
            prefixes=["uploads/"],
            sources=[
                {
                    "name": "a",
                    "tables": [
                        {"table": "t", "columns": ["c", {"template": "x/{id}", "key_prefixes": ["p/"]}]}
                    ],
                }
            ],
            mode="execute",
            retention_days=1.5,
            unreferenced_days=0,
            approval="manual",
            limits={"max_delete_percent": 3, "max_delete_objects": 7, "max_plan_age_hours": 1},
            versions="purge",
            deletion={"condition": "best_effort"},
            restore_hold_days=2,
            vault_path="s3://vault-bucket/here/there",
            vault_endpoint_url="https://other.example:9000",
            vault_kms_key_id="alias/x",
            vault_retention_days=1,
            compression_level=9,
            schedule_cron="0 3 * * 1",
            time_zone="Europe/Berlin",
            concurrency=3,
            memory_limit_mb=100,
            canary_objects=1,
            deadline_seconds=900,
        ),
    ],
)
def test_a_policy_survives_the_way_to_a_manifest_and_back(config: S3GCConfig) -> None:
    namespace = "shop" if config.name == "shop.media" else None
    text = yaml.safe_dump(to_manifest(config, namespace=namespace))
    back = to_config(load_manifest(text), None)

    def comparable(value: S3GCConfig) -> dict[str, object]:
        plain = value.model_dump(mode="json", exclude={"name"})
        for source in plain["sources"]:
            source["url"] = None
            source["cdc"] = source["cdc"] and source["cdc"]["backend"]
        return plain

    assert comparable(back) == comparable(config)
    assert back.policy_name == config.policy_name


def test_tables_become_one_reference() -> None:
    config = create_config("my-bucket", tables={"users": ["avatar_url"]}, schedule_cron="02:30")
    spec = to_manifest(config)["spec"]
    assert spec["references"][0]["tables"] == [{"table": "users", "columns": [{"name": "avatar_url"}]}]
    assert spec["references"][0]["database"] == {"urlSecretRef": {"name": "my-bucket-database", "key": "url"}}
    assert spec["schedule"] == "30 2 * * *"
    assert spec["mode"] == "DryRun"


def test_no_manifest_holds_a_credential() -> None:
    text = json.dumps(to_manifest(load_policy(EXAMPLE, SECRETS)))
    assert "secret@" not in text


# --- what is wrong is said where it stands


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"mode": "Delete"}, "spec.mode: Input should be 'DryRun', 'AuditOnly' or 'Execute'"),
        ({"mode": "dry_run"}, "spec.mode: "),
        ({"retentiondays": 3}, "spec.retentiondays: there is no such setting; did you mean 'retentionDays'?"),
        ({"limits": {"maxDeletePercent": 101}}, "spec.limits.maxDeletePercent: "),
        ({"limits": {"max_delete_percent": 1}}, "spec.limits.max_delete_percent: there is no such setting"),
        ({"vault": {}}, "spec.vault: give exactly one of s3 and persistentVolumeClaim"),
        ({"schedule": "often"}, "spec.schedule: 'often' is not a schedule"),
        ({"timeZone": "Mars/Olympus"}, "spec.timeZone: 'Mars/Olympus' is not a time zone"),
        ({"bucket": {"name": "Shop_Media"}}, "spec.bucket.name: 'Shop_Media' is not a bucket name"),
        (
            {"bucket": {"name": "shop-media", "foreignHosts": ["https://x/"]}},
            "spec.bucket.foreignHosts: 'https://x/' is not a host name",
        ),
        (
            {
                "references": [
                    {
                        "name": "a",
                        "database": {"urlSecretRef": {"name": "db", "key": "url"}},
                        "tables": [
                            {"table": "users", "columns": [{"name": "x"}]},
                            {"table": "posts", "columns": []},
                        ],
                    }
                ]
            },
            "spec.references[0].tables[1].columns: ",
        ),
        (
            {
                "references": [
                    {
                        "name": "a",
                        "database": {"urlSecretRef": {"name": "db", "key": "url"}},
                        "tables": [{"table": "users", "columns": [{"name": "x", "template": "{y}"}]}],
                    }
                ]
            },
            "spec.references[0].tables[0].columns[0]: give exactly one of name",
        ),
        ({"job": {"activeDeadline": 1}}, "spec.job.activeDeadline: there is no such setting"),
    ],
)
def test_a_problem_is_reported_with_its_path(spec: dict[str, object], said: str) -> None:
    assert said in problems_of(changed(**spec), {"S3GC_SOURCE_0_URL": "sqlite:///x.db"})


def test_problems_of_structure_and_of_meaning_come_at_once() -> None:
    document = yaml.safe_load(SMALLEST)
    document["metadata"]["name"] = "Media!"
    document["spec"] = {
        "bucket": {
            "name": "x",
            "endpointURL": "minio:9000",
            "excludePrefixes": [""],
            "foreignHosts": ["https://x/"],
        },
        "mode": "Delete",
        "retentiondays": 3,
        "schedule": "often",
        "timeZone": "Mars/Olympus",
        "vault": {},
        "references": [
            {"name": "a", "database": {"urlSecretRef": {"name": "db"}}, "tables": [{"table": "t"}]}
        ],
    }
    text = problems_of(json.dumps(document))
    for said in (
        "metadata.name: ",
        "spec.bucket.name: ",
        "spec.bucket.endpointURL: ",
        "spec.bucket.excludePrefixes[0]: ",
        "spec.bucket.foreignHosts: ",
        "spec.mode: ",
        "spec.retentiondays: there is no such setting; did you mean 'retentionDays'?",
        "spec.schedule: 'often' is not a schedule",
        "spec.timeZone: 'Mars/Olympus'",
        "spec.vault: give exactly one of",
        "spec.references[0].database.urlSecretRef.key: Field required",
        "spec.references[0].tables[0].columns: Field required",
    ):
        assert said in text, text
    assert "any-bucket" not in text


def test_a_missing_secret_is_said_with_the_other_problems() -> None:
    reference = {
        "name": "a",
        "database": {"urlSecretRef": {"name": "db", "key": "url"}},
        "tables": [{"table": "users", "columns": [{"name": "x"}]}],
    }
    text = problems_of(changed(references=[reference], mode="Delete", schedule="often"))
    for said in ("spec.mode: ", "spec.schedule: ", "set S3GC_SOURCE_0_URL (or DATABASE_URL)"):
        assert said in text


@pytest.mark.parametrize("place", [[], ["spec"], ["spec", "bucket"], ["metadata"], ["spec", "references"]])
@pytest.mark.parametrize("instead", [None, 5, "text", [], {}, [None], {"a": []}])
def test_nothing_that_stands_anywhere_is_more_than_a_problem(place: list[str], instead: object) -> None:
    document: object = yaml.safe_load(EXAMPLE.read_text())
    if place:
        node = document
        for part in place[:-1]:
            node = node[part]  # type: ignore[index]
        node[place[-1]] = instead  # type: ignore[index]
    else:
        document = instead
    if place == ["spec", "references"] and instead == []:
        return
    problems_of(json.dumps(document) + "\n")


def test_a_wrong_url_names_the_variable_it_came_from_and_hides_it() -> None:
    text = problems_of(EXAMPLE.read_text(), {**SECRETS, "S3GC_SOURCE_0_URL": "oracle://scott:tiger@db/x"})
    assert "spec.references[0].database.urlSecretRef ($S3GC_SOURCE_0_URL): database URL has scheme" in text
    assert "tiger" not in text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (SMALLEST + "---\n" + SMALLEST, "holds 2 documents"),
        (SMALLEST + "  mode: [\n", "line "),
        (SMALLEST + "  mode: DryRun\n  mode: Execute\n", "'mode' stands twice"),
        ("\n", "it is empty"),
        ("[]\n", "it is a list"),
        ("kind: Deployment\napiVersion: apps/v1\n", "it says apps/v1, Deployment"),
        ("spec: {}\n", "no apiVersion, no kind"),
        (SMALLEST.replace("name: media", "name: Media!"), "metadata.name"),
        ("a: !!python/object/apply:os.system [id]\n", "could not determine a constructor"),
    ],
)
def test_what_is_no_policy_is_refused_in_words(text: str, said: str) -> None:
    assert said in problems_of(text)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        load_policy(tmp_path / "nothing.yaml")


@pytest.mark.parametrize(("written", "read"), [("12:30", "12:30"), ("02:30", "02:30")])
def test_a_time_of_day_needs_no_quotes(written: str, read: str) -> None:
    assert load_policy(f"{SMALLEST}  schedule: {written}\n", {}).schedule_cron == read


def test_a_region_called_no_stays_text() -> None:
    assert (
        load_policy(SMALLEST.replace("name: shop-media", "name: shop-media, region: no"), {}).region == "no"
    )


def test_what_the_api_server_adds_is_ignored() -> None:
    document = yaml.safe_load(SMALLEST)
    document["metadata"].update(uid="1", resourceVersion="2", managedFields=[{}], annotations={"a": "b"})
    document["status"] = {"conditions": []}
    assert isinstance(parse_manifest(document), BucketGC)


# --- S3GC_POLICY


@pytest.mark.parametrize("whole", [True, False])
def test_the_policy_may_come_from_the_environment(whole: bool) -> None:
    document = yaml.safe_load(EXAMPLE.read_text())
    text = json.dumps(document if whole else document["spec"])
    config = policy_from_environment({**SECRETS, "S3GC_POLICY": text})
    assert config is not None
    assert config.bucket == "shop-media"
    assert config.policy_name == ("shop.media" if whole else "shop-media")


def test_no_policy_in_the_environment_is_none_and_a_broken_one_is_an_error() -> None:
    assert policy_from_environment({}) is None
    for text, said in [
        ("{", "not JSON"),
        ('{"bucket": {}}', "spec.bucket.name"),
        ("{}", "not a BucketGC manifest"),
    ]:
        with pytest.raises(ConfigurationError, match=said):
            policy_from_environment({"S3GC_POLICY": text})


# --- the one table of names


def test_the_table_of_names_has_every_field_in_order() -> None:
    assert [setting.field for setting in SETTINGS] == list(S3GCConfig.model_fields)


def test_every_path_of_the_table_exists_in_the_manifest() -> None:
    schema = BucketGC.model_json_schema(by_alias=True)

    def descend(node: dict, part: str) -> dict:
        while "$ref" in node:
            node = schema["$defs"][node["$ref"].rpartition("/")[2]]
        for choice in [node, *node.get("anyOf", [])]:
            while "$ref" in choice:
                choice = schema["$defs"][choice["$ref"].rpartition("/")[2]]
            if choice.get("type") == "object" and part in choice.get("properties", {}):
                return choice["properties"][part]
        raise AssertionError(f"{part} is not in {node}")

    for setting in SETTINGS:
        for path in filter(None, setting.path.partition(" (")[0].split(" or ")):
            node: dict = schema
            for part in (path if path.startswith("metadata") else f"spec.{path}").split("."):
                node = descend(node, part.removesuffix("[]"))
                if part.endswith("[]"):
                    node = node["items"]


def test_the_documented_table_is_the_table() -> None:
    assert markdown_table() in (ROOT / "docs" / "policy.md").read_text()


def test_a_manifest_s_models_are_bounded_as_a_crd_must_be() -> None:
    schema = BucketGCSpec.model_json_schema(by_alias=True)
    loose = {"JobSpec"}

    def unbounded(node: object, path: str) -> list[str]:
        found: list[str] = []
        if isinstance(node, dict):
            if node.get("type") == "string" and not {"maxLength", "enum", "const"} & set(node):
                found.append(path)
            if node.get("type") == "array" and "maxItems" not in node:
                found.append(path)
            for key, value in node.items():
                if key not in loose and key not in ("default", "required", "enum"):
                    found += unbounded(value, f"{path}.{key}")
        elif isinstance(node, list):
            for index, value in enumerate(node):
                found += unbounded(value, f"{path}[{index}]")
        return found

    assert unbounded(schema, "spec") == []


@pytest.mark.parametrize(
    "prefix", ["uploads/legal/*", "uploads/legal/**", "s3://media/uploads/legal/", "./uploads/legal/"]
)
def test_a_prefix_that_is_a_pattern_or_a_url_would_exclude_nothing_and_is_refused(prefix: str) -> None:
    with pytest.raises(ConfigurationError, match="exclude_prefixes"):
        create_config("media", exclude_prefixes=[prefix])
