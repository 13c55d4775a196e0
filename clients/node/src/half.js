/** Half-messages: sent exactly when work outside of the outbox's database succeeds (docs/half-messages.md). Types: index.d.ts. */
import { timingSafeEqual } from 'node:crypto';
import { DUPLICATE, LOCK_TIMEOUT, discard, giveBack, run } from './db.js';
import { bytesOf } from './outbox.js';

export class Refused extends Error {
    constructor(status, answer) {
        super(`${status} ${answer.error?.reason ?? ''}: ${answer.error?.message ?? ''}`);
        this.name = 'Refused';
        this.status = status;
        this.reason = answer.error?.reason;
        this.answer = answer;
    }
}

export class Unanswered extends Error {}
export class Decided extends Error {}

const ANSWER_MAX = 16 * 1024 * 1024;

// What answers may be anybody: one without an end must not fill our memory for as long as the time limit lets it.
async function read(answer) {
    const parts = [];
    let length = 0;
    for await (const part of answer.body ?? []) {
        length += part.length;
        if (length > ANSWER_MAX)
            throw new Error('the answer is too long');
        parts.push(part);
    }
    try {
        return JSON.parse(Buffer.concat(parts).toString());
    } catch {
        return null;
    }
}

const wire = (message) => ({
    topic: message.topic,
    payload_base64: bytesOf(message.payload).toString('base64'),
    content_type: message.contentType ?? 'application/json',
    ordering_key: message.key ?? undefined,
    headers: message.headers ?? undefined,
    receipt_from: message.receiptFrom ?? undefined,
    on_rejected: message.onRejected ?? undefined,
    message_id: message.messageId,
});

export class Client {
    #url;
    #token;
    #timeoutMs;
    #patienceMs;

    constructor(url, token, { timeoutMs = 2000, patienceMs = 20000 } = {}) {
        this.#url = `${url.replace(/\/+$/, '')}/v1/half-messages`;
        this.#token = token;
        this.#timeoutMs = timeoutMs;
        this.#patienceMs = patienceMs;
    }

    prepare(gid, producer, { commit = [], rollback = [], firstCheckMs } = {}) {
        const body = { gid, producer, commit: commit.map(wire), rollback: rollback.map(wire), first_check_ms: firstCheckMs };
        return this.#call('POST', '', gid, JSON.stringify(body));
    }

    commit(gid, { wait = true } = {}) {
        return this.#call('POST', `/${encodeURIComponent(gid)}/commit`, gid, undefined, wait);
    }

    rollback(gid, { wait = true } = {}) {
        return this.#call('POST', `/${encodeURIComponent(gid)}/rollback`, gid, undefined, wait);
    }

    lookup(gid) {
        return this.#call('GET', `/${encodeURIComponent(gid)}`, gid);
    }

    // The bytes of a repeated prepare are the same: printed again they might be another prepare.
    async #call(method, path, gid, body, wait = true) {
        const prefer = wait ? {} : { prefer: 'respond-async' };
        const until = Date.now() + this.#patienceMs;
        for (let pause = 50; ; pause = Math.min(2 * pause, 1000)) {
            let why;
            try {
                const answer = await fetch(this.#url + path, {
                    method,
                    body,
                    redirect: 'error',
                    signal: AbortSignal.timeout(this.#timeoutMs),
                    headers: { authorization: `Bearer ${this.#token}`, 'content-type': 'application/json', ...prefer },
                });
                const said = await read(answer);
                if (answer.status >= 400 && answer.status < 500)
                    throw new Refused(answer.status, said ?? {});
                if (answer.ok && said?.gid === gid)
                    return said;
                why = `status ${answer.status}, or an answer that names no gid`;
            } catch (error) {
                if (error instanceof Refused)
                    throw error;
                why = error.cause ?? error;
            }
            if (Date.now() + pause > until)
                throw new Unanswered(`${method} ${this.#url}${path}: ${why}`);
            await new Promise((resolve) => setTimeout(resolve, pause));
        }
    }
}

export async function barrier(tx, gid) {
    try {
        await run(tx, 'INSERT INTO half_barrier (gid) VALUES (?)', [gid]);
    } catch (error) {
        if (error.errno === DUPLICATE)
            throw new Decided(gid, { cause: error });
        throw error;
    }
}

export async function check(tx, gid) {
    await run(tx, 'SET @rowpost_wait = @@SESSION.innodb_lock_wait_timeout, SESSION innodb_lock_wait_timeout = 1');
    try {
        await run(tx, 'START TRANSACTION');
        await run(tx, "INSERT INTO half_barrier (gid, reason) VALUES (?, 'rollback')", [gid]);
        await run(tx, 'COMMIT');
        return 'rolled_back';
    } catch (error) {
        await run(tx, 'ROLLBACK');
        if (error.errno === LOCK_TIMEOUT)
            return 'in_progress';
        if (error.errno !== DUPLICATE)
            throw error;
        const { rows } = await run(tx, "SELECT reason FROM half_barrier WHERE gid = ? AND branch = '' AND op = 'msg'", [gid]);
        return String(rows[0][0]) === 'commit' ? 'committed' : 'rolled_back';
    } finally {
        await run(tx, 'SET SESSION innodb_lock_wait_timeout = @rowpost_wait');
    }
}

function isAllowed(request, token) {
    const given = Buffer.from(request.headers.authorization ?? '');
    const wanted = Buffer.from(`Bearer ${token}`);
    return given.length === wanted.length && timingSafeEqual(given, wanted);
}

// Not by new URL(): it throws at targets that a client may send, and nobody awaits the handler.
function gidOf(request) {
    const query = /\?(.*)/s.exec(request.url ?? '')?.[1] ?? '';
    const gids = new URLSearchParams(query).getAll('gid');
    return gids.length === 1 && gids[0].length > 0 && gids[0].length <= 128 ? gids[0] : null;
}

export function checkHandler(connect, token) {
    return async (request, response) => {
        const answer = (status, body = {}) => response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
        let tx = null;
        try {
            if (!isAllowed(request, token))
                return void answer(401);
            const gid = gidOf(request);
            if (gid === null)
                return void answer(400);
            tx = await connect();
            answer(200, { state: await check(tx, gid) });
        } catch {
            discard(tx); // its session may be as check() has set it
            tx = null;
            if (!response.headersSent)
                answer(503); // no answer that counts: the relay asks again
        } finally {
            giveBack(tx);
        }
    };
}
