"""The official Python SDK, unmodified, through the gateway."""

import asyncio
import os
import time

import openai

from report import Report

URL = os.environ["GATEWAY_URL"]
KEY = os.environ["GATEWAY_KEY"]
TEXT = os.environ["MOCK_TEXT"]

report = Report("python")


def client(**options):
    options.setdefault("api_key", KEY)
    return openai.OpenAI(base_url=URL, **options)


def say(text, **more):
    """Arguments of a chat; the text keeps it apart from every other test."""
    return dict(
        {"model": "gpt-4o",
         "messages": [{"role": "user", "content": "python " + text}]},
        **more)


def counting(**options):
    """A client that tries five times more, and the requests it has sent."""
    sent = []
    http = openai.DefaultHttpxClient(event_hooks={"request": [sent.append]})
    return client(max_retries=5, http_client=http, **options), sent


def raised(kind, call):
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


@report.test
def chat():
    answer = client().chat.completions.create(**say("chat"))
    assert answer.choices[0].message.content == TEXT
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == 30
    assert answer._request_id


@report.test
def headers():
    answer = client().chat.completions.with_raw_response.create(
        **say("headers"))
    for name in ("x-request-id", "x-ratelimit-limit-requests",
                 "x-ratelimit-remaining-requests"):
        assert name in answer.headers, name
    assert "sk-" not in str(answer.headers)


@report.test
def chat_stream():
    chunks = list(client().chat.completions.create(
        **say("stream", stream=True)))
    text = "".join(c.choices[0].delta.content or "" for c in chunks)
    assert text == TEXT
    assert len(chunks) == 10, len(chunks)
    assert all(c.usage is None for c in chunks)


@report.test
def chat_stream_usage():
    chunks = list(client().chat.completions.create(
        **say("usage", stream=True, stream_options={"include_usage": True})))
    assert chunks[-1].choices == []
    assert chunks[-1].usage.total_tokens == 30


@report.test
def stream_left_early():
    with client().chat.completions.create(**say(
            "early", stream=True,
            extra_headers={"x-mock-pace-ms": "50"})) as stream:
        next(iter(stream))
    answer = client().chat.completions.create(**say("after early"))
    assert answer.choices[0].message.content == TEXT


@report.test
def same_again():
    chat = client().chat.completions.with_raw_response
    first = chat.create(**say("again"))
    second = chat.create(**say("again"))
    assert "hit" not in first.headers.get("cache-status", "")
    assert "hit" in second.headers.get("cache-status", "")
    assert first.parse().id == second.parse().id


@report.test
def asynchronous():
    async def both():
        async with openai.AsyncOpenAI(base_url=URL, api_key=KEY) as c:
            answers = await asyncio.gather(*(
                c.chat.completions.create(**say(f"async {i}"))
                for i in range(10)))
            text = ""
            async for chunk in await c.chat.completions.create(
                    **say("async", stream=True)):
                text += chunk.choices[0].delta.content or ""
            return answers, text

    answers, text = asyncio.run(both())
    assert [a.choices[0].message.content for a in answers] == [TEXT] * 10
    assert text == TEXT


@report.test
def tools():
    answer = client().chat.completions.create(**say(
        "tools", extra_headers={
            "x-mock-tool-name": "weather",
            "x-mock-tool-args": '{"city":"Oslo"}'},
        tools=[{"type": "function", "function": {
            "name": "weather", "parameters": {"type": "object"}}}]))
    call = answer.choices[0].message.tool_calls[0].function
    assert (call.name, call.arguments) == ("weather", '{"city":"Oslo"}')


@report.test
def completions():
    answer = client().completions.create(model="gpt-4o", prompt="python")
    assert answer.choices[0].text == TEXT


@report.test
def embeddings():
    answer = client().embeddings.create(
        model="text-embedding-3-small", input=["python a", "python b"])
    assert len(answer.data) == 2
    assert len(answer.data[0].embedding) == 16


@report.test
def responses():
    answer = client().responses.create(model="gpt-4o", input="python")
    assert answer.output_text == TEXT
    assert answer.usage.total_tokens == 30


@report.test
def responses_stream():
    events = list(client().responses.create(
        model="gpt-4o", input="python stream", stream=True))
    assert events[-1].type == "response.completed"
    text = "".join(e.delta for e in events
                   if e.type == "response.output_text.delta")
    assert text == TEXT


@report.test
def models():
    ids = [m.id for m in client().models.list()]
    assert "gpt-4o" in ids, ids
    assert client().models.retrieve("gpt-4o").id == "gpt-4o"


@report.test
def wrong_key():
    error = raised(openai.AuthenticationError, lambda: client(
        api_key="sk-llm-wrong").chat.completions.create(**say("wrong")))
    assert error.code == "invalid_api_key"
    assert error.request_id


@report.test
def model_not_allowed():
    error = raised(openai.NotFoundError, lambda: client(
        api_key=os.environ["NARROW_KEY"]).chat.completions.create(
            **say("narrow", model="gpt-4.1")))
    assert error.code == "model_not_found"


@report.test
def bad_request():
    error = raised(openai.BadRequestError, lambda: client()
                   .chat.completions.create(model=openai.omit,
                                            messages=[]))
    assert error.type == "invalid_request_error"


@report.test
def unknown_route():
    raised(openai.NotFoundError, lambda: client().get(
        "/no-such-route", cast_to=object))


@report.test
def rate_limit():
    """Five at once, then the client itself waits for a token and succeeds."""
    c = client(api_key=os.environ["SLOW_KEY"])
    start = time.monotonic()
    for i in range(6):
        answer = c.chat.completions.create(**say(f"limit {i}"))
        assert answer.choices[0].message.content == TEXT
        if i == 4:
            assert time.monotonic() - start < 1
    assert 0.8 < time.monotonic() - start < 5


@report.test
def rate_limit_told():
    c = client(api_key=os.environ["SPENT_KEY"], max_retries=0)
    c.chat.completions.create(**say("told"))
    error = raised(openai.RateLimitError, lambda: c.chat.completions.create(
        **say("told again")))
    assert error.code == "rate_limit_exceeded"
    assert int(error.response.headers["retry-after"]) >= 1


@report.test
def token_limit():
    """The client waits for tokens by itself, as long as it is told."""
    c = client(api_key=os.environ["TOKENS_KEY"], max_retries=5)
    start = time.monotonic()
    for i in range(3):
        answer = c.chat.completions.create(**say(f"tokens {i}",
                                                 max_tokens=20))
        assert answer.choices[0].message.content == TEXT
    assert 0.5 < time.monotonic() - start < 6
    error = raised(openai.RateLimitError, lambda: client(
        api_key=os.environ["TOKENS_KEY"], max_retries=0)
        .chat.completions.create(**say("more tokens", max_tokens=30)))
    assert (error.code, error.type) == ("rate_limit_exceeded", "tokens")
    for name in ("limit", "remaining", "reset"):
        assert f"x-ratelimit-{name}-tokens" in error.response.headers, name


@report.test
def too_many_tokens():
    """What no waiting can help is not tried again."""
    c, sent = counting(api_key=os.environ["TOKENS_KEY"])
    error = raised(openai.APIStatusError, lambda: c.chat.completions.create(
        **say("huge", max_tokens=100000)))
    assert (error.status_code, error.code) == (413, "request_too_large")
    assert len(sent) == 1, len(sent)


@report.test
def budget():
    c, sent = counting(api_key=os.environ["POOR_KEY"])
    raw = c.chat.completions.with_raw_response.create(
        **say("dear", model="dear-python", max_tokens=20))
    assert float(raw.headers["x-llm-cost-usd"]) == 0.009
    error = raised(openai.RateLimitError, lambda: c.chat.completions.create(
        **say("dearer", model="dear-python", max_tokens=20)))
    assert error.code == "insufficient_quota"
    assert len(sent) == 2, len(sent)
    answer = c.chat.completions.create(**say("cheap"))
    assert answer.choices[0].message.content == TEXT


@report.test
def provider_retried():
    """The gateway retries, not the client."""
    answer = client(max_retries=0).chat.completions.create(
        **say("flaky", model="flaky-python"))
    assert answer.choices[0].message.content == TEXT


@report.test
def provider_error():
    error = raised(openai.BadRequestError, lambda: client(max_retries=0)
                   .chat.completions.create(**say(
                       "bad", model="bad-python")))
    assert error.code == "context_length_exceeded", error.code


@report.test
def stream_cut():
    stream = client().chat.completions.create(
        **say("cut", model="cut-python", stream=True))
    text = ""
    try:
        for chunk in stream:
            text += chunk.choices[0].delta.content or ""
    except Exception:
        assert text and TEXT.startswith(text)
        return
    raise AssertionError("a stream that broke off ended as if it were whole")


report.run()
