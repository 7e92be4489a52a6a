"""API keys: from the environment and from a file that changes while the server runs."""

import hmac
import logging
from pathlib import Path

import pytest
from pydantic import SecretStr

from assistant.settings import settings
from serve.keys import Keys
from tests.conftest import Command
from tests.server import free_port
from tests.told import KEY, Told, told_app

ALICE, BOB, CAROL = "alice-has-this-long-key", "bob-has-another-long-key", "carol-has-a-third-long-key"


def keys_file(folder: Path, *lines: str) -> Path:
    """A file of keys as a person keeps it: written anew and moved over the old one."""
    file, new = folder / "keys", folder / "keys.new"
    new.write_text("\n".join(lines) + "\n", encoding="utf-8")
    new.chmod(0o600)
    new.replace(file)
    return file


def status(told: Told, key: str | None, scheme: str = "Bearer") -> int:
    headers = {} if key is None else {"Authorization": f"{scheme} {key}".strip().encode()}
    return told.client.get("/v1/models", headers=headers).status_code


def test_each_key_is_let_in_and_nothing_else(tmp_path: Path) -> None:
    file = keys_file(tmp_path, "# who may come in", "", f"alice {ALICE}", f"bob\t{BOB}")
    with told_app(keys=Keys(SecretStr(KEY), file)) as told:
        assert [status(told, key) for key in (KEY, ALICE, BOB)] == [200, 200, 200]
        assert status(told, ALICE, scheme="bearer") == 200
        wrong = [None, "", CAROL, ALICE[:-1], f"{ALICE} {BOB}", "alice", "é" * 20]
        assert {status(told, key) for key in wrong} == {401}
        assert status(told, ALICE, scheme="Basic") == 401
        refused = told.client.get("/v1/models")
        assert refused.json()["error"]["code"] == "invalid_api_key"
        assert refused.headers["www-authenticate"] == "Bearer"
        assert told.client.get("/metrics").status_code == 401
        assert told.client.get("/metrics", headers={"Authorization": f"Bearer {BOB}"}).status_code == 200
        assert [told.client.get(path).status_code for path in ("/health", "/ready")] == [200, 200]


def test_a_key_is_withdrawn_and_another_comes_while_the_server_runs(tmp_path: Path) -> None:
    with told_app(keys=Keys(file=keys_file(tmp_path, f"alice {ALICE}", f"bob {BOB}"))) as told:
        assert status(told, BOB) == 200
        keys_file(tmp_path, f"alice {ALICE}", f"carol {CAROL}")
        assert [status(told, key) for key in (ALICE, BOB, CAROL)] == [200, 401, 200]
        keys_file(tmp_path, "# nobody")
        assert [status(told, key) for key in (ALICE, CAROL, "")] == [401, 401, 401]


@pytest.mark.parametrize("broken", ["alice", f"alice {ALICE} x", "alice short", f"{KEY}\n", "\x00 " + ALICE])
def test_a_broken_file_leaves_the_last_good_keys_and_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, broken: str
) -> None:
    with told_app(keys=Keys(file=keys_file(tmp_path, f"alice {ALICE}"))) as told:
        keys_file(tmp_path, f"bob {BOB}", broken)
        assert [status(told, key) for key in (ALICE, BOB, ALICE)] == [200, 401, 200]
        (tmp_path / "keys").unlink()
        assert status(told, ALICE) == 200
    told_of = [
        record.getMessage()
        for record in caplog.records
        if record.name == "thousand" and record.levelno == logging.ERROR
    ]
    assert len(told_of) == 2
    assert all(line.startswith("the keys stay as they were: ") for line in told_of)
    assert not any(key in line for line in told_of for key in (ALICE, BOB))


def test_a_file_that_everybody_may_read_is_refused_also_later(tmp_path: Path) -> None:
    file = keys_file(tmp_path, f"alice {ALICE}")
    with told_app(keys=Keys(file=file)) as told:
        keys_file(tmp_path, f"bob {BOB}").chmod(0o644)
        assert [status(told, key) for key in (ALICE, BOB)] == [200, 401]
        file.chmod(0o640)
        assert [status(told, key) for key in (ALICE, BOB)] == [401, 200]


def test_every_key_is_compared_whole_whichever_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = Keys(SecretStr(KEY), keys_file(tmp_path, f"alice {ALICE}", f"bob {BOB}"))
    compared: list[tuple[int, int]] = []
    compare = hmac.compare_digest

    def counting(left: bytes, right: bytes) -> bool:
        compared.append((len(left), len(right)))
        return compare(left, right)

    monkeypatch.setattr(hmac, "compare_digest", counting)
    for given in (KEY, ALICE, BOB, "", "x" * 10_000):
        compared.clear()
        keys.check(given)
        assert compared == [(32, 32)] * 3


@pytest.mark.parametrize(
    ("lines", "mode", "said"),
    [
        ([f"alice {ALICE}", f"alice {BOB}"], 0o600, "line 2: the name alice is already taken"),
        (["alice short", "just-one", f"b@b {BOB}"], 0o600, "line 1: the key has 5 characters and needs 16; line 2 is not a name"),
        ([f"alice {ALICE}", "bob bøb-has-another-long-key"], 0o600, "line 2: the key holds other than printable ASCII"),
        ([f"default {ALICE}"], 0o600, "line 1: the name default is already taken"),
        (["# nothing yet"], 0o600, "holds no key, so nobody could come in"),
        ([f"alice {ALICE}"], 0o604, "can be read by everybody on this machine; run: chmod o="),
    ],
)  # fmt: skip
def test_bad_key_files_end_the_start_with_all_that_is_wrong(
    thousand: Command,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lines: list[str],
    mode: int,
    said: str,
) -> None:
    file = keys_file(tmp_path, *lines)
    file.chmod(mode)
    monkeypatch.setenv("THOUSAND_API_KEYS_FILE", str(file))
    settings.cache_clear()
    result = thousand("serve", "--port", free_port())
    assert result.code == 1
    assert said in result.err
    assert not any(key in result.err for key in (ALICE, BOB))


def test_a_missing_file_and_a_weak_key_end_the_start(
    thousand: Command, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THOUSAND_API_KEYS_FILE", str(home / "nowhere"))
    settings.cache_clear()
    assert "cannot be read: No such file" in thousand("serve", "--port", free_port()).err
    monkeypatch.setenv("THOUSAND_API_KEY", "guess-me")
    settings.cache_clear()
    assert "THOUSAND_API_KEY has 8 characters and needs 16; make one with" in thousand("serve").err
