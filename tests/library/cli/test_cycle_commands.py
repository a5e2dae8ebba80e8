"""`s3gc` as a shell sees it: real processes against a real store and a real database."""

from __future__ import annotations

import json
import re
import signal
import time
from pathlib import Path

import yaml
from tests.library.cli.conftest import ROOT, World


def test_a_dry_run_is_the_default_and_changes_nothing(world: World, tmp_path: Path) -> None:
    short = tmp_path / "termination-log"
    ended = world("run", S3GC_TERMINATION_LOG=str(short))
    assert ended.code == 0, ended.err
    result = ended.json
    assert result["mode"] == "dry_run"
    assert result["outcome"] == "Succeeded"
    assert result["verified_orphans"] == len(world.orphans)
    assert result["total_scanned"] == 60
    assert result["coverage"][0]["resolved"] == 45
    assert json.loads(short.read_text())["outcome"] == "Succeeded"
    assert world.keys() == world.referenced | world.orphans
    progress = [line for line in ended.logged if line["event"] == "progress"]
    phases = [line["phase"] for line in progress]
    assert phases.index("Listing") < phases.index("Reading") < phases.index("Joining")
    # The last line alone is what the operator shows: it still has what earlier phases counted.
    assert progress[-1]["listed"] == 60


def test_a_plan_is_shown_in_pages(world: World) -> None:
    first = world("plan", "--limit", "10").json
    assert (first["objects"], len(first["keys"])) == (len(world.orphans), 10)
    assert {"key", "size", "etag", "last_modified", "storage_class"} <= set(first["keys"][0])
    rest = world(
        "plan", "--operation-id", first["operation_id"], "--after", first["after"], "--output", "json"
    ).json
    assert rest["plan_digest"] == first["plan_digest"]
    assert [each["key"] for page in (first, rest) for each in page["keys"]] == sorted(world.orphans)
    assert rest["after"] is None
    everything = world("plan", "--operation-id", "latest", "--all", "--output", "yaml")
    assert {each["key"] for each in yaml.safe_load(everything.out)["keys"]} == world.orphans
    assert world.keys() == world.referenced | world.orphans


def test_execute_restore_and_everything_about_it(world: World, tmp_path: Path) -> None:
    done = world("run", "--mode", "execute")
    assert done.code == 0, done.err
    operation = done.json["operation_id"]
    assert done.json["deleted_count"] == done.json["backed_up_count"] == len(world.orphans)
    assert world.keys() == world.referenced

    listed = world("operations", "--output", "json").json
    assert [each["operation_id"] for each in listed] == [operation]
    assert (listed[0]["outcome"], listed[0]["deleted_count"]) == ("Succeeded", len(world.orphans))
    one = world("operations", operation[-8:].lower(), "--output", "json").json
    assert one["result"]["operation_id"] == operation
    assert one["journal"] == "closed"

    page = tmp_path / "page.html"
    assert world("report", "-o", str(page)).code == 0
    assert operation in page.read_text()
    numbers = world("report", operation, "--output", "json").json
    assert numbers["summary"]["source"] == "manifest"
    assert numbers["summary"]["objects"] == len(world.orphans)

    status = world("vault", "status", "--output", "json").json
    assert status["operations"] == 1
    assert status["scopes"][0]["lock"] is None
    assert status["unfinished"] == status["damaged"] == []
    assert world("vault", "verify").json["objects"] == len(world.orphans)
    assert world("vault", "reindex").json["operations"] == 1
    assert world("vault", "hold", "latest", "--reason", "audit", "--output", "json").json["held"] is True
    assert world("vault", "status", "--output", "json").json["held"] == [operation]
    assert world("vault", "unhold", operation, "--output", "json").json["held"] is False
    assert world("vault", "expire").json == {"operations": [], "freed_bytes": 0}

    one_key = min(world.orphans)
    dry = world("restore", "--latest", "--key", one_key)
    assert (dry.code, dry.json["restored_keys"], dry.json["dry_run"]) == (0, [one_key], True)
    assert world.keys() == world.referenced
    assert world("restore", operation, "--key", one_key, "--no-dry-run").json["restored_count"] == 1
    assert world.keys() == world.referenced | {one_key}
    rest = world("restore", operation, "--prefix", "avatars/", "--no-dry-run").json
    assert (rest["restored_count"], rest["skipped_count"]) == (len(world.orphans) - 1, 1)
    assert world.keys() == world.referenced | world.orphans

    metrics = world("metrics", "--output", "json").json
    assert metrics["total_deleted"] == len(world.orphans)
    text = world("metrics", "--output", "prometheus").out
    assert f's3gc_vault_objects_deleted{{bucket="{world.bucket}",policy="{world.bucket}"}} 15.0' in text


async def test_explain_says_why(world: World) -> None:
    kept, orphan = min(world.referenced), min(world.orphans)
    found = world("explain", kept, "--output", "json").json
    assert (found["would_go"], found["exists"]) == (False, True)
    assert found["references"][0]["value"] == f"/{kept}"
    assert "users.avatar_url" in found["sentence"]
    assert world("explain", orphan, "--output", "json").json["would_go"] is True
    young = world("explain", orphan, "--retention-days", "5", "--output", "json").json
    assert "retention_days is 5" in young["sentence"]
    nothing = world("explain", "no/such/key", "--output", "json").json
    assert (nothing["exists"], nothing["sentence"]) == (False, "there is no such object")
    assert "kept" in world("explain", kept).out
    assert not world.vault.exists(), "asking makes no vault"
    assert world("run", "--mode", "execute").code == 0
    (world.vault / "vault.db").unlink()  # an index, and on another machine there is none
    gone = world("explain", orphan, "--output", "json").json
    assert gone["history"][0]["action"] == "deleted"
    assert "can be restored" in gone["sentence"]


async def test_a_refused_plan_ends_with_3_and_an_approval_lets_exactly_it_through(world: World) -> None:
    more = [f"bulk/{number:03d}" for number in range(110)]
    world.put(more)
    refused = world("run", "--mode", "execute")
    assert refused.code == 3
    assert refused.json["outcome"] == "Refused"
    assert [guard["guard"] for guard in refused.json["guards"] if guard["tripped"]] == ["maxDeletePercent"]
    operation, digest = refused.json["operation_id"], refused.json["plan_digest"]
    assert world.keys() == world.referenced | world.orphans | set(more)

    wrong = world("approve", operation, "0" * 64)
    assert wrong.code == 3
    assert digest in wrong.err
    unsaid = world("approve", operation)
    assert (unsaid.code, "--yes" in unsaid.err) == (2, True)
    approved = world("approve", operation, digest, "--output", "json")
    assert approved.code == 0, approved.err
    assert approved.json["plan_digest"] == digest

    world.put(["bulk/later"])  # not in the plan that was approved
    done = world("run", "--mode", "execute", "--operation-id", operation)
    assert done.code == 0, done.err
    assert done.json["deleted_count"] == len(more) + len(world.orphans)
    assert world.keys() == world.referenced | {"bulk/later"}


def test_a_policy_that_asks_for_a_person_waits_for_one(world: World) -> None:
    waiting = world("run", "--mode", "execute", "--set", "approval=manual")
    assert (waiting.code, waiting.json["outcome"]) == (0, "AwaitingApproval")
    assert world("approve", "latest", "--yes").code == 0
    done = world("run", "--mode", "execute", "--set", "approval=manual")
    assert (done.code, done.json["operation_id"]) == (0, waiting.json["operation_id"])
    assert world.keys() == world.referenced


def test_a_manifest_is_a_policy(world: World) -> None:
    manifest = {
        "apiVersion": "s3gc.dev/v1",
        "kind": "BucketGC",
        "metadata": {"name": "media"},
        "spec": {
            "bucket": {"name": world.bucket},
            "references": [
                {
                    "name": "shop",
                    "database": {"urlSecretRef": {"name": "db", "key": "url"}},
                    "tables": [{"table": "users", "columns": [{"name": "avatar_url"}]}],
                }
            ],
            "retentionDays": 0,
            "unreferencedDays": 0,
            "vault": {"persistentVolumeClaim": {"claimName": "vault"}},
        },
    }
    path = world.shell.folder / "policy.yaml"
    path.write_text(yaml.safe_dump(manifest))
    for name in ("S3GC_BUCKET", "S3GC_TABLES", "S3GC_VAULT_PATH", "S3GC_RETENTION_DAYS"):
        del world.shell.environment[name]
    ended = world("run", "-f", "policy.yaml", "--vault", str(world.vault))
    assert ended.code == 0, ended.err
    assert ended.json["verified_orphans"] == len(world.orphans)
    assert ended.json["scope"].startswith("media-")
    assert world("operations", "-f", "policy.yaml", "--vault", str(world.vault), DATABASE_URL="").code == 0


def test_a_table_fits_in_eighty_columns(world: World) -> None:
    for words in (
        ("run", "--output", "table"),
        ("plan", "--output", "table"),
        ("operations",),
        ("operations", "latest"),
        ("vault", "status"),
        ("explain", "avatars/001.jpg"),
        ("metrics",),
    ):
        ended = world(*words)
        assert ended.code == 0, ended.err
        assert ended.out.strip()
        long = [line for line in ended.out.splitlines() if len(line) > 80 and str(world.vault) not in line]
        assert long == [], words
        cut = [
            line for line in ended.out.splitlines() if re.search(r"\w… ", line) and "plan digest" not in line
        ]
        assert cut == [], f"{words} cut a cell off"


def test_a_stopped_cycle_ends_with_143_and_the_next_one_carries_on(world: World) -> None:
    many = [f"bulk/{number:04d}" for number in range(90)]
    world.put(many)
    slow = ("--set", "requests_per_second=40", "--set", "canary_objects=5", "--set", "group_objects=10")
    process = world.start("run", "--mode", "execute", "--set", "limits.max_delete_percent=100", *slow)
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if any(f'"{phase}"' in line for phase in ("Verifying", "BackingUp", "Deleting")):
            break
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 143, (out, "".join(seen), err)
    assert "stopped in good order" in err
    left = world.keys()
    assert world.referenced <= left
    status = world("vault", "status", "--output", "json").json
    assert status["scopes"][0]["lock"] is None

    done = world("run", "--mode", "execute", "--set", "limits.max_delete_percent=100")
    assert done.code == 0, done.err
    assert world.keys() == world.referenced


def test_a_second_signal_ends_at_once_and_the_next_cycle_recovers(world: World) -> None:
    slow = ("--set", "requests_per_second=10", "--set", "canary_objects=5")
    process = world.start("run", "--mode", "execute", *slow)
    assert process.stderr is not None
    for line in process.stderr:
        if any(f'"{phase}"' in line for phase in ("Verifying", "BackingUp", "Deleting")):
            break
    process.send_signal(signal.SIGTERM)
    for line in process.stderr:
        if "send the signal again" in line:
            break
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGTERM
    assert world.referenced <= world.keys()
    done = world("run", "--mode", "execute")
    assert done.code == 0, done.err
    assert world.keys() == world.referenced


# --- errors are one line, with their exit code; test_bad_input has the many others


def test_a_scope_that_is_held_ends_with_5(world: World) -> None:
    many = [f"bulk/{number:04d}" for number in range(40)]
    world.put(many)
    first = world.start("run", "--set", "requests_per_second=1")
    assert first.stderr is not None
    first.stderr.readline()  # its first progress: it holds the lock
    second = world("run")
    first.send_signal(signal.SIGTERM)
    first.communicate(timeout=60)
    assert second.code == 5, second.err
    assert second.logged[-1]["error"] == "LockedError"


def test_execute_without_a_source_is_refused(world: World) -> None:
    ended = world("run", "--mode", "execute", S3GC_TABLES="", DATABASE_URL="")
    assert ended.code == 2
    assert "no source says what references bucket" in ended.logged[-1]["message"]


def test_what_a_vault_does_not_have_is_said(world: World) -> None:
    nowhere = world.shell.folder / "nowhere"
    for words in (("operations",), ("restore", "--latest"), ("metrics",), ("vault", "reindex")):
        assert world(*words, "--vault", str(nowhere)).code == 9, words
        assert not nowhere.exists(), "asking makes no vault"
    known = world("run").json["operation_id"]
    for words, code in (
        (("operations", "01HX3K9V7QW2M4N8R5T6Y0ZABC"), 2),
        (("restore", "01HX3K9V7QW2M4N8R5T6Y0ZABC"), 7),
        (("run", "--operation-id", "01HX3K9V7QW2M4N8R5T6Y0ZABC"), 2),
        (("run", "--operation-id", "yesterday"), 2),
        (("approve", "01HX3K9V7QW2M4N8R5T6Y0ZABC", "--yes"), 2),
    ):
        missing = world(*words)
        assert missing.code == code, missing.err
        assert known in missing.err, "the newest ones are named"
        assert "s3gc operations" in missing.err
    assert f"nearest: {known}" in world("operations", known[-8:-1] + "U").err
    assert world("restore", "--latest").code == 7
    assert world("restore").code == 2


def test_the_documented_commands_parse(shell: object) -> None:
    """Every `s3gc …` line of README and docs is one that the command line takes."""
    import re
    import shlex

    from typer.testing import CliRunner

    from s3gc.cli.app import app

    text = "\n".join(path.read_text() for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))])
    fenced = "\n".join(re.findall(r"```(?:sh|console|bash)\n(.*?)```", text, re.DOTALL)).replace("\\\n", " ")
    lines = [line.removeprefix("$ ") for line in fenced.splitlines() if re.match(r"(\$ )?s3gc ", line)]
    assert len(lines) >= 10
    for line in lines:
        words = shlex.split(line, comments=True)[1:]
        ended = CliRunner().invoke(app(), [*words[:1], "--help"] if "--" in words else [*words, "--help"])
        assert ended.exit_code == 0, f"{line}\n{ended.output}"


def test_looking_leaves_what_a_policy_owns_alone(world: World) -> None:
    done = world("run", "--mode", "execute", "--name", "shop.media", "--prefix", "avatars/")
    assert done.code == 0, done.err
    [scope] = (world.vault / "scopes").iterdir()
    before = (scope / "scope.json").read_bytes()
    some = min(world.orphans)
    for words in (
        ("restore", "--latest", "--key", some, "--no-dry-run"),
        ("explain", some),
        ("metrics",),
        ("operations",),
        ("restore", "--latest", "--name", "media"),
    ):
        assert world(*words).code == 0, words
    assert [each.name for each in (world.vault / "scopes").iterdir()] == [scope.name]
    assert (scope / "scope.json").read_bytes() == before
    held = world("explain", some, "--name", "shop.media", "--output", "json").json
    assert held["held_until"] is not None, "held where the policy's next cycle looks"
    kept = world("vault", "expire")
    assert (kept.code, "--name shop.media" in kept.err) == (2, True)


def test_a_policy_is_renamed_and_retired_by_a_person(world: World) -> None:
    done = world("run", "--mode", "execute", "--name", "old").json
    refused = world("run", "--mode", "execute", "--name", "new")
    assert refused.code == 3
    assert "s3gc vault rename old new" in refused.err
    renamed = world("vault", "rename", "old", "new", "--output", "json")
    assert renamed.json == {"scope": done["scope"], "policy": "new", "bucket": world.bucket}
    assert world("run", "--mode", "execute", "--name", "new").json["scope"] == done["scope"]
    unknown = world("vault", "rename", "old", "newer")
    assert (unknown.code, "it has new" in unknown.err) == (2, True)
    assert world("vault", "retire", "new").code == 0
    status = world("vault", "status", "--output", "json").json
    assert [(each["policy"], each["retired"]) for each in status["scopes"]] == [("new", True)]
    again = world("run", "--name", "third")
    assert again.code == 0, again.err


def test_latest_is_never_another_policy_s(world: World) -> None:
    mine = world("run", "--set", "prefixes=avatars/", "--name", "mine").json["operation_id"]
    other = world("run", "--set", "prefixes=other/", "--name", "other").json["operation_id"]
    assert world("operations", "latest", "--output", "json").json["operation_id"] == other
    assert (
        world("operations", "latest", "--set", "name=mine", "--output", "json").json["operation_id"] == mine
    )
    foreign = world("run", "--set", "prefixes=avatars/", "--name", "mine", "--operation-id", other)
    assert (foreign.code, "resume it with its own policy" in foreign.err) == (2, True)
    world.shell.environment.pop("S3GC_BUCKET")
    assert len(world("operations", "--output", "json").json) == 2
    assert world("operations", "latest", "--bucket", "quite-another").code == 2
