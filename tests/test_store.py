"""The store opens, migrates, refuses what it does not know, and is shared between processes."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from assistant.errors import ThousandError
from serve.feedback import Submission, submit
from serve.store import Store
from tests.feedback import submission

SUBMIT = """
import json, sys
from serve.feedback import Submission, submit
from serve.store import Store
store = Store(sys.argv[1])
for number in range(20):
    body = json.loads(sys.argv[3])
    body["conversation"]["id"] = f"{sys.argv[2]}{number:031x}"
    submit(store, Submission.model_validate(body), by=None)
"""


def columns(file: Path) -> dict[str, set[str]]:
    with sqlite3.connect(file) as connection:
        tables = [name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")]
        return {table: {row[1] for row in connection.execute(f"pragma table_info({table})")} for table in tables}


def test_the_migrations_make_what_the_models_say(tmp_path: Path) -> None:
    from serve.store import Table

    store = Store(f"sqlite:///{tmp_path / 'store'}")
    with store.session():
        pass
    made = columns(tmp_path / "store")
    assert made.pop("alembic_version") == {"version_num"}
    assert made == {name: set(table.columns.keys()) for name, table in Table.metadata.tables.items()}


def test_a_database_of_a_newer_version_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "store"
    store = Store(f"sqlite:///{file}")
    submit(store, Submission.model_validate(submission()), by=None)
    store.close()
    with sqlite3.connect(file) as connection:
        connection.execute("update alembic_version set version_num = '9999'")
    with pytest.raises(ThousandError, match="newer version of Thousand.*9999.*update thousand-assistant"):
        submit(Store(f"sqlite:///{file}"), Submission.model_validate(submission()), by=None)
    with sqlite3.connect(file) as connection:
        assert connection.execute("select version_num from alembic_version").fetchall() == [("9999",)]
        assert connection.execute("select count(*) from opinion").fetchall() == [(1,)]


@pytest.mark.parametrize(
    ("url", "what"),
    [("not an address", "no database's address"), ("oracle://x/y", "driver"), ("sqlite:////proc/x/y", "cannot be")],
)
def test_an_address_that_leads_nowhere_is_a_sentence(url: str, what: str) -> None:
    with pytest.raises(ThousandError, match=what), Store(url).session():
        pass


def test_processes_that_open_and_write_at_once_lose_nothing(tmp_path: Path) -> None:
    import json

    url, body = f"sqlite:///{tmp_path / 'store'}", json.dumps(submission())
    commands = [[sys.executable, "-c", SUBMIT, url, first, body] for first in "abcd"]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]
    assert [process.communicate(timeout=60)[1] for process in processes] == [""] * 4
    with sqlite3.connect(tmp_path / "store") as connection:
        assert connection.execute("select count(*) from conversation").fetchall() == [(80,)]
