"""One matrix-nio client, driven over standard input and output.

Each input line is a JSON request {id, method, args}; each output line is either
the answer {id, result} or {id, error}. The Go test in the folder above is the
other end. Logs of the library go to standard error.
"""
import asyncio
import json
import logging
import sys
import tempfile
import traceback

import nio

logging.basicConfig(stream=sys.stderr, level=logging.INFO)

WITHIN = 60  # seconds: bounds the wait for one event


class Driver:
    def __init__(self, store):
        self.store = store
        self.client = None
        self.syncing = None
        self.events = {}  # by event ID, decrypted where that was possible
        self.changed = asyncio.Condition()

    async def wake(self, *_):
        async with self.changed:
            self.changed.notify_all()

    async def take(self, room, event):
        self.events[event.event_id] = event
        await self.wake()

    async def until(self, what, test):
        """Wait for test() to give something; it is asked again after every event and every sync."""
        async def wait():
            async with self.changed:
                return await self.changed.wait_for(lambda: self.ended() or test())
        try:
            return await asyncio.wait_for(wait(), WITHIN)
        except asyncio.TimeoutError:
            raise RuntimeError(f"not seen within {WITHIN} s: {what}") from None

    def ended(self):
        if self.syncing and self.syncing.done():
            self.syncing.result()
            raise RuntimeError("the sync loop ended")
        return False

    def make(self, base_url, user):
        config = nio.AsyncClientConfig(encryption_enabled=True, store_sync_tokens=True, pickle_key="stoa")
        self.client = nio.AsyncClient(base_url, user, store_path=self.store, config=config)
        self.client.add_event_callback(self.take, nio.Event)
        self.client.add_response_callback(self.wake, nio.SyncResponse)

    async def register(self, base_url, username, password):
        """Make an account, which is logged in then."""
        self.make(base_url, username)
        return self.started(await self.client.register(username, password, "nio"))

    async def login(self, base_url, user, password):
        self.make(base_url, user)
        return self.started(await self.client.login(password, "nio"))

    def started(self, answer):
        want(answer, nio.LoginResponse, nio.RegisterResponse)
        if isinstance(answer, nio.RegisterResponse):
            self.client.load_store()  # login does so by itself
        self.syncing = asyncio.ensure_future(self.client.sync_forever(timeout=30000, full_state=True))
        self.syncing.add_done_callback(lambda _: asyncio.ensure_future(self.wake()))
        return {"userId": answer.user_id, "deviceId": answer.device_id}

    async def ready(self):
        """Wait for the first sync and for the device keys to be on the server."""
        await self.until("the first sync", lambda: self.client.next_batch and not self.client.should_upload_keys)
        return {}

    async def createRoom(self, invite):
        encryption = {"type": "m.room.encryption", "state_key": "", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}
        made = want(await self.client.room_create(name="peers", invite=invite, initial_state=[encryption]), nio.RoomCreateResponse)
        await self.until(f"room {made.room_id}", lambda: self.encrypted(made.room_id))
        return {"roomId": made.room_id}

    async def join(self, roomId):
        await self.until(f"invite to {roomId}", lambda: roomId in self.client.invited_rooms)
        want(await self.client.join(roomId), nio.JoinResponse)
        await self.until(f"room {roomId}", lambda: self.encrypted(roomId))
        return {}

    def encrypted(self, room_id):
        return room_id in self.client.rooms and self.client.rooms[room_id].encrypted

    async def member(self, roomId, userId):
        await self.until(f"{userId} in {roomId}", lambda: userId in self.client.rooms[roomId].users
                         and not self.client.rooms[roomId].users[userId].invited)
        return {}

    async def send(self, roomId, body):
        if self.client.should_query_keys:  # the loop asks, too, but perhaps not yet
            want(await self.client.keys_query(), nio.KeysQueryResponse)
        content = {"msgtype": "m.text", "body": body}
        sent = want(await self.client.room_send(roomId, "m.room.message", content, ignore_unverified_devices=True), nio.RoomSendResponse)
        return {"eventId": sent.event_id}

    async def see(self, eventId):
        event = await self.until(f"event {eventId}", lambda: self.events.get(eventId))
        return describe(event)

    async def history(self, roomId):
        events = []
        token = self.client.next_batch
        while token:
            page = want(await self.client.room_messages(roomId, token, limit=100), nio.RoomMessagesResponse)
            events += page.chunk
            token = page.end if page.chunk else None
        return {"events": [describe(event) for event in events]}

    async def exportKeys(self, file, passphrase):
        await self.client.export_keys(file, passphrase, count=1000)
        return {}

    async def importKeys(self, file, passphrase):
        await self.client.import_keys(file, passphrase)
        return {}


def want(answer, *kinds):
    if not isinstance(answer, kinds):
        raise RuntimeError(f"the library gave {answer!r}")
    return answer


def describe(event):
    failed = isinstance(event, nio.MegolmEvent)
    return {"event_id": event.event_id, "sender": event.sender, "type": event.source["type"], "failed": failed,
            "encrypted": failed or event.decrypted, "content": event.source.get("content", {})}


async def answer(driver, request):
    try:
        result = await getattr(driver, request["method"])(**(request.get("args") or {}))
        reply = {"id": request["id"], "result": result}
    except Exception:
        reply = {"id": request["id"], "error": traceback.format_exc()}
    sys.stdout.write(json.dumps(reply) + "\n")
    sys.stdout.flush()


async def main():
    loop = asyncio.get_running_loop()
    requests = asyncio.StreamReader(limit=1 << 24)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(requests), sys.stdin)
    with tempfile.TemporaryDirectory() as store:
        driver = Driver(store)
        running = set()
        while line := await requests.readline():
            task = loop.create_task(answer(driver, json.loads(line)))
            running.add(task)
            task.add_done_callback(running.discard)


asyncio.run(main())
