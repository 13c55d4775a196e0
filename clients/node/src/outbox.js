/** Sending: a row in the transaction of your own writes. It is published if, and only if, you commit. */
import { randomBytes } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { run } from './db.js';

const TABLE = /^[A-Za-z0-9_.$-]{1,64}$/;

export function newMessageId() {
    const id = randomBytes(16);
    id.writeUIntBE(Date.now(), 0, 6);
    id[6] = (id[6] & 0x0f) | 0x70;
    id[8] = (id[8] & 0x3f) | 0x80;
    return id.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}

export function bytesOf(payload) {
    if (payload instanceof Uint8Array)
        return Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength);
    if (payload === undefined || payload === null)
        throw new TypeError('a message has a payload');
    return Buffer.from(typeof payload === 'string' ? payload : JSON.stringify(payload));
}

// An object in the place of a text would be sent as JSON, a number as it happens to be printed.
function textOf(name, value, isNeeded = false) {
    if (value === undefined || value === null) {
        if (isNeeded)
            throw new TypeError(`a message has a ${name}`);
        return null;
    }
    if (typeof value !== 'string')
        throw new TypeError(`${name} is a ${typeof value}, not a string`);
    return value;
}

export async function add(tx, message) {
    const { table = 'outbox', deliverAt, deliverInMs } = message;
    if (typeof table !== 'string' || !TABLE.test(table))
        throw new RangeError(`${table} cannot be the name of an outbox table`);
    if (deliverAt !== undefined && deliverInMs !== undefined)
        throw new TypeError('deliverAt and deliverInMs exclude each other');
    const row = {
        message_id: textOf('messageId', message.messageId) ?? newMessageId(),
        topic: textOf('topic', message.topic, true),
        ordering_key: textOf('key', message.key),
        headers: message.headers == null ? null : JSON.stringify(message.headers),
        content_type: textOf('contentType', message.contentType) ?? 'application/json',
        payload: bytesOf(message.payload),
        receipt_from: textOf('receiptFrom', message.receiptFrom),
        on_rejected: textOf('onRejected', message.onRejected),
    };
    const marks = Object.keys(row).map(() => '?');
    const isLater = deliverAt !== undefined || deliverInMs !== undefined;
    if (isLater) {
        row.outbox = table;
        marks.push('?');
        // As text: a Date would be sent in the zone of the driver's option timezone.
        row.deliver_at = deliverAt === undefined ? Math.round(deliverInMs * 1000) : deliverAt.toISOString().slice(0, 23).replace('T', ' ');
        marks.push(deliverAt === undefined ? 'UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND' : '?');
    }
    await run(tx, `INSERT INTO \`${isLater ? 'outbox_delayed' : table}\` (${Object.keys(row).join(', ')}) VALUES (${marks.join(', ')})`,
        Object.values(row));
    return row.message_id;
}

/** Node has no Unix datagrams, so the relay has to listen on its doorbell_address. */
export function ring(doorbell, outbox = '') {
    const [, host, port] = /^(.*):(\d+)$/.exec(doorbell) ?? [];
    if (port === undefined || Number(port) > 65535)
        return Promise.resolve(false);
    return new Promise((resolve) => {
        const bell = createSocket('udp4');
        const end = (isRung) => {
            bell.removeAllListeners('error');
            bell.on('error', () => {});
            try {
                bell.close();
            } catch {} // closed already
            resolve(isRung);
        };
        bell.once('error', () => end(false));
        bell.send(outbox, Number(port), host, (error) => end(!error));
    });
}
