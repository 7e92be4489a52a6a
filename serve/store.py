"""The feedback store: conversations as trees of messages, what people said of answers, and the dialogues that wait for review.

By default it is SQLite in THOUSAND_HOME; THOUSAND_STORE_URL names another database. It is made when something is first
written to it, and migrated when it is opened.
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from alembic.command import upgrade
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import JSON, Connection, Engine, ForeignKey, String, Text, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from assistant.errors import ThousandError
from assistant.settings import settings

BUSY_SECONDS = 30
"""How long a transaction waits for another process's; each takes milliseconds."""

State = Literal["waiting", "accepting", "accepted", "rejected"]
"""Of a candidate. `accepting` is what was decided and may not stand in the kept file yet; see serve/review.py."""


class StoreError(ThousandError):
    """The database cannot be opened, read or written."""


class Table(DeclarativeBase):
    """What the tables have in common."""


class Conversation(Table):
    """A tree of messages; its id is the client's."""

    __tablename__ = "conversation"
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    created: Mapped[str] = mapped_column(String(32))
    owner: Mapped[str | None] = mapped_column(String(64))
    """The name of the key it was sent with; none where no key is asked for."""
    deleting: Mapped[bool] = mapped_column(default=False)
    messages: Mapped[list["Said"]] = relationship(cascade="all, delete-orphan", passive_deletes=True)


class Said(Table):
    """A message. Edits and retries are other children of the same parent."""

    __tablename__ = "message"
    conversation_id: Mapped[str] = mapped_column(ForeignKey("conversation.id", ondelete="CASCADE"), primary_key=True)
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    parent: Mapped[str | None] = mapped_column(String(64))
    role: Mapped[Literal["system", "user", "assistant"]] = mapped_column(String(16))
    content: Mapped[str] = mapped_column(Text)
    release: Mapped[str | None] = mapped_column(String(64))
    """Which release said it."""
    sampling: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))


class Opinion(Table):
    """What a person said of a message, once."""

    __tablename__ = "opinion"
    number: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(String(32), unique=True)
    conversation_id: Mapped[str] = mapped_column(ForeignKey("conversation.id", ondelete="CASCADE"), index=True)
    message: Mapped[str] = mapped_column(String(64))
    verdict: Mapped[Literal["like", "dislike"] | None] = mapped_column(String(16))
    reason: Mapped[str | None] = mapped_column(Text)
    wanted: Mapped[str | None] = mapped_column(Text)
    """The answer the person wanted in place of the message."""
    keep: Mapped[bool]
    consent: Mapped[bool]
    given_by: Mapped[str | None] = mapped_column(String(64))
    given: Mapped[str] = mapped_column(String(32))


class Candidate(Table):
    """A dialogue that may become one to learn from."""

    __tablename__ = "candidate"
    number: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(String(32), unique=True)
    """Its id in the kept file too."""
    conversation_id: Mapped[str | None] = mapped_column(ForeignKey("conversation.id", ondelete="CASCADE"), index=True)
    message: Mapped[str | None] = mapped_column(String(64))
    dialogue: Mapped[dict[str, Any]] = mapped_column(JSON)
    answered: Mapped[str | None] = mapped_column(Text)
    """What the release had answered, where a person wanted another answer."""
    reason: Mapped[str | None] = mapped_column(Text)
    state: Mapped[State] = mapped_column(String(16), index=True)
    line: Mapped[str | None] = mapped_column(Text)
    """The line of the kept file, once it is decided."""


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _prepare_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def connect(connection: sqlite3.Connection, _: object) -> None:
        # The driver would begin transactions late, and none for a change of the tables: `begin` does it.
        connection.isolation_level = None
        connection.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA secure_delete = ON")  # what is deleted is not left in the file

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A transaction that reads first and writes then would fail where another wrote in between.
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _migrate(engine: Engine, where: str) -> None:
    """All steps that are missing, in one transaction. Raises StoreError for a database that knows more than this version."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    script = ScriptDirectory.from_config(config)
    with engine.begin() as connection:
        found = MigrationContext.configure(connection).get_current_revision()
        if found == script.get_current_head():
            return
        if found is not None and found not in {step.revision for step in script.walk_revisions()}:
            raise StoreError(
                f"The feedback store {where} was written by a newer version of Thousand (its revision is {found}); "
                "update thousand-assistant, or name another database in THOUSAND_STORE_URL."
            )
        config.attributes["connection"] = connection
        upgrade(config, "head")


class Store:
    """The database; nothing is opened or made before it is first used."""

    def __init__(self, url: str | None = None) -> None:
        self._given = url
        self._opening = threading.Lock()
        self._opened: Engine | None = None

    @property
    def url(self) -> URL:
        """Where it is. Raises StoreError when what is named is no database."""
        given = settings().store_url if self._given is None else self._given
        try:
            return make_url(given or f"sqlite:///{settings().home / 'feedback.sqlite3'}")
        except ArgumentError:
            raise StoreError(
                "THOUSAND_STORE_URL is no database's address; write it as sqlite:////a/folder/file.sqlite3, or unset it."
            ) from None

    @property
    def exists(self) -> bool:
        """Whether there is one already; of another database than SQLite that is taken for granted."""
        url = self.url
        return url.get_backend_name() != "sqlite" or (url.database is not None and Path(url.database).exists())

    @contextmanager
    def session(self) -> Iterator[Session]:
        """One transaction: all of the block, or, where it raises, nothing.

        Raises StoreError when the database cannot be opened, read or written.
        """
        try:
            with Session(self._engine(), expire_on_commit=False) as session, session.begin():
                yield session
        except DBAPIError as error:
            raise self._failure(error) from error

    def _engine(self) -> Engine:
        with self._opening:
            if self._opened is None:
                self._opened = self._open()
            return self._opened

    def _open(self) -> Engine:
        url = self.url
        is_sqlite = url.get_backend_name() == "sqlite"
        try:
            engine = create_engine(url)
            if is_sqlite:
                _make_private(Path(url.database or ""))
                _prepare_sqlite(engine)
            _migrate(engine, url.render_as_string())
        except (NoSuchModuleError, ModuleNotFoundError) as error:
            raise StoreError(f"THOUSAND_STORE_URL needs a database driver that is not installed: {error}.") from None
        except DBAPIError as error:
            raise self._failure(error) from error
        except OSError as error:
            raise StoreError(f"The feedback store {url.database} cannot be opened: {error.strerror}.") from None
        return engine

    def _failure(self, error: DBAPIError) -> StoreError:
        return StoreError(
            f"The feedback store {self.url.render_as_string()} cannot be used: {error.orig}. "
            "Nothing was changed; mend or move the file, or name another in THOUSAND_STORE_URL."
        )

    def forget_log(self) -> None:
        """Put SQLite's write-ahead log into the database and empty it, so that what was deleted is in neither."""
        engine = self._engine()
        if engine.dialect.name == "sqlite":
            connection = engine.raw_connection()
            try:
                connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
            finally:
                connection.close()

    def close(self) -> None:
        """Let go of the database; it is opened again when it is used again."""
        with self._opening:
            if self._opened is not None:
                self._opened.dispose()
                self._opened = None


def _make_private(file: Path) -> None:
    """What people said is for the owner of this folder only; SQLite gives its other files the same mode."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch(mode=0o600, exist_ok=True)
