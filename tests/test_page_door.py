"""The page's door: logging in with a key, and that nothing behind it leads further than to the chat."""

from collections.abc import Iterator
from pathlib import Path

import gradio
import httpx
import pytest
from gradio_client import Client
from gradio_client.exceptions import AuthenticationError

from serve import rate
from serve.keys import Keys
from tests.server import wait_until
from tests.test_keys import ALICE, BOB, keys_file
from tests.test_limits import Clock, bearer
from tests.told import Told, ToldEngine, told_app

JOIN = {"data": ["hi"], "fn_index": 0, "session_hash": "somebody"}


@pytest.fixture
def told(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    monkeypatch.setattr(rate, "time", Clock())
    keys = Keys(file=keys_file(tmp_path, f"alice {ALICE}", f"bob {BOB}"))
    with told_app(ToldEngine(end_after=2), page=True, keys=keys) as found:
        yield found


def login(told: Told, password: str) -> int:
    return told.client.post("/login", data={"username": "anybody", "password": password}).status_code


GETS = "info heartbeat/somebody queue/data?session_hash=somebody queue/status call/chat/0"
POSTS = "queue/join call/chat run/predict cancel reset"


def opened(told: Told) -> set[int]:
    """What Gradio's routes answer."""
    codes = {told.client.post(f"/gradio_api/{path}", json=JOIN).status_code for path in POSTS.split()}
    for path in GETS.split():
        with told.client.stream("GET", f"/gradio_api/{path}") as response:
            codes.add(response.status_code)
    return codes


def test_nothing_of_the_page_works_before_somebody_logs_in(told: Told) -> None:
    assert told.client.get("/").status_code == 200, "the page that asks for the key"
    assert "auth_required" in told.client.get("/").text
    assert opened(told) == {401}
    assert told.client.get("/config").status_code == 401
    assert login(told, "wrong-and-long-enough") == 400
    assert login(told, "") == 400
    assert opened(told) == {401}
    assert told.engine.began == 0


def test_who_knows_a_key_gets_in_until_it_is_withdrawn(told: Told, tmp_path: Path) -> None:
    assert login(told, ALICE) == 200
    cookie = next(iter(told.client.cookies.jar))
    assert cookie.has_nonstandard_attr("HttpOnly")
    assert cookie.get_nonstandard_attr("SameSite") == "lax"
    assert 401 not in opened(told)
    assert '"username":"alice"' in told.client.get("/config").text.replace(" ", "")
    keys_file(tmp_path, f"alice {'another-key-of-alice'}", f"bob {BOB}")
    assert opened(told) == {401}, "her name has another key now"
    assert told.client.get("/config").status_code == 401


def test_turns_of_the_page_are_those_of_the_key(told: Told) -> None:
    with pytest.raises((AuthenticationError, ValueError)):
        Client(str(told.client.base_url), auth=("anybody", "wrong-and-long-enough"), verbose=False)
    page = Client(str(told.client.base_url), auth=("anybody", BOB), verbose=False)
    assert page.predict("why", api_name="/chat") == "word word "
    found = told.client.get("/metrics", headers=bearer(ALICE)).text
    assert 'thousand_turns_ended_total{key="bob",outcome="stop",via="page"} 1.0' in found


def test_guessing_is_slow_and_locks_nobody_out_of_what_is_open(told: Told) -> None:
    assert [login(told, f"guess-number-{number:04}") for number in range(11)] == [400] * 10 + [429]
    refused = told.client.post("/login", data={"password": ALICE})
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "6"
    assert told.client.get("/v1/models", headers=bearer(ALICE)).status_code == 200


ICONS = Path(gradio.__file__).parent / "icons"
FILES = [
    f"/gradio_api/file={ICONS}/../../../../../../../../../../etc/passwd",
    f"/gradio_api/file={ICONS}/%2e%2e/__init__.py",
    f"/gradio_api/file={ICONS.parent}/__init__.py",
    f"/gradio_api/file={ICONS}/plus.svg",
    "/gradio_api/file=/etc/passwd",
    "/gradio_api/file=../../../../etc/passwd",
    "/gradio_api/file=http://127.0.0.1:1/",
    "/gradio_api/file/etc/passwd",
    "/file=/etc/passwd",
    "/static/../../../../../../etc/passwd",
    "/static/..%2f..%2f..%2f..%2f..%2f..%2fetc/passwd",
    "/assets/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "/svelte/..%5c..%5cetc/passwd",
    "/gradio_api/proxy=https://example.hf.space/x",
    "/gradio_api/stream/somebody/0/0/playlist-file",
    "/gradio_api/custom_component/0/server/component/../../../etc/passwd",
    "/gradio_api/deep_link?session_hash=somebody",
    "/gradio_api/openapi.json",
    "/gradio_api/vibe-code",
    "/gradio_api/dev/reload",
    "/monitoring/summary",
    "/?deep_link=../../../etc/passwd",
]


def test_no_file_and_no_address_is_reached_through_the_page(home: Path) -> None:
    with told_app(page=True) as told:
        for path in FILES:
            request = told.client.build_request("GET", "/")
            request.url = httpx.URL(str(told.client.base_url)).copy_with(raw_path=path.encode())
            response = told.client.send(request)
            assert "root:" not in response.text, path
            assert response.status_code in (403, 404) or path.startswith("/?"), (path, response.status_code)
        for path in ("upload", "component_server", "process_recording", "vibe-edit", "stream/0"):
            response = told.client.post(f"/gradio_api/{path}", files={"files": ("x.txt", b"x" * 1000)})
            assert response.status_code == 404, path
        page = Client(str(told.client.base_url), verbose=False)
        file = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}
        history = [{"role": "user", "content": [{"type": "file", "file": file}]}, {"role": "assistant", "content": "y"}]
        told.engine.end_after = 1
        told.client.post("/gradio_api/call/chat", json={"data": ["why", "", 0, 1, 1, 5, "", history]})
        assert page.predict("why", api_name="/chat") == "word "
        text = told.chat.template.tokenizer
        assert not any("root:" in text.decode(prompt) for prompt in told.engine.prompts)


def test_a_page_that_is_closed_in_the_middle_of_an_answer_frees_its_place(home: Path) -> None:
    with told_app(page=True) as told:
        data = {"data": ["why", "", 0, 1, 1, 500, ""]}
        event = told.client.post("/gradio_api/call/chat", json=data).json()["event_id"]
        with told.client.stream("GET", f"/gradio_api/call/chat/{event}") as response:
            lines = response.iter_lines()
            assert any("word" in line for line in lines)
        assert told.engine.closed.acquire(timeout=15)
        wait_until(lambda: told.life.under_way == 0, "the page's turn is over")
