"""Requests and answers in OpenAI's form, read by the clients that people use."""

import asyncio
import json
import shutil
import subprocess
from typing import Any

import httpx
import openai
import pytest

TEXT = "So it is 28 apples ."
ASK: list[Any] = [{"role": "user", "content": "Ana matufaa mangapi?"}]


@pytest.fixture(scope="module")
def started(serve_all, scripted):
    return serve_all(scripted())


@pytest.fixture
def running(started):
    started.engine.asked.clear()
    return started


@pytest.fixture(scope="module")
def client(started):
    with openai.OpenAI(base_url=f"{started.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_a_chat_completion(running, client) -> None:
    found = client.chat.completions.create(model="bridge", messages=ASK, max_tokens=7, stop=["\n"])
    (choice,) = found.choices
    assert (choice.message.content, choice.message.role, choice.finish_reason) == (TEXT, "assistant", "stop")
    assert (found.object, found.model, found.id[:9]) == ("chat.completion", "bridge", "chatcmpl-")
    usage = found.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (8, 6, 14)
    assert usage.prompt_tokens_details.encoder_tokens == 3
    ((request, decoding),) = running.engine.asked
    assert request.messages == ASK
    assert (decoding.max_new_tokens, decoding.stop, decoding.options) == (7, ["\n"], {})
    assert found._request_id.startswith("req_")


def test_a_stream_is_the_same_text_and_ends_with_usage(client) -> None:
    options = {"stream_options": {"include_usage": True}}
    *chunks, last = client.chat.completions.create(model="bridge", messages=ASK, stream=True, **options)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert len(chunks) > 5
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == TEXT
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert all(chunk.usage is None for chunk in chunks)
    assert (last.choices, last.usage.completion_tokens, last.usage.prompt_tokens_details.encoder_tokens) == ([], 6, 3)
    assert all(
        chunk.usage is None for chunk in client.chat.completions.create(model="bridge", messages=ASK, stream=True)
    )


def test_the_limit_of_tokens_is_told(client) -> None:
    found = client.chat.completions.create(model="bridge", messages=ASK, max_completion_tokens=2)
    assert (found.choices[0].message.content, found.choices[0].finish_reason) == ("So it", "length")
    *_, last = client.completions.create(model="bridge", prompt="2+2?", max_tokens=2, stream=True)
    assert (last.choices[0].text, last.choices[0].finish_reason) == ("", "length")


def test_turns_go_to_the_engine_as_they_are(running, client) -> None:
    turns = [
        {"role": "developer", "content": "Be short."},
        {"role": "user", "content": [{"type": "text", "text": "Tom ana "}, {"type": "text", "text": "matufaa 28."}]},
        {"role": "assistant", "content": "28", "tool_calls": None, "refusal": None},
        {"role": "user", "content": "Sasa?"},
    ]
    client.chat.completions.create(model="bridge", messages=turns, extra_body={"language": "sw"})
    request, _ = running.engine.asked[0]
    assert [turn["role"] for turn in request.messages] == ["system", "user", "assistant", "user"]
    assert request.messages[1]["content"] == "Tom ana matufaa 28."
    assert request.language == "sw"


def test_several_answers_draw_by_keys_of_their_own(running, client) -> None:
    found = client.chat.completions.create(model="bridge", messages=ASK, n=3, seed=5, temperature=0.5, top_p=0.9)
    assert [choice.index for choice in found.choices] == [0, 1, 2]
    assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (8, 18), "the prompt is counted once"
    asked = running.engine.asked
    keys = [request.key for request, _ in asked]
    assert keys[0] is None, "the first is the answer that one alone would be"
    assert len({json.dumps(key) for key in keys}) == 3
    drawn = {"do_sample": True, "temperature": 0.5, "top_p": 0.9, "top_k": 0}
    assert all((decoding.seed, decoding.options) == (5, drawn) for _, decoding in asked)


def test_it_draws_only_where_it_is_asked_to(running, client) -> None:
    for options in ({}, {"temperature": 0}, {"top_p": 0}, {"n": 2}, {"top_p": 0.5}, {"temperature": 0, "n": 2}):
        client.completions.create(model="bridge", prompt="2+2?", **options)
    drawn = [decoding.options.get("temperature", 0) for _, decoding in running.engine.asked]
    assert drawn == [0, 0, 0, 1, 1, 1, 0, 0]
    seeds = {decoding.seed for _, decoding in running.engine.asked}
    assert len(seeds) == 6, "who gives no seed gets another one each time"


def test_prompts_in_a_list(running, client) -> None:
    found = client.completions.create(model="bridge", prompt=["2+2?", "3 + 3?"], n=2)
    assert [choice.index for choice in found.choices] == [0, 1, 2, 3]
    assert [request.prompt for request, _ in running.engine.asked] == ["2+2?", "2+2?", "3 + 3?", "3 + 3?"]
    assert found.usage.prompt_tokens == 6 + 8
    assert found.object == "text_completion"


def test_log_probabilities(client) -> None:
    found = client.chat.completions.create(model="bridge", messages=ASK, logprobs=True, top_logprobs=2)
    first, second, *_ = tokens = found.choices[0].logprobs.content
    assert "".join(token.token for token in tokens) == TEXT
    assert (first.logprob, second.bytes) == (-0.5, list(b" it"))
    assert [(top.token, top.logprob) for top in first.top_logprobs] == [("So", -0.5), ("?", -9999.0)]
    assert client.chat.completions.create(model="bridge", messages=ASK).choices[0].logprobs is None
    streamed = client.chat.completions.create(model="bridge", messages=ASK, logprobs=True, stream=True)
    told = [chunk.choices[0].logprobs for chunk in streamed]
    assert "".join(token.token for one in told if one for token in one.content) == TEXT
    of_text = client.completions.create(model="bridge", prompt="2+2?", logprobs=1).choices[0].logprobs
    assert of_text.tokens == [token.token for token in tokens]
    assert of_text.text_offset == [0, 2, 5, 8, 11, 18]
    assert of_text.top_logprobs[0] == {"So": -0.5}


def test_a_bridge_that_does_not_chat_answers_one_prompt(serve, scripted) -> None:
    running = serve(scripted(chats=False))
    with openai.OpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0) as client:
        client.chat.completions.create(model="bridge", messages=ASK)
        assert running.engine.asked[0][0].prompt == ASK[0]["content"]
        with pytest.raises(openai.BadRequestError, match="one prompt at a time"):
            client.chat.completions.create(model="bridge", messages=[{"role": "system", "content": "Hi."}, *ASK])


def test_models(serve, scripted) -> None:
    running = serve(scripted(), scripted(lambda request: "plain"))
    with openai.OpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0) as client:
        assert [model.id for model in client.models.list()] == ["bridge", "plain"]
        assert client.models.retrieve("plain").owned_by == "langbridge"
        found = client.chat.completions.create(model="plain", messages=ASK)
        assert found.choices[0].message.content == "plain"
        with pytest.raises(openai.NotFoundError, match="got 'gpt-4', expected bridge, plain") as refused:
            client.chat.completions.create(model="gpt-4", messages=ASK)
        assert (refused.value.code, refused.value.param) == ("model_not_found", "model")
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("gpt-4")


def test_the_asynchronous_client_and_many_at_once(serve, scripted) -> None:
    running = serve(scripted(lambda request: f"re {request.messages[-1]['content']} end", slots=4, pause=0.002))

    async def ask() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0) as client:

            async def one(number: int) -> str:
                asked: Any = [{"role": "user", "content": f"no {number}"}]
                if number % 2:
                    whole = await client.chat.completions.create(model="bridge", messages=asked)
                    return str(whole.choices[0].message.content)
                stream = await client.chat.completions.create(model="bridge", messages=asked, stream=True)
                return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

            return await asyncio.gather(*(one(number) for number in range(20)))

    assert asyncio.run(ask()) == [f"re no {number} end" for number in range(20)]


def test_langchain(running) -> None:
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(base_url=f"{running.url}/v1", api_key="none", model="bridge", max_retries=0, timeout=20)
    found = model.invoke([("system", "Be short."), ("human", "Tom ana matufaa 28.")])
    assert found.content == TEXT
    assert found.usage_metadata["output_tokens"] == 6
    assert "".join(str(chunk.content) for chunk in model.stream("Sasa?")) == TEXT


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl(running) -> None:
    body = json.dumps({"messages": ASK, "stream": True})
    url = f"{running.url}/v1/chat/completions"
    command = ["curl", "-sS", "--noproxy", "*", "-N", url, "-H", "Content-Type: application/json", "-d", body]
    lines = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    assert json.loads(lines[1].removeprefix("data: "))["choices"][0]["delta"] == {"content": "So"}


def test_what_changes_no_answer_is_not_heard(running) -> None:
    body = {
        "messages": [{**ASK[0], "name": "Al"}], "user": "me",
        "metadata": {"a": "b"}, "store": True, "tools": [], "tool_choice": "none",
        "frequency_penalty": 0, "presence_penalty": 0.0, "response_format": {"type": "text"}, "logit_bias": None,
        "functions": None, "modalities": ["text"], "parallel_tool_calls": False,
    }  # fmt: skip
    with running.client() as client:
        assert client.post("/v1/chat/completions", json=body).status_code == 200
        assert client.post("/v1/completions", json={"prompt": "2+2?", "echo": False, "best_of": 1}).status_code == 200
        empty = {"messages": [{"role": "system", "content": ""}, *ASK]}
        assert client.post("/v1/chat/completions", json=empty).status_code == 200
        assert "max_completion_tokens" in client.get("/openapi.json").text


def chat(**fields: Any) -> dict[str, Any]:
    return {"messages": ASK, **fields}


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        (chat(tools=[{"type": "function"}]), "tools", "which this server cannot do; leave it out"),
        (chat(response_format={"type": "json_object"}), "response_format", "cannot do"),
        (chat(frequency_penalty=0.5), "frequency_penalty", "got 0.5"),
        (chat(temprature=1), "temprature", "no such field; is it 'temperature'?"),
        (chat(temperature=3), "temperature", "got 3, expected less than or equal to 2"),
        (chat(temperature="hot"), "temperature", "got 'hot', expected a valid number"),
        (chat(n=0), "n", "got 0, expected greater than or equal to 1"),
        (chat(n=17), "n", "1 prompts times 17 answers, at most 16"),
        (chat(max_tokens=10**6), "max_tokens", "this server writes at most 512"),
        (chat(max_tokens=1, max_completion_tokens=2), "max_tokens", "says something else"),
        (chat(stop=5), "stop", "got 5, expected a valid string or a valid list"),
        (chat(stop=["a", 5]), "stop", "expected a valid string"),
        (chat(top_logprobs=2), "top_logprobs", "only with `logprobs: true`"),
        (chat(stream_options={"include_usage": True}), "stream_options", "only with `stream: true`"),
        (chat(language="xx"), None, "the encoder has no mark for 'xx'"),
        ({}, "messages", "messages: missing"),
        ({"messages": []}, "messages", "at least 1 item"),
        ({"messages": "hello"}, "messages", "got 'hello', expected a valid list"),
        ({"messages": [{"content": "x"}]}, "messages[0].role", "missing"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0]", "expected system, developer, user"),
        ({"messages": [{"role": "user", "content": "  "}]}, "messages[0].content", "the text is empty"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "messages[0].content", "half of a surrogate pair"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content", "type `text`"),
        ({"messages": [*ASK, {"role": "assistant", "content": "So"}]}, "messages", "the last is the assistant's"),
        ({"messages": [{"role": "user", "content": "x", "refusal": "no"}]}, "messages[0]", "role and content alone"),
        ({"messages": [{"role": "user", "content": "way too long"}]}, None, "write less (max_tokens)"),
        ({"messages": [{"role": "user", "content": "x" * 40_000}]}, "messages", "got 40000 characters, at most 32000"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(running, body, param, message) -> None:
    with running.client() as client:
        found = client.post("/v1/chat/completions", content=json.dumps(body), headers=JSON)
    error = found.json()["error"]
    assert (found.status_code, error["type"], error["param"]) == (400, "invalid_request_error", param)
    assert message in error["message"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert not running.engine.asked


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"prompt": [1, 2]}, "prompt: expected text"),
        ({"prompt": []}, "empty list"),
        ({"prompt": "x", "echo": True}, "echo: got True"),
        ({"prompt": "x", "suffix": "y"}, "suffix: got 'y'"),
        ({"prompt": "x", "logprobs": 6}, "logprobs: got 6"),
    ],
)
def test_what_is_wrong_with_a_prompt_is_said(running, body, message) -> None:
    with running.client() as client:
        found = client.post("/v1/completions", json=body)
    assert found.status_code == 400
    assert message in found.json()["error"]["message"]


JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("method", "path", "sent", "status", "message"),
    [
        ("GET", "/v2/nothing", {}, 404, "no such path"),
        ("GET", "/v1/chat/completions", {}, 405, "it takes POST"),
        ("DELETE", "/", {}, 405, "it takes GET, HEAD"),
        ("POST", "/v1/completions", {"content": b"{", "headers": JSON}, 400, "no JSON"),
        ("POST", "/v1/completions", {"content": b"\xff\xfe", "headers": JSON}, 400, "no JSON"),
        ("POST", "/v1/completions", {"content": b"[" * 50_000, "headers": JSON}, 400, "expected JSON"),
        ("POST", "/v1/completions", {"content": b"[]", "headers": JSON}, 400, "expected a JSON object"),
        ("POST", "/v1/completions", {"content": b"", "headers": JSON}, 400, "got nothing"),
        ("POST", "/v1/completions", {"data": {"prompt": "x"}}, 400, "Content-Type: application/json"),
        ("POST", "/v1/completions", {"content": b'{"prompt": "x", "top_p": NaN}', "headers": JSON}, 400, "top_p"),
        ("POST", "/v1/completions", {"json": {"prompt": "a bug"}}, 500, "internal error"),
    ],
)
def test_every_error_has_openais_form(running, method, path, sent, status, message) -> None:
    with running.client() as client:
        found = client.request(method, path, **sent)
    error = found.json()["error"]
    assert found.status_code == status
    assert message in error["message"]
    assert "Traceback" not in found.text
    assert found.headers["x-request-id"].startswith("req_")


def test_what_fails_while_it_is_written(serve, scripted) -> None:
    running = serve(scripted(lambda request: "unavailable"))
    with openai.OpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0) as client:
        with pytest.raises(openai.InternalServerError, match="nobody writes") as refused:
            client.chat.completions.create(model="bridge", messages=ASK)
        assert refused.value.status_code == 503
        assert refused.value.response.headers["retry-after"] == "5"
        with pytest.raises(openai.APIError, match="nobody writes"):
            list(client.chat.completions.create(model="bridge", messages=ASK, stream=True))


def test_text_is_sent_as_it_is(serve, scripted) -> None:
    running = serve(scripted(lambda request: "ఆపిల్స్ 28 🍎 سیب"))
    with running.client() as client:
        found: httpx.Response = client.post("/v1/chat/completions", json=chat())
    assert "ఆపిల్స్ 28 🍎 سیب" in found.text


def test_a_prompt_that_is_asked_twice_has_two_samples(running, client) -> None:
    client.completions.create(model="bridge", prompt=["b", "c", "b"], n=2, temperature=1, seed=3)
    drawn_by = [repr(request.drawn_by) for request, _ in running.engine.asked]
    assert len(set(drawn_by)) == len(drawn_by) == 6


def test_a_temperature_next_to_nothing_draws_nothing(running, client) -> None:
    client.completions.create(model="bridge", prompt="b", temperature=1e-30)
    ((_, decoding),) = running.engine.asked
    assert not decoding.options
