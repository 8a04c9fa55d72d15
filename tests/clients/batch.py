"""Files and batches, by the official Python SDK, unmodified."""

import io
import json
import os
import time

import openai

from report import Report

URL = os.environ["GATEWAY_URL"]
KEY = os.environ["BATCH_KEY"]
TEXT = os.environ["MOCK_TEXT"]

LINES = 1000
ENDED = ("completed", "failed", "expired", "cancelled")

report = Report("batch.py")


def client():
    return openai.OpenAI(base_url=URL, api_key=KEY)


def line(number, text):
    return json.dumps({
        "custom_id": f"request-{number}", "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": "gpt-4o", "messages": [
            {"role": "user", "content": f"python {number} {text}"}]}})


def upload(c, lines, name="input.jsonl"):
    return c.files.create(
        file=(name, io.BytesIO("\n".join(lines).encode() + b"\n")),
        purpose="batch",
        expires_after={"anchor": "created_at", "seconds": 86400})


def start(c, lines, **more):
    return c.batches.create(
        input_file_id=upload(c, lines).id, endpoint="/v1/chat/completions",
        completion_window="24h", **more)


def poll(c, batch, done):
    until = time.monotonic() + 120
    while not done(batch):
        assert time.monotonic() < until, batch
        time.sleep(0.1)
        batch = c.batches.retrieve(batch.id)
    return batch


def ended(c, batch):
    return poll(c, batch, lambda b: b.status in ENDED)


def rows(c, file_id):
    if file_id is None:
        return {}
    found = {}
    for text in c.files.content(file_id).text.splitlines():
        row = json.loads(text)
        assert row["custom_id"] not in found, row
        found[row["custom_id"]] = row
    return found


def both(c, batch, lines):
    good, bad = rows(c, batch.output_file_id), rows(c, batch.error_file_id)
    counts = batch.request_counts
    assert (counts.total, counts.completed, counts.failed) == (
        lines, len(good), len(bad)), counts
    assert not set(good) & set(bad)
    assert set(good) | set(bad) == {f"request-{i}" for i in range(lines)}
    return good, bad


@report.test
def thousand_lines():
    c = client()
    batch = start(c, [line(i, "batch no-good" if i % 100 < 3 else "batch")
                      for i in range(LINES)], metadata={"job": "nightly"})
    assert batch.status == "validating", batch
    assert batch.metadata == {"job": "nightly"}, batch
    batch = ended(c, batch)
    assert batch.status == "completed", batch
    assert batch.completed_at >= batch.in_progress_at >= batch.created_at
    good, bad = both(c, batch, LINES)
    assert set(bad) == {f"request-{i}" for i in range(LINES)
                        if i % 100 < 3}
    for row in good.values():
        assert row["error"] is None
        assert row["response"]["status_code"] == 200
        assert row["response"]["request_id"]
        body = row["response"]["body"]
        assert body["choices"][0]["message"]["content"] == TEXT
    for row in bad.values():
        assert row["response"]["status_code"] == 400, row
        assert row["response"]["body"]["error"]["message"], row
    assert batch.usage.total_tokens == 970 * 30, batch.usage


@report.test
def cancelled_in_the_middle():
    c = client()
    batch = start(c, [line(i, "batch slow") for i in range(LINES)])
    batch = poll(c, batch, lambda b: b.request_counts.completed >= 20)
    batch = c.batches.cancel(batch.id)
    assert batch.status == "cancelling", batch
    batch = ended(c, batch)
    assert batch.status == "cancelled", batch
    good, bad = both(c, batch, LINES)
    assert 20 <= len(good) < LINES, len(good)
    assert {r["error"]["code"] for r in bad.values()} == {"batch_cancelled"}
    try:
        c.batches.cancel(batch.id)
    except openai.BadRequestError as e:
        assert "cancelled" in str(e), e
    else:
        raise AssertionError("cancelled twice")


@report.test
def wrong_lines():
    c = client()
    batch = ended(c, start(c, [line(1, ""), "{", line(1, "")]))
    assert batch.status == "failed", batch
    assert [(e.line, e.code) for e in batch.errors.data] == [
        (2, "invalid_json_line"), (3, "duplicate_custom_id")], batch.errors


@report.test
def pages():
    c = client()
    ids = [b.id for b in c.batches.list(limit=1)]
    assert len(ids) >= 3 and len(set(ids)) == len(ids), ids
    assert ids == [b.id for b in c.batches.list()]


@report.test
def unknown():
    c = client()
    for call in (lambda: c.batches.retrieve("batch_none"),
                 lambda: c.batches.cancel("batch_none")):
        try:
            call()
        except openai.NotFoundError as e:
            assert "batch_none" in str(e), e
        else:
            raise AssertionError("found")


report.run()
