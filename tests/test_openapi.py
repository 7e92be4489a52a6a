"""schemathesis reads our OpenAPI document, sends what it allows and what it forbids, and finds nothing."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from assistant import settings as app_settings
from tests.script import scripted


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch, scripted() as endpoint:
        patch.setenv("THOUSAND_STORE_URL", f"sqlite:///{tmp_path_factory.mktemp('store') / 'feedback.sqlite3'}")
        app_settings.settings.cache_clear()
        yield f"{endpoint.client.base_url}/openapi.json"


def test_what_the_document_allows_is_taken_and_what_it_forbids_is_refused(document: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "schemathesis.cli", "run", document, "--max-examples", "8", "--seed", "1"]
    command += ["--generation-database", "none", "--no-color"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert "8 selected / 8 total" in done.stdout


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/feedback"])
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_with_a_model_that_is_there_nothing_breaks_either(document: str, path: str, mode: GenerationMode) -> None:
    operation = schemathesis.openapi.from_url(document)[path]["POST"]

    @settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def ask(data: st.DataObject) -> None:
        case = data.draw(operation.as_strategy(generation_mode=mode))
        if isinstance(case.body, dict) and isinstance(case.body.get("model"), str):
            case.body["model"] = "thousand"
        # Turns out of order, a prompt too long or an unknown token are no matter of a schema: they are a 400 then.
        case.call_and_validate(excluded_checks=[positive_data_acceptance])

    ask()
