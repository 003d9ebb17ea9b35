"""What a client in Python sees. Each function is one scenario; the first argument names it."""

import json
import os
import signal
import sys
import time
import urllib.request

import grpc

import eventrelay_pb2 as relay
import eventrelay_pb2_grpc as relay_grpc
from tidings.v1 import events_pb2 as v1
from tidings.v1 import events_pb2_grpc as v1_grpc

ADDRESS = os.environ["ADDRESS"]
PATIENCE = 30


def connect(token=os.environ["TOKEN"], options=()):
    channel = grpc.insecure_channel(ADDRESS, options=options)
    return channel, [("authorization", "Bearer " + token)]


CHANNEL, ADMIN = connect()
EVENTS = v1_grpc.EventsStub(CHANNEL)
RELAY = relay_grpc.EventsStub(CHANNEL)


def publish(topic, *texts, **fields):
    events = [v1.NewEvent(data=text, **fields) for text in texts]
    return EVENTS.Publish(v1.PublishRequest(topic=topic, events=events), metadata=ADMIN, timeout=PATIENCE)


def http(method, path, body=None, token=os.environ["TOKEN"]):
    headers = {"authorization": "Bearer " + token, "content-type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request("http://" + ADDRESS + path, data, headers, method=method)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=PATIENCE) as answer:
        text = answer.read()
        return json.loads(text) if text else None


def subscribe(metadata=ADMIN, **fields):
    return EVENTS.Subscribe(v1.SubscribeRequest(**fields), metadata=metadata, timeout=PATIENCE)


def begun(stream):
    """The stream's first message, which only says where it begins."""
    first = next(stream)
    assert first.WhichOneof("item") == "moved" and first.cursor, first
    return stream


def data(stream, n):
    answers = [next(stream) for _ in range(n)]
    assert all(answer.WhichOneof("item") == "event" for answer in answers), answers
    return [answer.event.data for answer in answers], answers


def why(stream):
    """How a stream ended: its status and code."""
    try:
        for _ in stream:
            pass
    except grpc.RpcError as error:
        codes = [value for name, value in error.trailing_metadata() or () if name == "tidings-code"]
        return error.code(), codes
    raise AssertionError("it ended as if all were well")


def scenario_subscribe():
    published = publish("orders:7", "1", "2", "3")
    assert [event.offset for event in published.events] == [1, 2, 3], published
    stream = begun(subscribe(topics=["orders"], **{"from": "earliest"}))
    texts, answers = data(stream, 3)
    assert texts == ["1", "2", "3"] and answers[0].event.topic == "orders:7" and answers[0].event.key == "7"
    # Live, in order.
    http("POST", "/v1/topics/orders:8/events", [{"data": {"a": 1.0}, "name": "by http"}])
    live = next(stream)
    assert live.event.data == '{"a": 1.0}' and live.event.name == "by http", live
    # A cursor from here resumes there, and the other way round.
    page = http("GET", "/v1/topics/orders/events?after=" + answers[1].cursor)
    assert [event["offset"] for event in page["events"]] == [3, 4], page
    resumed = begun(subscribe(topics=["orders"], **{"from": page["cursor"]}))
    publish("orders:7", "5")
    assert data(resumed, 1)[0] == ["5"] and data(stream, 1)[0] == ["5"]
    # Only what is wanted; a filter moves the position all the same.
    some = begun(subscribe(topics=["orders:7"], filter="data > 2", names=[], **{"from": "earliest"}))
    assert data(some, 2)[0] == ["3", "5"]
    named = begun(subscribe(topics=["orders"], names=["by *"], **{"from": "earliest"}))
    assert data(named, 1)[0] == ['{"a": 1.0}']
    # Several topics have one position.
    publish("carts", "10")
    both = begun(subscribe(topics=["orders:7", "carts"], **{"from": "earliest"}))
    texts, answers = data(both, 5)
    assert sorted(texts) == ["1", "10", "2", "3", "5"], texts
    rest = begun(subscribe(topics=["orders:7", "carts"], **{"from": answers[-1].cursor}))
    publish("carts", "11")
    assert data(rest, 1)[0] == ["11"]
    # State, then what follows.
    state = begun(subscribe(topics=["orders"], **{"from": "state"}))
    texts, _ = data(state, 2)
    assert texts == ['{"a": 1.0}', "5"], texts
    live = next(state)
    assert live.WhichOneof("item") == "live" and live.live.topic == "orders", live
    publish("orders:7", "6")
    assert data(state, 1)[0] == ["6"]
    # An event that is not stored passes by without a position.
    RELAY.PublishEvents(
        relay.PublishEventsRequest(topic="orders:7", events=[relay.NewEvent(name="n", data='{"p":1}')]),
        metadata=ADMIN,
    )
    passing = next(state)
    assert passing.event.data == '{"p":1}' and passing.event.offset == 0 and not passing.cursor, passing
    # What is gone is said: the topic was ended and began anew.
    http("DELETE", "/v1/topics/orders")
    publish("orders:7", "\"new\"")
    gone = begun(subscribe(topics=["orders"], **{"from": page["cursor"]}))
    gap = next(gone)
    assert gap.WhichOneof("item") == "gap" and gap.gap.reason == "epoch" and gap.gap.topic == "orders", gap
    assert data(gone, 1)[0] == ["\"new\""]
    # Pages carry on from each other.
    publish("pages", *[str(n) for n in range(25)])
    seen, cursor = [], ""
    while True:
        request = v1.PullRequest(topic="pages", limit=10, **{"from": cursor})
        page = EVENTS.Pull(request, metadata=ADMIN, timeout=PATIENCE)
        seen += [event.data for event in page.events]
        assert (page.oldest, page.tail) == (1, 25), page
        cursor = page.cursor
        if not page.more:
            break
    assert seen == [str(n) for n in range(25)], seen


def scenario_publish_stream():
    def requests():
        for n in range(2000):
            topic = "stream" if n == 0 else ""
            yield v1.PublishStreamRequest(topic=topic, events=[v1.NewEvent(data=str(n))], receipts=n == 1999)

    acknowledged, offsets = [], []
    for answer in EVENTS.PublishStream(requests(), metadata=ADMIN, timeout=PATIENCE):
        acknowledged.append(answer.requests)
        offsets += [receipt.offset for receipt in answer.receipts]
        last = answer
    assert acknowledged == sorted(acknowledged) and acknowledged[-1] == 2000, acknowledged
    assert last.events == 2000 and offsets == [2000], (last, offsets)
    stream = begun(subscribe(topics=["stream"], **{"from": "earliest"}))
    got = [int(n) for n in data(stream, 2000)[0]]
    assert got == list(range(2000)), [(i, n) for i, n in enumerate(got) if i != n][:40]
    after = begun(subscribe(topics=["stream"], **{"from": last.cursor}))
    publish("stream", "2000")
    assert data(after, 1)[0] == ["2000"]

    # The third is at fault: the first two are stored, whatever came with or after it is not.
    def faulty():
        yield v1.PublishStreamRequest(topic="faulty", events=[v1.NewEvent(data="1")])
        yield v1.PublishStreamRequest(events=[v1.NewEvent(data="2")])
        yield v1.PublishStreamRequest(events=[v1.NewEvent(data="3"), v1.NewEvent(data="{")])
        yield v1.PublishStreamRequest(events=[v1.NewEvent(data="4")])

    done, code = 0, None
    try:
        for answer in EVENTS.PublishStream(faulty(), metadata=ADMIN, timeout=PATIENCE):
            done = answer.requests
    except grpc.RpcError as error:
        code = error.code()
        trailers = dict(error.trailing_metadata())
    assert code == grpc.StatusCode.INVALID_ARGUMENT and trailers["tidings-code"] == "json_invalid", code
    assert done == 2, done
    kept = http("GET", "/v1/topics/faulty/events")["events"]
    assert [event["data"] for event in kept] == [1, 2], kept


def scenario_stream_events():
    def listen(query=""):
        stream = RELAY.StreamEvents(
            relay.StreamEventsRequest(topic="users:1", query=query), metadata=ADMIN, timeout=PATIENCE
        )
        # With the head of the answer the stream has begun.
        stream.initial_metadata()
        return stream

    def send(name, durable=True, topic="users:1"):
        event = relay.NewEvent(name=name, data='{"n":1}', source="s", context={"k": "v"})
        request = relay.PublishEventsRequest(topic=topic, durable=durable, events=[event])
        return RELAY.PublishEvents(request, metadata=ADMIN, timeout=PATIENCE).events[0]

    send("before")
    stream, some = listen(), listen("name == 'wanted'")
    begin = time.monotonic()
    send("other", topic="users:2")
    sent = send("wanted")
    event = next(stream).event
    assert time.monotonic() - begin < 1, "within a second"
    assert (event.id, event.name, event.offset, event.topic) == (sent.id, "wanted", 3, "users:1"), event
    assert event.data == '{"n":1}' and event.context == {"k": "v"}, event
    passing = send("passing", durable=False)
    event = next(stream).event
    assert (event.id, event.name, event.offset) == (passing.id, "passing", 0) and passing.id, event
    assert next(some).event.name == "wanted"
    stream.cancel()
    send("missed")
    again = listen()
    send("later")
    assert next(again).event.name == "later"
    pulled = RELAY.PullEvents(relay.PullEventsRequest(topic="users:1"), metadata=ADMIN, timeout=PATIENCE)
    assert [event.name for event in pulled.events] == ["before", "wanted", "missed", "later"], pulled


def scenario_ends():
    short = [("authorization", "Bearer " + os.environ["SHORT"])]
    stream = begun(subscribe(metadata=short, topics=["a"]))
    expired = (grpc.StatusCode.UNAUTHENTICATED, ["token_expired"])
    ended = why(stream)
    assert ended == expired, ended
    ended = why(subscribe(metadata=short, topics=["a"]))
    assert ended == expired, ended
    new = {"name": "ann", "password": "a long password", "publish": ["a", "b"], "subscribe": ["a", "b"]}
    user = http("POST", "/v1/users", new)
    token = http("POST", "/v1/login", {"name": "ann", "password": "a long password"})["token"]
    own = [("authorization", "Bearer " + token)]
    a, b = begun(subscribe(metadata=own, topics=["a"])), begun(subscribe(metadata=own, topics=["b"]))
    http("PATCH", "/v1/users/" + user["id"], {"subscribe": ["a"]})
    ended = why(b)
    assert ended == (grpc.StatusCode.PERMISSION_DENIED, ["forbidden"]), ended
    publish("a", "1")
    assert data(a, 1)[0] == ["1"]
    http("POST", "/v1/users/%s/revoke" % user["id"])
    ended = why(a)
    assert ended[0] == grpc.StatusCode.UNAUTHENTICATED, ended


def scenario_does_not_read():
    # Far more than the connection holds back.
    text = '"' + "x" * 20000 + '"'
    for _ in range(60):
        publish("big", *[text] * 10)
    slow, metadata = connect(options=[("grpc.http2.bdp_probe", 0), ("grpc.enable_retries", 0)])
    stub = v1_grpc.EventsStub(slow)
    stream = stub.Subscribe(v1.SubscribeRequest(topics=["big"], **{"from": "earliest"}), metadata=metadata)
    begun(stream)
    # Silence is a client's right on one stream only for as long as a write may take.
    time.sleep(4)
    offsets, cursor, ended = [], None, None
    try:
        for answer in stream:
            offsets.append(answer.event.offset)
            cursor = answer.cursor
    except grpc.RpcError as error:
        ended = error.code()
    assert ended is not None and len(offsets) < 600, (ended, len(offsets))
    rest = subscribe(topics=["big"], **{"from": cursor or "earliest"})
    for answer in rest:
        if answer.WhichOneof("item") == "event":
            offsets.append(answer.event.offset)
        if offsets and offsets[-1] == 600:
            break
    assert offsets == list(range(1, 601)), "nothing twice, nothing lost"


def scenario_shutdown():
    stream = begun(subscribe(topics=["a"]))
    os.kill(int(os.environ["PID"]), signal.SIGTERM)
    ended = why(stream)
    assert ended == (grpc.StatusCode.UNAVAILABLE, ["draining"]), ended


globals()["scenario_" + sys.argv[1]]()
