// One matrix-js-sdk client, driven over standard input and output: each input
// line is a JSON request {id, method, args}; each output line is either the
// answer {id, result} or {id, error}. The Go test in the folder above is the
// other end. Logs of the library go to standard error.
import { createInterface } from "node:readline";
import { randomBytes } from "node:crypto";
import * as sdk from "matrix-js-sdk";
import { logger } from "matrix-js-sdk/lib/logger.js";
import { SlidingSync } from "matrix-js-sdk/lib/sliding-sync.js";
import { decodeRecoveryKey, VerificationPhase, VerificationRequestEvent, VerifierEvent, CryptoEvent } from "matrix-js-sdk/lib/crypto-api/index.js";

for (const name of ["log", "info", "debug", "warn", "trace"]) {
    console[name] = (...args) => process.stderr.write(args.map(String).join(" ") + "\n");
}
logger.setLevel("warn", false);

let client;
let slidingSync;
let recoveryKey;
const secretStorageKeys = new Map();
const verification = { request: undefined, sas: undefined, done: undefined };

// The events of all rooms, decrypted where that was possible, by event ID.
const seen = new Map();
const waiters = new Set();

function wake() {
    for (const check of [...waiters]) check();
}

// An edit is applied some time after it was seen, and tells of it through the
// event that it replaces.
function note(event) {
    if (seen.get(event.getId()) !== event) event.on(sdk.MatrixEventEvent.Replaced, wake);
    seen.set(event.getId(), event);
    wake();
}

// find gives an event as the timelines have it now.
function find(eventId) {
    for (const room of client.getRooms()) {
        const event = room.findEventById(eventId);
        if (event) return event;
    }
    return seen.get(eventId);
}

// until resolves as soon as test() gives something; it is asked again after
// every event, decryption and state change, never by a timer of its own.
function until(what, test, ms = 60000) {
    return new Promise((resolve, reject) => {
        const timer = setTimeout(() => { waiters.delete(check); reject(new Error(`not seen within ${ms} ms: ${what}`)); }, ms);
        const check = () => {
            let found;
            try { found = test(); } catch (error) { clearTimeout(timer); waiters.delete(check); reject(error); return; }
            if (!found) return;
            clearTimeout(timer);
            waiters.delete(check);
            resolve(found);
        };
        waiters.add(check);
        check();
    });
}

// holds waits for something that takes a promise to ask for. The library hears
// of new signatures by queries of its own.
function holds(what, ask) {
    let answer = false;
    return until(what, () => {
        ask().then((value) => {
            if (value && !answer) {
                answer = true;
                wake();
            }
        });
        return answer;
    });
}

function watch(request) {
    verification.request = request;
    request.on(VerificationRequestEvent.Change, wake);
    wake();
}

const cryptoCallbacks = {
    cacheSecretStorageKey: (keyId, _info, key) => secretStorageKeys.set(keyId, key),
    getSecretStorageKey: async ({ keys }) => {
        for (const keyId of Object.keys(keys)) {
            if (secretStorageKeys.has(keyId)) return [keyId, secretStorageKeys.get(keyId)];
        }
        if (!recoveryKey) return null;
        return [Object.keys(keys)[0], decodeRecoveryKey(recoveryKey)];
    },
};

async function dehydratedDevice() {
    try {
        const device = await client.http.authedRequest(sdk.Method.Get, "/dehydrated_device", undefined, undefined, { prefix: "/_matrix/client/unstable/org.matrix.msc3814.v1" });
        return device.device_id;
    } catch (error) {
        if (error.errcode === "M_NOT_FOUND") return undefined;
        throw error;
    }
}

function describe(event) {
    const replacement = event.replacingEvent();
    return {
        event_id: event.getId(),
        sender: event.getSender(),
        type: event.getType(),
        encrypted: event.isEncrypted(),
        failed: event.isDecryptionFailure(),
        redacted: event.isRedacted(),
        content: event.getContent(),
        edited: replacement ? replacement.getContent()["m.new_content"] : null,
    };
}

const methods = {
    // register makes an account with the dummy stage, as a first-time user does.
    async register({ baseUrl, username, password }) {
        const anonymous = sdk.createClient({ baseUrl });
        let session;
        try {
            await anonymous.registerRequest({ username, password });
            throw new Error("registration asked for no stage");
        } catch (error) {
            session = error.data?.session;
            if (!session) throw error;
        }
        const answer = await anonymous.registerRequest({ username, password, auth: { type: "m.login.dummy", session }, initial_device_display_name: "js" });
        return { userId: answer.user_id, deviceId: answer.device_id, accessToken: answer.access_token };
    },
    async login({ baseUrl, username, password }) {
        const answer = await sdk.createClient({ baseUrl }).loginRequest({ type: "m.login.password", identifier: { type: "m.id.user", user: username }, password, initial_device_display_name: "js again" });
        return { userId: answer.user_id, deviceId: answer.device_id, accessToken: answer.access_token };
    },
    // start syncs, with the older endpoint or with sliding sync, of a list of so many rooms and the rooms that it shows.
    async start({ baseUrl, userId, deviceId, accessToken, recovery, sliding }) {
        recoveryKey = recovery;
        client = sdk.createClient({ baseUrl, userId, deviceId, accessToken, cryptoCallbacks, verificationMethods: ["m.sas.v1"], timelineSupport: true });
        await client.initRustCrypto({ useIndexedDB: false });
        client.on(sdk.RoomEvent.Timeline, note);
        client.on(sdk.MatrixEventEvent.Decrypted, note);
        client.on(sdk.RoomEvent.LocalEchoUpdated, note); // own events get their ID so
        client.on(sdk.RoomEvent.MyMembership, wake);
        client.on(sdk.RoomStateEvent.Events, wake);
        client.on(sdk.RoomEvent.Redaction, wake);
        client.on(sdk.RoomEvent.UnreadNotifications, wake);
        client.on(sdk.ClientEvent.AccountData, wake);
        client.on(CryptoEvent.VerificationRequestReceived, watch);
        client.on(CryptoEvent.KeysChanged, wake);
        client.on(CryptoEvent.UserTrustStatusChanged, wake);
        client.on(CryptoEvent.KeyBackupStatus, wake);
        client.on(CryptoEvent.KeyBackupSessionsRemaining, wake);
        const prepared = new Promise((resolve) => {
            client.on(sdk.ClientEvent.Sync, (state) => { if (state === "PREPARED" || state === "SYNCING") resolve(); wake(); });
        });
        if (sliding) {
            const rooms = { timeline_limit: 20, required_state: [["*", "*"]] };
            slidingSync = new SlidingSync(baseUrl, new Map([["rooms", { ranges: [[0, sliding - 1]], ...rooms }]]), rooms, client, 30000);
        }
        await client.startClient({ initialSyncLimit: 50, pendingEventOrdering: sdk.PendingEventOrdering.Detached, slidingSync });
        await prepared;
        return {};
    },
    // bootstrap makes cross-signing keys, secret storage and a key backup, and gives the recovery key.
    async bootstrap({ username, password }) {
        const crypto = client.getCrypto();
        await crypto.bootstrapCrossSigning({
            authUploadDeviceSigningKeys: (make) => make(null).catch((error) => {
                if (!error.data?.session) throw error;
                return make({ type: "m.login.password", identifier: { type: "m.id.user", user: username }, password, session: error.data.session });
            }),
        });
        let made;
        await crypto.bootstrapSecretStorage({
            createSecretStorageKey: async () => (made = await crypto.createRecoveryKeyFromPassphrase()),
            setupNewSecretStorage: true,
            setupNewKeyBackup: true,
        });
        recoveryKey = made.encodedPrivateKey;
        return { recoveryKey: made.encodedPrivateKey, ready: await crypto.isCrossSigningReady() };
    },
    // recover makes a fresh device one of the user's verified ones and reads the backup.
    async recover({ username, password }) {
        const crypto = client.getCrypto();
        await crypto.userHasCrossSigningKeys(client.getUserId(), true); // asks the server for them
        await crypto.bootstrapCrossSigning({});
        await crypto.loadSessionBackupPrivateKeyFromSecretStorage();
        await crypto.checkKeyBackupAndEnable();
        const restored = await crypto.restoreKeyBackup();
        await holds("the fresh device is verified", async () => (await crypto.getDeviceVerificationStatus(client.getUserId(), client.getDeviceId()))?.crossSigningVerified);
        return { imported: restored.imported, total: restored.total, verified: true };
    },
    // dehydrate leaves a device on the server that receives keys while the user is logged out (MSC3814).
    async dehydrate() {
        const crypto = client.getCrypto();
        if (!await crypto.isDehydrationSupported()) throw new Error("the server does not support dehydrated devices");
        const before = await dehydratedDevice();
        await crypto.startDehydration({ rehydrate: false });
        const device = await dehydratedDevice();
        if (!device || device === before) throw new Error(`the dehydrated device is ${device}, before it was ${before}`);
        return { deviceId: device };
    },
    // rehydrate takes what the dehydrated device received, and leaves another one.
    async rehydrate() {
        const before = await dehydratedDevice();
        let keys = 0, failure;
        client.on(CryptoEvent.RehydrationProgress, (roomKeyCount) => { keys = roomKeyCount; });
        client.on(CryptoEvent.RehydrationError, (error) => { failure = error; });
        await client.getCrypto().startDehydration();
        if (failure) throw new Error(failure);
        return { keys, replaced: await dehydratedDevice() !== before };
    },
    // logout ends the session; a new client goes on.
    async logout() {
        await client.logout(true);
        return {};
    },
    async createRoom({ invite, encrypted = true, name }) {
        const initial_state = encrypted ? [{ type: "m.room.encryption", state_key: "", content: { algorithm: "m.megolm.v1.aes-sha2" } }] : [];
        const { room_id } = await client.createRoom({ preset: "private_chat", invite, name, initial_state });
        await until(`room ${room_id}`, () => client.getRoom(room_id)?.getMyMembership() === "join");
        return { roomId: room_id };
    },
    async join({ roomId }) {
        await until(`invite to ${roomId}`, () => client.getRoom(roomId)?.getMyMembership() === "invite");
        await client.joinRoom(roomId);
        await until(`membership of ${roomId}`, () => client.getRoom(roomId)?.getMyMembership() === "join");
        return {};
    },
    async members({ roomId, userId }) {
        await until(`${userId} in ${roomId}`, () => client.getRoom(roomId)?.getMember(userId)?.membership === "join");
        return {};
    },
    // send goes on until the server answers: the library's own queue gives up
    // when the connection is refused, so what a person does (press "send again")
    // is done here, with the same transaction ID.
    async send({ roomId, type = "m.room.message", content, txnId = `js${randomBytes(8).toString("hex")}`, tries = 200 }) {
        const room = client.getRoom(roomId);
        let attempt = () => client.sendEvent(roomId, type, content, txnId);
        for (;;) {
            try {
                const { event_id } = await attempt();
                return { eventId: event_id };
            } catch (error) {
                if ((error.httpStatus && error.httpStatus < 500) || --tries === 0) throw error;
                const failed = room.getPendingEvents().find((event) => event.getTxnId() === txnId);
                if (failed) attempt = () => client.resendEvent(failed, room);
                await new Promise((resolve) => setTimeout(resolve, 50)); // nothing announces that the server is back
            }
        }
    },
    // rooms waits for the number of rooms that sliding sync says there are, and gives those that are in its list by now.
    async rooms({ count }) {
        await until(`a list of ${count} rooms`, () => slidingSync.getListData("rooms")?.joinedCount === count);
        return { rooms: client.getRooms().map((room) => room.roomId) };
    },
    // window moves the list to other rooms and waits until they are there.
    async window({ ranges, known }) {
        slidingSync.setListRanges("rooms", ranges);
        await until(`${known} rooms`, () => client.getRooms().length === known);
        return {};
    },
    // subscribe asks for a room wherever it is in the list.
    async subscribe({ roomId }) {
        slidingSync.modifyRoomSubscriptions(new Set([roomId]));
        await until(`room ${roomId}`, () => client.getRoom(roomId)?.getMyMembership() === "join");
        return {};
    },
    // sendLater schedules a message, or a state event if there is a state key (MSC4140).
    async sendLater({ roomId, delay, type, content, stateKey }) {
        const { delay_id } = stateKey === undefined
            ? await client._unstable_sendDelayedEvent(roomId, { delay }, null, type, content)
            : await client._unstable_sendDelayedStateEvent(roomId, { delay }, type, content, stateKey);
        return { delayId: delay_id };
    },
    // later does something with a scheduled event: cancel, restart or send.
    async later({ delayId, action }) {
        const does = { cancel: "_unstable_cancelScheduledDelayedEvent", restart: "_unstable_restartScheduledDelayedEvent", send: "_unstable_sendScheduledDelayedEvent" };
        await client[does[action]](delayId);
        return {};
    },
    // scheduled gives what the server still holds.
    async scheduled() {
        const answer = await client._unstable_getDelayedEvents("scheduled");
        return { delayIds: (answer.scheduled ?? answer.delayed_events ?? []).map((event) => event.delay_id) };
    },
    // invite hands over the keys of the history first, as an encrypted file and a to-device message (MSC4268).
    async invite({ roomId, userId }) {
        await client.invite(roomId, userId);
        return {};
    },
    async upload({ base64, name, type }) {
        const { content_uri } = await client.uploadContent(new Blob([Buffer.from(base64, "base64")]), { name, type });
        return { uri: content_uri };
    },
    // download gets a file, or its thumbnail, at the address that the library makes of an mxc URI, and decrypts it with
    // what an event says of an encrypted file.
    async download({ uri, file, width, height }) {
        const url = client.mxcUrlToHttp(uri ?? file.url, width, height, width && "scale", false, true, true);
        const response = await fetch(url, { headers: { Authorization: `Bearer ${client.getAccessToken()}` } });
        if (!response.ok) throw new Error(`${url}: ${response.status} ${await response.text()}`);
        let bytes = await response.arrayBuffer();
        if (file) {
            const hash = Buffer.from(await crypto.subtle.digest("SHA-256", bytes)).toString("base64");
            if (hash.replace(/=+$/, "") !== file.hashes.sha256) throw new Error(`the file has the hash ${hash}, not ${file.hashes.sha256}`);
            const key = await crypto.subtle.importKey("jwk", file.key, "AES-CTR", false, ["decrypt"]);
            bytes = await crypto.subtle.decrypt({ name: "AES-CTR", counter: Buffer.from(file.iv, "base64"), length: 64 }, key, bytes);
        }
        return { base64: Buffer.from(bytes).toString("base64"), type: response.headers.get("Content-Type") };
    },
    // addPushRule and enablePushRule wait until the change has come back in /sync.
    async addPushRule({ kind, ruleId, ...body }) {
        await client.addPushRule("global", kind, ruleId, body);
        await until(`push rule ${ruleId}`, () => client.pushProcessor.getPushRuleById(ruleId));
        return {};
    },
    async enablePushRule({ kind, ruleId, enabled }) {
        await client.setPushRuleEnabled("global", kind, ruleId, enabled);
        await until(`push rule ${ruleId}: ${enabled}`, () => client.pushProcessor.getPushRuleById(ruleId)?.enabled === enabled);
        return {};
    },
    async pushRule({ ruleId }) {
        await client.getPushRules();
        return { rule: client.pushProcessor.getPushRuleById(ruleId) };
    },
    // counts waits for the numbers that the server counted for a room.
    async counts({ roomId, total, highlight }) {
        const room = () => client.getRoom(roomId);
        const is = (type) => room()?.getRoomUnreadNotificationCount(type) ?? 0;
        await until(`${total} unread messages and ${highlight} highlights`, () => is("total") === total && is("highlight") === highlight)
            .catch((error) => { throw new Error(`${error.message}; it has ${is("total")} and ${is("highlight")}`); });
        return {};
    },
    async read({ eventId }) {
        await client.sendReadReceipt(find(eventId));
        return {};
    },
    // pushVerdict gives what the library makes of an event with the rules that it got.
    async pushVerdict({ eventId }) {
        const { notify, tweaks } = client.getPushActionsForEvent(find(eventId));
        return { notify, highlight: Boolean(tweaks?.highlight) };
    },
    async redact({ roomId, eventId }) {
        const { event_id } = await client.redactEvent(roomId, eventId);
        return { eventId: event_id };
    },
    // see waits for an event and, where asked, for what it was decrypted to.
    async see({ eventId, body, redacted, edited, decrypted = true, ms }) {
        const event = await until(`event ${eventId} ${body ?? ""} ${edited ?? ""}`, () => {
            const event = find(eventId);
            if (!event || (decrypted && !redacted && (event.isBeingDecrypted() || event.isDecryptionFailure() || event.getType() === "m.room.encrypted"))) return;
            if (body !== undefined && event.getOriginalContent().body !== body) return;
            if (edited !== undefined && event.replacingEvent()?.getContent()["m.new_content"]?.body !== edited) return;
            if (redacted && !event.isRedacted()) return;
            return event;
        }, ms);
        return describe(event);
    },
    async history({ roomId }) {
        const room = client.getRoom(roomId);
        while (room.oldState.paginationToken !== null) await client.scrollback(room, 100);
        const events = room.getLiveTimeline().getEvents();
        await Promise.all(events.map((event) => client.decryptEventIfNeeded(event)));
        return { events: events.map(describe) };
    },
    // backedUp waits until the backup on the server holds so many sessions. The
    // library uploads them in the background and announces nothing: ask again.
    async backedUp({ sessions }) {
        for (let tries = 0; tries < 600; tries++) {
            const backup = await client.http.authedRequest(sdk.Method.Get, "/room_keys/version", undefined, undefined, { prefix: "/_matrix/client/v3" });
            if (backup.count >= sessions) return {};
            await new Promise((resolve) => setTimeout(resolve, 100));
        }
        throw new Error(`fewer than ${sessions} sessions were backed up within a minute`);
    },
    // acceptVerification takes the other side's request through SAS; both sides
    // show the same numbers, which the Go test compares before it confirms.
    async acceptVerification() {
        const request = await until("a verification request", () => verification.request);
        if (request.phase === VerificationPhase.Requested) await request.accept();
        await until("the start of the verification", () => request.verifier);
        const shown = new Promise((resolve) => request.verifier.once(VerifierEvent.ShowSas, resolve));
        verification.done = request.verifier.verify();
        verification.done.catch(() => {});
        verification.sas = request.verifier.getShowSasCallbacks() ?? await shown;
        return { decimal: verification.sas.sas.decimal };
    },
    async confirmVerification() {
        await verification.sas.confirm();
        await verification.done;
        return {};
    },
    async userVerified({ userId }) {
        await holds(`trust in ${userId}`, async () => (await client.getCrypto().getUserVerificationStatus(userId)).isCrossSigningVerified());
        return { verified: true };
    },
    async stop() {
        client?.stopClient();
        return {};
    },
};

createInterface({ input: process.stdin }).on("line", async (line) => {
    const { id, method, args } = JSON.parse(line);
    let answer;
    try {
        if (typeof methods[method] !== "function") throw new Error(`no method ${method}`);
        answer = { id, result: await methods[method](args ?? {}) };
    } catch (error) {
        answer = { id, error: `${error.stack ?? error} ${JSON.stringify(error.data ?? null)}` };
    }
    process.stdout.write(JSON.stringify(answer) + "\n");
}).on("close", () => process.exit(0));
