"""A dead provider, asked by the official Python SDK, which tries three times
by default: the gateway's three attempts are not multiplied by that."""

import os
import re
import urllib.request

import openai

from report import Report

TRIES = int(os.environ["DEAD_TRIES"])

report = Report("python dead")


def attempts(provider):
    """How many calls of it the gateway has counted, whatever became of them."""
    with urllib.request.urlopen(os.environ["METRICS_URL"]) as answer:
        page = answer.read().decode()
    return sum(int(n) for n in re.findall(
        r'^llm_upstream_attempts_total\{[^}]*provider="%s"[^}]*\} (\d+)$'
        % provider, page, re.M))


def one_call(provider, status, code, **more):
    """The calls of the provider that one call of the SDK's default leads to."""
    sent = []
    http = openai.DefaultHttpxClient(event_hooks={"request": [sent.append]})
    client = openai.OpenAI(base_url=os.environ["DEAD_URL"], http_client=http,
                           api_key=os.environ["GATEWAY_KEY"])
    before = attempts(provider)
    try:
        client.chat.completions.create(
            model=provider, messages=[{"role": "user",
                                       "content": f"python {more}"}], **more)
    except openai.InternalServerError as error:
        assert (error.status_code, error.code) == (status, code), error
    else:
        raise AssertionError("an answer")
    calls = attempts(provider) - before
    assert calls == TRIES, f"{calls} calls of {len(sent)} requests"


def case(provider, status, code):
    def json():
        one_call(provider, status, code)

    def stream():
        one_call(provider, status, code, stream=True)

    for shape in json, stream:
        shape.__name__ = f"{provider}_{shape.__name__}"
        report.test(shape)


case("refused", 503, "upstream_unavailable")
case("ill", 503, None)
case("hanging", 504, "upstream_timeout")

report.run()
