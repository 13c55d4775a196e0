/** Receiving: each message is handled once, in the transaction of your own writes (docs/inbox.md). Types: index.d.ts. */
import { LOCKED, discard, run } from './db.js';

// The statements of sql/inbox/statements.sql; a test compares them.
const COLUMNS = `SELECT id, message_id, topic, ordering_key, content_type, headers, source, traceparent, created_at, received_at,
       attempts + 1 AS attempt, max_attempts, key_hash, size,
       IF(size + 65536 <= @@max_allowed_packet, payload, NULL) AS payload, CAST(due_at AS CHAR) AS due
FROM inbox`;
const TAKE = `${COLUMNS} FORCE INDEX (inbox_due)
WHERE queue = ? AND state = 'ready' AND due_at >= ? AND due_at <= UTC_TIMESTAMP(6)
ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED`;
const FOLLOWING = `${COLUMNS} WHERE id = ?`;
const NEXT = `SELECT id FROM inbox FORCE INDEX (inbox_key)
WHERE queue = ? AND key_hash = ? AND after_id = ? AND state = 'blocked'
ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED`;
const DONE = `UPDATE inbox FORCE INDEX (PRIMARY) SET state = IF(state = 'ready', 'done', 'ready'), due_at = UTC_TIMESTAMP(6)
WHERE (id = ? AND state = 'ready') OR (id = ? AND state = 'blocked')`;
const RETRY = `UPDATE inbox SET
    due_at = UTC_TIMESTAMP(6) + INTERVAL IF(attempts + 1 >= max_attempts, 0, CAST(1000 * LEAST(31536000000, GREATEST(0,
        0 + COALESCE(?, LEAST(retry_max_ms, retry_min_ms * POW(2, LEAST(attempts, 24))) * (0.5 + RAND() / 2))))
        AS UNSIGNED)) MICROSECOND,
    state = IF(attempts + 1 >= max_attempts, 'dead', 'ready'),
    reason_code = 'OBX_E_HANDLER', reason = COALESCE(UNHEX(LEFT(HEX(LEFT(?, 1024)), 2048)), ''),
    first_failed_at = COALESCE(first_failed_at, UTC_TIMESTAMP(6)), last_failed_at = UTC_TIMESTAMP(6),
    attempts = attempts + 1
WHERE id = ? AND state = 'ready'`;
const REJECT = `UPDATE inbox SET
    due_at = UTC_TIMESTAMP(6), state = 'dead',
    reason_code = 'OBX_E_REJECTED', reason = COALESCE(UNHEX(LEFT(HEX(LEFT(?, 1024)), 2048)), ''),
    first_failed_at = COALESCE(first_failed_at, UTC_TIMESTAMP(6)), last_failed_at = UTC_TIMESTAMP(6),
    attempts = attempts + 1
WHERE id = ? AND state = 'ready'`;
const FAILED = "SELECT id FROM inbox WHERE id = ? AND state = 'ready' AND attempts + 1 = ? FOR UPDATE SKIP LOCKED";
const COUNT = `UPDATE inbox SET
    due_at = IF(attempts >= max_attempts, UTC_TIMESTAMP(6), UTC_TIMESTAMP(6) + INTERVAL 30 SECOND),
    state = IF(attempts >= max_attempts, 'dead', 'ready'),
    reason_code = 'OBX_E_TIMEOUT', reason = 'its worker did not come back',
    first_failed_at = COALESCE(first_failed_at, UTC_TIMESTAMP(6)), last_failed_at = UTC_TIMESTAMP(6),
    attempts = attempts + 1
WHERE id = ? AND state = 'ready'`;
const COUNTED = "UPDATE inbox SET attempts = attempts - 1 WHERE id = ? AND state = 'ready' AND attempts = ?";
const PAYLOAD = 'SELECT SUBSTRING(payload, ? + 1, ?) FROM inbox WHERE id = ?';

const PIECE = 512 * 1024; // of a payload that the session's max_allowed_packet does not let through in one
const FIRST_WAIT_MS = 10; // after the last message; doubles up to pollMs
const LONGEST_PAUSE_MS = 5000; // while the database cannot be reached
const LOCKS_IN_A_ROW = 3; // of one message, then it waits like one that has failed and lets others pass
const REASON_BYTES = 1024; // of a reason are kept
const NO_REASON = 'its reason cannot be stored';
const LONGEST_RETRY_MS = 365 * 86400 * 1000;
const FOLLOW_MS = 50; // how long a transaction may go on with the next message of its key
const START = '1970-01-01'; // where a take begins that is to see all that is due
const START_SHARE = 20; // of its time a worker spends one part in so many on takes that begin there
const LONGEST_SKIP_MS = 60000;

export class Retry extends Error {
    constructor(reason = '', afterMs = undefined) {
        super(reason);
        this.name = 'Retry';
        if (afterMs !== undefined && afterMs !== null) {
            if (typeof afterMs !== 'number' || Number.isNaN(afterMs))
                throw new TypeError('the time until the next try is not a number');
            this.afterMs = Math.round(Math.min(Math.max(afterMs, 0), LONGEST_RETRY_MS));
        }
    }
}

export class Reject extends Error {
    constructor(reason) {
        super(reason);
        this.name = 'Reject';
    }
}

const isVerdict = (value) => value instanceof Retry || value instanceof Reject;

/** What is kept of a reason: valid UTF-8, cut between characters. Any value, also one that cannot be printed. */
function reasonOf(value) {
    let said = NO_REASON;
    try {
        said = value === undefined || value === null ? '' : String(value);
    } catch {}
    const bytes = Buffer.from(said.slice(0, REASON_BYTES)); // half of a surrogate pair becomes U+FFFD
    let end = Math.min(bytes.length, REASON_BYTES);
    while (end < bytes.length && (bytes[end] & 0xc0) === 0x80)
        end--;
    return bytes.toString('utf8', 0, end);
}

const text = (value) => (value === null ? null : value.toString('utf8'));
// A DATETIME that was written in UTC, whatever the driver's option timezone says; it comes as text, see run().
const utc = (value) => (value === null ? null : new Date(`${value.replace(' ', 'T')}Z`));

function messageOf(row) {
    const [id, messageId, topic, key, contentType, headers, source, traceparent, createdAt, receivedAt, attempt, maxAttempts] = row;
    return {
        id: Number(id),
        messageId: text(messageId),
        topic: text(topic),
        key: text(key),
        contentType: text(contentType),
        headers: headers === null ? {} : JSON.parse(text(headers)),
        rawHeaders: headers,
        source: text(source),
        traceparent: text(traceparent),
        createdAt: utc(createdAt),
        receivedAt: utc(receivedAt),
        attempt: Number(attempt),
        maxAttempts: Number(maxAttempts),
        payload: row[14],
        json() {
            return JSON.parse(this.payload.toString('utf8'));
        },
    };
}

export class Worker {
    #queue;
    #handler;
    #connect;
    #options;
    #isStopping = false;
    #wake = () => {};
    // A message that may have ended its worker is counted first: each one until the first went well, and the one in whose
    // transaction the connection was lost.
    #isNew = true;
    #suspect = 0;
    #isCounted = false;
    // After a rollback the next one has a transaction to itself: else a message that fails in the wake of others of its key takes
    // them back with it, time and again, and its failure is never noted.
    #isAlone = true;
    #current = null;
    #locked = { id: 0, times: 0 };
    #due = START; // of the message that was taken last
    #startAgain = 0; // when a take begins at the start again

    constructor(queue, handler, connect, options = {}) {
        this.#queue = queue;
        this.#handler = handler;
        this.#connect = connect;
        this.#options = { pollMs: 1000, follow: 20, onError: (error, message) => console.warn('inbox', queue, message?.messageId, error), ...options };
    }

    stop() {
        this.#isStopping = true;
        this.#wake();
    }

    async run() {
        let tx = null;
        let wait = FIRST_WAIT_MS;
        let pause = FIRST_WAIT_MS;
        try {
            while (!this.#isStopping) {
                try {
                    tx ??= await this.#connect();
                    if (await this.#serve(tx)) {
                        wait = FIRST_WAIT_MS;
                    } else {
                        await this.#wait(wait);
                        wait = Math.min(2 * wait, this.#options.pollMs);
                    }
                    pause = FIRST_WAIT_MS;
                } catch (error) {
                    this.#report(error, this.#current ?? undefined);
                    tx = await this.#recover(tx, error);
                    await this.#wait(pause);
                    pause = Math.min(2 * pause, LONGEST_PAUSE_MS);
                }
            }
        } finally {
            discard(tx); // what is open is rolled back by the server
        }
    }

    /** What a listener throws must not keep a failure from being noted. */
    #report(error, message) {
        try {
            this.#options.onError(error, message);
        } catch (ofListener) {
            console.error('inbox', this.#queue, 'the listener has failed', ofListener);
        }
    }

    #wait(ms) {
        if (this.#isStopping)
            return Promise.resolve();
        return new Promise((resolve) => {
            const timer = setTimeout(resolve, ms);
            this.#wake = () => {
                clearTimeout(timer);
                resolve();
            };
        });
    }

    async #begin(tx) {
        await run(tx, 'SET TRANSACTION ISOLATION LEVEL READ COMMITTED');
        await run(tx, 'START TRANSACTION');
    }

    /** One transaction: a message, and those of its key that follow. False: there was none. */
    async #serve(tx) {
        this.#current = null;
        this.#isCounted = false;
        await this.#begin(tx);
        let row = await this.#take(tx);
        if (row === undefined) {
            await run(tx, 'ROLLBACK');
            return false;
        }
        let message = (this.#current = messageOf(row));
        if ((this.#isNew || message.id === this.#suspect) && !(await this.#count(tx, message)))
            return true;
        const until = Date.now() + FOLLOW_MS;
        for (let left = this.#options.follow - 1; ; left--) {
            const next = await this.#handle(tx, message, row[12]);
            if (next === null)
                return true;
            if (next === 0 || left <= 0 || this.#isAlone || this.#isStopping || Date.now() > until)
                break;
            [row] = (await run(tx, FOLLOWING, [next])).rows;
            if (row === undefined)
                break;
            message = this.#current = messageOf(row);
            this.#isCounted = false;
        }
        await run(tx, 'COMMIT');
        this.#current = null;
        this.#isNew = this.#isAlone = false;
        this.#suspect = 0;
        this.#locked = { id: 0, times: 0 };
        return true;
    }

    /**
     * Begins at the row that was taken last, for before it are entries of rows that have ended, until the server has purged them; and
     * at the start again as often as that is cheap, for what was committed late.
     */
    async #take(tx) {
        const began = performance.now();
        const isStart = began >= this.#startAgain;
        const [row] = (await run(tx, TAKE, [this.#queue, isStart ? START : this.#due])).rows;
        if (row !== undefined)
            this.#due = text(row[15]);
        if (isStart) {
            const ended = performance.now();
            this.#startAgain = ended + Math.min(START_SHARE * (ended - began), LONGEST_SKIP_MS);
        }
        return row;
    }

    /** Counts the attempt in a commit of its own, and takes the count back in the transaction of the effect. */
    async #count(tx, message) {
        await run(tx, COUNT, [message.id]);
        await run(tx, 'COMMIT');
        this.#isCounted = true;
        return this.#takeAgain(tx, message);
    }

    /** In a new transaction, after the first has ended. False: another worker has it, or it is dead; nothing is open. */
    async #takeAgain(tx, message) {
        await this.#begin(tx);
        const { rows, changed } = await run(tx, this.#isCounted ? COUNTED : FAILED, [message.id, message.attempt]);
        if (this.#isCounted ? changed === 1 : rows.length > 0)
            return true;
        await run(tx, 'ROLLBACK');
        return false;
    }

    /** Up to, and without, the commit. The id of the next of its key that is ours now, or 0; null: nothing is open any more. */
    async #handle(tx, message, keyHash) {
        await run(tx, 'SAVEPOINT rowpost');
        let verdict;
        try {
            await this.#complete(tx, message);
            verdict = await this.#handler(tx, message);
            // Without its savepoint the transaction was ended by the handler, or by a deadlock that it has swallowed.
            if (!isVerdict(verdict))
                await run(tx, 'RELEASE SAVEPOINT rowpost');
        } catch (error) {
            if (LOCKED.has(error?.errno))
                throw error;
            if (!isVerdict(error))
                this.#report(error, message);
            verdict = isVerdict(error) ? error : new Retry(reasonOf(error));
        }
        if (!isVerdict(verdict))
            return this.#done(tx, message, keyHash);
        try {
            await run(tx, 'ROLLBACK TO SAVEPOINT rowpost');
        } catch {
            await run(tx, 'ROLLBACK');
            this.#isAlone = true;
            if (!(await this.#takeAgain(tx, message)))
                return null;
        }
        await this.#fail(tx, message, verdict);
        return 0;
    }

    async #done(tx, message, keyHash) {
        let next = 0;
        if (keyHash !== null) {
            const { rows } = await run(tx, NEXT, [this.#queue, keyHash, message.id]);
            next = rows.length > 0 ? Number(rows[0][0]) : 0;
        }
        this.#expect(await run(tx, DONE, [message.id, next]), next === 0 ? 1 : 2);
        return next;
    }

    async #fail(tx, message, verdict) {
        const note = (reason) => (verdict instanceof Reject
            ? run(tx, REJECT, [reason, message.id])
            : run(tx, RETRY, [verdict.afterMs ?? null, reason, message.id]));
        let noted;
        try {
            noted = await note(reasonOf(verdict.message));
        } catch (error) {
            if (LOCKED.has(error?.errno))
                throw error;
            // A failure that is not noted would be met again and again: it counts, whatever is wrong with its reason.
            noted = await note(NO_REASON);
        }
        this.#expect(noted, 1);
    }

    #expect({ changed }, wanted) {
        if (changed !== wanted)
            throw new Error('the message is not ours any more');
    }

    /** Rolls back; resolves to the connection if it is good still. The database knows what was committed. */
    async #recover(tx, error) {
        const message = this.#current;
        this.#current = null;
        this.#isAlone = true;
        if (tx === null)
            return null;
        try {
            await run(tx, 'ROLLBACK');
            if (message !== null && LOCKED.has(error?.errno))
                await this.#passBy(tx, message, error);
            return tx;
        } catch {
            this.#suspect = message?.id ?? this.#suspect;
            discard(tx);
            return null;
        }
    }

    /** A message that meets a lock time and again must not hold its worker: it waits like one that has failed. */
    async #passBy(tx, message, error) {
        this.#locked = { id: message.id, times: this.#locked.id === message.id ? this.#locked.times + 1 : 1 };
        if (this.#locked.times < LOCKS_IN_A_ROW && !this.#isCounted)
            return;
        if (await this.#takeAgain(tx, message)) {
            await this.#fail(tx, message, new Retry(reasonOf(error)));
            await run(tx, 'COMMIT');
        }
        this.#locked = { id: 0, times: 0 };
    }

    /** Reads a payload in pieces that did not come with its row. */
    async #complete(tx, message) {
        const pieces = [];
        while (message.payload === null) {
            const { rows } = await run(tx, PAYLOAD, [PIECE * pieces.length, PIECE, message.id]);
            pieces.push(rows[0][0]);
            if (rows[0][0].length < PIECE)
                message.payload = Buffer.concat(pieces);
        }
    }
}

export async function work(queue, handler, connect, options) {
    const worker = new Worker(queue, handler, connect, options);
    const stop = () => worker.stop();
    process.on('SIGTERM', stop).on('SIGINT', stop);
    try {
        await worker.run();
    } finally {
        process.off('SIGTERM', stop).off('SIGINT', stop);
    }
}
