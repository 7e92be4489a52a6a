"""Limits of the HTTP layer: how often, how much, how slowly, how many, to which name, from which page."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from gradio_client import Client

from assistant.settings import settings as house
from serve import gate, rate
from serve.connection import Connection
from serve.keys import Keys
from tests.conftest import Command
from tests.server import free_port, wait_until
from tests.test_keys import ALICE, BOB, keys_file
from tests.told import Told, ToldEngine, body, told_app


class Clock:
    """A monotonic clock that stands still until it is moved on."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_more_requests_a_minute_than_a_key_may_are_told_when_to_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(rate, "time", clock)
    keys = Keys(file=keys_file(tmp_path, f"alice {ALICE}", f"bob {BOB}"))
    with told_app(keys=keys, requests_per_minute=3) as told:

        def ask(key: str) -> httpx.Response:
            return told.client.get("/v1/models", headers=bearer(key))

        assert [ask(ALICE).status_code for _ in range(4)] == [200, 200, 200, 429]
        refused = ask(ALICE)
        assert refused.headers["retry-after"] == "20"
        error = refused.json()["error"]
        assert (error["code"], error["type"]) == ("rate_limit_exceeded", "rate_limit_error")
        assert "20 seconds" in error["message"]
        assert ask(BOB).status_code == 200, "the others are not held up"
        clock.now += 20
        assert [ask(ALICE).status_code for _ in range(2)] == [200, 429], "one each twenty seconds"
        clock.now += 3600
        assert [ask(ALICE).status_code for _ in range(4)] == [200, 200, 200, 429], "never more at once than a minute's"


def test_without_keys_the_rate_is_that_of_an_address_on_the_page_too(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate, "time", Clock())
    with told_app(ToldEngine(end_after=2), page=True, requests_per_minute=2) as told:
        page = Client(str(told.client.base_url), verbose=False)
        assert page.predict("why", api_name="/chat") == "word word "
        assert told.ask().status_code == 200
        assert told.ask().status_code == 429
        page.predict("why", api_name="/chat")
        assert told.engine.began == 2
        assert [told.client.get(path).status_code for path in ("/health", "/ready", "/metrics")] == [200] * 3


def test_a_proxy_on_this_machine_says_who_asks_and_a_network_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate, "time", Clock())
    with told_app(requests_per_minute=1) as told:
        for address, status in [
            ("203.0.113.1", 200),
            ("203.0.113.2", 200),
            ("198.51.100.9, 203.0.113.2", 429),
            ("2001:db8::1", 200),
            ("2001:db8::2", 429),
            ("2001:db8:0:1::1", 200),
        ]:
            response = told.client.get("/v1/models", headers={"X-Forwarded-For": address})
            assert response.status_code == status, address


def test_a_flood_of_addresses_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate, "MOST_KNOWN", 10)
    bound = rate.Rate(1)
    for number in range(100):
        assert bound.wait(f"address {number}") == 0
    assert bound.wait("address 99") > 0
    assert len(bound._full) == 10


def test_a_full_queue_says_when_a_place_will_be_free() -> None:
    with told_app(ToldEngine(end_after=40), most_turns=1) as told:
        assert told.ask().status_code == 200
        told.engine.end_after = None
        with told.client.stream("POST", "/v1/chat/completions", json=body(stream=True)) as response:
            lines = response.iter_lines()
            next(lines)
            refused = told.ask()
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "1"
        assert told.metrics()['thousand_errors_total{code="busy"}'] == 1


@contextmanager
def raw(told: Told) -> Iterator[socket.socket]:
    host, port = told.client.base_url.host, told.client.base_url.port
    with socket.create_connection((host, port or 80), timeout=10) as connection:
        yield connection


def post(**headers: str) -> bytes:
    lines = {"Host": "127.0.0.1", "Content-Type": "application/json", **headers}
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in lines.items())
    return f"POST /v1/chat/completions HTTP/1.1\r\n{head}\r\n".encode()


def everything(connection: socket.socket) -> bytes:
    """What comes until the server closes the connection."""
    pieces = []
    try:
        while piece := connection.recv(65536):
            pieces.append(piece)
    except ConnectionResetError:
        pass
    return b"".join(pieces)


@pytest.fixture(scope="module")
def told() -> Iterator[Told]:
    with told_app(ToldEngine(end_after=3)) as found:
        yield found


def test_a_body_whose_length_is_not_told_is_bounded_too(told: Told) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(30):
            yield b" " * 100_000

    response = told.client.post("/v1/chat/completions", content=chunks(), headers={"Content-Type": "application/json"})
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "body_too_large"


def test_a_length_that_is_a_lie_is_refused(told: Told) -> None:
    with raw(told) as connection:
        connection.sendall(post(Content_Length="9" * 400))
        assert everything(connection).split()[1] in (b"400", b"413")


def test_a_body_that_comes_by_drops_is_not_waited_for(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "BODY_SECONDS", 0.2)
    with raw(told) as connection:
        connection.sendall(post(Content_Length="1000") + b'{"model"')
        answer = everything(connection)
    assert answer.split()[1] == b"408"
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "body_too_slow"
    assert told.ask().status_code == 200, "an answer may take as long as it takes"


class Hasty(Connection):
    REQUEST_SECONDS = 0.3
    STALLED_SECONDS = 0.3
    MOST = 4


@pytest.mark.parametrize("head", [b"", b"GET /health HTT", b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX: "])
def test_a_head_that_does_not_come_is_not_waited_for(head: bytes) -> None:
    with told_app(connection=Hasty) as told, raw(told) as connection:
        connection.sendall(head)
        assert everything(connection) == b""


def test_a_connection_kept_alive_that_drips_is_cut(told: Told) -> None:
    with told_app(connection=Hasty) as told, raw(told) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET /heal")
        assert b'{"status":"ok"}' in everything(connection)


@pytest.mark.parametrize("begun", [b"", b"GET / HT", post(Content_Length="100") + b"{"])
def test_connections_that_wait_make_room_for_new_ones(begun: bytes) -> None:
    class Crowded(Connection):
        MOST = 4

    with (
        told_app(connection=Crowded) as told,
        told.client.stream("POST", "/v1/chat/completions", json=body(stream=True)) as response,
    ):
        lines = response.iter_lines()
        next(lines)
        with raw(told) as first, raw(told) as second, raw(told) as third:
            for slow in (first, second, third):
                slow.sendall(begun)
            with raw(told) as last:
                last.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                assert last.recv(1000).startswith(b"HTTP/1.1 200")
            assert everything(first) == b"", "the one that has waited longest is cut"
        assert any("word" in line for line in lines), "one that is answered is not"


def test_a_reader_who_takes_nothing_is_cut_and_stalls_nobody() -> None:
    sent = json.dumps(body(stream=True)).encode()
    with told_app(ToldEngine(word="x" * 500_000), connection=Hasty) as told, raw(told) as stalled:
        stalled.sendall(post(Content_Length=str(len(sent))) + sent)
        with told.client.stream("POST", "/v1/chat/completions", json=body(stream=True)) as response:
            pieces = response.iter_bytes()
            assert sum(len(next(pieces)) for _ in range(500)) > 1_000_000, "another is answered meanwhile"
            assert told.engine.closed.acquire(timeout=5), "the place of the stalled one is free again"
        assert told.engine.began == 2


def test_a_reader_who_leaves_the_end_lying_is_cut_too() -> None:
    with told_app(ToldEngine(end_after=1, word="x" * 8_000_000), connection=Hasty) as told, raw(told) as stalled:
        sent = json.dumps(body()).encode()
        stalled.sendall(post(Content_Length=str(len(sent)), Connection="close") + sent)
        wait_until(
            lambda: told.metrics()['thousand_requests_total{route="/v1/chat/completions",status="200"}'] == 1, "done"
        )
        wait_until(lambda: told.connections() == 0, "nobody is connected")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("127.0.0.1:1234", 200),
        ("LOCALHOST:1", 200),
        ("[::1]:8000", 200),
        ("evil.example", 400),
        ("127.0.0.1.evil.example", 400),
        ("localhost@evil.example", 400),
        ("[::1", 400),
        ("[::2]", 400),
        ("", 400),
    ],
)
def test_without_a_key_only_names_of_this_machine_are_answered(told: Told, host: str, status: int) -> None:
    for path in ("/v1/models", "/health", "/metrics"):
        response = told.client.get(path, headers={"Host": host})
        assert response.status_code == status
    if status == 400:
        assert response.json()["error"]["code"] == "unknown_host"


def test_with_a_key_any_name_is_answered(tmp_path: Path) -> None:
    with told_app(keys=Keys(file=keys_file(tmp_path, f"alice {ALICE}"))) as told:
        headers = {"Host": "chat.example.org", **bearer(ALICE)}
        assert told.client.get("/v1/models", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json", 200),
        ("Application/JSON; charset=utf-8", 200),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("application/jsonp", 415),
        ("text/plain; application/json", 415),
        (None, 415),
    ],
)
def test_a_body_must_say_that_it_is_json(told: Told, kind: str | None, status: int) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    response = told.client.post("/v1/chat/completions", content=json.dumps(body()), headers=headers)
    assert response.status_code == status
    if status == 415:
        assert response.json()["error"]["code"] == "unsupported_media_type"


ELSEWHERE, FRIEND = "https://evil.example", "https://app.example.org"
PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}


def allowed(response: httpx.Response) -> str | None:
    return response.headers.get("access-control-allow-origin")


@pytest.fixture(scope="module")
def told_with_page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THOUSAND_HOME", str(tmp_path_factory.mktemp("home")))
        house.cache_clear()
        with told_app(page=True) as found:
            yield found
    house.cache_clear()


@pytest.mark.parametrize("origin", [ELSEWHERE, "null", "http://127.0.0.1:1", "http://localhost"])
def test_pages_of_other_sites_get_nothing_by_default(told_with_page: Told, origin: str) -> None:
    told, headers = told_with_page, {"Origin": origin}
    assert told.client.post("/v1/chat/completions", json=body(), headers=headers).status_code == 403
    assert told.client.post("/gradio_api/queue/join", json={}, headers=headers).status_code == 403
    assert told.client.post("/login", data={"password": "x"}, headers=headers).status_code == 403
    assert told.engine.began == 0
    for path in ("/v1/models", "/", "/config", "/gradio_api/info", "/metrics", "/v1/nothing"):
        assert allowed(told.client.get(path, headers=headers)) is None
        assert allowed(told.client.options(path, headers={**headers, **PREFLIGHT})) is None


def test_a_page_that_was_named_may_call_the_endpoint_and_reads_errors_too() -> None:
    with told_app(ToldEngine(end_after=1), origins=[FRIEND]) as told:
        before = told.client.options("/v1/chat/completions", headers={"Origin": FRIEND, **PREFLIGHT})
        assert before.status_code == 200
        assert allowed(before) == FRIEND
        for request in (body(), {"model": "nothing"}):
            response = told.client.post("/v1/chat/completions", json=request, headers={"Origin": FRIEND})
            assert allowed(response) == FRIEND
            assert "access-control-allow-credentials" not in response.headers
        odd = told.client.post("/v1/chat/completions", content="x", headers={"Origin": FRIEND})
        assert (odd.status_code, allowed(odd)) == (415, FRIEND)
        other = told.client.post("/v1/chat/completions", json=body(), headers={"Origin": ELSEWHERE})
        assert (other.status_code, allowed(other)) == (403, None)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--allow-origin", "example.org"], "'example.org', no origin; give one such as https://example.org"),
        (["--allow-origin", "*"], "needs a key"),
        (["--host", "0.0.0.0"], "needs a key"),
        (["--host", "::"], "needs a key"),
        (["--host", "0"], "needs a key"),
        (["--host", "::ffff:0.0.0.0"], "needs a key"),
    ],
)
def test_what_lets_others_in_is_refused_without_a_key(
    thousand: Command, home: Path, options: list[str], said: str
) -> None:
    result = thousand("serve", "--port", free_port(), "--release", "none-such", *options)
    assert result.code == 1
    assert said in result.err


NESTED = b'{"model":"thousand","messages":' + b"[" * 100_000
MANY_FIELDS = ",".join(f'"field-{number}":1' for number in range(100_000)).encode()
MANY_PARTS = b'{"model":"thousand","messages":[{"role":"user","content":[' + b"1," * 400_000 + b"1]}]}"


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe\x00garbage",
        b'{"model": "thousand", "messages": [{"role": "user", "content": "\xc3\x28"}]}',
        NESTED,
        MANY_PARTS,
        b'{"model":"thousand","messages":[{"role":"user","content":"x",' + MANY_FIELDS + b"}]}",
        b'{"model":"thousand","messages":[],' + MANY_FIELDS + b"}",
        b'{"model":"thousand","messages":[],' + MANY_FIELDS + b',"field-99999":1}',
        b'{"model":"thousand","messages":[],"' + b"x" * 1_000_000 + b'":1}',
        json.dumps(body(temperature=float("nan"))).encode(),
        json.dumps(body(temperature=float("inf"))).encode(),
        json.dumps(body()).replace("}]", '}], "temperature": 1e999').encode(),
        json.dumps(body()).replace("}]", '}], "seed": ' + "9" * 5000).encode(),
        json.dumps(body(max_tokens=10**30)).encode(),
        json.dumps(body(seed=-1)).encode(),
        json.dumps(body(messages=[{"role": "user", "content": "x"}] * 501)).encode(),
        json.dumps(body(stop=["x"] * 9)).encode(),
        json.dumps(body(stop="x" * 201)).encode(),
        json.dumps(body(n=10**9)).encode(),
    ],
)
def test_broken_and_boundless_bodies_are_a_400_in_few_words(told: Told, content: bytes) -> None:
    """Each within the client's ten seconds, though the test's machine may be busy: unbounded they took minutes."""
    response = told.client.post("/v1/chat/completions", content=content, headers={"Content-Type": "application/json"})
    assert response.status_code == 400, response.text[:500]
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}
    assert len(response.content) < 2000
    assert told.ask().status_code == 200


def test_what_is_no_http_is_refused_without_harm(told: Told) -> None:
    for garbage in (
        b"\x16\x03\x01\x02\x00\x01\x00" * 50,
        b"\r\n\r\n\r\n",
        b"GET \xff HTTP/1.1\r\n\r\n",
        b"A" * 100_000,
    ):
        with raw(told) as connection:
            connection.sendall(garbage)
            connection.shutdown(socket.SHUT_WR)
            assert everything(connection)[:12] in (b"HTTP/1.1 400", b"")
    assert told.ask().status_code == 200


@pytest.mark.parametrize(
    "field", ["chat_template", "chat_template_kwargs", "template", "add_generation_prompt", "tools"]
)
def test_no_template_comes_with_a_request(told: Told, field: str) -> None:
    began = told.engine.began
    response = told.ask(**{field: "{{ cycler.__init__.__globals__.os.system('true') }}"})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == field
    assert told.engine.began == began
