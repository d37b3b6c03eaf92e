"""Handlers of each style, sync and async: what goes in, what comes out."""

import base64
import json

import pytest

ASYNC = pytest.mark.parametrize("prefix", ["", "async "], ids=["sync", "async"])


@ASYNC
def test_typed(start, prefix):
    worker = start(f"{prefix}def handler(name: str, times: int = 2) -> dict:\n    return {{'said': name * times}}\n")
    assert (worker.ready["style"], worker.ready["is_async"]) == ("typed", bool(prefix))
    outcome = worker.call(name="ab")
    assert (outcome.status, outcome.json, outcome.headers) == (
        200, {"said": "abab"}, {"content-type": "application/json"},
    )  # fmt: skip
    assert worker.call(name="ab", times=1).json == {"said": "ab"}
    assert worker.invoke(method="GET", query="name=a%20b&times=3").json == {"said": "a ba ba b"}
    assert worker.invoke(b'{"name": "body"}', method="PUT").json == {"said": "bodybody"}


@ASYNC
def test_request(start, prefix):
    worker = start(
        "import tailcut\n"
        f"{prefix}def handler(request: tailcut.Request):\n"
        "    return tailcut.Response({'method': request.method, 'path': request.path, 'query': request.query,\n"
        "        'type': request.headers['Content-Type'], 'json': request.json(), 'id': request.request_id},\n"
        "        status=201, headers={'X-One': 'é', 'Set-Cookie': ['a=1', 'b=2'], 'Content-Length': '999'})\n"
    )
    assert worker.ready["style"] == "request"
    outcome = worker.invoke(
        b"[1]", path="/a/ü", query="x=1&y=&x=2", headers=[("content-type", "application/json"), ("x", "y")]
    )
    assert outcome.status == 201
    assert outcome.json == {
        "method": "POST", "path": "/a/ü", "query": {"x": "2", "y": ""}, "type": "application/json", "json": [1],
        "id": bytes(range(16)).hex(),
    }  # fmt: skip
    assert outcome.answer.all("Set-Cookie") == ["a=1", "b=2"]
    assert outcome.headers["content-type"] == "application/json"
    assert "Content-Length" not in outcome.headers


def test_a_request_is_one_whatever_is_done_with_it_first(start):
    worker = start(
        "import copy\nimport pickle\nimport tailcut\n"
        "def handler(request: tailcut.Request):\n"
        "    request.method = 'SET'\n"
        "    twin = copy.copy(request)\n"
        "    again = pickle.loads(pickle.dumps(request)) if request.body == b'pickled' else twin\n"
        "    return [isinstance(request, tailcut.Request), again.method, again.path, twin.headers.get('x'),\n"
        "            hasattr(request, 'nothing'), repr(request)]\n"
    )
    for body in (b"plain", b"pickled"):
        found = worker.invoke(body, path="/p", headers=[("x", "y")]).json
        assert found == [True, "SET", "/p", "y", False, f"<Request SET /p {len(body)} bytes>"]


@ASYNC
def test_event(start, prefix):
    worker = start(
        f"{prefix}def handler(event, context):\n"
        "    if event['rawPath'] == '/plain':\n"
        "        return {'event': event, 'left': context.get_remaining_time_in_millis() > 0,\n"
        "                'name': context.function_name, 'id': context.aws_request_id}\n"
        "    return {'statusCode': 404, 'headers': {'x-a': 'b'}, 'cookies': ['c=1'],\n"
        "            'body': 'AAEC', 'isBase64Encoded': True}\n"
    )
    assert worker.ready["style"] == "event"
    outcome = worker.invoke(
        b"\xff\x00", path="/plain", query="a=1&a=2&b=", headers=[("Cookie", "k=v; l=w"), ("content-type", "image/png")]
    )
    event = outcome.json["event"]
    assert outcome.status == 200
    assert (outcome.json["left"], outcome.json["name"]) == (True, "sample")
    assert event["version"] == "2.0"
    assert event["queryStringParameters"] == {"a": "1,2", "b": ""}
    assert event["cookies"] == ["k=v", "l=w"]
    assert event["requestContext"]["http"]["method"] == "POST"
    assert event["requestContext"]["requestId"] == outcome.json["id"]
    assert (base64.b64decode(event["body"]), event["isBase64Encoded"]) == (b"\xff\x00", True)

    other = worker.invoke(b"text", path="/other")
    assert (other.status, other.answer.body) == (404, b"\x00\x01\x02")
    assert other.headers["x-a"] == "b"
    assert other.answer.all("set-cookie") == ["c=1"]


TYPES = """
import dataclasses, datetime, decimal, enum, typing, uuid
class Colour(enum.Enum):
    RED = "red"
@dataclasses.dataclass
class Point:
    x: float
    y: float = 1.5
class Row(typing.TypedDict):
    n: int
def handler(colour: Colour, point: Point, rows: list[Row], at: datetime.datetime, key: uuid.UUID,
            cost: decimal.Decimal, kind: typing.Literal["a", "b"],
            maybe: int | None = None, tags: list[str] = [], *, more: dict[str, int] = {}):
    return {"colour": colour.name, "point": point, "rows": rows, "year": at.year, "key": key, "cost": cost + 1,
            "kind": kind, "maybe": maybe, "tags": tags, "more": more}
"""


def test_annotations_become_values_of_their_types(start):
    worker = start(TYPES)
    sent = {
        "colour": "red", "point": {"x": 1}, "rows": [{"n": 1}], "at": "2026-01-02T03:04:05Z",
        "key": "00000000-0000-0000-0000-000000000001", "cost": "1.10", "kind": "b",
    }  # fmt: skip
    assert worker.call(**sent).json == {
        "colour": "RED", "point": {"x": 1.0, "y": 1.5}, "rows": [{"n": 1}], "year": 2026, "key": sent["key"],
        "cost": "2.10", "kind": "b", "maybe": None, "tags": [], "more": {},
    }  # fmt: skip
    wrong = worker.call(
        **{**sent, "colour": "blue", "rows": [{"n": "1"}], "kind": "c", "extra": 1, "at": "noon"}
    ).answer
    named = dict(each.split("\0", 1) for each in wrong.all("argument"))
    assert set(named) == {"colour", "rows", "kind", "extra", "at"}
    assert "$[0].n" in named["rows"]
    assert "unknown" in named["extra"]


def test_bundles_bring_models_of_their_own(start):
    """Recognised by their methods: no library of the server's is involved."""
    worker = start(
        "class Model:\n"
        "    def __init__(self, n): self.n = n\n"
        "    @classmethod\n"
        "    def model_validate(cls, value):\n"
        "        if not isinstance(value, dict) or 'n' not in value: raise ValueError('n is missing in the model')\n"
        "        return cls(value['n'])\n"
        "    @classmethod\n"
        "    def model_json_schema(cls): return {'type': 'object', 'title': 'Model'}\n"
        "    def model_dump(self, mode): return {'n': self.n, 'mode': mode}\n"
        "def handler(model: Model) -> Model:\n"
        "    return Model(model.n + 1)\n"
    )
    assert worker.call(model={"n": 1}).json == {"n": 2, "mode": "json"}
    assert "n is missing" in worker.call(model={}).answer.all("argument")[0]


def test_a_query_is_converted_to_the_annotated_types(start):
    worker = start(
        "def handler(n: int, f: float = 0.5, yes: bool = False, tags: list[str] = []):\n    return [n, f, yes, tags]\n"
    )
    assert worker.invoke(method="GET", query="n=3&f=2.5&yes=true&tags=a&tags=b").json == [3, 2.5, True, ["a", "b"]]
    wrong = worker.invoke(method="GET", query="n=x&m=1").answer
    assert {each.partition("\0")[0] for each in wrong.all("argument")} == {"n", "m"}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{nope", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[1]", "array"),
        (b"7", "number"),
        (b"", "missing"),
        (b'{"n": 1, "n2": 2}', "unknown"),
        (b'{"n": "\xff"}', "not JSON"),
        (b"[" * 5000, "not JSON"),
    ],
)
def test_bad_bodies_are_the_callers_fault_and_say_why(start, body, words):
    worker = start("def handler(n: int):\n    return n\n")
    answer = worker.invoke(body).answer
    assert answer.kind == "failure"
    assert answer.headers["kind"] == "invalid-arguments"
    assert words in " ".join(value for _, value in answer.entries)
    assert worker.call(n=1).json == 1


@pytest.mark.parametrize(
    ("expression", "sent"),
    [
        ("None", b"null"),
        ("10**30", str(10**30).encode()),
        ("{1: 2}", b'{"1":2}'),
        ("'\\u00e9'", '"é"'.encode()),
        ("{'t': (1, 2)}", b'{"t":[1,2]}'),
    ],
)
def test_results_are_json(start, expression, sent):
    outcome = start(f"def handler():\n    return {expression}\n").invoke()
    assert (outcome.status, outcome.answer.body) == (200, sent)


@pytest.mark.parametrize(
    ("expression", "content_type", "body"),
    [
        ("b'\\x00'", "application/octet-stream", b"\0"),
        ("'text'", "text/plain; charset=utf-8", b"text"),
        ("[1]", "application/json", b"[1]"),
        ("tailcut.Response('<p>', content_type='text/html')", "text/html", b"<p>"),
    ],
)
def test_results_of_the_request_style(start, expression, content_type, body):
    outcome = start(f"import tailcut\ndef handler(r: tailcut.Request):\n    return {expression}\n").invoke()
    assert (outcome.status, outcome.headers["content-type"], outcome.answer.body) == (200, content_type, body)


def test_a_context_may_be_asked_for(start):
    worker = start(
        "import tailcut\ndef handler(n: int, about: tailcut.Context):\n    return [n, about.tenant, about.request_id]\n"
    )
    assert worker.call(n=1).json == [1, "acme", bytes(range(16)).hex()]
    assert "about" not in json.dumps(worker.ready["schemas"])


def test_openapi_of_a_typed_function(start):
    ready = start(TYPES).ready
    operation, schemas = ready["operation"], ready["schemas"]
    reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    assert reference == "#/components/schemas/sample.Arguments"
    arguments = schemas["sample.Arguments"]
    assert set(arguments["required"]) == {"colour", "point", "rows", "at", "key", "cost", "kind"}
    assert arguments["properties"]["point"] == {"$ref": "#/components/schemas/sample.Point"}
    assert "sample.Point" in schemas


def test_no_coroutine_runs_on_after_the_answer(start):
    worker = start(
        "import asyncio\n"
        "ran = []\n"
        "async def later(n):\n"
        "    try:\n"
        "        await asyncio.sleep(0)\n"
        "        await asyncio.sleep(60)\n"
        "        ran.append(n)\n"
        "    except asyncio.CancelledError:\n"
        "        ran.append('cancelled')\n"
        "        raise\n"
        "async def stubborn():\n"
        "    while True:\n"
        "        try: await asyncio.sleep(0.01)\n"
        "        except asyncio.CancelledError: pass\n"
        "        else: ran.append('turn')\n"
        "kept = []\n"
        "async def handler(start: str = ''):\n"
        "    before = list(ran)\n"
        "    ran.clear()\n"
        "    if start == 'later': kept.append(asyncio.create_task(later(1))); await asyncio.sleep(0.01)\n"
        "    if start == 'stubborn': kept.append(asyncio.create_task(stubborn()))\n"
        "    assert asyncio.current_task() is not None\n"
        "    return before\n"
    )
    assert worker.call(start="later").json == []
    assert worker.call(start="stubborn").json == ["cancelled"]
    worker.call()  # what the stubborn one did until it was given up
    assert worker.call().json == []
