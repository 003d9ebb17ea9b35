"""What EventRelay's own clients do, as Python generates them. Each function is one scenario."""

import base64
import os
import sys
import threading
import time

import grpc

import eventrelay_pb2 as relay
import eventrelay_pb2_grpc as relay_grpc

ADDRESS = os.environ["ADDRESS"]
PATIENCE = 30
BEARER = [("authorization", "Bearer " + os.environ["TOKEN"])]


class Client:
    """A client with a connection of its own."""

    def __init__(self, metadata=BEARER):
        own = [("grpc.use_local_subchannel_pool", 1)]
        self.channel = grpc.insecure_channel(ADDRESS, options=own)
        self.metadata = metadata
        self.events = relay_grpc.EventsStub(self.channel)

    def publish(self, topic, *texts):
        events = [relay.NewEvent(name="n", data=text) for text in texts]
        request = relay.PublishEventsRequest(topic=topic, durable=True, events=events)
        return self.events.PublishEvents(request, metadata=self.metadata, timeout=PATIENCE).events

    def take(self, queue, size, metadata=()):
        request = relay.PullQueuedEventsRequest(destination_id=queue, batch_size=size)
        answer = self.events.PullQueuedEvents(request, metadata=self.metadata + list(metadata), timeout=PATIENCE)
        return [event.id for event in answer.events]

    def give_back(self, queue, ids):
        request = relay.UnLockQueuedEventsRequest(destination_id=queue, event_ids=ids)
        answer = self.events.UnLockQueuedEvents(request, metadata=self.metadata, timeout=PATIENCE)
        return [event.id for event in answer.events]


def destination(**fields):
    stub = relay_grpc.DestinationsStub(Client().channel)
    request = relay.CreateDestinationRequest(destination_type="api", **fields)
    return stub.CreateDestination(request, metadata=BEARER, timeout=PATIENCE).destination.id


def refused(call):
    try:
        call()
    except grpc.RpcError as error:
        return error.code()
    raise AssertionError("it was not refused")


def scenario_queue():
    queue = destination(name="work", topic_name="jobs", topic_identifier="a", config={"lease_ms": "600000", "query": "data.n != 7"})
    other = destination(name="other", topic_name="jobs", config={"lease_ms": "600000"})
    publisher = Client()
    publisher.publish("jobs:b", '{"n":1}')
    sent = [event.id for event in publisher.publish("jobs:a", *['{"n":%d}' % n for n in range(500)])]
    wanted, got = set(sent) - {sent[7]}, [[], [], []]

    def consume(own):
        client = Client()
        while some := client.take(queue, 7):
            own.extend(some)

    threads = [threading.Thread(target=consume, args=(own,)) for own in got]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    everything = [event for own in got for event in own]
    assert len(everything) == len(wanted) and set(everything) == wanted, "each once, and no other"
    assert all(own == sorted(own, key=sent.index) for own in got), "in the order of the topic"
    # What is given back is for whoever asks next; an id that is not lent is not answered.
    back = [sent[20], sent[10], sent[7]]
    one, two = Client(), Client()
    assert one.give_back(queue, back) == [sent[10], sent[20]]
    assert one.take(queue, 1) == [sent[10]] and two.take(queue, 9) == [sent[20]] and one.take(queue, 9) == []
    # Another queue of the topic has all of it, by default a hundred at once.
    assert len(one.take(other, 0)) == 100


def scenario_lease():
    queue = destination(name="work", topic_name="jobs", config={"lease_ms": "1500"})
    living, dying, named = Client(), Client(), Client()
    sent = [event.id for event in living.publish("jobs", *['{"n":%d}' % n for n in range(6)])]
    begun = time.monotonic()
    first = living.take(queue, 2)
    assert dying.take(queue, 2) == sent[2:4]
    name = [("tidings-consumer", "cron")]
    assert named.take(queue, 1, name) == sent[4:5]
    dying.channel.close()
    named.channel.close()
    # Whoever comes for more is done with what it had, also over another connection where it says who it is.
    assert living.take(queue, 1) == sent[5:6]
    assert Client().take(queue, 1, name) == []
    again = []
    while len(again) < 3:
        again += Client().take(queue, 3)
        assert time.monotonic() - begun < PATIENCE
    assert time.monotonic() - begun >= 1.5, "not before the lease has ended"
    # The last of the living one was not followed by another call.
    assert sorted(again[:3]) == sorted(sent[2:4] + sent[5:6]) and first == sent[:2], (again, sent)


def scenario_lease_after():
    stub = relay_grpc.DestinationsStub(Client().channel)
    all = stub.ListDestinations(relay.ListDestinationsRequest(), metadata=BEARER, timeout=PATIENCE)
    [queue] = [one.id for one in all.destinations]
    kept = Client().events.PullEvents(relay.PullEventsRequest(topic="jobs"), metadata=BEARER, timeout=PATIENCE)
    sent = [event.id for event in kept.events]
    begun, again = time.monotonic(), set()
    while len(again) < 3:
        again |= set(Client().take(queue, 9))
        assert time.monotonic() - begun < PATIENCE
    assert again == set(sent[2:4] + sent[5:6]), (again, sent)


def scenario_jwt():
    admin = Client()
    keys, jwts = relay_grpc.ApiKeysStub(admin.channel), relay_grpc.JWTStub(admin.channel)
    request = relay.CreateApiKeyRequest(type=relay.PRODUCER, name="shop")
    key = keys.CreateApiKey(request, metadata=BEARER, timeout=PATIENCE).api_key
    request = relay.AddTopicsToApiKeyRequest(id=key.id, topic_names=["users"])
    keys.AddTopicsToApiKey(request, metadata=BEARER, timeout=PATIENCE)
    bearer = base64.b64encode(("%s:%s" % (key.key, key.secret)).encode()).decode()

    def create(expiration, token=bearer):
        request = relay.CreateJWTRequest(expiration=expiration)
        answer = jwts.CreateJWT(request, metadata=[("authorization", "Bearer " + token)], timeout=PATIENCE)
        return answer.jwt

    def client(token):
        return Client([("authorization", "Bearer " + token)])

    end = int(time.time()) + 3
    short, usual = create(end), create(0)
    assert short.count(".") == 2 and usual.count(".") == 2
    for token in [short, usual]:
        client(token).publish("users:9", "{}")
        assert refused(lambda: client(token).publish("orders", "{}")) == grpc.StatusCode.PERMISSION_DENIED
    for odd in [-1, 1, 2**63 - 1, -(2**63)]:
        assert refused(lambda: create(odd)) == grpc.StatusCode.INVALID_ARGUMENT, odd
    assert create(end + 3600, short).count(".") == 2, "one made from a token ends with that"
    derived = create(end + 3600, short)
    while time.time() < end + 0.1:
        time.sleep(0.05)
    for token in [short, derived]:
        assert refused(lambda: client(token).publish("users", "{}")) == grpc.StatusCode.UNAUTHENTICATED
    client(usual).publish("users", "{}")
    keys.RevokeApiKey(relay.RevokeApiKeyRequest(id=key.id), metadata=BEARER, timeout=PATIENCE)
    assert refused(lambda: client(usual).publish("users", "{}")) == grpc.StatusCode.UNAUTHENTICATED


def scenario_rates():
    stub = relay_grpc.TopicsStub(Client().channel)

    def create(name):
        stub.CreateTopic(relay.CreateTopicRequest(name=name), metadata=BEARER, timeout=PATIENCE)

    begun, made, refusal = time.monotonic(), 0, None
    while refusal is None:
        try:
            create("t%d" % made)
            made += 1
        except grpc.RpcError as error:
            refusal = error
    took = time.monotonic() - begun
    assert refusal.code() == grpc.StatusCode.RESOURCE_EXHAUSTED, refusal
    assert 5 <= made <= 5 + 5 * took + 1, (made, took)
    metadata = dict(refusal.trailing_metadata())
    assert metadata["retry-after"] == "1" and metadata["tidings-code"] == "rate_limited", metadata
    assert b"google.rpc.RetryInfo" in metadata["grpc-status-details-bin"], metadata
    time.sleep(1)
    create("later")


globals()["scenario_" + sys.argv[1]]()
