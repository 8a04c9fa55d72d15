"""What the cache gives back, as the official Python SDK puts it together: a
stream from a stored answer and an answer from a stored stream."""

import concurrent.futures
import json
import os
import time
import urllib.request

import openai

from report import Report

URL = os.environ["GATEWAY_URL"]
MOCK = os.environ["MOCK_URL"]

with open(os.environ["CACHE_CASES"], encoding="utf-8") as file:
    CASES = json.load(file)

report = Report("python cache")


class Client:
    """The SDK, and what each answer's Cache-Status was."""

    def __init__(self, **options):
        self.status = []
        self.tries = []
        http = openai.DefaultHttpxClient(event_hooks={
            "request": [self.sent], "response": [self.answered]})
        self.sdk = openai.OpenAI(
            base_url=URL, api_key=os.environ["GATEWAY_KEY"],
            http_client=http, **options)

    def sent(self, request):
        self.tries.append(request.headers["x-stainless-retry-count"])

    def answered(self, response):
        self.status.append(response.headers.get("cache-status", ""))

    def miss(self, call):
        answer = call(self.sdk)
        assert "fwd=" in self.status[-1], self.status[-1]
        return answer

    def hit(self, call):
        """An answer is stored when its end is there, which its reader may
        have seen a moment earlier."""
        until = time.monotonic() + 5
        while True:
            answer = call(self.sdk)
            if self.status[-1].startswith("ngx-llm; hit"):
                return answer
            assert time.monotonic() < until, self.status[-1]
            time.sleep(0.01)


def asked(model):
    """How many calls the provider got."""
    with urllib.request.urlopen(MOCK + "/__mock/journal") as answer:
        journal = json.load(answer)
    assert journal["dropped"] == 0
    return sum(json.loads(r["body"]).get("model") == model
               for r in journal["requests"] if r["body"])


def arguments(case, direction):
    model = f"cache-{case['name']}-python-{direction}"
    more = dict(case["params"], model=model)
    if case["call"] == "chat":
        more["messages"] = [{"role": "user", "content": "say"}]
    return more


def sound(pieces):
    """Each piece is what its type says, which the SDK itself lets pass."""
    for piece in pieces:
        type(piece).model_validate(json.loads(piece.to_json()))


def stream_chat(sdk, params):
    with sdk.chat.completions.stream(**params) as stream:
        sound(e.chunk for e in stream if e.type == "chunk")
        return stream.get_final_completion()


def stream_responses(sdk, params):
    params = {k: v for k, v in params.items() if k != "stream_options"}
    with sdk.responses.stream(**params) as stream:
        events = list(stream)
        assert [e.sequence_number for e in events] == list(range(len(events)))
        return stream.get_final_response()


def stream_completions(sdk, params):
    """The SDK has no helper for these: joined by hand."""
    whole, choices = None, {}
    pieces = list(sdk.completions.create(stream=True, **params))
    sound(p for p in pieces if p.choices and p.choices[0].finish_reason)

    for piece in pieces:
        whole = whole or dict(piece.to_dict(), usage=None)
        whole["usage"] = piece.to_dict().get("usage") or whole["usage"]
        for new in piece.to_dict()["choices"]:
            old = choices.setdefault(new["index"], {
                "index": new["index"], "text": "", "logprobs": None,
                "finish_reason": None})
            old["text"] += new["text"]
            old["finish_reason"] = new["finish_reason"] \
                or old["finish_reason"]
            if new.get("logprobs"):
                old["logprobs"] = old["logprobs"] or {}
                for name, list_ in new["logprobs"].items():
                    old["logprobs"].setdefault(name, []).extend(list_)

    whole["choices"] = [choices[i] for i in sorted(choices)]
    return openai.types.Completion.model_validate(whole)


STREAM = {"chat": stream_chat, "responses": stream_responses,
          "completions": stream_completions}
PLAIN = {"chat": lambda sdk, p: sdk.chat.completions.parse(**p),
         "responses": lambda sdk, p: sdk.responses.parse(**p),
         "completions": lambda sdk, p: sdk.completions.create(**p)}
RESOURCE = {"chat": lambda sdk: sdk.chat.completions,
            "responses": lambda sdk: sdk.responses,
            "completions": lambda sdk: sdk.completions}


def members(answer, usage=True):
    """All of it but padding, which a stored answer has none of."""
    answer = answer.to_dict(mode="json", exclude_unset=False)
    answer.pop("obfuscation", None)

    # a stream's last chunk has the only name that its object could have
    if answer["object"].endswith(".chunk"):
        answer["object"] = answer["object"][:-len(".chunk")]
    # … and its calls have the number that put them together
    for choice in answer.get("choices", []):
        for call in choice.get("message", {}).get("tool_calls") or []:
            call.pop("index", None)

    if not usage:
        del answer["usage"]
    return answer


def differences(left, right, path=""):
    if isinstance(left, dict) and isinstance(right, dict):
        for name in sorted(left.keys() | right.keys()):
            yield from differences(left.get(name, "nothing"),
                                   right.get(name, "nothing"),
                                   f"{path}.{name}")
    elif isinstance(left, list) and isinstance(right, list) \
            and len(left) == len(right):
        for n, pair in enumerate(zip(left, right)):
            yield from differences(*pair, f"{path}[{n}]")
    elif left != right:
        yield f"{path}: {left!r} is not {right!r}"


def same(left, right):
    found = list(differences(left, right))
    assert not found, "\n".join(found)


def from_stream(case, usage):
    """Streamed live; replayed as it was, and with the other wish for usage;
    then the whole."""
    params = arguments(case, "with" if usage else "without")
    read, plain = STREAM[case["call"]], PLAIN[case["call"]]
    wish = dict(params, stream_options={"include_usage": usage})
    other = dict(params, stream_options={"include_usage": not usage})
    client = Client(max_retries=0)

    live = client.miss(lambda sdk: read(sdk, wish))
    replayed = client.hit(lambda sdk: read(sdk, wish))
    otherwise = client.hit(lambda sdk: read(sdk, other))
    whole = client.hit(lambda sdk: plain(sdk, params))

    same(members(live), members(replayed))
    same(members(live, False), members(otherwise, False))
    same(members(live, False), members(whole, False))
    same(members(live if usage or case["call"] == "responses"
                 else otherwise), members(whole))
    if case["call"] != "responses":
        assert (live.usage is None) == (not usage)
        assert (otherwise.usage is None) == usage
    if "body" in case:
        # what the provider would have said without "stream"
        raw = client.hit(lambda sdk: RESOURCE[case["call"]](sdk)
                         .with_raw_response.create(**params))
        same(case["body"], json.loads(raw.text))
    assert asked(params["model"]) == 1


def from_json(case):
    params = arguments(case, "json")
    client = Client(max_retries=0)
    wish = dict(params, stream_options={"include_usage": True})

    live = client.miss(lambda sdk: PLAIN[case["call"]](sdk, params))
    again = client.hit(lambda sdk: PLAIN[case["call"]](sdk, params))
    stream = client.hit(lambda sdk: STREAM[case["call"]](sdk, wish))

    same(members(live), members(again))
    same(members(live), members(stream))
    assert asked(params["model"]) == 1


def test(name, call, *args):
    def run():
        call(*args)
    run.__name__ = name
    report.test(run)


for case in CASES:
    test(f"{case['name']}: streamed, then replayed", from_stream, case, False)
    test(f"{case['name']}: the same with usage", from_stream, case, True)
    test(f"{case['name']}: whole, then streamed", from_json, case)


@report.test
def embeddings():
    for n, more in enumerate(({}, {"encoding_format": "float"})):
        params = dict(more, model=f"cache-vector-{n}-python",
                      input=["a", "b"])
        client = Client(max_retries=0)

        first = client.miss(lambda sdk: sdk.embeddings.create(**params))
        second = client.hit(lambda sdk: sdk.embeddings.create(**params))

        assert len(first.data) == 2 and len(first.data[0].embedding) == 16
        same(first.to_dict(), second.to_dict())
        assert asked(params["model"]) == 1


@report.test
def own_retry_joins():
    """The client gives up its first try; its second gets what that asked
    for, whether others could have it or not."""
    say = [{"role": "user", "content": "slow"}]
    calls = {
        "chat": lambda sdk, m: sdk.chat.completions.create(
            model=m, messages=say),
        "kept": lambda sdk, m: sdk.chat.completions.create(
            model=m, messages=say, store=True),
        "stream": lambda sdk, m: "".join(
            c.choices[0].delta.content or ""
            for c in sdk.chat.completions.create(
                model=m, messages=say, stream=True)),
        "response": lambda sdk, m: sdk.responses.create(
            model=m, input="slow").output_text,
    }

    def ask(kind):
        client = Client(max_retries=1, timeout=1)
        model = f"cache-slow-{kind}-python"
        answer = calls[kind](client.sdk, model)
        assert client.tries == ["0", "1"], client.tries
        text = answer if isinstance(answer, str) \
            else answer.choices[0].message.content
        assert text == os.environ["MOCK_TEXT"], text
        assert asked(model) == 1, (kind, asked(model))

    with concurrent.futures.ThreadPoolExecutor(len(calls)) as pool:
        list(pool.map(ask, calls))


report.run()
