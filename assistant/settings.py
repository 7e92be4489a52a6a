"""Where things live, read once from the environment (`THOUSAND_HOME`, `THOUSAND_STORE_URL`, `THOUSAND_API_KEY`,
`THOUSAND_API_KEYS_FILE`, `THOUSAND_ENGINE_KEY`, `THOUSAND_ENDPOINT_KEY`,
`THOUSAND_JUDGE_...`)."""

from functools import cache
from pathlib import Path

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from assistant.errors import ThousandError


class Settings(BaseSettings):
    """The environment's say in things. Every name is prefixed with `THOUSAND_`."""

    model_config = SettingsConfigDict(env_prefix="THOUSAND_")

    home: Path = Field(default_factory=lambda: Path.home() / ".thousand")
    """Unpacked base models, releases, training runs and merged models live here."""

    @field_validator("home")
    @classmethod
    def _whole_path(cls, home: Path) -> Path:
        if home == Path():
            raise ValueError("is empty: name a folder, or unset it")
        return home.expanduser().absolute()

    store_url: str | None = None
    """The feedback store's database as SQLAlchemy writes it; by default feedback.sqlite3 in the home folder."""

    api_key: SecretStr | None = None
    """Asked for by the endpoint and by the page; a key is required to listen on anything but this machine."""

    api_keys_file: Path | None = None
    """More keys, a line each: a name and the key. It is read again whenever it changes."""

    retrain_options: str | None = None
    """Options of `thousand retrain` that one begun on the page has, as a shell would read them."""

    engine_key: SecretStr | None = None
    """Sent as a bearer token to the server that `--engine-url` names."""

    endpoint_key: SecretStr | None = None
    """Sent as a bearer token to an endpoint that is evaluated."""

    judge_url: str | None = None
    """An OpenAI-compatible API, such as `http://127.0.0.1:8000/v1`, that grades answers; without it nothing is graded."""
    judge_model: str | None = None
    """The model there."""
    judge_key: SecretStr | None = None
    """Sent to it as a bearer token."""


@cache
def settings() -> Settings:
    """The settings of this process."""
    found = Settings()
    if found.api_key is not None and not found.api_key.get_secret_value().strip():
        raise ThousandError("THOUSAND_API_KEY is set but empty: give it a value, or unset it.")
    return found


def bundled(name: str) -> Path:
    """A folder that comes with the project (`dialogues`, `releases` or `vocabulary`), in a wheel or in a checkout.

    Raises ThousandError when it is missing.
    """
    package = Path(__file__).resolve().parent
    for folder in (package / "_data" / name, package.parent / "data" / name):
        if folder.is_dir():
            return folder
    raise ThousandError(
        f"The bundled folder data/{name} is missing: reinstall thousand-assistant, or run from a whole checkout."
    )
