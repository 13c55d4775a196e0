// The adapter of clients/node; see README.md. ROWPOST_CLIENT is the client, ROWPOST_MODULES a folder with node_modules.
import { createHash } from 'node:crypto';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';

const { half, inbox, outbox } = await import(process.env.ROWPOST_CLIENT);
const mysql = createRequire(`${process.env.ROWPOST_MODULES}/`)('mysql2/promise');
const at = JSON.parse(process.env.ROWPOST_DB);
const say = (event, more = {}) => process.stdout.write(`${JSON.stringify({ event, ...more })}\n`);

async function connect() {
    const tx = await mysql.createConnection({ ...at });
    tx.on?.('error', () => {}); // what it is in the middle of fails, and says so
    // The mode in which a driver's quoting by backslashes is none.
    await tx.query("SET SESSION innodb_lock_wait_timeout = 1, sql_mode = CONCAT(@@sql_mode, ',NO_BACKSLASH_ESCAPES')");
    return tx;
}

const words = (message) => ({
    topic: message.topic,
    payload: Buffer.from(message.payload, 'base64'),
    key: message.key,
    headers: message.headers,
    contentType: message.content_type,
    receiptFrom: message.receipt_from,
    onRejected: message.on_rejected,
    messageId: message.message_id ?? undefined,
});

async function add(command) {
    const tx = await connect();
    const ids = [];
    await tx.beginTransaction();
    for (const message of command.messages) {
        const of = words(message);
        if (message.deliver_in_ms !== undefined)
            of.deliverInMs = message.deliver_in_ms;
        if (message.deliver_at !== undefined)
            of.deliverAt = new Date(message.deliver_at * 1000);
        ids.push(await outbox.add(tx, of));
    }
    await tx[command.end]();
    await tx.end();
    say('added', { ids });
}

async function effect(tx, message) {
    await tx.execute('INSERT INTO effect (queue, message_id, topic, ordering_key, content_type, headers, source, traceparent, attempt,' +
        ' size, sha) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)',
    [message.headers.queue ?? null, message.messageId, message.topic, message.key, message.contentType, JSON.stringify(message.headers),
        message.source, message.traceparent, message.attempt, message.payload.length,
        createHash('sha256').update(message.payload).digest('hex')]);
}

async function handler(tx, message) {
    say('handling', { message_id: message.messageId, attempt: message.attempt });
    const what = message.attempt > (message.headers.times ?? Infinity) ? undefined : message.headers.do;
    if (what === 'lock')
        await tx.query('UPDATE contended SET n = n + 1 WHERE id = 1');
    await effect(tx, message);
    switch (what) {
    case 'raise':
        throw new TypeError('boom');
    case 'retry':
        throw new inbox.Retry('later', 50);
    case 'return-retry':
        return new inbox.Retry('later', 50);
    case 'reject':
        throw new inbox.Reject('never');
    case 'return-reject':
        return new inbox.Reject('never');
    case 'raise-odd':
        throw new TypeError(`odd \udcff${'🔑'.repeat(2000)}`);
    case 'reject-odd':
        return new inbox.Reject(undefined);
    case 'retry-odd':
        throw new inbox.Retry(null, -Infinity);
    case 'rollback':
        await tx.rollback();
        break;
    case 'hang':
        say('hanging');
        await new Promise((resolve) => setTimeout(resolve, 1000));
        break;
    case 'die':
        process.kill(process.pid, 'SIGKILL');
        await new Promise(() => {});
    }
    return undefined;
}

async function callHalf({ url, token, call, gid, producer, commit = [], rollback = [], async: isAsync }) {
    const client = new half.Client(url, token);
    try {
        const answer = call === 'prepare'
            ? await client.prepare(gid, producer, { commit: commit.map(words), rollback: rollback.map(words) })
            : await client[call](gid, ...(isAsync ? [{ wait: false }] : []));
        say('answered', { state: answer.state });
    } catch (error) {
        if (!(error instanceof half.Refused))
            throw error;
        say('refused', { reason: error.reason, status: error.status });
    }
}

async function local({ gid, end }) {
    const tx = await connect();
    let outcome = { commit: 'committed', rollback: 'rolled_back' }[end];
    await tx.beginTransaction();
    try {
        await half.barrier(tx, gid);
        await tx.query("INSERT INTO effect (queue, message_id) VALUES ('local', ?)", [gid]);
        await tx[end]();
    } catch (error) {
        if (!(error instanceof half.Decided))
            throw error;
        await tx.rollback();
        outcome = 'decided';
    }
    await tx.end();
    say('local', { outcome });
}

function serve({ token }) {
    const server = createServer(half.checkHandler(connect, token));
    server.unref().listen(0, '127.0.0.1', () => say('serving', { port: server.address().port }));
}

let worker;
let running;

function work({ queue, poll, follow }) {
    const options = { onError: (error, message) => console.error(queue, message?.messageId, String(error)) };
    if (poll !== undefined)
        options.pollMs = poll * 1000;
    if (follow !== undefined)
        options.follow = follow;
    worker = new inbox.Worker(queue, handler, connect, options);
    running = worker.run();
}

const commands = {
    add,
    half: callHalf,
    local,
    serve,
    work,
    ring: async ({ doorbell, outbox: name }) => say('rang', { ok: await outbox.ring(doorbell, name) }),
    stop: async () => {
        worker.stop();
        await running;
        say('stopped');
    },
};

say('ready', { can: [] });
for await (const line of createInterface({ input: process.stdin })) {
    const command = JSON.parse(line);
    await commands[command.do](command);
}
process.exit(0);
